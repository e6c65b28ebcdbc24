"""Audio files as people and attackers send them, made small: without a length, damaged, or cut short."""

import io
from pathlib import Path

import numpy as np
import soundfile


def encoded(samples: np.ndarray, rate: int, format: str, subtype: str | None = None, **settings) -> bytes:
    """An audio file in memory."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype, **settings)
    return file.getvalue()


def mp3_without_length(path: Path, samples: np.ndarray, rate: int) -> Path:
    """Write an MP3 of variable bitrate without its first frame, which states the length, as a stream leaves it."""
    content = encoded(samples, rate, "MP3", "MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.4)
    first = content.index(b"\xff")
    head = int.from_bytes(content[first : first + 4], "big")
    is_mpeg_1, kbps, hertz, padding = head >> 19 & 1, head >> 12 & 15, head >> 10 & 3, head >> 9 & 1
    rates = ((22050, 24000, 16000), (44100, 48000, 32000))[is_mpeg_1]
    kilobits = (
        (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
        (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    )[is_mpeg_1][kbps]
    length = (72, 144)[is_mpeg_1] * kilobits * 1000 // rates[hertz] + padding
    assert b"Xing" in content[first : first + length] or b"Info" in content[first : first + length]
    path.write_bytes(content[first + length :])
    return path
