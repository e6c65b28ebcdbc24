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
import soxr
from tqdm import tqdm

from ser_lib.audio import reading, vad
from ser_lib.audio.reading import MIN_SECONDS, Recording
from ser_lib.common.errors import SerError
from ser_lib.inference.predictor import Predictor

# Where the recipe takes clips of any length.
WINDOW_SECONDS = 3.0
HOP_SECONDS = 1.0
# The share of a window's frames; with less speech the model would predict the emotion of a noise.
MIN_SPEECH = 0.2
# The part of a file in memory.
BLOCK_SECONDS = 30.0
# Windows in a batch of the model.
AT_ONCE = 32
# More than a picture has pixels across.
ENVELOPE_POINTS = 2000


class Stream:
    """Takes audio in pieces of any size and returns a row for each window as soon as it is complete.

    The size of the pieces changes no result. The stream keeps no more audio than one window.

    Args:
        sampling_rate: of the audio, in Hz, which is resampled to the predictor's; None: the predictor's.
        window_seconds: length of a window, at least 0.1; None: what the recipe reads of a clip, or `WINDOW_SECONDS`.
        hop_seconds: from the start of a window to that of the next, from 0.01 to a window; None: `HOP_SECONDS`.
        smoothing_seconds: time constant of the exponential mean over the windows so far, and pauses; 0: none.
        detector: of speech: "energy", "silero" or "none" (see `ser_lib.audio.vad`).
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
    ):
        audio = predictor.recipe.input.audio
        if window_seconds is None:
            window_seconds = WINDOW_SECONDS if audio.max_seconds is None else audio.offset_seconds + audio.max_seconds
        hop_seconds = min(HOP_SECONDS, window_seconds) if hop_seconds is None else hop_seconds
        if not 0.1 <= window_seconds < np.inf:
            raise SerError(f"a window must be 0.1 s or more, not {window_seconds} s.")
        if not 0.01 <= hop_seconds <= window_seconds:
            limits = f"0.01 s or more, and no more than the window of {window_seconds:g} s"
            raise SerError(f"the hop must be {limits}, so that no audio is skipped, but is {hop_seconds} s.")
        if not 0 <= smoothing_seconds < np.inf:
            raise SerError(f"smoothing_seconds must be 0 (none) or more, not {smoothing_seconds}.")
        if sampling_rate is not None and not sampling_rate > 0:
            raise SerError(f"a sampling rate must be above 0 Hz, not {sampling_rate}.")
        self.predictor, self.name, self.smoothing_seconds = predictor, "the stream", smoothing_seconds
        self.rate = predictor.sampling_rate
        self.sampling_rate = sampling_rate or self.rate
        self._window, self._hop = round(window_seconds * self.rate), round(hop_seconds * self.rate)
        self._detector = vad.detector(detector, self.rate)
        # At equal rates it returns the samples unchanged and without delay.
        self._resampler = soxr.ResampleStream(self.sampling_rate, self.rate, 1, dtype="float32")
        # The samples that are kept, the position of the first of them, and that of the next window.
        self._samples, self._first, self._next = np.zeros(0, np.float32), 0, 0
        # The detector's flags of all frames so far, a byte each.
        self._flags, self._finished = bytearray(), False
        # The smoothed probabilities, and the sample at which they were computed.
        self._mean, self._mean_at = np.zeros(0), 0

    def push(self, samples: np.ndarray) -> pd.DataFrame:
        """Add the next samples, as of a `Recording`, and return the windows that are now complete, often none.

        Returns:
            start and end in seconds, speech (the share of the window with speech, 0 to 1), emotion, and one column of
            probabilities an emotion. With too little speech, emotion is None and the probabilities are NaN.
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
        waveform = self._resampler.resample_chunk(waveform, last=last)
        self._samples = np.append(self._samples, waveform)
        self._flags += self._detector.push(waveform).tobytes()
        end = self._first + len(self._samples)
        # The last frame is incomplete.
        while last and len(self._flags) <= self._frames_until(end):
            silence = np.zeros(round(self._detector.frame_seconds * self.rate), np.float32)
            self._flags += self._detector.push(silence).tobytes()
        spans, covered = [], self._next - self._hop + self._window if self._next else 0
        # A detector that resamples has a delay.
        while self._next + self._window <= end and self._frames_until(self._next + self._window) <= len(self._flags):
            covered = self._next + self._window
            spans.append((self._next, covered))
            self._next += self._hop
        if last and end > covered and end >= MIN_SECONDS * self.rate:
            spans.append((max(0, end - self._window), end))
        rows = self._rows(spans)
        # The recording's last window may begin before the next one would. A copy, since a view would keep everything.
        first = max(self._first, min(self._next, end - self._window))
        self._samples, self._first = self._samples[first - self._first :].copy(), first
        return rows

    def _frames_until(self, sample: int) -> int:
        """The number of the detector's frames that end by that sample."""
        return int(sample / self.rate / self._detector.frame_seconds + 1e-6)

    def _rows(self, spans: list[tuple[int, int]]) -> pd.DataFrame:
        emotions, seconds = self.predictor.emotions, np.array(spans, float).reshape(-1, 2) / self.rate
        speech = np.zeros(len(spans))
        for row, (start, end) in enumerate(spans):
            first, after = self._frames_until(start), self._frames_until(end)
            speech[row] = np.frombuffer(self._flags[first : max(first + 1, after)], np.uint8).mean()
        spoken = np.flatnonzero(speech >= MIN_SPEECH).tolist()
        probabilities = np.full((len(spans), len(emotions)), np.nan)
        for first in range(0, len(spoken), AT_ONCE):
            batch, windows = spoken[first : first + AT_ONCE], []
            for start, end in (spans[row] for row in batch):
                name = f"{self.name}, {start / self.rate:g} to {end / self.rate:g} s"
                windows.append(Recording(self._samples[start - self._first : end - self._first], self.rate, name))
            probabilities[batch] = self.predictor.probabilities(windows)
        names = pd.Series([None] * len(spans), dtype=object)
        for row in spoken:
            if len(self._mean) and self.smoothing_seconds > 0:
                past = np.exp((self._mean_at - spans[row][1]) / self.rate / self.smoothing_seconds)
                probabilities[row] = past * self._mean + (1 - past) * probabilities[row]
            self._mean, self._mean_at = probabilities[row].copy(), spans[row][1]
            names[row] = emotions[int(np.argmax(self._mean))]
        table = pd.DataFrame({"start": seconds[:, 0], "end": seconds[:, 1], "speech": speech, "emotion": names})
        return table.assign(**dict(zip(emotions, probabilities.T, strict=True)))


def timeline(
    predictor: Predictor, source: str | Path | Recording, *, progress: bool = True, **settings
) -> pd.DataFrame:
    """The emotions of a whole recording over time, at least one row, as of `Stream.push`; the audio is read in blocks.

    The settings are those of `Stream`. For `ser_lib.reports.plots.timeline`, `attrs` holds the recording's name and its
    waveform's envelope.
    """
    seconds = reading.seconds_of(source)
    shape: dict[str, Any] = {"unit": "s", "bar_format": "{l_bar}{bar}| {n:.0f}/{total_fmt} s [{elapsed}<{remaining}]"}
    tables: list[pd.DataFrame] = []
    with tqdm(total=math.ceil(seconds), desc="timeline", leave=False, delay=0.5, disable=not progress, **shape) as bar:
        for samples, rate in reading.blocks(source, BLOCK_SECONDS):
            if not tables:
                stream, envelope = Stream(predictor, rate, **settings), Envelope(seconds, rate)
                stream.name = str(source)
            tables.append(stream.push(samples))
            envelope.push(reading.mix_down(samples))
            bar.update(len(samples) / rate)
    tables.append(stream.finish())
    table = pd.concat([table for table in tables if len(table)], ignore_index=True)
    # Plain lists, since pandas compares attrs when it joins tables, which fails on arrays.
    table.attrs = {"name": Path(stream.name).name, "envelope": envelope.as_lists()}
    return table


class Envelope:
    """The lowest and highest samples in up to `ENVELOPE_POINTS` equal intervals of `seconds`; the last holds the rest."""

    def __init__(self, seconds: float, sampling_rate: int):
        self._rate, self._step, self._n_samples = sampling_rate, max(1, sampling_rate // 100), 0
        expected = max(1, round(seconds * sampling_rate))
        while expected > ENVELOPE_POINTS * self._step:
            self._step *= 2
        n_points = math.ceil(expected / self._step)
        self._low, self._high = (np.full(n_points, limit, np.float32) for limit in (np.inf, -np.inf))

    def push(self, waveform: np.ndarray) -> None:
        """Add the next samples, float of shape (n_samples,)."""
        samples = np.arange(self._n_samples, self._n_samples + len(waveform))
        points = np.minimum(samples // self._step, len(self._low) - 1)
        np.minimum.at(self._low, points, waveform)
        np.maximum.at(self._high, points, waveform)
        self._n_samples += len(waveform)

    def as_lists(self) -> dict[str, list[float]]:
        """Lists of equal length: time (the middles of the intervals, in seconds), low and high."""
        low, high = (ends[np.isfinite(ends)].tolist() for ends in (self._low, self._high))
        return {"time": [(i + 0.5) * (self._step / self._rate) for i in range(len(low))], "low": low, "high": high}


def stretches(table: pd.DataFrame) -> pd.DataFrame:
    """A timeline in short, from, to and emotion (None: no speech): successive windows of one emotion joined to one row.

    Windows overlap, so each stands for the time around its middle, half-way to the middles of its neighbours.
    """
    middles = (table["start"] + table["end"]) / 2
    begins = ((middles + middles.shift()) / 2).fillna(table["start"])
    names = table["emotion"].where(table["emotion"].notna(), "")
    is_first = names != names.shift()
    short = pd.DataFrame({"from": begins, "emotion": table["emotion"].astype(object)})[is_first].reset_index(drop=True)
    short.insert(1, "to", short["from"].shift(-1).fillna(table["end"].iloc[-1]))
    return short
