"""Conditions of a leak: splits that differ in one thing only, predictions under them, and the table of their scores."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from ser_lib.common.hashing import shuffled
from ser_lib.evaluation import metrics
from ser_lib.evaluation.comparison import paired_scores
from ser_lib.protocols.splits import make_split
from ser_lib.studies.probe import probe, without_validation

COLUMNS = [
    "corpora",  # "ravdess", or several with + between them
    *["mechanism", "condition", "leaky"],
    *["uar", "uar_low", "uar_high", "accuracy", "accuracy_low", "accuracy_high"],
    "chance",  # the UAR of guessing among all emotions of the model
    "n_test",  # distinct clips: duplicates and copies of a clip count once
    "test_speakers",
    "interval_over",  # speakers, clips or none, as of metrics.score
    "n_train",  # training rows a fold, on average
    "part_of",  # the condition of which this one has some of the test rows, or ""
    "share",  # of that condition's test rows
    "against",  # the honest condition that this one is compared with, or ""
    *["points", "points_low", "points_high"],  # 100 × (its UAR − that of `against`), paired
]


class Condition(NamedTuple):
    """One way to split or train, with its predictions. See `COLUMNS`."""

    name: str
    leaky: bool
    predictions: pd.DataFrame  # a duplicate or copy has the clip_id of its original
    n_train: float
    against: str = ""
    part_of: str = ""
    share: float = 1.0

    def part(self, name: str, leaky: bool, rows: np.ndarray, against: str = "") -> "Condition":
        """Some of the test rows (a mask) as a condition."""
        return Condition(name, leaky, self.predictions[rows], self.n_train, against, self.name, float(np.mean(rows)))


def speaker_split(clips: pd.DataFrame, folds: int) -> pd.DataFrame:
    """A split by speaker without validation clips."""
    return without_validation(make_split(clips, "speaker", 0, folds=folds))


def random_split(clips: pd.DataFrame, folds: int, seed: int = 0) -> pd.DataFrame:
    """The split by speaker, after clips have been exchanged at random with clips of the same emotion.

    Folds, training sets and the emotions in each keep their sizes exactly, and each clip is tested once: the speakers
    are the only difference between the two kinds of split.
    """
    split = speaker_split(clips, folds)
    exchanged: dict[str, str] = {}
    for _, clip_ids in clips.groupby("emotion")["clip_id"]:
        exchanged |= dict(zip(sorted(clip_ids), shuffled(clip_ids, seed, "places"), strict=True))
    moved = clips.set_index("clip_id").loc[split["clip_id"].map(exchanged)].reset_index()
    return moved.assign(**{name: split[name].to_numpy() for name in ("fold", "subset", "seed")})


def tested(split: pd.DataFrame) -> pd.DataFrame:
    """The test rows, in the order in which they are predicted."""
    return split[split["subset"] == "test"].sort_values("fold", kind="stable")


def mean_n_train(split: pd.DataFrame) -> float:
    """Training rows a fold, on average."""
    return float((split["subset"] == "train").sum() / split["fold"].nunique())


def probed(
    name: str,
    leaky: bool,
    clips: pd.DataFrame,
    features: np.ndarray,
    split: pd.DataFrame,
    against: str = "",
    standardise: bool = True,
) -> Condition:
    """The condition of a split, predicted by the probe."""
    return Condition(name, leaky, probe(clips, features, split, standardise), mean_n_train(split), against)


def table_of(mechanism: str, clips: pd.DataFrame, conditions: list[Condition]) -> pd.DataFrame:
    """Score the conditions: `COLUMNS`, one row each. A condition without test rows is left out."""
    about = clips.set_index("clip_id")
    speaker_of, corpus_of = about["speaker"], about["corpus"]
    predictions_of = {condition.name: condition.predictions for condition in conditions}
    corpora = "+".join(sorted(clips["corpus"].unique()))
    rows = []
    for condition in conditions:
        if (predictions := condition.predictions).empty:
            continue
        clip_ids = predictions["clip_id"]
        scores = metrics.score(predictions, speaker_of[clip_ids], corpus_of[clip_ids])
        chance = metrics.chance_level(len(metrics.emotions_of(predictions)))
        labels = {"corpora": corpora, "mechanism": mechanism, "condition": condition.name}
        rows.append(condition._asdict() | labels | scores | {"chance": chance})
        if condition.against:
            rows[-1] |= difference(predictions, predictions_of[condition.against], speaker_of, corpus_of)
    return pd.DataFrame(rows, columns=COLUMNS)


def difference(
    leaky: pd.DataFrame, honest: pd.DataFrame, speaker_of: pd.Series | None, corpus_of: pd.Series | None = None
) -> dict[str, float]:
    """Points of UAR between two predictions tables with a 95 % interval, paired over speakers; NaN with too few."""
    both, _ = paired_scores(leaky, honest, speaker_of, corpus_of)
    return {name: 100 * value for name, value in both[2][metrics.SCORES.index("uar")].columns("points").items()}
