"""Each effect does what its unit says, and chance comes from the generator alone."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_lib.audio import augmentation
from ser_lib.common.errors import SerError

RATE = 16000
EVERYTHING = {
    "noise_db": (5.0, 30.0),
    "speed": (0.9, 1.1),
    "pitch_semitones": (-2.0, 2.0),
    "gain_db": (-6.0, 6.0),
    "reverberation_seconds": (0.1, 0.5),
}


def generator(seed=0):
    return np.random.default_rng(seed)


def tone(hertz=400.0, seconds=1.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def power_db(waveform):
    return 10 * np.log10(np.square(waveform, dtype=np.float64).mean())


def loudest_hertz(waveform):
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return np.fft.rfftfreq(len(waveform), 1 / RATE)[spectrum.argmax()]


@pytest.mark.parametrize("noise_db", [0.0, 20.0])
def test_noise_lies_as_far_below_the_signal_as_asked(noise_db):
    noisy = augmentation.add_noise(tone(), noise_db, generator())
    assert power_db(tone()) - power_db(noisy - tone()) == pytest.approx(noise_db, abs=0.2)


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_speed_changes_length_and_pitch_together(speed):
    changed = augmentation.change_speed(tone(), speed)
    assert len(changed) == pytest.approx(RATE / speed, abs=1)
    assert loudest_hertz(changed) == pytest.approx(400 * speed, rel=0.01)


@pytest.mark.parametrize("semitones", [-3.0, 0.5, 4.0])
def test_pitch_changes_without_the_length(semitones):
    shifted = augmentation.shift_pitch(tone(), RATE, semitones)
    assert len(shifted) == RATE
    assert loudest_hertz(shifted) == pytest.approx(400 * 2 ** (semitones / 12), rel=0.01)


def test_the_length_of_the_shortest_clip_is_enough_for_every_effect():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changed = augmentation.augment(tone(seconds=0.02), RATE, **EVERYTHING, probability=1.0, rng=generator())
    assert len(changed) >= 0.018 * RATE and np.isfinite(changed).all()


def test_gain_is_in_decibels_of_amplitude():
    louder = augmentation.augment(tone(), RATE, gain_db=(20.0, 20.0), probability=1.0, rng=generator())
    np.testing.assert_allclose(louder, 10 * tone(), rtol=1e-6)


def test_an_echo_falls_by_60_db_in_the_time_given():
    click = np.zeros(2 * RATE, dtype=np.float32)
    click[0] = 1
    echo = augmentation.reverberate(click, RATE, 0.8, generator())
    early, late = echo[: RATE // 10][1:], echo[int(0.4 * RATE) : int(0.5 * RATE)]
    assert power_db(early) - power_db(late) == pytest.approx(60 * 0.4 / 0.8, abs=1.5)
    assert np.abs(echo[int(0.8 * RATE) :]).max() < 1e-6
    assert echo.argmax() == 0  # the direct sound comes first, undelayed


def test_reverberation_keeps_length_and_level():
    echo = augmentation.reverberate(tone(), RATE, 0.5, generator())
    assert len(echo) == RATE and power_db(echo) == pytest.approx(power_db(tone()), abs=0.01)
    assert np.abs(echo - tone()).max() > 0.05


def test_the_same_generator_gives_the_same_waveform_and_another_does_not():
    first, second, other = (
        augmentation.augment(tone(), RATE, **EVERYTHING, probability=1.0, rng=generator(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert len(first) != len(other) or np.abs(first - other).max() > 1e-3


def test_probability_decides_how_often_an_effect_happens():
    changed = [
        not np.array_equal(
            augmentation.augment(tone(), RATE, gain_db=(3, 6), probability=0.3, rng=generator(seed)), tone()
        )
        for seed in range(400)
    ]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.07)


def test_strengths_fill_their_range():
    gains = [
        power_db(augmentation.augment(tone(), RATE, gain_db=(-6, 2), probability=1.0, rng=generator(seed)))
        - power_db(tone())
        for seed in range(100)
    ]
    assert -6 <= min(gains) < -5 and 1 < max(gains) <= 2


def test_without_ranges_nothing_happens():
    np.testing.assert_array_equal(augmentation.augment(tone(), RATE, probability=1.0, rng=generator()), tone())


def test_silence_stays_silence():
    silence = np.zeros(RATE, dtype=np.float32)
    changed = augmentation.augment(silence, RATE, **EVERYTHING, probability=1.0, rng=generator())
    assert np.isfinite(changed).all() and np.abs(changed).max() == 0


@given(st.integers(320, 20000), st.integers(0, 2**32 - 1), st.sampled_from([8000, 16000, 44100]))
@settings(max_examples=20, deadline=None)
def test_any_clip_stays_a_finite_float32_waveform(n_samples, seed, sampling_rate):
    waveform = generator(seed).uniform(-1, 1, n_samples).astype(np.float32)
    before = waveform.copy()
    changed = augmentation.augment(waveform, sampling_rate, **EVERYTHING, rng=generator(seed))
    assert changed.dtype == np.float32 and changed.ndim == 1 and np.isfinite(changed).all()
    assert n_samples / 1.1 - 1 <= len(changed) <= n_samples / 0.9 + 1
    np.testing.assert_array_equal(waveform, before)  # the caller's clip is left alone


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gain_db": (3.0, -3.0)}, r"gain_db must be a range.*try \[-3.0, 3.0\]"),
        ({"speed": (0.0, 0.0)}, "speed must be above 0"),
        ({"reverberation_seconds": (-0.2, -0.1)}, "reverberation_seconds must be above 0"),
    ],
)
def test_impossible_ranges_are_refused(wrong, message):
    with pytest.raises(SerError, match=message):
        augmentation.augment(tone(), RATE, **wrong, probability=1.0, rng=generator())
