"""What all pictures share: fonts, the figure that notebooks display, and drawing helpers."""

import base64
import functools
import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from PIL import Image

from ser_lib.reports.plots.colours import INK, SOFT

WIDTH = 7.2  # inches
STYLE: dict[str, Any] = {
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
    "legend.columnspacing": 1.2,
    "legend.handlelength": 1.4,
}


class Picture(Figure):
    """A figure that a notebook displays as a small PNG with its title as alternative text."""

    def png(self) -> bytes:
        """The picture as a PNG of 256 colours, a third of the size that matplotlib writes."""
        drawn, small = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png")
        image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        image.save(small, format="png", optimize=True)
        return small.getvalue()

    @property
    def base64(self) -> str:
        """The PNG as text, as a page holds it."""
        return base64.b64encode(self.png()).decode()

    @property
    def alt(self) -> str:
        """The title, on one line: what the picture shows, for those who do not see it."""
        return " ".join(self.get_suptitle().split())

    def _ipython_display_(self) -> None:
        from IPython.display import display

        data = {"image/png": self.base64, "text/plain": repr(self)}
        # The image has more pixels than its width on the page, so that it is sharp on dense screens.
        display(data, raw=True, metadata={"image/png": {"width": round(self.get_figwidth() * 120), "alt": self.alt}})


def picture(draw: Callable[..., Any]) -> Callable[..., Picture]:
    """Run a drawing function under `STYLE` and close its figure."""

    @functools.wraps(draw)
    def styled(*args, **kwargs) -> Picture:
        with plt.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            # matplotlib creates ticks when it draws, with the settings of that moment.
            figure.draw_without_rendering()
        plt.close(figure)
        return figure

    return styled


def new_figure(title: str, height: float, rows: int = 1, columns: int = 1, **kwargs) -> tuple[Picture, Any]:
    """A figure of the common width with a title on the left, and its axes as `plt.subplots` returns them.

    Args:
        title: in as many lines as it needs.
        height: in inches.
        kwargs: of `plt.subplots`.
    """
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), FigureClass=Picture, **kwargs)
    figure.suptitle(textwrap.fill(title, 84), x=0.008, ha="left", fontsize=10, fontweight="bold")
    return figure, axes


def text(name, longest: int = 40) -> str:
    """A name from outside as text that the font can draw: unknown letters become □, a long start becomes …"""
    known = get_font(findfont(STYLE["font.family"])).get_charmap()
    name = "".join(c if ord(c) in known else "□" for c in " ".join(str(name).split()))
    return name if len(name) <= longest else "…" + name[1 - longest :]


def name_rows(axes, labels: Sequence[str], ylabel: str, fontsize: float = 8, top: float = -0.6) -> None:
    """Label the rows 0, 1, … of a picture with horizontal marks, the first on top.

    Args:
        top: upper end of the vertical axis, in rows.
    """
    axes.set_yticks(range(len(labels)), labels, fontsize=fontsize)
    axes.set(ylabel=ylabel, ylim=(len(labels) - 0.4, top))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)


def interval_dots(
    axes, rows, table: pd.DataFrame, score: str, colours, marker: str = "o", hollow=False, label: str | None = None
) -> None:
    """Draw a score of each row as a dot on the line of its 95 % interval.

    Args:
        rows: vertical places, aligned to `table`.
        table: has the columns `score`, and `score` with `_low` and `_high`.
        colours, hollow: one for all, or one per row.
    """
    few = len(table) <= 40
    colours, hollow = np.broadcast_to(colours, len(table)), np.broadcast_to(hollow, len(table))
    axes.hlines(rows, table[f"{score}_low"], table[f"{score}_high"], color=colours, lw=2.4 if few else 1.6, alpha=0.5)
    faces = np.where(hollow, "white", colours)
    style = {"marker": marker, "ec": colours, "lw": 1.3, "zorder": 3, "clip_on": False}
    axes.scatter(table[score], rows, 32 if few else 14, faces, label=label, **style)


def row_notes(axes, notes: Sequence[str], colours: str | Sequence[str] = INK) -> None:
    """Write one note per row to the right of the axes."""
    for row, (note, colour) in enumerate(zip(notes, np.broadcast_to(colours, len(notes)), strict=True)):
        axes.text(1.015, row, note, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color=colour)


def legend_below(figure: Figure, columns: int, handles=None) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def heatmap(table: pd.DataFrame, axes, form: str | None, x: str, y: str, **kwargs) -> None:
    """Draw a table as coloured cells, with their values where `form` (a format) is not None."""
    style = {"cmap": "Blues", "cbar": False, "annot_kws": {"fontsize": 7.5}, "linewidths": 0.6 if form else 0, **kwargs}
    sns.heatmap(table, ax=axes, annot=form is not None, fmt=form or "", **style)
    axes.set(xlabel=x, ylabel=y, facecolor="#f1f2f4")
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
