"""Predict the emotions of files, folders and recordings of any length, sampling rate, channel count and format."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ser_lib.audio import reading
from ser_lib.audio.reading import Recording
from ser_lib.common.errors import SerError
from ser_lib.inference.predictor import LONG_SECONDS, Predictor
from ser_lib.inference.streaming import timeline

logger = logging.getLogger(__name__)

# Recordings in memory.
AT_ONCE = 32

Source = str | Path | Recording | np.ndarray


def predict(
    predictor: Predictor, sources: Source | Iterable[Source], sampling_rate: int | None = None, progress: bool = True
) -> pd.DataFrame:
    """Predict the emotion of each recording.

    A recording of up to `LONG_SECONDS` is one clip, prepared as training prepared its clips. Of a longer recording,
    the probabilities are the mean over the windows with speech of `ser_lib.inference.streaming.timeline`. A file that
    cannot be read has its reason in the column `error` and in the log, and the others are predicted.

    Args:
        sources: files; folders, of which every audio file is taken; recordings; or waveforms, floats of shape
            (n_samples,) or (n_samples, n_channels).
        sampling_rate: of the waveforms, in Hz.

    Returns:
        one row a recording, in the order of the sources: path (or the recording's name, or "recording 0", …), emotion,
        one column of probabilities an emotion, and error ("": none). After an error, emotion is None and the
        probabilities are NaN.
    """
    named = list(_named(sources, sampling_rate))
    if not named:
        raise SerError(f"there is nothing to predict: expected audio files ({' '.join(reading.SUFFIXES)}).")
    is_quick = len(named) < 20
    answers: list[np.ndarray | SerError] = []
    with tqdm(total=len(named), desc="predict", unit="file", leave=False, disable=is_quick or not progress) as bar:
        for start in range(0, len(named), AT_ONCE):
            answers += _answers(predictor, [source for _, source in named[start : start + AT_ONCE]], bar)
    rows = []
    for (name, _), answer in zip(named, answers, strict=True):
        emotion, error, probabilities = None, "", np.full(len(predictor.emotions), np.nan)
        if isinstance(answer, SerError):
            logger.warning("%s", answer)
            error = str(answer)
        else:
            emotion, probabilities = predictor.emotions[int(np.argmax(answer))], answer
        by_emotion = dict(zip(predictor.emotions, probabilities, strict=True))
        rows.append({"path": name, "emotion": emotion, **by_emotion, "error": error})
    return pd.DataFrame(rows)


def _named(
    sources: Source | Iterable[Source], sampling_rate: int | None
) -> Iterator[tuple[str, str | Path | Recording]]:
    """Each recording with its name in the answer and in messages."""
    if sampling_rate is not None and not sampling_rate > 0:
        raise SerError(f"a sampling rate must be above 0 Hz, not {sampling_rate}.")
    if isinstance(sources, str | Path | Recording | np.ndarray):
        sources = [sources]
    for number, source in enumerate(sources):
        if isinstance(source, str | Path):
            yield from ((str(file), file) for file in reading.expand(source))
            continue
        if isinstance(source, np.ndarray):
            if sampling_rate is None:
                raise SerError("an array has no sampling rate: pass sampling_rate=, in Hz.")
            source = Recording(source, sampling_rate)
        elif not isinstance(source, Recording):
            raise SerError(
                f"source {number}: expected a path, a Recording or a NumPy array, but came {type(source).__name__}."
            )
        if source.name == Recording._field_defaults["name"]:
            source = source._replace(name=f"recording {number}")
        yield source.name, source


def _answers(predictor: Predictor, sources: Sequence[str | Path | Recording], bar: tqdm) -> list[np.ndarray | SerError]:
    """The probabilities of each recording, or its error; the bar moves as each is read."""
    answers: dict[int, np.ndarray | SerError] = {}
    clips: dict[int, Recording] = {}
    for number, source in enumerate(sources):
        try:
            if reading.seconds_of(source) > LONG_SECONDS:
                windows = timeline(predictor, source, smoothing_seconds=0.0, progress=False)[
                    predictor.emotions
                ].dropna()
                if windows.empty:
                    advice = f"Try a shorter piece of it, of up to {LONG_SECONDS:.0f} s"
                    raise SerError(f"{source}: no speech was detected. {advice}.")
                answers[number] = windows.mean().to_numpy()
            else:
                clips[number] = reading.decode_audible(source)
        except SerError as error:
            answers[number] = error
        bar.update()
    try:
        answers |= zip(clips, predictor.probabilities(list(clips.values())) if clips else [], strict=True)
    except SerError:
        # One by one, so that the error of one recording is not that of all.
        for number, clip in clips.items():
            try:
                answers[number] = predictor.probabilities([clip])[0]
            except SerError as error:
                answers[number] = error
    return [answers[number] for number in range(len(sources))]
