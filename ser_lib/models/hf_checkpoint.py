"""A frozen encoder and the network that reads its embeddings, in one checkpoint that transformers loads.

    pipeline("audio-classification", model=folder)(waveform)
    AutoModelForAudioClassification.from_pretrained(folder)

need only `import ser_lib` (see `ser_lib.models.hf_registration`) and no remote code. For a batch the model computes what
`ser_lib.models.embeddings.embed` and the network compute for a clip table, if that was computed in float32.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModelForAudioClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from ser_lib.common.files import damaged, read_json
from ser_lib.models import encoder_weights
from ser_lib.models.embeddings import Encoder
from ser_lib.models.hidden_states import hidden_states, pooled, whisper_states, windows
from ser_lib.models.networks import FROZEN_ENCODER, Network


class SpeechEmotionConfig(PretrainedConfig):
    """The encoder's own configuration, the arguments of `Network`, and the layers and pooling that the network reads."""

    model_type = FROZEN_ENCODER

    def __init__(
        self, encoder_config=None, network_config=None, layers=None, pooling="mean", sampling_rate=16000, **kwargs
    ):
        self.encoder_config: dict[str, Any] = encoder_config or {}
        self.network_config: dict[str, Any] = network_config or {}
        self.layers, self.pooling, self.sampling_rate = layers, pooling, sampling_rate
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

    def forward(self, input_values=None, input_features=None, attention_mask=None, labels=None):
        """Logits of shape (n_clips, n_emotions), and the loss where there are labels.

        Args:
            input_values: (n_clips, n_samples), as the feature extractor of a waveform model gives them.
            input_features: (n_clips, n_mels, n_frames), as Whisper's gives them.
            attention_mask: 1 up to each clip's own end, one value a sample or a frame; None: the clips fill the input.
            labels: position of each clip's emotion.
        """
        with torch.no_grad():
            if input_features is None:
                states = self._of_waveforms(input_values, attention_mask)
            else:
                states = self._of_spectrograms(input_features, attention_mask)
            form = self.config.network_config["form"]
            embeddings = [pooled(clip, self.config.pooling, form) for clip in states]
            padded = nn.utils.rnn.pad_sequence(embeddings, batch_first=True, padding_value=torch.nan)
        logits = self.network(padded)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _of_waveforms(self, values: torch.Tensor, mask: torch.Tensor | None) -> list[torch.Tensor]:
        """The wanted hidden states of each clip without its padding, (n_layers, n_frames, n_features)."""
        lengths = [values.shape[1]] * len(values) if mask is None else mask.sum(dim=1).tolist()
        waveforms = [clip[:n] for clip, n in zip(values.float().cpu().numpy(), lengths, strict=True)]
        cut = [windows(self.config, waveform, normalise=False) for waveform in waveforms]
        pieces = [(clip, piece) for clip, clip_pieces in enumerate(cut) for piece in clip_pieces]
        states: list[list[torch.Tensor]] = [[] for _ in waveforms]
        # As many windows at a time as clips: an hour of audio needs no more memory than half a minute.
        for start in range(0, len(pieces), len(waveforms)):
            clips, batch = zip(*pieces[start : start + len(waveforms)], strict=True)
            # Of the feature extractor only the sampling rate is needed, which the configuration holds too.
            batch_states = hidden_states(self.encoder, self.config, list(batch), normalise=False)
            for clip, layers in zip(clips, batch_states, strict=True):
                states[clip].append(layers[self.config.layers])
        return [torch.cat(parts, dim=1) for parts in states]

    def _of_spectrograms(self, features: torch.Tensor, mask: torch.Tensor | None) -> list[torch.Tensor]:
        """The same without the silence with which Whisper's extractor pads each clip to 30 s."""
        if mask is None:
            mask = torch.ones(len(features), features.shape[2])
        # The extractor's mask has one value a sample or one a spectrogram frame; the second convolution halves frames.
        values_a_frame = 2 * (mask.shape[1] // features.shape[2])
        states = whisper_states(self.encoder, features, -(-mask.sum(dim=1).long().cpu() // values_a_frame))
        return [clip[self.config.layers] for clip in states]


AutoConfig.register(FROZEN_ENCODER, SpeechEmotionConfig)
AutoModelForAudioClassification.register(SpeechEmotionConfig, SpeechEmotionModel)


def load_frozen_encoder(folder: Path, device: str | torch.device = "cpu") -> Encoder:
    """Load only the encoder of a folder that `save_frozen` wrote; SerError where a file is missing or damaged."""
    config = read_json(folder / "config.json", "Train the run again.")
    extractor = encoder_weights.read_feature_extractor(folder)
    try:
        encoder_config = config["encoder_config"]
        name, _ = encoder_weights.label(encoder_config["_name_or_path"]), encoder_config["model_type"]
    except (KeyError, TypeError) as error:
        raise damaged(folder / "config.json", "it states no encoder", "Train the run again.") from error
    checkpoint = encoder_weights.Checkpoint(folder, name, "", encoder_config)
    model = encoder_weights.load_model(checkpoint, SpeechEmotionModel)
    return Encoder(checkpoint, model.encoder.requires_grad_(False).to(device), extractor)


def save_frozen(encoder, network: Network, layers: str | Sequence[int], pooling: str, folder: Path) -> None:
    """Write an encoder and its network, both on the CPU, into a folder, from which transformers loads them.

    Args:
        layers, pooling: of the recipe's `input`.

    Raises:
        OSError: the disk is full or read-only.
    """
    extractor, emotions = copy.deepcopy(encoder.feature_extractor), network.config["emotions"]
    # For every architecture: the model cuts each clip to its own length, which only the mask states.
    extractor.return_attention_mask = True
    numbers = list(range(encoder.checkpoint.n_layers))
    named = {"all": numbers, "last": numbers[-1:]}
    config = SpeechEmotionConfig(
        # Only its name: the folder's place on this machine is private.
        encoder_config=encoder.model.config.to_dict() | {"_name_or_path": encoder.checkpoint.name},
        network_config=network.config,
        layers=named[layers] if isinstance(layers, str) else [numbers[layer] for layer in layers],
        pooling="frames" if pooling == "sequence" else pooling,
        sampling_rate=encoder.sampling_rate,
        **encoder_weights.labels(emotions),
    )
    # Without random weights: both parts exist already.
    with torch.device("meta"):
        model = SpeechEmotionModel(config)
    model.encoder, model.network = encoder.model, network
    encoder_weights.save_model(model, extractor, folder)
