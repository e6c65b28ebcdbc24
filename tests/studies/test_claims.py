"""The claims, measured in every column, and their table, which reads only the results."""

import shutil
from dataclasses import replace

import joblib
import pandas as pd
import pytest
import torch
from conftest import tone_clips

from ser_lib.common.errors import SerError
from ser_lib.evaluation.results import read_results
from ser_lib.inference.run import run_folder
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.recipes.inputs import clips_of
from ser_lib.studies import claims
from ser_lib.training import experiment

NAMES = ["tess-mfcc-cnn", "tess-mfcc-gru"]
SMALL = ["corpora=[sample]", "emotions=[neutral, happy, sad]", "training.epochs=2", "split.folds=2"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    clips = tone_clips(tmp_path_factory.mktemp("tones"), speakers=4)
    copies = clips.assign(clip_id=clips["clip_id"] + "-copy")

    def load(*_, keep_duplicates=False, **__):
        return pd.concat([clips, copies], ignore_index=True) if keep_duplicates else clips.copy()

    # Other processes would not see the patch.
    with pytest.MonkeyPatch.context() as patch, joblib.parallel_config(backend="sequential"):
        patch.setattr(inputs_module, "load_clips", load)
        yield clips


@pytest.fixture(scope="module")
def measured(tones, tmp_path_factory):
    """The runs, the lines and the folders of one measurement; no test changes what these folders hold of it."""
    lines = []
    root = tmp_path_factory.mktemp("measured")
    folders = {"runs_dir": root / "runs", "reports_dir": root / "reports"}
    runs = claims.measure_claims(NAMES, overrides=SMALL, draws=2, say=lines.append, **folders)
    return runs, lines, folders


def test_every_recipe_with_a_claim_is_measured_in_every_column(measured):
    runs, lines, folders = measured
    assert set(runs) == {
        *((name, key) for name in NAMES for key in claims.columns_of(load_recipe(name)) if key != "as-run"),
        ("tess-mfcc-gru", "as-run"),
    }
    assert all("training" in line for line in lines)
    protocols = {key: run[0].protocol for (name, key), run in runs.items() if name == "tess-mfcc-cnn"}
    assert protocols == {
        "as-stated": "published",
        "without-copies": "deduplicated",
        "new-speakers": "speaker",
        "strictest": "speaker-sentence",
        "floor": "speaker",
    }
    table = claims.claims_table(read_results(folders["reports_dir"]), SMALL)
    assert set(zip(table["recipe"], table["column"], strict=True)) == set(runs)
    for row in table.itertuples():
        of_column = runs[row.recipe, row.column]
        mean = sum(run.metrics["overall"]["accuracy"] for run in of_column) / len(of_column)
        assert row.accuracy == pytest.approx(mean, abs=1e-4)
        assert ("permute_labels" in row.variant) == (row.column == "floor") == (row.seeds == "0 1")


def test_what_is_finished_is_not_trained_again(measured, monkeypatch):
    runs, _, folders = measured
    monkeypatch.setattr(experiment, "train", None)
    lines = []
    again = claims.measure_claims(NAMES, overrides=SMALL, draws=2, say=lines.append, **folders)
    assert not lines and {key: run[0].metrics for key, run in again.items()} == {
        key: run[0].metrics for key, run in runs.items()
    }


def test_committed_predictions_stand_for_runs_that_are_not_at_hand(measured, monkeypatch, tmp_path):
    runs, _, folders = measured
    monkeypatch.setattr(experiment, "train", None)
    name, lines = NAMES[1], []
    elsewhere = folders | {"runs_dir": tmp_path / "elsewhere"}
    committed = claims.measure_claims([name], overrides=SMALL, train=False, say=lines.append, **elsewhere)
    assert {key for _, key in committed} == set(claims.EXPLAINED) and not lines
    of_recipe = {key: of_seeds for key, of_seeds in runs.items() if key[0] == name}
    trained, stored = (claims.shared_by_splits(found) for found in (of_recipe, committed))
    pd.testing.assert_frame_equal(trained.sort_values("column"), stored.sort_values("column"))
    for key, (run,) in committed.items():
        # Stored with four digits of each probability.
        pd.testing.assert_frame_equal(run.predictions, runs[key][0].predictions, atol=1e-4, check_like=True)
    clips = inputs_module.load_clips()
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: clips.iloc[6:].reset_index(drop=True))
    assert not claims.measure_claims([name], overrides=SMALL, train=False, say=lines.append, **elsewhere)
    assert "the corpora at hand give other test clips than those of the committed row" in lines[0]


def test_what_has_no_committed_predictions_is_named(measured, monkeypatch, tmp_path):
    _, _, folders = measured
    settings = folders | {
        "runs_dir": tmp_path / "elsewhere",
        "train": False,
        "overrides": [*SMALL, "training.epochs=3"],
    }
    lines = []
    assert not claims.measure_claims([NAMES[0]], note=lines.append, **settings)
    assert len(lines) == len(claims.EXPLAINED) - 1  # this recipe has no notebook of its own
    assert "there are no committed predictions of it with mfcc" in lines[0]

    def missing(*_, **__):
        raise SerError("TESS was not found")

    monkeypatch.setattr(inputs_module, "load_clips", missing)
    lines.clear()
    assert not claims.measure_claims([NAMES[0]], note=lines.append, **(settings | {"overrides": SMALL}))
    assert lines and all("is left out: TESS was not found" in line for line in lines)


def test_other_settings_are_trained_anew(measured):
    _, _, folders = measured
    lines = []
    changed = [*SMALL, "training.learning_rate=0.1"]
    claims.measure_claims(NAMES[:1], overrides=changed, draws=2, say=lines.append, **folders)
    assert len(lines) == 6


def test_an_encoder_that_cannot_be_had_leaves_its_recipes_out_and_says_why(tones, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lines = []
    folders = {"runs_dir": tmp_path / "runs", "reports_dir": tmp_path / "reports"}
    name = "ravdess-wav2vec2-frozen-mlp"
    runs = claims.measure_claims(
        [name], encoder=str(tmp_path / "nowhere"), overrides=SMALL, say=lines.append, **folders
    )
    assert runs == {}
    assert len(lines) == 1 and "is left out" in lines[0] and "nowhere" in lines[0]


def test_sentences_hold_numbers_of_the_runs_alone(measured, tones):
    runs, _, _ = measured
    by_column = {key: run[0] for (name, key), run in runs.items() if name == "tess-mfcc-gru"}
    text = claims.explain_difference("tess-mfcc-gru", claims.shared_by_splits(runs))
    for key in ("as-stated", "as-run", "new-speakers"):
        assert f"{by_column[key].metrics['overall']['accuracy']:.3f}" in text
    assert "of speakers that were trained on" in text
    # Trainings of different sizes, on different test clips, do not tell what a leak is worth.
    recordings = [
        by_column[key].split.query("subset == 'train'").groupby("fold")["audio_hash"].nunique().mean()
        for key in ("as-stated", "without-copies", "new-speakers")
    ]
    assert "points" not in text and "not what a leak is worth" in text
    assert "learn from {:.0f}, {:.0f} and {:.0f} recordings".format(*recordings) in text
    table = claims.accuracy_by_copy(by_column["as-stated"], clips_of(by_column["as-stated"].recipe, "published"))
    share, accuracy = table.loc["copy in training", ["share", "accuracy"]]
    assert f". {share:.0%} of the test clips have a copy in training: the accuracy is {accuracy:.3f} on them" in text
    assert "As its notebook ran, 100% of the test clips have a copy in training. " in text  # it is fitted on them


def test_sentences_begin_with_the_stand_in(measured):
    name = "tess-wav2vec2-finetune"
    stand_in = load_recipe(name, overrides=["input.encoder=somebody/whisper-base-encoder"])
    run = replace(measured[0]["tess-mfcc-gru", "new-speakers"][0], recipe=stand_in)
    text = claims.explain_difference(name, claims.shared_by_splits({(name, "new-speakers"): [run]}))
    assert text == "Measured with somebody/whisper-base-encoder as a stand-in for facebook/wav2vec2-base."


def test_copies_are_recognised_by_their_audio(measured, tones):
    run = measured[0]["tess-mfcc-cnn", "as-stated"][0]
    clips = clips_of(run.recipe, "published")
    table = claims.accuracy_by_copy(run, clips)
    train = set(run.split.loc[run.split["subset"] == "train", "clip_id"])
    tested = run.predictions["clip_id"]
    other = tested.map(lambda name: name.removesuffix("-copy") if name.endswith("-copy") else f"{name}-copy")
    assert table.loc["copy in training", "n_test"] == other.isin(train).sum() > 0
    assert table["share"].sum() == pytest.approx(1)


CHANCES = {"published": 0.134, "speaker": 0.131, "cross-corpus": 0.166}


class TestTheTable:
    def row(self, **changes):
        scores = {f"{name}{end}": 0.5 for name in ("accuracy", "uar", "macro_f1") for end in ("", "_low", "_high")}
        keys = {
            "recipe": "four-corpora-xlsr53-finetune",
            "variant": "stated",
            "encoder": "whisper",
            "protocol": "published",
            "corpus": "crema_d-part+ravdess+savee+tess",
            "test_speakers": 48,
            "stand_in_for": "facebook/wav2vec2-large-xlsr-53",
            "interval_over": "speakers",
            "accuracy_chance": 0.134,
        }
        texts = dict.fromkeys(("part", "reduced", "control", "caveat"), "")
        return keys | texts | scores | changes

    def test_prefers_the_recipes_own_encoder_and_then_the_whole_size(self):
        small = "; ".join(["stated", *claims.ON_A_CPU["four-corpora-xlsr53-finetune", "as-stated"]])
        own = {"encoder": "facebook/wav2vec2-large-xlsr-53", "stand_in_for": ""}
        rows = [
            self.row(variant=small, accuracy=0.1),
            self.row(accuracy=0.2),
            self.row(**own, variant=small, accuracy=0.3),
        ]
        for kept, expected in ((rows, 0.3), (rows[:2], 0.2), (rows[:1], 0.1)):
            assert claims.claims_table(pd.DataFrame(kept))["accuracy"].tolist() == [expected]

    def test_takes_no_row_of_other_settings_or_of_one_corpus(self):
        rows = [self.row(variant="stated; training.epochs=50"), self.row(corpus="ravdess")]
        assert claims.claims_table(pd.DataFrame(rows)).empty

    def test_is_markdown_with_claim_interval_and_what_was_changed(self):
        small = "; ".join(["stated", *claims.ON_A_CPU["four-corpora-xlsr53-finetune", "as-stated"]])
        row = self.row(variant=small, reduced="3 instead of 20 epochs", part="170 of 7,442 clips of crema_d")
        text = claims.markdown(claims.claims_table(pd.DataFrame([row])))
        assert "| 0.865 |" in text and "**0.500** (0.500–0.500); 3 instead of 20 epochs |" in text
        assert "| 0.13 |" in text
        # The source's notebook does what its README says; the other columns have no row.
        assert "; 3 instead of 20 epochs | — | the same split | not measured |" in text
        assert "); 170 of 7,442 clips of crema_d | `whisper`, stand-in for `facebook/wav2vec2-large-xlsr-53` |" in text

    def test_sets_stand_ins_apart_even_of_one_recipe(self):
        own = {"encoder": "facebook/wav2vec2-large-xlsr-53", "stand_in_for": ""}
        rows = [self.row(accuracy=0.2), self.row(**own, protocol="speaker", accuracy=0.3)]
        first, second = claims.markdown(claims.claims_table(pd.DataFrame(rows))).split("\n\n")
        assert first.startswith("| recipes, with what the source reads |") and "stand-in" not in first
        assert second.startswith("| recipes, with a stand-in encoder |")
        assert "**0.300**" in first and "**0.200**" not in first
        assert "**0.200**" in second and "**0.300**" not in second

    def test_states_the_chance_of_the_emotions_that_a_column_tests(self):
        rows = [self.row(protocol=name, accuracy_chance=value) for name, value in CHANCES.items()]
        assert "| 0.13; strictest: 0.17 |" in claims.markdown(claims.claims_table(pd.DataFrame(rows)))


@pytest.mark.parametrize("gpu", [False, True])
def test_what_takes_too_long_without_a_gpu_is_measured_in_small(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    whole = load_recipe("ravdess-wav2vec2-frozen-mlp", "as-run")
    recipe = claims.recipe_of_column(load_recipe(whole.name), "as-run", encoder="x")
    assert (recipe.training.epochs == whole.training.epochs) == gpu
    assert ("training.epochs=2" in recipe.variant_label) == (not gpu)
    floor = claims.recipe_of_column(load_recipe("four-corpora-xlsr53-finetune"), "floor", encoder="x")
    assert floor.split.permute_labels and floor.training.epochs == 1 and (floor.split.folds == 2) == (not gpu)


def test_a_run_in_full_is_read_where_a_small_one_would_be_trained(tones, tmp_path, monkeypatch):
    folders = {"runs_dir": tmp_path / "runs", "reports_dir": tmp_path / "reports"}
    small = {"overrides": SMALL, "draws": 1, **folders}
    (whole,) = claims.measure_claims(NAMES[:1], **small)[NAMES[0], "new-speakers"]
    smaller = ("training.learning_rate=0.001",)
    monkeypatch.setattr(claims, "ON_A_CPU", {(NAMES[0], "new-speakers"): smaller})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reduced = claims.recipe_of_column(load_recipe(NAMES[0], overrides=SMALL), "new-speakers")
    assert reduced != whole.recipe

    def again():
        (run,) = claims.measure_claims(NAMES[:1], say=lambda _: None, **small)[NAMES[0], "new-speakers"]
        return run.recipe

    assert again() == whole.recipe
    shutil.rmtree(whole.folder)
    assert again() == reduced


def test_networks_on_mfcc_are_trained_side_by_side_and_then_read(tones, tmp_path, monkeypatch):
    trained = []
    train = experiment.train

    def spy(recipe, protocol, *arguments, progress=True):
        trained.append((recipe.name, protocol, progress))
        if protocol == "deduplicated":
            raise SerError("no clips")
        return train(recipe, protocol, *arguments, progress=progress)

    monkeypatch.setattr(experiment, "train", spy)
    lines = []
    folders = {"runs_dir": tmp_path / "runs", "reports_dir": tmp_path / "reports"}
    runs = claims.measure_claims(NAMES[:1], overrides=SMALL, draws=1, say=lines.append, **folders)
    assert set(runs) == {(NAMES[0], key) for key in ("as-stated", "new-speakers", "strictest", "floor")}
    assert [progress for *_, progress in trained] == [False] * 5 + [True]  # what failed is tried again
    assert lines[-1] == "tess-mfcc-cnn under deduplicated is left out: no clips"


def test_human_accuracy_is_stated_where_it_is_known():
    texts = {name: claims.human_accuracy(load_recipe(name)) for name in claims.claimed_recipes()}
    assert texts["ravdess-wav2vec2-frozen-mlp"] == "0.624" and texts["tess-mfcc-gru"] == "—"
    assert texts["four-corpora-xlsr53-finetune"] == "0.624 (ravdess), 0.400 (crema_d)"


def test_mfcc_recipes_do_not_miss_an_encoder_that_others_lack(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lines = []
    planned = claims._planned(None, "nobody/none", [], [0], claims.DRAWS, None, None, lines.append)
    assert {name for name, _ in planned} == {name for name in claims.claimed_recipes() if "mfcc" in name}
    assert len(lines) == 4 and all("nobody/none" in line for line in lines)
    n_seeds = {(key, len(runs)) for (_, key), runs in planned.items()}
    assert n_seeds == {(key, 1 if key != "floor" else 10) for _, key in planned}


def test_a_damaged_run_folder_is_reported_and_the_others_are_measured(tones, tmp_path):
    lines = []
    folders = {"runs_dir": tmp_path / "runs", "reports_dir": tmp_path / "reports"}
    run_folder(load_recipe(NAMES[0], overrides=SMALL), "published", 0, tmp_path / "runs").mkdir(parents=True)
    runs = claims.measure_claims(NAMES[:1], overrides=SMALL, draws=1, say=lines.append, **folders)
    assert set(runs) == {(NAMES[0], key) for key in ("without-copies", "new-speakers", "strictest", "floor")}
    assert "is not a run folder" in lines[-1]
