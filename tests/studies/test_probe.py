"""The probe of the studies, and the clips and features that it reads."""

import numpy as np
import pytest
from conftest import make_clips, tone_clips

from ser_lib.common.errors import SerError
from ser_lib.evaluation import metrics
from ser_lib.models import network_training
from ser_lib.protocols.splits import make_split
from ser_lib.studies import probe as probe_module
from ser_lib.studies.probe import load_available, probe, probe_on


@pytest.fixture
def problem():
    """Six speakers with features that state the emotion, with noise."""
    clips = make_clips(speakers=6, takes=4)
    rng = np.random.default_rng(0)
    signal = clips["emotion"].map({"neutral": 0, "happy": 1, "sad": 2}).to_numpy()
    features = np.eye(3)[signal] + 0.3 * rng.standard_normal((len(clips), 3))
    return clips, features.astype(np.float32)


def test_answers_once_for_every_test_clip_and_well(problem):
    clips, features = problem
    split = make_split(clips, "speaker", 0, folds=3)
    predictions = probe(clips, features, split)
    assert sorted(predictions["clip_id"]) == sorted(clips["clip_id"])
    assert (clips["clip_id"].iloc[predictions.index].to_numpy() == predictions["clip_id"]).all()
    assert metrics.score(predictions)["uar"] > 0.9
    again = probe(clips, features, split)
    assert again.equals(predictions)


def test_one_fit_a_fold_predicts_every_version_of_the_test_clips(problem, monkeypatch):
    clips, features = problem
    split = make_split(clips, "speaker", 0, folds=3)
    fits, fit = [], network_training.fit_logistic
    monkeypatch.setattr(network_training, "fit_logistic", lambda *args, **kwargs: fits.append(fit(*args, **kwargs)))
    versions = {"as it is": features, "turned": np.roll(features, 1, axis=1)}
    predictions = probe_on(clips, features, split, versions)
    assert len(fits) == 3
    assert predictions["as it is"].equals(probe(clips, features, split))
    assert metrics.score(predictions["turned"])["uar"] < 0.1


def test_needs_no_validation_clips(problem):
    clips, features = problem
    split = make_split(clips, "deduplicated", 0, validation_fraction=0)
    assert metrics.score(probe(clips, features, split))["uar"] > 0.8


def test_takes_the_labels_of_the_split(problem):
    clips, features = problem
    split = make_split(clips, "speaker", 0, folds=2)
    split["emotion"] = split["emotion"].map({"neutral": "happy", "happy": "sad", "sad": "neutral"})
    predictions = probe(clips, features, split)
    assert metrics.score(predictions)["uar"] > 0.9
    assert (predictions["truth"].to_numpy() != clips["emotion"].iloc[predictions.index].to_numpy()).all()


def test_refuses_clips_it_does_not_know(problem):
    clips, features = problem
    split = make_split(clips, "speaker", 0, folds=2)
    with pytest.raises(SerError, match="names 72 clips that are not among the clips"):
        probe(clips.iloc[:72], features[:72], split)
    with pytest.raises(SerError, match="features of 144 clips, got those of 10"):
        probe(clips, features[:10], split)


def test_missing_and_incomplete_corpora_are_reported(tmp_path, monkeypatch):
    tones = tone_clips(tmp_path, speakers=4)

    def load(names, *_, **__):
        if names == ["tess"]:
            raise SerError("found nowhere")
        clips = tones.copy()
        clips.attrs["shortfall"] = {"sample": (48, 256)}
        return clips

    monkeypatch.setattr(probe_module, "load_clips", load)
    lines = []
    assert len(load_available(["sample", "tess"], say=lines.append)) == len(tones)
    assert lines == [
        "sample is incomplete, 48 of 256 clips: do not quote its scores",
        "tess is left out: found nowhere",
    ]
    with pytest.raises(SerError, match="none of the corpora tess can be found"):
        load_available(["tess"], say=lines.append)
