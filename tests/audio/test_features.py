import numpy as np
import pandas as pd
import pytest
from conftest import tone_clips
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_lib.audio import features
from ser_lib.common import cache
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
