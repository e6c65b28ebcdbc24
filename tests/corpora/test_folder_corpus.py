"""A folder as a corpus: layouts of names, what is doubtful, and the files that lists of other computers name."""

import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_lib import corpora
from ser_lib.cli import main
from ser_lib.common.errors import SerError
from ser_lib.corpora import folder_corpus
from ser_lib.corpora.clips import load_clips
from ser_lib.corpora.csv_files import plain
from ser_lib.corpora.folder_corpus import part_of, read_names
from ser_lib.corpora.labels import EMOTIONS, SYNONYMS, canonical

WORDS = {**{emotion: emotion for emotion in EMOTIONS}, **{word: SYNONYMS[word] for word in ("joy", "anger", "sadness")}}
PEOPLE = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyzäé", min_size=2, max_size=8).filter(
        lambda name: not {canonical(name), name} & {*EMOTIONS, *folder_corpus.GENERIC}
    ),
    min_size=2,
    max_size=4,
    unique_by=plain,
)


@pytest.fixture(autouse=True)
def nothing_read_before(monkeypatch):
    monkeypatch.setattr(corpora, "_OWN_CORPORA", {})
    monkeypatch.setattr(folder_corpus, "_confirmed", set())
    monkeypatch.setattr(folder_corpus, "_shown", set())


def touch(folder, names):
    for name in names:
        (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
        (Path(folder) / name).touch()


def sounds(folder, names):
    for seed, name in enumerate(names):
        (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(Path(folder) / name, 0.1 * np.random.default_rng(seed).standard_normal(4000), 16000)


LAYOUTS = {
    "{person}/{emotion}/{take}.wav": True,
    "{person}/{emotion}-{take}.wav": True,
    "{person}/clip_{take}_{emotion}.wav": True,
    "{emotion}/{person}/{take}.wav": True,
    "audio/{person}/{emotion}/take {take}.wav": True,
    "{emotion}/{take}.wav": False,
    "{emotion}-{take}.wav": False,
    "{emotion}/{emotion}_{take}.wav": False,
}


@settings(max_examples=30, deadline=None)
@given(
    people=PEOPLE,
    words=st.lists(st.sampled_from(sorted(WORDS)), min_size=2, max_size=4, unique_by=WORDS.get),
    layout=st.sampled_from(sorted(LAYOUTS)),
    spelling=st.sampled_from([str.lower, str.upper, str.title]),
)
def test_each_plain_layout_is_read_without_doubt(people, words, layout, spelling):
    expected = {}
    for person, word, take in product(people, words, (1, 2)):
        expected[layout.format(person=person, emotion=spelling(word), take=take)] = (WORDS[word], person)
    with tempfile.TemporaryDirectory() as folder:
        touch(folder, expected)
        reading = read_names(Path(folder))
        found = {
            row.path.relative_to(folder).as_posix(): (row.emotion, row.speaker) for row in reading.facts.itertuples()
        }
    assert reading.doubts == []
    if LAYOUTS[layout]:
        assert found == expected
    else:
        assert {name: facts[0] for name, facts in found.items()} == {name: facts[0] for name, facts in expected.items()}
        assert {facts[1] for facts in found.values()} == {None}


@pytest.mark.parametrize("word", [*EMOTIONS, *SYNONYMS])
def test_every_word_for_an_emotion_is_found_in_a_name(word):
    for name in (word, f"anna_{word}-01", f"{word}01", word.replace(" ", "_").upper()):
        assert part_of(name).emotion == canonical(word)


@pytest.mark.parametrize(
    ("layout", "doubt"),
    [
        ("{room}/{person}/{emotion}/1.wav", "The speaker may be folder 1 (one, two) or folder 2 (anna, ben, joy)"),
        ("{emotion}/{person}_{room}.wav", "The speaker may be the word in the file's name (anna, ben, joy)"),
        ("{person}-{emotion}-{room}.wav", "The speaker may be the word in the file's name (anna, ben, joy)"),
        ("{person}_{emotion}/{room}.wav", "The speaker may be the word in folder 1 (anna, ben, joy)"),
        ("{emotion}/{person}/sad-{room}.wav", "Two parts of a path name an emotion"),
    ],
)
def test_doubtful_names_are_asked_about_and_refused_without_a_terminal(layout, doubt, tmp_path, monkeypatch):
    names = product(("one", "two"), ("anna", "ben", "joy"), ("happy", "sad", "neutral"))
    folder = tmp_path / "mine"
    touch(folder, [layout.format(room=room, person=person, emotion=emotion) for room, person, emotion in names])
    with pytest.raises(SerError) as caught:
        corpora.get_corpus(str(folder))
    assert doubt in str(caught.value) and "ser corpora mine --csv my.csv" in str(caught.value)
    answers = iter(["", "y"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    with pytest.raises(SerError, match="is not used"):
        corpora.get_corpus(str(folder))
    for _ in range(2):  # asked once alone
        assert corpora.get_corpus(str(folder), is_path=True).clips == 18


def test_what_was_understood_is_shown_as_a_table_once(tmp_path, caplog):
    names = [f"recordings/{person}/{emotion}/{take}.wav"
             for person in ("anna", "ben") for emotion in ("happy", "sad") for take in (1, 2)]  # fmt: skip
    sounds(tmp_path, [*names, "recordings/anna/notes/1.wav"])
    clips = load_clips(str(tmp_path / "recordings"), progress=False)
    load_clips(str(tmp_path / "recordings"), progress=False)
    assert caplog.text.count("8 files understood as PERSON/EMOTION/*.wav, 2 speakers") == 1
    assert "1 of 9 files left out, whose names state no emotion there: anna/notes/1.wav" in caplog.text
    assert set(clips["clip_id"]) >= {"recordings/anna/happy/1"} and len(clips) == 8
    assert set(clips["speaker"]) == {"recordings-anna", "recordings-ben"} and set(clips["corpus"]) == {"recordings"}


def test_a_name_that_is_not_utf_8_is_left_out_and_named(tmp_path, caplog):
    names = [f"{speaker}/{emotion}-1.wav" for speaker in ("anna", "ben") for emotion in ("happy", "sad")]
    sounds(tmp_path, names)
    try:
        (tmp_path / names[0]).rename(tmp_path / "anna" / "happy-\udcff.wav")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert len(load_clips([str(tmp_path)], progress=False)) == 3
    assert "1 files left out, whose names are not UTF-8" in caplog.text and "happy-\\udcff.wav" in caplog.text


def test_recordings_of_telephones_are_listed_as_predict_lists_them(tmp_path, caplog):
    touch(tmp_path, ["anna/happy.m4a", "anna/sad.wav", "ben/happy.mp4", "ben/sad.wav", "ben/notes.txt"])
    assert sorted(read_names(tmp_path).facts["emotion"]) == ["happy", "happy", "sad", "sad"]
    assert "1 files passed over" in caplog.text and "notes.txt" in caplog.text


def test_a_list_beside_a_folder_of_its_name_is_not_mistaken_for_it(tmp_path, monkeypatch):
    sounds(tmp_path, ["my/anna/happy/1.wav", "my/ben/sad/1.wav", "other.wav"])
    (tmp_path / "my.csv").write_text("path,emotion,speaker\nother.wav,sad,cleo\n")
    monkeypatch.chdir(tmp_path)
    assert len(load_clips("my.csv", progress=False)) == 1
    assert len(load_clips("my", progress=False)) == 2
    assert len(load_clips("my/", progress=False)) == 2


def test_the_hubs_metadata_is_read_as_the_list_of_its_folder(tmp_path):
    sounds(tmp_path / "set", ["data/a.wav", "data/b.wav"])
    (tmp_path / "set" / "metadata.csv").write_text(
        "file_name,label,gender,speaker_id\ndata/a.wav,joy,f,1\ndata/b.wav,sad,m,2\n"
    )
    clips = load_clips(str(tmp_path / "set"), progress=False)
    assert clips[["clip_id", "emotion", "sex", "speaker"]].to_numpy().tolist() == [
        ["set/a", "happy", "female", "set-1"],
        ["set/b", "sad", "male", "set-2"],
    ]


def test_a_corpus_of_the_package_is_named(tmp_path):
    touch(tmp_path, ["Actor_01/03-01-05-01-01-01-01.wav"])
    with pytest.raises(SerError, match="those of RAVDESS.*name the corpus ravdess"):
        corpora.get_corpus(str(tmp_path))


def test_a_folder_that_says_nothing_is_told_what_is_expected(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SerError, match="holds no audio"):
        corpora.get_corpus(str(tmp_path / "empty"))
    touch(tmp_path, ["full/a/1.wav"])
    with pytest.raises(
        SerError, match=r"no folder and no file name states an emotion, such as a/1.wav. Expected PERSON/EMO"
    ):
        corpora.get_corpus(str(tmp_path / "full"))


def test_the_list_of_a_doubtful_folder_can_be_corrected_and_used(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sounds(
        tmp_path,
        [f"{person}_{word}_{take}.wav" for person in ("anna", "ben") for word in ("happy", "sad") for take in (1, 2)],
    )
    assert main(["corpora", ".", "--csv", "my.csv"]) == 0
    assert (tmp_path / "my.csv").read_text().splitlines()[:2] == ["path,emotion,speaker", "anna_happy_1.wav,happy,anna"]
    assert main(["corpora", "my.csv"]) == 0
    assert "8" in capsys.readouterr().out


def test_a_folder_is_audited_and_named_for_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sounds(
        tmp_path,
        [
            f"recordings/p{person}/{word}/{take}.wav"
            for person in range(5)
            for word in ("happy", "sad")
            for take in (1, 2)
        ],
    )
    assert main(["audit", "recordings/"]) == 0
    assert "clean: recordings under speaker" in capsys.readouterr().out.replace("unknown", "")
    assert main(["prepare", "demo", "--corpus", "recordings/"]) == 0
    assert "inputs: 20 × " in capsys.readouterr().out


FOREIGN = ["/kaggle/input/set/anna/01.wav", "/kaggle/input/set/ben/01.wav", r"C:\Users\me\set\anna\02.wav"]


def test_files_of_another_computer_are_found_by_the_ends_of_their_paths(tmp_path, monkeypatch, caplog):
    here = ["deep/down/anna/01.wav", "deep/down/ben/01.wav", "deep/down/anna/02.wav"]
    sounds(tmp_path, here)
    rows = [
        f"{name},{emotion},{speaker}"
        for name, emotion, speaker in zip(FOREIGN, ("sad", "happy", "sad"), "aba", strict=True)
    ]
    (tmp_path / "my.csv").write_text("\n".join(["Path,Label,Actor", *rows]))
    clips = load_clips(str(tmp_path / "my.csv"), progress=False)
    assert {Path(path).relative_to(tmp_path).as_posix() for path in clips["path"]} == set(here)
    assert "3 of 3 files were found by the ends of their paths" in caplog.text
    # Two that fit equally well are not guessed.
    sounds(tmp_path, ["other/anna/01.wav"])
    with pytest.raises(SerError, match="1 of 3 files that .* do not exist"):
        load_clips(str(tmp_path / "my.csv"), progress=False)


def test_files_of_another_computer_are_found_in_the_data_folder(tmp_path, monkeypatch):
    sounds(tmp_path / "data", ["x/a.wav", "x/b.wav"])
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "my.csv").write_text("path,emotion\n/nowhere/x/a.wav,sad\n/nowhere/x/b.wav,happy\n")
    with pytest.raises(SerError, match="2 of 2 files"):
        load_clips(str(tmp_path / "lists" / "my.csv"), progress=False)
    monkeypatch.setenv("SER_DATA_DIR", str(tmp_path / "data"))
    assert len(load_clips(str(tmp_path / "lists" / "my.csv"), progress=False)) == 2


@pytest.mark.parametrize(
    ("first", "second"), [("1", "01"), ("1", "1.0"), ("Anna", "anna"), ("spk_1", "SPK 01"), ("Zoë", "Zoe\u0308")]
)
def test_one_name_spelled_twice_is_pointed_out(first, second, tmp_path, caplog, capsys):
    sounds(tmp_path, [f"{number}.wav" for number in range(4)])
    people = (first, second, "other", "other")
    rows = [f"{number}.wav,{'happy' if number % 2 else 'sad'},{people[number]},s{number}" for number in range(4)]
    (tmp_path / "my.csv").write_text("\n".join(["path,emotion,speaker,sentence", *rows]), encoding="utf-8")
    load_clips(str(tmp_path / "my.csv"), progress=False)
    assert "count as different people; are they one person?" in caplog.text
    rows = [
        f"{number}.wav,{'test' if number % 2 else 'train'},{people[number]},{people[number]}" for number in range(4)
    ]
    (tmp_path / "split.csv").write_text("\n".join(["file_name,split,speaker,sentence", *rows]), encoding="utf-8")
    assert main(["audit", str(tmp_path / "split.csv"), "--html", str(tmp_path / "audit.html")]) == 0
    printed = capsys.readouterr().out
    assert "count as different people. If they are one," in printed
    assert "count as different sentences. If they are one," in printed


@given(st.text(min_size=1))
def test_plain_names_stay_plain(name):
    assert plain(plain(name)) == plain(name) != ""
