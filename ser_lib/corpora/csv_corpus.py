"""A corpus of the reader's own: a CSV that says of each file which emotion is heard in it, and who speaks.

    path,emotion,speaker,sex,sentence
    anna/01.wav,happiness,anna,f,doors

Columns   path (relative to the CSV's folder, or absolute), emotion (or label), speaker: a word a person
Optional  sex, sentence, intensity; any other column is passed over
Emotions  those of `ser_lib.corpora.labels`, and the words that it maps to them
Speakers  without that column all clips count as one person's: nothing can then be said about new voices
"""

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from ser_lib.common.errors import SerError
from ser_lib.corpora.base import Corpus
from ser_lib.corpora.csv_files import cell, common_folder, locate, read_rows
from ser_lib.corpora.labels import EMOTIONS, SYNONYMS, to_emotion

logger = logging.getLogger(__name__)

NEEDED = [("path",), ("emotion", "label")]
UNKNOWN = "unknown"  # the speaker of all clips where none is named
INVENT_NONE = "Do not invent a speaker for each file: the score would look honest, and would not be."
SEXES = {"f": "female", "w": "female", "woman": "female", "m": "male", "man": "male"}


def read_corpus(path: Path) -> Corpus:
    """Read a CSV as a corpus, named like the file; the audio itself is not opened.

    Raises:
        SerError: it cannot be read as CSV, lacks a column, names an emotion that is unknown or a file that is not
            there, names the speakers of some clips only, or contradicts itself about a file.
    """
    facts, lines = _read_facts(path)
    missing = [file for file in facts if not file.is_file()]
    if missing:
        told = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
        raise SerError(
            f"{len(missing)} of {len(facts)} files that {path} lists are not there: {told}. Paths in it are relative "
            "to its own folder, or absolute."
        )
    folder = common_folder(facts)
    if folder is None:
        raise SerError(f"the files of {path} lie on several drives: put them on one.")
    if all(row["speaker"] is None for row in facts.values()):
        notice = f"Who speaks in {path.name} is not known: all its clips count as one person's."
        logger.warning(
            "%s No score then holds for new voices: published and deduplicated run, and are marked as leaking; "
            "protocols by speaker are refused. Add the column speaker, the same word in all rows of one person. %s",
            notice,
            INVENT_NONE,
        )
        for row in facts.values():
            row["speaker"] = UNKNOWN
    else:
        notice = ""
        _check_speakers(path, facts, lines)
    names = _names(list(facts), folder)
    for file, row in facts.items():
        row["name"] = names[file]
    return Corpus(
        name=name_of(path),
        title=path.name,
        handle=None,
        example=next(iter(facts)).name,
        parse=facts.get,
        clips=len(facts),
        speakers=len({row["speaker"] for row in facts.values()}),
        licence="licence not stated",
        citation="A corpus of the user's own.",
        url="",
        notice=notice,
        folder=folder,
        files=tuple(sorted(facts)),
    )


def name_of(path: Path) -> str:
    """What clips call the corpus: the file's name without its ending, less what could not stand in a file's name.

    >>> name_of(Path("calls/My calls (2024).csv"))
    'My-calls-2024'
    """
    return re.sub(r"[^\w.-]+", "-", path.stem).strip("-.") or "own"


def refuse_shared_speakers(corpora: Sequence[Corpus]) -> None:
    """Raise SerError where two lists name the same speaker, who would count as two people, one on each side of a split."""
    speakers = {
        corpus.name: {_plain(corpus.parse(file)["speaker"]) for file in corpus.files}  # UNKNOWN is one too
        for corpus in corpora
    }
    for first, second in combinations(speakers, 2):
        shared = sorted(speakers[first] & speakers[second])
        if shared:
            told = ", ".join(shared[:3]) + (", ..." if len(shared) > 3 else "")
            raise SerError(
                f"{told} {'speak' if len(shared) > 1 else 'speaks'} in both {first} and {second}: put both lists into "
                "one CSV, or name them apart."
            )


def _read_facts(path: Path) -> tuple[dict[Path, dict], dict[Path, list[int]]]:
    """What the CSV says of each file, and in which lines."""
    facts: dict[Path, dict] = {}
    lines, strange = defaultdict(list), defaultdict(list)
    contradicted = set()
    for line, values in read_rows(path, NEEDED):
        word = values.get("emotion", values.get("label")).strip()
        try:
            emotion = to_emotion(word)
        except SerError:
            strange[word].append(line)
            continue
        sex = (cell(values, "sex") or UNKNOWN).lower()
        row = {
            "speaker": cell(values, "speaker"),
            "sex": SEXES.get(sex, sex),
            "emotion": emotion,
            "intensity": cell(values, "intensity") or "unspecified",
            "sentence": cell(values, "sentence"),
        }
        file = locate(values["path"], path.parent)
        if facts.setdefault(file, row) != row:
            contradicted.add(file)
        lines[file].append(line)
    if strange:
        words = sorted(strange, key=lambda word: -len(strange[word]))
        told = "; ".join(f"{word!r} in {_lines(strange[word])}" for word in words[:5])
        others = f"; and {len(words) - 5} other words" if len(words) > 5 else ""
        raise SerError(
            f"{path}: unknown emotions: {told}{others}. Known are {', '.join(EMOTIONS)}, and as other words for them "
            f"{', '.join(SYNONYMS)}. Rename them, or leave those rows out."
        )
    if contradicted:
        told = "; ".join(f"{file.name} in {_lines(lines[file])}" for file in sorted(contradicted)[:3])
        raise SerError(f"{path} says different things of the same file: {told}. Keep one row of each file.")
    repeated = sum(map(len, lines.values())) - len(facts)
    if repeated:
        logger.warning("%s: %d rows repeat another and are passed over", path.name, repeated)
    return facts, lines


def _check_speakers(path: Path, facts: dict[Path, dict], lines: dict[Path, list[int]]) -> None:
    """Refuse speakers that only some rows name, and ask about names that may be invented, or one person's."""
    without = [file for file, row in facts.items() if row["speaker"] is None]
    if without:
        rows = _lines(sorted(line for file in without for line in lines[file]))
        raise SerError(
            f"{path} does not say who speaks in {len(without)} of {len(facts)} files ({rows}), and a split by speaker "
            f"could put the same person on both sides. Fill the column in, or leave those rows out. {INVENT_NONE}"
        )
    speakers = {row["speaker"] for row in facts.values()}
    alike = defaultdict(list)
    for speaker in sorted(speakers):
        alike[_plain(speaker)].append(speaker)
    for spellings in alike.values():
        if len(spellings) > 1:
            names = " and ".join(map(repr, spellings))
            logger.warning("%s: %s count as different people; is it one?", path.name, names)
    if len(speakers) == len(facts) > 1:
        logger.warning(
            "%s: each of its %d files has a speaker of its own. If nobody knows who speaks, leave the column out. %s",
            path.name,
            len(facts),
            INVENT_NONE,
        )


def _plain(speaker: str) -> str:
    """The same for all spellings of a name that differ in capitals and spaces alone."""
    return " ".join(speaker.lower().split())


def _names(files: list[Path], folder: Path) -> dict[Path, str]:
    """A name for each file: without its folders and ending, where that tells all of them apart."""
    below = {file: file.relative_to(folder) for file in files}
    plain = {file: file.stem for file in files}
    with_folders = {file: below[file].with_name(file.stem).as_posix() for file in files}
    whole = {file: below[file].as_posix() for file in files}
    return next(names for names in (plain, with_folders, whole) if len(set(names.values())) == len(files))


def _lines(numbers: list[int]) -> str:
    """`line 3`, `lines 3, 4, 9, ...`"""
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f"line {shown}" if len(numbers) == 1 else f"lines {shown}"
