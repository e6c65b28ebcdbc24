"""One YAML file an experiment, and the typed `Recipe` that it is read into."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ser_lib.audio.features import ACOUSTIC_FEATURES
from ser_lib.common.errors import SerError
from ser_lib.common.files import parse_yaml, read_text
from ser_lib.corpora import label as corpus_label
from ser_lib.corpora.labels import EMOTIONS, in_order
from ser_lib.models.base import Model, registered
from ser_lib.models.network_models import AcousticNetwork, FrozenEncoder
from ser_lib.models.settings import Input, ModelSettings, Names, Section, Training

# isort: split
from ser_lib.models import finetuned_encoder  # noqa: F401  # enters its class into MODELS, after the heads

FOLDER = Path(__file__).parent
# The fields that name files and folders.
PLACES = ("input.encoder", "corpora", "split.test_corpora")


class Split(Section):
    """Sizes of the split: the arguments of `ser_lib.protocols.splits.make_split`; the protocol is chosen at run time."""

    folds: int = Field(5, ge=2)
    test_fraction: float = Field(0.2, gt=0, lt=1)
    validation_fraction: float = Field(0.1, ge=0, lt=1)
    stratify: bool = True
    select_on_test: bool = False
    train_on_test: bool = False
    test_corpora: Names | None = None
    # Unlabelled clips of each test speaker that the model reads first: under `enrolled` (None: 8) and `cross-corpus`.
    enrol_clips: int | None = Field(None, ge=0)
    # Under a protocol that repeats the source only, where the source kept duplicates.
    keep_duplicates: bool = False
    # A control: labels of training and validation clips are shuffled, so that nothing can be learned.
    permute_labels: bool = False

    def split_settings(self) -> dict[str, Any]:
        """The arguments of `make_split`."""
        return self.model_dump(exclude={"keep_duplicates", "permute_labels"})


class Claim(Section):
    """The scores that the source states, and where."""

    source: str
    accuracy: float | None = None
    macro_f1: float | None = None
    text: str


class Recipe(Section):
    """One experiment, complete but for protocol and seed."""

    # It names folders, and must not lead out of them.
    name: str = Field(pattern=r"^\w[\w .+-]*$")
    # One line, as it is a heading in model cards and pages.
    title: str = Field(pattern=r"^[^\r\n]*$", max_length=200)
    variant: Literal["stated", "as-run"] = "stated"
    overrides: tuple[str, ...] = ()
    # Registered corpora, or CSV files that list a corpus: see `ser_lib.corpora.get_corpus`.
    corpora: Names
    emotions: Names = EMOTIONS
    input: Input = Input()
    model: ModelSettings
    training: Training = Training()
    split: Split = Split()
    claim: Claim | None = None
    as_run_notes: str | None = None
    # What a reader of the recipe's scores must know, such as what was chosen on the test speakers before.
    caveat: str | None = None

    @field_validator("emotions")
    @classmethod
    def _known_emotions(cls, emotions):
        return EMOTIONS if emotions == ("all",) else tuple(in_order(emotions))

    @model_validator(mode="after")
    def _settings_that_fit(self):
        """Refuse settings that do not fit together before anything is computed."""
        self.create_model()
        return self

    @property
    def _model_class(self) -> type[Model]:
        entry = registered(self.model.name)
        if issubclass(entry, Model):
            return entry
        return AcousticNetwork if self.input.encoder in ACOUSTIC_FEATURES else FrozenEncoder

    def create_model(self) -> Model:
        """The recipe's model, without weights; SerError where no model has that name or the settings do not fit."""
        return self._model_class(self.input, self.model, self.training)

    # What the model states of itself: see `ser_lib.models.base.Model`.
    reads_encoder: ClassVar[property] = property(lambda self: self._model_class.reads_encoder)
    trains_encoder: ClassVar[property] = property(lambda self: self._model_class.trains_encoder)
    features_label: ClassVar[property] = property(lambda self: self.create_model().features_label)
    input_label: ClassVar[property] = property(lambda self: self.create_model().input_label)
    model_label: ClassVar[property] = property(lambda self: self.create_model().label)

    @property
    def folder_name(self) -> str:
        """The name of the recipe's run and report folders: `demo`, `demo-as-run`, or `demo-1f0c2a9e` with overrides.

        The eight digits are a hash of what the overrides set, in any order, so that no run replaces one of other
        settings.
        """
        return self.plain_folder_name + (f"-{_hash_of(self.overrides)}" if self.overrides else "")

    @property
    def settings_hash(self) -> str:
        """Eight hexadecimal digits of all fields."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]

    @property
    def plain_folder_name(self) -> str:
        """`folder_name` without the hash of overrides, as version 0.1 named every run folder."""
        return self.name + ("-as-run" if self.variant == "as-run" else "")

    @property
    def variant_label(self) -> str:
        """The variant and the overrides, as the table of results shows them, without the folders of CSV files."""
        # The table has columns of their own for these.
        other_columns = ("training.device=", "input.encoder=", "input.revision=")
        shown = [item for item in self.overrides if not item.startswith(other_columns)]
        names = [corpus_label(name) for name in self.corpora]
        if names != list(self.corpora):
            shown = [f"corpora=[{', '.join(names)}]" if item.startswith("corpora=") else item for item in shown]
        return "; ".join([self.variant, *shown])

    @property
    def notices(self) -> list[str]:
        """Sentences for readers where an override replaced something that the title names."""
        changed = {key for item in self.overrides for key in keys_of(item)}
        notices = {
            "corpora": f"Trained on other corpora than the recipe's own: {', '.join(map(corpus_label, self.corpora))}.",
            "input.encoder": f"Another encoder than the recipe's own: {self.features_label}.",
        }
        caveat = [f"Beware: {self.caveat_of_scores}."] if self.caveat_of_scores else []
        return [*(text for key, text in notices.items() if key in changed), *caveat]

    @property
    def without_overrides(self) -> "Recipe":
        """The recipe of the package without overrides; the recipe itself where it is a file of the user's own."""
        try:
            return load_recipe(self.name, self.variant)
        except SerError:
            return self

    @property
    def caveat_of_scores(self) -> str:
        """The caveat, unless other corpora replace those for which the recipe states it; "" without one."""
        original = self.without_overrides
        return original.caveat or "" if set(self.corpora) <= set(original.corpora) else ""


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name: str | Path, variant: str = "stated", overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe by its name, or from a YAML file.

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
        known = ", ".join(recipe_names())
        what = "there is no file" if path == Path(name) else "unknown recipe"
        raise SerError(f"{what} {str(name)!r}. {hint}Give one of {known}, or a path to your own .yaml file.")
    text = read_text(path, "Expected a recipe as YAML in UTF-8.")
    try:
        fields = parse_yaml(text)
    except SerError as error:
        raise SerError(f"{path} is not YAML of a recipe: {error}") from error
    if not isinstance(fields, dict):
        raise SerError(f"{path} holds no recipe: expected keys such as title, corpora, model.")
    as_run = fields.pop("as_run", None)
    if variant == "as-run":
        if not isinstance(as_run, dict):
            reason = fields.get("as_run_notes") or "none is known."
            raise SerError(f"recipe {path.stem} has no as-run variant: {reason}")
        fields = _merged(fields, as_run)
    overrides = [overrides] if isinstance(overrides, str) else overrides
    overrides = tuple(re.sub(r"\s*=\s*", "=", item.strip(), count=1) for item in overrides)
    for item in overrides:
        fields = _merged(fields, _with_variables(_override(item)))
    keys = {key for item in overrides for key in keys_of(item)}
    if "input.encoder" in keys and "input.revision" not in keys:
        # The recipe's revision is a commit of its own encoder's repository.
        fields = _merged(fields, {"input": {"revision": None}})
    if "corpora" in keys and "title" not in keys:
        # The recipe's own title names the recipe's own corpora.
        names = fields["corpora"] if isinstance(fields["corpora"], list) else [fields["corpora"]]
        fields = fields | {
            "title": f"{', '.join(corpus_label(str(name)) for name in names)}, by the recipe {path.stem}"
        }
    try:
        # What a file says of these two would not be true.
        return Recipe.model_validate({"name": path.stem, **fields, "variant": variant, "overrides": overrides})
    except ValidationError as error:
        raise _readable(error, path.stem) from error


def keys_of(item: str) -> list[str]:
    """The dotted names of all fields that an override sets.

    >>> keys_of("training={epochs: 3, patience: 2}"), keys_of("input.audio.pad=true")
    (['training.epochs', 'training.patience'], ['input.audio.pad'])
    """

    def leaves(value: Any, name: str) -> list[str]:
        if not (isinstance(value, dict) and value):
            return [name]
        return [key for part, inner in value.items() for key in leaves(inner, f"{name}.{part}".removeprefix("."))]

    return leaves(_override(item), "")


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, with every default."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_resolved(path: Path) -> Recipe:
    """Read what `dump_recipe` wrote; SerError where it is missing, damaged, or of another version."""
    text = read_text(path)
    try:
        fields = parse_yaml(text)
        # A run from before these fields did neither.
        fields["training"].setdefault("refit", False)
        fields["input"]["audio"].setdefault("remove_offset", False)
        return Recipe.model_validate(fields)
    except ValidationError as error:
        reason = _readable(error, Path(path).parent.name)
        raise SerError(f"{path} was written by another version of ser_lib, or edited: {reason}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise SerError(f"{path} is damaged, or was edited: it is no whole recipe.") from error
    except SerError as error:
        raise SerError(f"{path} is damaged, or was edited: {error}") from error


def _override(item: str) -> dict:
    """`a.b=value` as {"a": {"b": value}}."""
    key, equals, value = item.partition("=")
    if not equals or not key.strip():
        raise SerError(f"cannot read the override {item!r}: expected key.path=value, such as training.epochs=3.")
    try:
        fields = parse_yaml(value)
    except SerError as error:
        raise SerError(f"cannot read the value of the override {item!r}: {error}") from error
    for part in reversed(key.strip().split(".")):
        fields = {part: fields}
    return fields


def _hash_of(overrides: Iterable[str]) -> str:
    """Eight hexadecimal digits of what overrides set."""
    fields: dict = {}
    for item in overrides:
        fields = _merged(fields, _override(item))
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _with_variables(fields: dict) -> dict:
    """An override, which the user has typed, with `$VARIABLES` expanded in the names of files and folders.

    Nothing else is ever expanded: a recipe of somebody else would show what the variables of this machine hold.
    """

    def expanded(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: expanded(part, f"{name}.{key}".removeprefix(".")) for key, part in value.items()}
        if isinstance(value, list):
            return [expanded(part, name) for part in value]
        if name not in PLACES or not isinstance(value, str):
            return value
        place = os.path.expandvars(value)
        if unset := re.search(r"\$\{?(\w+)", place):
            raise SerError(f"{name}={value}: the variable {unset[1]} is not set. Set it, or write the path out.")
        return place

    return expanded(fields, "")


def _merged(base: dict, changes: dict) -> dict:
    """`base` with `changes` applied, section by section."""
    both = {key for key in changes if isinstance(base.get(key), dict) and isinstance(changes[key], dict)}
    return base | changes | {key: _merged(base[key], changes[key]) for key in both}


def _readable(error: ValidationError, recipe: str) -> SerError:
    """pydantic's errors in one sentence; for an unknown key, with the nearest known one."""
    problems = []
    for problem in error.errors():
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            known = _known_keys(Recipe)
            # The last word may be right without its section: "epochs" is nearest to "training.epochs".
            near = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
            near = near or get_close_matches(key, known, n=1, cutoff=0.3) or known[:1]
            return SerError(f"unknown key {key!r} in recipe {recipe}: did you mean {near[0]!r}?")
        section = getattr(Recipe.model_fields.get(key), "annotation", None)
        if isinstance(section, type) and issubclass(section, BaseModel) and not isinstance(problem["input"], dict):
            names = ", ".join(f"{key}.{name}" for name in section.model_fields)
            problems.append(f"{key} has fields, of which one is set at a time: {names}; got {problem['input']!r}")
            continue
        value = "" if isinstance(problem.get("ctx", {}).get("error"), SerError) else f", got {problem['input']!r}"
        message = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{key}: {message}{value}" if key else message)
    return SerError(f"recipe {recipe} cannot be used: {'; '.join(problems)}")


def _known_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """The dotted names of all fields of a section and of the sections in it."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += _known_keys(kind, f"{prefix}{name}.")
    return keys
