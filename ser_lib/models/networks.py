"""Four small networks on MFCC: a 1D CNN, an LSTM, a bidirectional LSTM and a GRU.

All four read the same input, in one of two forms, and give one logit an emotion:

- (n_clips, n_features), a clip's mean features, read as a sequence of n_features steps with one value each:
  the "(40, 1) input" of many student projects, where the recurrence runs over coefficients, not over time.
- (n_clips, n_frames, n_features), the true time sequence, padded with NaN. Padding never changes a result.
"""

import json
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from ser_lib.errors import SerError


class Standardise(nn.Module):
    """Subtract a mean and divide by a deviation, both learned from training clips by `fit`.

    They are buffers, so they travel with the weights: a saved network needs nothing else to read raw features.
    """

    def __init__(self, n_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("deviation", torch.ones(n_features))

    def fit(self, features: torch.Tensor) -> None:
        """Take mean and deviation of each feature over all clips and frames, NaN padding aside."""
        values = features.reshape(-1, features.shape[-1])
        values = values[~values[:, 0].isnan()].double()  # sums of many frames lose digits in float32
        deviation = values.std(dim=0, correction=0)
        self.mean.copy_(values.mean(dim=0))
        # A feature that never varies says nothing; dividing by its deviation would give NaN.
        self.deviation.copy_(torch.where(deviation > 1e-8, deviation, 1.0))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self.mean) / self.deviation


class Convolutions(nn.Module):
    """Two blocks of convolution over the sequence, ReLU and max pooling, then the mean over what is left."""

    def __init__(self, n_inputs: int, hidden: int):
        super().__init__()
        self.first = nn.Conv1d(n_inputs, hidden // 2, kernel_size=5, padding=2)
        self.second = nn.Conv1d(hidden // 2, hidden, kernel_size=5, padding=2)
        self.n_outputs = hidden

    def forward(self, sequence: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        sequence = sequence.transpose(1, 2)
        for convolution in (self.first, self.second):
            # Zeroing what lies behind a clip's end makes padding look like the convolution's own zero border;
            # with ceil_mode the pooled maximum of a ReLU output and such a zero is the output itself.
            sequence = torch.relu(convolution(sequence)) * inside(sequence.shape[2], lengths)[:, None, :]
            sequence = nn.functional.max_pool1d(sequence, 2, ceil_mode=True)
            lengths = (lengths + 1) // 2
        return sequence.sum(dim=2) / lengths[:, None]


class Recurrence(nn.Module):
    """An LSTM or GRU over the sequence; its last state, or the last states of both directions side by side.

    The second direction is a network of its own that reads each clip from its last frame to its first. So
    neither direction ever meets padding before its last state, and no sequence needs packing, which makes an
    epoch on the CPU five to ten times slower.
    """

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], n_inputs: int, hidden: int, bidirectional: bool):
        super().__init__()
        # Half the width in each direction: the layers behind see as many values as in the other networks.
        width = hidden // 2 if bidirectional else hidden
        self.forwards = kind(n_inputs, width, batch_first=True)
        self.backwards = kind(n_inputs, width, batch_first=True) if bidirectional else None
        self.n_outputs = width * (2 if bidirectional else 1)

    def forward(self, sequence: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        clips, last = torch.arange(len(sequence), device=sequence.device), lengths - 1
        states = [self.forwards(sequence)[0][clips, last]]
        if self.backwards is not None:
            frames = torch.arange(sequence.shape[1], device=sequence.device)
            mirrored = (last[:, None] - frames[None, :]).clamp(min=0)
            states.append(self.backwards(sequence[clips[:, None], mirrored])[0][clips, last])
        return torch.cat(states, dim=1)


NETWORKS = {
    "cnn": Convolutions,
    "lstm": lambda n_inputs, hidden: Recurrence(nn.LSTM, n_inputs, hidden, bidirectional=False),
    "bilstm": lambda n_inputs, hidden: Recurrence(nn.LSTM, n_inputs, hidden, bidirectional=True),
    "gru": lambda n_inputs, hidden: Recurrence(nn.GRU, n_inputs, hidden, bidirectional=False),
}


class Network(nn.Module):
    """Standardised features, one of `NETWORKS`, then dense layers with ReLU and dropout, and the logits.

    Args:
        name: key of `NETWORKS`.
        emotions: the labels, in the order of the logits.
        n_features: features a frame, or of a clip's mean.
        sequence: True for (n_clips, n_frames, n_features), False for (n_clips, n_features).
        hidden: width of the first part.
        dense: widths of the dense layers behind it.
        dropout: probability after each dense layer, 0 to 1.
    """

    def __init__(
        self,
        name: str,
        emotions: list[str],
        n_features: int,
        sequence: bool,
        hidden: int = 128,
        dense: tuple[int, ...] = (64, 32),
        dropout: float = 0.2,
    ):
        super().__init__()
        if name not in NETWORKS:
            raise SerError(f"unknown network {name!r}: model.name is one of {', '.join(NETWORKS)}.")
        self.config = {
            "name": name,
            "emotions": list(emotions),
            "n_features": n_features,
            "sequence": sequence,
            "hidden": hidden,
            "dense": list(dense),
            "dropout": dropout,
        }
        self.sequence = sequence
        self.standardise = Standardise(n_features)
        self.body = NETWORKS[name](n_features if sequence else 1, hidden)
        layers, width = [], self.body.n_outputs
        for size in dense:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
            width = size
        self.head = nn.Sequential(*layers, nn.Linear(width, len(emotions)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of shape (n_clips, n_emotions) from features in one of the two forms above."""
        features = self.standardise(features)
        if not self.sequence:
            features = features[:, :, None]
        lengths = (~features[:, :, 0].isnan()).sum(dim=1)
        return self.head(self.body(features.nan_to_num(), lengths))


def inside(n_frames: int, lengths: torch.Tensor) -> torch.Tensor:
    """Boolean mask of shape (n_clips, n_frames): True up to each clip's own length."""
    return torch.arange(n_frames, device=lengths.device)[None, :] < lengths[:, None]


def build(name: str, **settings) -> Network:
    """A network with random weights; arguments as in `Network`.

    Raises:
        SerError: no network has that name.
    """
    return Network(name, **settings)


def save(network: Network, folder: Path) -> None:
    """Write `config.json` and `model.safetensors` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(network.config, indent=2) + "\n")
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    # Written by Python, so that a full disk is the same OSError here as everywhere.
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(weights))


def load(folder: Path) -> Network:
    """Read what `save` wrote, in evaluation mode, on the CPU.

    Raises:
        SerError: a file is missing, or the weights do not fit the configuration.
    """
    folder = Path(folder)
    try:
        network = Network(**json.loads((folder / "config.json").read_text()))
        network.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
    except FileNotFoundError as error:
        raise SerError(
            f"{folder} holds no saved network: {error.filename} is missing. Train the run again."
        ) from error
    except (RuntimeError, TypeError, json.JSONDecodeError, safetensors.SafetensorError) as error:
        raise SerError(f"the network in {folder} does not fit this version of ser_lib: {error}") from error
    return network.eval()
