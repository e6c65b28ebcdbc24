"""Graphs for export to ONNX: a model from its input to probabilities, with batch and time axes of any size.

In PyTorch every clip of a batch is cut to its own length by loops, which a graph cannot hold. Here all clips of a batch
have one length. The normalisation of a waveform, acoustic features and Whisper's log-mel frames are part of the graph.

    waveform       (n_clips, n_samples), mono, as `ser_lib.audio.reading.prepare` returns them
    probabilities  (n_clips, n_emotions)

The graph of a network that takes the profile of a speaker has two inputs and two outputs more:

    mean           (n_clips, n_features), of each clip's speaker
    count          (n_clips, 1), the weight of the clips that it is the mean of; 0: nothing is known of the speaker
    features       (n_clips, n_features), of which a profile is the mean
    is_speech      (n_clips,), whether a clip can be speech
"""

import math

import torch
from torch import nn

from ser_lib.models.heads import Recurrence, read_sequence
from ser_lib.models.hidden_states import batching_mode, pooled, samples_of, whisper_input, whisper_layers
from ser_lib.models.networks import Network


class FeaturesGraph(nn.Module):
    """A network on acoustic features; its standardisation is one of its layers.

    Args:
        front: computes the frames' features, (n_clips, n_frames, n_features), from waveforms.
        pooling: "mean", "mean+std" or "sequence", as of `ser_lib.audio.features.clip_features`.
    """

    def __init__(self, network: Network, front: nn.Module, pooling: str):
        super().__init__()
        self.network, self.front, self.pooling = exportable(network), front, pooling

    def forward(
        self, waveform: torch.Tensor, mean: torch.Tensor | None = None, count: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        inputs = self.front(waveform)
        if self.pooling == "mean+std":
            inputs = torch.cat([inputs.mean(dim=1), inputs.std(dim=1, correction=0)], dim=1)
        elif self.pooling == "mean":
            inputs = inputs.mean(dim=1)
        return _answers(self.network, inputs, mean, count)


def _answers(
    network: Network, features: torch.Tensor, mean: torch.Tensor | None, count: torch.Tensor | None
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """The outputs of a graph: see the top of this module."""
    if mean is None:
        return torch.softmax(network(features), dim=1)
    probabilities = torch.softmax(network(features, mean, count), dim=1)
    return probabilities, features, network.body.is_like_speech(network.standardise(features))


class Normalised(nn.Module):
    """Waveforms as wav2vec2's feature extractor returns them, at least as long as the convolutions' receptive field."""

    def __init__(self, model: nn.Module, feature_extractor):
        super().__init__()
        self.asked, self.at_least = feature_extractor.do_normalize, samples_of(model, 1)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        if self.asked:
            mean = waveform.mean(dim=1, keepdim=True)
            variance = (waveform - mean).square().mean(dim=1, keepdim=True)
            waveform = (waveform - mean) / torch.sqrt(variance + 1e-7)
        length = torch.sym_max(waveform.shape[1], self.at_least)
        return nn.functional.pad(waveform, (0, length - waveform.shape[1]))


class LogMel(nn.Module):
    """Whisper's log-mel frames, (n_clips, n_mels, n_samples / hop), as `WhisperFeatureExtractor` computes them.

    The extractor cannot be exported. Here Fourier transform and mel filters are convolutions, as any runtime has them.
    """

    def __init__(self, feature_extractor):
        super().__init__()
        self.hop, size = feature_extractor.hop_length, feature_extractor.n_fft
        self.reach = size // 2  # samples on either side of a frame's centre
        bins = torch.arange(self.reach + 1, dtype=torch.float64)[:, None]
        turns = 2 * torch.pi / size * bins * torch.arange(size)
        waves = torch.cat([torch.cos(turns), torch.sin(turns)]) * torch.hann_window(size, dtype=torch.float64)
        self.register_buffer("waves", waves[:, None].float())
        filters = torch.as_tensor(feature_extractor.mel_filters).T[:, :, None]
        self.register_buffer("filters", filters.float())

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        before = waveform[:, 1 : self.reach + 1].flip(1)
        behind = waveform[:, -self.reach - 1 : -1].flip(1)
        mirrored = torch.cat([before, waveform, behind], dim=1)[:, None]
        parts = nn.functional.conv1d(mirrored, self.waves, stride=self.hop)[:, :, :-1]
        power = parts.square()
        power = power[:, : self.reach + 1] + power[:, self.reach + 1 :]
        levels = nn.functional.conv1d(power, self.filters).clamp(min=1e-10).log10()
        levels = torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - 8)
        return (levels + 4) / 4


class FrozenEncoderGraph(nn.Module):
    """An encoder, pooling over all frames, and the network: `ser_lib.models.hf_checkpoint.SpeechEmotionModel`.

    What an encoder computes behind the last layer that the network reads does not reach the file.

    Args:
        max_seconds: the longest clip; of Whisper's positions, those behind it are left out. None: as Whisper.
    """

    def __init__(
        self,
        encoder: nn.Module,
        feature_extractor,
        network: Network,
        layers: list[int],
        pooling: str,
        max_seconds: float | None = None,
    ):
        super().__init__()
        self.encoder, self.network = exportable(encoder), exportable(network)
        self.layers, self.pooling, self.form = layers, pooling, network.config["form"]
        self.whisper = batching_mode(encoder) == "log_mel"
        self.front = LogMel(feature_extractor) if self.whisper else Normalised(encoder, feature_extractor)
        if self.whisper and max_seconds is not None:
            n_frames = math.ceil(max_seconds * feature_extractor.sampling_rate / (2 * feature_extractor.hop_length))
            positions = self.encoder.embed_positions
            positions.weight = nn.Parameter(positions.weight[:n_frames].clone(), requires_grad=False)

    def forward(
        self, waveform: torch.Tensor, mean: torch.Tensor | None = None, count: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        every = self._hidden_states(waveform)
        states = torch.stack([every[number] for number in self.layers], dim=1)
        return _answers(self.network, pooled(states, self.pooling, self.form), mean, count)

    def _hidden_states(self, waveform: torch.Tensor) -> list[torch.Tensor]:
        """As `ser_lib.models.hidden_states.hidden_states`, for clips of one length."""
        if not self.whisper:
            output = self.encoder(self.front(waveform), output_hidden_states=True)
            return [*output.hidden_states[:-1], output.last_hidden_state]
        hop = self.front.hop
        frames = (waveform.shape[1] + 2 * hop - 1) // (2 * hop)
        # Enough silence behind the clip that no used frame sees its end.
        silence = 2 * hop * frames - waveform.shape[1] + 4 * self.front.reach
        features = self.front(nn.functional.pad(waveform, (0, silence)))
        return whisper_layers(self.encoder, whisper_input(self.encoder, features, frames), None)


class FinetunedGraph(nn.Module):
    """A stock class for audio classification; Whisper's input is cut, or padded with silence, to its fixed length."""

    def __init__(self, model: nn.Module, feature_extractor):
        super().__init__()
        self.model, self.n_samples = exportable(model), None
        if batching_mode(model) == "log_mel":
            self.front, self.n_samples = LogMel(feature_extractor), feature_extractor.n_samples
        else:
            self.front = Normalised(model, feature_extractor)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        if self.n_samples:
            silence = waveform.new_zeros(waveform.shape[0], self.n_samples)
            waveform = torch.cat([waveform, silence], dim=1)[:, : self.n_samples]
        return torch.softmax(self.model(self.front(waveform)).logits, dim=1)


class _Recurrence(nn.Module):
    """A `Recurrence` as one ONNX operator, which returns zeros in PyTorch; the exporter would unroll every step."""

    # Positions of ONNX's gates among PyTorch's.
    ORDER = {"GRU": [1, 0, 2], "LSTM": [0, 3, 1, 2]}

    def __init__(self, recurrence: Recurrence):
        super().__init__()
        layers = [layer for layer in (recurrence.forwards, recurrence.backwards) if layer is not None]
        self.kind, self.width = type(layers[0]).__name__, layers[0].hidden_size
        self.register_buffer("inputs", self._gates(layers, "weight_ih_l0"))
        self.register_buffer("states", self._gates(layers, "weight_hh_l0"))
        biases = [self._gates(layers, name) for name in ("bias_ih_l0", "bias_hh_l0")]
        self.register_buffer("biases", torch.cat(biases, dim=1))

    def _gates(self, layers: list[nn.Module], name: str) -> torch.Tensor:
        """One weight of both directions, (n_directions, n_gates × width, …)."""
        order = self.ORDER[self.kind]
        parts = [getattr(layer, name).detach().chunk(len(order)) for layer in layers]
        return torch.stack([torch.cat([gates[number] for number in order]) for gates in parts])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        sequence, lengths = read_sequence(features)
        n_clips, n_frames, n_directions = sequence.shape[0], sequence.shape[1], len(self.inputs)
        attributes = {"hidden_size": self.width, "direction": "bidirectional" if n_directions == 2 else "forward"}
        if self.kind == "GRU":
            attributes["linear_before_reset"] = 1
        last = (n_directions, n_clips, self.width)
        shapes = [(n_frames, n_directions, n_clips, self.width), last] + [last] * (self.kind == "LSTM")
        inputs = sequence.transpose(0, 1), self.inputs, self.states, self.biases, lengths.int()
        kinds = {"dtypes": [torch.float32] * len(shapes), "shapes": shapes}
        _, states, *_ = torch.onnx.ops.symbolic_multi_out(self.kind, inputs, attributes, **kinds)
        return states.transpose(0, 1).flatten(1)


def exportable(model: nn.Module) -> nn.Module:
    """Change a model so that the exporter can write it for any number of frames; it can no longer be run."""
    for module in model.modules():
        if nn.utils.parametrize.is_parametrized(module, "weight"):
            nn.utils.parametrize.remove_parametrizations(module, "weight")
    body = getattr(model, "body", None)
    if isinstance(body, Recurrence):
        model.body = _Recurrence(body)
    return model.eval()
