"""Recipes that read pretrained encoders, from clips to a run folder, with tiny random encoders of the real kinds."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tone_clips
from tiny import tiny_checkpoint

from ser_lib.audio.reading import prepare
from ser_lib.cli import main
from ser_lib.common.errors import SerError
from ser_lib.evaluation.results import rows_of
from ser_lib.evaluation.stored_predictions import collect
from ser_lib.inference.run import load_run, model_folder, run_folder
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.recipes.inputs import inputs_of, overview_of
from ser_lib.reports import notebook_display, plots
from ser_lib.training import experiment

EMOTIONS = ("neutral", "happy", "sad")
COMMON = ["corpora=[sample]", "emotions=[neutral, happy, sad]", "split.folds=2", "training.device=cpu"]
FROZEN = [*COMMON, "input.precision=float32", "training.epochs=2"]
FINETUNE = [*COMMON, "training.precision=float32", "training.epochs=1", "training.batch_size=8"]


@pytest.fixture
def tones(tmp_path, monkeypatch):
    """Four speakers, three emotions; `load_clips` finds them and nothing else."""
    clips = tone_clips(tmp_path / "tones", speakers=4, emotions=EMOTIONS, takes=2, seconds=0.3)
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: clips.copy())
    return clips


def train(tmp_path, name, kind, *overrides, folds=None, common=None, **settings):
    checkpoint = tmp_path / kind
    if not checkpoint.is_dir():
        tiny_checkpoint(checkpoint, kind)
    common = common or (FINETUNE if "finetune" in f"{name} {overrides}" else FROZEN)
    overrides = [*common, f"input.encoder={checkpoint}", *overrides]
    recipe = load_recipe(name, overrides=overrides)
    return experiment.train(recipe, runs_dir=tmp_path / "runs", progress=False, folds=folds, **settings)


FROZEN_NAME, FINETUNE_NAME = "ravdess-wav2vec2-frozen-mlp", "tess-wav2vec2-finetune"


class TestAFrozenEncoder:
    @pytest.mark.parametrize(
        "overrides",
        [
            (),
            ("model.name=logistic-regression", "input.layers=[0, 1]", "input.pooling=mean+std"),
            ("model.name=weighted-layers", "input.layers=all", "input.pooling=mean+std"),
            ("model.name=attentive-pooling", "input.layers=[1]", "input.pooling=sequence"),
        ],
        ids=["mlp", "logistic-regression", "weighted-layers", "attentive-pooling"],
    )
    def test_with_each_head_ends_in_a_run_whose_model_gives_its_probabilities(self, tones, tmp_path, overrides):
        if "model.name=logistic-regression" in overrides:
            common = [item for item in FROZEN if not item.startswith("training.epochs")]
        else:
            common = FROZEN
        run = train(tmp_path, FROZEN_NAME, "wav2vec2", *overrides, common=common)
        assert sorted(run.predictions["clip_id"]) == sorted(tones["clip_id"])
        recorded = run.predictions.set_index("clip_id")
        for fold in (0, 1):
            tested = run.split[(run.split["fold"] == fold) & (run.split["subset"] == "test")]["clip_id"]
            clips = tones.set_index("clip_id").loc[tested].reset_index()
            inputs = inputs_of(run.recipe, clips, "speaker", progress=False)
            probabilities = run.model(fold).probabilities(inputs)
            np.testing.assert_allclose(probabilities, recorded.loc[tested, list(EMOTIONS)], atol=1e-4)
        size = run.environment["model"]
        assert 0 < size["trained_parameters"] < size["parameters"] and size["clips_per_second"] > 0

    @pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-layer-norm", "whisper"])
    def test_is_one_checkpoint_that_a_pipeline_loads_with_the_recorded_probabilities(self, tones, tmp_path, kind):
        run = train(tmp_path, FROZEN_NAME, kind)
        assert_pipeline_agrees(run, tones)

    def test_is_computed_once_for_all_heads(self, tones, tmp_path, monkeypatch):
        train(tmp_path, FROZEN_NAME, "wav2vec2")
        from ser_lib.models import embeddings

        monkeypatch.setattr(embeddings, "hidden_states", None)  # would fail, were it called
        train(tmp_path, FROZEN_NAME, "wav2vec2", "model.name=weighted-layers", "input.layers=all")

    def test_shows_its_layers_weights(self, tones, tmp_path):
        run = train(tmp_path, FROZEN_NAME, "wav2vec2", "model.name=weighted-layers", "input.layers=[0, 2]")
        weights = notebook_display.layer_weights(run)
        assert weights.shape == (2, 2) and list(weights.index) == [0, 2]
        np.testing.assert_allclose(weights.sum(), 1, atol=1e-6)
        assert len(plots.layer_weights(weights).axes[0].patches) == 2
        assert notebook_display.layer_weights(train(tmp_path, FROZEN_NAME, "wav2vec2")) is None

    def test_is_standardised_by_speaker_where_the_protocol_says_so(self, tones, tmp_path):
        run = train(tmp_path, FROZEN_NAME, "wav2vec2", protocol="speaker-adapted")
        inputs = inputs_of(run.recipe, tones, "speaker-adapted", progress=False)
        for speaker in tones["speaker"].unique():
            assert abs(inputs[tones["speaker"] == speaker].mean()) < 1e-4

    def test_standardises_each_layer_by_speaker_when_layers_are_weighed(self, tones, tmp_path):
        overrides = ("model.name=weighted-layers", "input.layers=all")
        run = train(tmp_path, FROZEN_NAME, "wav2vec2", *overrides, protocol="speaker-adapted")
        inputs = inputs_of(run.recipe, tones, "speaker-adapted", progress=False)
        for speaker in tones["speaker"].unique():
            own = inputs[tones["speaker"] == speaker]
            np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-3)


class TestAFineTunedEncoder:
    @pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
    def test_ends_in_a_run_that_a_pipeline_loads_with_the_recorded_probabilities(self, tones, tmp_path, kind):
        run = train(tmp_path, FINETUNE_NAME, kind)
        assert sorted(run.predictions["clip_id"]) == sorted(tones["clip_id"])
        assert list(run.history["fold"]) == [0, 1] and run.history["train_loss"].notna().all()
        assert_pipeline_agrees(run, tones)
        assert not list(run.folder.parent.glob("**/*checkpoints*"))  # nothing of the training is left

    def test_counts_what_was_trained(self, tones, tmp_path):
        size = {}
        for trainable in ("all", "lora"):
            run = train(tmp_path, FINETUNE_NAME, "wav2vec2", f"model.trainable={trainable}")
            size[trainable] = run.environment["model"]["trained_parameters"]
        total = run.environment["model"]["parameters"]
        assert total >= size["all"] > size["lora"] > 0
        assert "of these trained" in notebook_display.model_size(run).index
        assert notebook_display.model_summary(run.model().module).loc["total", "numbers"] == total

    def test_refuses_a_protocol_that_standardises_features(self, tones, tmp_path):
        with pytest.raises(SerError, match="speaker-adapted standardises features"):
            train(tmp_path, FINETUNE_NAME, "wav2vec2", protocol="speaker-adapted")

    def test_is_looked_at_through_its_encoder_before_training(self, tones, tmp_path):
        run = train(tmp_path, FINETUNE_NAME, "wav2vec2")
        overview = overview_of(run.recipe, tones, "speaker", progress=False)
        assert overview.ndim == 2 and len(overview) == len(tones) and np.isfinite(overview).all()


def assert_pipeline_agrees(run, clips):
    from transformers import pipeline

    classify = pipeline("audio-classification", model=str(run.folder / "model"), top_k=None)
    recorded = run.predictions.set_index("clip_id")
    tested = run.split[(run.split["fold"] == 0) & (run.split["subset"] == "test")]["clip_id"].iloc[:3]
    for clip_id in tested:
        path = clips.set_index("clip_id").loc[clip_id, "path"]
        answers = classify(prepare(path, **run.recipe.input.audio.model_dump()))
        for answer in answers:
            assert answer["score"] == pytest.approx(recorded.loc[clip_id, answer["label"]], abs=1e-4)
        assert {answer["label"] for answer in answers} == set(EMOTIONS)


class TestFoldsAsJobs:
    @pytest.mark.parametrize("name", [FROZEN_NAME, FINETUNE_NAME])
    def test_give_the_run_that_one_job_gives(self, tones, tmp_path, name):
        whole = train(tmp_path, name, "wav2vec2")
        recipe = whole.recipe
        whole = whole.predictions.to_csv(), whole.history.to_csv(), json.dumps(whole.metrics)
        shutil.rmtree(tmp_path / "runs")
        assert train(tmp_path, name, "wav2vec2", folds=[1]) is None
        folder = run_folder(recipe, "speaker", 0, tmp_path / "runs")
        assert experiment.unfinished_folds(folder) == [0] and not folder.exists()
        joined = train(tmp_path, name, "wav2vec2", folds=[0])
        assert (joined.predictions.to_csv(), joined.history.to_csv(), json.dumps(joined.metrics)) == whole
        assert experiment.unfinished_folds(folder) == []
        assert not list(folder.parent.glob(".0.fold-*"))

    def test_are_named_where_one_is_missing_or_unknown(self, tones, tmp_path, capsys):
        train(tmp_path, FROZEN_NAME, "wav2vec2", folds=[1])
        given = [*FROZEN, f"input.encoder={tmp_path / 'wav2vec2'}"]
        arguments = [FROZEN_NAME, "--runs-dir", str(tmp_path / "runs"), "--set", *given]
        assert main(["evaluate", *arguments]) == 1
        assert "still lacks the folds 0" in capsys.readouterr().err
        with pytest.raises(SerError, match="there is no fold 7: speaker has the folds 0 to 1"):
            train(tmp_path, FROZEN_NAME, "wav2vec2", folds=[7])
        assert main(["train", *arguments, "--folds", "one"]) == 1
        assert "--folds expects numbers such as 0,1" in capsys.readouterr().err

    def test_of_other_settings_are_neither_joined_nor_thrown_away(self, tones, tmp_path):
        train(tmp_path, FROZEN_NAME, "wav2vec2", folds=[1])
        (written,) = (tmp_path / "runs").rglob(experiment.IDENTITY)
        before = written.read_text()
        # As after an edit of the recipe's file.
        written.write_text(json.dumps(json.loads(before) | {"recipe": "another"}))
        with pytest.raises(SerError, match="holds fold-1, trained by a job .* differs in: recipe"):
            train(tmp_path, FROZEN_NAME, "wav2vec2", folds=[0])
        written.write_text(before)
        assert train(tmp_path, FROZEN_NAME, "wav2vec2", folds=[0]) is not None

    def test_begun_anew_by_another_job_are_not_joined(self, tones, tmp_path, monkeypatch):
        def other_job(*arguments, **settings):
            partial, identity = arguments
            start(*arguments, **settings)
            (partial / experiment.IDENTITY).write_text(json.dumps(identity | {"recipe": "another"}))

        start = experiment.resume_or_start
        monkeypatch.setattr(experiment, "resume_or_start", other_job)
        with pytest.raises(SerError, match="another job has started 0 in .* anew"):
            train(tmp_path, FROZEN_NAME, "wav2vec2", folds=[0])

    def test_that_were_joined_by_another_job_are_the_run(self, tones, tmp_path, monkeypatch):
        train(tmp_path, FROZEN_NAME, "wav2vec2", folds=[1])
        train_fold = experiment._train_fold

        def slow(*arguments):
            train_fold(*arguments)
            monkeypatch.setattr(experiment, "_train_fold", train_fold)
            train(tmp_path, FROZEN_NAME, "wav2vec2", folds=[1])  # this job finds both folds, and joins them

        monkeypatch.setattr(experiment, "_train_fold", slow)
        run = train(tmp_path, FROZEN_NAME, "wav2vec2", folds=[0])
        assert sorted(run.predictions["clip_id"]) == sorted(tones["clip_id"])

    def test_half_done_do_not_hide_that_an_older_run_is_scored(self, tones, tmp_path, capsys):
        given = ["input.encoder=" + str(tmp_path / "wav2vec2"), *FROZEN]
        train(tmp_path, FROZEN_NAME, "wav2vec2", common=given[1:])
        train(tmp_path, FROZEN_NAME, "wav2vec2", common=given[1:], folds=[0])
        overrides = load_run(tmp_path / "runs").recipe.overrides
        arguments = [FROZEN_NAME, "--runs-dir", str(tmp_path / "runs"), "--reports-dir", str(tmp_path)]
        assert main(["evaluate", *arguments, "--set", *overrides]) == 0
        assert "scored as it was before; a newer run still lacks the folds 1" in capsys.readouterr().err


def test_a_head_that_the_checkpoint_brings_is_not_used(tones, tmp_path):
    """Fine-tuned before on other labels, or on the very same ones, an encoder starts with a head of random weights."""
    from ser_lib.models import audio_classifier, encoder_weights

    tiny_checkpoint(tmp_path / "tiny", "wav2vec2")
    for emotions in (EMOTIONS, EMOTIONS[:2]):
        model, extractor = audio_classifier.build(
            encoder_weights.locate(str(tmp_path / "tiny")), list(emotions), 16000, 1.0
        )
        with torch.no_grad():
            model.classifier.weight.fill_(7.0)
            model.projector.bias.fill_(7.0)
        encoder_weights.save_model(model, extractor, tmp_path / "tuned")
        again, _ = audio_classifier.build(encoder_weights.locate(str(tmp_path / "tuned")), list(EMOTIONS), 16000, 1.0)
        assert again.classifier.weight.shape[0] == 3 and 0 < again.classifier.weight.abs().max() < 1
        assert not again.projector.bias.any()
        name = "wav2vec2.encoder.layers.0.attention.k_proj.weight"
        assert torch.equal(again.get_parameter(name), model.get_parameter(name))


def test_a_relative_folder_is_found_from_anywhere(tmp_path, monkeypatch):
    """The notebooks run in a folder of their own."""
    from ser_lib.cli import build_parser, recipe_of

    tiny_checkpoint(tmp_path / "models" / "tiny", "wav2vec2")
    monkeypatch.chdir(tmp_path)
    options = build_parser().parse_args(["train", FROZEN_NAME, "--set", "input.encoder=models/tiny"])
    recipe = recipe_of(options.recipe, options.variant, options.corpus, options.set)
    assert recipe.input.encoder == str(tmp_path / "models" / "tiny") and recipe.features_label == "tiny"
    monkeypatch.chdir("/")
    options = build_parser().parse_args(["train", FROZEN_NAME, "--set", "input.encoder=models/tiny"])
    recipe = recipe_of(options.recipe, options.variant, options.corpus, options.set)
    assert recipe.features_label == "models/tiny"  # a repository's name, as far as it tells


@pytest.mark.parametrize(
    ("name", "overrides", "idle"),
    [
        (FROZEN_NAME, ["model.hidden=8"], "model.hidden has no effect on model.name=mlp"),
        (FROZEN_NAME, ["input.n_mfcc=13"], "input.n_mfcc has no effect"),
        (FROZEN_NAME, ["training={warmup_fraction: 0.1}"], "training.warmup_fraction has no effect"),
        (FINETUNE_NAME, ["input.pooling=mean"], "input.pooling has no effect on model.name=finetune"),
        (FINETUNE_NAME, ["model.dense=[8]"], "model.dense has no effect"),
        (FINETUNE_NAME, ["model.lora_rank=4"], "model.lora_rank has no effect"),
        ("demo", ["input.layers=all"], "input.layers has no effect on model.name=.* with input.encoder=mfcc"),
    ],
)
def test_an_override_that_nothing_reads_is_refused(name, overrides, idle):
    with pytest.raises(SerError, match=idle):
        experiment.refuse_idle_overrides(load_recipe(name, overrides=overrides))


def test_overrides_that_are_read_are_not_refused():
    for name, overrides in {
        FROZEN_NAME: ["model.dense=[8]", "input.layers=[1]", "input.audio.normalise=rms", "training.device=cpu"],
        FINETUNE_NAME: ["model.trainable=lora", "model.lora_rank=4", "input.audio={max_seconds: 2}"],
        "demo": ["model.hidden=8", "input.n_mfcc=13", "input.pooling=sequence", "split.folds=2", "corpora=tess"],
    }.items():
        experiment.refuse_idle_overrides(load_recipe(name, overrides=overrides))


def test_an_override_that_the_model_never_reads_is_refused(tones, tmp_path):
    with pytest.raises(SerError, match="training.warmup_fraction has no effect on model.name=mlp"):
        train(tmp_path, FROZEN_NAME, "wav2vec2", "training.warmup_fraction=0.1")
    with pytest.raises(SerError, match="training.scheduler has no effect on model.name=logistic-regression"):
        train(
            tmp_path,
            FROZEN_NAME,
            "wav2vec2",
            *("model.name=logistic-regression", "training.scheduler=cosine"),
            common=FROZEN[:-1],
        )


def test_the_row_of_results_names_the_encoder_and_no_path(tones, tmp_path):
    run = train(tmp_path, FROZEN_NAME, "whisper")
    row = rows_of(collect([run])).iloc[0]
    assert row["encoder"] == "whisper"
    assert "input.encoder" not in row["variant"] and str(tmp_path) not in row.to_csv()
    # The title names wav2vec2: whoever reads the card is told.
    assert "Another encoder than the recipe's own: whisper." in (run.folder / "README.md").read_text()


class TestTwoProcesses:
    """`accelerate launch` with gloo on the CPU, as a user starts it, gives the metrics of one process."""

    def test_give_the_metrics_of_one(self, tmp_path):
        checkpoint = tmp_path / "encoder"
        tiny_checkpoint(checkpoint, "wav2vec2", dropout=0.0)
        overrides = [*FINETUNE, f"input.encoder={checkpoint}", "input.audio.max_seconds=0.4", "input.audio.pad=true"]
        runs_dir = tmp_path / "two"
        launcher = "accelerate.commands.launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no"
        launcher += " --dynamo_backend no --num_cpu_threads_per_process 1 --main_process_port 0 -m ser_lib"
        arguments = ["train", FINETUNE_NAME, "--runs-dir", str(runs_dir), "--set", *overrides]
        done = subprocess.run(
            [sys.executable, "-m", *launcher.split(), *arguments],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert len(re.findall("UAR", done.stdout)) == 1  # the first process alone prints
        two = load_run(next(runs_dir.glob("*/speaker/0")))
        recipe = load_recipe(FINETUNE_NAME, overrides=overrides)
        one = experiment.train(recipe, runs_dir=tmp_path / "one", progress=False)
        tables = [run.predictions.set_index("clip_id").sort_index() for run in (one, two)]
        pd.testing.assert_frame_equal(*tables, atol=2e-3, rtol=0)
        for name in ("accuracy", "uar", "macro_f1", "uar_low", "uar_high", "ece"):
            assert two.metrics["overall"][name] == pytest.approx(one.metrics["overall"][name], abs=2e-2)
        assert model_folder(two.folder, 1).is_dir()
