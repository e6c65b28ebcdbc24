"""A page on this computer that answers a voice: `ser demo RUN`.

    with serving(load_run("runs/demo/speaker/0")) as address:
        ...  # open it in a browser

It is made of Gradio's controls and of `templates/demo`. A recording lies in a private folder until it is
answered, and no longer. The page loads nothing from the network, and nothing but this computer reaches it.
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

import matplotlib
import numpy as np

from ser_lib.audio import reading
from ser_lib.audio.reading import Recording
from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA, known_corpus, label
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.evaluation.results import MIN_SPEAKERS, read_results
from ser_lib.inference.model_card import NOT_FOR, describe_score
from ser_lib.inference.predict import heard, predict
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
MAX_WAITING = 8  # recordings, besides the one that is being answered
FORGOTTEN_SECONDS = 600  # what was handed over and never answered is deleted after so long
SHOW_ANSWER = """() => {
    const answer = document.getElementById("answer");
    if (answer.getBoundingClientRect().top > 0.5 * innerHeight) answer.scrollIntoView({behavior: "smooth"});
}"""
TEMPLATES = Path(__file__).parents[1] / "reports" / "templates" / "demo"


def serve(run: Run, port: int | None = None, open_browser: bool = True) -> None:
    """Serve the page until Ctrl-C.

    Args:
        port: on 127.0.0.1; None: the first that is free from 7860.

    Raises:
        SerError: Gradio is not installed, the port is taken, or the run cannot answer for one recording.
    """
    with suppress(KeyboardInterrupt), serving(run, port) as address:
        print(f"The page is ready: {address}\nCtrl-C ends it.", flush=True)
        if open_browser:
            webbrowser.open(address)
        while True:
            time.sleep(60)


@contextmanager
def serving(run: Run, port: int | None = None) -> Iterator[str]:
    """Serve the page in the background, and yield its address; afterwards nothing of it is left.

    Raises:
        SerError: as `serve`.
    """
    matplotlib.use("Agg")  # answers are drawn in a thread, where a window would end the process on macOS
    with tempfile.TemporaryDirectory(prefix="ser-demo-", ignore_cleanup_errors=True) as private:
        # Gradio takes these from the environment alone. Its history would keep recordings in the browser.
        settings = {"GRADIO_TEMP_DIR": private, "GRADIO_RUN_HISTORY": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        for name in ("no_proxy", "NO_PROXY"):  # it asks its own page whether it is there
            settings[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        page = None
        try:
            page = build_page(run)
            yield _launch(page, port)
        finally:
            if page is not None:
                page.close(verbose=False)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _launch(page, port: int | None) -> str:
    """Begin to serve the page, and return its address."""
    # Fonts of the computer: others come from the network.
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"]
    mono = ["ui-monospace", "Menlo", "Consolas", "Liberation Mono", "monospace"]
    theme = _gradio().themes.Default(primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=mono)
    if port is not None and not 1 <= port <= 65535:
        raise SerError(f"a port is a number from 1 to 65535, not {port}.")
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
            max_file_size=f"{10 * MAX_MEGABYTES}mb",  # spares the disk; `_check_size` refuses in plain words
            theme=theme,
            css_paths=TEMPLATES / "page.css",
        )[1]
    except OSError as error:
        which = f"port {port} is" if port else "ports 7860 to 7959 are"
        raise SerError(f"{which} taken by another program: name a free one with --port.") from error


def _gradio():
    try:
        import gradio
    except ImportError as error:
        raise SerError(f"the page needs Gradio ({error}): pip install 'gradio>=6,<7'") from error
    return gradio


def build_page(run: Run):
    """The page as a `gradio.Blocks`, its model loaded and warm.

    Raises:
        SerError: Gradio is not installed, or the run cannot answer for one recording.
    """
    gradio = _gradio()
    html = partial(gradio.HTML, apply_default_css=False)
    predictor, about, examples = run.predictor(), about_run(run), example_clips(run)
    second = np.zeros(predictor.sampling_rate, np.float32)
    predictor.probabilities([Recording(second, predictor.sampling_rate)])

    def answer_upload(path: str | None):
        # The control is emptied: its file is deleted, and the answer holds a player of its own.
        return None, answer_and_delete(predictor, Path(path)) if path else render("waiting")

    with gradio.Blocks(
        title=f"Which emotion is heard? · {run.recipe.name}",
        analytics_enabled=False,
        delete_cache=(FORGOTTEN_SECONDS, FORGOTTEN_SECONDS),
    ) as page:
        html(render("masthead", about))
        with gradio.Row(elem_classes="ser-columns"):
            with gradio.Column(min_width=300):
                microphone = gradio.Audio(
                    sources=["microphone"], type="filepath", label="Record", editable=False, buttons=[]
                )
                # Not `gradio.Audio`, which meets a file of another kind with a list of media types.
                upload = gradio.File(label="Or choose a file", height=150)
                # Gradio's own leaves an empty file behind. It made sure before that the path is an upload's.
                upload.preprocess = lambda file: file and file.path
                html(render("limits", MAX_MEGABYTES, MAX_MINUTES))
                if examples:
                    html(render("examples", about))
                with gradio.Row(elem_classes="ser-examples"):
                    buttons = {name: gradio.Button(name, size="sm", min_width=60) for name in examples}
            with gradio.Column(min_width=300):
                shown = html(render("waiting"), elem_id="answer")
        html(render("about", about))
        # One model, so one answer at a time, whichever control asks.
        event = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
        event |= {"show_progress_on": shown}
        answered = [
            microphone.stop_recording(answer_upload, microphone, [microphone, shown], **event),
            upload.upload(answer_upload, upload, [upload, shown], **event),
        ]
        for emotion, button in buttons.items():
            example = partial(answer, predictor, examples[emotion], f"the bundled example of {emotion}")
            answered.append(button.click(example, None, shown, **event))
        for done in answered:  # on a telephone the answer lies further down
            done.then(None, js=SHOW_ANSWER)
    return page.queue(max_size=MAX_WAITING)


def answer_and_delete(predictor: Predictor, path: Path) -> str:
    """The answer to a recording; its file is gone afterwards, whatever happened."""
    try:
        return answer(predictor, path)
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # Gradio gives each its folder, in which the same one may have come again
            path.parent.rmdir()


def answer(predictor: Predictor, path: Path, name: str | None = None) -> str:
    """What is heard in an audio file as HTML, or why there is no answer.

    Args:
        name: what the page calls it; None: its file name.
    """
    try:
        return render("answer", _heard_in(predictor, path) | {"name": name or path.name})
    except SerError as error:
        return render("refusal", str(error).replace(str(path), path.name))  # its folder tells nobody anything


def _heard_in(predictor: Predictor, path: Path) -> dict:
    """What the template's `answer` shows.

    Raises:
        SerError: the file cannot be answered.
    """
    _check_size(path)
    recording = heard(path)._replace(name=path.name)
    row = predict(predictor, recording, progress=False).iloc[0]
    if row["error"]:
        raise SerError(row["error"])
    seconds = reading.seconds_of(recording)
    shown = {
        "seconds": seconds,
        "bars": [
            {"emotion": emotion, "probability": row[emotion], "colour": plots.COLOURS[emotion]}
            for emotion in sorted(predictor.emotions, key=row.get, reverse=True)
        ],
    }
    if seconds <= LONG_SECONDS:  # in the page itself, where minutes would be megabytes
        waveform, rate = reading.load(recording, predictor.sampling_rate)
        shown["player"] = audio_player(waveform, rate, f"As the model hears it: one channel, {rate} Hz")
    if seconds > TIMELINE_SECONDS:
        figure = plots.timeline(timeline(predictor, recording, progress=False))
        shown["picture"] = base64.b64encode(figure.png()).decode()
        shown["picture_says"] = " ".join(figure.get_suptitle().split())
    return shown


def _check_size(path: Path) -> None:
    """Refuse what is too large or too long before it is decoded."""
    megabytes, minutes = path.stat().st_size / 1e6, reading.seconds_of(path) / 60
    for size, most, unit in ((megabytes, MAX_MEGABYTES, "MB"), (minutes, MAX_MINUTES, "minutes")):
        if size > most:
            raise SerError(
                f"{path}: {size:.4g} {unit}, but this page takes up to {most} {unit}. Cut out a piece of it, or use "
                "`ser predict RUN FILE --timeline`."
            )


def example_clips(run: Run) -> dict[str, Path]:
    """A clip of the bundled corpus for each emotion of the run, of voices new to its model as long as there are any."""
    corpus = CORPORA["sample"]
    if not corpus.folder.is_dir():
        return {}
    known = set(_first_fold(run).query("subset != 'test'")["speaker"])
    clips = [(path, corpus.parse(path)) for path in reading.files_in(corpus.folder)]
    clips.sort(key=lambda clip: f"{corpus.name}-{clip[1]['speaker']}" in known)
    found = {}
    for path, about in clips:
        found.setdefault(about["emotion"], path)
    return {emotion: found[emotion] for emotion in run.emotions if emotion in found}


def _first_fold(run: Run):
    """The split's rows of the fold whose model answers."""
    return run.split[run.split["fold"] == 0]


def about_run(run: Run) -> dict:
    """What the page says of its model: what it learned from, how often it is right, and what it cannot say."""
    corpora, notices = [], list(run.recipe.notices)
    for name, clips in _first_fold(run).query("subset == 'train'").groupby("corpus", sort=False):
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
        "elsewhere": _score_under_speaker(run) if len(leaks) else "",
        "corpora": corpora,
        "notices": notices,
        "synthetic": "sample" in run.environment["corpora"],
        "not_for": NOT_FOR,
        "cannot_say": [emotion for emotion in EMOTIONS if emotion not in run.emotions],
    }


def _score_under_speaker(run: Run) -> str:
    """The UAR of the same recipe under `speaker`, as `results.csv` has it; "" where it has none."""
    table = read_results()
    tested = dict.fromkeys(run.test_clips()["corpus"])
    wanted = {
        "recipe": run.recipe.name,
        "variant": run.recipe.variant_label,
        "encoder": run.recipe.features_label,
        "protocol": "speaker",
        "corpus": "+".join(run.corpora[name] for name in tested),
    }
    rows = table[(table[list(wanted)] == list(wanted.values())).all(axis=1)]
    if rows.empty:
        return ""
    row = rows.iloc[0]
    over = "speakers" if row["test_speakers"] >= MIN_SPEAKERS else "clips"
    return f"UAR {describe_score({**row, 'interval_over': over}, 'uar')}"


def render(part: str, *values) -> str:
    """One part of the page, a macro of its template, as HTML; all values are escaped."""
    return str(getattr(_parts(), part)(*values))


@cache
def _parts():
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    return environment.get_template("parts.html.j2").module
