"""Pictures of training: learning curves, and the weights of an encoder's layers."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ser_lib.reports.plots.colours import ACCENT, COLOURS, REFERENCE, SOFT
from ser_lib.reports.plots.style import legend_below, new_figure, picture

TRAIN: dict[str, Any] = {"color": "#9aa1ad", "ls": (0, (4, 2))}
VALIDATION: dict[str, Any] = {"color": ACCENT, "ls": "-"}
KEPT: dict[str, Any] = {"color": COLOURS["surprise"], "marker": "o", "ls": "", "ms": 4.5, "mec": "white", "mew": 0.6}


@picture
def learning_curves(history: pd.DataFrame) -> Figure:
    """Loss and score by epoch, one thin line per fold, with a dot at the epoch of the weights that were kept.

    Args:
        history: columns fold, epoch, best (bool) and any of train_loss, validation_loss, train_accuracy,
            validation_uar, validation_accuracy (drawn where there is no UAR). Columns of NaN are not drawn. With a
            column inverse_regularisation, an "epoch" is a candidate value of it.
    """
    step = "candidate" if "inverse_regularisation" in history else "epoch"
    drawn = [column for column in history if history[column].notna().any()]
    score = "validation_uar" if "validation_uar" in drawn else "validation_accuracy"
    validated = score in drawn
    panels = {"loss (cross-entropy)": ["train_loss", "validation_loss"], "score": ["train_accuracy", score]}
    figure, both = new_figure(f"Loss and score by {step}", 3.1, columns=2, sharex=True)
    width = {"lw": 0.9, "alpha": 0.75} if history["fold"].nunique() > 1 else {"lw": 1.6}
    for axes, (label, columns) in zip(both, panels.items(), strict=True):
        for column in [column for column in columns if column in drawn]:
            style = TRAIN if column.startswith("train") else VALIDATION
            for _, fold in history.groupby("fold"):
                axes.plot(fold["epoch"], fold[column], **style, **width, marker="." if len(fold) == 1 else None)
                if style is VALIDATION or not validated:
                    best = fold[fold["best"].astype(bool)]
                    axes.plot(best["epoch"], best[column], **KEPT, zorder=3)
        axes.set(xlabel=step, ylabel=label)
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    both[0].set_ylim(bottom=0)
    kind = "UAR" if score == "validation_uar" else "accuracy"
    both[1].set(ylim=(0, 1.02), ylabel=f"train accuracy, validation {kind}" if validated else "accuracy")
    handles = [Line2D([], [], **TRAIN, label="train")]
    if validated:
        handles.append(Line2D([], [], **VALIDATION, label="validation"))
    kept = history.loc[history["best"].astype(bool), "epoch"]
    which = f"{kept.min()}" if kept.nunique() == 1 else f"{kept.min()} to {kept.max()}"
    handles.append(Line2D([], [], **KEPT, label=f"{step} kept ({which} of {history['epoch'].max()})"))
    legend_below(figure, 3, handles)
    return figure


@picture
def layer_weights(weights: pd.DataFrame) -> Figure:
    """The weight that a model gives to each layer of its encoder: the mean over folds as bars, every fold as a point.

    Args:
        weights: one row per layer (index: its number), one column per fold; each column sums to 1.
    """
    figure, axes = new_figure("Weight of each encoder layer: mean over folds (bars) and each fold (points)", 2.6)
    positions, equal = np.arange(len(weights)), 1 / len(weights)
    axes.bar(positions, weights.mean(axis=1), color=ACCENT, width=0.7)
    for fold in weights:
        axes.plot(positions, weights[fold], ".", color=COLOURS["surprise"], markersize=4)
    axes.axhline(equal, **REFERENCE)
    axes.annotate("equal weights", (positions[-1] + 0.4, equal), ha="right", va="bottom", fontsize=8, color=SOFT)
    axes.set(xlabel="layer (0: input of the first layer)", ylabel="weight (sum: 1)")
    axes.set_xticks(positions, weights.index)
    return figure
