"""The reader's own recordings in a notebook, from the microphone, an upload or a path; bundled clips until then."""

import base64
import binascii
import importlib
import io
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from ser_lib.audio import reading
from ser_lib.audio.reading import Recording, decode_audible
from ser_lib.common.errors import SerError
from ser_lib.corpora.clips import load_clips
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.inference.run import Run
from ser_lib.reports.rendering import render

SAMPLING_RATE = 32000  # Hz, of recordings: no recipe reads more
MAX_SECONDS = 30
FILE_NAME = "recording.wav"


def read_source(source: str | Path | None) -> list[Recording] | None:
    """The recordings of whoever runs the notebook.

    Args:
        source: "microphone"; "upload", from the reader's computer to Colab; the path of a file or of a folder; or None.

    Returns:
        at least one recording; None where there is none yet: `source` is None, or the page has a recorder that cannot
        pass its recording to Python, as outside of Colab, and a printed line says what to do.

    Raises:
        SerError: the recorder returned no recording, or a file cannot be read or is silent.
    """
    if source is None:
        return None
    if source == "microphone":
        recording = from_microphone()
        return None if recording is None else [recording]
    if source == "upload":
        return [decode_audible(path) for path in uploaded()]
    path = Path(source).expanduser()
    files = reading.files_in(path) if path.is_dir() else [path]
    if not files:
        raise SerError(f"{path}: no audio in this folder. Expected {' '.join(reading.SUFFIXES)}.")
    return [decode_audible(file)._replace(name=file.name) for file in files]


def from_microphone(max_seconds: float = MAX_SECONDS) -> Recording | None:
    """Display a recorder. In Colab, wait for the recording; elsewhere print what to do next, and return None.

    Raises:
        SerError: the browser returned no recording, with its reason; or the recording is too short, or silent.
    """
    from IPython.display import HTML, display

    display(HTML(recorder(max_seconds)))
    if not in_colab():
        print(
            f"Record, save {FILE_NAME} beside this notebook, and run this cell again with source = {FILE_NAME!r}.\n"
            "Until then, the cells below show the bundled clips."
        )
        return None
    return recording_of(importlib.import_module("google.colab.output").eval_js("serRecording"))


def uploaded() -> list[Path]:
    """Ask for files in Colab, which saves them beside the notebook.

    Raises:
        SerError: this is not Colab, or no file was chosen.
    """
    if not in_colab():
        raise SerError('"upload" works only in Colab. Here, put the file beside the notebook, and give its path.')
    files = [Path(name) for name in importlib.import_module("google.colab.files").upload()]
    if not files:
        raise SerError("no file was chosen. Run the cell again, and choose at least one.")
    return files


def in_colab() -> bool:
    return "google.colab" in sys.modules


def recorder(max_seconds: float = MAX_SECONDS) -> str:
    """HTML of a recorder. Its script sets `window.serRecording` to a promise of what `recording_of` takes.

    The browser encodes the WAV and sends it nowhere; only Colab fetches it, to the computer that runs Python. Noise
    suppression and automatic gain are switched off, since training clips went through neither.
    """
    return render(
        "recorder.html.j2",
        element=f"recorder-{uuid.uuid4().hex}",  # one page may have several recorders
        file_name=FILE_NAME,
        max_seconds=float(max_seconds),
        sampling_rate=SAMPLING_RATE,
    )


def recording_of(answer: dict) -> Recording:
    """The recorder's answer as a recording.

    Args:
        answer: {"wav": base64 of a WAV file}, or {"error": the reason why there is none}.

    Raises:
        SerError: there is no recording; or it is no WAV, shorter than `ser_lib.audio.reading.MIN_SECONDS`, or silent.
    """
    if "error" in answer:
        raise SerError(f"nothing was recorded. {answer['error']}")
    try:
        file = io.BytesIO(base64.b64decode(answer["wav"], validate=True))
        samples, sampling_rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (KeyError, TypeError, binascii.Error, soundfile.SoundFileError) as error:
        raise SerError(
            "the recorder returned no WAV file. Record again, or save the recording and give its path."
        ) from error
    if not len(samples):
        raise SerError("the recording is empty. Speak, and then press Stop.")
    return decode_audible(Recording(samples, sampling_rate, "your recording"))


def bundled_clips(run: Run) -> list[Recording]:
    """One clip of the bundled corpus for each emotion of the run, until the reader has recordings.

    The voices are synthetic. If the run was trained on that corpus, these are test clips of its first fold, the fold of
    the model that `Run.predictor` loads.
    """
    clips = load_clips("sample")
    tested = run.split.loc[(run.split["fold"] == 0) & (run.split["subset"] == "test"), "clip_id"]
    if clips["clip_id"].isin(tested).any():
        clips = clips[clips["clip_id"].isin(tested)]
    clips = clips[clips["emotion"].isin(run.emotions)].drop_duplicates("emotion")
    clips = clips.sort_values("emotion", key=lambda emotion: emotion.map(EMOTIONS.index))
    return [
        decode_audible(row.path)._replace(name=f"{row.emotion}, {row.speaker}") for row in clips.itertuples(index=False)
    ]


def joined(recordings: Sequence[Recording], pause_seconds: float = 3.0) -> Recording:
    """All recordings in one, with silence between them, in one channel at the sampling rate of the first.

    A pause of 3 s is as long as most windows of `ser_lib.inference.streaming`: few windows cover two recordings.
    """
    rate = recordings[0].sampling_rate
    pause = np.zeros(round(pause_seconds * rate), np.float32)
    parts = [part for recording in recordings for part in (reading.load(recording, rate)[0], pause)]
    name = f"{len(recordings)} recordings" if len(recordings) > 1 else str(recordings[0])
    return Recording(np.concatenate(parts[:-1]), rate, name)
