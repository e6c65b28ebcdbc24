"""Enrolment: a few recordings of a speaker, without labels, from which a model learns how that voice differs from others.

    me = run.enrol(["clip-1.wav", "clip-2.wav", …])       # about eight clips of a few seconds, each in another mood
    run.predict("voice.wav", speaker=me)
    save(me)                                              # for `ser predict --speaker NAME`

What is kept is the mean of the model's inputs, some thousand numbers, how many clips it is of, and which model it is for. The
audio cannot be had back from it, and none is stored.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from ser_lib.audio.reading import Recording
from ser_lib.audio.windows import Pieces
from ser_lib.common.errors import SerError
from ser_lib.common.files import replacing
from ser_lib.inference.predict import Source, named
from ser_lib.inference.predictor import Predictor
from ser_lib.models.profiles import Profile, profile_of

SUFFIX = ".safetensors"
# Fewer clips tell a voice from a mood badly.
FEW = 4


@dataclass(frozen=True)
class Speaker:
    """A speaker whom a model knows: the profile, of how many clips it is, and the identity of the model."""

    name: str
    profile: Profile
    clips: int
    model: str
    # Recordings that could not be used, with the reason.
    refused: tuple[tuple[str, str], ...] = ()


def speakers_dir() -> Path:
    """The folder of all saved speakers: `$SER_SPEAKERS_DIR`, else `~/.ser_lib/speakers`."""
    return Path(os.environ.get("SER_SPEAKERS_DIR") or Path.home() / ".ser_lib" / "speakers")


def enrol(
    predictor: Predictor, sources: Source | Iterable[Source], sampling_rate: int | None = None, name: str = ""
) -> Speaker:
    """What a model keeps of a speaker from recordings of that speaker alone, without labels.

    The clips should differ in mood: of one predicted emotion, two clips count in full. A long recording counts as the
    windows of it that hold speech.

    Args:
        sources, sampling_rate: as of `ser_lib.inference.predict.predict`.

    Raises:
        SerError: the model cannot use a profile, or no recording can be used.
    """
    return read_clips(predictor, sources, sampling_rate).speaker(predictor, name)


@dataclass(frozen=True)
class EnrolmentClips:
    """A model's inputs for clips of a speaker, and the emotions that it predicts for them; `+` adds further clips."""

    inputs: tuple[np.ndarray, ...] = ()
    predicted: tuple[int, ...] = ()
    # Recordings that could not be used, with the reason.
    refused: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: "EnrolmentClips") -> "EnrolmentClips":
        return EnrolmentClips(
            self.inputs + other.inputs, self.predicted + other.predicted, self.refused + other.refused
        )

    def speaker(self, predictor: Predictor, name: str = "") -> Speaker:
        """The speaker of all these clips; SerError where there are none."""
        if not self.inputs:
            reasons = "; ".join(reason for _, reason in self.refused) or "no audio file was given"
            raise SerError(f"there is no recording to enrol: {reasons}")
        profile = profile_of(np.stack(self.inputs), np.array(self.predicted))
        return Speaker(name, profile, len(self.inputs), predictor.identity, self.refused)


def read_clips(
    predictor: Predictor, sources: Source | Iterable[Source], sampling_rate: int | None = None
) -> EnrolmentClips:
    """Read clips of a speaker for enrolment; the arguments are those of `enrol`.

    Raises:
        SerError: the model cannot use a profile.
    """
    if not predictor.takes_profile:
        raise SerError(f"the model of {predictor.name} cannot use clips of a speaker: take one of speech-emotion.")
    settings, clips = predictor.audio.model_dump(), EnrolmentClips()
    for shown_name, source in named(sources, sampling_rate):
        try:
            clips += _like_speech(predictor, list(Pieces(source, settings)), shown_name)
        except SerError as error:
            clips += EnrolmentClips(refused=((shown_name, str(error)),))
    return clips


def _like_speech(predictor: Predictor, pieces: list[Recording], shown_name: str) -> EnrolmentClips:
    """The pieces of one recording that are like speech; SerError where there are none."""
    answers = predictor.answers(pieces)
    if not answers.is_speech.any():
        raise SerError(f"{shown_name}: it sounds unlike speech: record a voice alone, near the microphone.")
    rows = np.flatnonzero(answers.is_speech).tolist()
    predicted = answers.probabilities.argmax(axis=1)
    return EnrolmentClips(tuple(answers.inputs[row] for row in rows), tuple(int(predicted[row]) for row in rows))


def save(speaker: Speaker) -> Path:
    """Keep a speaker under its name, for `load`; one of the same name is replaced."""
    path = _path(speaker.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"count": str(speaker.profile.count), "clips": str(speaker.clips), "model": speaker.model}
    with replacing(path) as part:
        part.write_bytes(safetensors.numpy.save({"mean": speaker.profile.mean}, about))
    return path


def load(name: str) -> Speaker:
    """The saved speaker of that name; SerError where there is none, or its file is damaged."""
    path = _path(name)
    if not path.is_file():
        others = ", ".join(sorted(file.stem for file in path.parent.glob(f"*{SUFFIX}"))) or "nobody yet"
        raise SerError(
            f"no speaker {name!r} is enrolled (known: {others}): `ser enrol clip-1.wav clip-2.wav … --speaker {name}` "
            "takes about eight clips of that voice, each in another mood."
        )
    try:
        with safe_open(path, "np") as file:
            about, mean = file.metadata(), file.get_tensor("mean")
        profile = Profile(np.asarray(mean, np.float32), float(about["count"]))
        return Speaker(name, profile, int(about["clips"]), about["model"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise SerError(f"{path} is damaged ({error}): enrol {name} again.") from error


def for_speaker(predictor: Predictor, speaker: Speaker | str) -> Predictor:
    """The predictor for a speaker, or for the saved one of a name; SerError where it was enrolled with another model."""
    if isinstance(speaker, str):
        speaker = load(speaker)
    if speaker.model != predictor.identity:
        who = f"speaker {speaker.name}" if speaker.name else "the speaker"
        raise SerError(f"{who} was enrolled with another model than that of {predictor.name}: enrol the voice again.")
    return predictor.with_profile(speaker.profile)


def _path(name: str) -> Path:
    if not re.fullmatch(r"[\w][\w .-]{0,63}", name):
        raise SerError(f"a speaker's name has letters, digits, spaces, dots and dashes, at most 64, not {name!r}.")
    return speakers_dir() / f"{name}{SUFFIX}"
