import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import soundfile
from conftest import make_clips

from ser_lib.audio.reading import Recording
from ser_lib.common.files import project_dir
from ser_lib.inference.predictor import Answers, Predictor
from ser_lib.models import networks as models
from ser_lib.models.settings import Audio
from ser_lib.protocols.leak_audit import audit
from ser_lib.protocols.splits import make_split
from ser_lib.reports import notebook_display


def test_the_verdict_is_green_or_red_with_counts():
    clips = make_clips(speakers=6)
    honest = audit(make_split(clips, "speaker"), near_duplicates=False)
    assert "No leak found" in notebook_display.audit_verdict(honest)
    leaky = audit(make_split(clips, "deduplicated"), near_duplicates=False)
    tested = int(leaky.set_index("leak").loc["same speaker", "clips"])
    assert f"same speaker: {tested} test clips (100%)" in notebook_display.audit_verdict(leaky)
    assert notebook_display.audit_counts(leaky).loc["same speaker", "share"] == "100%"


def test_a_player_holds_its_own_sound():
    waveform = 2 * np.sin(np.arange(16000) / 10).astype(np.float32)  # beyond ±1, as some files are
    html = notebook_display.audio_player(waveform, 16000, "angry, <b>speaker</b>")
    assert "&lt;b&gt;" in html and "<b>" not in html
    sound = base64.b64decode(re.search(r"base64,([^\"]+)", html).group(1))
    decoded, rate = soundfile.read(io.BytesIO(sound))
    assert rate == 16000 and len(decoded) == 16000 and np.abs(decoded).max() < 1.2


def test_a_player_mixes_channels_down():
    left = np.full(16000, 0.5, np.float32)
    html = notebook_display.audio_player(np.stack([left, -left], axis=1), 16000, "stereo")
    sound = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    decoded, _ = soundfile.read(io.BytesIO(sound))
    assert decoded.ndim == 1 and np.abs(decoded).max() < 0.01


def test_a_player_holds_minutes():
    html = notebook_display.audio_player(np.full(16000 * 300, 0.1, np.float32), 16000, "long")
    sound = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    assert soundfile.info(io.BytesIO(sound)).frames == 16000 * 300


def test_players_are_only_for_corpora_that_may_be_passed_on():
    clips = pd.concat([make_clips(1, ("happy",), 1, 1), make_clips(1, ("happy",), 1, 1, corpora=("tess",))])
    html = notebook_display.audio_players(clips.reset_index(drop=True), [np.zeros(1600, np.float32)] * 2, 16000)
    assert html.count("<audio") == 1 and "No player for" in html and "TESS" in html


def test_the_summary_counts_every_trained_number():
    network = models.build("lstm", ["happy", "sad"], (9, 5), hidden=8)
    table = notebook_display.model_summary(network)
    assert table.loc["total", "trained numbers"] == sum(weight.numel() for weight in network.parameters())


def test_a_path_is_told_from_the_checkout_or_from_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert notebook_display.short_path(project_dir() / "data" / "sample") == "data/sample"
    assert notebook_display.short_path(tmp_path / "corpora") == "~/corpora"
    assert notebook_display.short_path(Path("/elsewhere")) == "/elsewhere"


def test_sentences_are_shown_as_text_and_escaped():
    assert notebook_display.sentences("Not shown: <b>.")._repr_markdown_() == "Not shown: &lt;b&gt;."
    assert notebook_display.sentences(["a", "**b**"])._repr_markdown_() == "- a\n- **b**"


def test_what_certain_answers_are_worth_is_a_sentence():
    worth = {"threshold": 0.7409, "share": 0.672, "accuracy": 0.833, "accuracy_of_all": 0.744}
    text = notebook_display.certainty(SimpleNamespace(metrics={"certainty": worth})).data
    assert "at least 0.741" in text
    assert (
        "67 % of the test clips have a certain answer; 0.833 of these are right. Of all answers, 0.744 are right."
        in text
    )
    for metrics in ({}, {"certainty": None}):
        assert notebook_display.certainty(SimpleNamespace(metrics=metrics)).data.startswith("Not shown")
    nothing = SimpleNamespace(metrics={"certainty": worth | {"share": 0.0, "accuracy": None}})
    assert "0 % of the test clips" in notebook_display.certainty(nothing).data


class Knower(Predictor):
    """A model that calls a clip happy once it has a profile; noise is unlike speech to it."""

    name, emotions, audio, certain_from, identity = "knower", ["neutral", "happy"], Audio(), 0.5, "1"

    def __init__(self, takes_profile=True):
        self.takes_profile = takes_profile

    def answers(self, recordings, profile=None):
        loudest = [float(np.abs(recording.samples).max()) for recording in recordings]
        probabilities = np.tile([0.2, 0.8] if profile else [0.8, 0.2], (len(recordings), 1))
        return Answers(probabilities, np.ones((len(recordings), 3), np.float32), np.array(loudest) < 0.5)

    def for_prepared_audio(self):
        return self


def test_answers_after_enrolment_are_for_the_voice_or_a_sentence():
    samples = 0.3 * np.sin(np.arange(16000) / 10)[:, None].astype(np.float32)
    voice, noise = Recording(samples, 16000, "voice"), Recording(3 * samples, 16000, "noise")
    table = notebook_display.after_enrolment(Knower(), [voice, noise], [voice])
    assert table.loc["voice", "emotion"] == "happy" and table.loc["voice", "certain"]
    refused = notebook_display.after_enrolment(Knower(), [noise], [voice]).data
    assert refused.startswith("Not shown: there is no recording to enrol: noise: it sounds unlike speech")
    assert "cannot use clips of a speaker" in notebook_display.after_enrolment(Knower(False), [voice], [voice]).data
