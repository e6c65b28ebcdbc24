"""Test predictions of every row of results, in `reports/predictions/`: all tables are computed from these files alone.

One file an experiment: a recipe and its variant, what it reads, a protocol, the corpora, and one seed or several. It is
compressed text: a line of facts as JSON, which no prediction tells (see `Facts`), then CSV with the columns

seed, fold             of the run that tested the clip; fold -1: a corpus that the run was not trained on
clip_id, corpus, speaker
copy_of                another clip with the same audio, where the corpus holds one: a group of copies names its first
truth                  the emotion
angry, calm, …         one column an emotion: its probability in units of 1e-4

    path = store(runs, reports_dir)              # other seeds that the file holds stay in it
    stored = read(path)
    stored.predictions                           # a predictions table, as `ser_lib.evaluation.metrics` describes it
"""

import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, ValidationError

from ser_lib.common.errors import SerError
from ser_lib.common.files import replacing, reports_path
from ser_lib.common.hashing import hash_of
from ser_lib.inference.run import Run
from ser_lib.models import encoder_weights
from ser_lib.recipes import Recipe

UNITS = 10_000  # of a probability of 1
ABOUT = ["seed", "fold", "clip_id", "corpus", "speaker", "copy_of", "truth"]
SUFFIX = ".csv.xz"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeedFacts(_Strict):
    """What the run of one seed says of itself."""

    seed: int
    folds: int
    n_train: int  # training clips a fold, on average
    seconds: float
    device: str
    commit: str
    # From these probabilities on, the answers of each fold are certain; none where no threshold was chosen.
    certain_from: tuple[float, ...] = ()


class Facts(_Strict):
    """The facts about an experiment that its predictions do not contain, such as recipe, protocol and seeds."""

    recipe: str
    variant: str
    encoder: str  # what the model reads, as tables name it
    stand_in_for: str  # the recipe's own encoder or features, where another is read in its place
    protocol: str
    corpora: dict[str, tuple[int, int]]  # clips that were found, and clips that the corpus has
    reduced: str  # such as "3 instead of 20 epochs"
    is_control: bool  # labels of training and validation clips were shuffled, anew with each seed
    caveat: str  # of the recipe: what a reader of its scores must know
    runs: tuple[SeedFacts, ...]
    unseen: tuple[str, ...] = ()  # those of `corpora` that the run was not trained on, and answers for beside its own
    answers: str = ""  # which model answers for the unseen corpora, such as "the run's model"

    @property
    def corpus_labels(self) -> dict[str, str]:
        """The name of each corpus in results: `crema_d-part` where clips were missing."""
        return {name: name + "-part" * (found < expected) for name, (found, expected) in self.corpora.items()}

    @property
    def file_name(self) -> str:
        """The same for all seeds, and of no other experiment."""
        parts = [self.variant, self.encoder, *sorted(self.corpus_labels.values()), *self.unseen]
        return f"{self.recipe}.{self.protocol}.{hash_of(*parts):016x}{SUFFIX}"


@dataclass(frozen=True)
class StoredPredictions:
    """The test predictions of an experiment, with the seeds, folds, speakers, corpora and copies of the clips."""

    facts: Facts
    table: pd.DataFrame  # the columns of the file

    @property
    def emotions(self) -> list[str]:
        """In the order of the model's outputs."""
        return list(self.table.columns[len(ABOUT) :])

    @property
    def predictions(self) -> pd.DataFrame:
        """The predictions table, in the order of `table`."""
        return self.table[["clip_id", "truth"]].join(self.table[self.emotions] / UNITS)

    def part(self, is_used: ArrayLike) -> "StoredPredictions":
        """Some of the rows."""
        return StoredPredictions(self.facts, self.table[np.asarray(is_used)].reset_index(drop=True))

    def certain(self) -> pd.Series | None:
        """Whether each answer is certain, by the threshold of its seed and fold; None where a seed has none."""
        limits = {(run.seed, fold): limit for run in self.facts.runs for fold, limit in enumerate(run.certain_from)}
        keys = pd.Series(list(zip(self.table["seed"], self.table["fold"], strict=True)), index=self.table.index)
        thresholds = keys.map(limits)
        if thresholds.isna().any():
            return None
        return self.table[self.emotions].max(axis=1) / UNITS >= thresholds

    @property
    def copies(self) -> pd.Series:
        """The group of each row: the same for all copies of a recording."""
        return self.table["copy_of"].where(self.table["copy_of"] != "", self.table["clip_id"])


def predictions_dir(reports_dir: str | Path | None = None) -> Path:
    """The folder of all files; None: in `reports/` of the checkout."""
    return reports_path("predictions", reports_dir)


def collect(runs: Sequence[Run]) -> StoredPredictions:
    """The predictions of one experiment, run with one seed or several.

    Raises:
        SerError: the runs differ in more than their seed, or two have the same.
    """
    check_same_experiment(runs)
    first = runs[0]
    recipe = first.recipe
    seeds = []
    for run in runs:
        folds = run.split["fold"].nunique()
        n_train = round((run.split["subset"] == "train").sum() / folds)
        about = {name: run.environment[name] for name in ("seconds", "device", "commit")}
        certain_from = tuple(round(value, 4) for value in (run.metrics.get("certainty") or {}).get("by_fold", ()))
        seeds.append(SeedFacts(seed=run.seed, folds=folds, n_train=n_train, certain_from=certain_from, **about))
    facts = Facts(
        recipe=recipe.name,
        variant=recipe.variant_label,
        encoder=recipe.features_label,
        stand_in_for=stand_in_for(recipe),
        protocol=first.protocol,
        corpora={name: (count["found"], count["expected"]) for name, count in first.environment["corpora"].items()},
        reduced=reduced(recipe),
        is_control=recipe.split.permute_labels,
        caveat=recipe.caveat_of_scores,
        runs=tuple(seeds),
    )
    # Copies among all clips of the run have the same name whichever of them are tested with a seed.
    tables = [
        rows_of(run.test_clips(), run.split.drop_duplicates("clip_id"), run.predictions, run.emotions) for run in runs
    ]
    return _in_order(facts, pd.concat(tables, ignore_index=True))


def check_same_experiment(runs: Sequence[Run]) -> None:
    """Check that runs differ in their seed, and in nothing else."""
    first = runs[0]
    for run in runs[1:]:
        if (run.recipe, run.protocol, run.emotions) != (first.recipe, first.protocol, first.emotions):
            raise SerError(f"{run.folder} and {first.folder} are not the same experiment: only the seed may differ.")
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise SerError(f"expected runs of different seeds, got the seeds {', '.join(map(str, seeds))}.")


def _in_order(facts: Facts, table: pd.DataFrame) -> StoredPredictions:
    """Sort predictions by seed and clip, so that the same predictions always make the same file."""
    runs = tuple(sorted(facts.runs, key=lambda run: run.seed))
    ordered = table.sort_values(["seed", "clip_id"], kind="stable", ignore_index=True)
    return StoredPredictions(facts.model_copy(update={"runs": runs}), ordered)


def rows_of(about: pd.DataFrame, clips: pd.DataFrame, predictions: pd.DataFrame, emotions: list[str]) -> pd.DataFrame:
    """The rows of a file.

    Args:
        about: seed, fold, clip_id, corpus and speaker of each row of the predictions.
        clips: each once; of those with the same audio, the first names the others.
    """
    audio = clips.get("audio_hash", clips["clip_id"])
    first = clips.groupby(audio.where(audio != "", clips["clip_id"]))["clip_id"].transform("min")
    originals = about["clip_id"].map(dict(zip(clips["clip_id"], first, strict=True)))
    copy_of = originals.where(originals != about["clip_id"], "")
    units = pd.DataFrame(in_units(predictions[emotions].to_numpy(dtype=float)), columns=emotions)
    return about.assign(copy_of=copy_of, truth=predictions["truth"].to_numpy())[ABOUT].join(units)


def in_units(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities in units of 1e-4, with the same decision in each row: int of the same shape, (n, n_emotions).

    >>> in_units(np.array([[0.33331, 0.33334, 0.33335]])).tolist()
    [[3333, 3333, 3334]]
    """
    units = np.rint(probabilities * UNITS).astype(int)
    rows, decision = np.arange(len(units)), probabilities.argmax(axis=1)
    # Rounding may make two equal, of which the first would be the decision.
    units[rows, decision] += units.argmax(axis=1) != decision
    return units


def stand_in_for(recipe: Recipe) -> str:
    """What the recipe's own model reads, if this one reads something else in its place, else ""."""
    original = recipe.without_overrides
    read, stated = (_weights_name(each.input.encoder) for each in (recipe, original))
    return original.features_label if read != stated else ""


def _weights_name(encoder: str) -> str:
    """A name without its owner: a folder `whisper-base-encoder` holds the encoder of `openai/whisper-base`."""
    return encoder_weights.label(encoder).split("/")[-1].removesuffix("-encoder")


def reduced(recipe: Recipe) -> str:
    """The epochs and folds of a recipe where they are fewer than its own, such as "3 instead of 20 epochs", else ""."""
    original = recipe.without_overrides
    sizes = [
        ("epochs", recipe.training.epochs, original.training.epochs),
        ("folds", recipe.split.folds, original.split.folds),
    ]
    return ", ".join(f"{now} instead of {full} {name}" for name, now, full in sizes if now < full)


def store(runs: Sequence[Run], reports_dir: str | Path | None = None) -> Path:
    """Write the predictions of an experiment into its file; seeds that it held already, and that are not given, stay.

    Raises:
        SerError: as `collect`, or the file holds a seed of other settings or with other numbers of clips.
    """
    new = collect(runs)
    folder = predictions_dir(reports_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / new.facts.file_name
    # Two processes may add a seed each to the same file.
    with FileLock(folder.with_name(".predictions.lock")):
        if path.is_file():
            new = merged(read(path), new, path)
        write(new, path)
    return path


def merged(old: StoredPredictions, new: StoredPredictions, path: Path) -> StoredPredictions:
    """The new predictions, and the old ones of all other seeds."""
    replaced = {run.seed for run in new.facts.runs}
    kept = tuple(run for run in old.facts.runs if run.seed not in replaced)
    if not kept:
        return new
    facts = new.facts.model_copy(update={"runs": (*kept, *new.facts.runs)})
    same = old.facts.model_copy(update={"runs": ()}) == new.facts.model_copy(update={"runs": ()})
    if not same or old.emotions != new.emotions:
        seeds = " ".join(str(run.seed) for run in kept)
        raise SerError(
            f"{path} holds predictions of the same experiment with the seeds {seeds}, which were measured on other clips "
            "or emotions: move that file away, and add the runs of all seeds again."
        )
    table = old.table[~old.table["seed"].isin(replaced)]
    return _in_order(facts, pd.concat([table, new.table], ignore_index=True))


def write(stored: StoredPredictions, path: Path) -> None:
    """Write a file; the same predictions make the same bytes."""
    facts = json.dumps(stored.facts.model_dump(mode="json"), ensure_ascii=False)
    text = stored.table.to_csv(index=False, lineterminator="\n")
    with replacing(path) as part:
        part.write_bytes(lzma.compress(f"# {facts}\n{text}".encode(), preset=9))


def read(path: Path) -> StoredPredictions:
    """Read a file of predictions; SerError where the file cannot be read or is not such a file."""
    expected = f"expected what `ser evaluate` writes: facts as JSON, then CSV with the columns {', '.join(ABOUT)}"
    try:
        first, _, rest = lzma.decompress(path.read_bytes()).decode().partition("\n")
        facts = Facts.model_validate_json(first.removeprefix("# "))
        table = pd.read_csv(StringIO(rest), keep_default_na=False, dtype={name: str for name in ABOUT[2:]})
    except (lzma.LZMAError, EOFError, UnicodeDecodeError, ValidationError, pd.errors.ParserError, ValueError) as error:
        raise SerError(f"{path} cannot be read: {expected}. {error}") from error
    if list(table.columns[: len(ABOUT)]) != ABOUT or table.empty:
        raise SerError(f"{path} has other columns than expected: {', '.join(table.columns)}; {expected}.")
    return StoredPredictions(facts, table)


def read_all(folder: Path) -> list[StoredPredictions]:
    """All files of a folder, in the order of their names."""
    return [read(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
