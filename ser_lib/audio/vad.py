"""Voice activity detection in a stream: whether each short frame holds speech, without looking ahead.

How the samples are divided among pushes does not change the result. "energy", the default, needs no other package.
"silero", a small network, distinguishes speech from music, typing and traffic, which loudness cannot. "none" takes every
frame for speech.
"""

from collections import deque
from itertools import islice

import numpy as np
import soxr

from ser_lib.audio.reading import FRAME_SECONDS, QUIETEST_DB
from ser_lib.common.errors import SerError

# As the network of silero was trained.
SILERO_RATE = 16000
# Of the energy detector.
ABOVE_NOISE_DB = 6.0
# Speech pauses for a tenth of the time, and steady noise is hardly lower.
NOISE_PERCENTILE, REMEMBERED_SECONDS = 10, 10.0
# A sound whose level varies by less than `STEADY_DB` for this time counts as noise. At the beginning of a stream the
# shorter time is enough.
STEADY_DB, STEADY_SECONDS, STEADY_SECONDS_AT_FIRST = 5.0, 1.0, 0.4
# Frames count as speech for this time after a loud frame, since a stop consonant is silent.
KEPT_SECONDS = 0.13


class Detector:
    """The detector "none", which takes everything for speech, and the frames of the other detectors."""

    def __init__(self, sampling_rate: int):
        self._length = round(FRAME_SECONDS * sampling_rate)
        self.frame_seconds = self._length / sampling_rate
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Whether the frames that are now complete are speech: bool of shape (n_frames,)."""
        samples = np.concatenate([self._rest, samples])
        end = len(samples) - len(samples) % self._length
        # Copied, since a view would keep all of the samples in memory.
        self._rest = samples[end:].copy()
        return self._speech(samples[:end].reshape(-1, self._length))

    def _speech(self, frames: np.ndarray) -> np.ndarray:
        return np.ones(len(frames), bool)


class Energy(Detector):
    """Takes for speech what is louder than the noise by `ABOVE_NOISE_DB`.

    The noise is the level that the quietest tenth of the last ten seconds stayed below, or that of a sound which has
    been steady for a second. In the first second it is unknown, so that a clip may begin with speech.
    """

    def __init__(self, sampling_rate: int):
        super().__init__(sampling_rate)
        seconds = (REMEMBERED_SECONDS, STEADY_SECONDS, STEADY_SECONDS_AT_FIRST, KEPT_SECONDS)
        n_levels, self._n_steady, self._n_at_first, self._n_kept = (round(s / self.frame_seconds) for s in seconds)
        self._levels: deque[float] = deque(maxlen=n_levels)
        self._quiet_frames = self._n_kept

    def _speech(self, frames: np.ndarray) -> np.ndarray:
        # The variance, since a microphone's constant offset is no sound.
        power = frames.astype(np.float64).var(axis=1)
        levels = 10 * np.log10(np.maximum(power, 1e-10))
        return np.fromiter(map(self._is_speech, levels.tolist()), bool, len(levels))

    def _is_speech(self, level: float) -> bool:
        self._levels.append(level)
        noise = -np.inf
        latest = sorted(islice(reversed(self._levels), self._n_steady))
        if len(latest) == self._n_steady:
            noise = _percentile(sorted(self._levels), NOISE_PERCENTILE)
        if len(latest) >= self._n_at_first:
            low, high = _percentile(latest, 10), _percentile(latest, 90)
            if high - low < STEADY_DB:
                noise = max(noise, low)
        is_loud = level > max(QUIETEST_DB, noise + ABOVE_NOISE_DB)
        self._quiet_frames = 0 if is_loud else self._quiet_frames + 1
        return self._quiet_frames < self._n_kept


def _percentile(levels: list[float], percent: int) -> float:
    return levels[(len(levels) - 1) * percent // 100]


class Silero(Detector):
    """The network of the package silero-vad (Silero Team, 2020; MIT); it resamples the stream."""

    def __init__(self, sampling_rate: int):
        import torch

        super().__init__(SILERO_RATE)
        threads = torch.get_num_threads()
        try:
            import silero_vad

            self._network = silero_vad.load_silero_vad()
        except ImportError as error:
            advice = '`pip install silero-vad`, or choose the detector "energy", which needs no package'
            raise SerError(f'the detector "silero" needs the package silero-vad: {advice}.') from error
        finally:
            # The package sets the threads of the whole process to one.
            torch.set_num_threads(threads)
        # At equal rates it returns the samples unchanged and without delay.
        self._resampler = soxr.ResampleStream(sampling_rate, SILERO_RATE, 1, dtype="float32")
        self._speaking = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        return super().push(self._resampler.resample_chunk(samples))

    def _speech(self, frames: np.ndarray) -> np.ndarray:
        import torch

        flags = []
        with torch.inference_mode():
            for frame in torch.from_numpy(frames):
                # The thresholds of silero's own iterator, for the end and the beginning of speech.
                threshold = 0.35 if self._speaking else 0.5
                self._speaking = self._network(frame, SILERO_RATE).item() >= threshold
                flags.append(self._speaking)
        return np.array(flags, bool)


DETECTORS: dict[str, type[Detector]] = {"energy": Energy, "silero": Silero, "none": Detector}


def detector(name: str, sampling_rate: int) -> Detector:
    """A new detector, "energy", "silero" or "none", for a stream of that sampling rate in Hz."""
    if name not in DETECTORS:
        raise SerError(f"the speech detectors are {', '.join(DETECTORS)}, not {name!r}.")
    return DETECTORS[name](sampling_rate)
