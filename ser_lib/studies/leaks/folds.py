"""Splits that differ in one thing only, and predictions of all folds of several splits."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ser_lib.common.hashing import shuffled
from ser_lib.protocols.splits import make_split
from ser_lib.studies.probe import probe, without_validation


class Predicted(NamedTuple):
    """Predictions of the test rows of one or several splits."""

    predictions: pd.DataFrame  # a duplicate or copy has the clip_id of its original
    n_train: float  # training rows a fold, on average


def speaker_splits(clips: pd.DataFrame, folds: int, seeds: Sequence[int]) -> list[pd.DataFrame]:
    """A split by speaker for each seed, without validation clips."""
    return [without_validation(make_split(clips, "speaker", seed, folds=folds)) for seed in seeds]


def random_splits(clips: pd.DataFrame, folds: int, seeds: Sequence[int]) -> list[pd.DataFrame]:
    """The splits by speaker, after clips have been exchanged at random with clips of the same emotion.

    Folds, training sets and the emotions in each keep their sizes exactly, and each clip is tested once: the speakers
    are the only difference between the two kinds of split.
    """
    splits = []
    for seed, split in zip(seeds, speaker_splits(clips, folds, seeds), strict=True):
        exchanged: dict[str, str] = {}
        for _, clip_ids in clips.groupby("emotion")["clip_id"]:
            exchanged |= dict(zip(sorted(clip_ids), shuffled(clip_ids, seed, "places"), strict=True))
        moved = clips.set_index("clip_id").loc[split["clip_id"].map(exchanged)].reset_index()
        splits.append(moved.assign(**{name: split[name].to_numpy() for name in ("fold", "subset", "seed")}))
    return splits


def tested(split: pd.DataFrame) -> pd.DataFrame:
    """The test rows, in the order in which they are predicted."""
    return split[split["subset"] == "test"].sort_values("fold", kind="stable")


def known_from_training(split: pd.DataFrame, column: str) -> np.ndarray:
    """Whether a training row of the same fold has the same value of a column: bool of shape (n_test_rows,)."""
    train, test = split[split["subset"] == "train"], tested(split)
    known = set(zip(train["fold"], train[column], strict=True))
    return np.array([pair in known for pair in zip(test["fold"], test[column], strict=True)])


def probed(
    clips: pd.DataFrame, features: np.ndarray, splits: list[pd.DataFrame], standardise: bool = True
) -> Predicted:
    """Predictions of the probe under all splits."""
    tables = [probe(clips, features, split, standardise) for split in splits]
    return Predicted(pd.concat(tables), mean_n_train(splits))


def mean_n_train(splits: list[pd.DataFrame]) -> float:
    """Training rows a fold, on average."""
    return float(np.mean([(split["subset"] == "train").sum() / split["fold"].nunique() for split in splits]))
