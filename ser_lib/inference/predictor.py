"""A trained model in memory: it reads any audio in the form of the training clips and answers with probabilities."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from ser_lib.audio.reading import Recording
from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError
from ser_lib.recipes import Recipe


class Predictor:
    """The mean of the models in `folders`; `first` is the first fold's folder, which alone holds a frozen encoder."""

    def __init__(self, recipe: Recipe, folders: Sequence[Path], first: Path, device: str = "auto"):
        self.recipe, self.device = recipe, pick_device(device)
        self.models = [recipe.create_model().load(folder, first).to(self.device) for folder in folders]
        for folder, model in zip(folders, self.models, strict=True):
            if model.emotions != self.emotions:
                raise SerError(f"{folder} answers other emotions than {folders[0]}: they are of two runs.")

    @property
    def emotions(self) -> list[str]:
        """The emotions in the order of the model's outputs, from the model's own configuration."""
        return self.models[0].emotions

    @property
    def sampling_rate(self) -> int:
        """In Hz: all audio is resampled to it."""
        return self.recipe.input.audio.sampling_rate

    def probabilities(self, recordings: Sequence[str | Path | Recording]) -> np.ndarray:
        """Probabilities of the emotions, float64 of shape (n_recordings, n_emotions); nothing is cached.

        Each recording is read as one clip, whatever its length: see `ser_lib.inference.predict` for long ones.

        Raises:
            SerError: a recording cannot be read, or the probabilities are no numbers that sum to 1.
        """
        inputs = self.models[0].inputs_of(recordings)
        probabilities = np.mean([model.probabilities(inputs) for model in self.models], axis=0)
        # Not above 1e-3: those of a model in bfloat16 are rounded. A NaN is not below it either.
        if not (np.abs(probabilities.sum(axis=1) - 1) < 1e-3).all() or probabilities.min(initial=0) < 0:
            names = ", ".join(map(str, recordings[:3])) + ", …" * (len(recordings) > 3)
            raise SerError(
                f"{names}: expected probabilities that sum to 1, but the model of {self.recipe.name} answers otherwise. "
                "If it does so for every recording, its weights are damaged: train or fetch the model again."
            )
        return probabilities

    def for_prepared_audio(self) -> Self:
        """The same models for waveforms that were trimmed, normalised and cut before."""
        raw: dict[str, Any] = {"trim_below_db": None, "normalise": None, "offset_seconds": 0.0, "remove_offset": False}
        other = copy.copy(self)
        other.models = [copy.copy(model) for model in self.models]
        for model in other.models:
            audio = model.input.audio.model_copy(update=raw)
            model.input = model.input.model_copy(update={"audio": audio})
        return other
