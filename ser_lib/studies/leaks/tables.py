"""Conditions of a mechanism, scored: one row each, and how far the leaky ones stand above the honest."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.evaluation import metrics

COLUMNS = [
    "corpora",  # "ravdess", or several with + between them
    "mechanism",
    "condition",
    "leaky",
    *["uar", "uar_low", "uar_high", "accuracy", "accuracy_low", "accuracy_high"],
    "chance",  # the UAR of guessing among all emotions of the model
    "n_test",  # distinct clips: copies of a clip count once, and stay together in the intervals
    "test_speakers",
    "interval_over",  # speakers or clips, as metrics.score says
    "n_train",  # rows that a fold trains on, on average
    "part_of",  # the condition whose test rows these are some of, or ""
    "share",  # of that condition's test rows
    "against",  # the honest condition that this one is measured against, or ""
    *["points", "points_low", "points_high"],  # 100 × (UAR − that one's), paired bootstrap over interval_over
]
BOOTSTRAP = 2000


@dataclass(frozen=True)
class Condition:
    """One row of a mechanism's table, before it is scored."""

    name: str
    leaky: bool
    predictions: pd.DataFrame  # a copy answers under the clip_id of its original
    n_train: float
    against: str = ""
    part_of: str = ""
    share: float = 1.0

    def part(self, name: str, rows: np.ndarray, leaky: bool, against: str = "") -> "Condition":
        """Some of the test rows (a mask), as a condition of their own."""
        own = self.predictions[rows]
        return Condition(name, leaky, own, self.n_train, against, self.name, float(np.mean(rows)))


def table_of(mechanism: str, clips: pd.DataFrame, conditions: list[Condition]) -> pd.DataFrame:
    """Score the conditions: one row each with `COLUMNS`; one without test rows has no row."""
    speaker_of = clips.set_index("clip_id")["speaker"]
    predictions = {condition.name: condition.predictions for condition in conditions}
    rows = []
    for condition in conditions:
        own = condition.predictions
        if own.empty:
            continue
        scores = metrics.score(own, speaker_of[own["clip_id"]], BOOTSTRAP)
        row = {
            "corpora": "+".join(sorted(clips["corpus"].unique())),
            "mechanism": mechanism,
            "condition": condition.name,
            "leaky": condition.leaky,
            **scores,
            "chance": metrics.chance_level(own.columns.size - 2),  # clip_id and truth aside
            "n_train": condition.n_train,
            "part_of": condition.part_of,
            "share": condition.share,
            "against": condition.against,
        }
        if condition.against:
            honest = predictions[condition.against]
            row |= difference(own, honest, speaker_of if scores["interval_over"] == "speakers" else None)
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def difference(
    leaky: pd.DataFrame, honest: pd.DataFrame, speaker_of: pd.Series | None, seed: int = 0
) -> dict[str, float]:
    """Points of UAR from one predictions table to another, with their 95 % percentile bootstrap interval.

    Paired: each resample draws speakers (or, without `speaker_of`, clips), and scores both tables on those drawn, by
    the rules of `metrics.score`.
    """
    counts = []
    for predictions in (leaky, honest):
        ids, truth, hit = predictions["clip_id"], predictions["truth"].to_numpy(), is_right(predictions)
        units = (ids if speaker_of is None else speaker_of[ids]).to_numpy()
        support = pd.crosstab(units, truth)
        hits = pd.crosstab(units[hit], truth[hit])
        counts.append((hits.reindex_like(support).fillna(0), support))
    units = counts[0][1].index.union(counts[1][1].index)
    drawn = np.random.default_rng(seed).multinomial(len(units), np.full(len(units), 1 / len(units)), size=BOOTSTRAP)
    weights = np.vstack([np.ones(len(units)), drawn])  # the first row is the sample itself
    uar = []
    for hits, support in counts:
        found, there = (weights @ table.reindex(units, fill_value=0).to_numpy(dtype=float) for table in (hits, support))
        uar.append((found / np.maximum(there, 1)).sum(axis=1) / np.maximum((there > 0).sum(axis=1), 1))
    points = 100 * (uar[0] - uar[1])
    low, high = np.percentile(points[1:], [2.5, 97.5])
    return {"points": points[0], "points_low": low, "points_high": high}


def is_right(predictions: pd.DataFrame) -> np.ndarray:
    """Whether each row's most probable emotion is the true one: bool (n_rows,)."""
    decided = metrics.decisions(predictions)
    return (decided["truth"] == decided["prediction"]).to_numpy()


def worth(table: pd.DataFrame) -> pd.DataFrame:
    """What each leaky condition adds to its honest one, the most first.

    Args:
        table: of one mechanism, or several one under the other.

    Returns:
        corpora, mechanism, honest and leaky (the conditions' names), honest_uar and leaky_uar (each with _low and
        _high), points (100 × the difference), points_low and points_high (95 %, see `difference`), interval_over.

    Raises:
        SerError: a mechanism is there twice for the same corpora.
    """
    scores = ["uar", "uar_low", "uar_high"]
    keys = ["corpora", "mechanism", "condition"]
    twice = table[table.duplicated(keys)]
    if len(twice):
        corpora, mechanism, condition = twice[keys].iloc[0]
        raise SerError(
            f"{mechanism!r} of {corpora} has the condition {condition!r} twice: drop one of its tables, or give them "
            "different names (table.assign(mechanism=...))"
        )
    honest = table[[*keys, *scores]].set_axis(
        ["corpora", "mechanism", "honest", *(f"honest_{name}" for name in scores)], axis=1
    )
    above = [*scores, "against", "points", "points_low", "points_high", "interval_over"]
    leaky = table.loc[table["against"] != "", [*keys, *above]].rename(
        columns={"condition": "leaky", "against": "honest"} | {name: f"leaky_{name}" for name in scores}
    )
    both = honest.merge(leaky, on=["corpora", "mechanism", "honest"])
    names = ["corpora", "mechanism", "honest", "leaky"]
    both = both[[*names, *(column for column in both if column not in names)]]
    return both.sort_values("points", ascending=False, kind="stable", ignore_index=True)
