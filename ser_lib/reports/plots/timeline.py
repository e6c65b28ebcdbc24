"""A picture of emotion over time in a recording."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from ser_lib.reports.plots.colours import COLOURS, GREY
from ser_lib.reports.plots.style import legend_below, new_figure, picture, text

SILENT = "#e6e8ec"
TICK_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200)


@picture
def timeline(table: pd.DataFrame) -> Figure:
    """The waveform above the emotions' probabilities, on one time axis; grey where there is too little speech.

    Windows whose answer is not certain are hatched.

    Args:
        table: at least one row, as `ser_lib.inference.streaming.timeline` returns it. Without its `attrs` (read from a
            CSV, say) there is no waveform.
    """
    emotions = [emotion for emotion in COLOURS if emotion in table]
    envelope = table.attrs.get("envelope")
    title = f"Emotion over time: {text(table.attrs.get('name', 'a recording'), 60)}"
    ratios = [1, 2] if envelope else [1]
    height = 3.7 if envelope else 2.6
    figure, grid = new_figure(title, height, len(ratios), sharex=True, squeeze=False, height_ratios=ratios)
    below = grid[-1, 0]
    edges = _edges(table)
    silent = table["emotion"].isna().to_numpy()
    any_silent = bool(silent.any())
    for axes in grid[:, 0]:
        label = "no speech" if axes is below and any_silent else None
        grey = np.where(silent, 1.0, np.nan)
        whole_height = {"baseline": 0, "transform": axes.get_xaxis_transform()}
        axes.stairs(grey, edges, fill=True, color=SILENT, lw=0, label=label, **whole_height)
    if envelope:
        above = grid[0, 0]
        above.fill_between(envelope["time"], envelope["low"], envelope["high"], color=GREY, lw=0.4)
        peak = max(1e-3, -min(envelope["low"]), max(envelope["high"]))
        above.set(ylim=(-1.1 * peak, 1.1 * peak), ylabel="amplitude")
    bottom = np.zeros(len(table))
    for emotion in emotions:
        top = bottom + table[emotion].to_numpy(float)
        below.stairs(top, edges, baseline=bottom, fill=True, color=COLOURS[emotion], lw=0, label=emotion)
        bottom = top
    certain = table["certain"] if "certain" in table else pd.Series(None, table.index)
    # As text where the table was read from a CSV.
    doubtful = certain.astype(str).eq("False").to_numpy()
    handles = below.get_legend_handles_labels()[0]
    if doubtful.any():
        hatch: dict[str, Any] = {"edgecolor": "white", "hatch": "////", "lw": 0}
        below.stairs(np.where(doubtful, 1.0, np.nan), edges, fill=True, facecolor="none", **hatch)
        handles.append(Patch(facecolor=GREY, label="not certain", **hatch))
    below.set(ylim=(0, 1), ylabel="probability", xlim=(edges[0], edges[-1]))
    _time_axis(below, edges[-1] - edges[0])
    seconds = (table["end"] - table["start"]).max()
    below.set_xlabel(f"{below.get_xlabel()}; each step is a window of {seconds:.3g} s, drawn around its middle")
    legend_below(figure, len(handles) if len(handles) <= 9 else 5, handles)
    return figure


def _edges(table: pd.DataFrame) -> np.ndarray:
    """The times between windows: half-way between the middles of two neighbours."""
    middles = ((table["start"] + table["end"]) / 2).to_numpy()
    between = (middles[1:] + middles[:-1]) / 2
    return np.concatenate([table["start"].to_numpy()[:1], between, table["end"].to_numpy()[-1:]])


def _time_axis(axes, seconds: float) -> None:
    """Set round ticks: seconds for a short recording, minutes or hours for a long one."""
    step = next((step for step in TICK_SECONDS if seconds / step <= 10), 86400)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    if seconds <= 120:
        axes.set_xlabel("time (s)")
        return
    axes.set_xlabel("time (min:s)" if seconds < 3600 else "time (h:min)")
    unit = 1 if seconds < 3600 else 60
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda second, _: f"{second // unit // 60:.0f}:{second // unit % 60:02.0f}")
    )
