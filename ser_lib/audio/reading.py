"""From a file to a waveform: decode, mix down, resample, trim, normalise, fit to a length.

A waveform is float32 of shape (n_samples,), nominally within ±1. Where a path is read, a `Recording` that is in memory
already may stand, in the column `path` of a clip table as well.
"""

import io
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from ser_lib.common.errors import SerError

logger = logging.getLogger(__name__)

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
# Audio that is not read here: folders with it are told of.
NOT_READ = (".m4a", ".aac", ".wma", ".amr", ".opus", ".aif", ".aiff", ".au", ".webm", ".3gp")
MIN_SECONDS = 0.02  # one frame of the usual features; nothing shorter is speech
RMS_TARGET = 0.1  # -20 dB below full scale: loud, and most speech then peaks below 1


class Recording(NamedTuple):
    """Audio in memory, from a microphone, say."""

    samples: np.ndarray  # float of shape (n_samples,) or (n_samples, n_channels), nominally within ±1
    sampling_rate: int  # Hz
    name: str = "the recording"  # in messages

    def __str__(self) -> str:
        return self.name


def files_in(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Every audio file in a folder and its subfolders, by path; hidden ones aside."""
    found, seen = [], set()
    for parent, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link back to a parent would have no end
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and name != "__MACOSX"]
        found += [Path(parent, name) for name in names if not name.startswith(".") and name.lower().endswith(suffixes)]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def decode(path: str | Path | Recording) -> tuple[np.ndarray, int]:
    """Read an audio file as it is: all channels, its own sampling rate.

    WAV, FLAC, OGG and MP3. Floating-point samples beyond ±1 are kept. An OGG stream states no length, so one
    that was cut short may read as a shorter clip.

    Returns:
        samples, float32 of shape (n_samples, n_channels), and the sampling rate in Hz.

    Raises:
        SerError: the file is missing, unreadable, empty, no audio, cut short, shorter than `MIN_SECONDS`, or
            holds NaN or infinite samples.
    """
    if isinstance(path, Recording):
        return _checked(path, samples_of(path), path.sampling_rate)
    with _opened(path) as file:
        samples = file.read(dtype="float32", always_2d=True)
        _check_whole(path, file.frames, len(samples))
        return _checked(path, samples, file.samplerate)


def blocks(source: str | Path | Recording, seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    """Read as `decode`, but piece by piece, so that memory does not grow with the recording.

    Yields:
        `seconds` of audio each time, the last time what is left: samples, float32 of shape (n_samples, n_channels),
        and the sampling rate in Hz.

    Raises:
        SerError: as `decode`; of what lies behind the first block only when the reader comes there.
    """
    if isinstance(source, Recording):
        samples, sampling_rate = decode(source)
        length = round(seconds * sampling_rate)
        for start in range(0, len(samples), length):
            yield samples[start : start + length], sampling_rate
        return
    with _opened(source) as file:
        length, there = round(seconds * file.samplerate), 0
        while True:
            samples = file.read(length, dtype="float32", always_2d=True)
            if there == 0:
                _checked(source, samples, file.samplerate)
            else:
                check_finite(source, samples)
            if len(samples) == 0:
                break
            there += len(samples)
            yield samples, file.samplerate
        _check_whole(source, file.frames, there)


def expand(path: str | Path) -> list[Path]:
    """The file itself; of a folder all audio files, and a logged line where there are none."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    files, others = files_in(path), files_in(path, NOT_READ)
    if others:
        logger.warning(
            "%d files left out, which are not %s: %s; convert them (`ffmpeg -i FILE out.wav`)",
            len(others),
            " ".join(SUFFIXES),
            ", ".join(map(str, others[:3])) + (", ..." if len(others) > 3 else ""),
        )
    if not files:
        logger.warning("%s: no audio (%s) in this folder", path, " ".join(SUFFIXES))
    return files


def seconds_of(source: str | Path | Recording) -> float:
    """How long a recording says that it is; 0 where it cannot be read, of which `decode` says why."""
    try:
        if isinstance(source, Recording):
            return len(samples_of(source)) / source.sampling_rate
        with _opened(source) as file:
            return file.frames / file.samplerate
    except SerError:
        return 0.0


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """An audio file to read from; whatever is wrong with it, then too, is told as a SerError."""
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise SerError(f"{path}: expected audio, but the file is empty (0 bytes). Copy it again.")
        source = _check_wav_length(path)
    except SerError:
        raise
    except (OSError, ValueError) as error:  # ValueError: no path can have a NUL
        raise SerError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}. Check path and rights."
        ) from error
    try:
        with soundfile.SoundFile(source) as file:
            yield file
    except (soundfile.SoundFileError, TypeError, MemoryError) as error:  # TypeError: .raw; MemoryError: a wild header
        raise SerError(
            f"{path}: expected WAV, FLAC, OGG or MP3, but it cannot be decoded. It is damaged, cut short, or"
            " something else under that name: copy it again, or convert it (`ffmpeg -i FILE out.wav`)."
        ) from error


def _check_whole(path: str | Path, promised: int, there: int) -> None:
    # An MP3 without a length in its header is estimated, so a little less than promised is no fault.
    if promised - there > max(2304, promised / 100):
        raise SerError(f"{path}: cut short: {promised} samples promised, {there} there. Copy it again.")


def samples_of(recording: Recording) -> np.ndarray:
    """A recording's samples as `decode` gives a file's: float32 of shape (n_samples, n_channels)."""
    if not recording.sampling_rate > 0:
        raise SerError(f"{recording}: a sampling rate must be above 0 Hz, not {recording.sampling_rate}.")
    samples = np.asarray(recording.samples)
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise SerError(
            f"{recording}: expected floats of shape (n_samples,) or (n_samples, n_channels), nominally within ±1, but "
            f"came {samples.dtype} of shape {samples.shape}. Divide 16-bit integers by 32768."
        )
    return samples.astype(np.float32).reshape(len(samples), samples.shape[1] if samples.ndim == 2 else 1)


def _checked(path: str | Path | Recording, samples: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, int]:
    """What was decoded, or an error where no model can hear it."""
    if len(samples) < MIN_SECONDS * sampling_rate:
        raise SerError(
            f"{path}: expected at least {MIN_SECONDS} s of audio, but it holds {len(samples)} samples"
            f" ({len(samples) / sampling_rate:.4f} s); is it cut short?"
        )
    check_finite(path, samples)
    return samples, sampling_rate


def check_finite(path: str | Path | Recording, samples: np.ndarray) -> None:
    """Raise a SerError where a sample is NaN or infinite."""
    if not np.isfinite(samples).all():
        raise SerError(f"{path}: holds NaN or infinite samples. Export it again, or leave it out.")


def _check_wav_length(path: Path) -> Path | io.BytesIO:
    """Return what to decode, or raise where a RIFF header promises more bytes than the file holds.

    libsndfile says nothing about missing bytes.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return path
        while len(chunk := file.read(8)) == 8 and chunk[:4] != b"data":
            length = int.from_bytes(chunk[4:], "little")
            file.seek(length + length % 2, os.SEEK_CUR)
        start, length = file.tell(), int.from_bytes(chunk[4:], "little")
        there = os.fstat(file.fileno()).st_size - start
        if len(chunk) < 8:
            raise SerError(f"{path}: cut short: its header is there, its audio is not. Copy it again.")
        # A recorder that cannot seek back leaves 0, or as much as fits: 0xFFFFFFFF, or about 2 GiB (SoX).
        if there < length < 0x7FFFF000:
            raise SerError(f"{path}: cut short: {there} of {length} bytes of audio are there. Copy it again.")
        if length == 0 < there:  # libsndfile takes the 0 at its word
            file.seek(0)
            whole = file.read()
            return io.BytesIO(whole[: start - 4] + there.to_bytes(4, "little") + whole[start:])
    return path


def load(path: str | Path | Recording, sampling_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Read an audio file as one channel, resampled to `sampling_rate` in Hz (None: its own).

    Returns:
        waveform, float32 of shape (n_samples,), and its sampling rate in Hz.

    Raises:
        SerError: as `decode`.
    """
    samples, own_rate = decode(path)
    waveform = mix_down(samples)
    if sampling_rate is None:
        return waveform, own_rate
    return resample(waveform, own_rate, sampling_rate), sampling_rate


def mix_down(samples: np.ndarray) -> np.ndarray:
    """Average the channels: (n_samples, n_channels) to (n_samples,), float32."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    return samples.mean(axis=1, dtype=np.float64).astype(np.float32)


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample to `to_rate` Hz with soxr's high-quality filter; n_samples * to_rate / from_rate samples, rounded."""
    if from_rate == to_rate:
        return waveform
    return soxr.resample(waveform, from_rate, to_rate)


def trim_silence(waveform: np.ndarray, below_db: float) -> np.ndarray:
    """Cut both ends where the level stays more than `below_db` dB (> 0) under the clip's loudest frame.

    Frames of 2048 samples every 512, as `librosa.effects.trim`. A silent clip is returned whole.
    """
    if not below_db > 0:
        raise SerError(f"trim_below_db must be above 0 (dB under the loudest frame; 30 is usual), not {below_db}.")
    import librosa

    return librosa.effects.trim(waveform, top_db=below_db)[0]


def normalise(waveform: np.ndarray, to: str) -> np.ndarray:
    """Scale to a highest absolute value of 1 ("peak") or a root mean square of `RMS_TARGET` ("rms").

    A silent waveform is returned as it is. "rms" may exceed ±1.

    >>> normalise(np.float32([0.1, -0.2]), "peak").tolist()
    [0.5, -1.0]
    """
    if to not in ("peak", "rms"):
        raise SerError(f'normalise must be "peak" or "rms" (or None, for not at all), not {to!r}.')
    wide = waveform.astype(np.float64)  # squares of very quiet samples are 0 in float32
    level = np.abs(wide).max(initial=0) if to == "peak" else np.sqrt(np.square(wide).mean()) / RMS_TARGET
    return (wide / level).astype(np.float32) if level > 0 else waveform


_normalise = normalise  # `prepare` has a parameter of that name


def fit(
    waveform: np.ndarray, n_samples: int, crop: str = "start", pad: bool = True, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Crop to `n_samples`, or with `pad` fill up to it with zeros at the end.

    Args:
        crop: which part of a longer waveform stays: "start", "centre", or "random" (drawn from `rng`).

    >>> fit(np.float32([1, 2, 3]), 5).tolist(), fit(np.float32([1, 2, 3]), 1, crop="centre").tolist()
    ([1.0, 2.0, 3.0, 0.0, 0.0], [2.0])
    """
    if n_samples < 1:
        raise SerError(f"a clip must be fitted to at least one sample, not {n_samples}: raise max_seconds.")
    if crop not in ("start", "centre", "random"):
        raise SerError(f'crop must be "start", "centre" or "random", not {crop!r}.')
    if crop == "random" and rng is None:
        raise SerError('crop="random" needs a generator: pass rng=numpy.random.default_rng(seed).')
    surplus = len(waveform) - n_samples
    if surplus <= 0:
        return np.pad(waveform, (0, -surplus)) if pad else waveform
    start = {"start": lambda: 0, "centre": lambda: surplus // 2, "random": lambda: rng.integers(surplus + 1)}[crop]()
    return waveform[start : start + n_samples]


def prepare(
    path: str | Path | Recording,
    *,
    sampling_rate: int = 16000,
    offset_seconds: float = 0.0,
    max_seconds: float | None = None,
    trim_below_db: float | None = None,
    normalise: str | None = None,
    crop: str = "start",
    pad: bool = False,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Read a file as a model wants it: load, trim silence, skip `offset_seconds`, normalise, fit.

    The offset never leaves less than `MIN_SECONDS`. `max_seconds` None keeps the whole clip, and then `pad`
    has nothing to fill up to.

    Returns:
        waveform at `sampling_rate` Hz, float32 of shape (n_samples,).

    Raises:
        SerError: as `decode`, or a value out of its range.
    """
    waveform, _ = load(path, sampling_rate)
    if trim_below_db is not None:
        waveform = trim_silence(waveform, trim_below_db)
    if offset_seconds < 0:
        raise SerError(f"offset_seconds must not be negative, but is {offset_seconds}.")
    latest = len(waveform) - round(MIN_SECONDS * sampling_rate)
    waveform = waveform[max(0, min(round(offset_seconds * sampling_rate), latest)) :]
    if normalise is not None:
        waveform = _normalise(waveform, normalise)
    if max_seconds is not None:
        waveform = fit(waveform, round(max_seconds * sampling_rate), crop, pad, rng)
    return waveform


def prepare_all(paths: Iterable[str | Path | Recording], settings: dict, progress: bool = True) -> list[np.ndarray]:
    """`prepare` for many files, over all cores, in the order of `paths`."""
    paths = list(paths)
    # Threads: decoding and resampling leave Python's lock, and waveforms need not travel between processes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waveforms = pool.map(lambda path: prepare(path, **settings), paths)
        bar = tqdm(waveforms, total=len(paths), desc="audio", unit="clip", leave=False, delay=0.5, disable=not progress)
        return list(bar)
