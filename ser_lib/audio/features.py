"""Acoustic features of speech, frame by frame or pooled over a clip.

A kind of features is a function of a waveform and its sampling rate that returns float32 of shape (n_frames, n_features).
`ACOUSTIC_FEATURES` maps its name, which a recipe states as `input.encoder`, to the function; its other parameters are
fields of the recipe's `input`. To add a kind, write the function and add one line to that table.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ser_lib.audio import decoding, reading

if TYPE_CHECKING:
    # An exported model runs this module without pandas.
    import pandas as pd


def mfcc(
    waveform: np.ndarray,
    sampling_rate: int,
    n_mfcc: int = 40,
    deltas: bool = False,
    chroma: bool = False,
    frame: int = 2048,
    hop: int = 512,
) -> np.ndarray:
    """Mel-frequency cepstral coefficients (Davis & Mermelstein 1980), by librosa: (1 + n_samples // hop, n_features).

    Args:
        waveform: of any positive length: shorter than a frame is padded with zeros.
        n_mfcc: coefficients a frame, the 0th (log energy) included.
        deltas: append first and second differences over time (9 frames).
        chroma: append the energy in each of the twelve pitch classes, scaled to a maximum of 1 a frame (silence: 0).
        frame, hop: window length and step in samples.
    """
    import librosa

    if len(waveform) < frame:
        waveform = np.pad(waveform, (0, frame - len(waveform)))
    spectrum: dict[str, Any] = {"y": waveform, "sr": sampling_rate, "n_fft": frame, "hop_length": hop}
    coefficients = librosa.feature.mfcc(n_mfcc=n_mfcc, **spectrum)
    parts = [coefficients]
    if deltas:
        # mode="nearest" also serves clips of fewer than 9 frames.
        parts += [librosa.feature.delta(coefficients, order=order, mode="nearest") for order in (1, 2)]
    if chroma:
        # A fixed tuning: librosa's estimate from the clip itself moves the bins with the speaker's pitch, and fails on
        # silence.
        parts.append(np.nan_to_num(librosa.feature.chroma_stft(tuning=0.0, **spectrum)))
    return np.concatenate(parts).T.astype(np.float32)


ACOUSTIC_FEATURES: dict[str, Callable[..., np.ndarray]] = dict(mfcc=mfcc)


def settings_of(kind: str) -> list[str]:
    """Names of the settings that a kind of acoustic features takes, in their order."""
    return list(inspect.signature(ACOUSTIC_FEATURES[kind]).parameters)[2:]


def clip_features(
    path: str | Path | reading.Recording, audio_settings: dict[str, Any], feature_settings: dict[str, Any]
) -> np.ndarray:
    """Acoustic features of one file or recording, prepared by `ser_lib.audio.reading.prepare`.

    Args:
        feature_settings: `kind`, a key of `ACOUSTIC_FEATURES` or such a function; its parameters; and `pooling`: "mean"
            over the frames, "mean+std" with the standard deviation behind it, or "sequence", all frames.
    """
    waveform = reading.prepare(path, **audio_settings)
    settings = dict(feature_settings)
    kind, pooling = settings.pop("kind"), settings.pop("pooling")
    function = ACOUSTIC_FEATURES[kind] if isinstance(kind, str) else kind
    frames = function(waveform, audio_settings["sampling_rate"], **settings)
    if pooling == "mean+std":
        return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])
    return frames.mean(axis=0) if pooling == "mean" else frames


def extract(clips: pd.DataFrame, audio_settings: dict, feature_settings: dict, progress: bool = True) -> np.ndarray:
    """`clip_features` of every clip through the cache: float32 of shape (n_clips, n_features), aligned to the rows.

    For "sequence" (n_clips, n_frames, n_features), NaN behind the last frame of a shorter clip.
    """
    from importlib.metadata import version

    from ser_lib.common import cache
    from ser_lib.common.files import source_hash

    function = ACOUSTIC_FEATURES[feature_settings["kind"]]
    settings = {
        "audio": audio_settings,
        "features": feature_settings,
        "versions": [version(package) for package in ("librosa", "soxr", "soundfile")],
        "code": [source_hash(decoding, reading, sys.modules[__name__]), inspect.getsource(function)],
    }
    # The function itself, since other processes need not know its name.
    feature_settings = feature_settings | {"kind": function}
    compute = partial(clip_features, audio_settings=audio_settings, feature_settings=feature_settings)
    arrays = cache.collect(clips, "features", settings, compute, progress=progress)
    return stack_sequences(arrays) if feature_settings["pooling"] == "sequence" else np.stack(arrays)


def stack_sequences(arrays: list[np.ndarray]) -> np.ndarray:
    """Stack arrays of shape (n_frames_i, n_features) into (n_clips, longest, n_features), NaN behind the shorter."""
    shape = (len(arrays), max(map(len, arrays)), arrays[0].shape[1])
    stacked = np.full(shape, np.nan, dtype=np.float32)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def project(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Map clips to a plane: t-SNE of the first 50 principal components of the standardised features, (n_clips, 2).

    Neighbourhoods have a meaning; distances between groups and the axes have none (van der Maaten & Hinton 2008).
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(features)
    components = PCA(min(50, *scaled.shape), random_state=seed).fit_transform(scaled)
    return TSNE(perplexity=min(30, (len(components) - 1) / 3), random_state=seed).fit_transform(components)


def standardise_by_speaker(features: np.ndarray, speakers: pd.Series) -> np.ndarray:
    """Standardise every feature to zero mean and unit deviation within each speaker.

    All clips of a speaker are used, unlabelled test clips included: the result is transductive. Features are of shape
    (n_clips, n_features), or (n_clips, n_frames, n_features) with NaN padding.
    """
    standardised = np.empty_like(features)
    axes = tuple(range(features.ndim - 1))
    for speaker in speakers.unique():
        rows = (speakers == speaker).to_numpy()
        deviation = np.nanstd(features[rows], axis=axes)
        centred = features[rows] - np.nanmean(features[rows], axis=axes)
        standardised[rows] = centred / np.where(deviation > 1e-8, deviation, 1.0)
    return standardised
