"""MFCC and chroma features, computed with librosa over all cores and kept in the store.

One carrier leaves this module: a float32 array aligned to the clip table's rows, either
(n_clips, n_features) with each clip averaged over its frames, or (n_clips, n_frames, n_features) with the
frames in time order. Clips differ in length, so a sequence is filled up with NaN rows after its own last
frame; `frame_counts` gives the lengths back.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ser_lib.audio import reading

if TYPE_CHECKING:  # an exported model runs this module without pandas
    import pandas as pd


def mfcc(
    waveform: np.ndarray, sampling_rate: int, n_mfcc: int = 40, deltas: bool = False, frame: int = 2048, hop: int = 512
) -> np.ndarray:
    """Mel-frequency cepstral coefficients, frame by frame.

    Args:
        waveform: mono, shape (n_samples,), any positive length: shorter than a frame is padded with zeros.
        n_mfcc: coefficients a frame, the 0th (log energy) included.
        deltas: append first and second differences over time (9 frames), so that there are 3 × n_mfcc features.
        frame, hop: window length and step in samples (librosa's defaults).

    Returns:
        float32 array of shape (n_frames, n_mfcc or 3 × n_mfcc), n_frames = 1 + n_samples // hop.

    Source: Davis & Mermelstein 1980; the librosa implementation (Slaney mel filters, orthonormal DCT).
    """
    import librosa

    if len(waveform) < frame:
        waveform = np.pad(waveform, (0, frame - len(waveform)))
    coefficients = librosa.feature.mfcc(y=waveform, sr=sampling_rate, n_mfcc=n_mfcc, n_fft=frame, hop_length=hop)
    if deltas:
        # mode="nearest" also serves clips of fewer than 9 frames.
        differences = [librosa.feature.delta(coefficients, order=order, mode="nearest") for order in (1, 2)]
        coefficients = np.concatenate([coefficients, *differences])
    return coefficients.T.astype(np.float32)


def chroma(waveform: np.ndarray, sampling_rate: int, frame: int = 2048, hop: int = 512) -> np.ndarray:
    """Energy in each of the twelve pitch classes, frame by frame, each frame scaled to a maximum of 1.

    Returns:
        float32 array of shape (n_frames, 12), values 0 to 1; a silent frame is all zeros.
    """
    import librosa

    if len(waveform) < frame:
        waveform = np.pad(waveform, (0, frame - len(waveform)))
    # A fixed tuning: librosa's estimate from the clip itself moves the bins with the speaker's pitch, and
    # fails on silence.
    bins = librosa.feature.chroma_stft(y=waveform, sr=sampling_rate, n_fft=frame, hop_length=hop, tuning=0.0)
    return np.nan_to_num(bins.T).astype(np.float32)


def clip_features(path: str | reading.Recording, audio_settings: dict, feature_settings: dict) -> np.ndarray:
    """Features of one file: (n_frames, n_features) for `pooling="sequence"`, their mean over time for `"mean"`.

    "mean+std" puts the deviation over time behind the mean: (2 * n_features,).
    """
    feature_settings = dict(feature_settings)
    pooling, with_chroma = feature_settings.pop("pooling"), feature_settings.pop("chroma")
    sampling_rate = audio_settings["sampling_rate"]
    waveform = reading.prepare(path, **audio_settings)
    frames = mfcc(waveform, sampling_rate, **feature_settings)
    if with_chroma:
        size = {key: feature_settings[key] for key in ("frame", "hop") if key in feature_settings}
        frames = np.concatenate([frames, chroma(waveform, sampling_rate, **size)], axis=1)
    if pooling == "mean+std":
        return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])
    return frames.mean(axis=0) if pooling == "mean" else frames


def extract(clips: pd.DataFrame, audio_settings: dict, feature_settings: dict, progress: bool = True) -> np.ndarray:
    """Features of every clip, from the store where they are there already.

    Args:
        clips: clip table; rows that share an `audio_hash` are computed once.
        audio_settings: keyword arguments of `ser_lib.audio.reading.prepare`.
        feature_settings: `pooling` ("mean", "mean+std" or "sequence"), `chroma` (bool) and keyword arguments of `mfcc`.

    Returns:
        float32 array aligned to the rows, (n_clips, n_features) or (n_clips, n_frames, n_features), see above.
    """
    import librosa
    import soundfile
    import soxr

    from ser_lib.common import cache
    from ser_lib.common.files import source_hash

    settings = {
        "audio": audio_settings,
        "features": feature_settings,
        "versions": [librosa.__version__, soxr.__version__, soundfile.__version__],
        "code": source_hash(reading, sys.modules[__name__]),
    }
    compute = partial(clip_features, audio_settings=audio_settings, feature_settings=feature_settings)
    arrays = cache.collect(clips, "features", settings, compute, progress=progress)
    if feature_settings["pooling"] == "sequence":
        return stack_sequences(arrays)
    return np.stack(arrays)


def stack_sequences(arrays: list[np.ndarray]) -> np.ndarray:
    """Stack arrays of shape (n_frames_i, n_features) into (n_clips, longest, n_features), NaN behind the shorter."""
    longest = max(len(array) for array in arrays)
    stacked = np.full((len(arrays), longest, arrays[0].shape[1]), np.nan, dtype=np.float32)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def frame_counts(sequences: np.ndarray) -> np.ndarray:
    """Own frames of each clip in an array made by `stack_sequences`: int array of shape (n_clips,)."""
    return (~np.isnan(sequences[:, :, 0])).sum(axis=1)


def flat(inputs: np.ndarray) -> np.ndarray:
    """One row of features a clip: the mean over frames, or over layers, where there are several."""
    return inputs if inputs.ndim == 2 else np.nanmean(inputs, axis=1)


def project(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Clips on a plane, like beside like: t-SNE of the standardised features' first 50 principal components.

    Only neighbourhoods mean something; distances between groups, and axes, do not.

    Args:
        features: (n_clips, n_features).

    Returns:
        float array of shape (n_clips, 2).

    Source: van der Maaten & Hinton 2008; the scikit-learn implementation.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(features)
    components = PCA(min(50, *scaled.shape), random_state=seed).fit_transform(scaled)
    return TSNE(perplexity=min(30, (len(components) - 1) / 3), random_state=seed).fit_transform(components)


def standardise_by_speaker(features: np.ndarray, speakers: pd.Series) -> np.ndarray:
    """Zero mean and unit deviation of every feature within each speaker.

    It uses all clips of a speaker, unlabelled test clips included: transductive, for `speaker-adapted` only.

    Args:
        features: (n_clips, n_features) or (n_clips, n_frames, n_features) with NaN padding.
        speakers: aligned to the rows.
    """
    import pandas as pd

    standardised = np.empty_like(features)
    axes = tuple(range(features.ndim - 1))
    for rows in pd.Series(range(len(speakers))).groupby(speakers.to_numpy()).apply(list):
        own = features[rows]
        deviation = np.nanstd(own, axis=axes)
        standardised[rows] = (own - np.nanmean(own, axis=axes)) / np.where(deviation > 1e-8, deviation, 1.0)
    return standardised
