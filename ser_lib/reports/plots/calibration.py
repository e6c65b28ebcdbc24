"""Pictures of calibration: how far a model's probabilities can be trusted."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ser_lib.evaluation.calibration import reliability_table
from ser_lib.evaluation.metrics import ECE_BINS, decisions
from ser_lib.reports.plots.colours import ACCENT, COLOURS, GREY, REFERENCE
from ser_lib.reports.plots.style import legend_below, new_figure, picture


def _reliability_panel(axes, table: pd.DataFrame, title: str) -> None:
    """Accuracy by confidence, with intervals; larger dots are bins of more clips; the dashed line is perfect."""
    gap = (table["accuracy"] - table["confidence"]).abs()
    axes.plot([0, 1], [0, 1], **REFERENCE)
    axes.vlines(table["confidence"], table["accuracy_low"], table["accuracy_high"], color="#8fa3c8", lw=2)
    size = 10 + 90 * table["n"] / table["n"].max()
    axes.scatter(table["confidence"], table["accuracy"], size, ACCENT, zorder=3, clip_on=False)
    axes.set(title=f"{title}calibration error (ECE) {(gap * table['n']).sum() / table['n'].sum():.3f}")
    axes.set(xlabel="confidence", ylabel="accuracy, 95 % interval", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.grid()


@picture
def reliability(
    predictions: pd.DataFrame, speakers: Sequence[str] | None = None, corpora: Sequence[str] | None = None
) -> Figure:
    """Accuracy against confidence (the highest probability) in equal bins, and the number of clips of each bin.

    Args:
        speakers, corpora: as `ser_lib.evaluation.calibration.reliability_table` takes them.
    """
    answers = decisions(predictions)
    correct = answers["truth"] == answers["prediction"]
    figure, (left, right) = new_figure("Accuracy by confidence", 3.3, columns=2)
    _reliability_panel(left, reliability_table(predictions, speakers, corpora), "")
    confidence = [answers.loc[correct, "confidence"], answers.loc[~correct, "confidence"]]
    right.hist(confidence, np.linspace(0, 1, ECE_BINS + 1), stacked=True, color=[ACCENT, "#d5dae3"])
    right.set(title="correct (dark) and wrong (light) clips", xlabel="confidence", ylabel="clips", xlim=(0, 1))
    right.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


@picture
def temperature_reliability(before: pd.DataFrame, after: pd.DataFrame) -> Figure:
    """Accuracy against confidence before and after temperature scaling.

    Args:
        before, after: as `ser_lib.evaluation.calibration.reliability_table` returns them.
    """
    figure, (left, right) = new_figure("Accuracy by confidence, before and after temperature scaling", 4, columns=2)
    _reliability_panel(left, before, "before: ")
    _reliability_panel(right, after, "after: ")
    right.set_ylabel("")
    return figure


@picture
def coverage(curve: pd.DataFrame, certainty: Mapping | None = None) -> Figure:
    """Accuracy of the most confident answers by their share of the clips, with the band of its interval.

    The upper line is an oracle that leaves out wrong answers first; the lower one leaves out answers at random.

    Args:
        curve: as `ser_lib.evaluation.calibration.coverage_curve` returns it.
        certainty: as `ser_lib.evaluation.metrics.score_certainty` returns it, to mark what the fitted threshold gives.
    """
    figure, axes = new_figure("Accuracy if the least confident answers are left out", 3.6)
    share = 100 * curve["coverage"]
    axes.fill_between(share, curve["accuracy_low"], curve["accuracy_high"], color=ACCENT, alpha=0.15, lw=0)
    for column, name, style in (
        ("oracle", "oracle", {"color": COLOURS["disgust"], "ls": (0, (5, 2)), "lw": 1.4}),
        ("accuracy", "by confidence", {"color": ACCENT, "lw": 1.8}),
        ("random", "random", {"color": GREY, "ls": (0, (2, 1.5)), "lw": 1.4}),
    ):
        area = (1 - curve[column]).mean()
        axes.plot(share, curve[column], label=f"{name} (mean share of wrong answers, AURC {area:.3f})", **style)
    if certainty and certainty["accuracy"] is not None:
        place = 100 * certainty["share"], certainty["accuracy"]
        label = f"certain answers: {place[0]:.0f} % of the clips, accuracy {place[1]:.3f}"
        axes.plot(*place, "D", ms=7, color=COLOURS["surprise"], mec="white", zorder=4, label=label)
    lowest = min(curve["accuracy_low"].min(), curve["random"].min())
    axes.set(xlabel="coverage: share of clips answered, most confident first (%)", ylabel="accuracy, 95 % interval")
    axes.set(xlim=(0, 100), ylim=(max(0, np.floor(10 * lowest - 0.5) / 10), 1.01))
    axes.grid()
    legend_below(figure, 1)
    return figure
