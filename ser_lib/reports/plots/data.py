"""Pictures of a clip table, a split and its features."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ser_lib.corpora.labels import in_order
from ser_lib.reports.plots.style import (
    ACCENT,
    COLOURS,
    INK,
    SOFT,
    SUBSET_COLOURS,
    WIDTH,
    heatmap,
    picture,
    put_title,
    subplots,
    text,
)


@picture
def class_counts(clips: pd.DataFrame) -> Figure:
    """Clips of each emotion, one panel a corpus."""
    emotions, corpora = in_order(clips["emotion"]), list(clips["corpus"].unique())
    columns = min(len(corpora), 4)
    rows = -(-len(corpora) // columns)
    height = 0.8 + rows * (0.5 + 0.26 * len(emotions))
    figure, grid = subplots(rows, columns, figsize=(WIDTH, height), sharey=True, squeeze=False)
    for axes, corpus in zip(grid.flat, corpora, strict=False):
        counts = clips.loc[clips["corpus"] == corpus, "emotion"].value_counts().reindex(emotions, fill_value=0)
        bars = axes.barh(emotions, counts, color=[COLOURS[emotion] for emotion in emotions], height=0.72)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8)
        axes.set(title=f"{text(corpus, 24)}: {counts.sum():,} clips", xlabel="clips", xlim=(0, counts.max() * 1.25))
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.tick_params(axis="y", length=0)
    for axes in list(grid.flat)[len(corpora) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("emotion")
    grid[0, 0].invert_yaxis()
    total = clips["emotion"].value_counts()
    most, least = total.index[0], total.index[-1]
    if len(total) == 1:
        story = f"all {most}"
    elif total[most] == total[least]:
        story = f"{total[most]:,} of each of {len(total)} emotions"
    else:
        story = f"{most} is most frequent ({total[most]:,}), {least} rarest ({total[least]:,})"
    put_title(figure, f"{len(clips):,} clips: {story}")
    return figure


@picture
def speaker_counts(clips: pd.DataFrame) -> Figure:
    """Clips of each speaker and emotion as a heatmap; grey where a speaker has none."""
    table = pd.crosstab(clips["emotion"], clips["speaker"])
    table = table.loc[in_order(clips["emotion"]), clips["speaker"].unique()]
    speakers, few = table.shape[1], table.shape[1] <= 24
    totals = table.sum()
    table.columns = [text(speaker, 16) for speaker in table.columns]
    figure, axes = subplots(figsize=(WIDTH, 1.6 + 0.27 * len(table)))
    heatmap(
        table,
        axes,
        "d" if few else None,
        "speaker",
        "emotion",
        mask=table == 0,
        vmin=0,
        # One speaker with very many clips must not make all others look alike.
        vmax=1.5 * table.to_numpy().max() if few else np.quantile(table.to_numpy()[table > 0], 0.95),
        cbar=not few,
        cbar_kws={"label": "clips", "ticks": MaxNLocator(4, integer=True), "extend": "max"},
        xticklabels=1 if speakers <= 40 else -(-speakers // 30),
    )
    fits = sum(map(len, table.columns)) <= 90
    axes.tick_params(axis="x", rotation=0 if fits else 90, labelsize=8 if few else 7)
    each = f"{totals.min():,}" if totals.min() == totals.max() else f"{totals.min():,} to {totals.max():,}"
    missing = int((table == 0).any().sum())
    gaps = f"; {missing:,} lack{'s' * (missing == 1)} an emotion" if missing else ""
    put_title(figure, f"{speakers:,} speaker{'s' * (speakers > 1)} with {each} clips each{gaps}")
    return figure


@picture
def durations(clips: pd.DataFrame) -> Figure:
    """Histogram of the clips' lengths in seconds, one row a corpus on a common scale."""
    corpora, seconds = list(clips["corpus"].unique()), clips["seconds"]
    # A few very long clips would squeeze all others into one bar.
    limit = min(seconds.max(), seconds.quantile(0.99) * 1.5)
    edges = np.linspace(0, limit * 1.02, 61)
    figure, rows = subplots(len(corpora), 1, figsize=(WIDTH, 1.1 + 1.0 * len(corpora)), sharex=True, squeeze=False)
    for axes, corpus in zip(rows.flat, corpora, strict=True):
        own = seconds[clips["corpus"] == corpus]
        axes.hist(own.clip(upper=limit), edges, color=ACCENT)
        axes.axvline(own.median(), color=COLOURS["surprise"], lw=1.4)
        axes.set(
            title=f"{text(corpus)}: median {own.median():.2f} s, {own.min():.2f} to {own.max():.2f} s", ylabel="clips"
        )
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    rows[-1, 0].set(
        xlabel="length (s)" + (f", longer ones at {limit:.1f} s" if limit < seconds.max() else ""), xlim=(0, None)
    )
    low, high = seconds.quantile([0.05, 0.95])
    minutes = seconds.sum() / 60
    total = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{minutes:.1f} minutes"
    put_title(figure, f"Nine in ten clips last {low:.1f} to {high:.1f} s; {total} in all")
    return figure


@picture
def split_sizes(split: pd.DataFrame) -> Figure:
    """Clips for training, validation and test in each fold, and the speakers of the test set."""
    sizes = split.pivot_table(index="fold", columns="subset", values="clip_id", aggfunc="count", fill_value=0)
    sizes = sizes.reindex(columns=list(SUBSET_COLOURS), fill_value=0)
    test = split[split["subset"] == "test"]
    speakers = test.groupby("fold")["speaker"].nunique().reindex(sizes.index, fill_value=0)
    figure, axes = subplots(figsize=(WIDTH, 1.5 + (0.26 if len(sizes) <= 10 else 0.19) * len(sizes)))
    places, left = np.arange(len(sizes)), np.zeros(len(sizes))
    for subset, colour in SUBSET_COLOURS.items():
        bars = axes.barh(places, sizes[subset], 0.74, left, color=colour, label=subset)
        # A number only where its part is wide enough to hold it.
        wide = sizes[subset] > 0.06 * sizes.sum(axis=1).max()
        labels = [f"{count:,}" if fits else "" for count, fits in zip(sizes[subset], wide, strict=True)]
        axes.bar_label(bars, labels, label_type="center", fontsize=7.5, color="white" if subset == "test" else INK)
        left += sizes[subset].to_numpy()
    for place, end, count in zip(places, left, speakers, strict=True):
        axes.text(end, place, f"  {count} test speaker{'s' * (count != 1)}", va="center", fontsize=7.5, color=SOFT)
    axes.set_yticks(places, [str(fold) for fold in sizes.index])
    axes.set(xlabel="clips", ylabel="fold", ylim=(len(sizes) - 0.4, -0.6), xlim=(0, left.max() * 1.2))
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3)
    times, total = test["clip_id"].value_counts(), split["clip_id"].nunique()
    folds = f"{len(sizes)} fold{'s' * (len(sizes) > 1)}"
    if len(times) == total and times.max() == 1:
        put_title(figure, f"{folds}: every one of {total:,} clips is tested exactly once")
    else:
        put_title(figure, f"{folds}: {len(times):,} of {total:,} clips are tested")
    return figure


@picture
def feature_heatmap(features: np.ndarray, emotions) -> Figure:
    """Mean of each coefficient by emotion, in standard deviations from the mean of all clips.

    Args:
        features: shape (n_clips, n_coefficients), finite; a constant coefficient is drawn as 0.
        emotions: one a clip.
    """
    features, emotions = np.asarray(features, dtype=float), np.asarray(emotions)
    spread = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    present = in_order(emotions)
    means = pd.DataFrame([standard[emotions == emotion].mean(axis=0) for emotion in present], index=present)
    figure, axes = subplots(figsize=(WIDTH, 1.5 + 0.27 * len(present)))
    limit = max(float(np.abs(means.to_numpy()).max()), 0.1)
    heatmap(
        means,
        axes,
        None,
        "coefficient",
        "emotion",
        cmap="vlag",
        vmin=-limit,
        vmax=limit,
        cbar=True,
        cbar_kws={"label": "standard deviations", "ticks": MaxNLocator(4)},
        xticklabels=-(-means.shape[1] // 20),
    )
    axes.tick_params(axis="x", rotation=0)
    most = int((means.max() - means.min()).idxmax())
    low, high = means[most].idxmin(), means[most].idxmax()
    if low == high:
        put_title(figure, f"{means.shape[1]} coefficients in which the emotions do not differ")
    else:
        put_title(figure, f"Coefficient {most} sets the emotions apart most, from {low} (low) to {high} (high)")
    return figure
