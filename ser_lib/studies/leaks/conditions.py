"""Conditions of a leak: splits that differ in one thing only, predictions under them, and the table of their scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.common.hashing import shuffled
from ser_lib.evaluation import metrics
from ser_lib.evaluation.comparison import paired_scores
from ser_lib.protocols.splits import make_split
from ser_lib.studies.probe import probe, without_validation

COLUMNS = [
    "corpora",  # "ravdess", or several with + between them
    "mechanism",
    "condition",
    "leaky",
    *["uar", "uar_low", "uar_high", "accuracy", "accuracy_low", "accuracy_high"],
    "chance",  # the UAR of guessing among all emotions of the model
    "n_test",  # distinct clips: duplicates and copies of a clip count once
    "test_speakers",
    "interval_over",  # speakers or clips, as of metrics.score
    "n_train",  # training rows a fold, on average
    "part_of",  # the condition of which this one has some of the test rows, or ""
    "share",  # of that condition's test rows
    "against",  # the honest condition that this one is compared with, or ""
    *["points", "points_low", "points_high"],  # 100 × (its UAR − that of `against`), paired
]


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


@dataclass(frozen=True)
class Condition:
    """One way to split or train, before it is scored."""

    name: str
    leaky: bool
    predicted: Predicted
    against: str = ""
    part_of: str = ""
    share: float = 1.0

    def part(self, name: str, rows: np.ndarray, leaky: bool, against: str = "") -> "Condition":
        """Some of the test rows (a mask) as a condition."""
        predicted = Predicted(self.predicted.predictions[rows], self.predicted.n_train)
        return Condition(name, leaky, predicted, against, self.name, float(np.mean(rows)))


def table_of(mechanism: str, clips: pd.DataFrame, conditions: list[Condition]) -> pd.DataFrame:
    """Score the conditions: `COLUMNS`, one row each. A condition without test rows is left out."""
    speaker_of = clips.set_index("clip_id")["speaker"]
    predictions_of = {condition.name: condition.predicted.predictions for condition in conditions}
    rows = []
    for condition in conditions:
        predictions = predictions_of[condition.name]
        if predictions.empty:
            continue
        scores = metrics.score(predictions, speaker_of[predictions["clip_id"]])
        row = {
            "corpora": "+".join(sorted(clips["corpus"].unique())),
            "mechanism": mechanism,
            "condition": condition.name,
            "leaky": condition.leaky,
            **scores,
            "chance": metrics.chance_level(len(metrics.emotions_of(predictions))),
            "n_train": condition.predicted.n_train,
            "part_of": condition.part_of,
            "share": condition.share,
            "against": condition.against,
        }
        if condition.against:
            unit_of = speaker_of if scores["interval_over"] == "speakers" else None
            row |= difference(predictions, predictions_of[condition.against], unit_of)
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def difference(leaky: pd.DataFrame, honest: pd.DataFrame, speaker_of: pd.Series | None) -> dict[str, float]:
    """Points of UAR between two predictions tables with a 95 % interval, paired over speakers, or clips without them."""
    estimate = paired_scores(leaky, honest, speaker_of)[2][metrics.SCORES.index("uar")]
    return {name: 100 * value for name, value in estimate.columns("points").items()}


def worth(table: pd.DataFrame) -> pd.DataFrame:
    """The difference of each leaky condition from its honest one, the largest first.

    Args:
        table: of one leak, or of several one under the other.

    Returns:
        corpora, mechanism, honest and leaky (names of the conditions), honest_uar and leaky_uar (each with _low and
        _high), points (100 × the difference), points_low and points_high (95 %, see `difference`), interval_over.

    Raises:
        SerError: a condition occurs twice for the same corpora.
    """
    keys, scores = ["corpora", "mechanism", "condition"], ["uar", "uar_low", "uar_high"]
    repeated = table[table.duplicated(keys)]
    if len(repeated):
        corpora, mechanism, condition = repeated[keys].iloc[0]
        raise SerError(
            f"{mechanism!r} of {corpora} has the condition {condition!r} twice: drop one of its tables, or give them "
            "different names (table.assign(mechanism=...))"
        )
    points = ["points", "points_low", "points_high", "interval_over"]
    leaky = table.loc[table["against"] != "", [*keys, "against", *scores, *points]]
    both = leaky.merge(
        table[[*keys, *scores]],
        left_on=["corpora", "mechanism", "against"],
        right_on=keys,
        suffixes=("_leaky", "_honest"),
    )
    names = {f"condition_{side}": side for side in ("honest", "leaky")}
    names |= {f"{score}_{side}": f"{side}_{score}" for side in ("honest", "leaky") for score in scores}
    both = both.rename(columns=names)[["corpora", "mechanism", *names.values(), *points]]
    return both.sort_values("points", ascending=False, kind="stable", ignore_index=True)
