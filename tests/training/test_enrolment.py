"""Runs in which each test speaker gives some unlabelled clips first, from recipe to run folder."""

import numpy as np
import pandas as pd
import pytest
from conftest import tone_clips

from ser_lib.common.errors import SerError
from ser_lib.evaluation import metrics, run_analysis
from ser_lib.inference.run import load_run
from ser_lib.models.heads import Head
from ser_lib.protocols.leak_audit import red_leaks
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.recipes.inputs import clips_of, inputs_of
from ser_lib.training import experiment

EXPERTS = ["model.name=corpus-experts", "input.pooling=mean+std", "training.inverse_regularisation=[0.001, 0.01]"]
BRIEF = ["emotions=[neutral, happy, sad]", "split.folds=2"]


def train(folder, *overrides, protocol="enrolled"):
    recipe = load_recipe("demo", overrides=[*BRIEF, *overrides])
    return experiment.train(recipe, protocol, runs_dir=folder, progress=False)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    """A run on the bundled corpus, read from its folder, and its clips; the cache holds their features."""
    folder = tmp_path_factory.mktemp("enrolment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_CACHE_DIR", str(folder / "cache"))
        patch.delenv("SER_DATA_DIR", raising=False)
        run = load_run(train(folder / "runs", *EXPERTS, "split.enrol_clips=6").folder)
        clips = clips_of(run.recipe, "enrolled", progress=False)
        clips = clips.set_index("clip_id", drop=False)
        yield run, clips, lambda ids: inputs_of(run.recipe, clips.loc[ids].reset_index(drop=True), "enrolled", False)


@pytest.fixture
def cached(bundled, monkeypatch):
    """The run of `bundled`, in a test that reads the cached features."""
    monkeypatch.setenv("SER_CACHE_DIR", str(bundled[0].folder.parents[3] / "cache"))
    return bundled


def test_a_run_lists_the_clips_given_and_tests_the_others(bundled):
    run, clips, _ = bundled
    given = run.split[run.split["subset"] == "enrolment"]
    assert set(given.groupby("speaker").size()) == {6} and given["speaker"].nunique() == clips["speaker"].nunique()
    tested = set(run.predictions["clip_id"])
    assert tested.isdisjoint(given["clip_id"]) and tested | set(given["clip_id"]) == set(clips["clip_id"])
    for fold in (0, 1):
        learned = run.learned_from(fold)
        assert set(learned["subset"]) == {"train", "validation"}
        assert set(learned["speaker"]).isdisjoint(given.loc[given["fold"] == fold, "speaker"])
    assert run.recipe.split.enrol_clips == 6 and "split.enrol_clips=6" in run.recipe.variant_label
    assert red_leaks(run.audit[run.audit["leak"] != "near-same audio"]).empty


def test_answers_are_those_of_each_folds_model_with_the_profile_of_the_speaker(cached):
    run, _, inputs = cached
    recorded, changed = run.predictions.set_index("clip_id")[run.emotions], []
    for fold in (0, 1):
        model, split = run.model(fold), run.split[run.split["fold"] == fold]
        for _, part in split.groupby("speaker"):
            ids = {subset: rows["clip_id"] for subset, rows in part.groupby("subset")}
            if "test" not in ids:
                continue
            profile = model.profile(inputs(ids["enrolment"]))
            assert 0 < profile.count <= 6
            tested = inputs(ids["test"])
            np.testing.assert_allclose(model.probabilities(tested, profile), recorded.loc[ids["test"]], atol=1e-5)
            changed.append(np.abs(model.probabilities(tested) - recorded.loc[ids["test"]].to_numpy()).max())
    assert len(changed) == run.test_clips()["speaker"].nunique() and max(changed) > 0.05


def test_the_model_that_answers_takes_a_profile_and_does_without_one(cached):
    run, clips, inputs = cached
    assert run.answers_for_all and run.model().takes_profile
    answers = run.predict(clips["path"].tolist()[:3], progress=False)
    assert (answers["error"] == "").all()
    plain = run.model().probabilities(inputs(clips["clip_id"][:3]))
    np.testing.assert_allclose(answers[run.emotions], plain, atol=1e-3)


def test_a_run_says_what_its_threshold_for_certain_answers_is_worth(cached):
    run, clips, inputs = cached
    scores = run.metrics["certainty"]
    assert scores["target"] == metrics.CERTAIN
    right = run.predictions[run.emotions].idxmax(axis=1) == run.predictions["truth"]
    assert scores["accuracy_of_all"] == pytest.approx(right.mean())
    # The models that had not seen the validation clips are not kept: they are fitted once more, to the same rows.
    features, labels = inputs(clips["clip_id"]), clips["emotion"].map(run.emotions.index).to_numpy(copy=True)
    row_of, thresholds = pd.Series(np.arange(len(clips)), index=clips["clip_id"]), []
    for fold, part in run.split.groupby("fold"):
        rows = {subset: row_of[ids].to_numpy(copy=True) for subset, ids in part.groupby("subset")["clip_id"]}
        model = run.recipe.create_model()
        settings = {"emotions": run.emotions, "seed": int(fold), "folder": run.folder, "progress": False}
        table = clips.reset_index(drop=True)
        model.fit(features, labels, rows["train"], rows["validation"], clips=table, **settings)
        probabilities = model.probabilities(features[rows["validation"]])
        thresholds.append(metrics.certain_from(labels[rows["validation"]], probabilities))
    by_fold = [part.drop(columns="fold") for _, part in run_analysis.test_predictions(run).groupby("fold")]
    assert thresholds == pytest.approx(scores["by_fold"])
    assert metrics.score_certainty(by_fold, thresholds) | {"by_fold": 0} == pytest.approx(scores | {"by_fold": 0})


def test_validation_clips_of_such_a_run_are_predicted(cached):
    run, clips, _ = cached
    table = run_analysis.validation_predictions(run, clips.reset_index(drop=True), progress=False)
    assert len(table) == (run.split["subset"] == "validation").sum()


@pytest.fixture
def tones(tmp_path, monkeypatch):
    """Tones of three speakers in each of three corpora; `load_clips` finds them and nothing else."""
    of_corpora = []
    for number, corpus in enumerate(("sample", "savee", "tess")):
        clips = tone_clips(tmp_path / corpus, speakers=3, takes=4, seconds=0.2)
        clips["clip_id"] = clips["clip_id"].str.replace("sample/", f"{corpus}/")
        clips["speaker"] = clips["speaker"].str.replace("sample", corpus)
        clips["audio_hash"] = [f"{1000 * number + row:032x}" for row in range(len(clips))]
        of_corpora.append(clips.assign(corpus=corpus))
    table = pd.concat(of_corpora, ignore_index=True)
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: table.copy())
    return table


TONES = ["emotions=[neutral, happy, sad]", "corpora=[sample, savee, tess]", "input.n_mfcc=13"]


def test_speakers_of_a_corpus_never_heard_give_clips_too(tones, tmp_path):
    run = train(tmp_path, *TONES, *EXPERTS, "split.enrol_clips=3", protocol="cross-corpus")
    given = run.split[run.split["subset"] == "enrolment"]
    assert set(given.groupby(["fold", "speaker"]).size()) == {3} and given["fold"].nunique() == 3
    assert len(run.predictions) == len(tones) - len(given)
    # Each fold learns from two of the corpora, and the model that answers from all.
    assert [run.model(fold).module.config["n_corpora"] for fold in (0, 1, 2)] == [2, 2, 2]
    assert run.model().module.config["n_corpora"] == 3


@pytest.mark.parametrize(("protocol", "more"), [("enrolled", ()), ("cross-corpus", ("split.enrol_clips=2",))])
def test_a_model_that_cannot_use_the_clips_is_refused_before_it_is_trained(
    tones, tmp_path, monkeypatch, protocol, more
):
    def never(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(Head, "fit", staticmethod(never))
    with pytest.raises(SerError, match="a model mlp cannot use clips of a speaker: take a recipe such as speech-emot"):
        train(tmp_path / "runs", *TONES, "model.name=mlp", "input.pooling=mean", *more, protocol=protocol)
    assert not list(tmp_path.glob("runs/**/*"))


def test_no_clips_are_the_protocol_speaker_for_every_model(tones, tmp_path):
    overrides = [*TONES, "model.name=logistic-regression", "input.pooling=mean"]
    none = train(tmp_path, *overrides, "split.enrol_clips=0")
    speaker = train(tmp_path, *overrides, protocol="speaker")
    pd.testing.assert_frame_equal(none.predictions, speaker.predictions)
    assert set(none.split["subset"]) == {"train", "validation", "test"}
