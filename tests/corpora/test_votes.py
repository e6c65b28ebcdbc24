"""Votes are read by voice alone, by clip, from a file, or not at all."""

import hashlib
import shutil

import pandas as pd
import pytest
from conftest import make_clips

from ser_lib.common.errors import SerError
from ser_lib.corpora import crema_d
from ser_lib.corpora import votes as votes_module
from ser_lib.corpora.clips import load_clips
from ser_lib.corpora.votes import VARIABLE, crema_d_votes, votes_of

HEAD = '"","A","D","F","H","N","S","fileName","numResponses"\n'
TABLE = (
    HEAD
    + '"100001",0,0,0,1,10,0,"1001_IEO_NEU_XX",11\n"100002",0,0,0,3,6,0,"1001_IEO_HAP_LO",9\n'
    + '"200001",9,0,0,0,0,0,"1001_IEO_NEU_XX",9\n"300001",9,0,0,0,0,0,"1001_IEO_NEU_XX",9\n'
)


@pytest.fixture
def table(tmp_path, monkeypatch):
    path = tmp_path / "votes.csv"
    path.write_text(TABLE)
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def share_named(votes, emotions):
    """The share of all votes that name the acted emotion of their row."""
    named = [row[emotion] for (_, row), emotion in zip(votes.iterrows(), emotions, strict=True)]
    return sum(named) / votes.to_numpy().sum()


def clips_of(*names):
    return pd.DataFrame({"clip_id": [f"crema_d/{name}" for name in names], "corpus": "crema_d"})


def test_votes_are_those_by_voice_alone_in_the_order_of_the_clips(table):
    votes = votes_of(clips_of("1001_IEO_HAP_LO", "1001_IEO_SAD_LO", "1001_IEO_NEU_XX"))
    assert votes.index.tolist() == ["crema_d/1001_IEO_HAP_LO", "crema_d/1001_IEO_NEU_XX"]
    assert votes.loc["crema_d/1001_IEO_NEU_XX"].to_dict() == {
        **{"angry": 0, "disgust": 0, "fear": 0, "happy": 1, "neutral": 10, "sad": 0}
    }
    assert share_named(votes, pd.Series(["happy", "neutral"])) == 13 / 20


def test_corpora_without_votes_have_none_and_ask_for_none(monkeypatch):
    monkeypatch.setattr(votes_module, "_downloaded", lambda: pytest.fail("no table is needed"))
    assert votes_of(make_clips(1)).empty


def test_a_file_that_is_not_the_table_is_named(tmp_path, monkeypatch, caplog):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(SerError, match=r"other.csv is not CREMA-D's tabulatedVotes.csv"):
        crema_d_votes()
    assert votes_of(clips_of("1001_IEO_NEU_XX")).empty
    assert "what listeners heard is left out" in caplog.text


def test_a_download_is_checked_by_its_hash_and_kept(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    # pooch copies local files as it downloads others.
    source = tmp_path / "source.csv"
    source.write_text(TABLE)
    downloads = []

    def from_disk(url, output, pooch):
        downloads.append(url)
        shutil.copy(source, output)

    monkeypatch.setattr("pooch.core.choose_downloader", lambda *_, **__: from_disk)
    with pytest.raises(SerError, match="could not be downloaded.*SER_CREMA_D_VOTES"):
        crema_d_votes()
    monkeypatch.setattr(votes_module, "SHA256", hashlib.sha256(TABLE.encode()).hexdigest())
    assert len(crema_d_votes()) == len(crema_d_votes()) == 2
    assert len(downloads) == 2 and votes_module.COMMIT in downloads[0]


@pytest.mark.real
def test_of_all_votes_two_fifths_name_the_acted_emotion(real, monkeypatch):
    """The figures of `human_accuracy` and of docs/numbers.md."""
    try:
        votes = crema_d_votes()
    except SerError as error:
        pytest.skip(str(error))
    assert (len(votes), votes.to_numpy().sum()) == (7442, 68568)
    code = votes.index.str.split("_").str[3]
    acted = pd.Series(code.map(crema_d.EMOTION))
    assert share_named(votes, acted) == pytest.approx(crema_d.CORPUS.human_accuracy, abs=5e-4)
    shares = {
        emotion: round(share_named(votes[acted.to_numpy() == emotion], acted[acted == emotion]), 2)
        for emotion in acted.unique()
    }
    assert shares == {"neutral": 0.76, "angry": 0.53, "fear": 0.32, "happy": 0.29, "disgust": 0.29, "sad": 0.25}
    real("crema_d")
    clips = load_clips(["crema_d"])
    assert len(votes_of(clips)) == len(clips)
