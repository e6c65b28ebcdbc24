"""A trained model in memory: it hears any audio as training heard its clips, and answers with probabilities."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ser_lib.audio.reading import Recording, prepare_all
from ser_lib.models import network_training
from ser_lib.models import networks as models
from ser_lib.recipes import Recipe
from ser_lib.recipes.inputs import inputs_of_recordings

LONG_SECONDS = 30.0  # longer than any clip that models learn from: such a recording is to be heard in windows


class Predictor:
    """One fold's model of a run, or the mean of several folds'.

    Args:
        recipe: how audio is prepared, and what the model reads of it.
        emotions: in the order of the model's outputs.
        folders: of the folds' models.
        first: the first fold's folder, which alone holds the encoder of a frozen one.
        device: as of `ser_lib.common.devices.pick_device`.
    """

    def __init__(self, recipe: Recipe, emotions: list[str], folders: list[Path], first: Path, device: str = "auto"):
        self.recipe, self.emotions, self.first = recipe, emotions, first
        self.device = network_training.pick_device(device)
        if recipe.model.name == "finetune":
            from ser_lib.models import finetuned_encoder

            self._models = [finetuned_encoder.load(folder) for folder in folders]
            for model, _ in self._models:
                model.to(self.device)
        else:
            self._models = [models.load(folder).to(self.device) for folder in folders]

    @property
    def sampling_rate(self) -> int:
        """In Hz: to this all audio is resampled."""
        return self.recipe.input.audio.sampling_rate

    def probabilities(self, recordings: Sequence[str | Path | Recording]) -> np.ndarray:
        """Probabilities of the emotions, float64 of shape (n_recordings, n_emotions); nothing is kept.

        Each is taken for one clip, whatever its length: see `ser_lib.inference.predict` for long ones.

        Raises:
            SerError: one of them cannot be read, as `ser_lib.audio.reading.decode`.
        """
        if self.recipe.model.name == "finetune":
            inputs = prepare_all(recordings, self.recipe.input.audio.model_dump(), progress=False)
        else:
            inputs = inputs_of_recordings(self.recipe, recordings, self._encoder)
        return self.of_inputs(inputs)

    def of_inputs(self, inputs: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """The same from what the model reads, as `ser_lib.recipes.inputs.inputs_of` gives it."""
        if self.recipe.model.name == "finetune":
            from ser_lib.models import finetuned_encoder

            answers = [finetuned_encoder.probabilities(*model, inputs) for model in self._models]
        else:
            answers = [network_training.probabilities(network, inputs) for network in self._models]
        return np.mean(answers, axis=0)

    @cached_property
    def _encoder(self):
        """What a frozen run reads its clips with; None where it reads MFCC."""
        if self.recipe.input.encoder == "mfcc":
            return None
        from ser_lib.models.frozen_encoder import load_frozen_encoder

        return load_frozen_encoder(self.first, self.device)
