"""The interface of every model, and the table that maps `model.name` of a recipe to its class.

There are three kinds: a network on acoustic features, a network on the layers of a frozen encoder (both in
`network_models`), and a fine-tuned encoder (`finetuned_encoder`). `MODELS` holds whole models (`Model`), and heads (`heads.Head`), which are
the variable part of a network.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import nn

from ser_lib.audio.reading import Recording
from ser_lib.common.errors import SerError, did_you_mean
from ser_lib.models.profiles import Profile, profile_of
from ser_lib.models.settings import Input, ModelSettings, Training

# An array, or a list of waveforms.
Inputs = Any
MODELS: dict[str, type[Any]] = {}


def register(name: str) -> Callable[[type], type]:
    """Enter a class into `MODELS` as `name`: `@register("mlp")`."""

    def enter(entry: type) -> type:
        MODELS[name] = entry
        return entry

    return enter


def registered(name: str) -> type[Any]:
    """The class of that name; SerError with the nearest name where there is none."""
    if name not in MODELS:
        nearest = did_you_mean(name, MODELS)
        raise SerError(f"unknown model {name!r}: {nearest}model.name is one of {', '.join(MODELS)}.")
    return MODELS[name]


def take(inputs: Inputs, rows: np.ndarray) -> Inputs:
    """Some rows of a model's inputs, which are an array or a list."""
    return [inputs[row] for row in rows] if isinstance(inputs, list) else inputs[rows]


@dataclass
class OnnxGraph:
    """A model as one module from waveforms to probabilities, for export to ONNX."""

    module: nn.Module
    # Waveforms, (n_clips, n_samples).
    example: torch.Tensor
    # The numbers in the mean of a speaker's profile, where the model takes one: the inputs `mean` and `count` follow, and
    # the outputs are probabilities, features (of which profiles are the mean) and is_speech.
    n_profile: int | None = None


class Model(ABC):
    """What one recipe trains: what it reads, how it learns, what it answers and how it is stored.

    A new object has settings (the recipe's sections `input`, `model` and `training`) but no weights; `fit` or `load`
    gives it weights. `inputs` needs none.
    """

    # Whether `input.encoder` names a pretrained encoder.
    reads_encoder: ClassVar[bool] = True
    # Whether the encoder's weights are trained, which takes hours instead of seconds.
    trains_encoder: ClassVar[bool] = False
    # Whether transformers loads what `save` writes without `import ser_lib`.
    is_stock_checkpoint: ClassVar[bool] = False
    # Whether the profile of a speaker changes the answers.
    takes_profile: bool = False
    emotions: list[str]

    def __init__(self, input: Input, settings: ModelSettings, training: Training):
        self.input, self.settings, self.training = input, settings, training
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raise SerError where the settings do not fit together."""

    @property
    @abstractmethod
    def features_label(self) -> str:
        """What the model reads, in a word: `mfcc-40+chroma`, `facebook/wav2vec2-base`."""

    @property
    @abstractmethod
    def input_label(self) -> str:
        """In what form the model reads it: `mean`, `mean+std of layers 1 2 3`, `waveform`."""

    @property
    def label(self) -> str:
        """Which model, in a word: `cnn`, `finetune (lora)`."""
        return self.settings.name

    @abstractmethod
    def used_settings(self) -> dict[str, set[str]]:
        """The fields of the sections `input`, `model` and `training` that make a difference to this model."""

    @abstractmethod
    def inputs(self, clips: pd.DataFrame, progress: bool = True) -> Inputs:
        """The model's inputs for a clip table, from the cache where they are there already, aligned to the rows."""

    @abstractmethod
    def inputs_of(self, recordings: Sequence[str | Path | Recording]) -> Inputs:
        """The model's inputs for files or recordings, in their order; nothing is cached."""

    @abstractmethod
    def overview(self, clips: pd.DataFrame, progress: bool = True) -> np.ndarray:
        """One row of features a clip, (n_clips, n_features), for a map of the clips."""

    @abstractmethod
    def standardised_by_speaker(self, inputs: Inputs, speakers: pd.Series) -> Inputs:
        """Inputs with zero mean and unit deviation within each speaker; SerError where the model reads waveforms."""

    @abstractmethod
    def fit(
        self,
        inputs: Inputs,
        labels: np.ndarray,
        train: np.ndarray,
        validation: np.ndarray,
        *,
        clips: pd.DataFrame,
        emotions: list[str],
        seed: int,
        folder: Path,
        progress: bool = True,
        description: str = "",
    ) -> pd.DataFrame:
        """Learn, and return the history of `ser_lib.models.network_training.fit`; the best epoch's weights are kept.

        Args:
            labels: int, position of each clip's emotion among `emotions`.
            train, validation: row numbers; `validation` may be empty.
            clips: the clip table, aligned to the inputs: `speaker` and `corpus`, for models that use them.
            folder: for checkpoints, from which an interrupted training is resumed; the caller deletes it.
        """

    @abstractmethod
    def probabilities(self, inputs: Inputs, profile: Profile | None = None) -> np.ndarray:
        """Probabilities of the emotions, float64 of shape (n_clips, n_emotions), in the order of `emotions`.

        Args:
            profile: of the speaker of all these clips, as `profile` made it; only of a model with `takes_profile`.
        """

    def profile(self, inputs: Inputs) -> Profile:
        """What the model keeps of a speaker from unlabelled clips; SerError where it cannot use it."""
        self.check_takes_profile()
        return profile_of(inputs, self.probabilities(inputs).argmax(axis=1))

    def check_takes_profile(self) -> None:
        """Raise SerError where clips of a speaker would not change the answers; a model without weights knows it."""
        if not self.takes_profile:
            raise SerError(f"a model {self.label} cannot use clips of a speaker: take a recipe such as speech-emotion.")

    def is_like_speech(self, inputs: Inputs) -> np.ndarray:
        """Whether each clip is near enough to the training clips to be speech: bool of shape (n_clips,).

        A model that does not judge this returns True for all clips.
        """
        return np.ones(len(inputs), dtype=bool)

    def probabilities_shared(self, inputs: Inputs) -> np.ndarray:
        """`probabilities`, computed by all processes that train together; every process gets all of them."""
        return self.probabilities(inputs)

    def layer_weights(self) -> pd.Series | None:
        """The weight of each encoder layer, by its number, summing to 1; None where the model weighs no layers."""
        return None

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """The trained part as a PyTorch module."""

    @property
    def trained_parameters(self) -> int:
        """Numbers that training changes."""
        return sum(weight.numel() for weight in self.module.parameters())

    @property
    def parameters(self) -> int:
        """Numbers in the whole model, a frozen encoder included."""
        return sum(weight.numel() for weight in self.module.parameters())

    @abstractmethod
    def save(self, folder: Path, complete: bool = True) -> None:
        """Write the model into a folder: `complete` with the frozen encoder, as transformers loads it, or without."""

    @abstractmethod
    def load(self, folder: Path, complete_folder: Path | None = None) -> Self:
        """Read what `save` wrote, on the CPU, in evaluation mode; SerError where a file is missing or damaged.

        Args:
            complete_folder: holds the frozen encoder, where `folder` holds the trained part alone.
        """

    @abstractmethod
    def saved_emotions(self, folder: Path) -> list[str]:
        """The `emotions` of the model that `save` wrote into a folder, without its weights; SerError as `load`."""

    def to(self, device: torch.device) -> Self:
        """Move the weights to a device."""
        self.module.to(device)
        return self

    @abstractmethod
    def onnx_graph(self) -> OnnxGraph:
        """The model as one graph; the model is of no other use afterwards."""
