"""All folds of an experiment: from a recipe, a protocol and a seed to a run folder.

A run that was stopped, by Ctrl-C or by `kill -9`, resumes from its finished folds and ends with the same numbers as an
uninterrupted run: finished folds are kept in a folder until all are finished. Folds of another recipe, other clips or
other code are never used for a run: everything that they depend on is written beside them. Locks keep jobs that train
folds of one run apart.
"""

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout

from ser_lib.common import distributed, manifest
from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError
from ser_lib.common.files import code_of, move_into_place, read_json, read_table, restore, write_text
from ser_lib.corpora import get_corpus
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation import metrics
from ser_lib.inference.model_card import model_card
from ser_lib.inference.run import Run, environment, load_run, read_run, run_folder, write_manifest
from ser_lib.models import encoder_weights
from ser_lib.models.base import Inputs, Model, take
from ser_lib.models.settings import Training
from ser_lib.protocols.leak_audit import audit
from ser_lib.protocols.splits import ENROLMENT, Protocol, get_protocol, save_split
from ser_lib.recipes import Recipe, dump_recipe, keys_of
from ser_lib.recipes.inputs import clips_of, inputs_of, split_of

logger = logging.getLogger(__name__)

# The folder of the final model among those of the folds.
FINAL = "final"
# What the finished folds of an unfinished run depend on, beside them.
IDENTITY = "identity.json"
# Where an edit may change what a fold learns; inputs and split are compared as they are.
TRAINING_CODE = ("common", "audio", "models", "training")


def train(
    recipe: Recipe,
    protocol: str = "speaker",
    seed: int = 0,
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    progress: bool = True,
    folds: list[int] | None = None,
) -> Run | None:
    """Train and test every fold, and write the run folder; it replaces an earlier run of the same settings at the end.

    Args:
        folds: train only these, as one of several jobs on machines that share the disk. The job that finishes last
            assembles the run; the others return None.

    Raises:
        SerError: clips cannot be found or split, a setting has no effect, the model cannot use clips for enrolment,
            the loss became NaN, or a fold does not exist or is trained by another process.
    """
    started = time.monotonic()
    refuse_idle_overrides(recipe)
    final = run_folder(recipe, protocol, seed, runs_dir)
    if final.parents[1].name.endswith(recipe.settings_hash) and distributed.is_first():
        logger.warning(
            "%s has a run of other settings, which stays: this run's folder is %s", recipe.folder_name, final
        )
    with distributed.first_alone():
        clips = clips_of(recipe, protocol, data_dir, progress)
    split = split_of(recipe, clips, protocol, seed)
    if ENROLMENT in set(split["subset"]):
        # Before the training, which may take hours.
        recipe.create_model().check_takes_profile()
    # Cross-corpus splits keep fewer emotions than the recipe names.
    emotions = in_order(split["emotion"])
    clips = clips[clips["clip_id"].isin(split["clip_id"])].reset_index(drop=True)
    inputs = inputs_of(recipe, clips, protocol, progress)
    leaks = audit(split)
    prepared_seconds = time.monotonic() - started

    every = sorted(int(fold) for fold in split["fold"].unique())
    unknown = sorted(set(folds or []) - set(every))
    if unknown:
        raise SerError(f"there is no fold {unknown[0]}: {protocol} has the folds 0 to {every[-1]} here.")
    # A damaged run is replaced as well.
    with suppress(SerError):
        before = set(read_table(final / "split.csv", columns=["clip_id"])["clip_id"])
        if before != set(split["clip_id"]) and distributed.is_first():
            logger.warning("%s is of other clips (%d): this run replaces it when it has ended", final, len(before))
    partial = partial_of(final)
    identity = identity_of(recipe, split, inputs)
    if distributed.is_first():
        final.parent.mkdir(parents=True, exist_ok=True)
        restore(final)
        resume_or_start(partial, identity, alone=folds is None)
    distributed.wait()
    shared = _Run(recipe, get_protocol(protocol), clips, inputs, emotions, seed, partial, progress)
    for fold in every if folds is None else sorted(set(folds)):
        with locked(partial.with_name(f"{partial.stem}.fold-{fold}.lock"), f"fold {fold} of {final}"):
            # One process asks for all, since the first is about to make the folder.
            if not distributed.from_first(distributed.is_first() and is_trained(partial, fold, identity)):
                _train_fold(shared, split[split["fold"] == fold])
    distributed.wait()
    # The job that finds all folds trained; where two do, the second waits, and finds the work done.
    if shared.has_final and distributed.from_first(all_trained(partial, every)):
        with locked(partial.with_name(f"{partial.stem}.final.lock"), f"the final model of {final}", wait=True):
            is_missing = all_trained(partial, every) and not all_trained(partial, [FINAL])
            if distributed.from_first(is_missing):
                _train_final(shared, every)
    distributed.wait()
    joined = False
    if distributed.is_first():
        with locked(partial.with_suffix(".lock"), str(final), wait=True):
            # Else another job has assembled the folds.
            unassembled = partial.is_dir()
            needed: list[int | str] = [*every, FINAL] if shared.has_final else [*every]
            joined = not unassembled or all(is_trained(partial, fold, identity) for fold in needed)
            if unassembled and joined:
                _assemble(recipe, clips, split, leaks, prepared_seconds, partial)
                move_into_place(partial, final)
                # Only now, so that a kill anywhere above leaves the finished folds for resuming.
                for trained in final.glob("fold-*"):
                    shutil.rmtree(trained)
                for lock in partial.parent.glob(f"{partial.stem}.*.lock"):
                    lock.unlink(missing_ok=True)
                (final / IDENTITY).unlink()
    return load_run(final) if distributed.from_first(joined) else None


def refuse_idle_overrides(recipe: Recipe) -> None:
    """Raise SerError for an override of a field that the recipe's model never reads: it is a mistake of the user."""
    used = recipe.create_model().used_settings()
    used["training"].add("refit")
    for key in (key for item in recipe.overrides for key in keys_of(item)):
        section, _, name = key.partition(".")
        if name and section in used and name.split(".")[0] not in used[section]:
            model = f"model.name={recipe.model.name} with input.encoder={recipe.input.encoder}"
            known = ", ".join(sorted(used[section]))
            raise SerError(f"{key} has no effect on {model}, where {section} has {known}. Leave it out.")


@dataclass
class _Run:
    """What all folds of a run share, and how one model is fitted to some of its clips."""

    recipe: Recipe
    protocol: Protocol
    clips: pd.DataFrame
    inputs: Inputs
    emotions: list[str]
    seed: int
    partial: Path
    progress: bool

    @property
    def has_final(self) -> bool:
        """Whether one more model, fitted on all clips, answers for the run: the folds' models are for its scores."""
        is_control = self.recipe.split.permute_labels
        return self.recipe.training.refit and not self.protocol.is_transductive and not is_control

    def labels(self) -> np.ndarray:
        """The position of each clip's emotion."""
        return self.clips["emotion"].map(self.emotions.index).to_numpy(copy=True)

    def fit(
        self, name: str, seed: int, labels: np.ndarray, train: np.ndarray, validation: np.ndarray, training: Training
    ) -> tuple[Model, pd.DataFrame]:
        """A new model that has learned from rows of the clip table, and its history."""
        model = self.recipe.model_copy(update={"training": training}).create_model()
        checkpoints = self.partial / f"{name}.checkpoints"
        reporting: dict[str, Any] = {"folder": checkpoints, "progress": self.progress}
        reporting["description"] = name.replace("-", " ")
        reporting |= {"clips": self.clips, "emotions": self.emotions, "seed": seed}
        return model, model.fit(self.inputs, labels, train, validation, **reporting)

    @contextmanager
    def written_whole(self, name: str) -> Iterator[Path]:
        """A folder that gets its name when the block has ended; then the checkpoints of its model are deleted."""
        for leftover in self.partial.glob(f"{name}.*.unfinished"):
            shutil.rmtree(leftover)
        folder = self.partial / f"{name}.{uuid.uuid4().hex[:8]}.unfinished"
        folder.mkdir()
        yield folder
        folder.rename(self.partial / name)
        for fitted in (name, f"{name}-again"):
            shutil.rmtree(self.partial / f"{fitted}.checkpoints", ignore_errors=True)


def _train_fold(run: _Run, fold_split: pd.DataFrame) -> None:
    """Fit and test one fold, and write `fold-<k>/` completely or not at all.

    Several processes fine-tune an encoder together; a network, which is small, is fitted by the first process alone.
    """
    recipe, started = run.recipe, time.monotonic()
    if not recipe.trains_encoder and not distributed.is_first():
        return
    fold = int(fold_split["fold"].iloc[0])
    row_of = pd.Series(np.arange(len(run.clips)), index=run.clips["clip_id"])
    rows = {subset: row_of[ids].to_numpy(copy=True) for subset, ids in fold_split.groupby("subset")["clip_id"]}
    rows.setdefault("validation", np.array([], dtype=int))
    labels = run.labels()
    if recipe.split.permute_labels:
        for shuffled in (rows["train"], rows["validation"]):
            labels[shuffled] = np.random.default_rng([run.seed, fold]).permutation(labels[shuffled])
    # Each fold has its own seed, so that its result does not depend on the folds before it.
    name, seed = f"fold-{fold}", 1000 * run.seed + fold
    model, history = run.fit(name, seed, labels, rows["train"], rows["validation"], recipe.training)
    n_trained = len(rows["train"]) * len(history)
    certain_from = None
    # A source that validates on its test clips is repeated as it is.
    if recipe.training.refit and len(rows["validation"]) and not np.isin(rows["validation"], rows["test"]).any():
        validated = model.probabilities_shared(take(run.inputs, rows["validation"]))
        certain_from = metrics.certain_from(labels[rows["validation"]], validated)
        both = np.sort(np.concatenate([rows["train"], rows["validation"]]))
        settled = recipe.training.settled(history)
        model, again = run.fit(f"{name}-again", seed, labels, both, np.array([], dtype=int), settled)
        n_trained += len(both) * len(again)
    probabilities = _tested(run, model, rows)
    if not distributed.is_first():
        return
    predictions = metrics.predictions_table(run.clips.iloc[rows["test"]], probabilities, run.emotions)
    about = _about(model, n_trained, started, history) | {"certain_from": certain_from}
    history.insert(0, "fold", fold)
    with run.written_whole(name) as folder:
        # The model that answers is a complete checkpoint, and the folds share its encoder. A head that was trained on
        # features standardised by speaker needs them, and the encoder alone does not give them.
        model.save(folder / "model", complete=fold == 0 and not run.has_final and not run.protocol.is_transductive)
        history.to_csv(folder / "history.csv", index=False)
        predictions.to_csv(folder / "predictions.csv", index=False, float_format="%.8f")
        (folder / "about.json").write_text(json.dumps(about))


def _tested(run: _Run, model: Model, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Probabilities of the test clips; where their speakers gave clips for enrolment, with each speaker's profile."""
    if ENROLMENT not in rows:
        return model.probabilities_shared(take(run.inputs, rows["test"]))
    speakers, probabilities = run.clips["speaker"].to_numpy(), np.zeros((len(rows["test"]), len(run.emotions)))
    for speaker in np.unique(speakers[rows["test"]]):
        enrolled, tested = (rows[subset][speakers[rows[subset]] == speaker] for subset in (ENROLMENT, "test"))
        # Half of one clip is none.
        profile = model.profile(take(run.inputs, enrolled)) if len(enrolled) else None
        probabilities[np.isin(rows["test"], tested)] = model.probabilities(take(run.inputs, tested), profile)
    return probabilities


def _train_final(run: _Run, folds: list[int]) -> None:
    """Fit the model that answers on all clips, with what the folds' validation clips chose, into `fold-final/`."""
    started = time.monotonic()
    if not run.recipe.trains_encoder and not distributed.is_first():
        return
    history = pd.concat([read_table(run.partial / f"fold-{fold}" / "history.csv") for fold in folds])
    everything, nothing = np.arange(len(run.clips)), np.array([], dtype=int)
    settled, name = run.recipe.training.settled(history), f"fold-{FINAL}"
    # No fold has this number.
    model, history = run.fit(name, 1000 * run.seed + 999, run.labels(), everything, nothing, settled)
    if distributed.is_first():
        with run.written_whole(name) as folder:
            model.save(folder / "model")
            about = _about(model, len(everything) * len(history), started, history)
            (folder / "about.json").write_text(json.dumps(about))


def _about(model: Model, n_trained: int, started: float, history: pd.DataFrame) -> dict:
    """Size and time of a model that was trained just now."""
    seconds = time.monotonic() - started + history.attrs.get("seconds_before", 0.0)
    sizes = {"trained_parameters": model.trained_parameters, "parameters": model.parameters}
    return sizes | {"clips_trained": n_trained, "seconds": seconds}


def _assemble(recipe: Recipe, clips, split, leaks, prepared_seconds: float, partial: Path) -> None:
    """Write the run folder's files from the finished folds."""
    folds = [partial / f"fold-{fold}" for fold in sorted(split["fold"].unique())]
    history = pd.concat([read_table(fold / "history.csv") for fold in folds], ignore_index=True)
    by_fold = [read_table(fold / "predictions.csv") for fold in folds]
    predictions = pd.concat(by_fold, ignore_index=True)
    is_final = all_trained(partial, [FINAL])
    trained = [*folds, *([partial / f"fold-{FINAL}"] if is_final else [])]
    sizes = [read_json(folder / "about.json") for folder in trained]
    seconds = prepared_seconds + sum(size["seconds"] for size in sizes)
    shortfall = clips.attrs.get("shortfall", {})
    counts = {name: shortfall.get(name, (get_corpus(name).clips,) * 2) for name in clips["corpus"].unique()}
    corpora = {name: {"found": found, "expected": expected} for name, (found, expected) in counts.items()}
    about = environment(pick_device(recipe.training.device), seconds, corpora)
    first = sizes[0]
    about["model"] = first | {"clips_per_second": round(first["clips_trained"] / first["seconds"], 1)}
    about["model"]["fitted_on"] = "all clips" if is_final else "the training clips of fold 0"
    scores = score_run(predictions, clips, by_fold)
    scores["certainty"] = metrics.score_certainty(by_fold, [size.get("certain_from") for size in sizes[: len(folds)]])

    for number, folder in enumerate(trained):
        # `model/` is the model that answers: the final one, else that of fold 0.
        answers = folder == trained[-1] if is_final else number == 0
        target = partial / "model" if answers else partial / "model" / f"fold-{number}"
        shutil.copytree(folder / "model", target, dirs_exist_ok=True, copy_function=_link)
    (partial / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    save_split(split, partial / "split.csv")
    leaks.to_csv(partial / "audit.csv", index=False)
    history.to_csv(partial / "history.csv", index=False)
    predictions.to_csv(partial / "predictions.csv", index=False, float_format="%.8f")
    (partial / "metrics.json").write_text(json.dumps(scores, indent=2) + "\n")
    (partial / "environment.json").write_text(json.dumps(about, indent=2) + "\n")
    # One may be left by an interrupted assembly, of other files.
    (partial / manifest.NAME).unlink(missing_ok=True)
    (partial / "README.md").write_text(model_card(read_run(partial)), encoding="utf-8")
    write_manifest(partial)


def _link(source, target) -> None:
    """Link a file instead of copying it, where the disk allows links: fine-tuned models are large."""
    # One may be left by an interrupted assembly.
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def score_run(predictions: pd.DataFrame, clips: pd.DataFrame, by_fold: list[pd.DataFrame]) -> dict:
    """Scores with intervals overall and by corpus, plain scores by fold, and the per-class table."""
    about = clips.set_index("clip_id").loc[predictions["clip_id"], ["speaker", "corpus", "audio_hash"]]
    corpus_scores = {}
    for corpus in about["corpus"].unique():
        rows = (about["corpus"] == corpus).to_numpy()
        corpus_scores[corpus] = metrics.score(predictions[rows], *about[rows].to_numpy().T)
    kept = ("accuracy", "uar", "macro_f1", "n_test")
    return {
        "overall": metrics.score(predictions, *about.to_numpy().T),
        "by_corpus": corpus_scores,
        "by_fold": [{name: score[name] for name in kept} for score in map(metrics.score, by_fold)],
        "by_emotion": metrics.per_class(predictions).reset_index().to_dict(orient="records"),
    }


def unfinished_folds(run: Path) -> list[int]:
    """Folds that are not trained yet; [] where no fold was begun."""
    partial = partial_of(run)
    return [fold for fold in read_identity(partial).get("folds", []) if not (partial / f"fold-{fold}").is_dir()]


def partial_of(run: Path) -> Path:
    """The folder of the finished folds of an unfinished run."""
    return run.with_name(f".{run.name}.partial")


def identity_of(recipe: Recipe, split: pd.DataFrame, inputs: Inputs) -> dict:
    """Everything that a fold's result depends on, each as a hash: folds of another identity are not resumed."""
    used = split[["fold", "subset", "clip_id", "emotion", "audio_hash"]].to_csv(index=False)
    of_inputs, of_code = hashlib.sha256(), hashlib.sha256()
    for array in inputs:
        of_inputs.update(np.ascontiguousarray(array).tobytes())
    package = Path(__file__).parents[1]
    for source in sorted(source for name in TRAINING_CODE for source in (package / name).rglob("*.py")):
        of_code.update(code_of(source).encode())
    settings = recipe.input
    encoder = encoder_weights.locate(settings.encoder, settings.revision).identity if recipe.reads_encoder else None
    return {
        "recipe": hashlib.sha256(dump_recipe(recipe).encode()).hexdigest(),
        "clips or split": hashlib.sha256(used.encode()).hexdigest(),
        "encoder": encoder,
        "input of the model": of_inputs.hexdigest(),
        "training code of ser_lib": of_code.hexdigest(),
        "version of PyTorch": torch.__version__,
        "device": str(pick_device(recipe.training.device)),
        "number of processes": distributed.world_size(),
        "folds": sorted(int(fold) for fold in split["fold"].unique()),
    }


def read_identity(partial: Path) -> dict:
    """The identity of the folds in a folder; {} where there is none."""
    try:
        identity = read_json(partial / IDENTITY)
    except SerError:
        return {}
    return identity if isinstance(identity, dict) else {}


def resume_or_start(partial: Path, identity: dict, alone: bool) -> None:
    """Keep the folder of an interrupted run of the same identity; else make an empty one.

    Args:
        alone: this job trains all folds. Otherwise trained folds of another identity, of other jobs, raise SerError.
    """
    with locked(partial.with_suffix(".lock"), str(partial), wait=True):
        before = read_identity(partial)
        if partial.is_dir() and before != identity:
            trained = sorted(folder.name for folder in partial.glob("fold-*") if folder.name[5:].isdigit())
            changed = " and ".join(key for key in identity if before.get(key) != identity[key])
            if trained and not alone:
                raise SerError(
                    f"{partial} holds {', '.join(trained)}, trained by a job of this run that differs in: {changed}. All "
                    "jobs of a run need the same of it. To discard those folds, delete that folder."
                )
            with ExitStack() as locks:
                for lock in partial.parent.glob(f"{partial.stem}.fold-*.lock"):
                    what = f"{partial.stem[1:]} in {partial.parent}, with another {changed}"
                    locks.enter_context(locked(lock, what))
                if not trained:
                    shutil.rmtree(partial)
                else:
                    aside = partial.with_name(f"{partial.name}-{datetime.now():%Y%m%d-%H%M%S-%f}")
                    partial.rename(aside)
                    text = "%s of an interrupted run cannot be used, because of another %s: training starts anew, and "
                    logger.warning(text + "they are kept in %s", ", ".join(trained), changed, aside)
        partial.mkdir(parents=True, exist_ok=True)
        write_text(json.dumps(identity, indent=1), partial / IDENTITY)


def all_trained(partial: Path, folds: Sequence[int | str]) -> bool:
    """Whether each of these folds of an unfinished run is trained."""
    return all((partial / f"fold-{fold}").is_dir() for fold in folds)


def is_trained(partial: Path, fold: int | str, identity: dict) -> bool:
    """Whether a fold is finished; the caller holds its lock. SerError where another job has started the run anew."""
    if read_identity(partial) != identity:
        job = f"another job has started {partial.stem[1:]} in {partial.parent} anew, or finished it, meanwhile"
        raise SerError(f"{job}. Wait for it, then run this again if it is still needed.")
    return (partial / f"fold-{fold}").is_dir()


@contextmanager
def locked(path: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock, the first process for all that train together; SerError where another has it, unless `wait`."""
    if not distributed.is_first():
        yield
        return
    try:
        with FileLock(path, timeout=-1 if wait else 0):
            yield
    except Timeout as error:
        raise SerError(f"another process is training {what} now. Wait for it, or use another seed.") from error
