"""What each source claims, and what its recipe gives: as stated, and with one leak after the other closed.

`measure` trains what is missing, `claims_table` reads `results.csv` alone, and `explained` says what the differences
are made of. The notebook Claims_Audit shows all three.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA
from ser_lib.evaluation import metrics
from ser_lib.evaluation.results import read_results, result_rows, update_results
from ser_lib.inference.run import Run, load_run, run_folder, runs_root
from ser_lib.models import encoder_weights
from ser_lib.protocols.leak_audit import red_leaks
from ser_lib.recipes import Recipe, load_recipe, recipe_names
from ser_lib.recipes.inputs import clips_of
from ser_lib.training import experiment

# What is changed where there is no GPU, so that all of it takes less than an hour and a half; the row of results says so.
ON_A_CPU = {
    ("four-corpora-xlsr53-finetune", "as-stated"): ("training.epochs=3",),
    ("four-corpora-xlsr53-finetune", "new-speakers"): ("training.epochs=3", "split.folds=2"),
    ("four-corpora-xlsr53-finetune", "strictest"): ("training.epochs=1",),
    ("four-corpora-xlsr53-finetune", "floor"): ("split.folds=2",),
    # The transformer is trained, on 2304 files.
    ("ravdess-wav2vec2-frozen-mlp", "as-run"): ("training.epochs=2",),
    ("ravdess-wav2vec2-frozen-mlp-plateau", "as-run"): ("training.epochs=2",),
}
# The whole audit in three minutes, on synthetic voices.
BUNDLED = (
    "corpora=[sample]",
    "training.epochs=10",
    "training.batch_size=32",
    "training.learning_rate=0.003",
    "split.folds=2",
)
FLOOR = "split.permute_labels=true"


class Column(NamedTuple):
    """One way to measure a recipe."""

    title: str
    variant: str
    protocol: str
    overrides: tuple[str, ...] = ()


def columns_of(recipe: Recipe) -> dict[str, Column]:
    """The ways in which a recipe is measured, each with fewer leaks than the one before, then the floor."""
    # Sentences are not known, or not shared, between corpora; then a whole corpus is the strictest test.
    strictest = "cross-corpus" if len(recipe.corpora) > 1 else "speaker-sentence"
    # An epoch of fine-tuning is enough to learn nothing.
    floor = (FLOOR, "training.epochs=1") if recipe.trains_encoder else (FLOOR,)
    return {
        "as-stated": Column("as stated", "stated", "published"),
        "as-run": Column("as its notebook ran", "as-run", "published"),
        "without-copies": Column("without copies", "stated", "deduplicated"),
        "new-speakers": Column("new speakers", "stated", "speaker"),
        "strictest": Column("strictest", "stated", strictest),
        "floor": Column("labels shuffled", "stated", "speaker", floor),
    }


def claimed_recipes() -> list[str]:
    """Recipes of the package that repeat a source's claim."""
    return [name for name in recipe_names() if load_recipe(name).claim is not None]


def changed(
    name: str, key: str, encoder: str | None, overrides: Iterable[str] = (), in_full: bool = False
) -> Recipe | None:
    """The recipe as a column measures it here; None where its source has no such variant.

    Args:
        key: of `columns_of`.
        encoder: stands in for the recipe's pretrained encoder; None: its own.
        overrides: of all recipes.
        in_full: with a GPU or without.
    """
    import torch

    recipe = load_recipe(name)
    column = columns_of(recipe)[key]
    try:
        load_recipe(name, column.variant)
    except SerError:
        return None
    given = [f"input.encoder={encoder}"] if encoder and recipe.reads_encoder else []
    if not in_full and not torch.cuda.is_available():
        given += ON_A_CPU.get((name, key), ())
    by_key = {item.partition("=")[0]: item for item in [*given, *overrides, *column.overrides]}  # the last one counts
    return load_recipe(name, column.variant, by_key.values())


def measure(
    names: Iterable[str] | None = None,
    encoder: str | None = None,
    overrides: Iterable[str] = (),
    seeds: Iterable[int] = (0,),
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    reports_dir: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[tuple[str, str], list[Run]]:
    """Have every recipe measured in every column: finished runs are read, the others trained, rows go to `results.csv`.

    A run that lies there is believed: delete its folder where corpora, encoder or code have changed since. One in full
    is read where without a GPU one of the size that `ON_A_CPU` states would be trained.

    Args:
        names: recipes; None: all that have a claim.
        encoder: what to read in place of a recipe's pretrained encoder, where that cannot be had.
        overrides: of all recipes, such as ["corpora=[sample]", "training.epochs=2"].
        say: told what is measured, and what cannot be, with the reason.

    Returns:
        the runs, one a seed, by recipe and key of `columns_of`. What cannot be measured is left out.
    """
    seeds = list(seeds)
    experiments_of = {
        (name, key): [(recipe, protocol, seed, folder) for seed in seeds]
        for name, key, recipe, protocol, folder in _planned(names, encoder, list(overrides), seeds, runs_dir, say)
    }
    _train_side_by_side(chain.from_iterable(experiments_of.values()), data_dir, say)
    measured = {}
    for key, own in experiments_of.items():
        try:
            runs = [_run(*experiment, data_dir, say) for experiment in own]
        except SerError as error:
            say(f"{own[0][0].name} under {own[0][1]} is left out: {error}")
            continue
        update_results(result_rows(runs), reports_dir)
        measured[key] = runs
    return measured


def _planned(
    names: Iterable[str] | None, encoder: str | None, overrides: list[str], seeds: list[int], runs_dir, say
) -> Iterator[tuple[str, str, Recipe, str, Path]]:
    """What is to be measured: recipe's name, key of the column, recipe as changed for it, protocol, folder of runs."""
    lacking = {}
    for name in names or claimed_recipes():
        recipe = load_recipe(name, overrides=overrides)
        reads = encoder or recipe.input.encoder
        if recipe.reads_encoder and reads not in lacking:
            try:
                encoder_weights.locate(reads, None if encoder else recipe.input.revision)
                lacking[reads] = None
            except SerError as error:
                lacking[reads] = str(error)
        if recipe.reads_encoder and lacking.get(reads):
            say(f"{name} is left out: {lacking[reads]}")
            continue
        for key, column in columns_of(recipe).items():
            recipe = changed(name, key, encoder, overrides)
            if recipe is None or (key == "without-copies" and same_split(recipe)):
                continue
            root = runs_root(runs_dir)
            if FLOOR in column.overrides:
                root /= "permuted"
            whole = changed(name, key, encoder, overrides, in_full=True)
            with suppress(SerError):  # a damaged folder: `_run` says why
                if whole != recipe and all(_finished(whole, column.protocol, seed, root) for seed in seeds):
                    recipe = whole
            yield name, key, recipe, column.protocol, root


def _train_side_by_side(planned: Iterable[tuple[Recipe, str, int, Path]], data_dir, say) -> None:
    """Train what is missing of the networks on MFCC, which one core serves as fast as two do, one on each core.

    What fails is left for `_run` to try again, and to say why.
    """
    planned = [
        (recipe, *where) for recipe, *where in planned if not recipe.reads_encoder and _is_missing(recipe, *where)
    ]
    if len(planned) < 2:
        return
    for recipe, protocol, seed, _ in planned:
        say(_announced(recipe, protocol, seed))
    bar = tqdm(total=len(planned), desc="networks on MFCC", unit="run", leave=False)
    at_once = Parallel(n_jobs=min(os.cpu_count(), 8), return_as="generator_unordered")
    with bar:
        for _ in at_once(delayed(_train_quietly)(*experiment, data_dir) for experiment in planned):
            bar.update()


def _is_missing(recipe: Recipe, *where) -> bool:
    try:
        return _finished(recipe, *where) is None
    except SerError:  # a damaged folder: `_run` says why
        return False


def _train_quietly(recipe: Recipe, protocol: str, seed: int, runs_dir: Path, data_dir) -> None:
    logger = logging.getLogger("ser_lib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # which clips are left out would be told two dozen times
    try:
        with suppress(SerError):
            experiment.train(recipe, protocol, seed, data_dir, runs_dir, progress=False)
    finally:
        logger.setLevel(level)


def same_split(recipe: Recipe) -> bool:
    """Whether a source kept no copies and did nothing with its test clips: `deduplicated` is what it states."""
    return not (recipe.split.keep_duplicates or recipe.split.select_on_test or recipe.split.train_on_test)


def _run(recipe: Recipe, protocol: str, seed: int, runs_dir: str | Path | None, data_dir, say) -> Run:
    """The finished run of exactly this recipe, or a new one."""
    run = _finished(recipe, protocol, seed, runs_dir)
    if run is not None:
        return run
    say(_announced(recipe, protocol, seed))
    return experiment.train(recipe, protocol, seed, data_dir, runs_dir)


def _announced(recipe: Recipe, protocol: str, seed: int) -> str:
    return f"training {recipe.name}, {recipe.variant_label}, {protocol}, seed {seed}"


def _finished(recipe: Recipe, protocol: str, seed: int, runs_dir: str | Path | None) -> Run | None:
    """The finished run of exactly this recipe, whatever has become of its corpora and of the code since."""
    folder = run_folder(recipe, protocol, seed, runs_dir)
    if folder.is_dir():
        run = load_run(folder)
        if run.recipe == recipe:
            return run
    return None


def claims_table(results: pd.DataFrame | None = None, overrides: Iterable[str] = ()) -> pd.DataFrame:
    """Every claim beside its measurements, one row a recipe and column, from rows of `results.csv`.

    The recipe's own encoder is preferred to one that stands in for it, and a row in full to one of the size that
    `ON_A_CPU` states.

    Args:
        results: as `read_results` gives them.
        overrides: those that were given to `measure`.

    Returns:
        recipe, column (key of `columns_of`), its title, and the row of results. A column without such a row is left out.
    """
    results = read_results() if results is None else results
    rows = []
    for name in claimed_recipes():
        recipe = load_recipe(name, overrides=overrides)
        for key, column in columns_of(recipe).items():
            found = _find(results, recipe, key)
            if found is not None:
                rows.append({"column": key, "title": column.title, **found})
    return pd.DataFrame(rows, columns=["column", "title", *results.columns])


def _find(results: pd.DataFrame, recipe: Recipe, key: str) -> dict | None:
    """The row of results of a recipe in a column."""
    column = columns_of(recipe)[key]
    variant = recipe.model_copy(update={"variant": column.variant}).variant_label
    whole = {*variant.split("; "), *column.overrides}
    keys = {item.partition("=")[0] for item in column.overrides}
    smaller = [item for item in ON_A_CPU.get((recipe.name, key), ()) if item.partition("=")[0] not in keys]
    found = []
    for row in results.to_dict("records"):
        given, tested = set(row["variant"].split("; ")), set(row["corpus"].replace("-part", "").split("+"))
        same = (row["recipe"], row["protocol"], tested) == (recipe.name, column.protocol, set(recipe.corpora))
        if same and given in (whole, whole | set(smaller)):
            found.append((row["encoder"] != recipe.features_label, given != whole, len(found), row))
    return min(found)[-1] if found else None


def people(recipe: Recipe) -> str:
    """Accuracy of human listeners on the recipe's corpora, from audio alone, as far as it is known."""
    heard = {name: CORPORA[name].human_accuracy for name in recipe.corpora if name in CORPORA}
    told = [f"{accuracy:.3f}" + f" ({name})" * (len(heard) > 1) for name, accuracy in heard.items() if accuracy]
    return ", ".join(told) or "—"


def markdown(table: pd.DataFrame, overrides: Iterable[str] = ()) -> str:
    """The claims as the README shows them: accuracy, which is what is claimed, and its interval in every cell.

    Args:
        table: from `claims_table`.
        overrides: of all recipes: cells do not repeat them.
    """
    titles = {key: column.title for key, column in columns_of(load_recipe(claimed_recipes()[0])).items()}
    lines = [
        f"| recipe | reads | claimed | {' | '.join(titles.values())} | chance | people |",
        "|---" * (len(titles) + 5) + "|",
    ]
    for name, own in table.groupby("recipe", sort=False):
        recipe = load_recipe(name)
        cells = {row.column: score_cell(row, overrides) for row in own.itertuples()}
        if same_split(recipe) and "as-stated" in cells:
            cells["without-copies"] = "the same split"
        lines.append(
            "| "
            + " | ".join(
                [
                    f"[`{name}`]({recipe.claim.source})",
                    ", ".join(dict.fromkeys(own["encoder"])),
                    f"{recipe.claim.accuracy:.3f}",
                    *(cells.get(key, "—") for key in titles),
                    f"{metrics.chance_level(len(recipe.emotions)):.3f}",
                    people(recipe),
                ]
            )
            + " |"
        )
    return "\n".join(lines)


def score_cell(row, overrides: Iterable[str] = ()) -> str:
    """`0.515 (0.496–0.534)†`, † where the interval is over clips, and what was changed of the recipe."""
    mark = "" if row.test_speakers >= metrics.MIN_SPEAKERS else "†"
    changed = [part for part in row.variant.split("; ")[1:] if part not in (FLOOR, *overrides)]
    note = f" ({', '.join(changed)})" if changed else ""
    return f"**{row.accuracy:.3f}** ({row.accuracy_low:.3f}–{row.accuracy_high:.3f}){mark}{note}"


def twins(run: Run, clips: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of test clips that have a copy among the training clips, and of those that have none.

    Args:
        run: of one fold, under `published`.
        clips: of the run, copies kept, as `clips_of` gives them.

    Returns:
        indexed by "twin in training" and "no twin": n_test, share, accuracy, accuracy_low, accuracy_high. A row is
        missing where there are no such clips.
    """
    audio = clips.set_index("clip_id")["audio_hash"]
    train = run.split.loc[run.split["subset"] == "train", "clip_id"]
    twin = run.predictions["clip_id"].map(audio).isin(set(train.map(audio)))
    group = np.where(twin, "twin in training", "no twin")
    table = metrics.by_group(run.predictions, group, run.test_clips()["speaker"])
    table["share"] = table["n_test"] / table["n_test"].sum()
    return table[["n_test", "share", "accuracy", "accuracy_low", "accuracy_high"]]


def explained(name: str, runs: dict[str, Run], data_dir: str | Path | None = None) -> str:
    """Two or three sentences on what lies between a claim and what is left of it; every number is of these runs.

    Args:
        runs: of one recipe, by key of `columns_of`, one seed.
    """
    claim = load_recipe(name).claim
    # With as many digits as the table has, so that both are rounded alike.
    accuracy = {key: round(run.metrics["overall"]["accuracy"], 4) for key, run in runs.items()}
    said = []
    if "as-stated" in runs:
        stated = runs["as-stated"]
        said.append(
            f"Claimed: {claim.accuracy:.3f}; as stated it gives {accuracy['as-stated']:.3f}"
            + (f", as its notebook ran {accuracy['as-run']:.3f}" if "as-run" in runs else "")
            + "."
        )
        said += _told_of_twins("", stated, data_dir)
        if "as-run" in runs:
            said += _told_of_twins("As its notebook ran, ", runs["as-run"], data_dir)
        leaks = red_leaks(stated.audit).set_index("leak")
        if "same speaker" in leaks.index:
            said.append(
                f"{leaks.loc['same speaker', 'share']:.0%} of the test clips are of speakers that were trained on."
            )
    if {"as-stated", "new-speakers"} <= runs.keys():
        honest, without = accuracy["new-speakers"], accuracy.get("without-copies")
        points = 100 * (accuracy["as-stated"] - honest)
        text = f"On new speakers it gives {honest:.3f}, {points:.1f} points less than as stated"
        if without is not None:
            text += f": {100 * (accuracy['as-stated'] - without):.1f} for the copies"
            text += f" and {100 * (without - honest):.1f} for the speakers"
        said.append(text + ".")
    return " ".join(said)


def _told_of_twins(where: str, run: Run, data_dir: str | Path | None) -> list[str]:
    """A sentence on the copies that a run under `published` was tested on; none where it was tested on none."""
    found = twins(run, clips_of(run.recipe, "published", data_dir, progress=False))
    if "twin in training" not in found.index:
        return []
    share, accuracy = found.loc["twin in training", ["share", "accuracy"]]
    text = f"{where}{share:.0%} of the test clips have a copy in training"
    if "no twin" in found.index:
        text += f": the accuracy is {accuracy:.3f} on them and {found.loc['no twin', 'accuracy']:.3f} on the others"
    return [text + "."]


def on_the_same_clips(runs: dict[str, Run]) -> list[dict[str, Run]]:
    """Groups of two runs or more, by recipe, that were tested on the same clips and tell the same emotions apart."""
    groups = {}
    for name, run in runs.items():
        key = frozenset(run.predictions["clip_id"]), tuple(run.emotions)
        groups.setdefault(key, {})[name] = run
    return [group for group in groups.values() if len(group) > 1]


def again(run: Run, seed: int, data_dir: str | Path | None = None, runs_dir: str | Path | None = None) -> Run:
    """The same experiment with another seed: read where it is finished, else trained."""
    return _run(run.recipe, run.protocol, seed, runs_dir, data_dir, print)
