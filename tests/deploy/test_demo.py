"""The page of `ser demo`: what it states about its model, its answers and refusals, and that it keeps no recording."""

import dataclasses
import html
import os
import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import tone_clips
from filelock import FileLock

from ser_lib import cli
from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.deploy import demo
from ser_lib.evaluation import results, stored_predictions
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.training import experiment

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MICROPHONE = ("device-for-media-stream", "ui-for-media-stream")  # a microphone that beeps, without a permission prompt
TIMEOUT_MS = 90_000  # the machine may be busy


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    clips = tone_clips(folder / "tones", speakers=4, takes=2)
    recipe = load_recipe(
        "demo", overrides=["emotions=[neutral,happy,sad]", "split.folds=2", "training.epochs=2", "training.device=cpu"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_CACHE_DIR", str(folder / "cache"))
        patch.setattr(inputs_module, "load_clips", lambda *_, **__: clips)
        return experiment.train(recipe, "speaker", 0, None, folder / "runs", progress=False)


@pytest.fixture
def leaking(run):
    leaking_clips = run.audit["clips"].mask(run.audit["leak"] == "same speaker", 12)
    return dataclasses.replace(run, audit=run.audit.assign(clips=leaking_clips))


@pytest.fixture(scope="module")
def predictor(run):
    return run.predictor()


def tone(path: Path, seconds=0.4, **settings) -> Path:
    time = np.arange(int(seconds * 16000)) / 16000
    pauses = time % 1 < 0.6  # sound without pauses is not taken for speech
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 220 * time) * pauses, 16000, **settings)
    return path


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def about(run) -> str:
    return text_of(demo.render("about", demo.about_run(run)))


class TestAboutTheModel:
    @pytest.mark.parametrize("refit", [True, False])
    def test_training_data_are_those_of_the_model_that_answers(self, run, refit):
        if not refit:
            run = dataclasses.replace(run, environment=run.environment | {"model": {}})
        trained = (
            run.split.query("fold == 0 and subset != 'test'")
            if not refit
            else run.predictions.join(run.test_clips()["speaker"])
        )
        clips, speakers = len(trained), trained["speaker"].nunique()
        assert (clips == len(run.predictions)) == refit
        assert f"Sample (bundled, synthetic) : {clips} clips of {speakers} speaker" in about(run)
        assert "Licence: CC0 1.0" in about(run) and "These voices are synthetic" in about(run)

    def test_emotions_without_training_clips_are_named(self, run):
        assert "It never answers calm, angry, fear, disgust, surprise :" in about(run)
        assert demo.about_run(dataclasses.replace(run, emotions=list(EMOTIONS)))["missing_emotions"] == []

    def test_score_stands_beside_its_protocol_and_interval(self, run):
        overall = run.metrics["overall"]
        text = about(run)
        assert (
            f"{overall['uar']:.3f} 95 % CI {overall['uar_low']:.3f} to {overall['uar_high']:.3f} UAR" in text
            and "†" not in text
        )
        assert "Protocol speaker : k folds, no speaker in both" in text and "would score 0.333" in text
        assert "Deciding anything about a person" in text

    def test_score_of_a_leaking_protocol_is_not_shown(self, leaking, monkeypatch):
        monkeypatch.setattr(demo, "read_results", lambda: pd.DataFrame(columns=results.COLUMNS))
        text = about(leaking)
        assert (
            "score: not measured. The protocol of this run, speaker , leaks: same speaker (12 of 24 test clips)" in text
        )
        for name in ("uar", "accuracy"):
            assert f"{leaking.metrics['overall'][name]:.3f}" not in text
        assert "another model" not in text

    def test_score_of_the_same_recipe_under_speaker_is_shown_instead(self, leaking, monkeypatch):
        row = results.rows_of(stored_predictions.collect([leaking])).assign(uar=0.123, uar_low=0.1, uar_high=0.2)
        others = [row.assign(uar=0.9, **{key: "another"}) for key in results.KEY]
        monkeypatch.setattr(demo, "read_results", lambda: pd.concat([*others, row]))
        assert "another model reached UAR 0.123 (0.100–0.200)" in about(leaking)

    def test_of_the_package_is_told_from_its_settings(self):
        text = text_of(demo.render("masthead", demo.about_packaged()) + demo.render("about", demo.about_packaged()))
        for said in ("recipe speech-emotion reads openai/whisper-base protocol speaker", "1439 clips of 24 speakers"):
            assert said in text
        assert "Licence: CC BY-NC-SA 4.0" in text and "no interval: too few speakers were tested" in text
        assert demo.build_page(None).title == "Which emotion is heard? · speech-emotion"

    def test_names_are_escaped(self, run):
        named = dataclasses.replace(run, split=run.split.assign(corpus="<b onclick=x>&"))
        page = demo.render("about", demo.about_run(named))
        assert "<b onclick" not in page and "&lt;b onclick=x&gt;&amp;" in page

    def test_examples_are_of_speakers_that_the_model_was_not_trained_on(self, run):
        split = run.split.assign(
            speaker=[f"sample-0{1 + i % 7}" for i in range(len(run.split))], fold=0, subset="train"
        )
        examples = demo.example_clips(dataclasses.replace(run, split=split))
        assert examples["emotion"].tolist() == ["neutral", "happy", "sad"]
        assert set(examples["speaker"]) == {"sample-08"}
        assert [Path(path).stem[6:8] for path in examples["path"]] == ["01", "03", "04"]


class TestAnswer:
    def test_has_a_bar_for_every_emotion_and_a_player(self, predictor, tmp_path):
        page = demo.answer(predictor, tone(tmp_path / "voice.wav"))
        table = predictor.probabilities([tmp_path / "voice.wav"])[0]
        for emotion, probability in zip(predictor.emotions, table, strict=True):
            assert f'<th scope="row">{emotion}</th>' in page and f"{100 * probability:.0f} %" in page
        assert "voice.wav, 0.4 s" in page and "data:audio/ogg;base64," in page and "data:image" not in page
        assert page.index(predictor.emotions[int(table.argmax())]) < page.index("<table")

    def test_a_longer_recording_has_a_timeline(self, predictor, tmp_path):
        page = demo.answer(predictor, tone(tmp_path / "long.flac", seconds=7))
        assert '<img src="data:image/png;base64,' in page and "long.flac, 7.0 s" in page

    def test_minutes_are_predicted_in_windows_and_have_no_player(self, predictor, tmp_path):
        page = demo.answer(predictor, tone(tmp_path / "minutes.ogg", seconds=67))
        assert "minutes.ogg, 1 min 7 s" in page
        assert "data:audio" not in page and "data:image/png" in page

    @pytest.mark.parametrize(
        ("write", "message"),
        [
            (lambda path: path.write_text("hello"), "expected WAV, FLAC, OGG"),
            (lambda path: soundfile.write(path, np.zeros(8000), 16000), "silent, every sample is 0"),
            (lambda path: path.touch(), "the file is empty"),
            (lambda path: os.truncate(tone(path), 30_000_000), "30 MB, but this page takes up to 20 MB"),
            (lambda path: tone(path, 601.2, format="FLAC"), "10.02 minutes, but this page takes up to 10 minutes"),
        ],
        ids=["text", "silence", "nothing", "large", "long"],
    )
    def test_refusal_states_the_reason(self, predictor, tmp_path, write, message):
        path = tmp_path / "<i>voice.wav"
        write(path)
        page = demo.answer_and_delete(predictor, path)
        assert message in page and 'role="alert"' in page
        assert "&lt;i&gt;voice.wav: " in page and str(tmp_path) not in page
        assert not path.exists()

    def test_recording_is_deleted_even_after_an_error(self, predictor, tmp_path, monkeypatch):
        uploads = [tone(tmp_path / "voice.wav"), tmp_path / "one" / "voice.wav"]
        uploads[1].parent.mkdir()
        tone(uploads[1])
        assert "voice.wav, 0.4 s" in demo.answer_and_delete(predictor, uploads[1])
        monkeypatch.setattr(demo, "predict", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            demo.answer_and_delete(predictor, uploads[0])
        assert not any(path.is_file() for path in tmp_path.rglob("*")) and not uploads[1].parent.exists()


def test_without_gradio_the_error_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SerError, match=re.escape("pip install 'gradio>=6,<7'")):
        demo.serve(run)


@pytest.mark.filterwarnings("ignore::Warning:gradio")
class TestServing:
    @pytest.fixture(autouse=True)
    def gradio(self):
        return pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'gradio>=6,<7'")

    def test_ctrl_c_ends_it_and_leaves_nothing(self, run, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        before, seen = dict(os.environ), []

        def stop(_):
            seen.extend(Path(os.environ["GRADIO_TEMP_DIR"]).parents)
            raise KeyboardInterrupt

        monkeypatch.setattr(demo, "time", SimpleNamespace(sleep=stop))
        monkeypatch.setattr(demo.webbrowser, "open", lambda address: seen.append(address))
        assert cli.main(["demo", str(run.folder), "--no-browser"]) == 0
        printed = capsys.readouterr()
        assert (
            re.match(r"The page is ready: http://127\.0\.0\.1:\d+/\n", printed.out) and "Traceback" not in printed.err
        )
        assert tmp_path in seen and not list(tmp_path.glob("ser-demo-*"))
        assert not [place for place in seen if str(place).startswith("http")]  # no browser was opened
        assert dict(os.environ) == before

    def test_answers_no_other_page_and_under_no_other_name(self, run):
        """A foreign form may send without asking; a name that leads to 127.0.0.1 makes a foreign page the same origin."""
        with demo.serving(run) as address:
            upload = {"url": f"{address}gradio_api/upload", "files": {"files": ("a.wav", b"x" * 10)}}
            host = address.split("/")[2]
            port = host.rpartition(":")[2]
            assert httpx.post(**upload).status_code == 200
            assert httpx.post(**upload, headers={"Origin": f"http://{host}"}).status_code == 200
            for origin in (
                "https://evil.example",
                "null",
                "http://127.0.0.1",
                f"https://{host}",
                f"http://localhost:{port}",
            ):
                assert httpx.post(**upload, headers={"Origin": origin}).status_code == 403, origin
            for name in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", ""):
                assert httpx.get(address, headers={"Host": name}).status_code == 403, name
            assert httpx.get(address, headers={"Host": f"localhost:{port}"}).status_code == 200

    def test_equal_uploads_have_a_file_each(self, run, predictor, tmp_path):
        content = tone(tmp_path / "voice.wav").read_bytes()
        with demo.serving(run) as address:
            upload = {"url": f"{address}gradio_api/upload", "files": {"files": ("voice.wav", content)}}
            first, second = (Path(httpx.post(**upload).json()[0]) for _ in range(2))
            assert first != second and first.read_bytes() == second.read_bytes() == content
            for path in (first, second):
                assert "ser-answer" in demo.answer_and_delete(predictor, path)
                assert not path.parent.exists()

    def test_recordings_of_a_page_that_was_killed_are_deleted_at_the_next_start(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        for name in ("ser-demo-killed", "ser-demo-serving", "ser-demo-starting", "other"):
            (tmp_path / name / "uploads").mkdir(parents=True)
            (tmp_path / name / "uploads" / "voice.wav").write_bytes(b"a voice")
        (tmp_path / "ser-demo-trap").symlink_to(tmp_path / "other")
        (tmp_path / "ser-demo-killed" / demo.LOCK).touch()
        with FileLock(tmp_path / "ser-demo-serving" / demo.LOCK):
            demo.delete_leftovers()
        kept = ["other", "ser-demo-serving", "ser-demo-starting", "ser-demo-trap"]
        assert sorted(path.name for path in tmp_path.iterdir()) == kept
        assert (tmp_path / "other" / "uploads" / "voice.wav").exists()
        os.utime(tmp_path / "ser-demo-starting", (0, 0))
        demo.delete_leftovers()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "ser-demo-trap"]

    def test_a_taken_port_is_an_error_that_says_so(self, run, capsys):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            assert cli.main(["demo", str(run.folder), "--port", str(port)]) == 1
        assert f"port {port} is taken by another program: name a free one with --port" in capsys.readouterr().err
        assert cli.main(["demo", str(run.folder), "--port", "99999"]) == 1
        assert "a port is a number from 1 to 65535, not 99999" in capsys.readouterr().err

    @pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH")
    def test_in_a_browser(self, run, tmp_path):
        playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
        (tmp_path / "notes.txt").write_text("hello")
        tone(tmp_path / "voice.wav")
        os.truncate(tone(tmp_path / "large.wav"), 30_000_000)
        with demo.serving(run) as address, playwright.sync_playwright() as driver:
            private = Path(os.environ["GRADIO_TEMP_DIR"])
            browser = driver.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", *(f"--use-fake-{part}" for part in MICROPHONE)]
            )
            page = browser.new_page(viewport={"width": 390, "height": 844})
            page.set_default_timeout(TIMEOUT_MS)
            requested = []
            page.on("request", lambda request: requested.append(request.url))
            page.goto(address)
            page.get_by_text("Click to Upload").wait_for()
            page.get_by_role("button", name="Record", exact=True).wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390

            def answer_to(name, selector):
                page.set_input_files("input[type=file]", tmp_path / name)
                page.locator(selector).get_by_text(name).wait_for()
                assert not [path for path in private.rglob("*") if path.is_file()]
                return page.locator("#answer").inner_text()

            assert "Probability of each emotion" in answer_to("voice.wav", ".ser-answer")
            assert page.locator(".ser-bars tr").count() == 3
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert "expected WAV, FLAC, OGG" in answer_to("notes.txt", ".ser-refusal")
            assert "up to 20 MB" in answer_to("large.wav", ".ser-refusal")
            page.get_by_role("button", name="sad").click()
            page.get_by_text("the bundled example of sad").wait_for()
            page.get_by_role("button", name="Record", exact=True).click()
            stop = page.get_by_role("button", name="Stop", exact=True)
            stop.wait_for()
            page.wait_for_timeout(500)
            stop.click()
            page.locator(".ser-answer").get_by_text("audio.wav").wait_for()
            assert not [path for path in private.rglob("*") if path.is_file()]
            assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
            browser.close()
        assert not private.exists()
