"""A finished run on other clips: which clips are left out, and their scores."""

import logging

import numpy as np
import pandas as pd
import pytest
from conftest import make_clips, tone_clips

from ser_lib import cli
from ser_lib.common.errors import SerError
from ser_lib.evaluation import unseen_corpora
from ser_lib.inference.run import load_run
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.training import experiment


@pytest.fixture
def run(tmp_path, monkeypatch):
    clips = tone_clips(tmp_path / "tones", speakers=4, takes=2)
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: clips.copy())
    changes = ["emotions=[neutral,happy,sad]", "split.folds=2", "training.epochs=2"]
    return experiment.train(
        load_recipe("demo", overrides=changes), "speaker", 0, None, tmp_path / "runs", progress=False
    )


def elsewhere(folder, **changes):
    clips = tone_clips(folder, speakers=3, takes=2)
    clips["speaker"] = "savee-" + clips["speaker"].str[-2:]
    return clips.assign(
        corpus="savee", clip_id=clips["clip_id"].str.replace("sample", "savee"), audio_hash=clips["clip_id"], **changes
    )


def test_predictions_are_those_of_the_run_in_the_order_of_the_clips(run, tmp_path):
    clips = elsewhere(tmp_path / "savee")
    answers = unseen_corpora.predictions_on(run, clips, progress=False)
    assert answers["clip_id"].tolist() == clips["clip_id"].tolist()
    assert answers["truth"].tolist() == clips["emotion"].tolist()
    expected = run.predict(clips["path"].tolist(), progress=False)
    pd.testing.assert_frame_equal(answers[run.emotions], expected[run.emotions])


def test_training_speakers_and_unknown_emotions_are_left_out(run, tmp_path, caplog):
    clips = elsewhere(tmp_path / "savee")
    clips.loc[clips.index[:3], "emotion"] = "disgust"
    known = run.split.query("fold == 0 and subset == 'train'")["speaker"].iloc[0]
    clips.loc[clips.index[3:5], "speaker"] = known
    with caplog.at_level(logging.WARNING):
        answers = unseen_corpora.predictions_on(run, clips, progress=False)
    assert answers["clip_id"].tolist() == clips["clip_id"].iloc[5:].tolist()
    assert f"2 of {len(clips)} clips left out, of speakers" in caplog.messages[0]
    assert f"3 of {len(clips) - 2} clips left out, of emotions other than neutral, happy, sad" in caplog.messages[1]
    test_speakers = run.test_clips().query("fold == 0")["speaker"].unique()
    clips["speaker"] = np.resize(test_speakers, len(clips))  # only the other folds train on them
    assert len(unseen_corpora.predictions_on(run, clips, 0, progress=False)) == len(clips) - 3
    with pytest.raises(SerError, match="no clip is left"):
        unseen_corpora.predictions_on(run, clips, "all", progress=False)


def test_training_clips_are_recognised_under_another_name(run, tmp_path, caplog):
    clips = elsewhere(tmp_path / "savee")
    rows = run.split.query("fold == 0").drop_duplicates("subset").set_index("subset")
    hashes = rows["audio_hash"][["train", "validation", "test"]].tolist()
    clips.loc[clips.index[:3], "audio_hash"] = hashes
    with caplog.at_level(logging.WARNING):
        answers = unseen_corpora.predictions_on(run, clips, 0, progress=False)
    assert answers["clip_id"].tolist() == clips["clip_id"].iloc[2:].tolist()  # fold 0 does not train on its test clip
    assert caplog.messages == [f"2 of {len(clips)} clips left out, which this model learned from"]
    assert len(unseen_corpora.predictions_on(run, clips, "all", progress=False)) == len(clips) - 3


def test_an_older_run_without_hashes_warns(run, tmp_path, caplog):
    table = pd.read_csv(run.folder / "split.csv")
    table.drop(columns="audio_hash").to_csv(run.folder / "split.csv", index=False)
    (run.folder / "manifest.json").unlink()
    clips = elsewhere(tmp_path / "savee")
    with caplog.at_level(logging.WARNING):
        answers = unseen_corpora.predictions_on(load_run(run.folder), clips, progress=False)
    assert len(answers) == len(clips)
    first, message = caplog.messages
    assert "manifest.json: whether its files are unchanged cannot be checked" in first
    assert "under other names cannot be checked" in message


def test_a_file_that_cannot_be_read_is_left_out(run, tmp_path):
    clips = elsewhere(tmp_path / "savee")
    (tmp_path / "bad.wav").write_text("no audio")
    clips.loc[clips.index[2], "path"] = str(tmp_path / "bad.wav")
    answers = unseen_corpora.predictions_on(run, clips, progress=False)
    assert answers["clip_id"].tolist() == clips["clip_id"].drop(clips.index[2]).tolist()


@pytest.fixture
def known_answers(monkeypatch):
    """A run with fixed predictions: happy always right, sad right once in four, else taken for happy."""
    clips = make_clips(4, ("happy", "sad"), corpora=("savee", "tess"))
    right = clips.groupby(["corpus", "emotion"]).cumcount() % 4 == 0
    answers = clips["emotion"].where(right | (clips["emotion"] == "happy"), "happy")
    predictions = pd.DataFrame({"clip_id": clips["clip_id"], "truth": clips["emotion"], "neutral": 0.0})
    for emotion in ("happy", "sad"):
        predictions[emotion] = np.where(answers == emotion, 0.9, 0.1)
    monkeypatch.setattr(unseen_corpora, "predictions_on", lambda *_: predictions)
    return clips


def test_recall_and_what_is_taken_for_what(run, known_answers):
    table = unseen_corpora.scores_of(unseen_corpora.collect_on(run, known_answers))
    assert list(table.columns) == unseen_corpora.COLUMNS
    test_rows = table[table["corpus"] == "own test clips: sample"]
    assert test_rows["recall"].iloc[0] == pytest.approx(run.metrics["overall"]["uar"])
    assert test_rows["emotion"].tolist() == ["all", "neutral", "happy", "sad"]
    table = table.drop(test_rows.index)
    assert table["corpus"].tolist() == ["savee"] * 3 + ["tess"] * 3
    assert table["emotion"].tolist() == ["all", "happy", "sad"] * 2
    recall = table.set_index(["corpus", "emotion"])["recall"]
    assert recall["savee", "happy"] == 1 and recall["savee", "sad"] == pytest.approx(0.25)
    assert recall["savee", "all"] == pytest.approx(0.625)
    sad = table[table["emotion"] == "sad"].iloc[0]
    assert (sad["taken_for"], sad["taken_for_share"]) == ("happy", pytest.approx(0.75))
    known = table.dropna(subset="recall_low")
    assert (known["recall_low"] <= known["recall"]).all() and (known["recall"] <= known["recall_high"]).all()
    text = unseen_corpora.markdown(table)
    assert "| sad | 0.25 (" in text and "happy, 75% |" in text and text.count("\n") == 4


def test_the_command_prints_and_writes_what_can_be_read_again(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ser_lib.corpora.clips.load_clips", lambda *_: elsewhere(tmp_path / "savee"))
    assert cli.main(["score", str(run.folder), "savee", "--csv", str(tmp_path / "scores.csv")]) == 0
    printed = capsys.readouterr().out
    table = unseen_corpora.read_scores(tmp_path / "scores.csv")
    assert unseen_corpora.markdown(table) in printed and "| **all** (UAR) |" in printed
    assert set(table["recipe"]) == {"demo"}


def test_the_table_comes_out_again_from_the_stored_predictions_alone(run, tmp_path, monkeypatch):
    clips = elsewhere(tmp_path / "savee")
    clips.attrs["shortfall"] = {"savee": (len(clips), 480)}
    monkeypatch.setattr("ser_lib.corpora.clips.load_clips", lambda *_: clips)
    files = ["--csv", str(tmp_path / "scores.csv"), "--reports-dir", str(tmp_path / "reports")]
    assert cli.main(["score", str(run.folder), "savee", "--store", *files]) == 0
    monkeypatch.setattr(unseen_corpora, "predictions_on", None)
    path = unseen_corpora.make_unheard(tmp_path / "reports")
    assert path.read_bytes() == (tmp_path / "scores.csv").read_bytes()
    assert set(unseen_corpora.read_scores(path)["corpus"]) == {"own test clips: sample", "savee-part"}
    assert unseen_corpora.make_unheard(tmp_path / "empty") is None
