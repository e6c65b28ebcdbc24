"""Every protocol keeps what it promises, on any table."""

import logging

import numpy as np
import pandas as pd
import pytest
from conftest import make_clips
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_lib.common.errors import SerError
from ser_lib.protocols import splits
from ser_lib.protocols.leak_audit import audit, red_leaks
from ser_lib.protocols.splits import PROTOCOLS, load_split, make_split, save_split

BY_SPEAKER = {"speaker", "speaker-sentence", "leave-one-speaker-out", "emobox", "cross-corpus"}
BY_SPEAKER |= {"speaker-adapted", "enrolled"}
CORPORA = {"emobox": ("savee",), "cross-corpus": ("savee", "tess", "sample")}


def ids(split, subset, fold=0):
    return set(split.loc[(split["subset"] == subset) & (split["fold"] == fold), "clip_id"])


def values(split, column, subset, fold):
    return set(split.loc[(split["subset"] == subset) & (split["fold"] == fold), column])


@st.composite
def ragged_clips(draw, protocol):
    """A table from which clips are missing, but each speaker says each sentence at least once."""
    clips = make_clips(
        speakers=draw(st.integers(4, 8)),
        emotions=("neutral", "happy", "sad")[: draw(st.integers(2, 3))],
        sentences=draw(st.integers(2, 4)),
        takes=draw(st.integers(2, 4)),
        corpora=CORPORA.get(protocol, ("sample",)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    if draw(st.booleans()):
        clips["sex"] = "male"
    shuffled = clips.iloc[rng.permutation(len(clips))]
    kept = rng.random(len(clips)) > draw(st.floats(0, 0.4))
    kept |= ~shuffled.duplicated(["speaker", "sentence"]) | ~shuffled.duplicated(["emotion", "corpus"])
    return shuffled[kept].reset_index(drop=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=20, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000), folds=st.integers(2, 9))
def test_every_protocol_keeps_its_promises(protocol, data, seed, folds):
    clips = data.draw(ragged_clips(protocol))
    split = make_split(clips, protocol, seed, folds=folds, stratify=False)

    assert set(split["protocol"]) == {protocol} and set(split["seed"]) == {seed}
    assert list(split["fold"].unique()) == list(range(split["fold"].nunique()))
    original = clips.set_index("clip_id").loc[split["clip_id"]].reset_index()[clips.columns]
    pd.testing.assert_frame_equal(split[clips.columns], original)
    assert not split.duplicated(["fold", "clip_id"]).any()  # train, validation and test share no clip

    if protocol in BY_SPEAKER:
        tested = split.loc[split["subset"].isin(["test", "enrolment"]), "clip_id"]
        assert sorted(tested) == sorted(clips["clip_id"])  # each exactly once
    else:
        assert sorted(split["clip_id"]) == sorted(clips["clip_id"])
    for fold in split["fold"].unique():
        train, validation, test = (ids(split, subset, fold) for subset in ("train", "validation", "test"))
        assert train and validation and test
        if protocol in BY_SPEAKER:
            train, validation, test = (
                values(split, "speaker", subset, fold) for subset in ("train", "validation", "test")
            )
            assert not train & test and not validation & test and not train & validation
        if protocol == "speaker-sentence":
            train, validation, test = (
                values(split, "sentence", subset, fold) for subset in ("train", "validation", "test")
            )
            assert not train & test and not validation & test
        if protocol == "cross-corpus":
            assert not values(split, "corpus", "train", fold) & values(split, "corpus", "test", fold)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_split_depends_on_the_seed_and_not_on_the_order_of_rows(protocol):
    clips = make_clips(speakers=8, corpora=CORPORA.get(protocol, ("sample",)))
    split = make_split(clips, protocol, seed=3)
    shuffled = clips.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(make_split(shuffled, protocol, seed=3), split)
    other = make_split(clips, protocol, seed=4)
    validation = [
        set(map(tuple, s.loc[s["subset"] == "validation", ["fold", "clip_id"]].values)) for s in (split, other)
    ]
    assert validation[0] != validation[1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_saved_split_comes_back_as_it_was(protocol, tmp_path):
    clips = make_clips(corpora=CORPORA.get(protocol, ("sample",)))
    clips["speaker"] = clips["speaker"].where(clips["speaker"] != "sample-01", "NA")  # a name, not a missing value
    split = make_split(clips, protocol, seed=7)
    save_split(split, tmp_path / "split.csv")
    saved = load_split(tmp_path / "split.csv")
    assert {"fold", "subset", "clip_id", "corpus", "speaker", "emotion", "protocol", "seed"} <= set(saved)
    assert "audio_hash" in saved
    pd.testing.assert_frame_equal(saved, split[list(saved)])


def test_a_split_of_an_older_run_has_no_hashes_and_is_read_all_the_same(tmp_path):
    clips = make_clips()
    split = make_split(clips)
    save_split(split, tmp_path / "split.csv")
    older = pd.read_csv(tmp_path / "split.csv").drop(columns="audio_hash")
    older.to_csv(tmp_path / "split.csv", index=False)
    pd.testing.assert_frame_equal(load_split(tmp_path / "split.csv"), split[list(older)])
    older.drop(columns="speaker").to_csv(tmp_path / "split.csv", index=False)
    with pytest.raises(SerError, match="is not a split"):
        load_split(tmp_path / "split.csv")


def test_a_split_is_the_same_on_every_platform():
    clips = make_clips(speakers=5, emotions=("happy", "sad"), sentences=1, takes=1)
    split = make_split(clips, "speaker", seed=0)
    tested = split[split["subset"] == "test"].groupby("fold")["speaker"].first()
    held_out = split[split["subset"] == "validation"].groupby("fold")["speaker"].first()
    # Written down once: a change here changes every number that was ever reported.
    assert [name[-1] for name in tested] == ["2", "4", "1", "3", "5"]
    assert [name[-1] for name in held_out] == ["1", "1", "4", "5", "1"]
    published = make_split(clips, "published", seed=0, validation_fraction=0)
    assert ids(published, "test") == {"sample/05-sad-1-1", "sample/02-happy-1-1"}


@pytest.mark.parametrize(
    ("test_fraction", "validation_fraction", "sizes"),
    [(0.2, 0.0, (480, 0, 120)), (0.2, 0.1, (420, 60, 120)), (0.15, 0.15, (420, 90, 90))],
)
@pytest.mark.parametrize("stratify", [True, False])
def test_fractions_are_of_all_clips(test_fraction, validation_fraction, sizes, stratify):
    clips = make_clips(speakers=10, sentences=5, takes=4)
    split = make_split(
        clips, "published", test_fraction=test_fraction, validation_fraction=validation_fraction, stratify=stratify
    )
    assert tuple(len(ids(split, subset)) for subset in ("train", "validation", "test")) == sizes
    if stratify:
        counts = split.groupby(["subset", "emotion"]).size()
        assert (counts.groupby("subset").max() - counts.groupby("subset").min()).max() <= 1


def test_published_keeps_twins_and_deduplicated_drops_them(caplog):
    clips = make_clips(speakers=5)
    twins = clips.assign(clip_id=clips["clip_id"] + "#2")
    both = pd.concat([clips, twins], ignore_index=True)
    published = make_split(both, "published")
    assert len(published) == 2 * len(clips)
    deduplicated = make_split(both, "deduplicated")
    assert sorted(deduplicated["clip_id"]) == sorted(clips["clip_id"])
    assert f"{len(clips)} clips left out: their audio is the same" in caplog.text
    leak = audit(published, near_duplicates=False).set_index("leak")
    assert leak.loc["same audio", "share"] > 0.5
    assert audit(deduplicated, near_duplicates=False).set_index("leak").loc["same audio", "clips"] == 0


def test_sources_that_select_or_train_on_test_are_reproduced():
    clips = make_clips()
    split = make_split(clips, "published", select_on_test=True)
    assert ids(split, "validation") == ids(split, "test") and not ids(split, "train") & ids(split, "test")
    assert len(ids(split, "test")) == round(0.2 * len(clips))
    split = make_split(clips, "published", train_on_test=True)
    assert ids(split, "test") < ids(split, "train") and not ids(split, "validation") & ids(split, "test")


@pytest.mark.parametrize("emotion", ["neutral", "happy", "sad"])
def test_a_rare_emotion_reaches_every_subset(emotion):
    clips = make_clips(speakers=10)
    rare = clips[clips["emotion"] == emotion].head(3)
    clips = pd.concat([clips[clips["emotion"] != emotion], rare])
    split = make_split(clips, "published")
    assert set(split.loc[split["emotion"] == emotion, "subset"]) == {"train", "validation", "test"}
    with pytest.raises(SerError, match=f"'{emotion}' has 2 clips, too few.*stratify=False"):
        make_split(clips.iloc[:-1], "published")
    assert len(make_split(clips.iloc[:-1], "published", stratify=False)) == len(clips) - 1


def test_folds_are_balanced_over_corpora_and_sexes():
    clips = make_clips(speakers=24, takes=1, corpora=("sample", "savee"))
    split = make_split(clips, "speaker", folds=5)
    speakers = split[split["subset"] == "test"].drop_duplicates("speaker")
    counts = speakers.groupby(["fold", "corpus", "sex"]).size()
    assert len(counts) == 5 * 4 and set(counts) == {2, 3}
    assert set(speakers.groupby("fold").size()) <= {9, 10}
    held_out = split[split["subset"] == "validation"].drop_duplicates(["fold", "speaker"])
    assert set(held_out.groupby("fold").size()) == {8}  # a fifth of the 38 or 39 that are left
    assert held_out.groupby(["fold", "sex"]).size().between(3, 5).all()


def test_more_folds_than_speakers_is_one_speaker_a_fold():
    assert make_split(make_clips(speakers=3), "speaker", folds=5)["fold"].nunique() == 3


def test_speaker_adapted_has_the_folds_of_speaker():
    clips = make_clips()
    pd.testing.assert_frame_equal(
        make_split(clips, "speaker-adapted", 5).drop(columns="protocol"),
        make_split(clips, "speaker", 5).drop(columns="protocol"),
    )


def test_leave_one_speaker_out_is_in_the_order_of_names():
    split = make_split(make_clips(speakers=4), "leave-one-speaker-out", folds=2)
    tested = split[split["subset"] == "test"].groupby("fold")["speaker"].unique()
    assert [list(names) for names in tested] == [[f"sample-0{i}"] for i in range(1, 5)]


def test_two_speakers_leave_validation_to_other_sentences_of_the_training_speaker(caplog):
    split = make_split(make_clips(speakers=2, sentences=10), "speaker")
    assert split["fold"].nunique() == 2
    for fold, trained in enumerate(split[split["subset"] == "train"].groupby("fold")["speaker"].unique()):
        assert values(split, "speaker", "validation", fold) == set(trained) and len(trained) == 1
        assert len(values(split, "sentence", "validation", fold)) == 2
        assert not values(split, "sentence", "validation", fold) & values(split, "sentence", "train", fold)
        assert f"only {trained[0]} remains for training" in caplog.text


def test_where_sentences_carry_the_emotion_validation_is_stratified_instead():
    clips = make_clips(speakers=2, sentences=2, takes=10)
    clips["sentence"] = clips["emotion"]
    split = make_split(clips, "speaker")
    counts = split[split["subset"] == "validation"].groupby(["fold", "emotion"]).size()
    assert len(counts) == 6 and set(counts) == {4}  # a fifth of 20 each


def test_an_emotion_that_training_lacks_is_told(caplog):
    clips = make_clips(speakers=4)
    clips.loc[clips["speaker"] == "sample-02", "emotion"] = "fear"
    make_split(clips, "leave-one-speaker-out")
    told = [record.getMessage() for record in caplog.records]
    assert "leave-one-speaker-out: fold 1 tests 'fear', which is not in its training set" in told


def test_emobox_folds_of_ravdess_are_as_published():
    split = make_split(make_clips(speakers=24, takes=1, corpora=("ravdess",)), "emobox")
    tested = split[split["subset"] == "test"].groupby("fold")["speaker"].unique()
    assert [sorted(int(name.removeprefix("ravdess-")) for name in names) for names in tested] == [
        [1, 11, 20, 21],
        [4, 10, 12, 14],
        [8, 9, 19, 23],
        [3, 5, 7, 24],
        [2, 15, 16, 18],
        [6, 13, 17, 22],
    ]


def test_emobox_on_part_of_ravdess_says_that_it_does_not_compare(caplog):
    split = make_split(make_clips(speakers=10, corpora=("ravdess",)), "emobox")
    assert split["fold"].nunique() == 6
    assert "ravdess-11, ravdess-12" in caplog.text and "do not compare with EmoBox's" in caplog.text


def test_cross_corpus_tests_each_corpus_in_turn_or_the_ones_named():
    clips = make_clips(corpora=("savee", "tess", "sample"))
    split = make_split(clips, "cross-corpus")
    tested = split[split["subset"] == "test"].groupby("fold")["corpus"].unique()
    assert [list(names) for names in tested] == [["sample"], ["savee"], ["tess"]]
    named = make_split(clips, "cross-corpus", test_corpora=["savee", "tess"])
    assert named["fold"].unique().tolist() == [0]
    assert values(named, "corpus", "test", 0) == {"savee", "tess"}
    assert values(named, "corpus", "train", 0) == values(named, "corpus", "validation", 0) == {"sample"}
    pd.testing.assert_frame_equal(
        make_split(clips, "cross-corpus", test_corpora="tess"), make_split(clips, "cross-corpus", test_corpora=["tess"])
    )


def test_cross_corpus_keeps_the_emotions_that_both_sides_have(caplog):
    clips = make_clips(corpora=("savee", "tess"))
    calm = (clips["corpus"] == "tess") & (clips["emotion"] == "neutral")
    clips.loc[calm, "emotion"] = "calm"
    split = make_split(clips, "cross-corpus", test_corpora=["tess"])
    assert values(split, "emotion", "test", 0) == values(split, "emotion", "train", 0) == {"happy", "sad"}
    assert "leaves out 48 clips" in caplog.text and "24 neutral, 24 calm" in caplog.text


@pytest.mark.parametrize(
    ("message", "protocol", "options", "table"),
    [
        ("did you mean 'speaker-sentence'", "speaker_sentence", {}, {}),
        ("The protocols are published, deduplicated", "xyz", {}, {}),
        ("has no setting select_on_test.*use published, deduplicated", "speaker", {"select_on_test": True}, {}),
        ("has no setting train_on_test", "emobox", {"train_on_test": True}, {}),
        ("has no setting test_corpora: leave it out, or use cross-corpus", "speaker", {"test_corpora": ["sample"]}, {}),
        ("folds must be at least 2, got 1", "speaker", {"folds": 1}, {}),
        ("folds must be at least 2, got 1", "speaker-sentence", {"folds": 1}, {}),
        ("at least 2 speakers, got 1", "speaker", {}, {"speakers": 1}),
        ("at least 2 speakers, got 1", "leave-one-speaker-out", {}, {"speakers": 1}),
        ("sample has 1 known sentences", "speaker-sentence", {}, {"sentences": 1}),
        ("CREMA-D and TESS share speakers", "emobox", {}, {"corpora": ("tess",)}),
        ("got ravdess, savee", "emobox", {}, {"corpora": ("ravdess", "savee")}),
        ("trains on some corpora and tests on others", "cross-corpus", {}, {}),
        ("load another corpus", "cross-corpus", {"test_corpora": ["ravdess"]}, {"corpora": ("sample", "tess")}),
        ("not all", "cross-corpus", {"test_corpora": ["sample", "tess"]}, {"corpora": ("sample", "tess")}),
        ("some", "cross-corpus", {"test_corpora": []}, {"corpora": ("sample", "tess")}),
        ("leave room for training", "published", {"test_fraction": 0.5, "validation_fraction": 0.5}, {}),
        ("got test_fraction=0", "published", {"test_fraction": 0}, {}),
        ("got test_fraction=20", "published", {"test_fraction": 20}, {}),
        ("has no setting enrol_clips: leave it out, or use cross-corpus, enrolled", "speaker", {"enrol_clips": 4}, {}),
        ("enrol_clips is a number of clips, 0 or more; got -1", "enrolled", {"enrol_clips": -1}, {}),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(message, protocol, options, table):
    with pytest.raises(SerError, match=message):
        make_split(make_clips(**table), protocol, **options)


class TestEnrolment:
    def clips_of(self, split, subset):
        return split[split["subset"] == subset]

    @settings(max_examples=25, deadline=None)
    @given(data=st.data(), protocol=st.sampled_from(["enrolled", "cross-corpus"]), seed=st.integers(0, 1000))
    def test_clips_are_of_the_test_speakers_who_keep_at_least_half_of_theirs(self, data, protocol, seed):
        clips, wanted = data.draw(ragged_clips(protocol)), data.draw(st.integers(1, 40))
        split = make_split(clips, protocol, seed, enrol_clips=wanted)
        for fold in split["fold"].unique():
            enrolled, others = ids(split, "enrolment", fold), [ids(split, name, fold) for name in splits.SUBSETS]
            assert enrolled and not any(enrolled & other for other in others)
            speakers = values(split, "speaker", "enrolment", fold)
            assert speakers <= values(split, "speaker", "test", fold)
            assert not speakers & (
                values(split, "speaker", "train", fold) | values(split, "speaker", "validation", fold)
            )
        counts = split.groupby(["fold", "speaker", "subset"]).size().unstack(fill_value=0)
        counts = counts[counts["test"] > 0]
        has = counts["test"] + counts["enrolment"]
        assert counts["enrolment"].tolist() == np.minimum(wanted, has // 2).tolist()

    @pytest.mark.parametrize("protocol", ["enrolled", "cross-corpus"])
    def test_the_rest_of_the_split_is_that_without_enrolment(self, protocol):
        clips = make_clips(corpora=CORPORA.get(protocol, ("sample",)))
        plain = make_split(clips, "speaker" if protocol == "enrolled" else protocol, seed=2).drop(columns="protocol")
        none = make_split(clips, protocol, seed=2, enrol_clips=0).drop(columns="protocol")
        pd.testing.assert_frame_equal(none, plain)
        split = make_split(clips, protocol, seed=2, enrol_clips=5)
        for fold in plain["fold"].unique():
            assert ids(split, "train", fold) == ids(plain, "train", fold)
            assert ids(split, "validation", fold) == ids(plain, "validation", fold)
            assert ids(split, "test", fold) | ids(split, "enrolment", fold) == ids(plain, "test", fold)

    def test_eight_clips_are_given_where_nothing_is_said(self):
        clips = make_clips(speakers=4, takes=4)
        stated = make_split(clips, "enrolled", enrol_clips=8)
        pd.testing.assert_frame_equal(make_split(clips, "enrolled"), stated)
        assert set(self.clips_of(stated, "enrolment").groupby("speaker").size()) == {8}
        corpora = make_clips(corpora=("savee", "tess"))
        assert "enrolment" not in set(make_split(corpora, "cross-corpus")["subset"])

    def test_fewer_clips_are_among_more(self):
        clips = make_clips(speakers=4, takes=4)
        few, more = (
            set(self.clips_of(make_split(clips, "enrolled", enrol_clips=n), "enrolment")["clip_id"]) for n in (3, 7)
        )
        assert few < more and (len(few), len(more)) == (12, 28)

    def test_which_clips_depends_on_the_seed_and_neither_on_labels_nor_on_the_order_of_rows(self):
        clips = make_clips(speakers=4, takes=4)
        fold = {"test": np.arange(len(clips)), "train": np.array([], int), "validation": np.array([], int)}

        def drawn(table, seed):
            return set(table["clip_id"].iloc[splits.with_enrolment(table, fold, 5, seed)["enrolment"]])

        rng = np.random.default_rng(0)
        relabelled = clips.assign(emotion=rng.permutation(clips["emotion"]), sentence="other", audio_hash="other")
        assert drawn(clips, 0) == drawn(relabelled, 0) == drawn(clips.sample(frac=1, random_state=1), 0)
        assert drawn(clips, 0) != drawn(clips, 1)
        # Each speaker's own draw: not the same takes of all.
        takes = pd.Series(sorted(drawn(clips, 0))).str.extract(r"/(\d\d)-(.*)").groupby(0)[1].agg(tuple)
        assert takes.nunique() > 1

    def test_a_speaker_with_one_clip_gives_none(self):
        clips = make_clips(speakers=4)
        clips = clips[(clips["speaker"] != "sample-02") | ~clips["speaker"].duplicated()]
        split = make_split(clips, "enrolled", folds=4)
        assert "sample-02" not in set(self.clips_of(split, "enrolment")["speaker"])
        assert (self.clips_of(split, "test")["speaker"] == "sample-02").sum() == 1

    def test_the_audit_takes_the_subset_and_compares_it_with_nothing(self):
        split = make_split(make_clips(), "enrolled", enrol_clips=3)
        before = audit(split[split["subset"] != "enrolment"], near_duplicates=False)
        pd.testing.assert_frame_equal(audit(split, near_duplicates=False), before)
        assert red_leaks(before).empty


def test_corpora_without_a_common_emotion_cannot_be_crossed():
    clips = make_clips(corpora=("savee", "tess"))
    clips.loc[clips["corpus"] == "tess", "emotion"] = "calm"
    with pytest.raises(SerError, match="no emotion of savee is in the other corpora"):
        make_split(clips, "cross-corpus")


def test_a_clip_without_a_sentence_cannot_be_split_by_sentence():
    clips = make_clips()
    clips.loc[0, "sentence"] = None
    with pytest.raises(SerError, match="1 clips without one"):
        make_split(clips, "speaker-sentence")


def test_a_fold_without_training_clips_is_refused():
    clips = make_clips(speakers=2)
    first = clips["speaker"] == "sample-01"
    clips = clips[first == (clips["sentence"] == "sentence-1")]  # each speaker says a sentence of their own
    with pytest.raises(SerError, match="has no (train|test) clips"):
        make_split(clips, "speaker-sentence")


def test_loading_a_split_that_is_none_says_what_is_wrong(tmp_path):
    with pytest.raises(SerError, match="no split at"):
        load_split(tmp_path / "none.csv")
    for text in ("", "a,b\n1,2\n", "\x00\x01"):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(SerError, match="is not a split"):
            load_split(tmp_path / "bad.csv")


def test_a_split_that_needs_no_word_says_none(caplog):
    with caplog.at_level(logging.INFO):
        for protocol in ("published", "deduplicated", "speaker", "speaker-sentence", "leave-one-speaker-out"):
            make_split(make_clips(), protocol)
    assert not caplog.records


def test_a_protocol_is_added_by_one_function_and_one_line(monkeypatch):
    monkeypatch.setattr(splits, "PROTOCOLS", dict(PROTOCOLS))

    @splits.protocol("women-to-men", "train on women, test on men")
    def women_to_men(clips, seed, folds):
        female = (clips["sex"] == "female").to_numpy()
        train, validation = splits.hold_out(clips, np.flatnonzero(female), (seed,))
        return [{"train": train, "validation": validation, "test": np.flatnonzero(~female)}]

    clips = make_clips(speakers=6)
    split = make_split(clips, "women-to-men", seed=3)
    assert values(split, "sex", "train", 0) == {"female"} and values(split, "sex", "test", 0) == {"male"}
    assert not splits.get_protocol("women-to-men").is_random
    assert red_leaks(audit(split, near_duplicates=False)).empty
    with pytest.raises(SerError, match="'women-to-men' has no setting select_on_test"):
        make_split(clips, "women-to-men", select_on_test=True)
    with pytest.raises(SerError, match="did you mean 'women-to-men'"):
        make_split(clips, "women_to_men")


@pytest.mark.parametrize("protocol", ["leave-one-speaker-out", "speaker", "published", "enrolled"])
def test_a_split_of_very_many_rows_says_the_same_in_less_memory(protocol, monkeypatch, tmp_path):
    clips = make_clips(speakers=40, takes=10)
    few = splits.make_split(clips, protocol)
    monkeypatch.setattr(splits, "MANY_ROWS", 10)
    many = splits.make_split(clips, protocol)
    for split, name in ((few, "few.csv"), (many, "many.csv")):
        save_split(split, tmp_path / name)
    assert (tmp_path / "few.csv").read_bytes() == (tmp_path / "many.csv").read_bytes()
    pd.testing.assert_frame_equal(few, many, check_dtype=False, check_categorical=False)
    pd.testing.assert_frame_equal(audit(few, near_duplicates=False), audit(many, near_duplicates=False))
    assert str(many["clip_id"].dtype) == "category" != str(few["clip_id"].dtype)
    if many["fold"].nunique() > 10:
        # Numbers in place of texts.
        assert many.memory_usage(deep=True, index=False).sum() < 0.3 * few.memory_usage(deep=True, index=False).sum()
