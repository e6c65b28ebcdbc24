"""The models of a run in memory."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from ser_lib.audio.reading import Recording
from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError
from ser_lib.inference.predictor import Answers, Predictor, checked
from ser_lib.models.profiles import Profile
from ser_lib.recipes import Recipe


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
