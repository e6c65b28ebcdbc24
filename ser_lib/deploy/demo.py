"""Serve a page on this computer that recognises the emotion in a recording: `ser demo RUN`.

    with serving(load_run("runs/demo/speaker/0")) as address:
        ...  # open the address in a browser

The page consists of Gradio's controls and the parts in `reports/templates/demo`. A recording is stored in a private
folder until it is answered, and then deleted. The page loads nothing from the network; only this computer reaches it, and
there no other page of the browser: see `refuse_others`.
"""

import os
import shutil
import tempfile
import time
import uuid
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jinja2
import matplotlib
import numpy as np
from filelock import FileLock, Timeout

from ser_lib.audio import reading
from ser_lib.audio.windows import LONG_SECONDS
from ser_lib.common.errors import SerError
from ser_lib.common.files import read_json
from ser_lib.corpora import known_corpus, label
from ser_lib.corpora.clips import load_clips
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.evaluation.metrics import CERTAIN
from ser_lib.evaluation.results import KEY, read_results, score_cell
from ser_lib.inference.enrolment import EnrolmentClips, read_clips
from ser_lib.inference.model_card import NOT_FOR, describe_score
from ser_lib.inference.packaged import FOLDER, PackagedPredictor
from ser_lib.inference.predict import predict
from ser_lib.inference.predictor import Predictor
from ser_lib.inference.run import Run
from ser_lib.inference.streaming import timeline
from ser_lib.protocols.leak_audit import red_leaks
from ser_lib.protocols.splits import get_protocol
from ser_lib.reports import plots
from ser_lib.reports.notebook_display import audio_player
from ser_lib.reports.notebook_recorder import example_clips
from ser_lib.reports.rendering import TEMPLATES

MAX_MEGABYTES = 20  # of a recording
MAX_MINUTES = 10
TIMELINE_SECONDS = 6.0  # a longer recording may hold more than one emotion
DELETE_SECONDS = 600  # age at which an upload that was never answered is deleted
PREFIX, LOCK = "ser-demo-", "in-use.lock"  # of the private folders
# To be read for enrolment, each in its mood: of one mood alone, a model takes the mood for the voice.
LINES = (
    ("calm", "The lake was still, and the boat lay at the landing."),
    ("happy", "My sister is coming home on the evening train."),
    ("sad", "The old house at the corner has been empty since May."),
    ("angry", "Somebody has parked a car in front of the gate again."),
    ("afraid", "There are steps on the stairs, and the light is out."),
    ("disgusted", "The milk has been on the table for eleven days."),
    ("surprised", "The letter was under the door when we came back."),
    ("neutral", "The bus to the station leaves at ten past nine."),
)
WAITING = '<p class="ser-waiting">The answer appears here.</p>'
# On a telephone the answer lies below the controls.
SCROLL_TO_ANSWER = """() => {
    const answer = document.getElementById("answer");
    if (answer.getBoundingClientRect().top > 0.5 * innerHeight) answer.scrollIntoView({behavior: "smooth"});
}"""
# Fonts of the computer: Gradio would load its own from the network.
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"]
FIXED_WIDTH_FONTS = ["ui-monospace", "Menlo", "Consolas", "Liberation Mono", "monospace"]
_environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES / "demo"), autoescape=True)


def serve(run: Run | None, port: int | None = None, open_browser: bool = True) -> None:
    """Serve the page until Ctrl-C.

    Args:
        run: whose model answers; None: the model that comes with the package.
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
def serving(run: Run | None, port: int | None = None) -> Iterator[str]:
    """Serve the page as `serve`, in the background, and yield its address; at the end, delete its files."""
    if port is not None and not 1 <= port <= 65535:
        raise SerError(f"a port is a number from 1 to 65535, not {port}.")
    matplotlib.use("Agg")  # answers are drawn in a thread, where a window would end the process on macOS
    delete_leftovers()
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as private, ExitStack() as at_end:
        at_end.enter_context(FileLock(Path(private, LOCK)))
        # Gradio reads these settings from the environment only. Its history would keep recordings in the browser.
        settings = {"GRADIO_TEMP_DIR": str(Path(private, "uploads")), "GRADIO_RUN_HISTORY": "False"}
        settings["HF_HUB_DISABLE_TELEMETRY"] = "1"
        for name in ("no_proxy", "NO_PROXY"):  # Gradio requests its own page to see whether it answers
            settings[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
        at_end.enter_context(patch.dict(os.environ, settings))
        try:
            from gradio import route_utils
            from gradio.themes import Default
        except ImportError as error:
            raise SerError(f"the page needs Gradio ({error}): pip install 'gradio>=6,<7'") from error

        class Upload(route_utils.GradioUploadFile):
            """A folder for each upload: Gradio names it by the content, and equal uploads would delete each other's."""

            def __init__(self, *arguments, **settings):
                super().__init__(*arguments, **settings)
                self.sha.update(uuid.uuid4().bytes)

        at_end.enter_context(patch.object(route_utils, "GradioUploadFile", Upload))
        page = build_page(run)
        at_end.callback(page.close, verbose=False)
        options = {"share": False, "inline": False, "quiet": True, "ssr_mode": False, "footer_links": []}
        # In the form of Starlette, on which Gradio is built: a class, its arguments and its settings.
        options["app_kwargs"] = {"middleware": [(refuse_others, (), {})]}
        # Protects the disk; `answer` explains the limit.
        options["max_file_size"] = f"{10 * MAX_MEGABYTES}mb"
        options["theme"] = Default(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=FIXED_WIDTH_FONTS)
        options["css_paths"] = TEMPLATES / "demo" / "page.css"
        try:
            address = page.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, **options)[1]
        except OSError as error:
            ports = f"port {port} is" if port else "ports 7860 to 7959 are"
            raise SerError(f"{ports} taken by another program: name a free one with --port.") from error
        yield address


def refuse_others(app):
    """The ASGI application, which refuses requests from pages of other origins, such as an upload by a foreign form.

    Host names other than 127.0.0.1 and localhost are refused: a foreign page may use such a name by DNS rebinding.
    """

    async def checked(scope, receive, send) -> None:
        headers = dict(scope.get("headers", ()))
        host, origin = headers.get(b"host", b""), headers.get(b"origin")
        is_own = host.partition(b":")[0] in (b"127.0.0.1", b"localhost")
        # The server's own start and end are no requests, and have no headers.
        if scope["type"] == "lifespan" or (is_own and origin in (None, b"http://" + host)):
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"This page answers its own requests only."})

    return checked


def delete_leftovers() -> None:
    """Delete the folders, with recordings in them, of pages that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            # The temporary folder is shared: another user may have made a link or a folder of this name.
            is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            if folder.is_symlink() or not is_own:
                continue
            if (folder / LOCK).is_file():
                with suppress(Timeout), FileLock(folder / LOCK, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
            # Without a lock: of a page that starts just now, or that was killed while it started.
            elif time.time() - status.st_mtime > DELETE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def build_page(run: Run | None) -> Any:
    """Build the page as a `gradio.Blocks`, with its model loaded and warmed up."""
    import gradio

    html = partial(gradio.HTML, apply_default_css=False)
    recorder = partial(gradio.Audio, sources="microphone", type="filepath", editable=False, buttons=[])
    predictor: Predictor = run.predictor() if run else PackagedPredictor()
    about = about_run(run) if run else about_packaged()
    one_second = np.zeros(predictor.sampling_rate, np.float32)
    predictor.probabilities([reading.Recording(one_second, predictor.sampling_rate)])
    examples = {}
    with suppress(SerError):  # an installation without the repository has no bundled corpus
        # The model of the package has learned from none of them.
        clips = example_clips(run) if run else load_clips("sample", progress=False).drop_duplicates("emotion")
        examples = clips.set_index("emotion")["path"].to_dict()

    def answer_upload(path: str | None, enrolled: EnrolmentClips) -> tuple[None, str]:
        # None empties the control: its file is deleted, and the answer has a player of its own.
        return None, answer_and_delete(known(predictor, enrolled), Path(path)) if path else WAITING

    def learn(paths: str | list[str] | None, enrolled: EnrolmentClips) -> tuple[None, EnrolmentClips, str]:
        paths = [paths] if isinstance(paths, str) else paths or []
        enrolled, refusals = learn_and_delete(predictor, enrolled, [Path(path) for path in paths])
        return None, enrolled, render("known", len(enrolled.inputs), len(LINES), refusals)

    def example_of(emotion: str, enrolled: EnrolmentClips) -> str:
        return answer(known(predictor, enrolled), Path(examples[emotion]), f"the bundled example of {emotion}")

    title, delete_cache = f"Which emotion is heard? · {predictor.name}", (DELETE_SECONDS, DELETE_SECONDS)
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=delete_cache) as page:
        # In the memory of this process, for one page in one browser, and gone with it.
        voice = gradio.State(EnrolmentClips())
        html(render("masthead", about))
        with gradio.Row(elem_classes="ser-columns"):
            with gradio.Column(min_width=300):
                microphone = recorder(label="Record")
                # Not `gradio.Audio`, which refuses a file of another kind with a list of media types.
                upload = gradio.File(label="Or choose a file", height=150)
                # Gradio's own leaves an empty file behind. Gradio has checked before that the path is an upload.
                upload.preprocess = lambda file: file and file.path
                html(render("under_controls", about, MAX_MEGABYTES, MAX_MINUTES, examples))
                with gradio.Row(elem_classes="ser-examples"):
                    buttons = {emotion: gradio.Button(emotion, size="sm", min_width=60) for emotion in examples}
            with gradio.Column(min_width=300):
                output = html(WAITING, elem_id="answer")
        with gradio.Column(visible=predictor.takes_profile, elem_classes="ser-voice"):
            html(render("lines", LINES))
            with gradio.Row(elem_classes="ser-columns"):
                with gradio.Column(min_width=300):
                    line = recorder(label="Record a line")
                with gradio.Column(min_width=300):
                    files = gradio.File(label="Or choose recordings of your voice", height=150, file_count="multiple")
                    files.preprocess = lambda chosen: [file.path for file in chosen.root] if chosen else []
            state = html(render("known", 0, len(LINES), []), elem_id="known")
            forget = gradio.Button("Forget my voice", size="sm", elem_classes="ser-forget")
        html(render("about", about))
        # One model, so one answer at a time for all controls.
        event = dict(concurrency_limit=1, concurrency_id="model", api_visibility="private", show_progress_on=output)
        for control, on_input in ((microphone, microphone.stop_recording), (upload, upload.upload)):
            on_input(answer_upload, [control, voice], [control, output], **event).then(None, js=SCROLL_TO_ANSWER)
        for emotion, button in buttons.items():
            example = partial(example_of, emotion)
            button.click(example, voice, output, **event).then(None, js=SCROLL_TO_ANSWER)
        event["show_progress_on"] = state
        for control, on_input in ((line, line.stop_recording), (files, files.upload)):
            on_input(learn, [control, voice], [control, voice, state], **event)
        forget.click(lambda: (EnrolmentClips(), render("known", 0, len(LINES), [])), None, [voice, state], **event)
    return page.queue(max_size=8)


def known(predictor: Predictor, enrolled: EnrolmentClips) -> Predictor:
    """The predictor for the speaker of some clips; without clips, for anybody."""
    return predictor.with_profile(enrolled.speaker(predictor).profile) if enrolled.inputs else predictor


def learn_and_delete(
    predictor: Predictor, enrolled: EnrolmentClips, paths: list[Path]
) -> tuple[EnrolmentClips, list[str]]:
    """Add clips of a voice to those that are enrolled already, and delete their files.

    Returns:
        all clips, and why some of the new recordings could not be used.
    """
    refusals = []
    for path in paths:
        try:
            check_size(path)
            new = read_clips(predictor, path)
            enrolled += replace(new, refused=())
            problems = [reason for _, reason in new.refused]
        except SerError as error:
            problems = [str(error)]
        finally:
            delete(path)
        # Without the temporary folder.
        refusals += [problem.replace(str(path), path.name) for problem in problems]
    return enrolled, refusals


def answer_and_delete(predictor: Predictor, path: Path) -> str:
    """Answer a recording as `answer`, and delete its file even where that fails."""
    try:
        return answer(predictor, path)
    finally:
        delete(path)


def delete(path: Path) -> None:
    """Delete an upload, and Gradio's folder for it."""
    path.unlink(missing_ok=True)
    with suppress(OSError):  # not empty where the same recording was uploaded again
        path.parent.rmdir()


def check_size(path: Path) -> None:
    """SerError where a recording is larger or longer than the page takes."""
    megabytes, minutes = path.stat().st_size / 1e6, reading.seconds_of(path) / 60
    for size, most, unit in ((megabytes, MAX_MEGABYTES, "MB"), (minutes, MAX_MINUTES, "minutes")):
        if size > most:
            raise SerError(
                f"{path}: {size:.4g} {unit}, but this page takes up to {most} {unit}. Cut out a piece of it, or "
                "use `ser predict RUN FILE --timeline`."
            )


def answer(predictor: Predictor, path: Path, name: str | None = None) -> str:
    """Predict an audio file, and render the answer or the reason why there is none; `name` replaces the file's."""
    try:
        check_size(path)
        row = predict(predictor, path, progress=False).iloc[0]
        if row["error"]:
            raise SerError(row["error"])
        player, picture, picture_text = "", "", ""
        if row["seconds"] <= LONG_SECONDS:  # a player holds its audio, and minutes would be megabytes
            rate = predictor.sampling_rate
            waveform = reading.prepare(path, sampling_rate=rate)
            player = audio_player(waveform, rate, f"As the model hears it: one channel, {rate} Hz")
        if row["seconds"] > TIMELINE_SECONDS:
            # In blocks, as `predict`, so that a small file of hours, channels or a high rate does not fill the memory.
            figure = plots.timeline(timeline(predictor, path, progress=False))
            picture, picture_text = figure.base64, figure.alt
    except SerError as error:
        return render("refusal", str(error).replace(str(path), path.name))  # without the temporary folder
    emotions = sorted(predictor.emotions, key=row.get, reverse=True)
    bars = [(emotion, 100 * row[emotion], plots.COLOURS[emotion]) for emotion in emotions]
    certainty = (row["certain"], predictor.certain_from, CERTAIN, predictor.profile is not None)
    about = (name or path.name, row["seconds"], row["heard"])
    return render("answer", *about, bars, certainty, player, picture, picture_text)


def about_run(run: Run) -> dict[str, Any]:
    """Collect what the page states about its model: training data, scores and limits."""
    corpora, notices, leaks = [], list(run.recipe.notices), red_leaks(run.audit)
    for name, clips in run.learned_from().drop_duplicates("clip_id").groupby("corpus", sort=False):
        corpus = known_corpus(name)
        corpora.append((corpus, label(name), len(clips), clips["speaker"].nunique()))
        notices += [corpus.notice] if corpus and corpus.notice else []
    return {
        "run": run,
        "accuracy": describe_score(run.metrics["overall"], "accuracy"),
        "protocol_text": get_protocol(run.protocol).about,
        "leaks": leaks.to_dict(orient="records"),
        "score_under_speaker": _score_under_speaker(run) if len(leaks) else "",
        "corpora": corpora,
        "notices": notices,
        "not_for": NOT_FOR,
        "missing_emotions": [emotion for emotion in EMOTIONS if emotion not in run.emotions],
    }


def about_packaged() -> dict[str, Any]:
    """The same of the model that comes with the package, from its settings."""
    settings = read_json(FOLDER / "settings.json")
    overall, corpora = settings["scores"]["overall"], {name: known_corpus(name) for name in settings["corpora"]}
    return {
        "run": {
            "recipe": {"name": settings["recipe"], "features_label": settings["encoder"]},
            "protocol": settings["protocol"],
            "environment": {"corpora": settings["corpora"]},
            "metrics": {"overall": overall},
            "emotions": settings["emotions"],
        },
        "accuracy": describe_score(overall, "accuracy"),
        "protocol_text": get_protocol(settings["protocol"]).about,
        "leaks": [],
        "score_under_speaker": "",
        "corpora": [
            (corpora[name], label(name), about["clips"], about["speakers"])
            for name, about in settings["corpora"].items()
        ],
        "notices": [corpus.notice for corpus in corpora.values() if corpus and corpus.notice],
        "not_for": NOT_FOR,
        "missing_emotions": [emotion for emotion in EMOTIONS if emotion not in settings["emotions"]],
    }


def _score_under_speaker(run: Run) -> str:
    """UAR of the same recipe under the protocol `speaker`, from `results.csv`; "" where there is none."""
    recipe, table = run.recipe, read_results()
    corpus = "+".join(run.corpora[name] for name in dict.fromkeys(run.test_clips()["corpus"]))
    key = [recipe.name, recipe.variant_label, recipe.features_label, "speaker", corpus]
    rows = table[(table[KEY] == key).all(axis=1)]
    if rows.empty:
        return ""
    return f"UAR {score_cell(rows.iloc[0], 'uar')}"


def render(part: str, *values: object) -> str:
    """Render one part of the page, a macro of its template, as HTML; all values are escaped."""
    return str(getattr(_environment.get_template("parts.html.j2").module, part)(*values))
