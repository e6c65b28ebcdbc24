"""A CSV that lists audio files, one a row, and what is known of them: a reader's own corpus, or own split.

Written by a spreadsheet, a script or another system: comma, semicolon or tab, with or without a byte order mark,
paths with either slash.
"""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ser_lib.common.errors import SerError

SUFFIXES = (".csv", ".tsv")
NOT_KNOWN = {"", "unknown", "nan", "none", "null", "n/a", "?"}  # in lower case: as an empty cell


def is_file_list(name: str | Path) -> bool:
    """Whether a name is that of a CSV, by its ending; the file need not be there."""
    return str(name).lower().endswith(SUFFIXES)


def read_rows(path: Path, needed: Iterable[Sequence[str]], advice: str = "") -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV that has a header, blank ones passed over.

    Args:
        needed: the columns that must be there, each with the other words that it may go by.
        advice: a sentence for whoever lacks one of them.

    Yields:
        the number of the line in the file, and its cells by column, whose names are in lower case.

    Raises:
        SerError: there is no such file, it is not UTF-8 or not CSV, a column is missing, any is there twice, a row is
            of another length than the header, a path is empty, or there is no row.
    """
    text = read_text(path)
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    lines = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
    n_rows = 0
    try:
        names = [name.strip().lower() for name in next(lines, [])]
        used = [next((word for word in words if word in names), words[0]) for words in needed]
        if any(names.count(word) != 1 for word in used):
            columns = [words[0] + f" (or {' or '.join(words[1:])})" * (len(words) > 1) for words in needed]
            raise SerError(
                f"{path}: expected a header with the columns {' and '.join(columns)}, each once, but the first line "
                f"is {header[:200]!r}.{advice and ' '}{advice}"
            )
        twice = sorted({name for name in names if name and names.count(name) > 1})
        if twice:
            raise SerError(f"{path}: {' and '.join(twice)} is there twice in the header: keep one column of each name.")
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{path}, line {lines.line_num}"
            if len(cells) != len(names):
                raise SerError(
                    f"{where}: {len(cells)} cells under {len(names)} columns. Put a cell that holds a "
                    f"{separator!r} into double quotes."
                )
            values = dict(zip(names, cells, strict=True))
            if not values["path"].strip():
                raise SerError(f"{where}: the path is empty.")
            n_rows += 1
            yield lines.line_num, values
    except csv.Error as error:
        raise SerError(f"{path}, line {lines.line_num} is not CSV: {error}.") from error
    if not n_rows:
        raise SerError(f"{path} has no rows under its header.")


def cell(values: dict[str, str], *columns: str) -> str | None:
    """The first of these columns that the CSV has, stripped; None where what it says is that it is not known."""
    value = next((values[column].strip() for column in columns if column in values), "")
    return None if value.lower() in NOT_KNOWN else value


def read_text(path: Path) -> str:
    """A text file in UTF-8, its lines ended as on Unix.

    Raises:
        SerError: there is no such file, or it is in another encoding.
    """
    if not path.is_file():
        raise SerError(f"there is no file or folder {path}.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SerError(f"{path} is not UTF-8 text: export it again as CSV in UTF-8.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def locate(text: str, folder: Path) -> Path:
    """The absolute path of what a list in `folder` names; written on Windows, it may have backslashes."""
    spellings = (text, text.strip(), text.strip().replace("\\", "/"))
    path = next((folder / spelling for spelling in spellings if (folder / spelling).is_file()), folder / text)
    return Path(os.path.abspath(path))  # noqa: PTH100 -- without "..", so that one file has one name


def common_folder(paths: Iterable[Path]) -> Path | None:
    """The deepest folder that holds all these files; None where they lie on different drives."""
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:
        return None
