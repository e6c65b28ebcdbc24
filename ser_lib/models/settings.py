"""The sections of a recipe that describe a model: what it reads, its sizes, and how it is trained."""

from statistics import median_low
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ser_lib.audio.features import settings_of

# A tuple; a recipe may write a tuple of one item as the item alone.
Names = Annotated[tuple[str, ...], BeforeValidator(lambda one: (one,) if isinstance(one, str) else one)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(lambda one: (one,) if isinstance(one, int | float) else one)]


class Section(BaseModel):
    """A part of a recipe: unknown fields and infinite numbers are refused, and nothing is changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Audio(Section):
    """How a file becomes a waveform: the arguments of `ser_lib.audio.reading.prepare`."""

    sampling_rate: int = Field(16000, gt=0)
    # The constant part of the signal, which a recording device adds.
    remove_offset: bool = True
    offset_seconds: float = Field(0.0, ge=0)
    max_seconds: float | None = Field(None, gt=0)
    trim_below_db: float | None = Field(None, gt=0)
    normalise: Literal["peak", "rms"] | None = None
    crop: Literal["start", "centre"] = "start"
    pad: bool = False

    @property
    def longest_seconds(self) -> float | None:
        """The length of a clip of which nothing is cut but its skipped beginning; None: any length."""
        return None if self.max_seconds is None else self.offset_seconds + self.max_seconds


class Input(Section):
    """What a model reads: acoustic features, layers of a pretrained encoder, or the waveform itself.

    Features and layers are averaged over the clip ("mean"), averaged with their standard deviation ("mean+std"), or
    kept frame by frame ("sequence"). A fine-tuned encoder reads the waveform: only `encoder`, `revision` and `audio`.
    """

    # A kind of acoustic features, a repository of the Hugging Face Hub, or a folder.
    encoder: str = "mfcc"
    # The commit of the Hub's repository.
    revision: str | None = None
    # Layer 0 is the input of the first transformer layer.
    layers: Literal["all", "last"] | tuple[int, ...] = "last"
    # "auto" is bfloat16 where the processor has it.
    precision: Literal["auto", "float32"] = "auto"
    n_mfcc: int = Field(40, gt=0)
    deltas: bool = False
    chroma: bool = False
    pooling: Literal["mean", "mean+std", "sequence"] = "mean"
    frame: int = Field(2048, gt=0)
    hop: int = Field(512, gt=0)
    standardise: bool = True
    audio: Audio = Audio()

    def feature_settings(self) -> dict[str, Any]:
        """The `feature_settings` of `ser_lib.audio.features.clip_features`."""
        taken = {name: getattr(self, name) for name in settings_of(self.encoder) if name in Input.model_fields}
        return {"kind": self.encoder, "pooling": self.pooling, **taken}


class ModelSettings(Section):
    """Which model, and its sizes. `name` is a key of `ser_lib.models.base.MODELS`."""

    name: str
    hidden: int = Field(128, ge=2)
    dense: tuple[int, ...] = (64, 32)
    dropout: float = Field(0.2, ge=0, lt=1)
    # "transformer": the convolutions that read the signal stay as they are.
    trainable: Literal["all", "transformer", "head", "lora"] = "all"
    lora_rank: int = Field(8, gt=0)


class Augmentation(Section):
    """Random changes of training clips, as ranges: the arguments of `ser_lib.audio.augmentation.augment`."""

    probability: float = Field(0.5, ge=0, le=1)
    # Signal over noise.
    noise_db: tuple[float, float] | None = None
    # 1.1 is ten per cent faster.
    speed: tuple[float, float] | None = None
    pitch_semitones: tuple[float, float] | None = None
    gain_db: tuple[float, float] | None = None
    # Time in which the echo falls by 60 dB.
    reverberation_seconds: tuple[float, float] | None = None


class Training(Section):
    """How a model is fitted. Each kind of model takes the fields that concern it; an override of another is refused."""

    epochs: int = Field(100, gt=0)
    batch_size: int = Field(64, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    scheduler: Literal["plateau", "cosine", "linear", "none"] = "none"
    patience: int | None = Field(15, gt=0)
    keep_best: bool = True
    clip_norm: float | None = Field(None, gt=0)
    class_weights: bool = False
    device: str = "auto"
    # Fit again on training and validation clips together, with what validation chose; the model that answers is then
    # fitted on all clips. Not where a recipe repeats a source that did not.
    refit: bool = True
    # Logistic regression only: candidates for scikit-learn's C; validation clips choose.
    inverse_regularisation: Numbers = (0.001, 0.003, 0.01, 0.03, 0.1)
    # Fine-tuning only. None: the head learns at the encoder's rate.
    head_learning_rate: float | None = Field(None, gt=0)
    warmup_fraction: float = Field(0.0, ge=0, lt=1)
    gradient_accumulation: int = Field(1, gt=0)
    gradient_checkpointing: bool = False
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    # None: as the checkpoint's own configuration says.
    spec_augment: bool | None = None
    augmentation: Augmentation | None = None

    def settled(self, history: pd.DataFrame) -> Self:
        """The settings to fit again without validation clips: with what validation clips chose.

        Args:
            history: of one training or several, as `Model.fit` returns it; of several choices the lower median is taken.
        """
        best = history[history["best"]]
        chosen: dict[str, Any] = {"epochs": int(median_low(best["epoch"])), "patience": None, "keep_best": False}
        if "inverse_regularisation" in best:
            chosen["inverse_regularisation"] = (float(median_low(best["inverse_regularisation"])),)
        return self.model_copy(update=chosen)
