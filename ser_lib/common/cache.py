"""Computed arrays on disk, keyed by the audio and the settings that made them.

One .npz a clip, at cache_dir()/store/KIND/SETTINGS/AB/ABCD....npz with the settings as JSON beside; any of it
can be deleted. A zip file carries a checksum, so a damaged entry is noticed and computed again.
"""

import hashlib
import io
import json
import logging
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from ser_lib.common.files import cache_dir, replacing

logger = logging.getLogger(__name__)

MEMBER = "array.npy"
# All that zipfile raises for a damaged file; a flipped bit can also ask for a password or another compression.
DAMAGE = (
    zipfile.BadZipFile,
    KeyError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
)


def collect(
    clips: pd.DataFrame,
    kind: str,
    settings: dict,
    compute: Callable[[str], np.ndarray],
    progress: bool = True,
    n_jobs: int = -1,
) -> list[np.ndarray]:
    """Return one array a row of `clips`: from the store, or computed over all cores and stored at once.

    Clips with the same `audio_hash` are computed once. A run that was killed goes on where it was, and several
    processes may fill one store.

    Args:
        clips: needs `path` and `audio_hash`.
        kind: what is computed ("mfcc"): a folder's name.
        settings: all that changes the result, as JSON can hold it.
        compute: a function of a path, the same for every process.
        n_jobs: processes; -1 is one a core.

    Raises:
        OSError: the disk is full; what was stored before stays good.
        Whatever `compute` raises.
    """
    paths = dict(zip(clips["audio_hash"], clips["path"], strict=True))
    arrays = {key: get(kind, settings, key) for key in paths}
    missing = [key for key in arrays if arrays[key] is None]
    # Starting processes takes longer than a few clips do.
    parallel = Parallel(n_jobs=n_jobs if len(missing) > 16 else 1, return_as="generator_unordered")
    results = parallel(delayed(_compute)(compute, key, paths[key]) for key in missing)
    for key, array in tqdm(
        results, total=len(missing), desc=kind, unit="clip", leave=False, delay=0.5, disable=not progress
    ):
        put(kind, settings, key, array)
        arrays[key] = array
    return [arrays[key] for key in clips["audio_hash"]]


def get(kind: str, settings: dict, key: str) -> np.ndarray | None:
    """Return a stored array, or None where there is none or it is damaged (with a logged line)."""
    path = _path(kind, settings, key)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # Unpacked whole before it is looked at, so that the checksum comes first.
            return np.lib.format.read_array(io.BytesIO(archive.read(MEMBER)), allow_pickle=False)
    except DAMAGE as error:
        logger.warning("%s is damaged (%s) and will be computed again", path, error)
        return None


def put(kind: str, settings: dict, key: str, array: np.ndarray) -> None:
    """Store an array, whole or not at all.

    Raises:
        OSError: the disk is full or read-only.
        ValueError: the array holds Python objects.
    """
    path = _path(kind, settings, key)
    note = path.parents[1] / "settings.json"
    if not note.exists():
        with replacing(note) as part:
            part.write_text(json.dumps(settings, indent=1, sort_keys=True))
    with replacing(path) as part, zipfile.ZipFile(part, "w") as archive, archive.open(MEMBER, "w") as file:
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _path(kind: str, settings: dict, key: str) -> Path:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return cache_dir() / "store" / kind / digest / key[:2] / f"{key}.npz"


def _compute(compute: Callable[[str], np.ndarray], key: str, path: str) -> tuple[str, np.ndarray]:
    return key, compute(path)
