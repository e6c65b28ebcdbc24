"""A user's own corpus: a CSV that states the emotion and the speaker of each audio file.

    path,emotion,speaker,sex,sentence
    anna/01.wav,happiness,anna,f,doors

Columns   path (relative to the CSV's folder, or absolute), emotion (or label), speaker: one word for each person
Optional  sex, sentence, intensity; other columns are ignored
Emotions  those of `ser_lib.corpora.labels`, and the words that it maps to them
Speakers  without that column all clips count as one person's: nothing can then be said about new voices
"""

import logging
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.corpora.base import Corpus
from ser_lib.corpora.csv_files import common_folder, first_of, known, locate, read_table
from ser_lib.corpora.labels import EMOTIONS, SYNONYMS, canonical

logger = logging.getLogger(__name__)

INVENT_NONE = "Do not invent a speaker for each file: the score would look honest, and would not be."
SEXES = {"f": "female", "w": "female", "woman": "female", "m": "male", "man": "male"}


def read_corpus(path: Path) -> Corpus:
    """Read a CSV as a corpus with the file's name; the audio itself is not opened.

    Raises:
        SerError: it cannot be read as CSV, lacks a column, contains an unknown emotion or a missing file, states the
            speakers of some clips only, or contradicts itself about a file.
    """
    facts = _read_facts(path)
    missing = [file for file in facts.index if not file.is_file()]
    if missing:
        raise SerError(
            f"{len(missing)} of {len(facts)} files that {path} lists do not exist: {first_of(missing, 3)}. Paths in it "
            "are relative to its own folder, or absolute."
        )
    folder = common_folder(facts.index)
    if folder is None:
        raise SerError(f"the files of {path} lie on several drives: put them on one.")
    notice = ""
    if facts["speaker"].isna().all():
        notice = f"Who speaks in {path.name} is not known: all its clips count as one person's."
        logger.warning(
            "%s No score then holds for new voices: published and deduplicated run, and are marked as leaking; "
            "protocols by speaker are refused. Add the column speaker, the same word in all rows of one person. %s",
            notice,
            INVENT_NONE,
        )
        facts["speaker"] = "unknown"
    _check_speakers(path, facts)
    facts["name"] = _names(facts.index, folder)
    return Corpus(
        name=name_of(path),
        title=path.name,
        handle=None,
        example=facts.index[0].name,
        parse=facts.drop(columns="line").to_dict("index").get,
        clips=len(facts),
        speakers=facts["speaker"].nunique(),
        licence="licence not stated",
        citation="A corpus of the user's own.",
        url="",
        notice=notice,
        folder=folder,
        files=tuple(sorted(facts.index)),
    )


def name_of(path: Path) -> str:
    """The corpus's name in clip ids: the file's name without its ending and what file names cannot hold everywhere.

    >>> name_of(Path("calls/My calls (2024).csv"))
    'My-calls-2024'
    """
    return re.sub(r"[^\w.-]+", "-", path.stem).strip("-.") or "own"


def refuse_shared_speakers(corpora: Sequence[Corpus]) -> None:
    """Raise SerError where two CSV corpora name the same speaker, who would count as two people in a split."""
    speakers = {
        corpus.name: {_plain(facts["speaker"]) for facts in map(corpus.parse, corpus.files) if facts}
        for corpus in corpora
    }
    for first, second in combinations(speakers, 2):
        shared = sorted(speakers[first] & speakers[second])
        if shared:
            raise SerError(
                f"{first_of(shared, 3)} {'speak' if len(shared) > 1 else 'speaks'} in both {first} and {second}: put "
                "both lists into one CSV, or name them apart."
            )


def _read_facts(path: Path) -> pd.DataFrame:
    """One row a file: speaker, sex, emotion, intensity, sentence, and the number of its line in the CSV."""
    table = read_table(path, [("path",), ("emotion", "label")])
    words = table["emotion" if "emotion" in table else "label"].str.strip()
    emotions = words.map(canonical)
    unknown = words[~emotions.isin(EMOTIONS)]
    if len(unknown):
        examples = [
            f"{word!r} in {_lines(unknown.index[unknown == word])}" for word in unknown.value_counts(sort=True).index
        ]
        raise SerError(
            f"{path}: unknown emotions: {first_of(examples, 5, '; ')}. Known are {', '.join(EMOTIONS)}, and as other "
            f"words for them {', '.join(SYNONYMS)}. Rename them, or leave those rows out."
        )
    optional = table.reindex(columns=["speaker", "sex", "intensity", "sentence"], fill_value="").apply(known)
    facts = optional.assign(
        emotion=emotions,
        sex=optional["sex"].fillna("unknown").str.lower().replace(SEXES),
        intensity=optional["intensity"].fillna("unspecified"),
        file=[locate(name, path.parent) for name in table["path"]],
    )
    distinct = facts.drop_duplicates()
    contradictory = distinct["file"][distinct["file"].duplicated()].unique()
    if len(contradictory):
        examples = [f"{file.name} in {_lines(facts.index[facts['file'] == file])}" for file in contradictory]
        raise SerError(
            f"{path} has different values for the same file: {first_of(examples, 3, '; ')}. Keep one row of each file."
        )
    if len(facts) > len(distinct):
        logger.warning("%s: %d rows repeat another and are ignored", path.name, len(facts) - len(distinct))
    return distinct.rename_axis("line").reset_index().set_index("file")


def _check_speakers(path: Path, facts: pd.DataFrame) -> None:
    """Refuse a CSV that names some speakers only; warn of names that may be invented or mean one person."""
    lines = facts["line"][facts["speaker"].isna()]
    if len(lines):
        raise SerError(
            f"{path} does not say who speaks in {len(lines)} of {len(facts)} files ({_lines(lines)}), and a split by "
            "speaker could put the same person on both sides. Fill the column in, or leave those rows out. "
            f"{INVENT_NONE}"
        )
    speakers = pd.Series(sorted(set(facts["speaker"])))
    for spellings in speakers.groupby(speakers.map(_plain)).agg(list):
        if len(spellings) > 1:
            names = " and ".join(map(repr, spellings))
            logger.warning("%s: %s count as different people; is it one?", path.name, names)
    if len(speakers) == len(facts) > 1:
        invented = (
            "%s: each of its %d files has a speaker of its own. If nobody knows who speaks, leave the column out. %s"
        )
        logger.warning(invented, path.name, len(facts), INVENT_NONE)


def _plain(speaker: str) -> str:
    """The same text for all spellings of a name that differ only in capitals and spaces."""
    return " ".join(speaker.lower().split())


def _names(files: Sequence[Path], folder: Path) -> list[str]:
    """A name for each file: without its folders and ending, if these are not needed to distinguish the files."""
    stems = [file.stem for file in files]
    with_folders = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
    whole = [file.relative_to(folder).as_posix() for file in files]
    return next(names for names in (stems, with_folders, whole) if len(set(names)) == len(files))


def _lines(numbers: Sequence[int]) -> str:
    """`line 3`, `lines 3, 4, 9, ...`"""
    return f"line{'s' * (len(numbers) > 1)} {first_of(numbers, 5)}"
