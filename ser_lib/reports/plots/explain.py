"""What an answer rests on: a clip's spectrogram, and what becomes of the answer without each part of it."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ser_lib.reports.plots.sound import MEL_LIMITS_HZ, _spectrogram
from ser_lib.reports.plots.style import COLOURS, GREY, INK, WIDTH, picture, put_title, subplots

LEAST_REACH = 10  # percentage points on either side: small changes look small
WORTH_TELLING = 0.05  # of a probability


@picture
def occlusion(table: pd.DataFrame) -> Figure:
    """A clip's mel spectrogram, and beside its time or frequency the change of the emotion's probability without it.

    Each bar is one covered part, and the line goes through their middles: left of 0, or below it, the part speaks for
    the emotion.

    Args:
        table: as `ser_lib.inference.explain.occlusion` gives it.
    """
    given = table.attrs
    rate, waveform = given["sampling_rate"], np.array(given["waveform"], np.float32)
    seconds, in_time = len(waveform) / rate, given["over"] == "time"
    if in_time:
        figure, (heard, change) = subplots(2, 1, figsize=(WIDTH, 3.9), sharex=True, height_ratios=[1.3, 1])
    else:
        figure, (heard, change) = subplots(1, 2, figsize=(WIDTH, 3.4), sharey=True, width_ratios=[1.7, 1])
    _spectrogram(heard, waveform, rate, n_mels=72, columns=240)
    heard.set(ylabel="frequency (kHz)", xlim=(0, seconds))
    points, colour = 100 * table["change"], COLOURS[given["emotion"]]
    reach = max(LEAST_REACH, 1.1 * points.abs().max())
    label = f"change of P({given['emotion']})\n(percentage points)"
    if in_time:
        start, end = table["start"], table["end"]
        change.hlines(points, start, end, color=GREY, lw=1, alpha=0.5)
        change.fill_between((start + end) / 2, points, color=colour, alpha=0.35, lw=0)
        change.plot((start + end) / 2, points, color=INK, lw=1.2)
        change.axhline(0, color=GREY, lw=1)
        change.set(xlabel="time (s)", ylabel=label, ylim=(-reach, reach))
        change.grid(axis="y")
    else:
        low, high = (_to_mel(table[column]) for column in ("low_hz", "high_hz"))
        change.vlines(points, low, high, color=GREY, lw=1, alpha=0.5)
        change.fill_betweenx((low + high) / 2, points, color=colour, alpha=0.35, lw=0)
        change.plot(points, (low + high) / 2, color=INK, lw=1.2)
        change.axvline(0, color=GREY, lw=1)
        change.set(xlabel=label, xlim=(-reach, reach))
        change.grid(axis="x")
        heard.set_xlabel("time (s)")
    put_title(figure, _story(table))
    return figure


def _to_mel(hertz: pd.Series) -> np.ndarray:
    import librosa

    return librosa.hz_to_mel(np.clip(hertz, *MEL_LIMITS_HZ))


def _story(table: pd.DataFrame) -> str:
    """What the part whose loss costs most was worth."""
    emotion, whole = table.attrs["emotion"], table.attrs["probability"]
    most = table.loc[table["change"].idxmin()]
    if most["change"] > -WORTH_TELLING:
        return f"{emotion}: {whole:.0%} with the whole clip, and it rests on no single part of it"
    if table.attrs["over"] == "time":
        part = f"{most['start']:.2f} to {most['end']:.2f} s"
    else:
        part = f"{most['low_hz']:,.0f} to {most['high_hz']:,.0f} Hz"
    return f"{emotion}: {whole:.0%} with the whole clip, {most['probability']:.0%} without {part}"
