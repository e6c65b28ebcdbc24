"""The reader's own recordings in a notebook, from the microphone, an upload or a path; bundled clips until then."""

import base64
import binascii
import importlib
import io
import logging
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
from ser_lib.common.files import with_home
from ser_lib.corpora.clips import load_clips
from ser_lib.inference.run import Run
from ser_lib.reports.rendering import render

logger = logging.getLogger(__name__)

SAMPLING_RATE = 32000  # Hz, of recordings: no recipe reads more
MAX_SECONDS = 30
FILE_NAME = "recording.wav"


def read_source(source: str | Path | None) -> list[Recording] | None:
    """The recordings of the person who runs the notebook.

    Args:
        source: "microphone"; "upload", from the reader's computer to Colab; the path of a file or of a folder; or None.

    Returns:
        at least one recording; None where `source` is None, and after "microphone" outside of Colab, where the page
        cannot pass its recording to Python: a printed line then says what to do.

    Raises:
        SerError: nothing was recorded or uploaded, or a file cannot be read or is silent.
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
            f"Record, save {FILE_NAME} beside this notebook, and run this cell again with source = {FILE_NAME!r}.\n"
            "Until then, the cells below show the bundled clips."
        )
        return None
    if source == "upload":
        if not in_colab:
            raise SerError('"upload" works only in Colab. Here, put the file beside the notebook, and give its path.')
        names = importlib.import_module("google.colab.files").upload()
        if not names:
            raise SerError("no file was chosen. Run the cell again, and choose at least one.")
        return [decode_audible(name) for name in names]
    files = reading.expand(with_home(source))
    if not files:
        raise SerError(f"{source}: no audio in this folder. Expected {' '.join(reading.SUFFIXES)}.")
    if len(files) == 1:
        return [decode_audible(files[0])._replace(name=files[0].name)]
    recordings, problems = [], []
    for file in files:
        try:
            recordings.append(decode_audible(file)._replace(name=file.name))
        except SerError as error:
            problems.append(str(error))
            logger.warning("%s", error)
    if not recordings:
        raise SerError(f"none of {len(files)} files can be read, such as {problems[0]}")
    return recordings


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
    """The recorder's answer, {"wav": base64 of a WAV file} or {"error": the reason why there is none}, as a recording.

    Raises:
        SerError: there is no recording; or it is no WAV, shorter than `ser_lib.audio.reading.MIN_SECONDS`, or silent.
    """
    if "error" in answer:
        raise SerError(f"nothing was recorded. {answer['error']}")
    try:
        file = io.BytesIO(base64.b64decode(answer["wav"], validate=True))
        samples, sampling_rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (KeyError, TypeError, binascii.Error, soundfile.SoundFileError) as error:
        raise SerError("the recorder returned no WAV file. Record again, or save it and give its path.") from error
    return decode_audible(Recording(samples, sampling_rate, "your recording"))


def example_clips(run: Run) -> pd.DataFrame:
    """Pick one clip of the bundled corpus, whose voices are synthetic, for each emotion of the run.

    Where possible the clip, and best its speaker as well, is unknown to the model that answers.
    """
    clips = load_clips("sample", progress=False)
    known = run.learned_from()
    clips = clips[clips["emotion"].isin(run.emotions)].assign(
        known_speaker=clips["speaker"].isin(known["speaker"]), known_clip=clips["clip_id"].isin(known["clip_id"])
    )
    clips = clips.sort_values(["known_speaker", "known_clip"], kind="stable").drop_duplicates("emotion")
    return clips.sort_values("emotion", key=lambda emotions: emotions.map(run.emotions.index))


def bundled_clips(run: Run) -> list[Recording]:
    """The clips of `example_clips`, until the reader has recordings."""
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
    parts = [
        part
        for recording in recordings
        for part in (reading.prepare(recording, sampling_rate=rate, remove_offset=False), pause)
    ]
    name = f"{len(recordings)} recordings" if len(recordings) > 1 else str(recordings[0])
    return Recording(np.concatenate(parts[:-1]), rate, name)
