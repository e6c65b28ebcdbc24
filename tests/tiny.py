"""Tiny random checkpoints of the real architectures, as folders like those that the Hub holds."""

from pathlib import Path

import torch
import transformers

KINDS = ("wav2vec2", "wav2vec2-layer-norm", "hubert", "wavlm", "data2vec-audio", "whisper")

# The real seven convolutions (kernels and strides are the default), eight channels wide. The weights are larger
# than the default's, so that attention to what should be masked shows.
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
WAVEFORM = SIZES | {"conv_dim": (8,) * 7, "initializer_range": 0.1, "vocab_size": 8, "num_conv_pos_embedding_groups": 4}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}  # as the large ones
SPECIAL_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "vocab_size": 8,
    "init_std": 0.1,
    "begin_suppress_tokens": None,
} | SPECIAL_TOKENS  # fmt: skip


def tiny_checkpoint(folder, kind: str, dropout: float | None = None, seed: int = 0, **config) -> Path:
    """Save a random model with its feature extractor, as `save_pretrained` does, and return the folder.

    Args:
        kind: one of `KINDS`: three hidden states of width 32; "whisper" has a decoder as well.
        dropout: of every kind, layers dropped whole included; None: the architecture's default.
        config: changes to the model's configuration.
    """
    folder = Path(folder)
    names = {"hubert": "Hubert", "wavlm": "WavLM", "data2vec-audio": "Data2VecAudio", "whisper": "Whisper"}
    name = names.get(kind, "Wav2Vec2")
    given = dict(WHISPER if kind == "whisper" else WAVEFORM)
    if kind == "wav2vec2-layer-norm":
        given |= LAYER_NORM
    if dropout is not None:
        ways = ("dropout", "encoder_layerdrop", "decoder_layerdrop")
        if kind != "whisper":
            ways = ("hidden_dropout", "feat_proj_dropout", "final_dropout", "layerdrop")
        given |= dict.fromkeys(("attention_dropout", "activation_dropout", *ways), dropout)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        configuration = getattr(transformers, f"{name}Config")(**given | config)
        model = getattr(transformers, f"{name}Model")(configuration)
        for parameter in model.parameters():  # biases and normalisation start at 0 and 1: too regular to show faults
            if parameter.requires_grad and parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    feature_extractor(kind).save_pretrained(folder)
    return folder


def feature_extractor(kind: str):
    """What the real checkpoints of that kind have: a mask where they were trained with one."""
    if kind == "whisper":
        return transformers.WhisperFeatureExtractor()
    masked = kind not in ("wav2vec2", "hubert")
    return transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masked, do_normalize=True)
