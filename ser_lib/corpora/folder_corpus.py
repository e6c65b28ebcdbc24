"""A user's own corpus: a folder whose names state the emotion, and mostly the speaker, of each recording.

    recordings/anna/happy/01.wav      PERSON/EMOTION/*.wav
    recordings/anna/happy-01.wav      PERSON/EMOTION-1.wav
    recordings/happy/01.wav           EMOTION/*.wav: who speaks is not known

What was understood is logged as a table. Where names can be read in several ways, a person at a terminal is asked;
elsewhere the folder is refused, and a list of the files (`ser corpora FOLDER --csv my.csv`) is to be corrected and used.
A folder with a `metadata.csv`, as the Hugging Face Hub has them, is read as that list.
"""

import logging
import re
import sys
from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ser_lib.audio.reading import expand, with_utf8_names
from ser_lib.common.errors import SerError
from ser_lib.common.files import write_csv
from ser_lib.corpora import csv_corpus
from ser_lib.corpora.base import Corpus
from ser_lib.corpora.csv_files import first_of
from ser_lib.corpora.labels import EMOTIONS, canonical

logger = logging.getLogger(__name__)

METADATA = "metadata.csv"
WORD = re.compile(r"[^\W\d_]+|\d+")
# Names of folders that say nothing about who speaks.
GENERIC = {"audio", "clips", "data", "dataset", "files", "recordings", "sounds", "speech", "voices", "wav", "wavs"}
GENERIC |= {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
SHOWN_SPEAKERS = 12
_confirmed: set[Hashable] = set()
_shown: set[Hashable] = set()


class Part(NamedTuple):
    """One folder's name, or a file's name without its ending: the last emotion in it, and the words before that."""

    emotion: str | None
    before: tuple[str, ...]
    words: tuple[str, ...]


def part_of(name: str) -> Part:
    """The last emotion of a name, since a person may be called Joy, and its words.

    >>> part_of("anna_pleasant-surprise-01")
    Part(emotion='surprise', before=('anna',), words=('anna', 'pleasant', 'surprise', '01'))
    """
    words = tuple(WORD.findall(name))
    for start in reversed(range(len(words))):
        for first in (start - 1, start):
            emotion = canonical(" ".join(words[first : start + 1])) if first >= 0 else ""
            if emotion in EMOTIONS:
                return Part(emotion, words[:first], words)
    return Part(None, (), words)


class Reading(NamedTuple):
    """What the names of a folder's files say, and why that is not certain, if it is not."""

    # As `{speaker}/{emotion}-….wav`, for people.
    layout: str
    # path, emotion, speaker (None: not known)
    facts: pd.DataFrame
    doubts: list[str]


def read_corpus(folder: Path) -> Corpus:
    """Read a folder as a corpus of the folder's name, without its audio.

    Raises:
        SerError: no name states an emotion; or names can be read in several ways, and nobody at a terminal said that the
            reading shown is right.
    """
    name = csv_corpus.name_of(folder)
    if (folder / METADATA).is_file():
        return csv_corpus.read_corpus(folder / METADATA, name)
    reading = read_names(folder)
    key = (folder, tuple(reading.facts["path"]))
    text = describe(folder, reading)
    if reading.doubts and key not in _confirmed:
        _confirm(folder, f"{text}\n{' '.join(reading.doubts)}")
        _confirmed.add(key)
    elif key not in _shown:
        logger.warning("%s", text)
    _shown.add(key)
    sure = reading.facts.assign(sentence=None, sex="unknown", intensity="unspecified")
    return csv_corpus.corpus_of(folder, name, sure)


def read_names(folder: Path) -> Reading:
    """Read the names of a folder's files; SerError where no file's name or folder states an emotion."""
    files = with_utf8_names(expand(folder))
    if not files:
        raise SerError(f"{folder} holds no audio.")
    # The last part of each is the file's name.
    parts = {file: [part_of(name) for name in _names(file, folder)] for file in files}
    depth = max(map(len, parts.values())) - 1
    levels = [*range(depth), -1]
    emotions: dict[int, dict[Path, str]] = {level: {} for level in levels}
    for level, file in product(levels, files):
        part = _at(parts[file], level)
        if part and part.emotion:
            emotions[level][file] = part.emotion
    order = {level: (len(found), len(set(found.values()))) for level, found in emotions.items()}
    best = max(levels, key=lambda level: (order[level], level == -1, level))
    if not emotions[best]:
        _refuse_known_corpus(files)
        raise SerError(
            f"{folder}: no folder and no file name states an emotion, such as {files[0].relative_to(folder)}. Expected "
            f"PERSON/EMOTION/*.wav, PERSON/EMOTION-1.wav or EMOTION/*.wav, with the words {', '.join(EMOTIONS)}. For other "
            "names, list the files in a CSV with the columns path, emotion and speaker."
        )
    known = [file for file in files if file in emotions[best]]
    doubts = []
    if len(known) < len(files):
        left_out = [str(file.relative_to(folder)) for file in files if file not in emotions[best]]
        logger.warning("%s: %d of %d files left out, whose names state no emotion there: %s",
                       folder.name, len(left_out), len(files), first_of(left_out, 5))  # fmt: skip
    for level in levels:
        differing = [file for file in known if emotions[level].get(file, emotions[best][file]) != emotions[best][file]]
        if differing and len(emotions[level]) == len(known):
            names = differing[0].relative_to(folder)
            doubts.append(
                f"Two parts of a path name an emotion, such as {names}; the emotion is taken from {_called(best)}."
            )
    speakers, speaker_place, doubt = _speakers(known, [_names(file, folder) for file in known], parts, best, depth)
    layout = _layout(best, speaker_place, depth)
    facts = pd.DataFrame({"path": known, "emotion": [emotions[best][file] for file in known], "speaker": speakers})
    return Reading(layout, facts.astype({"speaker": object}), [*doubts, *filter(None, [doubt])])


def write_list(folder: Path, csv: Path) -> Path:
    """Write what was understood of a folder as a CSV that can be corrected, and then used in its place."""
    reading = read_names(folder.absolute())
    logger.warning("%s", "\n".join([describe(folder.absolute(), reading), *reading.doubts]))
    base = csv.absolute().parent
    facts = reading.facts.assign(
        path=[str(path.relative_to(base) if path.is_relative_to(base) else path) for path in reading.facts["path"]]
    )
    return write_csv(facts.dropna(axis=1, how="all"), csv)


def describe(folder: Path, reading: Reading) -> str:
    """What was understood, as a table of clips for each speaker and emotion."""
    facts = reading.facts.fillna({"speaker": "(not known)"})
    table = pd.crosstab(facts["speaker"], facts["emotion"])
    table = table[[emotion for emotion in EMOTIONS if emotion in table]].rename_axis(index=None, columns=None)
    n_more = len(table) - SHOWN_SPEAKERS
    more = f"\n... and {n_more} more speakers" if n_more > 0 else ""
    known = reading.facts["speaker"].nunique()
    people = f"{known} speaker{'s' * (known != 1)}" if known else "who speaks is not known"
    head = f"{folder.name}: {len(facts)} files understood as {reading.layout}, {people}:"
    return f"{head}\n{table.head(SHOWN_SPEAKERS).to_string()}{more}"


def _refuse_known_corpus(files: list[Path]) -> None:
    """Raise SerError where the names are those of a corpus of the package, which reads more from them."""
    from ser_lib.corpora import CORPORA  # which imports this module

    for corpus in CORPORA.values():
        if all(corpus.parse(file) for file in files):
            raise SerError(
                f"the names of {files[0].parent} are those of {corpus.title}: name the corpus {corpus.name}, and put its files "
                f"under DIR/{corpus.name} with --data-dir DIR."
            )


def _confirm(folder: Path, text: str) -> None:
    """Ask a person at a terminal whether a doubtful reading is right; SerError where nobody says so."""
    advice = (
        f"Write what was understood with `ser corpora {folder.name} --csv my.csv`, correct that list, and use it in place "
        "of the folder."
    )
    if sys.stdin is not None and sys.stdin.isatty():
        print(text, file=sys.stderr)
        answer = input("Is this right? [y/N] ").strip().lower()
        if answer in ("y", "yes"):
            return
        raise SerError(f"{folder} is not used. {advice}")
    raise SerError(f"{text}\nThis may be wrong, and there is no terminal to ask. {advice}")


def _names(file: Path, folder: Path) -> Sequence[str]:
    relative = file.relative_to(folder)
    return [*relative.parts[:-1], relative.stem]


def _at(parts: list[Part], level: int) -> Part | None:
    """The folder of a level from the top, or the file's name (-1); None where the file lies less deep."""
    if level == -1:
        return parts[-1]
    return parts[level] if level < len(parts) - 1 else None


def _called(level: int) -> str:
    return "the file's name" if level == -1 else f"folder {level + 1}"


def _speakers(
    files: list[Path], names: list[Sequence[str]], parts: dict[Path, list[Part]], best: int, depth: int
) -> tuple[list[str | None], int | tuple[str, int] | None, str]:
    """The speaker of each file, the place of its name (a folder's level, the words at a level, or None), and a doubt."""

    def at(level: int) -> list[str] | None:
        """The name at a level, of all files; None where some lie less deep, or the name says nothing."""
        at_level = [path_names[level] if level < len(path_names) - 1 else None for path_names in names]
        if any(name is None or name.lower() in GENERIC for name in at_level):
            return None
        return [str(name) for name in at_level]

    # A folder that repeats the emotion of the file's name does not state the speaker.
    repeats = {level for level in range(depth)
               if all(part_of(path_names[level]).emotion == parts[file][best].emotion
                      for file, path_names in zip(files, names, strict=True)
                      if level < len(path_names) - 1)}  # fmt: skip
    folders = {level: found for level in range(depth) if level not in {best, *repeats} and (found := at(level))}
    varying = {level: found for level, found in folders.items() if len(set(found)) > 1}
    candidates = varying or folders
    if len(candidates) == 1:
        ((level, found),) = candidates.items()
        return list(found), level, ""
    if candidates:
        # The folder next to the emotion's, of those above it.
        level = max((level for level in candidates if best == -1 or level < best), default=min(candidates))
        others = [f"{_called(other)} ({first_of(sorted(set(found)), 3)})" for other, found in candidates.items()]
        doubt = f"The speaker may be {' or '.join(others)}; {_called(level)} is taken."
        return list(candidates[level]), level, doubt
    # A word before the emotion, or at the start of the file's name.
    for level in dict.fromkeys((best, -1)):
        at_level = [_at(parts[file], level) or Part(None, (), ()) for file in files]
        words = [" ".join(part.before if level == best else part.words[:1]) for part in at_level]
        emotions_of: dict[str, set] = defaultdict(set)
        for file, word in zip(files, words, strict=True):
            emotions_of[word].add(getattr(_at(parts[file], best), "emotion", None))
        # What says "happy" where the emotion is happy, or is said with one emotion alone, is no person.
        n_shared = sum(len(emotions) > 1 for emotions in emotions_of.values())
        is_number = all(word.isdigit() for word in words)
        if all(words) and not is_number and len(emotions_of) > 1 and 2 * n_shared > len(emotions_of):
            doubt = (
                f"The speaker may be the word in {_called(level)} ({first_of(sorted(emotions_of), 3)}), or be unknown."
            )
            return list(words), ("words", level), doubt
    return [None] * len(files), None, ""


def _layout(emotion: int, speaker: int | tuple[str, int] | None, depth: int) -> str:
    """The understood layout, such as `PERSON/EMOTION/*.wav`."""
    levels = ["*"] * depth + ["*"]
    levels[emotion] = "EMOTION"
    if isinstance(speaker, tuple):
        level = speaker[1]
        levels[level] = "PERSON-EMOTION" if level == emotion else "PERSON"
    elif speaker is not None:
        levels[speaker] = "PERSON"
    levels[-1] = levels[-1].removesuffix("*") + "*.wav"
    return "/".join(levels)
