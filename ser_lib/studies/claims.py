"""The accuracy that each source claims, and that of its recipe as stated and with one leak after another closed.

`measure_claims` trains the missing runs, or takes the predictions that are committed. `shared_by_splits` tells what the
splits of these runs share, and `explain_difference` puts it into words. `claims_table` reads only `results.csv`.
"""

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA
from ser_lib.evaluation import metrics, stored_predictions
from ser_lib.evaluation.results import add_runs, markdown_table, read_results, score_cell
from ser_lib.evaluation.stored_predictions import StoredPredictions, stand_in_for
from ser_lib.inference.run import Run, load_run, run_folder, runs_root
from ser_lib.models import encoder_weights
from ser_lib.protocols.leak_audit import audit, red_leaks
from ser_lib.recipes import Recipe, load_recipe, recipe_names
from ser_lib.recipes.inputs import clips_of, split_of
from ser_lib.recipes.recipe import Claim
from ser_lib.training import experiment

# Reduced settings without a GPU, with which all claims take about five hours; the row of results states them.
ON_A_CPU = {
    ("four-corpora-xlsr53-finetune", "as-stated"): ("training.epochs=3",),
    ("four-corpora-xlsr53-finetune", "new-speakers"): ("training.epochs=3", "split.folds=2"),
    ("four-corpora-xlsr53-finetune", "strictest"): ("training.epochs=1",),
    ("four-corpora-xlsr53-finetune", "floor"): ("split.folds=2",),
    # Trains the transformer on 2304 files.
    ("ravdess-wav2vec2-frozen-mlp", "as-run"): ("training.epochs=2",),
    ("ravdess-wav2vec2-frozen-mlp-plateau", "as-run"): ("training.epochs=2",),
}
# The complete audit in two minutes, on synthetic voices.
BUNDLED = (
    *("corpora=[sample]", "split.folds=2"),
    *("training.epochs=2", "training.batch_size=32", "training.learning_rate=0.003"),
)
FLOOR = "split.permute_labels=true"
# Of shuffled labels: one shuffle alone scatters widely around chance.
DRAWS = 10


class Column(NamedTuple):
    """One way to measure a recipe."""

    title: str
    variant: str
    protocol: str
    overrides: tuple[str, ...] = ()


# Those that `shared_by_splits` describes.
EXPLAINED = ("as-stated", "as-run", "without-copies", "new-speakers")


class PlannedRun(NamedTuple):
    """The run of a recipe, which is either finished or still to be trained."""

    recipe: Recipe
    protocol: str
    seed: int
    runs_dir: Path

    def __str__(self) -> str:
        return f"{self.recipe.name}, {self.recipe.variant_label}, {self.protocol}, seed {self.seed}"

    def finished(self) -> Run | None:
        """The finished run of exactly this recipe; changes of corpora and code since are not noticed."""
        folder = run_folder(*self)
        run = load_run(folder) if folder.is_dir() else None
        return run if run is not None and run.recipe == self.recipe else None

    def stored_rows(self, stored: Iterable[StoredPredictions]) -> StoredPredictions | None:
        """The committed predictions of this run; None: there are none."""
        recipe, protocol, seed, _ = self
        key = (recipe.name, recipe.variant_label, protocol, recipe.features_label)
        for of_experiment in stored:
            facts = of_experiment.facts
            if key == (facts.recipe, facts.variant, facts.protocol, facts.encoder):
                rows = of_experiment.part(of_experiment.table["seed"] == seed)
                return None if rows.table.empty else rows
        return None

    def committed(
        self, stored: Iterable[StoredPredictions], data_dir: str | Path | None, note: Callable[[str], None]
    ) -> Run | None:
        """A run without models, of its committed predictions and its split, which is made again.

        Returns:
            None where there are no such predictions, or where they are of other test clips; `note` is told the reason.

        Raises:
            SerError: a corpus cannot be found.
        """
        recipe, protocol, seed, _ = self
        rows = self.stored_rows(stored)
        if rows is None:
            note(f"{self} is left out: there are no committed predictions of it with {recipe.features_label}")
            return None
        split = split_of(recipe, clips_of(recipe, protocol, data_dir, progress=False), protocol, seed)
        if set(split.loc[split["subset"] == "test", "clip_id"]) != set(rows.table["clip_id"]):
            note(f"{self} is left out: the corpora at hand give other test clips than those of the committed row")
            return None
        about = rows.table
        overall = metrics.score(rows.predictions, about["speaker"], about["corpus"], rows.copies)
        corpora = {name: {"found": n, "expected": of} for name, (n, of) in rows.facts.corpora.items()}
        return Run(
            run_folder(*self),
            recipe,
            split,
            audit(split),
            pd.DataFrame(),
            rows.predictions,
            {"overall": overall},
            {"corpora": corpora},
            rows.emotions,
        )

    def finished_or_trained(self, data_dir: str | Path | None, say: Callable[[str], None]) -> Run:
        """The finished run, or else a new one."""
        if (run := self.finished()) is None:
            say(f"training {self}")
            run = experiment.train(*self[:3], data_dir, self.runs_dir)
            assert run is not None  # as all folds were trained
        return run


def columns_of(recipe: Recipe) -> dict[str, Column]:
    """The columns of a recipe: each has fewer leaks than the one before, and the last one is a control."""
    # Several corpora share no sentences, or do not name them: a whole unseen corpus is then the strictest test.
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


def claimed_recipes() -> dict[str, Claim]:
    """The recipes of the package that repeat a claim of their source, with the claim."""
    return {name: claim for name in recipe_names() if (claim := load_recipe(name).claim) is not None}


def recipe_of_column(
    recipe: Recipe, key: str, encoder: str | None = None, reduced: bool | None = None
) -> Recipe | None:
    """The recipe with the settings of a column; None where its source has no such variant.

    Args:
        encoder: replaces the recipe's pretrained encoder; None: keep it.
        reduced: with the settings of `ON_A_CPU`; None: where there is no GPU.
    """
    column = columns_of(recipe)[key]
    settings = [f"input.encoder={encoder}"] if encoder and recipe.reads_encoder else []
    if reduced or (reduced is None and not torch.cuda.is_available()):
        settings += ON_A_CPU.get((recipe.name, key), ())
    # The last setting of a key counts.
    by_key = {item.partition("=")[0]: item for item in [*settings, *recipe.overrides, *column.overrides]}
    try:
        return load_recipe(recipe.name, column.variant, by_key.values())
    except SerError:
        if column.variant == "stated":
            raise
        return None


def measure_claims(
    names: Iterable[str] | None = None,
    encoder: str | None = None,
    overrides: Iterable[str] = (),
    seeds: Iterable[int] = (0,),
    draws: int = DRAWS,
    train: bool = True,
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    reports_dir: str | Path | None = None,
    say: Callable[[str], None] = print,
    note: Callable[[str], None] | None = None,
) -> dict[tuple[str, str], list[Run]]:
    """Measure every recipe in every column: read finished runs, train the others, and add their rows to `results.csv`.

    A finished run is read as it is: delete its folder where corpora, encoder or code have changed since. Without a GPU, a
    run with the settings of the recipe is preferred to one with the reduced settings of `ON_A_CPU`.

    Args:
        names: recipes; None: all that have a claim.
        encoder: replaces the recipes' pretrained encoders, where these cannot be fetched.
        overrides: for all recipes, such as ["corpora=[sample]", "training.epochs=2"].
        seeds: of every column but that of shuffled labels.
        draws: number of shuffles of the labels, each with a seed of its own.
        train: train what is missing; else take its committed predictions, of the columns in `EXPLAINED`.
        say: called with a line for each training.
        note: called with a line for each measurement that fails, with the reason; None: `say` is.

    Returns:
        the runs, one a seed, by recipe and key of `columns_of`, without the measurements that failed.
    """
    note = note or say
    stored = None if train else stored_predictions.read_all(stored_predictions.predictions_dir(reports_dir))
    planned = _planned(names, encoder, list(overrides), list(seeds), draws, stored, runs_dir, note)
    measured: dict[tuple[str, str], list[Run]] = {}
    if stored is None:
        _train_in_parallel(chain.from_iterable(planned.values()), data_dir, say)
    for key, of_seeds in planned.items():
        try:
            if stored is None:
                runs = [run.finished_or_trained(data_dir, say) for run in of_seeds]
                add_runs(runs, reports_dir)
            elif key[1] in EXPLAINED:
                available = [run.finished() or run.committed(stored, data_dir, note) for run in of_seeds]
                runs = [run for run in available if run]
            else:
                continue
        except SerError as error:
            note(f"{of_seeds[0].recipe.name} under {of_seeds[0].protocol} is left out: {error}")
            continue
        measured |= {key: runs} if runs else {}
    return measured


def _planned(
    names: Iterable[str] | None,
    encoder: str | None,
    overrides: list[str],
    seeds: list[int],
    draws: int,
    stored: list[StoredPredictions] | None,
    runs_dir: str | Path | None,
    note: Callable[[str], None],
) -> dict[tuple[str, str], list[PlannedRun]]:
    """The runs to measure, one a seed, by recipe and key of `columns_of`.

    Args:
        stored: committed predictions, which take the place of missing runs; None: these are to be trained.
    """

    def is_available(run: PlannedRun) -> bool:
        with suppress(SerError):  # a damaged folder
            return run.finished() is not None or bool(stored and run.stored_rows(stored))
        return False

    planned = {}
    for name in names or claimed_recipes():
        recipe = load_recipe(name, overrides=overrides)
        try:
            if recipe.reads_encoder and stored is None:
                encoder_weights.locate(encoder or recipe.input.encoder, None if encoder else recipe.input.revision)
        except SerError as error:
            note(f"{name} is left out: {error}")
            continue
        for key, column in columns_of(recipe).items():
            preferred = recipe_of_column(recipe, key, encoder)
            in_full = recipe_of_column(recipe, key, encoder, reduced=False)
            if preferred is None or in_full is None or (key == "without-copies" and has_no_copies(preferred)):
                continue
            is_control = FLOOR in column.overrides
            root = runs_root(runs_dir) / "permuted" if is_control else runs_root(runs_dir)
            of_column = range(draws) if is_control else seeds
            planned[name, key] = [PlannedRun(preferred, column.protocol, seed, root) for seed in of_column]
            runs_in_full = [PlannedRun(in_full, column.protocol, seed, root) for seed in of_column]
            if all(is_available(run) for run in runs_in_full):
                planned[name, key] = runs_in_full
    return planned


def _train_in_parallel(planned: Iterable[PlannedRun], data_dir: str | Path | None, say: Callable[[str], None]) -> None:
    """Train the missing networks on MFCC, one on each core: a second core hardly speeds up a single training.

    Failures are ignored here: `measure_claims` tries again and reports the reason.
    """
    missing = []
    for run in planned:
        with suppress(SerError):  # a damaged folder
            if not run.recipe.reads_encoder and run.finished() is None:
                missing.append(run)
    for run in missing:
        say(f"training {run}")
    trained = Parallel(n_jobs=min(joblib.cpu_count(), 8), return_as="generator_unordered")(
        delayed(_train_quietly)(run, data_dir) for run in missing
    )
    deque(tqdm(trained, desc="networks on MFCC", total=len(missing), unit="run", leave=False), maxlen=0)


def _train_quietly(planned: PlannedRun, data_dir: str | Path | None) -> None:
    logger = logging.getLogger("ser_lib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # each training would repeat the warnings about its clips
    with suppress(SerError):
        experiment.train(*planned[:3], data_dir, planned.runs_dir, progress=False)
    logger.setLevel(level)


def has_no_copies(recipe: Recipe) -> bool:
    """Whether the stated split is the one of `deduplicated`: no copies, and no use of test clips in training."""
    return not (recipe.split.keep_duplicates or recipe.split.select_on_test or recipe.split.train_on_test)


def claims_table(results: pd.DataFrame | None = None, overrides: Iterable[str] = ()) -> pd.DataFrame:
    """Every claim with its measurements, one row a recipe and column, from rows of `results.csv`.

    A row with the recipe's own encoder is preferred to one with another, and then one with the recipe's settings to one
    with the reduced settings of `ON_A_CPU`.

    Args:
        results: as of `read_results`; None: read them.
        overrides: those of `measure_claims`.

    Returns:
        column (key of `columns_of`), its title, and the row of results; columns without a row are left out.
    """
    results = read_results() if results is None else results
    rows = []
    for name in claimed_recipes():
        recipe = load_recipe(name, overrides=overrides)
        for key, column in columns_of(recipe).items():
            if (row := _result_row(results, recipe, key)) is not None:
                rows.append({"column": key, "title": column.title, **row})
    return pd.DataFrame(rows, columns=["column", "title", *results.columns])


def _result_row(results: pd.DataFrame, recipe: Recipe, key: str) -> dict | None:
    """The preferred row of results of a recipe in a column, if there is one."""
    sizes = (False, True) if (recipe.name, key) in ON_A_CPU else (False,)
    recipes = [recipe_of_column(recipe, key, reduced=reduced) for reduced in sizes]
    settings = [set(measured.variant_label.split("; ")) for measured in recipes if measured is not None]
    is_same = (results["recipe"] == recipe.name) & (results["protocol"] == columns_of(recipe)[key].protocol)
    rows = []
    for row in results[is_same].to_dict("records"):
        corpora, of_row = set(row["corpus"].replace("-part", "").split("+")), set(row["variant"].split("; "))
        if corpora == set(recipe.corpora) and of_row in settings:
            rows.append((bool(row["stand_in_for"]), settings.index(of_row), row))
    return min(rows, key=lambda candidate: candidate[:2])[-1] if rows else None


def human_accuracy(recipe: Recipe) -> str:
    """Accuracy of human listeners on the recipe's corpora, from audio only, where it is known."""
    known = {name: CORPORA[name].human_accuracy for name in recipe.corpora if name in CORPORA}
    texts = [f"{accuracy:.3f}" + f" ({name})" * (len(known) > 1) for name, accuracy in known.items() if accuracy]
    return ", ".join(texts) or "—"


def markdown(table: pd.DataFrame, heads: Sequence[str] | None = None) -> str:
    """The claims as two tables in Markdown: recipes with their source's own input, then those with a stand-in for it.

    Cells hold the accuracy, its interval or spread, and what was reduced; "—" where the source has no such variant.

    Args:
        heads: of the wanted columns, that of the recipe first; None: all.
    """
    claims = claimed_recipes()
    titles = {key: column.title for key, column in columns_of(load_recipe(next(iter(claims)))).items()}
    heads = heads or ["recipe", "encoder", "claimed", *titles.values(), "chance", "people"]
    with_own_input: list[dict[str, str]] = []
    stand_ins: list[dict[str, str]] = []
    # Columns of one recipe that were measured with another encoder than the others are a row of their own.
    for (name, encoder, stated), rows in table.groupby(["recipe", "encoder", "stand_in_for"], sort=False):
        recipe, claim = load_recipe(name), claims[name]
        scores = {row.column: accuracy_cell(row) for row in rows.itertuples()}
        if has_no_copies(recipe) and "as-stated" in scores:
            scores["without-copies"] = "the same split"
        about = "; ".join([f"[`{name}`]({claim.source})", *filter(None, dict.fromkeys(rows["part"]))])
        reads = f"`{encoder}`, stand-in for `{stated}`" if stated else f"`{encoder}`"
        cells = {"recipe": about, "encoder": reads, "claimed": f"{claim.accuracy:.3f}"}
        missing = {key: "—" if recipe_of_column(recipe, key) is None else "not measured" for key in titles}
        cells |= {title: (missing | scores)[key] for key, title in titles.items()}
        cells |= {"chance": chance_cell(rows), "people": human_accuracy(recipe)}
        (stand_ins if stated else with_own_input).append(cells)
    sections = {"recipes, with what the source reads": with_own_input, "recipes, with a stand-in encoder": stand_ins}
    tables = [
        markdown_table([title, *heads[1:]], [[cells[head] for head in heads] for cells in rows])
        for title, rows in sections.items()
        if rows
    ]
    return "\n\n".join(tables)


def accuracy_cell(row) -> str:
    """`**0.515** (0.496–0.534); 3 instead of 20 epochs`: accuracy, its interval or spread, and what was reduced."""
    return "; ".join(filter(None, [score_cell(row, "accuracy", bold=True), row.reduced]))


def chance_cell(rows: pd.DataFrame) -> str:
    """The accuracy of guessing on new speakers, and that of columns where it differs, as other emotions are tested."""
    chances = {row.column: (row.title, row.accuracy_chance) for row in rows.itertuples()}
    first = chances.get("new-speakers") or next(iter(chances.values()))
    others = [f"{title}: {value:.2f}" for title, value in chances.values() if abs(value - first[1]) > 0.005]
    return "; ".join([f"{first[1]:.2f}", *others])


def accuracy_by_copy(run: Run, clips: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of test clips with a copy among the training clips, and of those without.

    Args:
        run: of one fold, under `published`.
        clips: of the run, copies kept, as of `clips_of`.

    Returns:
        n_test, share, accuracy, accuracy_low, accuracy_high of the rows "copy in training" and "no copy", if any.
    """
    hash_of = clips.set_index("clip_id")["audio_hash"]
    train = run.split.loc[run.split["subset"] == "train", "clip_id"]
    has_copy = run.predictions["clip_id"].map(hash_of).isin(set(train.map(hash_of)))
    group = np.where(has_copy, "copy in training", "no copy")
    table = metrics.by_group(run.predictions, group, run.test_clips()["speaker"])
    table["share"] = table["n_test"] / table["n_test"].sum()
    return table[["n_test", "share", "accuracy", "accuracy_low", "accuracy_high"]]


def shared_by_splits(runs: Mapping[tuple[str, str], Sequence[Run]], data_dir: str | Path | None = None) -> pd.DataFrame:
    """What training and test share in the columns in `EXPLAINED`: one row a recipe and column, of its first seed.

    Args:
        runs: as of `measure_claims`.

    Returns:
        recipe, column, accuracy, encoder, stand_in_for; recordings (distinct ones in training, on average over the
        folds); seen_speakers (share of the test clips whose speaker is trained on); and of as-stated and as-run copied
        (share of the test clips with a copy in training), accuracy_copied and accuracy_others, NaN without such clips.
    """
    rows = []
    for (name, key), of_seeds in runs.items():
        if key not in EXPLAINED:
            continue
        run = of_seeds[0]
        train = run.split[run.split["subset"] == "train"]
        recordings = train.groupby("fold")["audio_hash" if "audio_hash" in train else "clip_id"].nunique().mean()
        leaks = red_leaks(run.audit).set_index("leak")["share"]
        row = {"recipe": name, "column": key, "accuracy": run.metrics["overall"]["accuracy"]}
        row |= {"encoder": run.recipe.features_label, "stand_in_for": stand_in_for(run.recipe)}
        row |= {"recordings": recordings, "seen_speakers": leaks.get("same speaker", 0.0)}
        if key in ("as-stated", "as-run"):
            by_copy = accuracy_by_copy(run, clips_of(run.recipe, run.protocol, data_dir, progress=False))
            by_copy = by_copy.reindex(["copy in training", "no copy"])
            row["copied"] = by_copy["share"].fillna(0).iloc[0]
            row |= dict(zip(["accuracy_copied", "accuracy_others"], by_copy["accuracy"], strict=True))
        rows.append(row)
    measures = ["accuracy", "recordings", "seen_speakers", "copied", "accuracy_copied", "accuracy_others"]
    return pd.DataFrame(rows, columns=["recipe", "column", "encoder", "stand_in_for", *measures])


def explain_difference(name: str, splits: pd.DataFrame) -> str:
    """A few sentences on the difference between a recipe's claim and its measurements.

    Args:
        splits: as of `shared_by_splits`, with one row of the recipe at least.
    """
    rows = {row.column: row for row in splits[splits["recipe"] == name].itertuples()}
    sentences = []
    first = next(iter(rows.values()))
    if first.stand_in_for:
        sentences.append(f"Measured with {first.encoder} as a stand-in for {first.stand_in_for}")
    if stated := rows.get("as-stated"):
        as_run = rows.get("as-run")
        text = f"Claimed accuracy: {claimed_recipes()[name].accuracy:.3f}. Measured as stated: {stated.accuracy:.3f}"
        sentences.append(text + (f", as its notebook ran: {as_run.accuracy:.3f}" if as_run else ""))
        for row, start in ((stated, ""), (as_run, "As its notebook ran, ")):
            if row and row.copied > 0:
                text = f"{start}{row.copied:.0%} of the test clips have a copy in training"
                if row.copied < 1:
                    text += f": the accuracy is {row.accuracy_copied:.3f} on them and {row.accuracy_others:.3f} on the others"
                sentences.append(text)
        if stated.seen_speakers > 0:
            sentences.append(f"{stated.seen_speakers:.0%} of the test clips are of speakers that were trained on")
    titles = {"without-copies": "without copies", "new-speakers": "on new speakers"}
    honest = [key for key in titles if key in rows]
    if {"as-stated", "new-speakers"} <= rows.keys():
        scores = ", ".join(f"{titles[key]} {rows[key].accuracy:.3f}" for key in honest)
        recordings = [f"{rows[key].recordings:,.0f}" for key in ("as-stated", *honest)]
        sentences.append(f"Accuracy {scores}")
        sentences.append(
            f"These runs learn from {', '.join(recordings[:-1])} and {recordings[-1]} recordings and test other clips, "
            "so that their differences are not what a leak is worth"
        )
    return " ".join(f"{sentence}." for sentence in sentences)


def comparable_groups(runs: dict[str, Run]) -> list[dict[str, Run]]:
    """Groups of two runs or more, by recipe, with the same test clips and emotions."""
    groups: dict[tuple, dict[str, Run]] = defaultdict(dict)
    for name, run in runs.items():
        groups[frozenset(run.predictions["clip_id"]), *run.emotions][name] = run
    return [group for group in groups.values() if len(group) > 1]


def run_with_seed(
    run: Run,
    seed: int,
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> Run:
    """The same experiment with another seed: the finished run, or else a new one, which `say` is told of."""
    return PlannedRun(run.recipe, run.protocol, seed, runs_root(runs_dir)).finished_or_trained(data_dir, say)
