"""The analysis of finished runs, and `ser compare`, on tiny runs that are trained once."""

import dataclasses

import numpy as np
import pytest
from conftest import tone_clips
from tiny import tiny_checkpoint

from ser_lib.audio.reading import prepare_all
from ser_lib.cli import main
from ser_lib.common.errors import SerError
from ser_lib.evaluation import metrics, run_analysis
from ser_lib.evaluation.calibration import calibrated
from ser_lib.evaluation.run_analysis import compare_runs, describe_comparison, seed_spread, validation_predictions
from ser_lib.inference.run import load_run, model_folder
from ser_lib.models import audio_classifier
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.recipes.inputs import inputs_of
from ser_lib.training import experiment

EMOTIONS = ("neutral", "happy", "sad")
FAST = ["corpora=[sample]", "emotions=[neutral, happy, sad]", "split.folds=2", "training.device=cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tone clips of six speakers, and runs of them by a name each."""
    folder = tmp_path_factory.mktemp("run_analysis")
    clips = tone_clips(folder / "tones", speakers=6, emotions=EMOTIONS, takes=2, seconds=0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs_module, "load_clips", lambda *_, **__: clips.copy())
        patch.setenv("SER_CACHE_DIR", str(folder / "cache"))

        def train(name, *overrides, protocol="speaker", seed=0, place="runs"):
            recipe = load_recipe(name, overrides=[*FAST, *overrides])
            return experiment.train(recipe, protocol, seed, runs_dir=folder / place, progress=False)

        few, many = ["training.epochs=1", "model.hidden=8"], ["training.epochs=15", "model.hidden=8"]
        runs = {
            "poor": train("demo", *few),
            "other seed": train("demo", *few, seed=1),
            "good": train("demo", *many, place="good"),
            "random split": train("demo", *few, protocol="deduplicated"),
            "adapted": train("demo", *few, protocol="speaker-adapted"),
            "fine-tuned": train(
                "tess-wav2vec2-finetune",
                f"input.encoder={tiny_checkpoint(folder / 'wav2vec2', 'wav2vec2')}",
                *("training.precision=float32", "training.epochs=1", "training.batch_size=8"),
            ),
        }
    return clips, runs


@pytest.mark.parametrize("name", ["poor", "adapted", "fine-tuned"])
def test_validation_probabilities_are_those_of_each_folds_model(made, name):
    clips, runs = made
    run = runs[name]
    table = validation_predictions(run, clips, progress=False)
    assert list(table) == ["clip_id", "truth", *EMOTIONS, "fold"]
    for fold, part in table.groupby("fold"):
        expected = run.split[(run.split["fold"] == fold) & (run.split["subset"] == "validation")]
        assert part["clip_id"].tolist() == expected["clip_id"].tolist()
        assert part["truth"].tolist() == expected["emotion"].tolist()
        # The history has the score of the weights that were kept, on these very clips.
        kept = run.history[(run.history["fold"] == fold) & run.history["best"]]
        uar = metrics.score(part.drop(columns="fold"))["uar"]
        assert uar == pytest.approx(kept["validation_uar"].iloc[0], abs=1e-6)
    if name == "fine-tuned":
        model, extractor = audio_classifier.load(model_folder(run.folder, 1))
        paths = clips.set_index("clip_id").loc[table.loc[table["fold"] == 1, "clip_id"], "path"]
        waveforms = prepare_all(paths, run.recipe.input.audio.model_dump(), progress=False)
        again = audio_classifier.probabilities(model, extractor, waveforms)
        np.testing.assert_allclose(table.loc[table["fold"] == 1, list(EMOTIONS)], again, atol=1e-5)


def test_a_run_is_calibrated_fold_by_fold(made):
    clips, runs = made
    run = runs["poor"]
    after = calibrated(run_analysis.test_predictions(run), validation_predictions(run, clips, progress=False))
    assert after["clip_id"].tolist() == run.predictions["clip_id"].tolist()
    decided = [metrics.decisions(table)["prediction"].tolist() for table in (run.predictions, after)]
    assert decided[0] == decided[1]
    assert not np.allclose(after[list(EMOTIONS)], run.predictions[list(EMOTIONS)], atol=1e-3)


def test_another_encoder_or_corpus_than_the_runs_is_noticed(made, monkeypatch):
    clips, runs = made
    real = inputs_of
    monkeypatch.setattr(run_analysis, "inputs_of", lambda *arguments: real(*arguments) * 3 + 1)
    with pytest.raises(SerError, match="fold 0 in .* does not reproduce the stored predictions of test clips"):
        validation_predictions(runs["good"], clips, progress=False)
    with pytest.raises(SerError, match="1 clips of .* are missing"):
        validation_predictions(runs["good"], clips[1:], progress=False)


def test_a_run_without_validation_clips_has_no_validation_probabilities(made):
    clips, runs = made
    split = runs["poor"].split
    run = dataclasses.replace(runs["poor"], split=split[split["subset"] != "validation"])
    with pytest.raises(SerError, match="was trained without validation clips"):
        validation_predictions(run, clips)


def test_runs_are_compared_with_the_speakers_of_their_splits(made):
    _, runs = made
    row = compare_runs({"good": runs["good"], "poor": runs["poor"]}).iloc[0]
    scores = [runs[name].metrics["overall"]["uar"] for name in ("good", "poor")]
    assert row["uar_difference"] == pytest.approx(scores[0] - scores[1])
    assert (row["test_speakers"], row["interval_over"]) == (6, "speakers")


def test_the_spread_over_seeds_is_that_of_the_scores(made):
    _, runs = made
    table = seed_spread([runs["poor"], runs["other seed"]])
    values = [runs[name].metrics["overall"]["uar"] for name in ("poor", "other seed")]
    row = table.loc["uar"]
    assert row.tolist() == pytest.approx([2, np.mean(values), np.std(values, ddof=1), min(values), max(values)])
    with pytest.raises(SerError, match="two seeds or more, each once"):
        seed_spread([runs["poor"], runs["good"]])
    with pytest.raises(SerError, match="only the seed may differ"):
        seed_spread([runs["good"], runs["other seed"]])


class TestSerCompare:
    def answer(self, capsys, runs, *more):
        status = main(["compare", *(str(run.folder) for run in runs), *more])
        out, err = capsys.readouterr()
        return status, out, err

    def test_prints_scores_differences_and_a_sentence(self, made, capsys):
        _, runs = made
        status, out, _ = self.answer(capsys, [runs["poor"], runs["good"]])
        assert status == 0
        difference = runs["good"].metrics["overall"]["uar"] - runs["poor"].metrics["overall"]["uar"]
        assert f"B is better than A by {difference:.3f} UAR (" in out
        assert "on the same 36 clips of 6 speakers" in out and "McNemar p" in out
        assert f"{runs['good'].metrics['overall']['uar']:.3f} (95 % CI " in out and "†" not in out
        assert "B: stated; " in out and "training.epochs=15" in out
        assert "Holm" not in out and "protocols differ" not in out and "leaks (" not in out

    def test_of_three_corrects_and_says_that_protocols_differ(self, made, capsys):
        _, runs = made
        status, out, _ = self.answer(capsys, [runs["poor"], runs["good"], runs["adapted"]])
        assert status == 0 and "p (Holm)" in out
        assert "The protocols differ (A speaker, B speaker, C speaker-adapted)" in out
        assert len([line for line in out.splitlines() if " on the same 36 clips" in line]) == 3

    def test_refuses_other_test_clips_unless_only_the_shared_are_asked_for(self, made, capsys):
        _, runs = made
        both = [runs["poor"], runs["random split"]]
        status, out, err = self.answer(capsys, both)
        n = len(runs["random split"].predictions)
        assert status == 1 and out == ""
        assert err.startswith(f"ser: A and B: the test clips differ: {n} are in both") and "--shared" in err
        status, out, _ = self.answer(capsys, both, "--shared")
        assert status == 0 and f"on the same {n} clips" in out
        assert "B leaks (" in out and "same speaker" in out

    def test_refuses_one_run_and_no_run(self, made, capsys):
        _, runs = made
        assert "2 to 26 runs, got 1" in self.answer(capsys, [runs["poor"]])[2]
        assert main(["compare", "/nowhere", "/nowhere"]) == 1
        assert "is not a run folder" in capsys.readouterr().err

    def test_of_a_run_with_itself_finds_nothing(self, made):
        _, runs = made
        again = load_run(runs["good"].folder)
        text = describe_comparison([runs["good"], again])
        assert "No difference between A and B is shown: +0.000 UAR (0.000 to 0.000)" in text
        assert "1.0000    1.0000" in text


def test_p_values_are_never_printed_as_0():
    assert [run_analysis._p_value(p) for p in (1, 0.00009, 0.0123)] == ["1.0000", "< 0.0001", "0.0123"]
