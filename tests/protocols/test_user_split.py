"""A reader's own split, from a CSV or folders, reaches the audit whole; what cannot be read is refused."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_lib.cli import main
from ser_lib.common.errors import SerError
from ser_lib.protocols import user_split
from ser_lib.protocols.leak_audit import LEAKS, audit
from ser_lib.protocols.user_split import SUBSET_WORDS, is_split, read_split, split_name
from ser_lib.reports.audit_page import WHAT_TO_DO, subset_counts, unknown_red, write_page


def noise(path, seed, gain=0.2):
    path.parent.mkdir(parents=True, exist_ok=True)
    waveform = gain * np.random.default_rng(seed).standard_normal(4000)
    soundfile.write(path, waveform.astype("float32"), 8000, subtype="FLOAT", format="WAV")
    return path


def write_csv(path, rows, separator=",", encoding="utf-8"):
    """Rows of dictionaries as CSV, quoted where need be."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def read(path=None, **options):
    return read_split(path, progress=False, **options)


def found(split, **options):
    table = audit(split, progress=False, **options).set_index("leak")
    return {leak: clips for leak, clips in table["clips"].dropna().items() if clips}


@pytest.fixture
def files(tmp_path):
    """Four files of their own noise."""
    return [noise(tmp_path / f"clip-{number}.wav", number) for number in range(4)]


@pytest.fixture
def rows(files):
    subsets = ["train", "train", "validation", "test"]
    return [{"path": file.name, "subset": subset} for file, subset in zip(files, subsets, strict=True)]


def give(rows, column, *values):
    return [row | {column: value} for row, value in zip(rows, values, strict=True)]


class TestCsv:
    def test_gives_a_row_a_file_with_what_the_audit_needs(self, tmp_path, rows):
        rows = give(rows, "label", "joy", "3", "", "NA")
        rows = give(rows, "speaker", "a", "b", "unknown", "b")
        split = read(write_csv(tmp_path / "split.csv", rows))
        assert split["clip_id"].tolist() == [f"clip-{number}.wav" for number in range(4)]
        assert split["subset"].tolist() == ["train", "train", "validation", "test"]
        assert split["emotion"].fillna("").tolist() == ["joy", "3", "", "NA"]  # free text, as it stands
        assert split["speaker"].fillna("").tolist() == ["a", "b", "", "b"]
        assert split["seconds"].eq(0.5).all() and split["sampling_rate"].eq(8000).all()
        assert split["audio_hash"].nunique() == 4
        assert found(split) == {"same speaker": 1}
        assert any("speaker of 1 of 4 clips is not known" in note for note in split.attrs["notes"])

    def test_columns_that_nothing_is_known_of_are_unknown_not_clean(self, tmp_path, rows):
        rows = give(give(rows, "speaker", *[""] * 4), "sentence", *["None"] * 4)
        split = read(write_csv(tmp_path / "split.csv", rows))
        assert not {"speaker", "sentence"} & set(split)
        table = audit(split, progress=False)
        assert unknown_red(table) == ["same speaker"]
        assert pd.isna(table.set_index("leak").loc["same sentence", "clips"])

    def test_without_audio_names_and_speakers_are_compared(self, tmp_path):
        rows = [{"path": f"far/{name}.wav", "subset": subset} for name, subset in (("a", "train"), ("b", "test"))]
        rows = give(give(rows, "speaker", "x", "x"), "label", "sad", "sad")
        path = write_csv(tmp_path / "split.csv", [*rows, rows[0] | {"subset": "test"}])
        with pytest.raises(SerError, match="do not exist"):
            read(path)
        split = read(path, audio=False)
        assert not {"audio_hash", "seconds"} & set(split) and split["clip_id"].tolist() == ["a.wav", "b.wav", "a.wav"]
        table = audit(split, progress=False)
        assert found(split) == {"same audio": 1, "same speaker": 2}
        assert unknown_red(table) == ["near-same audio", "selection on test"]
        assert any("audio was not read" in note for note in split.attrs["notes"])
        page = write_page(split, table, "t", tmp_path / "page.html").read_text(encoding="utf-8")
        assert subset_counts(split)["minutes"].isna().all() and page.count(">unknown<") >= 2

    def test_the_column_corpus_tells_how_names_are_read(self, tmp_path):
        rows = [
            {"path": f"{name}.wav", "subset": subset} for name, subset in (("03a01Wa", "train"), ("03a02Fb", "test"))
        ]
        assert not found(read(write_csv(tmp_path / "split.csv", rows), audio=False))
        split = read(write_csv(tmp_path / "split.csv", give(rows, "corpus", "emodb", "emodb")), audio=False)
        assert split["speaker"].tolist() == ["emodb-03"] * 2 and split["sentence"].tolist() == [
            "emodb-a01",
            "emodb-a02",
        ]
        assert found(split) == {"same speaker": 1}
        assert any("EMO-DB" in note for note in split.attrs["notes"])

    def test_near_copies_are_found(self, tmp_path, rows):
        noise(tmp_path / "clip-3.wav", seed=0, gain=0.05)  # clip-0, at a quarter of the level
        split = read(write_csv(tmp_path / "split.csv", rows))
        assert found(split) == {"near-same audio": 1}

    def test_one_file_in_two_subsets_is_the_same_audio(self, tmp_path, rows):
        rows[3]["path"] = f"../{tmp_path.name}/clip-0.wav"
        split = read(write_csv(tmp_path / "split.csv", rows))
        table = audit(split, progress=False).set_index("leak")
        assert table.loc["same audio", ["clips", "examples"]].tolist() == [1, "clip-0.wav ↔ clip-0.wav"]

    def test_folds_are_splits_of_their_own(self, tmp_path, rows):
        both = give(rows, "fold", *"1111") + [
            row | {"fold": "2", "subset": subset}
            for row, subset in zip(rows, ["test", "train", "train", "train"], strict=True)
        ]
        split = read(write_csv(tmp_path / "split.csv", both))
        assert len(split) == 8 and split["clip_id"].nunique() == 4
        assert found(split) == {}
        assert subset_counts(split)["clips"].to_dict() == {"train": 4, "validation": 1, "test": 2}

    def test_a_speaker_in_two_corpora_is_one_person_and_that_is_said(self, tmp_path, rows):
        rows = give(give(rows, "speaker", "1", "2", "3", "1"), "corpus", "x", "x", "y", "y")
        split = read(write_csv(tmp_path / "split.csv", rows))
        assert found(split) == {"same speaker": 1}
        assert any("Speaker 1 is in several corpora" in note for note in split.attrs["notes"])

    @pytest.mark.parametrize("source", ["clip-0.wav", "clip-0", "{folder}/clip-0.wav", "./clip-0.wav"])
    def test_an_original_is_named_by_path_or_name(self, tmp_path, rows, source):
        rows = give(rows, "augmented_from", "clip-0.wav", "", "", source.format(folder=tmp_path))
        split = read(write_csv(tmp_path / "split.csv", rows))
        assert split["augmented_from"].fillna("").tolist() == ["", "", "", "clip-0.wav"]  # none is its own
        assert found(split) == {"augmented copies": 1}

    def test_a_copy_of_a_copy_is_known_by_its_first_original(self, tmp_path, rows):
        rows = give(rows, "augmented_from", "elsewhere", "clip-0", "", "clip-1")
        split = read(write_csv(tmp_path / "split.csv", rows))
        assert split["augmented_from"].dropna().tolist() == ["elsewhere"] * 3
        assert found(split) == {"augmented copies": 1}
        assert any("elsewhere" in note for note in split.attrs["notes"])


# What a name of a file may hold on every system, less what means a folder.
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="/\\"),
    min_size=1,
    max_size=30,
).filter(lambda name: name.strip(" .") == name and name)


class TestAnyCsv:
    """What spreadsheets, scripts and other systems write."""

    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_subset_words_are_mapped_in_any_case(self, data):
        subset = data.draw(st.sampled_from(sorted(SUBSET_WORDS)))
        word = data.draw(st.sampled_from(SUBSET_WORDS[subset]))
        word = "".join(data.draw(st.sampled_from([letter.upper(), letter])) for letter in word)
        assert user_split._subset_of(word, "here") == subset

    @given(word=st.text(max_size=12).filter(lambda word: word.lower() not in sum(SUBSET_WORDS.values(), ())))
    @settings(max_examples=60, deadline=None)
    def test_other_words_are_refused_by_name(self, word):
        with pytest.raises(SerError) as refused:
            user_split._subset_of(word, "split.csv, line 2")
        assert f"got {word!r}" in str(refused.value) and "line 2" in str(refused.value)

    @given(
        names=st.lists(NAMES, min_size=2, max_size=4, unique_by=lambda name: name.strip().casefold()),
        separator=st.sampled_from(",;\t"),
        encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
        windows=st.booleans(),
        label=st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=8),
    )
    @settings(max_examples=60, deadline=None)
    def test_names_of_files_survive(self, tmp_path_factory, names, separator, encoding, windows, label):
        folder = tmp_path_factory.mktemp("any")
        files = [folder / "audio" / "in it" / f"{name}.wav" for name in names]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        slash = "\\" if windows else "/"
        rows = [
            {"subset": "training" if i else "Test", "path": f"audio{slash}in it{slash}{file.name}", "Label": label}
            for i, file in enumerate(files)
        ]
        read_rows = user_split._read_csv(write_csv(folder / "split.csv", rows, separator, encoding), [])
        assert [row["path"] for row in read_rows] == files
        assert [row["subset"] for row in read_rows] == ["test"] + ["train"] * (len(files) - 1)
        assert {row["emotion"] for row in read_rows} == {label.strip() or None}

    def test_padding_blank_lines_and_carriage_returns(self, tmp_path, files):
        text = "Path , Subset,,\r\n clip-0.wav , train,,\r\n\r\nclip-1.wav,  TEST ,,\r\n , ,,\r\n"
        (tmp_path / "split.csv").write_bytes(text.encode())
        assert read(tmp_path / "split.csv")["subset"].tolist() == ["train", "test"]


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "columns path and subset"),
            ("sound,subset\nclip-0.wav,train\n", r"columns path and subset, and no column twice.*'sound,subset'"),
            ("path,subset,Path\na,b,c\n", "no column twice"),
            ("path,subset,speaker,Speaker\na,train,x,y\n", "no column twice.*speaker,Speaker"),
            ("path,subset\n", "no rows"),
            (
                "path,subset\nclip-0.wav,trian\n",
                "line 2: expected the subset of the clip, got 'trian'. Subsets are train",
            ),
            (
                "path,subset\nclip-0.wav,trian\nclip-1.wav,test\nclip-2.wav,tset\nclip-3.wav,x\n",
                "line 2: expected .* got 'trian'.* So are 'tset' in line 4, 'x' in line 5",
            ),
            ("path,subset\nclip-0.wav,\n", "line 2: expected the subset of the clip, got ''"),
            ("path,subset\n,train\n", "line 2: the path is empty"),
            ("path,subset,speaker\n\nclip-0.wav,train\n", "line 3: 2 cells under 3 columns"),
            ("path,subset\nclip,0.wav,train\n", "is not CSV: Expected 2 fields in line 2, saw 3.*double quotes"),
            ('path,subset\n"clip-0.wav,train\n', "is not CSV"),
            ("path,subset\nclip-0.wav,train\n", "no test clips"),
            ("path,subset\nclip-0.wav,dev\nclip-1.wav,test\n", "no train clips"),
            (
                "path,subset\nno.wav,train\nnor.wav,train\nclip-1.wav,test\n",
                "2 of 3 files that .* lists do not exist: .*no.wav",
            ),
            (
                "path,subset,fold\nclip-0.wav,train,1\nclip-1.wav,test,2\n",
                "fold 1, which is a split of its own, has no test clips",
            ),
            ("path,subset,fold\nclip-0.wav,train,1\nclip-1.wav,test,\n", "fold is empty in 1 of 2 rows"),
            ("path,subset,corpus\nclip-0.wav,train,x\nclip-1.wav,test,\n", "corpus is empty in 1 of 2"),
            ("path,subset,augmented_from\nclip-0.wav,train,clip-1\nclip-1.wav,test,clip-0\n", "round in a circle"),
        ],
    )
    def test_a_csv_that_cannot_be_understood(self, tmp_path, files, text, message):
        (tmp_path / "split.csv").write_text(text)
        with pytest.raises(SerError, match=message):
            read(tmp_path / "split.csv")

    def test_a_csv_of_another_encoding(self, tmp_path, rows):
        with pytest.raises(SerError, match="not UTF-8"):
            read(write_csv(tmp_path / "split.csv", rows, encoding="utf-16"))

    def test_a_name_of_several_files_is_no_original(self, tmp_path):
        for folder in "ab":
            noise(tmp_path / folder / "x.wav", seed=1)
        rows = [
            {"path": "a/x.wav", "subset": "train", "augmented_from": ""},
            {"path": "b/x.wav", "subset": "test", "augmented_from": "x"},
        ]
        with pytest.raises(SerError, match="'x' is the name of 2 files"):
            read(write_csv(tmp_path / "split.csv", rows))

    def test_files_that_cannot_be_decoded_are_counted_and_named(self, tmp_path, files, rows):
        for file in files[1:3]:
            file.write_text("no audio")
        with pytest.raises(SerError, match=r"2 of 4 files cannot be read: .*clip-1.wav.*; .*clip-2.wav"):
            read(write_csv(tmp_path / "split.csv", rows))

    def test_what_does_not_exist(self, tmp_path):
        with pytest.raises(SerError, match="there is no file or folder"):
            read(tmp_path / "split.csv")
        with pytest.raises(SerError, match="there is no file or folder"):
            read(train=tmp_path / "train", test=tmp_path / "test")

    def test_half_a_split(self, tmp_path):
        with pytest.raises(SerError, match="give --test too"):
            read(train=tmp_path)
        with pytest.raises(SerError, match="not both"):
            read(tmp_path, train=tmp_path)


class TestFolders:
    def test_subsets_and_labels_are_names_of_folders(self, tmp_path):
        noise(tmp_path / "Training" / "joy" / "a.wav", 0)
        noise(tmp_path / "Training" / "b.WAV", 1)
        noise(tmp_path / "val" / "deep" / "down" / "joy" / "a.wav", 2)
        noise(tmp_path / "test" / "joy" / "a.wav", 0)
        noise(tmp_path / "test" / ".hidden" / "a.wav", 0)
        noise(tmp_path / "spare" / "c.wav", 4)
        split = read(tmp_path).sort_values("clip_id")
        assert split["clip_id"].tolist() == [
            "Training/b.WAV",
            "Training/joy/a.wav",
            "test/joy/a.wav",
            "val/deep/down/joy/a.wav",
        ]
        assert split["subset"].tolist() == ["train", "train", "test", "validation"]
        assert split["emotion"].fillna("").tolist() == ["", "joy", "joy", "joy"]
        assert found(split) == {"same audio": 1}
        assert split.attrs["notes"][0] == "Audio files outside Training/, test/, val/ are left out: 1."

    def test_a_folder_without_them_says_what_it_holds(self, tmp_path):
        noise(tmp_path / "happy" / "a.wav", 0)
        with pytest.raises(SerError, match=r"holds train/ and test/.* holds happy/\. .*--train and --test"):
            read(tmp_path)

    def test_audio_that_cannot_be_read_is_not_passed_over(self, tmp_path):
        noise(tmp_path / "train" / "a.wav", 0)
        noise(tmp_path / "test" / "b.wav", 1)
        (tmp_path / "test" / "c.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
        with pytest.raises(SerError, match=r"c\.m4a"):
            read(tmp_path)

    def test_links_are_followed_and_do_not_lead_round(self, tmp_path):
        noise(tmp_path / "elsewhere" / "a.wav", 0)
        noise(tmp_path / "split" / "test" / "b.wav", 1)
        (tmp_path / "split" / "train").mkdir()
        (tmp_path / "split" / "train" / "joy").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "split" / "train")
        assert read(tmp_path / "split")["clip_id"].tolist() == ["test/b.wav", "train/joy/a.wav"]

    def test_parts_are_folders_or_lists(self, tmp_path, files):
        noise(tmp_path / "mine" / "joy" / "a.wav", 9)
        (tmp_path / "lists").mkdir()
        (tmp_path / "lists" / "test.txt").write_text(f"../clip-0.wav\n\n{files[1]}\n")
        listed = [{"path": "../clip-2.wav", "label": "anger", "subset": "dev"}]
        part = write_csv(tmp_path / "lists" / "val.csv", listed)
        split = read(train=tmp_path / "mine", test=tmp_path / "lists" / "test.txt", validation=part)
        assert split["clip_id"].tolist() == ["mine/joy/a.wav", "clip-2.wav", "clip-0.wav", "clip-1.wav"]
        assert split["subset"].tolist() == ["train", "validation", "test", "test"]
        assert split["emotion"].fillna("").tolist() == ["joy", "anger", "", ""]
        with pytest.raises(SerError, match="expected the subset train, got 'dev'"):
            read(train=part, test=tmp_path / "mine")

    def test_a_name_that_is_no_text_is_an_error_not_a_crash(self, tmp_path):
        noise(tmp_path / "test" / "b.wav", 0)
        try:
            noise(tmp_path / "train" / "a.wav", 0).rename(tmp_path / "train" / "a\udcff.wav")
        except OSError:
            pytest.skip("this file system takes UTF-8 names alone")
        with pytest.raises(SerError, match="1 of 2 files cannot be read: .* Rename"):
            read(tmp_path)
        # Nor by pandas, which cannot hold such a name where pyarrow is installed, as in Colab.
        assert sorted(read(tmp_path, audio=False)["clip_id"]) == ["test/b.wav", "train/a\\udcff.wav"]


class TestNamesOfKnownCorpora:
    NAMES = ("03-01-05-01-01-01-07.wav", "1001_DFA_ANG_XX.wav", "YAF_dog_ps.wav", "DC_su03.wav")

    def test_fill_what_the_split_does_not_tell(self, tmp_path):
        for number, name in enumerate(self.NAMES):
            noise(tmp_path / ("test" if number else "train") / "Actor" / name, number)
        split = read(tmp_path).sort_values("corpus").reset_index(drop=True)
        assert split["corpus"].tolist() == ["crema_d", "ravdess", "savee", "tess"]
        assert split["speaker"].tolist() == ["crema_d-1001", "ravdess-07", "savee-DC", "tess-YAF"]
        assert split["sentence"].fillna("").tolist() == ["crema_d-DFA", "ravdess-kids", "", "tess-dog"]
        assert split["emotion"].tolist() == ["angry", "angry", "surprise", "surprise"]  # not "Actor"
        assert any(
            "names of 4 of 4 files" in note and "SAVEE" in note and "speaker, sentence, corpus, emotion" in note
            for note in split.attrs["notes"]
        )

    def test_do_not_overrule_what_it_tells(self, tmp_path):
        for number, name in enumerate(self.NAMES):
            noise(tmp_path / name, number)
        rows = [
            {"path": name, "subset": "test" if number else "train", "speaker": "me", "label": "loud"}
            for number, name in enumerate(self.NAMES)
        ]
        split = read(write_csv(tmp_path / "split.csv", rows))
        assert set(split["speaker"]) == {"me"} and set(split["emotion"]) == {"loud"}
        assert set(split["corpus"]) == {"ravdess", "crema_d", "tess", "savee"}

    def test_among_others_tell_speakers_alone(self, tmp_path):
        noise(tmp_path / "train" / "joy" / self.NAMES[0], 0)
        noise(tmp_path / "test" / "joy" / self.NAMES[0].replace("05-01-01", "05-01-02"), 1)
        noise(tmp_path / "test" / "anger" / "mine.wav", 2)
        split = read(tmp_path)
        assert "corpus" not in split and set(split["emotion"]) == {"joy", "anger"}
        assert split["speaker"].notna().sum() == 2
        assert found(split) == {"same speaker": 1}


class Texts(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


class TestPage:
    def made(self, split, folder, title="mine", **options):
        page = write_page(split, audit(split, progress=False, **options), title, folder / "page.html")
        texts = Texts()
        texts.feed(page.read_text(encoding="utf-8"))
        return texts, page.read_text(encoding="utf-8")

    @pytest.fixture
    def split(self, tmp_path, rows):
        rows = give(give(rows, "speaker", *"aabc"), "label", *"xyxy")
        return read(write_csv(tmp_path / "split.csv", rows))

    def test_clean_unknown_and_leaking_are_told_apart(self, tmp_path, split):
        texts, html = self.made(split, tmp_path)
        assert "No leak found among the kinds" in texts.text and 'class="strip green"' in html
        texts, html = self.made(split.drop(columns="speaker"), tmp_path)
        assert "some could not be checked: same speaker" in texts.text and 'class="strip plain"' in html
        leaking = split.assign(speaker="a")
        texts, html = self.made(leaking, tmp_path)
        assert "This split leaks" in texts.text and 'class="strip red"' in html
        assert "same speaker: 1 test clip (100 %)" in texts.text and "clip-3.wav ↔ clip-0.wav" in texts.text

    def test_says_what_each_leak_means_and_counts_the_subsets(self, tmp_path, split):
        texts, html = self.made(split, tmp_path)
        for leak, (_, meaning) in LEAKS.items():
            assert leak in texts.text and meaning in texts.text
        assert WHAT_TO_DO["same speaker"] in texts.text and set(WHAT_TO_DO) == set(LEAKS)
        (row,) = re.findall(r'<tr><th scope="row">train</th>(.*)</tr>', html)
        assert re.findall(r">([\d.]+)<", row) == ["2", "1", "2", "0.0"]

    def test_loads_nothing_and_runs_no_script(self, tmp_path, split):
        texts, html = self.made(split, tmp_path)
        assert not re.search(r"""(?:src|href)=["'](?!data:)""", html) and "script" not in texts.tags

    @given(name=st.sampled_from("<>&\"'").flatmap(lambda mark: NAMES.map(lambda name: f"<b onx={mark}{name}>")))
    @settings(max_examples=15, deadline=None)
    def test_names_are_escaped(self, tmp_path_factory, name):
        folder = tmp_path_factory.mktemp("page")
        split = pd.DataFrame(
            {"clip_id": [name, f"{name}2"], "subset": ["train", "test"], "speaker": name, "seconds": 1.0}
        )
        split.attrs["notes"] = [name]
        texts, html = self.made(split, folder, title=name, near_duplicates=False)
        assert "<b onx" not in html and "b" not in set(texts.tags)
        assert texts.text.count(name) >= 5  # window, heading, example twice, note: as it stands


class TestCommand:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")

    def test_leaks_are_printed_with_a_page_and_fail_where_asked(self, tmp_path, rows, capsys):
        path = str(write_csv(tmp_path / "<i>my split.csv", give(rows, "speaker", *"abca")))
        assert main(["audit", path]) == 0
        printed = capsys.readouterr().out
        assert printed.endswith("LEAKS: <i>my split\n")
        assert "same speaker: The model has heard the test speaker" in printed
        assert "clip-3.wav ↔ clip-0.wav" in printed and "page: <i>my split-audit.html" in printed
        assert "&lt;i&gt;my split" in Path("<i>my split-audit.html").read_text(encoding="utf-8")
        assert main(["audit", path, "--fail", "--html", "other.html"]) == 1
        assert "leaks: same speaker" in capsys.readouterr().err and Path("other.html").is_file()

    def test_clean_says_what_is_unknown(self, tmp_path, rows, capsys):
        path = write_csv(tmp_path / "split.csv", rows)
        assert main(["audit", str(path), "--fail"]) == 0
        assert "no leak found, but not checked: same speaker: split" in capsys.readouterr().out

    def test_folders_and_parts(self, tmp_path, capsys):
        noise(tmp_path / "data" / "train" / "a.wav", 0)
        noise(tmp_path / "data" / "test" / "b.wav", 0)
        assert main(["audit", str(tmp_path / "data")]) == 0
        assert "LEAKS: data" in capsys.readouterr().out and Path("data-audit.html").is_file()
        parts = ["--train", str(tmp_path / "data" / "train"), "--test", str(tmp_path / "data" / "test")]
        assert main(["audit", *parts]) == 0
        assert "LEAKS: train-test" in capsys.readouterr().out and Path("train-test-audit.html").is_file()

    def test_a_recipe_is_still_a_recipe(self, capsys, monkeypatch):
        # The audio of 256 clips has no part in this.
        apart = lambda clips, progress: pd.Series(range(len(clips)), index=clips.index)  # noqa: E731
        monkeypatch.setattr("ser_lib.protocols.leak_audit.near_duplicate_groups", apart)
        Path("demo").mkdir()  # a folder of that name does not hide it
        assert main(["audit", "demo", "--protocol", "deduplicated", "--fail"]) == 1
        captured = capsys.readouterr()
        assert "LEAKS: demo under deduplicated" in captured.out and "same speaker" in captured.err
        assert not list(Path().glob("*.html"))
        assert main(["audit", "demo", "--html", "demo.html"]) == 0
        assert "demo under speaker" in Path("demo.html").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "name a recipe, a CSV or a folder"),
            (["demoo"], "unknown recipe 'demoo'"),
            (["nowhere.csv"], "there is no file or folder nowhere.csv"),
            (["demo", "--train", "."], "not both"),
            (["--validation", "."], "give --train and --test too"),
        ],
    )
    def test_a_mistake_is_one_line(self, arguments, message, capsys):
        assert main(["audit", *arguments]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_what_names_a_split(tmp_path):
    assert is_split("My.CSV") and is_split("a/b.tsv") and not is_split(str(tmp_path))
    (tmp_path / "Training").mkdir()
    assert is_split(str(tmp_path))
    for program in ("Train.ipynb", "train.py"):
        with pytest.raises(SerError, match=r'(?s)to_csv\("split.csv".*same random_state'):
            is_split(program)
    assert not is_split("demo") and not is_split("mine.yaml") and not is_split("")
    (tmp_path / "v1.2").mkdir()
    assert split_name(tmp_path / "v1.2") == "v1.2"
    assert split_name(tmp_path / "a.csv") == "a" and split_name(None, tmp_path / "x", "y.txt") == "x-y"
