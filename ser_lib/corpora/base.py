"""What a corpus is: its source, how its file names are read, and how many clips it must have."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ser_lib.common.errors import SerError


@dataclass(frozen=True)
class Corpus:
    """One corpus. Its module's docstring is its data card; this object holds what code reads.

    `parse` reads a file's path, never the audio, and returns its `speaker` (without the prefix of the corpus), `sex`,
    `emotion`, `intensity` and `sentence` (None where the name does not state it), or None where the name is not one of
    this corpus. Where files in several folders have the same name, it also returns a `name` for the clip's id.
    """

    name: str  # "ravdess": the prefix of its clip ids and speakers
    title: str  # "RAVDESS (speech, audio only)"
    example: str  # a file name as it must look, for error messages
    parse: Callable[[Path], dict | None]
    clips: int  # distinct file names in the whole corpus
    speakers: int
    licence: str
    citation: str
    url: str = ""
    handle: str | None = None  # kagglehub handle that pins its version; None: never downloaded
    human_accuracy: float | None = None  # of listeners who name the emotion from the audio alone
    shareable: bool = False  # may its audio be embedded in a report that is passed on?
    notice: str = ""  # what a reader of any score on it must know first
    folder: Path | None = None  # its place, if it is bundled with the repository or listed by a CSV
    files: tuple[Path, ...] = field(default=(), repr=False)  # if a CSV lists them; else all in the folder

    def facts_of(self, file: Path, strict: bool = True) -> dict | None:
        """What `parse` reads from a file's name; SerError where it raises, or with `strict=False` None."""
        try:
            return self.parse(file)
        # `parse` may be code of other people: its errors must not stop the work on other corpora.
        except Exception as error:
            if not strict:
                return None
            text = f"`parse` of the corpus {self.name} fails on the name of {file}: {type(error).__name__}: {error}"
            raise SerError(f"{text}. Correct it in the module of the corpus.") from error
