"""Pictures of what a model reads from a pretrained encoder: where clips lie, and which layers count."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from ser_lib.corpora.labels import in_order
from ser_lib.reports.plots.style import ACCENT, COLOURS, GREY, SOFT, WIDTH, picture, put_title, subplots, text

MANY_SPEAKERS = 12  # more colours than that cannot be told apart


@picture
def embedding_map(points: np.ndarray, emotions: pd.Series, speakers: pd.Series) -> Figure:
    """Clips as points on a plane, coloured by emotion on the left and by speaker on the right.

    Args:
        points: (n_clips, 2), as `ser_lib.audio.features.project` gives them.
        emotions, speakers: aligned to them.
    """
    figure, panels = subplots(1, 2, figsize=(WIDTH, 4.1))
    names = list(speakers.unique())
    # A palette that runs once through all hues, so that neighbours in name differ a little and all are seen.
    hues = [
        (0.5 + 0.45 * np.cos(2 * np.pi * (i / len(names) + np.array([0, 1 / 3, 2 / 3])))) for i in range(len(names))
    ]
    groups = (
        ("by emotion", emotions, {emotion: COLOURS[emotion] for emotion in in_order(emotions)}),
        ("by speaker", speakers, dict(zip(names, hues, strict=True))),
    )
    for axes, (title, labels, colours) in zip(panels, groups, strict=True):
        # Drawn clip by clip in one shuffled order: otherwise the last group would cover the others.
        order = np.random.default_rng(0).permutation(len(points))
        axes.scatter(
            *points[order].T, s=7, c=[colours[label] for label in labels.iloc[order]], linewidths=0, alpha=0.85
        )
        axes.set(title=title, xticks=[], yticks=[], xlabel="t-SNE, first axis (no unit)")
        if len(colours) <= MANY_SPEAKERS:
            handles = [
                axes.scatter([], [], s=22, color=colour, label=text(name, 16)) for name, colour in colours.items()
            ]
            axes.legend(
                handles=handles,
                loc="upper center",
                bbox_to_anchor=(0.5, -0.08),
                ncols=4,
                handletextpad=0.2,
                columnspacing=1,
            )
        else:
            axes.text(
                0.5,
                -0.12,
                f"{len(colours)} speakers, a colour each",
                transform=axes.transAxes,
                ha="center",
                va="top",
                fontsize=8,
                color=SOFT,
            )
    panels[0].set_ylabel("t-SNE, second axis (no unit)")
    shares = [nearest_is_alike(points, labels) for labels in (emotions, speakers)]
    put_title(
        figure,
        f"Of {len(points):,} clips, {shares[0]:.0%} lie next to one of the same emotion, {shares[1]:.0%} next to one "
        "of the same speaker",
    )
    return figure


def nearest_is_alike(points: np.ndarray, labels: pd.Series) -> float:
    """Share of points whose nearest other point has the same label; 0 for a single point."""
    if len(points) < 2:
        return 0.0
    nearest = cKDTree(points).query(points, k=2)[1][:, 1]
    return float((labels.to_numpy() == labels.to_numpy()[nearest]).mean())


@picture
def layer_weights(weights: pd.DataFrame) -> Figure:
    """How much a model listens to each layer: the mean over folds as bars, every fold as a point.

    Args:
        weights: one row a layer (index: its number), one column a fold; each column sums to 1.
    """
    figure, axes = subplots(figsize=(WIDTH, 2.6))
    mean, positions = weights.mean(axis=1), np.arange(len(weights))
    axes.bar(positions, mean, color=ACCENT, width=0.7)
    for fold in weights:
        axes.plot(positions, weights[fold], ".", color=COLOURS["surprise"], markersize=4)
    axes.axhline(1 / len(weights), color=GREY, lw=1, ls="--")
    axes.annotate("all alike", (positions[-1] + 0.4, 1 / len(weights)), ha="right", va="bottom", fontsize=8, color=SOFT)
    axes.set(
        xlabel="layer (0: what enters the first)",
        ylabel="weight (share of 1)",
        xticks=positions,
        xticklabels=weights.index,
    )
    put_title(figure, f"Layer {mean.idxmax()} counts most, with {mean.max():.0%} of the weight")
    return figure
