"""The reader's own recordings: what the browser encodes, what Python receives, and the bundled clips until then."""

import base64
import functools
import http.server
import io
import json
import queue
import re
import shutil
import subprocess
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from ser_lib.audio.reading import Recording
from ser_lib.common.errors import SerError
from ser_lib.corpora.clips import load_clips
from ser_lib.reports import notebook_recorder
from ser_lib.reports.rendering import TEMPLATES

SCRIPT = TEMPLATES / "recorder.js"


def answer(samples, rate=16000, **form):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", **form)
    return {"wav": base64.b64encode(file.getvalue()).decode()}


def noise(seconds, rate=16000):
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


class TestWhatComesBackFromTheBrowser:
    def test_is_a_recording(self):
        recording = notebook_recorder.recording_of(answer(noise(0.5), 32000, subtype="FLOAT"))
        assert recording.sampling_rate == 32000 and str(recording) == "your recording"
        np.testing.assert_array_equal(recording.samples[:, 0], noise(0.5))

    @pytest.mark.parametrize(
        "given, message",
        [
            ({"error": "The browser does not let this page use the microphone."}, "nothing was recorded. The browser"),
            ({"wav": ""}, "no WAV file"),
            ({"wav": "no base64!"}, "no WAV file"),
            ({"wav": base64.b64encode(b"no audio").decode()}, "no WAV file"),
            ({"wav": answer(noise(0.5))["wav"][:40]}, "no WAV file"),
            ({"wav": None}, "no WAV file"),
            ({}, "no WAV file"),
            (answer(noise(0.0)), "your recording: expected at least 0.02 s"),
            (answer(noise(0.01)), "your recording: expected at least 0.02 s"),
            (answer(np.zeros(16000)), "Is the microphone muted"),
        ],
    )
    def test_or_an_error_that_says_why_not(self, given, message):
        with pytest.raises(SerError, match=message):
            notebook_recorder.recording_of(given)


class TestOwnAudio:
    def test_is_none_where_none_is_named(self):
        assert notebook_recorder.read_source(None) is None

    def test_is_a_file_or_all_files_of_a_folder(self, tmp_path, monkeypatch):
        for name in ("b.wav", "a.flac", "notes.txt"):
            if name.endswith("txt"):
                (tmp_path / name).write_text("no audio")
            else:
                soundfile.write(tmp_path / name, noise(0.1), 16000)
        assert [str(one) for one in notebook_recorder.read_source(tmp_path)] == ["a.flac", "b.wav"]
        monkeypatch.setenv("HOME", str(tmp_path))
        (one,) = notebook_recorder.read_source("~/b.wav")
        assert one.sampling_rate == 16000 and one.samples.shape == (1600, 1)

    def test_that_is_not_there_is_an_error(self, tmp_path):
        with pytest.raises(SerError, match="No such file"):
            notebook_recorder.read_source(tmp_path / "recording.wav")
        with pytest.raises(SerError, match="no audio in this folder"):
            notebook_recorder.read_source(tmp_path)
        with pytest.raises(SerError, match="works only in Colab"):
            notebook_recorder.read_source("upload")

    def test_outside_of_colab_the_recorder_is_shown_and_says_how_to_go_on(self, monkeypatch, capsys):
        shown = []
        monkeypatch.setattr("IPython.display.display", lambda page: shown.append(page.data))
        assert notebook_recorder.read_source("microphone") is None
        assert "source = 'recording.wav'" in capsys.readouterr().out
        assert 'download="recording.wav"' in shown[0] and "<script>" in shown[0]


class TestInColab:
    @pytest.fixture
    def colab(self, monkeypatch):
        """Stands in for Colab's two modules: what its calls answer is set by the test."""
        calls = SimpleNamespace(answer=None, files={}, asked=[])
        output = SimpleNamespace(eval_js=lambda code: calls.asked.append(code) or calls.answer)
        found = {"google.colab.output": output, "google.colab.files": SimpleNamespace(upload=lambda: calls.files)}
        monkeypatch.setitem(notebook_recorder.sys.modules, "google.colab", SimpleNamespace())
        own = SimpleNamespace(import_module=lambda name: found[name])
        monkeypatch.setattr(notebook_recorder, "importlib", own)
        monkeypatch.setattr("IPython.display.display", lambda page: calls.asked.append(page.data))
        return calls

    def test_the_recording_comes_straight_back(self, colab):
        colab.answer = answer(noise(0.5), 32000)
        (recording,) = notebook_recorder.read_source("microphone")
        page, code = colab.asked
        assert len(recording.samples) == 16000 // 2 and f"window.{code} =" in page

    def test_a_refused_microphone_is_an_error(self, colab):
        colab.answer = {"error": "The browser does not let this page use the microphone. Allow it."}
        with pytest.raises(SerError, match="nothing was recorded. The browser does not let"):
            notebook_recorder.read_source("microphone")

    def test_uploaded_files_are_read(self, colab, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        soundfile.write("mine.ogg", noise(0.5), 16000)
        colab.files = {"mine.ogg": b"as colab gives it"}
        (recording,) = notebook_recorder.read_source("upload")
        assert str(recording) == "mine.ogg" and recording.sampling_rate == 16000
        colab.files = {}
        with pytest.raises(SerError, match="no file was chosen"):
            notebook_recorder.read_source("upload")


class TestInPlaceOfIt:
    def clips_of_a_run(self, test_clips, emotions, n_speakers):
        """The bundled clips for a run whose model is trained on the first speakers, but not on `test_clips`."""
        clips = load_clips("sample", progress=False)
        split = clips[clips["speaker"] <= f"sample-{n_speakers:02d}"].assign(fold=0, subset="train")
        split.loc[split["clip_id"].isin(test_clips), "subset"] = "test"
        learned = split[split["subset"] != "test"]
        run = SimpleNamespace(learned_from=lambda: learned, emotions=emotions)
        return [str(one) for one in notebook_recorder.bundled_clips(run)]

    def test_bundled_clips_stand_that_the_model_never_heard(self):
        assert self.clips_of_a_run([], ["happy", "sad"], 6) == ["happy, sample-07", "sad, sample-07"]
        tested = [f"sample/03-01-{emotion:02d}-01-01-01-07" for emotion in (1, 3, 4)]
        assert self.clips_of_a_run(tested, ["happy", "sad"], 8) == ["happy, sample-07", "sad, sample-07"]
        assert self.clips_of_a_run([], ["angry"], 0) == ["angry, sample-01"]  # trained on another corpus

    def test_recordings_are_joined_with_pauses_at_one_rate(self):
        first, second = (Recording(noise(0.5), 16000, "a"), Recording(np.ones((4000, 2), np.float32), 8000, "b"))
        whole = notebook_recorder.joined([first, second], pause_seconds=0.25)
        assert (whole.sampling_rate, whole.samples.shape, str(whole)) == (16000, (8000 + 4000 + 8000,), "2 recordings")
        assert not whole.samples[8000:12000].any() and whole.samples[13000:19000] == pytest.approx(1.0, abs=0.01)
        alone = notebook_recorder.joined([first])
        assert (len(alone.samples), str(alone)) == (8000, "a")


def test_every_recorder_has_a_name_of_its_own_and_its_script_whole():
    pages = [notebook_recorder.recorder(5) for _ in range(2)]
    names = [re.search(r'id="(recorder-\w+)"', page).group(1) for page in pages]
    assert names[0] != names[1]
    assert SCRIPT.read_text(encoding="utf-8").strip() in pages[0]
    assert f'getElementById("{names[0]}"), 5.0, {notebook_recorder.SAMPLING_RATE})' in pages[0]


def test_the_browser_encodes_what_python_decodes():
    """The encoder itself, run by node."""
    if shutil.which("node") is None:
        pytest.skip("node is not there to run the recorder's JavaScript")
    samples = [0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 1e-5] * 100
    code = (
        f"{SCRIPT.read_text(encoding='utf-8')}\nconst samples = Float32Array.from({json.dumps(samples)});\n"
        "wavOf(samples, 32000).arrayBuffer()\n"
        "  .then((wav) => process.stdout.write(Buffer.from(wav).toString('base64')));\n"
        "const channels = [[1, 0, 0.5], [0, 0, -0.5]].map((one) => Float32Array.from(one));\n"
        "const audio = { length: 3, numberOfChannels: 2, getChannelData: (i) => channels[i] };\n"
        "process.stderr.write(JSON.stringify([...monoOf(audio)]));\n"
    )
    done = subprocess.run(["node", "-"], input=code, capture_output=True, text=True, check=True)
    recording = notebook_recorder.recording_of({"wav": done.stdout})
    assert recording.sampling_rate == 32000
    np.testing.assert_allclose(recording.samples[:, 0], np.clip(samples, -1, 1), atol=2 / 32768)
    assert json.loads(done.stderr) == [0.5, 0, 0]
    info = soundfile.info(io.BytesIO(base64.b64decode(done.stdout)))
    assert (info.format, info.subtype, info.channels, info.frames) == ("WAV", "PCM_16", 1, 800)


class Page(http.server.BaseHTTPRequestHandler):
    """Serves a page, and keeps what the page sends back."""

    def __init__(self, html, answers, *arguments):
        self.html, self.answers = html, answers
        super().__init__(*arguments)

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.html.encode())

    def do_POST(self):
        self.answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


# Presses the buttons, and sends back what Python would get.
PRESSED = """<!DOCTYPE html><meta charset="utf-8"><script>%s</script>%s<script>
const part = (name) => document.querySelector(`[data-part="${name}"]`);
part("record").click();
setTimeout(() => part("stop").disabled || part("stop").click(), %d);
window.serRecording.then((answer) => setTimeout(() => fetch("/", {
  method: "POST", body: JSON.stringify({ ...answer, says: part("message").textContent,
    shown: !part("player").hidden && part("save").href.startsWith("blob:"), again: !part("record").disabled }),
}), 100));
</script>"""


@pytest.fixture
def in_a_browser(tmp_path):
    """Return a function that presses the buttons in headless Chromium, whose microphone beeps once a second."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is there to press the recorder's buttons")

    def pressed(longest_seconds=60, stop_after=1.5, before="", *options):
        html = PRESSED % (before, notebook_recorder.recorder(longest_seconds), 1000 * stop_after)
        answers = queue.Queue()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Page, html, answers))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        command += ["--use-fake-device-for-media-stream", "--remote-debugging-port=0", *options]
        with subprocess.Popen(
            [*command, f"http://127.0.0.1:{server.server_port}/"], stderr=subprocess.DEVNULL
        ) as process:
            try:
                return answers.get(timeout=60)
            finally:
                process.terminate()
                server.shutdown()

    return pressed


class TestInABrowser:
    def test_the_buttons_record(self, in_a_browser):
        told = in_a_browser(60, 1.5, "", "--use-fake-ui-for-media-stream")
        recording = notebook_recorder.recording_of(told)
        assert recording.sampling_rate == notebook_recorder.SAMPLING_RATE
        assert 0.5 < len(recording.samples) / recording.sampling_rate < 4
        assert np.abs(recording.samples).max() > 0.05  # the beep
        assert told["shown"] and told["again"] and "s recorded." in told["says"]

    def test_it_stops_by_itself(self, in_a_browser):
        recording = notebook_recorder.recording_of(in_a_browser(1.2, 1000, "", "--use-fake-ui-for-media-stream"))
        assert len(recording.samples) / recording.sampling_rate < 3

    @pytest.mark.parametrize(
        "before, message",
        [
            ("navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); };",
             "does not let this page use the microphone"),
            ("delete window.MediaRecorder;", "only to pages of https"),
        ],
    )  # fmt: skip
    def test_without_a_microphone_it_says_why(self, in_a_browser, before, message):
        told = in_a_browser(60, 1.5, before)
        assert message in told["error"] and told["says"] == told["error"] and told["again"]
        with pytest.raises(SerError, match=message):
            notebook_recorder.recording_of(told)
