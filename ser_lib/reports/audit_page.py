"""The audit of a split as a page of its own: what leaks, in how many clips, and what to do about it.

write_page(split, audit(split), "my split", "my-split-audit.html")
"""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from ser_lib.common.files import replacing
from ser_lib.protocols.leak_audit import LEAKS, red_leaks
from ser_lib.protocols.splits import SUBSETS

WHAT_TO_DO = {
    "same audio": "Keep one file of each recording, then split again.",
    "near-same audio": "Keep one version of each recording, or put all its versions into the same subset.",
    "same speaker": "Split by speaker, for instance with scikit-learn's StratifiedGroupKFold and groups=speaker.",
    "same sentence": "Hold sentences out as well, or say beside the score that the words were known.",
    "label decided by corpus": "Keep the labels that every corpus has, or score each corpus by itself.",
    "selection on test": "Take the validation clips from training speakers, and test once, at the end.",
    "augmented copies": "Split first, then augment the training clips alone.",
}


def subset_counts(split: pd.DataFrame) -> pd.DataFrame:
    """Distinct clips, speakers, labels (<NA>: not known) and minutes of each subset that is there, over all folds."""

    def count(rows, column):
        return rows[column].replace("", pd.NA).nunique() if column in rows else pd.NA

    distinct = split.drop_duplicates(["clip_id", "subset"])
    parts = {subset: distinct[distinct["subset"] == subset] for subset in SUBSETS}
    rows = {
        subset: {
            "clips": len(part),
            "speakers": count(part, "speaker"),
            "labels": count(part, "emotion"),
            "minutes": part["seconds"].sum() / 60,
        }
        for subset, part in parts.items()
        if len(part)
    }
    counts = pd.DataFrame.from_dict(rows, orient="index").rename_axis("subset")
    return counts.astype({name: "Int64" for name in ("clips", "speakers", "labels")})


def write_page(split: pd.DataFrame, table: pd.DataFrame, title: str, path: str | Path) -> Path:
    """Write an audit as one HTML page that needs nothing else; names of files in it are escaped.

    Args:
        split: from `read_split`, or `make_split`; table: what `audit` found in it; title: of the page.
    """
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("audit.html.j2")
    leaks = table.astype(object).where(table.notna(), None).to_dict(orient="records")
    counts = subset_counts(split).reset_index()
    html = template.render(
        title=title,
        leaks=[leak | {"what_to_do": WHAT_TO_DO[leak["leak"]]} for leak in leaks],
        red=red_leaks(table)["leak"].tolist(),
        counts=counts.astype(object).where(counts.notna(), None).to_dict(orient="records"),
        folds=split["fold"].nunique() if "fold" in split else 1,
        notes=split.attrs.get("notes", []),
        generated=datetime.now(UTC).strftime("%Y-%m-%d"),
    )
    with replacing(Path(path)) as part:
        part.write_text(html, encoding="utf-8")
    return Path(path)


def unknown_red(table: pd.DataFrame) -> list[str]:
    """The grave leaks that an audit could not look for: without them, "clean" is not the whole answer."""
    return [leak for leak in table.loc[table["clips"].isna(), "leak"] if LEAKS[leak][0] == "red"]
