"""A head and a kind of acoustic features are added by one class or function and one line, and used by a recipe."""

import numpy as np
import pytest
import torch
from conftest import tone_clips

from ser_lib.audio.features import ACOUSTIC_FEATURES
from ser_lib.common.errors import SerError
from ser_lib.models.base import MODELS, register
from ser_lib.models.heads import Head
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.training import experiment

BRIEF = ["training.epochs=3", "split.folds=2", "emotions=[neutral, happy, sad]", "input.standardise=true"]


def energy(waveform: np.ndarray, sampling_rate: int, hop: int = 512) -> np.ndarray:
    """Energy and zero crossings of each frame, (n_frames, 2)."""
    frames = np.stack([waveform[start : start + hop] for start in range(0, len(waveform) - hop + 1, hop)])
    crossings = np.abs(np.diff(np.sign(frames), axis=1)).mean(axis=1)
    return np.column_stack([np.log(np.square(frames).mean(axis=1) + 1e-9), crossings]).astype(np.float32)


@pytest.fixture
def clips(tmp_path, monkeypatch):
    table = tone_clips(tmp_path / "audio")
    table["audio_hash"] = [f"{row:032x}" for row in range(len(table))]
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: table.copy())
    return table


def test_a_head(clips, tmp_path):
    with pytest.raises(SerError, match="unknown model 'max-pooling'"):
        load_recipe("demo", overrides=["model.name=max-pooling"])

    @register("max-pooling")
    class MaxPooling(Head):
        """The largest value of each feature over a clip's frames."""

        forms = ("sequence",)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features.nan_to_num(-torch.inf).amax(dim=1)

    try:
        with pytest.raises(SerError, match="model.name=max-pooling needs input.pooling=sequence"):
            load_recipe("demo", overrides=["model.name=max-pooling", "input.pooling=mean"])
        overrides = [*BRIEF, "model.name=max-pooling", "input.pooling=sequence"]
        run = experiment.train(load_recipe("demo", overrides=overrides), runs_dir=tmp_path / "runs", progress=False)
        answers = run.predict(clips["path"].tolist()[:3], progress=False)
        assert (answers["error"] == "").all() and run.recipe.model_label == "max-pooling"
    finally:
        del MODELS["max-pooling"]


def test_a_kind_of_acoustic_features(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(ACOUSTIC_FEATURES, "energy", energy)
    overrides = [*BRIEF, "input.encoder=energy", "input.hop=256", "input.pooling=mean+std", "model.name=mlp"]
    recipe = load_recipe("demo", overrides=overrides)
    assert recipe.features_label == "energy" and not recipe.reads_encoder
    run = experiment.train(recipe, runs_dir=tmp_path / "runs", progress=False)
    assert run.model().module.config["n_features"] == 4
    answers = run.predict(clips["path"].tolist()[:3], progress=False)
    assert (answers["error"] == "").all()
    with pytest.raises(SerError, match="input.n_mfcc has no effect on model.name=mlp with input.encoder=energy"):
        experiment.train(load_recipe("demo", overrides=[*overrides, "input.n_mfcc=13"]), runs_dir=tmp_path)
