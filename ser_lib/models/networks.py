"""Networks that learn from features: standardised input, a head, dense layers, logits.

The input, float32 or float16, has one of three forms:

- "vector", (n_clips, n_features): a clip's pooled features, or its embedding.
- "layers", (n_clips, n_layers, n_features): an embedding from each layer of an encoder.
- "sequence", (n_clips, n_frames, n_features): one vector a frame, padded with NaN. Padding never changes a result.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from ser_lib.common.errors import SerError
from ser_lib.common.files import damaged, read_json
from ser_lib.models import corpus_experts  # noqa: F401  # enters its class into MODELS
from ser_lib.models.base import registered
from ser_lib.models.heads import Head, WeightedLayers

# The `model_type` of an encoder and its network in one checkpoint: see `ser_lib.models.hf_checkpoint`.
FROZEN_ENCODER = "ser-frozen-encoder"


class Standardise(nn.Module):
    """Subtract a mean and divide by a standard deviation, both learned by `fit` and saved with the weights.

    Args:
        shape: (n_features,), or (n_layers, n_features) where each layer has a mean and deviation of its own.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, *shape: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))

    def fit(self, features: torch.Tensor) -> None:
        """Take mean and deviation of each feature over all clips and frames; NaN padding is left out."""
        values = features.reshape(-1, self.mean.numel())
        is_frame = ~values[:, 0].isnan()
        means, deviations = self.mean.view(-1), self.deviation.view(-1)
        # Sums of many frames lose digits in float32; a part of the columns at a time bounds the memory.
        for columns in torch.arange(len(means), device=values.device).split(128):
            part = values[:, columns][is_frame].double()
            deviation = part.std(dim=0, correction=0)
            means[columns] = part.mean(dim=0).float()
            # A constant feature carries no information; dividing by its deviation would give NaN.
            deviations[columns] = torch.where(deviation > 1e-8, deviation, 1.0).float()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self.mean) / self.deviation


class Network(nn.Module):
    """Standardised features, a head, then dense layers with ReLU and dropout, and the logits.

    Args:
        emotions: the labels, in the order of the logits.
        n_features: of a frame, a layer, or a clip.
        form: one that the head reads; `n_layers` is for the form "layers" alone.
        name, hidden, dense, dropout: of the recipe's `model`; a head takes those sizes that it names in `sizes`.
        n_corpora: in the training data, for a head that reads them.

    Raises:
        SerError: no head has that name.
    """

    def __init__(
        self,
        name: str,
        emotions: list[str],
        n_features: int,
        form: str,
        n_layers: int = 1,
        hidden: int = 128,
        dense: Sequence[int] = (64, 32),
        dropout: float = 0.2,
        n_corpora: int = 1,
    ):
        super().__init__()
        head = registered(name)
        dense = dense if "dense" in head.sizes else ()
        self.config: dict[str, Any] = {"name": name, "emotions": list(emotions), "n_features": n_features, "form": form}
        self.config |= {"n_layers": n_layers, "hidden": hidden, "dense": list(dense), "dropout": dropout}
        self.standardise = Standardise(*((n_layers, n_features) if form == "layers" else (n_features,)))
        # A head that reads sequences reads a vector as a sequence of single values.
        as_steps = form == "vector" and "sequence" in head.forms
        if head.reads_corpora:
            self.config["n_corpora"] = n_corpora
            self.body: Head = head(n_features, n_layers, hidden, n_corpora)
        else:
            self.body = head(1 if as_steps else n_features, n_layers, hidden)
        layers: list[nn.Module] = []
        width = self.body.n_outputs
        for size in dense:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
            width = size
        self.head = nn.Sequential(*layers, nn.Linear(width, len(emotions)))

    def forward(
        self, features: torch.Tensor, mean: torch.Tensor | None = None, count: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits of shape (n_clips, n_emotions) from features of the network's form.

        Args:
            mean, count: of the speakers' profiles, (n_clips, n_features) and (n_clips, 1), for a head that takes them.
        """
        standardised = self.standardise(features)
        if mean is None:
            return self.head(self.body(standardised))
        return self.head(self.body(standardised, self.standardise(mean), count))

    def is_like_speech(self, features: np.ndarray) -> np.ndarray:
        """Whether each clip is as near to the training clips as speech is; always, of a head that does not judge it."""
        if not self.body.takes_profile:
            return np.ones(len(features), dtype=bool)
        with torch.inference_mode():
            standardised = self.standardise(torch.from_numpy(features).to(self.standardise.mean.device))
            return self.body.is_like_speech(standardised).cpu().numpy()

    def layer_weights(self) -> np.ndarray | None:
        """Weight of each of the encoder's layers, summing to 1; None where the head weighs no layers."""
        return self.body.weights().detach().cpu().numpy() if isinstance(self.body, WeightedLayers) else None


def build(name: str, emotions: list[str], input_shape: tuple[int, ...], **sizes) -> Network:
    """A network with random weights for clips of a shape: (n_features,), (n_layers, n_features), (n_frames, n_features)."""
    *steps, n_features = input_shape
    if steps and "layers" in getattr(registered(name), "forms", ()):
        return Network(name, emotions, n_features, "layers", n_layers=steps[0], **sizes)
    return Network(name, emotions, n_features, "sequence" if steps else "vector", **sizes)


def save(network: Network, folder: Path) -> None:
    """Write `config.json` and `model.safetensors` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(network.config, indent=2) + "\n")
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    # Written by Python, so that a full disk is the same OSError here as everywhere.
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(weights))


def load(folder: Path) -> Network:
    """Read what `save` wrote, in evaluation mode, on the CPU; of a folder with a frozen encoder, the network alone.

    Raises:
        SerError: a file is missing, or the weights do not fit the configuration.
    """
    config, prefix = read_config(folder)
    try:
        network = Network(**config)
        with safetensors.safe_open(folder / "model.safetensors", "pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            network.load_state_dict({name.removeprefix(prefix): file.get_tensor(name) for name in names})
    except MemoryError:
        raise
    # A configuration that was edited or damaged raises whatever the head's own code raises.
    except Exception as error:
        raise SerError(f"the network in {folder} does not fit this version of ser_lib: {error}") from error
    return network.eval()


def read_config(folder: Path) -> tuple[dict[str, Any], str]:
    """The arguments of a folder's network, and the prefix of its weights' names; SerError where it holds no network."""
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise SerError(f"{folder} holds no saved network: {name} is missing. Train the run again.")
    path, prefix = folder / "config.json", ""
    config = read_json(path, "Train the run again.")
    if isinstance(config, dict) and config.get("model_type") == FROZEN_ENCODER:
        config, prefix = config.get("network_config"), "network."
    if not isinstance(config, dict) or not _are_names(config.get("emotions")):
        raise damaged(path, "it names no emotions", "Train the run again.")
    return config, prefix


def _are_names(value: Any) -> bool:
    """Whether a value is a list of different texts."""
    is_list = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return is_list and len(set(value)) == len(value) > 0
