"""A trained model in memory: it reads any audio in the form of the training clips and answers with probabilities."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from ser_lib.audio.reading import Recording
from ser_lib.common.devices import pick_device
from ser_lib.recipes import Recipe

# Longer than any training clip: such a recording is read in windows.
LONG_SECONDS = 30.0


class Predictor:
    """The mean of the models in `folders`; `first` is the first fold's folder, which alone holds a frozen encoder."""

    def __init__(self, recipe: Recipe, folders: Sequence[Path], first: Path, device: str = "auto"):
        self.recipe, self.device = recipe, pick_device(device)
        self.models = [recipe.create_model().load(folder, first).to(self.device) for folder in folders]

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
        """
        inputs = self.models[0].inputs_of(recordings)
        return np.mean([model.probabilities(inputs) for model in self.models], axis=0)

    def for_prepared_audio(self) -> Self:
        """The same models for waveforms that were trimmed, normalised and cut before."""
        raw: dict[str, Any] = {"trim_below_db": None, "normalise": None, "offset_seconds": 0.0, "remove_offset": False}
        other = copy.copy(self)
        other.models = [copy.copy(model) for model in self.models]
        for model in other.models:
            audio = model.input.audio.model_copy(update=raw)
            model.input = model.input.model_copy(update={"audio": audio})
        return other
