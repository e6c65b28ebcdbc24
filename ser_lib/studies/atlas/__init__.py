"""The atlas: which of the train and test lists that benchmarks and toolkits publish leak, by this project's own audit.

    table = atlas_table()                # one row a corpus and benchmark, with `COLUMNS`
    write_table(table, reports_dir)      # reports/atlas.csv: counts and a few names, never the lists

To add a benchmark, write one module like `hicmae` in this package, and add its `SOURCE` to `BENCHMARKS`.
"""

import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ser_lib.common import files
from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA
from ser_lib.corpora.file_names import title_of
from ser_lib.protocols.leak_audit import audit, shared_values
from ser_lib.studies.atlas import emo_superb, emobox, hicmae, nkululeko, ogm_ge, own, unlisted
from ser_lib.studies.atlas.lists import Lists, PublishedSplit, splits_of

logger = logging.getLogger(__name__)

# The columns of the page, in this order: each yields the splits of its corpora.
BENCHMARKS: dict[str, Callable[[Lists], Iterable[PublishedSplit]]] = {
    "EmoBox": partial(splits_of, emobox.SOURCE),
    "nkululeko": partial(splits_of, nkululeko.SOURCE),
    "EMO-SUPERB": partial(splits_of, emo_superb.SOURCE),
    "HEAR": lambda _: [unlisted.HEAR],
    "MTEB": lambda _: [unlisted.MTEB],
    "OGM-GE": partial(splits_of, ogm_ge.SOURCE),
    "HiCMAE": partial(splits_of, hicmae.SOURCE),
    "TFDS": lambda _: [unlisted.TFDS],
    "ser_lib": own.splits,
}
COLUMNS = [
    "corpus",  # name in `ser_lib.corpora`
    "benchmark",
    "verdict",  # red: test speakers, names or validation clips are shared; green: none is; grey: not known
    *["train", "validation", "test"],  # distinct clips, over all folds
    "folds",
    "test_speakers",  # distinct, where they are known
    "shared_speakers",  # of these, in training of the same fold
    "unknown_speakers",  # clips of which the speaker is not known
    "speaker_clips",  # test clips whose speaker is in training of the same fold
    "test_sentences",
    "shared_sentences",
    "shared_names",  # test clips that are listed under the same name in training
    "validation_in_test",  # test clips that are listed under the same name in validation
    "examples",  # "test ↔ train", a few of the leak with the most clips
    "speakers_from",  # what states who speaks
    "note",
    "how",  # how the source says that it splits
    "how_url",
    "lists",  # what was read: the first list, and the number of others
    "commit",
    "url",
]
NUMBERS = COLUMNS[3:15]


def atlas_table() -> pd.DataFrame:
    """Audit every published split: one row a corpus and benchmark, with `COLUMNS`.

    A list that cannot be read makes its own row grey, with the reason.

    Raises:
        SerError: no list at all can be read.
    """
    lists = Lists.pinned()
    splits = [split for published in BENCHMARKS.values() for split in published(lists)]
    problems = [split.problem for split in splits if split.problem]
    if problems and not any(split.table is not None for split in splits):
        raise SerError(f"none of the published lists can be read: {problems[0]}")
    for problem in problems:
        logger.warning("%s", problem)
    table = pd.DataFrame([row_of(split) for split in splits], columns=COLUMNS)
    return _in_order(table)


def row_of(split: PublishedSplit) -> dict:
    """One row of the atlas: the audit of one published split."""
    row: dict[str, Any] = {name: "" for name in COLUMNS} | dict.fromkeys(NUMBERS, pd.NA)
    row |= {name: getattr(split, name) for name in ("corpus", "benchmark", "how", "how_url", "commit", "url")}
    row |= {"speakers_from": split.speakers_from, "lists": _named(split.lists)}
    if split.table is None:
        row["verdict"] = split.stated or "grey"
        by_code = "By its code, which makes the folds; not counted."
        row["note"] = f"Not read: {split.problem}" if split.problem else by_code
        return row
    table = split.table
    for subset in ("train", "validation", "test"):
        row[subset] = table.loc[table["subset"] == subset, "clip_id"].nunique()
    row |= {"folds": table["fold"].nunique(), "unknown_speakers": _unknown(table)}
    missing = [name for name in ("train", "test") if not row[name]]
    if missing:
        row["verdict"] = "grey"
        row["note"] = f"Its {' and '.join(missing)} lists were not read: their hash is not pinned."
        return row
    for column in ("speaker", "sentence"):
        tested, shared = shared_values(table, column)
        if tested:
            row |= {f"test_{column}s": len(tested), f"shared_{column}s": len(shared)}
    leaks = audit(table, near_duplicates=False, progress=False).set_index("leak")
    clips = leaks["clips"].fillna(0)
    row |= {"speaker_clips": clips["same speaker"] if row["test_speakers"] is not pd.NA else pd.NA}
    row |= {"shared_names": clips["same audio"], "validation_in_test": clips["selection on test"]}
    if pd.isna(leaks.loc["selection on test", "clips"]) and not row["validation"]:
        row["validation_in_test"] = pd.NA
    red = clips[["same speaker", "same audio", "selection on test"]]
    row["examples"] = _short(leaks.loc[red.idxmax(), "examples"], table["clip_id"]) if red.any() else ""
    row["verdict"] = "red" if red.any() else "green" if not row["unknown_speakers"] else "grey"
    row["note"] = _note(table, row)
    return row


def _note(table: pd.DataFrame, row: dict) -> str:
    """What a reader must know about the counts of a row."""
    notes = []
    if table["speaker"].nunique() == 1 and not row["unknown_speakers"]:
        notes.append("The corpus has one speaker, so that no split of it tests new voices.")
    if row["unknown_speakers"]:
        notes.append(f"Of {row['unknown_speakers']:,} clips neither the lists nor the file names tell who speaks.")
    if row["shared_names"] and not table["clip_id"].str.contains("/").any():
        may_be = "may be another recording in another folder; the lists name none."
        notes.append(f"A name that stands in both lists {may_be}")
    if not row["validation"]:
        notes.append("No validation list: on what epochs and settings are chosen is not stated there.")
    return " ".join(notes)


def _short(examples: str, clip_ids: pd.Series) -> str:
    """Examples without what all paths begin with, such as a folder of the authors' computer."""
    shared = os.path.commonprefix(clip_ids.tolist()).rpartition("/")[0]
    return examples.replace(f"{shared}/", "") if shared else examples


def _unknown(table: pd.DataFrame) -> int:
    return table.loc[table["speaker"].isna(), "clip_id"].nunique()


def _named(paths: tuple[str, ...]) -> str:
    return f"{paths[0]} and {len(paths) - 1} more" if len(paths) > 1 else "".join(paths)


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Corpora that this package loads first, then by title; benchmarks in the order of `BENCHMARKS`."""
    corpora = [*CORPORA, *sorted(set(table["corpus"]) - {*CORPORA}, key=lambda name: title_of(name).lower())]
    order = table["corpus"].map(corpora.index) * len(BENCHMARKS) + table["benchmark"].map([*BENCHMARKS].index)
    return table.iloc[order.argsort(kind="stable")].reset_index(drop=True).astype(dict.fromkeys(NUMBERS, "Int64"))


def write_table(table: pd.DataFrame, reports_dir: str | Path | None = None) -> Path:
    """Write the atlas as CSV, whole or not at all."""
    return files.write_csv(table, files.reports_path("atlas.csv", reports_dir))


def read_table(reports_dir: str | Path | None = None) -> pd.DataFrame:
    """Read the atlas; SerError where there is none, or a column is missing."""
    path, types = files.reports_path("atlas.csv", reports_dir), dict.fromkeys(NUMBERS, "Int64")
    table = files.read_table(path, "`ser atlas` makes it.", COLUMNS, dict.fromkeys(COLUMNS, object) | types)
    return table[COLUMNS].fillna(dict.fromkeys({*COLUMNS} - {*NUMBERS}, ""))


def summary(table: pd.DataFrame) -> list[str]:
    """Three sentences on the atlas for a reader who is new to the field, computed from the table."""
    others = table[table["benchmark"] != "ser_lib"]
    counts = others["verdict"].value_counts()
    red, green, grey = (int(counts.get(name, 0)) for name in ("red", "green", "grey"))
    shared = others["shared_speakers"]
    everybody = int((shared.fillna(0).gt(0) & (shared == others["test_speakers"])).sum())
    return [
        f"A split says which clips train a model and which test it: of {len(others)} splits that "
        f"{others['benchmark'].nunique()} benchmarks and toolkits publish for {others['corpus'].nunique()} corpora, {red} train "
        "a model on the people who then test it, or on files of the same name (red).",
        f"In {everybody} of these, every tested person is in training: a score there tells how well voices that the model "
        "knows are understood, not how well a new voice is, and must not stand beside the score of a green split.",
        f"{green} splits keep the tested people out of training (green), and for {grey} it cannot be told from the lists that "
        "were read (grey).",
    ]
