"""Occlusion finds what an answer rests on: of models that are built to rest on it, and of a network."""

import copy

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_lib.audio.reading import Recording, prepare, without_offset
from ser_lib.common.errors import SerError
from ser_lib.inference import explain
from ser_lib.inference.predictor import TrainedPredictor
from ser_lib.models import networks as models
from ser_lib.recipes import load_recipe
from ser_lib.reports import plots

RATE = 16000


class LoudnessOf:
    """Hears anger by how much louder one part of a clip is than 0.01 (root mean square), else it is neutral."""

    emotions = ["neutral", "angry"]
    sampling_rate = RATE

    def __init__(self, part, *overrides):
        self.part = part
        recipe = load_recipe("demo", overrides=["input.audio.trim_below_db=null", *overrides])
        self.audio = recipe.input.audio
        self.batches = []

    def for_prepared_audio(self):
        raw = {"trim_below_db": None, "normalise": None, "offset_seconds": 0.0, "remove_offset": False}
        other = copy.copy(self)
        other.audio = self.audio.model_copy(update=raw)
        return other

    def probabilities(self, recordings):
        self.batches.append(len(recordings))
        audio = self.audio.model_dump()
        levels = [np.sqrt(np.square(self.part(prepare(one, **audio))).mean()) for one in recordings]
        angry = 1 / (1 + (0.01 / np.maximum(levels, 1e-9)) ** 2)
        return np.column_stack([1 - angry, angry])


def seconds_of(start, end):
    return lambda waveform: waveform[int(start * RATE) : int(end * RATE)]


def band_of(low, high):
    def part(waveform):
        spectrum = np.fft.rfft(waveform)
        hertz = np.fft.rfftfreq(len(waveform), 1 / RATE)
        return np.fft.irfft(np.where((hertz >= low) & (hertz < high), spectrum, 0), len(waveform))

    return part


def voice(seconds=2.0, seed=0, pause=0.3):
    """Noise in all bands that pauses now and then, as a voice does: one channel."""
    rng = np.random.default_rng(seed)
    waveform = 0.1 * rng.standard_normal(round(seconds * RATE))
    time = np.arange(len(waveform)) / RATE
    waveform[(time % 1.0) > 1 - pause] *= 0.005
    return Recording(waveform.astype(np.float32), RATE)


def test_the_second_that_carries_the_emotion_is_found():
    model = LoudnessOf(seconds_of(1.0, 1.25))
    table = explain.occlusion(model, voice(), width=0.25, step=0.25)
    assert table.attrs["emotion"] == "angry" and table["change"].idxmin() == 4
    assert table.loc[4, ["start", "end"]].tolist() == [1.0, 1.25] and table.loc[4, "change"] < -0.5
    assert table.drop(index=4)["change"].abs().max() < 0.01
    assert model.batches == [1, 8]  # all covered versions at once
    np.testing.assert_allclose(table["change"], table["probability"] - table.attrs["probability"])


def test_the_band_that_carries_the_emotion_is_found():
    table = explain.occlusion(LoudnessOf(band_of(800, 1600)), voice(), "frequency", step=1.0)
    assert table["low_hz"].iloc[0] == 0 and table["high_hz"].iloc[-1] == RATE / 2
    worst = table.loc[table["change"].idxmin()]
    assert (worst["low_hz"], worst["high_hz"], worst["change"] < -0.5) == (800, 1600, True)
    assert table[(table["high_hz"] <= 800) | (table["low_hz"] >= 1600)]["change"].abs().max() < 0.01


def test_a_pause_that_is_covered_changes_next_to_nothing():
    waveform = voice().samples.copy()
    waveform[RATE : RATE + RATE // 4] *= 0.005 / np.abs(waveform[RATE : RATE + RATE // 4]).max()
    # The model reads only that interval, and would notice anything louder in it.
    model = LoudnessOf(seconds_of(1.0, 1.25))
    table = explain.occlusion(model, Recording(waveform, RATE), step=0.25, emotion="angry")
    assert table["change"].abs().max() < 0.1


@given(st.floats(0.03, 3.0), st.sampled_from(["time", "frequency"]), st.integers(0, 9), st.sampled_from([0.0, 0.3]))
@settings(max_examples=15, deadline=None)
def test_all_of_a_clip_covered_is_answered_as_its_pause(seconds, over, seed, pause):
    model = LoudnessOf(lambda waveform: waveform)
    recording = voice(seconds, seed, pause)
    table = explain.occlusion(model, recording, over, width=100.0, emotion="angry")
    expected = model.for_prepared_audio().probabilities(
        [Recording(explain.pause_of(without_offset(recording.samples), RATE), RATE)]
    )[0, 1]
    assert len(table) == 1 and table["probability"].item() == pytest.approx(expected, abs=1e-3)


@given(st.floats(0.05, 2.9), st.floats(0.05, 1.0), st.floats(0.2, 1.0))
@settings(max_examples=20, deadline=None)
def test_parts_leave_nothing_out(seconds, width, share):
    recording, step = voice(seconds), share * width
    table = explain.occlusion(LoudnessOf(seconds_of(0, 9)), recording, width=width, step=step)
    total = len(recording.samples) / RATE
    assert table["start"].iloc[0] == 0 and table["end"].iloc[-1] == pytest.approx(total, abs=1e-5)
    assert (table["end"] <= total).all() and (table["start"] < table["end"]).all()
    assert (table["start"].iloc[1:].to_numpy() <= table["end"].iloc[:-1] + 1e-9).all()


class TestThePauseOfAClip:
    def test_is_as_loud_as_its_quietest_parts_and_the_same_every_time(self):
        waveform = voice(3.0).samples
        pause = explain.pause_of(waveform, RATE)
        quiet = waveform[int(0.75 * RATE) : int(0.95 * RATE)]
        assert np.sqrt(np.square(pause).mean()) == pytest.approx(np.sqrt(np.square(quiet).mean()), rel=0.15)
        np.testing.assert_array_equal(pause, explain.pause_of(waveform, RATE))

    def test_is_quiet_where_a_clip_has_no_pause(self):
        waveform = voice(2.0, pause=0.0).samples
        below = np.square(explain.pause_of(waveform, RATE)).mean() / np.square(waveform).mean()
        assert 10 * np.log10(below) == pytest.approx(explain.PAUSE_DB, abs=1)

    def test_of_silence_is_silence(self):
        assert not explain.pause_of(np.zeros(RATE, np.float32), RATE).any()


class TestPreparation:
    def test_a_covered_clip_is_not_made_louder(self):
        """With its loudest second covered, a clip normalised once more would be a hundred times as loud."""
        waveform = voice(2.0).samples.copy()
        waveform[:RATE] *= 0.01
        model = LoudnessOf(seconds_of(0, 0.5), "input.audio.normalise=peak")
        table = explain.occlusion(model, Recording(waveform, RATE), width=1.0, step=1.0, emotion="angry")
        assert abs(table["change"].iloc[-1]) < 0.02

    def test_a_covered_end_is_not_cut_off(self):
        lengths = []
        model = LoudnessOf(lambda waveform: lengths.append(len(waveform)) or waveform)
        model.recipe = load_recipe("demo")  # trims
        explain.occlusion(model, voice(1.6, pause=0.0), width=0.4, step=0.4)
        assert set(lengths) == {round(1.6 * RATE)}

    def test_times_are_those_of_the_trimmed_clip_at_the_models_rate(self):
        model = LoudnessOf(seconds_of(0, 9), "input.audio.trim_below_db=40")
        silence = np.zeros(8000, np.float32)
        stereo = np.repeat(np.concatenate([silence, voice(1.0, pause=0.0).samples, silence])[:, None], 2, axis=1)
        table = explain.occlusion(model, Recording(stereo, RATE // 2))  # 4 s at half the rate, 2 of them sound
        assert table["end"].iloc[-1] == pytest.approx(2.0, abs=0.15)
        assert len(table.attrs["waveform"]) / table.attrs["sampling_rate"] == table["end"].iloc[-1]


@pytest.mark.parametrize(
    "audio", ["{normalise: peak, trim_below_db: 30, offset_seconds: 0.1}", "{max_seconds: 3.0, pad: true}"]
)
def test_a_network_is_asked_about_the_clip_that_it_was_asked_about_first(tmp_path, audio):
    recipe = load_recipe("demo", overrides=[f"input.audio={audio}"])
    network = models.build("cnn", ["happy", "sad"], (99, 40), hidden=8, dense=(8,))
    models.save(network, tmp_path)
    model = TrainedPredictor(recipe, [tmp_path], tmp_path, "cpu")
    recording = voice(1.0)
    table = explain.occlusion(model, recording, width=0.5)
    prepared = Recording(np.array(table.attrs["waveform"], np.float32), RATE)
    again = model.for_prepared_audio().probabilities([prepared])
    np.testing.assert_array_equal(again, model.probabilities([recording]))
    assert table.attrs["probability"] == again.max() and table["change"].abs().max() > 0
    # The model itself is left as it was.
    assert model.audio == model.models[0].input.audio == recipe.input.audio


def test_tables_can_be_put_together_and_drawn():
    tables = [explain.occlusion(LoudnessOf(lambda waveform: waveform), voice(), over) for over in ("time", "frequency")]
    assert len(pd.concat(tables)) == sum(map(len, tables))
    titles = [plots.occlusion(table).get_suptitle() for table in tables]
    assert all(title.startswith("Probability of angry (9") for title in titles)
    table = explain.occlusion(LoudnessOf(seconds_of(0.5, 0.75)), voice(), step=0.25)
    assert table.loc[table["change"].idxmin(), ["start", "end"]].tolist() == [0.5, 0.75]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"over": "words"}, 'must be "time" or "frequency"'),
        ({"width": 0.0}, "above 0"),
        ({"step": float("nan")}, "above 0"),
        ({"step": 0.3}, r"at most the width \(0.25\)"),
        ({"step": 0.001}, "take a longer step"),
        ({"emotion": "joy"}, "the model predicts neutral, angry"),
    ],
)
def test_an_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(SerError, match=message):
        explain.occlusion(LoudnessOf(seconds_of(0, 1)), voice(), **arguments)


def test_the_surest_of_the_short_ones_is_explained():
    recordings = [Recording(np.zeros(1000 * seconds), 1000, str(seconds)) for seconds in (5, 40, 9, 7)]
    answers = pd.DataFrame(
        {"clip_id": list("abcd"), "emotion": ["sad"] * 4, "sad": [0.6, 0.9, np.nan, 0.7], "error": [""] * 4}
    )
    assert explain.surest(answers, recordings).name == "7"
    assert explain.surest(answers.iloc[1:3], recordings[1:3]) is None
