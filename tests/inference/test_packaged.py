"""The model that comes with the package answers at once, as it did when it was made, and says what is wrong with it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from ser_lib.audio import reading
from ser_lib.audio.reading import Recording
from ser_lib.cli import main
from ser_lib.common.errors import SerError
from ser_lib.corpora.clips import load_clips
from ser_lib.inference import enrolment, packaged
from ser_lib.inference.enrolment import enrol
from ser_lib.inference.packaged import FILES, FOLDER, PackagedPredictor
from ser_lib.reports.doc_tables import fill_tables

ROOT = Path(__file__).parents[2]
MEGABYTES = 15
# Of a probability: a sum in another order moves the 8-bit rounding of a few activations. From AVX-512 with VNNI to AVX2,
# answers moved by up to 0.003, and noise of -100 dB in the waveform moves them by up to 0.03. Matrices of 8 bits in place of
# 7 moved them by up to 0.24 on AVX2, where their sums overflow.
TOLERANCE = 0.05


@pytest.fixture(scope="module")
def predictor():
    return PackagedPredictor()


@pytest.fixture(scope="module")
def clips():
    return load_clips("sample", progress=False)


@pytest.fixture(autouse=True)
def speakers_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SER_SPEAKERS_DIR", str(tmp_path / "speakers"))


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(FOLDER, tmp_path / "copy"))


class TestTheFolder:
    def test_is_whole_and_small(self):
        assert {path.name for path in FOLDER.iterdir()} == set(FILES)
        assert (FOLDER / "model.onnx").stat().st_size <= MEGABYTES * 1e6

    def test_names_the_public_encoder_and_its_licence(self):
        settings = json.loads((FOLDER / "settings.json").read_text(encoding="utf-8"))
        assert settings["encoder"] == "openai/whisper-base" and len(settings["revision"]) == 40
        card, licence = ((FOLDER / name).read_text(encoding="utf-8") for name in ("README.md", "LICENSE"))
        assert "MIT License" in licence and "OpenAI" in licence
        for said in ("Research only, not commercial", "CC BY-NC-SA", settings["revision"], "must not be used for"):
            assert said in card

    def test_has_the_tables_of_the_stored_predictions_in_its_card(self, copy):
        fill_tables(copy / "README.md")
        text = (FOLDER / "README.md").read_text(encoding="utf-8")
        assert (copy / "README.md").read_text(encoding="utf-8") == text, "run `make tables`"


class TestAnswers:
    def compare(self, predictor, clips):
        expected = pd.read_csv(FOLDER / "answers.csv").set_index("clip_id")
        paths = clips.set_index("clip_id")["path"]
        expected = expected[expected.index.isin(paths.index)]
        assert len(expected) >= 20
        found = predictor.probabilities(paths.loc[expected.index].tolist())
        np.testing.assert_allclose(found, expected[predictor.emotions], atol=TOLERANCE, rtol=0)
        # Else they would agree by saying nothing.
        assert found.max(axis=1).mean() > 0.4

    def test_are_those_of_the_day_it_was_made(self, predictor, clips):
        self.compare(predictor, clips)

    @pytest.mark.real
    @pytest.mark.parametrize("corpus", ["ravdess", "tess", "savee", "crema_d"])
    def test_for_real_voices_are_those_too(self, predictor, real, corpus):
        real(corpus)
        self.compare(predictor, load_clips(corpus, progress=False))

    def test_do_not_depend_on_the_other_clips(self, predictor, clips):
        paths = clips["path"][:5].tolist()
        together = predictor.answers(paths)
        for path, probabilities, features in zip(paths, together.probabilities, together.inputs, strict=True):
            alone = predictor.answers([path])
            np.testing.assert_array_equal(alone.probabilities[0], probabilities)
            np.testing.assert_array_equal(alone.inputs[0], features)
        assert predictor.answers([]).probabilities.shape == (0, len(predictor.emotions))

    def test_are_those_for_audio_that_was_prepared_before(self, predictor, clips):
        path = clips["path"][0]
        prepared = Recording(reading.prepare(path, **predictor.audio.model_dump()), predictor.sampling_rate)
        found = predictor.for_prepared_audio().probabilities([prepared])
        np.testing.assert_array_equal(found, predictor.probabilities([path]))

    def test_a_profile_changes_them_the_more_the_more_clips_it_is_of(self, predictor, clips):
        paths = clips[clips["speaker"] == clips["speaker"][0]]["path"].tolist()
        profile = enrol(predictor, paths[:8]).profile
        assert profile.mean.shape == (predictor.answers(paths[:1]).inputs.shape[1],)
        without, little, much = (
            predictor.with_profile(None if count is None else type(profile)(profile.mean, count)).probabilities(
                paths[8:16]
            )
            for count in (None, 0.0, profile.count)
        )
        np.testing.assert_array_equal(without, little)
        assert np.abs(much - without).max() > 0.05

    @pytest.mark.parametrize("seconds", [0.02, 0.3, 5.99, 6.0, 6.01, 29, 31])
    def test_noise_is_no_speech_at_any_length(self, predictor, seconds):
        rng = np.random.default_rng(0)
        noise = Recording(0.1 * rng.standard_normal(round(seconds * 16000)).astype(np.float32), 16000)
        assert np.isnan(predictor.speech_probabilities([noise])).all()


class TestTheCommands:
    def test_predict_needs_no_pytorch(self, clips):
        script = (
            "import sys; from ser_lib.cli import main\n"
            f"status = main(['predict', {clips['path'][0]!r}])\n"
            "print(status, [name for name in ('torch', 'transformers', 'librosa', 'sklearn', 'scipy') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.rstrip().endswith("\n0 []") and done.stderr == ""

    def test_an_enrolled_speaker_is_predicted_otherwise_than_a_stranger(self, clips, capsys):
        own = clips[clips["speaker"] == clips["speaker"][0]]["path"].tolist()
        assert main(["enrol", *own[:16:2], "--speaker", "me"]) == 0
        assert "me: 8 clips" in capsys.readouterr().out
        answers = []
        for options in ([], ["--speaker", "me"]):
            assert main(["predict", *own[16:20], "--json", *options]) == 0
            answers.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
        assert [len(rows) for rows in answers] == [4, 4] and answers[0] != answers[1]
        assert {"path", "emotion", "certain", "seconds", "heard", "probabilities"} <= set(answers[0][0])

    def test_a_speaker_of_another_model_is_refused(self, predictor, clips, capsys):
        speaker = enrolment.enrol(predictor, clips["path"][:4].tolist(), name="anna")
        enrolment.save(enrolment.Speaker("anna", speaker.profile, speaker.clips, "another model"))
        assert main(["predict", clips["path"][5], "--speaker", "anna"]) == 1
        assert "anna was enrolled with another model than that of speech-emotion" in capsys.readouterr().err

    def test_a_long_recording_is_a_timeline(self, clips, tmp_path, capsys):
        parts = [soundfile.read(path)[0] for path in clips["path"][:8]]
        soundfile.write(tmp_path / "long.wav", np.concatenate(parts), soundfile.info(clips["path"][0]).samplerate)
        arguments = ["predict", str(tmp_path / "long.wav"), "--timeline", "--learn-speaker", "--output", str(tmp_path)]
        assert main(arguments) == 0
        assert (tmp_path / "long-timeline.csv").is_file() and "emotion" in capsys.readouterr().out


class TestADamagedModel:
    @pytest.mark.parametrize("name", ["model.onnx", "settings.json"])
    def test_that_is_missing(self, copy, name):
        (copy / name).unlink()
        with pytest.raises(SerError, match=rf"{name}.*git checkout.*install the package again"):
            PackagedPredictor(copy)

    def test_whose_bytes_changed(self, copy):
        content = bytearray((copy / "model.onnx").read_bytes())
        content[len(content) // 2] ^= 1
        (copy / "model.onnx").write_bytes(content)
        with pytest.raises(SerError, match=r"is damaged: .*model\.onnx.*git checkout"):
            PackagedPredictor(copy)

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"recipe": 1}'])
    def test_whose_settings_are_none(self, copy, text):
        (copy / "settings.json").write_text(text)
        with pytest.raises(SerError, match=r"settings\.json.*git checkout"):
            packaged.read_settings(copy)
