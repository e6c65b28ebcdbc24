"""How far probabilities can be trusted: temperature scaling, calibration error, and accuracy at lower coverage.

    after = calibrated(before, validation)                   # one temperature a fold, fitted on its validation clips
    calibration_change(before, after, speakers)              # calibration error before and after, with intervals
    coverage_curve(before, speakers)                         # accuracy when the least confident answers are left out

All functions read predictions tables as `ser_lib.evaluation.metrics` describes them. Where temperatures are fitted, a
column `fold` stands beside the others, as `ser_lib.evaluation.run_analysis` returns it. Several seeds may stand in one
table; all rows of a clip stay together in the intervals.
"""

import logging

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import softmax

from ser_lib.common.errors import SerError
from ser_lib.evaluation import intervals
from ser_lib.evaluation.metrics import ECE_BINS, bin_of, check_predictions, decisions, emotions_of, is_right

logger = logging.getLogger(__name__)

LOWEST, HIGHEST = 0.05, 20.0  # temperatures
SMALLEST = 1e-8  # probability: the smallest that predictions.csv holds, and that has a logarithm


def temperature(predictions: pd.DataFrame) -> float:
    """The temperature at which the probabilities have the highest likelihood of the truth.

    Above 1 it lowers the confidence, below 1 it raises it. Logarithms of probabilities stand for logits: the two differ
    by a constant in each row, which softmax ignores. (Guo et al. 2017, "On calibration of modern neural networks",
    section 4.2.)

    Args:
        predictions: of validation clips, never of test clips.

    Returns:
        from `LOWEST` to `HIGHEST`. Where the best lies outside (few clips, all of them right, or probabilities that do
        not depend on the truth) the nearer end, with a warning.

    >>> confident = pd.DataFrame({"clip_id": list("abcd"), "truth": ["happy", "happy", "happy", "sad"],
    ...                           "happy": [0.9] * 4, "sad": [0.1] * 4})
    >>> round(temperature(confident), 3)  # right in 3 of 4: the logit of 0.9 becomes that of 0.75
    2.0
    """
    check_predictions(predictions)
    logits, truth = _logits(predictions)
    truth_logits = logits[np.arange(len(logits)), truth]

    def slope(inverse_temperature: float) -> float:
        """Derivative of the negative log-likelihood by 1 / temperature, which rises throughout."""
        probabilities = softmax(inverse_temperature * logits, axis=1)
        return float(np.mean((probabilities * logits).sum(axis=1) - truth_logits))

    is_beyond = {LOWEST: slope(1 / LOWEST) <= 0, HIGHEST: slope(1 / HIGHEST) >= 0}
    for end, beyond in is_beyond.items():
        if beyond:
            logger.warning(
                "the temperature of %d validation clips is %g, the end of its range: their probabilities do not show "
                "how confident the model should be",
                len(predictions),
                end,
            )
            return end
    return float(1 / brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-10))


def scaled(predictions: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """The same decisions with probabilities at another temperature.

    Raises:
        SerError: the temperature is not above 0.
    """
    check_predictions(predictions)
    if not temperature > 0:
        raise SerError(f"a temperature is above 0, and 1 changes nothing; got {temperature:g}.")
    result = predictions.copy()
    result[emotions_of(predictions)] = softmax(_logits(predictions)[0] / temperature, axis=1)
    return result


def temperatures(validation_predictions: pd.DataFrame) -> pd.Series:
    """The `temperature` of each fold; without a column `fold` all rows are fold 0."""
    by_fold = _with_fold(validation_predictions).groupby("fold")
    return pd.Series(
        {int(fold): temperature(rows.drop(columns="fold")) for fold, rows in by_fold}, name="temperature"
    ).rename_axis("fold")


def calibrated(predictions: pd.DataFrame, validation_predictions: pd.DataFrame) -> pd.DataFrame:
    """Scale the predictions of each fold by the temperature of its validation clips; decisions do not change.

    Args:
        predictions, validation_predictions: predictions tables, both with a column `fold` or both without.

    Returns:
        the predictions in their order, without `fold`.

    Raises:
        SerError: a fold has no validation clips, or tests some of them, so that the temperature would be chosen on the
            test.
    """
    # The index may repeat: row numbers restore the order.
    tested, validation = _with_fold(predictions).reset_index(drop=True), _with_fold(validation_predictions)
    value_of, parts = temperatures(validation_predictions), []
    for fold, rows in tested.groupby("fold"):
        if fold not in value_of:
            raise SerError(
                f"fold {fold} has no validation clips to fit its temperature on, only the folds "
                f"{', '.join(map(str, value_of.index))} have: train with validation clips, or leave the probabilities "
                "as they are."
            )
        is_shared = rows["clip_id"].isin(validation.loc[validation["fold"] == fold, "clip_id"])
        if is_shared.any():
            raise SerError(
                f"{is_shared.sum()} test clips of fold {fold} are among its validation clips, such as "
                f"{rows['clip_id'][is_shared].iloc[0]}: the temperature would be chosen on the test. Use a protocol "
                "that keeps them apart."
            )
        parts.append(scaled(rows.drop(columns="fold"), value_of[fold]))
    return pd.concat(parts).sort_index().set_index(predictions.index)


def calibration_change(
    before: pd.DataFrame,
    after: pd.DataFrame,
    speakers: ArrayLike | None = None,
    bins: int = ECE_BINS,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Calibration before and after, and the change, each with its 95 % interval over speakers or clips.

    The expected calibration error (ECE) of few clips is too high, and that of a resample is higher still: a percentile
    interval misses the small error of a calibrated model. The interval here reaches from the lower to the higher of
    the ends of the percentile and the reflected ("basic") interval. In simulation with 24 speakers of 60 clips, it
    covered an error of 0.02 to 0.3 in 94 % to 96 % of trials (percentile: 33 % to 94 %), and an error of 0 in 68 %
    (0 %).

    Args:
        before, after: the same rows in the same order, as of `calibrated`.
        speakers: the speaker of each row; see `metrics.score`.

    Returns:
        rows before, after, change; columns ece, ece_low, ece_high, log_loss (mean of -ln of the true emotion's
        probability, of at least `SMALLEST`: smaller is better), log_loss_low, log_loss_high, confidence (mean),
        accuracy, interval_over.

    Raises:
        SerError: the rows are not the same.
    """
    names = ["clip_id", "truth"]
    if before[names].to_numpy().tolist() != after[names].to_numpy().tolist():
        raise SerError(
            "expected the same clips in the same order before and after: make `after` by calibrated(before, …)."
        )
    decided = [decisions(table) for table in (before, after)]
    columns = []
    for table in decided:
        gap = is_right(table) - table["confidence"].to_numpy()
        columns.append(np.eye(bins)[bin_of(table["confidence"], bins)] * gap[:, None])
        columns.append(-np.log(np.maximum(table["truth_probability"].to_numpy(), SMALLEST)))

    def errors(sums: np.ndarray) -> np.ndarray:
        """ECE and log loss (last axis) before, after, and their difference: shape (n, 3, 2)."""
        parts = np.hsplit(sums[:, :-1], 2)
        both = [np.column_stack([np.abs(part[:, :-1]).sum(axis=1), part[:, -1]]) / sums[:, -1:] for part in parts]
        return np.stack([*both, both[1] - both[0]], axis=1)

    units, over = intervals.units_of(before, speakers)
    counts = intervals.sum_by_unit(units, np.column_stack([*columns, np.ones(len(before))]))
    estimate = intervals.bootstrap(counts, errors, bootstrap, seed)
    low, high = estimate.interval
    (ece, log_loss), (ece_low, log_loss_low), (ece_high, log_loss_high) = estimate.value.T, low.T, high.T
    means = np.array([(table["confidence"].mean(), is_right(table).mean()) for table in decided])
    confidence, accuracy = np.vstack([means, means[1] - means[0]]).T
    table = pd.DataFrame(
        {
            "ece": ece,
            "ece_low": np.minimum(ece_low, 2 * ece - ece_high),
            "ece_high": np.maximum(ece_high, 2 * ece - ece_low),
            "log_loss": log_loss,
            "log_loss_low": log_loss_low,
            "log_loss_high": log_loss_high,
            "confidence": confidence,
            "accuracy": accuracy,
            "interval_over": over,
        },
        index=pd.Index(["before", "after", "change"], name="probabilities"),
    )
    table.loc[["before", "after"], "ece_low"] = table["ece_low"].clip(lower=0)
    return table


def reliability_table(
    predictions: pd.DataFrame,
    speakers: ArrayLike | None = None,
    bins: int = ECE_BINS,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy against confidence in equal-width bins, with the 95 % interval of the accuracy.

    Returns:
        one row for each bin that holds answers: from, to (of the confidence: from < confidence ≤ to), n (answers),
        confidence (mean), accuracy, accuracy_low, accuracy_high. The ECE is the mean of |accuracy - confidence|,
        weighted by n.
    """
    decided = decisions(predictions)
    number = bin_of(decided["confidence"], bins)
    in_bin = (number[:, None] == np.unique(number)).astype(float)
    columns = np.hstack([in_bin * is_right(decided)[:, None], in_bin])
    counts = intervals.sum_by_unit(intervals.units_of(predictions, speakers)[0], columns)
    accuracy = intervals.bootstrap(counts, lambda sums: intervals.ratio(*np.hsplit(sums, 2)), bootstrap, seed)
    low, high = accuracy.interval
    return pd.DataFrame(
        {
            "from": np.unique(number) / bins,
            "to": (np.unique(number) + 1) / bins,
            "n": in_bin.sum(axis=0).astype(int),
            "confidence": decided["confidence"].groupby(number).mean().to_numpy(),
            "accuracy": accuracy.value,
            "accuracy_low": low,
            "accuracy_high": high,
        }
    )


def coverage_curve(
    predictions: pd.DataFrame, speakers: ArrayLike | None = None, bootstrap: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Accuracy of the most confident answers, over the share of clips that they are.

    Answers of equal confidence are left out in random order, of which the curve shows the mean.

    Returns:
        one row for each number of answers that are kept, all of them last: coverage (above 0 to 1), confidence (the
        lowest that is kept), accuracy, accuracy_low, accuracy_high (95 %), oracle (accuracy if the mistakes had the
        lowest confidence), random (accuracy if confidence and mistakes were independent).
    """
    coverage, confidence, risk = _risks(predictions, speakers, bootstrap, seed)
    accuracy, (high, low) = 1 - risk.value, 1 - risk.interval
    return pd.DataFrame(
        {
            "coverage": coverage,
            "confidence": confidence,
            "accuracy": accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "oracle": np.minimum(1, accuracy[-1] / coverage),
            "random": accuracy[-1],
        }
    )


def area_under_risk(
    predictions: pd.DataFrame, speakers: ArrayLike | None = None, bootstrap: int = 500, seed: int = 0
) -> dict:
    """Mean share of mistakes over all coverages (AURC), with its 95 % interval: smaller is better.

    Geifman, Uziel & El-Yaniv 2019, "Bias-reduced uncertainty estimation for deep neural classifiers", section 3.

    Returns:
        aurc, aurc_low, aurc_high, random (the AURC if confidence and mistakes were independent: the share of
        mistakes), oracle (the AURC if the mistakes had the lowest confidence), interval_over.
    """
    coverage, _, risk = _risks(predictions, speakers, bootstrap, seed)
    area = intervals.Estimate(risk.value.mean(), risk.resampled.mean(axis=1))
    low, high = area.interval
    return {
        "aurc": float(area.value),
        "aurc_low": float(low),
        "aurc_high": float(high),
        "random": float(risk.value[-1]),
        "oracle": float(np.maximum(0, 1 - (1 - risk.value[-1]) / coverage).mean()),
        "interval_over": intervals.units_of(predictions, speakers)[1],
    }


def _risks(
    predictions: pd.DataFrame, speakers: ArrayLike | None, bootstrap: int, seed: int
) -> tuple[np.ndarray, np.ndarray, intervals.Estimate]:
    """Each coverage, the lowest confidence kept there, and the share of mistakes among the answers kept."""
    decided = decisions(predictions).assign(unit=intervals.units_of(predictions, speakers)[0])
    decided = decided.sort_values("confidence", ascending=False, kind="stable")
    confidence, is_wrong = decided["confidence"].to_numpy(), ~is_right(decided)
    names, unit = np.unique(decided["unit"], return_inverse=True)
    # Between the first and the last of equally confident answers, mistakes are spread evenly.
    last = np.flatnonzero(np.append(confidence[:-1] != confidence[1:], True))
    coverage = np.arange(1, len(decided) + 1) / len(decided)

    def risk(weights: np.ndarray) -> np.ndarray:
        kept, mistakes = (np.insert(np.cumsum(part)[last], 0, 0) for part in (weights, weights * is_wrong))
        return np.interp(coverage * kept[-1], kept, mistakes) / (coverage * kept[-1])

    # A curve is no function of summed counts: it needs the weight of every row.
    drawn = intervals.draw(np.ones(len(names)), bootstrap, seed)
    resampled = np.array([risk(weights[unit]) for weights in drawn])
    return coverage, confidence, intervals.Estimate(risk(np.ones(len(decided))), resampled)


def _logits(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the probabilities, shape (n, n_emotions), and the column of the truth, shape (n,)."""
    names = emotions_of(predictions)
    logits = np.log(np.maximum(predictions[names].to_numpy(dtype=float), SMALLEST))
    return logits, pd.Index(names).get_indexer(predictions["truth"])


def _with_fold(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions if "fold" in predictions else predictions.assign(fold=0)
