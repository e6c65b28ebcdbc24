"""Predictors: models in memory that prepare any audio as the training clips were, and return probabilities.

`TrainedPredictor` is that of a run, and `ser_lib.inference.packaged.PackagedPredictor`, which needs no PyTorch, that of the
model that comes with the package.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from ser_lib.audio.reading import Recording
from ser_lib.common.errors import SerError
from ser_lib.models.profiles import Profile
from ser_lib.models.settings import Audio

if TYPE_CHECKING:
    # It imports PyTorch.
    from ser_lib.recipes import Recipe


class Answers(NamedTuple):
    """Answers for recordings: a profile is the mean of `inputs`; `is_speech` says whether each can be speech."""

    # float64, (n_recordings, n_emotions)
    probabilities: np.ndarray
    inputs: np.ndarray | Sequence
    # bool, (n_recordings,)
    is_speech: np.ndarray


class Predictor(ABC):
    """A model that answers, and the profile of the speaker whom it answers for, if there is one."""

    # Of the recipe.
    name: str
    # In the order of the model's outputs.
    emotions: list[str]
    audio: Audio
    # The probability from which on an answer is certain; None: not known of this model.
    certain_from: float | None
    # A hash of the model: a profile of one model says nothing to another.
    identity: str
    takes_profile: bool
    profile: Profile | None = None

    @property
    def sampling_rate(self) -> int:
        """In Hz: all audio is resampled to it."""
        return self.audio.sampling_rate

    @abstractmethod
    def answers(self, recordings: Sequence[str | Path | Recording], profile: Profile | None = None) -> Answers:
        """Answer recordings, each as one clip of whatever length; nothing is cached.

        Raises:
            SerError: a recording cannot be read, or the probabilities are no numbers that sum to 1.
        """

    def for_prepared_audio(self) -> Self:
        """The same model for waveforms that were trimmed, normalised and cut before."""
        raw: dict[str, Any] = {"trim_below_db": None, "normalise": None, "offset_seconds": 0.0, "remove_offset": False}
        other = copy.copy(self)
        other.audio = self.audio.model_copy(update=raw)
        return other

    def probabilities(self, recordings: Sequence[str | Path | Recording]) -> np.ndarray:
        """Probabilities of the emotions, float64 of shape (n_recordings, n_emotions), also of what is no speech.

        Each recording is read as one clip, whatever its length: see `ser_lib.inference.predict` for long ones.
        """
        return self.answers(recordings, self.profile).probabilities

    def speech_probabilities(self, recordings: Sequence[str | Path | Recording]) -> np.ndarray:
        """`probabilities`, NaN in the rows of recordings that are unlike speech."""
        answers = self.answers(recordings, self.profile)
        return np.where(answers.is_speech[:, None], answers.probabilities, np.nan)

    def with_profile(self, profile: Profile | None) -> Self:
        """The same model for one speaker; None: for anybody."""
        other = copy.copy(self)
        other.profile = profile
        return other

    def is_certain(self, probabilities: np.ndarray) -> bool | None:
        """Whether an answer, probabilities of shape (n_emotions,), is certain; None where no threshold is known."""
        return None if self.certain_from is None else bool(np.max(probabilities) >= self.certain_from)


class TrainedPredictor(Predictor):
    """The mean of the models in `folders`; `first` is the first fold's folder, which alone holds a frozen encoder."""

    def __init__(
        self,
        recipe: Recipe,
        folders: Sequence[Path],
        first: Path,
        device: str = "auto",
        certain_from: float | None = None,
        identity: str = "",
    ):
        from ser_lib.common.devices import pick_device

        self.name, self.device, self.audio = recipe.name, pick_device(device), recipe.input.audio
        self.certain_from, self.identity = certain_from, identity
        self.models = [recipe.create_model().load(folder, first).to(self.device) for folder in folders]
        for folder, model in zip(folders, self.models, strict=True):
            if model.emotions != self.emotions:
                raise SerError(f"{folder} answers other emotions than {folders[0]}: they are of two runs.")

    @property
    def emotions(self) -> list[str]:  # type: ignore[override]  # of the model's own configuration
        return self.models[0].emotions

    @property
    def takes_profile(self) -> bool:  # type: ignore[override]  # the model knows
        return self.models[0].takes_profile

    def answers(self, recordings: Sequence[str | Path | Recording], profile: Profile | None = None) -> Answers:
        inputs = self.models[0].inputs_of(recordings)
        probabilities = np.mean([model.probabilities(inputs, profile) for model in self.models], axis=0)
        # Not below 1e-3: those of a model in bfloat16 are rounded.
        checked(probabilities, recordings, self.name, 1e-3)
        return Answers(probabilities, inputs, self.models[0].is_like_speech(inputs))

    def for_prepared_audio(self) -> Self:
        other = super().for_prepared_audio()
        other.models = [copy.copy(model) for model in self.models]
        for model in other.models:
            model.input = model.input.model_copy(update={"audio": other.audio})
        return other


def checked(probabilities: np.ndarray, recordings: Sequence, name: str, tolerance: float) -> np.ndarray:
    """The probabilities; SerError where they are negative, or their sum is further from 1 than the tolerance."""
    # A NaN is not below it either.
    if not (np.abs(probabilities.sum(axis=1) - 1) < tolerance).all() or probabilities.min(initial=0) < 0:
        names = ", ".join(map(str, recordings[:3])) + ", …" * (len(recordings) > 3)
        raise SerError(
            f"{names}: expected probabilities that sum to 1, but the model of {name} answers otherwise. "
            "If it does so for every recording, its weights are damaged: train or fetch the model again."
        )
    return probabilities
