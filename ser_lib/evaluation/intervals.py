"""95 % intervals over speakers or clips. Every interval of the package is computed here.

    units = units_of(predictions, speakers, corpora)             # what varies: the speakers of each corpus, or clips
    estimate = jackknife(units, columns, statistic, n_clips)     # of a statistic of the sums of the columns
    row = estimate.columns("accuracy")                           # accuracy, accuracy_low, accuracy_high

The method is the delete-one jackknife with Student's t (Wolter 2007, "Introduction to variance estimation", chapter 4).
Each speaker is left out in turn, and the other speakers of the same corpus get that weight: corpora are strata.
The degrees of freedom are Satterthwaite's. The interval of a share, such as accuracy or UAR, is computed on the logit
scale. Where all speakers score alike, as at 0 and 1, there is no spread to measure, and the interval is Clopper and
Pearson's over clips. `scripts/simulate_coverage.py` measures how often these intervals hold the truth, and docs/numbers.md
shows the result. scipy's `bootstrap`, statsmodels and `confidence_intervals` do not draw clusters within strata.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit

from ser_lib.common.errors import SerError

MIN_SPEAKERS = 4  # of each corpus, and of each emotion: with 2 or 3 there is no interval
LEVEL = 0.95
POWER = 0.80
ROUNDING = 1e-9  # sums that differ by less are equal


@dataclass(frozen=True)
class Units:
    """What varies from one test to the next: speakers, or clips where no speaker or only one is known."""

    names: np.ndarray  # of each row, shape (n_rows,): a speaker or a clip
    strata: np.ndarray  # of each row, shape (n_rows,): its corpus, or "" where corpora are not given
    over: str  # "speakers", "clips", or "none" where there are too few speakers for an interval
    too_few: str = ""  # the reason for "none", such as "tess has 2 speakers"


@dataclass(frozen=True)
class Estimate:
    """A statistic, or an array of statistics, with the standard error. NaN: too few speakers for an error."""

    value: np.ndarray  # shape (...)
    error: np.ndarray  # shape (...), standard error
    degrees: np.ndarray  # shape (...), degrees of freedom of the standard error
    corrected: np.ndarray  # shape (...), the value without the bias of few units
    n_clips: np.ndarray | None = None  # shape (...), clips behind a share, None where the statistic is no share

    def __getitem__(self, number: int) -> "Estimate":
        """One statistic of an array, or one row of a table of them."""
        n_clips = None if self.n_clips is None else self.n_clips[number]
        return Estimate(self.value[number], self.error[number], self.degrees[number], self.corrected[number], n_clips)

    def only_where(self, is_known: ArrayLike) -> "Estimate":
        """The same values, without standard errors where a mask is False."""
        return Estimate(self.value, np.where(is_known, self.error, np.nan), self.degrees, self.corrected, self.n_clips)

    @property
    def interval(self) -> np.ndarray:
        """The lower and the upper end of the 95 % interval, shape (2, ...); NaN where no error is known."""
        half = stats.t.ppf((1 + LEVEL) / 2, self.degrees) * self.error
        if self.n_clips is None:
            return np.array([self.value - half, self.value + half])
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = self.value * (1 - self.value)
            ends = expit(logit(self.value) + np.array([-1, 1]).reshape(-1, *[1] * np.ndim(half)) * half / slope)
        exact = np.where(np.isnan(self.error), np.nan, clopper_pearson(self.value, self.n_clips))
        return np.where((self.error < ROUNDING) | (slope < ROUNDING), exact, ends)

    def columns(self, name: str) -> dict:
        """The value and its interval as `name`, `name`_low and `name`_high: of a row, or the columns of a table."""
        ends = (self.value, *self.interval)
        return {name + suffix: end.tolist() for suffix, end in zip(("", "_low", "_high"), ends, strict=True)}

    @property
    def p_value(self) -> float:
        """Two-sided p value of the hypothesis that the statistic is 0, by Student's t; NaN without an error.

        Where all units have the same difference, it is that of as many tosses of a coin that fall on one side.
        """
        if not self.error >= ROUNDING:
            alike = 1.0 if abs(self.value) < ROUNDING else float(0.5**self.degrees)
            return float("nan") if np.isnan(self.error) else alike
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.degrees))

    @property
    def smallest_difference(self) -> float:
        """The smallest true value that a test at 5 % tells from 0 in 80 % of trials, with this standard error.

        Bloom 1995, "Minimum detectable effects", Evaluation Review 19.
        """
        quantiles = stats.t.ppf([(1 + LEVEL) / 2, POWER], self.degrees)
        return float(quantiles.sum() * self.error)


def jackknife(
    units: Units, columns: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], n_clips: ArrayLike | None = None
) -> Estimate:
    """Estimate a statistic of the column sums, and its standard error over the units.

    Args:
        columns: counts of each row, shape (n_rows, n_columns).
        statistic: function of sums of shape (n, n_columns) that returns an array of shape (n, ...), NaN where the sums
            do not determine it.
        n_clips: number of clips behind the statistic, shape (...), if it is a share of clips.

    >>> n_right, n_clips = [1.0, 2.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]
    >>> units = Units(np.array(["Ann", "Bob", "Eve", "Tom"]), np.array([""] * 4), "speakers")
    >>> estimate = jackknife(units, np.transpose([n_right, n_clips]), ratio, n_clips=[8])
    >>> estimate.value.round(3).tolist(), estimate.interval.round(2).tolist()
    ([0.625], [[0.23], [0.9]])
    """
    per_unit = pd.DataFrame(columns).groupby([units.strata, units.names], sort=False).sum()
    sums = per_unit.to_numpy(dtype=float)
    _, stratum = np.unique(per_unit.index.get_level_values(0), return_inverse=True)
    value = statistic(sums.sum(axis=0)[None])[0]
    count = None if n_clips is None else np.broadcast_to(np.asarray(n_clips, dtype=float), value.shape)
    if units.over == "none":
        unknown = np.full(value.shape, np.nan)
        return Estimate(value, unknown, unknown, unknown, count)
    variance, bias, parts = np.zeros(value.shape), np.zeros(value.shape), np.zeros(value.shape)
    for number in range(stratum.max() + 1):
        unit_sums = sums[stratum == number]
        n_units = len(unit_sums)
        # The only clip of a stratum has no spread to measure.
        if n_units == 1:
            continue
        total, others = unit_sums.sum(axis=0), sums[stratum != number].sum(axis=0)
        # Units with equal sums give equal results.
        unit_sums, repeats = np.unique(unit_sums.round(9), axis=0, return_counts=True)
        without_unit = statistic((others + (total - unit_sums) * n_units / (n_units - 1)).round(9))
        mean = np.tensordot(repeats, without_unit, 1) / n_units
        part = np.tensordot(repeats, (without_unit - mean) ** 2, 1) * (n_units - 1) / n_units
        variance, parts = variance + part, parts + part**2 / (n_units - 1)
        bias = bias + (n_units - 1) * (mean - value)
    n_free = max(len(sums) - (stratum.max() + 1), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        degrees = np.where(variance > ROUNDING**2, variance**2 / parts, n_free)
    return Estimate(value, np.sqrt(variance), degrees, value - bias, count)


def ratio(sums: np.ndarray) -> np.ndarray:
    """The first half of the columns divided by the second half, NaN where that is 0: a statistic for `jackknife`."""
    part, whole = np.hsplit(sums, 2)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def clopper_pearson(share: ArrayLike, n_clips: ArrayLike) -> np.ndarray:
    """Clopper and Pearson's exact interval of a share of independent clips, shape (2, ...).

    >>> clopper_pearson(0.0, 120).round(3).tolist()  # none of 120
    [0.0, 0.03]
    """
    hits, misses = np.multiply(share, n_clips), np.multiply(np.subtract(1, share), n_clips)
    with np.errstate(invalid="ignore"):
        low = np.where(hits > ROUNDING, stats.beta.ppf((1 - LEVEL) / 2, hits, misses + 1), 0.0)
        high = np.where(misses > ROUNDING, stats.beta.ppf((1 + LEVEL) / 2, hits + 1, misses), 1.0)
    return np.array([low, high])


def units_of(
    predictions: pd.DataFrame,
    speakers: ArrayLike | None = None,
    corpora: ArrayLike | None = None,
    copies: ArrayLike | None = None,
) -> Units:
    """What an interval is over: speakers, where each corpus has at least `MIN_SPEAKERS`; clips, where one or none is known.

    The interval over the clips of one speaker tells what this speaker's other clips would score, and nothing about other
    speakers. With 2 or 3 speakers of a corpus neither is true, and there is no interval.

    Args:
        speakers, corpora, copies: of each row; see `metrics.score`.

    Raises:
        SerError: one of them does not hold one value for each row.
    """
    strata = np.full(len(predictions), "") if corpora is None else one_per_row(corpora, predictions, "corpora")
    clips = predictions["clip_id"].to_numpy() if copies is None else one_per_row(copies, predictions, "copies")
    if speakers is None:
        return Units(clips, strata, "clips")
    names = one_per_row(speakers, predictions, "speakers")
    if len(np.unique(names)) == 1:
        return Units(clips, strata, "clips")
    n_speakers = pd.Series(names).groupby(strata).nunique()
    small = n_speakers[n_speakers < MIN_SPEAKERS]
    if small.empty:
        return Units(names, strata, "speakers")
    reasons = [f"{f'{name} has ' if name else ''}{n} speaker{'s' * (n > 1)}" for name, n in small.items()]
    return Units(names, strata, "none", " and ".join(reasons))


def one_per_row(values: ArrayLike, predictions: pd.DataFrame, name: str) -> np.ndarray:
    """Values as an array of text, after a check that there is one for each row of the predictions."""
    array = np.asarray(values).astype(str)
    if len(array) != len(predictions):
        raise SerError(f"{name} must hold one value for each of {len(predictions)} predictions, got {len(array)}")
    return array
