"""Random changes of training clips: noise, speed, pitch, loudness and reverberation, one function each.

Nothing is clipped to ±1, since models read the samples unchanged. The package audiomentations requires librosa < 0.12.
"""

import numpy as np
import soxr

from ser_lib.common.errors import SerError

Range = tuple[float, float] | None


def augment(
    waveform: np.ndarray,
    sampling_rate: int,
    *,
    noise_db: Range = None,
    speed: Range = None,
    pitch_semitones: Range = None,
    gain_db: Range = None,
    reverberation_seconds: Range = None,
    probability: float = 0.5,
    rng: np.random.Generator,
) -> np.ndarray:
    """Apply each effect that has a range, with the same probability, at a strength drawn uniformly from its range.

    The ranges are of the arguments of the functions below, and of decibels of gain; only `speed` changes the length.
    """
    rate = sampling_rate
    # In the order of a recording: the voice, the room, the noise, the recorder's level.
    effects = (
        ("speed", speed, lambda value: change_speed(waveform, value)),
        ("pitch_semitones", pitch_semitones, lambda value: shift_pitch(waveform, rate, value)),
        ("reverberation_seconds", reverberation_seconds, lambda value: reverberate(waveform, rate, value, rng)),
        ("noise_db", noise_db, lambda value: add_noise(waveform, value, rng)),
        ("gain_db", gain_db, lambda value: (waveform * 10 ** (value / 20)).astype(np.float32)),
    )
    for name, limits, effect in effects:
        if limits is None:
            continue
        low, high = limits
        if not low <= high:
            raise SerError(f"{name} must be a range, the lower end first, but is {limits}: try [{high}, {low}].")
        if rng.random() < probability:
            waveform = effect(rng.uniform(low, high))
    return waveform


def add_noise(waveform: np.ndarray, noise_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add white noise `noise_db` dB below the clip's mean power (20: a tenth of the amplitude); silence stays."""
    return mix(waveform, rng.standard_normal(len(waveform)), noise_db)


def mix(waveform: np.ndarray, noise: np.ndarray, noise_db: float) -> np.ndarray:
    """Add noise of the clip's length, scaled to a mean power of `noise_db` dB below the clip's; silence stays silent."""
    power, noise_power = (np.square(part, dtype=np.float64).mean() for part in (waveform, noise))
    if not power > 0:
        return waveform
    gain = np.sqrt(power / noise_power) * 10 ** (-noise_db / 20)
    return (waveform + gain * noise.astype(np.float64)).astype(np.float32)


def change_speed(waveform: np.ndarray, speed: float) -> np.ndarray:
    """Play faster (above 1) or slower, which changes pitch and length too (Ko et al. 2015)."""
    if not speed > 0:
        raise SerError(f"speed must be above 0 (1.1 is a tenth faster), but is {speed}.")
    return soxr.resample(waveform, speed, 1.0)


def shift_pitch(waveform: np.ndarray, sampling_rate: int, pitch_semitones: float) -> np.ndarray:
    """Raise (above 0) or lower the pitch by semitones; length and tempo stay."""
    import librosa

    # 64 ms: long enough for the harmonics of a low voice, short enough for its syllables.
    window = 2 ** min(round(np.log2(0.064 * sampling_rate)), int(np.log2(len(waveform))))
    settings = {"n_steps": pitch_semitones, "n_fft": window, "hop_length": window // 4}
    return librosa.effects.pitch_shift(waveform, sr=sampling_rate, **settings)


def reverberate(
    waveform: np.ndarray, sampling_rate: int, reverberation_seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """Add the echo of a room, which falls by 60 dB in `reverberation_seconds`; length and mean power stay.

    The impulse response is the direct sound, then exponentially decaying white noise of equal energy (Polack 1988).
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
