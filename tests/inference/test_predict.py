"""Predictions of any audio by a finished run: prepared as in training, whatever the file and its neighbours."""

import json
import logging
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import tone_clips
from tiny import tiny_checkpoint
from tqdm import tqdm

from ser_lib import cli
from ser_lib.audio import reading
from ser_lib.audio.reading import Recording
from ser_lib.common import cache
from ser_lib.common.errors import SerError
from ser_lib.common.files import project_dir
from ser_lib.inference import predict
from ser_lib.inference.run import load_run
from ser_lib.inference.streaming import timeline
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.training import experiment

COMMON = ["emotions=[neutral,happy,sad]", "split.folds=2", "training.device=cpu"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    clips = tone_clips(tmp_path_factory.mktemp("tones"), speakers=4, takes=2)
    lengths = np.random.default_rng(0).uniform(0.2, 1.0, len(clips))
    for path, seconds in zip(clips["path"], lengths, strict=True):  # clips of one length share every batch
        waveform, rate = soundfile.read(path)
        soundfile.write(path, np.tile(waveform, 3)[: int(seconds * rate)], rate)
    return clips.assign(audio_hash=clips["clip_id"], seconds=lengths)


def trained(clips, tmp_path, monkeypatch, *overrides, protocol="speaker"):
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: clips.copy())
    short = [] if "model.name=logistic-regression" in overrides else ["training.epochs=2"]
    recipe = load_recipe("demo", overrides=[*COMMON, *short, *overrides])
    return experiment.train(recipe, protocol, 0, None, tmp_path / "runs", progress=False)


@pytest.fixture(scope="module")
def finished(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_CACHE_DIR", str(folder / "cache"))
        return trained(clips, folder, patch)


@pytest.fixture
def run(finished, tmp_path):
    """A copy for each test."""
    return load_run(shutil.copytree(finished.folder, tmp_path / "runs" / "0"))


@pytest.fixture
def files(clips):
    return clips["path"].tolist()


def reproduced(run, clips, fold):
    tested = run.test_clips()
    ids = tested.loc[tested["fold"] == fold, "clip_id"]
    table = run.predict(clips.set_index("clip_id").loc[ids, "path"].tolist(), fold=fold, as_clips=True)
    recorded = run.predictions.set_index("clip_id").loc[ids, run.emotions]
    np.testing.assert_allclose(table[run.emotions], recorded, atol=1e-4, rtol=0)
    assert table["emotion"].tolist() == recorded.idxmax(axis=1).tolist()


class TestPreparedAsInTraining:
    @pytest.mark.parametrize(
        "overrides",
        [
            [],
            ["input.audio.offset_seconds=0.1", "input.audio.max_seconds=0.3", "input.audio.normalise=rms"],
            ["input.pooling=mean+std", "input.chroma=true", "model.name=mlp"],
            ["input.pooling=mean", "model.name=logistic-regression"],
        ],
    )
    def test_mfcc(self, overrides, clips, tmp_path, monkeypatch):
        run = trained(clips, tmp_path, monkeypatch, *overrides)
        for fold in (0, 1):
            reproduced(run, clips, fold)

    @pytest.mark.parametrize(
        "overrides",
        [
            ["input.pooling=mean+std", "input.layers=[0,-1]", "model.name=mlp"],
            ["input.layers=all", "input.pooling=mean", "model.name=weighted-layers"],
            ["input.pooling=sequence", "model.name=attentive-pooling"],
        ],
    )
    @pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
    def test_a_frozen_encoder_without_the_folder_that_it_came_from(self, kind, overrides, clips, tmp_path, monkeypatch):
        encoder = tiny_checkpoint(tmp_path / "encoder", kind)
        run = trained(clips, tmp_path, monkeypatch, f"input.encoder={encoder}", "input.precision=float32", *overrides)
        shutil.rmtree(encoder)
        for fold in (0, 1):
            reproduced(run, clips, fold)

    @pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
    def test_a_fine_tuned_encoder(self, kind, clips, tmp_path, monkeypatch):
        encoder = tiny_checkpoint(tmp_path / "encoder", kind)
        overrides = ["model.name=finetune", "training.scheduler=linear", f"input.encoder={encoder}"]
        run = trained(clips, tmp_path, monkeypatch, *overrides)
        for fold in (0, 1):
            reproduced(run, clips, fold)


class TestSources:
    def test_files_recordings_arrays_and_folders_get_the_same_answer(self, run, files, tmp_path):
        samples, rate = soundfile.read(files[0], dtype="float32")
        (tmp_path / "in" / "sub").mkdir(parents=True)
        shutil.copy(files[0], tmp_path / "in" / "sub" / "one.wav")
        (tmp_path / "in" / "notes.txt").write_text("no audio")
        kinds = [files[0], Recording(samples, rate), samples, tmp_path / "in", Recording(samples, rate, "mine")]
        table = run.predict(kinds, sampling_rate=rate)
        assert table["path"].tolist() == [
            files[0],
            "recording 1",
            "recording 2",
            str(tmp_path / "in" / "sub" / "one.wav"),
            "mine",
        ]
        assert (table["error"] == "").all() and table["emotion"].nunique() == 1
        assert np.ptp(table[run.emotions].to_numpy(), axis=0).max() < 1e-6
        assert table[run.emotions].sum(axis=1).to_numpy() == pytest.approx(1)
        pd.testing.assert_frame_equal(run.predict(files[0]), table.head(1))

    @pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
    @pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2)])
    def test_any_rate_channel_count_and_format(self, suffix, rate, channels, run, files, tmp_path):
        samples = reading.prepare(files[0], sampling_rate=rate)
        path = tmp_path / f"x.{suffix}"
        soundfile.write(path, np.stack([samples] * channels, axis=1), rate)
        table = run.predict(path)
        assert table["error"].tolist() == [""]
        if suffix in ("wav", "flac") and rate > 16000:
            assert np.abs(table[run.emotions] - run.predict(files[0])[run.emotions]).to_numpy().max() < 0.05

    def test_all_folds_are_averaged(self, run, files):
        each = [run.predict(files[:3], fold=fold)[run.emotions].to_numpy() for fold in (0, 1)]
        assert np.abs(each[0] - each[1]).max() > 1e-3
        np.testing.assert_allclose(run.predict(files[:3], fold="all")[run.emotions], np.mean(each, axis=0))

    def test_nothing_is_kept(self, run, files, monkeypatch):
        monkeypatch.setattr(cache, "put", None)
        run.predict(files[:2])

    def test_a_bad_file_is_named_and_the_others_are_answered(self, run, files, tmp_path, caplog):
        bad = {name: tmp_path / name for name in ("text.wav", "empty.wav", "gone.wav", "silent.wav", "nan.wav")}
        bad["text.wav"].write_text("hello")
        bad["empty.wav"].touch()
        soundfile.write(bad["silent.wav"], np.zeros(16000), 16000)
        soundfile.write(bad["nan.wav"], np.full(16000, np.nan, dtype="float32"), 16000, subtype="FLOAT")
        with caplog.at_level(logging.WARNING):
            table = run.predict([*bad.values(), files[0]])
        assert table["path"].tolist() == [*map(str, bad.values()), files[0]]
        for message, logged, path, reason in zip(
            table["error"],
            caplog.messages,
            bad.values(),
            ("cannot be decoded", "empty (0 bytes)", "No such file", "silent", "NaN"),
            strict=False,
        ):
            assert message == logged and message.count(str(path)) == 1 and reason in message
        assert table["emotion"].isna().tolist() == [True] * 5 + [False]
        assert table.loc[:4, run.emotions].isna().all(axis=None)
        alone = run.predict(files[0])[run.emotions].to_numpy()[0]
        assert table.loc[5, run.emotions].to_list() == pytest.approx(alone, abs=1e-6)

    def test_what_only_the_model_refuses_spoils_no_others_answer(self, run, files, monkeypatch):
        predictor = run.predictor()
        answer = predictor.answers

        def answers(recordings, profile=None):
            if any(len(recording.samples) == 700 for recording in recordings):
                raise SerError("its embedding holds NaN")
            return answer(recordings, profile)

        monkeypatch.setattr(predictor, "answers", answers)
        odd = Recording(np.linspace(-1, 1, 700, dtype="float32"), 16000)
        table = predict.predict(predictor, [files[0], odd, files[1]])
        assert table["error"].tolist() == ["", "its embedding holds NaN", ""]

    def test_a_bar_from_twenty_files_up(self, run, files, capsys, monkeypatch):
        run.predict(files[:19])
        assert "predict" not in capsys.readouterr().err
        monkeypatch.setattr(predict, "tqdm", partial(tqdm, mininterval=0))
        run.predict(files[:20])
        printed = capsys.readouterr().err
        assert "0/20" in printed and "7/20" in printed and "20/20" in printed

    def test_refusals(self, run, files, tmp_path):
        with pytest.raises(SerError, match="nothing to predict"):
            run.predict([])
        with pytest.raises(SerError, match="nothing to predict"):
            run.predict(tmp_path / "runs")
        with pytest.raises(SerError, match="sampling_rate="):
            run.predict(np.zeros(16000, dtype="float32"))
        with pytest.raises(SerError, match="there is no fold 7"):
            run.predict(files[0], fold=7)
        table = run.predict([np.zeros(16000, dtype="int16"), np.zeros((2, 2, 2)), np.zeros(0)], sampling_rate=16000)
        assert all("expected floats of shape" in error for error in table["error"][:2])
        assert "expected at least 0.02 s of audio" in table["error"][2]
        with pytest.raises(SerError, match="source 1: expected a path, .* but came list"):
            run.predict([files[0], [0.1, 0.2]])
        with pytest.raises(SerError, match="a sampling rate of 1000 to 768000 Hz, but it is 0 Hz"):
            run.predict(np.zeros(16000), sampling_rate=0)
        table = run.predict([np.zeros(()), Recording(np.zeros(9), 0), "a\0b.wav", files[0]], sampling_rate=16000)
        assert [bool(error) for error in table["error"]] == [True, True, True, False]
        assert "embedded null" in table["error"][2]

    def test_a_recording_without_a_name_has_its_number(self, run, files, caplog):
        table = run.predict([files[0], Recording(np.zeros(16000, dtype="float32"), 16000)])
        assert table["path"][1] == "recording 1" and table["error"][1].startswith("recording 1: silent")
        assert caplog.messages[-1] == table["error"][1]

    def test_a_folder_without_audio_is_named(self, run, files, tmp_path, caplog):
        (tmp_path / "empty").mkdir()
        assert run.predict([tmp_path / "empty", files[0]])["path"].tolist() == [files[0]]
        assert f"{tmp_path / 'empty'}: no audio (.wav" in caplog.text
        (tmp_path / "empty" / "notes.txt").touch()
        (tmp_path / "empty" / "phone.M4A").touch()
        table = run.predict([tmp_path / "empty", files[0]])
        assert "1 files passed over, which are no audio by their names (.txt 1): for example " in caplog.text
        assert "phone.M4A: expected audio, but the file is empty" in table["error"][0] and table["error"][1] == ""

    def test_a_long_wav_whose_header_says_nothing_is_long_all_the_same(self, run, files, tmp_path):
        samples, rate = reading.decode(files[0])
        samples = samples[:, 0]
        path = tmp_path / "long.wav"
        soundfile.write(path, np.tile(samples, int(40 * rate / len(samples)) + 1), rate)
        whole = run.predict(path)
        content = bytearray(path.read_bytes())
        at = content.index(b"data") + 4
        content[at : at + 4] = bytes(4)
        path.write_bytes(content)
        assert reading.seconds_of(path) > 39
        pd.testing.assert_frame_equal(run.predict(path), whole)

    def test_a_mapping_as_datasets_returns_audio(self, run, files):
        samples, rate = soundfile.read(files[0])
        mappings = [{"array": samples, "sampling_rate": rate, "path": f"x/{name}"} for name in ("a.wav", "b.wav")]
        table = run.predict([*mappings, {"array": samples.tolist(), "sampling_rate": rate, "path": None}, files[0]])
        assert table["path"].tolist() == ["a.wav", "b.wav", "recording 2", files[0]]
        assert np.ptp(table[run.emotions].to_numpy(), axis=0).max() < 1e-6
        with pytest.raises(SerError, match="source 0: expected a path, .* a mapping of array and sampling_rate"):
            run.predict({"array": samples})

    def test_two_rows_of_samples_are_told_to_be_transposed(self, run):
        table = run.predict(np.zeros((2, 16000)), sampling_rate=16000)
        assert "array.T" in table["error"][0]

    @pytest.mark.parametrize("first", ["neutral", "sad"])
    def test_what_the_recipe_would_cut_is_heard_as_well(self, first, clips, tmp_path, monkeypatch):
        as_it_is = ["input.audio.trim_below_db=null", "input.audio.remove_offset=false"]
        run = trained(clips, tmp_path, monkeypatch, "input.audio.max_seconds=1.0", *as_it_is)
        rng = np.random.default_rng(0)
        quiet, loud = (gain * rng.standard_normal(16000 * 4).astype("f4") for gain in (0.01, 0.3))
        parts = [loud * np.repeat(rng.random(40) > 0.5, 1600), quiet * np.repeat(rng.random(40) > 0.5, 1600)]
        whole = np.concatenate(parts if first == "sad" else parts[::-1])
        table = run.predict([whole, whole[:16000]], sampling_rate=16000)
        assert table["seconds"].tolist() == [8.0, 1.0] and table["heard"][0] > 4 and table["heard"][1] == 1.0
        cut = run.predict(whole, sampling_rate=16000, as_clips=True)
        assert cut["heard"][0] == 1.0
        np.testing.assert_allclose(cut[run.emotions], table.loc[1:, run.emotions], atol=1e-6)
        assert np.abs(table.loc[0, run.emotions].to_numpy(float) - cut[run.emotions].to_numpy()[0]).max() > 1e-5

    def test_probabilities_that_are_no_numbers_are_an_error_and_no_answer(self, run, files):
        predictor = run.predictor()
        for weight in predictor.models[0].module.parameters():
            weight.data[:] = np.nan
        table = predict.predict(predictor, files[:2])
        assert table["emotion"].isna().all() and table[run.emotions].isna().all(axis=None)
        for error, file in zip(table["error"], files, strict=False):
            assert error.startswith(f"{file}: expected probabilities that sum to 1") and "weights are damaged" in error

    @pytest.mark.parametrize("seconds", [1, 4, 29, 31])
    def test_a_muted_microphone_has_no_emotion_at_any_length(self, seconds, run, tmp_path):
        dither = np.random.default_rng(0).integers(-1, 2, 16000 * seconds).astype(np.int16)
        soundfile.write(tmp_path / "muted.wav", dither, 16000)
        assert "muted.wav: silent, no part is louder" in run.predict(tmp_path / "muted.wav")["error"][0]
        over_time = timeline(run.predictor(), tmp_path / "muted.wav", progress=False)
        assert over_time["emotion"].isna().all()

    def test_a_constant_offset_changes_no_answer(self, clips, tmp_path, monkeypatch):
        run = trained(clips, tmp_path, monkeypatch, "input.audio.trim_below_db=40", "input.audio.max_seconds=0.5")
        samples, rate = soundfile.read(clips["path"][0], dtype="float32")
        samples = np.concatenate([np.zeros(rate), samples, np.zeros(rate)]).astype("f4")
        offsets = [samples + np.float32(offset) for offset in (0.0, 0.01, 0.1, -0.2)]
        assert np.ptp(run.predict(offsets, sampling_rate=rate)[run.emotions].to_numpy(), axis=0).max() < 1e-3

    def test_a_run_that_needs_a_speakers_other_clips(self, clips, tmp_path, monkeypatch):
        run = trained(clips, tmp_path, monkeypatch, protocol="speaker-adapted")
        with pytest.raises(SerError, match="standardised by speaker"):
            run.predict(clips["path"].tolist())


class TestCommand:
    def ser(self, capsys, *arguments):
        status = cli.main(["predict", *map(str, arguments)])
        return status, *capsys.readouterr()

    def test_a_table(self, run, files, capsys):
        status, out, _ = self.ser(capsys, run.folder, *files[:2])
        assert status == 0 and files[0] in out and "neutral" in out.splitlines()[0]

    def test_a_timeline_is_offered_for_a_long_recording_alone(self, run, files, tmp_path, capsys):
        # Speech, as steady tones are none.
        waveform, rate = soundfile.read(next((project_dir() / "data" / "sample").rglob("*.flac")))
        soundfile.write(
            tmp_path / "long.wav", np.tile(waveform, 1 + int(cli.LONG_SECONDS * rate / len(waveform))), rate
        )
        for path, is_long in ((files[0], False), (tmp_path / "long.wav", True)):
            status, out, _ = self.ser(capsys, run.folder, path)
            assert status == 0 and ("--timeline" in out) == is_long

    def test_json_lines_and_a_bad_file(self, run, files, tmp_path, capsys):
        bad = tmp_path / "notes.txt"
        bad.write_text("no audio")
        status, out, err = self.ser(capsys, run.folder, files[0], bad, files[1], "--json")
        lines = [json.loads(line) for line in out.splitlines()]
        assert status == 1 and [line["path"] for line in lines] == files[:2]
        assert "1 of 3 files could not be answered" in err
        for line in lines:
            assert list(line) == ["path", "emotion", "certain", "seconds", "heard", "probabilities"]
            assert list(line["probabilities"]) == run.emotions
            assert line["emotion"] == max(line["probabilities"], key=line["probabilities"].get)

    def test_errors_say_what_to_do(self, run, files, tmp_path, capsys):
        assert "is not a run folder" in self.ser(capsys, tmp_path / "none", files[0])[2]
        assert "there is no fold 'x'" in self.ser(capsys, run.folder, files[0], "--fold", "x")[2]
