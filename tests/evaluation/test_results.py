import numpy as np
import pandas as pd
import pytest

from ser_lib.common.errors import SerError
from ser_lib.evaluation.results import COLUMNS, markdown, read_results, result_rows, update_results, write_into_readme
from ser_lib.inference.run import Run
from ser_lib.protocols.leak_audit import audit
from ser_lib.protocols.splits import make_split
from ser_lib.recipes import load_recipe


def made_run(clips, seed=0, accuracy=0.7, overrides=(), expected=None):
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
        recipe=load_recipe("demo", overrides=overrides),
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


@pytest.fixture
def clips():
    from conftest import make_clips

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
    from conftest import make_clips

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
    update_results(result_rows([made_run(clips, accuracy=0.5)]), tmp_path)
    update_results(result_rows([made_run(clips, overrides=["training.epochs=3"])]), tmp_path)
    update_results(result_rows([made_run(clips, accuracy=0.9)]), tmp_path)
    table = read_results(tmp_path)
    assert table["variant"].tolist() == ["stated", "stated; training.epochs=3"]
    assert table["accuracy"].iloc[0] > 0.8


def test_cross_corpus_rows_say_what_was_trained_on(clips):
    for corpora in ("[sample, savee]", "[ravdess, savee]"):
        row = result_rows([made_run(clips, overrides=[f"corpora={corpora}"])]).iloc[0]
        assert corpora in row["variant"]


def test_transductive_scores_are_marked(clips):
    row = result_rows([made_run(clips)])
    assert "(transductive)" in markdown(row.assign(protocol="speaker-adapted")) and "(trans" not in markdown(row)


def test_a_write_that_fails_keeps_the_old_table(clips, tmp_path, monkeypatch):
    update_results(result_rows([made_run(clips)]), tmp_path)
    before = (tmp_path / "results.csv").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(OSError):
        update_results(result_rows([made_run(clips, accuracy=0.2)]), tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".csv") == ["results.csv"]


def test_a_table_with_other_columns_is_refused(tmp_path):
    (tmp_path / "results.csv").write_text("recipe,accuracy,seeds\ndemo,1.0,0\n")
    with pytest.raises(SerError, match="other columns than expected"):
        read_results(tmp_path)


def test_markdown_marks_intervals_over_clips(clips):
    few, many = made_run(clips[clips["speaker"] < "sample-05"]), made_run(clips)
    assert markdown(result_rows([few])).count("†") == 2
    assert "†" not in markdown(result_rows([many]))
    assert f"/ {10} |" in markdown(result_rows([many]))


def test_the_readme_keeps_all_but_the_table(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- mine: begin -->\nold\n<!-- mine: end -->\nafter\n")
    write_into_readme(readme, "mine", "| new |")
    assert readme.read_text() == "before\n<!-- mine: begin -->\n| new |\n<!-- mine: end -->\nafter\n"
    with pytest.raises(SerError, match="needs the markers <!-- other: begin -->"):
        write_into_readme(readme, "other", "| new |")
