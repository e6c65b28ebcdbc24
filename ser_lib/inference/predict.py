"""Predict the emotions of files, folders and recordings of any length, sampling rate, channel count and format."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ser_lib.audio import reading
from ser_lib.audio.decoding import check_form, shown
from ser_lib.audio.reading import Recording
from ser_lib.audio.windows import UNLIKE_SPEECH, Pieces
from ser_lib.common.errors import SerError
from ser_lib.inference.predictor import Predictor

logger = logging.getLogger(__name__)

# Clips and windows in a batch of the model.
AT_ONCE = 32

# A mapping is audio as the library datasets returns it: array, sampling_rate, and often path.
Source = str | Path | Recording | np.ndarray | Mapping[str, Any]


def predict(
    predictor: Predictor,
    sources: Source | Iterable[Source],
    sampling_rate: int | None = None,
    progress: bool = True,
    as_clips: bool = False,
) -> pd.DataFrame:
    """Predict the emotion of each recording.

    A recording of which the recipe cuts nothing, and of up to 30 s, is one clip, prepared as training prepared its
    clips. Of a longer recording, the probabilities are the mean over windows with speech, as long as the clips that the
    recipe reads: see `ser_lib.audio.windows.Pieces`.

    A file that cannot be read, or holds no speech, has its reason in the column `error` and in the log, and the others
    are predicted.

    Args:
        sources: files; folders, of which every audio file is taken; recordings; waveforms, floats of shape (n_samples,)
            or (n_samples, n_channels); or mappings of `array` and `sampling_rate`.
        sampling_rate: of the waveforms, in Hz.
        as_clips: read each recording as one clip, and cut it as training cut its clips: the test clips of a run then
            have the probabilities of its predictions.csv.

    Returns:
        one row a recording, in the order of the sources: path (or the recording's name, or "recording 0", …), emotion,
        certain (whether its probability is high enough that new speakers' answers were right in nine of ten; None: not
        known of this model), one column of probabilities an emotion, seconds (the length of the recording), heard (the seconds of it that the
        model heard), and error ("": none). After an error, emotion is None and the numbers are NaN.
    """
    listed = list(named(sources, sampling_rate))
    if not listed:
        raise SerError("there is nothing to predict: expected audio files.")
    settings = predictor.audio.model_dump()
    recordings = [Pieces(source, settings, as_clips) for _, source in listed]
    answers = _answers(predictor, recordings, [name for name, _ in listed], progress)
    rows = []
    for (name, _), pieces, answer in zip(listed, recordings, answers, strict=True):
        if isinstance(answer, SerError):
            logger.warning("%s", answer)
            numbers = dict.fromkeys([*predictor.emotions, "seconds", "heard"], np.nan)
            rows.append({"path": name, "emotion": None, "certain": None, **numbers, "error": str(answer)})
            continue
        row: dict[str, Any] = {"path": name, "emotion": predictor.emotions[int(np.argmax(answer))]}
        row["certain"] = predictor.is_certain(answer)
        row |= dict(zip(predictor.emotions, answer, strict=True))
        rows.append(row | {"seconds": pieces.seconds, "heard": pieces.heard, "error": ""})
    return pd.DataFrame(rows)


def _answers(
    predictor: Predictor, recordings: Sequence[Pieces], names: Sequence[str], progress: bool
) -> list[np.ndarray | SerError]:
    """The mean of the probabilities of each recording's pieces, or its error; the bar moves as each is read."""
    answers: list[Any] = [np.zeros(len(predictor.emotions)) for _ in recordings]
    n_pieces = np.zeros(len(recordings))
    # The number of each piece's recording, and the piece.
    batch: list[tuple[int, Recording]] = []

    def add(number: int, probabilities: np.ndarray | SerError) -> None:
        if isinstance(answers[number], SerError) or isinstance(probabilities, SerError):
            answers[number] = answers[number] if isinstance(answers[number], SerError) else probabilities
            return
        # A piece that is unlike speech.
        if not np.isnan(probabilities).any():
            answers[number] += probabilities
            n_pieces[number] += 1

    def answer_batch() -> None:
        numbers, pieces = zip(*batch, strict=True)
        for number, probabilities in zip(numbers, _probabilities(predictor, list(pieces)), strict=True):
            add(number, probabilities)
        batch.clear()

    is_quick = len(recordings) < 20
    with tqdm(recordings, "predict", unit="file", leave=False, disable=is_quick or not progress) as bar:
        for number, pieces in enumerate(bar):
            try:
                for piece in pieces:
                    batch.append((number, piece))
                    if len(batch) == AT_ONCE:
                        answer_batch()
            except SerError as error:
                add(number, error)
        if batch:
            answer_batch()
    for number in np.flatnonzero(n_pieces == 0).tolist():
        if not isinstance(answers[number], SerError):
            answers[number] = SerError(f"{names[number]}: {UNLIKE_SPEECH}")
    return [answer if isinstance(answer, SerError) else answer / n for answer, n in zip(answers, n_pieces, strict=True)]


def _probabilities(predictor: Predictor, pieces: list[Recording]) -> Sequence[np.ndarray | SerError]:
    try:
        return list(predictor.speech_probabilities(pieces))
    except SerError as error:
        if len(pieces) == 1:
            return [error]
    # One by one, so that the error of one recording is not that of all.
    return [answer for piece in pieces for answer in _probabilities(predictor, [piece])]


def named(
    sources: Source | Iterable[Source], sampling_rate: int | None
) -> Iterator[tuple[str, str | Path | Recording]]:
    """Each recording with its name in the answer and in messages."""
    if sampling_rate is not None:
        check_form("the argument sampling_rate", sampling_rate, 1)
    if isinstance(sources, str | Path | Recording | np.ndarray | Mapping):
        sources = [sources]
    for number, source in enumerate(sources):
        if isinstance(source, str | Path):
            yield from ((shown(file), file) for file in reading.expand(source))
            continue
        if isinstance(source, np.ndarray):
            if sampling_rate is None:
                raise SerError("an array has no sampling rate: pass sampling_rate=, in Hz.")
            source = Recording(source, sampling_rate)
        elif isinstance(source, Mapping) and source.get("array") is not None and source.get("sampling_rate"):
            name = source.get("path") or Recording._field_defaults["name"]
            source = Recording(np.asarray(source["array"]), source["sampling_rate"], Path(name).name)
        elif not isinstance(source, Recording):
            expected = "a path, a Recording, a NumPy array or a mapping of array and sampling_rate"
            raise SerError(f"source {number}: expected {expected}, but came {type(source).__name__}.")
        if source.name == Recording._field_defaults["name"]:
            source = source._replace(name=f"recording {number}")
        yield source.name, source
