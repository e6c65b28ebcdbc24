"""Which emotion is heard when: in a long recording, or in one that is still going on.

    stream = Stream(run.predictor(), 48000)
    while recording:
        print(stream.push(microphone.read(4800)))

The audio is heard in windows that overlap, each prepared as training prepared its clips. Reading a file is the same
in larger pieces, so a recording gets the same answers live and afterwards.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import soxr
from tqdm import tqdm

from ser_lib.audio import reading, vad
from ser_lib.audio.reading import MIN_SECONDS, Recording
from ser_lib.common.errors import SerError
from ser_lib.inference.predictor import Predictor
from ser_lib.recipes import Recipe

WINDOW_SECONDS = 3.0  # where the recipe takes clips of any length
HOP_SECONDS = 1.0
MIN_SPEECH = 0.2  # of a window's frames; in less a model would hear an emotion in the room
BLOCK_SECONDS = 30.0  # of a file in memory
AT_ONCE = 32  # windows that the model gets together
ENVELOPE_POINTS = 2000  # more than a picture has pixels across


class Stream:
    """Audio goes in as it comes, and rows come out as soon as their windows are complete.

    How the audio is cut into pushes changes no answer. No more of it is kept than one window.

    Args:
        sampling_rate: of what is pushed, in Hz; None: the predictor's, to which all else is resampled.
        window_seconds: None: as much as the recipe reads of a clip, or `WINDOW_SECONDS`.
        hop_seconds: from one window's start to the next one's, no more than a window; None: `HOP_SECONDS`, or a window
            where that is shorter.
        smoothing_seconds: time constant of an exponential mean over the windows so far; 0: each by itself. After a
            pause earlier windows count as much less as it was long.
        detector: of speech, as of `ser_lib.audio.vad.detector`.

    Raises:
        SerError: one of these is out of its range, or the detector cannot be had.
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
        window_seconds = default_window(predictor.recipe) if window_seconds is None else window_seconds
        hop_seconds = min(HOP_SECONDS, window_seconds) if hop_seconds is None else hop_seconds
        if not 0.1 <= window_seconds < np.inf:
            raise SerError(f"a window must be 0.1 s or more, not {window_seconds} s.")
        if not 0.01 <= hop_seconds <= window_seconds:
            raise SerError(
                f"the hop must be 0.01 s or more, and no more than the window of {window_seconds:g} s, so that all "
                f"is heard, but is {hop_seconds} s."
            )
        if not 0 <= smoothing_seconds < np.inf:
            raise SerError(f"smoothing_seconds must be 0 (none) or more, not {smoothing_seconds}.")
        if sampling_rate is not None and not sampling_rate > 0:
            raise SerError(f"a sampling rate must be above 0 Hz, not {sampling_rate}.")
        self.predictor, self.name = predictor, "the stream"
        self.rate = predictor.sampling_rate
        self.sampling_rate = sampling_rate or self.rate
        self.smoothing_seconds = smoothing_seconds
        self._window, self._hop = round(window_seconds * self.rate), round(hop_seconds * self.rate)
        self._detector = vad.detector(detector, self.rate)
        self._resampler = (
            None
            if self.sampling_rate == self.rate
            else soxr.ResampleStream(self.sampling_rate, self.rate, 1, dtype="float32")
        )
        self._samples, self._first_sample = np.zeros(0, np.float32), 0  # what is kept, and where it begins
        self._flags, self._first_flag = np.zeros(0, bool), 0  # of the detector's frames, and likewise
        self._next = 0  # where the next window starts; this and all below in samples
        self._covered = 0  # the end of the last complete one
        self._mean, self._mean_at = None, 0
        self._finished = False

    def push(self, samples: np.ndarray) -> pd.DataFrame:
        """Hear what comes next.

        Args:
            samples: float of shape (n_samples,) or (n_samples, n_channels), any number of them, nominally within ±1.

        Returns:
            one row a window that is now complete, often none: start and end in seconds, speech (the part of it in
            which somebody speaks, 0 to 1), emotion, and one column of probabilities an emotion. With too little
            speech the emotion is None and the probabilities are NaN.

        Raises:
            SerError: samples are of another kind or hold NaN, or the stream is finished.
        """
        self._refuse_if_finished()
        samples = reading.samples_of(Recording(samples, self.sampling_rate, self.name))
        reading.check_finite(self.name, samples)
        waveform = reading.mix_down(samples)
        self._hear(waveform if self._resampler is None else self._resampler.resample_chunk(waveform))
        return self._rows(self._complete())

    def finish(self) -> pd.DataFrame:
        """The end of the recording: what no window has covered gets a last one, which ends there.

        A recording shorter than one window gives one row, and one shorter than `ser_lib.audio.reading.MIN_SECONDS` none.
        """
        self._refuse_if_finished()
        self._finished = True
        if self._resampler is not None:
            self._hear(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        end = self._end
        while self._first_flag + len(self._flags) <= self._frames_until(end):  # the last frame is cut short
            silence = np.zeros(round(self._detector.frame_seconds * self.rate), np.float32)
            self._flags = np.append(self._flags, self._detector.push(silence))
        spans = self._complete()
        if end > self._covered and end >= MIN_SECONDS * self.rate:
            spans.append((max(0, end - self._window), end))
        return self._rows(spans)

    @property
    def _end(self) -> int:
        return self._first_sample + len(self._samples)

    def _refuse_if_finished(self) -> None:
        if self._finished:
            raise SerError(f"{self.name} is finished: begin a new Stream for another recording.")

    def _hear(self, waveform: np.ndarray) -> None:
        self._samples = np.append(self._samples, waveform)
        self._flags = np.append(self._flags, self._detector.push(waveform))

    def _complete(self) -> list[tuple[int, int]]:
        """Start and end of the windows that are complete and were not before."""
        spans = []
        judged = self._first_flag + len(self._flags)  # a detector that resamples is a little behind
        while (end := self._next + self._window) <= self._end and self._frames_until(end) <= judged:
            spans.append((self._next, end))
            self._next, self._covered = self._next + self._hop, end
        return spans

    def _frames_until(self, sample: int) -> int:
        """How many of the detector's frames end by then."""
        return int(sample / self.rate / self._detector.frame_seconds + 1e-6)

    def _rows(self, spans: list[tuple[int, int]]) -> pd.DataFrame:
        emotions = self.predictor.emotions
        spoken = [self._speech(*span) for span in spans]
        heard = [row for row, part in enumerate(spoken) if part >= MIN_SPEECH]
        told = np.full((len(spans), len(emotions)), np.nan)
        for begin in range(0, len(heard), AT_ONCE):
            some = heard[begin : begin + AT_ONCE]
            told[some] = self.predictor.probabilities([self._recording(*spans[row]) for row in some])
        names: list[str | None] = [None] * len(spans)
        for row in heard:
            told[row] = self._smoothed(told[row], spans[row][1])
            names[row] = emotions[int(np.argmax(told[row]))]
        self._forget()
        bounds = np.array(spans, float).reshape(-1, 2) / self.rate
        return pd.DataFrame(
            {"start": bounds[:, 0], "end": bounds[:, 1], "speech": np.array(spoken, float)}
            | {"emotion": pd.Series(names, dtype=object)}
            | dict(zip(emotions, told.T, strict=True))
        )

    def _recording(self, start: int, end: int) -> Recording:
        samples = self._samples[start - self._first_sample : end - self._first_sample]
        return Recording(samples, self.rate, f"{self.name}, {start / self.rate:g} to {end / self.rate:g} s")

    def _speech(self, start: int, end: int) -> float:
        first = self._frames_until(start)
        last = max(first + 1, self._frames_until(end))
        return float(self._flags[first - self._first_flag : last - self._first_flag].mean())

    def _smoothed(self, probabilities: np.ndarray, at: int) -> np.ndarray:
        if self._mean is None or self.smoothing_seconds == 0:
            self._mean = probabilities.copy()
        else:
            past = np.exp((self._mean_at - at) / self.rate / self.smoothing_seconds)
            self._mean = past * self._mean + (1 - past) * probabilities
        self._mean_at = at
        return self._mean

    def _forget(self) -> None:
        """Drop what no window will ask for; the last one may begin before the next would."""
        keep = max(self._first_sample, min(self._next, self._end - self._window))
        self._samples = self._samples[keep - self._first_sample :].copy()  # a view would keep the whole
        self._first_sample = keep
        keep = self._frames_until(keep)
        self._flags, self._first_flag = self._flags[keep - self._first_flag :].copy(), keep


def default_window(recipe: Recipe) -> float:
    """As many seconds as the recipe reads of a clip."""
    settings = recipe.input.audio
    return WINDOW_SECONDS if settings.max_seconds is None else settings.offset_seconds + settings.max_seconds


def timeline(
    predictor: Predictor,
    source: str | Path | Recording,
    *,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    smoothing_seconds: float = 2.0,
    detector: str = "energy",
    progress: bool = True,
) -> pd.DataFrame:
    """The emotions of a whole recording, in memory that does not grow with its length.

    Args:
        window_seconds, hop_seconds, smoothing_seconds, detector: as of `Stream`.

    Returns:
        one row a window, as `Stream.push` gives them, at least one. For `ser_lib.reports.plots.timeline`, `attrs` holds the
        recording's name and its waveform's envelope: lists time (seconds), low and high.

    Raises:
        SerError: as `ser_lib.audio.reading.decode` and `Stream`.
    """
    tables = []
    bar = tqdm(
        total=math.ceil(reading.seconds_of(source)),
        desc="timeline",
        unit="s",
        leave=False,
        delay=0.5,
        disable=not progress,
        bar_format="{l_bar}{bar}| {n:.0f}/{total_fmt} s [{elapsed}<{remaining}]",
    )
    stream = None
    with bar:
        for samples, rate in reading.blocks(source, BLOCK_SECONDS):
            if stream is None:
                stream = Stream(
                    predictor,
                    rate,
                    window_seconds=window_seconds,
                    hop_seconds=hop_seconds,
                    smoothing_seconds=smoothing_seconds,
                    detector=detector,
                )
                stream.name, envelope = str(source), Envelope(rate)
            tables.append(stream.push(samples))
            envelope.push(reading.mix_down(samples))
            bar.update(len(samples) / rate)
    tables.append(stream.finish())
    table = pd.concat([table for table in tables if len(table)], ignore_index=True)
    # Plain lists: pandas compares attrs when tables are joined, which arrays and tables do not allow.
    table.attrs = {"name": Path(stream.name).name, "envelope": envelope.as_lists()}
    return table


class Envelope:
    """The lowest and highest samples of equal stretches of time: `ENVELOPE_POINTS` at most, the longer the wider."""

    def __init__(self, sampling_rate: int):
        self.sampling_rate, self._step = sampling_rate, max(1, sampling_rate // 100)
        self._low: list[float] = []
        self._high: list[float] = []
        self._room = 0  # samples that the last one still takes

    def push(self, waveform: np.ndarray) -> None:
        while len(waveform):
            if self._room == 0:
                if len(self._low) == ENVELOPE_POINTS:
                    self._low = list(map(min, self._low[::2], self._low[1::2]))
                    self._high = list(map(max, self._high[::2], self._high[1::2]))
                    self._step *= 2
                self._low.append(np.inf)
                self._high.append(-np.inf)
                self._room = self._step
            taken, waveform = waveform[: self._room], waveform[self._room :]
            self._low[-1] = min(self._low[-1], float(taken.min()))
            self._high[-1] = max(self._high[-1], float(taken.max()))
            self._room -= len(taken)

    def as_lists(self) -> dict[str, list[float]]:
        seconds = self._step / self.sampling_rate
        return {
            "time": [(number + 0.5) * seconds for number in range(len(self._low))],
            "low": list(self._low),
            "high": list(self._high),
        }


def stretches(table: pd.DataFrame) -> pd.DataFrame:
    """A timeline in short: from, to (seconds) and emotion (None: no speech), windows of one emotion joined.

    Windows overlap, so each stands for the time around its middle, half-way to its neighbours'.
    """
    middles = (table["start"] + table["end"]) / 2
    begins = ((middles + middles.shift()) / 2).fillna(table["start"])
    names = table["emotion"].where(table["emotion"].notna(), "")
    first = names != names.shift()
    short = pd.DataFrame({"from": begins, "emotion": table["emotion"].astype(object)})[first].reset_index(drop=True)
    short.insert(1, "to", short["from"].shift(-1).fillna(table["end"].iloc[-1]))
    return short
