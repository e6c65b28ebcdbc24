"""Why this answer? Cover a part of one recording, a stretch of time or a band of frequency, and ask again.

Where the probability of the emotion falls, the model needed that part (occlusion: Zeiler and Fergus 2014,
https://arxiv.org/abs/1311.2901). It asks nothing of a model but its answers, so every model here can be asked.

What it cannot tell:
- A covered clip is unlike any clip of the training. A part of each change is the model's surprise at that.
- It is about this model: what people hear the emotion by may be elsewhere, and a wrong answer has its reasons as well.
- What is said twice is not missed once: if neither of two parts changes the answer, both may matter.
"""

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ser_lib.audio.reading import Recording, prepare, seconds_of
from ser_lib.common.errors import SerError
from ser_lib.inference.predictor import LONG_SECONDS, Predictor

WIDTHS = {"time": 0.25, "frequency": 1.0}  # seconds: a syllable; octaves
LOWEST_HZ = 50  # no voice is lower: what is below belongs to the lowest band
PAUSE_SHARE = 0.1  # of a clip's frames, the quietest: what its pauses sound like
PAUSE_DB = -30  # at most, below the clip's mean power: a clip without pauses has no quiet frames
FADE_SECONDS = 0.01  # before and after a covered stretch: a click would be a sound of its own
AT_MOST = 300  # covered versions, which are in memory at once


def occlusion(
    predictor: Predictor,
    recording: str | Path | Recording,
    over: str = "time",
    width: float | None = None,
    step: float | None = None,
    emotion: str | None = None,
) -> pd.DataFrame:
    """The probability of an emotion with one part after the other of a recording covered.

    A part is covered with what the clip's own pauses sound like: noise of the spectrum of its quietest frames. Digital
    silence would be stranger to a model, since no microphone gives it and the logarithm in its features makes an
    extreme of it. The clip is trimmed and normalised first, as training did, and not again once it is covered: trimming
    would cut covered ends off, and normalising would make all the rest louder where the loudest part is covered. (A
    model that normalises what it reads by itself, as wav2vec2 does, still does.)

    Args:
        recording: one clip of up to half a minute: it is not cut into windows.
        over: "time" or "frequency".
        width: of a part, in seconds (default 0.25) or octaves (default 1).
        step: from the start of one part to that of the next, in the same unit, at most the width; default half of it.
        emotion: None: the one that the model hears.

    Returns:
        one row a part: start and end in seconds from the beginning of the trimmed clip, or low_hz and high_hz;
        probability, with the part covered; change, that minus the probability of the whole clip: negative where the
        part speaks for the emotion. `attrs` holds emotion, probability (of the whole clip), over, and for the picture
        waveform, as the model hears it, and sampling_rate.

    Raises:
        SerError: as `ser_lib.audio.reading.decode`; an argument is out of range; or there would be more than `AT_MOST` parts.
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
        raise SerError(f"the model does not know {emotion!r}: it tells {', '.join(predictor.emotions)} apart.")
    column = predictor.emotions.index(emotion)

    rate = predictor.sampling_rate
    settings = predictor.recipe.input.audio.model_dump() | {"pad": False}
    waveform = prepare(recording, **settings)
    if over == "time":
        parts, versions = _without_times(waveform, rate, width, step)
    else:
        parts, versions = _without_bands(waveform, rate, width, step)
    answers = predictor.for_prepared_audio().probabilities([Recording(version, rate) for version in versions])
    parts["probability"] = answers[:, column]
    parts["change"] = parts["probability"] - whole[column]
    parts.attrs = {
        "over": over,
        "emotion": emotion,
        "probability": float(whole[column]),
        "waveform": array("f", waveform.tobytes()),  # pandas compares attrs, which an ndarray does not stand
        "sampling_rate": rate,
    }
    return parts


def surest(answers: pd.DataFrame, recordings: Sequence[Recording]) -> Recording | None:
    """Of the recordings that are short enough for `occlusion`, the one with the highest probability; None of none.

    Args:
        answers: aligned to the recordings, as `ser_lib.inference.predict.predict` gives them.
    """
    sure = answers.drop(columns=["clip_id", "path", "emotion", "error"], errors="ignore").max(axis=1).to_numpy()
    short = [number for number, recording in enumerate(recordings) if seconds_of(recording) <= LONG_SECONDS]
    answered = [number for number in short if not np.isnan(sure[number])]
    return recordings[max(answered, key=lambda number: sure[number])] if answered else None


def _without_times(waveform: np.ndarray, rate: int, width: float, step: float) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Each stretch, and the waveform without it."""
    pause = pause_of(waveform, rate)
    time = np.arange(len(waveform)) / rate
    parts = _parts(len(waveform) / rate, width, step)
    versions = []
    for start, end in parts:
        outside = np.maximum(start - time, time - end)  # seconds from the stretch, below 0 in it
        covered = np.clip(1 - outside / FADE_SECONDS, 0, 1)
        versions.append((waveform + covered * (pause - waveform)).astype(np.float32))
    return pd.DataFrame(parts, columns=["start", "end"]), versions


def _without_bands(waveform: np.ndarray, rate: int, width: float, step: float) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Each band, and the waveform without it. The first begins at 0 Hz, the last ends at half the sampling rate."""
    spectrum, hertz = _spectrum(waveform, rate)
    pause, _ = _spectrum(pause_of(waveform, rate), rate)
    octaves = np.log2(rate / 2 / LOWEST_HZ)
    bands, versions = [], []
    for start, end in _parts(octaves, width, step):
        low = LOWEST_HZ * 2**start if start > 0 else 0.0
        high = LOWEST_HZ * 2**end if end < octaves else rate / 2
        covered = (hertz >= low) & ((hertz < high) | (high == rate / 2))
        versions.append(_waveform(np.where(covered[:, None], pause, spectrum), rate, len(waveform)))
        bands.append((low, high))
    return pd.DataFrame(bands, columns=["low_hz", "high_hz"]), versions


def _parts(total: float, width: float, step: float) -> list[tuple[float, float]]:
    """From 0 to `total`, each `width` long but perhaps the last."""
    count = 1 + max(0, int(np.ceil(round((total - width) / step, 6))))
    if count > AT_MOST:
        raise SerError(
            f"{count} parts would be covered one by one, and {AT_MOST} are the most: take a longer step, or a shorter "
            "piece of the recording."
        )
    return [(i * step, min(i * step + width, total)) for i in range(count)]


def pause_of(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Noise as long as the clip, with the mean spectrum of its quietest frames, at most `PAUSE_DB` loud; float32.

    The same for the same clip, every time. A clip with digital silence in it gets digital silence.
    """
    spectrum, _ = _spectrum(waveform, rate)
    power = np.square(np.abs(spectrum))
    if power.shape[1] > 8:  # two frames at each end reach beyond the clip
        power = power[:, 2:-2]
    loudness = power.sum(axis=0)
    quiet = power[:, loudness <= np.quantile(loudness, PAUSE_SHARE)].mean(axis=1)
    most = loudness.mean() * 10 ** (PAUSE_DB / 10)
    quiet *= min(1.0, most / max(quiet.sum(), np.finfo(float).tiny))
    noise, _ = _spectrum(np.random.default_rng(0).standard_normal(len(waveform)), rate)
    level = np.sqrt(quiet / np.square(np.abs(noise)).mean(axis=1))
    return _waveform(noise * level[:, None], rate, len(waveform))


def _spectrum(waveform: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Short-time Fourier transform, complex of shape (n_bins, n_frames), and the frequency of each bin in Hz."""
    import librosa

    size = _frame_size(rate)
    padded = np.pad(waveform.astype(np.float64), (0, max(0, size - len(waveform))))
    return librosa.stft(padded, n_fft=size), np.fft.rfftfreq(size, 1 / rate)


def _waveform(spectrum: np.ndarray, rate: int, n_samples: int) -> np.ndarray:
    """The inverse of `_spectrum`, float32."""
    import librosa

    whole = librosa.istft(spectrum, n_fft=_frame_size(rate), length=max(n_samples, _frame_size(rate)))
    return whole[:n_samples].astype(np.float32)


def _frame_size(rate: int) -> int:
    """A power of 2 of samples, about 64 ms: long enough to tell the lowest half octave from the next."""
    return 2 ** round(np.log2(0.064 * rate))
