"""What a model keeps of a speaker from a few unlabelled clips."""

from dataclasses import dataclass

import numpy as np

# Clips of one predicted emotion that count in full: more of them would pull a speaker's mean towards that emotion.
MOST_OF_AN_EMOTION = 2


@dataclass(frozen=True)
class Profile:
    """The mean of a model's inputs over some clips of a speaker, and how many clips these are.

    Attributes:
        mean: float32, (n_features,), or (n_clips, n_features) where each of the clips to be answered has its own.
        count: the clips' weights, summed, see `profile_of`; or (n_clips, 1).
    """

    mean: np.ndarray
    count: float | np.ndarray


def profile_of(inputs: np.ndarray, predicted: np.ndarray) -> Profile:
    """The profile of a speaker from the inputs of unlabelled clips, (n_clips, …), and the emotions predicted for them.

    Of an emotion with more clips than `MOST_OF_AN_EMOTION`, all clips share the weight of so many.

    >>> profile_of(np.array([[0.0], [0.0], [0.0], [0.0], [6.0]]), np.array([0, 0, 0, 0, 1]))
    Profile(mean=array([2.], dtype=float32), count=3.0)
    """
    weights = np.minimum(1, MOST_OF_AN_EMOTION / np.bincount(predicted)[predicted])
    return Profile(np.average(inputs, axis=0, weights=weights).astype(np.float32), float(weights.sum()))
