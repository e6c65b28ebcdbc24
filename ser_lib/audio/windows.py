"""What a model hears of a recording: the whole as one clip, or overlapping windows, each with its share of speech.

How the samples are divided among pushes does not change the windows, and no more audio than one window is kept.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import soxr

from ser_lib.audio import reading, vad
from ser_lib.audio.reading import MIN_SECONDS, Audio, AudioSource, Loudness, Recording
from ser_lib.common.errors import SerError

# Longer than any training clip: such a recording is read in windows.
LONG_SECONDS = 30.0
# Where the model reads clips of any length.
WINDOW_SECONDS = 3.0
HOP_SECONDS = 1.0
# The share of a window's frames; with less speech the model would predict the emotion of a noise.
MIN_SPEECH = 0.2
# The part of a file in memory.
BLOCK_SECONDS = 30.0
ADVICE = "Record somebody who speaks, or cut the speech out of it."
UNLIKE_SPEECH = f"it sounds unlike speech, such as noise or music. {ADVICE}"


class Window(NamedTuple):
    """A piece of a recording: `start` and `end` in samples, and `speech`, the share that is speech, 0 to 1."""

    start: int
    end: int
    speech: float
    # float32 of shape (n_samples,): a view of what `Windows` holds.
    waveform: np.ndarray


class Windows:
    """The windows of one recording.

    Args:
        from_rate: sampling rate of the audio in Hz, which is resampled to `rate`.
        window_seconds: length of a window, at least 0.1; None: `WINDOW_SECONDS`.
        hop_seconds: from the start of a window to that of the next, from 0.01 to a window; None: `HOP_SECONDS`, or a
            window where that is shorter.
        detector: of speech: "energy", "silero" or "none" (see `ser_lib.audio.vad`).
    """

    def __init__(
        self,
        from_rate: int,
        rate: int,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        detector: str = "energy",
    ):
        window_seconds = WINDOW_SECONDS if window_seconds is None else window_seconds
        hop_seconds = min(HOP_SECONDS, window_seconds) if hop_seconds is None else hop_seconds
        if not 0.1 <= window_seconds < np.inf:
            raise SerError(f"a window must be 0.1 s or more, not {window_seconds} s.")
        if not 0.01 <= hop_seconds <= window_seconds:
            limits = f"0.01 s or more, and no more than the window of {window_seconds:g} s"
            raise SerError(f"the hop must be {limits}, so that no audio is skipped, but is {hop_seconds} s.")
        self.rate, self._window, self._hop = rate, round(window_seconds * rate), round(hop_seconds * rate)
        self._detector = vad.detector(detector, rate)
        # At equal rates it returns the samples unchanged and without delay.
        self._resampler = soxr.ResampleStream(from_rate, rate, 1, dtype="float32")
        # The samples that are kept, the position of the first of them, and that of the next window.
        self._samples, self._first, self._next = np.zeros(0, np.float32), 0, 0
        # The detector's flags of all frames so far, a byte each.
        self._flags = bytearray()

    def push(self, waveform: np.ndarray, last: bool = False) -> list[Window]:
        """Add the next samples, and return the windows that are now complete; with `last`, all that remain.

        The last window ends at the end of the recording. A recording shorter than a window has one window, and one
        below `MIN_SECONDS` none.
        """
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
        windows = [self._window_of(*span) for span in spans]
        # The recording's last window may begin before the next one would. A copy, since a view would keep everything.
        first = max(self._first, min(self._next, end - self._window))
        self._samples, self._first = self._samples[first - self._first :].copy(), first
        return windows

    def _window_of(self, start: int, end: int) -> Window:
        first, after = self._frames_until(start), self._frames_until(end)
        speech = float(np.frombuffer(self._flags[first : max(first + 1, after)], np.uint8).mean())
        return Window(start, end, speech, self._samples[start - self._first : end - self._first])

    def _frames_until(self, sample: int) -> int:
        """The number of the detector's frames that end by that sample."""
        return int(sample / self.rate / self._detector.frame_seconds + 1e-6)


def is_spoken(window: Window) -> bool:
    """Whether a window holds enough speech to be predicted."""
    return window.speech >= MIN_SPEECH


class Pieces:
    """The pieces of a recording that a model reads in turn; the answer is the mean of their probabilities.

    A recording of up to `LONG_SECONDS` of which `reading.prepare` cuts nothing but silent ends and the skipped beginning
    is one clip. A longer one is divided into windows, as long as the longest clips of which nothing is cut, and those
    with speech are heard. When all pieces have been taken, `seconds` is the length of the recording, and `heard` that of
    the parts of it that the model has heard.

    Args:
        settings: the arguments of `reading.prepare`.
        as_clip: one clip, whatever the length, of which `prepare` then cuts what it cuts of clips for training.

    Raises:
        SerError: the recording cannot be read, or holds no speech.
    """

    def __init__(self, source: AudioSource, settings: Mapping[str, Any], as_clip: bool = False):
        self._source, self._settings, self._as_clip = source, settings, as_clip
        self._skipped = settings["offset_seconds"]
        self._longest = None if settings["max_seconds"] is None else self._skipped + settings["max_seconds"]
        self.seconds = self.heard = 0.0

    def __iter__(self) -> Iterator[Recording]:
        if self._as_clip:
            yield self._clip(reading.decode_audible(self._source))
            return
        with reading.opened(self._source) as audio:
            parts, n_samples, blocks = [], 0, audio.blocks(BLOCK_SECONDS)
            for samples in blocks:
                parts.append(samples)
                n_samples += len(samples)
                if n_samples > LONG_SECONDS * audio.sampling_rate:
                    yield from self._windows(audio, chain(parts, blocks))
                    return
            clip = Recording(np.concatenate(parts), audio.sampling_rate, audio.name)
            if self._is_cut(clip):
                yield from self._windows(audio, iter([clip.samples]))
            else:
                yield self._clip(reading.decode_audible(clip))

    def _clip(self, clip: Recording) -> Recording:
        self.seconds = len(clip.samples) / clip.sampling_rate
        seconds = min(self.seconds, self._longest or self.seconds) - self._skipped
        self.heard = max(MIN_SECONDS, seconds)
        return clip

    def _is_cut(self, clip: Recording) -> bool:
        longest, rate = self._settings["max_seconds"], self._settings["sampling_rate"]
        if longest is None or len(clip.samples) <= longest * clip.sampling_rate:
            return False
        return len(reading.prepare(clip, **{**self._settings, "max_seconds": None})) > round(longest * rate)

    def _windows(self, audio: Audio, blocks: Iterator[np.ndarray]) -> Iterator[Recording]:
        rate, n_samples = self._settings["sampling_rate"], 0
        windows, loudness = Windows(audio.sampling_rate, rate, self._longest), Loudness(audio.sampling_rate)
        # The part of the recording before this sample has been heard, or has no speech.
        until = 0
        # At the end, no samples.
        for samples in chain(blocks, [None]):
            if samples is not None:
                loudness.push(samples)
                n_samples += len(samples)
            waveform = np.zeros(0, np.float32) if samples is None else reading.mix_down(samples)
            for window in filter(is_spoken, windows.push(waveform, last=samples is None)):
                start = max(window.start + round(self._skipped * rate), until)
                self.heard += max(0, window.end - start) / rate
                until = window.end
                name = f"{audio.name}, {window.start / rate:g} to {window.end / rate:g} s"
                yield Recording(window.waveform, rate, name)
        self.seconds = n_samples / audio.sampling_rate
        if not self.heard:
            loudness.check(audio.name)
            raise SerError(f"{audio.name}: no speech was detected. {ADVICE}")
