"""Runs of tiny models on tones, to export: trained in seconds."""

import numpy as np
from conftest import tone_clips

from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.training import experiment

EMOTIONS = ["neutral", "happy", "sad"]
# Two convolutions and one layer in place of seven and two: the exporter takes half as long.
SMALL = {"conv_dim": (8, 8), "conv_kernel": (20, 16), "conv_stride": (20, 16), "num_hidden_layers": 1}
OVERRIDES = [
    "corpora=[sample]",
    "emotions=[neutral,happy,sad]",
    "split.folds=2",
    "training.device=cpu",
    "training.epochs=1",
]


def sound(seconds, seed=0) -> np.ndarray:
    """A tone in noise at 16 kHz, float32 of shape (n_samples,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16000)) / 16000
    tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 2000) * time) + 0.02
    return (tone + 0.05 * rng.standard_normal(len(time))).astype(np.float32)


def train(tmp_path, monkeypatch, name, *overrides):
    """A run of a recipe on tones, in `tmp_path / "runs"`, and its clips."""
    clips = tone_clips(tmp_path / "tones", speakers=4, takes=2, seconds=0.3)
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: clips.copy())
    # A regression is fitted, and has no epochs.
    general = [text for text in OVERRIDES if "model.name=corpus-experts" not in overrides or "epochs" not in text]
    recipe = load_recipe(name, overrides=[*general, *overrides])
    return experiment.train(recipe, runs_dir=tmp_path / "runs", progress=False), clips
