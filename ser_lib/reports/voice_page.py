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
            f"Trained on {trained_on}, {ENOUGH} unlabelled clips of a new speaker change UAR from {'; '.join(parts)}."
        )
    return sentences


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """UAR without and with enrolment, and their difference in points with its interval: one row a condition, one column a corpus.

    Args:
        rows: of one study, without those that enrol nobody.
    """
    cells = [
        f"{row['uar'] - row['difference']:.2f} → {row['uar']:.2f}, {_short(row)}" for row in rows.to_dict("records")
    ]
    titles = rows["corpus"].map(title_of)
    shown = rows.assign(cell=cells, corpus=titles).rename(columns={"trained_on": "trained on"})
    table = shown.pivot(index=["trained on", "condition"], columns="corpus", values="cell")
    order = pd.MultiIndex.from_frame(shown[["trained on", "condition"]].drop_duplicates())
    return table.reindex(index=order, columns=titles.unique()).fillna("too few clips")


def verdicts(rows: pd.DataFrame) -> list[str]:
    """Where the interval of a difference lies above 0, and where below: one sentence a training set.

    Args:
        rows: as of `differences`.
    """
    sentences = []
    for trained_on, part in rows.groupby("trained_on", sort=False):
        tested = part[part["difference_low"].notna()]
        better, worse = tested[tested["difference_low"] > 0], tested[tested["difference_high"] < 0]
        said = []
        for what, which in {"A gain": better, "Harm": worse}.items():
            corpora = which["corpus"].map(title_of).groupby(which["condition"], sort=False).agg(", ".join)
            if len(which):
                shown = "; ".join(f"{name} ({on})" for name, on in corpora.items())
                said.append(f"**{what}** is shown for {shown}")
        if rest := len(tested) - len(better) - len(worse):
            said.append(f"Neither is shown for the other {rest}" if said else "Neither gain nor harm is shown")
        sentences.append(f"Trained on {trained_on}: {'. '.join(said) or 'too few speakers for a test'}.")
    return sentences


def listening(table: pd.DataFrame) -> list[str]:
    """From how many clips on a model that learns while it listens answers better than one that does not."""
    rows = table[(table["study"] == "listening") & ~table["condition"].str.contains("itself")]
    sentences = []
    for (trained_on, corpus), part in rows.groupby(["trained_on", "corpus"], sort=False):
        part = part.sort_values("k")
        start = f"{title_of(corpus)}, trained on {trained_on}: "
        if part["difference_low"].isna().all():
            gains = [
                f"{100 * row['difference']:+.1f} after {_clips(row)}" for row in part.to_dict("records") if row["k"]
            ]
            sentences.append(f"{start}too few speakers for a test; points of UAR: {', '.join(gains)} clips.")
            continue
        # The bins after which no bin is without a gain that is shown.
        pays = part[(part["difference_low"] > 0)[::-1].cumprod()[::-1].astype(bool)]
        shown = [f"after {_clips(row)} clips ({points(row)})" for row in pays.to_dict("records")]
        # The first and the last, which may be the same.
        shown = list(dict.fromkeys([*shown[:1], *shown[-1:]]))
        said = f"a gain is shown {', and '.join(shown)}." if shown else "no gain is shown for any number of clips."
        sentences.append(start + said)
    return sentences


def _clips(row) -> str:
    return row["condition"].removesuffix(" earlier clips")


def points(row) -> str:
    """The difference of a row in points of UAR with its paired interval, or why there is none."""
    value = f"{100 * row['difference']:+.1f} points"
    if pd.isna(row["difference_low"]):
        return f"{value}, no interval: {row['speakers']} speakers"
    return f"{value}, {100 * row['difference_low']:+.1f} to {100 * row['difference_high']:+.1f}"


def _short(row) -> str:
    """The difference of a row in points of UAR, with its paired interval where there is one."""
    if pd.isna(row["difference_low"]):
        return f"{100 * row['difference']:+.1f}"
    return f"{100 * row['difference']:+.1f} ({100 * row['difference_low']:+.1f} to {100 * row['difference_high']:+.1f})"
