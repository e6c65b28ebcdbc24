"""What a published split's leak is worth: the same model, tested on the same clips, with and without their speakers.

    table = worth(split, clips, features)       # of a published split, with the audio of its corpus at hand

Both trainings take clips of the published training list, as many of each emotion. One takes none of the speakers that are
tested; the other takes clips of all speakers, as the list does. The speakers are the only difference.
"""

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ser_lib.common import files
from ser_lib.common.errors import SerError
from ser_lib.common.hashing import shuffled
from ser_lib.corpora import CORPORA
from ser_lib.corpora.file_names import title_of
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation import results
from ser_lib.evaluation.intervals import MIN_SPEAKERS
from ser_lib.studies.atlas import BENCHMARKS
from ser_lib.studies.atlas.lists import Lists, PublishedSplit
from ser_lib.studies.conditions import COLUMNS, probed, table_of, tested
from ser_lib.studies.probe import feature_reader, load_available

GROUPS = 5  # of test speakers; each speaker alone where they are fewer
WHOLE = 0.98  # share of a corpus from which it is no part: copies are left out
MIN_TEST_CLIPS = 10  # of an emotion that is compared
APART, AS_LISTED = "tested speakers not in training", "all speakers in training, as listed"


def worth(split: PublishedSplit, clips: pd.DataFrame, features: np.ndarray) -> pd.DataFrame:
    """UAR with and without the tested speakers in training, and the difference: `conditions.COLUMNS`.

    With fewer than `MIN_SPEAKERS` test speakers there is a pair of rows for each of them as well.

    Args:
        split: of one corpus; of several folds, all are used.
        clips: clip table of that corpus, without duplicates; of the listed clips, those that it lacks are left out.
        features: (n_clips, n_features), in its order.

    Raises:
        SerError: fewer than two emotions have `MIN_TEST_CLIPS` test clips, or no training clip is of another speaker.
    """
    listed = _listed(split, clips)
    tests = listed[listed["subset"] == "test"].drop_duplicates("clip_id")
    counts = tests["emotion"].value_counts()
    emotions = counts.index[counts >= MIN_TEST_CLIPS]
    if len(emotions) < 2:
        raise SerError(
            f"{split.benchmark}, {split.corpus}: of its {len(tests)} test clips that are at hand, fewer than two emotions "
            f"have {MIN_TEST_CLIPS}: too few to compare."
        )
    listed = listed[listed["emotion"].isin(emotions)]
    apart, as_listed = [], []
    for number, (fold, speakers) in enumerate(_groups(listed)):
        rows = listed[listed["fold"] == fold]
        test = rows[(rows["subset"] == "test") & rows["speaker"].isin(speakers)]
        pool = rows[rows["subset"] == "train"]
        others = pool[~pool["speaker"].isin(speakers)]
        if others.empty:
            raise SerError(f"{split.benchmark}, {split.corpus}: no training clip is of an untested speaker.")
        drawn = []
        for emotion, part in others.groupby("emotion"):
            candidates = pool.loc[pool["emotion"] == emotion, "clip_id"]
            drawn += shuffled(candidates, split.benchmark, split.corpus, number)[: len(part)]
        mixed = pool[pool["clip_id"].isin(drawn)]
        apart += [part.assign(fold=number) for part in (others, test)]
        as_listed += [part.assign(fold=number) for part in (mixed, test)]
    honest = probed(APART, False, clips, features, pd.concat(apart))
    leaky = probed(AS_LISTED, True, clips, features, pd.concat(as_listed), APART)
    conditions = [honest, leaky]
    speaker = tested(pd.concat(apart))["speaker"].to_numpy()
    names = np.unique(speaker)
    for name in names if len(names) < MIN_SPEAKERS else []:
        alone = honest.part(f"{name}: {APART}", False, speaker == name)
        conditions += [alone, leaky.part(f"{name}: {AS_LISTED}", True, speaker == name, alone.name)]
    whole, part = CORPORA[split.corpus].clips, ""
    if len(clips) < WHOLE * whole:
        part = f" ({len(clips):,} clips of {whole:,}; {', '.join(in_order(emotions))})"
    table = table_of(f"{title_of(split.corpus)}{part}, {split.benchmark}'s split", clips, conditions)
    return table.assign(corpora=f"{split.corpus}-part" if part else split.corpus)


def measure_worth(
    table: pd.DataFrame,
    encoder: str | None = None,
    data_dir: str | Path | None = None,
    lists: Lists | None = None,
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """`worth` of each red split that shares speakers, of the corpora whose audio is at hand; `say` names the others.

    Args:
        table: the atlas.
        encoder: as of `feature_reader`; None: MFCC.
    """
    lists = lists or Lists.pinned()
    is_leaky = table["shared_speakers"].fillna(0).gt(0) & table["corpus"].isin([*CORPORA])
    read, tables = feature_reader(encoder), []
    for corpus, rows in table[is_leaky].groupby("corpus", sort=False):
        try:
            clips = load_available([corpus], data_dir, say).drop_duplicates("audio_hash").reset_index(drop=True)
        except SerError as error:
            say(f"{corpus} is left out: {error}")
            continue
        features = read(clips).reshape(len(clips), -1)
        for split in _splits(rows["benchmark"], corpus, lists):
            try:
                tables.append(worth(split, clips, features))
            except SerError as error:
                say(f"left out: {error}")
    model = f"logistic regression on {'MFCC' if encoder is None else Path(encoder).name}"
    return (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)).assign(model=model)


def _splits(benchmarks: Iterable[str], corpus: str, lists: Lists) -> list[PublishedSplit]:
    splits = [split for name in benchmarks for split in BENCHMARKS[name](lists)]
    return [split for split in splits if split.corpus == corpus and split.table is not None]


def _listed(split: PublishedSplit, clips: pd.DataFrame) -> pd.DataFrame:
    """The clips of the table that the split lists, once for each fold and subset, with the list's fold and subset."""
    if split.table is None:
        raise SerError(f"{split.benchmark} publishes no list of {split.corpus}.")
    names = [f"{split.corpus}/{PurePosixPath(path).stem}" for path in split.table["clip_id"]]
    listed = split.table[["fold", "subset"]].assign(clip_id=names).drop_duplicates()
    return listed.merge(clips, on="clip_id")


def _groups(listed: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """The speakers that are tested together: up to `GROUPS` groups of each fold."""
    groups = []
    for fold, rows in listed[listed["subset"] == "test"].groupby("fold"):
        speakers = shuffled(rows["speaker"].unique(), "groups")
        n_groups = min(GROUPS, len(speakers))
        groups += [(fold, speakers[number::n_groups]) for number in range(n_groups)]
    return groups


def write_table(table: pd.DataFrame, reports_dir: str | Path | None = None) -> Path:
    """Write the scores as CSV, whole or not at all."""
    return results.write_table(table, files.reports_path("atlas-worth.csv", reports_dir))


def read_table(reports_dir: str | Path | None = None) -> pd.DataFrame | None:
    """Read the scores; None where nothing was measured."""
    path = files.reports_path("atlas-worth.csv", reports_dir)
    return files.read_table(path).fillna({"against": "", "part_of": ""}) if path.is_file() else None
