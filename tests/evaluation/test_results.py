from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import make_clips

from ser_lib.common.errors import SerError
from ser_lib.evaluation.results import (
    COLUMNS,
    add_runs,
    make_results,
    markdown,
    read_results,
    remarks,
    results_path,
    rows_of,
    score_cell,
    write_into_readme,
)
from ser_lib.evaluation.stored_predictions import collect
from ser_lib.inference.run import Run
from ser_lib.protocols.leak_audit import audit
from ser_lib.protocols.splits import make_split
from ser_lib.recipes import load_recipe


def made_run(clips, seed=0, accuracy=0.7, overrides=(), expected=None, name="demo"):
    """A run with invented predictions that are right with a given probability."""
    rng = np.random.default_rng(seed)
    emotions = ["neutral", "happy", "sad"]
    split = make_split(clips, "speaker", seed)
    tested = split[split["subset"] == "test"]
    right = rng.random(len(tested)) < accuracy
    probabilities = np.full((len(tested), 3), 0.1)
    place = tested["emotion"].map(emotions.index).to_numpy()
    probabilities[np.arange(len(tested)), np.where(right, place, (place + 1) % 3)] = 0.8
    table = pd.DataFrame(probabilities, columns=emotions)
    table.insert(0, "truth", tested["emotion"].to_numpy())
    table.insert(0, "clip_id", tested["clip_id"].to_numpy())
    n_clips = clips["corpus"].value_counts()
    return Run(
        folder=f"run-{seed}",
        recipe=load_recipe(name, overrides=overrides),
        split=split,
        audit=audit(split, near_duplicates=False),
        history=pd.DataFrame(),
        predictions=table,
        metrics={},
        emotions=emotions,
        environment={
            "seconds": 10.0,
            "device": "cpu",
            "commit": "abc",
            "corpora": {
                name: {"found": int(n_clips[name]), "expected": (expected or {}).get(name, int(n_clips[name]))}
                for name in n_clips.index
            },
        },
    )


def result_rows(runs):
    return rows_of(collect(runs))


@pytest.fixture
def clips():

    return make_clips(speakers=10)


def test_a_row_has_the_fixed_columns_and_counts(clips):
    row = result_rows([made_run(clips)]).iloc[0]
    assert list(row.index) == COLUMNS
    assert (row["recipe"], row["variant"], row["encoder"], row["protocol"]) == ("demo", "stated", "mfcc-40", "speaker")
    assert (row["corpus"], row["folds"], row["n_test"], row["test_speakers"]) == ("sample", 5, len(clips), 10)
    assert 0 < row["n_train"] < len(clips) and row["seeds"] == "0"
    assert row["uar_low"] < row["uar"] < row["uar_high"]


def test_several_seeds_are_one_row_over_the_same_clips(clips):
    runs = [made_run(clips, seed) for seed in range(3)]
    row = result_rows(runs).iloc[0]
    assert (row["seeds"], row["n_test"], row["seconds"]) == ("0 1 2", len(clips), 30.0)
    singles = [result_rows([run]).iloc[0]["accuracy"] for run in runs]
    assert row["accuracy"] == pytest.approx(np.mean(singles))


def test_several_corpora_give_a_row_each_beside_the_joint_one():

    clips = make_clips(speakers=5, corpora=("ravdess", "crema_d"))
    rows = result_rows([made_run(clips, expected={"crema_d": 7442})])
    assert sorted(rows["corpus"]) == ["crema_d-part", "crema_d-part+ravdess", "ravdess"]
    assert rows.set_index("corpus")["n_test"].to_dict() == {
        "crema_d-part+ravdess": len(clips),
        "crema_d-part": len(clips) // 2,
        "ravdess": len(clips) // 2,
    }


def test_runs_of_different_experiments_do_not_make_one_row(clips):
    with pytest.raises(SerError, match="only the seed may differ"):
        result_rows([made_run(clips), made_run(clips, 1, overrides=["training.epochs=3"])])


def test_a_row_replaces_its_predecessor_and_leaves_the_others(clips, tmp_path):
    add_runs([made_run(clips, accuracy=0.5)], tmp_path)
    add_runs([made_run(clips, overrides=["training.epochs=3"])], tmp_path)
    add_runs([made_run(clips, accuracy=0.9)], tmp_path)
    table = read_results(tmp_path)
    assert table["variant"].tolist() == ["stated", "stated; training.epochs=3"]
    assert table["accuracy"].iloc[0] > 0.8


def test_another_seed_joins_the_row_and_replaces_no_other_seed(clips, tmp_path):
    add_runs([made_run(clips, 0, accuracy=0.9)], tmp_path)
    add_runs([made_run(clips, 1, accuracy=0.5)], tmp_path)
    (row,) = read_results(tmp_path).itertuples()
    together = result_rows([made_run(clips, seed, accuracy) for seed, accuracy in ((0, 0.9), (1, 0.5))]).iloc[0]
    assert row.seeds == "0 1" and row.accuracy == pytest.approx(together["accuracy"], abs=1e-4)
    assert row.accuracy_highest - row.accuracy_lowest > 0.2
    add_runs([made_run(clips, 1, accuracy=0.9)], tmp_path)
    (row,) = read_results(tmp_path).itertuples()
    assert row.seeds == "0 1" and row.accuracy_lowest > 0.8


def test_all_rows_come_out_again_from_the_stored_predictions_alone(clips, tmp_path):
    for overrides in ([], ["training.epochs=3"], ["split.permute_labels=true"]):
        for seed in range(2):
            add_runs([made_run(clips, seed, overrides=overrides)], tmp_path)
    before = results_path(tmp_path).read_bytes()
    results_path(tmp_path).unlink()
    make_results(tmp_path)
    assert results_path(tmp_path).read_bytes() == before


def test_without_stored_predictions_there_is_nothing_to_make_results_of(tmp_path):
    with pytest.raises(SerError, match="holds no predictions"):
        make_results(tmp_path)
    assert not results_path(tmp_path).exists()


def test_a_control_is_the_mean_of_its_draws_with_their_spread_and_without_an_interval(clips):
    runs = [made_run(clips, seed, 0.3 + 0.1 * seed, ["split.permute_labels=true"]) for seed in range(3)]
    row = result_rows(runs).iloc[0]
    draws = [result_rows([run]).iloc[0]["accuracy"] for run in runs]
    assert row["control"] == "labels shuffled, 3 draws"
    assert row["accuracy"] == pytest.approx(np.mean(draws)) and row["accuracy_sd"] == pytest.approx(
        np.std(draws, ddof=1)
    )
    assert (row["accuracy_lowest"], row["accuracy_highest"]) == pytest.approx((min(draws), max(draws)))
    assert row[["accuracy_low", "accuracy_high", "uar_low", "uar_high"]].isna().all()
    assert f"{row['accuracy']:.3f} (sd {row['accuracy_sd']:.3f}, " in score_cell(row, "accuracy")


def test_copies_of_a_recording_count_once(clips):
    run = made_run(clips)
    once, twice = (result_rows([one]).iloc[0] for one in (run, with_copies(run)))
    assert twice["n_test"] == once["n_test"] == len(clips)
    assert twice["accuracy"] == pytest.approx(once["accuracy"])


def with_copies(run):
    """The run, tested on copies of half of its clips as well, with the same predictions."""
    chosen = run.predictions.iloc[::2]
    tested = run.split[(run.split["subset"] == "test") & run.split["clip_id"].isin(chosen["clip_id"])]
    return replace(
        run,
        split=pd.concat([run.split, tested.assign(clip_id=tested["clip_id"] + "-copy")], ignore_index=True),
        predictions=pd.concat([run.predictions, chosen.assign(clip_id=chosen["clip_id"] + "-copy")], ignore_index=True),
    )


@pytest.mark.parametrize(
    "name, overrides, expected, said",
    [
        ("demo", [], {}, []),
        ("demo", ["training.epochs=3", "split.folds=2"], {}, ["3 instead of 60 epochs, 2 instead of 4 folds"]),
        ("demo", ["training.epochs=300"], {}, []),
        ("demo", [], {"sample": 1234}, ["120 of 1,234 clips of sample"]),
        ("demo", ["split.permute_labels=true"], {}, ["control: labels shuffled, 1 draw"]),
        (
            "tess-wav2vec2-finetune",
            ["input.encoder=somewhere/whisper-base-encoder"],
            {},
            ["stand-in: somewhere/whisper-base-encoder in place of facebook/wav2vec2-base"],
        ),
        ("ravdess-whisper-logistic", ["input.encoder=~/x/whisper-base-encoder"], {}, ["24 actors that test it"]),
        ("ravdess-whisper-logistic", ["corpora=[tess]"], {}, []),
    ],
)
def test_a_row_says_what_keeps_its_score_from_being_compared(name, overrides, expected, said, clips):
    (row,) = result_rows([made_run(clips, overrides=overrides, expected=expected, name=name)]).itertuples()
    texts = remarks(row)
    assert len(texts) == len(said) and all(part in text for text, part in zip(texts, said, strict=True)), texts
    assert all(text in markdown(pd.DataFrame([row])) for text in texts)


def test_cross_corpus_rows_say_what_was_trained_on(clips):
    for corpora in ("[sample, savee]", "[ravdess, savee]"):
        row = result_rows([made_run(clips, overrides=[f"corpora={corpora}"])]).iloc[0]
        assert corpora in row["variant"]


def test_transductive_scores_are_marked(clips):
    row = result_rows([made_run(clips)])
    assert "(transductive)" in markdown(row.assign(protocol="speaker-adapted")) and "(trans" not in markdown(row)


def test_a_write_that_fails_keeps_the_old_table(clips, tmp_path, monkeypatch):
    add_runs([made_run(clips)], tmp_path)
    before = (tmp_path / "results.csv").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(OSError):
        add_runs([made_run(clips, accuracy=0.2)], tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".csv") == ["results.csv"]


def test_a_table_with_other_columns_is_refused(tmp_path):
    (tmp_path / "results.csv").write_text("recipe,accuracy,seeds\ndemo,1.0,0\n")
    with pytest.raises(SerError, match="other columns than expected.*`make tables` writes it anew"):
        read_results(tmp_path)


def test_cells_show_the_interval_or_the_few_speakers_in_its_place(clips):
    few, many = (result_rows([made_run(table)]) for table in (clips[clips["speaker"] < "sample-03"], clips))
    (row,) = few.itertuples()
    scores = [f"{float(part.partition('=')[2]):.3f}" for part in row.uar_by_speaker.split("; ")]
    assert len(scores) == 2 and f"**{row.uar:.3f}** (speakers: {', '.join(scores)})" in markdown(few)
    assert "speakers:" not in markdown(many) and "†" not in markdown(many)
    assert f"/ {10} |" in markdown(many)
    assert "†" in score_cell(many.assign(interval_over="clips").iloc[0], "uar")


def test_a_row_without_interval_and_speakers_says_why():
    clips = pd.concat([make_clips(speakers=8), make_clips(speakers=2, corpora=("tess",))], ignore_index=True)
    (joint, *_) = result_rows([made_run(clips)]).itertuples()
    assert joint.corpus == "sample+tess" and "(no interval: tess has 2 speakers)" in score_cell(joint, "uar")


def test_the_readme_keeps_all_but_the_table(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- mine: begin -->\nold\n<!-- mine: end -->\nafter\n")
    write_into_readme(readme, "mine", "| new |")
    assert readme.read_text() == "before\n<!-- mine: begin -->\n| new |\n<!-- mine: end -->\nafter\n"
    with pytest.raises(SerError, match="needs the markers <!-- other: begin -->"):
        write_into_readme(readme, "other", "| new |")
