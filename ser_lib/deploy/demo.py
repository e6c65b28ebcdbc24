"""Serve a page on this computer that recognises the emotion in a recording: `ser demo RUN`.

    with serving(load_run("runs/demo/speaker/0")) as address:
        ...  # open the address in a browser

The page consists of Gradio's controls and the parts in `reports/templates/demo`. A recording is stored in a private
folder until it is answered, and then deleted. The page loads nothing from the network, and only this computer reaches it.
"""

import base64
import os
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np

from ser_lib.audio import reading
from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA, known_corpus, label
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.evaluation.results import KEY, MIN_SPEAKERS, read_results
from ser_lib.inference.model_card import NOT_FOR, describe_score
from ser_lib.inference.predict import predict
from ser_lib.inference.predictor import LONG_SECONDS, Predictor
from ser_lib.inference.run import Run
from ser_lib.inference.streaming import timeline
from ser_lib.protocols.leak_audit import red_leaks
from ser_lib.protocols.splits import get_protocol
from ser_lib.reports import plots
from ser_lib.reports.notebook_display import audio_player

MAX_MEGABYTES = 20  # of a recording
MAX_MINUTES = 10
TIMELINE_SECONDS = 6.0  # a longer recording may hold more than one emotion
MAX_WAITING = 8  # recordings in the queue
DELETE_SECONDS = 600  # age at which an upload that was never answered is deleted
# On a telephone the answer lies below the controls.
SCROLL_TO_ANSWER = """() => {
    const answer = document.getElementById("answer");
    if (answer.getBoundingClientRect().top > 0.5 * innerHeight) answer.scrollIntoView({behavior: "smooth"});
}"""
TEMPLATES = Path(__file__).parents[1] / "reports" / "templates" / "demo"
# Fonts of the computer: Gradio would load its own from the network.
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"]
FIXED_WIDTH_FONTS = ["ui-monospace", "Menlo", "Consolas", "Liberation Mono", "monospace"]


def serve(run: Run, port: int | None = None, open_browser: bool = True) -> None:
    """Serve the page until Ctrl-C.

    Args:
        port: on 127.0.0.1; None: the first free port from 7860.

    Raises:
        SerError: Gradio is not installed, the port is taken, or the run cannot predict single recordings.
    """
    with suppress(KeyboardInterrupt), serving(run, port) as address:
        print(f"The page is ready: {address}\nCtrl-C ends it.", flush=True)
        if open_browser:
            webbrowser.open(address)
        while True:
            time.sleep(60)


@contextmanager
def serving(run: Run, port: int | None = None) -> Iterator[str]:
    """Serve the page in the background and yield its address; at the end, stop it and delete its files.

    Raises:
        SerError: as `serve`.
    """
    if port is not None and not 1 <= port <= 65535:
        raise SerError(f"a port is a number from 1 to 65535, not {port}.")
    matplotlib.use("Agg")  # answers are drawn in a thread, where a window would end the process on macOS
    with tempfile.TemporaryDirectory(prefix="ser-demo-", ignore_cleanup_errors=True) as private:
        # Gradio reads these settings from the environment only. Its history would keep recordings in the browser.
        settings = {"GRADIO_TEMP_DIR": private, "GRADIO_RUN_HISTORY": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        for name in ("no_proxy", "NO_PROXY"):  # Gradio requests its own page to see whether it answers
            settings[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
        previous = {name: os.environ[name] for name in settings if name in os.environ}
        os.environ.update(settings)
        page = None
        try:
            page = build_page(run)
            yield _launch(page, port)
        finally:
            if page is not None:
                page.close(verbose=False)
            for name in settings:
                os.environ.pop(name, None)
            os.environ.update(previous)


def _launch(page: Any, port: int | None) -> str:
    """Start to serve a `gradio.Blocks`, and return its address."""
    themes = _gradio().themes
    theme = themes.Default(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=FIXED_WIDTH_FONTS)
    try:
        return page.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            inline=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            footer_links=[],
            max_file_size=f"{10 * MAX_MEGABYTES}mb",  # protects the disk; `_check_size` explains the limit
            theme=theme,
            css_paths=TEMPLATES / "page.css",
        )[1]
    except OSError as error:
        ports = f"port {port} is" if port else "ports 7860 to 7959 are"
        raise SerError(f"{ports} taken by another program: name a free one with --port.") from error


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise SerError(f"the page needs Gradio ({error}): pip install 'gradio>=6,<7'") from error
    return gradio


def build_page(run: Run) -> Any:
    """Build the page as a `gradio.Blocks`, with its model loaded and warmed up.

    Raises:
        SerError: Gradio is not installed, or the run cannot predict single recordings.
    """
    gradio = _gradio()
    html = partial(gradio.HTML, apply_default_css=False)
    predictor, about, examples = run.predictor(), about_run(run), example_clips(run)
    one_second = np.zeros(predictor.sampling_rate, np.float32)
    predictor.probabilities([reading.Recording(one_second, predictor.sampling_rate)])

    def answer_upload(path: str | None) -> tuple[None, str]:
        # None empties the control: its file is deleted, and the answer has a player of its own.
        return None, answer_and_delete(predictor, Path(path)) if path else render("waiting")

    with gradio.Blocks(
        title=f"Which emotion is heard? · {run.recipe.name}",
        analytics_enabled=False,
        delete_cache=(DELETE_SECONDS, DELETE_SECONDS),
    ) as page:
        html(render("masthead", about))
        with gradio.Row(elem_classes="ser-columns"):
            with gradio.Column(min_width=300):
                microphone = gradio.Audio(
                    sources=["microphone"], type="filepath", label="Record", editable=False, buttons=[]
                )
                # Not `gradio.Audio`, which refuses a file of another kind with a list of media types.
                upload = gradio.File(label="Or choose a file", height=150)
                # Gradio's own leaves an empty file behind. Gradio has checked before that the path is an upload.
                upload.preprocess = lambda file: file and file.path
                html(render("limits", MAX_MEGABYTES, MAX_MINUTES))
                if examples:
                    html(render("examples", about))
                with gradio.Row(elem_classes="ser-examples"):
                    buttons = {emotion: gradio.Button(emotion, size="sm", min_width=60) for emotion in examples}
            with gradio.Column(min_width=300):
                output = html(render("waiting"), elem_id="answer")
        html(render("about", about))
        # One model, so one answer at a time for all controls.
        event = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
        event |= {"show_progress_on": output}
        answered = [
            microphone.stop_recording(answer_upload, microphone, [microphone, output], **event),
            upload.upload(answer_upload, upload, [upload, output], **event),
        ]
        for emotion, button in buttons.items():
            example = partial(answer, predictor, examples[emotion], f"the bundled example of {emotion}")
            answered.append(button.click(example, None, output, **event))
        for done in answered:
            done.then(None, js=SCROLL_TO_ANSWER)
    return page.queue(max_size=MAX_WAITING)


def answer_and_delete(predictor: Predictor, path: Path) -> str:
    """Answer a recording as `answer`, and delete its file even where that fails."""
    try:
        return answer(predictor, path)
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # Gradio's folder for it, not empty where the same recording was uploaded again
            path.parent.rmdir()


def answer(predictor: Predictor, path: Path, name: str | None = None) -> str:
    """Predict an audio file, and render the answer, or the reason why there is none, as HTML.

    Args:
        name: of the recording on the page; None: its file name.
    """
    try:
        return render("answer", _answer_values(predictor, path) | {"name": name or path.name})
    except SerError as error:
        return render("refusal", str(error).replace(str(path), path.name))  # without the temporary folder


def _answer_values(predictor: Predictor, path: Path) -> dict[str, Any]:
    """Compute the values that the template's `answer` shows.

    Raises:
        SerError: the file cannot be read, or is too large.
    """
    _check_size(path)
    recording = reading.decode_audible(path)._replace(name=path.name)
    row = predict(predictor, recording, progress=False).iloc[0]
    if row["error"]:
        raise SerError(row["error"])
    seconds = reading.seconds_of(recording)
    emotions = sorted(predictor.emotions, key=row.get, reverse=True)
    bars = [{"emotion": name, "probability": row[name], "colour": plots.COLOURS[name]} for name in emotions]
    values: dict[str, Any] = {"seconds": seconds, "bars": bars}
    if seconds <= LONG_SECONDS:  # a player holds its audio, and minutes would be megabytes
        rate = predictor.sampling_rate
        waveform = reading.prepare(recording, sampling_rate=rate)
        values["player"] = audio_player(waveform, rate, f"As the model hears it: one channel, {rate} Hz")
    if seconds > TIMELINE_SECONDS:
        figure = plots.timeline(timeline(predictor, recording, progress=False))
        values["picture"] = base64.b64encode(figure.png()).decode()
        values["picture_says"] = " ".join(figure.get_suptitle().split())
    return values


def _check_size(path: Path) -> None:
    """Raise a SerError where a file is too large or too long, before it is decoded."""
    megabytes, minutes = path.stat().st_size / 1e6, reading.seconds_of(path) / 60
    for size, most, unit in ((megabytes, MAX_MEGABYTES, "MB"), (minutes, MAX_MINUTES, "minutes")):
        if size > most:
            raise SerError(
                f"{path}: {size:.4g} {unit}, but this page takes up to {most} {unit}. Cut out a piece of it, or use "
                "`ser predict RUN FILE --timeline`."
            )


def example_clips(run: Run) -> dict[str, Path]:
    """Pick a clip of the bundled corpus for each emotion of the run, of speakers unknown to its model where possible."""
    corpus = CORPORA["sample"]
    if corpus.folder is None or not corpus.folder.is_dir():
        return {}
    known_speakers = set(run.split.query("fold == 0 and subset != 'test'")["speaker"])  # fold 0 answers
    paths: dict[bool, dict[str, Path]] = {False: {}, True: {}}  # by whether the speaker is known, and by emotion
    for path in reading.files_in(corpus.folder):
        clip = corpus.parse(path)
        if clip is not None:
            is_known = f"{corpus.name}-{clip['speaker']}" in known_speakers
            paths[is_known].setdefault(clip["emotion"], path)
    by_emotion = paths[True] | paths[False]
    return {emotion: by_emotion[emotion] for emotion in run.emotions if emotion in by_emotion}


def about_run(run: Run) -> dict[str, Any]:
    """Collect what the page states about its model: training data, scores and limits."""
    corpora, notices = [], list(run.recipe.notices)
    for name, clips in run.split.query("fold == 0 and subset == 'train'").groupby("corpus", sort=False):
        corpus = known_corpus(name)
        speakers = clips["speaker"].nunique()
        corpora.append({"corpus": corpus, "name": label(name), "clips": len(clips), "speakers": speakers})
        notices += [corpus.notice] if corpus and corpus.notice else []
    leaks = red_leaks(run.audit)
    return {
        "run": run,
        "overall": run.metrics["overall"],
        "accuracy": describe_score(run.metrics["overall"], "accuracy"),
        "protocol_says": get_protocol(run.protocol).about,
        "leaks": leaks.to_dict(orient="records"),
        "score_under_speaker": _score_under_speaker(run) if len(leaks) else "",
        "corpora": corpora,
        "notices": notices,
        "is_synthetic": "sample" in run.environment["corpora"],
        "not_for": NOT_FOR,
        "missing_emotions": [emotion for emotion in EMOTIONS if emotion not in run.emotions],
    }


def _score_under_speaker(run: Run) -> str:
    """UAR of the same recipe under the protocol `speaker`, from `results.csv`; "" where there is none."""
    recipe, table = run.recipe, read_results()
    corpus = "+".join(run.corpora[name] for name in dict.fromkeys(run.test_clips()["corpus"]))
    key = [recipe.name, recipe.variant_label, recipe.features_label, "speaker", corpus]
    rows = table[(table[KEY] == key).all(axis=1)]
    if rows.empty:
        return ""
    row = rows.iloc[0]
    interval_over = "speakers" if row["test_speakers"] >= MIN_SPEAKERS else "clips"
    return f"UAR {describe_score({**row, 'interval_over': interval_over}, 'uar')}"


def render(part: str, *values: object) -> str:
    """Render one part of the page, a macro of its template, as HTML; all values are escaped."""
    return str(getattr(_parts(), part)(*values))


@cache
def _parts() -> Any:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    return environment.get_template("parts.html.j2").module
