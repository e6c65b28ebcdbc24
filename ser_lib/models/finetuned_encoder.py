"""Fine-tuned models: a pretrained encoder with a classification head, of which training changes all or some weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import nn

from ser_lib.audio.features import ACOUSTIC_FEATURES
from ser_lib.audio.reading import Recording, prepare_all
from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError
from ser_lib.models import audio_classifier, embeddings, encoder_weights
from ser_lib.models.base import Inputs, Model, OnnxGraph, register
from ser_lib.models.profiles import Profile


@register("finetune")
class FinetunedEncoder(Model):
    """A pretrained encoder with a new classification head; all of it, parts of it, or LoRA's additions are trained."""

    trains_encoder = True
    is_stock_checkpoint = True
    model: nn.Module
    feature_extractor: Any

    def check(self) -> None:
        if self.input.encoder in ACOUSTIC_FEATURES:
            raise SerError("model.name=finetune needs an encoder: set input.encoder")
        if self.training.scheduler == "plateau":
            raise SerError("fine-tuning has the schedules linear, cosine and none, not plateau")

    @property
    def features_label(self) -> str:
        return encoder_weights.label(self.input.encoder)

    @property
    def input_label(self) -> str:
        return "waveform"

    @property
    def label(self) -> str:
        return f"finetune ({self.settings.trainable})"

    def used_settings(self) -> dict[str, set[str]]:
        sizes = {"name", "trainable"} | ({"lora_rank"} if self.settings.trainable == "lora" else set())
        fitted_with = set(type(self.training).model_fields) - {"inverse_regularisation"}
        return {"input": {"encoder", "revision", "audio"}, "model": sizes, "training": fitted_with}

    def inputs(self, clips: pd.DataFrame, progress: bool = True) -> list[np.ndarray]:
        return prepare_all(clips["path"], self.input.audio.model_dump(), progress)

    def inputs_of(self, recordings: Sequence[str | Path | Recording]) -> list[np.ndarray]:
        return prepare_all(recordings, self.input.audio.model_dump(), progress=False)

    def overview(self, clips: pd.DataFrame, progress: bool = True) -> np.ndarray:
        """The last layer of the encoder as it was before fine-tuning, averaged over each clip."""
        last = self.input.model_copy(update={"layers": "last", "pooling": "mean"})
        return embeddings.embed(clips, last, self.training.device, progress).reshape(len(clips), -1)

    def standardised_by_speaker(self, inputs: Inputs, speakers: pd.Series) -> Inputs:
        text = "speaker-adapted standardises features, and a fine-tuned model reads waveforms"
        raise SerError(f"{text}: use another protocol, or a frozen encoder.")

    def fit(self, inputs, labels, train, validation, *, clips, emotions, seed, folder, progress=True, description=""):
        from ser_lib.models.finetuning import Finetuning

        job = Finetuning(self, inputs, labels, train, validation, emotions, seed, folder, progress, description)
        self.model, self.feature_extractor, history = job.run()
        self.model.to(pick_device(self.training.device))
        return history

    def probabilities(self, inputs: Inputs, profile: Profile | None = None) -> np.ndarray:
        return audio_classifier.probabilities(self.model, self.feature_extractor, inputs)

    def probabilities_shared(self, inputs: Inputs) -> np.ndarray:
        audio_classifier.warn_of_cuts(self.feature_extractor, inputs)
        return audio_classifier.shared_probabilities(self.model, self.feature_extractor, inputs)

    @property
    def emotions(self) -> list[str]:  # type: ignore[override]  # the model's configuration holds them
        return [name for _, name in sorted(self.model.config.id2label.items())]

    def saved_emotions(self, folder: Path) -> list[str]:
        return audio_classifier.read_labels(folder)

    @property
    def module(self) -> nn.Module:
        return self.model

    @property
    def trained_parameters(self) -> int:
        # Shapes without memory.
        with torch.device("meta"):
            blank = audio_classifier.choose_trainable(type(self.model)(self.model.config), self.settings)
        return sum(weight.numel() for weight in blank.parameters() if weight.requires_grad)

    def save(self, folder: Path, complete: bool = True) -> None:
        encoder_weights.save_model(self.model.cpu(), self.feature_extractor, folder)

    def load(self, folder: Path, complete_folder: Path | None = None) -> Self:
        self.model, self.feature_extractor = audio_classifier.load(folder)
        return self

    def onnx_graph(self) -> OnnxGraph:
        from ser_lib.models.onnx_graphs import FinetunedGraph

        graph = FinetunedGraph(self.model, self.feature_extractor)
        return OnnxGraph(graph, 0.1 * torch.randn(2, 16001))
