"""What reads the stored embeddings of a pretrained encoder: one vector a clip, one a layer, or one a frame."""

import torch
from torch import nn

from ser_lib.models.sequences import inside, read_sequence


class Vectors(nn.Identity):
    """One vector a clip, handed as it is to the dense layers."""

    def __init__(self, n_features: int):
        super().__init__()
        self.n_outputs = n_features


class WeightedLayers(nn.Module):
    """The sum of an encoder's layers, (n_clips, n_layers, n_features), with softmax weights that are learned.

    As in SUPERB (Yang et al., 2021, https://arxiv.org/abs/2105.01051). All layers weigh the same at first; each
    was standardised by itself before, so that a weight says how much a layer is used, not how large it is.
    """

    def __init__(self, n_layers: int, n_features: int):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(n_layers))
        self.n_outputs = n_features

    def weights(self) -> torch.Tensor:
        """Weight of each layer; they sum to 1."""
        return torch.softmax(self.scores, dim=0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.einsum("l,clf->cf", self.weights(), features)


class AttentivePooling(nn.Module):
    """Mean and deviation over a clip's frames, each frame weighted by a small network of its own.

    Attentive statistics pooling (Okabe et al., 2018, https://arxiv.org/abs/1803.10963), equations 1 to 5: a
    frame's score is v·tanh(W frame + b), a softmax over the clip's own frames makes it a weight.
    """

    def __init__(self, n_features: int, hidden: int):
        super().__init__()
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
