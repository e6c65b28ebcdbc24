"""Heads: the variable part of a network, between its standardised input and its dense layers.

To add one, write a subclass of `Head` and enter it by `@register("its-name")`.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import nn

from ser_lib.models import network_training
from ser_lib.models.base import register


class Head(nn.Module):
    """What a network does with its input: one vector a clip, one a layer of an encoder, or one a frame.

    Args:
        n_features: values of a clip, of a layer, or of a frame; 1 where a head that reads sequences is given vectors,
            which it reads as sequences of single values.
    """

    # The forms of input that the head reads: see `ser_lib.models.networks`.
    forms: ClassVar[tuple[str, ...]] = ("vector",)
    # The fields of the recipe's `model` that the network uses.
    sizes: ClassVar[tuple[str, ...]] = ("dense", "dropout")
    # The function that fits the network, and the fields of the recipe's `training` that it uses.
    fit: ClassVar[Callable] = staticmethod(network_training.fit)
    training_fields: ClassVar[tuple[str, ...]] = (*network_training.FIELDS, "class_weights", "device")
    # Whether `fit` takes the clip table, for speakers and corpora, and the head their number as its fourth argument.
    reads_corpora: ClassVar[bool] = False
    # Whether `forward` also takes the mean and count of a speaker's clips, and `is_like_speech` judges a clip.
    takes_profile: ClassVar[bool] = False
    # Width of the output, (n_clips, n_outputs).
    n_outputs: int

    def __init__(self, n_features: int, n_layers: int, hidden: int):
        super().__init__()
        self.n_outputs = n_features


@register("cnn")
class Convolutions(Head):
    """Two blocks of convolution, ReLU and max pooling over the sequence, then the mean over the remaining steps."""

    forms = ("vector", "sequence")
    sizes = ("hidden", "dense", "dropout")

    def __init__(self, n_features: int, n_layers: int, hidden: int):
        super().__init__(n_features, n_layers, hidden)
        self.first = nn.Conv1d(n_features, hidden // 2, kernel_size=5, padding=2)
        self.second = nn.Conv1d(hidden // 2, hidden, kernel_size=5, padding=2)
        self.n_outputs = hidden

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        sequence, lengths = read_sequence(features)
        sequence = sequence.transpose(1, 2)
        for convolution in (self.first, self.second):
            # Zeros behind a clip's end make padding look like the convolution's own zero border; with ceil_mode the
            # maximum of a ReLU output and such a zero is the output itself.
            sequence = torch.relu(convolution(sequence)) * inside(sequence.shape[2], lengths)[:, None, :]
            # In two dimensions: in one, the ONNX exporter knows `ceil_mode` only for a fixed number of frames.
            sequence = nn.functional.max_pool2d(sequence[:, :, None], (1, 2), ceil_mode=True)[:, :, 0]
            lengths = (lengths + 1) // 2
        return sequence.sum(dim=2) / lengths[:, None]


class Recurrence(Head):
    """A recurrent network over the sequence: its last state, or the last states of both directions side by side.

    The second direction is a network of its own that reads each clip from its last frame to its first. Neither direction
    meets padding before its last state: packing would make an epoch on the CPU five to ten times slower.
    """

    forms = ("vector", "sequence")
    sizes = ("hidden", "dense", "dropout")
    cell: ClassVar[type[nn.LSTM] | type[nn.GRU]] = nn.LSTM
    bidirectional: ClassVar[bool] = False

    def __init__(self, n_features: int, n_layers: int, hidden: int):
        super().__init__(n_features, n_layers, hidden)
        # Half the width in each direction: the dense layers read as many values as in the other networks.
        width = hidden // 2 if self.bidirectional else hidden
        self.forwards = self.cell(n_features, width, batch_first=True)
        self.backwards = self.cell(n_features, width, batch_first=True) if self.bidirectional else None
        self.n_outputs = width * (2 if self.bidirectional else 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        sequence, lengths = read_sequence(features)
        clips, last = torch.arange(len(sequence), device=sequence.device), lengths - 1
        states = [self.forwards(sequence)[0][clips, last]]
        if self.backwards is not None:
            frames = torch.arange(sequence.shape[1], device=sequence.device)
            mirrored = (last[:, None] - frames[None, :]).clamp(min=0)
            states.append(self.backwards(sequence[clips[:, None], mirrored])[0][clips, last])
        return torch.cat(states, dim=1)


@register("lstm")
class Lstm(Recurrence):
    """An LSTM over the sequence."""


@register("bilstm")
class BiLstm(Recurrence):
    """An LSTM in each direction of the sequence."""

    bidirectional = True


@register("gru")
class Gru(Recurrence):
    """A GRU over the sequence."""

    cell = nn.GRU


@register("mlp")
class Vector(Head):
    """One vector a clip, which the dense layers read as it is."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


@register("logistic-regression")
class LogisticRegression(Vector):
    """One vector a clip and no dense layers; fitted to the optimum by scikit-learn."""

    sizes = ()
    fit = staticmethod(network_training.fit_logistic)
    training_fields = ("device", "class_weights", "inverse_regularisation")


@register("weighted-layers")
class WeightedLayers(Head):
    """A weighted sum of an encoder's layers, whose softmax weights are learned.

    As in SUPERB (Yang et al., 2021, https://arxiv.org/abs/2105.01051). Each layer is standardised by itself before, so
    that a weight says how much a layer is used, not how large its values are.
    """

    forms = ("layers",)

    def __init__(self, n_features: int, n_layers: int, hidden: int):
        super().__init__(n_features, n_layers, hidden)
        self.scores = nn.Parameter(torch.zeros(n_layers))

    def weights(self) -> torch.Tensor:
        return torch.softmax(self.scores, dim=0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.einsum("l,clf->cf", self.weights(), features)


@register("attentive-pooling")
class AttentivePooling(Head):
    """Mean and standard deviation over a clip's frames, each frame weighted by a small network.

    Attentive statistics pooling (Okabe et al., 2018, https://arxiv.org/abs/1803.10963), equations 1 to 5.
    """

    forms = ("sequence",)
    sizes = ("hidden", "dense", "dropout")

    def __init__(self, n_features: int, n_layers: int, hidden: int):
        super().__init__(n_features, n_layers, hidden)
        # The paper's last constant is the same for every frame, so that the softmax cancels it: left out.
        self.score = nn.Sequential(nn.Linear(n_features, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))
        self.n_outputs = 2 * n_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        frames, lengths = read_sequence(features)
        scores = self.score(frames)[:, :, 0].masked_fill(~inside(frames.shape[1], lengths), -torch.inf)
        weights = torch.softmax(scores, dim=1)[:, :, None]
        mean = (weights * frames).sum(dim=1)
        variance = (weights * (frames - mean[:, None]) ** 2).sum(dim=1)
        # The slope of a square root at 0 is infinite, and a single frame has no variance.
        return torch.cat([mean, variance.clamp(min=1e-8).sqrt()], dim=1)


def read_sequence(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A sequence with its NaN padding set to 0, and the number of frames of each clip."""
    # One value a step: the "(40, 1) input" of many student projects, where a recurrence runs over coefficients.
    if features.ndim == 2:
        features = features[:, :, None]
    return features.nan_to_num(), (~features[:, :, 0].isnan()).sum(dim=1)


def inside(n_frames: int, lengths: torch.Tensor) -> torch.Tensor:
    """Boolean mask of shape (n_clips, n_frames): True up to each clip's own length."""
    return torch.arange(n_frames, device=lengths.device)[None, :] < lengths[:, None]
