"""The emotion over time: the same live and from a file, in bounded memory, as tables, files and pictures."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
from hostile_audio import mp3_without_length
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_tables import EMOTIONS, RATE, babble, timeline_table
from tqdm import tqdm as tqdm_now

from ser_lib import cli
from ser_lib.audio import reading
from ser_lib.audio.reading import Recording
from ser_lib.common.errors import SerError
from ser_lib.inference import predict, run
from ser_lib.inference import streaming as timelines
from ser_lib.inference.predictor import Answers, Predictor, TrainedPredictor
from ser_lib.inference.streaming import Envelope, Stream, stretches, timeline
from ser_lib.models import networks
from ser_lib.models.profiles import profile_of
from ser_lib.recipes import load_recipe
from ser_lib.reports import plots
from ser_lib.reports.timelines import write_timelines


class Loudness(Predictor):
    """In place of a model: its answers depend on every sample of a window, and on nothing else."""

    name, emotions, certain_from, identity, takes_profile = "loudness", EMOTIONS, 0.6, "loudness", False

    def __init__(self, *overrides):
        self.audio, self.batch_sizes = load_recipe("demo", overrides=list(overrides)).input.audio, []

    def for_prepared_audio(self):
        return self

    def answers(self, recordings, profile=None):
        self.batch_sizes.append(len(recordings))
        answers = []
        for recording in recordings:
            samples = recording.samples.astype(np.float64)
            scores = np.array(
                [samples.std() * 20, np.abs(samples[::3]).mean() * 30, samples[: len(samples) // 2].max()]
            )
            answers.append(np.exp(scores) / np.exp(scores).sum())
        return Answers(np.array(answers), np.array(answers), np.ones(len(answers), dtype=bool))


def pushed(stream, pieces):
    tables = [*map(stream.push, pieces), stream.finish()]
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


class TestWindows:
    def test_come_as_soon_as_they_are_complete_and_the_last_ends_at_the_end(self):
        stream = Stream(Loudness(), detector="none")
        ends = []
        for second in np.split(babble(5.5), range(RATE, int(5.5 * RATE), RATE)):
            table = stream.push(second)
            ends.append(table["end"].tolist())
            assert list(table) == ["start", "end", "speech", "emotion", "certain", *EMOTIONS]
        assert ends == [[], [], [3.0], [4.0], [5.0], []]
        last = stream.finish()
        assert last[["start", "end", "speech"]].to_numpy().tolist() == [[2.5, 5.5, 1.0]]

    def test_of_an_exact_length_nothing_is_left(self):
        assert pushed(Stream(Loudness(), detector="none"), [babble(5)])["end"].tolist() == [3.0, 4.0, 5.0]

    @pytest.mark.parametrize("seconds", [0.02, 0.5, 2.99])
    def test_a_short_recording_has_one(self, seconds):
        for detector in ("none", "energy"):
            table = pushed(Stream(Loudness(), detector=detector), [babble(seconds)])
            assert table[["start", "end"]].to_numpy().tolist() == [[0, pytest.approx(seconds)]]

    def test_of_nothing_there_is_none(self):
        for samples in (np.zeros(0, np.float32), babble(0.01)):
            stream = Stream(Loudness(), detector="energy")
            assert len(stream.push(samples)) == 0 and len(stream.finish()) == 0

    def test_are_as_long_as_the_recipe_reads(self):
        for overrides, seconds in (
            (["input.audio.max_seconds=1.5"], 1.5),
            (["input.audio.max_seconds=3", "input.audio.offset_seconds=0.5"], 3.5),
            (["input.audio.max_seconds=null"], 3.0),
        ):
            predictor = Loudness(*overrides)
            assert timeline(predictor, Recording(babble(5), RATE), progress=False)["end"][0] == seconds

    def test_shorter_than_a_second_follow_each_other(self):
        predictor = Loudness("input.audio.max_seconds=0.8")
        table = timeline(predictor, Recording(babble(3.2), RATE), detector="none", progress=False)
        assert np.allclose(table["start"], [0, 0.8, 1.6, 2.4]) and np.allclose(table["end"].iloc[-1], 3.2)

    def test_are_predicted_as_clips(self):
        predictor, samples = Loudness(), babble(7)
        table = pushed(Stream(predictor, detector="none", smoothing_seconds=0, hop_seconds=0.5), [samples])
        assert len(table) == 9
        for row in table.itertuples():
            span = Recording(samples[round(row.start * RATE) : round(row.end * RATE)], RATE)
            expected = predictor.probabilities([span])[0]
            assert [row.neutral, row.happy, row.sad] == pytest.approx(expected.tolist(), abs=1e-12)
            assert row.emotion == EMOTIONS[int(expected.argmax())]

    def test_with_too_little_speech_have_no_emotion(self):
        samples = np.concatenate([babble(4) + 0.01, np.zeros(8 * RATE, np.float32)])
        table = pushed(Stream(Loudness()), [samples])
        assert (table["speech"] < 0.2).tolist() == table["emotion"].isna().tolist()
        assert table["emotion"].tolist()[-1] is None and table[EMOTIONS].isna().any(axis=1).sum() >= 5
        assert table["emotion"].iloc[0] in EMOTIONS


class TestSmoothing:
    def test_is_an_exponential_mean(self):
        samples = babble(8)
        raw = pushed(Stream(Loudness(), detector="none", smoothing_seconds=0), [samples])[EMOTIONS].to_numpy()
        smooth = pushed(Stream(Loudness(), detector="none", smoothing_seconds=2), [samples])[EMOTIONS].to_numpy()
        mean = raw[0]
        for row, expected in zip(smooth, raw, strict=True):
            mean = mean if row is smooth[0] else np.exp(-0.5) * mean + (1 - np.exp(-0.5)) * expected
            np.testing.assert_allclose(row, mean)
        np.testing.assert_allclose(smooth.sum(axis=1), 1)

    def test_after_a_pause_the_past_counts_less(self):
        loud, quiet = babble(3) + 0.01, 0.3 * babble(3) + 0.01
        rows = {}
        for pause in (2, 20):
            samples = np.concatenate([loud, np.zeros(pause * RATE, np.float32), quiet])
            for tau in (0.0, 2.0):
                table = pushed(Stream(Loudness(), smoothing_seconds=tau, hop_seconds=3), [samples])
                rows[pause, tau] = table[EMOTIONS].iloc[-1].to_numpy(float)
        far = {pause: np.abs(rows[pause, 2.0] - rows[pause, 0.0]).max() for pause in (2, 20)}
        assert far[20] < 1e-3 < far[2]


class TestTheSameHoweverItIsCut:
    @pytest.mark.parametrize("detector", ["energy", "none"])
    @pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (44100, 2), (8000, 1)])
    def test_in_pushes(self, rate, channels, detector, tmp_path):
        samples = np.stack([babble(6.3, seed, rate) for seed in range(channels)], axis=1)
        soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
        whole = timeline(Loudness(), tmp_path / "a.wav", detector=detector, progress=False)
        assert len(whole) == 5 and whole["end"].iloc[-1] == pytest.approx(6.3, abs=1e-3)

        @settings(max_examples=10, deadline=None)
        @given(st.lists(st.integers(0, len(samples)), max_size=12))
        def same(cuts):
            stream = Stream(Loudness(), rate, detector=detector)
            table = pushed(stream, np.split(samples, sorted(cuts)))
            pd.testing.assert_frame_equal(table, whole, rtol=0, atol=1e-9)

        same()

    def test_in_blocks_of_a_file_and_batches_of_windows(self, tmp_path, monkeypatch):
        soundfile.write(tmp_path / "a.flac", babble(45), RATE)
        whole = timeline(Loudness(), tmp_path / "a.flac", progress=False)
        monkeypatch.setattr(timelines, "BLOCK_SECONDS", 7.7)
        monkeypatch.setattr(timelines, "AT_ONCE", 2)
        predictor = Loudness()
        pd.testing.assert_frame_equal(timeline(predictor, str(tmp_path / "a.flac"), progress=False), whole)
        assert max(predictor.batch_sizes) == 2

    def test_with_silero(self):
        pytest.importorskip("silero_vad")
        samples = babble(4.2, rate=22050)
        predictor = Loudness()
        predictor.sampling_rate = 22050  # so that the detector resamples, and is behind
        whole = pushed(Stream(predictor, detector="silero"), [samples])
        pieces = np.split(samples, range(1000, len(samples), 1000))
        pd.testing.assert_frame_equal(pushed(Stream(predictor, detector="silero"), pieces), whole)
        assert whole["end"].tolist() == pytest.approx([3, 4, 4.2], abs=1e-3)

    def test_with_a_network_on_mfcc(self, tmp_path):
        soundfile.write(tmp_path / "clip.wav", babble(1), RATE)
        recipe, folder = load_recipe("demo"), tmp_path / "model"
        inputs = recipe.create_model().inputs_of([tmp_path / "clip.wav"])
        networks.save(networks.build("cnn", list(recipe.emotions), inputs.shape[1:]), folder)
        predictor = TrainedPredictor(recipe, [folder], folder)
        samples = babble(6)
        whole = timeline(predictor, Recording(samples, RATE), progress=False)
        live = pushed(Stream(predictor), np.array_split(samples, 17))
        pd.testing.assert_frame_equal(live, whole, rtol=0, atol=1e-6)
        assert whole["emotion"].notna().any()


def test_a_stream_keeps_no_more_than_a_window_and_a_block():
    stream = Stream(Loudness(), 48000, detector="energy")
    most = 0
    for number, seconds in enumerate([*[1.0] * 40, 60.0]):
        stream.push(babble(seconds, number, 48000))
        arrays = arrays_in(stream)
        assert all(array.base is None for array in arrays)  # a view would keep what it is cut from
        most = max(most, sum(map(len, arrays)))
    assert 3 * RATE <= most < 3.2 * RATE


def arrays_in(thing):
    """Every array that an object, and those of this package in it, holds on to."""
    if isinstance(thing, np.ndarray):
        return [thing]
    if not type(thing).__module__.startswith("ser_lib"):
        return []
    return [array for value in vars(thing).values() for array in arrays_in(value)]


class TestRefusals:
    @pytest.mark.parametrize(
        ("wrong", "match"),
        [
            ({"window_seconds": 0}, "0.1 s or more"),
            ({"window_seconds": float("nan")}, "0.1 s or more"),
            ({"hop_seconds": 3.5}, "no more than the window of 3 s"),
            ({"hop_seconds": 0}, "0.01 s or more"),
            ({"smoothing_seconds": -1}, "0 \\(none\\) or more"),
            ({"sampling_rate": 0}, "1000 to 768000 Hz, but it is 0 Hz"),
            ({"detector": "loud"}, "energy, silero, none"),
        ],
    )
    def test_of_settings(self, wrong, match):
        with pytest.raises(SerError, match=match):
            Stream(Loudness(), **wrong)

    def test_of_samples(self):
        stream = Stream(Loudness())
        with pytest.raises(SerError, match="Divide 16-bit integers"):
            stream.push(np.zeros(100, np.int16))
        with pytest.raises(SerError, match="the stream: holds NaN"):
            stream.push(np.full(100, np.nan, np.float32))
        stream.finish()
        for late in (lambda: stream.push(babble(1)), stream.finish):
            with pytest.raises(SerError, match="finished"):
                late()


class TestBlocks:
    @pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
    def test_joined_are_what_decode_reads(self, suffix, tmp_path):
        path = tmp_path / f"a.{suffix}"
        soundfile.write(path, np.stack([babble(3.3, 0, 44100), babble(3.3, 1, 44100)], axis=1), 44100)
        with reading.opened(path) as audio:
            assert audio.sampling_rate == 44100
            pieces = list(audio.blocks(0.5))
        assert [len(piece) for piece in pieces[:-1]] == [22050] * (len(pieces) - 1)
        np.testing.assert_array_equal(np.concatenate(pieces), reading.decode(path)[0])

    def test_a_recording_is_cut_likewise(self):
        with reading.opened(Recording(babble(1.2), RATE)) as audio:
            pieces = list(audio.blocks(0.5))
        assert [samples.shape for samples in pieces] == [(8000, 1), (8000, 1), (3200, 1)]
        nothing = Recording(np.zeros(0, np.float32), RATE)
        with pytest.raises(SerError, match="0 samples"), reading.opened(nothing) as audio:
            next(audio.blocks(0.5))

    def test_errors_are_those_of_decode(self, tmp_path):
        made = {
            name: tmp_path / name for name in ("text.wav", "empty.wav", "gone.wav", "tiny.wav", "cut.flac", "nan.wav")
        }
        made["text.wav"].write_text("hello")
        made["empty.wav"].touch()
        soundfile.write(made["tiny.wav"], babble(1)[:100], RATE)
        soundfile.write(made["cut.flac"], babble(5), RATE)
        made["cut.flac"].write_bytes(made["cut.flac"].read_bytes()[:-30000])
        late = babble(5)
        late[-1] = np.nan
        soundfile.write(made["nan.wav"], late, RATE, subtype="FLOAT")
        for path in made.values():
            with pytest.raises(SerError) as expected:
                reading.decode(path)
            with pytest.raises(SerError) as caught, reading.opened(path) as audio:
                list(audio.blocks(1.0))
            reason = str(expected.value).split(":", 1)[1].split(",")[0]
            assert str(path) in str(caught.value) and reason.split(" promised")[-1] in str(caught.value)


class TestTimeline:
    def test_a_bar_counts_seconds(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(timelines, "BLOCK_SECONDS", 1)
        slow = Loudness()
        monkeypatch.setattr(timelines, "tqdm", lambda **options: tqdm_now(**options | {"delay": 0, "mininterval": 0}))
        timeline(slow, Recording(babble(4), RATE))
        assert "4/4 s" in capsys.readouterr().err
        timeline(slow, mp3_without_length(tmp_path / "a.mp3", babble(4.5), RATE))
        assert "4/? s" in capsys.readouterr().err
        timeline(slow, Recording(babble(4), RATE), progress=False)
        assert capsys.readouterr().err == ""

    def test_name_and_envelope_survive_joining(self):
        one = timeline(Loudness(), Recording(babble(4), RATE, "one"), progress=False)
        two = timeline(Loudness(), Recording(babble(5), RATE, "two"), progress=False)
        assert one.attrs["name"] == "one" and len(pd.concat([one, two])) == len(one) + len(two)

    def test_the_envelope_is_bounded_and_misses_no_peak(self, monkeypatch):
        monkeypatch.setattr(timelines, "ENVELOPE_POINTS", 50)
        samples = babble(7.77)
        samples[40000] = 0.99
        whole, pieces = Envelope(RATE), Envelope(RATE)
        whole.push(samples)
        for piece in np.array_split(samples, 31):
            pieces.push(piece)
        assert whole.as_lists() == pieces.as_lists()
        table = pd.DataFrame(whole.as_lists())
        assert 25 < len(table) <= 50 and table["time"].iloc[-1] < 7.9
        assert table["low"].min() == samples.min() and table["high"].max() == samples.max()
        width = table["time"].diff().iloc[1]
        assert abs(table["time"][table["high"].idxmax()] - 2.5) <= width / 2

    def test_predict_gives_the_mean_of_a_long_recordings_windows(self, tmp_path):
        soundfile.write(tmp_path / "long.wav", babble(40), RATE)
        predictor = Loudness()
        table = predict.predict(predictor, tmp_path / "long.wav", progress=False)
        windows = timeline(predictor, tmp_path / "long.wav", smoothing_seconds=0, progress=False)
        assert len(windows) == 38 and table["error"].tolist() == [""]
        np.testing.assert_allclose(table[EMOTIONS].to_numpy()[0], windows[EMOTIONS].mean())
        soundfile.write(tmp_path / "silent.wav", np.zeros(40 * RATE), RATE)
        assert "no speech" in predict.predict(predictor, tmp_path / "silent.wav", progress=False)["error"][0]


class TestStretches:
    def test_windows_of_one_emotion_are_joined_without_gap_or_overlap(self):
        table = timeline_table(10)
        table["emotion"] = pd.Series(["sad", "sad", "happy", None, None, "happy", "sad", "sad"], dtype=object)
        short = stretches(table)
        assert short["emotion"].where(short["emotion"].notna(), None).tolist() == ["sad", "happy", None, "happy", "sad"]
        assert short["from"].tolist() == [0, 3, 4, 6, 7] and short["to"].tolist() == [3, 4, 6, 7, 10]

    def test_of_a_recording_without_speech(self):
        table = pd.DataFrame({"start": [0.0, 2.0], "end": [4.0, 6.0], "emotion": [None, None], "certain": [None, None]})
        short = stretches(table)
        assert short[["from", "to"]].to_numpy().tolist() == [[0, 6]] and short["emotion"].isna().all()

    def test_of_one_window(self):
        assert stretches(timeline_table(3)).drop(columns="emotion").to_numpy().tolist() == [[0, 3]]


@pytest.fixture
def files(tmp_path):
    """Two files of one stem, and one that is no audio."""
    for place in ("one/a.wav", "two/A.flac"):
        (tmp_path / place).parent.mkdir()
        soundfile.write(tmp_path / place, babble(4), RATE)
    (tmp_path / "bad.wav").write_text("no audio")
    return [tmp_path / "one", tmp_path / "bad.wav", tmp_path / "two" / "A.flac"]


class TestFiles:
    def test_each_has_its_own_and_nothing_lies_beside_the_audio(self, files, tmp_path):
        results = list(write_timelines(Loudness(), files, tmp_path / "out", progress=False, hop_seconds=0.5))
        assert [path.name for path, _, _ in results] == ["a.wav", "bad.wav", "A.flac"]
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["A-2-timeline.csv", "A-2-timeline.png", "a-timeline.csv", "a-timeline.png"]
        assert isinstance(results[1][1], SerError) and results[1][2] is None
        read = pd.read_csv(results[0][2], keep_default_na=False, na_values=[""])
        pd.testing.assert_frame_equal(read, results[0][1], check_dtype=False, atol=1e-4)
        assert len(read) == 3 and len(list((tmp_path / "one").iterdir())) == 1

    def test_a_wrong_setting_is_one_error(self, files, tmp_path):
        with pytest.raises(SerError, match="no more than the window"):
            next(write_timelines(Loudness(), files, tmp_path, hop_seconds=9))
        with pytest.raises(SerError, match="nothing to predict"):
            next(write_timelines(Loudness(), [], tmp_path))


class TestCommand:
    @pytest.fixture
    def ser(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(
            run, "load_run", lambda _: SimpleNamespace(predictor=lambda fold: Loudness(), emotions=EMOTIONS)
        )
        monkeypatch.chdir(tmp_path)

        def command(*arguments):
            status = cli.main(["predict", "RUN", *map(str, arguments)])
            return status, *capsys.readouterr()

        return command

    def test_prints_the_emotions_over_time(self, ser, files, tmp_path):
        status, out, err = ser(*files, "--timeline")
        assert status == 1 and "bad.wav: expected WAV" in err and "1 of 3 files" in err
        assert out.splitlines()[0] == str(tmp_path / "one" / "a.wav")
        assert out.splitlines()[1].split() == ["from", "to", "emotion"]
        assert (tmp_path / "a-timeline.csv").is_file() and (tmp_path / "A-2-timeline.png").is_file()

    def test_json_lines(self, ser, tmp_path):
        soundfile.write(tmp_path / "x.wav", np.concatenate([babble(3), np.zeros(4 * RATE)]), RATE)
        arguments = ["--window", 2, "--hop", 1, "--smoothing", 0, "--speech", "energy", "--output", "o", "--json"]
        status, out, _ = ser("x.wav", "--timeline", *arguments)
        lines = [json.loads(line) for line in out.splitlines()]
        assert status == 0 and [line["end"] for line in lines] == [2, 3, 4, 5, 6, 7]
        assert list(lines[0]) == ["path", "start", "end", "speech", "emotion", "certain", "probabilities"]
        assert sum(lines[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert lines[-1]["emotion"] is None and lines[-1]["probabilities"] is None
        assert (tmp_path / "o" / "x-timeline.png").read_bytes()[:4] == b"\x89PNG"

    def test_its_options_alone_are_a_mistake(self, ser, files):
        assert "--learn-speaker, --speech and --output are about a timeline" in ser(*files, "--hop", 1)[2]
        assert "are about a timeline: give --timeline" in ser(*files, "--output", "x")[2]


class TestPicture:
    def test_names_the_recording_and_the_emotions_and_silence_only_where_it_is(self):
        figure = plots.timeline(timeline_table(20, silent=[4, 5], name="a.wav"))
        assert figure.get_suptitle() == "Emotion over time: a.wav"
        assert [text.get_text() for text in figure.legends[0].texts] == ["no speech", "neutral", "happy", "sad"]
        without = plots.timeline(timeline_table(20))
        assert [text.get_text() for text in without.legends[0].texts] == ["neutral", "happy", "sad"]

    def test_without_its_envelope_has_probabilities_alone(self):
        table = timeline_table()
        table.attrs = {}
        assert len(plots.timeline(table).axes) == 1 and len(plots.timeline(timeline_table()).axes) == 2

    @pytest.mark.parametrize(("seconds", "label"), [(20, "time (s)"), (600, "time (min:s)"), (7200, "time (h:min)")])
    def test_its_axis_has_round_times(self, seconds, label):
        axes = plots.timeline(timeline_table(seconds, hop=3.0)).axes[-1]
        assert axes.get_xlabel().startswith(label)
        ticks = [tick.get_text() for tick in axes.get_xticklabels()]
        assert {20: "10", 600: "5:00", 7200: "1:00"}[seconds] in ticks and len(ticks) < 15


class Offset(Loudness):
    """As `Loudness`, with inputs, and answers that the profile moves."""

    takes_profile = True

    def answers(self, recordings, profile=None):
        probabilities, inputs, is_speech = super().answers(recordings)
        if profile is not None:
            probabilities = probabilities * np.exp(-(np.asarray(profile.mean) * profile.count))
            probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
        return Answers(probabilities, inputs.astype(np.float32), is_speech)


class TestLearningTheSpeaker:
    def test_each_window_is_answered_with_the_profile_of_all_up_to_it(self):
        samples, settings = babble(9), {"detector": "none", "smoothing_seconds": 0}
        table = pushed(Stream(Offset(), learn_speaker=True, **settings), [samples])
        windows = [
            Recording(samples[row.start * RATE :][: 3 * RATE], RATE)
            for row in table.astype({"start": int}).itertuples()
        ]
        answers = Offset().answers(windows)
        for end in range(1, len(windows) + 1):
            profile = profile_of(answers.inputs[:end], answers.probabilities[:end].argmax(axis=1))
            expected = Offset().answers(windows[end - 1 : end], profile).probabilities[0]
            assert table.iloc[end - 1][EMOTIONS].tolist() == pytest.approx(expected.tolist(), abs=1e-5)

    def test_the_pieces_change_nothing(self):
        samples = babble(9)
        whole = pushed(Stream(Offset(), learn_speaker=True, detector="none"), [samples])
        pieces = pushed(Stream(Offset(), learn_speaker=True, detector="none"), np.array_split(samples, 37))
        pd.testing.assert_frame_equal(pieces, whole, rtol=0, atol=1e-6)

    def test_a_model_without_profiles_refuses(self):
        with pytest.raises(SerError, match="learns nothing of a speaker"):
            Stream(Loudness(), learn_speaker=True)
