"""Pictures of enrolment: what a few clips of a voice are worth."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ser_lib.corpora.file_names import title_of
from ser_lib.reports.plots.colours import MARKS, REFERENCE
from ser_lib.reports.plots.style import interval_dots, legend_below, name_rows, new_figure, picture, text


@picture
def enrolment_curves(table: pd.DataFrame) -> Figure:
    """UAR by the number of enrolled clips, one line a corpus, one panel for each kind of training data.

    Args:
        table: rows of the study "number", as `ser_lib.studies.voice.read_table` returns it.
    """
    panels = list(dict.fromkeys(table["trained_on"]))
    conditions = list(dict.fromkeys(table["condition"]))
    figure, grid = new_figure(
        "UAR of unheard speakers, by the number of their clips that the model heard first",
        3.4,
        columns=len(panels),
        squeeze=False,
        sharey=True,
    )
    marks = _marks(table)
    for axes, trained_on in zip(grid[0], panels, strict=True):
        part = table[table["trained_on"] == trained_on]
        for number, (corpus, line) in enumerate(part.groupby("corpus", sort=False)):
            places = line["condition"].map(conditions.index) + 0.08 * (number - 1)
            axes.vlines(places, line["low"], line["high"], color=marks[corpus]["color"], lw=2, alpha=0.45)
            axes.plot(places, line["uar"], lw=1.6, ms=5, mec="white", mew=0.6, **marks[corpus])
        names = [
            name.replace("no clips", "0").replace("half of all clips", "half").replace(" clips", "")
            for name in conditions
        ]
        axes.set_xticks(range(len(conditions)), names)
        axes.set(title=f"trained on {text(trained_on, 30)}", xlabel="clips of the speaker", ylim=(0, 1))
        axes.grid(axis="y")
    grid[0, 0].set_ylabel("UAR, 95 % interval over speakers")
    legend_below(
        figure, 4, [Line2D([], [], ms=5, label=_label(table, corpus), **mark) for corpus, mark in marks.items()]
    )
    return figure


@picture
def enrolment_differences(table: pd.DataFrame, title: str) -> Figure:
    """The difference in UAR that enrolment makes under each condition, a mark a corpus, with paired intervals.

    Args:
        table: rows of one study, as `ser_lib.studies.voice.read_table` returns it, without those that enrol nobody.
    """
    panels, conditions = (list(dict.fromkeys(table[name])) for name in ("trained_on", "condition"))
    figure, grid = new_figure(
        text(title, 90), 1.7 + 0.42 * len(conditions), columns=len(panels), squeeze=False, sharey=True
    )
    marks = _marks(table)
    offsets = dict(zip(marks, np.linspace(-0.22, 0.22, len(marks)), strict=True))
    percent = table.assign(**{name: 100 * table[name] for name in table if name.startswith("difference")})
    for axes, trained_on in zip(grid[0], panels, strict=True):
        for corpus, part in percent[percent["trained_on"] == trained_on].groupby("corpus", sort=False):
            rows = part["condition"].map(conditions.index) + offsets[corpus]
            interval_dots(axes, rows, part, "difference", marks[corpus]["color"], marks[corpus]["marker"])
        axes.axvline(0, **REFERENCE)
        name_rows(axes, [text(name, 48) for name in conditions], "", 7.5)
        axes.set(title=f"trained on {text(trained_on, 30)}", xlabel="points of UAR, paired, 95 %")
    grid[0, 0].set_ylabel("condition")
    handles = [Line2D([], [], ms=5, label=_label(table, corpus), **mark | {"ls": ""}) for corpus, mark in marks.items()]
    legend_below(figure, 4, handles)
    return figure


def _marks(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    corpora = list(dict.fromkeys(table["corpus"]))
    return {corpus: MARKS[number % len(MARKS)] for number, corpus in enumerate(corpora)}


def _label(table: pd.DataFrame, corpus: str) -> str:
    """The corpus, how many speakers it has, and whether these are too few for an interval."""
    rows = table[table["corpus"] == corpus]
    few = "" if rows["low"].notna().any() else ", no interval"
    return f"{text(title_of(corpus), 30)} ({rows['speakers'].max()} speakers{few})"
