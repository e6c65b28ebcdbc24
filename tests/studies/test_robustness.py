"""Cross-corpus scores and degraded test clips: who trains, who is tested, who is in the babble, and the cache."""

import logging
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import make_clips, tone_clips
from invented_tables import conditions_table, matrix_table

from ser_lib.audio import features, reading
from ser_lib.audio.degradations import Condition
from ser_lib.common.errors import SerError
from ser_lib.protocols.splits import make_split
from ser_lib.reports import plots
from ser_lib.studies import robustness
from ser_lib.studies.probe import probe
from ser_lib.studies.robustness import ALL_OTHERS, cross_corpus_matrix, degraded_features, under_conditions

RATE = 16000
AUDIO = {"sampling_rate": RATE, "trim_below_db": 30.0}
WHITE, BABBLE = Condition("white", 0.0), Condition("babble", 0.0)


def shifted_problem(turned="c", emotions=("neutral", "happy", "sad")):
    """Three corpora with different offsets; in one of them the emotions are exchanged as well."""
    clips = make_clips(6, emotions, takes=1, corpora=("a", "b", "c"))
    rng = np.random.default_rng(0)
    signal = clips["emotion"].map(list(emotions).index).to_numpy()
    signal = np.where(clips["corpus"] == turned, (signal + 1) % len(emotions), signal)
    place = clips["corpus"].map({"a": 0.0, "b": 0.2, "c": -0.2}).to_numpy()
    features = np.eye(len(emotions))[signal] + place[:, None] + 0.2 * rng.standard_normal((len(clips), 1))
    return clips, features.astype(np.float32)


@pytest.fixture(scope="module")
def matrix_and_splits():
    """The matrix of the shifted problem, and the split that each of its cells was fitted on, in turn."""
    used = []

    def watched(clips, features, split):
        used.append(split)
        return probe(clips, features, split)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robustness, "probe", watched)
        return cross_corpus_matrix(*shifted_problem(), folds=3), used


def test_the_matrix_has_each_pair_and_tells_corpora_apart_that_disagree(matrix_and_splits):
    matrix, _ = matrix_and_splits
    assert len(matrix) == 9 + 3
    uar = matrix.set_index(["train", "test"])["uar"]
    assert min(uar["a", "a"], uar["c", "c"], uar["a", "b"], uar["b", "a"]) > 0.9
    assert max(uar["a", "c"], uar["c", "b"]) < 0.2
    assert (matrix["chance"] == 1 / 3).all() and (matrix["emotions"] == "neutral happy sad").all()
    assert (matrix["n_test"] == 36).all() and (matrix["test_speakers"] == 6).all()
    assert (matrix["uar_low"] <= matrix["uar"]).all() and (matrix["uar"] <= matrix["uar_high"]).all()


def test_no_cell_trains_on_what_it_tests_and_each_trains_on_all_else_that_it_may(matrix_and_splits):
    clips, _ = shifted_problem()
    for cell, split in zip(matrix_and_splits[0].itertuples(), matrix_and_splits[1], strict=True):
        others = {"a", "b", "c"} - {cell.test}
        trained = others if cell.train == ALL_OTHERS else {cell.train}
        may_train = set(clips.loc[clips["corpus"].isin(trained), "speaker"])
        for _, fold in split.groupby("fold"):
            assert set(fold["subset"]) == {"train", "test"}
            speakers = fold.groupby("subset")["speaker"].agg(set)
            assert set(fold.loc[fold["subset"] == "test", "corpus"]) == {cell.test}
            assert speakers["train"] == may_train - speakers["test"]


@pytest.fixture
def unfitted(monkeypatch):
    """A probe that is always right, for tests of its arguments."""

    def right(clips, features, split):
        rows = np.flatnonzero(clips["clip_id"].isin(split.loc[split["subset"] == "test", "clip_id"]))
        truth = clips["emotion"].iloc[rows].reset_index(drop=True)
        table = pd.get_dummies(truth, dtype=float).assign(truth=truth, clip_id=clips["clip_id"].to_numpy()[rows])
        return table.set_index(rows)

    monkeypatch.setattr(robustness, "probe", right)


def test_each_cell_names_the_emotions_that_its_sides_share(unfitted):
    clips, x = shifted_problem(emotions=("neutral", "calm", "happy", "sad", "disgust"))
    keep = (clips["emotion"] != "disgust") | (clips["corpus"] != "b")
    matrix = cross_corpus_matrix(clips[keep], x[keep.to_numpy()], folds=2).set_index(["train", "test"])
    assert matrix.loc[("a", "b"), "emotions"] == matrix.loc[("b", "a"), "emotions"] == "neutral happy sad"
    assert matrix.loc[("a", "c"), "emotions"] == "neutral happy sad disgust"
    assert matrix.loc[(ALL_OTHERS, "c"), "chance"] == 0.25
    assert matrix.loc[("b", "b"), "n_test"] == 36


def test_impossible_cells_are_left_out_with_a_warning(caplog, unfitted):
    clips, x = shifted_problem()
    alone = ~clips["speaker"].isin([f"b-{n:02d}" for n in range(2, 7)])
    sad = (clips["corpus"] != "c") | (clips["emotion"] == "sad")
    keep = (alone & sad).to_numpy()
    with caplog.at_level(logging.WARNING):
        matrix = cross_corpus_matrix(clips[keep], x[keep], folds=2)
    cells = set(zip(matrix["train"], matrix["test"], strict=True))
    assert cells == {("a", "a"), ("a", "b"), ("b", "a"), (ALL_OTHERS, "a"), (ALL_OTHERS, "b")}
    assert "b within itself is left out: it has one speaker" in caplog.text
    assert "a to c is left out: they share 1 emotions" in caplog.text


def test_two_corpora_need_no_row_for_all_the_others_and_one_is_too_few(unfitted):
    clips, x = shifted_problem()
    two = (clips["corpus"] != "c").to_numpy()
    assert ALL_OTHERS not in set(cross_corpus_matrix(clips[two], x[two], folds=2)["train"])
    one = (clips["corpus"] == "a").to_numpy()
    with pytest.raises(SerError, match="needs two corpora or more, got a"):
        cross_corpus_matrix(clips[one], x[one])
    with pytest.raises(SerError, match="features of 108 clips, got those of 9"):
        cross_corpus_matrix(clips, x[:9])


class Reader:
    """Features of clips by reading their files, as the real ones are, and a note of every file read."""

    def __init__(self, hertz=range(100, 3000, 100), fails=False):
        self.hertz, self.tables, self.fails = list(hertz), [], fails

    def __call__(self, clips):
        self.tables.append(clips)
        if self.fails:
            raise KeyboardInterrupt
        return np.stack([self.of(path) for path in clips["path"]]).astype(np.float32)

    def of(self, path):
        waveform = reading.prepare(path, **AUDIO)
        power = np.abs(np.fft.rfft(waveform, RATE)) ** 2  # bins of 1 Hz
        return np.log([power[hertz - 20 : hertz + 20].sum() + 1e-9 for hertz in self.hertz])


@pytest.fixture
def problem(tmp_path):
    clips = tone_clips(tmp_path, takes=2, seconds=0.25)
    return clips, make_split(clips, "speaker", 0, folds=2)


def test_conditions_are_scored_beside_clean_clips(problem):
    clips, split = problem
    conditions = [WHITE, Condition("white", -30.0), Condition("first", 0.1), Condition("telephone")]
    table = under_conditions(clips, split, Reader(), conditions, audio=AUDIO)
    assert list(table["condition"]) == ["clean", "white 0 dB", "white -30 dB", "first 0.1 s", "telephone"]
    uar = table.set_index("condition")["uar"]
    assert uar["clean"] > 0.9 and uar["first 0.1 s"] > 0.6 and uar["white -30 dB"] < 0.5
    assert (table["n_test"] == len(clips)).all() and (table["chance"] == 1 / 3).all()
    assert table["value"].isna().tolist() == [True, False, False, False, True]


def test_a_second_run_reads_nothing_again_and_says_the_same(problem):
    clips, split = problem
    first, second = Reader(), Reader()
    before = under_conditions(clips, split, first, [WHITE, BABBLE], audio=AUDIO)
    after = under_conditions(clips, split, second, [WHITE, BABBLE], audio=AUDIO)
    assert len(first.tables) == 3 and len(second.tables) == 1
    pd.testing.assert_frame_equal(before, after)
    other = Reader(hertz=range(150, 3000, 100))  # features of another function have another key
    under_conditions(clips, split, other, [WHITE], audio=AUDIO)
    assert len(other.tables) == 2


def test_a_killed_run_meets_the_same_clips_again_and_leaves_no_file(problem):
    clips, split = problem
    clean = Reader()(clips)
    killed, again = Reader(fails=True), Reader()
    with pytest.raises(KeyboardInterrupt):
        degraded_features(clips, split, killed, clean, BABBLE, AUDIO)
    degraded_features(clips, split, again, clean, BABBLE, AUDIO)
    hashes, hashes_again = killed.tables[0]["audio_hash"], again.tables[0]["audio_hash"]
    pd.testing.assert_series_equal(hashes, hashes_again)  # so that a store finds what was done
    assert hashes.is_unique and not set(hashes) & set(clips["audio_hash"])
    assert not any(Path(path).exists() for path in [*killed.tables[0]["path"], *again.tables[0]["path"]])


def test_the_mfcc_features_of_the_package_will_do(problem):
    clips, split = problem
    clips, split = clips.head(8), split[split["clip_id"].isin(clips["clip_id"].head(8))]
    settings = {"kind": "mfcc", "pooling": "mean", "chroma": False, "n_mfcc": 13}
    clean = features.extract(clips, AUDIO, settings)
    read = partial(features.extract, audio_settings=AUDIO, feature_settings=settings)
    degraded = degraded_features(clips, split, read, clean, WHITE, AUDIO)
    assert degraded.shape == (8, 13) and np.isfinite(degraded).all()
    assert np.abs(degraded - clean).max() > 1


def test_only_tested_clips_are_degraded(problem):
    clips, split = problem
    fold = split[split["fold"] == 0]
    degraded = degraded_features(clips, fold, Reader(), Reader()(clips), WHITE, AUDIO)
    tested = clips["clip_id"].isin(fold.loc[fold["subset"] == "test", "clip_id"])
    assert (np.isfinite(degraded).all(axis=1) == tested).all()
    with pytest.raises(SerError, match="tested in several folds"):
        degraded_features(clips, pd.concat([split, split.assign(fold=9)]), Reader(), Reader()(clips), WHITE, AUDIO)


def test_levels_are_those_of_the_voice_without_its_silent_ends_and_nothing_is_clipped(tmp_path):
    clips = make_clips(2, takes=1)
    voice = 0.9 * np.sin(np.arange(RATE // 2) / 7)
    silence = np.zeros(RATE)
    for row, path in enumerate(clips["path"]):
        clips.loc[row, "path"] = str(tmp_path / Path(path).name)
        soundfile.write(clips.loc[row, "path"], np.concatenate([silence, voice, silence]), RATE)
    written = []

    def read(table):
        written.append([soundfile.read(path)[0] for path in table["path"]])
        return np.zeros((len(table), 1))

    split = make_split(clips, "speaker", 0, folds=2)
    degraded_features(clips, split, read, np.zeros((len(clips), 1)), WHITE, AUDIO)
    noisy = written[0][0]
    assert RATE // 2 <= len(noisy) < RATE and np.abs(noisy).max() > 1.5
    assert np.square(noisy).sum() == pytest.approx(2 * np.square(voice).sum(), rel=0.1)  # noise as loud as the voice


def test_babble_is_made_of_training_speakers_as_many_as_there_are():
    clips = make_clips(9, takes=2).sample(frac=1, random_state=0).reset_index(drop=True)
    split = make_split(clips, "speaker", 0, folds=3)
    chosen = robustness.babble_rows(clips, split)
    assert set(chosen) == set(clips["clip_id"])
    for _, fold in split.groupby("fold"):
        trained = set(fold.loc[fold["subset"] == "train", "clip_id"])
        n_speakers = fold.loc[fold["subset"] == "train", "speaker"].nunique()
        for clip_id in fold.loc[fold["subset"] == "test", "clip_id"]:
            voices = clips.iloc[chosen[clip_id]]
            assert set(voices["clip_id"]) <= trained and voices["clip_id"].is_unique
            assert len(voices) == robustness.VOICES and voices["speaker"].nunique() == min(6, n_speakers)
    turned = clips.iloc[::-1].reset_index(drop=True)
    again = robustness.babble_rows(turned, make_split(turned, "speaker", 0, folds=3))
    assert all(list(clips["clip_id"].iloc[chosen[i]]) == list(turned["clip_id"].iloc[again[i]]) for i in chosen)


def test_in_babble_no_voice_of_a_test_or_validation_speaker_is_heard(tmp_path):
    # Each speaker is a pure tone, so that whoever speaks can be seen in the spectrum.
    clips = make_clips(6, takes=1)
    hertz = {speaker: 300 * (number + 1) for number, speaker in enumerate(sorted(clips["speaker"].unique()))}
    for row, speaker in enumerate(clips["speaker"]):
        clips.loc[row, "path"] = str(tmp_path / f"{row}.wav")
        pitch = hertz[speaker] + row % 6  # so that two clips of a speaker never cancel each other
        wave = 0.5 * np.sin(2 * np.pi * pitch * np.arange(RATE) / RATE)
        soundfile.write(clips.loc[row, "path"], wave, RATE)
    split = make_split(clips, "speaker", 0, folds=3)
    read = Reader(hertz.values())
    degraded = degraded_features(clips, split, read, read(clips), BABBLE, AUDIO)
    loud = degraded > degraded.max(axis=1, keepdims=True) - 7  # 30 dB
    for _, fold in split.groupby("fold"):
        trained = set(fold.loc[fold["subset"] == "train", "speaker"])
        for row in np.flatnonzero(clips["clip_id"].isin(fold.loc[fold["subset"] == "test", "clip_id"])):
            speaking = {speaker for speaker, is_loud in zip(hertz, loud[row], strict=True) if is_loud}
            assert speaking == trained | {clips["speaker"][row]}


def texts(figure):
    return [one.get_text() for axes in figure.axes for one in axes.texts]


def test_the_matrix_is_drawn_with_its_diagonal_framed_and_all_the_others_last():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.cross_corpus_heatmap(matrix_table(["ravdess", "savee", "tess"]))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ravdess", "savee", "tess", ALL_OTHERS]
    assert len(axes.patches) == 3
    assert texts(figure).count("0.75") == 3 and texts(figure).count("0.25") == 9
    assert "chance 0.167" in figure.get_supxlabel()


def test_the_matrix_states_each_chance_where_they_differ_and_leaves_cells_empty():
    table = matrix_table(["a", "b"])
    table.loc[1, "chance"] = 0.25
    figure = plots.cross_corpus_heatmap(table.drop(index=0))
    assert "0.20 to 0.30\nchance 0.250" in texts(figure) and len(texts(figure)) == 2 * 5


def test_noise_is_drawn_over_its_level_and_conditions_as_points():
    table = conditions_table()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curves, points = plots.noise_curves(table), plots.condition_points(table)
    lines = [line for line in curves.axes[0].lines if line.get_label().endswith("noise")]
    assert [line.get_label() for line in lines] == ["white noise", "pink noise", "babble noise"]
    assert list(lines[0].get_xdata()) == [0, 5, 10, 20]
    assert {"clean 0.800", "chance 0.125"} <= set(texts(curves))
    labels = [[label.get_text() for label in axes.get_yticklabels()] for axes in points.axes]
    assert labels[0][0] == "reverberation 0.3 s" and labels[1][0] == "first 0.5 s"
    assert labels[0][-1] == labels[1][-1] == "clean, whole clips"
