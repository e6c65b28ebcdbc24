"""Resuming an interrupted run: finished folds are kept in a folder until all folds are finished.

Folds of another recipe, other clips or other code are never used for this run: everything that they depend on is written
beside them. Locks keep jobs that train folds of one run apart.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout

from ser_lib.common import distributed
from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError
from ser_lib.common.files import code_of, read_json, replacing
from ser_lib.models import encoder_weights
from ser_lib.models.base import Inputs
from ser_lib.recipes import Recipe, dump_recipe

logger = logging.getLogger(__name__)

IDENTITY = "identity.json"
# Where an edit may change what a fold learns; inputs and split are compared as they are.
TRAINING_CODE = ("common", "audio", "models", "training")


def unfinished_folds(run: Path) -> list[int]:
    """Folds that are not trained yet; [] where no fold was begun."""
    partial = partial_of(run)
    return [fold for fold in identity_of(partial).get("folds", []) if not (partial / f"fold-{fold}").is_dir()]


def partial_of(run: Path) -> Path:
    """The folder of the finished folds of an unfinished run."""
    return run.with_name(f".{run.name}.partial")


def identity(recipe: Recipe, split: pd.DataFrame, inputs: Inputs) -> dict:
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


def identity_of(partial: Path) -> dict:
    """The identity of the folds in a folder; {} where there is none."""
    try:
        identity = read_json(partial / IDENTITY)
    except SerError:
        return {}
    return identity if isinstance(identity, dict) else {}


def resume_or_start(partial: Path, identity: dict, alone: bool) -> None:
    """Keep the folder of an interrupted run of the same identity; else make an empty one.

    SerError in place of deleting what other jobs have trained, unless this job is `alone`: trains all folds.
    """
    with locked(partial.with_suffix(".lock"), str(partial), wait=True):
        before = identity_of(partial)
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
        with replacing(partial / IDENTITY) as part:
            part.write_text(json.dumps(identity, indent=1))


def all_trained(partial: Path, folds: Sequence[int | str]) -> bool:
    """Whether each of these folds of an unfinished run is trained."""
    return all((partial / f"fold-{fold}").is_dir() for fold in folds)


def is_trained(partial: Path, fold: int | str, identity: dict) -> bool:
    """Whether a fold is finished; the caller holds its lock. SerError where another job has started the run anew."""
    if identity_of(partial) != identity:
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
