"""Whether a probability can be believed: temperature scaling, calibration errors, and answering only when sure.

    after = calibrated(before, validation)                   # one temperature a fold, from its validation clips
    calibration_change(before, after, speakers)              # calibration error before and after, with intervals
    coverage_curve(before, speakers)                         # accuracy when the least sure answers are left out

All of it reads predictions tables as `ser_lib.evaluation.metrics` describes them. Where temperatures are fitted, the tables have a
column `fold` besides, as `ser_lib.evaluation.run_analysis` gives them of a run folder. Rows of several seeds of one clip are answers
of their own, and stay together in the intervals.
"""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import softmax

from ser_lib.common.errors import SerError
from ser_lib.evaluation.metrics import ECE_BINS, bin_of, check_predictions, decisions, draw_units, sum_by_unit, units_of

logger = logging.getLogger(__name__)

LOWEST, HIGHEST = 0.05, 20.0  # temperatures
SMALLEST = 1e-8  # probability that a run folder's predictions.csv can hold, and that has a logarithm
NOT_EMOTIONS = ["clip_id", "truth"]


def temperature(predictions: pd.DataFrame) -> float:
    """The temperature at which these probabilities give the truth the highest likelihood.

    Above 1 it makes answers less sure, below 1 surer. Logarithms of probabilities stand in for logits, from which they
    differ by a constant in each row, and softmax does not see that. (Guo et al. 2017, "On calibration of modern neural
    networks", section 4.2.)

    Args:
        predictions: of validation clips: never of those that are tested.

    Returns:
        from `LOWEST` to `HIGHEST`; an end of this range, with a logged line, where the best lies beyond it: too few
        clips, or all of them right, or answers that say nothing about the truth.

    >>> sure = pd.DataFrame({"clip_id": list("abcd"), "truth": ["happy", "happy", "happy", "sad"],
    ...                      "happy": [0.9] * 4, "sad": [0.1] * 4})
    >>> round(temperature(sure), 3)  # right in 3 of 4: the logit of 0.9 becomes that of 0.75
    2.0
    """
    check_predictions(predictions)
    logits, truth = _logits(predictions)
    own = logits[np.arange(len(logits)), truth]

    def slope(sharpness: float) -> float:
        """Of the negative log-likelihood, by 1 / temperature: it rises all the way."""
        return float(np.mean((softmax(sharpness * logits, axis=1) * logits).sum(axis=1) - own))

    ends = {LOWEST: slope(1 / LOWEST) <= 0, HIGHEST: slope(1 / HIGHEST) >= 0}
    for end, reached in ends.items():
        if reached:
            logger.warning(
                "the temperature of %d validation clips is %g, the end of its range: their probabilities do not tell "
                "how sure to be",
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
    names = [name for name in predictions if name not in NOT_EMOTIONS]
    result[names] = softmax(_logits(predictions)[0] / temperature, axis=1)
    return result


def temperatures(validation_predictions: pd.DataFrame) -> pd.Series:
    """The `temperature` of each fold; without a column `fold` the table is fold 0."""
    return pd.Series(
        {fold: temperature(part) for fold, part in _by_fold(validation_predictions)}, name="temperature"
    ).rename_axis("fold")


def calibrated(predictions: pd.DataFrame, validation_predictions: pd.DataFrame) -> pd.DataFrame:
    """Scale each fold's predictions by the temperature of its validation clips; decisions stay as they are.

    Args:
        predictions, validation_predictions: predictions tables with a column `fold` besides, or both without.

    Returns:
        the predictions in the order they came in, without `fold`.

    Raises:
        SerError: a fold has no validation clips, or its validation clips are tested in it: a temperature would then
            be chosen on the test.
    """
    parts, found = [], dict(_by_fold(validation_predictions))
    for fold, part in _by_fold(predictions):
        if fold not in found:
            raise SerError(
                f"fold {fold} has no validation clips to fit its temperature on, only the folds "
                f"{', '.join(map(str, found))} have: train with validation clips, or leave the probabilities as they are."
            )
        tested = part["clip_id"].isin(found[fold]["clip_id"])
        if tested.any():
            raise SerError(
                f"{tested.sum()} test clips of fold {fold} are among its validation clips, such as "
                f"{part['clip_id'][tested].iloc[0]}: the temperature would be chosen on the test. Use a protocol that "
                "keeps them apart."
            )
        parts.append((part, temperature(found[fold])))
    # Row numbers instead of the index, which may repeat.
    rows = np.concatenate([np.flatnonzero(_folds(predictions) == fold) for fold, _ in _by_fold(predictions)])
    return pd.concat([scaled(part, value) for part, value in parts]).iloc[np.argsort(rows)]


def calibration_change(
    before: pd.DataFrame,
    after: pd.DataFrame,
    speakers: Sequence[str] | None = None,
    bins: int = ECE_BINS,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Calibration before and after, and the change, each with its 95 % interval over speakers or clips.

    The expected calibration error (ECE) of few clips is too high, and that of a resample is higher still: a percentile
    interval misses the small error of a calibrated model. The interval here reaches from the lower to the higher of
    the percentile and the reflected ("basic") interval's ends; simulated with 24 speakers of 60 clips, it held an error
    of 0.02 to 0.3 in 94 % to 96 % of trials (percentile: 33 % to 94 %), and one of 0 in 68 % (0 %).

    Args:
        before, after: the same rows in the same order, as `calibrated` gives them.
        speakers: the speaker of each row; see `metrics.score`.

    Returns:
        rows before, after, change; columns ece, ece_low, ece_high, log_loss (mean of -ln of the true emotion's
        probability, of at least `SMALLEST`: smaller is better), log_loss_low, log_loss_high, confidence (mean), accuracy, interval_over.

    Raises:
        SerError: the rows are not the same.
    """
    if before[NOT_EMOTIONS].to_numpy().tolist() != after[NOT_EMOTIONS].to_numpy().tolist():
        raise SerError(
            "expected the same clips in the same order before and after: make `after` by calibrated(before, …)."
        )
    units, over = units_of(before, speakers)
    numbers, drawn = draw_units(units, bootstrap, seed)
    values, resampled, about = [], [], []
    for table in (before, after):
        told = decisions(table)
        right = (told["prediction"] == told["truth"]).to_numpy()
        loss = -np.log(np.maximum(told["truth_probability"], SMALLEST)).to_numpy()
        gaps = np.zeros((len(told), bins))
        gaps[np.arange(len(told)), bin_of(told["confidence"], bins)] = right - told["confidence"]
        sums = sum_by_unit(numbers, np.column_stack([gaps, loss]), drawn.shape[1])
        totals = np.vstack([sums.sum(axis=0), drawn @ sums])
        n = np.append(len(told), drawn @ np.bincount(numbers))
        both = np.column_stack([np.abs(totals[:, :-1]).sum(axis=1), totals[:, -1]]) / n[:, None]
        values.append(both[0])
        resampled.append(both[1:])
        about.append((told["confidence"].mean(), right.mean()))
    for found in (values, resampled, about):
        found.append(np.subtract(found[1], found[0]))
    rows = []
    for (ece, loss), draws, (confidence, accuracy) in zip(values, resampled, about, strict=True):
        low, high = _widest(ece, draws[:, 0])
        loss_low, loss_high = np.percentile(draws[:, 1], [2.5, 97.5])
        rows.append(
            {
                "ece": ece,
                "ece_low": low,
                "ece_high": high,
                "log_loss": loss,
                "log_loss_low": loss_low,
                "log_loss_high": loss_high,
                "confidence": confidence,
                "accuracy": accuracy,
                "interval_over": over,
            }
        )
    table = pd.DataFrame(rows, index=pd.Index(["before", "after", "change"], name="probabilities"))
    table.loc[["before", "after"], "ece_low"] = table["ece_low"].clip(lower=0)
    return table


def reliability_table(
    predictions: pd.DataFrame,
    speakers: Sequence[str] | None = None,
    bins: int = ECE_BINS,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy against confidence in equal-width bins, with the 95 % interval of the accuracy.

    Returns:
        one row a bin that holds an answer: from, to (of the confidence: from < confidence ≤ to), n (answers), confidence
        (mean), accuracy, accuracy_low, accuracy_high. The ECE is the mean of |accuracy - confidence|, weighted by n.
    """
    told = decisions(predictions)
    numbers, drawn = draw_units(units_of(predictions, speakers)[0], bootstrap, seed)
    which = bin_of(told["confidence"], bins)
    inside = (which[:, None] == np.arange(bins)).astype(float)
    right = inside * (told["prediction"] == told["truth"]).to_numpy()[:, None]
    sums = sum_by_unit(numbers, np.hstack([inside, right]), drawn.shape[1])
    held, correct = np.hsplit(drawn @ sums, 2)
    rows = []
    for number in np.unique(which):
        own = held[:, number] > 0  # a resample may have no answer there
        low, high = np.percentile(correct[own, number] / held[own, number], [2.5, 97.5])
        rows.append(
            {
                "from": number / bins,
                "to": (number + 1) / bins,
                "n": int(inside[:, number].sum()),
                "confidence": told["confidence"][which == number].mean(),
                "accuracy": right[:, number].sum() / inside[:, number].sum(),
                "accuracy_low": low,
                "accuracy_high": high,
            }
        )
    return pd.DataFrame(rows)


def coverage_curve(
    predictions: pd.DataFrame, speakers: Sequence[str] | None = None, bootstrap: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Accuracy of the surest answers, over the share of clips that they are.

    Of answers that are equally sure, each is as likely to be left out as the other.

    Returns:
        one row for each number of answers that are kept, all of them last: coverage (above 0 to 1), confidence (the
        lowest that is kept), accuracy, accuracy_low, accuracy_high (95 %), oracle (accuracy if the mistakes were the
        least sure), random (if confidence said nothing). `area_under_risk` makes one number of it.
    """
    coverage, kept, confidence, resampled = _risks(predictions, speakers, bootstrap, seed)
    low, high = 1 - np.percentile(resampled, [97.5, 2.5], axis=0)
    accuracy = 1 - kept[-1]
    return pd.DataFrame(
        {
            "coverage": coverage,
            "confidence": confidence,
            "accuracy": 1 - kept,
            "accuracy_low": low,
            "accuracy_high": high,
            "oracle": np.minimum(1, accuracy / coverage),
            "random": accuracy,
        }
    )


def area_under_risk(
    predictions: pd.DataFrame, speakers: Sequence[str] | None = None, bootstrap: int = 500, seed: int = 0
) -> dict:
    """Mean share of mistakes over all coverages (AURC), with its 95 % interval: smaller is better.

    Geifman, Uziel & El-Yaniv 2019, "Bias-reduced uncertainty estimation for deep neural classifiers", section 3.

    Returns:
        aurc, aurc_low, aurc_high, random (the AURC of confidence that says nothing: the share of mistakes), oracle (of
        one that finds every mistake), interval_over.
    """
    coverage, kept, _, resampled = _risks(predictions, speakers, bootstrap, seed)
    low, high = np.percentile(resampled.mean(axis=1), [2.5, 97.5])
    return {
        "aurc": float(kept.mean()),
        "aurc_low": float(low),
        "aurc_high": float(high),
        "random": float(kept[-1]),
        "oracle": float(np.maximum(0, 1 - (1 - kept[-1]) / coverage).mean()),
        "interval_over": units_of(predictions, speakers)[1],
    }


def _risks(predictions, speakers, bootstrap, seed):
    """Share of mistakes among the surest answers at each coverage: as it is, and in each resample."""
    told = decisions(predictions)
    numbers, drawn = draw_units(units_of(predictions, speakers)[0], bootstrap, seed)
    order = np.argsort(-told["confidence"].to_numpy(), kind="stable")
    confidence = told["confidence"].to_numpy()[order]
    wrong = (told["prediction"] != told["truth"]).to_numpy()[order].astype(float)
    # Between the first and the last of equally sure answers, mistakes are spread evenly.
    last = np.flatnonzero(np.append(confidence[:-1] != confidence[1:], True))
    coverage = np.arange(1, len(told) + 1) / len(told)

    def risk(weights: np.ndarray) -> np.ndarray:
        held, mistakes = (np.insert(np.cumsum(own)[last], 0, 0) for own in (weights, weights * wrong))
        return np.interp(coverage * held[-1], held, mistakes) / (coverage * held[-1])

    resampled = np.array([risk(weights[numbers[order]]) for weights in drawn])
    return coverage, risk(np.ones(len(told))), confidence, resampled


def _widest(value: float, resampled: np.ndarray) -> tuple[float, float]:
    """From the lower to the higher end of the percentile interval and of its reflection at the value."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(min(low, 2 * value - high)), float(max(high, 2 * value - low))


def _logits(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the probabilities, shape (n, n_emotions), and the column of the truth, shape (n,)."""
    names = [name for name in predictions if name not in NOT_EMOTIONS]
    logits = np.log(np.maximum(predictions[names].to_numpy(dtype=float), SMALLEST))
    return logits, pd.Index(names).get_indexer(predictions["truth"])


def _folds(predictions: pd.DataFrame) -> np.ndarray:
    return predictions["fold"].to_numpy() if "fold" in predictions else np.zeros(len(predictions), dtype=int)


def _by_fold(predictions: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """Each fold's number and predictions, without the column `fold`."""
    folds, table = _folds(predictions), predictions.drop(columns="fold", errors="ignore")
    return [(int(fold), table[folds == fold]) for fold in np.unique(folds)]
