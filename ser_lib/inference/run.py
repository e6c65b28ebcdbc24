"""The run folder: everything that training writes and that predicting, evaluating and exporting read.

runs/<recipe>/<protocol>/<seed>/
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

On the Hub, and in a folder that `ser_lib.deploy.to_hub` makes, the files of the model that answers are beside the others.
"""

import importlib.metadata
import json
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from ser_lib.common.errors import SerError
from ser_lib.common.files import project_dir
from ser_lib.inference.predict import predict
from ser_lib.inference.predictor import Predictor
from ser_lib.models import encoder_weights
from ser_lib.models.base import Model
from ser_lib.protocols.splits import get_protocol, load_split
from ser_lib.recipes import Recipe, read_resolved

FILES = ("recipe.yaml", "split.csv", "audit.csv", "history.csv", "predictions.csv", "metrics.json", "environment.json")
# Of the model that answers, in a flat folder; a network on acoustic features has no preprocessor_config.json.
MODEL_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
LIBRARIES = ("numpy", "pandas", "scikit-learn", "librosa", "soundfile", "soxr", "torch", "transformers", "accelerate")


@dataclass(frozen=True)
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

    @property
    def protocol(self) -> str:
        return self.split["protocol"].iloc[0]

    @property
    def seed(self) -> int:
        return int(self.split["seed"].iloc[0])

    @property
    def emotions(self) -> list[str]:
        """In the order of the model's outputs."""
        return list(self.predictions.columns[2:])

    @property
    def corpora(self) -> dict[str, str]:
        """The name of each corpus in results: `crema_d-part` where clips were missing."""
        counts = self.environment["corpora"]
        return {name: name + ("-part" if count["found"] < count["expected"] else "") for name, count in counts.items()}

    def test_clips(self) -> pd.DataFrame:
        """Split rows of the predictions, aligned to them: speaker, corpus, fold of each test clip."""
        tested = self.split[self.split["subset"] == "test"].set_index("clip_id")
        return tested.loc[self.predictions["clip_id"]].reset_index()

    def learned_from(self, fold: int | str | None = None) -> pd.DataFrame:
        """The rows of the split whose clips a model has learned from; `fold` is as of `predictor`."""
        if fold is None and self.answers_for_all:
            return self.split
        of_fold = self.split["fold"] == (fold or 0)
        return self.split[(of_fold | (fold == "all")) & (self.split["subset"] != "test")]

    @property
    def answers_for_all(self) -> bool:
        """Whether the model that answers was fitted on all clips; else it is that of fold 0."""
        return self.environment["model"].get("fitted_on") == "all clips"

    def model(self, fold: int | None = None) -> Model:
        """The model that answers, or that of one fold, on the CPU."""
        return self.recipe.create_model().load(model_folder(self.folder, fold), model_folder(self.folder))

    def predictor(self, fold: int | str | None = None, device: str = "auto") -> Predictor:
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
        return Predictor(self.recipe, folders, model_folder(self.folder), device)

    def predict(
        self, sources, sampling_rate: int | None = None, fold: int | str | None = None, progress: bool = True
    ) -> pd.DataFrame:
        """Predict the emotions of files, folders, recordings or arrays: see `ser_lib.inference.predict.predict`."""
        return predict(self.predictor(fold), sources, sampling_rate, progress)


def load_run(folder: str | Path) -> Run:
    """Read a run folder, or what `ser_lib.deploy.to_hub` made of one.

    Where there is no folder of that name, "user/name" is a repository of the Hugging Face Hub, fetched into the Hub's
    cache, which later answers without a network.

    Raises:
        SerError: a file is missing or cannot be read, or the Hub shows no such repository or cannot be reached.
    """
    if HUB_NAME.fullmatch(str(folder)) and not Path(folder).exists():
        folder = _fetched(str(folder))
    folder = Path(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        advice = "Expected runs/<recipe>/<protocol>/<seed>, as `ser train RECIPE --protocol PROTOCOL` makes it"
        raise SerError(f"{folder} is not a run folder: {', '.join(missing)} missing. {advice}.")
    try:
        return Run(
            folder=folder,
            recipe=read_resolved(folder / "recipe.yaml"),
            split=load_split(folder / "split.csv"),
            audit=read_table(folder / "audit.csv").astype({"clips": "Int64"}),
            history=read_table(folder / "history.csv"),
            predictions=read_table(folder / "predictions.csv"),
            metrics=json.loads((folder / "metrics.json").read_text()),
            environment=json.loads((folder / "environment.json").read_text()),
        )
    except (pd.errors.ParserError, json.JSONDecodeError) as error:
        raise SerError(f"a file in {folder} cannot be read: {error}. Train the run again.") from error


def _fetched(name: str) -> Path:
    """The folder of a Hub's repository in the Hub's cache."""
    from huggingface_hub import errors, snapshot_download

    try:
        with encoder_weights.quiet_hub():
            # By name: other files of a repository, such as pickled weights, are never fetched.
            return Path(snapshot_download(name, allow_patterns=[*FILES, *MODEL_FILES, "README.md"]))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        advice = "Check the name; for a private repository, `hf auth login`"
        raise SerError(
            f"{name} is not a run folder, and the Hub shows no repository of that name. {advice}."
        ) from error
    except (OSError, errors.HTTPError) as error:
        raise SerError(
            f"{name} is not a run folder, nor in the Hub's cache, and the Hub cannot be reached. Name a folder that "
            "`ser train` or `ser export` made; or load it once where there is a network, and name that cache in HF_HOME."
        ) from error


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV of a run folder. `None`, `NA` and the like are names in it, not missing values; "" is missing."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def run_folder(recipe: Recipe, protocol: str, seed: int, runs_dir: str | Path | None = None) -> Path:
    """The folder of the run of a recipe under a protocol with a seed."""
    return runs_root(runs_dir) / recipe.folder_name / protocol / str(seed)


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
