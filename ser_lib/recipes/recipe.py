"""One YAML file an experiment, and the typed `Recipe` that reads it.

A recipe says what its source states. What the source's notebook did otherwise stands in the file's `as_run`
block and is applied by `variant="as-run"`. Any field is overridden by "key.path=value".
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ser_lib.common.errors import SerError
from ser_lib.corpora import label as corpus_label
from ser_lib.corpora.labels import EMOTIONS, in_order
from ser_lib.models import encoder_weights

FOLDER = Path(__file__).parent


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Audio(_Section):
    """How a file becomes a waveform: the arguments of `ser_lib.audio.reading.prepare`."""

    sampling_rate: int = Field(16000, gt=0)
    offset_seconds: float = Field(0.0, ge=0)
    max_seconds: float | None = Field(None, gt=0)
    trim_below_db: float | None = Field(None, gt=0)
    normalise: Literal["peak", "rms"] | None = None
    crop: Literal["start", "centre"] = "start"  # stored features are computed once: no random crop
    pad: bool = False


class Input(_Section):
    """What the model reads.

    MFCC with chroma if asked for, or the layers of a pretrained encoder; averaged over the clip, averaged with
    their deviation, or as a time sequence. A model that is fine-tuned reads the waveform and no more than
    `encoder`, `revision` and `audio` of this.
    """

    encoder: str = "mfcc"  # or a Hugging Face name, or a folder; $VARIABLES are expanded where it is read
    revision: str | None = None  # the commit of the Hub's repository
    layers: Literal["all", "last"] | tuple[int, ...] = "last"  # 0 is what enters the first layer
    precision: Literal["auto", "float32"] = "auto"  # auto: bfloat16 where the processor has it
    n_mfcc: int = Field(40, gt=0)
    deltas: bool = False
    chroma: bool = False
    pooling: Literal["mean", "mean+std", "sequence"] = "mean"
    frame: int = Field(2048, gt=0)
    hop: int = Field(512, gt=0)
    standardise: bool = True
    audio: Audio = Audio()

    def feature_settings(self) -> dict:
        """The arguments of `ser_lib.audio.features.clip_features` that are not about audio."""
        return self.model_dump(exclude={"encoder", "revision", "layers", "precision", "standardise", "audio"})

    @property
    def frames_or_pooled(self) -> str:
        """The `pooling` of `ser_lib.models.embeddings.embed`."""
        return "frames" if self.pooling == "sequence" else self.pooling


class Model(_Section):
    """Which model, and its sizes: the arguments of `ser_lib.models.build`, or what of an encoder is fine-tuned."""

    name: Literal[
        "cnn", "lstm", "bilstm", "gru", "mlp", "logistic-regression", "weighted-layers", "attentive-pooling", "finetune"
    ]
    hidden: int = Field(128, ge=2)
    dense: tuple[int, ...] = (64, 32)
    dropout: float = Field(0.2, ge=0, lt=1)
    trainable: Literal["all", "transformer", "head", "lora"] = "all"  # transformer: the convolutions are frozen
    lora_rank: int = Field(8, gt=0)


class Augmentation(_Section):
    """What is done to training clips at random, as ranges: the arguments of `ser_lib.audio.augmentation.augment`."""

    probability: float = Field(0.5, ge=0, le=1)
    noise_db: tuple[float, float] | None = None  # signal over noise
    speed: tuple[float, float] | None = None  # 1.1 is a tenth faster
    pitch_semitones: tuple[float, float] | None = None
    gain_db: tuple[float, float] | None = None
    reverberation_seconds: tuple[float, float] | None = None  # until it has fallen by 60 dB


class Training(_Section):
    """How it is fitted: the arguments of `training.fit`, `training.fit_logistic` or `finetuning.finetune`.

    Each takes those that concern it; an override that concerns another is refused when training begins.
    """

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
    # Logistic regression only: scikit-learn's C; of several, validation decides.
    inverse_regularisation: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)
    # Fine-tuning only.
    head_learning_rate: float | None = Field(None, gt=0)  # None: as the encoder's
    warmup_fraction: float = Field(0.0, ge=0, lt=1)
    gradient_accumulation: int = Field(1, gt=0)
    gradient_checkpointing: bool = False
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    spec_augment: bool | None = None  # None: as the checkpoint's own configuration says
    augmentation: Augmentation | None = None

    @field_validator("inverse_regularisation", mode="before")
    @classmethod
    def _one_or_many_values(cls, value):
        return (value,) if isinstance(value, int | float) else value


class Split(_Section):
    """Sizes of the split: the arguments of `ser_lib.protocols.splits.make_split`; the protocol itself is chosen at run time."""

    folds: int = Field(5, ge=2)
    test_fraction: float = Field(0.2, gt=0, lt=1)
    validation_fraction: float = Field(0.1, ge=0, lt=1)
    stratify: bool = True
    select_on_test: bool = False
    train_on_test: bool = False
    test_corpora: tuple[str, ...] | None = None
    keep_duplicates: bool = False  # under `published` only, where the source kept them
    permute_labels: bool = False  # a control: labels to learn from are shuffled, so that nothing can be learned

    @field_validator("test_corpora", mode="before")
    @classmethod
    def _one_or_many(cls, value):
        return (value,) if isinstance(value, str) else value

    def split_settings(self) -> dict:
        return self.model_dump(exclude={"keep_duplicates", "permute_labels"})


class Claim(_Section):
    """What the source says it reached, and where it says so."""

    source: str
    accuracy: float | None = None
    macro_f1: float | None = None
    text: str


class Recipe(_Section):
    """One experiment, complete but for protocol and seed."""

    name: str = Field(pattern=r"^\w[\w .+-]*$")  # it names folders: no way out of them
    title: str
    variant: Literal["stated", "as-run"] = "stated"
    overrides: tuple[str, ...] = ()
    corpora: tuple[str, ...]  # registered ones, or CSV files of one's own (`ser_lib.corpora.get_corpus`)
    emotions: tuple[str, ...] = EMOTIONS
    input: Input = Input()
    model: Model
    training: Training = Training()
    split: Split = Split()
    claim: Claim | None = None
    as_run_notes: str | None = None

    @field_validator("corpora", "emotions", mode="before")
    @classmethod
    def _one_or_many(cls, value):
        return (value,) if isinstance(value, str) else value

    @field_validator("emotions")
    @classmethod
    def _known_emotions(cls, emotions):
        return EMOTIONS if emotions == ("all",) else tuple(in_order(emotions))

    @model_validator(mode="after")
    def _parts_that_fit(self):
        """Refuse a model that cannot read that input, before anything is computed."""
        name, given = self.model.name, self.input
        if name == "finetune":
            if given.encoder == "mfcc":
                raise ValueError("model.name=finetune needs an encoder: set input.encoder")
            if self.training.scheduler == "plateau":
                raise ValueError("fine-tuning has the schedules linear, cosine and none, not plateau")
            return self
        sequence = given.pooling == "sequence"
        if sequence and given.encoder != "mfcc" and given.layers != "last" and len(given.layers) != 1:
            raise ValueError("input.pooling=sequence keeps the frames of one layer: name one in input.layers")
        if name == "attentive-pooling" and not sequence:
            raise ValueError("model.name=attentive-pooling needs input.pooling=sequence")
        if name in ("mlp", "logistic-regression", "weighted-layers") and sequence:
            raise ValueError(f"model.name={name} needs input.pooling=mean or mean+std")
        if name == "weighted-layers" and (given.encoder == "mfcc" or given.layers == "last"):
            raise ValueError("model.name=weighted-layers needs an encoder and input.layers=all, or several of them")
        return self

    @property
    def folder_name(self) -> str:
        """What its run and report folders are called: the name, with `-as-run` for that variant."""
        return self.name + ("-as-run" if self.variant == "as-run" else "")

    @property
    def variant_label(self) -> str:
        """The variant and every override but device and encoder, as the table of results shows them.

        The table has a column of its own for the encoder, and `features_label` for it. In what folder a corpus of
        one's own lies is not shown.
        """
        told_elsewhere = ("training.device=", "input.encoder=", "input.revision=")
        shown = [item for item in self.overrides if not item.startswith(told_elsewhere)]
        names = [corpus_label(name) for name in self.corpora]
        if names != list(self.corpora):
            shown = [f"corpora=[{', '.join(names)}]" if item.startswith("corpora=") else item for item in shown]
        return "; ".join([self.variant, *shown])

    @property
    def features_label(self) -> str:
        """What the model reads, in a word: `mfcc-40`, `mfcc-40+chroma`, `facebook/wav2vec2-base`."""
        if self.input.encoder != "mfcc":
            return encoder_weights.label(self.input.encoder)
        return f"mfcc-{self.input.n_mfcc}" + "+deltas" * self.input.deltas + "+chroma" * self.input.chroma

    @property
    def notices(self) -> list[str]:
        """Sentences where an override has put something else in the place of what the title names."""
        changed = {key for item in self.overrides for key in keys_of(item)}
        notices = []
        if "corpora" in changed:
            corpora = ", ".join(map(corpus_label, self.corpora))
            notices.append(f"Other corpora than the recipe's own were learned from here: {corpora}.")
        if "input.encoder" in changed:
            notices.append(f"Another encoder than the recipe's own was read here: {self.features_label}.")
        return notices

    @property
    def input_label(self) -> str:
        """In what form the model reads it: `mean`, `mean+std of layers 1 2 3`, `waveform`."""
        if self.model.name == "finetune":
            return "waveform"
        if self.input.encoder == "mfcc":
            return self.input.pooling
        layers = self.input.layers
        which = {"all": "all layers", "last": "the last layer"}.get(layers if isinstance(layers, str) else "")
        return f"{self.input.pooling} of {which or 'layers ' + ' '.join(map(str, layers))}"

    @property
    def model_label(self) -> str:
        """Which model, in a word; of a fine-tuned one, what of it was trained."""
        return self.model.name + (f" ({self.model.trainable})" if self.model.name == "finetune" else "")


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name: str | Path, variant: str = "stated", overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe by its name, or from a YAML file of one's own.

    Args:
        name: one of `recipe_names()`, or a path that ends in .yaml.
        variant: "stated", or "as-run" for what the source's notebook did otherwise.
        overrides: "key.path=value", the value read as YAML: `training.epochs=3`, `corpora=[ravdess, savee]`.

    Raises:
        SerError: no such recipe, variant or key (the message names the nearest), or a value of the wrong kind.

    >>> load_recipe("demo", overrides=["training.epochs=3"]).training.epochs
    3
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        near = get_close_matches(str(name), recipe_names(), n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise SerError(
            f"unknown recipe {str(name)!r}. {hint}The recipes are {', '.join(recipe_names())}; "
            "a path to a .yaml file of your own works too."
        )
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SerError(f"{path} is not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise SerError(f"{path} holds no recipe: expected keys such as title, corpora, model.")
    as_run = fields.pop("as_run", None)
    if variant == "as-run":
        if as_run is None:
            raise SerError(
                f"recipe {path.stem} has no as-run variant: {fields.get('as_run_notes') or 'none is known.'}"
            )
        fields = _merged(fields, as_run)
    overrides = tuple(re.sub(r"\s*=\s*", "=", item.strip(), count=1) for item in overrides)
    for item in overrides:
        fields = _merged(fields, _override(item))
    keys = {key for item in overrides for key in keys_of(item)}
    if "input.encoder" in keys and "input.revision" not in keys:
        # The recipe's revision is a commit of its own encoder's repository, and of no other.
        fields = _merged(fields, {"input": {"revision": None}})
    _refuse_unknown_keys(fields, path.stem)
    try:
        return Recipe(**{"name": path.stem, **fields, "variant": variant, "overrides": overrides})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors()]
        raise SerError(f"recipe {path.stem} cannot be used: " + "; ".join(problems)) from error


def keys_of(item: str) -> list[str]:
    """The dotted names of all fields that an override sets.

    >>> keys_of("training={epochs: 3, patience: 2}"), keys_of("input.audio.pad=true")
    (['training.epochs', 'training.patience'], ['input.audio.pad'])
    """
    nested = _keys_of(_override(item))
    return [key for key in nested if not any(other.startswith(f"{key}.") for other in nested)]


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_resolved(path: Path) -> Recipe:
    """Read what `dump_recipe` wrote."""
    try:
        return Recipe(**yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (ValidationError, TypeError, yaml.YAMLError) as error:
        raise SerError(f"{path} was written by another version of ser_lib, or edited: {error}") from error


def _override(item: str) -> dict:
    """`a.b=value` as {"a": {"b": value}}."""
    key, equals, value = item.partition("=")
    if not equals or not key.strip():
        raise SerError(f"cannot read the override {item!r}: expected key.path=value, such as training.epochs=3.")
    try:
        fields = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SerError(f"cannot read the value of the override {item!r}: {error}") from error
    for part in reversed(key.strip().split(".")):
        fields = {part: fields}
    return fields


def _merged(base: dict, changes: dict) -> dict:
    """`base` with `changes` laid over it, section by section."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _known_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        inner = [kind for kind in (field.annotation, *getattr(field.annotation, "__args__", ())) if _is_section(kind)]
        for kind in inner:
            keys += _known_keys(kind, f"{prefix}{name}.")
    return keys


def _is_section(kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _keys_of(fields: dict, prefix: str = "") -> list[str]:
    keys = []
    for name, value in fields.items():
        keys.append(f"{prefix}{name}")
        if isinstance(value, dict):
            keys += _keys_of(value, f"{prefix}{name}.")
    return keys


def _refuse_unknown_keys(fields: dict, recipe: str) -> None:
    known = _known_keys(Recipe)
    for key in _keys_of(fields):
        if key not in known:
            # The last word may be right and its section forgotten: "epochs" is nearest to "training.epochs".
            near = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
            near = near or get_close_matches(key, known, n=1, cutoff=0.3) or known[:1]
            raise SerError(f"unknown key {key!r} in recipe {recipe}: did you mean {near[0]!r}?")
