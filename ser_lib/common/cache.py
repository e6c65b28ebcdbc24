"""Computed arrays on disk, one for each clip and settings, shared by all processes.

One .npz a clip, at cache_dir()/store/KIND/SETTINGS/AB/ABCD….npz, beside the settings as JSON; any of it can be deleted.
A zip file holds a checksum, so that a damaged entry is detected and computed again.
"""

import hashlib
import io
import json
import logging
import os
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from ser_lib.common.errors import SerError
from ser_lib.common.files import cache_dir, replacing, write_text

logger = logging.getLogger(__name__)

MEMBER = "array.npy"
# A flipped bit may also mean a password or another compression, which are RuntimeErrors.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, KeyError, ValueError, EOFError)


def collect(
    clips: pd.DataFrame,
    kind: str,
    settings: dict,
    compute: Callable[[str], np.ndarray],
    progress: bool = True,
    n_jobs: int = -1,
) -> list[np.ndarray]:
    """One array for each row of `clips`, read from the store or computed by `n_jobs` processes (-1: one a core).

    Clips with the same `audio_hash` are computed once, and after a kill or a full disk only the missing arrays. Several
    processes may fill one store.

    Args:
        kind: the name of what is computed, which is the folder's name.
        settings: everything that changes the result, in types of JSON.
        compute: the function of a path that computes an array; it is pickled for other processes.

    Raises:
        SerError: the system ended one of the processes.
    """
    paths = dict(zip(clips["audio_hash"], clips["path"], strict=True))
    arrays = {key: array for key in paths if (array := get(kind, settings, key)) is not None}
    missing = [key for key in paths if key not in arrays]
    # For a few clips, starting processes would take longer than computing.
    parallel = Parallel(n_jobs=n_jobs if len(missing) > 16 else 1, return_as="generator")
    computed = parallel(delayed(_compute)(compute, paths[key], os.getpid()) for key in missing)
    bar = tqdm(computed, total=len(missing), desc=kind, unit="clip", leave=False, delay=0.5, disable=not progress)
    try:
        for key, array in zip(missing, bar, strict=True):
            put(kind, settings, key, array)
            arrays[key] = array
    except BrokenProcessPool as error:
        reason = "one of the processes that compute it was ended from outside, often for want of memory"
        advice = "What is computed is kept: the same command goes on. LOKY_MAX_CPU_COUNT=1 needs the least memory"
        raise SerError(f"{kind}: {reason}. {advice}.") from error
    return [arrays[key] for key in clips["audio_hash"]]


def _compute(compute: Callable[[str], np.ndarray], path: str, parent: int) -> np.ndarray:
    """`compute(path)`, in a process that ends when the process that asked for it does."""
    if os.getpid() != parent:
        _end_with(parent)
    return compute(path)


@cache
def _end_with(parent: int) -> None:
    """End this process within a second after its parent process, which may be killed; else it would wait for minutes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def get(kind: str, settings: dict, key: str) -> np.ndarray | None:
    """The stored array; None if it is missing, or damaged, which is logged."""
    path = _path(kind, settings, key)
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            # Unpacked completely before it is parsed, so that the checksum is tested first.
            return np.lib.format.read_array(io.BytesIO(archive.read(MEMBER)), allow_pickle=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DAMAGE as error:
        logger.warning("%s is damaged (%s) and will be computed again", path, error)
        return None


def put(kind: str, settings: dict, key: str, array: np.ndarray) -> None:
    """Store an array, completely or not at all; raises a ValueError where it holds Python objects."""
    path = _path(kind, settings, key)
    note = path.parents[1] / "settings.json"
    if not note.exists():
        write_text(json.dumps(settings, indent=1, sort_keys=True), note)
    with replacing(path) as part, zipfile.ZipFile(part, "w") as archive, archive.open(MEMBER, "w") as file:
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _path(kind: str, settings: dict, key: str) -> Path:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return cache_dir() / "store" / kind / digest / key[:2] / f"{key}.npz"
