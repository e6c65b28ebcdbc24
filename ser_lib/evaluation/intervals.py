"""95 % intervals of scores by a bootstrap over speakers or clips. Every interval of the package is computed here.

units, over = units_of(predictions, speakers)                # what is drawn: speakers or clips
estimate = bootstrap(units, columns, statistic)              # of a statistic of the sums of the columns
row = estimate.columns("accuracy")                           # accuracy, accuracy_low, accuracy_high
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ser_lib.common.errors import SerError

MIN_SPEAKERS = 8  # with fewer speakers, clips are drawn


@dataclass(frozen=True)
class Estimate:
    """A statistic, or an array of statistics, with the values that it takes in the resamples."""

    value: np.ndarray  # shape (...)
    resampled: np.ndarray  # shape (n_resamples, ...), NaN where a resample does not determine the statistic

    def __getitem__(self, number: int) -> "Estimate":
        """One statistic of an array, or one row of a table of them."""
        return Estimate(self.value[number], self.resampled[:, number])

    @property
    def interval(self) -> np.ndarray:
        """The lower and the upper end, shape (2, ...): the 2.5th and the 97.5th percentile of the resamples."""
        # The function that leaves NaN out is many times slower.
        percentile = np.nanpercentile if np.isnan(self.resampled).any() else np.percentile
        return percentile(self.resampled, [2.5, 97.5], axis=0)

    def columns(self, name: str) -> dict:
        """The value and its interval as `name`, `name`_low and `name`_high: of a row, or the columns of a table."""
        ends = (self.value, *self.interval)
        return {name + suffix: end.tolist() for suffix, end in zip(("", "_low", "_high"), ends, strict=True)}

    @property
    def p_value(self) -> float:
        """Two-sided p value of the hypothesis that the statistic is 0: twice the smaller share of resamples on one side.

        At least 2 / (n_resamples + 1), and 1 where all resamples are 0. Davison & Hinkley 1997, "Bootstrap methods and
        their application", section 4.4.1 (inverted percentile interval).
        """
        # Sums of equal terms in another order differ by rounding alone.
        rounded = np.where(np.abs(self.resampled) < 1e-12, 0, self.resampled)
        smaller_side = min((rounded <= 0).sum(), (rounded >= 0).sum())
        return min(1.0, 2 * (1 + float(smaller_side)) / (1 + len(rounded)))


def bootstrap(
    units: ArrayLike,
    columns: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: int = 2000,
    seed: int = 0,
    merge_equal: bool = False,
) -> Estimate:
    """Draw units with replacement, and compute a statistic of the column sums of each resample.

    Args:
        units: the speaker or clip of each row, shape (n_rows,): its rows are drawn together.
        columns: counts of each row, shape (n_rows, n_columns).
        statistic: function of sums of shape (n, n_columns) that returns an array of shape (n, ...).
        merge_equal: draw units with equal sums as one row of `draw`. It takes a fraction of the time and memory where
            most clips count alike, and draws other random numbers.

    >>> n_right, n_clips = [1.0, 2.0, 0.0], [2.0, 2.0, 2.0]
    >>> bootstrap(["Ann", "Bob", "Eve"], np.transpose([n_right, n_clips]), ratio).columns("accuracy")
    {'accuracy': [0.5], 'accuracy_low': [0.0], 'accuracy_high': [1.0]}
    """
    names, number = np.unique(units, return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, number, columns)
    sizes: np.ndarray = np.ones(len(names))
    if merge_equal:
        sums, sizes = np.unique(sums, axis=0, return_counts=True)
    values = statistic(np.vstack([sizes @ sums, draw(sizes, resamples, seed) @ sums]))
    return Estimate(values[0], values[1:])


def draw(sizes: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """How often each resample holds the units of each row, float64 of shape (n_resamples, n_rows).

    Args:
        sizes: number of units of each row, shape (n_rows,).
    """
    n_units = int(sizes.sum())
    return np.random.default_rng(seed).multinomial(n_units, sizes / n_units, size=resamples).astype(float)


def ratio(sums: np.ndarray) -> np.ndarray:
    """The first half of the columns divided by the second half, NaN where that is 0: a statistic for `bootstrap`."""
    part, whole = np.hsplit(sums, 2)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def units_of(predictions: pd.DataFrame, speakers: ArrayLike | None = None) -> tuple[np.ndarray, str]:
    """The unit of each row that a bootstrap draws: its speaker where there are at least `MIN_SPEAKERS`, else its clip.

    Returns:
        the units, shape (n_rows,), and their kind: "speakers" or "clips".

    Raises:
        SerError: `speakers` does not hold one value for each row.
    """
    if speakers is not None:
        names = one_per_row(speakers, predictions, "speakers")
        if len(np.unique(names)) >= MIN_SPEAKERS:
            return names, "speakers"
    return predictions["clip_id"].to_numpy(), "clips"


def one_per_row(values: ArrayLike, predictions: pd.DataFrame, name: str) -> np.ndarray:
    """Values as an array of text, after a check that there is one for each row of the predictions."""
    array = np.asarray(values).astype(str)
    if len(array) != len(predictions):
        raise SerError(f"{name} must hold one value for each of {len(predictions)} predictions, got {len(array)}")
    return array
