"""Pictures of what a careful reader asks of finished runs, from the tables of `ser_lib.evaluation.calibration` and `.comparison`."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ser_lib.evaluation.comparison import in_words
from ser_lib.reports.plots.style import ACCENT, COLOURS, GREY, INK, SOFT, WIDTH, picture, put_title, subplots, text

DASHES = (0, (4, 3))
SHORT = 0.03  # of a UAR: differences below it are drawn on an axis of this length, so that small ones look small


@picture
def temperature_reliability(before: pd.DataFrame, after: pd.DataFrame) -> Figure:
    """Accuracy against confidence, before and after temperature scaling: on the dashed line confidence is deserved.

    Args:
        before, after: as `calibration.reliability_table` gives them. Larger dots hold more answers.
    """
    figure, both = subplots(1, 2, figsize=(WIDTH, 4), sharey=True)
    errors = []
    for axes, (name, table) in zip(both, {"before": before, "after": after}.items(), strict=True):
        gap = (table["accuracy"] - table["confidence"]).abs()
        errors.append((gap * table["n"]).sum() / table["n"].sum())
        axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=DASHES)
        axes.vlines(table["confidence"], table["accuracy_low"], table["accuracy_high"], color="#8fa3c8", lw=2)
        size = 10 + 90 * table["n"] / table["n"].max()
        axes.scatter(table["confidence"], table["accuracy"], size, ACCENT, zorder=3, clip_on=False)
        axes.set(title=f"{name}: calibration error (ECE) {errors[-1]:.3f}", xlabel="confidence")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.grid()
    both[0].set_ylabel("accuracy, 95 % interval")
    verb = "lowers" if errors[1] < errors[0] else "does not lower"
    put_title(
        figure, f"Temperature scaling {verb} the calibration error: {errors[0]:.3f} before, {errors[1]:.3f} after"
    )
    return figure


@picture
def coverage(curve: pd.DataFrame) -> Figure:
    """Accuracy of the surest answers over the share of clips that they are, in the band of its interval.

    The upper line is an oracle's, which leaves out its mistakes first; the lower that of leaving out at random.

    Args:
        curve: as `calibration.coverage_curve` gives it.
    """
    figure, axes = subplots(figsize=(WIDTH, 3.6))
    share = 100 * curve["coverage"]
    axes.fill_between(share, curve["accuracy_low"], curve["accuracy_high"], color=ACCENT, alpha=0.15, lw=0)
    for column, style in {
        "oracle": {"color": COLOURS["disgust"], "ls": (0, (5, 2)), "lw": 1.4},
        "accuracy": {"color": ACCENT, "lw": 1.8},
        "random": {"color": GREY, "ls": (0, (2, 1.5)), "lw": 1.4},
    }.items():
        name = "by confidence" if column == "accuracy" else column
        area = (1 - curve[column]).mean()
        axes.plot(share, curve[column], label=f"{name} (mean share of mistakes, AURC {area:.3f})", **style)
    lowest = min(curve["accuracy_low"].min(), curve["random"].min())
    axes.set(
        xlabel="coverage: share of clips that are answered, the surest first (%)",
        ylabel="accuracy, 95 % interval",
        xlim=(0, 100),
        ylim=(max(0, np.floor(10 * lowest - 0.5) / 10), 1.01),
    )
    axes.grid()
    figure.legend(loc="outside lower center", ncols=1)
    half = curve.iloc[(curve["coverage"] - 0.5).abs().argmin()]
    put_title(
        figure,
        f"The surer {half['coverage']:.0%} of the clips are answered with accuracy {half['accuracy']:.2f}, all with "
        f"{curve['accuracy'].iloc[-1]:.2f}",
    )
    return figure


@picture
def paired_differences(comparisons: pd.DataFrame) -> Figure:
    """Difference in UAR of each pair of models on the same test clips: filled where it is shown, hollow where not.

    Args:
        comparisons: as `comparison.compare_all` gives it.
    """
    table = comparisons.sort_values("uar_difference", ascending=False, kind="stable")
    figure, axes = subplots(figsize=(WIDTH, 1.7 + 0.34 * len(table)))
    shown = table["uar_p_holm"] < 0.05
    reach = 1.08 * max(SHORT, table[["uar_difference_low", "uar_difference_high"]].abs().to_numpy().max())
    for place, (row, sure) in enumerate(zip(table.itertuples(), shown, strict=True)):
        colour = ACCENT if sure else GREY
        axes.hlines(place, row.uar_difference_low, row.uar_difference_high, color=colour, lw=2.4, alpha=0.5)
        axes.plot(row.uar_difference, place, "o", ms=6, mfc=colour if sure else "white", mec=colour, mew=1.3)
        found = (
            f"{row.uar_difference:+.3f} ({row.uar_difference_low:+.3f} to {row.uar_difference_high:+.3f}), "
            f"p {row.uar_p_holm:.3f}"
        )
        axes.text(1.02, place, found, transform=axes.get_yaxis_transform(), va="center", fontsize=7, color=INK)
    axes.axvline(0, color=GREY, lw=1, ls=DASHES)
    labels = [f"{text(row.first, 24)} − {text(row.second, 24)}" for row in table.itertuples()]
    axes.set_yticks(range(len(table)), labels, fontsize=7.5)
    axes.set(xlim=(-reach, reach), ylim=(len(table) - 0.4, -0.6), ylabel="models")
    over = " and ".join(sorted(table["interval_over"].unique()))
    axes.set_xlabel(f"difference in UAR (first − second), 95 % interval over {over}")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    figure.supxlabel(
        "filled: shown at p < 0.05, corrected by Holm for the number of pairs · hollow: not shown",
        fontsize=8,
        color=SOFT,
    )
    row = table.iloc[0]
    story = (
        in_words(row, text(row["first"]), text(row["second"]), corrected=True)
        if len(table) == 1
        else f"{shown.sum()} of {len(table)} differences in UAR on the same test clips are more than chance"
    )
    put_title(figure, story[0].upper() + story[1:] if story.startswith("no ") else story)
    return figure


@picture
def confused_pairs(pairs: pd.DataFrame, n: int = 12) -> Figure:
    """The `n` most frequent confusions as dots with their intervals, in the colour of the true emotion.

    Args:
        pairs: as `comparison.confused_pairs` gives it, of one pair or more.
    """
    table = pairs.head(n)
    figure, axes = subplots(figsize=(WIDTH, 1.4 + 0.27 * len(table)))
    places = np.arange(len(table))
    colours = [COLOURS[truth] for truth in table["truth"]]
    axes.hlines(places, 100 * table["rate_low"], 100 * table["rate_high"], color=colours, lw=2.4, alpha=0.55)
    axes.scatter(100 * table["rate"], places, 38, colours, ec=INK, lw=0.6, zorder=3, clip_on=False)
    labels = [f"{row.truth} → {row.prediction} ({row.n} of {row.n_truth})" for row in table.itertuples()]
    axes.set_yticks(places, labels)
    over = " and ".join(table["interval_over"].unique())
    axes.set(
        xlabel=f"share of the true emotion's clips (%), 95 % interval over {over}",
        ylabel="truth → answer (answers)",
        xlim=(0, 100),
        ylim=(len(table) - 0.4, -0.6),
    )
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    first = table.iloc[0]
    put_title(
        figure,
        f"Most often {first['truth']} is taken for {first['prediction']}: {100 * first['rate']:.0f} % "
        f"({100 * first['rate_low']:.0f} to {100 * first['rate_high']:.0f} %)",
    )
    return figure
