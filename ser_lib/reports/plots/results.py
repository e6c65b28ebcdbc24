"""Pictures of training and of predictions."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ser_lib.corpora.labels import EMOTIONS
from ser_lib.evaluation.metrics import ECE_BINS, expected_calibration_error
from ser_lib.reports.plots.style import (
    ACCENT,
    COLOURS,
    GREY,
    INK,
    SOFT,
    WIDTH,
    heatmap,
    picture,
    put_title,
    subplots,
    text,
)


def emotions_of(predictions: pd.DataFrame) -> list[str]:
    return [emotion for emotion in EMOTIONS if emotion in predictions]


@picture
def learning_curves(history: pd.DataFrame) -> Figure:
    """Loss and score over epochs, one thin line a fold, a dot where the weights that were kept come from.

    Args:
        history: columns fold, epoch, best (bool) and any of train_loss, validation_loss, train_accuracy,
            validation_uar, validation_accuracy (drawn where there is no UAR). Columns of NaN are not drawn. With a
            column inverse_regularisation an "epoch" is a candidate, fitted to its end.
    """
    step = "candidate" if "inverse_regularisation" in history else "epoch"
    drawn = [column for column in history if history[column].notna().any()]
    score = "validation_uar" if "validation_uar" in drawn else "validation_accuracy"
    validated = score in drawn
    panels = {"loss (cross-entropy)": ["train_loss", "validation_loss"], "score": ["train_accuracy", score]}
    figure, both = subplots(1, 2, figsize=(WIDTH, 3.1), sharex=True)
    many = history["fold"].nunique() > 1
    for axes, (label, columns) in zip(both, panels.items(), strict=True):
        for column in [column for column in columns if column in drawn]:
            training = column.startswith("train")
            for _, fold in history.groupby("fold"):
                axes.plot(
                    fold["epoch"],
                    fold[column],
                    color="#9aa1ad" if training else ACCENT,
                    ls=(0, (4, 2)) if training else "-",
                    lw=0.9 if many else 1.6,
                    alpha=0.75 if many else 1,
                    marker="." if len(fold) == 1 else None,
                )
                if not training or not validated:
                    best = fold[fold["best"].astype(bool)]
                    axes.plot(
                        best["epoch"],
                        best[column],
                        "o",
                        ms=4.5,
                        color=COLOURS["surprise"],
                        mec="white",
                        mew=0.6,
                        zorder=3,
                    )
        axes.set(xlabel=step, ylabel=label)
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    kind = "UAR" if score == "validation_uar" else "accuracy"
    both[0].set_ylim(bottom=0)
    both[1].set(ylim=(0, 1.02), ylabel=f"train accuracy, validation {kind}" if validated else "accuracy")
    handles = [Line2D([], [], color="#9aa1ad", ls=(0, (4, 2)), label="train")]
    if validated:
        handles.append(Line2D([], [], color=ACCENT, label="validation"))
    handles.append(Line2D([], [], color=COLOURS["surprise"], marker="o", ls="", ms=4.5, label=f"{step} that is kept"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    best = history[history["best"].astype(bool)]
    epochs = f"{best['epoch'].min()}" + (f" to {best['epoch'].max()}" if best["epoch"].nunique() > 1 else "")
    kept = f"{step} {epochs} of {history['epoch'].max()} is kept"
    if validated:
        where = f"median over {history['fold'].nunique()} folds" if many else "one fold"
        put_title(figure, f"{kept.capitalize()}: validation {kind} {best[score].median():.2f} ({where})")
    else:
        put_title(figure, f"No validation clips: {kept}")
    return figure


@picture
def confusion_matrices(confusion: pd.DataFrame) -> Figure:
    """Confusion counts, and the same as per cent of each true emotion.

    Args:
        confusion: counts, one row a true and one column a predicted emotion.
    """
    share = 100 * confusion.div(confusion.sum(axis=1).replace(0, np.nan), axis=0)
    figure, both = subplots(1, 2, figsize=(WIDTH, 1.7 + 0.29 * len(confusion)), sharey=True)
    for axes, table, form, top, unit in zip(
        both, [confusion, share], ["d", ".0f"], [None, 100], ["clips", "% of each true emotion"], strict=True
    ):
        heatmap(table, axes, form, "predicted emotion", "true emotion", vmin=0, vmax=top)
        axes.tick_params(axis="x", rotation=0 if len(table) <= 4 else 90)
        axes.set_title(unit)
    both[1].set_ylabel("")
    mistakes = share.where(share.index.to_numpy()[:, None] != share.columns.to_numpy()[None, :]).stack().dropna()
    if len(mistakes) and mistakes.max() > 0:
        truth, prediction = mistakes.idxmax()
        put_title(
            figure, f"Most often confused: {mistakes.max():.0f} % of the {truth} clips are taken for {prediction}"
        )
    else:
        put_title(figure, f"All {int(confusion.to_numpy().sum()):,} clips are recognised")
    return figure


@picture
def probability_plot(predictions: pd.DataFrame, n: int = 12) -> Figure:
    """Probabilities of the first `n` rows as stacked bars, with truth (where known) and prediction named."""
    rows, emotions = predictions.head(n), emotions_of(predictions)
    figure, axes = subplots(figsize=(WIDTH, 1.6 + 0.3 * len(rows)))
    places, left = np.arange(len(rows)), np.zeros(len(rows))
    for emotion in emotions:
        axes.barh(places, rows[emotion], 0.72, left, color=COLOURS[emotion], label=emotion, ec="white", lw=0.6)
        left += rows[emotion].to_numpy()
    guesses = rows[emotions].idxmax(axis=1)
    truths = rows["truth"] if "truth" in rows else pd.Series(None, index=rows.index, dtype=object)
    right = 0
    for place, guess, truth, probability in zip(places, guesses, truths, rows[emotions].max(axis=1), strict=True):
        known = isinstance(truth, str)
        right += known and truth == guess
        verdict = f"{guess} {probability:.0%}" + ("" if not known else " ✓" if truth == guess else f" ✗ truth {truth}")
        wrong = known and truth != guess
        axes.text(1.015, place, verdict, va="center", fontsize=7.5, color=COLOURS["angry"] if wrong else INK)
    axes.set_yticks(places, [text(clip_id, 30) for clip_id in rows["clip_id"]], fontsize=7)
    axes.set(xlabel="probability", ylabel="clip", xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=min(len(emotions), 8), columnspacing=1.2, handlelength=1)
    known = truths.map(lambda truth: isinstance(truth, str)).sum()
    count = f"{len(rows)} clip{'s' * (len(rows) != 1)}"
    put_title(figure, f"{right} of {count} recognised" if known == len(rows) else f"What the model hears in {count}")
    return figure


@picture
def probability_by_truth(predictions: pd.DataFrame) -> Figure:
    """Mean probability of each emotion by true emotion, and how the true one's probability is distributed."""
    emotions = emotions_of(predictions)
    true = [emotion for emotion in emotions if (predictions["truth"] == emotion).any()]
    means = predictions.groupby("truth")[emotions].mean().loc[true]
    figure, (left, right) = subplots(1, 2, figsize=(WIDTH, 1.7 + 0.29 * len(true)), width_ratios=[1.25, 1])
    heatmap(means, left, ".2f", "emotion", "true emotion", vmin=0, vmax=1)
    left.tick_params(axis="x", rotation=90)
    left.set_title("mean probability given to each emotion")
    boxes = right.boxplot(
        [predictions.loc[predictions["truth"] == emotion, emotion] for emotion in true],
        orientation="horizontal",
        widths=0.6,
        patch_artist=True,
        showfliers=False,
        medianprops={"color": INK, "lw": 1.4},
        **{part: {"color": GREY} for part in ("whiskerprops", "capprops", "boxprops")},
    )
    for box, emotion in zip(boxes["boxes"], true, strict=True):
        box.set(facecolor=COLOURS[emotion], alpha=0.75)
    right.set_yticks(range(1, len(true) + 1), true)
    right.set(title="probability of the true emotion", xlabel="probability", xlim=(0, 1), ylim=(len(true) + 0.5, 0.5))
    right.grid(axis="x")
    right.tick_params(axis="y", length=0)
    own = pd.Series({emotion: means.loc[emotion, emotion] for emotion in true})
    detail = f", from {own.min():.2f} ({own.idxmin()}) to {own.max():.2f} ({own.idxmax()})" if len(own) > 1 else ""
    put_title(figure, f"The true emotion gets a mean probability of {own.mean():.2f}{detail}")
    return figure


@picture
def reliability(predictions: pd.DataFrame, bins: int = ECE_BINS) -> Figure:
    """Accuracy against confidence (the highest probability) in equal bins, and how many clips each bin holds."""
    probabilities = predictions[emotions_of(predictions)]
    confidence, correct = probabilities.max(axis=1), probabilities.idxmax(axis=1) == predictions["truth"]
    edges = np.linspace(0, 1, bins + 1)
    table = pd.DataFrame({"confidence": confidence, "accuracy": correct})
    groups = table.groupby(pd.cut(confidence, edges, include_lowest=True), observed=True)
    means, sizes = groups.mean(), groups.size()
    figure, (left, right) = subplots(1, 2, figsize=(WIDTH, 3.3))
    left.plot([0, 1], [0, 1], color=GREY, lw=1, ls=(0, (4, 3)))
    left.vlines(means["confidence"], means["confidence"], means["accuracy"], color=COLOURS["surprise"], lw=1.6)
    left.scatter(means["confidence"], means["accuracy"], 10 + 90 * sizes / sizes.max(), ACCENT, zorder=3, clip_on=False)
    left.set(title="on the dashed line, confidence is deserved", xlabel="confidence", ylabel="accuracy")
    left.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    left.grid()
    right.hist([confidence[correct], confidence[~correct]], edges, stacked=True, color=[ACCENT, "#d5dae3"])
    right.set(title="recognised (dark) and mistaken clips (light)", xlabel="confidence", ylabel="clips", xlim=(0, 1))
    right.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    error = expected_calibration_error(confidence.to_numpy(), correct.to_numpy(), bins)
    verdict = "Overconfident" if confidence.mean() > correct.mean() else "Cautious"
    put_title(
        figure,
        f"{verdict}: mean confidence {confidence.mean():.2f}, accuracy {correct.mean():.2f}, "
        f"calibration error (ECE) {error:.2f}",
    )
    return figure


@picture
def scores_by_group(table: pd.DataFrame, title: str, chance: float | None = None) -> Figure:
    """UAR of each group as a dot with its interval, best first.

    Args:
        table: as `metrics.by_group` gives it: the groups as index, uar, uar_low, uar_high (0 to 1) and n_test.
        chance: draws a dashed line there.
    """
    table = table.sort_values("uar", ascending=False)
    names = [" · ".join(map(str, group)) if isinstance(group, tuple) else group for group in table.index]
    labels = [f"{text(name, 30)} ({count:,.0f})" for name, count in zip(names, table["n_test"], strict=True)]
    columns = 1 if len(table) <= 40 else 2
    rows = -(-len(table) // columns)
    figure, both = subplots(1, columns, figsize=(WIDTH, 1.2 + (0.25 if columns == 1 else 0.18) * rows), squeeze=False)
    for axes, start in zip(both.flat, range(0, len(table), rows), strict=True):
        part = table.iloc[start : start + rows]
        places = np.arange(len(part))
        axes.hlines(places, part["uar_low"], part["uar_high"], color="#8fa3c8", lw=2.4 if columns == 1 else 1.6)
        axes.plot(part["uar"], places, "o", ms=6 if columns == 1 else 4, color=ACCENT)
        if chance is not None:
            axes.axvline(chance, color=GREY, lw=1, ls=(0, (4, 3)))
            axes.text(chance, -0.75, f" chance {chance:.2f}", fontsize=7.5, color=SOFT, va="bottom")
        axes.set_yticks(places, labels[start : start + rows], fontsize=8 if columns == 1 else 6.5)
        axes.set(xlabel="UAR, 95 % interval", xlim=(0, 1), ylim=(rows - 0.4, -0.8))
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    group = text(" · ".join(str(name) for name in table.index.names if name) or "group")
    both[0, 0].set_ylabel(f"{group} (clips)")
    put_title(figure, text(title, 140))
    return figure
