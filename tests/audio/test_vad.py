"""Where somebody speaks: however the stream is cut, in silence, in noise, and in speech that begins at once."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_lib.audio import reading, vad
from ser_lib.common.errors import SerError
from ser_lib.corpora.clips import load_clips

RATE = 16000
NAMES = ("energy", "silero", "none")


def noise(seconds, decibels, seed=0, rate=RATE):
    samples = np.random.default_rng(seed).standard_normal(round(seconds * rate))
    return (samples * 10 ** (decibels / 20)).astype(np.float32)


def new(name, rate=RATE):
    if name == "silero":
        pytest.importorskip("silero_vad")
    return vad.detector(name, rate)


@pytest.fixture(scope="module")
def clips():
    """Four bundled clips of different speakers and emotions, cut where their sound begins and ends."""
    waveforms = []
    for path in load_clips("sample", progress=False).drop_duplicates("speaker")["path"].head(4):
        waveform = reading.prepare(path, sampling_rate=RATE)
        loud = np.flatnonzero(np.abs(waveform) > 0.02)
        waveforms.append(waveform[loud[0] : loud[-1] + 1])
    return waveforms


def stretches(flags, frame_seconds, gap=0.5):
    """Start and end in seconds of what is speech, pauses of up to `gap` included."""
    spans = []
    for frame in np.flatnonzero(flags):
        start, end = frame * frame_seconds, (frame + 1) * frame_seconds
        if spans and start - spans[-1][1] <= gap:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    return np.array(spans)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rate", [RATE, 22050])
def test_the_result_does_not_depend_on_the_cuts(name, rate, clips):
    waveform = np.concatenate([clips[0][-RATE:], noise(0.5, -50), clips[1][: RATE // 2]])
    whole = new(name, rate).push(waveform)
    assert whole.dtype == bool
    assert len(waveform) / rate - 0.2 < len(whole) * new(name, rate).frame_seconds <= len(waveform) / rate

    @settings(max_examples=3 if name == "silero" else 15, deadline=None)
    @given(st.lists(st.integers(0, len(waveform)), max_size=12))
    def same(cuts):
        detector = new(name, rate)
        pieces = [detector.push(piece) for piece in np.split(waveform, sorted(cuts))]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)

    same()
    samplewise = new(name, rate)
    tiny = [samplewise.push(waveform[i : i + 7]) for i in range(0, RATE // 4, 7)]
    np.testing.assert_array_equal(np.concatenate(tiny), whole[: sum(map(len, tiny))])


@pytest.mark.parametrize("name", ["energy", "silero"])
def test_silence_is_no_speech(name):
    assert not new(name).push(np.zeros(3 * RATE, np.float32)).any()
    assert not new(name).push(noise(3, -75)).any()
    assert not new(name).push(np.full(3 * RATE, 0.3, np.float32) + noise(3, -75)).any()  # a constant offset


@pytest.mark.parametrize("name", ["energy", "silero"])
@pytest.mark.parametrize("decibels", [-50, -30, -15])
def test_steady_noise_is_no_speech(name, decibels):
    flags = new(name).push(noise(6, decibels))
    assert flags[: len(flags) // 2].mean() < 0.2 and not flags[20:].any()


@pytest.mark.parametrize("name", ["energy", "silero"])
def test_noise_that_is_turned_on_is_known_within_a_second_or_two(name):
    flags = new(name).push(np.concatenate([noise(5, -75), noise(5, -34)]))
    assert not flags[: int(5 / 0.032)].any() and not flags[int(6.5 / 0.032) :].any()


@pytest.mark.parametrize("name", ["energy", "silero"])
@pytest.mark.parametrize("between", [None, -50])
def test_clips_are_found_between_pauses(name, between, clips):
    parts, true, seconds = [], [], 0.0
    for clip in clips:
        parts += [np.zeros(2 * RATE, np.float32), clip]
        true.append((seconds + 2, seconds + 2 + len(clip) / RATE))
        seconds = true[-1][1]
    waveform = np.concatenate([*parts, np.zeros(2 * RATE, np.float32)])
    if between is not None:
        waveform += noise(len(waveform) / RATE, between)
    detector = new(name)
    spans = stretches(detector.push(waveform), detector.frame_seconds)
    before = spans[: len(spans) - len(true)]  # what has only just begun may still be speech
    assert len(before) <= (between is not None) and (before < 0.5).all()
    np.testing.assert_allclose(spans[len(before) :], true, atol=0.2)


@pytest.mark.parametrize("name", ["energy", "silero"])
def test_speech_that_begins_at_once_is_detected_from_its_beginning(name, clips):
    for clip in clips:
        flags = new(name).push(clip)
        assert np.flatnonzero(flags)[0] <= 3 and flags.mean() > 0.8


def test_a_click_is_soon_over():
    waveform = np.zeros(2 * RATE, np.float32)
    waveform[RATE : RATE + 30] = 0.5
    flags = new("energy").push(waveform)
    assert not flags[: RATE // 512].any() and 1 <= flags.sum() <= 6


def test_refusals(monkeypatch):
    with pytest.raises(SerError, match="energy, silero, none, not 'loud'"):
        vad.detector("loud", RATE)
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(SerError, match="pip install silero-vad"):
        vad.detector("silero", RATE)


def test_silero_leaves_pytorch_its_threads():
    pytest.importorskip("silero_vad")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for name in [name for name in sys.modules if name.split(".")[0] == "silero_vad"]:
            del sys.modules[name]  # as in a process that has not imported it yet
        vad.detector("silero", RATE)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
