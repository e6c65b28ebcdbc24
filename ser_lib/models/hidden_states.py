"""Every layer's hidden states of every clip, from any pretrained transformer that reads speech.

A clip's hidden states do not depend on what shares its batch. Three ways lead there:

- wav2vec2, XLS-R, HuBERT and WavLM whose convolutions are normalised frame by frame ("layer") read padded batches
  with an attention mask.
- Where the first convolution is normalised over time ("group"), padding would change every frame; and data2vec-audio
  sees padding through its stacked positional convolutions. Clips of exactly one length share a batch.
- Whisper reads log-mel frames, which its own code pads to 30 s. Here clips are padded to the longest of the batch,
  its positions are cut to that, and the padding is masked: a tenth of the work on clips of a few seconds.
"""

from itertools import groupby

import numpy as np
import torch
from torch import nn

MAX_SECONDS = 30.0  # what Whisper reads at once; longer clips are cut into windows, and memory stays bounded


def way_of(model: nn.Module) -> str:
    """How clips of different lengths share a batch: "mask", "equal" (not at all) or "whisper"; see above."""
    kind = model.config.model_type
    if kind == "whisper":
        return kind
    return "mask" if kind != "data2vec-audio" and model.config.feat_extract_norm == "layer" else "equal"


def samples_of(model: nn.Module, n_frames: int) -> int:
    """Samples that a waveform model's convolutions need for so many frames; of one, their receptive field."""
    samples = n_frames
    for kernel, stride in zip(model.config.conv_kernel[::-1], model.config.conv_stride[::-1], strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def hidden_states(
    model: nn.Module, feature_extractor, waveforms: list[np.ndarray], normalise: bool = True
) -> list[torch.Tensor]:
    """Every layer's hidden states of every clip: its own frames only, independent of what else is in the batch.

    Args:
        model: a base model of transformers, in evaluation mode, on its device.
        waveforms: mono, at the feature extractor's sampling rate. What is longer than 30 s is read in windows of
            at most that; what is shorter than the convolutions' receptive field is filled up with zeros.
        normalise: to zero mean and unit variance, where the feature extractor asks for it.

    Returns:
        one tensor (n_layers, n_frames, n_features) a clip, on the model's device. Layer 0 is what enters the first
        transformer layer; the last is what the model returns, after its last normalisation.
    """
    cut = [windows(feature_extractor, waveform, normalise) for waveform in waveforms]
    pieces = [piece for own in cut for piece in own]
    way = way_of(model)
    if way == "whisper":
        states = _from_log_mel(model, feature_extractor, pieces)
    elif way == "mask":
        states = _waveform_states(model, pieces)
    else:
        states = [None] * len(pieces)
        by_length = sorted(range(len(pieces)), key=lambda i: len(pieces[i]))
        for _, group in groupby(by_length, key=lambda i: len(pieces[i])):
            same = list(group)
            for i, own in zip(same, _waveform_states(model, [pieces[i] for i in same]), strict=True):
                states[i] = own
    states = iter(states)
    joined = [[next(states) for _ in own] for own in cut]
    return [own[0] if len(own) == 1 else torch.cat(own, dim=1) for own in joined]


def windows(feature_extractor, waveform: np.ndarray, normalise: bool = True) -> list[np.ndarray]:
    """Cut a clip into windows of like length, at most 30 s; normalise before, where the extractor asks for it."""
    if normalise:
        waveform = normalised(feature_extractor, waveform)
    longest = round(MAX_SECONDS * feature_extractor.sampling_rate)
    return np.array_split(waveform.astype(np.float32, copy=False), max(1, -(-len(waveform) // longest)))


def normalised(feature_extractor, waveform: np.ndarray) -> np.ndarray:
    """To zero mean and unit variance where the feature extractor asks for it, as Wav2Vec2FeatureExtractor does it."""
    if not getattr(feature_extractor, "do_normalize", False):
        return waveform
    return (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)


def padded(model: nn.Module, waveforms: list[np.ndarray], at_least: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch of waveforms, filled up with zeros to the longest, or to `at_least` samples.

    Returns:
        float32 of shape (n_clips, n_samples), and each clip's own samples, its receptive field at the least.
    """
    lengths = torch.tensor([max(len(waveform), samples_of(model, 1)) for waveform in waveforms])
    batch = torch.zeros(len(waveforms), max(int(lengths.max()), at_least))
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, lengths


def _waveform_states(model: nn.Module, waveforms: list[np.ndarray]) -> list[torch.Tensor]:
    """One batch, padded with zeros, and masked where lengths differ."""
    batch, lengths = padded(model, waveforms)
    device = next(model.parameters()).device
    mask = torch.arange(batch.shape[1]) < lengths[:, None] if lengths.min() < lengths.max() else None
    output = model(
        batch.to(device), attention_mask=None if mask is None else mask.long().to(device), output_hidden_states=True
    )
    # transformers 5 gives some architectures' last layer as it is before the last normalisation.
    states = torch.stack([*output.hidden_states[:-1], output.last_hidden_state], dim=1)
    frames = lengths
    for kernel, stride in zip(model.config.conv_kernel, model.config.conv_stride, strict=True):
        frames = (frames - kernel) // stride + 1
    return [own[:, :n] for own, n in zip(states, frames.tolist(), strict=True)]


def _from_log_mel(encoder: nn.Module, feature_extractor, waveforms: list[np.ndarray]) -> list[torch.Tensor]:
    """Compute the log-mel frames of one batch, no more of them than its longest clip needs, and its hidden states."""
    device, hop = next(encoder.parameters()).device, feature_extractor.hop_length
    frames = torch.tensor([-(-len(waveform) // (2 * hop)) for waveform in waveforms])  # conv2 halves their number
    longest = int(frames.max())
    # So much silence that no frame in use sees where it ends; at 30 s it ends as in the stock extractor.
    samples = min(2 * hop * longest + 2 * feature_extractor.n_fft, feature_extractor.n_samples)
    with torch.autocast(device.type, enabled=False):  # a logarithm of sums: not in half precision
        features = feature_extractor(
            waveforms,
            max_length=samples,
            truncation=False,
            sampling_rate=feature_extractor.sampling_rate,
            return_tensors="pt",
            device=str(device),
        )["input_features"].to(device)
    return whisper_states(encoder, features, frames)


def whisper_states(encoder: nn.Module, features: torch.Tensor, frames: torch.Tensor) -> list[torch.Tensor]:
    """Every layer's hidden states of one batch for Whisper's encoder, as long as its longest clip instead of 30 s.

    The convolutions see behind each clip the silence that they see in the stock 30 s, so layer 0 is the stock
    model's; attention sees the clip alone. A clip of 30 s gives the stock model's output.

    Args:
        features: log-mel, (n_clips, n_mels, n_mel_frames), at least one frame of silence behind each clip of less
            than 30 s.
        frames: own frames of each clip, one for two of log-mel, rounded up.
    """
    from transformers.masking_utils import create_bidirectional_mask

    longest = int(frames.max())
    hidden = nn.functional.gelu(encoder.conv1(features[:, :, : 2 * longest + 1]))
    hidden = nn.functional.gelu(encoder.conv2(hidden))[:, :, :longest].transpose(1, 2)
    hidden = hidden + encoder.embed_positions.weight[:longest]
    mask = None
    if frames.min() < longest:
        mask = (torch.arange(longest) < frames[:, None]).to(features.device)
        mask = create_bidirectional_mask(config=encoder.config, inputs_embeds=hidden, attention_mask=mask)
    states = [hidden]
    for layer in encoder.layers:
        states.append(layer(states[-1], mask))
    states[-1] = encoder.layer_norm(states[-1])
    return [own[:, :n] for own, n in zip(torch.stack(states, dim=1), frames.tolist(), strict=True)]
