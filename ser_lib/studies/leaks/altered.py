"""Altered clips as files, which every feature reader reads as it reads the originals."""

import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from ser_lib.audio import augmentation, reading
from ser_lib.common.hashing import hash_of
from ser_lib.corpora.clips import audio_hash

COPIES = {
    "speed 0.9": lambda waveform, rng: augmentation.change_speed(waveform, 0.9),
    "speed 1.1": lambda waveform, rng: augmentation.change_speed(waveform, 1.1),
    "noise 20 dB": lambda waveform, rng: augmentation.add_noise(waveform, 20.0, rng),
}


def write_altered(
    clips: pd.DataFrame, change: Callable[[str, np.ndarray], np.ndarray], audio_settings: dict, folder: Path
) -> pd.DataFrame:
    """Prepare and alter every clip, and write it into a folder as float WAV.

    Args:
        change: function of a clip's id and waveform that returns the altered waveform; called by several threads.
        audio_settings: keyword arguments of `ser_lib.audio.reading.prepare`.

    Returns:
        the clip table of the files.
    """
    sampling_rate = audio_settings.get("sampling_rate", 16000)

    def write(row: int) -> dict:
        path = folder / f"{row}.wav"
        waveform = change(clips["clip_id"].iloc[row], reading.prepare(clips["path"].iloc[row], **audio_settings))
        soundfile.write(path, waveform, sampling_rate, subtype="FLOAT")
        return {
            "path": str(path),
            "seconds": len(waveform) / sampling_rate,
            "sampling_rate": sampling_rate,
            "audio_hash": audio_hash(waveform[:, None], sampling_rate),
        }

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return clips.assign(**pd.DataFrame(list(pool.map(write, range(len(clips)))), index=clips.index))


def features_of_copies(
    clips: pd.DataFrame,
    features: Callable[[pd.DataFrame], np.ndarray],
    audio_settings: dict,
    changes: Iterable[str] = COPIES,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Features of altered copies of all clips, for `copies_before_split`.

    Args:
        features: function that reads features of a clip table, the same as for the originals.
        audio_settings: keyword arguments of `ser_lib.audio.reading.prepare`, the same as for the originals.
        changes: names in `COPIES`.

    Returns:
        float32 of shape (n_clips, n_features), by the name of the change.
    """
    arrays = {}
    for name in changes:

        def change(clip_id: str, waveform: np.ndarray, name: str = name) -> np.ndarray:
            return COPIES[name](waveform, np.random.default_rng(hash_of(seed, clip_id, name)))

        with tempfile.TemporaryDirectory(prefix="ser-copies-") as folder:
            array = features(write_altered(clips, change, audio_settings, Path(folder)))
        arrays[name] = np.asarray(array, dtype=np.float32).reshape(len(clips), -1)
    return arrays
