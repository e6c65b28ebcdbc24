"""The chain from audio to scores on the real TESS: what its copies and its two speakers are worth."""

import numpy as np
import pytest

from ser_lib.recipes import load_recipe
from ser_lib.recipes.inputs import clips_of, split_of
from ser_lib.training import experiment


@pytest.mark.real
def test_tess_scores_fall_when_its_leaks_are_closed(real, tmp_path):
    real("tess")
    recipe = load_recipe("tess-mfcc-cnn", overrides=["training.epochs=8"])
    runs = {
        protocol: experiment.train(recipe, protocol, runs_dir=tmp_path, progress=False)
        for protocol in ("published", "speaker")
    }
    published, speaker = (runs[name].metrics["overall"] for name in ("published", "speaker"))
    # 20 % of 5600 files, of which copies count once; every clip once.
    tested = runs["published"].test_clips()
    assert (len(tested), speaker["n_test"]) == (1120, 2800)
    assert published["n_test"] == tested["audio_hash"].nunique() < 1120
    leaks = runs["published"].audit.set_index("leak")
    # Of the test files nearly 70 % have their twin in the 70 % that are trained on.
    assert 0.6 < leaks.loc["same audio", "share"] < 0.8 and leaks.loc["same speaker", "share"] == 1
    assert runs["speaker"].audit.set_index("leak").loc[["same audio", "same speaker"], "clips"].sum() == 0
    assert published["uar"] > 0.85 and speaker["uar"] < 0.75
    assert published["uar"] - speaker["uar"] > 0.15
    assert speaker["interval_over"] == "none" and speaker["test_speakers"] == len(speaker["speaker_scores"]) == 2
    run = runs["speaker"]
    clips = clips_of(recipe, "speaker", progress=False).set_index("clip_id")
    tested = run.test_clips().query("fold == 1")["clip_id"].iloc[::7]
    told = run.predict(clips.loc[tested, "path"].tolist(), fold=1)[run.emotions]
    recorded = run.predictions.set_index("clip_id").loc[tested, run.emotions]
    np.testing.assert_allclose(told, recorded, atol=1e-4, rtol=0)


@pytest.mark.real
@pytest.mark.parametrize("protocol", ["speaker", "emobox"])
def test_every_ravdess_actor_is_tested_once_and_never_trained_on(real, protocol):
    real("ravdess")
    recipe = load_recipe("tess-mfcc-cnn", overrides=["corpora=ravdess", "emotions=all"])
    clips = clips_of(recipe, protocol, progress=False)
    split = split_of(recipe, clips, protocol, 0)
    tested = split[split["subset"] == "test"]
    assert len(tested) == tested["clip_id"].nunique() == 1439
    for _, fold in split.groupby("fold"):
        speakers = {name: set(part["speaker"]) for name, part in fold.groupby("subset")}
        assert not speakers["train"] & speakers["test"] and not speakers["validation"] & speakers["train"]
        assert not speakers["validation"] & speakers["test"]
        assert {speaker for speaker in speakers["test"]} and len(speakers["train"]) >= 14
