"""Pictures of sound: waveforms, mel spectrograms, and the parts of a clip on which an answer depends."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ser_lib.reports.plots.colours import COLOURS, GREY, INK, SOFT
from ser_lib.reports.plots.style import new_figure, picture, text

MEL_LIMITS_HZ = (50, 8000)
FREQUENCY_TICKS_HZ = (500, 1000, 2000, 4000, 8000)
MIN_POINTS = 10  # percentage points: shortest half-axis of changes, so that small changes look small


def _waveform(axes, waveform: np.ndarray, sampling_rate: int, emotion: str) -> None:
    axes.plot(np.arange(len(waveform)) / sampling_rate, waveform, lw=0.5, color=COLOURS[emotion])
    peak = max(float(np.abs(waveform).max()), 1e-3)
    axes.set_ylim(-1.1 * peak, 1.1 * peak)


def _spectrogram(axes, waveform: np.ndarray, sampling_rate: int, n_mels: int, columns: int) -> None:
    """Draw a mel spectrogram in dB below its loudest point, with windows of 30 ms."""
    import librosa

    hop = max(1, len(waveform) // columns)
    window = int(0.03 * sampling_rate)
    # Twice the window at least, so that no mel filter is empty.
    size = 2 ** int(np.ceil(np.log2(2 * window)))
    high = min(MEL_LIMITS_HZ[1], sampling_rate / 2)
    power = librosa.feature.melspectrogram(
        y=np.pad(waveform, (0, max(0, size - len(waveform)))),
        sr=sampling_rate,
        n_fft=size,
        win_length=window,
        hop_length=hop,
        n_mels=n_mels,
        fmin=MEL_LIMITS_HZ[0],
        fmax=high,
    )[:, : 1 + len(waveform) // hop]
    # Without a lowest reference, silence would be as bright as speech.
    decibels = librosa.power_to_db(power, ref=max(power.max(), 1e-6), amin=1e-14, top_db=None)
    step = hop / sampling_rate
    to_mel = librosa.hz_to_mel
    axes.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        cmap="magma",
        interpolation="nearest",
        vmin=-70,
        vmax=0,
        extent=(-step / 2, (power.shape[1] - 0.5) * step, to_mel(MEL_LIMITS_HZ[0]), to_mel(high)),
    )
    axes.set_ylim(*to_mel(np.array(MEL_LIMITS_HZ)))
    axes.set_yticks(to_mel(np.array(FREQUENCY_TICKS_HZ)), [f"{hertz / 1000:g}" for hertz in FREQUENCY_TICKS_HZ])


@picture
def emotion_gallery(examples: list[tuple[np.ndarray, int, str, str]]) -> Figure:
    """A grid of clips, each with its waveform above its mel spectrogram, all on one time scale.

    Args:
        examples: (waveform, sampling_rate, emotion, title) of each clip; waveforms are mono, of any positive length.
    """
    columns = min(len(examples), 4)
    rows = -(-len(examples) // columns)
    title = "Waveforms, and mel spectrograms in dB below the loudest point (dark: -70 dB)"
    heights = {"height_ratios": [1, 2] * rows}
    figure, grid = new_figure(title, 0.7 + 2.3 * rows, 2 * rows, columns, squeeze=False, sharex=True, **heights)
    longest = max(len(waveform) / sampling_rate for waveform, sampling_rate, _, _ in examples)
    for place in range(rows * columns):
        row, column = 2 * (place // columns), place % columns
        above, below = grid[row, column], grid[row + 1, column]
        if place >= len(examples):
            above.set_visible(False)
            below.set_visible(False)
            continue
        waveform, sampling_rate, emotion, title = examples[place]
        _waveform(above, waveform, sampling_rate, emotion)
        _spectrogram(below, waveform, sampling_rate, n_mels=48, columns=90)
        above.set_title(emotion, fontweight="bold", pad=14)
        above.text(0, 1.06, text(title, 28), transform=above.transAxes, fontsize=6.5, color=SOFT)
        above.set_yticks([])
        above.spines[["left", "bottom"]].set_visible(False)
        above.tick_params(axis="x", length=0)
        below.set_xlabel("time (s)" if place + columns >= len(examples) else "")
        below.tick_params(axis="both", labelsize=7, labelbottom=place + columns >= len(examples))
        below.tick_params(axis="y", labelleft=column == 0)
        below.set_ylabel("frequency (kHz)" if column == 0 else "", fontsize=8)
    grid[0, 0].set_xlim(0, longest)
    return figure


@picture
def occlusion(table: pd.DataFrame) -> Figure:
    """A clip's mel spectrogram, and the change of the emotion's probability where a part of it is covered.

    Each bar is one covered part, and the line goes through their middles. Negative: the part speaks for the emotion.

    Args:
        table: as `ser_lib.inference.explain.occlusion` returns it.
    """
    import librosa

    clip = table.attrs
    rate, waveform = clip["sampling_rate"], np.array(clip["waveform"], np.float32)
    in_time = clip["over"] == "time"
    title = f"Probability of {clip['emotion']} ({clip['probability']:.0%}): change where a part is covered"
    if in_time:
        figure, (whole, change) = new_figure(title, 3.9, 2, 1, sharex=True, height_ratios=[1.3, 1])
        low, high = table["start"], table["end"]
    else:
        figure, (whole, change) = new_figure(title, 3.4, 1, 2, sharey=True, width_ratios=[1.7, 1])
        low, high = (librosa.hz_to_mel(np.clip(table[name], *MEL_LIMITS_HZ)) for name in ("low_hz", "high_hz"))
    _spectrogram(whole, waveform, rate, n_mels=72, columns=240)
    whole.set(ylabel="frequency (kHz)", xlim=(0, len(waveform) / rate))
    points, middle = 100 * table["change"], (low + high) / 2
    reach = max(MIN_POINTS, 1.1 * points.abs().max())
    label = "change of the probability\n(percentage points)"
    lines, fill = (change.hlines, change.fill_between) if in_time else (change.vlines, change.fill_betweenx)
    lines(points, low, high, color=GREY, lw=1, alpha=0.5)
    (change.axhline if in_time else change.axvline)(0, color=GREY, lw=1)
    fill(middle, points, color=COLOURS[clip["emotion"]], alpha=0.35, lw=0)
    change.plot(*((middle, points) if in_time else (points, middle)), color=INK, lw=1.2)
    if in_time:
        change.set(xlabel="time (s)", ylabel=label, ylim=(-reach, reach))
    else:
        change.set(xlabel=label, xlim=(-reach, reach))
        whole.set_xlabel("time (s)")
    change.grid(axis="y" if in_time else "x")
    return figure
