"""A pretrained encoder with a classification head: a stock class of transformers, AutoModelForAudioClassification.

    model, feature_extractor = load("runs/tess-wav2vec2-finetune/speaker/0/model")
    probabilities(model, feature_extractor, [waveform])

`probabilities` gives a clip the same answer whatever else is in its batch, by the three ways that `ser_lib.models.hidden_states`
describes. Only Whisper differs: its stock class reads input of one length, so clips are padded to that, which is as
few whole seconds as the clips need instead of 30.
"""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError
from ser_lib.models import encoder_weights
from ser_lib.models.hidden_states import normalised, padded, way_of

logger = logging.getLogger(__name__)

TRAINABLE = ("all", "transformer", "head", "lora")
WHISPER_SECONDS = 30  # the most that Whisper reads
BATCH_SECONDS = {"cpu": 40.0, "cuda": 400.0}  # of audio that is classified at a time
HEAD = ("projector", "classifier", "layer_weights")


def build(
    checkpoint: encoder_weights.Checkpoint,
    emotions: list[str],
    sampling_rate: int,
    seconds: float,
    spec_augment: bool | None = None,
) -> tuple[nn.Module, object]:
    """An encoder with a new head, random by PyTorch's own state, in float32 on the CPU, and its feature extractor.

    Args:
        sampling_rate: of the waveforms, in Hz.
        seconds: the length of Whisper's input, rounded up to whole seconds, at most 30; the others read any.
        spec_augment: mask stretches of the encoder's input in training; None: as the checkpoint's configuration says.

    Raises:
        SerError: the checkpoint wants another sampling rate, or its classification model has no SpecAugment.
    """
    from transformers import AutoModelForAudioClassification

    feature_extractor = encoder_weights.load_feature_extractor(checkpoint)
    if sampling_rate != feature_extractor.sampling_rate:
        raise SerError(
            f"{checkpoint.name} hears {feature_extractor.sampling_rate} Hz, but input.audio.sampling_rate is "
            f"{sampling_rate}: set it to {feature_extractor.sampling_rate}."
        )
    # What some checkpoints put behind the transformer is left out: the class for classification refuses it.
    without = {"add_adapter": False} if checkpoint.config.get("add_adapter") else {}
    model = encoder_weights.load_model(
        checkpoint,
        AutoModelForAudioClassification,
        new=HEAD,
        **without,
        num_labels=len(emotions),
        id2label=dict(enumerate(emotions)),
        label2id={emotion: number for number, emotion in enumerate(emotions)},
    )
    if spec_augment is not None:
        if spec_augment and way_of(model) == "whisper":
            raise SerError("Whisper's classification model has no SpecAugment: leave training.spec_augment out.")
        model.config.apply_spec_augment = spec_augment
    if way_of(model) == "whisper":
        _shorten(model, feature_extractor, math.ceil(min(seconds, WHISPER_SECONDS)))
    return model, feature_extractor


def _shorten(model: nn.Module, feature_extractor, seconds: int) -> None:
    """Make a Whisper model and its extractor read `seconds` instead of 30. The extractor knows whole seconds only."""
    feature_extractor.chunk_length = seconds
    feature_extractor.n_samples = seconds * feature_extractor.sampling_rate
    feature_extractor.nb_max_frames = feature_extractor.n_samples // feature_extractor.hop_length
    positions = feature_extractor.nb_max_frames // 2  # the second convolution halves the frames
    kept = model.encoder.embed_positions.weight[:positions].detach().clone()
    model.encoder.embed_positions = nn.Embedding.from_pretrained(kept, freeze=True)
    model.encoder.max_source_positions = model.config.max_source_positions = positions


def choose_trainable(model: nn.Module, trainable: str, lora_rank: int) -> nn.Module:
    """Freeze what is not to be trained, one of `TRAINABLE`; "lora" wraps the model."""
    if trainable not in TRAINABLE:
        raise SerError(f"unknown model.trainable {trainable!r}: it is one of {', '.join(TRAINABLE)}.")
    if trainable != "all":
        if way_of(model) == "whisper":
            model.encoder.conv1.requires_grad_(False)
            model.encoder.conv2.requires_grad_(False)
        else:
            model.freeze_feature_encoder()
    if trainable == "head":
        for name, weight in model.named_parameters():
            weight.requires_grad_(in_head(name))
    if trainable != "lora":
        return model
    from peft import LoraConfig, get_peft_model

    # WavLM's attention takes the weights of its layers without calling them, so additions to them would do nothing.
    attention = model.config.model_type != "wavlm"
    config = LoraConfig(
        r=lora_rank,
        lora_alpha=2 * lora_rank,
        target_modules=["q_proj", "v_proj"] if attention else ["intermediate_dense", "output_dense"],
        modules_to_save=["projector", "classifier"],
    )
    with quiet():
        return get_peft_model(model, config)


def in_head(name: str) -> bool:
    """Whether a parameter of that name belongs to the head."""
    return not set(HEAD).isdisjoint(name.split("."))


def count_parameters(model: nn.Module, trainable: str, lora_rank: int) -> dict[str, int]:
    """How many numbers a model has ("parameters"), and how many of them, or of LoRA's additions, were trained."""
    with torch.device("meta"):  # shapes without memory
        blank = choose_trainable(type(model)(model.config), trainable, lora_rank)
    trained = sum(weight.numel() for weight in blank.parameters() if weight.requires_grad)
    total = sum(weight.numel() for weight in model.parameters())
    return {"parameters": total, "trained_parameters": trained}


@contextmanager
def quiet() -> Iterator[None]:
    """Without what transformers, peft and PyTorch say about each other's code, which a user cannot act upon."""
    with encoder_weights.quiet_transformers(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")  # of WavLM
        yield


def warn_of_cuts(feature_extractor, waveforms: list[np.ndarray]) -> None:
    """Log how many clips are longer than what a Whisper model reads."""
    limit = getattr(feature_extractor, "n_samples", math.inf)
    longer = sum(len(waveform) > limit for waveform in waveforms)
    if longer:
        seconds = feature_extractor.chunk_length
        logger.warning("%d of %d clips are cut to the %d s that this model reads", longer, len(waveforms), seconds)


def collate(
    model: nn.Module, feature_extractor, waveforms: list[np.ndarray], at_least: int = 0
) -> dict[str, torch.Tensor]:
    """A batch as the model reads it, waveforms padded with zeros to the longest, or to `at_least` samples."""
    if way_of(model) == "whisper":
        rate = feature_extractor.sampling_rate
        features = feature_extractor(waveforms, sampling_rate=rate, return_tensors="pt")
        return {"input_features": features["input_features"]}
    # Each clip by itself: without a mask the extractor would count padding in.
    batch, lengths = padded(model, [normalised(feature_extractor, own) for own in waveforms], at_least)
    if way_of(model) == "equal":
        return {"input_values": batch}
    return {"input_values": batch, "attention_mask": (torch.arange(batch.shape[1]) < lengths[:, None]).long()}


def probabilities(
    model: nn.Module, feature_extractor, waveforms: list[np.ndarray], device: str | None = None, batch_size: int = 32
) -> np.ndarray:
    """Softmax probabilities, float64 of shape (n_clips, n_emotions), computed in the precision of the weights.

    Args:
        waveforms: prepared as in training. A Whisper model cuts what is longer than it reads.
        device: move the model there first; None: where it is.
        batch_size: most clips at a time; fewer where they are long, or where the GPU's memory asks for it.
    """
    if device is not None:
        model.to(pick_device(device))
    model.eval()
    where = next(model.parameters()).device
    exact = way_of(model) == "equal"
    answers = np.empty((len(waveforms), model.config.num_labels))
    order = sorted(range(len(waveforms)), key=lambda row: len(waveforms[row]))
    while order:
        length = len(waveforms[order[0]])
        fitting = int(BATCH_SECONDS[where.type] * feature_extractor.sampling_rate / length)
        batch = order[: max(1, min(batch_size, fitting))]
        rows = [row for row in batch if not exact or len(waveforms[row]) == length]
        order = order[len(rows) :]
        inputs = collate(model, feature_extractor, [waveforms[row] for row in rows])
        with quiet():
            logits = _logits(model, {name: values.to(where) for name, values in inputs.items()})
        answers[rows] = torch.softmax(logits.double(), dim=1).cpu().numpy()
    return answers


@torch.inference_mode()
def _logits(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's answers; a batch that the GPU's memory cannot hold is halved."""
    size = len(next(iter(inputs.values())))
    try:
        # The class's own `forward`: while it trains, that of the object is wrapped in autocast.
        return type(model).forward(model, **inputs).logits
    except torch.cuda.OutOfMemoryError:
        if size == 1:
            raise
    torch.cuda.empty_cache()
    halves = slice(None, size // 2), slice(size // 2, None)
    return torch.cat([_logits(model, {name: values[half] for name, values in inputs.items()}) for half in halves])


def save(model: nn.Module, feature_extractor, folder: Path) -> None:
    """Write model and feature extractor: what `load` and `pipeline("audio-classification", model=folder)` read.

    Raises:
        SerError: the disk is full.
    """
    from safetensors import SafetensorError

    try:
        with quiet():
            model.save_pretrained(folder)
    except SafetensorError as error:  # how a full disk comes out of safetensors
        raise SerError(f"the model cannot be written to {folder}: {error}. Is the disk full?") from error
    feature_extractor.save_pretrained(folder)


def load(folder: Path) -> tuple[nn.Module, object]:
    """Read what `save` wrote: the model in float32, in evaluation mode, on the CPU, and its feature extractor.

    Raises:
        SerError: a file is missing or damaged.
    """
    from transformers import AutoModelForAudioClassification

    checkpoint = encoder_weights.locate(str(Path(folder).absolute()))
    model = encoder_weights.load_model(checkpoint, AutoModelForAudioClassification)
    return model, encoder_weights.load_feature_extractor(checkpoint)
