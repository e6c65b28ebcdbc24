"""CSV files that list audio files, one a row: a user's own corpus, or a user's own split.

Spreadsheets, scripts and other systems write them: separated by comma, semicolon or tab, with or without a byte order
mark, with either slash in paths, with other names of columns (`ALIASES`), and with the folders of another computer.
"""

import io
import itertools
import logging
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.common.files import with_home

logger = logging.getLogger(__name__)

# Files and folders in which those of a list are searched: seconds, also in a home folder.
MOST_SEARCHED = 200_000
COLUMNS = ["path", "emotion", "subset", "speaker", "sex", "sentence", "intensity", "corpus", "fold", "augmented_from"]
# Other names of columns, of which the first counts; read where the list has no column of the name itself.
ALIASES = {
    "path": ("file_name", "filename", "file", "filepath", "file_path", "audio_path", "wav_path", "audio"),
    "emotion": ("label", "emotions", "labels"),
    "subset": ("split", "partition", "set"),
    "speaker": ("speaker_id", "speakers", "actor", "person"),
    "sex": ("gender",),
    "sentence": ("text", "transcript", "transcription", "statement"),
}
NOT_KNOWN = {"", "unknown", "nan", "none", "null", "n/a", "?"}  # in lower case: treated as an empty cell


def is_file_list(name: str | Path) -> bool:
    """Whether a name ends as that of a CSV file; the file need not exist."""
    return str(name).lower().endswith((".csv", ".tsv"))


def read_table(path: Path, needed: Sequence[str], advice: str = "") -> pd.DataFrame:
    """Read a CSV of audio files that has a header, without its blank rows; SerError where it is no such CSV.

    Args:
        needed: the required columns.
        advice: a sentence for the error about a missing column.

    Returns:
        the columns `COLUMNS`: path (absolute), emotion (of the column `emotion`, else `label`) and subset as text, and
        others, None where a value is not known. The index is the number of each row's line in the file.
    """
    text = read_text(path)
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    layout = {"header": None, "dtype": str, "keep_default_na": False, "skip_blank_lines": False}
    try:
        # The Python engine refuses stray quotes, and marks the cells that a short row lacks.
        cells = pd.read_csv(io.StringIO(text or "\n"), sep=separator, skipinitialspace=True, engine="python", **layout)
    except pd.errors.ParserError as error:
        raise SerError(f"{path} is not CSV: {error}. Put a cell with {separator!r} into double quotes.") from error
    names = [str(name).strip().lower() for name in cells.head(1).to_numpy().ravel()]
    for column, aliases in ALIASES.items():
        alias = next((alias for alias in aliases if alias in names), None)
        if alias and column not in names:
            names = [column if name == alias else name for name in names]
    if any(names.count(name) != 1 for name in (*needed, *filter(None, names))):
        columns = " and ".join(needed).replace("emotion", "emotion (or label)")
        others = "; ".join(f"{name} may be called {' or '.join(ALIASES[name])}" for name in needed)
        others = f"Rename a column: {others}."
        expected = f"expected a header with the columns {columns}, and no column twice"
        raise SerError(f"{path}: {expected}, but the first line is {header[:200]!r}. {others} {advice}".rstrip())
    table = cells.iloc[1:].set_axis(names, axis=1).set_axis(range(2, len(cells) + 1))
    table = table[table.map(lambda cell: isinstance(cell, str) and cell.strip() != "").any(axis=1)]
    if table.empty:
        raise SerError(f"{path} has no rows under its header.")
    n_cells = table.count(axis=1)
    if n_cells.min() < len(names):
        line = n_cells.idxmin()
        raise SerError(f"{path}, line {line}: {n_cells[line]} cells under {len(names)} columns. Fill in the others.")
    no_path = table["path"].str.strip() == ""
    if no_path.any():
        raise SerError(f"{path}, line {no_path.idxmax()}: the path is empty.")
    files = _on_this_computer([locate(name, path.parent) for name in table["path"]], path)
    table = table.loc[:, table.columns != ""].reindex(columns=COLUMNS, fill_value="")
    table = table.apply(lambda column: column.str.strip()).assign(path=files)
    facts = table[COLUMNS[3:]]
    table[COLUMNS[3:]] = facts.astype(object).mask(facts.apply(lambda column: column.str.lower().isin(NOT_KNOWN)), None)
    return table


def read_text(path: Path) -> str:
    """A text file in UTF-8, with line ends as on Unix; SerError where it is missing, or in another encoding."""
    if not path.is_file():
        raise SerError(f"there is no file or folder {path}.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SerError(f"{path} is not UTF-8 text: export it again as CSV in UTF-8.") from error


def locate(name: str, folder: Path) -> Path:
    """The absolute path of a file that a list in `folder` names; names written on Windows may have backslashes."""
    spellings = (name, name.strip(), name.strip().replace("\\", "/"))
    paths = [folder / spelling for spelling in spellings]
    path = next(filter(Path.is_file, paths), None) or _in_other_letters(paths[-1]) or folder / name
    return Path(os.path.abspath(path))  # noqa: PTH100 -- without "..", so that one file has one name


def _in_other_letters(path: Path) -> Path | None:
    """The one file whose path differs only in how its letters are written: é as one character or two, `.WAV` or `.wav`.

    Archives from a Mac hold an accent as a character of its own, and its disks do not tell large letters from small ones.
    """
    missing = []
    while not path.exists() and path != path.parent:
        missing.append(path.name)
        path = path.parent
    for name in reversed(missing):
        names = _names_in(path, path.stat().st_mtime_ns).get(_letters(name), []) if path.is_dir() else []
        if len(names) != 1:
            return None
        path = path / names[0]
    return path if path.is_file() else None


def _letters(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


@lru_cache(maxsize=100)
def _names_in(folder: Path, changed: int) -> dict[str, list[str]]:
    """The names in a folder by their letters; `changed`, its time, makes an entry invalid when a name was added."""
    names: dict[str, list[str]] = {}
    # A folder that may not be listed.
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 -- names alone
            names.setdefault(_letters(name), []).append(name)
    return names


def _on_this_computer(files: list[Path], source: Path) -> list[Path]:
    """Files of a list, those with the folders of another computer (`/kaggle/input/…`) found by the ends of their paths.

    They are searched in the folder of the list and in `$SER_DATA_DIR`. A file whose path fits none, or several equally
    well, keeps its path.
    """
    if all(file.is_file() for file in files):
        return files
    by_name: dict[str, list[Path]] = {}
    places = [str(source.parent), os.environ.get("SER_DATA_DIR", "")]
    for place in filter(None, places):
        below = os.walk(with_home(place).absolute())
        candidates = (Path(folder, name) for folder, _, names in below for name in names)
        for file in itertools.islice(candidates, MOST_SEARCHED):
            by_name.setdefault(file.name, []).append(file)
    moved = [file if file.is_file() else _nearest(file, by_name.get(_parts(file)[-1], [])) for file in files]
    n_moved = sum(before != after for before, after in zip(files, moved, strict=True))
    if n_moved:
        logger.warning("%s: %d of %d files were found by the ends of their paths", source.name, n_moved, len(files))
    return moved


def _parts(file: Path) -> list[str]:
    """The parts of a path; names written on Windows may have backslashes."""
    return str(file).replace("\\", "/").split("/")


def _nearest(file: Path, candidates: Sequence[Path]) -> Path:
    """The candidate whose path ends in the most parts of a file's path; the file itself where several do, or none."""

    def shared(candidate: Path) -> int:
        pairs = zip(reversed(_parts(file)), reversed(candidate.parts), strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    most = max(map(shared, candidates), default=0)
    best = {candidate for candidate in candidates if shared(candidate) == most and candidate.is_file()}
    return best.pop() if len(best) == 1 else file


def common_folder(files: Collection[Path], source: str | Path, must_exist: bool = True) -> Path | None:
    """The deepest folder that holds all files of a list, None on different drives; SerError where a file is missing."""
    missing = [file for file in files if must_exist and not file.is_file()]
    if missing:
        first = f"{len(missing)} of {len(files)} files that {source} lists do not exist: {first_of(missing, 20)}"
        raise SerError(
            f"{first}. Paths in a list are relative to the list's own folder, or absolute; files elsewhere are found by "
            "the ends of their paths in that folder and in $SER_DATA_DIR, where one file alone fits."
        )
    try:
        return Path(os.path.commonpath([file.parent for file in files]))
    except ValueError:
        return None


def first_of(items: Collection, n: int, separator: str = ", ") -> str:
    """The first `n` items as text, with an ellipsis where there are more."""
    return separator.join([*map(str, list(items)[:n]), *["..."] * (len(items) > n)])


def plain(name: str) -> str:
    """The same text for all spellings of a name that differ only in capitals, accents' encoding, signs and zeros.

    >>> plain("Anna_B."), plain("anna b"), plain("01"), plain("1.0")
    ('anna b', 'anna b', '1', '1')
    """
    words = re.findall(r"\d+(?:\.0+(?!\d))?|[^\W\d_]+", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(word.split(".")[0].lstrip("0") or "0" if word[0].isdigit() else word for word in words) or name


def near_equal(names: Iterable[str]) -> list[str]:
    """Names of which several may mean the same: `'1' and '01'`, `'Anna' and 'anna'`."""
    spellings: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        spellings.setdefault(plain(name), []).append(name)
    return [" and ".join(map(repr, alike)) for alike in spellings.values() if len(alike) > 1]
