"""What is left of a claim, leak by leak."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ser_lib.reports.plots.style import GREY, SOFT, WIDTH, picture, put_title, subplots, text

# column -> marker, colour; leaking ones are red, honest ones blue
MARKS = {
    "as-stated": ("o", "#d1495b"),
    "as-run": ("D", "#d1495b"),
    "without-copies": ("o", "#e9a6af"),
    "new-speakers": ("o", "#27427f"),
    "strictest": ("s", "#6f8fc4"),
    "floor": ("|", GREY),
}


@picture
def claims_ladder(table: pd.DataFrame, claimed: dict[str, float]) -> Figure:
    """Accuracy of each recipe under each way of measuring it, with intervals, beside what its source claims.

    Args:
        table: as `ser_lib.studies.claims.claims_table` gives it.
        claimed: accuracy that each recipe's source claims.
    """
    names = list(dict.fromkeys(table["recipe"]))
    figure, axes = subplots(figsize=(WIDTH, 1.4 + 0.62 * len(names)))
    height = {name: place for place, name in enumerate(names)}
    offsets = dict(zip(MARKS, np.linspace(-0.28, 0.28, len(MARKS)), strict=True))
    for name, place in height.items():
        axes.plot([claimed[name]] * 2, [place - 0.38, place + 0.38], color="black", lw=1.6, zorder=3)
    for (column, label), own in table.groupby(["column", "title"], sort=False):
        marker, colour = MARKS[column]
        places = own["recipe"].map(height) + offsets[column]
        axes.hlines(places, own["accuracy_low"], own["accuracy_high"], color=colour, lw=1.6, alpha=0.6)
        axes.plot(own["accuracy"], places, marker, ms=6, mew=1.6, color=colour, label=label, ls="")
    axes.plot([], [], color="black", lw=1.6, label="claimed")
    axes.set_yticks(range(len(names)), [text(name, 45) for name in names])
    axes.set(xlabel="accuracy, 95 % interval", ylabel="recipe", xlim=(0, 1.02), ylim=(len(names) - 0.4, -0.6))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0, labelcolor=SOFT)
    figure.legend(loc="outside lower center", ncols=4)
    honest = table.loc[table["column"] == "new-speakers", "accuracy"]
    left = f": {honest.min():.2f} to {honest.max():.2f} are left on new speakers" if len(honest) else ""
    claims = dict.fromkeys(f"{claim:.2f}" for claim in sorted(claimed[name] for name in names))
    put_title(figure, f"{len(names)} claims of {' to '.join([*claims][:: max(1, len(claims) - 1)])}{left}")
    return figure
