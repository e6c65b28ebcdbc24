"""Models whose trained part is a network on arrays: on acoustic features, or on the layers of a frozen encoder."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch

from ser_lib.audio import features
from ser_lib.audio.reading import Recording
from ser_lib.common import distributed
from ser_lib.common.errors import SerError
from ser_lib.models import embeddings, encoder_weights, network_training, networks
from ser_lib.models.base import Inputs, Model, OnnxGraph, registered
from ser_lib.models.heads import Head
from ser_lib.models.profiles import Profile


class NetworkModel(Model):
    """A network on arrays: what acoustic features and frozen encoders have in common."""

    network: networks.Network

    @property
    def head(self) -> type[Head]:
        """The class of the network's head."""
        return registered(self.settings.name)

    @property
    def reads_layers(self) -> bool:
        """Whether the head reads several layers of an encoder, each as a vector."""
        return "layers" in self.head.forms

    def check(self) -> None:
        name, is_sequence = self.settings.name, self.input.pooling == "sequence"
        if is_sequence and "sequence" not in self.head.forms:
            raise SerError(f"model.name={name} needs input.pooling=mean or mean+std")
        if not is_sequence and self.head.forms == ("sequence",):
            raise SerError(f"model.name={name} needs input.pooling=sequence")
        if self.reads_layers and (not self.reads_encoder or self.input.layers == "last"):
            raise SerError(f"model.name={name} needs an encoder and input.layers=all, or several of them")

    def used_settings(self) -> dict[str, set[str]]:
        read = {"encoder", "audio", "pooling", "standardise"}
        return {"input": read, "model": {"name", *self.head.sizes}, "training": set(self.head.training_fields)}

    def overview(self, clips: pd.DataFrame, progress: bool = True) -> np.ndarray:
        inputs = self.inputs(clips, progress)
        return inputs if inputs.ndim == 2 else np.nanmean(inputs, axis=1)

    def standardised_by_speaker(self, inputs: Inputs, speakers: pd.Series) -> np.ndarray:
        # Layers are not frames: each is standardised by itself.
        flat = inputs.reshape(len(inputs), -1) if self.reads_layers else inputs
        return features.standardise_by_speaker(flat, speakers).reshape(inputs.shape)

    @property
    def takes_profile(self) -> bool:  # type: ignore[override]  # the head knows
        return self.head.takes_profile

    def fit(self, inputs, labels, train, validation, *, clips, emotions, seed, folder, progress=True, description=""):
        sizes = self.settings.model_dump(include={"hidden", "dense", "dropout"})
        if self.head.reads_corpora:
            # Speakers and corpora of all rows, and as many experts as there are corpora to learn from.
            sizes["n_corpora"] = clips["corpus"].iloc[train].nunique()
        options = {"standardise": self.input.standardise, "progress": progress, "description": description}
        with network_training.seeded(seed):
            self.network = networks.build(self.settings.name, emotions, inputs.shape[1:], **sizes)
            if self.head.reads_corpora:
                options["clips"] = clips
            return self.head.fit(self.network, inputs, labels, train, validation, self.training, **options)

    def probabilities(self, inputs: Inputs, profile: Profile | None = None) -> np.ndarray:
        return network_training.probabilities(self.network, inputs, profile)

    def is_like_speech(self, inputs: Inputs) -> np.ndarray:
        return self.network.is_like_speech(inputs)

    @property
    def emotions(self) -> list[str]:  # type: ignore[override]  # the network knows them
        return self.network.config["emotions"]

    def saved_emotions(self, folder: Path) -> list[str]:
        return networks.read_config(folder)[0]["emotions"]

    @property
    def module(self) -> torch.nn.Module:
        return self.network

    def save(self, folder: Path, complete: bool = True) -> None:
        networks.save(self.network.cpu(), folder)

    def load(self, folder: Path, complete_folder: Path | None = None) -> Self:
        self.network = networks.load(folder)
        return self

    def _onnx_graph(self, module: torch.nn.Module) -> OnnxGraph:
        n_profile = self.network.config["n_features"] if self.takes_profile else None
        return OnnxGraph(module, 0.1 * torch.randn(2, 16001), n_profile)


class AcousticNetwork(NetworkModel):
    """A network on acoustic features."""

    reads_encoder = False

    @property
    def features_label(self) -> str:
        """The kind, its numbers of features and its switches: `mfcc-40+deltas`."""
        settings = self.input.feature_settings()
        counts = [f"-{value}" for name, value in settings.items() if name.startswith("n_")]
        switches = [f"+{name}" for name, value in settings.items() if value is True]
        return "".join([self.input.encoder, *counts, *switches])

    @property
    def input_label(self) -> str:
        return self.input.pooling

    def used_settings(self) -> dict[str, set[str]]:
        used = super().used_settings()
        return used | {"input": used["input"] | set(features.settings_of(self.input.encoder))}

    def inputs(self, clips: pd.DataFrame, progress: bool = True) -> np.ndarray:
        audio, settings = self.input.audio.model_dump(), self.input.feature_settings()
        with distributed.first_alone():
            return features.extract(clips, audio, settings, progress)

    def inputs_of(self, recordings: Sequence[str | Path | Recording]) -> np.ndarray:
        audio, settings = self.input.audio.model_dump(), self.input.feature_settings()
        arrays = [features.clip_features(recording, audio, settings) for recording in recordings]
        return features.stack_sequences(arrays) if self.input.pooling == "sequence" else np.stack(arrays)

    def onnx_graph(self) -> OnnxGraph:
        from ser_lib.models.onnx_features import GRAPHS
        from ser_lib.models.onnx_graphs import FeaturesGraph

        settings = self.input.feature_settings()
        kind, pooling = settings.pop("kind"), settings.pop("pooling")
        if kind not in GRAPHS:
            raise SerError(
                f"an export takes a waveform, and the features {kind} cannot be part of it yet: write them in PyTorch, and "
                "add a line to GRAPHS in ser_lib/models/onnx_features.py."
            )
        front = GRAPHS[kind](self.input.audio.sampling_rate, **settings)
        return self._onnx_graph(FeaturesGraph(self.network, front, pooling))


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
        parts = self._encoder.model, extractor, self.network
        graph = FrozenEncoderGraph(*parts, config.layers, config.pooling, self.input.audio.max_seconds)
        return self._onnx_graph(graph)
