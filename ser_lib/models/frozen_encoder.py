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
from ser_lib.models import embeddings, encoder_weights, networks
from ser_lib.models.acoustic_network import NetworkModel
from ser_lib.models.base import OnnxGraph


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
        of = names[layers] if isinstance(layers, str) else f"layers {' '.join(map(str, layers))}"
        return f"{self.input.pooling} of {of}"

    def used_settings(self) -> dict[str, set[str]]:
        used = super().used_settings()
        return used | {"input": used["input"] | {"revision", "layers", "precision"}}

    def inputs(self, clips: pd.DataFrame, progress: bool = True) -> np.ndarray:
        return self._in_form(embeddings.embed(clips, self.input, self.training.device, progress))

    def inputs_of(self, recordings: Sequence[str | Path | Recording]) -> np.ndarray:
        return self._in_form(embeddings.embed_with(self._encoder, recordings, self.input))

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

        save_frozen(self._encoder, self.network.cpu(), self.input.layers, self.input.pooling, folder)

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
        extractor = self._encoder.feature_extractor
        graph = FrozenEncoderGraph(self._encoder.model, extractor, self.network, config.layers, config.pooling)
        return OnnxGraph(graph, "waveform", 0.1 * torch.randn(2, 16001))
