"""A run that is not finished yet: the folder in which its trained folds wait for the others.

What the folds depend on is written beside them, so that folds of another recipe, other clips or other code are never
taken for those of this run. Locks keep jobs that train folds of one run out of each other's way.
"""

import hashlib
import json
import logging
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from ser_lib.common import distributed
from ser_lib.common.errors import SerError
from ser_lib.common.files import replacing
from ser_lib.models import encoder_weights, network_training
from ser_lib.recipes import Recipe, dump_recipe

logger = logging.getLogger(__name__)

IDENTITY = "identity.json"


def unfinished_folds(run: Path) -> list[int]:
    """Folds that still have to be trained before the run folder is put together; [] where none has begun."""
    identity = identity_of(partial_of(run))
    return [fold for fold in identity.get("folds", []) if not (partial_of(run) / f"fold-{fold}").is_dir()]


def partial_of(run: Path) -> Path:
    """Where the finished folds of a run wait for the others."""
    return run.with_name(f".{run.name}.partial")


def run_lock(partial: Path) -> Path:
    return partial.with_suffix(".lock")


def fold_lock(partial: Path, fold: int) -> Path:
    return partial.with_name(f"{partial.stem}.fold-{fold}.lock")


def identity(recipe: Recipe, split: pd.DataFrame, inputs) -> dict:
    """All that a fold's result depends on, each thing as a hash: folds of another identity are not resumed."""
    import torch

    used = split[["fold", "subset", "clip_id", "emotion", "audio_hash"]].to_csv(index=False)
    heard = hashlib.sha256()
    for array in inputs:
        heard.update(np.ascontiguousarray(array).tobytes())
    code = hashlib.sha256()
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):
        code.update(source.read_bytes())
    pretrained = recipe.input.encoder != "mfcc"
    return {
        "recipe": hashlib.sha256(dump_recipe(recipe).encode()).hexdigest(),
        "clips or split": hashlib.sha256(used.encode()).hexdigest(),
        "encoder": encoder_weights.locate(recipe.input.encoder, recipe.input.revision).identity if pretrained else None,
        "what the model reads": heard.hexdigest(),
        "code of ser_lib": code.hexdigest(),
        "version of PyTorch": torch.__version__,
        "device": str(network_training.pick_device(recipe.training.device)),
        "number of processes": distributed.world_size(),
        "folds": sorted(int(fold) for fold in split["fold"].unique()),
    }


def identity_of(partial: Path) -> dict:
    """The identity of the folds that a folder holds; {} where it holds none."""
    try:
        return json.loads((partial / IDENTITY).read_text())
    except (OSError, ValueError):
        return {}


def resume_or_start(partial: Path, identity: dict, alone: bool) -> None:
    """Keep a folder that an interrupted run of the same identity left; else make an empty one.

    Args:
        alone: this job trains all folds. One of several jobs does not throw away what others have trained.
    """
    with locked(run_lock(partial), str(partial), wait=True):
        before = identity_of(partial)
        if partial.is_dir() and before != identity:
            trained = sorted(folder.name for folder in partial.glob("fold-*") if folder.name[5:].isdigit())
            changed = " and ".join(key for key in identity if before.get(key) != identity[key])
            if trained and not alone:
                raise SerError(
                    f"{partial} holds {', '.join(trained)}, trained by a job of this run that differs in: {changed}. "
                    "All jobs of a run need the same settings, data, versions and kind of device. To throw those "
                    "folds away, delete that folder."
                )
            with ExitStack() as held:
                for lock in partial.parent.glob(f"{partial.stem}.fold-*.lock"):
                    what = f"{partial.stem[1:]} in {partial.parent}, with another {changed}"
                    held.enter_context(locked(lock, what))
                if trained:
                    logger.warning(
                        "%s of an interrupted run cannot be used, because of another %s: training begins anew",
                        ", ".join(trained),
                        changed,
                    )
                shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
        with replacing(partial / IDENTITY) as part:
            part.write_text(json.dumps(identity, indent=1))


def is_trained(partial: Path, fold: int, identity: dict) -> bool:
    """Whether a fold is there already; its lock is held. Another job may have begun anew before it was."""
    if identity_of(partial) != identity:
        raise SerError(
            f"another job has begun {partial.stem[1:]} in {partial.parent} anew, or joined its folds, while this one "
            "was about to train. Wait for it, then run this again if it is still needed."
        )
    return (partial / f"fold-{fold}").is_dir()


@contextmanager
def locked(path: Path, what: str, wait: bool = False):
    """Hold a lock; with several processes that work together, the first holds it for all."""
    if not distributed.is_first():
        yield
        return
    try:
        with FileLock(path, timeout=-1 if wait else 0):
            yield
    except Timeout as error:
        raise SerError(
            f"another process is training {what} at this moment. Wait for it, or use another seed."
        ) from error
