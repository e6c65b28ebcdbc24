"""What happens to a voice between mouth and model: noise, a room, a telephone line, a codec, a recording cut short.

A waveform is float32 of shape (n_samples,), one channel, and so is what comes out, of the same length except where
the clip is cut short. Each does the same to a loud clip as to a quiet one. Nothing is clipped to ±1: noise is added
above full scale too, so that files of degraded clips must hold floats. All chance comes from the generator given.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import soundfile

from ser_lib.audio import reading
from ser_lib.audio.augmentation import add_noise, mix, reverberate
from ser_lib.common.errors import SerError

KINDS = {  # and the unit of each one's value
    "white": "dB",
    "pink": "dB",
    "babble": "dB",
    "reverberation": "s",
    "telephone": "",
    "MP3": "kbit/s",
    "first": "s",
}
LOWEST_HZ = 20  # pink noise has as much power in each octave, however low: below are octaves that nobody hears
TELEPHONE_RATE = 8000
TELEPHONE_BAND = (300, 3400)  # Hz: ITU-T G.712
MP3_DELAY = 1105  # samples: 576 of the encoder (LAME), 529 of the decoder


class Condition(NamedTuple):
    """One of `KINDS`, and how much of it: `Condition("babble", 10)`, `Condition("telephone")`.

    >>> Condition("MP3", 32).name
    'MP3 32 kbit/s'
    """

    kind: str
    value: float | None = None

    @property
    def name(self) -> str:
        return self.kind if self.value is None else f"{self.kind} {self.value:g} {KINDS[self.kind]}"


def degrade(
    waveform: np.ndarray,
    sampling_rate: int,
    condition: Condition,
    rng: np.random.Generator,
    voices: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Put a clip under a condition.

    Args:
        condition: its value is, by kind: white, pink, babble: signal over noise, dB, the mean power of the whole clip
            over that of the noise; reverberation: as `augmentation.reverberate`; telephone: none, mu-law; MP3: as
            `mp3`; first: as `first_seconds`.
        voices: waveforms of other speakers' clips, of which babble is made.

    Returns:
        waveform, float32; a silent one stays silent.

    Raises:
        SerError: the kind is unknown, its value is missing or out of range, or babble has no voices.
    """
    kind, value = condition
    if kind not in KINDS:
        raise SerError(f"unknown condition {kind!r}: they are {', '.join(KINDS)}.")
    if (value is None) != (KINDS[kind] == ""):
        needed = f"needs a value in {KINDS[kind]}" if KINDS[kind] else "takes no value"
        raise SerError(f"the condition {kind!r} {needed}, but has {value}.")
    if kind == "white":
        return add_noise(waveform, value, rng)
    if kind == "pink":
        return mix(waveform, pink_noise(len(waveform), sampling_rate, rng), value)
    if kind == "babble":
        return mix(waveform, babble(voices, len(waveform), rng), value)
    if kind == "reverberation":
        return reverberate(waveform, sampling_rate, value, rng)
    if kind == "telephone":
        return telephone(waveform, sampling_rate)
    if kind == "MP3":
        return mp3(waveform, sampling_rate, value)
    return first_seconds(waveform, sampling_rate, value)


def pink_noise(n_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose power falls by 3 dB an octave, as that of rain, wind and traffic roughly does; from `LOWEST_HZ` up.

    Returns:
        float64 of shape (n_samples,), of no certain level.
    """
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    hertz = np.fft.rfftfreq(n_samples, 1 / sampling_rate)
    heard = hertz >= LOWEST_HZ
    spectrum[heard] /= np.sqrt(hertz[heard])
    spectrum[~heard] = 0
    return np.fft.irfft(spectrum, n_samples)


def babble(voices: Sequence[np.ndarray], n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Voices talking at once, equally loud: each begins anywhere in its clip, and begins again when it is over.

    Args:
        voices: waveforms; silent ones are passed over. Five or so are a crowd that one cannot follow.

    Returns:
        float64 of shape (n_samples,), each voice of mean power 1 over its clip.

    Raises:
        SerError: no voice says anything.
    """
    crowd, heard = np.zeros(n_samples), 0
    for voice in voices:
        level = np.sqrt(np.square(voice, dtype=np.float64).mean())
        if level > 0:
            start, heard = rng.integers(len(voice)), heard + 1
            crowd += np.take(voice, np.arange(start, start + n_samples), mode="wrap") / level
    if not heard:
        raise SerError(f"babble is made of other clips' voices, but of the {len(voices)} given none is heard.")
    return crowd


def telephone(waveform: np.ndarray, sampling_rate: int, mu_law: bool = True) -> np.ndarray:
    """What a telephone line leaves: 300 to 3400 Hz, sampled at 8 kHz, and back at `sampling_rate`.

    A fourth-order Butterworth filter (24 dB an octave on either side), which delays by about a millisecond.

    Args:
        mu_law: in 8 bits a sample too, as ITU-T G.711 codes it.
    """
    from scipy.signal import butter, sosfilt

    narrow = reading.resample(waveform, sampling_rate, TELEPHONE_RATE)
    band = butter(4, TELEPHONE_BAND, "bandpass", fs=TELEPHONE_RATE, output="sos")
    narrow = sosfilt(band, narrow).astype(np.float32)
    if mu_law:
        narrow = _coded(narrow, TELEPHONE_RATE, format="WAV", subtype="ULAW")
    return reading.fit(reading.resample(narrow, TELEPHONE_RATE, sampling_rate), len(waveform))


def mp3(waveform: np.ndarray, sampling_rate: int, kbit_per_second: float) -> np.ndarray:
    """What MP3 leaves at a constant bitrate: encoded by LAME and decoded by mpg123, both inside libsndfile.

    Args:
        sampling_rate: one that MP3 knows: 8000, 11025, 12000 (8 to 64 kbit/s), 16000, 22050, 24000 (8 to 160), 32000,
            44100 or 48000 Hz (32 to 320).
        kbit_per_second: rounded to the nearest of the steps that the standard has, 8 or more apart.

    Returns:
        waveform of the same length, its delay taken out.

    Raises:
        SerError: the bitrate or the sampling rate is out of the range, or this libsndfile has no MP3.
    """
    if "MP3" not in soundfile.available_formats():
        raise SerError(
            f"libsndfile {soundfile.__libsndfile_version__} has no MP3, which came with 1.1: pip install -U soundfile."
        )
    low, high = (8, 64) if sampling_rate < 16000 else (8, 160) if sampling_rate < 32000 else (32, 320)
    if not low <= kbit_per_second <= high:
        raise SerError(f"MP3 at {sampling_rate} Hz has {low} to {high} kbit/s, but {kbit_per_second:g} were asked for.")
    # libsndfile takes a bitrate as a share of the range, 0 being the highest; it refuses 1 itself.
    level = min((high - kbit_per_second) / (high - low), 0.9999)
    try:
        decoded = _coded(
            waveform,
            sampling_rate,
            format="MP3",
            subtype="MPEG_LAYER_III",
            bitrate_mode="CONSTANT",
            compression_level=level,
        )
    except soundfile.LibsndfileError as error:
        raise SerError(f"{sampling_rate} Hz cannot be written as MP3: {error.error_string}") from error
    # At low bitrates a frame has no room for LAME's note of how long the clip is, and the decoder leaves the delay in.
    start = MP3_DELAY if len(decoded) > len(waveform) else 0
    return reading.fit(decoded[start:], len(waveform))


def first_seconds(waveform: np.ndarray, sampling_rate: int, seconds: float) -> np.ndarray:
    """The clip's beginning; a shorter clip stays as it is."""
    if not seconds >= reading.MIN_SECONDS:
        raise SerError(f"the first seconds of a clip must be {reading.MIN_SECONDS} or more, but are {seconds}.")
    return reading.fit(waveform, round(seconds * sampling_rate), pad=False)


def _coded(waveform: np.ndarray, sampling_rate: int, **form) -> np.ndarray:
    """Encode and decode in memory, at full scale: a codec does more to a quiet clip than to a loud one."""
    level = float(np.abs(waveform).max(initial=0))
    if not level > 0:
        return waveform
    file = io.BytesIO()
    soundfile.write(file, waveform.astype(np.float64) / level, sampling_rate, **form)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float64")
    return (decoded * level).astype(np.float32)
