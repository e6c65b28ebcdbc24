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
    running = RunningProfile()
    for clip_inputs, emotion in zip(inputs, predicted, strict=True):
        running.add(clip_inputs, int(emotion))
    return running.profile()


class RunningProfile:
    """The profile of a speaker whose clips come one after the other; it keeps one sum for each predicted emotion."""

    def __init__(self) -> None:
        self._sums: dict[int, np.ndarray] = {}
        self._counts: dict[int, int] = {}

    def add(self, inputs: np.ndarray, predicted: int) -> None:
        """Add the inputs of one clip, and the position of the emotion that is predicted for it."""
        self._sums[predicted] = self._sums.get(predicted, 0) + inputs.astype(np.float64)
        self._counts[predicted] = self._counts.get(predicted, 0) + 1

    def __len__(self) -> int:
        """The number of clips."""
        return sum(self._counts.values())

    def profile(self) -> Profile:
        """The profile of the clips so far, of which there must be one."""
        weights = {emotion: min(1, MOST_OF_AN_EMOTION / number) for emotion, number in self._counts.items()}
        count = sum(weights[emotion] * number for emotion, number in self._counts.items())
        total = np.sum([weights[emotion] * part for emotion, part in self._sums.items()], axis=0)
        return Profile((total / count).astype(np.float32), float(count))
