"""The sentences of the page "On your voice", from the table of `ser_lib.studies.voice`."""

import pandas as pd

from ser_lib.corpora.file_names import title_of
from ser_lib.studies.voice import ENOUGH


def summary(table: pd.DataFrame) -> list[str]:
    """What a model reaches on unheard speakers without clips of them and with `ENOUGH`, one sentence a training set."""
    number = table[table["study"] == "number"]
    sentences = []
    for trained_on, rows in number.groupby("trained_on", sort=False):
        parts = []
        for corpus, of_corpus in rows.groupby("corpus", sort=False):
            by_k = of_corpus.set_index("k")
            if {0, ENOUGH} <= set(by_k.index):
                before, after = by_k.loc[0], by_k.loc[ENOUGH]
                parts.append(f"{before['uar']:.2f} to {after['uar']:.2f} on {title_of(corpus)} ({points(after)})")
        sentences.append(
            f"Trained on {trained_on}, {ENOUGH} unlabelled clips of a new speaker change UAR from {_listed(parts)}."
        )
    return sentences


def differences(rows: pd.DataFrame) -> list[str]:
    """One sentence for each condition and training set: where enrolment helps, harms, or makes no difference that is shown.

    Args:
        rows: of one study, without those that enrol nobody.
    """
    sentences = []
    for (trained_on, condition), part in rows.groupby(["trained_on", "condition"], sort=False):
        verdicts = [f"{title_of(row['corpus'])} {points(row)}{verdict(row)}" for row in part.to_dict("records")]
        sentences.append(f"**{condition}**, trained on {trained_on}: {_listed(verdicts)}.")
    return sentences


def listening(table: pd.DataFrame) -> list[str]:
    """From how many clips on a model that learns while it listens answers better than one that does not."""
    rows = table[(table["study"] == "listening") & ~table["condition"].str.contains("itself")]
    sentences = []
    for (trained_on, corpus), part in rows.groupby(["trained_on", "corpus"], sort=False):
        part = part.sort_values("k")
        start = f"{title_of(corpus)}, trained on {trained_on}: "
        if part["difference_low"].isna().all():
            shown = ", ".join(
                f"{100 * row['difference']:+.1f} after {row['condition'].removesuffix(' earlier clips')}"
                for row in part.to_dict("records")
                if row["k"]
            )
            sentences.append(f"{start}too few speakers for a test; points of UAR: {shown} clips.")
            continue
        # The last bin without a gain that is shown, and all before it.
        pays = part[(part["difference_low"] > 0)[::-1].cumprod()[::-1].astype(bool)]
        if pays.empty:
            sentences.append(f"{start}a gain is not shown, at any length.")
        else:
            first, last = pays.iloc[0], pays.iloc[-1]
            sentences.append(
                f"{start}it pays from {first['k']} clips on: {points(first)} after {first['condition'].removesuffix(' earlier clips')} "
                f"clips, {points(last)} after {last['condition'].removesuffix(' earlier clips')}."
            )
    return sentences


def points(row) -> str:
    """The difference of a row in points of UAR with its paired interval, or why there is none."""
    value = f"{100 * row['difference']:+.1f} points"
    if pd.isna(row["difference_low"]):
        return f"{value}, no interval: {row['speakers']} speakers"
    return f"{value}, {100 * row['difference_low']:+.1f} to {100 * row['difference_high']:+.1f}"


def verdict(row) -> str:
    """What the interval of a difference shows."""
    if pd.isna(row["difference_low"]):
        return ""
    if row["difference_low"] > 0:
        return " (helps)"
    return " (harms)" if row["difference_high"] < 0 else " (neither is shown)"


def _listed(parts: list[str]) -> str:
    return "; ".join(parts)
