"""What a corpus is: where it comes from, how its file names are read, and what must be there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Corpus:
    """One corpus. Its module's docstring is its data card; this object is the part that code reads.

    `parse` takes a file's path and returns its `speaker`, `sex`, `emotion`, `intensity` and `sentence`
    (speaker without the corpus prefix, which the clip table adds; sentence None where the name does not tell
    what is said), or None where the name is not one of
    this corpus. It reads the name only, never the audio. Where the files' own names do not tell them apart, it gives
    a `name` too, which stands in the clip's id.
    """

    name: str  # "ravdess": the prefix of its clip ids and speakers
    title: str  # "RAVDESS (speech, audio only)"
    handle: str | None  # kagglehub handle that pins its version; None: never downloaded
    example: str  # a file name as it must look, for error messages
    parse: Callable[[Path], dict | None]
    clips: int  # distinct file names in the whole corpus
    speakers: int
    licence: str
    citation: str
    url: str
    human_accuracy: float | None = None  # of listeners who name the emotion from the audio alone
    shareable: bool = False  # may its audio be embedded in a report that is passed on?
    notice: str = ""  # what a reader of any score on it must know first
    folder: Path | None = None  # where it is, if bundled with the repository or the reader's own
    files: tuple[Path, ...] = field(
        default=(), repr=False
    )  # its files, where a CSV lists them; else they are looked for
