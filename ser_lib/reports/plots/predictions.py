"""Pictures of predictions: confusions, probabilities, scores of groups, and differences between models."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ser_lib.corpora.labels import in_order
from ser_lib.reports.plots.colours import ACCENT, COLOURS, GREY, INK, REFERENCE, SOFT
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

SMALL_UAR = 0.03  # shortest half-axis of differences, so that small differences look small


@picture
def confusion_matrices(confusion: pd.DataFrame) -> Figure:
    """Confusion counts, and the same as per cent of each true emotion.

    Args:
        confusion: counts, one row per true and one column per predicted emotion.
    """
    share = 100 * confusion.div(confusion.sum(axis=1).replace(0, np.nan), axis=0)
    figure, both = new_figure("Confusion matrix", 1.7 + 0.29 * len(confusion), columns=2, sharey=True)
    for axes, table, form, top, unit in zip(
        both, [confusion, share], ["d", ".0f"], [None, 100], ["clips", "% of each true emotion"], strict=True
    ):
        heatmap(table, axes, form, "predicted emotion", "true emotion", vmin=0, vmax=top)
        axes.tick_params(axis="x", rotation=0 if len(table) <= 4 else 90)
        axes.set_title(unit)
    both[1].set_ylabel("")
    return figure


@picture
def confused_pairs(pairs: pd.DataFrame, n: int = 12) -> Figure:
    """The `n` most frequent confusions as dots with their intervals, in the colour of the true emotion.

    Args:
        pairs: at least one row, as `ser_lib.evaluation.comparison.confused_pairs` returns them.
    """
    table = pairs.head(n)
    percent = 100 * table[["rate", "rate_low", "rate_high"]]
    figure, axes = new_figure("Most frequent confusions", 1.4 + 0.27 * len(table))
    interval_dots(axes, range(len(table)), percent, "rate", [COLOURS[truth] for truth in table["truth"]])
    labels = [f"{row.truth} → {row.prediction} ({row.n} of {row.n_truth})" for row in table.itertuples()]
    name_rows(axes, labels, "truth → prediction")
    over = " and ".join(table["interval_over"].unique())
    axes.set(xlabel=f"share of the true emotion's clips (%), 95 % interval over {over}", xlim=(0, 100))
    return figure


@picture
def probability_plot(predictions: pd.DataFrame, n: int = 12) -> Figure:
    """Probabilities of the first `n` rows as stacked bars, with the prediction and, where known, the truth."""
    rows, emotions = predictions.head(n), in_order(set(COLOURS) & set(predictions))
    figure, axes = new_figure("Probability of each emotion, by clip", 1.6 + 0.3 * len(rows))
    places, left = np.arange(len(rows)), np.zeros(len(rows))
    for emotion in emotions:
        axes.barh(places, rows[emotion], 0.72, left, color=COLOURS[emotion], label=emotion, ec="white", lw=0.6)
        left += rows[emotion].to_numpy()
    notes, colours = [], []
    for row in rows.to_dict("records"):
        prediction = max(emotions, key=row.get)
        truth = row.get("truth")
        known = isinstance(truth, str)
        verdict = "" if not known else " ✓" if truth == prediction else f" ✗ truth {truth}"
        notes.append(f"{prediction} {row[prediction]:.0%}{verdict}")
        colours.append(COLOURS["angry"] if known and truth != prediction else INK)
    row_notes(axes, notes, colours)
    name_rows(axes, [text(clip_id, 30) for clip_id in rows["clip_id"]], "clip", 7)
    axes.set(xlabel="probability", xlim=(0, 1))
    axes.spines["left"].set_visible(False)
    axes.grid(False)
    legend_below(figure, min(len(emotions), 8))
    return figure


@picture
def probability_by_truth(predictions: pd.DataFrame) -> Figure:
    """Mean probability of each emotion by true emotion, and the distribution of the true emotion's probability."""
    emotions = in_order(set(COLOURS) & set(predictions))
    true = in_order(predictions["truth"])
    means = predictions.groupby("truth")[emotions].mean().loc[true]
    height = 1.7 + 0.29 * len(true)
    figure, (left, right) = new_figure("Probabilities by true emotion", height, columns=2, width_ratios=[1.25, 1])
    heatmap(means, left, ".2f", "emotion", "true emotion", vmin=0, vmax=1)
    left.tick_params(axis="x", rotation=90)
    left.set_title("mean probability of each emotion")
    lines = {part: {"color": GREY} for part in ("whiskerprops", "capprops", "boxprops")}
    style = {"medianprops": {"color": INK, "lw": 1.4}, "patch_artist": True, "showfliers": False, **lines}
    columns = [predictions.loc[predictions["truth"] == emotion, emotion] for emotion in true]
    boxes = right.boxplot(columns, positions=range(len(true)), widths=0.6, orientation="horizontal", **style)["boxes"]
    for box, emotion in zip(boxes, true, strict=True):
        box.set(facecolor=COLOURS[emotion], alpha=0.75)
    name_rows(right, true, "")
    right.set(title="probability of the true emotion", xlabel="probability", xlim=(0, 1))
    return figure


@picture
def scores_by_group(table: pd.DataFrame, title: str, chance: float | None = None) -> Figure:
    """UAR of each group as a dot with its interval, best first.

    Args:
        table: as `metrics.by_group` returns it: the groups as index, uar, uar_low, uar_high (0 to 1) and n_test.
        chance: UAR of guessing, drawn as a dashed line.
    """
    table = table.sort_values("uar", ascending=False)
    names = [" · ".join(map(str, group)) if isinstance(group, tuple) else group for group in table.index]
    labels = [f"{text(name, 30)} ({count:,.0f})" for name, count in zip(names, table["n_test"], strict=True)]
    columns = 1 if len(table) <= 40 else 2
    rows = -(-len(table) // columns)
    height = 1.2 + (0.25 if columns == 1 else 0.18) * rows
    figure, panels = new_figure(text(title, 140), height, columns=columns, squeeze=False)
    group = text(" · ".join(str(name) for name in table.index.names if name) or "group")
    for axes, start in zip(panels.flat, range(0, len(table), rows), strict=True):
        part = table.iloc[start : start + rows]
        interval_dots(axes, range(len(part)), part, "uar", ACCENT)
        if chance is not None:
            axes.axvline(chance, **REFERENCE)
            axes.text(chance, -0.75, f" chance {chance:.3f}", fontsize=7.5, color=SOFT, va="bottom")
        ylabel = "" if start else f"{group} (clips)"
        name_rows(axes, labels[start : start + rows], ylabel, 8 if columns == 1 else 6.5, top=-0.8)
        axes.set(xlabel="UAR, 95 % interval", xlim=(0, 1), ylim=(rows - 0.4, -0.8))
    return figure


@picture
def paired_differences(comparisons: pd.DataFrame) -> Figure:
    """Difference in UAR of each pair of models on the same test clips: filled dots are significant, hollow ones not.

    Args:
        comparisons: as `ser_lib.evaluation.comparison.compare_all` returns it.
    """
    table = comparisons.sort_values("uar_difference", ascending=False, kind="stable")
    significant = (table["uar_p_holm"] < 0.05).to_numpy()
    figure, axes = new_figure("Differences in UAR between models on the same test clips", 1.7 + 0.34 * len(table))
    colours = np.where(significant, ACCENT, GREY)
    interval_dots(axes, range(len(table)), table, "uar_difference", colours, hollow=~significant)
    axes.axvline(0, **REFERENCE)
    columns = ["uar_difference", "uar_difference_low", "uar_difference_high", "uar_p_holm"]
    tested, untested = "{:+.3f} ({:+.3f} to {:+.3f}), p {:.3f}", "{:+.3f}, no interval"
    row_notes(axes, [(untested if np.isnan(row).any() else tested).format(*row) for row in table[columns].to_numpy()])
    name_rows(axes, [f"{text(row.first, 24)} − {text(row.second, 24)}" for row in table.itertuples()], "models", 7.5)
    reach = 1.08 * max(SMALL_UAR, np.nanmax(table[columns[:3]].abs().to_numpy()))
    over = " and ".join(sorted(table["interval_over"].unique()))
    axes.set(xlim=(-reach, reach), xlabel=f"difference in UAR (first − second), 95 % interval over {over}")
    note = "filled: p < 0.05 after Holm's correction for the number of pairs · hollow: p ≥ 0.05"
    figure.supxlabel(note, fontsize=8, color=SOFT)
    return figure


@picture
def model_and_people(table: pd.DataFrame) -> Figure:
    """How often the model and listeners name the acted emotion in the same clips, by emotion, with intervals.

    Args:
        table: at least one row, as `ser_lib.evaluation.listeners.beside_listeners` returns it.
    """
    figure, axes = new_figure("The acted emotion, as the model and as listeners name it", 1.7 + 0.4 * len(table))
    rows = np.arange(len(table))
    for name, offset, colour, marker in (("model", -0.14, ACCENT, "o"), ("people", 0.14, COLOURS["surprise"], "D")):
        interval_dots(axes, rows + offset, table, name, colour, marker, label=name)
    notes = [f"{row.soft_accuracy:.2f} of votes, distance {row.distance:.2f}" for row in table.itertuples()]
    row_notes(axes, notes)
    name_rows(axes, [f"{name} ({n:,})" for name, n in table["clips"].items()], "acted emotion (clips)")
    label = "share that names the acted emotion: of clips (model), of votes (people); 95 % interval"
    axes.set(xlabel=label, xlim=(0, 1))
    legend_below(figure, 2)
    return figure
