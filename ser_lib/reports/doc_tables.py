"""Tables of the README and of docs/, written between markers: `<!-- claims: begin -->` and `<!-- claims: end -->`."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.common.parsing import read_table
from ser_lib.evaluation import unseen_corpora
from ser_lib.evaluation.results import markdown_table, read_results, results_path, score_cell, write_into_readme
from ser_lib.models.base import MODELS
from ser_lib.protocols.splits import PROTOCOLS
from ser_lib.recipes import load_recipe, recipe_names
from ser_lib.studies import claims

SUMMARY_HEADS = ["recipe", "reads", "claimed", "as stated", "as its notebook ran", "new speakers"]


def unheard_summary(unheard: pd.DataFrame) -> str:
    """The run's UAR on test speakers of its own corpus and on each corpus that it was not trained on, in a sentence."""
    rows = list(unheard[unheard["emotion"] == unseen_corpora.ALL].itertuples())
    scores = [score_cell(row, "recall", digits=2) for row in rows]
    names = [f"`{row.corpus.removeprefix(unseen_corpora.OWN_TEST_CLIPS)}`" for row in rows]
    others = ", ".join(f"**{score}** on {name}" for score, name in zip(scores[1:], names[1:], strict=True))
    return f"`{rows[0].recipe}` reaches a UAR of **{scores[0]}** on new speakers of {names[0]}, its own corpus, and {others}."


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


def _unheard(reports_dir: str | Path | None) -> pd.DataFrame:
    """The table of `ser score … --csv reports/unheard.csv`."""
    return read_table(results_path(reports_dir).with_name("unheard.csv"))


# Each takes the folder that holds results.csv and unheard.csv; None: reports/.
TABLES: dict[str, Callable[[str | Path | None], str]] = {
    "claims": lambda folder: claims.markdown(claims.claims_table(read_results(folder))),
    "claims-summary": lambda folder: claims.markdown(claims.claims_table(read_results(folder)), heads=SUMMARY_HEADS),
    "unheard": lambda folder: unseen_corpora.markdown(_unheard(folder)),
    "unheard-summary": lambda folder: unheard_summary(_unheard(folder)),
    "recipes": lambda _: recipes(),
    "protocols": lambda _: protocols(),
    "models": lambda _: models(),
}


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
