"""The second kind of model: a frozen pretrained encoder, and a network on its hidden states."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch

from ser_lib.audio import features
from ser_lib.audio.reading import Recording
from ser_lib.common.errors import SerError
from ser_lib.models import encoder_weights, networks
from ser_lib.models.acoustic_network import NetworkModel
from ser_lib.models.base import OnnxGraph
from ser_lib.models.settings import Input


class FrozenEncoder(NetworkModel):
    """A network on the layers of an encoder whose weights stay as they are."""

    _folder: Path | None = None
    _device = torch.device("cpu")

    def check(self) -> None:
        super().check()
        layers = self.input.layers
        if self.input.pooling == "sequence" and layers != "last" and len(layers) != 1:
            raise SerError("input.pooling=sequence keeps the frames of one layer: name one in input.layers")

    @property
    def features_label(self) -> str:
        return encoder_weights.label(self.input.encoder)

    @property
    def input_label(self) -> str:
        layers = self.input.layers
        names = {"all": "all layers", "last": "the last layer"}
        return f"{self.input.pooling} of " + (
            names[layers] if isinstance(layers, str) else f"layers {' '.join(map(str, layers))}"
        )

    def used_settings(self) -> dict[str, set[str]]:
        used = super().used_settings()
        return used | {"input": used["input"] | {"revision", "layers", "precision"}}

    def inputs(self, clips: pd.DataFrame, progress: bool = True) -> np.ndarray:
        return self._in_form(embed_clips(self.input, clips, self.training.device, progress))

    def inputs_of(self, recordings: Sequence[str | Path | Recording]) -> np.ndarray:
        from ser_lib.models import embeddings

        arrays = embeddings.embed_with(
            self._encoder,
            recordings,
            layers=self.input.layers,
            pooling=encoder_pooling(self.input),
            audio=self.input.audio.model_dump(),
            precision=self.input.precision,
        )
        return self._in_form(arrays)

    def _in_form(self, arrays: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """An encoder's layers in the form that the head reads."""
        if isinstance(arrays, list):
            return features.stack_sequences(arrays)
        # For most heads the layers' values stand side by side.
        return arrays if self.reads_layers else arrays.reshape(len(arrays), -1)

    def layer_weights(self) -> pd.Series | None:
        weights = self.network.layer_weights()
        if weights is None:
            return None
        layers = self.input.layers
        return pd.Series(weights.tolist(), index=range(len(weights)) if isinstance(layers, str) else list(layers))

    @cached_property
    def _encoder(self):
        """The encoder: from the run's own folder where there is one, else as the recipe names it."""
        from ser_lib.models import embeddings

        if self._folder is None:
            return embeddings.load_encoder(self.input.encoder, self.input.revision, self._device)
        from ser_lib.models.hf_checkpoint import load_frozen_encoder

        return load_frozen_encoder(self._folder, self._device)

    @property
    def parameters(self) -> int:
        return self.trained_parameters + self._encoder.n_parameters

    def save(self, folder: Path, complete: bool = True) -> None:
        if not complete:
            return networks.save(self.network.cpu(), folder)
        from ser_lib.models.hf_checkpoint import save_frozen

        save_frozen(self._encoder, self.network.cpu(), self.input.layers, encoder_pooling(self.input), folder)

    def load(self, folder: Path, complete_folder: Path | None = None) -> Self:
        self._folder = complete_folder or folder
        return super().load(folder)

    def to(self, device: torch.device) -> Self:
        self._device = device
        return super().to(device)

    def onnx_graph(self) -> OnnxGraph:
        from ser_lib.models.hf_checkpoint import SpeechEmotionConfig
        from ser_lib.models.onnx_graphs import FrozenEncoderGraph

        config = SpeechEmotionConfig.from_pretrained(self._folder, local_files_only=True)
        encoder = self._encoder
        graph = FrozenEncoderGraph(
            encoder.model, encoder.feature_extractor, self.network, config.layers, config.pooling
        )
        return OnnxGraph(graph, "waveform", 0.1 * torch.randn(2, 16001))


def encoder_pooling(settings: Input) -> str:
    """The `pooling` of `ser_lib.models.embeddings.embed`: it calls a sequence "frames"."""
    return "frames" if settings.pooling == "sequence" else settings.pooling


def embed_clips(settings: Input, clips: pd.DataFrame, device: str, progress: bool) -> np.ndarray | list[np.ndarray]:
    """A clip table's embeddings as the recipe's `input` states them, see `ser_lib.models.embeddings.embed`."""
    from ser_lib.models import embeddings

    return embeddings.embed(
        clips,
        settings.encoder,
        settings.revision,
        layers=settings.layers,
        pooling=encoder_pooling(settings),
        audio=settings.audio.model_dump(),
        precision=settings.precision,
        device=device,
        progress=progress,
    )
