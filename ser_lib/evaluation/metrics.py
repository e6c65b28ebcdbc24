"""Scores of a predictions table, each with its 95 % interval.

A predictions table has the columns `clip_id`, `truth`, and one column of probabilities for each emotion of the run. It
may hold several rows of a clip, of several seeds. Functions take one value for each row as

- `speakers`: its speaker. None: intervals are over clips.
- `corpora`: its corpus, where several are pooled. An interval then is over the speakers of each corpus.
- `copies`: its recording, such as its `audio_hash`, where files hold the same audio. All rows of a recording together
  weigh as much as one clip, and are one test clip.
"""

from collections.abc import Sequence
from statistics import median

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_fscore_support

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import EMOTIONS, in_order
from ser_lib.evaluation import intervals

ECE_BINS = 15
# The share of certain answers that is right, on validation speakers.
CERTAIN = 0.9
SCORES = ("accuracy", "uar", "macro_f1")


def predictions_table(clips: pd.DataFrame, probabilities: np.ndarray, emotions: list[str]) -> pd.DataFrame:
    """A predictions table of clips, with the `clip_id` and `emotion` of their rows, and their index.

    Args:
        probabilities: shape (n_clips, n_emotions).
    """
    about = clips[["clip_id", "emotion"]].rename(columns={"emotion": "truth"})
    return about.assign(**dict(zip(emotions, probabilities.T, strict=True)))


def check_predictions(predictions: pd.DataFrame) -> None:
    """Check that a table is a predictions table.

    Raises:
        SerError: no rows, a missing or unknown column, a truth without a column, or probabilities that are NaN, outside
            0 to 1, or do not sum to 1 in a row.
    """
    if not {"clip_id", "truth"} <= set(predictions) or predictions.empty:
        raise SerError(
            "expected a predictions table with clip_id, truth and a column of probabilities for each emotion, got "
            f"{len(predictions)} rows and the columns {', '.join(map(str, predictions.columns))}"
        )
    emotions = [name for name in predictions.columns if name not in ("clip_id", "truth")]
    unknown = [str(name) for name in emotions if name not in EMOTIONS]
    if unknown:
        raise SerError(
            f"unknown emotions as columns of the predictions: {', '.join(unknown)}; the emotions are "
            f"{', '.join(EMOTIONS)}: rename them (labels.to_emotion), or drop columns that are no emotion"
        )
    without_column = predictions.loc[~predictions["truth"].isin(emotions), "truth"].unique()
    if len(without_column):
        raise SerError(
            f"the truth holds {', '.join(map(str, without_column))}, for which there is no column of probabilities; "
            f"the columns are {', '.join(emotions)}: leave these clips out, or train on the emotion"
        )
    values = predictions[emotions].to_numpy(dtype=float)
    sums = values.sum(axis=1)
    bad = ~((values >= 0).all(axis=1) & (np.abs(sums - 1) < 1e-3))  # NaN is bad too
    if bad.any():
        raise SerError(
            f"the probabilities of {bad.sum()} rows are NaN, negative or do not sum to 1; the first is "
            f"{predictions['clip_id'][bad].iloc[0]} with the sum {sums[bad][0]:.4g}: take the softmax of the logits"
        )


def score(
    predictions: pd.DataFrame,
    speakers: ArrayLike | None = None,
    corpora: ArrayLike | None = None,
    copies: ArrayLike | None = None,
) -> dict:
    """Accuracy, UAR and macro F1 with 95 % intervals, what chance reaches, and the calibration error.

    `uar` (unweighted average recall) and `macro_f1` average over the emotions that the truth holds: scikit-learn's
    `balanced_accuracy_score` and `f1_score(labels=those that are true)`. See `ser_lib.evaluation.intervals` for the
    intervals. With 2 or 3 speakers of a corpus there is none, and UAR and macro F1 have none where an emotion has fewer
    than 4 speakers, or one clip: then _low and _high are NaN, and `no_interval` is the reason.

    Returns:
        accuracy, uar, macro_f1 (each also with _low, _high);
        chance (the UAR of guessing: 1 / number of emotions in the truth), accuracy_chance (the accuracy of always
        answering the most frequent emotion of the truth);
        ece; n_test (distinct clips, or recordings); test_speakers (None where unknown);
        interval_over ("speakers", "clips" or "none"), no_interval ("" where all three have an interval);
        speaker_scores (accuracy, uar, macro_f1 and n_test by speaker, where there are 2 to 4, else empty).

    >>> predictions = pd.DataFrame({"clip_id": ["a", "b", "c"], "truth": ["happy", "happy", "sad"],
    ...                             "happy": [0.9, 0.2, 0.1], "sad": [0.1, 0.8, 0.9]})
    >>> scores = score(predictions)
    >>> scores["uar"], scores["chance"], scores["n_test"], scores["interval_over"]
    (0.75, 0.5, 3, 'clips')
    """
    decided, emotions = decisions(predictions), emotions_of(predictions)
    units = intervals.units_of(predictions, speakers, corpora, copies)
    weights = weights_of(predictions, copies)
    cells = confusion_cells(decided, emotions) * weights[:, None]
    recordings = decided["clip_id"].to_numpy() if copies is None else np.asarray(copies).astype(str)
    n_clips = pd.Series(recordings).groupby(decided["truth"].to_numpy()).nunique()
    n_test = len(np.unique(recordings))
    # The number of clips of a balanced test whose UAR varies as much.
    n_balanced = len(n_clips) ** 2 / (1 / n_clips).sum()
    is_tested = np.isin(emotions, n_clips.index)
    estimates = intervals.jackknife(
        units, cells, lambda sums: scores_of_cells(sums, is_tested), [n_test, n_balanced, n_balanced]
    )
    rare = rare_emotions(units, decided["truth"])
    estimates = estimates.only_where([True, not rare, not rare])
    result: dict = {}
    for number, name in enumerate(SCORES):
        result |= estimates[number].columns(name)
    share = pd.Series(weights).groupby(decided["truth"].to_numpy()).sum() / weights.sum()
    result |= {"chance": chance_level(len(n_clips)), "accuracy_chance": float(share.max())}
    result["ece"] = expected_calibration_error(decided["confidence"], is_right(decided), weights=weights)
    result["n_test"] = n_test
    result |= {"test_speakers": None, "interval_over": units.over, "no_interval": units.too_few or rare}
    result["speaker_scores"] = {}
    if speakers is not None:
        names = np.asarray(speakers).astype(str)
        result["test_speakers"] = len(np.unique(names))
        if 2 <= result["test_speakers"] <= 4:
            for name in np.unique(names):
                mask = names == name
                alone = score(predictions[mask], copies=None if copies is None else recordings[mask])
                result["speaker_scores"][str(name)] = {key: alone[key] for key in (*SCORES, "n_test")}
    return result


def uar(predictions: pd.DataFrame) -> float:
    """The UAR of a predictions table, without an interval."""
    decided, emotions = decisions(predictions), emotions_of(predictions)
    cells = confusion_cells(decided, emotions).sum(axis=0)[None]
    return float(scores_of_cells(cells, np.isin(emotions, decided["truth"]))[0, SCORES.index("uar")])


def weights_of(predictions: pd.DataFrame, copies: ArrayLike | None) -> np.ndarray:
    """The weight of each row, shape (n_rows,): 1, or 1 / number of rows of the same recording."""
    if copies is None:
        return np.ones(len(predictions))
    recordings = pd.Series(intervals.one_per_row(copies, predictions, "copies"))
    return (1 / recordings.map(recordings.value_counts())).to_numpy()


def rare_emotions(units: intervals.Units, truth: ArrayLike) -> str:
    """Why UAR has no interval: the emotions of too few speakers, such as "calm has 3 speakers"; "" where there are none."""
    if units.over != "speakers":
        return ""
    n_speakers = pd.Series(units.names).groupby(np.asarray(truth)).nunique()
    few = n_speakers[n_speakers < intervals.MIN_SPEAKERS]
    return " and ".join(f"{emotion} has {n} speaker{'s' * (n > 1)}" for emotion, n in few.items())


def confusion_cells(decided: pd.DataFrame, emotions: list[str]) -> np.ndarray:
    """The flattened confusion matrix of each row of `decisions`, with a single 1: float64 of (n_rows, n_emotions²)."""
    truth, prediction = (pd.Index(emotions).get_indexer(decided[name]) for name in ("truth", "prediction"))
    return np.eye(len(emotions) ** 2)[truth * len(emotions) + prediction]


def scores_of_cells(cells: np.ndarray, is_tested: ArrayLike) -> np.ndarray:
    """`SCORES` of flattened confusion matrices: (n, n_emotions²) to (n, 3).

    Args:
        is_tested: whether UAR and macro F1 average over an emotion, shape (n_emotions,). They are NaN where a confusion
            matrix lacks one of these emotions: the mean over the others is another score.
    """
    is_tested = np.asarray(is_tested)
    n_emotions = len(is_tested)
    confusions = cells.reshape(-1, n_emotions, n_emotions)
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    support, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = hits.sum(axis=1) / support.sum(axis=1)
        recalls = (hits / support)[:, is_tested]
        f1 = np.where(support > 0, 2 * hits / (support + predicted), np.nan)[:, is_tested]
    return np.column_stack([accuracy, recalls.mean(axis=1), f1.mean(axis=1)])


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, bins: int = ECE_BINS, weights: ArrayLike | None = None
) -> float:
    """Mean distance of confidence from accuracy over equal-width bins, weighted by their size: 0 to 1.

    Guo et al. 2017, "On calibration of modern neural networks", equation 3.

    Args:
        confidence: probability of the predicted emotion, shape (n,).
        correct: whether it is the true emotion, shape (n,).
        weights: of each prediction, shape (n,); None: equal.

    >>> expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
    0.4
    """
    number = bin_of(confidence, bins)
    weight = np.ones(len(number)) if weights is None else np.asarray(weights)
    gap = np.bincount(number, weight * (np.asarray(correct, dtype=float) - np.asarray(confidence)), bins)
    return float(np.abs(gap).sum() / weight.sum())


def bin_of(confidence: ArrayLike, bins: int = ECE_BINS) -> np.ndarray:
    """The number of each confidence's equal-width bin, which holds its upper end."""
    return np.clip(np.ceil(np.asarray(confidence) * bins).astype(int) - 1, 0, bins - 1)


def confusion(predictions: pd.DataFrame) -> pd.DataFrame:
    """Count rows by truth (rows) and prediction (columns), both in the order of `EMOTIONS`."""
    decided, emotions = decisions(predictions), emotions_of(predictions)
    counts = pd.crosstab(decided["truth"], decided["prediction"])
    return counts.reindex(index=emotions, columns=emotions, fill_value=0)


def per_class(predictions: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall, F1 and support of each emotion, and `macro`: their mean over the emotions that are true.

    Precision of an emotion that is never predicted is 0; recall and F1 of an emotion that is never true are NaN.
    """
    decided, emotions = decisions(predictions), emotions_of(predictions)
    values = precision_recall_fscore_support(decided["truth"], decided["prediction"], labels=emotions, zero_division=0)
    rows = pd.DataFrame(dict(zip(("precision", "recall", "f1", "support"), values, strict=True)), index=emotions)
    is_true = rows["support"] > 0
    rows[["recall", "f1"]] = rows[["recall", "f1"]].where(is_true)
    rows.loc["macro"] = rows[is_true].mean().to_dict() | {"support": rows["support"].sum()}
    return rows.rename_axis("emotion").astype({"support": int})


def decisions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Each row's clip_id, truth, prediction, confidence (its probability) and truth_probability."""
    check_predictions(predictions)
    emotions = emotions_of(predictions)
    probabilities = predictions[emotions].to_numpy(dtype=float)
    columns = predictions["truth"].map(emotions.index).to_numpy()
    return predictions[["clip_id", "truth"]].assign(
        prediction=np.array(emotions)[probabilities.argmax(axis=1)],
        confidence=probabilities.max(axis=1),
        truth_probability=probabilities[np.arange(len(columns)), columns],
    )


def is_right(decided: pd.DataFrame) -> np.ndarray:
    """Whether the prediction is the truth, bool of shape (n_rows,), of a table as of `decisions`."""
    return (decided["prediction"] == decided["truth"]).to_numpy()


def by_group(
    predictions: pd.DataFrame, groups: ArrayLike, speakers: ArrayLike | None = None, corpora: ArrayLike | None = None
) -> pd.DataFrame:
    """Accuracy and UAR of each group of rows, with intervals as of `score`, the lowest UAR first.

    Args:
        groups: the group of each row (its speaker, its sex, its corpus).

    Returns:
        indexed by group: n_test, accuracy, accuracy_low, accuracy_high, uar, uar_low, uar_high, interval_over, no_interval,
        speaker_scores.
    """
    group_of = intervals.one_per_row(groups, predictions, "groups")
    speaker_of = None if speakers is None else intervals.one_per_row(speakers, predictions, "speakers")
    corpus_of = None if corpora is None else intervals.one_per_row(corpora, predictions, "corpora")
    rows = {}
    for group in np.unique(group_of):
        mask = group_of == group
        speakers_and_corpora = (None if values is None else values[mask] for values in (speaker_of, corpus_of))
        rows[group] = score(predictions[mask], *speakers_and_corpora)
    table = pd.DataFrame.from_dict(rows, "index").rename_axis("group").sort_values("uar", kind="stable")
    ends = [name + end for name in SCORES[:2] for end in ("", "_low", "_high")]
    return table[["n_test", *ends, "interval_over", "no_interval", "speaker_scores"]]


def chance_level(n_classes: int) -> float:
    """The UAR of guessing: one in the number of emotions."""
    return 1 / n_classes


def emotions_of(predictions: pd.DataFrame) -> list[str]:
    """The emotions that have a column of probabilities, in the order of `EMOTIONS`."""
    return in_order([name for name in predictions.columns if name not in ("clip_id", "truth")])


def certain_from(truth: np.ndarray, probabilities: np.ndarray, target: float = CERTAIN) -> float:
    """The threshold of certain answers: the lowest highest probability from which on `target` of the answers are right.

    In each fold, validation clips choose it by a model without them in its training, and the test clips say what it is
    worth on new speakers: see `score_certainty`. The model that answers takes the median of the folds' thresholds.

    Args:
        truth: int, the position of each clip's emotion.
        probabilities: (n_clips, n_emotions).

    Returns:
        the threshold; above 1, which nothing reaches, where no clips would be right often enough.

    >>> certain_from(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]))
    0.8
    """
    highest, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    order = np.argsort(-highest, kind="stable")
    accuracy = np.cumsum(is_right[order]) / np.arange(1, len(order) + 1)
    # Of equal probabilities, all are above the threshold or none.
    is_last = np.append(np.diff(highest[order]) != 0, True)
    enough = np.flatnonzero((accuracy >= target) & is_last)
    return float(highest[order][enough[-1]]) if len(enough) else 2.0


def score_certainty(by_fold: Sequence[pd.DataFrame], thresholds: Sequence[float | None]) -> dict | None:
    """What the folds' thresholds are worth on their test clips, for `metrics.json`; None where a fold has no threshold.

    Args:
        by_fold: predictions tables.

    Returns:
        target; threshold (the median of the folds'); by_fold (the thresholds). By each fold's own threshold: share of the
        test clips that are certain, accuracy of these (None where there are none). By the median: share_at_threshold,
        accuracy_at_threshold. And accuracy_of_all.
    """
    known = [value for value in thresholds if value is not None]
    if not known or len(known) < len(by_fold):
        return None
    probabilities = [predictions.drop(columns=["clip_id", "truth"]) for predictions in by_fold]
    right = np.concatenate(
        [part.idxmax(axis=1) == rows["truth"] for part, rows in zip(probabilities, by_fold, strict=True)]
    )
    highest = np.concatenate([part.max(axis=1) for part in probabilities])
    scores = {"target": CERTAIN, "threshold": float(median(known)), "by_fold": known}
    limits = {"": np.repeat(known, [len(part) for part in by_fold]), "_at_threshold": scores["threshold"]}
    for ending, limit in limits.items():
        certain = highest >= limit
        accuracy = float(right[certain].mean()) if certain.any() else None
        scores |= {f"share{ending}": float(certain.mean()), f"accuracy{ending}": accuracy}
    return scores | {"accuracy_of_all": float(right.mean())}
