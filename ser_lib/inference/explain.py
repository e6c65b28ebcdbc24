"""Explain a prediction by occlusion: cover one interval of time or band of frequency after the other, and predict again.

The model used a part if the probability of the emotion falls without it (Zeiler and Fergus 2014,
https://arxiv.org/abs/1311.2901). A covered clip is unlike any clip of the training, which causes a part of each change;
and if two parts carry the same information, covering either of them changes nothing.
"""

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ser_lib.audio.reading import Recording, prepare, seconds_of
from ser_lib.audio.windows import LONG_SECONDS
from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.inference.predictor import Predictor

# In seconds (about a syllable) and octaves.
WIDTHS = {"time": 0.25, "frequency": 1.0}
# No voice is lower: the lowest band holds everything below.
LOWEST_HZ = 50
# The highest level of a pause relative to the clip's mean power, for clips without pauses.
PAUSE_DB = -30
# Covered versions of a clip, which are in memory together.
AT_MOST = 300

Parts = tuple[pd.DataFrame, list[np.ndarray]]


def occlusion(
    predictor: Predictor,
    recording: str | Path | Recording,
    over: str = "time",
    width: float | None = None,
    step: float | None = None,
    emotion: str | None = None,
) -> pd.DataFrame:
    """The probability of an emotion with each part of a recording covered in turn.

    A part is replaced by noise with the spectrum of the clip's quietest frames, as in its pauses; digital silence would
    be extreme in the logarithm of many features. The clip is trimmed and normalised before it is covered: after it,
    trimming would cut off a covered end, and normalising would amplify the rest when the loudest part is covered.

    Args:
        recording: of up to `LONG_SECONDS`.
        width: of a part, in seconds (default 0.25) or, over "frequency", octaves (default 1).
        step: from the start of a part to that of the next, in the same unit, at most the width; default half of it.
        emotion: None: the predicted one.

    Returns:
        one row a part: start and end in seconds of the trimmed clip, or low_hz and high_hz; probability, with the part
        covered; change, from the probability of the whole clip: negative where the part supports the emotion. `attrs`
        holds emotion, probability (of the whole clip), over, waveform (as the model reads it) and sampling_rate.
    """
    if over not in WIDTHS:
        raise SerError(f'over must be "time" or "frequency", not {over!r}.')
    width = WIDTHS[over] if width is None else width
    step = width / 2 if step is None else step
    if not 0 < step <= width:
        raise SerError(f"step must be above 0, and at most the width ({width}), but is {step}.")
    if seconds_of(recording) > LONG_SECONDS:
        raise SerError(f"{recording}: longer than {LONG_SECONDS:.0f} s: take a piece of it.")
    whole = predictor.probabilities([recording])[0]
    emotion = predictor.emotions[int(whole.argmax())] if emotion is None else emotion
    if emotion not in predictor.emotions:
        raise SerError(f"unknown emotion {emotion!r}: the model predicts {', '.join(predictor.emotions)}.")
    column = predictor.emotions.index(emotion)
    rate = predictor.sampling_rate
    waveform = prepare(recording, **predictor.audio.model_dump() | {"pad": False})
    cover = _without_intervals if over == "time" else _without_bands
    parts, versions = cover(waveform, rate, width, step)
    answers = predictor.for_prepared_audio().probabilities([Recording(version, rate) for version in versions])
    parts["probability"] = answers[:, column]
    parts["change"] = parts["probability"] - whole[column]
    # No ndarray, since pandas compares attrs, which fails on one.
    plain = array("f", waveform.tobytes())
    parts.attrs = {"over": over, "emotion": emotion, "probability": float(whole[column])}
    parts.attrs |= {"waveform": plain, "sampling_rate": rate}
    return parts


def surest(answers: pd.DataFrame, recordings: Sequence[Recording]) -> Recording | None:
    """The recording with the highest probability in its row of `answers` among those short enough for `occlusion`."""
    highest = answers[[name for name in EMOTIONS if name in answers]].max(axis=1)
    highest[[seconds_of(recording) > LONG_SECONDS for recording in recordings]] = np.nan
    return None if highest.isna().all() else recordings[int(np.nanargmax(highest))]


def _without_intervals(waveform: np.ndarray, rate: int, width: float, step: float) -> Parts:
    """The intervals of time, and the waveform without each."""
    pause, time = pause_of(waveform, rate), np.arange(len(waveform)) / rate
    intervals, versions = _parts(len(waveform) / rate, width, step), []
    for start, end in intervals:
        # Seconds from the interval, negative inside; 10 ms before and after are faded to avoid clicks.
        distance = np.maximum(start - time, time - end)
        covered = np.clip(1 - distance / 0.01, 0, 1)
        versions.append((waveform + covered * (pause - waveform)).astype(np.float32))
    return pd.DataFrame(intervals, columns=["start", "end"]), versions


def _without_bands(waveform: np.ndarray, rate: int, width: float, step: float) -> Parts:
    """The bands, from 0 Hz to half the sampling rate, and the waveform without each."""
    spectrum, pause = _spectrum(waveform, rate), _spectrum(pause_of(waveform, rate), rate)
    hertz = np.fft.rfftfreq(2 * (len(spectrum) - 1), 1 / rate)
    octaves = np.log2(rate / 2 / LOWEST_HZ)
    bands, versions = [], []
    for start, end in _parts(octaves, width, step):
        low = LOWEST_HZ * 2**start if start > 0 else 0.0
        high = LOWEST_HZ * 2**end if end < octaves else rate / 2
        covered = (hertz >= low) & ((hertz < high) | (high == rate / 2))
        versions.append(_waveform(np.where(covered[:, None], pause, spectrum), len(waveform)))
        bands.append((low, high))
    return pd.DataFrame(bands, columns=["low_hz", "high_hz"]), versions


def _parts(total: float, width: float, step: float) -> list[tuple[float, float]]:
    """Start and end of the parts from 0 to `total`, of which only the last may be shorter than `width`."""
    count = 1 + max(0, int(np.ceil(round((total - width) / step, 6))))
    if count > AT_MOST:
        raise SerError(f"{count} parts are more than {AT_MOST}: take a longer step, or a piece of the recording.")
    return [(i * step, min(i * step + width, total)) for i in range(count)]


def pause_of(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Noise with the mean spectrum of the quietest tenth of the clip's frames, at most `PAUSE_DB` loud, the same always."""
    power = np.square(np.abs(_spectrum(waveform, rate)))
    # Two frames at each end reach beyond the clip.
    if power.shape[1] > 8:
        power = power[:, 2:-2]
    loudness = power.sum(axis=0)
    quiet = power[:, loudness <= np.quantile(loudness, 0.1)].mean(axis=1)
    highest = loudness.mean() * 10 ** (PAUSE_DB / 10)
    quiet *= min(1.0, highest / max(quiet.sum(), np.finfo(float).tiny))
    noise = _spectrum(np.random.default_rng(0).standard_normal(len(waveform)), rate)
    level = np.sqrt(quiet / np.square(np.abs(noise)).mean(axis=1))
    return _waveform(noise * level[:, None], len(waveform))


def _spectrum(waveform: np.ndarray, rate: int) -> np.ndarray:
    """The short-time Fourier transform, complex of shape (n_bins, n_frames)."""
    import librosa

    # A power of 2 of samples, about 64 ms: long enough to separate the lowest half octave from the next.
    size = 2 ** round(np.log2(0.064 * rate))
    return librosa.stft(np.pad(waveform.astype(np.float64), (0, max(0, size - len(waveform)))), n_fft=size)


def _waveform(spectrum: np.ndarray, n_samples: int) -> np.ndarray:
    """The inverse of `_spectrum`, float32."""
    import librosa

    size = 2 * (len(spectrum) - 1)
    return librosa.istft(spectrum, n_fft=size, length=max(n_samples, size))[:n_samples].astype(np.float32)
