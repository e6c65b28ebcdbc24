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
from pathlib import Path

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.corpora.base import Corpus
from ser_lib.corpora.csv_files import common_folder, first_of, near_equal, read_table
from ser_lib.corpora.labels import EMOTIONS, SYNONYMS, canonical

logger = logging.getLogger(__name__)

INVENT_NONE = "Do not invent a speaker for each file: the score would look honest, and would not be."
SEXES = {"f": "female", "w": "female", "woman": "female", "m": "male", "man": "male"}


def read_corpus(path: Path, name: str | None = None) -> Corpus:
    """Read a CSV as a corpus with that name, or the file's, without its audio; SerError for gaps and contradictions."""
    facts = _read_facts(path)
    return corpus_of(path, name or name_of(path), facts)


def corpus_of(source: Path, name: str, facts: pd.DataFrame) -> Corpus:
    """A corpus of a user's own files.

    Args:
        source: the CSV or the folder that lists them.
        facts: one row a file: path (absolute), emotion, speaker (None in all rows: not known), sex, intensity, sentence.
    """
    _check_names(source, facts)
    files = list(facts["path"])
    folder = common_folder(files, source)
    if folder is None:
        raise SerError(f"the files of {source} lie on several drives: put them on one.")
    facts, notice = facts.copy(), ""
    if facts["speaker"].isna().all():
        notice = f"Who speaks in {source.name} is not known: all its clips count as one person's."
        advice = "Add the column speaker, the same word in all rows of one person."
        if source.is_dir():
            advice = "Put each person's files into a folder of the person's name."
        refused = "protocols by speaker are refused, and random ones are marked as leaking."
        logger.warning(f"{notice} No score then holds for new voices: {refused} {advice} {INVENT_NONE}")
        facts["speaker"] = "unknown"
    # Without folders and ending, if these are not needed to distinguish the files.
    paths = [file.relative_to(folder) for file in files]
    namings = [file.stem for file in files], [str(path.with_suffix("").as_posix()) for path in paths], paths
    facts["name"] = next(list(map(str, names)) for names in namings if len(set(names)) == len(files))
    return Corpus(
        name=name,
        title=source.name,
        example=files[0].name,
        parse=facts.set_index("path").to_dict("index").get,
        clips=len(files),
        speakers=facts["speaker"].nunique(),
        licence="licence not stated",
        citation="A corpus of the user's own.",
        notice=notice,
        folder=folder,
        files=tuple(sorted(files)),
    )


def name_of(path: Path) -> str:
    """The corpus's name in clip ids: the file's name without its ending and what file names cannot hold everywhere.

    >>> name_of(Path("calls/My calls (2024).csv"))
    'My-calls-2024'
    """
    return re.sub(r"[^\w.-]+", "-", path.stem).strip("-.") or "own"


def _read_facts(path: Path) -> pd.DataFrame:
    """One row a file: path, speaker, sex, emotion, intensity, sentence; the index is its line in the CSV."""
    table = read_table(path, ["path", "emotion"])
    words, emotions = table["emotion"], table["emotion"].map(canonical)
    unknown = words[~emotions.isin(EMOTIONS)]
    if len(unknown):
        examples = [f"{word!r} in {_lines(unknown.index[unknown == word])}" for word in unknown.value_counts().index]
        words_known = f"Known are {', '.join(EMOTIONS)}, and as other words for them {', '.join(SYNONYMS)}."
        raise SerError(
            f"{path}: unknown emotions: {first_of(examples, 5, '; ')}. {words_known} Rename, or leave them out."
        )
    sex = table["sex"].fillna("unknown").str.lower().replace(SEXES)
    facts = table[["path", "speaker", "sentence"]].assign(emotion=emotions, sex=sex)
    facts["intensity"] = table["intensity"].fillna("unspecified")
    distinct = facts.drop_duplicates()
    contradictory = distinct["path"][distinct["path"].duplicated()].unique()
    if len(contradictory):
        examples = [f"{file.name} in {_lines(facts.index[facts['path'] == file])}" for file in contradictory]
        raise SerError(
            f"{path} has different values for the same file: {first_of(examples, 3, '; ')}. Keep one row of each."
        )
    if len(facts) > len(distinct):
        logger.warning("%s: %d rows repeat another and are ignored", path.name, len(facts) - len(distinct))
    return distinct.copy()


def _check_names(path: Path, facts: pd.DataFrame) -> None:
    """Refuse a CSV that names some speakers only; warn of names that may be invented or mean the same."""
    for alike in near_equal(facts["sentence"].dropna()):
        logger.warning("%s: the sentences %s count as different; are they one sentence?", path.name, alike)
    speakers = facts["speaker"]
    lines = speakers.index[speakers.isna()]
    if len(lines) == len(speakers):
        return
    if len(lines):
        missing = f"{path} does not say who speaks in {len(lines)} of {len(speakers)} files ({_lines(lines)})"
        raise SerError(f"{missing}: fill the column in, or leave those rows out. {INVENT_NONE}")
    for alike in near_equal(speakers):
        logger.warning("%s: %s count as different people; are they one person?", path.name, alike)
    names = set(speakers)
    if len(names) == len(speakers) > 1:
        invented = (
            "%s: each of its %d files has a speaker of its own. If nobody knows who speaks, leave the column out. %s"
        )
        logger.warning(invented, path.name, len(names), INVENT_NONE)


def _lines(numbers: Sequence[int]) -> str:
    """`line 3`, `lines 3, 4, 9, ...`"""
    return f"line{'s' * (len(numbers) > 1)} {first_of(numbers, 5)}"
