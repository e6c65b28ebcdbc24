"""Acoustic features of speech, frame by frame or pooled over a clip.

A kind of features is a function of a waveform and its sampling rate that returns float32 of shape (n_frames, n_features).
`ACOUSTIC_FEATURES` maps its name, which a recipe states as `input.encoder`, to the function; its other parameters are
fields of the recipe's `input`. To add a kind, write the function and add one line to that table.
"""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser_lib.audio import decoding, reading
from ser_lib.common.errors import SerError

# In Hz: from a low voice to a shout.
PITCH_RANGE = (60.0, 800.0)
# Almost four periods of the lowest pitch.
PITCH_SECONDS = 0.064
# Voicing from which a frame has a pitch.
VOICED = 0.5
# Subtracted for each doubling of the period: two periods fit as well as one.
OCTAVE_COST = 0.02


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

    waveform = _one_frame_or_more(waveform, frame)
    spectrum: dict[str, Any] = {"y": waveform, "sr": sampling_rate, "n_fft": frame, "hop_length": hop}
    parts = _with_deltas(librosa.feature.mfcc(n_mfcc=n_mfcc, **spectrum), deltas)
    if chroma:
        # A fixed tuning: librosa's estimate from the clip itself moves the bins with the speaker's pitch, and fails on
        # silence.
        parts.append(np.nan_to_num(librosa.feature.chroma_stft(tuning=0.0, **spectrum)))
    return np.concatenate(parts).T.astype(np.float32)


def mfcc_pitch_spectrum(
    waveform: np.ndarray, sampling_rate: int, n_mfcc: int = 40, deltas: bool = False, frame: int = 2048, hop: int = 512
) -> np.ndarray:
    """MFCC, pitch, voicing and the shape of the spectrum: (1 + n_samples // hop, n_features).

    In order: the coefficients of `mfcc`; the logarithm of `pitch`, in octaves above 100 Hz, interpolated where the voice
    has none; voicing; of the spectrum its centroid in Hz, the logarithm of its flatness, its contrast in dB within each
    octave from 200 Hz up and below 200 Hz (Jiang et al. 2002), and its flux, the distance of two frames' spectra of unit
    length. Only the 0th coefficient, the log energy, follows the level of the recording.

    Args:
        waveform, n_mfcc, frame, hop: as of `mfcc`; pitch has a frame of its own.
        deltas: append first and second differences of all these over time (9 frames).

    Raises:
        SerError: the sampling rate is below 4000 Hz, or a frame is too short to tell the octaves apart.
    """
    import librosa

    if sampling_rate < 4000 or frame < sampling_rate / 100:
        raise SerError(
            "mfcc-pitch-spectrum needs a sampling rate of 4000 Hz or more, and frames of at least 0.01 s, but got "
            f"input.audio.sampling_rate={sampling_rate} and input.frame={frame}."
        )
    waveform = _one_frame_or_more(waveform, frame)
    coefficients = mfcc(waveform, sampling_rate, n_mfcc, frame=frame, hop=hop).T
    frequency, voicing = pitch(waveform, sampling_rate, hop)
    magnitudes = np.abs(librosa.stft(waveform, n_fft=frame, hop_length=hop))
    unit = librosa.util.normalize(magnitudes, norm=2)
    parts = [
        coefficients,
        _octaves(frequency)[None],
        voicing[None],
        librosa.feature.spectral_centroid(S=magnitudes, sr=sampling_rate),
        np.log(librosa.feature.spectral_flatness(S=magnitudes)),
        librosa.feature.spectral_contrast(S=magnitudes, sr=sampling_rate, n_bands=contrast_bands(sampling_rate)),
        np.linalg.norm(np.diff(unit, prepend=unit[:, :1]), axis=0)[None],
    ]
    return np.concatenate(_with_deltas(np.concatenate(parts), deltas)).T.astype(np.float32)


def contrast_bands(sampling_rate: int) -> int:
    """The number of octaves from 200 Hz up that lie below half the sampling rate, in Hz."""
    return int(np.log2(sampling_rate / 400))


def pitch(waveform: np.ndarray, sampling_rate: int, hop: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Pitch in Hz and voicing of each frame, by autocorrelation (Boersma 1993): two of shape (1 + n_samples // hop,).

    Returns:
        Pitch within `PITCH_RANGE`, NaN where voicing is below `VOICED`; and voicing, which is how well the frame repeats
        itself after one period: from 0, noise or silence, to 1.

    >>> tone = np.sin(2 * np.pi * 220 * np.arange(8000) / 16000)
    >>> round(float(pitch(tone, 16000)[0][5]), 1)
    220.0
    """
    # Not librosa's yin, which crashes after several processes compiled it at the same time (numba's issue 10128).
    half = round(PITCH_SECONDS * sampling_rate / 2)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, half), 2 * half)[::hop]
    lags = np.arange(int(sampling_rate / PITCH_RANGE[1]), int(sampling_rate / PITCH_RANGE[0]) + 1)
    # Blocks, so that the memory for a long recording stays small.
    blocks = [_periods(block, lags) for block in np.array_split(frames, 1 + len(frames) // 500)]
    period, voicing = np.concatenate(blocks, axis=1)
    return np.where(voicing < VOICED, np.nan, sampling_rate / period), voicing


def _periods(frames: np.ndarray, lags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best period of each frame, within the lags, in samples; and the autocorrelation there, 0 where there is none."""
    window = np.hanning(frames.shape[1] + 1)[:-1]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * window
    power = np.abs(np.fft.rfft(np.vstack([window, frames]), 2 * len(window))) ** 2
    values = np.fft.irfft(power)[:, : lags[-1] + 2]
    values = values / np.maximum(values[:, :1], np.finfo(float).tiny)
    # What overlaps of a shifted window is less at longer lags.
    before, here, behind = ((values[1:] / values[0])[:, lags + step] for step in (-1, 0, 1))
    is_peak = (here >= before) & (here > behind)
    # The vertex of a parabola through each peak and its neighbours, since few periods are whole numbers of samples.
    vertex = np.divide(before - behind, 2 * (before - 2 * here + behind), out=np.zeros_like(here), where=is_peak)
    heights = np.where(is_peak, here - (before - behind) * vertex / 4, 0)
    best = (heights - OCTAVE_COST * np.log2(lags / lags[0])).argmax(axis=1)
    rows = np.arange(len(best))
    return lags[best] + vertex[rows, best], heights[rows, best].clip(0, 1)


def _octaves(frequency: np.ndarray) -> np.ndarray:
    """Octaves above 100 Hz, interpolated where the frequency is NaN; 0 where all of it is."""
    octaves = np.log2(frequency / 100)
    known = np.flatnonzero(~np.isnan(octaves))
    return np.interp(np.arange(len(octaves)), known, octaves[known]) if len(known) else np.zeros(len(octaves))


def _one_frame_or_more(waveform: np.ndarray, frame: int) -> np.ndarray:
    """The waveform, padded with zeros where it is shorter than a frame."""
    return np.pad(waveform, (0, max(0, frame - len(waveform))))


def _with_deltas(frames: np.ndarray, deltas: bool) -> list[np.ndarray]:
    """Features of shape (n_features, n_frames), and with `deltas` their first and second differences over 9 frames."""
    import librosa

    # mode="nearest" also serves clips of fewer than 9 frames.
    return [frames, *(librosa.feature.delta(frames, order=order, mode="nearest") for order in (1, 2) if deltas)]


ACOUSTIC_FEATURES: dict[str, Callable[..., np.ndarray]] = {"mfcc": mfcc, "mfcc-pitch-spectrum": mfcc_pitch_spectrum}


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


def project(features: np.ndarray) -> np.ndarray:
    """Map clips to a plane: t-SNE of the first 50 principal components of the standardised features, (n_clips, 2).

    Neighbourhoods have a meaning; distances between groups and the axes have none (van der Maaten & Hinton 2008).
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(features)
    components = PCA(min(50, *scaled.shape), random_state=0).fit_transform(scaled)
    return TSNE(perplexity=min(30, (len(components) - 1) / 3), random_state=0).fit_transform(components)


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
