"""Pictures of what survives of a model outside its room, from the tables of `ser_lib.studies.robustness`."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ser_lib.reports.plots.style import ACCENT, COLOURS, GREY, SOFT, WIDTH, heatmap, picture, put_title, subplots, text

NOISES = {  # and how each is drawn: told apart without its colour too
    "white": {"color": ACCENT, "marker": "o", "ls": "-"},
    "pink": {"color": COLOURS["surprise"], "marker": "s", "ls": (0, (5, 2))},
    "babble": {"color": COLOURS["disgust"], "marker": "^", "ls": (0, (2, 1.2))},
}
DASHES = (0, (4, 3))


@picture
def cross_corpus_heatmap(matrix: pd.DataFrame) -> Figure:
    """UAR of each pair of corpora, its interval below it: trained on the row, tested on the column.

    Args:
        matrix: as `robustness.cross_corpus_matrix` gives it. Cells that it leaves out stay empty.
    """
    rows, columns = (list(dict.fromkeys(matrix[side])) for side in ("train", "test"))
    rows = [name for name in rows if name in columns] + [name for name in rows if name not in columns]
    cells = matrix.set_index(["train", "test"])
    scores = cells["uar"].unstack().reindex(index=rows, columns=columns)
    figure, axes = subplots(figsize=(WIDTH, 1.6 + 0.52 * len(rows)))
    numbers = {"fontsize": 10, "va": "bottom"}
    heatmap(scores, axes, ".2f", "tested on", "trained on", vmin=0, vmax=1, annot_kws=numbers)
    ink = {number.get_position(): number.get_color() for number in axes.texts}  # light on dark cells
    one_chance = cells["chance"].nunique() == 1
    for (train, test), cell in cells.iterrows():
        x, y = columns.index(test), rows.index(train)
        small = f"{cell['uar_low']:.2f} to {cell['uar_high']:.2f}"
        small += "" if one_chance else f"\nchance {cell['chance']:.2f}"
        axes.text(x + 0.5, y + 0.57, small, ha="center", va="top", color=ink[x + 0.5, y + 0.5], fontsize=6.5)
        if train == test:
            frame = {"fill": False, "ec": COLOURS["surprise"], "lw": 2, "zorder": 3}
            axes.add_patch(Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, **frame))
    if any(name not in columns for name in rows):  # all the others together
        axes.axhline(len(rows) - 1, color="white", lw=5)
    axes.set_xticklabels([text(name, 20) for name in columns])
    axes.set_yticklabels([text(name, 20) for name in rows])
    chance = f"chance {cells['chance'].iloc[0]:.2f}" if one_chance else "each cell's chance stands beside its interval"
    figure.supxlabel(
        f"framed: other speakers of the same corpus · UAR with 95 % interval · {chance}", fontsize=8, color=SOFT
    )
    own = matrix["train"] == matrix["test"]
    pairs = ~own & matrix["train"].isin(columns)
    story = f"From one corpus to another UAR is {matrix.loc[pairs, 'uar'].mean():.2f} on average"
    if own.any():
        story = f"{story}, to other speakers of the same corpus {matrix.loc[own, 'uar'].mean():.2f}"
    put_title(figure, f"{story} ({chance})" if one_chance else story)
    return figure


@picture
def noise_curves(table: pd.DataFrame) -> Figure:
    """UAR over signal-to-noise ratio, one line a noise in the band of its intervals; dashed: clean clips, and chance.

    Args:
        table: as `robustness.under_conditions` gives it, of one noise or more; what is none is not drawn.
    """
    clean = table[table["kind"] == "clean"].iloc[0]
    noisy = table[table["kind"].isin(NOISES)]
    figure, axes = subplots(figsize=(WIDTH, 3.4))
    ends = {}
    for kind, style in NOISES.items():
        line = noisy[noisy["kind"] == kind].sort_values("value")
        if line.empty:
            continue
        axes.fill_between(line["value"], line["uar_low"], line["uar_high"], color=style["color"], alpha=0.13, lw=0)
        axes.plot(line["value"], line["uar"], lw=1.6, ms=5, mec="white", mew=0.6, label=f"{kind} noise", **style)
        ends[kind] = line.iloc[0]
    for height, name in ((clean["uar"], "clean"), (clean["chance"], "chance")):
        axes.axhline(height, color=GREY, lw=1, ls=DASHES)
        axes.annotate(
            f"{name} {height:.2f}",
            (1, height),
            (-2, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=7.5,
            color=SOFT,
        )
    axes.set_xticks(sorted(noisy["value"].unique()))
    axes.set(xlabel="signal over noise (dB): the further left, the noisier", ylabel="UAR, 95 % interval", ylim=(0, 1))
    axes.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=3)
    worst = min(ends, key=lambda kind: ends[kind]["uar"])
    name = "Babble" if worst == "babble" else f"{worst.capitalize()} noise"
    put_title(
        figure,
        f"{name} at {ends[worst]['value']:g} dB leaves a UAR of {ends[worst]['uar']:.2f}, of {clean['uar']:.2f} on "
        f"clean clips (chance {clean['chance']:.2f})",
    )
    return figure


@picture
def condition_points(table: pd.DataFrame) -> Figure:
    """UAR in a room, on a line, through a codec, and of the first seconds alone: points with their intervals.

    Args:
        table: as `robustness.under_conditions` gives it, of one such condition or more; noise is not drawn.
    """
    clean = table[table["kind"] == "clean"].iloc[0]
    recorded = table[~table["kind"].isin([*NOISES, "first", "clean"])]
    cut = table[table["kind"] == "first"].sort_values("value")
    panels = {"recorded otherwise": recorded, "the beginning alone": cut}
    panels = {name: part for name, part in panels.items() if len(part)}
    heights = [len(part) + 1 for part in panels.values()]
    figure, both = subplots(
        len(panels), 1, figsize=(WIDTH, 1.3 + 0.3 * sum(heights)), height_ratios=heights, sharex=True, squeeze=False
    )
    for axes, (name, part) in zip(both[:, 0], panels.items(), strict=True):
        shown = pd.concat([part, table[table["kind"] == "clean"]])
        places = np.arange(len(shown))
        colours = [ACCENT] * len(part) + [GREY]
        axes.hlines(places, shown["uar_low"], shown["uar_high"], color=colours, lw=2.4, alpha=0.5)
        axes.scatter(shown["uar"], places, 36, colours, zorder=3)
        axes.axvline(clean["chance"], color=GREY, lw=1, ls=DASHES)
        axes.set_yticks(places, [*part["condition"], "clean, whole clips"])
        axes.set(title=name, xlim=(0, 1), ylim=(len(shown) - 0.4, -0.6), ylabel="condition")
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    both[-1, 0].set_xlabel(f"UAR, 95 % interval (dashed: chance, {clean['chance']:.2f})")
    lowest = pd.concat(panels.values()).sort_values("uar").iloc[0]
    put_title(
        figure,
        f"Lowest under “{lowest['condition']}”: UAR {lowest['uar']:.2f}, of {clean['uar']:.2f} on clean, whole clips",
    )
    return figure
