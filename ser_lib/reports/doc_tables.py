"""Tables of the README and of docs/, written between markers: `<!-- claims: begin -->` and `<!-- claims: end -->`."""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.common.files import read_table, reports_path
from ser_lib.evaluation import metrics, stored_predictions, unseen_corpora
from ser_lib.evaluation.comparison import compare
from ser_lib.evaluation.results import make_results, markdown_table, read_results, score_cell, write_into_readme
from ser_lib.models.base import MODELS
from ser_lib.protocols.splits import PROTOCOLS
from ser_lib.recipes import load_recipe, recipe_names
from ser_lib.reports.index import write_index
from ser_lib.studies import claims
from ser_lib.studies.voice import read_table as read_voice_table

SUMMARY_HEADS = ["recipe", "encoder", "claimed", "as stated", "as its notebook ran", "new speakers"]


def unheard_summary(unheard: pd.DataFrame) -> str:
    """The run's UAR on test speakers of its own corpus and on each corpus that it was not trained on, in a sentence."""
    runs = unheard[["recipe", "variant", "encoder"]].eq(unheard[["recipe", "variant", "encoder"]].iloc[0]).all(axis=1)
    rows = list(unheard[runs & (unheard["emotion"] == unseen_corpora.ALL)].itertuples())
    scores = [score_cell(row, "recall", digits=2) for row in rows]
    names = [f"`{row.corpus.removeprefix(unseen_corpora.OWN_TEST_CLIPS)}`" for row in rows]
    others = ", ".join(f"**{score}** on {name}" for score, name in zip(scores[1:], names[1:], strict=True))
    caveat = f" ({rows[0].caveat})" if rows[0].caveat else ""
    of_own_corpus = (
        f"`{rows[0].recipe}` reaches a UAR of **{scores[0]}** on new speakers of {names[0]}, its own corpus{caveat}"
    )
    return f"{of_own_corpus}, and {others}."


# The models with which all others of `scripts/ablations.py` are compared: on all folds, and on the first fold without a
# second fit on training and validation clips together.
REFERENCE_WAY = "logistic regression on layers 2 and 3"
REFERENCE_WAY_OF_FIRST_FOLD = "the same regression on training actors alone"
# CREMA-D's slice has one or two clips of most speakers, so that hardly any can be enrolled.
CORPORA = ("ravdess", "savee", "tess")
VOICES = {
    "own corpora": ("speaker", "stated"),
    "own corpora, after 8 clips": ("enrolled", "stated"),
    "another corpus": ("cross-corpus", "stated"),
    "another corpus, after 8 clips": ("cross-corpus", "stated; split.enrol_clips=8"),
}


def voices(table: pd.DataFrame) -> str:
    """UAR of `speech-emotion` on each corpus, with and without clips of the speaker, in and outside its training data."""
    of_recipe = table[(table["recipe"] == "speech-emotion") & ~table["corpus"].str.contains("+", regex=False)]
    scores = {(row.protocol, row.variant, row.corpus): row for row in of_recipe.itertuples()}
    rows = []
    for corpus in CORPORA:
        of_corpus = [scores.get((*of, corpus)) for of in VOICES.values()]
        rows.append([f"`{corpus}`", *("—" if row is None else score_cell(row, "uar", digits=2) for row in of_corpus)])
    caveats = dict.fromkeys(row.caveat for row in scores.values() if row.caveat)
    return "\n\n".join([markdown_table(["UAR on", *VOICES], rows), *(f"Beware: {caveat}." for caveat in caveats)])


def eight_clips(table: pd.DataFrame) -> str:
    """What eight clips of the speaker, and of another speaker of the same corpus, add to UAR: from `reports/voice.csv`."""
    rows = []
    for (trained_on, corpus), part in table.groupby(["trained_on", "corpus"], sort=False):
        of = part.set_index("condition")
        if corpus not in CORPORA:
            continue
        added = [_difference_of_uar(of.loc[name], prefix="") for name in ("8 clips", "8 clips of another speaker")]
        rows.append([f"`{corpus}`", trained_on, f"{of.loc['no clips', 'uar']:.3f}", *added])
    heads = ["clips of", "trained on", "UAR without", "8 clips of the speaker add", "8 clips of another speaker add"]
    return markdown_table(heads, rows)


def speech_emotion(table: pd.DataFrame) -> str:
    """Every row of `speech-emotion`: protocol, settings, corpus, and its scores."""
    of_recipe = table[(table["recipe"] == "speech-emotion") & (table["control"] == "")]
    rows = []
    for row in of_recipe.itertuples():
        about = [f"`{row.protocol}`", row.variant, row.corpus, score_cell(row, "uar"), score_cell(row, "accuracy")]
        rows.append([*about, f"{row.n_test} / {row.test_speakers}"])
    return markdown_table(
        ["protocol", "settings", "corpus", "UAR (95 % CI)", "accuracy (95 % CI)", "test clips / speakers"], rows
    )


def certainty(folder: Path) -> str:
    """How many answers of `speech-emotion` are certain, and how many of these are right, on each corpus."""
    rows = []
    for stored in stored_predictions.read_all(folder):
        protocol = (stored.facts.protocol, stored.facts.variant)
        name = next((name for name, of in VOICES.items() if of == protocol), None)
        is_certain = stored.certain()
        if stored.facts.recipe != "speech-emotion" or name is None or is_certain is None:
            continue
        is_right = metrics.is_right(metrics.decisions(stored.predictions))
        for corpus in CORPORA:
            rows_of = (stored.table["corpus"] == corpus).to_numpy()
            if rows_of.any():
                certain = rows_of & is_certain.to_numpy()
                cells = f"{certain.sum() / rows_of.sum():.0%}", f"{is_right[certain].mean():.0%}"
                rows.append([f"`{corpus}`", name, *cells, f"{is_right[rows_of].mean():.0%}"])
    order = list(VOICES)
    rows.sort(key=lambda row: (row[0], order.index(row[1])))
    return markdown_table(["clips of", "the model knows", "certain", "of these right", "of all right"], rows)


def ablations(folder: Path) -> str:
    """Each changed setting of `speech-emotion` under `speaker`: its UAR, and the paired difference from the recipe's own."""
    stored = [
        experiment
        for experiment in stored_predictions.read_all(folder)
        if (experiment.facts.recipe, experiment.facts.protocol) == ("speech-emotion", "speaker")
    ]
    # With one seed, as all have it.
    first_seed = [experiment.part(experiment.table["seed"] == 0) for experiment in stored]
    recipe = next((experiment for experiment in first_seed if experiment.facts.variant == "stated"), None)
    if recipe is None:
        return ""
    rows = []
    for experiment in first_seed:
        cells = [f"`{experiment.facts.variant.removeprefix('stated; ')}`" if experiment is not recipe else "the recipe"]
        for corpus in CORPORA:
            if corpus not in experiment.facts.corpora:
                cells.append("—")
                continue
            changed, unchanged = (each.part(each.table["corpus"] == corpus) for each in (experiment, recipe))
            about = changed.table.set_index("clip_id")
            paired = compare(changed.predictions, unchanged.predictions, about["speaker"], about["corpus"])
            uar = f"{paired['uar_first']:.3f}"
            cells.append(uar if experiment is recipe else f"{uar} ({_difference_of_uar(paired)})")
        rows.append(cells)
    rows.sort(key=lambda row: (row[0] != "the recipe", row[0]))
    return markdown_table(["changed", *(f"UAR on `{corpus}`" for corpus in CORPORA)], rows)


def ways_tried(folder: Path) -> str:
    """Every way of `scripts/ablations.py`, best first: its UAR, and its paired difference from the reference of its folds."""
    files = sorted((folder / "ablations").glob(f"*{stored_predictions.SUFFIX}"))
    tables = {table["way"].iloc[0]: table for table in map(pd.read_csv, files)}
    if REFERENCE_WAY not in tables:
        return ""
    rows = []
    for way, table in tables.items():
        is_complete = table["clip_id"].nunique() == tables[REFERENCE_WAY]["clip_id"].nunique()
        reference_way = REFERENCE_WAY if is_complete else REFERENCE_WAY_OF_FIRST_FOLD
        reference = tables[reference_way]
        emotions = list(table.columns[4:-2])
        tested = pd.concat([reference.assign(seed=seed) for seed in table["seed"].unique()])
        # A clip of each seed is a clip of its own; all of them are of the same speaker.
        first, second = (
            part.assign(clip_id=part["clip_id"] + " " + part["seed"].astype(str))[["clip_id", "truth", *emotions]]
            for part in (table, tested.merge(table[["seed", "clip_id"]]))
        )
        first[emotions], second[emotions] = (
            first[emotions] / stored_predictions.UNITS,
            second[emotions] / stored_predictions.UNITS,
        )
        paired = compare(first, second, dict(zip(first["clip_id"], table["speaker"], strict=True)))
        name = (f"**{way}**" if way == reference_way else way) + ("" if is_complete else ", first fold")
        difference = "—" if way == reference_way else _difference_of_uar(paired)
        rows.append(
            (paired["uar_first"], [name, f"{paired['uar_first']:.3f}", difference, str(table["seed"].nunique())])
        )
    rows.sort(key=lambda row: -row[0])
    heads = ["way", "UAR", "difference from the regression (95 % interval)", "seeds"]
    return markdown_table(heads, [cells for _, cells in rows])


def _difference_of_uar(paired: Mapping, prefix: str = "uar_") -> str:
    """`-0.014, -0.030 to +0.002`: a difference of UAR with its interval, where there is one."""
    difference, low, high = (paired[f"{prefix}difference{end}"] for end in ("", "_low", "_high"))
    return f"{difference:+.3f}" + ("" if pd.isna(low) else f", {low:+.3f} to {high:+.3f}")


def recipes() -> str:
    """Every recipe of the package: what it trains on which corpora, and the accuracy that its source claims."""
    rows = []
    for recipe in map(load_recipe, recipe_names()):
        rows.append([f"`{recipe.name}`", recipe.title, f"{recipe.claim.accuracy:.3f}" if recipe.claim else "—"])
    return markdown_table(["recipe", "what", "claimed accuracy"], rows)


def protocols() -> str:
    """Every protocol, with what it tests."""
    rows = [[f"`{protocol.name}`", protocol.about] for protocol in PROTOCOLS.values()]
    return markdown_table(["protocol", "test set"], rows)


def models() -> str:
    """Every value of `model.name`: what the model reads, and the first line of its class."""
    reads = {
        "vector": "`input.pooling=mean`, `mean+std`",
        "layers": "several `input.layers` of an encoder",
        "sequence": "`input.pooling=sequence`",
    }
    rows = []
    for name, entry in MODELS.items():
        forms = [reads[form] for form in getattr(entry, "forms", ())]
        what = (inspect.getdoc(entry) or "").partition("\n")[0]
        rows.append([f"`{name}`", ", ".join(forms) or "the waveform", what])
    return markdown_table(["`model.name`", "reads", "what"], rows)


def coverage(table: pd.DataFrame) -> str:
    """How often simulated intervals held the true score, in per cent: from the lowest to the highest, by speakers tested."""
    shares = 100 * table.groupby(["test", "aim", "score"], sort=False)["coverage"].mean()
    rows = []
    for test in dict.fromkeys(table["test"]):
        of_test = shares[test].unstack("score")
        high = of_test.index == of_test.index.max()
        cells = [f"{part.min(axis=None):.1f}–{part.max(axis=None):.1f}" for part in (of_test[~high], of_test[high])]
        rows.append([test, *cells])
    return markdown_table(["speakers tested", "true score 0.3 to 0.95", "true score 0.99"], rows)


def false_alarms(table: pd.DataFrame) -> str:
    """How many pairs of equally good models each test told apart at the 5 % level, by the number of speakers."""
    rows = [[str(row.n_speakers), f"{row.paired_t:.1%}", f"{row.mcnemar:.1%}"] for row in table.itertuples()]
    return markdown_table(["speakers", "paired t test over speakers", "McNemar"], rows)


def processors(table: pd.DataFrame) -> str:
    """What each recipe scores on other processors, and how many answers differ from those of the first."""
    rows = []
    for row in table.itertuples():
        largest = "—" if pd.isna(row.features) else f"{row.features:.0e}" if row.features else "0"
        rows.append([f"`{row.recipe}`", row.processor, largest, f"{row.uar:.3f}", f"{row.changed:.1%}"])
    return markdown_table(["recipe", "processor", "largest difference of a feature", "UAR", "other answers"], rows)


def _file(name: str, reports_dir: str | Path | None) -> pd.DataFrame:
    return read_table(reports_path(name, reports_dir), "Restore it: `git checkout -- reports`.")


def _unheard(reports_dir: str | Path | None) -> pd.DataFrame:
    return unseen_corpora.read_scores(unseen_corpora.unheard_path(reports_dir))


# Each takes the folder that holds results.csv and unheard.csv; None: reports/.
TABLES: dict[str, Callable[[str | Path | None], str]] = {
    "claims": lambda folder: claims.markdown(claims.claims_table(read_results(folder))),
    "claims-summary": lambda folder: claims.markdown(claims.claims_table(read_results(folder)), heads=SUMMARY_HEADS),
    "unheard": lambda folder: unseen_corpora.markdown(_unheard(folder)),
    "unheard-summary": lambda folder: unheard_summary(_unheard(folder)),
    "ablations": lambda folder: ablations(stored_predictions.predictions_dir(folder)),
    "ways-tried": lambda folder: ways_tried(stored_predictions.predictions_dir(folder)),
    "certainty": lambda folder: certainty(stored_predictions.predictions_dir(folder)),
    "coverage": lambda folder: coverage(_file("coverage.csv", folder)),
    "false-alarms": lambda folder: false_alarms(_file("false_alarms.csv", folder)),
    "processors": lambda folder: processors(_file("processors.csv", folder)),
    "voices": lambda folder: voices(read_results(folder)),
    "eight-clips": lambda folder: eight_clips(read_voice_table(folder)),
    "speech-emotion": lambda folder: speech_emotion(read_results(folder)),
    "recipes": lambda _: recipes(),
    "protocols": lambda _: protocols(),
    "models": lambda _: models(),
}


def make_tables(reports_dir: str | Path | None = None) -> list[Path]:
    """Compute `results.csv`, `unheard.csv` and the index anew, from the stored predictions alone.

    Returns:
        the files that were written.
    """
    files = [make_results(reports_dir), unseen_corpora.make_unheard(reports_dir), write_index(reports_dir)]
    return [file for file in files if file]


def fill_tables(file: Path, reports_dir: str | Path | None = None) -> None:
    """Write every table for which a file has markers.

    Raises:
        SerError: the file has no marker, or one of a table that does not exist.
    """
    names = re.findall(r"<!-- ([\w-]+): begin -->", file.read_text(encoding="utf-8"))
    if not names or not set(names) <= set(TABLES):
        raise SerError(
            f"{file} has markers for {', '.join(names) or 'no table'}; expected <!-- NAME: begin --> and "
            f"<!-- NAME: end -->, where NAME is one of {', '.join(TABLES)}."
        )
    for name in names:
        write_into_readme(file, name, TABLES[name](reports_dir))
