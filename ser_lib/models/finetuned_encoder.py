"""The third kind of model: a pretrained encoder with a classification head, fine-tuned.

The model is a stock class of transformers, AutoModelForAudioClassification:

    model, feature_extractor = load("runs/tess-wav2vec2-finetune/speaker/0/model")
    probabilities(model, feature_extractor, [waveform])

A clip's probabilities do not depend on its batch: see `ser_lib.models.hidden_states`. Whisper's stock class reads input
of one length only, so clips are padded to as few whole seconds as they need instead of 30.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import nn

from ser_lib.audio.features import ACOUSTIC_FEATURES
from ser_lib.audio.reading import Recording, prepare_all
from ser_lib.common import distributed
from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError
from ser_lib.models import embeddings, encoder_weights
from ser_lib.models.base import Inputs, Model, OnnxGraph, register
from ser_lib.models.encoder_weights import Checkpoint
from ser_lib.models.hidden_states import MAX_SECONDS, batching_mode, normalised, padded
from ser_lib.models.settings import ModelSettings

logger = logging.getLogger(__name__)

# Seconds of audio that are classified at a time.
BATCH_SECONDS = {"cpu": 40.0, "cuda": 400.0}
HEAD = ("projector", "classifier", "layer_weights")


@register("finetune")
class FinetunedEncoder(Model):
    """A pretrained encoder with a new classification head; all of it, parts of it, or LoRA's additions are trained."""

    trains_encoder = True
    is_stock_checkpoint = True
    model: nn.Module
    feature_extractor: Any

    def check(self) -> None:
        if self.input.encoder in ACOUSTIC_FEATURES:
            raise SerError("model.name=finetune needs an encoder: set input.encoder")
        if self.training.scheduler == "plateau":
            raise SerError("fine-tuning has the schedules linear, cosine and none, not plateau")

    @property
    def features_label(self) -> str:
        return encoder_weights.label(self.input.encoder)

    @property
    def input_label(self) -> str:
        return "waveform"

    @property
    def label(self) -> str:
        return f"finetune ({self.settings.trainable})"

    def used_settings(self) -> dict[str, set[str]]:
        sizes = {"name", "trainable"} | ({"lora_rank"} if self.settings.trainable == "lora" else set())
        fitted_with = set(type(self.training).model_fields) - {"inverse_regularisation"}
        return {"input": {"encoder", "revision", "audio"}, "model": sizes, "training": fitted_with}

    def inputs(self, clips: pd.DataFrame, progress: bool = True) -> list[np.ndarray]:
        return prepare_all(clips["path"], self.input.audio.model_dump(), progress)

    def inputs_of(self, recordings: Sequence[str | Path | Recording]) -> list[np.ndarray]:
        return prepare_all(recordings, self.input.audio.model_dump(), progress=False)

    def overview(self, clips: pd.DataFrame, progress: bool = True) -> np.ndarray:
        """The last layer of the encoder as it was before fine-tuning, averaged over each clip."""
        last = self.input.model_copy(update={"layers": "last", "pooling": "mean"})
        return embeddings.embed(clips, last, self.training.device, progress).reshape(len(clips), -1)

    def standardised_by_speaker(self, inputs: Inputs, speakers: pd.Series) -> Inputs:
        text = "speaker-adapted standardises features, and a fine-tuned model reads waveforms"
        raise SerError(f"{text}: use another protocol, or a frozen encoder.")

    def fit(self, inputs, labels, train, validation, *, emotions, seed, folder, progress=True, description=""):
        from ser_lib.models.finetuning import Finetuning

        job = Finetuning(self, inputs, labels, train, validation, emotions, seed, folder, progress, description)
        self.model, self.feature_extractor, history = job.run()
        self.model.to(pick_device(self.training.device))
        return history

    def probabilities(self, inputs: Inputs) -> np.ndarray:
        return probabilities(self.model, self.feature_extractor, inputs)

    def probabilities_shared(self, inputs: Inputs) -> np.ndarray:
        warn_of_cuts(self.feature_extractor, inputs)
        return shared_probabilities(self.model, self.feature_extractor, inputs)

    @property
    def emotions(self) -> list[str]:  # type: ignore[override]  # the model's configuration holds them
        return [name for _, name in sorted(self.model.config.id2label.items())]

    @property
    def module(self) -> nn.Module:
        return self.model

    @property
    def trained_parameters(self) -> int:
        # Shapes without memory.
        with torch.device("meta"):
            blank = choose_trainable(type(self.model)(self.model.config), self.settings)
        return sum(weight.numel() for weight in blank.parameters() if weight.requires_grad)

    def save(self, folder: Path, complete: bool = True) -> None:
        encoder_weights.save_model(self.model.cpu(), self.feature_extractor, folder)

    def load(self, folder: Path, complete_folder: Path | None = None) -> Self:
        self.model, self.feature_extractor = load(folder)
        return self

    def onnx_graph(self) -> OnnxGraph:
        from ser_lib.models.onnx_graphs import FinetunedGraph

        graph = FinetunedGraph(self.model, self.feature_extractor)
        return OnnxGraph(graph, "waveform", 0.1 * torch.randn(2, 16001))


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


def shared_probabilities(model: nn.Module, feature_extractor, waveforms: list[np.ndarray], **settings) -> np.ndarray:
    """`probabilities`, the clips divided among the processes; every process gets all of them."""
    numbers = distributed.share(range(len(waveforms)))
    part = probabilities(model, feature_extractor, [waveforms[number] for number in numbers], **settings)
    answer_of = dict(distributed.gather(list(zip(numbers, part, strict=True))))
    return np.stack([answer_of[number] for number in range(len(waveforms))])
