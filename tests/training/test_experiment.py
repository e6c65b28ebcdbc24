"""Training from recipe to run folder, on tiny tone clips: whole or not at all, and the same whatever happened."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import tone_clips
from filelock import FileLock

from ser_lib.cli import main
from ser_lib.common.errors import SerError
from ser_lib.evaluation import metrics
from ser_lib.inference.run import FILES, load_run, model_folder, run_folder, runs_below
from ser_lib.models import network_training
from ser_lib.models.heads import Head
from ser_lib.protocols.leak_audit import red_leaks
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.recipes import recipe as recipe_module
from ser_lib.recipes.inputs import inputs_of, split_of
from ser_lib.reports import notebook_display
from ser_lib.training import experiment

EMOTIONS = ("neutral", "happy", "sad")
FAST = ["training.epochs=4", "model.hidden=8", "split.folds=3", "emotions=[neutral, happy, sad]"]


@pytest.fixture
def tones(tmp_path, monkeypatch):
    """Six speakers, three emotions; `load_clips` finds them and nothing else."""
    clips = tone_clips(tmp_path / "tones", speakers=6, emotions=EMOTIONS)
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: clips.copy())
    return clips


def train(tmp_path, *overrides, protocol="speaker", seed=0, name="demo", variant="stated"):
    recipe = load_recipe(name, variant, [*FAST, *overrides])
    return experiment.train(recipe, protocol, seed, runs_dir=tmp_path / "runs", progress=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbs, of the same tones; no test changes it."""
    folder = tmp_path_factory.mktemp("finished")
    clips = tone_clips(folder / "tones", speakers=6, emotions=EMOTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_CACHE_DIR", str(folder / "cache"))
        patch.setattr(inputs_module, "load_clips", lambda *_, **__: clips.copy())
        return train(folder)


def numbers(run):
    return run.predictions.to_csv(), run.history.to_csv(), json.dumps(run.metrics)


def interrupt_where(function, name):
    """The function, but for a file or folder of that name."""

    def interrupted(path, *arguments, **settings):
        if Path(path).name == name:
            raise KeyboardInterrupt
        return function(path, *arguments, **settings)

    return interrupted


class TestARunFolder:
    def test_of_other_clips_is_replaced_with_a_warning(self, tones, tmp_path, monkeypatch, caplog):
        train(tmp_path)
        train(tmp_path)
        assert "is of other clips" not in caplog.text
        fewer = tones[tones["speaker"] != tones["speaker"].iloc[0]].reset_index(drop=True)
        monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: fewer.copy())
        run = train(tmp_path)
        assert len(run.predictions) == len(fewer)
        assert f"{run.folder} is of other clips ({len(tones)}): this run replaces it" in caplog.text

    def test_holds_all_that_anything_later_reads(self, tones, finished):
        run = finished
        runs = run.folder.parents[2]
        assert run.folder == run_folder(load_recipe("demo", overrides=FAST), "speaker", 0, runs)
        assert re.fullmatch(r"demo-[0-9a-f]{8}/speaker/0", run.folder.relative_to(runs).as_posix())
        assert {*FILES, "README.md", "manifest.json", "model"} == {path.name for path in run.folder.iterdir()}
        assert list(run.predictions.columns) == ["clip_id", "truth", *EMOTIONS]
        assert sorted(run.predictions["clip_id"]) == sorted(tones["clip_id"])
        assert set(run.history["fold"]) == {0, 1, 2}
        assert run.environment["device"] == "cpu" and run.environment["versions"]["torch"]
        assert run.environment["corpora"] == {"sample": {"found": 256, "expected": 256}}
        assert (run.protocol, run.seed, run.emotions) == ("speaker", 0, list(EMOTIONS))
        assert red_leaks(run.audit[run.audit["leak"] != "near-same audio"]).empty  # tones resemble each other

    def test_holds_the_scores_of_its_predictions(self, tones, finished):
        run = finished
        again = metrics.score(run.predictions, *run.test_clips()[["speaker", "corpus", "audio_hash"]].to_numpy().T)
        recorded = dict(run.metrics["overall"])
        assert recorded.pop("speaker_scores") == again.pop("speaker_scores")
        assert recorded == pytest.approx(again, abs=1e-6)
        assert len(run.metrics["by_fold"]) == 3

    def test_gives_each_folds_model_back_with_the_recorded_probabilities(self, tones, finished):
        run = finished
        recorded = run.predictions.set_index("clip_id")
        for fold in range(3):
            tested = run.split[(run.split["fold"] == fold) & (run.split["subset"] == "test")]["clip_id"]
            clips = tones.set_index("clip_id").loc[tested].reset_index()
            inputs = inputs_of(run.recipe, clips, "speaker", progress=False)
            probabilities = run.model(fold).probabilities(inputs)
            np.testing.assert_allclose(probabilities, recorded.loc[tested, list(EMOTIONS)], atol=1e-4)

    def test_has_a_card_that_says_protocol_scores_and_corpora(self, tones, finished):
        run = finished
        card = (run.folder / "README.md").read_text()
        for expected in (
            "`speaker`",
            f"{run.metrics['overall']['uar']:.3f}",
            "CC0",
            "Not for",
            "†",
            "synthetic",
            "ser_lib.audio.reading.prepare(path, sampling_rate=16000",
        ):
            assert expected in card

    def test_says_in_red_that_its_protocol_leaks(self, tones, tmp_path):
        run = train(tmp_path, protocol="deduplicated")
        card = (run.folder / "README.md").read_text()
        assert "**This protocol leaks.**" in card and f"same speaker: {len(run.predictions)} test clips" in card

    def test_is_refused_where_a_file_is_missing(self, tones, tmp_path):
        run = train(tmp_path)
        (run.folder / "history.csv").unlink()
        with pytest.raises(SerError, match="is not a run folder: history.csv missing.*ser train"):
            load_run(run.folder)


class TestFittingAgain:
    def test_uses_the_validation_clips_too_with_what_they_chose(self, tones, tmp_path, monkeypatch):
        fit, calls = network_training.fit, []

        @functools.wraps(fit)
        def watched(network, inputs, labels, train, validation, training, **settings):
            calls.append((settings["description"], len(train), len(validation), training))
            return fit(network, inputs, labels, train, validation, training, **settings)

        monkeypatch.setattr(Head, "fit", staticmethod(watched))
        run = train(tmp_path)
        for fold in range(3):
            (_, n_train, n_validation, _), (_, n_both, none, settled) = calls[2 * fold : 2 * fold + 2]
            history = run.history[run.history["fold"] == fold]
            assert (n_both, none, settled.patience) == (n_train + n_validation, 0, None)
            assert settled.epochs == history.loc[history["best"], "epoch"].item()
        name, n_all, none, settled = calls[-1]
        assert (name, n_all, none) == ("fold final", len(tones), 0)
        assert settled.epochs == sorted(run.history.loc[run.history["best"], "epoch"])[1]

    def test_changes_the_scores_and_can_be_left_out(self, tones, tmp_path):
        again, once = train(tmp_path), train(tmp_path, "training.refit=false")
        pd.testing.assert_frame_equal(again.history, once.history)
        assert not np.allclose(again.predictions[list(EMOTIONS)], once.predictions[list(EMOTIONS)])
        assert again.answers_for_all and not once.answers_for_all
        assert set(again.learned_from()["clip_id"]) == set(tones["clip_id"])
        assert set(once.learned_from()["clip_id"]) == set(once.learned_from(0)["clip_id"])

    def test_is_left_out_where_validation_clips_are_test_clips(self, tones, tmp_path):
        settings = ["split.select_on_test=true", "training.refit=true"]
        again = train(tmp_path, *settings, protocol="published")
        once = train(tmp_path, *settings[:1], "training.refit=false", protocol="published")
        pd.testing.assert_frame_equal(again.predictions, once.predictions)

    def test_of_a_regression_keeps_the_chosen_strength(self):
        training = load_recipe("ravdess-whisper-logistic").training
        history = pd.DataFrame(
            {"epoch": [1, 2, 1, 2], "inverse_regularisation": [0.1, 0.3, 0.1, 0.3], "best": [0, 1, 1, 0]}
        )
        settled = training.settled(history.astype({"best": bool}))
        assert settled.inverse_regularisation == (0.1,)


def test_a_run_of_before_answers_with_the_model_of_fold_0(tones, tmp_path):
    run = train(tmp_path, "training.refit=false")
    recipe = (
        (run.folder / "recipe.yaml")
        .read_text()
        .replace("  refit: false\n", "")
        .replace("    remove_offset: true\n", "")
    )
    (run.folder / "recipe.yaml").write_text(recipe)
    (run.folder / "manifest.json").unlink()
    before = load_run(run.folder)
    assert not before.recipe.training.refit and not before.recipe.input.audio.remove_offset
    clips = [str(path) for path in tones["path"][:3]]
    pd.testing.assert_frame_equal(before.predict(clips), before.predict(clips, fold=0))


class TestTheSameNumbers:
    def test_come_from_the_same_seed_and_others_from_another(self, tones, tmp_path, finished):
        first = numbers(finished)
        assert numbers(train(tmp_path)) == first
        assert numbers(train(tmp_path, seed=1)) != first

    @pytest.mark.parametrize("stopped_in", [0, 1, 4, 6])
    def test_come_after_ctrl_c_in_any_training(self, tones, tmp_path, monkeypatch, finished, stopped_in):
        fit, calls = network_training.fit, []

        @functools.wraps(fit)
        def interrupted(*arguments, **settings):
            calls.append(settings["description"])
            if len(calls) == stopped_in + 1:
                raise KeyboardInterrupt
            return fit(*arguments, **settings)

        monkeypatch.setattr(Head, "fit", staticmethod(interrupted))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
        assert not runs_below(tmp_path / "runs")
        calls[:] = ["not again"] * 10
        resumed = train(tmp_path)
        assert numbers(resumed) == numbers(finished)
        trainings = [f"fold {fold}{again}" for fold in range(3) for again in ("", " again")] + ["fold final"]
        # Finished folds are not fitted again.
        assert calls[10:] == trainings[stopped_in - stopped_in % 2 :]

    def test_come_after_kill_9(self, tmp_path):
        """The whole chain in processes of its own, killed in the middle of writing, more than once."""
        # The processes are forks of one that has imported the package.
        script = textwrap.dedent(
            """
            import os, pathlib, signal, sys
            from ser_lib.training import experiment
            from ser_lib.models import network_training
            from ser_lib.recipes import load_recipe
            rename = pathlib.Path.rename
            for order in sys.argv[2:]:
                runs, kill_at = order.split(":")
                if child := os.fork():
                    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                    finished = len(list(pathlib.Path(sys.argv[1], runs).glob("*/*/0/metrics.json")))
                    print(order, status, finished, flush=True)
                    continue
                count = 0
                def killing(path, target):
                    global count
                    count += 1
                    if count == int(kill_at):
                        os.kill(os.getpid(), signal.SIGKILL)
                    return rename(path, target)
                pathlib.Path.rename = killing
                overrides = ["training.epochs=2", "model.hidden=8", "split.folds=2", "emotions=[happy, sad]"]
                recipe = load_recipe("demo", overrides=overrides)
                experiment.train(recipe, "speaker", 0, runs_dir=f"{sys.argv[1]}/{runs}", progress=False)
                break
            """
        )

        # The first kill comes as fold 0 is about to be put in place, then as fold 1 is, as the final model is, and as
        # the finished folder is moved.
        killed = [f"killed:{kill_at}" for kill_at in (1, 2, 2, 2)]
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), "whole:0", *killed, "killed:0"],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"LOKY_MAX_CPU_COUNT": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        outcomes = [line for line in done.stdout.splitlines() if ":" in line]
        assert outcomes == ["whole:0 0 1", *(f"{order} {-signal.SIGKILL} 0" for order in killed), "killed:0 0 1"]
        whole, killed = (load_run(tmp_path / runs) for runs in ("whole", "killed"))
        assert numbers(whole) == numbers(killed)
        assert not list((tmp_path / "killed").glob("**/*.unfinished"))

    def test_are_there_although_the_cleaning_up_was_cut_off(self, tones, tmp_path, monkeypatch, finished):
        monkeypatch.setattr(experiment.shutil, "rmtree", interrupt_where(experiment.shutil.rmtree, "fold-0"))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
        assert numbers(load_run(tmp_path / "runs")) == numbers(finished)

    def test_do_not_mix_folds_of_two_recipes(self, tones, tmp_path, monkeypatch, finished):
        fit = network_training.fit

        @functools.wraps(fit)
        def stops_in_fold_1(*arguments, **settings):
            if settings["description"] == "fold 1":
                raise KeyboardInterrupt
            return fit(*arguments, **settings)

        monkeypatch.setattr(Head, "fit", staticmethod(stops_in_fold_1))
        recipe = load_recipe("demo", overrides=FAST)
        # As after an edit of the recipe's file: no override tells the two apart.
        edited = recipe.model_copy(update={"training": recipe.training.model_copy(update={"learning_rate": 0.1})})
        with pytest.raises(KeyboardInterrupt):
            experiment.train(edited, runs_dir=tmp_path / "runs", progress=False)
        monkeypatch.setattr(Head, "fit", staticmethod(fit))
        assert numbers(train(tmp_path)) == numbers(finished)
        # What was trained is set aside, not deleted.
        assert len(list(tmp_path.glob("runs/**/.0.partial-*/fold-0"))) == 1


def test_a_second_process_is_told_that_the_run_is_being_trained(tones, tmp_path):
    folder = run_folder(load_recipe("demo", overrides=FAST), "speaker", 0, tmp_path / "runs").parent
    folder.mkdir(parents=True)
    with FileLock(folder / ".0.fold-0.lock"), pytest.raises(SerError, match="another process is training"):
        train(tmp_path)
    train(tmp_path)


def test_a_failed_run_leaves_the_earlier_one_as_it_was(tones, tmp_path, monkeypatch):
    before = numbers(train(tmp_path))

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device", "predictions.csv")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path)
    monkeypatch.undo()
    assert numbers(load_run(tmp_path / "runs")) == before


@pytest.mark.parametrize(
    "protocol", ["published", "deduplicated", "speaker", "speaker-sentence", "leave-one-speaker-out", "speaker-adapted"]
)
def test_every_protocol_of_one_corpus_runs_to_its_end(tones, tmp_path, protocol):
    run = train(tmp_path, "training.epochs=1", protocol=protocol)
    assert run.protocol == protocol
    assert np.isfinite(run.metrics["overall"]["uar"])
    n_final = 0 if protocol == "speaker-adapted" else 1
    assert len(list(run.folder.rglob("model.safetensors"))) == run.split["fold"].nunique() + n_final
    last = run.split["fold"].max()
    assert (model_folder(run.folder, last) / "config.json").is_file()


def test_cross_corpus_trains_on_one_and_tests_on_the_other(tones, tmp_path, monkeypatch):
    other = tone_clips(tmp_path / "other", speakers=3, emotions=("neutral", "happy", "sad"))
    other = other.assign(
        corpus="savee",
        clip_id="savee/" + other["clip_id"].str.split("/").str[1],
        speaker="savee-" + other["speaker"].str[-2:],
        audio_hash="savee" + other["audio_hash"],
    )
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: pd.concat([tones, other], ignore_index=True))
    run = train(tmp_path, "corpora=[sample, savee]", "split.test_corpora=[savee]", protocol="cross-corpus")
    assert set(run.test_clips()["corpus"]) == {"savee"}
    assert list(run.metrics["by_corpus"]) == ["savee"]


def test_the_networks_read_the_mean_or_the_sequence(tones, tmp_path):
    for name in ("cnn", "lstm", "bilstm", "gru"):
        for pooling in ("mean", "sequence"):
            run = train(
                tmp_path, f"model.name={name}", f"input.pooling={pooling}", "training.epochs=1", "split.folds=2"
            )
            assert run.model().module.config["form"] == ("sequence" if pooling == "sequence" else "vector")


def test_as_run_repeats_the_sources_leak_only_where_its_claim_is(tones, tmp_path):
    published = train(tmp_path, "corpora=sample", name="tess-mfcc-gru", variant="as-run", protocol="published")
    ids = {name: set(part["clip_id"]) for name, part in published.split.groupby("subset")}
    assert ids["test"] == ids["validation"] and ids["test"] <= ids["train"]
    found = published.audit.set_index("leak")["clips"]
    assert found["selection on test"] == found["same audio"] == len(ids["test"])
    speaker = train(tmp_path, "corpora=sample", name="tess-mfcc-gru", variant="as-run")
    assert speaker.audit.set_index("leak")["clips"][["selection on test", "same audio"]].sum() == 0
    assert speaker.folder.parts[-3:] == (speaker.recipe.folder_name, "speaker", "0")
    assert speaker.recipe.folder_name.startswith("tess-mfcc-gru-as-run-")


def test_one_speaker_cannot_be_split_by_speaker(tones, tmp_path, monkeypatch):
    one = tones[tones["speaker"] == "sample-01"]
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: one.copy())
    with pytest.raises(SerError, match="at least 2 speakers, got 1"):
        train(tmp_path)


def test_an_emotion_with_one_clip_is_named(tones, tmp_path, monkeypatch):
    rare = tones[
        (tones["emotion"] != "sad") | (tones["clip_id"] == tones["clip_id"][tones["emotion"] == "sad"].iloc[0])
    ]
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: rare.copy())
    with pytest.raises(SerError, match="'sad' has 1 clips"):
        train(tmp_path, protocol="deduplicated")
    run = train(tmp_path)  # under `speaker` one fold cannot learn it; the run is still whole
    assert (run.predictions["truth"] == "sad").sum() == 1


def test_counts_stay_whole_where_the_audit_cannot_tell_something(tones, tmp_path, monkeypatch):
    unknown = tones.assign(sentence=None)
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: unknown.copy())
    run = train(tmp_path, "training.epochs=1", protocol="deduplicated")
    assert pd.isna(run.audit.set_index("leak").loc["same sentence", "clips"])
    assert f"same speaker: {len(run.predictions)} test clips (100%)" in notebook_display.audit_verdict(run.audit)
    assert notebook_display.audit_counts(run.audit).loc["same sentence", "share"] == "unknown"


def test_a_run_folder_that_cannot_be_written_is_an_os_error_that_names_it(tones, tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(OSError) as caught:
        train(tmp_path)
    assert str(tmp_path / "runs") in str(caught.value.filename)


@pytest.mark.skipif(os.name != "posix", reason="limits file sizes through the operating system")
def test_a_full_disk_is_named_by_the_command_and_leaves_no_half_run(tmp_path):
    """The file-size limit of the operating system stands for a full disk: a real write fails half way."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from ser_lib.cli import main; import ser_lib.training.experiment as e; prepared = e.audit;\n"
        "def limit(split):\n"
        "    table = prepared(split); resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); return table\n"
        "e.audit = limit\n"
        f"few = ['training.epochs=1', 'emotions=[happy, sad]']; runs = {str(tmp_path / 'runs')!r}\n"
        "sys.exit(main(['train', 'demo', '--set', *few, '--runs-dir', runs]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "ser: " in done.stderr and "File too large" in done.stderr and "Traceback" not in done.stderr
    assert not runs_below(tmp_path / "runs")


def test_only_published_repeats_what_a_source_did_with_its_test_clips(tones):
    recipe = load_recipe("demo", overrides=["split.select_on_test=true", "emotions=[neutral, happy, sad]"])

    def subsets(protocol):
        split = split_of(recipe, tones, protocol, seed=0)
        return [set(split.loc[split["subset"] == subset, "clip_id"]) for subset in ("validation", "test")]

    validation, tested = subsets("published")
    assert validation == tested
    for protocol in ("deduplicated", "speaker"):
        validation, tested = subsets(protocol)
        assert validation and validation != tested


def test_nothing_is_learned_from_permuted_labels(tones, tmp_path):
    learned = train(tmp_path, "training.epochs=15", "training.learning_rate=0.01")
    permuted = train(tmp_path, "training.epochs=15", "training.learning_rate=0.01", "split.permute_labels=true")
    assert learned.metrics["overall"]["uar"] > 0.9 > 0.6 > permuted.metrics["overall"]["uar"]
    assert permuted.predictions["truth"].tolist() == learned.predictions["truth"].tolist()
    assert "split.permute_labels=true" in permuted.recipe.variant_label


class TestRunsOfOtherSettings:
    def test_have_folders_of_their_own(self, tones, tmp_path, capsys):
        first, second = train(tmp_path), train(tmp_path, "training.epochs=2")
        assert first.folder != second.folder and len(load_run(first.folder).history) > len(second.history)
        with pytest.raises(SerError, match="holds 2 runs: name one of") as caught:
            load_run(tmp_path / "runs")
        assert str(first.folder) in str(caught.value)
        assert main(["runs", "--runs-dir", str(tmp_path / "runs")]) == 0
        listed = capsys.readouterr().out
        for run in (first, second):
            (line,) = [line for line in listed.splitlines() if line.startswith(str(run.folder))]
            assert run.recipe.variant_label in line and f"{run.metrics['overall']['uar']:.3f}" in line

    def test_are_the_same_in_any_order_and_spelling(self):
        spellings = (
            ["training.epochs=3", "model.hidden=8"],
            ["model.hidden = 8", "training={epochs: 3}"],
            ["training.epochs=9", "model.hidden=8", "training.epochs=3"],
        )
        names = {load_recipe("demo", overrides=items).folder_name for items in spellings}
        assert len(names) == 1 and names != {load_recipe("demo", overrides=["training.epochs=3"]).folder_name}

    def test_of_version_0_1_are_found_where_they_are(self, tones, tmp_path):
        run = train(tmp_path)
        before = tmp_path / "runs" / "demo" / "speaker" / "0"
        before.parent.mkdir(parents=True)
        run.folder.rename(before)
        assert run_folder(run.recipe, "speaker", 0, tmp_path / "runs") == before
        other = load_recipe("demo", overrides=[*FAST, "training.epochs=1"])
        assert run_folder(other, "speaker", 0, tmp_path / "runs") != before

    def test_of_an_edited_recipe_stand_beside_that_of_before(self, tones, tmp_path, caplog):
        """Its file has the same name, and no override tells the two apart."""

        def trained(epochs):
            fields = {"training": {"epochs": epochs}, "split": {"folds": 2}}
            text = (recipe_module.FOLDER / "demo.yaml").read_text()
            (tmp_path / "mine.yaml").write_text(yaml.safe_dump(yaml.safe_load(text) | fields))
            return experiment.train(load_recipe(tmp_path / "mine.yaml"), runs_dir=tmp_path / "runs", progress=False)

        assert trained(1).folder == trained(1).folder == tmp_path / "runs/mine/speaker/0"
        assert "run of other settings" not in caplog.text
        other = trained(2)
        assert "mine has a run of other settings, which stays" in caplog.text
        assert other.folder == trained(2).folder and other.folder.parents[1].name.startswith("mine-")
        runs = [load_run(folder) for folder in runs_below(tmp_path / "runs")]
        assert {run.recipe.training.epochs for run in runs} == {1, 2}
        (tmp_path / "runs/mine/speaker/0/recipe.yaml").write_text("damaged: [")
        trained(1)  # what cannot be read keeps nobody from training
