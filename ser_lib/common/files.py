"""Files that are written whole or not at all, and the folder where computed things are kept."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ser_lib.common.errors import SerError


def cache_dir() -> Path:
    """The folder for everything that can be computed again: `$SER_CACHE_DIR`, else `~/.cache/ser_lib`."""
    return Path(os.environ.get("SER_CACHE_DIR") or Path.home() / ".cache" / "ser_lib")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move it there only if the block succeeds.

    A reader, or the next run after a crash, sees the old file or the new one, never half of one.

    Raises:
        OSError: the disk is full or read-only; `path` is as it was, and no temporary file is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes may write the same file at once, so the temporary name is unique. It keeps the suffix,
    # because some writers choose their format by it.
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def source_hash(*modules) -> str:
    """A short hash of modules' source code: part of the key of what they compute, so that an edit is noticed."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()[:12]


def project_dir() -> Path:
    """The checkout that holds this package, where `data/`, `runs/` and `reports/` are; elsewhere the working folder."""
    checkout = Path(__file__).parents[2]
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


def move_into_place(partial: Path, final: Path) -> None:
    """Put a finished folder where its predecessor is; a kill at any point leaves one of the two whole."""
    old = final.with_name(f".{final.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def whole_folder(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Yield a new folder beside `folder`, which takes its place only if the block succeeds.

    Args:
        names: of all that an export of that kind may hold; every one holds the first. A folder that does not, or that
            holds anything else, is left alone.

    Raises:
        SerError: `folder` is there already, and is no earlier export.
    """
    folder = folder.absolute()
    if folder.exists():
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
        if not there <= {*names} or (there and names[0] not in there):
            raise SerError(
                f"{folder} is there already and no earlier export, which would be replaced: it holds "
                f"{min(there - {*names}, default=min(there))}. Name another folder with --output."
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    part.mkdir()
    try:
        yield part
        move_into_place(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
