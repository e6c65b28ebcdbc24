"""Degraded recordings: noise, a room, a telephone line, a codec, and clips cut short.

Only `first_seconds` changes the length of a waveform. The effect does not depend on the clip's loudness. Nothing is
clipped to ±1, so files of degraded clips must hold floats.
"""

import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import soundfile

from ser_lib.audio import reading
from ser_lib.audio.augmentation import add_noise, mix, reverberate

# For each kind of degradation the unit of its value ("": no value), and what it does.
KINDS: dict[str, tuple[str, Callable[..., np.ndarray]]] = {
    "white": ("dB", lambda clip, rate, value, rng, voices: add_noise(clip, value, rng)),
    "pink": ("dB", lambda clip, rate, value, rng, voices: mix(clip, pink_noise(len(clip), rate, rng), value)),
    "babble": ("dB", lambda clip, rate, value, rng, voices: mix(clip, babble(voices, len(clip), rng), value)),
    "reverberation": ("s", lambda clip, rate, value, rng, voices: reverberate(clip, rate, value, rng)),
    "telephone": ("", lambda clip, rate, value, rng, voices: telephone(clip, rate)),
    "MP3": ("kbit/s", lambda clip, rate, value, rng, voices: mp3(clip, rate, value)),
    "first": ("s", lambda clip, rate, value, rng, voices: first_seconds(clip, rate, value)),
}


class Condition(NamedTuple):
    """One of `KINDS` with its value: `Condition("babble", 10)`, `Condition("telephone")`."""

    kind: str
    value: float | None = None

    @property
    def name(self) -> str:
        return self.kind if self.value is None else f"{self.kind} {self.value:g} {KINDS[self.kind][0]}"


def degrade(
    waveform: np.ndarray,
    sampling_rate: int,
    condition: Condition,
    rng: np.random.Generator,
    voices: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Apply a condition to a clip.

    Args:
        condition: the value of white, pink and babble is the signal-to-noise ratio in dB over the whole clip; that of
            the other kinds is the last argument of `reverberate`, `mp3` and `first_seconds`.
        voices: waveforms of other speakers, for babble.
    """
    return KINDS[condition.kind][1](waveform, sampling_rate, condition.value, rng, voices)


def pink_noise(n_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise from 20 Hz up with equal power in each octave, like rain, wind and traffic; float64, at no defined level."""
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    hertz = np.fft.rfftfreq(n_samples, 1 / sampling_rate)
    audible = hertz >= 20
    spectrum[audible] /= np.sqrt(hertz[audible])
    spectrum[~audible] = 0
    return np.fft.irfft(spectrum, n_samples)


def babble(voices: Sequence[np.ndarray], n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """The sum of voices at equal power, each repeated from a random position in its clip; silent ones are left out.

    About five are a crowd that nobody can follow. float64, each voice of mean power 1 over its clip.
    """
    crowd = np.zeros(n_samples)
    for voice in filter(np.any, voices):
        start = rng.integers(len(voice))
        level = np.sqrt(np.square(voice, dtype=np.float64).mean())
        crowd += np.take(voice, np.arange(start, start + n_samples), mode="wrap") / level
    return crowd


def telephone(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """A clip over a telephone line, 300 to 3400 Hz (ITU-T G.712) in 8 bits of 8 kHz (G.711); length and rate stay.

    A fourth-order Butterworth filter (24 dB an octave on either side), which delays by about a millisecond.
    """
    from scipy.signal import butter, sosfilt

    band = butter(4, (300, 3400), "bandpass", fs=8000, output="sos")
    narrow = sosfilt(band, reading.resample(waveform, sampling_rate, 8000)).astype(np.float32)
    coded = _coded(narrow, 8000, format="WAV", subtype="ULAW")
    return reading.fit(reading.resample(coded, 8000, sampling_rate), len(waveform))


def mp3(waveform: np.ndarray, sampling_rate: int, kbit_per_second: float) -> np.ndarray:
    """Encode a clip as MP3 at a constant bitrate and decode it, by LAME and mpg123 in libsndfile; the length stays.

    Args:
        sampling_rate: 8000, 11025, 12000 (8 to 64 kbit/s), 16000, 22050, 24000 (8 to 160), 32000, 44100 or 48000 Hz (32
            to 320).
        kbit_per_second: rounded to the nearest bitrate of the standard, which are 8 or more apart.
    """
    low, high = (8, 64) if sampling_rate < 16000 else (8, 160) if sampling_rate < 32000 else (32, 320)
    # libsndfile takes a bitrate as a fraction of the range, where 0 is the highest, and refuses 1.
    level = min((high - kbit_per_second) / (high - low), 0.9999)
    form = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": level}
    decoded = _coded(waveform, sampling_rate, **form)
    # At low bitrates a frame is too short for LAME's note of the clip's length, so the decoder does not remove the delay
    # of the encoder, 576 samples, and its own, 529.
    start = 1105 if len(decoded) > len(waveform) else 0
    return reading.fit(decoded[start:], len(waveform))


def first_seconds(waveform: np.ndarray, sampling_rate: int, seconds: float) -> np.ndarray:
    """The beginning of a clip; a shorter clip stays as it is."""
    return reading.fit(waveform, round(seconds * sampling_rate), pad=False)


def _coded(waveform: np.ndarray, sampling_rate: int, **form) -> np.ndarray:
    """Encode and decode in memory, scaled to full scale, since a codec changes a quiet clip more than a loud one."""
    level = float(np.abs(waveform).max(initial=0))
    if not level > 0:
        return waveform
    file = io.BytesIO()
    soundfile.write(file, waveform.astype(np.float64) / level, sampling_rate, **form)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float64")
    return (decoded * level).astype(np.float32)
