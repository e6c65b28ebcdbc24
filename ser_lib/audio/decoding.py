"""Open an audio file and decode it in blocks; a file that is damaged or incomplete is refused.

libsndfile decodes the formats of `MAGIC` and MP3; ffmpeg, where it is installed, those of `FFMPEG_MAGIC`. The first
bytes of a file tell its format, whatever its name is. Everything that a file raises becomes a SerError here alone.

The header of a file may state more audio than the file holds: the file was cut short, and is refused. It may state no
length, as that of a stream or a pipe: the file is read to its end. libsndfile tells neither: it silently shortens the
first kind of file, and estimates the length of the second.
"""

import logging
import os
import re
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from ser_lib.common.errors import SerError

logger = logging.getLogger(__name__)

FORMATS = "WAV, FLAC, OGG, Opus, MP3, AIFF, AU or CAF"
# Names of files that libsndfile decodes, and of those that need ffmpeg.
SUFFIXES = (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf")
FFMPEG_SUFFIXES = (".m4a", ".mp4", ".webm", ".3gp", ".aac", ".amr", ".wma", ".mov", ".mkv")
# In Hz: speech needs more than the lowest, and no converter exceeds the highest. No microphone array is larger.
LOWEST_RATE, HIGHEST_RATE, MAX_CHANNELS = 1000, 768000, 64
# Samples times channels: of a block (64 MB), and of a file (99 hours of one channel at 48 kHz).
MAX_BLOCK, MAX_DECODED = 2**24, 2**34
# What a pipe or ffmpeg may write to the disk.
MAX_BYTES = 2**32
FFMPEG_SECONDS = 300

W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
# A file begins with the first bytes, and has the second ones from its ninth byte on.
MAGIC = (
    *((first, b"WAVE") for first in (b"RIFF", b"RIFX", b"RF64")),
    *((b"FORM", kind) for kind in (b"AIFF", b"AIFC")),
    *((first, b"") for first in (W64, b"fLaC", b"OggS", b"caff", b".snd", b"NIST_1A", b"ID3")),
)
# The place of the bytes, the bytes, the format for people, and its name in ffmpeg.
FFMPEG_MAGIC = (
    *((4, box, "MP4, M4A or 3GP", "mov") for box in (b"ftyp", b"moov", b"mdat", b"wide")),
    (0, b"\x1a\x45\xdf\xa3", "WebM or Matroska", "matroska"),
    (0, b"#!AMR", "AMR", "amr"),
    (0, b"\x30\x26\xb2\x75", "WMA", "asf"),
    (8, b"AVI ", "AVI", "avi"),
    *((0, bytes([0xFF, second]), "AAC", "aac") for second in (0xF0, 0xF1, 0xF8, 0xF9)),
)
# The place of the first chunk, and the form of a chunk's header: name and length.
CHUNKS = {
    **dict.fromkeys((b"RIFF", b"RF64"), (12, "<4sI")),
    **dict.fromkeys((b"RIFX", b"FORM"), (12, ">4sI")),
    b"caff": (8, ">4sQ"),
    b"riff": (40, "<16sQ"),
}
# What recorders and pipes write that cannot seek back: 0, or numbers from here on (SoX writes about 2 GiB).
UNKNOWN_FROM = {4: 0x7FFFF000, 8: 2**62}


class AudioFile:
    """An open audio file: `sampling_rate` in Hz, `n_channels`, and `n_samples` (None where the file states no length)."""

    def __init__(self, path: Path, view: "_View", decoder: "_Decoder", is_stated: bool):
        self.path, self._view, self._decoder = path, view, decoder
        self.sampling_rate, self.n_channels = decoder.samplerate, decoder.channels
        # libsndfile knows no length of such a FLAC either: the largest integer.
        self.n_samples: int | None = decoder.frames if is_stated and decoder.frames < 2**62 else None
        # The delay of every MP3 decoder, which is otherwise left out as the header tells.
        self._skipped = 0 if is_stated else 529

    @property
    def seconds(self) -> float | None:
        """The length that the file states, in seconds; None where it states none."""
        return None if self.n_samples is None else self.n_samples / self.sampling_rate

    def blocks(self, seconds: float | None = None) -> Iterator[np.ndarray]:
        """Decode in blocks of up to `seconds` and `MAX_BLOCK` values: float32 of shape (n_samples, n_channels).

        An error behind the first block is raised when that place is read.
        """
        longest, n_read = MAX_BLOCK // self.n_channels, 0
        if seconds is not None:
            longest = max(1, min(longest, round(seconds * self.sampling_rate)))
        while wanted := longest if self.n_samples is None else min(longest, self.n_samples - n_read):
            samples = self._read(wanted)
            if not len(samples):
                break
            n_read += len(samples)
            if n_read * self.n_channels > MAX_DECODED:
                raise SerError(f"{self.path}: holds more than {MAX_DECODED:.0e} samples. Cut it into shorter pieces.")
            yield samples
        # An MP3 may lack the decoder's delay and a frame, which its encoder has counted.
        allowed = 2304 if self._decoder.format == "MP3" else 0
        if self.n_samples is not None and self.n_samples - n_read > allowed:
            raise _cut_short(self.path, n_read, self.n_samples, "samples")

    def _read(self, n_samples: int) -> np.ndarray:
        with _refusing(self.path):
            if self._skipped:
                self._decoder.read(out=np.empty((self._skipped, self.n_channels), np.float32))
                self._skipped = 0
            buffer = np.empty((n_samples, self.n_channels), np.float32)
            samples = self._decoder.read(out=buffer)
            if self._view.error:
                raise self._view.error
            # A view would keep the buffer in memory.
            return samples if len(samples) == n_samples else samples.copy()


@contextmanager
def opened(path: str | Path) -> Iterator[AudioFile]:
    """Open an audio file, or a pipe that holds one.

    Raises:
        SerError: the file is missing, unreadable, empty, no audio, damaged or cut short; or its sampling rate or its
            number of channels is out of range.
    """
    path = Path(path)
    with ExitStack() as stack:
        with _refusing(path):
            if shown(path) != str(path):
                raise SerError(f"{shown(path)}: the name of the file is not UTF-8. Rename the file.")
            file: Any = stack.enter_context(path.open("rb"))
            kind = os.fstat(file.fileno()).st_mode
            if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
                file = stack.enter_context(_on_disk(path, file))
            elif not stat.S_ISREG(kind):
                raise SerError(f"{path}: expected a file or a pipe, but it is neither. Check the path.")
            head = _bytes(file, 0, 16)
            if not head:
                raise SerError(f"{path}: expected audio, but the file is empty (0 bytes). Copy it again.")
            for place, magic, name, demuxer in FFMPEG_MAGIC:
                if head[place:].startswith(magic):
                    file = stack.enter_context(_by_ffmpeg(path, file.name, name, demuxer))
                    head = _bytes(file, 0, 16)
                    break
            is_known = any(head.startswith(first) and head[8:].startswith(ninth) for first, ninth in MAGIC)
            if not is_known and not (head[0] == 0xFF and head[1:] and head[1] >= 0xE0):
                raise SerError(_undecodable(path))
            view = _View(file)
            _check_length(path, view, head)
            decoder = stack.enter_context(_Decoder(view))
            is_stated = decoder.format != "MP3" or _states_length(file, decoder.frames)
            if not is_stated:
                view = _View(file, size=_end_of_mp3(file), claimed=2**50)
                decoder = stack.enter_context(_Decoder(view))
            if decoder.format == "NIST":
                stated = re.search(rb"sample_count -i (\d+)", _bytes(file, 0, 1024))
                if stated and int(stated[1]) > decoder.frames:
                    raise _cut_short(path, decoder.frames, int(stated[1]), "samples")
        check_form(path, decoder.samplerate, decoder.channels)
        yield AudioFile(path, view, decoder, is_stated)


def shown(path: str | Path) -> str:
    r"""The path as text that UTF-8 can hold: bytes of a name in another encoding as \udce9 and the like."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def check_form(name: object, sampling_rate: float, n_channels: int) -> None:
    """Raise a SerError where a sampling rate in Hz or a number of channels is out of range."""
    if not LOWEST_RATE <= sampling_rate <= HIGHEST_RATE:
        limits = f"{LOWEST_RATE} to {HIGHEST_RATE} Hz"
        raise SerError(f"{name}: expected a sampling rate of {limits}, but it is {sampling_rate} Hz. Check it.")
    if not 1 <= n_channels <= MAX_CHANNELS:
        raise SerError(f"{name}: expected 1 to {MAX_CHANNELS} channels, but it has {n_channels}. Export fewer.")


class _Decoder(soundfile.SoundFile):
    """libsndfile, read from beginning to end: `SoundFile` seeks after each read, which not every file allows."""

    def seekable(self) -> bool:
        return False


class _View:
    """A file for libsndfile, of another size than it has, or with a corrected number in it.

    Args:
        size: the number of bytes that are read; None: all bytes of the file.
        claimed: the size in bytes that is reported to libsndfile, which looks for a tag in the last 128 of these bytes:
            they are zeros where the file is shorter.
    """

    def __init__(self, file: BinaryIO, size: int | None = None, claimed: int | None = None):
        self.file = file
        self.size = file.seek(0, os.SEEK_END) if size is None else size
        self.claimed = self.size if claimed is None else claimed
        self.patch: tuple[int, bytes] = (0, b"")
        # An exception in a callback would be printed and lost.
        self.error: OSError | None = None
        self._place = 0

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.claimed}[whence]
        self._place = max(0, start + place)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        start, end = self._place, self._place + len(buffer)
        content = b""
        try:
            if start < self.size:
                content = _bytes(self.file, start, min(end, self.size) - start)
        except OSError as error:
            self.error = error
        if end > max(self.size, self.claimed - 128):
            content += bytes(max(0, min(end, self.claimed) - start - len(content)))
        buffer[: len(content)] = content
        place, corrected = self.patch
        for offset, byte in enumerate(corrected, place - start):
            if 0 <= offset < len(content):
                buffer[offset : offset + 1] = bytes([byte])
        self._place += len(content)
        return len(content)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn whatever is raised into a SerError."""
    try:
        yield
    except SerError:
        raise
    # ValueError: a NUL character in the path.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SerError(f"{shown(path)}: cannot be read: {reason}. Check the path and its permissions.") from error
    except Exception as error:
        raise SerError(_undecodable(path)) from error


def _undecodable(path: Path) -> str:
    return (
        f"{path}: expected {FORMATS}, but it cannot be decoded. It is damaged, cut short, or of another format than its"
        " name says: copy it again, or convert it (`ffmpeg -i FILE out.wav`)."
    )


def _cut_short(path: Path, present: int, stated: int, unit: str = "bytes") -> SerError:
    return SerError(f"{path}: cut short: it has {max(0, present)} of {stated} {unit} of audio. Copy it again.")


def _bytes(file: BinaryIO, place: int, n_bytes: int) -> bytes:
    file.seek(place)
    return file.read(n_bytes)


@contextmanager
def _on_disk(path: Path, pipe: BinaryIO) -> Iterator[Any]:
    """What a pipe holds, as a temporary file: formats are read by seeking."""
    with tempfile.NamedTemporaryFile(prefix="ser-pipe-") as file:
        while block := pipe.read(2**20):
            file.write(block)
            if file.tell() > MAX_BYTES:
                raise SerError(f"{path}: holds more than {MAX_BYTES / 2**30:.0f} GiB. Write it to a file, and cut it.")
        file.flush()
        yield file


@contextmanager
def _by_ffmpeg(path: Path, source: str, name: str, demuxer: str) -> Iterator[BinaryIO]:
    """The first sound track of a file as a temporary WAV."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise SerError(
            f"{path}: {name} is read by ffmpeg, which is not installed. Install ffmpeg, or convert the file to WAV where"
            " it is (`ffmpeg -i FILE out.wav`)."
        )
    # ffmpeg may read this format alone: a playlist under an audio file's name would make it open other files.
    reading = ["-protocol_whitelist", "file", "-f", demuxer, "-i", f"file:{source}"]
    writing = ["-map", "0:a:0", "-c:a", "pcm_f32le", "-fs", str(MAX_BYTES), "-f", "wav", "pipe:1"]
    with tempfile.TemporaryFile(prefix="ser-ffmpeg-") as file:
        command = [program, "-nostdin", "-v", "error", "-xerror", *reading, *writing]
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.PIPE}
        try:
            done = subprocess.run(command, timeout=FFMPEG_SECONDS, **options)
        except subprocess.TimeoutExpired as error:
            raise SerError(f"{path}: ffmpeg needed more than {FFMPEG_SECONDS} s. Cut it into pieces.") from error
        complaint = " ".join(done.stderr.decode(errors="replace").split())
        if done.returncode or complaint:
            text = f"cannot be decoded whole. ffmpeg says: {complaint[:200]}. Copy it again, or convert it"
            raise SerError(f"{path}: {name} that {text} (`ffmpeg -i FILE out.wav`).")
        if file.seek(0, os.SEEK_END) >= MAX_BYTES:
            raise SerError(f"{path}: holds more than {MAX_BYTES / 2**30:.0f} GiB of audio. Cut it into shorter pieces.")
        yield file


def _check_length(path: Path, view: _View, head: bytes) -> None:
    """Refuse a file that holds less audio than its header states, and write the length in where it states none."""
    if head.startswith(b"OggS"):
        return _check_ogg(path, view)
    place, form, start = _length_field(path, view, head)
    if not form:
        return None
    (stated,) = struct.unpack(form, _bytes(view.file, place, struct.calcsize(form)))
    # A chunk of W64 counts its own header.
    header = 24 if head.startswith(W64) else 0
    present = view.size - start
    if stated <= header or stated >= UNKNOWN_FROM[struct.calcsize(form)] > present:
        # Larger than this field can say: libsndfile then reads to the end.
        if present + header < UNKNOWN_FROM[struct.calcsize(form)]:
            view.patch = place, struct.pack(form, present + header)
    elif present + header < stated:
        raise _cut_short(path, present, stated - header)
    return None


def _length_field(path: Path, view: _View, head: bytes) -> tuple[int, str, int]:
    """The place and form of the number of bytes of audio in a header, and where these begin; no form: it has none."""
    if head.startswith(b".snd"):
        return 8, ">I", int.from_bytes(head[4:8], "big")
    if head[:4] not in CHUNKS:
        return 0, "", 0
    place, form = CHUNKS[head[:4]]
    size, large = struct.calcsize(form), 0
    # More chunks have been seen in no file: a damaged one may have millions of empty ones.
    for _ in range(10000):
        chunk = _bytes(view.file, place, size) if place < view.size else b""
        if len(chunk) < size:
            break
        name, length = struct.unpack(form, chunk)
        place += size
        if name in (b"data", b"SSND", W64_DATA):
            # RF64 holds the length of its audio in a chunk before.
            if large and length == 0xFFFFFFFF:
                return large, "<Q", place
            return place - size + len(name), form[0] + form[-1], place
        if name == b"ds64":
            large = place + 8
        # Chunks of W64 end at a multiple of 8, others of an even number of bytes, and those of CAF anywhere.
        if head.startswith(W64):
            place += max(0, length - size + -length % 8)
        else:
            place += length + (length % 2 if size == 8 else 0)
    raise SerError(f"{path}: cut short: it has a header but no audio. Copy it again.")


def _check_ogg(path: Path, view: _View) -> None:
    """Refuse an OGG stream without the end of its last page, and one with another stream behind it."""
    # No page is longer.
    longest = 27 + 255 + 255 * 255
    tail = _bytes(view.file, max(0, view.size - longest), longest)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    n_parts = page[26] if len(page) > 26 else 0
    if len(page) < 27 + n_parts + sum(page[27 : 27 + n_parts]) or not page.startswith(b"OggS") or len(page) < 27:
        raise SerError(f"{path}: cut short: its last page is incomplete. Copy it again.")
    if page[14:18] != _bytes(view.file, 14, 4):
        advice = "Convert it (`ffmpeg -i FILE out.wav`)"
        raise SerError(f"{path}: holds several streams, of which only the first would be heard. {advice}.")
    if not page[5] & 4:
        logger.warning("%s: this OGG stream has no end, so that it may have been cut short", path)


def _states_length(file: BinaryIO, n_samples: int) -> bool:
    """Whether an MP3 states its length: an estimate changes with the size of the file."""
    view = _View(file)
    # By up to 1 % the decoder does not complain.
    view.claimed += 1 + view.size // 128
    with _Decoder(view) as decoder:
        return decoder.frames == n_samples


def _end_of_mp3(file: BinaryIO) -> int:
    """Where the audio of an MP3 ends: before the tags ID3v1 and APE, which the decoder takes for damaged audio."""
    end = file.seek(0, os.SEEK_END)
    if _bytes(file, max(0, end - 128), 3) == b"TAG":
        end -= 128
    footer = _bytes(file, max(0, end - 32), 32)
    if footer.startswith(b"APETAGEX"):
        size, _, flags = struct.unpack("<3I", footer[12:24])
        end -= size + (32 if flags >> 31 else 0)
    return max(0, end)
