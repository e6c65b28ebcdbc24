"""A picture of emotion over time, from the table of `ser_lib.inference.streaming`."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from ser_lib.reports.plots.style import COLOURS, GREY, WIDTH, picture, put_title, subplots, text

SILENT = "#e6e8ec"
TICK_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200)


@picture
def timeline(table: pd.DataFrame) -> Figure:
    """The waveform above the emotions' probabilities, on one time axis; grey where too little speech was found.

    Args:
        table: as `ser_lib.inference.streaming.timeline` gives it, one row or more. Without its `attrs` (read from a CSV, say)
            there is no waveform.
    """
    emotions = [emotion for emotion in COLOURS if emotion in table]
    envelope = table.attrs.get("envelope")
    figure, axes = subplots(
        1 + bool(envelope),
        1,
        figsize=(WIDTH, 2.6 + 1.1 * bool(envelope)),
        sharex=True,
        squeeze=False,
        height_ratios=[1, 2] if envelope else [1],
    )
    below = axes[-1, 0]
    edges = _edges(table)
    silent = table["emotion"].isna().to_numpy()
    any_silent = bool(silent.any())
    for panel in axes[:, 0]:
        panel.stairs(
            np.where(silent, 1.0, np.nan),
            edges,
            baseline=0,
            fill=True,
            color=SILENT,
            lw=0,
            transform=panel.get_xaxis_transform(),
            label="no speech" if panel is below and any_silent else None,
        )
    if envelope:
        above = axes[0, 0]
        above.fill_between(envelope["time"], envelope["low"], envelope["high"], color=GREY, lw=0.4)
        peak = max(1e-3, -min(envelope["low"]), max(envelope["high"]))
        above.set(ylim=(-1.1 * peak, 1.1 * peak), ylabel="amplitude")
    under = np.zeros(len(table))
    for emotion in emotions:
        over = under + table[emotion].to_numpy(float)
        below.stairs(over, edges, baseline=under, fill=True, color=COLOURS[emotion], lw=0, label=emotion)
        under = over
    below.set(ylim=(0, 1), ylabel="probability", xlim=(edges[0], edges[-1]))
    _time_axis(below, edges[-1] - edges[0])
    seconds = (table["end"] - table["start"]).max()
    below.set_xlabel(f"{below.get_xlabel()}; each step is a window of {seconds:.3g} s, drawn around its middle")
    figure.legend(
        loc="outside lower center", ncols=min(len(emotions) + any_silent, 9), columnspacing=1.2, handlelength=1
    )
    put_title(figure, _story(table, edges))
    return figure


def _edges(table: pd.DataFrame) -> np.ndarray:
    """Where one window's answer ends and the next one's begins: half-way between their middles."""
    middles = ((table["start"] + table["end"]) / 2).to_numpy()
    between = (middles[1:] + middles[:-1]) / 2
    return np.concatenate([table["start"].to_numpy()[:1], between, table["end"].to_numpy()[-1:]])


def _time_axis(axes, seconds: float) -> None:
    """Round ticks: seconds in a short recording, minutes in a long one."""
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


def _story(table: pd.DataFrame, edges: np.ndarray) -> str:
    name = text(table.attrs.get("name", "A recording"), 60)
    heard = pd.Series(np.diff(edges)).groupby(table["emotion"].to_numpy(), dropna=True).sum()
    if heard.empty:
        return f"{name}: no speech is found in it"
    if len(heard) == 1:
        return f"{name}: {heard.index[0]} is heard wherever there is speech"
    return f"{name}: {heard.idxmax()} is heard most, for {heard.max() / heard.sum():.0%} of the speech"
