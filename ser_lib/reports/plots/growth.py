"""A picture of how time and memory grow with the number of clips."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ser_lib.reports.plots.colours import GREY
from ser_lib.reports.plots.style import legend_below, new_figure, picture

MARKERS = "os^Dv"


@picture
def growth(table: pd.DataFrame) -> Figure:
    """Seconds of each step beside a line of n log n, and the largest memory, both over the number of clips.

    Args:
        table: as `ser_lib.reports.large_corpora.measure_all` returns it.
    """
    sizes = np.array(sorted(table["clips"].unique()), dtype=float)
    figure, (left, right) = new_figure("Time and memory by the number of clips", 3.2, 1, 2)
    for (step, rows), marker in zip(table.groupby("step", sort=False), MARKERS, strict=False):
        left.plot(rows["clips"], rows["seconds"], marker=marker, lw=1.4, label=step)
    total = table.groupby("clips")["seconds"].sum()
    bound = sizes * np.log(sizes) / (sizes[0] * np.log(sizes[0])) * total.iloc[0]
    left.plot(sizes, bound, "--", color=GREY, label="n log n from the smallest total")
    left.set(xscale="log", yscale="log", xlabel="clips", ylabel="seconds")
    memory = table.groupby("clips")["gigabytes"].max()
    right.plot(memory.index, memory, marker="o", lw=1.4)
    right.set(xscale="log", xlabel="clips", ylabel="largest memory (GB)", ylim=(0, None))
    legend_below(figure, 3)
    return figure
