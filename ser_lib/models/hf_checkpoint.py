"""A frozen encoder and the network that reads its embeddings, in one checkpoint that transformers loads.

    pipeline("audio-classification", model=folder)(waveform)
    AutoModelForAudioClassification.from_pretrained(folder)

need only `import ser_lib` (see `ser_lib.models.hf_registration`) and no remote code. For a batch the model computes what
`ser_lib.models.embeddings.embed` and the network compute for a clip table: each clip's own frames, pooled, rounded to
float16. Its probabilities are those of training, if the encoder was run in float32 in training.
"""

import copy
import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from ser_lib.common.errors import SerError
from ser_lib.models import encoder_weights
from ser_lib.models.embeddings import Encoder
from ser_lib.models.hidden_states import hidden_states, whisper_states, windows
from ser_lib.models.networks import FROZEN_ENCODER, Network


class SpeechEmotionConfig(PretrainedConfig):
    """Configuration of `SpeechEmotionModel`.

    Args:
        encoder_config: of the encoder, as its own `config.json` holds it.
        network_config: the arguments of `ser_lib.models.networks.Network`.
        layers: numbers of the encoder's layers that the network reads; 0 is the input of the first layer.
        pooling: "mean", "mean+std", or "frames" of one layer.
        sampling_rate: in Hz, of the waveforms.
    """

    model_type = FROZEN_ENCODER

    def __init__(
        self,
        encoder_config: dict[str, Any] | None = None,
        network_config: dict[str, Any] | None = None,
        layers: list[int] | None = None,
        pooling: str = "mean",
        sampling_rate: int = 16000,
        **kwargs,
    ):
        self.encoder_config: dict[str, Any] = encoder_config or {}
        self.network_config: dict[str, Any] = network_config or {}
        self.layers = layers
        self.pooling = pooling
        self.sampling_rate = sampling_rate
        super().__init__(**kwargs)


class SpeechEmotionModel(PreTrainedModel):
    """An encoder, pooling over each clip's own frames, and a network: logits of the emotions."""

    config_class = SpeechEmotionConfig
    main_input_name = "input_values"

    def __init__(self, config: SpeechEmotionConfig):
        super().__init__(config)
        encoder_config = AutoConfig.for_model(**config.encoder_config)
        if encoder_config.model_type == "whisper":
            from transformers.models.whisper.modeling_whisper import WhisperEncoder

            self.encoder, self.main_input_name = WhisperEncoder(encoder_config), "input_features"
        else:
            self.encoder = MODEL_MAPPING[type(encoder_config)](encoder_config)
        self.network = Network(**config.network_config)
        self.post_init()

    def train(self, mode: bool = True):
        """Set the training mode; the frozen encoder stays in evaluation mode, without dropout and masks."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits of shape (n_clips, n_emotions), and the loss where there are labels.

        Args:
            input_values: (n_clips, n_samples), as the feature extractor of a waveform model gives them.
            input_features: (n_clips, n_mels, n_frames), as Whisper's gives them.
            attention_mask: 1 up to each clip's own end, one value a sample or a frame; None: the clips fill the
                whole input.
            labels: position of each clip's emotion.
        """
        if input_features is None:
            embeddings = self._from_waveforms(input_values, attention_mask)
        else:
            embeddings = self._from_spectrograms(input_features, attention_mask)
        logits = self.network(embeddings)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    @torch.no_grad()
    def _from_waveforms(self, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Cut off the padding, and embed."""
        lengths = [values.shape[1]] * len(values) if mask is None else mask.sum(dim=1).tolist()
        waveforms = [own[:n] for own, n in zip(values.float().cpu().numpy(), lengths, strict=True)]
        cut = [windows(self.config, waveform, normalise=False) for waveform in waveforms]
        pieces = [(clip, piece) for clip, own in enumerate(cut) for piece in own]
        states: list[list[torch.Tensor]] = [[] for _ in waveforms]
        # As many windows at a time as clips: an hour of audio needs no more memory than half a minute.
        for start in range(0, len(pieces), len(waveforms)):
            clips, batch = zip(*pieces[start : start + len(waveforms)], strict=True)
            # Of the feature extractor only the sampling rate is needed here, which the configuration holds too.
            batch_states = hidden_states(self.encoder, self.config, list(batch), normalise=False)
            for clip, layers in zip(clips, batch_states, strict=True):
                states[clip].append(layers[self.config.layers])
        return self._pooled([torch.cat(own, dim=1) for own in states])

    @torch.no_grad()
    def _from_spectrograms(self, features: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Remove the silence with which Whisper's extractor pads each clip to 30 s, and embed."""
        if mask is None:
            mask = torch.ones(len(features), features.shape[2])
        # The extractor's mask has one value a sample or one a spectrogram frame; the second convolution halves frames.
        values_a_frame = 2 * (mask.shape[1] // features.shape[2])
        frames = -(-mask.sum(dim=1).long().cpu() // values_a_frame)
        states = whisper_states(self.encoder, features, frames)
        return self._pooled([own[self.config.layers] for own in states])

    def _pooled(self, states: list[torch.Tensor]) -> torch.Tensor:
        """What the network reads, from one tensor (n_layers, n_frames, n_features) a clip."""
        if self.config.pooling == "frames":
            embeddings = [clip[0] for clip in states]
        else:
            embeddings = [clip.mean(dim=1) for clip in states]
            if self.config.pooling == "mean+std":
                deviations = [clip.std(dim=1, correction=0) for clip in states]
                embeddings = [torch.cat(both, dim=1) for both in zip(embeddings, deviations, strict=True)]
            if self.config.network_config["form"] == "vector":
                embeddings = [embedding.flatten() for embedding in embeddings]
        embeddings = nn.utils.rnn.pad_sequence(embeddings, batch_first=True, padding_value=torch.nan)
        largest = torch.finfo(torch.float16).max
        return embeddings.clamp(-largest, largest).half().float()


AutoConfig.register(FROZEN_ENCODER, SpeechEmotionConfig)
AutoModelForAudioClassification.register(SpeechEmotionConfig, SpeechEmotionModel)


def load_frozen_encoder(folder: Path, device: str | torch.device = "cpu") -> Encoder:
    """Load only the encoder of a folder that `save_frozen` wrote.

    Raises:
        SerError: a file is missing or damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise SerError(f"{folder} holds no encoder with its network ({error}). Train the run again.") from error
    name = encoder_weights.label(config["encoder_config"]["_name_or_path"])
    checkpoint = encoder_weights.Checkpoint(folder, name, "", config["encoder_config"])
    model = encoder_weights.load_model(checkpoint, SpeechEmotionModel)
    return Encoder(checkpoint, model.encoder.requires_grad_(False).to(device), extractor)


def save_frozen(encoder, network: Network, layers: str | Sequence[int], pooling: str, folder: Path) -> None:
    """Write encoder, network and feature extractor into a folder, from which transformers loads them.

    `ser_lib.models.networks.load` reads only the network from it.

    Args:
        encoder: from `ser_lib.models.embeddings.load_encoder`, on the CPU.
        network: trained on that encoder's embeddings, on the CPU.
        layers, pooling: as they were given to `ser_lib.models.embeddings.embed`.

    Raises:
        OSError: the disk is full or read-only.
    """
    extractor, emotions = copy.deepcopy(encoder.feature_extractor), network.config["emotions"]
    # For every architecture: the model cuts each clip to its own length, which only the mask states.
    extractor.return_attention_mask = True
    numbers = list(range(encoder.model.config.num_hidden_layers + 1))
    named = {"all": numbers, "last": numbers[-1:]}
    config = SpeechEmotionConfig(
        # Only its name: the folder's place on this machine is private.
        encoder_config=encoder.model.config.to_dict() | {"_name_or_path": encoder.checkpoint.name},
        network_config=network.config,
        layers=named[layers] if isinstance(layers, str) else [numbers[layer] for layer in layers],
        pooling=pooling,
        sampling_rate=encoder.sampling_rate,
        id2label=dict(enumerate(emotions)),
        label2id={emotion: number for number, emotion in enumerate(emotions)},
    )
    # Without random weights: both parts exist already.
    with torch.device("meta"):
        model = SpeechEmotionModel(config)
    model.encoder, model.network = encoder.model, network
    try:
        with encoder_weights.quiet_transformers():
            # One file, as `networks.load` expects.
            model.save_pretrained(folder, max_shard_size="1TB")
    except safetensors.SafetensorError as error:
        # safetensors hides the system's error number.
        raise OSError(errno.EIO, f"the model cannot be written: {error}", str(folder)) from error
    extractor.save_pretrained(folder)
