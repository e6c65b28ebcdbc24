"""A stock audio classifier of transformers, AutoModelForAudioClassification: built, frozen in part, and read in batches.

    model, feature_extractor = load("runs/tess-wav2vec2-finetune/speaker/0/model")
    probabilities(model, feature_extractor, [waveform])

A clip's probabilities do not depend on its batch: see `ser_lib.models.hidden_states`. Whisper's stock class reads input
of one length only, so clips are padded to as few whole seconds as they need instead of 30.
"""

import logging
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ser_lib.common import distributed
from ser_lib.common.errors import SerError
from ser_lib.common.files import damaged, read_json
from ser_lib.models import encoder_weights
from ser_lib.models.encoder_weights import HEAD, Checkpoint
from ser_lib.models.hidden_states import MAX_SECONDS, batching_mode, normalised, padded
from ser_lib.models.settings import ModelSettings

logger = logging.getLogger(__name__)

# Seconds of audio that are classified at a time.
BATCH_SECONDS = {"cpu": 40.0, "cuda": 400.0}


def build(
    checkpoint: Checkpoint, emotions: list[str], sampling_rate: int, seconds: float, spec_augment: bool | None = None
) -> tuple[nn.Module, object]:
    """An encoder with a new head, random by PyTorch's own state, in float32 on the CPU, and its feature extractor.

    Args:
        seconds: length of Whisper's input, rounded up to whole seconds, at most 30; the others read any length.

    Raises:
        SerError: the encoder reads another sampling rate, or has no SpecAugment.
    """
    from transformers import AutoModelForAudioClassification

    feature_extractor = encoder_weights.load_feature_extractor(checkpoint)
    encoder_weights.check_sampling_rate(checkpoint, feature_extractor, sampling_rate)
    labels = encoder_weights.labels(emotions)
    model = encoder_weights.load_model(checkpoint, AutoModelForAudioClassification, new=HEAD, **labels)
    if spec_augment and batching_mode(model) == "log_mel":
        raise SerError("Whisper's classification model has no SpecAugment: leave training.spec_augment out.")
    if spec_augment is not None:
        model.config.apply_spec_augment = spec_augment
    if batching_mode(model) == "log_mel":
        # The extractor takes whole seconds only.
        feature_extractor.chunk_length = math.ceil(min(seconds, MAX_SECONDS))
        feature_extractor.n_samples = feature_extractor.chunk_length * feature_extractor.sampling_rate
        feature_extractor.nb_max_frames = feature_extractor.n_samples // feature_extractor.hop_length
        # The second convolution halves the frames.
        positions = feature_extractor.nb_max_frames // 2
        kept = model.encoder.embed_positions.weight[:positions].detach().clone()
        model.encoder.embed_positions = nn.Embedding.from_pretrained(kept, freeze=True)
        model.encoder.max_source_positions = model.config.max_source_positions = positions
    return model, feature_extractor


def choose_trainable(model: nn.Module, settings: ModelSettings) -> nn.Module:
    """Freeze the weights that `settings.trainable` leaves as they are; "lora" wraps the model."""
    trainable = settings.trainable
    if trainable != "all":
        if batching_mode(model) == "log_mel":
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

    # WavLM's attention reads the weights of its layers without calling them, so additions to them have no effect.
    wavlm, rank = model.config.model_type == "wavlm", settings.lora_rank
    targets = ["intermediate_dense", "output_dense"] if wavlm else ["q_proj", "v_proj"]
    kept = ["projector", "classifier"]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, modules_to_save=kept)
    with encoder_weights.quiet_transformers():
        return get_peft_model(model, config)


def in_head(name: str) -> bool:
    """Whether a parameter of that name belongs to the head."""
    return not set(HEAD).isdisjoint(name.split("."))


def warn_of_cuts(feature_extractor, waveforms: list[np.ndarray]) -> None:
    """Log how many clips are longer than the input of a Whisper model."""
    longer = sum(len(waveform) > getattr(feature_extractor, "n_samples", math.inf) for waveform in waveforms)
    if longer:
        numbers = longer, len(waveforms), feature_extractor.chunk_length
        logger.warning("%d of %d clips are cut to the %d s that this model reads", *numbers)


def collate(
    model: nn.Module, feature_extractor, waveforms: list[np.ndarray], at_least: int = 0
) -> dict[str, torch.Tensor]:
    """A batch in the form that the model reads; waveforms are padded with zeros to the longest, or to `at_least` samples."""
    if batching_mode(model) == "log_mel":
        rate = feature_extractor.sampling_rate
        features = feature_extractor(waveforms, sampling_rate=rate, return_tensors="pt")
        return {"input_features": features["input_features"]}
    # Each clip by itself: the extractor would include the padding.
    batch, lengths = padded(model, [normalised(feature_extractor, clip) for clip in waveforms], at_least)
    if batching_mode(model) == "same_length":
        return {"input_values": batch}
    return {"input_values": batch, "attention_mask": (torch.arange(batch.shape[1]) < lengths[:, None]).long()}


def probabilities(model: nn.Module, feature_extractor, waveforms: list[np.ndarray], batch_size: int = 32) -> np.ndarray:
    """Softmax probabilities, float64 of shape (n_clips, n_emotions), of waveforms prepared as in training."""
    model.eval()
    target = next(model.parameters()).device
    exact = batching_mode(model) == "same_length"
    answers = np.empty((len(waveforms), model.config.num_labels))
    order = sorted(range(len(waveforms)), key=lambda row: len(waveforms[row]))
    while order:
        length = len(waveforms[order[0]])
        fitting = int(BATCH_SECONDS[target.type] * feature_extractor.sampling_rate / length)
        batch = order[: max(1, min(batch_size, fitting))]
        rows = [row for row in batch if not exact or len(waveforms[row]) == length]
        order = order[len(rows) :]
        inputs = collate(model, feature_extractor, [waveforms[row] for row in rows])
        with encoder_weights.quiet_transformers():
            logits = _logits(model, {name: values.to(target) for name, values in inputs.items()})
        answers[rows] = torch.softmax(logits.double(), dim=1).cpu().numpy()
    return answers


@torch.inference_mode()
def _logits(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's logits; a batch that the GPU's memory cannot hold is halved."""
    size = len(next(iter(inputs.values())))
    try:
        # The class's `forward`: during training the object's is wrapped in autocast.
        return type(model).forward(model, **inputs).logits
    except torch.cuda.OutOfMemoryError:
        if size == 1:
            raise
    torch.cuda.empty_cache()
    halves = slice(None, size // 2), slice(size // 2, None)
    return torch.cat([_logits(model, {name: values[half] for name, values in inputs.items()}) for half in halves])


def load(folder: Path) -> tuple[nn.Module, object]:
    """The model that `FinetunedEncoder.save` wrote, in float32, and its feature extractor; SerError if it is damaged."""
    from transformers import AutoModelForAudioClassification

    checkpoint = encoder_weights.locate(str(Path(folder).absolute()))
    model = encoder_weights.load_model(checkpoint, AutoModelForAudioClassification)
    return model, encoder_weights.load_feature_extractor(checkpoint)


def read_labels(folder: Path) -> list[str]:
    """The names of a saved model's outputs, in their order; SerError where its configuration is damaged."""
    path = Path(folder) / "config.json"
    config = read_json(path, "Train the run again.")
    try:
        names = {int(place): name for place, name in config["id2label"].items()}
        return [str(names[place]) for place in range(len(names))]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, "it names no emotions", "Train the run again.") from error


def shared_probabilities(model: nn.Module, feature_extractor, waveforms: list[np.ndarray], **settings) -> np.ndarray:
    """`probabilities`, the clips divided among the processes; every process gets all of them."""
    numbers = distributed.share(range(len(waveforms)))
    part = probabilities(model, feature_extractor, [waveforms[number] for number in numbers], **settings)
    answer_of = dict(distributed.gather(list(zip(numbers, part, strict=True))))
    return np.stack([answer_of[number] for number in range(len(waveforms))])
