"""Files and folders that are written completely or not at all, and files that others may have written or damaged.

Whatever a file holds, the caller of `read_json`, `read_table` and `read_text` gets a value or a SerError that names the
file: parsers raise errors of many classes over damaged input, and none of them reaches the user as a traceback.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ser_lib.common.errors import SerError

if TYPE_CHECKING:
    # Imported when a table is read, so that `ser --help` answers at once.
    import pandas as pd


def cache_dir() -> Path:
    """The folder for everything that can be computed again: `$SER_CACHE_DIR`, else `~/.cache/ser_lib`."""
    return Path(os.environ.get("SER_CACHE_DIR") or Path.home() / ".cache" / "ser_lib")


def with_home(path: str | Path) -> Path:
    """A path with its leading `~` or `~user` replaced by that home folder; as it is where there is no such user."""
    # `Path.expanduser` raises for a user that does not exist, and such a name is a file's name; and no user's name holds a
    # zero byte.
    return Path(path if "\0" in str(path) else os.path.expanduser(path))  # noqa: PTH111


def absolute(path: str | Path) -> str:
    """The path as notebooks need it, which run in another folder."""
    return str(with_home(path).absolute())


def project_dir() -> Path:
    """The checkout of this package, with `data/`, `runs/` and `reports/`; without a checkout the working folder."""
    checkout = Path(__file__).parents[2]
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


def reports_path(name: str, reports_dir: str | Path | None = None) -> Path:
    """The path of a file in the folder of reports: `reports_dir`, else `reports/` of the checkout."""
    return (Path(reports_dir) if reports_dir else project_dir() / "reports") / name


def source_hash(*modules) -> str:
    """A short hash of modules' code, for cache keys: an edit of the code makes old entries invalid."""
    code = "".join(code_of(Path(module.__file__)) for module in modules)
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_of(source: Path) -> str:
    """The code of a Python file without comments, docstrings and layout, which change no result."""
    return _code_of(source, source.stat().st_mtime_ns)


@cache
def _code_of(source: Path, _changed: int) -> str:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(line: ast.stmt) -> bool:
    """Whether a statement is a docstring, or another constant that nothing uses."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)


# In the names of temporary files and folders.
PART = ".writing"
# Age at which a temporary file or folder is of a process that was killed.
LEFTOVER_SECONDS = 3600
# Folders whose leftovers this process has deleted.
_swept: set[Path] = set()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move it to `path` if the block succeeds.

    Another process, or the next run after a crash or on a full disk, reads the old file or the new one, never a part.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    # A unique name, since two processes may write the file at once; with the suffix, by which writers choose a format.
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{PART}{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(text: str, path: str | Path) -> Path:
    """Write a text in UTF-8, whole or not at all."""
    with replacing(Path(path)) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def write_csv(table: pd.DataFrame, path: str | Path, float_format: str | None = None) -> Path:
    """Write a table as CSV without its index, whole or not at all."""
    with replacing(Path(path)) as part:
        table.to_csv(part, index=False, float_format=float_format)
    return Path(path)


def _sweep(folder: Path) -> None:
    """Delete, once a process, what killed processes left in a folder while they wrote."""
    if folder in _swept:
        return
    _swept.add(folder)
    for leftover in folder.glob(f".*{PART}*"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                _remove(leftover)


def _remove(path: Path) -> None:
    """Delete a file, a folder, or a symbolic link without that to which it leads."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move_into_place(partial: Path, final: Path) -> None:
    """Replace a folder by a finished one; after a kill at any point, the old or the new one is complete.

    A symbolic link is replaced as well; the folder to which it leads stays as it is.
    """
    restore(final)
    old = _old(final)
    _remove(old)
    if os.path.lexists(final):
        final.rename(old)
    partial.rename(final)
    with suppress(OSError):
        _remove(old)


def restore(final: Path) -> None:
    """Give a folder its name back, where a kill has ended the process that was replacing it."""
    if not os.path.lexists(final) and os.path.lexists(_old(final)):
        _old(final).rename(final)


def being_replaced(final: Path) -> bool:
    """Whether a folder is being replaced now: the old one is renamed, and the new one does not have its name yet."""
    return os.path.lexists(_old(final))


def _old(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


@contextmanager
def whole_folder(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Yield a new folder beside `folder`, and move it to `folder` if the block succeeds.

    A folder is replaced only if it is empty, or holds the first of `names`, and no file of any other name than these.
    """
    folder = folder.absolute()
    restore(folder)
    if folder.exists():
        files = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
        if not files <= {*names} or (files and names[0] not in files):
            raise SerError(
                f"{folder} exists and is no earlier export, so it is not replaced: it holds "
                f"{min(files - {*names}, default=min(files))}. Name another folder with --output."
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}{PART}")
    part.mkdir()
    try:
        yield part
        move_into_place(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


# A recipe has about forty lines, and four levels.
MAX_YAML_CHARACTERS = 100_000
MAX_YAML_DEPTH = 20
# A line of a message.
MAX_REASON = 200
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def read_json(path: Path, advice: str = "") -> Any:
    """The value in a JSON file.

    Args:
        advice: a sentence for the error: how the file is made again.

    Raises:
        SerError: the file is missing, or damaged.
    """
    text = read_text(path, advice)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, advice) from error


def read_table(
    path: Path, advice: str = "", columns: Collection[str] = (), types: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """The table in a CSV that this package wrote. `None`, `NA` and the like are names in it; "" is a missing value.

    Args:
        columns: those that the table must have.
        types: of columns, as `DataFrame.astype` takes them.

    Raises:
        SerError: the file is missing, or damaged.
    """
    import pandas as pd

    # Read once: a file that is replaced between two readings would be of two runs, or missing.
    text = read_text(path, advice)
    try:
        table = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])
        if missing := sorted({*columns} - {*table}):
            raise ValueError(f"the column {missing[0]} is missing")
        return table.astype({name: kind for name, kind in (types or {}).items() if name in table})
    except (ValueError, TypeError, OverflowError, pd.errors.ParserError) as error:
        raise damaged(path, error, advice) from error


def read_text(path: Path, advice: str = "") -> str:
    """The text in a file in UTF-8; SerError where the file is missing, or no such text."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise damaged(path, error, advice) from error


def damaged(path: Path, error: object, advice: str = "") -> SerError:
    """The error about a file that cannot be read."""
    reason = str(getattr(error, "strerror", None) or error or type(error).__name__)
    return SerError(f"{path} cannot be read: {' '.join(reason.split())[:MAX_REASON]}. {advice}".rstrip())


def parse_yaml(text: str) -> Any:
    """The value of a YAML text of a few kilobytes, with plain values only.

    Aliases are refused, since a few lines of them can stand for gigabytes, and so are deep nesting, tags and text that
    no file can hold.

    Raises:
        SerError: it is no such YAML; the message has no name of a file.

    >>> parse_yaml("epochs: 3")
    {'epochs': 3}
    """
    if len(text) > MAX_YAML_CHARACTERS:
        raise SerError(f"expected at most {MAX_YAML_CHARACTERS} characters of YAML, but came {len(text)}.")
    try:
        return yaml.load(text, _PlainLoader)
    # PyYAML's constructors raise whatever Python's own conversions raise, for dates, numbers and tags.
    except Exception as error:
        raise SerError(f"expected YAML: {' '.join(str(error).split())[:MAX_REASON] or type(error).__name__}") from error


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases and control characters, and with a limit on the depth."""

    depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias, *{event.anchor}, is not allowed: write the value out")
        self.depth += 1
        if self.depth > MAX_YAML_DEPTH:
            raise yaml.YAMLError(f"more than {MAX_YAML_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node):
        value = super().construct_scalar(node)
        # An escape can spell a command to the terminal, and half of a surrogate pair, which no file can hold.
        if found := CONTROL.search(value):
            raise yaml.YAMLError(f"the control character {found[0]!r} is not allowed")
        return value
