"""The real Whisper-base encoder on real speech, where both are there: `$SER_WHISPER_BASE` names its folder."""

import os

import numpy as np
import pytest
import torch

from ser_lib import load_clips
from ser_lib.evaluation import metrics
from ser_lib.models.embeddings import embed, hidden_states, load_encoder
from ser_lib.recipes import Input, load_recipe
from ser_lib.recipes.inputs import clips_of, inputs_of
from ser_lib.training.experiment import train

AUDIO = {"sampling_rate": 16000, "trim_below_db": 30, "normalise": "peak"}
BEST_LAYERS = ["input.layers=[1, 2, 3, 4, 5]", "input.pooling=mean+std", "input.standardise=true"]


@pytest.fixture
def whisper():
    if not os.environ.get("SER_WHISPER_BASE"):
        pytest.skip("SER_WHISPER_BASE does not name a folder with Whisper-base's encoder")
    return os.environ["SER_WHISPER_BASE"]


@pytest.mark.real
def test_hears_what_the_stock_encoder_hears_in_30_seconds(whisper):
    encoder = load_encoder(whisper)
    clips = load_clips("sample", progress=False)
    from ser_lib.audio.reading import prepare

    waveform = np.concatenate([prepare(path, **AUDIO) for path in clips["path"].iloc[:40]])[: 30 * 16000]
    assert len(waveform) == 30 * 16000
    features = encoder.feature_extractor(waveform, sampling_rate=16000, return_tensors="pt")["input_features"]
    with torch.no_grad():
        stock = encoder.model(features).last_hidden_state[0]
        (ours,) = hidden_states(encoder.model, encoder.feature_extractor, [waveform])
    assert (ours[-1] - stock).norm() / stock.norm() < 1e-3


@pytest.mark.real
def test_an_embedding_does_not_depend_on_its_batch_or_on_bfloat16(whisper):
    clips = load_clips("sample", progress=False).iloc[:12]
    settings = Input(encoder=whisper, layers="all", pooling="mean+std", audio=AUDIO, precision="float32")
    exact = embed(clips, settings, progress=False)
    for row in range(len(clips)):
        os.environ["SER_CACHE_DIR"] += "x"  # nothing is stored there yet
        alone = embed(clips.iloc[[row]], settings, progress=False)[0]
        assert np.linalg.norm(alone - exact[row]) / np.linalg.norm(exact[row]) < 1e-3
    fast = embed(clips, settings.model_copy(update={"precision": "auto"}), progress=False)
    assert np.linalg.norm(fast - exact) / np.linalg.norm(exact) < 0.03


@pytest.mark.real
def test_a_frozen_encoder_tells_emotions_of_new_speakers_apart(real, whisper, monkeypatch, tmp_path):
    real("ravdess")
    overrides = [*BEST_LAYERS, f"input.encoder={whisper}", "model.name=logistic-regression", "split.folds=2"]
    overrides += [f"input.audio.{name}={value}" for name, value in AUDIO.items()]
    overrides += ["training.inverse_regularisation=0.003"]
    recipe = load_recipe("ravdess-wav2vec2-frozen-mlp", overrides=overrides)
    clips = clips_of(recipe, "speaker", progress=False)
    few = clips[clips["speaker"].isin(clips["speaker"].unique()[:4])][::2].reset_index(drop=True)
    monkeypatch.setattr("ser_lib.training.experiment.clips_of", lambda *_, **__: few)
    run = train(recipe, "speaker", runs_dir=tmp_path, progress=False)
    assert run.metrics["overall"]["uar"] > 2.5 * metrics.chance_level(8)
    inputs = inputs_of(recipe, few, "speaker", progress=False)
    tested = run.split[(run.split["fold"] == 1) & (run.split["subset"] == "test")]["clip_id"]
    rows = few.reset_index().set_index("clip_id").loc[tested, "index"]
    again = run.model(1).probabilities(inputs[rows])
    recorded = run.predictions.set_index("clip_id").loc[tested, run.emotions]
    np.testing.assert_allclose(again, recorded, atol=1e-4)
