"""The files of predictions: what is stored comes back, and tells the same decisions, copies and seeds."""

import lzma
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import make_clips
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_results import made_run, with_copies

from ser_lib.common.errors import SerError
from ser_lib.evaluation import metrics, stored_predictions
from ser_lib.evaluation.stored_predictions import collect, in_units, read, read_all, store


@pytest.fixture
def clips():
    return make_clips(speakers=4)


@settings(max_examples=200, deadline=None)
@given(arrays(float, (3, 8), elements=st.floats(1e-6, 1)))
def test_rounding_changes_no_decision(values):
    probabilities = values / values.sum(axis=1, keepdims=True)
    units = in_units(probabilities)
    assert (units.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert np.abs(units / stored_predictions.UNITS - probabilities).max() <= 1.5 / stored_predictions.UNITS + 1e-12


@settings(max_examples=200, deadline=None)
@given(arrays(float, (3, 8), elements=st.integers(0, 3)))
def test_ties_are_decided_as_before(values):
    probabilities = (values + 0.5) / (values + 0.5).sum(axis=1, keepdims=True)
    assert (in_units(probabilities).argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_what_is_stored_comes_back(clips, tmp_path):
    run = made_run(clips)
    stored = read(store([run], tmp_path))
    assert stored.facts == collect([run]).facts and stored.emotions == run.emotions
    before = run.test_clips().assign(**run.predictions).set_index("clip_id")
    after = stored.table.set_index("clip_id").loc[before.index]
    for name in ("speaker", "corpus", "fold", "truth"):
        assert after[name].tolist() == before[name].tolist()
    np.testing.assert_allclose(
        stored.predictions.set_index("clip_id").loc[before.index, run.emotions], before[run.emotions]
    )
    metrics.check_predictions(stored.predictions)


def test_the_same_predictions_make_the_same_bytes_in_any_order(clips, tmp_path):
    runs = [made_run(clips, seed) for seed in range(2)]
    first = store(runs, tmp_path / "a").read_bytes()
    shuffled = [replace(run, predictions=run.predictions.sample(frac=1, random_state=1)) for run in runs[::-1]]
    for run in shuffled:
        path = store([run], tmp_path / "b")
    assert path.read_bytes() == first


def test_a_copy_names_the_same_clip_whichever_of_them_is_tested(clips):
    run = with_copies(made_run(clips))
    original = run.split["clip_id"].str.removesuffix("-copy")
    stored = collect([run])
    assert (stored.table["copy_of"] != "").sum() == (run.predictions["clip_id"].str.endswith("-copy")).sum() > 0
    assert set(stored.copies) <= set(original)
    only_copies = run.predictions[run.predictions["clip_id"].str.endswith("-copy")].reset_index(drop=True)
    assert set(collect([replace(run, predictions=only_copies)]).copies) <= set(original)


def test_other_experiments_have_files_of_their_own(clips, tmp_path):
    store([made_run(clips)], tmp_path)
    store([made_run(clips, overrides=["training.epochs=3"])], tmp_path)
    store([made_run(clips, overrides=["input.encoder=x/y"], name="tess-wav2vec2-finetune")], tmp_path)
    store([made_run(clips, overrides=["input.encoder=x/z"], name="tess-wav2vec2-finetune")], tmp_path)
    store([made_run(clips, expected={"sample": 9999})], tmp_path)
    assert len(read_all(tmp_path / "predictions")) == 5


def test_seeds_that_were_tested_on_other_clips_are_not_mixed(clips, tmp_path):
    path = store([made_run(clips, 0, expected={"sample": 9999})], tmp_path)
    before = path.read_bytes()
    fewer = made_run(clips[clips["speaker"] != "sample-01"], 1, expected={"sample": 9999})
    with pytest.raises(
        SerError, match="with the seeds 0, which were measured on other clips.*add the runs of all seeds"
    ):
        store([fewer], tmp_path)
    assert path.read_bytes() == before
    assert [
        run.seed for run in read(store([replace(fewer, split=fewer.split.assign(seed=0))], tmp_path)).facts.runs
    ] == [0]


def test_a_seed_is_given_once(clips):
    with pytest.raises(SerError, match="different seeds"):
        collect([made_run(clips), made_run(clips)])


@pytest.mark.parametrize(
    "content",
    [
        b"no xz",
        lzma.compress(b"# {}\nseed\n"),
        lzma.compress(b"# no json\nseed,fold\n"),
        lzma.compress(b"\xff\xff"),
        lzma.compress(b"# {}")[:-8],
    ],
)
def test_a_file_that_holds_no_predictions_is_refused_by_name(content, tmp_path):
    path = tmp_path / "broken.csv.xz"
    path.write_bytes(content)
    with pytest.raises(SerError, match=r"broken\.csv\.xz cannot be read: expected what `ser evaluate` writes"):
        read(path)


def test_a_file_without_a_column_is_refused(clips, tmp_path):
    path = store([made_run(clips)], tmp_path)
    text = lzma.decompress(path.read_bytes()).decode().replace(",speaker,", ",who,")
    path.write_bytes(lzma.compress(text.encode()))
    with pytest.raises(SerError, match="other columns than expected: .*who"):
        read(path)


def test_names_that_pandas_takes_for_missing_stay_names(clips, tmp_path):
    odd = clips.assign(speaker=clips["speaker"].replace({"sample-01": "NA"}))
    table = read(store([made_run(odd)], tmp_path)).table
    assert isinstance(table, pd.DataFrame) and set(table["speaker"]) == set(odd["speaker"])
