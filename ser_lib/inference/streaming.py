"""The emotion over time, of a long recording or of one that is still going on.

    stream = Stream(run.predictor(), 48000)
    while recording:
        print(stream.push(microphone.read(4800)))

The audio is divided into overlapping windows, each prepared as training prepared its clips. A file is read through a
`Stream` as well, so the result is the same live and from a file.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ser_lib.audio import reading
from ser_lib.audio.decoding import check_form
from ser_lib.audio.reading import Recording
from ser_lib.audio.windows import BLOCK_SECONDS, Window, Windows, is_spoken
from ser_lib.common.errors import SerError
from ser_lib.inference.predictor import Predictor
from ser_lib.models.profiles import Profile, RunningProfile

# Windows in a batch of the model.
AT_ONCE = 32
# More than a picture has pixels across.
ENVELOPE_POINTS = 2000


class Stream:
    """Takes audio in pieces of any size and returns a row for each window as soon as it is complete.

    The size of the pieces changes no result. The stream keeps no more audio than one window.

    Args:
        sampling_rate: of the audio, in Hz, which is resampled to the predictor's; None: the predictor's.
        window_seconds: length of a window; None: what the recipe reads of a clip, or else as of `Windows`.
        hop_seconds: from the start of a window to that of the next; None: as of `ser_lib.audio.windows.Windows`.
        smoothing_seconds: time constant of the exponential mean over the windows so far, and pauses; 0: none.
        detector: of speech: "energy", "silero" or "none" (see `ser_lib.audio.vad`).
        learn_speaker: the recording has one speaker, whose profile is that of its windows so far.
    """

    def __init__(
        self,
        predictor: Predictor,
        sampling_rate: int | None = None,
        *,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        smoothing_seconds: float = 2.0,
        detector: str = "energy",
        learn_speaker: bool = False,
    ):
        if not 0 <= smoothing_seconds < np.inf:
            raise SerError(f"smoothing_seconds must be 0 (none) or more, not {smoothing_seconds}.")
        self.predictor, self.name, self.smoothing_seconds = predictor, "the stream", smoothing_seconds
        self.rate = predictor.sampling_rate
        self.sampling_rate = self.rate if sampling_rate is None else sampling_rate
        check_form(self.name, self.sampling_rate, 1)
        if window_seconds is None:
            window_seconds = predictor.audio.longest_seconds
        self._windows = Windows(self.sampling_rate, self.rate, window_seconds, hop_seconds, detector)
        self._finished = False
        if learn_speaker and not predictor.takes_profile:
            raise SerError(f"the model of {predictor.name} learns nothing of a speaker: take one of speech-emotion.")
        self._speaker = RunningProfile() if learn_speaker else None
        # The smoothed probabilities, and the sample at which they were computed.
        self._mean, self._mean_at = np.zeros(0), 0

    def push(self, samples: np.ndarray) -> pd.DataFrame:
        """Add the next samples, as of a `Recording`, and return the windows that are now complete, often none.

        Returns:
            start and end in seconds, speech (the share of the window with speech, 0 to 1), emotion, certain (as of
            `ser_lib.inference.predict.predict`), and one column of probabilities an emotion. With too little speech, or
            sound unlike speech, emotion is None and the probabilities are NaN.
        """
        samples = reading.samples_of(Recording(samples, self.sampling_rate, self.name))
        return self._read(reading.mix_down(samples))

    def finish(self) -> pd.DataFrame:
        """End the recording and return the last windows, of which the last ends at the end of the recording.

        A recording shorter than a window has one row, and one below `MIN_SECONDS` none.
        """
        return self._read(np.zeros(0, np.float32), last=True)

    def _read(self, waveform: np.ndarray, last: bool = False) -> pd.DataFrame:
        """The rows of the windows that the next samples complete; after the last samples, of all that remain."""
        if self._finished:
            raise SerError(f"{self.name} is finished: begin a new Stream for another recording.")
        self._finished = last
        return self._rows(self._windows.push(waveform, last))

    def _rows(self, windows: list[Window]) -> pd.DataFrame:
        emotions = self.predictor.emotions
        with_speech = [row for row, window in enumerate(windows) if is_spoken(window)]
        probabilities = np.full((len(windows), len(emotions)), np.nan)
        for first in range(0, len(with_speech), AT_ONCE):
            batch, recordings = with_speech[first : first + AT_ONCE], []
            for window in (windows[row] for row in batch):
                name = f"{self.name}, {window.start / self.rate:g} to {window.end / self.rate:g} s"
                recordings.append(Recording(window.waveform, self.rate, name))
            probabilities[batch] = self._answers(recordings)
        names: list[str | None] = [None] * len(windows)
        certain: list[bool | None] = [None] * len(windows)
        for row in np.flatnonzero(~np.isnan(probabilities).any(axis=1)).tolist():
            end = windows[row].end
            if len(self._mean) and self.smoothing_seconds > 0:
                past = np.exp((self._mean_at - end) / self.rate / self.smoothing_seconds)
                probabilities[row] = past * self._mean + (1 - past) * probabilities[row]
            self._mean, self._mean_at = probabilities[row].copy(), end
            names[row] = emotions[int(np.argmax(self._mean))]
            certain[row] = self.predictor.is_certain(self._mean)
        seconds = np.array([(window.start, window.end) for window in windows], float).reshape(-1, 2) / self.rate
        table = pd.DataFrame({"start": seconds[:, 0], "end": seconds[:, 1]})
        table = table.assign(speech=np.array([window.speech for window in windows], float))
        table = table.assign(emotion=pd.Series(names, dtype=object), certain=pd.Series(certain, dtype=object))
        return table.assign(**dict(zip(emotions, probabilities.T, strict=True)))

    def _answers(self, recordings: list[Recording]) -> np.ndarray:
        """Probabilities of windows, NaN where they are unlike speech; of one speaker, with all windows up to each."""
        if self._speaker is None:
            return self.predictor.speech_probabilities(recordings)
        answers = self.predictor.answers(recordings)
        inputs = np.asarray(answers.inputs)
        means, counts = np.zeros_like(inputs), np.zeros((len(inputs), 1), np.float32)
        for row in range(len(inputs)):
            if answers.is_speech[row]:
                self._speaker.add(inputs[row], int(answers.probabilities[row].argmax()))
            if len(self._speaker):
                so_far = self._speaker.profile()
                means[row], counts[row] = so_far.mean, so_far.count
        known = self.predictor.answers(recordings, Profile(means, counts)).probabilities
        return np.where(answers.is_speech[:, None], known, np.nan)


def timeline(
    predictor: Predictor, source: str | Path | Recording, *, progress: bool = True, **settings
) -> pd.DataFrame:
    """The emotions of a whole recording over time, at least one row, as of `Stream.push`; the audio is read in blocks.

    The settings are those of `Stream`. For `ser_lib.reports.plots.timeline`, `attrs` holds the recording's name and its
    waveform's envelope.
    """
    shape: dict[str, Any] = {"unit": "s", "bar_format": "{l_bar}{bar}| {n:.0f}/{total_fmt} s [{elapsed}<{remaining}]"}
    shape |= {"desc": "timeline", "leave": False, "delay": 0.5, "disable": not progress}
    with reading.opened(source) as audio:
        stream, envelope = Stream(predictor, audio.sampling_rate, **settings), Envelope(audio.sampling_rate)
        stream.name = audio.name
        tables: list[pd.DataFrame] = []
        with tqdm(total=None if audio.seconds is None else math.ceil(audio.seconds), **shape) as bar:
            for samples in audio.blocks(BLOCK_SECONDS):
                tables.append(stream.push(samples))
                envelope.push(reading.mix_down(samples))
                bar.update(len(samples) / audio.sampling_rate)
        tables.append(stream.finish())
    table = pd.concat([table for table in tables if len(table)], ignore_index=True)
    # Plain lists, since pandas compares attrs when it joins tables, which fails on arrays.
    table.attrs = {"name": Path(stream.name).name, "envelope": envelope.as_lists()}
    return table


class Envelope:
    """The lowest and highest samples in up to `ENVELOPE_POINTS` equal intervals, which grow with the recording."""

    def __init__(self, sampling_rate: int):
        self._rate, self._step, self._n_samples = sampling_rate, max(1, sampling_rate // 100), 0
        self._low, self._high = (np.full(ENVELOPE_POINTS, limit, np.float32) for limit in (np.inf, -np.inf))

    def push(self, waveform: np.ndarray) -> None:
        """Add the next samples, float of shape (n_samples,)."""
        n_samples = self._n_samples + len(waveform)
        while n_samples > ENVELOPE_POINTS * self._step:
            # Two intervals become one.
            self._step *= 2
            for ends, joined in ((self._low, np.minimum), (self._high, np.maximum)):
                half = joined.reduceat(ends, np.arange(0, ENVELOPE_POINTS, 2))
                ends[: len(half)], ends[len(half) :] = half, np.inf if ends is self._low else -np.inf
        points = np.arange(self._n_samples, n_samples) // self._step
        np.minimum.at(self._low, points, waveform)
        np.maximum.at(self._high, points, waveform)
        self._n_samples = n_samples

    def as_lists(self) -> dict[str, list[float]]:
        """Lists of equal length: time (the middles of the intervals, in seconds), low and high."""
        low, high = (ends[np.isfinite(ends)].tolist() for ends in (self._low, self._high))
        return {"time": [(i + 0.5) * (self._step / self._rate) for i in range(len(low))], "low": low, "high": high}


def stretches(table: pd.DataFrame) -> pd.DataFrame:
    """A timeline in short, from, to and emotion (None: no speech): successive windows of one emotion joined to one row.

    An emotion with a question mark, such as "happy?", is that of windows whose answer is not certain.

    Windows overlap, so each stands for the time around its middle, half-way to the middles of its neighbours.
    """
    middles = (table["start"] + table["end"]) / 2
    begins = ((middles + middles.shift()) / 2).fillna(table["start"])
    certain = table["certain"] if "certain" in table else [None] * len(table)
    # One by one: with pyarrow, pandas cannot add text to a column in which every emotion is missing.
    shown = pd.Series(
        [
            emotion if pd.isna(emotion) else emotion + "?" * (is_certain is False)
            for emotion, is_certain in zip(table["emotion"], certain, strict=True)
        ],
        index=table.index,
        dtype=object,
    )
    names = shown.where(shown.notna(), "")
    is_first = names != names.shift()
    short = pd.DataFrame({"from": begins, "emotion": shown})[is_first].reset_index(drop=True)
    short.insert(1, "to", short["from"].shift(-1).fillna(table["end"].iloc[-1]))
    return short
