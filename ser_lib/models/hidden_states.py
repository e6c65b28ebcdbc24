"""Hidden states of every layer for every clip, from any pretrained transformer that reads speech.

A clip's hidden states do not depend on the other clips of its batch. There are three modes of batching:

- "padded": models whose convolutions are normalised frame by frame ("layer") read padded batches with a mask.
- "same_length": where the first convolution is normalised over time ("group"), and in data2vec-audio, padding would
  change the frames of a clip. Only clips of one length share a batch.
- "log_mel": Whisper's own code pads to 30 s. Here clips are padded to the longest of the batch, and masked: a tenth of
  the work on clips of a few seconds.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

# What Whisper reads at once. Longer clips are cut into windows, which bounds the memory.
MAX_SECONDS = 30.0


def batching_mode(model: nn.Module) -> str:
    """How clips of different lengths share a batch: "padded", "same_length" or "log_mel"; see above."""
    if model.config.model_type == "whisper":
        return "log_mel"
    by_frame = model.config.model_type != "data2vec-audio" and model.config.feat_extract_norm == "layer"
    return "padded" if by_frame else "same_length"


def samples_of(model: nn.Module, n_frames: int) -> int:
    """Samples that a waveform model's convolutions need for a number of frames; for one frame, the receptive field."""
    for kernel, stride in zip(model.config.conv_kernel[::-1], model.config.conv_stride[::-1], strict=True):
        n_frames = (n_frames - 1) * stride + kernel
    return n_frames


def pooled(states: torch.Tensor, pooling: str, form: str) -> torch.Tensor:
    """What a network of that form reads of (..., n_layers, n_frames, n_features), rounded to float16 as embeddings are.

    The pooling is "mean", "mean+std", or "frames", which keeps those of the first layer.
    """
    if pooling == "frames":
        embeddings = states[..., 0, :, :]
    else:
        embeddings = states.mean(dim=-2)
        if pooling == "mean+std":
            # Written out: the ONNX exporter knows `std` only of a fixed number of frames.
            deviations = (states - embeddings[..., None, :]).square().mean(dim=-2).sqrt()
            embeddings = torch.cat([embeddings, deviations], dim=-1)
        if form == "vector":
            embeddings = embeddings.flatten(-2)
    largest = torch.finfo(torch.float16).max
    return embeddings.clamp(-largest, largest).half().float()


def hidden_states(
    model: nn.Module, feature_extractor, waveforms: list[np.ndarray], normalise: bool = True
) -> list[torch.Tensor]:
    """Hidden states of every layer for every clip: its own frames only, independent of the rest of the batch.

    Args:
        model: a base model of transformers, in evaluation mode, on its device.
        waveforms: mono, at the feature extractor's sampling rate. Longer ones than 30 s are read in windows; shorter
            ones than the convolutions' receptive field are padded with zeros.
        normalise: where the feature extractor asks for it.

    Returns:
        one tensor (n_layers, n_frames, n_features) a clip. Layer 0 is the input of the first transformer layer; the last
        is the model's output, after its last normalisation.
    """
    cut = [windows(feature_extractor, waveform, normalise) for waveform in waveforms]
    pieces = [piece for clip in cut for piece in clip]
    mode = batching_mode(model)
    states: Iterator[torch.Tensor]
    if mode == "log_mel":
        states = iter(_from_log_mel(model, feature_extractor, pieces))
    elif mode == "padded":
        states = iter(_waveform_states(model, pieces))
    else:
        by_length = {}
        for length in {len(piece) for piece in pieces}:
            batch = [piece for piece in pieces if len(piece) == length]
            by_length[length] = iter(_waveform_states(model, batch))
        states = (next(by_length[len(piece)]) for piece in pieces)
    # `torch.cat` would copy a clip of one window.
    joined = [[next(states) for _ in clip] for clip in cut]
    return [parts[0] if len(parts) == 1 else torch.cat(parts, dim=1) for parts in joined]


def windows(feature_extractor, waveform: np.ndarray, normalise: bool = True) -> list[np.ndarray]:
    """Cut a clip into windows of equal length, at most 30 s; normalise it before, if the extractor asks for that."""
    if normalise:
        waveform = normalised(feature_extractor, waveform)
    longest = round(MAX_SECONDS * feature_extractor.sampling_rate)
    return np.array_split(waveform.astype(np.float32, copy=False), max(1, -(-len(waveform) // longest)))


def normalised(feature_extractor, waveform: np.ndarray) -> np.ndarray:
    """Normalise to zero mean and unit variance, if the feature extractor asks for it, as Wav2Vec2FeatureExtractor does."""
    if not getattr(feature_extractor, "do_normalize", False):
        return waveform
    return (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)


def padded(model: nn.Module, waveforms: list[np.ndarray], at_least: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch of waveforms, padded with zeros to the longest, or to `at_least` samples, and the length of each."""
    lengths = torch.tensor([max(len(waveform), samples_of(model, 1)) for waveform in waveforms])
    batch = torch.zeros(len(waveforms), max(int(lengths.max()), at_least))
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, lengths


def _waveform_states(model: nn.Module, waveforms: list[np.ndarray]) -> list[torch.Tensor]:
    """Hidden states of one batch, padded with zeros, and masked where lengths differ."""
    batch, lengths = padded(model, waveforms)
    device, mask = next(model.parameters()).device, None
    if lengths.min() < lengths.max():
        mask = (torch.arange(batch.shape[1]) < lengths[:, None]).long().to(device)
    output = model(batch.to(device), attention_mask=mask, output_hidden_states=True)
    # For some architectures transformers 5 returns the last layer before the last normalisation.
    states = torch.stack([*output.hidden_states[:-1], output.last_hidden_state], dim=1)
    frames = lengths
    for kernel, stride in zip(model.config.conv_kernel, model.config.conv_stride, strict=True):
        frames = (frames - kernel) // stride + 1
    return [layers[:, :n] for layers, n in zip(states, frames.tolist(), strict=True)]


def _from_log_mel(encoder: nn.Module, feature_extractor, waveforms: list[np.ndarray]) -> list[torch.Tensor]:
    """Hidden states of one batch from its log-mel frames, of which there are only as many as the longest clip needs."""
    device, hop = next(encoder.parameters()).device, feature_extractor.hop_length
    frames = torch.tensor([-(-len(waveform) // (2 * hop)) for waveform in waveforms])  # conv2 halves their number
    longest = int(frames.max())
    # Enough silence that no used frame sees its end; at 30 s it ends as in the stock extractor.
    samples = min(2 * hop * longest + 2 * feature_extractor.n_fft, feature_extractor.n_samples)
    # A logarithm of sums: not in half precision.
    with torch.autocast(device.type, enabled=False):
        settings = {"max_length": samples, "truncation": False, "return_tensors": "pt", "device": str(device)}
        batch = feature_extractor(waveforms, sampling_rate=feature_extractor.sampling_rate, **settings)
    return whisper_states(encoder, batch["input_features"].to(device), frames)


def whisper_states(encoder: nn.Module, features: torch.Tensor, frames: torch.Tensor) -> list[torch.Tensor]:
    """Every layer's hidden states of one batch for Whisper's encoder; attention sees each clip's own frames only.

    Args:
        features: log-mel, (n_clips, n_mels, n_mel_frames), with silence behind each clip of less than 30 s.
        frames: frames of each clip, one for two of log-mel, rounded up.
    """
    from transformers.masking_utils import create_bidirectional_mask

    longest = int(frames.max())
    embedded = whisper_input(encoder, features, longest)
    mask = None
    if frames.min() < longest:
        mask = (torch.arange(longest) < frames[:, None]).to(features.device)
        mask = create_bidirectional_mask(config=encoder.config, inputs_embeds=embedded, attention_mask=mask)
    states = whisper_layers(encoder, embedded, mask)
    return [layers[:, :n] for layers, n in zip(torch.stack(states, dim=1), frames.tolist(), strict=True)]


def whisper_input(encoder: nn.Module, features: torch.Tensor, n_frames: int) -> torch.Tensor:
    """The input of Whisper's first transformer layer for the first frames, (n_clips, n_frames, n_features)."""
    # One frame more, so that the convolutions see the silence behind a clip as in the stock 30 s.
    hidden = nn.functional.gelu(encoder.conv1(features[:, :, : 2 * n_frames + 1]))
    hidden = nn.functional.gelu(encoder.conv2(hidden))[:, :, :n_frames].transpose(1, 2)
    return hidden + encoder.embed_positions.weight[:n_frames]


def whisper_layers(encoder: nn.Module, embedded: torch.Tensor, mask: torch.Tensor | None) -> list[torch.Tensor]:
    """The input of Whisper's first transformer layer and the output of each layer, the last one normalised."""
    states = [embedded]
    for layer in encoder.layers:
        states.append(layer(states[-1], mask))
    states[-1] = encoder.layer_norm(states[-1])
    return states
