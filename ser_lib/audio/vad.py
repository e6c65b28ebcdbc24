"""Where somebody speaks: detectors that hear a stream piece by piece, and never look ahead.

A detector cuts its stream into frames of `frame_seconds` and says of each whether somebody speaks in it. What it says
does not depend on how the samples are cut into pushes. `energy` is the default everywhere: it needs nothing that may
be missing, so that two people get the same answer. `silero` is a small network that tells speech from other sounds,
which loudness cannot: choose it for music, typing and traffic.
"""

from bisect import bisect_left, insort
from collections import deque
from typing import Protocol

import numpy as np
import soxr

from ser_lib.common.errors import SerError

FRAME_SECONDS = 0.032
QUIETEST_DB = -60.0  # full scale being 0: nothing under it is speech, however quiet the room
ABOVE_NOISE_DB = 6.0
NOISE_PERCENTILE = 10  # speech pauses that often, and a steady noise is hardly lower
REMEMBERED_SECONDS = 10.0
STEADY_SECONDS = 1.0
STEADY_DB = 5.0  # what varies by less for so long is no speech, but a machine or a fan
ENOUGH_SECONDS = 0.4  # of a stream that has just begun
KEPT_SECONDS = 0.13  # after the last loud frame: a stop consonant closes the mouth for so long

SILERO_RATE, SILERO_FRAME = 16000, 512  # Hz, samples: what the network was made for
SILERO_STARTS, SILERO_ENDS = 0.5, 0.35  # the thresholds of the package's own iterator


class Detector(Protocol):
    """What all of them have."""

    frame_seconds: float

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Hear float32 of shape (n_samples,); bool of shape (n_frames,), one for each frame that is now complete."""


def detector(name: str, sampling_rate: int) -> Detector:
    """A new detector for a stream of that rate, in Hz: "energy", "silero", or "none", for which everything is speech.

    Raises:
        SerError: there is no such detector, or silero-vad is not installed.
    """
    kinds = {"energy": Energy, "silero": Silero, "none": Everything}
    if name not in kinds:
        raise SerError(f"speech is detected by {', '.join(kinds)}, not by {name!r}.")
    return kinds[name](sampling_rate)


class _Frames:
    """Cuts a stream into frames of one length, and keeps what is left of the last."""

    def __init__(self, length: int):
        self.length, self._rest = length, np.zeros(0, np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Frames that are complete, of shape (n_frames, length)."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) - len(samples) % self.length
        self._rest = samples[whole:].copy()  # a view would keep the whole
        return samples[:whole].reshape(-1, self.length)


class Everything:
    """Takes everything for speech."""

    def __init__(self, sampling_rate: int):
        self._frames = _Frames(round(FRAME_SECONDS * sampling_rate))
        self.frame_seconds = self._frames.length / sampling_rate

    def push(self, samples: np.ndarray) -> np.ndarray:
        return np.ones(len(self._frames.push(samples)), bool)


class Energy:
    """Takes for speech what is louder than the noise by `ABOVE_NOISE_DB`.

    The noise is the level under which the quietest tenth of the last ten seconds lay, or, at once, whatever has been
    steady for a second. Until a second is heard it is nothing, so that a clip which begins with speech is heard from
    its beginning.
    """

    def __init__(self, sampling_rate: int):
        self._frames = _Frames(round(FRAME_SECONDS * sampling_rate))
        self.frame_seconds = self._frames.length / sampling_rate
        self._levels: deque[float] = deque(maxlen=self._count(REMEMBERED_SECONDS))
        self._sorted: list[float] = []  # the same, for percentiles
        self._latest: deque[float] = deque(maxlen=self._count(STEADY_SECONDS))
        self._enough = self._count(ENOUGH_SECONDS)
        self._quiet = self._kept = self._count(KEPT_SECONDS)  # frames since the last loud one, no more than these

    def push(self, samples: np.ndarray) -> np.ndarray:
        frames = self._frames.push(samples).astype(np.float64)
        power = frames.var(axis=1)  # a microphone's constant offset is no sound
        levels = 10 * np.log10(np.maximum(power, 1e-10))
        return np.fromiter((self._is_speech(level) for level in levels.tolist()), bool, len(levels))

    def _is_speech(self, level: float) -> bool:
        if len(self._levels) == self._levels.maxlen:
            del self._sorted[bisect_left(self._sorted, self._levels[0])]
        self._levels.append(level)
        insort(self._sorted, level)
        self._latest.append(level)
        loud = level > max(QUIETEST_DB, self._noise() + ABOVE_NOISE_DB)
        self._quiet = 0 if loud else min(self._quiet + 1, self._kept)
        return self._quiet < self._kept

    def _noise(self) -> float:
        """Its level in dB, full scale being 0."""
        noise = -np.inf
        if len(self._latest) == self._latest.maxlen:
            noise = _percentile(self._sorted, NOISE_PERCENTILE)
        if len(self._latest) >= self._enough:
            latest = sorted(self._latest)
            low, high = _percentile(latest, 10), _percentile(latest, 90)
            if high - low < STEADY_DB:
                noise = max(noise, low)
        return noise

    def _count(self, seconds: float) -> int:
        return round(seconds / self.frame_seconds)


def _percentile(ordered: list[float], percent: int) -> float:
    return ordered[(len(ordered) - 1) * percent // 100]


class Silero:
    """The network of the package silero-vad (Silero Team, 2020; MIT), with its file from that package."""

    frame_seconds = SILERO_FRAME / SILERO_RATE

    def __init__(self, sampling_rate: int):
        self._network = _silero()
        self._resampler = (
            None
            if sampling_rate == SILERO_RATE
            else soxr.ResampleStream(sampling_rate, SILERO_RATE, 1, dtype="float32")
        )
        self._frames = _Frames(SILERO_FRAME)
        self._speaking = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        import torch

        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        answers = []
        with torch.inference_mode():
            for frame in torch.from_numpy(self._frames.push(samples)):
                probability = self._network(frame, SILERO_RATE).item()
                self._speaking = probability >= (SILERO_ENDS if self._speaking else SILERO_STARTS)
                answers.append(self._speaking)
        return np.array(answers, bool)


def _silero():
    """The network, in the state of one that has heard nothing."""
    import torch

    threads = torch.get_num_threads()
    try:
        import silero_vad

        return silero_vad.load_silero_vad()
    except ImportError as error:
        raise SerError(
            "speech is to be found by silero-vad, which is not installed: `pip install silero-vad`, or ask for "
            'the detector "energy", which needs nothing.'
        ) from error
    finally:
        torch.set_num_threads(threads)  # the package takes all but one away from everybody
