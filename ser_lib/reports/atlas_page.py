"""The atlas of published splits as HTML: its sentences, one row a corpus and one column a benchmark, and what models heard.

show_summary(table)
show_matrix(table)      # each cell leads to its counts, examples, and the list that they were read from
"""

import pandas as pd

from ser_lib.corpora.file_names import title_of
from ser_lib.reports.notebook_display import Html
from ser_lib.reports.rendering import render
from ser_lib.studies import atlas
from ser_lib.studies.atlas.heard import HEARD

SIGNS = {"red": "✗", "green": "✓", "grey": "?"}  # so that a verdict is not told by its colour alone


def show_summary(table: pd.DataFrame) -> Html:
    """The sentences of `atlas.summary`, above the table."""
    return Html(render("atlas_summary.html.j2", sentences=atlas.summary(table)))


def show_matrix(table: pd.DataFrame) -> Html:
    """One row a corpus, one column a benchmark, and a column of the models that heard the corpus; escaped.

    Args:
        table: as `atlas.read_table` returns it.
    """
    cells = [cell_of(row) for row in table.to_dict("records")]
    corpora = [
        {
            "title": title_of(name),
            "heard": [(number, model) for number, model in enumerate(HEARD) if name in model.corpora],
            "cells": {cell["benchmark"]: cell for cell in cells if cell["corpus"] == name},
        }
        for name in dict.fromkeys(table["corpus"])
    ]
    benchmarks = [name for name in atlas.BENCHMARKS if name in set(table["benchmark"])]
    return Html(render("atlas.html.j2", corpora=corpora, benchmarks=benchmarks, signs=SIGNS))


def show_heard() -> Html:
    """Each model with what its authors state about its training data, and where."""
    models = [(model, ", ".join(map(title_of, model.corpora))) for model in HEARD]
    return Html(render("atlas_heard.html.j2", models=models))


def cell_of(row: dict) -> dict:
    """A row of the atlas with its `id` in the page, its `short` text in the table, and its `facts` as name and text."""
    row = {name: None if value is pd.NA else value for name, value in row.items()}
    return row | {"id": f"{row['corpus']}-{row['benchmark'].lower()}", "short": _short(row), "facts": _facts(row)}


def _short(row: dict) -> str:
    if row["test_speakers"] is None:
        return "code" if row["test"] is None and row["verdict"] != "grey" else "not known"
    return f"{row['shared_speakers']} of {row['test_speakers']}"


def _facts(row: dict) -> list[tuple[str, str]]:
    facts = []
    if row["test"] is not None:
        counts = [f"{row[name]:,} {name}" for name in ("train", "validation", "test") if row[name]]
        folds = f", in {row['folds']} folds" if (row["folds"] or 0) > 1 else ""
        facts.append(("Distinct clips", ", ".join(counts) + folds))
    if row["test_speakers"] is not None:
        who = f"{row['shared_speakers']} of {row['test_speakers']} test speakers are in training of the same fold"
        facts.append(("Speakers", f"{who} ({row['speaker_clips']:,} test clips); read from {row['speakers_from']}"))
    if row["test_sentences"] is not None:
        shared = f"{row['shared_sentences']} of {row['test_sentences']} test sentences are in training of the same fold"
        facts.append(("Sentences", shared))
    if row["shared_names"] is not None:
        shared = f"{row['shared_names']:,} test clips are listed in training too"
        facts.append(("Files", f"{shared}; audio was not compared"))
    if row["test"] is not None:
        listed = f"{row['validation']:,} clips listed" if row["validation"] else "no list"
        inside = f"; {row['validation_in_test']:,} test clips are among them" if row["validation_in_test"] else ""
        facts.append(("Validation", listed + inside))
    if row["examples"]:
        facts.append(("Examples, test ↔ train", row["examples"]))
    return facts + ([("Note", row["note"])] if row["note"] else [])


def worth_sentences(worth: pd.DataFrame) -> list[str]:
    """One sentence for each split of which the leak's worth was measured.

    Few test speakers stand for themselves alone: then each one's own difference is given in place of an interval.

    Args:
        worth: as `ser_lib.studies.atlas.worth.read_table` returns it.
    """
    sentences = []
    for name, rows in worth.groupby("mechanism", sort=False):
        leaky = rows[rows["leaky"] & (rows["part_of"] == "")].iloc[0]
        honest = rows[rows["condition"] == leaky["against"]].iloc[0]
        speakers = rows[rows["leaky"] & (rows["part_of"] != "")]
        low, high = leaky["points_low"], leaky["points_high"]
        spread = f"{low:+.1f} to {high:+.1f}, 95 % interval over {leaky['interval_over']}"
        if len(speakers):
            spread = ", ".join(f"{row.condition.partition(':')[0]} {row.points:+.1f}" for row in speakers.itertuples())
        sentences.append(
            f"{name}: UAR {leaky['uar']:.3f} with the tested speakers in training, and {honest['uar']:.3f} without them, on "
            f"the same {leaky['n_test']:,} clips of {leaky['test_speakers']:.0f} speakers: {leaky['points']:+.1f} points "
            f"({spread})."
        )
    return sentences
