"""Voice activity detection in a stream: whether each short frame holds speech, without looking ahead.

How the samples are divided among pushes does not change the result. There are three detectors:

- "energy", the default, needs no other package, so that everybody gets the same result.
- "silero", a small network, distinguishes speech from music, typing and traffic, which loudness cannot.
- "none" takes every frame for speech.
"""

from collections import deque

import numpy as np
import soxr

from ser_lib.common.errors import SerError

# 512 samples at 16 kHz, as the network of silero was trained.
FRAME_SECONDS, SILERO_RATE = 0.032, 16000
# The thresholds of silero's own iterator, for the beginning and the end of speech.
SILERO_STARTS, SILERO_ENDS = 0.5, 0.35
# Of the energy detector, in dB of full scale: however quiet the room, nothing below this is speech.
QUIETEST_DB = -60.0
ABOVE_NOISE_DB = 6.0
# Speech pauses for a tenth of the time, and steady noise is hardly lower.
NOISE_PERCENTILE, REMEMBERED_SECONDS = 10, 10.0
# A sound that varies by less for so long, or for so long at the beginning of a stream, is a machine.
STEADY_DB, STEADY_SECONDS, STEADY_SECONDS_AT_FIRST = 5.0, 1.0, 0.4
# Speech goes on for so long after a loud frame: a stop consonant closes the mouth.
KEPT_SECONDS = 0.13


class Detector:
    """The detector "none", which takes everything for speech, and the frames of the other detectors.

    Args:
        sampling_rate: of the stream, in Hz.
    """

    def __init__(self, sampling_rate: int):
        self._length = round(FRAME_SECONDS * sampling_rate)
        self.frame_seconds = self._length / sampling_rate
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Whether the frames that are now complete are speech.

        Args:
            samples: float32 of shape (n_samples,).

        Returns:
            bool of shape (n_frames,).
        """
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
        self._levels: deque[float] = deque(maxlen=self._frames(REMEMBERED_SECONDS))
        self._latest: deque[float] = deque(maxlen=self._frames(STEADY_SECONDS))
        self._quiet_frames = self._kept_frames = self._frames(KEPT_SECONDS)

    def _frames(self, seconds: float) -> int:
        return round(seconds / self.frame_seconds)

    def _speech(self, frames: np.ndarray) -> np.ndarray:
        # The variance, since a microphone's constant offset is no sound.
        power = frames.astype(np.float64).var(axis=1)
        levels = 10 * np.log10(np.maximum(power, 1e-10))
        return np.fromiter(map(self._is_speech, levels.tolist()), bool, len(levels))

    def _is_speech(self, level: float) -> bool:
        self._levels.append(level)
        self._latest.append(level)
        if level > max(QUIETEST_DB, self._noise_db() + ABOVE_NOISE_DB):
            self._quiet_frames = 0
        else:
            self._quiet_frames += 1
        return self._quiet_frames < self._kept_frames

    def _noise_db(self) -> float:
        noise = -np.inf
        if len(self._latest) == self._latest.maxlen:
            noise = _percentile(self._levels, NOISE_PERCENTILE)
        if len(self._latest) >= self._frames(STEADY_SECONDS_AT_FIRST):
            low, high = _percentile(self._latest, 10), _percentile(self._latest, 90)
            if high - low < STEADY_DB:
                noise = max(noise, low)
        return noise


def _percentile(levels: deque[float], percent: int) -> float:
    return sorted(levels)[(len(levels) - 1) * percent // 100]


class Silero(Detector):
    """The network of the package silero-vad (Silero Team, 2020; MIT); it resamples the stream."""

    def __init__(self, sampling_rate: int):
        super().__init__(SILERO_RATE)
        self._network = _load_silero()
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
                probability = self._network(frame, SILERO_RATE).item()
                self._speaking = probability >= (SILERO_ENDS if self._speaking else SILERO_STARTS)
                flags.append(self._speaking)
        return np.array(flags, bool)


def _load_silero():
    """The network in its initial state."""
    import torch

    threads = torch.get_num_threads()
    try:
        import silero_vad

        return silero_vad.load_silero_vad()
    except ImportError as error:
        raise SerError(
            'the detector "silero" needs the package silero-vad, which is not installed: `pip install silero-vad`, '
            'or choose the detector "energy", which needs no package.'
        ) from error
    finally:
        # The package sets the threads of the whole process to one.
        torch.set_num_threads(threads)


DETECTORS: dict[str, type[Detector]] = {"energy": Energy, "silero": Silero, "none": Detector}


def detector(name: str, sampling_rate: int) -> Detector:
    """A new detector, "energy", "silero" or "none", for a stream of that sampling rate in Hz.

    Raises:
        SerError: the name is unknown, or silero-vad is not installed.
    """
    if name not in DETECTORS:
        raise SerError(f"the speech detectors are {', '.join(DETECTORS)}, not {name!r}.")
    return DETECTORS[name](sampling_rate)
