"""The hashes of a folder's files, written last into `manifest.json`: what was damaged, edited or exchanged is noticed.

    write(folder, [folder / "recipe.yaml", …])
    manifest = read(folder)                       # None: the folder has no manifest
    check(folder, manifest, [folder / "recipe.yaml"])

A hash shows damage and mistakes. It does not show who wrote the files: a change of a file and its hash is not noticed.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ser_lib.common.errors import SerError
from ser_lib.common.files import damaged, file_hash, read_json, write_text

NAME = "manifest.json"
AGAIN = "Copy the folder again, or train the run again."


@dataclass(frozen=True)
class Manifest:
    """What was written into a folder, and which writing it was."""

    # By the path of each file from the folder on, with slashes: the SHA-256 of its content.
    hashes: dict[str, str]
    # Of the manifest's own file: another one of the same content is of another writing.
    stamp: tuple[int, int]


class ReplacedError(SerError):
    """The folder was replaced by another one while it was being read."""


def write(folder: Path, files: Iterable[Path]) -> None:
    """Write the manifest of these files, which all lie in the folder."""
    hashes = {path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(files)}
    write_text(json.dumps({"sha256": hashes}, indent=1) + "\n", folder / NAME)


def read(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where it has none; SerError where it is damaged."""
    path = folder / NAME
    try:
        status = path.stat()
    except OSError:
        return None
    hashes = read_json(path, AGAIN)
    hashes = hashes.get("sha256") if isinstance(hashes, dict) else None
    if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
        raise damaged(path, "it is no list of hashes", AGAIN)
    return Manifest(hashes, (status.st_ino, status.st_ctime_ns))


def check(folder: Path, manifest: Manifest | None, files: Iterable[Path]) -> None:
    """Compare files with a manifest that was read before.

    Raises:
        ReplacedError: the folder has another manifest by now.
        SerError: a file is not the one that was written, or is not in the manifest.
    """
    if manifest is None:
        return
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            is_same = file_hash(path) == manifest.hashes.get(name)
        except OSError:
            is_same = False
        if not is_same:
            check_current(folder, manifest)
            problem = (
                "is not the file that was written with this run" if name in manifest.hashes else "is not of this run"
            )
            raise SerError(f"{path} {problem}: it was damaged, edited or exchanged since (see {NAME}). {AGAIN}")


def check_current(folder: Path, manifest: Manifest | None) -> None:
    """Raise ReplacedError where the folder's manifest is not the one that was read before."""
    try:
        is_current = read(folder) == manifest
    except SerError:
        is_current = False
    if not is_current:
        raise ReplacedError(f"{folder} was replaced by another run while it was being read. Try again.")
