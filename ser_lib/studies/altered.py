"""Altered clips as files, which every feature reader reads as it reads the originals."""

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from ser_lib.audio import reading
from ser_lib.corpora.clips import audio_hash

FeatureReader = Callable[[pd.DataFrame], np.ndarray]  # of a clip table: float32, (n_clips, ...)


def flat_features(features: FeatureReader, clips: pd.DataFrame) -> np.ndarray:
    """Features of clips as float32 of shape (n_clips, n_features)."""
    return np.asarray(features(clips), dtype=np.float32).reshape(len(clips), -1)


def features_of_altered(
    clips: pd.DataFrame, features: FeatureReader, change: Callable[[str, np.ndarray], np.ndarray], audio_settings: dict
) -> np.ndarray:
    """Prepare and alter every clip, write it to a temporary folder as float WAV, and read its features.

    Args:
        change: function of a clip's id and waveform that returns the altered waveform; called by several threads.
        audio_settings: keyword arguments of `ser_lib.audio.reading.prepare`.

    Returns:
        float32, (n_clips, n_features).
    """
    sampling_rate = audio_settings.get("sampling_rate", 16000)

    def write(path: Path, clip_id: str, original: str) -> dict:
        waveform = change(clip_id, reading.prepare(original, **audio_settings))
        soundfile.write(path, waveform, sampling_rate, subtype="FLOAT")
        return {
            "path": str(path),
            "seconds": len(waveform) / sampling_rate,
            "sampling_rate": sampling_rate,
            "audio_hash": audio_hash(waveform[:, None], sampling_rate),
        }

    with tempfile.TemporaryDirectory(prefix="ser-altered-") as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        paths = [Path(folder) / f"{row}.wav" for row in range(len(clips))]
        about = list(pool.map(write, paths, clips["clip_id"], clips["path"]))
        return flat_features(features, clips.assign(**pd.DataFrame(about, index=clips.index)))
