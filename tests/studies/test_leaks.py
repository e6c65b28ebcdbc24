"""Each leak on invented clips with features of known content: honest conditions are at chance, leaky ones are not."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_clips, tone_clips

from ser_lib.audio import reading
from ser_lib.common.errors import SerError
from ser_lib.evaluation import metrics
from ser_lib.protocols.splits import make_split
from ser_lib.reports import plots
from ser_lib.studies import leaks
from ser_lib.studies.conditions import COLUMNS, difference, random_split, speaker_split
from ser_lib.studies.probe import AUDIO, feature_reader

EMOTIONS = ("neutral", "happy", "sad")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def of_emotion(clips, deviation=0.3, width=6):
    signal = np.eye(8, width)[pd.factorize(clips["emotion"])[0]]
    return (signal + deviation * noise(len(clips), width)).astype(np.float32)


def row(table, condition):
    (values,) = table[table["condition"] == condition].to_dict("records")
    return values


@pytest.fixture
def clips():
    return make_clips(speakers=10, emotions=EMOTIONS, takes=2)


class TestSplits:
    def test_at_random_differs_from_by_speaker_in_the_speakers_alone(self, clips):
        by_speaker, at_random, other_seed = speaker_split(clips, 5), random_split(clips, 5), random_split(clips, 5, 1)
        sizes = ["fold", "subset", "emotion"]
        assert by_speaker.groupby(sizes).size().equals(at_random.groupby(sizes).size())
        tested = at_random[at_random["subset"] == "test"]
        assert sorted(tested["clip_id"]) == sorted(clips["clip_id"])
        for _, fold in at_random.groupby("fold"):
            parts = [set(part["clip_id"]) for _, part in fold.groupby("subset")]
            assert len(parts) == 2 and not parts[0] & parts[1]
            assert set(fold["speaker"][fold["subset"] == "test"]) & set(fold["speaker"][fold["subset"] == "train"])
        columns = clips.columns
        same = at_random.drop_duplicates("clip_id").sort_values("clip_id")[columns].reset_index(drop=True)
        assert same.equals(clips.sort_values("clip_id", ignore_index=True))
        assert not at_random.equals(other_seed)


class TestDuplicateFiles:
    def test_a_feature_that_only_identifies_the_recording_helps_duplicates_alone(self, clips):
        table = leaks.duplicate_files(*leaks.with_duplicates(clips, noise(len(clips), 400)))
        assert abs(row(table, "distinct clips")["uar"] - 1 / 3) < 0.15
        leaky = row(table, "all files")
        assert row(table, "files with a duplicate in training")["uar"] == 1
        assert row(table, "files without one")["uar"] < 0.6
        assert leaky["n_test"] == len(clips) and leaky["n_train"] == 1.6 * len(clips)
        shares = table.loc[table["part_of"] == "all files", "share"]
        assert shares.sum() == pytest.approx(1) and 0.6 < shares.max() < 0.95
        assert leaky["points"] == pytest.approx(100 * (leaky["uar"] - row(table, "distinct clips")["uar"]), abs=1e-9)
        assert leaky["points"] > 30 and leaky["points_low"] > 0

    def test_an_archive_without_copies_is_refused(self, clips):
        with pytest.raises(SerError, match="120 distinct clips: load it with keep_duplicates=True"):
            leaks.duplicate_files(clips, noise(len(clips), 3))


def test_same_speaker_where_features_name_speaker_and_emotion_together(clips):
    # A code for each speaker and emotion, which is of no use for another speaker.
    code = clips.groupby(["speaker", "emotion"]).ngroup()
    features = (noise(30, 60)[code] + 0.1 * noise(len(clips), 60, seed=1)).astype(np.float32)
    table = leaks.same_speaker(clips, features)
    honest, leaky = row(table, "by speaker"), row(table, "at random")
    assert honest["uar"] < 0.5 and leaky["uar"] > 0.9
    assert honest["n_train"] == leaky["n_train"] == 96
    assert honest["interval_over"] == "speakers" and honest["test_speakers"] == 10


class TestChoosing:
    def test_the_layer_that_helps_is_found_without_the_test(self, clips):
        layers = np.stack([noise(len(clips), 6), of_emotion(clips), noise(len(clips), 6, seed=2)], axis=1)
        table = leaks.layer_chosen_on_test(clips, layers)
        assert (table["uar"] > 0.85).all() and (table["points"].dropna() == 0).all()
        with pytest.raises(SerError, match="two layers or more"):
            leaks.layer_chosen_on_test(clips, layers[:, 0])

    def test_layers_of_nothing_look_like_something_when_the_test_chooses(self, clips):
        table = leaks.layer_chosen_on_test(clips, noise(len(clips), 8, 5))
        assert abs(row(table, "validation speakers choose")["uar"] - 1 / 3) < 0.1
        assert row(table, "each fold's test clips choose")["points"] > 8

    def test_the_more_candidates_the_more_the_best_flatters(self, clips):
        table = leaks.best_of_many(clips, noise(len(clips), 5), counts=(2, 12), folds=3)
        few, many = (row(table, f"best of {count} on test")["points"] for count in (2, 12))
        assert many > few > 0 and many > 8
        assert abs(row(table, "best of 12 on validation")["uar"] - 1 / 3) < 0.12

    def test_the_epoch(self, clips):
        table = leaks.epoch_chosen_on_test(clips, noise(len(clips), 5), epochs=8, folds=3)
        honest, leaky = row(table, "validation speakers choose"), row(table, "test clips choose")
        assert abs(honest["uar"] - 1 / 3) < 0.12 and leaky["points"] > 5
        assert honest["n_train"] == leaky["n_train"]


class TestCopies:
    def test_a_copy_in_training_gives_its_original_away(self, clips):
        features = noise(len(clips), 300)
        copies = {name: features + 0.1 * noise(*features.shape, seed=i) for i, name in enumerate("ab", 1)}
        table = leaks.copies_before_split(clips, features, copies)
        honest, leaky = row(table, "split, then copied"), row(table, "copied, then split")
        by_speaker = row(table, "copied, then split by speaker")
        assert abs(honest["uar"] - 1 / 3) < 0.15 and abs(by_speaker["uar"] - 1 / 3) < 0.15
        assert leaky["uar"] > 0.9 and leaky["points_low"] > 0
        assert row(table, "copied, then split: originals")["points"] > 30
        assert row(table, "copied, then split: originals")["share"] == pytest.approx(1 / 3)
        assert table["n_train"].nunique() == 1 and (table["n_test"] == len(clips)).all()
        assert table["leaky"].tolist() == [False, False, True, True, False, False]

    def test_features_of_copies_follow_the_rows(self, tmp_path):
        clips = tone_clips(tmp_path, speakers=2, takes=2).sample(frac=1, random_state=0, ignore_index=True)

        def loudness(copies):
            waveforms = reading.prepare_all(copies["path"], {}, progress=False)
            assert (copies["sampling_rate"] == 16000).all()
            assert copies["seconds"].tolist() == [len(waveform) / 16000 for waveform in waveforms]
            return np.array([[len(waveform), np.square(waveform).mean()] for waveform in waveforms])

        arrays = leaks.features_of_copies(clips, loudness, {"normalise": "peak"})
        assert list(arrays) == list(leaks.COPIES)
        assert (arrays["speed 1.1"][:, 0] < arrays["noise 20 dB"][:, 0]).all()
        assert (arrays["speed 0.9"][:, 0] > arrays["noise 20 dB"][:, 0]).all()
        one = leaks.features_of_copies(clips.iloc[[3]], loudness, {"normalise": "peak"})
        assert np.array_equal(one["noise 20 dB"][0], arrays["noise 20 dB"][3])

    def test_features_of_copies_are_what_reads_the_originals(self, tmp_path):
        clips = tone_clips(tmp_path, speakers=2, takes=2)
        read = feature_reader()
        copies = leaks.features_of_copies(clips, read, AUDIO)
        originals = read(clips.assign(audio_hash=clips["clip_id"]))
        assert copies["noise 20 dB"].shape == originals.reshape(len(clips), -1).shape == (len(clips), 80)
        assert 0 < np.abs(copies["noise 20 dB"] - originals.reshape(len(clips), -1)).mean() < 20


class TestLabels:
    @pytest.fixture
    def corpora(self):
        clips = make_clips(4, (*EMOTIONS, "calm"), corpora=("ravdess", "tess"))
        return clips[(clips["corpus"] == "ravdess") | (clips["emotion"] != "calm")].reset_index(drop=True)

    def test_a_feature_that_only_names_the_corpus_finds_calm(self, corpora):
        named = (corpora["corpus"] == "tess").to_numpy()[:, None] + 0.05 * noise(len(corpora), 4)
        table = leaks.label_decided_by_corpus(corpora, named.astype(np.float32), folds=4)
        assert abs(row(table, "without calm")["uar"] - 1 / 3) < 0.12
        assert row(table, "the corpus alone: calm")["uar"] == 1
        # Neutral's, happy's and sad's training clips are half in each corpus: the first of them, and calm.
        assert row(table, "the corpus alone")["uar"] == pytest.approx((1 + 0.5) / 4)
        assert row(table, "all emotions: calm")["leaky"] and row(table, "all emotions")["chance"] == 0.25
        assert row(table, "all emotions")["corpora"] == "ravdess+tess"
        assert row(table, "all emotions: calm")["chance"] == 0.25

    def test_corpora_that_share_all_emotions_are_refused(self, corpora):
        same = corpora[corpora["emotion"] != "calm"].reset_index(drop=True)
        for some in (same, corpora[corpora["corpus"] == "ravdess"].reset_index(drop=True)):
            with pytest.raises(SerError, match="share some emotions, but not all"):
                leaks.label_decided_by_corpus(some, noise(len(some), 2))

    def test_speakers_as_emotions_score_high_although_features_hold_no_emotion(self):
        clips = make_clips(speakers=4, emotions=EMOTIONS, takes=4, corpora=("savee",))
        voices = np.eye(4)[pd.factorize(clips["speaker"])[0]] + 0.1 * noise(len(clips), 4)
        table = leaks.speaker_as_label(clips, voices.astype(np.float32))
        assert row(table, "speakers as emotions at random")["uar"] == 1
        assert row(table, "speakers as emotions at random")["chance"] == 0.25
        assert abs(row(table, "true emotions by speaker")["uar"] - 1 / 3) < 0.15
        assert abs(row(table, "true emotions at random")["uar"] - 1 / 3) < 0.15

    def test_more_speakers_than_emotions_are_refused(self, clips):
        with pytest.raises(SerError, match="at most 8 speakers.*got 10"):
            leaks.speaker_as_label(clips, noise(len(clips), 2))


class TestNormalising:
    def test_an_offset_of_all_clips_of_a_speaker_is_removed_by_the_speakers_mean(self, clips):
        speaker = pd.factorize(clips["speaker"])[0]
        features = of_emotion(clips, 0.1, 4) + 5 * noise(10, 4)[speaker]
        table = leaks.normalised_with_test(clips, features)
        by_speaker = row(table, "each speaker's own (transductive)")
        assert by_speaker["uar"] > 0.95 and by_speaker["points"] > 20 and by_speaker["leaky"]
        honest = row(table, "training clips' mean and deviation")
        assert honest["uar"] < 0.75 and not honest["leaky"]
        assert abs(row(table, "all clips' mean and deviation")["points"]) < 10

    def test_one_loud_speaker_changes_the_mean_of_all_clips(self, clips):
        features = of_emotion(clips, 1.0)
        features[clips["speaker"] == "sample-01"] *= 1000
        table = leaks.normalised_with_test(clips, features)
        assert row(table, "all clips' mean and deviation")["points"] != 0


class TestWorth:
    def test_pairs_conditions_of_several_tables(self, clips):
        tables = [
            leaks.same_speaker(clips, of_emotion(clips, 1.0)),
            leaks.normalised_with_test(clips, of_emotion(clips, 1.0)),
            leaks.same_speaker(clips.assign(corpus="other"), noise(len(clips), 4)),
        ]
        for table in tables:
            assert list(table) == COLUMNS
        worths = leaks.worth(pd.concat(tables))
        assert len(worths) == 4 and worths["points"].is_monotonic_decreasing
        assert np.allclose(worths["points"], 100 * (worths["leaky_uar"] - worths["honest_uar"]))
        assert (worths["points_low"] <= worths["points"]).all()
        assert (worths["points_high"] >= worths["points"]).all()
        other = worths[worths["corpora"] == "other"].iloc[0]
        assert (other["honest"], other["leaky"]) == ("by speaker", "at random")
        assert other["honest_uar"] == row(tables[2], "by speaker")["uar"]
        with pytest.raises(SerError, match="'same speaker' of sample has the condition 'by speaker' twice"):
            leaks.worth(pd.concat([*tables, tables[0]]))

    def test_the_interval_is_paired(self):
        """Two models that err on the same clips differ by nothing, however few the clips."""
        truth = ["happy", "sad"] * 10
        table = pd.DataFrame({"clip_id": [f"sample/{i}" for i in range(20)], "truth": truth})
        right = noise(20) > 0
        happy = (table["truth"] == "happy") == right
        table = table.assign(happy=happy.astype(float), sad=1 - happy.astype(float))
        assert difference(table, table, None) == {"points": 0, "points_low": 0, "points_high": 0}
        perfect = table.assign(happy=(table["truth"] == "happy") * 1.0, sad=(table["truth"] == "sad") * 1.0)
        points = difference(perfect, table, None)
        alone = metrics.score(table)
        assert points["points"] == pytest.approx(100 * (1 - alone["uar"]))
        assert points["points_high"] == pytest.approx(100 * (1 - alone["uar_low"]), abs=3)

    def test_it_is_over_whole_speakers(self):
        speaker_of = pd.Series({f"sample/{i}": f"sample-{i // 10}" for i in range(100)})
        table = pd.DataFrame({"clip_id": speaker_of.index, "truth": ["happy", "sad"] * 50})
        right = (np.arange(100) // 10) % 2 == 0  # whole speakers right or wrong
        happy = ((table["truth"] == "happy") == right).astype(float)
        worse = table.assign(happy=happy, sad=1 - happy)
        best = table.assign(happy=(table["truth"] == "happy") * 1.0, sad=(table["truth"] == "sad") * 1.0)
        by_clip, by_speaker = difference(best, worse, None), difference(best, worse, speaker_of)
        assert by_speaker["points_high"] - by_speaker["points_low"] > 2 * (
            by_clip["points_high"] - by_clip["points_low"]
        )


def test_nothing_is_chosen_on_test_clips_where_it_is_honest(clips):
    """Exchanged test labels change the scores of honest conditions, not their predictions."""
    layers = np.stack([of_emotion(clips, 1.0), of_emotion(clips, 1.2)[:, ::-1]], axis=1)
    split = make_split(clips, "speaker", 0)
    tested = split.loc[(split["subset"] == "test") & (split["fold"] == 0), "clip_id"]
    answers = leaks._Candidates(clips, layers, 5).chosen("", "validation").predictions
    turned = clips["clip_id"].isin(tested)
    swapped = clips.assign(
        emotion=clips["emotion"].mask(
            turned, clips["emotion"].map({"neutral": "sad", "happy": "neutral", "sad": "happy"})
        )
    )
    again = leaks._Candidates(swapped, layers, 5).chosen("", "validation").predictions
    first, second = (table[table["clip_id"].isin(tested)] for table in (answers, again))
    assert first[list(EMOTIONS)].equals(second[list(EMOTIONS)])
    assert (first["truth"].to_numpy() != second["truth"].to_numpy()).all()


class TestPictures:
    def test_one_leak(self, clips):
        table = leaks.duplicate_files(*leaks.with_duplicates(clips, noise(len(clips), 100)))
        figure = plots.honest_and_leaky(table)
        assert figure.get_suptitle() == "Duplicate files: UAR without and with the leak"
        assert f"{row(table, 'all files')['uar']:.3f}" in [text.get_text() for text in figure.axes[0].texts]
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert labels[0] == "distinct clips (120)" and labels[2].startswith("↳ files with a duplicate")

    def test_all_leaks(self, clips):
        table = leaks.same_speaker(clips, of_emotion(clips, 1.0))
        both = pd.concat([table, table.assign(corpora="<b>$x$ 张三", mechanism="other")])
        figure = plots.worth_of_mechanisms(leaks.worth(both))
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert "other, <b>$x$ □□\nat random" in labels
