"""Audio in, emotions out: files, folders and recordings, of any length, rate, channel count and format."""

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

AT_ONCE = 32  # recordings in memory
MIN_FOR_BAR = 20

Source = str | Path | Recording | np.ndarray


def predict(
    predictor: Predictor, sources: Source | Iterable[Source], sampling_rate: int | None = None, progress: bool = True
) -> pd.DataFrame:
    """Say which emotion is heard in each recording.

    A recording of up to `LONG_SECONDS` is one clip, prepared as training prepared its clips; a longer one gets the mean
    of its windows with speech, as `ser_lib.inference.streaming.timeline` cuts them. What cannot be read is named in the column
    `error` and in a logged line, and all others are answered.

    Args:
        sources: files; folders, of which every audio file is taken; recordings; or waveforms, floats of shape
            (n_samples,) or (n_samples, n_channels).
        sampling_rate: of the waveforms that are bare arrays, in Hz.

    Returns:
        one row a recording, in their order: path (its name, or "recording 0", … for what is no file), emotion, one column of
        probabilities an emotion, and error, which is "" where all went well. An error's emotion is None and its
        probabilities are NaN.

    Raises:
        SerError: nothing was given, or an array without its sampling rate.
    """
    named = list(_named(sources, sampling_rate))
    if not named:
        raise SerError(f"there is nothing to predict: expected audio files ({' '.join(reading.SUFFIXES)}).")
    bar = tqdm(
        total=len(named), desc="predict", unit="file", leave=False, disable=not progress or len(named) < MIN_FOR_BAR
    )
    answers: list[np.ndarray | SerError] = []
    with bar:
        for start in range(0, len(named), AT_ONCE):
            batch = [source for _, source in named[start : start + AT_ONCE]]
            answers += _answers(predictor, batch, bar)
    rows = []
    for (name, _), answer in zip(named, answers, strict=True):
        failed = isinstance(answer, SerError)
        if failed:
            logger.warning("%s", answer)
        told = np.full(len(predictor.emotions), np.nan) if failed else answer
        rows.append(
            {
                "path": name,
                "emotion": None if failed else predictor.emotions[int(np.argmax(answer))],
                **dict(zip(predictor.emotions, told, strict=True)),
                "error": str(answer) if failed else "",
            }
        )
    return pd.DataFrame(rows)


def _named(
    sources: Source | Iterable[Source], sampling_rate: int | None
) -> Iterator[tuple[str, str | Path | Recording]]:
    """Every single recording with the name that it is told by."""
    if sampling_rate is not None and not sampling_rate > 0:
        raise SerError(f"a sampling rate must be above 0 Hz, not {sampling_rate}.")
    if isinstance(sources, str | Path | Recording | np.ndarray):
        sources = [sources]
    for number, source in enumerate(sources):
        name = f"recording {number}"
        if isinstance(source, str | Path):
            for file in reading.expand(source):
                yield str(file), file
        elif isinstance(source, Recording):
            named = source.name != Recording._field_defaults["name"]
            yield source.name if named else name, source if named else source._replace(name=name)
        elif isinstance(source, np.ndarray):
            if sampling_rate is None:
                raise SerError("an array does not tell its sampling rate: pass sampling_rate=, in Hz.")
            yield name, Recording(source, sampling_rate, name)
        else:
            raise SerError(
                f"source {number}: expected a path, a Recording or a NumPy array, but came {type(source).__name__}."
            )


def _answers(predictor: Predictor, batch: Sequence[str | Path | Recording], bar: tqdm) -> list[np.ndarray | SerError]:
    """Probabilities of each recording, or the error of what cannot be read; the bar moves with each that is read."""
    answers: list = [None] * len(batch)
    short = {}
    for number, source in enumerate(batch):
        try:
            if reading.seconds_of(source) > LONG_SECONDS:
                answers[number] = _of_windows(predictor, source)
            else:
                short[number] = reading.decode_audible(source)
        except SerError as error:
            answers[number] = error
        bar.update()
    try:
        found = predictor.probabilities(list(short.values())) if short else []
    except SerError:  # one by one, so that it spoils no other's answer
        found = [_answer_or_error(predictor, recording) for recording in short.values()]
    for number, answer in zip(short, found, strict=True):
        answers[number] = answer
    return answers


def _answer_or_error(predictor: Predictor, recording: Recording) -> np.ndarray | SerError:
    try:
        return predictor.probabilities([recording])[0]
    except SerError as error:
        return error


def _of_windows(predictor: Predictor, source: str | Path | Recording) -> np.ndarray:
    """The mean of a long recording's windows."""
    windows = timeline(predictor, source, smoothing_seconds=0.0, progress=False).dropna(subset=predictor.emotions)
    if windows.empty:
        raise SerError(
            f"{source}: no speech was found in it. Try it in a shorter piece, of up to {LONG_SECONDS:.0f} s."
        )
    return windows[predictor.emotions].mean().to_numpy()
