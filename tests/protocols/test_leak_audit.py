"""Each kind of leak is found where it is, and not where it is not."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import make_clips
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_lib.common.errors import SerError
from ser_lib.protocols.leak_audit import LEAKS, audit, red_leaks, shared_values
from ser_lib.protocols.splits import PROTOCOLS, load_split, make_split, save_split

KINDS = [
    "same audio",
    "near-same audio",
    "same speaker",
    "same sentence",
    "label decided by corpus",
    "selection on test",
    "augmented copies",
]


def clean_split() -> pd.DataFrame:
    """Six clips that share nothing between the subsets, in two folds that swap train and test."""
    names = ["a", "b", "c", "d", "e", "f"]
    clips = pd.DataFrame(
        {
            "clip_id": names,
            "audio_hash": [f"hash-{name}" for name in names],
            "speaker": ["s1", "s1", "s2", "s2", "s3", "s3"],
            "sentence": ["t1", "t1", "t2", "t2", "t3", "t3"],
            "emotion": ["happy", "sad"] * 3,
            "corpus": "sample",
            "augmented_from": None,
        }
    )
    subsets = [["train"] * 2 + ["validation"] * 2 + ["test"] * 2, ["test"] * 2 + ["validation"] * 2 + ["train"] * 2]
    return pd.concat([clips.assign(fold=fold, subset=subset) for fold, subset in enumerate(subsets)], ignore_index=True)


def found(split, **options) -> dict:
    table = audit(split, near_duplicates=False, **options).set_index("leak")
    return {leak: clips for leak, clips in table["clips"].items() if not pd.isna(clips) and clips > 0}


def test_a_clean_split_lists_every_kind_with_none():
    table = audit(clean_split(), near_duplicates=False)
    assert list(table.columns) == ["leak", "severity", "clips", "share", "examples", "meaning"]
    assert table["leak"].tolist() == KINDS == list(LEAKS)
    assert not found(clean_split()) and red_leaks(table).empty
    assert table["examples"].eq("").all()
    assert table.loc[table["leak"] != "near-same audio", "clips"].eq(0).all()
    amber = table.loc[table["severity"] == "amber", "leak"].tolist()
    assert amber == ["same sentence", "label decided by corpus"]


@pytest.mark.parametrize(
    ("leak", "column", "row", "value", "red"),
    [
        ("same audio", "audio_hash", 4, "hash-a", True),
        ("same speaker", "speaker", 4, "s1", True),
        ("same sentence", "sentence", 4, "t1", False),
        ("selection on test", "audio_hash", 4, "hash-c", True),
        ("augmented copies", "augmented_from", 4, "a", True),
        ("augmented copies", "augmented_from", 0, "e", True),
    ],
)
def test_each_kind_is_found_in_the_fold_where_it_is(leak, column, row, value, red):
    split = clean_split()
    split.loc[row, column] = value  # in fold 0 alone: row 4 is tested, row 0 trained on
    table = audit(split, near_duplicates=False).set_index("leak")
    assert found(split) == {leak: 1}
    assert table.loc[leak, "share"] == 1 / 4  # 4 distinct clips are tested
    known = "c" if leak == "selection on test" else "a"
    assert table.loc[leak, "examples"] == f"e ↔ {known}"
    assert (not red_leaks(table).empty) is red
    split.loc[row, "fold"] = 9
    assert not found(split)  # the same pair in different folds is no leak


def test_siblings_of_one_source_are_augmented_copies():
    split = clean_split()
    split.loc[[0, 4], "augmented_from"] = "an original that is in no subset"
    assert found(split) == {"augmented copies": 1}


def test_validation_is_not_training():
    split = clean_split()
    split.loc[2, ["speaker", "sentence"]] = ["s3", "t3"]
    split.loc[3, "augmented_from"] = "e"
    assert not found(split)


def test_clips_are_counted_once_over_folds_and_three_examples_are_named():
    clips = make_clips(speakers=4)
    split = make_split(clips, "leave-one-speaker-out")
    split["sentence"] = "the only one"
    table = audit(split, near_duplicates=False).set_index("leak")
    assert table.loc["same sentence", ["clips", "share"]].tolist() == [len(clips), 1.0]
    assert table.loc["same sentence", "examples"].count("↔") == 3


def test_missing_values_are_not_alike():
    split = clean_split()
    for nothing in (None, np.nan, ""):
        split["sentence"] = nothing
        assert not found(split)


def test_sentences_of_different_corpora_are_different():
    split = clean_split().assign(sentence="01")
    split["corpus"] = split["speaker"].map({"s1": "ravdess", "s2": "tess", "s3": "savee"})
    assert not found(split)


def test_an_emotion_that_one_corpus_alone_has_is_told():
    clips = make_clips(speakers=8, sentences=1, corpora=("ravdess", "tess"))
    clips.loc[(clips["corpus"] == "ravdess") & (clips["emotion"] == "neutral"), "emotion"] = "calm"
    split = make_split(clips, "deduplicated")
    table = audit(split, near_duplicates=False).set_index("leak")
    tested = split[split["subset"] == "test"]
    assert table.loc["label decided by corpus", "clips"] == tested["emotion"].isin(["calm", "neutral"]).sum()
    assert "calm only in ravdess" in table.loc["label decided by corpus", "examples"]
    assert "label decided by corpus" not in found(split[split["corpus"] == "ravdess"])  # one corpus decides nothing


def test_a_corpus_that_training_does_not_hold_cannot_be_recognised():
    clips = make_clips(corpora=("ravdess", "tess", "savee"))
    clips = clips[(clips["corpus"] != "savee") | (clips["emotion"] != "neutral")]
    split = make_split(clips, "cross-corpus", test_corpora=["ravdess"])
    assert "neutral" in set(split.loc[split["subset"] == "test", "emotion"])
    assert "label decided by corpus" not in found(split)


def test_what_a_protocol_leaks_is_found():
    clips = make_clips(speakers=8)
    assert found(make_split(clips, "deduplicated")).keys() == {"same speaker", "same sentence"}
    assert found(make_split(clips, "speaker")).keys() == {"same sentence"}
    assert not found(make_split(clips, "speaker-sentence"))
    assert "selection on test" in found(make_split(clips, "published", select_on_test=True))
    split = make_split(clips, "published", train_on_test=True)
    assert found(split)["same audio"] == (split["subset"] == "test").sum()


@pytest.mark.parametrize("protocol", sorted(set(PROTOCOLS) - {"emobox", "cross-corpus"}))
def test_a_split_read_from_its_file_is_audited_as_before(protocol, tmp_path):
    clips = make_clips()
    clips["sentence"] = clips["sentence"].where(clips["emotion"] != "sad", clips["sentence"] + "b")
    split = make_split(clips, protocol)
    save_split(split, tmp_path / "split.csv")
    first, again = (
        audit(table, near_duplicates=False).set_index("leak")["clips"]
        for table in (split, load_split(tmp_path / "split.csv"))
    )
    pd.testing.assert_series_equal(again, first)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_counts_are_those_of_the_plain_loop(data):
    n = data.draw(st.integers(2, 14))
    letters = st.lists(st.sampled_from("abc") | st.none(), min_size=n, max_size=n)
    split = pd.DataFrame(
        {
            "clip_id": data.draw(st.lists(st.sampled_from("uvwxyz"), min_size=n, max_size=n)),
            "subset": ["train", "test"]
            + data.draw(st.lists(st.sampled_from(["train", "validation", "test"]), min_size=n - 2, max_size=n - 2)),
            "fold": data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)),
            "audio_hash": data.draw(letters),
            "speaker": data.draw(letters),
            "sentence": data.draw(letters),
        }
    ).astype({"audio_hash": object, "speaker": object, "sentence": object})
    rows = split.to_dict("records")

    def affected(column, subset):
        return {
            tested["clip_id"]
            for tested in rows
            for other in rows
            if tested["subset"] == "test" and other["subset"] == subset and tested["fold"] == other["fold"]
            if isinstance(tested[column], str) and tested[column] == other[column]
        }

    table = audit(split, near_duplicates=False).set_index("leak")["clips"]
    assert table["same audio"] == len(affected("audio_hash", "train"))
    assert table["same speaker"] == len(affected("speaker", "train"))
    if split["sentence"].notna().any():
        assert table["same sentence"] == len(affected("sentence", "train"))
    else:
        assert pd.isna(table["same sentence"])
    assert table["selection on test"] == len(affected("audio_hash", "validation"))


def test_a_bare_table_says_which_column_each_kind_needs():
    table = audit(pd.DataFrame({"clip_id": ["a", "b"], "subset": ["train", "test"]})).set_index("leak")
    needs = {
        "same audio": "no column audio_hash",
        "near-same audio": "no column path and no column audio_hash",
        "same speaker": "no column speaker",
        "same sentence": "no column sentence",
        "label decided by corpus": "no column corpus and no column emotion",
        "selection on test": "no column audio_hash",
    }
    for leak, words in needs.items():
        assert pd.isna(table.loc[leak, "clips"]) and words in table.loc[leak, "meaning"]
    assert table.loc["augmented copies", "clips"] == 0  # the column is there where copies are
    assert red_leaks(table).empty


def test_the_same_name_on_both_sides_is_the_same_audio_without_hashes():
    split = pd.DataFrame({"clip_id": ["a", "b", "a", "b"], "subset": ["train", "validation", "test", "test"]})
    table = audit(split).set_index("leak")
    assert table.loc[["same audio", "selection on test"], "clips"].tolist() == [1, 1]
    assert table.loc["same audio", "examples"] == "a ↔ a"
    assert not red_leaks(table).empty


def test_an_index_with_repeats_is_no_matter():
    split = clean_split()
    split.loc[4, "speaker"] = "s1"
    split.index = [0] * len(split)
    assert found(split) == {"same speaker": 1}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"clip_id": ["a"]}, "no column subset.*make_split"),
        ({"subset": ["test"]}, "no column clip_id"),
        ({"clip_id": ["a", "b"], "subset": ["train", "dev"]}, "'dev'"),
        ({"clip_id": ["a"], "subset": ["test"]}, "got 'test'"),
        ({"clip_id": [], "subset": []}, "got no rows"),
    ],
)
def test_a_table_that_is_no_split_is_refused(table, message):
    with pytest.raises(SerError, match=message):
        audit(pd.DataFrame(table))


@pytest.fixture
def noise_split(tmp_path):
    """Noise, its copy at half the level and more noise, in training and in test."""
    rng = np.random.default_rng(0)
    noise = [0.2 * rng.standard_normal(8000) for _ in range(3)]
    rows = []
    for name, waveform, subset in [
        ("original", noise[0], "train"),
        ("other", noise[1], "train"),
        ("copy", 0.5 * noise[0], "test"),
        ("third", noise[2], "test"),
    ]:
        soundfile.write(tmp_path / f"{name}.wav", waveform, 16000, subtype="FLOAT")
        rows.append({"clip_id": name, "path": str(tmp_path / f"{name}.wav"), "audio_hash": name, "subset": subset})
    return pd.DataFrame(rows)


def test_an_altered_copy_is_near_same_audio(noise_split):
    table = audit(noise_split, progress=False).set_index("leak")
    assert table.loc["near-same audio", ["clips", "share", "examples"]].tolist() == [1, 0.5, "copy ↔ original"]
    assert table.loc["same audio", "clips"] == 0
    assert not red_leaks(table).empty


def test_the_same_audio_is_not_counted_as_near_same_too(noise_split):
    noise_split.loc[noise_split["clip_id"] == "copy", ["audio_hash", "path"]] = ["original", noise_split["path"][0]]
    table = audit(noise_split, progress=False).set_index("leak")
    assert table.loc[["same audio", "near-same audio"], "clips"].tolist() == [1, 0]


def test_near_same_audio_that_was_not_looked_for_is_unknown(noise_split):
    table = audit(noise_split.assign(path="/nowhere.wav"), near_duplicates=False).set_index("leak")
    assert pd.isna(table.loc["near-same audio", "clips"])
    assert "near_duplicates is False" in table.loc["near-same audio", "meaning"]
    with pytest.raises(SerError, match="nowhere.wav"):
        audit(noise_split.assign(path="/nowhere.wav"), progress=False)


def test_sentences_that_nobody_knows_are_not_called_clean():
    clips = make_clips(speakers=4).assign(sentence=None)
    row = audit(make_split(clips, "speaker"), near_duplicates=False).set_index("leak").loc["same sentence"]
    assert pd.isna(row["clips"]) and "no clip's sentence is known" in row["meaning"]


@pytest.mark.parametrize("fold", ["", 0, "1"])
def test_an_empty_fold_is_a_fold(fold):
    split = pd.DataFrame({"clip_id": ["a", "b"], "subset": ["train", "test"], "speaker": ["x", "x"], "fold": fold})
    assert found(split) == {"same speaker": 1}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["train", "validation", "test"]),
            st.sampled_from("ab"),
            st.sampled_from(["x", "y", "z", "", None]),
        )
    )
)
def test_shared_values_are_those_of_test_and_training_of_one_fold(rows):
    split = pd.DataFrame(rows, columns=["subset", "fold", "speaker"])
    tested, shared = shared_values(split, "speaker")
    of = {
        subset: {(fold, name) for part, fold, name in rows if part == subset and name} for subset in ("train", "test")
    }
    assert tested == {name for _, name in of["test"]}
    assert shared == {name for _, name in of["test"] & of["train"]}
