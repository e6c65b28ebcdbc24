"""Change training clips at random: noise, speed, pitch, loudness and reverberation, one function each.

They are written here on numpy, soxr, librosa and scipy, since audiomentations, last released in September 2025,
demands a librosa below 0.12 and would hold back this package's own range.

A waveform is float32 of shape (n_samples,). Nothing is clipped to ±1: models read the samples as they are.
"""

import numpy as np
import soxr

from ser_lib.common.errors import SerError

PITCH_WINDOW_SECONDS = 0.064  # long enough for the harmonics of a low voice, short enough for its syllables


def augment(
    waveform: np.ndarray,
    sampling_rate: int,
    *,
    noise_db: tuple[float, float] | None = None,
    speed: tuple[float, float] | None = None,
    pitch_semitones: tuple[float, float] | None = None,
    gain_db: tuple[float, float] | None = None,
    reverberation_seconds: tuple[float, float] | None = None,
    probability: float = 0.5,
    rng: np.random.Generator,
) -> np.ndarray:
    """Apply each effect that has a range, each with that probability, its strength drawn evenly from the range.

    Args:
        noise_db: of `add_noise`: signal over noise, so that the lower end is the noisier.
        speed, pitch_semitones, gain_db, reverberation_seconds: of the functions below.
        probability: 0 to 1, for every effect by itself.
        rng: all chance comes from it: the same generator gives the same waveform.

    Returns:
        waveform, float32; its length changes with `speed` alone.

    Raises:
        SerError: a range is upside down, or a value is out of its range.
    """
    # In the order in which a recording comes about: the voice, the room, the noise, the recorder's level.
    effects = {
        "speed": (speed, lambda value: change_speed(waveform, value)),
        "pitch_semitones": (pitch_semitones, lambda value: shift_pitch(waveform, sampling_rate, value)),
        "reverberation_seconds": (
            reverberation_seconds,
            lambda value: reverberate(waveform, sampling_rate, value, rng),
        ),
        "noise_db": (noise_db, lambda value: add_noise(waveform, value, rng)),
        "gain_db": (gain_db, lambda value: change_gain(waveform, value)),
    }
    for name, (limits, effect) in effects.items():
        if limits is None:
            continue
        low, high = limits
        if not low <= high:
            raise SerError(f"{name} must be a range, the lower end first, but is {limits}: try [{high}, {low}].")
        if rng.random() < probability:
            waveform = effect(rng.uniform(low, high))
    return waveform


def add_noise(waveform: np.ndarray, noise_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add white noise `noise_db` dB below the clip's own mean power (20: a tenth of its amplitude).

    A silent waveform is returned as it is.
    """
    return mix(waveform, rng.standard_normal(len(waveform)), noise_db)


def mix(waveform: np.ndarray, noise: np.ndarray, noise_db: float) -> np.ndarray:
    """Add a noise whose mean power is brought to exactly `noise_db` dB below the clip's own.

    A silent waveform is returned as it is.

    Raises:
        SerError: the noise is silent, or not as long as the clip.
    """
    if len(noise) != len(waveform):
        raise SerError(f"expected noise as long as the clip, {len(waveform)} samples, got {len(noise)}.")
    power, noise_power = (np.square(part, dtype=np.float64).mean() for part in (waveform, noise))
    if not power > 0:
        return waveform
    if not noise_power > 0:
        raise SerError("the noise is silent, so no level of it can be mixed in: give another.")
    gain = np.sqrt(power / noise_power) * 10 ** (-noise_db / 20)
    return (waveform + gain * noise.astype(np.float64)).astype(np.float32)


def change_speed(waveform: np.ndarray, speed: float) -> np.ndarray:
    """Play faster (above 1) or slower, the pitch rising or falling along: n_samples / speed samples.

    As a tape would: Ko et al. 2015, "Audio augmentation for speech recognition".
    """
    if not speed > 0:
        raise SerError(f"speed must be above 0 (1.1 is a tenth faster), but is {speed}.")
    return soxr.resample(waveform, speed, 1.0)


def shift_pitch(waveform: np.ndarray, sampling_rate: int, pitch_semitones: float) -> np.ndarray:
    """Raise (above 0) or lower the pitch by semitones, a twelfth of an octave each; length and tempo stay."""
    import librosa

    window = 2 ** round(np.log2(PITCH_WINDOW_SECONDS * sampling_rate))
    window = min(window, 2 ** int(np.log2(len(waveform))))
    return librosa.effects.pitch_shift(
        waveform, sr=sampling_rate, n_steps=pitch_semitones, n_fft=window, hop_length=window // 4
    )


def change_gain(waveform: np.ndarray, gain_db: float) -> np.ndarray:
    """Make louder (above 0) or quieter by decibels: 20 is ten times the amplitude."""
    return (waveform * 10 ** (gain_db / 20)).astype(np.float32)


def reverberate(
    waveform: np.ndarray, sampling_rate: int, reverberation_seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """Put the clip into a room whose echo falls by 60 dB in `reverberation_seconds`; length and mean power stay.

    The room's response is the direct sound and then white noise that decays exponentially, of the same energy
    altogether: Polack 1988. What echoes beyond the clip's end is cut off.
    """
    from scipy.signal import fftconvolve

    if not reverberation_seconds > 0:
        raise SerError(f"reverberation_seconds must be above 0, but is {reverberation_seconds}.")
    time = np.arange(1, max(2, round(reverberation_seconds * sampling_rate))) / sampling_rate
    echo = rng.standard_normal(len(time)) * 10 ** (-3 * time / reverberation_seconds)
    response = np.concatenate([[1.0], echo / np.sqrt(np.square(echo).sum())])
    wet = fftconvolve(waveform.astype(np.float64), response)[: len(waveform)]
    power_before, power = np.square(waveform, dtype=np.float64).mean(), np.square(wet).mean()
    return (wet * np.sqrt(power_before / power) if power > 0 else wet).astype(np.float32)
