"""The leak audit of a split as one HTML page: each kind of leak, the number of test clips, and what to do.

write_page(split, audit(split), "my split", "my-split-audit.html")
"""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from ser_lib.common.files import write_text
from ser_lib.protocols.leak_audit import LEAKS, red_leaks
from ser_lib.protocols.splits import ENROLMENT, SUBSETS
from ser_lib.reports.rendering import render

WHAT_TO_DO = {
    "same audio": "Keep one file of each recording, then split again.",
    "near-same audio": "Keep one version of each recording, or put all its versions into the same subset.",
    "same speaker": "Split by speaker, for instance with scikit-learn's StratifiedGroupKFold and groups=speaker.",
    "same sentence": "Hold sentences out as well, or state beside the score that the test sentences are in training.",
    "label decided by corpus": "Keep only labels that every corpus has, or score each corpus separately.",
    "selection on test": "Take validation clips from training speakers, and test once, at the end.",
    "augmented copies": "Split first, then augment only the training clips.",
}


def subset_counts(split: pd.DataFrame) -> pd.DataFrame:
    """Distinct clips, speakers, labels (<NA>: unknown) and minutes of each subset of the split, over all folds."""
    distinct = split.drop_duplicates(["clip_id", "subset"])
    distinct = distinct.reindex(columns=["subset", "speaker", "emotion", "seconds"]).replace("", None)
    by_subset = distinct.groupby("subset")
    numbers = {"speakers": by_subset["speaker"].nunique(), "labels": by_subset["emotion"].nunique()}
    counts = pd.DataFrame({"clips": by_subset.size(), **numbers}).astype("Int64").replace(0, pd.NA)
    counts["minutes"] = by_subset["seconds"].sum(min_count=1).astype(float) / 60
    return counts.reindex([subset for subset in (*SUBSETS, ENROLMENT) if subset in counts.index])


def write_page(split: pd.DataFrame, table: pd.DataFrame, title: str, path: str | Path) -> Path:
    """Write an audit as one self-contained HTML page; names of files are escaped.

    Args:
        split: as `read_split` or `make_split` returns it.
        table: as `audit` returns it for this split.
    """
    leaks = table.astype(object).where(table.notna(), None).to_dict(orient="records")
    counts = subset_counts(split).reset_index()
    html = render(
        "audit.html.j2",
        title=title,
        leaks=[leak | {"what_to_do": WHAT_TO_DO[leak["leak"]]} for leak in leaks],
        red=red_leaks(table)["leak"].tolist(),
        counts=counts.astype(object).where(counts.notna(), None).to_dict(orient="records"),
        folds=split["fold"].nunique() if "fold" in split else 1,
        notes=split.attrs.get("notes", []),
        generated=datetime.now(UTC).strftime("%Y-%m-%d"),
    )
    return write_text(html, path)


def unknown_red(table: pd.DataFrame) -> list[str]:
    """The leaks of severity red that an audit could not check, so that "clean" would be incomplete."""
    return [leak for leak in table.loc[table["clips"].isna(), "leak"] if LEAKS[leak][0] == "red"]
