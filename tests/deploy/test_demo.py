"""The page of `ser demo`: what it states about its model, its answers and refusals, and that it keeps no recording."""

import copy
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


def trained(folder, *overrides):
    clips = tone_clips(folder / "tones", speakers=4, takes=2)
    sizes = ["emotions=[neutral,happy,sad]", "split.folds=2", "training.device=cpu"]
    recipe = load_recipe("demo", overrides=[*sizes, *overrides])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_CACHE_DIR", str(folder / "cache"))
        patch.setattr(inputs_module, "load_clips", lambda *_, **__: clips)
        return experiment.train(recipe, "speaker", 0, None, folder / "runs", progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("demo"), "training.epochs=2")


@pytest.fixture(scope="module")
def voice_run(tmp_path_factory):
    """A run whose model takes the profile of a speaker."""
    return trained(tmp_path_factory.mktemp("voice"), "model.name=corpus-experts", "input.pooling=mean+std")


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


def lines_of(voice_run, folder: Path, n: int) -> list[Path]:
    """Copies of clips that the run knows, as recordings of a speaker: other tones are unlike its training clips."""
    # A page deletes the folder of its uploads too, once it is empty.
    folder.mkdir(exist_ok=True)
    clips = sorted((voice_run.folder.parents[3] / "tones").glob("*.wav"))[:n]
    return [Path(shutil.copy(clip, folder / f"line-{number}.wav")) for number, clip in enumerate(clips)]


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

    def test_what_certain_answers_are_worth_is_stated_where_it_is_known(self, run):
        worth = {"share": 0.4, "accuracy": 0.83, "accuracy_of_all": 0.7}
        said = "40 % of these answers were certain. Of the certain ones 83 % were right, of all 70 %."
        assert said in about(dataclasses.replace(run, metrics=run.metrics | {"certainty": worth}))
        for unknown in (None, worth | {"accuracy": None}):
            assert "of these answers were certain" not in about(
                dataclasses.replace(run, metrics=run.metrics | {"certainty": unknown})
            )

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

    @pytest.mark.parametrize(
        ("certain_from", "said", "explained"),
        [
            (
                0.0,
                "%, certain",
                "certain from 0 % on. The threshold was chosen so that 90 % of the certain answers were right",
            ),
            (0.9999, "cannot tell: the most likely is", "certain from 100 % on"),
            (2.0, "cannot tell: the most likely is", "No answer of this model is certain"),
        ],
    )
    def test_says_whether_it_is_certain_and_what_that_means(self, predictor, tmp_path, certain_from, said, explained):
        page = text_of(demo.answer(with_threshold(predictor, certain_from), tone(tmp_path / "voice.wav")))
        assert said in page and explained in page

    def test_says_nothing_of_certainty_where_it_is_not_known(self, predictor, tmp_path):
        page = demo.answer(with_threshold(predictor, None), tone(tmp_path / "voice.wav"))
        assert "certain" not in page and "cannot tell" not in page


def with_threshold(predictor, certain_from):
    other = copy.copy(predictor)
    other.certain_from = certain_from
    return other


class TestVoice:
    def test_clips_add_up_to_the_profile_of_all_and_leave_no_file(self, voice_run, tmp_path):
        predictor = voice_run.predictor()
        paths = lines_of(voice_run, tmp_path, 3)
        expected = voice_run.enrol(paths).profile
        heard, refusals = demo.learn_and_delete(predictor, demo.EnrolmentClips(), paths[:1])
        heard, more = demo.learn_and_delete(predictor, heard, paths[1:])
        profile = demo.known(predictor, heard).profile
        np.testing.assert_allclose(profile.mean, expected.mean, rtol=1e-4, atol=1e-4)
        assert profile.count == expected.count and refusals == more == [] and not list(tmp_path.glob("*.wav"))
        assert demo.known(predictor, demo.EnrolmentClips()) is predictor

    def test_what_cannot_be_used_is_named_and_deleted_and_the_others_count(self, voice_run, tmp_path):
        predictor = voice_run.predictor()
        (tmp_path / "<i>notes.wav").write_text("hello")
        soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
        os.truncate(tone(tmp_path / "large.wav"), 30_000_000)
        lines_of(voice_run, tmp_path, 1)
        heard, refusals = demo.learn_and_delete(predictor, demo.EnrolmentClips(), sorted(tmp_path.glob("*.wav")))
        page = demo.render("known", len(heard.inputs), 8, refusals)
        assert "<strong>1 clip known.</strong>" in page and str(tmp_path) not in page
        for problem in (
            "&lt;i&gt;notes.wav: expected WAV",
            "large.wav: 30 MB, but",
            "noise.wav: it sounds unlike speech",
        ):
            assert f"Not used: {problem}" in page
        assert not list(tmp_path.glob("*.wav"))

    def test_an_answer_for_a_known_voice_says_so(self, voice_run, tmp_path):
        predictor = voice_run.predictor()
        heard, _ = demo.learn_and_delete(predictor, demo.EnrolmentClips(), lines_of(voice_run, tmp_path, 1))
        for who, is_said in ((demo.known(predictor, heard), True), (predictor, False)):
            page = demo.answer(who, lines_of(voice_run, tmp_path, 1)[0])
            assert ("answered for the voice that is known" in page) == is_said

    def test_there_are_eight_lines_in_as_many_moods(self):
        page = text_of(demo.render("lines", demo.LINES))
        assert len({mood for mood, _ in demo.LINES}) == len(demo.LINES) == 8
        assert all(f"{mood} {line}" in page for mood, line in demo.LINES)


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
            # This model takes no profile.
            assert not page.get_by_text("Make it know your voice").is_visible()
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

    @pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH")
    def test_a_voice_is_known_to_its_page_alone_until_it_is_forgotten(self, voice_run, tmp_path):
        playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
        lines = lines_of(voice_run, tmp_path, 3)
        (tmp_path / "notes.wav").write_text("hello")
        with demo.serving(voice_run) as address, playwright.sync_playwright() as driver:
            private = Path(os.environ["GRADIO_TEMP_DIR"])
            browser = driver.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", *(f"--use-fake-{part}" for part in MICROPHONE)]
            )
            page, other = (browser.new_page(viewport={"width": 390, "height": 844}) for _ in range(2))
            requested = []
            for tab in (page, other):
                tab.set_default_timeout(TIMEOUT_MS)
                tab.on("request", lambda request: requested.append(request.url))
                tab.goto(address)
                tab.get_by_text("No clip of your voice is known yet").wait_for()
            page.locator("input[type=file]").last.set_input_files([*lines, tmp_path / "notes.wav"])
            page.get_by_text("3 clips known.").wait_for()
            assert "Not used: notes.wav" in page.locator("#known").inner_text()
            assert not [path for path in private.rglob("*") if path.is_file()]
            page.get_by_role("button", name="Record", exact=True).last.click()
            stop = page.get_by_role("button", name="Stop", exact=True)
            stop.wait_for()
            page.wait_for_timeout(500)
            stop.click()
            # The beep of the browser's microphone may sound like speech or not.
            page.get_by_text(re.compile("4 clips known|Not used: audio.wav")).wait_for()
            for tab in (page, other):
                tab.locator("input[type=file]").first.set_input_files(lines[0])
                tab.locator(".ser-answer").get_by_text("line-0.wav").wait_for()
            known = "answered for the voice that is known"
            assert [known in tab.locator("#answer").inner_text() for tab in (page, other)] == [True, False]
            page.get_by_role("button", name="Forget my voice").click()
            page.get_by_text("No clip of your voice is known yet").wait_for()
            page.locator("input[type=file]").first.set_input_files(lines[1])
            page.locator(".ser-answer").get_by_text("line-1.wav").wait_for()
            assert known not in page.locator("#answer").inner_text()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert not [path for path in private.rglob("*") if path.is_file()]
            assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
            browser.close()
