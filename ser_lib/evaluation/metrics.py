"""Scores of a predictions table, each with the interval that says how far it can be trusted.

A predictions table has `clip_id`, `truth`, and one column of probabilities for each emotion of the run. Several
seeds of one run are one table under the other, and then a clip has several rows.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import EMOTIONS, in_order

MIN_SPEAKERS = 8  # below, too few to draw from, and intervals are over clips
ECE_BINS = 15


def check_predictions(predictions: pd.DataFrame) -> None:
    """Refuse what is not a predictions table.

    Raises:
        SerError: no rows, a column is missing or no emotion, a truth without a column, probabilities that are
            NaN, outside 0 to 1, or do not sum to 1 in a row.
    """
    missing = [name for name in ("clip_id", "truth") if name not in predictions]
    if missing or predictions.empty:
        raise SerError(
            "expected a predictions table with clip_id, truth and a column of probabilities for each emotion, got "
            f"{len(predictions)} rows and the columns {', '.join(map(str, predictions.columns))}"
        )
    named = [name for name in predictions.columns if name not in ("clip_id", "truth")]
    unknown = [str(name) for name in named if name not in EMOTIONS]
    if unknown:
        raise SerError(
            f"unknown emotions as columns of the predictions: {', '.join(unknown)}; the emotions are "
            f"{', '.join(EMOTIONS)}: rename them (labels.to_emotion), or drop columns that are none"
        )
    untold = predictions.loc[~predictions["truth"].isin(named), "truth"].unique()
    if len(untold):
        raise SerError(
            f"the truth holds {', '.join(map(str, untold))}, for which there is no column of probabilities; "
            f"the columns are {', '.join(named)}: leave these clips out, or train on the emotion"
        )
    values = predictions[named].to_numpy(dtype=float)
    sums = values.sum(axis=1)
    bad = ~(np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1) & (np.abs(sums - 1) < 1e-3))
    if bad.any():
        raise SerError(
            f"the probabilities of {bad.sum()} rows are NaN, negative or do not sum to 1; the first is "
            f"{predictions['clip_id'][bad].iloc[0]} with the sum {sums[bad][0]:.4g}: take the softmax of the logits"
        )


def score(
    predictions: pd.DataFrame, speakers: Sequence[str] | None = None, bootstrap: int = 2000, seed: int = 0
) -> dict:
    """Score predictions, with 95 % percentile bootstrap intervals.

    `uar` (unweighted average recall, balanced accuracy) and `macro_f1` average over the emotions that the truth
    holds. An emotion that is predicted but never true lowers the others' recall, and has no recall or F1 of its
    own: scikit-learn's `balanced_accuracy_score` and `f1_score(labels=those that are true)`, whose default
    would count its F1 as 0.

    Intervals resample speakers where there are at least `MIN_SPEAKERS`, else clips: clips of one speaker are
    not independent (Ferrer & Riera, "Confidence intervals for evaluation in machine learning",
    github.com/luferrer/ConfidenceIntervals). All rows of a clip stay together. A resample averages over the
    emotions that it holds.

    Args:
        speakers: the speaker of each row; without it intervals are over clips.
        bootstrap: number of resamples.

    Returns:
        accuracy, uar, macro_f1 (each also with _low, _high), ece, n_test (distinct clips), test_speakers (None
        where unknown), interval_over ("speakers" or "clips").

    Raises:
        SerError: see `check_predictions`; or `speakers` is not of the same length.

    >>> predictions = pd.DataFrame({"clip_id": ["a", "b", "c"], "truth": ["happy", "happy", "sad"],
    ...                             "happy": [0.9, 0.2, 0.1], "sad": [0.1, 0.8, 0.9]})
    >>> scores = score(predictions)
    >>> scores["uar"], scores["n_test"], scores["interval_over"]
    (0.75, 3, 'clips')
    """
    check_predictions(predictions)
    emotions = _emotions(predictions)
    units, over = units_of(predictions, speakers)
    probabilities = predictions[emotions].to_numpy(dtype=float)
    cells = _cells(predictions, emotions)
    low, high = _intervals(_confusion_by_unit(cells, units, len(emotions)), bootstrap, seed)
    result = {}
    for name, value in _measures(_confusion(cells, len(emotions))).items():
        result |= {name: float(value), f"{name}_low": float(low[name]), f"{name}_high": float(high[name])}
    return result | {
        "ece": expected_calibration_error(probabilities.max(axis=1), cells // len(emotions) == cells % len(emotions)),
        "n_test": predictions["clip_id"].nunique(),
        "test_speakers": None if speakers is None else len(np.unique(np.asarray(speakers).astype(str))),
        "interval_over": over,
    }


def units_of(predictions: pd.DataFrame, speakers: Sequence[str] | None = None) -> tuple[np.ndarray, str]:
    """What a bootstrap draws: the speaker of each row where there are at least `MIN_SPEAKERS`, else its clip.

    Returns:
        the unit of each row, shape (n,), and what they are: "speakers" or "clips".
    """
    if speakers is not None:
        speakers = _aligned(speakers, predictions, "speakers")
        if len(np.unique(speakers)) >= MIN_SPEAKERS:
            return speakers, "speakers"
    return predictions["clip_id"].to_numpy(), "clips"


def draw_units(units: np.ndarray, bootstrap: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw units with replacement, as many as there are. The order of the rows does not matter.

    Returns:
        the number of each row's unit, shape (n,), and how often each resample holds each unit, float64 of shape
        (bootstrap, n_units).
    """
    names, numbers = np.unique(units, return_inverse=True)
    share = np.full(len(names), 1 / len(names))
    return numbers, np.random.default_rng(seed).multinomial(len(names), share, size=bootstrap).astype(float)


def sum_by_unit(numbers: np.ndarray, columns: np.ndarray, n_units: int) -> np.ndarray:
    """Sums of each column of shape (n, n_columns) over the rows of each unit, shape (n_units, n_columns)."""
    sums = np.zeros((n_units, columns.shape[1]))
    np.add.at(sums, numbers, columns)
    return sums


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = ECE_BINS) -> float:
    """Mean distance of confidence from accuracy over equal-width bins, weighted by their size: 0 to 1.

    Guo et al. 2017, "On calibration of modern neural networks", equation 3.

    Args:
        confidence: probability of the predicted emotion, shape (n,).
        correct: whether it is the true one, shape (n,).

    >>> expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
    0.4
    """
    which = bin_of(confidence, bins)
    gap = np.bincount(which, np.asarray(correct, dtype=float), bins) - np.bincount(which, confidence, bins)
    return float(np.abs(gap).sum() / len(which))


def bin_of(confidence: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """The number of each confidence's equal-width bin, which holds its upper end."""
    return np.clip(np.ceil(np.asarray(confidence) * bins).astype(int) - 1, 0, bins - 1)


def confusion(predictions: pd.DataFrame) -> pd.DataFrame:
    """Count rows by truth (rows) and prediction (columns), both in the order of `EMOTIONS`."""
    check_predictions(predictions)
    emotions = _emotions(predictions)
    counts = _confusion(_cells(predictions, emotions), len(emotions))
    return pd.DataFrame(counts, index=pd.Index(emotions, name="truth"), columns=pd.Index(emotions, name="prediction"))


def per_class(predictions: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall, F1 and support of each emotion, and `macro`: their mean over the emotions that are true.

    Precision of an emotion that is never predicted is 0; recall and F1 of one that is never true are NaN.
    """
    table = confusion(predictions)
    hits, support, predicted = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    true = support > 0
    rows = pd.DataFrame(
        {
            "precision": hits / predicted.clip(lower=1),
            "recall": (hits / support.clip(lower=1)).where(true),
            "f1": (2 * hits / (support + predicted).clip(lower=1)).where(true),
            "support": support,
        }
    ).rename_axis("emotion")
    macro = rows[true].mean().to_dict() | {"support": support.sum()}
    return pd.concat([rows, pd.DataFrame([macro], index=["macro"])]).rename_axis("emotion").astype({"support": int})


def decisions(predictions: pd.DataFrame) -> pd.DataFrame:
    """What was decided for each clip, aligned to the rows.

    Returns:
        clip_id, truth, prediction (the most probable emotion), confidence (its probability), and
        truth_probability (what the true emotion was given).
    """
    check_predictions(predictions)
    emotions = _emotions(predictions)
    probabilities = predictions[emotions].to_numpy(dtype=float)
    columns = predictions["truth"].map(emotions.index).to_numpy()
    return predictions[["clip_id", "truth"]].assign(
        prediction=np.array(emotions)[probabilities.argmax(axis=1)],
        confidence=probabilities.max(axis=1),
        truth_probability=probabilities[np.arange(len(columns)), columns],
    )


def by_group(
    predictions: pd.DataFrame,
    groups: Sequence[str],
    speakers: Sequence[str] | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy and UAR, with intervals as `score` gives them, of each group of rows, the lowest UAR first.

    Args:
        groups: the group of each row (its speaker, its sex, its corpus).

    Returns:
        indexed by group: n_test, accuracy, accuracy_low, accuracy_high, uar, uar_low, uar_high, interval_over.
    """
    groups = _aligned(groups, predictions, "groups")
    speakers = None if speakers is None else _aligned(speakers, predictions, "speakers")
    columns = ["n_test", "accuracy", "accuracy_low", "accuracy_high", "uar", "uar_low", "uar_high", "interval_over"]
    rows = {}
    for group in np.unique(groups):
        mask = groups == group
        scores = score(predictions[mask], None if speakers is None else speakers[mask], bootstrap, seed)
        rows[group] = {name: scores[name] for name in columns}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    return table.sort_values("uar", kind="stable")


def chance_level(n_classes: int) -> float:
    """The UAR of guessing: one in the number of emotions.

    >>> chance_level(8)
    0.125
    """
    return 1 / n_classes


def _emotions(predictions: pd.DataFrame) -> list[str]:
    return in_order(name for name in predictions.columns if name not in ("clip_id", "truth"))


def _aligned(values: Sequence[str], predictions: pd.DataFrame, name: str) -> np.ndarray:
    if len(values) != len(predictions):
        raise SerError(f"{name} must hold one value for each of {len(predictions)} predictions, got {len(values)}")
    return np.asarray(values).astype(str)


def _cells(predictions: pd.DataFrame, emotions: list[str]) -> np.ndarray:
    """Each row's place in the flattened confusion matrix."""
    truth = pd.Index(emotions).get_indexer(predictions["truth"])
    return truth * len(emotions) + predictions[emotions].to_numpy(dtype=float).argmax(axis=1)


def _confusion(cells: np.ndarray, n_classes: int) -> np.ndarray:
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def _confusion_by_unit(cells: np.ndarray, units: np.ndarray, n_classes: int) -> np.ndarray:
    """One flattened confusion matrix for each speaker or clip, shape (n_units, n_classes²)."""
    number, names = pd.factorize(units)
    flat = np.bincount(number * n_classes**2 + cells, minlength=len(names) * n_classes**2)
    return flat.reshape(len(names), n_classes**2)


def _measures(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, UAR and macro F1 of confusion matrices, shape (..., n_classes, n_classes)."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    support, predicted = confusions.sum(axis=-1), confusions.sum(axis=-2)
    n_true = (support > 0).sum(axis=-1)
    f1 = np.where(support > 0, 2 * hits / np.maximum(support + predicted, 1), 0)
    return {
        "accuracy": hits.sum(axis=-1) / support.sum(axis=-1),
        "uar": (hits / np.maximum(support, 1)).sum(axis=-1) / n_true,
        "macro_f1": f1.sum(axis=-1) / n_true,
    }


def _intervals(by_unit: np.ndarray, bootstrap: int, seed: int) -> tuple[dict, dict]:
    """Ends of the 95 % percentile intervals when units are drawn with replacement."""
    # Units with the same matrix are the same draw. There are far fewer kinds than clips: clips of a single seed
    # fall into the cells of one confusion matrix.
    kinds, counts = np.unique(by_unit, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(by_unit), counts / len(by_unit), size=bootstrap)
    n_classes = int(by_unit.shape[1] ** 0.5)
    measures = _measures((drawn @ kinds).reshape(bootstrap, n_classes, n_classes))
    ends = {name: np.percentile(values, [2.5, 97.5]) for name, values in measures.items()}
    return {name: end[0] for name, end in ends.items()}, {name: end[1] for name, end in ends.items()}
