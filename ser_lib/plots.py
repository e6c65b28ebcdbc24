"""Every picture of the reports, drawn from tables and waveforms alone.

Each function returns a closed matplotlib Figure: it leaves nothing behind in pyplot, and a notebook that ends
a cell with it shows it once. The title says what the data show, and an emotion has the same colour everywhere.
All figures are equally wide, so that their text is equally large on a page.
"""

import base64
import functools
import io
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ser_lib.labels import EMOTIONS, in_order
from ser_lib.metrics import ECE_BINS, expected_calibration_error

# Told apart by readers with protanopia, deuteranopia and tritanopia too: tests/test_plots.py measures it.
COLOURS = {
    "neutral": "#737481",
    "calm": "#76e1d0",
    "happy": "#ffc819",
    "sad": "#1c2d6d",
    "angry": "#a01b0d",
    "fear": "#bc5fd9",
    "disgust": "#299759",
    "surprise": "#cc7f15",
}
SUBSET_COLOURS = {"train": "#d5dae3", "validation": "#8fa3c8", "test": "#27427f"}
INK, GREY, ACCENT = "#22262e", "#737481", "#27427f"
WIDTH = 7.2  # inches
STYLE = {
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a file name may hold $
    "axes.edgecolor": "#b9bec7",
    "axes.labelcolor": "#4a505b",
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#e6e8ec",
    "grid.linewidth": 0.8,
    "xtick.color": "#b9bec7",
    "ytick.color": "#b9bec7",
    "xtick.labelcolor": "#4a505b",
    "ytick.labelcolor": "#4a505b",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


class Picture(Figure):
    """A figure that a notebook shows as a small PNG with its title as alternative text."""

    def png(self) -> bytes:
        """The picture as a PNG of 256 colours, a third of what matplotlib writes."""
        drawn, small = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png")
        image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        image.save(small, format="png", optimize=True)
        return small.getvalue()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        data = {"image/png": base64.b64encode(self.png()).decode(), "text/plain": repr(self)}
        alt = " ".join(self.get_suptitle().split())
        # Drawn at more pixels than it takes on the page, so that it is sharp on dense screens.
        display(
            data, raw=True, metadata={"image/png": {"width": round(self.get_figwidth() * 120), "alt": alt}}
        )


def _picture(draw):
    """Run a drawing function under `STYLE`, and hand its figure over finished and closed."""

    @functools.wraps(draw)
    def styled(*args, **kwargs) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            # Ticks come into being when drawn, and take their style from the settings of that moment.
            figure.draw_without_rendering()
        plt.close(figure)
        return figure

    return styled


_subplots = functools.partial(plt.subplots, FigureClass=Picture)


def _text(name, longest: int = 40) -> str:
    """A name from outside as text that the font can draw: unknown letters become □, a long start becomes …"""
    known = get_font(findfont(STYLE["font.family"])).get_charmap()
    name = "".join(c if ord(c) in known else "□" for c in " ".join(str(name).split()))
    return name if len(name) <= longest else "…" + name[1 - longest :]


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(textwrap.fill(text, 84), x=0.008, ha="left", fontsize=10, fontweight="bold")


def _heatmap(table: pd.DataFrame, axes, form: str | None, x: str, y: str, **kwargs) -> None:
    """Draw a table as coloured cells, with their values where `form` (a format) is given."""
    sns.heatmap(
        table,
        ax=axes,
        annot=form is not None,
        fmt=form or "",
        linewidths=0.6 if form else 0,
        **{"cmap": "Blues", "cbar": False, "annot_kws": {"fontsize": 7.5}, **kwargs},
    )
    axes.set(xlabel=x, ylabel=y, facecolor="#f1f2f4")
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)


def _emotions_of(predictions: pd.DataFrame) -> list[str]:
    return [emotion for emotion in EMOTIONS if emotion in predictions]


@_picture
def class_counts(clips: pd.DataFrame) -> Figure:
    """Clips of each emotion, one panel a corpus."""
    emotions, corpora = in_order(clips["emotion"]), list(clips["corpus"].unique())
    columns = min(len(corpora), 4)
    rows = -(-len(corpora) // columns)
    height = 0.8 + rows * (0.5 + 0.26 * len(emotions))
    figure, grid = _subplots(rows, columns, figsize=(WIDTH, height), sharey=True, squeeze=False)
    for axes, corpus in zip(grid.flat, corpora, strict=False):
        counts = (
            clips.loc[clips["corpus"] == corpus, "emotion"].value_counts().reindex(emotions, fill_value=0)
        )
        bars = axes.barh(emotions, counts, color=[COLOURS[emotion] for emotion in emotions], height=0.72)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8)
        axes.set(
            title=f"{_text(corpus, 24)}: {counts.sum():,} clips",
            xlabel="clips",
            xlim=(0, counts.max() * 1.25),
        )
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.tick_params(axis="y", length=0)
    for axes in list(grid.flat)[len(corpora) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("emotion")
    grid[0, 0].invert_yaxis()
    total = clips["emotion"].value_counts()
    story = f"{len(clips):,} clips of {total.index[0]}"
    if total.max() > total.min():
        story = f"{len(clips):,} clips: {total.index[0]} is most frequent ({total.max():,}), {total.index[-1]} rarest ({total.min():,})"
    elif len(total) > 1:
        story = f"{len(clips):,} clips: {total.max():,} of each of {len(total)} emotions"
    _title(figure, story)
    return figure


@_picture
def speaker_counts(clips: pd.DataFrame) -> Figure:
    """Clips of each speaker and emotion as a heatmap; grey where a speaker has none."""
    table = pd.crosstab(clips["emotion"], clips["speaker"])
    table = table.loc[in_order(clips["emotion"]), clips["speaker"].unique()]
    speakers, few = table.shape[1], table.shape[1] <= 24
    totals = table.sum()
    table.columns = [_text(speaker, 16) for speaker in table.columns]
    figure, axes = _subplots(figsize=(WIDTH, 1.6 + 0.27 * len(table)))
    _heatmap(
        table,
        axes,
        "d" if few else None,
        "speaker",
        "emotion",
        mask=table == 0,
        vmin=0,
        # One speaker with very many clips must not make all others look alike.
        vmax=1.5 * table.to_numpy().max() if few else np.quantile(table.to_numpy()[table > 0], 0.95),
        cbar=not few,
        cbar_kws={"label": "clips", "ticks": MaxNLocator(4, integer=True), "extend": "max"},
        xticklabels=1 if speakers <= 40 else -(-speakers // 30),
    )
    fits = sum(map(len, table.columns)) <= 90
    axes.tick_params(axis="x", rotation=0 if fits else 90, labelsize=8 if few else 7)
    each = f"{totals.min():,}" if totals.min() == totals.max() else f"{totals.min():,} to {totals.max():,}"
    missing = int((table == 0).any().sum())
    gaps = f"; {missing:,} lack an emotion" if missing else ""
    _title(figure, f"{speakers:,} speaker{'s' * (speakers > 1)} with {each} clips each{gaps}")
    return figure


@_picture
def durations(clips: pd.DataFrame) -> Figure:
    """Histogram of the clips' lengths in seconds, one row a corpus on a common scale."""
    corpora, seconds = list(clips["corpus"].unique()), clips["seconds"]
    # A few very long clips would squeeze all others into one bar.
    limit = min(seconds.max(), seconds.quantile(0.99) * 1.5)
    edges = np.linspace(0, limit * 1.02, 61)
    figure, rows = _subplots(
        len(corpora), 1, figsize=(WIDTH, 1.1 + 1.0 * len(corpora)), sharex=True, squeeze=False
    )
    for axes, corpus in zip(rows.flat, corpora, strict=True):
        own = seconds[clips["corpus"] == corpus]
        axes.hist(own.clip(upper=limit), edges, color=ACCENT)
        axes.axvline(own.median(), color=COLOURS["surprise"], lw=1.4)
        axes.set(
            title=f"{_text(corpus)}: median {own.median():.2f} s, {own.min():.2f} to {own.max():.2f} s",
            ylabel="clips",
        )
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    rows[-1, 0].set(
        xlabel="length (s)" + (f", longer ones at {limit:.1f} s" if limit < seconds.max() else ""),
        xlim=(0, None),
    )
    low, high = seconds.quantile([0.05, 0.95])
    _title(
        figure, f"Nine in ten clips last {low:.1f} to {high:.1f} s; {seconds.sum() / 3600:.1f} hours in all"
    )
    return figure


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
    axes.set_yticks(
        to_mel(np.array(FREQUENCY_TICKS_HZ)), [f"{hertz / 1000:g}" for hertz in FREQUENCY_TICKS_HZ]
    )
    return image


@_picture
def waveform_and_spectrogram(
    waveform: np.ndarray, sampling_rate: int, title: str, emotion: str | None = None
) -> Figure:
    """One clip's waveform, in its emotion's colour, above its mel spectrogram, on one time axis.

    Args:
        waveform: mono, shape (n_samples,), any positive length; silence is fine.
        emotion: None draws in grey.
    """
    figure, (above, below) = _subplots(2, 1, figsize=(WIDTH, 3.9), sharex=True, height_ratios=[1, 1.7])
    _waveform(above, waveform, sampling_rate, emotion)
    above.set_ylabel("amplitude")
    image = _spectrogram(below, waveform, sampling_rate, n_mels=72, columns=240)
    below.set(xlabel="time (s)", ylabel="frequency (kHz)", xlim=(0, len(waveform) / sampling_rate))
    figure.colorbar(image, ax=below, label="dB below the loudest", pad=0.01, ticks=[0, -20, -40, -60])
    _title(figure, _text(title, 140))
    return figure


@_picture
def emotion_gallery(examples: list[tuple[np.ndarray, int, str, str]]) -> Figure:
    """A grid of clips, each a waveform above a mel spectrogram, all on one time scale.

    Args:
        examples: (waveform, sampling_rate, emotion, title) each, in the order to draw.
    """
    columns = min(len(examples), 4)
    rows = -(-len(examples) // columns)
    figure, grid = _subplots(
        2 * rows,
        columns,
        figsize=(WIDTH, 0.7 + 2.3 * rows),
        squeeze=False,
        sharex=True,
        height_ratios=[1, 2] * rows,
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
        above.text(0, 1.06, _text(title, 28), transform=above.transAxes, fontsize=6.5, color="#4a505b")
        above.set_yticks([])
        above.spines[["left", "bottom"]].set_visible(False)
        above.tick_params(axis="x", length=0)
        below.set_xlabel("time (s)" if place + columns >= len(examples) else "")
        below.tick_params(axis="both", labelsize=7, labelbottom=place + columns >= len(examples))
        below.tick_params(axis="y", labelleft=column == 0)
        below.set_ylabel("frequency (kHz)" if column == 0 else "", fontsize=8)
    grid[0, 0].set_xlim(0, longest)
    _title(
        figure,
        f"How {' and '.join(in_order(e for _, _, e, _ in examples)) if len(examples) < 3 else 'the emotions'} sound in one clip each",
    )
    return figure


@_picture
def split_sizes(split: pd.DataFrame) -> Figure:
    """Clips for training, validation and test in each fold, and the speakers of the test set."""
    sizes = split.pivot_table(index="fold", columns="subset", values="clip_id", aggfunc="count", fill_value=0)
    sizes = sizes.reindex(columns=list(SUBSET_COLOURS), fill_value=0)
    test = split[split["subset"] == "test"]
    speakers = test.groupby("fold")["speaker"].nunique().reindex(sizes.index, fill_value=0)
    figure, axes = _subplots(figsize=(WIDTH, 1.5 + (0.26 if len(sizes) <= 10 else 0.19) * len(sizes)))
    places, left = np.arange(len(sizes)), np.zeros(len(sizes))
    for subset, colour in SUBSET_COLOURS.items():
        bars = axes.barh(places, sizes[subset], 0.74, left, color=colour, label=subset)
        # A number only where its part is wide enough to hold it.
        wide = sizes[subset] > 0.06 * sizes.sum(axis=1).max()
        labels = [f"{count:,}" if fits else "" for count, fits in zip(sizes[subset], wide, strict=True)]
        axes.bar_label(
            bars, labels, label_type="center", fontsize=7.5, color="white" if subset == "test" else INK
        )
        left += sizes[subset].to_numpy()
    for place, end, count in zip(places, left, speakers, strict=True):
        axes.text(
            end,
            place,
            f"  {count} test speaker{'s' * (count != 1)}",
            va="center",
            fontsize=7.5,
            color="#4a505b",
        )
    axes.set_yticks(places, [str(fold) for fold in sizes.index])
    axes.set(xlabel="clips", ylabel="fold", ylim=(len(sizes) - 0.4, -0.6), xlim=(0, left.max() * 1.2))
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3)
    times, total = test["clip_id"].value_counts(), split["clip_id"].nunique()
    folds = f"{len(sizes)} fold{'s' * (len(sizes) > 1)}"
    if len(times) == total and times.max() == 1:
        _title(figure, f"{folds}: every one of {total:,} clips is tested exactly once")
    else:
        _title(figure, f"{folds}: {len(times):,} of {total:,} clips are tested")
    return figure


@_picture
def learning_curves(history: pd.DataFrame) -> Figure:
    """Loss and score over epochs, one thin line a fold, a dot where the weights that were kept come from.

    Args:
        history: columns fold, epoch, best (bool) and any of train_loss, validation_loss, train_accuracy,
            validation_uar, validation_accuracy (drawn where there is no UAR). Columns of NaN are not drawn.
    """
    drawn = [column for column in history if history[column].notna().any()]
    score = "validation_uar" if "validation_uar" in drawn else "validation_accuracy"
    validated = score in drawn
    panels = {"loss (cross-entropy)": ["train_loss", "validation_loss"], "score": ["train_accuracy", score]}
    figure, both = _subplots(1, 2, figsize=(WIDTH, 3.1), sharex=True)
    many = history["fold"].nunique() > 1
    for axes, (label, columns) in zip(both, panels.items(), strict=True):
        for column in [column for column in columns if column in drawn]:
            training = column.startswith("train")
            for _, fold in history.groupby("fold"):
                axes.plot(
                    fold["epoch"],
                    fold[column],
                    color="#9aa1ad" if training else ACCENT,
                    ls=(0, (4, 2)) if training else "-",
                    lw=0.9 if many else 1.6,
                    alpha=0.75 if many else 1,
                    marker="." if len(fold) == 1 else None,
                )
                if not training or not validated:
                    best = fold[fold["best"].astype(bool)]
                    axes.plot(
                        best["epoch"],
                        best[column],
                        "o",
                        ms=4.5,
                        color=COLOURS["surprise"],
                        mec="white",
                        mew=0.6,
                        zorder=3,
                    )
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    kind = "UAR" if score == "validation_uar" else "accuracy"
    both[0].set_ylim(bottom=0)
    both[1].set(ylim=(0, 1.02), ylabel=f"train accuracy, validation {kind}" if validated else "accuracy")
    handles = [Line2D([], [], color="#9aa1ad", ls=(0, (4, 2)), label="train")]
    if validated:
        handles.append(Line2D([], [], color=ACCENT, label="validation"))
    handles.append(
        Line2D([], [], color=COLOURS["surprise"], marker="o", ls="", ms=4.5, label="epoch that is kept")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    best = history[history["best"].astype(bool)]
    epochs = f"{best['epoch'].min()}" + (f" to {best['epoch'].max()}" if best["epoch"].nunique() > 1 else "")
    if validated:
        where = f"median over {history['fold'].nunique()} folds" if many else "one fold"
        _title(
            figure,
            f"Epoch {epochs} of {history['epoch'].max()} is kept: validation {kind} {best[score].median():.2f} ({where})",
        )
    else:
        _title(figure, f"No validation clips: epoch {epochs} of {history['epoch'].max()} is kept")
    return figure


@_picture
def confusion_matrices(confusion: pd.DataFrame) -> Figure:
    """Confusion counts, and the same as per cent of each true emotion.

    Args:
        confusion: counts, one row a true and one column a predicted emotion.
    """
    share = 100 * confusion.div(confusion.sum(axis=1).replace(0, np.nan), axis=0)
    figure, both = _subplots(1, 2, figsize=(WIDTH, 1.7 + 0.29 * len(confusion)), sharey=True)
    for axes, table, form, top, unit in zip(
        both, [confusion, share], ["d", ".0f"], [None, 100], ["clips", "% of each true emotion"], strict=True
    ):
        _heatmap(table, axes, form, "predicted emotion", "true emotion", vmin=0, vmax=top)
        axes.tick_params(axis="x", rotation=0 if len(table) <= 4 else 90)
        axes.set_title(unit)
    both[1].set_ylabel("")
    mistakes = (
        share.where(share.index.to_numpy()[:, None] != share.columns.to_numpy()[None, :]).stack().dropna()
    )
    if len(mistakes) and mistakes.max() > 0:
        truth, prediction = mistakes.idxmax()
        _title(
            figure,
            f"Most often confused: {mistakes.max():.0f} % of the {truth} clips are taken for {prediction}",
        )
    else:
        _title(figure, f"All {int(confusion.to_numpy().sum()):,} clips are recognised")
    return figure


@_picture
def probability_plot(predictions: pd.DataFrame, n: int = 12) -> Figure:
    """Probabilities of the first `n` rows as stacked bars, with truth (where known) and prediction named."""
    rows, emotions = predictions.head(n), _emotions_of(predictions)
    figure, axes = _subplots(figsize=(WIDTH, 1.6 + 0.3 * len(rows)))
    places, left = np.arange(len(rows)), np.zeros(len(rows))
    for emotion in emotions:
        axes.barh(
            places, rows[emotion], 0.72, left, color=COLOURS[emotion], label=emotion, ec="white", lw=0.6
        )
        left += rows[emotion].to_numpy()
    guesses = rows[emotions].idxmax(axis=1)
    truths = rows["truth"] if "truth" in rows else pd.Series(None, index=rows.index, dtype=object)
    right = 0
    for place, guess, truth, probability in zip(
        places, guesses, truths, rows[emotions].max(axis=1), strict=True
    ):
        known = isinstance(truth, str)
        right += known and truth == guess
        verdict = f"{guess} {probability:.0%}" + (
            "" if not known else " ✓" if truth == guess else f" ✗ truth {truth}"
        )
        wrong = known and truth != guess
        axes.text(1.015, place, verdict, va="center", fontsize=7.5, color=COLOURS["angry"] if wrong else INK)
    axes.set_yticks(places, [_text(clip_id, 30) for clip_id in rows["clip_id"]], fontsize=7)
    axes.set(xlabel="probability", ylabel="clip", xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=min(len(emotions), 8), columnspacing=1.2, handlelength=1)
    known = truths.map(lambda truth: isinstance(truth, str)).sum()
    count = f"{len(rows)} clip{'s' * (len(rows) != 1)}"
    _title(
        figure, f"{right} of {count} recognised" if known == len(rows) else f"What the model hears in {count}"
    )
    return figure


@_picture
def probability_by_truth(predictions: pd.DataFrame) -> Figure:
    """Mean probability of each emotion by true emotion, and how the true one's probability is distributed."""
    emotions = _emotions_of(predictions)
    true = [emotion for emotion in emotions if (predictions["truth"] == emotion).any()]
    means = predictions.groupby("truth")[emotions].mean().loc[true]
    figure, (left, right) = _subplots(1, 2, figsize=(WIDTH, 1.7 + 0.29 * len(true)), width_ratios=[1.25, 1])
    _heatmap(means, left, ".2f", "emotion", "true emotion", vmin=0, vmax=1)
    left.tick_params(axis="x", rotation=90)
    left.set_title("mean probability given to each emotion")
    boxes = right.boxplot(
        [predictions.loc[predictions["truth"] == emotion, emotion] for emotion in true],
        orientation="horizontal",
        widths=0.6,
        patch_artist=True,
        showfliers=False,
        medianprops={"color": INK, "lw": 1.4},
        **{part: {"color": GREY} for part in ("whiskerprops", "capprops", "boxprops")},
    )
    for box, emotion in zip(boxes["boxes"], true, strict=True):
        box.set(facecolor=COLOURS[emotion], alpha=0.75)
    right.set_yticks(range(1, len(true) + 1), true)
    right.set(
        title="probability of the true emotion",
        xlabel="probability",
        xlim=(0, 1),
        ylim=(len(true) + 0.5, 0.5),
    )
    right.grid(axis="x")
    right.tick_params(axis="y", length=0)
    own = pd.Series({emotion: means.loc[emotion, emotion] for emotion in true})
    detail = (
        f", from {own.min():.2f} ({own.idxmin()}) to {own.max():.2f} ({own.idxmax()})" if len(own) > 1 else ""
    )
    _title(figure, f"The true emotion gets a mean probability of {own.mean():.2f}{detail}")
    return figure


@_picture
def reliability(predictions: pd.DataFrame, bins: int = ECE_BINS) -> Figure:
    """Accuracy against confidence (the highest probability) in equal bins, and how many clips each bin holds."""
    probabilities = predictions[_emotions_of(predictions)]
    confidence, correct = probabilities.max(axis=1), probabilities.idxmax(axis=1) == predictions["truth"]
    edges = np.linspace(0, 1, bins + 1)
    table = pd.DataFrame({"confidence": confidence, "accuracy": correct})
    groups = table.groupby(pd.cut(confidence, edges, include_lowest=True), observed=True)
    means, sizes = groups.mean(), groups.size()
    figure, (left, right) = _subplots(1, 2, figsize=(WIDTH, 3.3))
    left.plot([0, 1], [0, 1], color=GREY, lw=1, ls=(0, (4, 3)))
    left.vlines(
        means["confidence"], means["confidence"], means["accuracy"], color=COLOURS["surprise"], lw=1.6
    )
    left.scatter(
        means["confidence"], means["accuracy"], 10 + 90 * sizes / sizes.max(), ACCENT, zorder=3, clip_on=False
    )
    left.set(title="on the dashed line, confidence is deserved", xlabel="confidence", ylabel="accuracy")
    left.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    left.grid()
    right.hist([confidence[correct], confidence[~correct]], edges, stacked=True, color=[ACCENT, "#d5dae3"])
    right.set(
        title="recognised (dark) and mistaken clips (light)", xlabel="confidence", ylabel="clips", xlim=(0, 1)
    )
    right.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    error = expected_calibration_error(confidence.to_numpy(), correct.to_numpy(), bins)
    verdict = "Overconfident" if confidence.mean() > correct.mean() else "Cautious"
    _title(
        figure,
        f"{verdict}: mean confidence {confidence.mean():.2f}, accuracy {correct.mean():.2f}, "
        f"calibration error (ECE) {error:.2f}",
    )
    return figure


@_picture
def scores_by_group(table: pd.DataFrame, title: str, chance: float | None = None) -> Figure:
    """UAR of each group as a dot with its interval, best first.

    Args:
        table: as `metrics.by_group` gives it: the groups as index, uar, uar_low, uar_high (0 to 1) and n_test.
        chance: draws a dashed line there.
    """
    table = table.sort_values("uar", ascending=False)
    names = [" · ".join(map(str, group)) if isinstance(group, tuple) else group for group in table.index]
    labels = [f"{_text(name, 30)} ({count:,.0f})" for name, count in zip(names, table["n_test"], strict=True)]
    columns = 1 if len(table) <= 40 else 2
    rows = -(-len(table) // columns)
    figure, both = _subplots(
        1, columns, figsize=(WIDTH, 1.2 + (0.25 if columns == 1 else 0.18) * rows), squeeze=False
    )
    for axes, start in zip(both.flat, range(0, len(table), rows), strict=True):
        part = table.iloc[start : start + rows]
        places = np.arange(len(part))
        axes.hlines(
            places, part["uar_low"], part["uar_high"], color="#8fa3c8", lw=2.4 if columns == 1 else 1.6
        )
        axes.plot(part["uar"], places, "o", ms=6 if columns == 1 else 4, color=ACCENT)
        if chance is not None:
            axes.axvline(chance, color=GREY, lw=1, ls=(0, (4, 3)))
            axes.text(chance, -0.75, f" chance {chance:.2f}", fontsize=7.5, color="#4a505b", va="bottom")
        axes.set_yticks(places, labels[start : start + rows], fontsize=8 if columns == 1 else 6.5)
        axes.set(xlabel="UAR, 95 % interval", xlim=(0, 1), ylim=(rows - 0.4, -0.8))
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    group = _text(" · ".join(str(name) for name in table.index.names if name) or "group")
    both[0, 0].set_ylabel(f"{group} (clips)")
    _title(figure, _text(title, 140))
    return figure


@_picture
def feature_heatmap(features: np.ndarray, emotions) -> Figure:
    """Mean of each coefficient by emotion, in standard deviations from the mean of all clips.

    Args:
        features: shape (n_clips, n_coefficients), finite; a constant coefficient is drawn as 0.
        emotions: one a clip.
    """
    features, emotions = np.asarray(features, dtype=float), np.asarray(emotions)
    spread = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    present = in_order(emotions)
    means = pd.DataFrame([standard[emotions == emotion].mean(axis=0) for emotion in present], index=present)
    figure, axes = _subplots(figsize=(WIDTH, 1.5 + 0.27 * len(present)))
    limit = max(float(np.abs(means.to_numpy()).max()), 0.1)
    _heatmap(
        means,
        axes,
        None,
        "coefficient",
        "emotion",
        cmap="vlag",
        vmin=-limit,
        vmax=limit,
        cbar=True,
        cbar_kws={"label": "standard deviations", "ticks": MaxNLocator(4)},
        xticklabels=-(-means.shape[1] // 20),
    )
    axes.tick_params(axis="x", rotation=0)
    most = int((means.max() - means.min()).idxmax())
    _title(
        figure,
        f"Coefficient {most} sets the emotions apart most, from {means[most].idxmin()} (low) to {means[most].idxmax()} (high)",
    )
    return figure
