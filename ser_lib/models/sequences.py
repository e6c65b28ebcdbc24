"""What reads a sequence of frames: convolutions, and an LSTM or GRU in one direction or two.

A clip's mean features, (n_clips, n_features), are read as a sequence of n_features steps with one value each:
the "(40, 1) input" of many student projects, where the recurrence runs over coefficients, not over time.
"""

import torch
from torch import nn


def read_sequence(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A sequence with its NaN padding set to 0, and each clip's own length.

    Args:
        features: (n_clips, n_frames, n_features), or (n_clips, n_steps) with one value a step.
    """
    if features.ndim == 2:
        features = features[:, :, None]
    return features.nan_to_num(), (~features[:, :, 0].isnan()).sum(dim=1)


def inside(n_frames: int, lengths: torch.Tensor) -> torch.Tensor:
    """Boolean mask of shape (n_clips, n_frames): True up to each clip's own length."""
    return torch.arange(n_frames, device=lengths.device)[None, :] < lengths[:, None]


class Convolutions(nn.Module):
    """Two blocks of convolution over the sequence, ReLU and max pooling, then the mean over what is left."""

    def __init__(self, n_inputs: int, hidden: int):
        super().__init__()
        self.first = nn.Conv1d(n_inputs, hidden // 2, kernel_size=5, padding=2)
        self.second = nn.Conv1d(hidden // 2, hidden, kernel_size=5, padding=2)
        self.n_outputs = hidden

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        sequence, lengths = read_sequence(features)
        sequence = sequence.transpose(1, 2)
        for convolution in (self.first, self.second):
            # Zeroing what lies behind a clip's end makes padding look like the convolution's own zero border;
            # with ceil_mode the pooled maximum of a ReLU output and such a zero is the output itself.
            sequence = torch.relu(convolution(sequence)) * inside(sequence.shape[2], lengths)[:, None, :]
            # In two dimensions: the ONNX exporter knows `ceil_mode` in one only of a fixed number of frames.
            sequence = nn.functional.max_pool2d(sequence[:, :, None], (1, 2), ceil_mode=True)[:, :, 0]
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

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        sequence, lengths = read_sequence(features)
        clips, last = torch.arange(len(sequence), device=sequence.device), lengths - 1
        states = [self.forwards(sequence)[0][clips, last]]
        if self.backwards is not None:
            frames = torch.arange(sequence.shape[1], device=sequence.device)
            mirrored = (last[:, None] - frames[None, :]).clamp(min=0)
            states.append(self.backwards(sequence[clips[:, None], mirrored])[0][clips, last])
        return torch.cat(states, dim=1)
