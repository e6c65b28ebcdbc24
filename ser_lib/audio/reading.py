"""Read audio: decode, mix down, resample, trim silence, normalise, crop or pad.

A waveform is float32 of shape (n_samples,), nominally within ±1. A `Recording` in memory may stand in place of a path,
in a clip table as well. An export to ONNX holds a copy of this module, which runs with NumPy, soundfile and soxr alone:
other packages are imported in the functions that need them.
"""

import io
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from ser_lib.common.errors import SerError

logger = logging.getLogger(__name__)

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
# Audio formats that are not supported: a folder that holds such files causes a warning.
NOT_READ = (".m4a", ".aac", ".wma", ".amr", ".opus", ".aif", ".aiff", ".au", ".webm", ".3gp")
# One frame of the usual features, and 20 dB below full scale: loud, and most speech then peaks below 1.
MIN_SECONDS, RMS_TARGET = 0.02, 0.1


class Recording(NamedTuple):
    """Audio in memory: float samples of shape (n_samples,) or (n_samples, n_channels), nominally within ±1."""

    samples: np.ndarray
    sampling_rate: int
    # In messages.
    name: str = "the recording"

    def __str__(self) -> str:
        return self.name


AudioSource = str | Path | Recording


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
    return sorted(files, key=lambda path: path.relative_to(folder).parts)


def expand(path: str | Path) -> list[Path]:
    """All audio files of a folder, or the path itself where it is no folder; an empty list causes a warning."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    files, unsupported = files_in(path), files_in(path, NOT_READ)
    if unsupported:
        message = "%d files left out, which are not %s: for example %s; convert them (`ffmpeg -i FILE out.wav`)"
        logger.warning(message, len(unsupported), " ".join(SUFFIXES), ", ".join(map(str, unsupported[:3])))
    if not files:
        logger.warning("%s: no audio (%s) in this folder", path, " ".join(SUFFIXES))
    return files


def decode(source: AudioSource) -> tuple[np.ndarray, int]:
    """Decode an audio file (WAV, FLAC, OGG, MP3): float32 of shape (n_samples, n_channels), and its sampling rate.

    An OGG stream does not state its length, so a truncated one may be read as a shorter clip.

    Raises:
        SerError: the file is missing, unreadable, empty, no audio, truncated, shorter than `MIN_SECONDS`, or has NaN
            or infinite samples.
    """
    (block,) = blocks(source)
    return block


def decode_audible(source: AudioSource) -> Recording:
    """Decode as `decode`, and raise a SerError for silence, for which a model would name an emotion as well."""
    samples, sampling_rate = decode(source)
    if not samples.any():
        raise SerError(f"{source}: silent, every sample is 0. Is the microphone muted?")
    return Recording(samples, sampling_rate, str(source))


def blocks(source: AudioSource, seconds: float | None = None) -> Iterator[tuple[np.ndarray, int]]:
    """Decode as `decode` in blocks of up to `seconds` (None: one block), so that memory does not grow with the length.

    An error behind the first block is raised when that place is read.
    """
    if isinstance(source, Recording):
        samples, sampling_rate = samples_of(source), source.sampling_rate
        _check(source, samples, sampling_rate)
        length = len(samples) if seconds is None else round(seconds * sampling_rate)
        yield from ((samples[start : start + length], sampling_rate) for start in range(0, len(samples), length))
        return
    with _open(source) as file:
        length, n_read = -1 if seconds is None else round(seconds * file.samplerate), 0
        while len(samples := file.read(length, dtype="float32", always_2d=True)) or n_read == 0:
            _check(source, samples, 0 if n_read else file.samplerate)
            n_read += len(samples)
            yield samples, file.samplerate
        # The length of an MP3 without one in its header is an estimate, so slightly fewer samples are no error.
        if file.frames - n_read > max(2304, file.frames / 100):
            raise SerError(f"{source}: cut short: it has {n_read} of {file.frames} samples of audio. Copy it again.")


def seconds_of(source: AudioSource) -> float:
    """Length of a recording in seconds, as its header states it; 0 where the file cannot be read."""
    try:
        if isinstance(source, Recording):
            return len(samples_of(source)) / source.sampling_rate
        with _open(source) as file:
            return file.frames / file.samplerate
    except SerError:
        return 0.0


@contextmanager
def _open(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """Open an audio file; whatever fails then or while reading becomes a SerError."""
    try:
        file_or_bytes = _check_header(Path(path))
    except SerError:
        raise
    # ValueError: a NUL character in the path.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SerError(f"{path}: cannot be read: {reason}. Check the path and its permissions.") from error
    try:
        with soundfile.SoundFile(file_or_bytes) as file:
            yield file
    # TypeError: a .raw file. MemoryError: a header with absurd numbers.
    except (soundfile.SoundFileError, TypeError, MemoryError) as error:
        raise SerError(
            f"{path}: expected WAV, FLAC, OGG or MP3, but it cannot be decoded. It is damaged, cut short, or of another"
            " format than its name says: copy it again, or convert it (`ffmpeg -i FILE out.wav`)."
        ) from error


def _check_header(path: Path) -> Path | io.BytesIO:
    """What to decode; raises for an empty file, and where a WAV file lacks bytes, which libsndfile does not report."""
    with path.open("rb") as file:
        head, size = file.read(12), os.fstat(file.fileno()).st_size
        if size == 0:
            raise SerError(f"{path}: expected audio, but the file is empty (0 bytes). Copy it again.")
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return path
        while len(chunk := file.read(8)) == 8 and chunk[:4] != b"data":
            length = int.from_bytes(chunk[4:], "little")
            file.seek(length + length % 2, os.SEEK_CUR)
        start, stated = file.tell(), int.from_bytes(chunk[4:], "little")
        present = size - start
        if len(chunk) < 8:
            raise SerError(f"{path}: cut short: it has a header but no audio. Copy it again.")
        # A recorder that cannot seek back leaves 0 or the largest number: 0xFFFFFFFF, or about 2 GiB (SoX).
        if present < stated < 0x7FFFF000:
            raise SerError(f"{path}: cut short: it has {present} of {stated} bytes of audio. Copy it again.")
        if stated == 0 < present:
            # libsndfile would read no samples.
            file.seek(0)
            content = file.read()
            return io.BytesIO(content[: start - 4] + present.to_bytes(4, "little") + content[start:])
    return path


def _check(source: AudioSource, samples: np.ndarray, sampling_rate: int = 0) -> None:
    """Raise a SerError where samples are NaN or infinite, or with a sampling rate shorter than `MIN_SECONDS`."""
    if len(samples) < MIN_SECONDS * sampling_rate:
        raise SerError(
            f"{source}: expected at least {MIN_SECONDS} s of audio, but it holds {len(samples)} samples "
            f"({len(samples) / sampling_rate:.4f} s). Was it cut short? Record it again, or leave it out."
        )
    if not np.isfinite(samples).all():
        raise SerError(f"{source}: holds NaN or infinite samples. Export it again, or leave it out.")


def samples_of(recording: Recording) -> np.ndarray:
    """The samples of a recording in the form of `decode`, or a SerError where it is not as `Recording` says."""
    if not recording.sampling_rate > 0:
        raise SerError(f"{recording}: a sampling rate must be above 0 Hz, not {recording.sampling_rate}.")
    samples = np.asarray(recording.samples)
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise SerError(
            f"{recording}: expected floats of shape (n_samples,) or (n_samples, n_channels), nominally within ±1, but "
            f"got {samples.dtype} of shape {samples.shape}. Divide 16-bit integers by 32768."
        )
    samples = samples.astype(np.float32)
    _check(recording, samples)
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


def fit(
    waveform: np.ndarray, n_samples: int, crop: str = "start", pad: bool = True, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Crop to the "start", "centre" or a "random" part of `n_samples`, or with `pad` append zeros up to that length."""
    if n_samples < 1:
        raise SerError(f"a clip must be fitted to at least one sample, not {n_samples}: raise max_seconds.")
    if crop not in ("start", "centre", "random"):
        raise SerError(f'crop must be "start", "centre" or "random", not {crop!r}.')
    surplus = len(waveform) - n_samples
    start = surplus // 2 if crop == "centre" else 0
    if crop == "random":
        if rng is None:
            raise SerError('crop="random" needs a generator: pass rng=numpy.random.default_rng(seed).')
        start = int(rng.integers(surplus + 1)) if surplus > 0 else 0
    if surplus > 0:
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
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Read a recording as a model expects it, in one channel: trim silence, skip, normalise, crop or pad.

    Args:
        remove_offset: subtract the mean of the waveform, before anything is measured.
        trim_below_db: cut both ends where the level stays so many dB (> 0) under the loudest frame of the clip, by
            `librosa.effects.trim`; a silent clip stays.
        offset_seconds: always leaves at least `MIN_SECONDS`.
        max_seconds: None: the whole clip is kept, and `pad` has no effect.
    """
    samples, file_rate = decode(source)
    waveform = mix_down(samples)
    if remove_offset:
        waveform = without_offset(waveform)
    waveform = resample(waveform, file_rate, sampling_rate)
    if trim_below_db is not None:
        if not trim_below_db > 0:
            raise SerError(
                f"trim_below_db must be above 0 (dB under the loudest frame; 30 is usual), not {trim_below_db}."
            )
        import librosa

        waveform = librosa.effects.trim(waveform, top_db=trim_below_db)[0]
    if offset_seconds < 0:
        raise SerError(f"offset_seconds must not be negative, but is {offset_seconds}.")
    latest = len(waveform) - round(MIN_SECONDS * sampling_rate)
    waveform = waveform[max(0, min(round(offset_seconds * sampling_rate), latest)) :]
    if normalise is not None:
        waveform = scale(waveform, normalise)
    if max_seconds is not None:
        waveform = fit(waveform, round(max_seconds * sampling_rate), crop, pad, rng)
    return waveform


def prepare_all(sources: Iterable[AudioSource], settings: dict[str, Any], progress: bool = True) -> list[np.ndarray]:
    """Prepare many recordings on all cores, in the order of `sources`; `settings` are arguments of `prepare`."""
    from tqdm.contrib.concurrent import thread_map

    bar: dict[str, Any] = {"desc": "audio", "unit": "clip", "leave": False, "delay": 0.5, "disable": not progress}
    # Threads: decoding and resampling release Python's lock, and waveforms are not copied between processes.
    return thread_map(partial(prepare, **settings), list(sources), max_workers=os.cpu_count(), **bar)
