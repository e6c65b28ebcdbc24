"""Pictures of a clip table, a split, and the features of clips."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.spatial import cKDTree

from ser_lib.corpora.labels import in_order
from ser_lib.reports.plots.colours import ACCENT, COLOURS, INK, SOFT, SUBSET_COLOURS
from ser_lib.reports.plots.style import heatmap, legend_below, name_rows, new_figure, picture, text

MANY_SPEAKERS = 12  # readers cannot tell more colours apart


@picture
def class_counts(clips: pd.DataFrame) -> Figure:
    """Clips of each emotion, one panel per corpus."""
    emotions, corpora = in_order(clips["emotion"]), list(clips["corpus"].unique())
    height = 1.3 + 0.26 * len(emotions)
    figure, panels = new_figure("Clips by emotion", height, columns=len(corpora), sharey=True, squeeze=False)
    for axes, corpus in zip(panels.flat, corpora, strict=True):
        counts = clips.loc[clips["corpus"] == corpus, "emotion"].value_counts().reindex(emotions, fill_value=0)
        bars = axes.barh(emotions, counts, color=[COLOURS[emotion] for emotion in emotions], height=0.72)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8)
        axes.set(title=f"{text(corpus, 20)}\n{counts.sum():,} clips", xlabel="clips", xlim=(0, counts.max() * 1.25))
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.tick_params(axis="y", length=0)
    panels[0, 0].set_ylabel("emotion")
    panels[0, 0].invert_yaxis()
    return figure


@picture
def speaker_counts(clips: pd.DataFrame) -> Figure:
    """Clips of each speaker and emotion as a heatmap; grey where a speaker has none."""
    table = pd.crosstab(clips["emotion"], clips["speaker"])
    table = table.loc[in_order(clips["emotion"]), clips["speaker"].unique()]
    speakers, few = table.shape[1], table.shape[1] <= 24
    table.columns = [text(speaker, 16) for speaker in table.columns]
    figure, axes = new_figure("Clips by speaker and emotion", 1.6 + 0.27 * len(table))
    # One speaker with very many clips must not make all others look alike.
    top = 1.5 * table.to_numpy().max() if few else np.quantile(table.to_numpy()[table > 0], 0.95)
    bar = {"label": "clips", "ticks": MaxNLocator(4, integer=True), "extend": "max"}
    style = {"vmin": 0, "vmax": top, "xticklabels": 1 if speakers <= 40 else -(-speakers // 30)}
    numbers = "d" if few else None
    heatmap(table, axes, numbers, "speaker", "emotion", mask=table == 0, cbar=not few, cbar_kws=bar, **style)
    fits = sum(map(len, table.columns)) <= 90
    axes.tick_params(axis="x", rotation=0 if fits else 90, labelsize=8 if few else 7)
    return figure


@picture
def durations(clips: pd.DataFrame) -> Figure:
    """Histogram of the clips' lengths in seconds, one row per corpus on a common scale."""
    corpora, seconds = list(clips["corpus"].unique()), clips["seconds"]
    # A few very long clips would squeeze all others into one bar.
    limit = min(seconds.max(), seconds.quantile(0.99) * 1.5)
    edges = np.linspace(0, limit * 1.02, 61)
    figure, rows = new_figure("Lengths of clips", 1.1 + len(corpora), len(corpora), sharex=True, squeeze=False)
    for axes, corpus in zip(rows.flat, corpora, strict=True):
        lengths = seconds[clips["corpus"] == corpus]
        axes.hist(lengths.clip(upper=limit), edges, color=ACCENT)
        axes.axvline(lengths.median(), color=COLOURS["surprise"], lw=1.4)
        numbers = f"median {lengths.median():.2f} s (line), {lengths.min():.2f} to {lengths.max():.2f} s"
        axes.set(title=f"{text(corpus)}: {numbers}, {lengths.sum() / 60:.1f} minutes in all", ylabel="clips")
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    longer = f"; longer clips are counted at {limit:.1f} s" if limit < seconds.max() else ""
    rows[-1, 0].set(xlabel=f"length (s){longer}", xlim=(0, None))
    return figure


@picture
def split_sizes(split: pd.DataFrame) -> Figure:
    """Clips for training, validation and test in each fold, and the number of test speakers."""
    sizes = split.pivot_table(index="fold", columns="subset", values="clip_id", aggfunc="count", fill_value=0)
    used = [subset for subset in SUBSET_COLOURS if subset in sizes or subset != "enrolment"]
    sizes = sizes.reindex(columns=used, fill_value=0)
    test = split[split["subset"] == "test"]
    speakers = test.groupby("fold")["speaker"].nunique().reindex(sizes.index, fill_value=0)
    height = 1.5 + (0.26 if len(sizes) <= 10 else 0.19) * len(sizes)
    figure, axes = new_figure("Clips of each subset, by fold", height)
    places, left = np.arange(len(sizes)), np.zeros(len(sizes))
    for subset in used:
        bars = axes.barh(places, sizes[subset], 0.74, left, color=SUBSET_COLOURS[subset], label=subset)
        # A number only where its part of the bar is wide enough to hold it.
        wide = sizes[subset] > 0.06 * sizes.sum(axis=1).max()
        labels = [f"{count:,}" if fits else "" for count, fits in zip(sizes[subset], wide, strict=True)]
        axes.bar_label(bars, labels, label_type="center", fontsize=7.5, color="white" if subset == "test" else INK)
        left += sizes[subset].to_numpy()
    for place, end, count in zip(places, left, speakers, strict=True):
        axes.text(end, place, f"  {count} test speaker{'s' * (count != 1)}", va="center", fontsize=7.5, color=SOFT)
    name_rows(axes, [str(fold) for fold in sizes.index], "fold")
    tested = f"{test['clip_id'].nunique():,} of {split['clip_id'].nunique():,} are tested"
    axes.set(xlabel=f"clips ({tested})", xlim=(0, left.max() * 1.2))
    axes.grid(False)
    legend_below(figure, 3)
    return figure


@picture
def feature_heatmap(features: np.ndarray, emotions) -> Figure:
    """Mean of each coefficient by emotion, in standard deviations from the mean of all clips.

    Args:
        features: shape (n_clips, n_coefficients), finite; a constant coefficient is drawn as 0.
        emotions: one per clip.
    """
    features, emotions = np.asarray(features, dtype=float), np.asarray(emotions)
    spread = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    present = in_order(emotions)
    means = pd.DataFrame([standard[emotions == emotion].mean(axis=0) for emotion in present], index=present)
    figure, axes = new_figure("Mean of each coefficient, by emotion", 1.5 + 0.27 * len(present))
    limit = max(float(np.abs(means.to_numpy()).max()), 0.1)
    bar = {"label": "standard deviations", "ticks": MaxNLocator(4)}
    style = {"cmap": "vlag", "vmin": -limit, "vmax": limit, "xticklabels": -(-means.shape[1] // 20)}
    heatmap(means, axes, None, "coefficient", "emotion", cbar=True, cbar_kws=bar, **style)
    axes.tick_params(axis="x", rotation=0)
    return figure


@picture
def embedding_map(points: np.ndarray, emotions: pd.Series, speakers: pd.Series) -> Figure:
    """Clips as points on a plane, coloured by emotion on the left and by speaker on the right.

    Args:
        points: (n_clips, 2), as `ser_lib.audio.features.project` returns them.
        emotions, speakers: aligned to `points`.
    """
    figure, panels = new_figure("Clips with similar features lie close together (t-SNE)", 4.1, columns=2)
    names = list(speakers.unique())
    groups = (
        ("emotion", emotions, {emotion: COLOURS[emotion] for emotion in in_order(emotions)}),
        ("speaker", speakers, dict(zip(names, sns.husl_palette(len(names)), strict=True))),
    )
    for axes, (name, labels, colours) in zip(panels, groups, strict=True):
        # In one shuffled order, since otherwise the last group would cover the others.
        order = np.random.default_rng(0).permutation(len(points))
        axes.scatter(*points[order].T, s=7, c=[colours[label] for label in labels.iloc[order]], lw=0, alpha=0.85)
        axes.set(xticks=[], yticks=[], xlabel="t-SNE, first axis (no unit)")
        axes.set_title(f"by {name}: {same_label_share(points, labels):.0%} lie next to the same {name}")
        if len(colours) <= MANY_SPEAKERS:
            for label, colour in colours.items():
                axes.scatter([], [], s=22, color=colour, label=text(label, 16))
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=4, handletextpad=0.2)
        else:
            note = f"{len(colours)} speakers, one colour each"
            axes.text(0.5, -0.12, note, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=SOFT)
    panels[0].set_ylabel("t-SNE, second axis (no unit)")
    return figure


def same_label_share(points: np.ndarray, labels: pd.Series) -> float:
    """Share of points for which the nearest other point has the same label; 0 for a single point."""
    if len(points) < 2:
        return 0.0
    nearest = cKDTree(points).query(points, k=2)[1][:, 1]
    return float((labels.to_numpy() == labels.to_numpy()[nearest]).mean())
