"""The reader's own voice in a notebook: a recorder in the page, an upload or a path; without one, bundled clips."""

import base64
import binascii
import importlib
import io
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from ser_lib.audio import reading
from ser_lib.audio.reading import Recording, decode_audible
from ser_lib.common.errors import SerError
from ser_lib.corpora.clips import load_clips
from ser_lib.inference.run import Run

TEMPLATES = Path(__file__).with_name("templates")
SAMPLING_RATE = 32000  # Hz, of what is recorded: no recipe reads more
FILE_NAME = "recording.wav"


def own_audio(source: str | Path | None) -> list[Recording] | None:
    """Read the audio of the person who runs the notebook.

    Args:
        source: "microphone"; "upload", from a computer to Colab; the path of a file or of a folder; or None.

    Returns:
        one recording or more; None where `source` is None, and after "microphone" outside of Colab, where the page
        cannot send its recording to Python and a printed text says what to do.

    Raises:
        SerError: nothing was recorded or uploaded, an audio file cannot be read, or it is silent.
    """
    in_colab = "google.colab" in sys.modules
    if source is None:
        return None
    if source == "microphone":
        from IPython.display import HTML, display

        display(HTML(recorder()))
        if in_colab:
            return [recording_of(importlib.import_module("google.colab.output").eval_js("serRecording"))]
        print(
            f"Record, save {FILE_NAME} beside this notebook, and run this cell again with own = {FILE_NAME!r}.\n"
            "Until then, the cells below show the bundled clips."
        )
        return None
    if source == "upload":
        if not in_colab:
            raise SerError('"upload" works in Colab alone. Here, put the file beside the notebook, and give its path.')
        names = importlib.import_module("google.colab.files").upload()
        if not names:
            raise SerError("no file was chosen. Run the cell again, and choose one or more.")
        return [decode_audible(name) for name in names]
    path = Path(source).expanduser()
    files = reading.files_in(path) if path.is_dir() else [path]
    if not files:
        raise SerError(f"{path}: no audio in this folder. Expected {' '.join(reading.SUFFIXES)}.")
    return [decode_audible(file)._replace(name=file.name) for file in files]


def recorder(longest_seconds: float = 30) -> str:
    """Render a recorder as HTML; its script puts a promise of what `recording_of` reads into `window.serRecording`.

    The browser encodes the WAV and sends it nowhere; only Colab fetches it, for Python. Noise suppression and automatic
    gain are switched off, since the clips that models learn from went through neither.
    """
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    element = f"recorder-{uuid.uuid4().hex}"  # a page may hold several
    return environment.get_template("recorder.html.j2").render(
        element=element, file_name=FILE_NAME, longest_seconds=float(longest_seconds), sampling_rate=SAMPLING_RATE
    )


def recording_of(answer: dict) -> Recording:
    """Read what the recorder's promise gives: {"wav": base64 of a WAV file}, or {"error": why there is none}.

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
            "the recorder sent no WAV file. Record again, or save the recording and give its path."
        ) from error
    return decode_audible(Recording(samples, sampling_rate, "your recording"))


def example_clips(run: Run) -> pd.DataFrame:
    """Pick one clip of the bundled corpus, whose voices are synthetic, for each emotion of the run.

    Where possible the clip, and best its speaker as well, is unknown to the model of the first fold, which
    `Run.predictor` loads.
    """
    clips = load_clips("sample", progress=False)
    known = run.split.query("fold == 0 and subset != 'test'")
    clips = clips[clips["emotion"].isin(run.emotions)].assign(
        known_speaker=clips["speaker"].isin(known["speaker"]), known_clip=clips["clip_id"].isin(known["clip_id"])
    )
    clips = clips.sort_values(["known_speaker", "known_clip"], kind="stable").drop_duplicates("emotion")
    return clips.sort_values("emotion", key=lambda emotions: emotions.map(run.emotions.index))


def bundled_clips(run: Run) -> list[Recording]:
    """Read the clips of `example_clips`, to stand in for the reader's own."""
    return [
        decode_audible(row.path)._replace(name=f"{row.emotion}, {row.speaker}")
        for row in example_clips(run).itertuples()
    ]


def joined(recordings: Sequence[Recording], pause_seconds: float = 3.0) -> Recording:
    """Join recordings, with silence between them, in one channel at the sampling rate of the first.

    3 s are as long as most windows of `ser_lib.inference.streaming`, so that hardly any holds two recordings.
    """
    rate = recordings[0].sampling_rate
    pause = np.zeros(round(pause_seconds * rate), np.float32)
    parts = [part for recording in recordings for part in (reading.load(recording, rate)[0], pause)]
    name = f"{len(recordings)} recordings" if len(recordings) > 1 else str(recordings[0])
    return Recording(np.concatenate(parts[:-1]), rate, name)
