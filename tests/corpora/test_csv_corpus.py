"""A CSV of the user's own stands wherever a corpus does: from a folder of files to a run and its scores."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone_clips
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_lib import corpora
from ser_lib.cli import build_parser, main, overrides_of
from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA, csv_corpus, find_corpus, get_corpus, lasting_name
from ser_lib.corpora.clips import COLUMNS, check_clips, load_clips
from ser_lib.evaluation.results import read_results
from ser_lib.inference.run import load_run
from ser_lib.protocols.leak_audit import audit, red_leaks
from ser_lib.protocols.splits import make_split
from ser_lib.recipes import dump_recipe, load_recipe, read_resolved


@pytest.fixture(autouse=True)
def none_read_before(monkeypatch):
    monkeypatch.setattr(corpora, "_OWN_CORPORA", {})


def write(path, rows, separator=",", encoding="utf-8"):
    """Rows of dictionaries as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def noise(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, 1600), 16000)


def load(*names, **options):
    return load_clips([str(name) for name in names], progress=False, **options)


@pytest.fixture
def rows(tmp_path):
    """Four files in two folders, under two names."""
    made = []
    words = ["happiness", "fearful", "Neutral", "ps"]
    for number, (place, word) in enumerate(zip(["anna/1", "anna/2", "bert/1", "bert/2"], words, strict=True)):
        noise(tmp_path / f"{place}.wav", number)
        made.append({"path": f"{place}.wav", "emotion": word, "speaker": place[:4]})
    return made


class TestAClipTable:
    def test_is_an_ordinary_one(self, tmp_path, rows):
        clips = load(write(tmp_path / "my.csv", rows))
        check_clips(clips)
        assert list(clips.columns) == COLUMNS and clips.attrs["shortfall"] == {}
        assert clips["corpus"].unique().tolist() == ["my"]
        assert clips["emotion"].tolist() == ["happy", "fear", "neutral", "surprise"]
        assert clips["speaker"].tolist() == ["my-anna", "my-anna", "my-bert", "my-bert"]
        assert clips["sex"].unique().tolist() == ["unknown"] and clips["sentence"].isna().all()
        assert all(Path(path).is_file() for path in clips["path"])

    def test_keeps_what_else_is_told(self, tmp_path, rows):
        more = [("f", "doors", "strong"), ("Female", "", ""), ("m", "dogs", "?"), ("", "dogs", "weak")]
        rows = [
            row | dict(zip(("sex", "Sentence", "intensity", "corpus", "rating"), (*told, "x", "5"), strict=True))
            for row, told in zip(rows, more, strict=True)
        ]
        clips = load(write(tmp_path / "my.csv", rows))
        assert clips["sex"].tolist() == ["female", "female", "male", "unknown"]
        assert clips["sentence"].fillna("").tolist() == ["doors", "", "dogs", "dogs"]
        assert clips["intensity"].tolist() == ["strong", "unspecified", "unspecified", "weak"]
        assert set(clips["corpus"]) == {"my"}

    def test_names_files_apart_by_as_much_of_their_paths_as_it_needs(self, tmp_path, rows):
        ids = load(write(tmp_path / "my.csv", rows))["clip_id"].tolist()
        assert ids == ["my/anna/1", "my/anna/2", "my/bert/1", "my/bert/2"]
        assert load(write(tmp_path / "my.csv", rows[:2]))["clip_id"].tolist() == ["my/1", "my/2"]
        soundfile.write(tmp_path / "anna" / "1.flac", np.linspace(-0.5, 0.5, 1600), 16000)
        rows.append(rows[0] | {"path": "anna/1.flac"})
        ids = load(write(tmp_path / "my.csv", rows))["clip_id"]
        assert ids.is_unique and {"my/anna/1.flac", "my/anna/1.wav", "my/bert/2.wav"} <= set(ids)

    def test_stands_beside_a_registered_corpus(self, tmp_path, rows):
        clips = load("sample", write(tmp_path / "my.csv", rows))
        assert clips["corpus"].value_counts().to_dict() == {"sample": 256, "my": 4}

    def test_of_paths_that_are_absolute_and_lie_elsewhere(self, tmp_path, rows):
        rows = [row | {"path": tmp_path / row["path"]} for row in rows]
        lists = write(tmp_path / "far" / "lists" / "my.csv", rows)
        assert len(load(lists)) == 4 and find_corpus(str(lists)) == tmp_path

    @pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-8")])
    def test_from_a_spreadsheet_on_windows(self, tmp_path, rows, separator, encoding):
        rows = [
            {"Path": row["path"].replace("/", "\\"), "Label": row["emotion"], "Speaker": row["speaker"]} for row in rows
        ]
        assert len(load(write(tmp_path / "MY.CSV", rows, separator, encoding))) == 4

    def test_leaves_out_damaged_files_and_copies_and_says_so(self, tmp_path, rows, caplog):
        (tmp_path / "anna" / "1.wav").write_text("no audio")
        shutil.copy(tmp_path / "bert" / "2.wav", tmp_path / "bert" / "3.wav")
        rows.append(rows[3] | {"path": "bert/3.wav"})
        lists = write(tmp_path / "my.csv", [*rows, rows[1]])
        assert load(lists)["clip_id"].tolist() == ["my/anna/2", "my/bert/1", "my/bert/2"]
        for told in ("my: 1 of 5 files left out", "1 of 4 files left out, as copies", "1 rows repeat another"):
            assert told in caplog.text
        assert len(load(lists, keep_duplicates=True)) == 4

    def test_is_read_anew_where_the_csv_has_changed(self, tmp_path, rows):
        lists = write(tmp_path / "my.csv", rows)
        assert len(load(lists)) == 4
        write(lists, [rows[0] | {"emotion": "angry"}])
        assert load(lists)["emotion"].tolist() == ["angry"]

    @given(stem=st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1))
    @settings(max_examples=200, deadline=None)
    def test_has_a_name_that_can_stand_in_file_names_and_tables(self, stem):
        name = csv_corpus.name_of(Path(f"{stem}.csv"))
        assert name and not set(name) & set("/\\ +|;,:'\"<>&\n") and name[0] not in "-." and name.isprintable()


class TestFound:
    def test_beside_one_self_then_in_the_checkout_then_where_corpora_are(self, tmp_path, rows, monkeypatch):
        for place in ("here", "checkout", "data", "environment"):
            shutil.copytree(tmp_path / "anna", tmp_path / place / "anna")
            write(tmp_path / place / "my.csv", rows[:2])
        (tmp_path / "nowhere").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setattr(corpora, "project_dir", lambda: tmp_path / "checkout")
        monkeypatch.setenv("SER_DATA_DIR", str(tmp_path / "environment"))
        for place in ("here", "checkout", "data", "environment"):
            assert find_corpus("my.csv", tmp_path / "data") == tmp_path / place / "anna"
            (tmp_path / place / "my.csv").unlink()
        with pytest.raises(SerError, match=r"there is no corpus my.csv: looked for .*here.*checkout.*data.*env"):
            find_corpus("my.csv", tmp_path / "data")

    def test_in_the_home_folder_and_not_behind_a_variable(self, tmp_path, rows, monkeypatch):
        write(tmp_path / "my.csv", rows)
        monkeypatch.setenv("MINE", str(tmp_path))
        monkeypatch.setenv("HOME", str(tmp_path))
        assert len(load("~/my.csv")) == 4
        with pytest.raises(SerError, match=r"there is no corpus \$MINE/my.csv"):
            load("$MINE/my.csv")

    def test_by_its_name_once_it_was_read(self, tmp_path, rows):
        with pytest.raises(SerError, match="unknown corpus 'my'.*your own is a CSV"):
            get_corpus("my")
        corpus = get_corpus(str(write(tmp_path / "my.csv", rows)))
        assert get_corpus("my") is corpus and find_corpus("my") == tmp_path
        assert (corpus.clips, corpus.speakers, corpus.title) == (4, 2, "my.csv")
        assert not corpus.shareable and "my" not in CORPORA

    def test_by_a_name_that_lasts(self, tmp_path, rows, monkeypatch):
        write(tmp_path / "in it" / "my.csv", rows)
        monkeypatch.chdir(tmp_path / "in it")
        absolute = str(tmp_path / "in it" / "my.csv")
        monkeypatch.setenv("HOME", "/elsewhere")
        for name in ("ravdess", absolute, "$X/my.csv", "~/my.csv", "not-there.csv"):
            assert lasting_name(name) == name
        assert lasting_name("my.csv") == absolute
        monkeypatch.setenv("HOME", str(tmp_path))
        assert lasting_name("my.csv") == "~/in it/my.csv"
        monkeypatch.setattr(corpora, "project_dir", lambda: tmp_path / "in it")
        assert lasting_name("my.csv") == "my.csv"


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "sound,emotion\na.wav,sad\n",
                r"columns path and emotion \(or label\), and no column twice.*'sound,emotion'",
            ),
            (
                "path,emotion,Speaker,speaker\nanna/1.wav,sad,anna,bert\n",
                "my.csv: .*no column twice, but the first line is 'path,emotion,Speaker,speaker'",
            ),
            ("path,speaker\na.wav,anna\n", r"columns path and emotion \(or label\)"),
            ("path,emotion,speaker\n", "no rows"),
            (
                "path,emotion,speaker\na.wav,bored,x\nb.wav,sad,x\nc.wav,bored,x\nd.wav,,x\n",
                r"unknown emotions: 'bored' in lines 2, 4; '' in line 5. Known are neutral,.*happiness",
            ),
            (
                "path,emotion,speaker\nno.wav,sad,x\nanna/1.wav,sad,x\nnor.wav,sad,x\n",
                r"2 of 3 files that .*my.csv lists do not exist: .*no.wav.*nor.wav. Paths in a list are relative",
            ),
            (
                "path,emotion,speaker\nanna/1.wav,sad,x\nanna/2.wav,sad,\nbert/1.wav,sad,unknown\n",
                r"who speaks in 2 of 3 files \(lines 3, 4\).*Do not invent",
            ),
            (
                "path,emotion,speaker\nanna/1.wav,sad,x\nanna/../anna/1.wav,happy,x\n",
                "different values for the same file: 1.wav in lines 2, 3. Keep one row",
            ),
        ],
    )
    def test_a_csv_that_is_no_corpus(self, tmp_path, rows, text, message):
        (tmp_path / "my.csv").write_text(text)
        with pytest.raises(SerError, match=message):
            load(tmp_path / "my.csv")

    def test_a_name_that_is_taken(self, tmp_path, rows):
        with pytest.raises(SerError, match="mixed up with RAVDESS.*rename the file"):
            load(write(tmp_path / "ravdess.csv", rows))
        first, second = (write(tmp_path / place / "my.csv", [rows[0]]) for place in "ab")
        for place in "ab":
            noise(tmp_path / place / "anna" / "1.wav", 1)
        with pytest.raises(SerError, match="called the same, my, my"):
            load(first, second)

    def test_two_lists_with_one_speaker(self, tmp_path, rows):
        one = write(tmp_path / "one.csv", rows[:3])
        two = write(tmp_path / "two.csv", [rows[3] | {"speaker": " Bert"}])
        with pytest.raises(SerError, match="^bert speaks in both one and two: put both lists into one CSV"):
            load("sample", one, two)
        write(tmp_path / "two.csv", [rows[3] | {"speaker": "berta"}])
        assert load(one, two)["speaker"].tolist() == ["one-anna", "one-anna", "one-bert", "two-berta"]
        for path, some in ((one, rows[:3]), (two, rows[3:])):  # whom nobody names may be one person
            write(path, [{"path": row["path"], "emotion": "sad"} for row in some])
        with pytest.raises(SerError, match="^unknown speaks in both one and two"):
            load(one, two)

    def test_audio_none_of_which_can_be_read(self, tmp_path, rows):
        for row in rows:
            (tmp_path / row["path"]).write_text("no audio")
        with pytest.raises(SerError, match="my: none of the 4 clips .* can be used"):
            load(write(tmp_path / "my.csv", rows))


class TestWithoutSpeakers:
    """Nobody can tell whether a new voice is tested, so all clips are one person's."""

    @pytest.mark.parametrize("column", [{}, {"speaker": ""}, {"speaker": "unknown"}])
    def test_no_split_by_speaker_is_made_and_a_random_one_is_told_to_leak(self, tmp_path, rows, column, caplog):
        rows = [{"path": row["path"], "emotion": "sad"} | column for row in rows]
        clips = load(write(tmp_path / "my.csv", rows))
        assert clips["speaker"].unique().tolist() == ["my-unknown"]
        assert "No score then holds for new voices" in caplog.text and "Add the column speaker" in caplog.text
        assert "not known" in get_corpus("my").notice
        with pytest.raises(SerError, match="at least 2 speakers, got 1"):
            make_split(clips, "speaker")
        split = make_split(clips, "deduplicated", test_fraction=0.25, validation_fraction=0.25)
        assert not red_leaks(audit(split, near_duplicates=False, progress=False)).empty

    def test_beside_others_they_are_never_on_both_sides(self, tmp_path, rows):
        rows = [{"path": row["path"], "emotion": "sad"} for row in rows]
        split = make_split(load("sample", write(tmp_path / "my.csv", rows)), "speaker")
        mine = split[split["corpus"] == "my"]
        assert (mine.groupby("fold")["subset"].nunique() == 1).all() and len(mine)

    def test_names_that_may_be_invented_or_one_are_asked_about(self, tmp_path, rows, caplog):
        write(tmp_path / "my.csv", [row | {"speaker": row["path"]} for row in rows])
        load(tmp_path / "my.csv")
        assert "each of its 4 files has a speaker of its own" in caplog.text
        words = ["Anna", "anna ", "Bert", "Bert"]
        load(write(tmp_path / "my.csv", [row | {"speaker": w} for row, w in zip(rows, words, strict=True)]))
        assert "'Anna' and 'anna' count as different people" in caplog.text


class TestInARecipe:
    def overrides(self, *arguments):
        options = build_parser().parse_args(["train", "demo", *arguments])
        return overrides_of(options.corpus, options.set)

    def test_corpus_is_the_same_as_set(self, tmp_path, rows, monkeypatch):
        assert self.overrides("--corpus", "ravdess", "my.csv") == ["corpora=[ravdess, my.csv]"]
        assert self.overrides("--set", "corpora=[ravdess, my.csv] training.epochs=3") == [
            "corpora=[ravdess, my.csv]",
            "training.epochs=3",
        ]
        monkeypatch.setenv("HOME", "/elsewhere")
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "a, b.csv", rows)
        for typed in (["--corpus", "a, b.csv"], ["--set", "corpora='a, b.csv'"]):
            (item,) = self.overrides(*typed)
            assert load_recipe("demo", overrides=[item]).corpora == (str(tmp_path / "a, b.csv"),)

    def test_folders_are_not_shown_and_the_csv_is_not_needed_to_read_it_again(self, tmp_path):
        recipe = load_recipe("demo", overrides=["corpora=[ravdess, /home/someone/calls/my.csv]"])
        assert recipe.variant_label == "stated; corpora=[ravdess, my.csv]"
        (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
        assert read_resolved(tmp_path / "recipe.yaml") == recipe
        assert load_recipe("demo", overrides=["corpora=ravdess"]).variant_label == "stated; corpora=ravdess"


def test_from_a_folder_of_files_to_a_run_its_scores_and_its_audit(tmp_path, monkeypatch, capsys):
    """Forty clips of four people in fewer emotions than the recipe's, through the commands that a user types."""
    words = {"happy": "joy", "sad": "sadness"}
    clips = tone_clips(tmp_path / "recordings", speakers=4, emotions=tuple(words), takes=5 * 2, seconds=0.2)
    clips = clips[clips["sentence"] == "sentence-1"]
    rows = [
        {"path": Path(clip.path).relative_to(tmp_path), "emotion": words[clip.emotion], "speaker": clip.speaker}
        for clip in clips.itertuples()
    ]
    assert len(rows) == 40
    write(tmp_path / "my calls.csv", rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    shared = ["demo", "--corpus", "my calls.csv", "--runs-dir", "runs"]
    shared += ["--set", "training.epochs=4", "split.folds=5", "model.hidden=8", "model.dense=[8]"]

    assert main(["train", *shared]) == 0
    run = load_run(tmp_path / "runs")
    assert run.recipe.corpora == ("~/my calls.csv",)
    assert run.emotions == ["happy", "sad"]
    assert run.split["fold"].nunique() == 4  # as many as there are speakers
    assert len(run.predictions) == 40 and run.predictions["clip_id"].is_unique
    assert np.allclose(run.predictions[run.emotions].sum(axis=1), 1, atol=1e-5)
    assert run.environment["corpora"] == {"my-calls": {"found": 40, "expected": 40}}
    card = (run.folder / "README.md").read_text()
    assert "my calls.csv: licence not stated" in card and "40 of 40 clips" in card
    assert "Trained on other corpora than the recipe's own: my calls.csv." in card

    assert main(["evaluate", *shared, "--reports-dir", "reports"]) == 0
    results = read_results(tmp_path / "reports")
    assert results["corpus"].tolist() == ["my-calls"] and "~" not in results["variant"].item()
    assert main(["audit", *shared]) == 0
    assert main(["prepare", *shared]) == 0
    assert "40 × " in capsys.readouterr().out

    (tmp_path / "my calls.csv").rename(tmp_path / "moved.csv")  # a run can be read without its corpus
    again = load_run(run.folder)
    assert again.predictions.equals(run.predictions)
    heard = again.predict(clips["path"].iloc[0], progress=False)
    assert heard["emotion"].item() in run.emotions and heard["error"].item() == ""
