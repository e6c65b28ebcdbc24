"""Read audio: decode, mix down, resample, trim silence, normalise, crop or pad.

A waveform is float32 of shape (n_samples,), nominally within ±1. A `Recording` in memory may stand in place of a path,
in a clip table as well. An export to ONNX holds a copy of this module, which runs with NumPy, soundfile and soxr alone:
other packages are imported in the functions that need them.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr

from ser_lib.audio import decoding
from ser_lib.audio.decoding import FFMPEG_SUFFIXES, MAX_CHANNELS, SUFFIXES, check_form, shown
from ser_lib.common.errors import SerError

logger = logging.getLogger(__name__)

# One frame of the usual features, and 20 dB below full scale: loud, and most speech then peaks below 1.
MIN_SECONDS, RMS_TARGET = 0.02, 0.1
# In dB of full scale: however quiet the room, no frame below is speech. The loudest frame of the quietest clip of
# RAVDESS, TESS, SAVEE and CREMA-D has -55 dB, that of a muted microphone about -90 dB.
QUIETEST_DB = -60.0
# Of the frames whose levels are measured: 512 samples at 16 kHz.
FRAME_SECONDS = 0.032
# Samples times channels of audio that is in memory as a whole (512 MB).
MAX_IN_MEMORY = 2**27
# As damaged floats are: in float32, the power of louder samples is infinite.
LARGEST = 1e10


class Recording(NamedTuple):
    """Audio in memory: float samples of shape (n_samples,) or (n_samples, n_channels), nominally within ±1."""

    samples: np.ndarray
    sampling_rate: int
    # In messages.
    name: str = "the recording"

    def __str__(self) -> str:
        return self.name


AudioSource = str | Path | Recording


class Audio(NamedTuple):
    """A file that is open, or a recording in memory."""

    name: str
    # In Hz.
    sampling_rate: int
    # None where a file does not state its length.
    seconds: float | None
    decode: Callable[[float | None], Iterator[np.ndarray]]

    def blocks(self, seconds: float | None = None) -> Iterator[np.ndarray]:
        """Decode once, in blocks of up to `seconds` (None: large ones), so that memory does not grow with the length.

        Yields:
            float32 of shape (n_samples, n_channels), at least one sample.

        Raises:
            SerError: as of `decode`, behind the blocks before the place of an error.
        """
        n_samples = 0
        for samples in self.decode(seconds):
            n_samples += len(samples)
            _check_values(self.name, samples)
            yield samples
        if n_samples < MIN_SECONDS * self.sampling_rate:
            raise SerError(
                f"{self.name}: expected at least {MIN_SECONDS} s of audio, but it holds {n_samples} samples "
                f"({n_samples / self.sampling_rate:.4f} s). Was it cut short? Record it again, or leave it out."
            )


def files_in(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """List the files with these suffixes in a folder and its subfolders, sorted by path, without hidden files."""
    files, visited = [], set()
    for parent, subfolders, names in os.walk(folder, followlinks=True):
        real_path = os.path.realpath(parent)
        if real_path in visited:
            # A link to a parent folder would never end.
            subfolders.clear()
            continue
        visited.add(real_path)
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and name != "__MACOSX"]
        files += [Path(parent, name) for name in names if not name.startswith(".") and name.lower().endswith(suffixes)]
    # A pipe is left out, since reading it may never end; a broken link is kept, and reading it tells why it fails.
    files = [file for file in files if file.is_file() or not file.exists()]
    return sorted(files, key=lambda path: path.relative_to(folder).parts)


def expand(path: str | Path) -> list[Path]:
    """All audio files of a folder, or the path itself where it is no folder.

    A warning counts the files that are no audio by their names, and tells where a folder holds no audio.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    every = files_in(path, ("",))
    files = [file for file in every if file.name.lower().endswith(SUFFIXES + FFMPEG_SUFFIXES)]
    others = sorted(set(every).difference(files))
    if others:
        kinds = Counter(file.suffix or "no ending" for file in others).most_common(5)
        counts, names = (", ".join(texts) for texts in ([f"{kind} {n}" for kind, n in kinds], map(str, others[:3])))
        message = "%s: %d files passed over, which are no audio by their names (%s): for example %s"
        logger.warning(message, shown(path), len(others), shown(counts), shown(names))
    if not files:
        logger.warning("%s: no audio (%s) in this folder", shown(path), " ".join(SUFFIXES + FFMPEG_SUFFIXES))
    return files


def with_utf8_names(files: Iterable[Path]) -> list[Path]:
    """The files whose names are UTF-8; a warning names the others, which neither libsndfile nor every table can hold."""
    files = list(files)
    others = [shown(file) for file in files if shown(file) != str(file)]
    if others:
        message = "%d files left out, whose names are not UTF-8: rename them, such as %s"
        logger.warning(message, len(others), ", ".join(others[:3]))
    return [file for file in files if shown(file) == str(file)]


@contextmanager
def opened(source: AudioSource) -> Iterator[Audio]:
    """Open a file, a pipe or a recording, to decode it once: `with opened("voice.wav") as audio: …`.

    Raises:
        SerError: as of `ser_lib.audio.decoding.opened`, or a recording is not as `Recording` says.
    """
    if isinstance(source, Recording):
        samples, sampling_rate = samples_of(source), source.sampling_rate

        def pieces(seconds: float | None) -> Iterator[np.ndarray]:
            length = max(1, len(samples) if seconds is None else round(seconds * sampling_rate))
            return (samples[start : start + length] for start in range(0, len(samples), length))

        yield Audio(source.name, sampling_rate, len(samples) / sampling_rate, pieces)
        return
    with decoding.opened(source) as file:
        yield Audio(str(source), file.sampling_rate, file.seconds, file.blocks)


def decode(source: AudioSource) -> tuple[np.ndarray, int]:
    """Decode a recording as a whole: float32 of shape (n_samples, n_channels), and its sampling rate in Hz.

    A stream of OGG or MP3 need not state its length; without an end, such a file may be read as a shorter clip.

    Raises:
        SerError: the file is missing, unreadable, empty, no audio, cut short, shorter than `MIN_SECONDS`, or too large;
            it has NaN or infinite samples, or a sampling rate or number of channels out of range.
    """
    with opened(source) as audio:
        return _joined(audio, lambda samples: samples), audio.sampling_rate


def decode_audible(source: AudioSource) -> Recording:
    """Decode as `decode`, and raise a SerError for silence, for which a model would name an emotion as well."""
    samples, sampling_rate = decode(source)
    loudness = Loudness(sampling_rate)
    loudness.push(samples)
    loudness.check(str(source))
    return Recording(samples, sampling_rate, str(source))


def _joined(audio: Audio, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """All blocks, changed and joined; SerError where they would fill the memory."""
    parts, n_values = [], 0
    for samples in audio.blocks():
        parts.append(change(samples))
        n_values += parts[-1].size
        if n_values > MAX_IN_MEMORY:
            most = f"{MAX_IN_MEMORY:.1e} samples in memory"
            raise SerError(f"{audio.name}: expected up to {most}, but it holds more. Cut it into shorter pieces.")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def seconds_of(source: AudioSource) -> float:
    """Length of a recording in seconds, as a file states it, or else as it is decoded; 0 where it cannot be read."""
    try:
        with opened(source) as audio:
            if audio.seconds is not None:
                return audio.seconds
            return sum(map(len, audio.blocks())) / audio.sampling_rate
    except SerError:
        return 0.0


class Loudness:
    """Whether anything can be heard: the level of the loudest frame, in one channel as a model hears it."""

    def __init__(self, sampling_rate: int):
        self._frame = round(FRAME_SECONDS * sampling_rate)
        # In dB of full scale, -100 at least; of the mean of all channels, and of the loudest single channel.
        self.mixed = self.single = -100.0

    def push(self, samples: np.ndarray) -> None:
        """Add the next samples, of shape (n_samples, n_channels)."""
        self.mixed = max(self.mixed, self._level(mix_down(samples)))
        if self.mixed < QUIETEST_DB:
            self.single = max(self.single, *(self._level(channel) for channel in samples.T))

    def _level(self, waveform: np.ndarray) -> float:
        length = min(self._frame, len(waveform))
        frames = waveform[: len(waveform) // length * length].reshape(-1, length)
        # The variance, since a constant offset is no sound.
        return float(10 * np.log10(max(1e-10, frames.var(axis=1, dtype=np.float64).max())))

    def check(self, name: str) -> None:
        """Raise a SerError where nothing can be heard."""
        if self.mixed >= QUIETEST_DB:
            return
        if self.single >= QUIETEST_DB:
            reason, advice = "the mean of its channels, which a model hears, is silent", "Export one channel alone."
        elif self.single <= -100:
            reason, advice = "every sample is 0, or as all others", "Is the microphone muted?"
        else:
            reason, advice = f"no part is louder than {self.single:.0f} dB of full scale", "Is the microphone muted?"
        raise SerError(f"{name}: silent, {reason}: there is no speech. {advice}")


def _check_values(name: str, samples: np.ndarray) -> None:
    """Raise a SerError for samples that are no numbers, or too large for float32 to hold their power."""
    if not np.isfinite(samples).all():
        raise SerError(f"{name}: holds NaN or infinite samples. Export it again, or leave it out.")
    if np.abs(samples).max(initial=0) > LARGEST:
        raise SerError(f"{name}: expected samples within ±1, but some exceed {LARGEST:.0e}. Export it again.")


def samples_of(recording: Recording) -> np.ndarray:
    """The samples of a recording, float32 of shape (n_samples, n_channels); SerError where it is not as `Recording` says."""
    samples = np.asarray(recording.samples)
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise SerError(
            f"{recording}: expected floats of shape (n_samples,) or (n_samples, n_channels), nominally within ±1, but "
            f"got {samples.dtype} of shape {samples.shape}. Divide 16-bit integers by 32768."
        )
    if samples.ndim == 2 and samples.shape[1] > MAX_CHANNELS:
        shape = f"expected an array of shape (n_samples, n_channels), but got {samples.shape}"
        raise SerError(
            f"{recording}: {shape}, which would be {samples.shape[1]} channels. Give its transpose, array.T."
        )
    check_form(recording, recording.sampling_rate, 1 if samples.ndim == 1 else samples.shape[1])
    # Larger numbers than float32 holds become infinite, which is an error of its own.
    with np.errstate(over="ignore"):
        samples = samples.astype(np.float32)
    _check_values(recording.name, samples)
    return samples[:, None] if samples.ndim == 1 else samples


def mix_down(samples: np.ndarray) -> np.ndarray:
    """Average the channels: (n_samples, n_channels) to (n_samples,), float32."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    return samples.mean(axis=1, dtype=np.float64).astype(np.float32)


def without_offset(waveform: np.ndarray) -> np.ndarray:
    """The waveform minus its mean: a constant offset of the recording device hides silence from every level."""
    return (waveform - waveform.mean(dtype=np.float64)).astype(np.float32)


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample to `to_rate` Hz with soxr's high-quality filter; n_samples * to_rate / from_rate samples, rounded."""
    return waveform if from_rate == to_rate else soxr.resample(waveform, from_rate, to_rate)


def trim(waveform: np.ndarray, below_db: float) -> np.ndarray:
    """Cut both ends where the level stays `below_db` or more under that of the loudest frame: `librosa.effects.trim`.

    As librosa's frames, those here have 2048 samples, every 512 samples. librosa itself takes seconds to import.
    """
    hop, n_hops = 512, 4
    padded = np.pad(waveform, n_hops * hop // 2)
    squares = np.square(padded[: len(padded) // hop * hop].reshape(-1, hop)).sum(axis=1, dtype=np.float64)
    power = np.convolve(squares, np.ones(n_hops), "valid") / (n_hops * hop)
    levels = 10 * np.log10(np.maximum(power, 1e-10))
    loud = np.flatnonzero(levels > levels.max() - below_db)
    return waveform[loud[0] * hop : (loud[-1] + 1) * hop]


def scale(waveform: np.ndarray, to: str) -> np.ndarray:
    """Scale to a highest absolute value of 1 ("peak") or a root mean square of `RMS_TARGET` ("rms"); silence stays.

    >>> scale(np.float32([0.1, -0.2]), "peak").tolist()
    [0.5, -1.0]
    """
    if to not in ("peak", "rms"):
        raise SerError(f'normalise must be "peak" or "rms", or None to keep the level, not {to!r}.')
    # Squares of very quiet samples are 0 in float32.
    wide = waveform.astype(np.float64)
    level = np.abs(wide).max(initial=0) if to == "peak" else np.sqrt(np.square(wide).mean()) / RMS_TARGET
    return (wide / level).astype(np.float32) if level > 0 else waveform


def fit(waveform: np.ndarray, n_samples: int, crop: str = "start", pad: bool = True) -> np.ndarray:
    """Crop to `n_samples` from the "start" or the "centre", or with `pad` append zeros up to that length."""
    if n_samples < 1:
        raise SerError(f"a clip must be fitted to at least one sample, not {n_samples}: raise max_seconds.")
    if crop not in ("start", "centre"):
        raise SerError(f'crop must be "start" or "centre", not {crop!r}.')
    surplus = len(waveform) - n_samples
    if surplus > 0:
        start = surplus // 2 if crop == "centre" else 0
        return waveform[start : start + n_samples]
    return np.pad(waveform, (0, -surplus)) if pad else waveform


def prepare(
    source: AudioSource,
    *,
    sampling_rate: int = 16000,
    remove_offset: bool = True,
    offset_seconds: float = 0.0,
    max_seconds: float | None = None,
    trim_below_db: float | None = None,
    normalise: str | None = None,
    crop: str = "start",
    pad: bool = False,
) -> np.ndarray:
    """Read a recording as a model expects it, in one channel: trim silence, skip, normalise, crop or pad.

    Args:
        remove_offset: subtract the mean of the waveform, before anything is measured.
        trim_below_db: cut both ends where the level stays so many dB (> 0) under the loudest frame of the clip: see
            `trim`; a silent clip stays.
        offset_seconds: always leaves at least `MIN_SECONDS`.
        max_seconds: None: the whole clip is kept, and `pad` has no effect.
    """
    with opened(source) as audio:
        # Mixed block by block, so that many channels need no memory.
        waveform, file_rate = _joined(audio, mix_down), audio.sampling_rate
    if remove_offset:
        waveform = without_offset(waveform)
    waveform = resample(waveform, file_rate, sampling_rate)
    if trim_below_db is not None:
        if not trim_below_db > 0:
            raise SerError(
                f"trim_below_db must be above 0 (dB under the loudest frame; 30 is usual), not {trim_below_db}."
            )
        waveform = trim(waveform, trim_below_db)
    if offset_seconds < 0:
        raise SerError(f"offset_seconds must not be negative, but is {offset_seconds}.")
    latest = len(waveform) - round(MIN_SECONDS * sampling_rate)
    waveform = waveform[max(0, min(round(offset_seconds * sampling_rate), latest)) :]
    if normalise is not None:
        waveform = scale(waveform, normalise)
    if max_seconds is not None:
        waveform = fit(waveform, round(max_seconds * sampling_rate), crop, pad)
    return waveform


def prepare_all(sources: Iterable[AudioSource], settings: dict[str, Any], progress: bool = True) -> list[np.ndarray]:
    """Prepare many recordings on all cores, in the order of `sources`; `settings` are arguments of `prepare`."""
    from tqdm.contrib.concurrent import thread_map

    bar: dict[str, Any] = {"desc": "audio", "unit": "clip", "leave": False, "delay": 0.5, "disable": not progress}
    # Threads: decoding and resampling release Python's lock, and waveforms are not copied between processes.
    return thread_map(partial(prepare, **settings), list(sources), max_workers=os.cpu_count(), **bar)
