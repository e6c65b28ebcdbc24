"""One's own voice in a notebook: a recorder in the page, an upload, a path; and bundled clips where there is none yet."""

import base64
import binascii
import importlib
import importlib.resources
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

TEMPLATES = importlib.resources.files("ser_lib.reports") / "templates"
SAMPLING_RATE = 32000  # Hz, of what is recorded: no recipe reads more
LONGEST_SECONDS = 30
FILE_NAME = "recording.wav"


def own_audio(source: str | Path | None) -> list[Recording] | None:
    """The audio of whoever runs the notebook.

    Args:
        source: "microphone"; "upload", from one's computer to Colab; the path of a file or of a folder; or None.

    Returns:
        one recording or more; None where there is none yet: `source` is None, or a recorder was put into a page
        that cannot hand its recording to Python, as outside of Colab, and says how to go on.

    Raises:
        SerError: no recording came of it, an audio file cannot be read, or it is silent.
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


def from_microphone(longest_seconds: float = LONGEST_SECONDS) -> Recording | None:
    """Put a recorder into the page. In Colab, wait for the recording; elsewhere say where to put it, and return None.

    Raises:
        SerError: the browser gave none, and says why; or it is too short, or silent.
    """
    from IPython.display import HTML, display

    display(HTML(recorder(longest_seconds)))
    if not in_colab():
        print(
            f"Record, save {FILE_NAME} beside this notebook, and run this cell again with own = {FILE_NAME!r}.\n"
            "Until then, the cells below show the bundled clips."
        )
        return None
    return recording_of(importlib.import_module("google.colab.output").eval_js("serRecording"))


def uploaded() -> list[Path]:
    """Ask for files in Colab, which lie beside the notebook then.

    Raises:
        SerError: this is not Colab, or no file was chosen.
    """
    if not in_colab():
        raise SerError('"upload" works in Colab alone. Here, put the file beside the notebook, and give its path.')
    files = [Path(name) for name in importlib.import_module("google.colab.files").upload()]
    if not files:
        raise SerError("no file was chosen. Run the cell again, and choose one or more.")
    return files


def in_colab() -> bool:
    return "google.colab" in sys.modules


def recorder(longest_seconds: float = LONGEST_SECONDS) -> str:
    """HTML of a recorder. Its script leaves a promise in `window.serRecording`, of what `recording_of` takes.

    The browser encodes the WAV, and sends it nowhere; only Colab fetches it, to where the notebook's Python runs. Noise
    suppression and automatic gain are switched off, since the clips that models learn from went through neither.
    """
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(str(TEMPLATES)), autoescape=True)
    return environment.get_template("recorder.html.j2").render(
        element=f"recorder-{uuid.uuid4().hex}",  # a page may hold several
        file_name=FILE_NAME,
        longest_seconds=float(longest_seconds),
        sampling_rate=SAMPLING_RATE,
    )


def recording_of(answer: dict) -> Recording:
    """What the recorder's promise gave, as a recording: {"wav": base64 of a WAV file} or {"error": why there is none}.

    Raises:
        SerError: there is none; it is no WAV, shorter than `ser_lib.audio.reading.MIN_SECONDS`, or silent.
    """
    if "error" in answer:
        raise SerError(f"nothing was recorded. {answer['error']}")
    try:
        file = io.BytesIO(base64.b64decode(answer["wav"], validate=True))
        samples, sampling_rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (KeyError, TypeError, binascii.Error, soundfile.SoundFileError) as error:
        raise SerError(
            "what came from the recorder is no WAV file. Record again, or save the recording and give its path."
        ) from error
    if not len(samples):
        raise SerError("no sound at all came from the recorder. Speak, and then press Stop.")
    return decode_audible(Recording(samples, sampling_rate, "your recording"))


def bundled_clips(run: Run) -> list[Recording]:
    """One clip of the bundled corpus for each emotion that the run knows, to stand in for one's own.

    Its voices are synthetic. Where the run learned from that corpus, these are test clips of its first fold, whose
    model `Run.predictor` loads.
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
    """One after the other, with silence between, in one channel at the first one's sampling rate.

    A pause of 3 s is as long as most windows of `ser_lib.inference.streaming`, so that hardly one hears two recordings.
    """
    rate = recordings[0].sampling_rate
    pause = np.zeros(round(pause_seconds * rate), np.float32)
    parts = [part for recording in recordings for part in (reading.prepare(recording, sampling_rate=rate), pause)]
    name = f"{len(recordings)} recordings" if len(recordings) > 1 else str(recordings[0])
    return Recording(np.concatenate(parts[:-1]), rate, name)
