"""Tables of a leak's conditions: one row each, with the difference of a leaky condition from an honest one."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.evaluation import metrics
from ser_lib.evaluation.comparison import paired_scores
from ser_lib.studies.leaks.folds import Predicted

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
