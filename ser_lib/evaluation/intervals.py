"""95 % intervals of scores by a bootstrap over speakers or clips. Every interval of the package is computed here.

units, over = units_of(predictions, speakers)                # what is drawn: speakers or clips
estimate = bootstrap(sum_by_unit(units, columns), statistic)
estimate.value, estimate.interval
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
    """One statistic, or an array of statistics, with the values that it takes in the resamples."""

    value: np.ndarray  # shape (...)
    resampled: np.ndarray  # shape (n_resamples, ...); NaN where a resample holds no row that counts

    @property
    def interval(self) -> np.ndarray:
        """The lower and the upper end, shape (2, ...): the 2.5th and the 97.5th percentile of the resamples."""
        # The one that leaves NaN out is many times slower.
        percentile = np.nanpercentile if np.isnan(self.resampled).any() else np.percentile
        return percentile(self.resampled, [2.5, 97.5], axis=0)

    @property
    def p_value(self) -> np.ndarray:
        """Two-sided p value of the hypothesis that the statistic is 0: twice the smaller share of resamples on one side.

        At least 2 / (n_resamples + 1), and 1 where all resamples are 0. Davison & Hinkley 1997, "Bootstrap methods and
        their application", section 4.4.1 (inverted percentile interval).
        """
        # Sums of equal terms in another order differ by rounding alone.
        rounded = np.where(np.abs(self.resampled) < 1e-12, 0, self.resampled)
        smaller_side = np.minimum((rounded <= 0).sum(axis=0), (rounded >= 0).sum(axis=0))
        return np.minimum(1, 2 * (1 + smaller_side) / (1 + len(rounded)))


def bootstrap(
    counts: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: int = 2000,
    seed: int = 0,
    sizes: np.ndarray | None = None,
) -> Estimate:
    """Draw units with replacement, and compute a statistic of the summed counts of each resample.

    Args:
        counts: of each unit, shape (n_units, n_columns), as `sum_by_unit` returns them.
        statistic: function of sums of shape (n, n_columns) that returns an array of shape (n, ...).
        sizes: the number of units that each row of `counts` stands for; None: one each.

    >>> counts = np.array([[1.0, 2.0], [2.0, 2.0], [0.0, 2.0]])  # right answers and clips of three speakers
    >>> accuracy = bootstrap(counts, lambda sums: sums[:, 0] / sums[:, 1])
    >>> float(accuracy.value), accuracy.interval.tolist()
    (0.5, [0.0, 1.0])
    """
    sizes = np.ones(len(counts)) if sizes is None else sizes
    values = statistic(np.vstack([sizes @ counts, draw(sizes, resamples, seed) @ counts]))
    return Estimate(values[0], values[1:])


def draw(sizes: np.ndarray, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """How often each resample holds the units of each row, float64 of shape (n_resamples, n_rows).

    Args:
        sizes: number of units of each row, shape (n_rows,).
    """
    n_units = int(sizes.sum())
    return np.random.default_rng(seed).multinomial(n_units, sizes / n_units, size=resamples).astype(float)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole of two arrays of one shape, NaN where the whole is 0."""
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


def sum_by_unit(units: ArrayLike, columns: np.ndarray) -> np.ndarray:
    """Sums of columns of shape (n_rows, n_columns) over each unit's rows: (n_units, n_columns), units in order."""
    names, number = np.unique(units, return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, number, columns)
    return sums


def one_per_row(values: ArrayLike, predictions: pd.DataFrame, name: str) -> np.ndarray:
    """Values as an array of text, one for each row of the predictions.

    Raises:
        SerError: there are more or fewer.
    """
    array = np.asarray(values).astype(str)
    if len(array) != len(predictions):
        raise SerError(f"{name} must hold one value for each of {len(predictions)} predictions, got {len(array)}")
    return array
