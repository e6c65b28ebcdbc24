"""Each condition does what its unit says, to loud and quiet clips alike, and chance comes from the generator alone."""

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

from ser_lib.audio import degradations
from ser_lib.audio.degradations import KINDS, Condition, degrade

RATE = 16000
NOISES = ("white", "pink", "babble")
EVERY = (
    *(Condition(noise, 5.0) for noise in NOISES),
    Condition("reverberation", 0.4),
    Condition("telephone"),
    Condition("MP3", 32.0),
    Condition("first", 0.3),
)


def generator(seed=0):
    return np.random.default_rng(seed)


def tone(hertz=400.0, seconds=1.0, level=0.5, rate=RATE):
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def power_db(waveform):
    return 10 * np.log10(np.square(waveform, dtype=np.float64).mean())


VOICES = [tone(hertz, 0.3, level) for hertz, level in ((150, 0.9), (220, 0.01), (310, 0.2))]


@given(
    noise=st.sampled_from(NOISES),
    snr_db=st.floats(-20, 40),
    level_db=st.floats(-90, 20),
    n_samples=st.integers(RATE // 50, 2 * RATE),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_the_signal_lies_as_far_above_the_noise_as_asked(noise, snr_db, level_db, n_samples, seed):
    waveform = (10 ** (level_db / 20) * generator(seed).uniform(-1, 1, n_samples)).astype(np.float32)
    noisy = degrade(waveform, RATE, Condition(noise, snr_db), generator(seed), VOICES)
    added = noisy.astype(np.float64) - waveform
    assert power_db(waveform) - power_db(added) == pytest.approx(snr_db, abs=0.01)
    assert len(noisy) == n_samples and noisy.dtype == np.float32


@given(condition=st.sampled_from(EVERY), n_samples=st.integers(RATE // 50, RATE), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_any_clip_keeps_its_length_and_a_seed_gives_one_waveform(condition, n_samples, seed):
    waveform = generator(seed).uniform(-1, 1, n_samples).astype(np.float32)
    before = waveform.copy()
    once, again = (degrade(waveform, RATE, condition, generator(seed), VOICES) for _ in range(2))
    assert len(once) == (min(n_samples, 4800) if condition.kind == "first" else n_samples)
    assert once.dtype == np.float32 and once.ndim == 1 and np.isfinite(once).all()
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(waveform, before)  # the caller's clip is left alone
    if condition.kind in (*NOISES, "reverberation"):
        assert not np.array_equal(once, degrade(waveform, RATE, condition, generator(seed + 1), VOICES))


@pytest.mark.parametrize("condition", EVERY, ids=lambda condition: condition.name)
def test_silence_stays_silence(condition):
    silent = degrade(np.zeros(RATE, dtype=np.float32), RATE, condition, generator(), VOICES)
    assert np.isfinite(silent).all() and not silent.any()


@pytest.mark.parametrize("condition", EVERY, ids=lambda condition: condition.name)
def test_a_quiet_clip_suffers_as_a_loud_one_does_and_nothing_is_clipped(condition):
    loud = degrade(tone(level=2.0), RATE, condition, generator(), VOICES)
    quiet = degrade(tone(level=2.0e-4), RATE, condition, generator(), VOICES)
    np.testing.assert_allclose(quiet * 1e4, loud, atol=2e-3 * np.abs(loud).max())
    assert np.abs(loud).max() > 1.5


@pytest.mark.parametrize(("noise", "slope"), [("white", 0.0), ("pink", -3.01)])
def test_noise_falls_by_its_decibels_an_octave(noise, slope):
    added = degrade(tone(50, 20), RATE, Condition(noise, 0.0), generator()) - tone(50, 20)
    power = np.abs(np.fft.rfft(added)) ** 2
    hertz = np.fft.rfftfreq(len(added), 1 / RATE)
    octaves = [10 * np.log10(power[(hertz >= low) & (hertz < 2 * low)].mean()) for low in (100, 200, 400, 800, 1600)]
    np.testing.assert_allclose(np.diff(octaves), slope, atol=0.4)


def test_pink_noise_wastes_no_power_where_nobody_hears():
    power = np.abs(np.fft.rfft(degradations.pink_noise(10 * RATE, RATE, generator()))) ** 2
    assert power[: 10 * 20].sum() < 1e-12 * power.sum()


def test_every_voice_of_the_babble_is_as_loud_as_the_others():
    crowd = degradations.babble(VOICES, RATE, generator())
    power = np.abs(np.fft.rfft(crowd)) ** 2
    bands = [power[hertz - 30 : hertz + 30].sum() for hertz in (150, 220, 310)]  # a second: bins of 1 Hz
    np.testing.assert_allclose(10 * np.log10(bands / np.mean(bands)), 0, atol=0.5)
    assert sum(bands) > 0.95 * power.sum()


def test_a_silent_voice_is_left_out_of_the_babble():
    silent = np.zeros(RATE, dtype=np.float32)
    crowds = (degradations.babble(voices, RATE, generator()) for voices in (VOICES, [silent, *VOICES]))
    np.testing.assert_array_equal(*crowds)


def test_a_telephone_carries_its_band_and_little_else():
    def loss(hertz, rate):
        line = degradations.telephone(tone(hertz, rate=rate), rate)
        amplitude = np.abs(np.fft.rfft(line))[round(hertz)]
        return 20 * np.log10(np.abs(np.fft.rfft(tone(hertz, rate=rate)))[round(hertz)] / amplitude)

    for rate in (8000, 16000, 22050, 48000):
        assert loss(1000, rate) == pytest.approx(0, abs=0.5)
        assert loss(100, rate) > 35
        assert loss(3900, rate) > 35
    noise = generator().standard_normal(RATE).astype(np.float32)
    power = np.abs(np.fft.rfft(degradations.telephone(noise, RATE))) ** 2
    assert power[4100:].sum() < 1e-4 * power.sum()


def test_mu_law_is_eight_bits():
    # At the line's own rate nothing is resampled, and the samples are the code's.
    noise = generator().standard_normal(8000).astype(np.float32)
    coded = degradations.telephone(noise, 8000)
    plain = sosfilt(butter(4, (300, 3400), "bandpass", fs=8000, output="sos"), noise)
    assert len(np.unique(coded)) <= 256 < len(np.unique(plain))
    assert 30 < power_db(plain) - power_db(coded - plain) < 45  # G.711 keeps its noise about 38 dB down


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 44100, 48000])
def test_mp3_comes_back_as_long_as_it_was_in_step_and_better_with_more_bits(rate):
    rng = generator()
    voice = np.convolve(rng.standard_normal(rate + 99), np.hanning(100) / 50, "valid").astype(np.float32)
    lowest, highest = (8, 64) if rate < 16000 else (8, 160) if rate < 32000 else (32, 320)
    noise = {}
    for bitrate in (lowest, 32, highest):
        coded = degradations.mp3(voice, rate, bitrate)
        assert len(coded) == len(voice)
        assert np.corrcoef(coded, voice)[0, 1] > 0.9  # a few samples out of step, and it is gone
        gain = (coded @ voice) / (voice @ voice)
        assert 0.85 < gain < 1.05  # LAME takes a twentieth off, and what it drops
        noise[bitrate] = power_db(coded - gain * voice) - power_db(voice)
    assert noise[highest] < -30 and noise[highest] < noise[lowest] - 5


def test_mp3_has_the_bitrate_asked_for(monkeypatch):
    written, write = [], soundfile.write

    def watched(file, *args, **kwargs):
        write(file, *args, **kwargs)
        written.append(file.tell())

    monkeypatch.setattr(soundfile, "write", watched)
    for bitrate in (8, 16, 32, 64, 128):
        degradations.mp3(tone(seconds=8), RATE, bitrate)
        assert written.pop() * 8 / 8000 == pytest.approx(bitrate, rel=0.05)


def test_the_first_seconds_are_the_first_and_a_short_clip_stays():
    np.testing.assert_array_equal(degradations.first_seconds(tone(), RATE, 0.25), tone()[:4000])
    np.testing.assert_array_equal(degradations.first_seconds(tone(), RATE, 5), tone())


def test_names_say_kind_value_and_unit():
    assert {condition.kind for condition in EVERY} == set(KINDS)
    assert [condition.name for condition in EVERY[2:6]] == [
        "babble 5 dB",
        "reverberation 0.4 s",
        "telephone",
        "MP3 32 kbit/s",
    ]
