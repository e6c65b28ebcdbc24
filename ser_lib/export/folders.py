"""A folder that is written whole or not at all."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ser_lib.errors import SerError
from ser_lib.runs import move_into_place


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
