"""The run folder: everything that training writes and that predicting, evaluating and exporting read.

runs/<recipe>/<protocol>/<seed>/     with overrides, <recipe> ends in a hash of them: `Recipe.folder_name`
    recipe.yaml       the resolved recipe
    split.csv         fold, subset, clip_id, …: training, validation and test clips of every fold
    audit.csv         leaks of the split
    history.csv       one row a fold and epoch
    predictions.csv   clip_id, truth, one probability column an emotion: every test clip of every fold
    metrics.json      scores with intervals: overall, by fold, by corpus, by emotion
    model/            config.json and model.safetensors of the model that answers, which
                      `AutoModelForAudioClassification` loads if it has an encoder: fitted on all clips, or, where the
                      recipe does not refit, that of fold 0; model/fold-0/ … of the folds, of a frozen encoder only the head
    environment.json  versions, device, commit, seconds, clips found of each corpus, the size of the model
    README.md         a model card
    manifest.json     the SHA-256 of each of these files, written last and checked when they are read

On the Hub, and in a folder that `ser_lib.deploy.to_hub` makes, the files of the model that answers are beside the others.
"""

import importlib.metadata
import logging
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import BaseModel, ValidationError

from ser_lib.common import manifest
from ser_lib.common.errors import SerError
from ser_lib.common.files import being_replaced, damaged, file_hash, project_dir, read_json, read_table, with_home
from ser_lib.common.manifest import Manifest
from ser_lib.inference.enrolment import Speaker, enrol, for_speaker
from ser_lib.inference.predict import predict
from ser_lib.inference.predictor import Predictor, TrainedPredictor
from ser_lib.models import encoder_weights
from ser_lib.models.base import Model
from ser_lib.protocols.splits import PROTOCOLS, get_protocol, load_split
from ser_lib.recipes import Recipe, read_resolved, recipe_names

FILES = ("recipe.yaml", "split.csv", "audit.csv", "history.csv", "predictions.csv", "metrics.json", "environment.json")
AUDIT = ("leak", "severity", "clips", "share", "examples", "meaning")
# Of the model that answers, in a flat folder; a network on acoustic features has no preprocessor_config.json.
MODEL_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
# Times that a run is read again, with a pause, where it is just being replaced by a newer one.
ATTEMPTS, PAUSE_SECONDS = 40, 0.05
LIBRARIES = ("numpy", "pandas", "scikit-learn", "librosa", "soundfile", "soxr", "torch", "transformers", "accelerate")


logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run, read from its folder."""

    folder: Path
    recipe: Recipe
    # The split's rows, without the columns that are read from the audio files.
    split: pd.DataFrame
    audit: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame
    metrics: dict
    environment: dict
    # In the order of the model's outputs, from the model's own configuration.
    emotions: list[str]
    # The folder's manifest; None for a folder of before.
    written: Manifest | None = None

    def __repr__(self) -> str:
        score = self.metrics["overall"]["uar"]
        return f"<Run {self.folder}: {self.recipe.name} under {self.protocol}, seed {self.seed}, UAR {score:.3f}>"

    @property
    def protocol(self) -> str:
        return self.split["protocol"].iloc[0]

    @property
    def seed(self) -> int:
        return int(self.split["seed"].iloc[0])

    @property
    def corpora(self) -> dict[str, str]:
        """The name of each corpus in results: `crema_d-part` where clips were missing."""
        counts = self.environment["corpora"]
        return {name: name + ("-part" if count["found"] < count["expected"] else "") for name, count in counts.items()}

    def test_clips(self) -> pd.DataFrame:
        """Split rows of the predictions, aligned to them: speaker, corpus, fold of each test clip."""
        tested = self.split[self.split["subset"] == "test"].set_index("clip_id")
        return tested.loc[self.predictions["clip_id"]].reset_index()

    @contextmanager
    def _unchanged(self, folders: Iterable[Path]) -> Iterator[None]:
        """Check models before they are read, and afterwards that the run was not replaced meanwhile."""
        for folder in {*folders, model_folder(self.folder)}:
            listed = {self.folder / name for name in (self.written.hashes if self.written else ())}
            files = {path for path in listed if path.parent == folder and path.name in MODEL_FILES}
            files |= {folder / name for name in MODEL_FILES if (folder / name).is_file()}
            manifest.check(self.folder, self.written, sorted(files))
        try:
            yield
        except SerError:
            manifest.check_current(self.folder, self.written)
            raise
        manifest.check_current(self.folder, self.written)

    def learned_from(self, fold: int | str | None = None) -> pd.DataFrame:
        """The rows of the split whose clips a model has learned from; `fold` is as of `predictor`."""
        if fold is None and self.answers_for_all:
            return self.split
        of_fold = self.split["fold"] == (fold or 0)
        return self.split[(of_fold | (fold == "all")) & self.split["subset"].isin(["train", "validation"])]

    @property
    def answers_for_all(self) -> bool:
        """Whether the model that answers was fitted on all clips; else it is that of fold 0."""
        return self.environment["model"].get("fitted_on") == "all clips"

    def model(self, fold: int | None = None) -> Model:
        """The model that answers, or that of one fold, on the CPU; SerError where it is not the one that was saved."""
        folder = model_folder(self.folder, fold)
        with self._unchanged([folder]):
            return self.recipe.create_model().load(folder, model_folder(self.folder))

    def predictor(self, fold: int | str | None = None, device: str = "auto") -> TrainedPredictor:
        """The model that answers in memory, for any audio; or that of a fold; "all": the mean of all folds' probabilities.

        Raises:
            SerError: the run has no such fold, a file of the model is damaged, or the protocol is transductive.
        """
        if get_protocol(self.protocol).is_transductive:
            problem = "was trained on features standardised by speaker, which one recording does not tell"
            raise SerError(f"{self.folder} {problem}: use a run under another protocol, such as speaker.")
        every = sorted(set(map(int, self.split["fold"])))
        numbers = [None] if fold is None else [number for number in every if fold in (number, "all")]
        folders = [model_folder(self.folder, number) for number in numbers]
        if not folders:
            raise SerError(f'there is no fold {fold!r}: {self.folder} has {every[0]} to {every[-1]}, and "all".')
        with self._unchanged(folders):
            model_hash = file_hash(folders[0] / "model.safetensors")
            complete_folder = model_folder(self.folder)
            return TrainedPredictor(self.recipe, folders, complete_folder, device, self.certain_from, model_hash)

    @property
    def certain_from(self) -> float | None:
        """The probability from which on an answer is certain: see `ser_lib.evaluation.metrics.certain_from`; None: not known."""
        return (self.metrics.get("certainty") or {}).get("threshold")

    def enrol(self, sources, sampling_rate: int | None = None, name: str = "") -> Speaker:
        """What the model keeps of a speaker from unlabelled recordings: see `ser_lib.inference.enrolment.enrol`."""
        return enrol(self.predictor(), sources, sampling_rate, name)

    def predict(
        self,
        sources,
        sampling_rate: int | None = None,
        fold: int | str | None = None,
        progress: bool = True,
        as_clips: bool = False,
        speaker: Speaker | str | None = None,
    ) -> pd.DataFrame:
        """Predict the emotions of files, folders, recordings or arrays: see `ser_lib.inference.predict.predict`.

        Args:
            speaker: whose recordings they are, as `enrol` returned it, or the name of one that was saved.
        """
        predictor: Predictor = self.predictor(fold)
        if speaker is not None:
            predictor = for_speaker(predictor, speaker)
        return predict(predictor, sources, sampling_rate, progress, as_clips)


def load_run(folder: str | Path) -> Run:
    """Read a run folder, or what `ser_lib.deploy.to_hub` made of one.

    Args:
        folder: the run folder; or a folder above it that holds no other run, such as `runs/demo`. Where there is no
            such folder, nor the folder that should hold it, "user/name" is a repository of the Hugging Face Hub,
            fetched into the Hub's cache, which later answers without a network.

    Raises:
        SerError: a file is missing, damaged or of another run, a folder holds several runs, or the Hub shows no such
            repository or cannot be reached.
    """
    folder = find_run(folder)
    for _ in range(ATTEMPTS):
        try:
            run = read_run(folder)
            break
        except manifest.ReplacedError:
            time.sleep(PAUSE_SECONDS)
    else:
        run = read_run(folder)
    if run.written is None:
        logger.warning("%s has no %s: whether its files are unchanged cannot be checked", folder, manifest.NAME)
    return run


def read_run(folder: Path) -> Run:
    """Read the files of a run folder, all of one run; `load_run` tries again where it is replaced meanwhile."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    # Looked for again last, since the other run may have come into place after the first look.
    if missing and (being_replaced(folder) or all((folder / name).is_file() for name in missing)):
        raise manifest.ReplacedError(f"{folder} is being replaced by another run. Try again.")
    if missing:
        raise SerError(
            f"{folder} is not a run folder: {', '.join(missing)} missing. {_command_for(folder)} makes one, and "
            "`ser runs` lists those that are there."
        )
    written = manifest.read(folder)
    manifest.check(folder, written, [folder / name for name in FILES])
    try:
        recipe = read_resolved(folder / "recipe.yaml")
        split = load_split(folder / "split.csv")
        model = model_folder(folder)
        manifest.check(folder, written, [model / "config.json"])
        emotions = recipe.create_model().saved_emotions(model)
        run = Run(
            folder=folder,
            recipe=recipe,
            split=split,
            audit=read_table(folder / "audit.csv", manifest.AGAIN, AUDIT, {"clips": "Int64"}),
            history=read_table(folder / "history.csv", manifest.AGAIN, ("fold", "epoch")),
            predictions=_predictions(folder / "predictions.csv", split, emotions),
            metrics=_checked(folder / "metrics.json", _Metrics),
            environment=_checked(folder / "environment.json", _Environment),
            emotions=emotions,
            written=written,
        )
    except SerError:
        manifest.check_current(folder, written)
        raise
    manifest.check_current(folder, written)
    return run


class _Score(BaseModel):
    accuracy: float
    uar: float
    macro_f1: float
    n_test: int


class _Metrics(BaseModel):
    overall: _Score
    by_corpus: dict[str, _Score]
    by_fold: list[_Score]
    by_emotion: list[dict[str, Any]]


class _Count(BaseModel):
    found: int
    expected: int


class _Size(BaseModel):
    parameters: int
    trained_parameters: int
    clips_per_second: float


class _Environment(BaseModel):
    device: str
    commit: str
    seconds: float
    versions: dict[str, str]
    corpora: dict[str, _Count]
    model: _Size


def _checked(path: Path, form: type[BaseModel]) -> dict:
    """The object in a JSON file, which has at least the fields of `form`."""
    value = read_json(path, manifest.AGAIN)
    try:
        form.model_validate(value)
    except ValidationError as error:
        raise damaged(path, error, manifest.AGAIN) from error
    return value


def _predictions(path: Path, split: pd.DataFrame, emotions: list[str]) -> pd.DataFrame:
    """The predictions, whose columns and clips are those of the model and of the split."""
    table = read_table(path, manifest.AGAIN, ("clip_id", "truth"), dict.fromkeys(emotions, float))
    if list(table.columns) != ["clip_id", "truth", *emotions]:
        answered, named = ", ".join(emotions), ", ".join(map(str, table.columns[2:]))
        problem = f"its columns are {named}, but the model beside it answers {answered}, in this order"
        raise damaged(path, problem, f"These are files of two runs. {manifest.AGAIN}")
    tested = split["clip_id"][split["subset"] == "test"]
    if not set(table["clip_id"]) <= set(tested) or not set(table["truth"]) <= set(emotions):
        raise damaged(path, "it has clips or emotions that split.csv does not test", manifest.AGAIN)
    return table


def find_run(name: str | Path) -> Path:
    """The folder of the run that a user names: see `load_run`. Whether the run is complete is not checked.

    Raises:
        SerError: there is nothing of that name here or on the Hub, or the folder holds several runs.
    """
    folder = with_home(name)
    # Looked for again last, since another run may have come into place after the first look.
    if not (folder.exists() or being_replaced(folder) or folder.exists()):
        # A mistyped `runs/demo` is no repository of a user called "runs".
        is_local = folder.parts[:1] == (runs_root().name,) or folder.parent.is_dir() and folder.parent != Path()
        if HUB_NAME.fullmatch(str(name)) and not is_local:
            return _fetched(str(name))
        raise SerError(
            f"{folder} is not a run folder: it does not exist.{others_of(folder)} {_command_for(folder)} makes one, and "
            "`ser runs` lists those that are there."
        )
    below = runs_below(folder)
    if len(below) > 1:
        names = ", ".join(map(str, below[:5])) + (", ..." if len(below) > 5 else "")
        raise SerError(f"{folder} holds {len(below)} runs: name one of {names}.")
    return below[0] if below else folder


def runs_below(folder: Path) -> list[Path]:
    """The folders of all finished runs in a folder, itself included, sorted; those of interrupted runs are left out."""
    if (folder / "recipe.yaml").is_file():
        return [folder]
    inside = sorted(path for path in folder.glob("*/") if not path.name.startswith("."))
    return [run for path in inside for run in runs_below(path)]


def others_of(folder: Path) -> str:
    """The runs of other settings than those of a folder that is not there, as a sentence; "" where there are none."""
    # `runs/demo` and `runs/demo/speaker/0` alike: the recipe's folder is the first that is missing.
    missing = next((path for path in [*reversed(folder.parents), folder] if not path.exists()), folder)
    runs: list[str] = []
    with suppress(OSError):
        others = sorted(path for path in missing.parent.iterdir() if path.name.startswith(f"{missing.name}-"))
        runs = [str(run) for other in others for run in runs_below(other)]
    return f" Settings change the folder's name: did you mean {' or '.join(runs[:3])}?" if runs else ""


def _command_for(folder: Path) -> str:
    """The command that trains the run of a folder, as far as the folder's name tells: `ser train demo`."""
    *_, recipe, protocol, seed = ("", "", "", *folder.parts)
    recipe, variant = recipe.removesuffix("-as-run"), " --variant as-run" * recipe.endswith("-as-run")
    if recipe in recipe_names() and protocol in PROTOCOLS and seed.isdecimal():
        options = f" --protocol {protocol}" * (protocol != "speaker") + f" --seed {seed}" * (seed != "0")
        return f"`ser train {recipe}{variant}{options}`"
    known = [part for part in folder.parts if part in recipe_names()]
    return f"`ser train {known[0] if known else 'RECIPE'}`"


def _fetched(name: str) -> Path:
    """The folder of a Hub's repository in the Hub's cache."""
    from huggingface_hub import snapshot_download

    unknown = SerError(
        f"{name} is not a run folder, and the Hub shows no repository of that name. Check the name; for a private "
        "repository, `hf auth login`."
    )
    unreachable = SerError(
        f"{name} is not a run folder, nor in the Hub's cache, and the Hub cannot be reached. Name a folder that "
        "`ser train` or `ser export` made; or load it once where there is a network, and name that cache in HF_HOME."
    )
    with encoder_weights.hub_errors(unknown, unreachable):
        # By name: other files of a repository, such as pickled weights, are never fetched.
        return Path(snapshot_download(name, allow_patterns=[*FILES, *MODEL_FILES, manifest.NAME, "README.md"]))


def write_manifest(folder: Path) -> None:
    """Write the manifest of a run folder, or of an export to the Hub, whose other files are complete."""
    files = [folder / name for name in (*FILES, *MODEL_FILES, "README.md")]
    files += [path for path in (folder / "model").rglob("*") if path.is_file()]
    manifest.write(folder, [path for path in files if path.is_file()])


def run_folder(recipe: Recipe, protocol: str, seed: int, runs_dir: str | Path | None = None) -> Path:
    """The folder of the run of a recipe under a protocol with a seed, whether it is there or not.

    Where the folder `recipe.folder_name` holds a run of other settings, as of a recipe.yaml that was edited since, the
    name ends in a hash of the settings, so that no run replaces another.
    """
    root, place = runs_root(runs_dir), Path(protocol) / str(seed)

    def recipe_in(name: str) -> Recipe | None:
        # With a damaged one nothing is lost.
        with suppress(SerError, OSError):
            return read_resolved(root / name / place / "recipe.yaml")
        return None

    # Version 0.1 wrote the runs of all overrides to one folder.
    if recipe_in(recipe.plain_folder_name) == recipe:
        return root / recipe.plain_folder_name / place
    if recipe_in(recipe.folder_name) in (recipe, None):
        return root / recipe.folder_name / place
    return root / f"{recipe.folder_name}-{recipe.settings_hash}" / place


def runs_root(runs_dir: str | Path | None = None) -> Path:
    """The folder of all runs: `runs_dir`, else `runs` in the checkout."""
    return Path(runs_dir) if runs_dir else project_dir() / "runs"


def model_folder(run: Path, fold: int | None = None) -> Path:
    """The folder of a fold's model; None: of the model that answers, which in an export to the Hub is the run folder."""
    if (run / "config.json").is_file():
        if fold is None:
            return run
        raise SerError(
            f"{run} holds one model alone, as every export to the Hub, and none of fold {fold}: name no fold."
        )
    of_fold = run / "model" / f"fold-{fold}"
    # Where no model is fitted on all clips, that of fold 0 answers.
    return run / "model" if fold is None or (fold == 0 and not of_fold.is_dir()) else of_fold


def environment(device: torch.device, seconds: float, corpora: dict) -> dict:
    """Versions, device, commit and time: what a score depends on besides recipe and data."""
    packages = ("ser-lib", *LIBRARIES, "peft")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "device": f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type,
        "commit": git_commit(),
        "seconds": round(seconds, 1),
        "corpora": corpora,
    }


def git_commit() -> str:
    """The short hash of the checkout, with `+` where the package differs from it; "" outside of git."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    commands = (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "."])
    try:
        commit, changes = (subprocess.check_output(git + command, stderr=subprocess.DEVNULL) for command in commands)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.decode().strip() + ("+" if changes.strip() else "")
