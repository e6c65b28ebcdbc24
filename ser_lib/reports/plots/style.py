"""What all pictures share: colours, type, the figure that notebooks show, and small drawing helpers."""

import base64
import functools
import io
import textwrap

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from PIL import Image

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
INK, SOFT, GREY, ACCENT = "#22262e", "#4a505b", "#737481", "#27427f"
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
    "axes.labelcolor": SOFT,
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
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
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
        display(data, raw=True, metadata={"image/png": {"width": round(self.get_figwidth() * 120), "alt": alt}})


def picture(draw):
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


subplots = functools.partial(plt.subplots, FigureClass=Picture)


def text(name, longest: int = 40) -> str:
    """A name from outside as text that the font can draw: unknown letters become □, a long start becomes …"""
    known = get_font(findfont(STYLE["font.family"])).get_charmap()
    name = "".join(c if ord(c) in known else "□" for c in " ".join(str(name).split()))
    return name if len(name) <= longest else "…" + name[1 - longest :]


def put_title(figure: Figure, story: str) -> None:
    """Put a title on the left above the whole figure, in as many lines as it needs."""
    figure.suptitle(textwrap.fill(story, 84), x=0.008, ha="left", fontsize=10, fontweight="bold")


def heatmap(table: pd.DataFrame, axes, form: str | None, x: str, y: str, **kwargs) -> None:
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
