"""Tables of the README and of docs/, written between markers: `<!-- claims: begin -->` and `<!-- claims: end -->`."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.evaluation import unseen_corpora
from ser_lib.evaluation.results import MIN_SPEAKERS, read_results, results_path, write_into_readme
from ser_lib.inference.run import read_table
from ser_lib.models import encoder_weights
from ser_lib.models.base import MODELS
from ser_lib.protocols.splits import PROTOCOLS
from ser_lib.recipes import load_recipe, recipe_names
from ser_lib.studies import claims


def claims_summary(results: pd.DataFrame) -> str:
    """Each published claim beside its measurement on the published split and on new speakers.

    Recipes that were measured with their own features come first. The others say which encoder stood in, which
    settings were reduced, and of which corpora only a part was at hand.
    """
    table = claims.claims_table(results)
    titles = dict(zip(table["column"], table["title"], strict=True))
    columns = {key: titles[key] for key in ("as-stated", "as-run", "new-speakers") if key in titles}
    lines: list[tuple[bool, str]] = []
    for name, rows in table.groupby("recipe", sort=False):
        recipe = load_recipe(name)
        if recipe.claim is None:
            continue
        encoder = rows["encoder"].iloc[0]
        reads, is_stand_in = f"`{encoder}`", encoder != recipe.features_label
        if is_stand_in:
            reads += f" in place of `{encoder_weights.label(recipe.input.encoder)}`"
        if parts := sorted(set(re.findall(r"(\w+)-part", " ".join(rows["corpus"])))):
            reads += f"; a part of {', '.join(parts)}"
        cells = {row.column: claims.accuracy_cell(row) for row in rows.itertuples()}
        scores = " | ".join(cells.get(key, "—") for key in columns)
        line = f"| [`{name}`]({recipe.claim.source}) | {reads} | {recipe.claim.accuracy:.3f} | {scores} |"
        lines.append((is_stand_in, line))
    lines.sort(key=lambda line: line[0])
    head = [f"| recipe | reads | claimed | {' | '.join(columns.values())} |", "|---" * (3 + len(columns)) + "|"]
    return "\n".join(head + [line for _, line in lines])


def unheard_summary(unheard: pd.DataFrame) -> str:
    """The run's UAR on test speakers of its own corpus and on each corpus that it was not trained on, in a sentence."""
    rows = list(unheard[unheard["emotion"] == unseen_corpora.ALL].itertuples())
    marks = ["" if row.test_speakers >= MIN_SPEAKERS else "†" for row in rows]
    scores = [
        f"{row.recall:.2f} ({row.recall_low:.2f}–{row.recall_high:.2f}){mark}"
        for row, mark in zip(rows, marks, strict=True)
    ]
    names = [f"`{row.corpus.removeprefix(unseen_corpora.OWN_TEST_CLIPS)}`" for row in rows]
    others = ", ".join(f"**{score}** on {name}" for score, name in zip(scores[1:], names[1:], strict=True))
    return f"`{rows[0].recipe}` reaches a UAR of **{scores[0]}** on new speakers of {names[0]}, its own corpus, and {others}."


def recipes() -> str:
    """Every recipe of the package: what it trains on which corpora, and the accuracy that its source claims."""
    lines = ["| recipe | what | claimed accuracy |", "|---|---|---|"]
    for recipe in map(load_recipe, recipe_names()):
        claimed = f"{recipe.claim.accuracy:.3f}" if recipe.claim else "—"
        lines.append(f"| `{recipe.name}` | {recipe.title} | {claimed} |")
    return "\n".join(lines)


def protocols() -> str:
    """Every protocol, with what it tests."""
    lines = ["| protocol | test set |", "|---|---|"]
    return "\n".join(lines + [f"| `{protocol.name}` | {protocol.about} |" for protocol in PROTOCOLS.values()])


def models() -> str:
    """Every value of `model.name`: what the model reads, and the first line of its class."""
    reads = {
        "vector": "`input.pooling=mean`, `mean+std`",
        "layers": "several `input.layers` of an encoder",
        "sequence": "`input.pooling=sequence`",
    }
    lines = ["| `model.name` | reads | what |", "|---|---|---|"]
    for name, entry in MODELS.items():
        forms = [reads[form] for form in getattr(entry, "forms", ())]
        what = (inspect.getdoc(entry) or "").partition("\n")[0]
        lines.append(f"| `{name}` | {', '.join(forms) or 'the waveform'} | {what} |")
    return "\n".join(lines)


def _unheard(reports_dir: str | Path | None) -> pd.DataFrame:
    """The table of `ser score … --csv reports/unheard.csv`."""
    return read_table(results_path(reports_dir).with_name("unheard.csv"))


# Each takes the folder that holds results.csv and unheard.csv; None: reports/.
TABLES: dict[str, Callable[[str | Path | None], str]] = {
    "claims": lambda folder: claims.markdown(claims.claims_table(read_results(folder))),
    "claims-summary": lambda folder: claims_summary(read_results(folder)),
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
