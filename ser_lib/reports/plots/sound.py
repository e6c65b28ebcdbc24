"""Pictures of sound: waveforms, mel spectrograms, and the parts of a clip on which an answer depends."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ser_lib.reports.plots.colours import COLOURS, GREY, INK, SOFT
from ser_lib.reports.plots.style import new_figure, picture, text

MEL_LIMITS_HZ = (50, 8000)
MIN_POINTS = 10  # percentage points: shortest half-axis of changes, so that small changes look small


def _spectrogram(axes, waveform: np.ndarray, sampling_rate: int, n_mels: int, columns: int) -> None:
    """Draw a mel spectrogram in dB below its loudest point, with windows of 30 ms."""
    import librosa
    import librosa.display

    hop = max(1, len(waveform) // columns)
    window = int(0.03 * sampling_rate)
    # At least twice the window, so that no mel filter is empty.
    size = 2 ** int(np.ceil(np.log2(2 * window)))
    limits = {"fmin": MEL_LIMITS_HZ[0], "fmax": min(MEL_LIMITS_HZ[1], sampling_rate / 2)}
    frames = {"sr": sampling_rate, "n_fft": size, "win_length": window, "hop_length": hop, **limits}
    padded = np.pad(waveform, (0, max(0, size - len(waveform))))
    power = librosa.feature.melspectrogram(y=padded, n_mels=n_mels, **frames)[:, : 1 + len(waveform) // hop]
    # Without a lowest reference, silence would be as bright as speech.
    decibels = librosa.power_to_db(power, ref=max(power.max(), 1e-6), amin=1e-14, top_db=None)
    style = {"vmin": -70, "vmax": 0, "cmap": "magma", "ax": axes}
    librosa.display.specshow(decibels, x_axis="s", y_axis="mel", **style, **frames)
    axes.set(ylim=MEL_LIMITS_HZ, xlabel="", ylabel="frequency (Hz)")


@picture
def emotion_gallery(examples: list[tuple[np.ndarray, int, str, str]]) -> Figure:
    """A grid of clips, each with its waveform above its mel spectrogram, all on one time scale.

    Args:
        examples: (waveform, sampling_rate, emotion, title) of each clip; waveforms are mono, of any positive length.
    """
    columns = min(len(examples), 4)
    rows = -(-len(examples) // columns)
    title = "Waveforms, and mel spectrograms in dB below the loudest point (black: -70 dB)"
    heights = {"height_ratios": [1, 2] * rows}
    figure, grid = new_figure(title, 0.7 + 2.3 * rows, 2 * rows, columns, squeeze=False, sharex=True, **heights)
    for axes in grid[-2:, len(examples) - (rows - 1) * columns :].flat:
        axes.set_visible(False)
    for place, (waveform, sampling_rate, emotion, name) in enumerate(examples):
        row, column = 2 * (place // columns), place % columns
        above, below = grid[row, column], grid[row + 1, column]
        above.plot(np.arange(len(waveform)) / sampling_rate, waveform, lw=0.5, color=COLOURS[emotion])
        peak = 1.1 * max(float(np.abs(waveform).max()), 1e-3)
        above.set(ylim=(-peak, peak), yticks=[])
        above.set_title(emotion, fontweight="bold", pad=14)
        above.text(0, 1.06, text(name, 28), transform=above.transAxes, fontsize=6.5, color=SOFT)
        above.spines[["left", "bottom"]].set_visible(False)
        above.tick_params(axis="x", length=0)
        _spectrogram(below, waveform, sampling_rate, n_mels=48, columns=90)
        last_row = place + columns >= len(examples)
        below.tick_params(labelsize=7, labelbottom=last_row, labelleft=column == 0)
        below.set_xlabel("time (s)" if last_row else "")
        below.set_ylabel("frequency (Hz)" if column == 0 else "", fontsize=8)
    grid[0, 0].set_xlim(0, max(len(waveform) / sampling_rate for waveform, sampling_rate, _, _ in examples))
    return figure


@picture
def occlusion(table: pd.DataFrame) -> Figure:
    """A clip's mel spectrogram, and the change of the emotion's probability where a part of it is covered.

    Each bar is one covered part, and the line goes through their middles. Negative: the part speaks for the emotion.

    Args:
        table: as `ser_lib.inference.explain.occlusion` returns it.
    """
    clip = table.attrs
    rate, waveform = clip["sampling_rate"], np.array(clip["waveform"], np.float32)
    in_time = clip["over"] == "time"
    title = f"Probability of {clip['emotion']} ({clip['probability']:.0%}): change where a part is covered"
    if in_time:
        figure, (whole, change) = new_figure(title, 3.9, 2, 1, sharex=True, height_ratios=[1.3, 1])
        low, high = table["start"], table["end"]
    else:
        figure, (whole, change) = new_figure(title, 3.4, 1, 2, sharey=True, width_ratios=[1.7, 1])
        low, high = table["low_hz"].clip(*MEL_LIMITS_HZ), table["high_hz"].clip(*MEL_LIMITS_HZ)
    _spectrogram(whole, waveform, rate, n_mels=72, columns=240)
    whole.set(xlim=(0, len(waveform) / rate))
    points, middle = 100 * table["change"], (low + high) / 2
    reach = max(MIN_POINTS, 1.1 * points.abs().max())
    label = "change of the probability\n(percentage points)"
    bars, fill, line = change.hlines, change.fill_between, (middle, points)
    if not in_time:
        bars, fill, line = change.vlines, change.fill_betweenx, (points, middle)
    bars(points, low, high, color=GREY, lw=1, alpha=0.5)
    fill(middle, points, color=COLOURS[clip["emotion"]], alpha=0.35, lw=0)
    change.plot(*line, color=INK, lw=1.2)
    if in_time:
        change.set(xlabel="time (s)", ylabel=label, ylim=(-reach, reach))
    else:
        change.set(xlabel=label, xlim=(-reach, reach))
        whole.set_xlabel("time (s)")
    (change.axhline if in_time else change.axvline)(0, color=GREY, lw=1)
    change.grid(axis="y" if in_time else "x")
    return figure
