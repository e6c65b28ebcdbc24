"""When an answer is certain: a threshold on the highest probability, chosen on validation speakers.

In each fold, validation clips choose the lowest threshold above which a model without them in its training is right in
`TARGET` of its answers; the test clips of that fold then say what the threshold is worth on new speakers. The model that
answers takes the median of the folds' thresholds.
"""

from collections.abc import Sequence
from statistics import median

import numpy as np
import pandas as pd

# The share of certain answers that is right, on validation speakers.
TARGET = 0.9


def threshold(truth: np.ndarray, probabilities: np.ndarray, target: float = TARGET) -> float:
    """The lowest of the clips' highest probabilities from which on at least `target` of the answers are right.

    Args:
        truth: int, the position of each clip's emotion.
        probabilities: (n_clips, n_emotions).

    Returns:
        the threshold; above 1, which nothing reaches, where no clips would be right often enough.

    >>> threshold(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]))
    0.8
    """
    highest, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    order = np.argsort(-highest, kind="stable")
    accuracy = np.cumsum(is_right[order]) / np.arange(1, len(order) + 1)
    # Of equal probabilities, all are above the threshold or none.
    is_last = np.append(np.diff(highest[order]) != 0, True)
    enough = np.flatnonzero((accuracy >= target) & is_last)
    return float(highest[order][enough[-1]]) if len(enough) else 2.0


def score(by_fold: Sequence[pd.DataFrame], thresholds: Sequence[float | None]) -> dict | None:
    """What the folds' thresholds are worth on their test clips, for `metrics.json`; None where a fold has no threshold.

    Args:
        by_fold: predictions tables.

    Returns:
        target; threshold (the median of the folds'); by_fold (the thresholds); share of the test clips that are certain;
        accuracy of these and of all (None where there are none).
    """
    known = [value for value in thresholds if value is not None]
    if not known or len(known) < len(by_fold):
        return None
    is_certain, is_right = [], []
    for predictions, certain_from in zip(by_fold, known, strict=True):
        probabilities = predictions.drop(columns=["clip_id", "truth"])
        is_certain += (probabilities.max(axis=1) >= certain_from).tolist()
        is_right += (probabilities.idxmax(axis=1) == predictions["truth"]).tolist()
    certain, right = np.array(is_certain), np.array(is_right)
    accuracy = float(right[certain].mean()) if certain.any() else None
    shares = {"share": float(certain.mean()), "accuracy": accuracy, "accuracy_of_all": float(right.mean())}
    return {"target": TARGET, "threshold": float(median(known)), "by_fold": known, **shares}
