"""What clips of a voice are worth: who is enrolled and tested, the scores of a run, and the page made of the table."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_clips, tone_clips

from ser_lib.audio import features
from ser_lib.common.errors import SerError
from ser_lib.models.profiles import profile_of
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.studies import voice

EMOTIONS = ["neutral", "happy", "sad"]


class Recorder:
    """A model whose inputs are numbers of clips: it remembers which were enrolled for its answers."""

    emotions = EMOTIONS

    def profile(self, inputs):
        return profile_of(inputs, np.zeros(len(inputs), int))

    def probabilities(self, inputs, profile=None):
        count = np.broadcast_to(0 if profile is None else profile.count, (len(inputs), 1))[:, 0]
        answers = np.full((len(inputs), 3), 0.25)
        # Neutral without a profile, the truth with one.
        answers[np.arange(len(inputs)), np.where(count > 0, inputs[:, 1], 0).astype(int)] = 0.5
        return answers


@pytest.fixture
def voices():
    clips = make_clips(6, EMOTIONS, sentences=4, takes=4)
    inputs = np.stack([np.arange(len(clips)), clips["emotion"].map(EMOTIONS.index)], axis=1).astype(np.float32)
    rows_of = {speaker: np.flatnonzero(clips["speaker"] == speaker) for speaker in clips["speaker"].unique()}
    others = {name: [inputs[rows] for other, rows in rows_of.items() if other != name] for name in rows_of}
    return [
        voice.Voice(Recorder(), clips.iloc[rows].reset_index(drop=True), inputs[rows], others[name])
        for name, rows in rows_of.items()
    ]


def enrolled_and_tested(one, trials, monkeypatch):
    """The numbers of the clips that each trial enrols and tests."""
    enrolled = []
    monkeypatch.setattr(Recorder, "profile", lambda _, inputs: enrolled.append(inputs[:, 0]) or "profile")
    made = list(trials(one, np.random.default_rng(0)))
    return [(set(who), set(trial.inputs[:, 0])) for who, trial in zip(enrolled, made, strict=True)]


def test_no_clip_is_tested_by_a_model_that_was_given_it(voices, monkeypatch):
    everything = set(voices[0].inputs[:, 0])
    seen = set()
    for study, condition, k, trials in voice.conditions():
        if k == 0:
            continue
        pairs = enrolled_and_tested(voices[0], trials, monkeypatch)
        assert pairs, condition
        for enrolled, tested in pairs:
            assert not enrolled & tested, condition
            assert len(enrolled) == (24 if k == -1 else k), condition
            assert (enrolled <= everything) == (study != "speaker"), condition
        if study == "number":
            assert set.union(*(tested for _, tested in pairs)) == everything
        seen.add(study)
    assert seen == {"number", "moods", "speaker"}


def test_moods_are_those_that_the_condition_names(voices, monkeypatch):
    emotion_of = dict(zip(voices[0].inputs[:, 0], voices[0].clips["emotion"], strict=True))
    for study, condition, _, trials in voice.conditions():
        if study == "moods":
            ((enrolled, _),) = enrolled_and_tested(voices[0], trials, monkeypatch)
            moods = {emotion_of[number] for number in enrolled}
            assert moods == {"neutral"} if "neutral" in condition else len(moods) == 2


def test_a_condition_for_which_a_voice_has_too_few_clips_is_left_out(voices):
    # Nine clips: three neutral, six happy.
    rows = [*range(3), *range(16, 22)]
    few = voices[0]._replace(clips=voices[0].clips.iloc[rows], inputs=voices[0].inputs[rows])
    made = {name: voice._row([few, voices[1]], name, trials) for _, name, _, trials in voice.conditions()}
    left_out = {"8 clips", "16 clips", "4 clips, all neutral", "8 clips, all neutral", "8 clips, of two emotions"}
    assert {name for name, row in made.items() if row is None} == left_out


def test_scores_are_with_and_without_the_profile(voices):
    row = voice._row(voices, "2 clips", next(t for _, name, _, t in voice.conditions() if name == "2 clips"))
    assert row["uar"] == 1 and row["difference"] == pytest.approx(2 / 3)
    assert (row["clips"], row["speakers"]) == (6 * 48, 6)
    none = voice._row(voices, "no clips", next(t for _, name, _, t in voice.conditions() if name == "no clips"))
    assert none["uar"] == pytest.approx(1 / 3) and none["difference"] == 0


def test_while_listening_only_earlier_clips_are_known(voices):
    rows = list(voice._listening(voices))
    before = [row for row in rows if "itself" not in row["condition"]]
    assert [row["k"] for row in before] == [0, 1, 4, 8, 16, 32]
    assert before[-1]["condition"] == "32 or more earlier clips"
    assert [row["difference"] > 0 for row in before] == [False, *[True] * 5]
    assert all(row["difference"] > 0 for row in rows[len(before) :]) and len(rows) == 2 * len(before)


def test_the_profile_so_far_is_that_of_the_clips_so_far():
    inputs, predicted = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32), np.arange(9) % 2
    before, itself = (voice._so_far(inputs, predicted, with_itself) for with_itself in (False, True))
    assert not before.mean[0].any() and before.count[0] == 0
    for row in range(9):
        expected = profile_of(inputs[: row + 1], predicted[: row + 1])
        np.testing.assert_allclose(itself.mean[row], expected.mean, atol=1e-6)
        assert itself.count[row, 0] == pytest.approx(expected.count)
        if row < 8:
            np.testing.assert_allclose(before.mean[row + 1], itself.mean[row])


def test_a_model_without_profiles_is_refused():
    with pytest.raises(SerError, match="cannot use clips of a speaker"):
        voice.measure(load_recipe("demo"))


def test_measures_a_run_of_every_protocol_that_is_asked_for(tmp_path, monkeypatch):
    clips = tone_clips(tmp_path, speakers=4, takes=12, seconds=0.3)
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: clips.copy())
    for name in ("DRAWS", "RECORDINGS"):
        monkeypatch.setattr(voice, name, 1)

    # Without the processes that a large corpus is worth.
    def one_by_one(clips, audio, settings, progress):
        return np.stack([features.clip_features(path, audio, settings) for path in clips["path"]])

    monkeypatch.setattr(features, "extract", one_by_one)
    sizes = ["input.pooling=mean+std", "split.folds=2", f"emotions=[{','.join(EMOTIONS)}]"]
    recipe = load_recipe("demo", overrides=["model.name=corpus-experts", *sizes])
    said = []
    table = voice.measure(recipe, None, tmp_path, said.append, protocols={"speaker": "other speakers"})
    assert list(table) == voice.COLUMNS and set(table["corpus"]) == {"sample"}
    assert set(table["study"]) == {"number", "moods", "speaker", "microphone", "listening"}
    number = table[table["study"] == "number"].set_index("k")
    assert set(number.index) == {0, 2, 4, 8, 16, -1} and (number["clips"] == 144).all()
    run_uar = voice.PlannedRun(recipe, "speaker", 0, tmp_path).finished().metrics["overall"]["uar"]
    assert number.loc[0, "uar"] == pytest.approx(run_uar, abs=1e-6)
    assert said == ["training demo, " + recipe.variant_label + ", speaker, seed 0", "sample, speaker: 4 speakers"]
    voice.write_table(table, tmp_path)
    pd.testing.assert_frame_equal(voice.read_table(tmp_path), table, atol=1e-4)
    with pytest.raises(SerError, match="`ser voice` measures it"):
        voice.read_table(tmp_path / "elsewhere")
