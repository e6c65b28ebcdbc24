"""`scripts/ablations.py`: each way of fitting learns what a regression learns, and its table is of its predictions."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ser_lib.evaluation.stored_predictions import UNITS
from ser_lib.reports.doc_tables import REFERENCE_WAY, REFERENCE_WAY_OF_FIRST_FOLD, ways_tried

SCRIPTS = Path(__file__).parents[1] / "scripts"
EMOTIONS = ["neutral", "happy", "sad"]


@pytest.fixture(scope="module")
def ablations():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import ablations

        return ablations
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def clips():
    """180 clips of six speakers, whose emotion shifts their features."""
    rng = np.random.default_rng(0)
    labels, speakers = np.tile(np.arange(3), 60), np.repeat(np.arange(6), 30)
    features = rng.standard_normal((180, 12)).astype(np.float32)
    features[:, :3] += 2 * np.eye(3, dtype=np.float32)[labels]
    frames = [np.repeat(one[None, None, :], 3 + i % 4, axis=0).astype(np.float16) for i, one in enumerate(features)]
    return SimpleNamespace(labels=labels, speakers=speakers, emotions=EMOTIONS, features=features, frames=frames)


TRAIN, VALIDATION, TEST = np.arange(90), np.arange(90, 120), np.arange(120, 180)
OPTIONS = {
    "plain": {},
    "smoothing": {"smoothing": 0.1},
    "mixup": {"mixup": 0.4},
    "average": {"average": 0.9},
    "contrast": {"contrast": 0.5},
    "adversary": {"adversary": 0.3},
}


def check(fit, clips):
    probabilities, chosen = fit(TRAIN, VALIDATION, 0)
    again, same = fit(np.concatenate([TRAIN, VALIDATION]), np.array([], dtype=int), 0, chosen)
    assert same == chosen
    for one in (probabilities, again):
        np.testing.assert_allclose(one.sum(axis=1), 1, atol=1e-5)
        assert (one[TEST].argmax(axis=1) == clips.labels[TEST]).mean() > 0.6


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_perceptron_learns(options, ablations, clips):
    check(ablations.perceptron(clips, clips.features, epochs=15, rate=5e-3, **options), clips)


def test_pooling_learns_from_frames(ablations, clips):
    check(ablations.perceptron(clips, clips.frames, epochs=15, rate=5e-3), clips)


def test_regressions_machines_and_their_means_learn(ablations, clips):
    regression = ablations.logistic(clips, clips.features)
    check(regression, clips)
    check(ablations.logistic(clips, clips.features, [clips.features + 0.1], balanced=True), clips)
    check(ablations.averaged_over_copies(clips, clips.features, [clips.features + 0.1]), clips)
    machine = ablations.support_vectors(clips, clips.features)
    check(machine, clips)
    check(ablations.mean_of(regression, machine), clips)


def test_the_table_compares_each_seed_with_the_reference_on_the_same_clips(tmp_path):
    (tmp_path / "ablations").mkdir()
    rng = np.random.default_rng(0)
    about = pd.DataFrame({"clip_id": [f"c/{i:03}" for i in range(90)], "speaker": np.repeat(list("abcdef"), 15)})
    about["truth"] = np.tile(EMOTIONS, 30)

    def store(way, seeds, right, rows=slice(None)):
        parts = []
        for seed in seeds:
            is_right = rng.random(90) < right
            answers = np.where(is_right, about["truth"], np.roll(about["truth"], 1))
            scores = pd.DataFrame({emotion: UNITS * (answers == emotion) for emotion in EMOTIONS})
            parts.append(about.assign(seed=seed).join(scores)[["seed", *about, *EMOTIONS]].iloc[rows])
        path = tmp_path / "ablations" / f"{len(way)}.csv.xz"
        pd.concat(parts).assign(way=way, seconds=1).to_csv(path, index=False)

    store(REFERENCE_WAY, [0], 1.0)
    store("half", [0, 1, 2], 0.5)
    store("a part", [0], 1.0, slice(0, 45))
    store(REFERENCE_WAY_OF_FIRST_FOLD, [0], 0.8, slice(0, 45))
    first, part, reference_of_part, half = ways_tried(tmp_path).splitlines()[2:]
    assert first.startswith(f"| **{REFERENCE_WAY}** | 1.000 | — | 1 |")
    assert part.startswith("| a part, first fold | 1.000 | +0.") and "+0.000" not in part
    assert reference_of_part.startswith(f"| **{REFERENCE_WAY_OF_FIRST_FOLD}**, first fold | 0.")
    assert half.startswith("| half | 0.") and " to -0." in half and half.endswith("| 3 |")
