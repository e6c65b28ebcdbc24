"""Pictures of the studies: claims, leaks one at a time, and scores under other conditions."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from ser_lib.reports.plots.colours import ACCENT, COLOURS, GREY, MARKS, REFERENCE, SOFT
from ser_lib.reports.plots.style import (
    heatmap,
    interval_dots,
    legend_below,
    name_rows,
    new_figure,
    picture,
    row_notes,
    text,
)

# Marker and colour of each column of the claims table: red with leaks, blue without.
CLAIM_MARKS = {
    "as-stated": ("o", "#d1495b"),
    "as-run": ("D", "#d1495b"),
    "without-copies": ("o", "#e9a6af"),
    "new-speakers": ("o", "#27427f"),
    "strictest": ("s", "#6f8fc4"),
    "floor": ("X", GREY),
}
HONEST, LEAKY = ACCENT, COLOURS["surprise"]
NOISES = dict(zip(("white", "pink", "babble"), MARKS, strict=False))
TENTHS = [0, 0.2, 0.4, 0.6, 0.8, 1]


@picture
def claims_ladder(table: pd.DataFrame, claimed: dict[str, float]) -> Figure:
    """Accuracy of each recipe, measured in several ways, beside the accuracy that its source claims.

    Args:
        table: as `ser_lib.studies.claims.claims_table` returns it.
        claimed: accuracy that each recipe's source claims.
    """
    has_stand_in = (table["stand_in_for"] != "").groupby(table["recipe"], sort=False).any()
    # Those with a stand-in stand together, apart from the others.
    names = list(has_stand_in.sort_values(kind="stable").index)
    figure, axes = new_figure("Claimed and measured accuracy of each recipe", 1.4 + 0.62 * len(names))
    row_of = {name: row for row, name in enumerate(names)}
    offsets = dict(zip(CLAIM_MARKS, np.linspace(-0.28, 0.28, len(CLAIM_MARKS)), strict=True))
    for row, name in enumerate(names):
        axes.vlines(claimed[name], row - 0.38, row + 0.38, color="black", lw=1.6, zorder=3)
    # Of shuffled labels there is no interval: the range of the draws.
    table = table.assign(
        accuracy_low=table["accuracy_low"].fillna(table["accuracy_lowest"]),
        accuracy_high=table["accuracy_high"].fillna(table["accuracy_highest"]),
    )
    for (column, label), part in table.groupby(["column", "title"], sort=False):
        marker, colour = CLAIM_MARKS[column]
        interval_dots(axes, part["recipe"].map(row_of) + offsets[column], part, "accuracy", colour, marker, label=label)
    axes.plot([], [], color="black", lw=1.6, label="claimed")
    labels = [text(name, 45) + (", stand-in encoder" if has_stand_in[name] else "") for name in names]
    name_rows(axes, labels, "recipe")
    axes.set(xlabel="accuracy, 95 % interval; of shuffled labels the range", xlim=(0, 1.02))
    legend_below(figure, 4)
    return figure


@picture
def honest_and_leaky(table: pd.DataFrame) -> Figure:
    """UAR of each condition of one mechanism with its interval: honest ones as dots, leaky ones as diamonds.

    Hollow marks are a part of the test clips of the condition above them; the short line is the UAR of guessing.

    Args:
        table: as one of the functions of `ser_lib.studies.leaks` returns it.
    """
    mechanism = text(table["mechanism"].iloc[0], 60)
    title = f"{mechanism[:1].upper()}{mechanism[1:]}: UAR without and with the leak"
    figure, axes = new_figure(title, 1.5 + 0.3 * len(table))
    rows, leaky = np.arange(len(table)), table["leaky"].to_numpy(bool)
    for chosen, colour, marker in ((~leaky, HONEST, "o"), (leaky, LEAKY, "D")):
        part = table[chosen]
        interval_dots(axes, rows[chosen], part, "uar", colour, marker, hollow=(part["part_of"] != ""))
    axes.vlines(table["chance"], rows - 0.38, rows + 0.38, **REFERENCE)
    row_notes(axes, [f"{uar:.3f}" for uar in table["uar"]])
    labels = [
        ("↳ " if row.part_of else "") + f"{text(row.condition, 52)} ({row.n_test:,})" for row in table.itertuples()
    ]
    name_rows(axes, labels, "condition (clips)", 7.5)
    axes.set(xlabel="UAR, 95 % interval", xlim=(0, 1), xticks=TENTHS)
    legend_below(figure, 3, [*_leak_marks(), Line2D([], [], **REFERENCE, label="UAR of guessing")])
    return figure


@picture
def worth_of_mechanisms(worths: pd.DataFrame) -> Figure:
    """The honest and the leaky UAR of each mechanism, the largest difference first.

    Args:
        worths: as `ser_lib.studies.leaks.worth` returns it.
    """
    table = worths.sort_values("points", ascending=False, kind="stable")
    title = "UAR without and with each leak, and the difference in percentage points"
    figure, axes = new_figure(title, 1.5 + 0.42 * len(table))
    rows = range(len(table))
    axes.hlines(rows, table["honest_uar"], table["leaky_uar"], color="#b9bec7", lw=2.4, zorder=1)
    axes.plot(table["honest_uar"], rows, "o", ms=6, color=HONEST)
    axes.plot(table["leaky_uar"], rows, "D", ms=5.5, color=LEAKY)
    intervals = [f"{low:+z.1f} to {high:+z.1f}" for low, high in table[["points_low", "points_high"]].to_numpy()]
    intervals = [interval.replace("+nan to +nan", "no interval") for interval in intervals]
    notes = [f"{points:+z.1f} ({interval})" for points, interval in zip(table["points"], intervals, strict=True)]
    row_notes(axes, notes)
    several = table["corpora"].nunique() > 1
    labels = [
        text(row.mechanism + (f", {row.corpora}" if several else ""), 48) + "\n" + text(row.leaky, 48)
        for row in table.itertuples()
    ]
    name_rows(axes, labels, "mechanism", 7, top=-1.1)
    axes.text(1.015, -0.75, "points (95 %)", transform=axes.get_yaxis_transform(), fontsize=7.5, color=SOFT)
    axes.set(xlabel="UAR", xlim=(0, 1), xticks=TENTHS)
    legend_below(figure, 2, _leak_marks())
    return figure


def _leak_marks() -> list[Line2D]:
    marks = (("honest", HONEST, "o"), ("leaky", LEAKY, "D"))
    return [Line2D([], [], color=colour, marker=marker, ls="", ms=6, label=name) for name, colour, marker in marks]


@picture
def cross_corpus_heatmap(matrix: pd.DataFrame) -> Figure:
    """UAR of each pair of corpora with its interval: trained on the row, tested on the column.

    Args:
        matrix: as `ser_lib.studies.robustness.cross_corpus_matrix` returns it. Missing pairs stay empty.
    """
    rows, columns = (list(dict.fromkeys(matrix[side])) for side in ("train", "test"))
    rows = [name for name in rows if name in columns] + [name for name in rows if name not in columns]
    cells = matrix.set_index(["train", "test"])
    scores = cells["uar"].unstack().reindex(index=rows, columns=columns)
    figure, axes = new_figure("UAR by training corpus and test corpus", 1.6 + 0.52 * len(rows))
    numbers = {"fontsize": 10, "va": "bottom"}
    heatmap(scores, axes, ".2f", "tested on", "trained on", vmin=0, vmax=1, annot_kws=numbers)
    ink = {number.get_position(): number.get_color() for number in axes.texts}  # light on dark cells
    one_chance = cells["chance"].nunique() == 1
    for (train, test), cell in cells.iterrows():
        x, y = columns.index(test), rows.index(train)
        has_interval = pd.notna(cell["uar_low"])
        small = f"{cell['uar_low']:.2f} to {cell['uar_high']:.2f}" if has_interval else "no interval"
        small += "" if one_chance else f"\nchance {cell['chance']:.3f}"
        axes.text(x + 0.5, y + 0.57, small, ha="center", va="top", color=ink[x + 0.5, y + 0.5], fontsize=6.5)
        if train == test:
            place = (x + 0.03, y + 0.03)
            axes.add_patch(Rectangle(place, 0.94, 0.94, fill=False, ec=COLOURS["surprise"], lw=2, zorder=3))
    if any(name not in columns for name in rows):  # the last row: trained on all other corpora together
        axes.axhline(len(rows) - 1, color="white", lw=5)
    axes.set_xticklabels([text(name, 20) for name in columns])
    axes.set_yticklabels([text(name, 20) for name in rows])
    chance = f"chance {cells['chance'].iloc[0]:.3f}" if one_chance else "chance stands below each interval"
    note = f"framed: other speakers of the same corpus · small: 95 % interval · {chance}"
    figure.supxlabel(note, fontsize=8, color=SOFT)
    return figure


@picture
def noise_curves(table: pd.DataFrame) -> Figure:
    """UAR by signal-to-noise ratio, one line per noise with the band of its intervals; dashed: clean clips, and chance.

    Args:
        table: as `ser_lib.studies.robustness.under_conditions` returns it, with at least one noise.
    """
    clean = table[table["kind"] == "clean"].iloc[0]
    noisy = table[table["kind"].isin(NOISES)].sort_values("value")
    figure, axes = new_figure("UAR by level of added noise", 3.4)
    for kind, style in NOISES.items():
        line = noisy[noisy["kind"] == kind]
        if line.empty:
            continue
        axes.fill_between(line["value"], line["uar_low"], line["uar_high"], color=style["color"], alpha=0.13, lw=0)
        axes.plot(line["value"], line["uar"], lw=1.6, ms=5, mec="white", mew=0.6, label=f"{kind} noise", **style)
    for height, name in ((clean["uar"], "clean"), (clean["chance"], "chance")):
        axes.axhline(height, **REFERENCE)
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
        axes.annotate(f"{name} {height:.3f}", (1, height), (-2, 3), fontsize=7.5, color=SOFT, **place)
    axes.set_xticks(sorted(noisy["value"].unique()))
    axes.set(xlabel="signal-to-noise ratio (dB); noisier to the left", ylabel="UAR, 95 % interval", ylim=(0, 1))
    axes.grid(axis="y")
    legend_below(figure, 3)
    return figure


@picture
def condition_points(table: pd.DataFrame) -> Figure:
    """UAR in reverberation, on a telephone line, through a codec, and of the first seconds, with intervals.

    Args:
        table: as `ser_lib.studies.robustness.under_conditions` returns it, with at least one such condition.
    """
    clean = table[table["kind"] == "clean"]
    recorded = table[~table["kind"].isin([*NOISES, "first", "clean"])]
    cut = table[table["kind"] == "first"].sort_values("value")
    panels = {"other recording conditions": recorded, "only the beginning of each clip": cut}
    panels = {name: part for name, part in panels.items() if len(part)}
    heights = [len(part) + 1 for part in panels.values()]
    layout: dict[str, Any] = {"height_ratios": heights, "sharex": True, "squeeze": False}
    figure, grid = new_figure("UAR by recording condition", 1.3 + 0.3 * sum(heights), len(panels), **layout)
    chance = clean["chance"].iloc[0]
    for axes, (name, part) in zip(grid[:, 0], panels.items(), strict=True):
        colours = [ACCENT] * len(part) + [GREY]
        interval_dots(axes, range(len(part) + 1), pd.concat([part, clean]), "uar", colours)
        axes.axvline(chance, **REFERENCE)
        name_rows(axes, [*part["condition"], "clean, whole clips"], "condition")
        axes.set(title=name, xlim=(0, 1))
    grid[-1, 0].set_xlabel(f"UAR, 95 % interval (dashed: chance, {chance:.3f})")
    return figure


@picture
def coverage_of_intervals(table: pd.DataFrame) -> Figure:
    """How often 95 % intervals held the true score in simulation, for each test and true score; shaded: 94 to 96 %.

    Args:
        table: as `scripts/simulate_coverage.py` writes it. Shown is the mean over how far speakers differ.
    """
    tests = list(dict.fromkeys(table["test"]))
    figure, panels = new_figure(
        "How often a 95 % interval held the true score, by the speakers tested",
        2.0 + 0.3 * len(tests),
        columns=2,
        sharey=True,
    )
    aims = sorted(table["aim"].unique())
    shades = [to_hex(plt.get_cmap("cividis")(place)) for place in np.linspace(0, 0.95, len(aims))]
    for axes, (score, title) in zip(panels, {"uar": "UAR", "accuracy": "accuracy"}.items(), strict=True):
        axes.axvspan(94, 96, color="#e6e8ec", zorder=0)
        axes.axvline(95, **REFERENCE)
        part = table[table["score"] == score]
        for number, aim in enumerate(aims):
            covered = 100 * part[part["aim"] == aim].groupby("test", sort=False)["coverage"].mean().reindex(tests)
            style = {"marker": "osD^vP"[number % 6], "ms": 4.5, "ls": "", "color": shades[number]}
            axes.plot(covered, np.arange(len(tests)) + 0.1 * (number - (len(aims) - 1) / 2), label=f"{aim:g}", **style)
        axes.set(xlabel="intervals (%)", xlim=(90, 100), xticks=[90, 92, 94, 96, 98, 100], title=title)
    name_rows(panels[1], tests, "", 7.5)
    name_rows(panels[0], tests, "speakers tested", 7.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="true score near", loc="outside lower center", ncols=len(aims))
    return figure


@picture
def growth(table: pd.DataFrame) -> Figure:
    """Seconds of each step beside a line of n log n, and the largest memory, both over the number of clips.

    Args:
        table: as `ser_lib.reports.large_corpora.measure_all` returns it.
    """
    sizes = np.array(sorted(table["clips"].unique()), dtype=float)
    figure, (left, right) = new_figure("Time and memory by the number of clips", 3.2, 1, 2)
    for (step, rows), marker in zip(table.groupby("step", sort=False), "os^Dv", strict=False):
        left.plot(rows["clips"], rows["seconds"], marker=marker, lw=1.4, label=step)
    total = table.groupby("clips")["seconds"].sum()
    bound = sizes * np.log(sizes) / (sizes[0] * np.log(sizes[0])) * total.iloc[0]
    left.plot(sizes, bound, "--", color=GREY, label="n log n from the smallest total")
    left.set(xscale="log", yscale="log", xlabel="clips", ylabel="seconds")
    memory = table.groupby("clips")["gigabytes"].max()
    right.plot(memory.index, memory, marker="o", lw=1.4)
    right.set(xscale="log", xlabel="clips", ylabel="largest memory (GB)", ylim=(0, None))
    for panel in (left, right):
        panel.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        panel.xaxis.set_minor_locator(NullLocator())
    # Powers of ten would be mathematics, which pictures do not set: names may hold a $.
    left.yaxis.set_major_formatter("{x:,g}")
    legend_below(figure, 3)
    return figure
