import numpy as np
import pandas as pd
import pytest
from conftest import tone_clips
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_lib.audio import features
from ser_lib.common import cache
from ser_lib.common.errors import SerError
from ser_lib.models.settings import Audio, Input


def voice(n_samples=16000, sampling_rate=16000):
    time = np.arange(n_samples) / sampling_rate
    return (0.4 * np.sin(2 * np.pi * 220 * time) + 0.1 * np.sin(2 * np.pi * 880 * time)).astype(np.float32)


@settings(deadline=None, max_examples=25)
@given(n_samples=st.integers(1, 20_000), n_mfcc=st.integers(1, 60), deltas=st.booleans())
def test_mfcc_has_a_row_a_hop_and_is_finite_at_any_length(n_samples, n_mfcc, deltas):
    frames = features.mfcc(voice(n_samples), 16000, n_mfcc=n_mfcc, deltas=deltas)
    assert frames.shape == (1 + max(n_samples, 2048) // 512, n_mfcc * (3 if deltas else 1))
    assert np.isfinite(frames).all()


def test_the_deltas_of_a_steady_tone_are_near_zero():
    frames = features.mfcc(voice(), 16000, n_mfcc=13, deltas=True)
    inner = frames[6:-6, 13:]
    assert np.abs(inner).max() < 0.1 * np.abs(frames[6:-6, :13]).max()


def test_chroma_finds_the_pitch_class():
    frames = features.mfcc(voice(), 16000, chroma=True)[:, 40:]
    assert frames.shape[1] == 12
    assert (frames.argmax(axis=1)[2:-2] == 9).all()  # 220 Hz is an A, the tenth class from C


def test_silence_gives_finite_features():
    silence = np.zeros(8000, dtype=np.float32)
    frames = features.mfcc(silence, 16000, chroma=True)
    assert np.isfinite(frames).all() and (frames[:, 40:] == 0).all()


class TestMfccPitchSpectrum:
    """The order of its columns with n MFCC: n, then octaves above 100 Hz, voicing, and the shape of the spectrum."""

    @settings(deadline=None, max_examples=25)
    @given(n_samples=st.integers(1, 20_000), n_mfcc=st.integers(1, 40), deltas=st.booleans(), silent=st.booleans())
    def test_has_a_row_a_hop_and_is_finite_at_any_length(self, n_samples, n_mfcc, deltas, silent):
        waveform = voice(n_samples) * (not silent)
        frames = features.mfcc_pitch_spectrum(waveform, 16000, n_mfcc=n_mfcc, deltas=deltas)
        assert frames.shape == (1 + max(n_samples, 2048) // 512, (n_mfcc + 11) * (3 if deltas else 1))
        assert np.isfinite(frames).all() and frames.dtype == np.float32

    @pytest.mark.parametrize("sampling_rate", [4000, 8000, 22050, 44100, 48000])
    def test_reads_any_usual_sampling_rate(self, sampling_rate):
        frames = features.mfcc_pitch_spectrum(voice(sampling_rate, sampling_rate), sampling_rate, hop=256)
        assert np.isfinite(frames).all()
        np.testing.assert_allclose(frames[4:-4, 40], np.log2(2.2), atol=0.01)

    def test_begins_with_the_mfcc(self):
        expected = features.mfcc(voice(), 16000, n_mfcc=13)
        np.testing.assert_array_equal(features.mfcc_pitch_spectrum(voice(), 16000, n_mfcc=13)[:, :13], expected)

    def test_a_louder_recording_differs_in_the_log_energy_alone(self):
        noise = 0.02 * np.random.default_rng(0).standard_normal(16000)
        frames, louder = (
            features.mfcc_pitch_spectrum(factor * (voice() + noise).astype(np.float32), 16000) for factor in (0.25, 1)
        )
        np.testing.assert_allclose(louder[:, 1:], frames[:, 1:], rtol=1e-3, atol=1e-2)
        assert (louder[:, 0] > frames[:, 0] + 10).all()

    def test_interpolates_the_pitch_between_voiced_parts(self):
        rising = np.concatenate([voice(8000), np.zeros(8000, np.float32), voice(16000)[::2]])
        octaves, voicing = features.mfcc_pitch_spectrum(rising, 16000, n_mfcc=1)[:, 1:3].T
        np.testing.assert_allclose(octaves[[4, -5]], [np.log2(2.2), np.log2(4.4)], atol=0.01)
        assert voicing[4] > 0.9 and voicing[-5] > 0.9 and voicing[20:28].max() == 0
        assert (np.diff(octaves[18:30]) > 0).all()

    def test_tells_a_tone_from_noise_by_the_spectrum(self):
        noise = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
        tone_spectrum, noise_spectrum = (
            features.mfcc_pitch_spectrum(waveform, 16000, n_mfcc=1)[4:-4, 3:].mean(axis=0)
            for waveform in (voice(), noise)
        )
        centroid, flatness, *contrast, flux = range(9)
        assert 200 < tone_spectrum[centroid] < 900 and 3500 < noise_spectrum[centroid] < 4500
        assert tone_spectrum[flatness] < noise_spectrum[flatness] - 3
        # 220 Hz lies in the second octave of the contrast.
        assert tone_spectrum[contrast[1]] > noise_spectrum[contrast[1]] + 10
        assert tone_spectrum[flux] < 0.1 < noise_spectrum[flux]

    def test_has_its_highest_flux_where_the_sound_changes(self):
        flux = features.mfcc_pitch_spectrum(np.concatenate([voice(8192), voice(8192)[::2]]), 16000)[:, -1]
        assert flux[0] == 0 and flux.argmax() in (16, 17) and flux[4:13].max() < 0.1

    @pytest.mark.parametrize(("sampling_rate", "frame"), [(2000, 2048), (16000, 64)])
    def test_refuses_settings_at_which_the_octaves_are_empty(self, sampling_rate, frame):
        with pytest.raises(SerError, match=f"sampling_rate={sampling_rate} and input.frame={frame}"):
            features.mfcc_pitch_spectrum(voice(), sampling_rate, frame=frame)


class TestPitch:
    @settings(deadline=None, max_examples=50)
    @given(
        frequency=st.floats(65, 750),
        sampling_rate=st.sampled_from([8000, 16000, 48000]),
        hop=st.integers(80, 800),
        phase=st.floats(0, 6),
    )
    def test_of_a_tone_is_within_half_a_per_cent(self, frequency, sampling_rate, hop, phase):
        tone = np.sin(2 * np.pi * frequency * np.arange(sampling_rate // 2) / sampling_rate + phase)
        hertz, voicing = features.pitch(tone.astype(np.float32), sampling_rate, hop)
        assert len(hertz) == len(voicing) == 1 + len(tone) // hop
        # Frames that reach over an end of the tone see less of it.
        inner = slice(1 + sampling_rate // 25 // hop, -1 - sampling_rate // 25 // hop)
        np.testing.assert_allclose(hertz[inner], frequency, rtol=0.005)
        assert (voicing[inner] > 0.9).all()

    @settings(deadline=None, max_examples=25)
    @given(gain=st.floats(1e-4, 100), frequency=st.floats(80, 300), noise=st.floats(0, 1))
    def test_does_not_depend_on_the_volume(self, gain, frequency, noise):
        time = np.arange(8000) / 16000
        waveform = sum(np.sin(2 * np.pi * frequency * n * time) / n for n in (1, 2, 3))
        waveform += noise * np.random.default_rng(0).standard_normal(8000)
        expected, measured = features.pitch(waveform, 16000), features.pitch(gain * waveform, 16000)
        np.testing.assert_allclose(measured[1], expected[1], atol=1e-6)
        clear = np.abs(expected[1] - features.VOICED) > 1e-3
        np.testing.assert_allclose(measured[0][clear], expected[0][clear], rtol=1e-3)

    def test_finds_a_fundamental_that_is_not_in_the_sound(self):
        time = np.arange(8000) / 16000
        overtones = sum(np.sin(2 * np.pi * 150 * n * time) for n in (3, 4, 5))
        np.testing.assert_allclose(features.pitch(overtones, 16000)[0][4:-4], 150, rtol=0.005)

    @pytest.mark.parametrize("n_samples", [0, 1, 100, 8000])
    def test_silence_noise_and_what_lies_below_a_voice_have_none(self, n_samples):
        time = np.arange(n_samples) / 16000
        noise = np.random.default_rng(0).standard_normal(n_samples)
        for waveform in (np.zeros(n_samples), np.full(n_samples, 0.3), np.sin(2 * np.pi * 20 * time), noise):
            hertz, voicing = features.pitch(waveform.astype(np.float32), 16000)
            assert len(hertz) == 1 + n_samples // 512
            assert np.isnan(hertz[2:-2]).all() and (voicing[2:-2] < features.VOICED).all()
            assert ((voicing >= 0) & (voicing <= 1)).all()

    def test_of_a_long_recording_is_that_of_its_parts(self):
        waveform = np.random.default_rng(0).standard_normal(16000 * 40)
        waveform += 2 * np.sin(2 * np.pi * 130 * np.arange(len(waveform)) / 16000)
        whole, part = features.pitch(waveform, 16000), features.pitch(waveform[: 512 * 40], 16000)
        for expected, measured in zip(part, whole, strict=True):
            np.testing.assert_allclose(measured[:38], expected[:38], rtol=1e-9)


@pytest.mark.parametrize("chroma", [False, True])
def test_mean_pooling_is_the_mean_of_the_sequence(tmp_path, chroma):
    clips = tone_clips(tmp_path, speakers=1, takes=2)
    audio = Audio().model_dump()
    mean = features.extract(clips, audio, Input(chroma=chroma).feature_settings(), progress=False)
    sequence = features.extract(
        clips, audio, Input(chroma=chroma, pooling="sequence").feature_settings(), progress=False
    )
    assert mean.shape == (len(clips), 40 + 12 * chroma)
    np.testing.assert_allclose(mean, np.nanmean(sequence, axis=1), rtol=1e-5, atol=1e-5)


def test_a_second_run_reads_the_store(tmp_path, monkeypatch):
    clips = tone_clips(tmp_path, speakers=1, takes=2)
    arguments = (clips, Audio().model_dump(), Input().feature_settings(), False)
    first = features.extract(*arguments)
    monkeypatch.setattr(cache, "delayed", None)  # computing anything would now fail
    np.testing.assert_array_equal(features.extract(*arguments), first)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_sequences_are_stacked_with_nan_behind_their_own_frames(lengths):
    arrays = [np.full((length, 3), i, dtype=np.float32) for i, length in enumerate(lengths)]
    stacked = features.stack_sequences(arrays)
    assert (~np.isnan(stacked[:, :, 0])).sum(axis=1).tolist() == lengths
    for row, array in zip(stacked, arrays, strict=True):
        np.testing.assert_array_equal(row[: len(array)], array)


@pytest.mark.parametrize("shape", [(60, 4), (60, 7, 4)])
def test_standardising_by_speaker_gives_each_speaker_zero_mean_and_unit_deviation(shape):
    rng = np.random.default_rng(0)
    speakers = pd.Series(np.repeat(["a", "b", "c"], 20), index=range(100, 160))
    values = rng.normal(3, 5, shape).astype(np.float32)
    values[speakers.to_numpy() == "b"] += 100
    values[..., 3] = 7  # a feature that never varies
    if len(shape) == 3:
        values[5, 4:] = np.nan
    standardised = features.standardise_by_speaker(values, speakers)
    axes = tuple(range(len(shape) - 1))
    for name in "abc":
        own = standardised[speakers.to_numpy() == name]
        np.testing.assert_allclose(np.nanmean(own, axis=axes), 0, atol=1e-4)
        np.testing.assert_allclose(np.nanstd(own, axis=axes)[:3], 1, atol=1e-3)
    assert np.isnan(standardised).sum() == np.isnan(values).sum()
