"""A recipe, a protocol and a seed in; a run folder out.

Every fold is written as soon as it is finished. A run that was stopped, by Ctrl-C or by `kill -9`, goes on
from its finished folds and ends with the numbers of an undisturbed one; it starts anew where recipe, clips,
code or library have changed since.
"""

import hashlib
import json
import shutil
import time
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from ser_lib import features, metrics, models, training
from ser_lib.audit import audit
from ser_lib.clips import load_clips, select_emotions
from ser_lib.corpora import get_corpus
from ser_lib.errors import SerError
from ser_lib.labels import in_order
from ser_lib.recipes import Recipe, dump_recipe
from ser_lib.runs import (
    Run,
    environment,
    load_run,
    model_card,
    model_folder,
    move_into_place,
    read_table,
    run_folder,
)
from ser_lib.splits import make_split, save_split


def clips_of(recipe: Recipe, protocol: str, data_dir=None, progress: bool = True) -> pd.DataFrame:
    """The recipe's clips: its corpora and emotions, duplicates kept only where its source kept them."""
    keep_duplicates = protocol == "published" and recipe.split.keep_duplicates
    clips = load_clips(list(recipe.corpora), data_dir, keep_duplicates=keep_duplicates, progress=progress)
    shortfall = clips.attrs.get("shortfall", {})
    clips = select_emotions(clips, recipe.emotions)
    clips.attrs["shortfall"] = shortfall
    return clips


def split_of(recipe: Recipe, clips: pd.DataFrame, protocol: str, seed: int) -> pd.DataFrame:
    """The split of those clips under a protocol, with the sizes that the recipe states."""
    settings = recipe.split.split_settings()
    if protocol not in ("published", "deduplicated"):
        # What the source did with its test clips is repeated only where its claim is.
        settings.update(select_on_test=False, train_on_test=False)
    return make_split(clips, protocol, seed, **settings)


def inputs_of(recipe: Recipe, clips: pd.DataFrame, protocol: str, progress: bool = True) -> np.ndarray:
    """What the model reads, aligned to the clips: see `ser_lib.features.extract`."""
    arrays = features.extract(
        clips, recipe.input.audio.model_dump(), recipe.input.feature_settings(), progress
    )
    if protocol == "speaker-adapted":
        arrays = features.standardise_by_speaker(arrays, clips["speaker"])
    return arrays


def build_model(recipe: Recipe, emotions: list[str], inputs: np.ndarray) -> models.Network:
    """The recipe's network with random weights, for inputs of that shape."""
    return models.build(
        **recipe.model.model_dump(), emotions=emotions, n_features=inputs.shape[-1], sequence=inputs.ndim == 3
    )


def train(
    recipe: Recipe,
    protocol: str = "speaker",
    seed: int = 0,
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    progress: bool = True,
) -> Run:
    """Train and test every fold, and write the run folder.

    An earlier run of the same recipe, protocol and seed is replaced, once this one is finished.

    Raises:
        SerError: clips cannot be found or split, the loss became NaN, or another process trains this very run.
    """
    started = time.monotonic()
    clips = clips_of(recipe, protocol, data_dir, progress)
    split = split_of(recipe, clips, protocol, seed)
    # Cross-corpus splits keep fewer emotions than the recipe names.
    emotions = in_order(split["emotion"])
    clips = clips[clips["clip_id"].isin(split["clip_id"])].reset_index(drop=True)
    inputs = inputs_of(recipe, clips, protocol, progress)
    leaks = audit(split)
    prepared_seconds = time.monotonic() - started

    final = run_folder(recipe, protocol, seed, runs_dir)
    partial = final.with_name(f".{seed}.partial")
    final.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(final.with_name(f".{seed}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SerError(
            f"another process is training {final} at this moment. Wait for it, or use another seed."
        ) from error
    with lock:
        _resume_or_start(partial, _identity(recipe, split, inputs))
        for fold in sorted(split["fold"].unique()):
            if not (partial / f"fold-{fold}").is_dir():
                _train_fold(
                    recipe, clips, split[split["fold"] == fold], inputs, emotions, seed, partial, progress
                )
        _assemble(recipe, protocol, seed, clips, split, leaks, prepared_seconds, partial)
        move_into_place(partial, final)
    return load_run(final)


def _identity(recipe: Recipe, split: pd.DataFrame, inputs: np.ndarray) -> str:
    """A hash of all that a fold's result depends on: finished folds of another identity are not resumed."""
    import torch

    digest = hashlib.sha256(dump_recipe(recipe).encode())
    digest.update(split[["fold", "subset", "clip_id", "emotion", "audio_hash"]].to_csv(index=False).encode())
    digest.update(np.ascontiguousarray(inputs).tobytes())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    digest.update(f"{torch.__version__} {training.pick_device(recipe.training.device)}".encode())
    return digest.hexdigest()


def _resume_or_start(partial: Path, identity: str) -> None:
    """Keep a folder that an interrupted run of the same identity left; else make an empty one."""
    stamp = partial / "identity"
    if partial.is_dir() and (not stamp.is_file() or stamp.read_text() != identity):
        shutil.rmtree(partial)
    for leftover in partial.glob("*.unfinished"):
        shutil.rmtree(leftover)
    partial.mkdir(parents=True, exist_ok=True)
    stamp.write_text(identity)


def _train_fold(
    recipe: Recipe,
    clips: pd.DataFrame,
    fold_split: pd.DataFrame,
    inputs: np.ndarray,
    emotions: list[str],
    seed: int,
    partial: Path,
    progress: bool,
) -> None:
    """Fit and test one fold, and write `fold-<k>/` whole or not at all."""
    started = time.monotonic()
    fold = int(fold_split["fold"].iloc[0])
    row_of = pd.Series(np.arange(len(clips)), index=clips["clip_id"])
    rows = {subset: row_of[ids].to_numpy() for subset, ids in fold_split.groupby("subset")["clip_id"]}
    labels = clips["emotion"].map(emotions.index).to_numpy()
    # Each fold draws from its own seed, so that it does not matter which folds ran before it.
    with training.seeded(1000 * seed + fold):
        network = build_model(recipe, emotions, inputs)
        history = training.fit(
            network,
            inputs,
            labels,
            rows["train"],
            rows.get("validation", np.array([], dtype=int)),
            standardise=recipe.input.standardise,
            progress=progress,
            description=f"fold {fold}",
            **recipe.training.model_dump(),
        )
        probabilities = pd.DataFrame(training.probabilities(network, inputs[rows["test"]]), columns=emotions)
    tested = clips.iloc[rows["test"]][["clip_id", "emotion"]].rename(columns={"emotion": "truth"})
    predictions = pd.concat([tested.reset_index(drop=True), probabilities], axis=1)

    unfinished = partial / f"fold-{fold}.{uuid.uuid4().hex[:8]}.unfinished"
    models.save(network.cpu(), unfinished / "model")
    history.insert(0, "fold", fold)
    history.to_csv(unfinished / "history.csv", index=False)
    predictions.to_csv(unfinished / "predictions.csv", index=False, float_format="%.8f")
    (unfinished / "seconds").write_text(str(time.monotonic() - started))
    unfinished.rename(partial / f"fold-{fold}")


def _assemble(recipe, protocol, seed, clips, split, leaks, prepared_seconds, partial: Path) -> None:
    """Turn the finished folds into the run folder's files."""
    folds = [partial / f"fold-{fold}" for fold in sorted(split["fold"].unique())]
    history = pd.concat([read_table(fold / "history.csv") for fold in folds], ignore_index=True)
    by_fold = [read_table(fold / "predictions.csv") for fold in folds]
    predictions = pd.concat(by_fold, ignore_index=True)
    seconds = prepared_seconds + sum(float((fold / "seconds").read_text()) for fold in folds)
    shortfall = clips.attrs.get("shortfall", {})
    found = {
        name: dict(
            zip(("found", "expected"), shortfall.get(name, (get_corpus(name).clips,) * 2), strict=True)
        )
        for name in clips["corpus"].unique()
    }
    about = environment(training.pick_device(recipe.training.device), seconds, found)
    scores = score_run(predictions, clips, by_fold)

    for fold, folder in enumerate(folds):
        target = model_folder(partial, fold)
        shutil.copytree(folder / "model", target, dirs_exist_ok=True)
    (partial / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    save_split(split, partial / "split.csv")
    leaks.to_csv(partial / "audit.csv", index=False)
    history.to_csv(partial / "history.csv", index=False)
    predictions.to_csv(partial / "predictions.csv", index=False, float_format="%.8f")
    (partial / "metrics.json").write_text(json.dumps(scores, indent=2) + "\n")
    (partial / "environment.json").write_text(json.dumps(about, indent=2) + "\n")
    card = model_card(recipe, protocol, seed, scores, leaks, about)
    (partial / "README.md").write_text(card, encoding="utf-8")
    # Last, so that a kill anywhere above leaves the finished folds to resume from.
    for folder in folds:
        shutil.rmtree(folder)
    (partial / "identity").unlink()


def score_run(predictions: pd.DataFrame, clips: pd.DataFrame, by_fold: list[pd.DataFrame]) -> dict:
    """Scores with intervals overall and by corpus, plain scores by fold, and the per-class table."""
    about = clips.set_index("clip_id").loc[predictions["clip_id"]]
    speakers, corpora = about["speaker"].to_numpy(), about["corpus"].to_numpy()
    corpus_scores = {}
    for corpus in dict.fromkeys(corpora):
        own = corpora == corpus
        corpus_scores[corpus] = metrics.score(
            predictions[own].reset_index(drop=True), pd.Series(speakers[own])
        )
    fold_scores = []
    for fold in by_fold:
        score = metrics.score(fold)
        fold_scores.append({name: score[name] for name in ("accuracy", "uar", "macro_f1", "n_test")})
    return {
        "overall": metrics.score(predictions, pd.Series(speakers)),
        "by_corpus": corpus_scores,
        "by_fold": fold_scores,
        "by_emotion": metrics.per_class(predictions).reset_index().to_dict(orient="records"),
    }
