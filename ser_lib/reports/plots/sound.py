"""Pictures of sound: waveforms and mel spectrograms."""

import numpy as np
from matplotlib.figure import Figure

from ser_lib.corpora.labels import in_order
from ser_lib.reports.plots.style import COLOURS, GREY, SOFT, WIDTH, picture, put_title, subplots, text

MEL_LIMITS_HZ = (50, 8000)
FREQUENCY_TICKS_HZ = (500, 1000, 2000, 4000, 8000)


def _waveform(axes, waveform: np.ndarray, sampling_rate: int, emotion: str | None) -> None:
    axes.plot(np.arange(len(waveform)) / sampling_rate, waveform, lw=0.5, color=COLOURS.get(emotion, GREY))
    peak = max(float(np.abs(waveform).max()), 1e-3)
    axes.set_ylim(-1.1 * peak, 1.1 * peak)


def _spectrogram(axes, waveform: np.ndarray, sampling_rate: int, n_mels: int, columns: int):
    """Draw a mel spectrogram in dB below its loudest point; windows of 30 ms."""
    import librosa

    hop = max(1, len(waveform) // columns)
    window = int(0.03 * sampling_rate)
    size = 2 ** int(np.ceil(np.log2(2 * window)))  # finer than the window, so that no mel filter is empty
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
    # The floor under the reference keeps silence dark: relative to itself it would be as bright as speech.
    decibels = librosa.power_to_db(power, ref=max(power.max(), 1e-6), amin=1e-14, top_db=None)
    step = hop / sampling_rate
    to_mel = librosa.hz_to_mel
    image = axes.imshow(
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
    return image


@picture
def waveform_and_spectrogram(
    waveform: np.ndarray, sampling_rate: int, title: str, emotion: str | None = None
) -> Figure:
    """One clip's waveform, in its emotion's colour, above its mel spectrogram, on one time axis.

    Args:
        waveform: mono, shape (n_samples,), any positive length; silence is fine.
        emotion: None draws in grey.
    """
    figure, (above, below) = subplots(2, 1, figsize=(WIDTH, 3.9), sharex=True, height_ratios=[1, 1.7])
    _waveform(above, waveform, sampling_rate, emotion)
    above.set_ylabel("amplitude")
    image = _spectrogram(below, waveform, sampling_rate, n_mels=72, columns=240)
    below.set(xlabel="time (s)", ylabel="frequency (kHz)", xlim=(0, len(waveform) / sampling_rate))
    figure.colorbar(image, ax=below, label="dB below the loudest", pad=0.01, ticks=[0, -20, -40, -60])
    put_title(figure, text(title, 140))
    return figure


@picture
def emotion_gallery(examples: list[tuple[np.ndarray, int, str, str]]) -> Figure:
    """A grid of clips, each a waveform above a mel spectrogram, all on one time scale.

    Args:
        examples: (waveform, sampling_rate, emotion, title) each, in the order to draw.
    """
    columns = min(len(examples), 4)
    rows = -(-len(examples) // columns)
    figure, grid = subplots(
        2 * rows, columns, figsize=(WIDTH, 0.7 + 2.3 * rows), squeeze=False, sharex=True, height_ratios=[1, 2] * rows
    )
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
    emotions = in_order(emotion for _, _, emotion, _ in examples)
    put_title(figure, f"{len(examples)} clip{'s' * (len(examples) > 1)}: {', '.join(emotions)}")
    return figure
