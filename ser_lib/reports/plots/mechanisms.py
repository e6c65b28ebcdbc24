"""Pictures of why scores are too high: honest against leaky, for one mechanism and for all."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ser_lib.reports.plots.style import ACCENT, COLOURS, GREY, INK, SOFT, WIDTH, picture, put_title, subplots, text

HONEST, LEAKY = ACCENT, COLOURS["surprise"]


@picture
def honest_and_leaky(table: pd.DataFrame) -> Figure:
    """UAR of each condition of one mechanism with its interval, honest as dots and leaky as diamonds.

    Hollow marks are some of the test clips of the condition above them; the short line is the UAR of guessing.

    Args:
        table: of one of the functions of `ser_lib.studies.leaks`, with its columns.
    """
    figure, axes = subplots(figsize=(WIDTH, 1.5 + 0.3 * len(table)))
    for place, row in enumerate(table.itertuples()):
        colour, mark = (LEAKY, "D") if row.leaky else (HONEST, "o")
        axes.hlines(place, row.uar_low, row.uar_high, color=colour, lw=2.4, alpha=0.45)
        inside = "white" if row.part_of else colour
        axes.plot(row.uar, place, mark, ms=6, mfc=inside, mec=colour, mew=1.3, zorder=3)
        axes.vlines(row.chance, place - 0.38, place + 0.38, color=GREY, lw=1, ls=(0, (2, 2)))
        end = max(row.uar, row.uar_high)
        axes.text(end + 0.018, place, f"{row.uar:.3f}", va="center", fontsize=7.5, color=INK)
    labels = [
        ("↳ " if row.part_of else "") + f"{text(row.condition, 52)} ({row.n_test:,})" for row in table.itertuples()
    ]
    axes.set_yticks(range(len(table)), labels, fontsize=7.5)
    axes.set(xlabel="UAR, 95 % interval", xlim=(0, 1.09), ylim=(len(table) - 0.4, -0.6))
    axes.set_ylabel("condition (clips)")
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    figure.legend(handles=_marks("UAR of guessing"), loc="outside lower center", ncols=3)
    put_title(figure, _story(table))
    return figure


@picture
def worth_of_mechanisms(worths: pd.DataFrame) -> Figure:
    """From the honest to the leaky UAR of each mechanism, the one that is worth most first.

    Args:
        worths: as `ser_lib.studies.leaks.worth` gives it, of one mechanism or many.
    """
    table = worths.sort_values("points", ascending=False, kind="stable")
    figure, axes = subplots(figsize=(WIDTH, 1.5 + 0.42 * len(table)))
    for place, row in enumerate(table.itertuples()):
        axes.plot([row.honest_uar, row.leaky_uar], [place, place], color="#b9bec7", lw=2.4, zorder=1)
        axes.plot(row.honest_uar, place, "o", ms=6, color=HONEST, zorder=2)
        axes.plot(row.leaky_uar, place, "D", ms=5.5, color=LEAKY, zorder=3)
        found = f"{row.points:+z.1f} ({row.points_low:+z.1f} to {row.points_high:+z.1f})"
        axes.text(1.03, place, found, va="center", fontsize=7.5, color=INK)
    several = table["corpora"].nunique() > 1
    labels = [
        text(row.mechanism + (f", {row.corpora}" if several else ""), 48) + "\n" + text(row.leaky, 48)
        for row in table.itertuples()
    ]
    axes.set_yticks(range(len(table)), labels, fontsize=7)
    axes.text(1.03, -0.75, "points (95 %)", va="center", fontsize=7.5, color=SOFT)
    axes.set(xlabel="UAR", ylabel="mechanism, and its leaky condition", xlim=(0, 1.36), ylim=(len(table) - 0.4, -1.1))
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.spines["bottom"].set_bounds(0, 1)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    figure.legend(handles=_marks(), loc="outside lower center", ncols=2)
    first, above = table.iloc[0], int((table["points_low"] > 0).sum())
    put_title(
        figure,
        f"{above} of {len(table)} raise the score beyond chance, most of all {text(first['mechanism'])}: by "
        f"{first['points']:.1f} points of UAR",
    )
    return figure


def _story(table: pd.DataFrame) -> str:
    """What a mechanism's most leaky condition makes of its honest one."""
    name = text(table["mechanism"].iloc[0])
    measured = table[(table["against"] != "") & (table["part_of"] == "")]
    if measured.empty:
        return name.capitalize()
    row = measured.loc[measured["points"].idxmax()]
    honest = table.loc[table["condition"] == row["against"], "uar"].iloc[0]
    return (
        f"{name.capitalize()}: UAR {row['uar']:.3f} instead of {honest:.3f}, {row['points']:+z.1f} points "
        f"({row['points_low']:+z.1f} to {row['points_high']:+z.1f})"
    )


def _marks(chance: str = "") -> list[Line2D]:
    marks = [
        Line2D([], [], color=HONEST, marker="o", ls="", ms=6, label="honest"),
        Line2D([], [], color=LEAKY, marker="D", ls="", ms=5.5, label="leaky"),
    ]
    return [*marks, Line2D([], [], color=GREY, lw=1, ls=(0, (2, 2)), label=chance)] if chance else marks
