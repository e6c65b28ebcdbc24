"""The atlas: each source's format on tiny lists, the verdicts, what a leak is worth, and the page made of the table."""

import hashlib
import io
import json
import os
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import make_clips
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ser_lib.cli import main
from ser_lib.common.errors import SerError
from ser_lib.common.files import reports_path
from ser_lib.corpora import CORPORA
from ser_lib.corpora.file_names import NAMES
from ser_lib.reports import atlas_page
from ser_lib.studies import atlas
from ser_lib.studies.atlas import emo_superb, emobox, hicmae, nkululeko, ogm_ge, own, worth
from ser_lib.studies.atlas import lists as published
from ser_lib.studies.atlas.heard import HEARD
from ser_lib.studies.atlas.lists import HASHES, Lists, PublishedSplit, read_hashes, splits_of

SOURCES = [emobox.SOURCE, nkululeko.SOURCE, emo_superb.SOURCE, ogm_ge.SOURCE, hicmae.SOURCE]


def tiny_lists(folder, source, texts) -> Lists:
    """Lists of a source in a folder that stands in for GitHub, pinned by their hashes."""
    hashes = {}
    for path, text in texts.items():
        name = f"{source.folder}/{path}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        hashes[name] = hashlib.sha256(text.encode()).hexdigest()
    return Lists(hashes, folder)


# How each source writes the names of CREMA-D's clips by subset: path -> text.
def as_emobox(names):
    line = '{{"key": "cremad-{0}", "wav": "downloads/cremad/AudioWAV/{0}.wav", "emo": "ANG"}}'.format
    short = {"train": "train", "validation": "valid", "test": "test"}
    return {
        f"data/cremad/fold_1/cremad_{short[subset]}_fold_1.jsonl": "\n".join(map(line, part))
        for subset, part in names.items()
    }


def as_nkululeko(names):
    texts = {}
    for subset, part in names.items():
        rows = [f"AudioWAV/{name}.wav,angry,{name[:4]},0" for name in part]
        short = {"train": "train", "validation": "dev", "test": "test"}[subset]
        texts[f"data/crema-d-csv/crema-d_{short}.csv"] = "\n".join(["file,emotion,speaker_id,split", *rows])
    return texts


def as_emo_superb(names):
    word = {"train": "Train", "validation": "Development", "test": "Test"}
    rows = [f"{name}.wav,0.9,{name[:4]},Female,{word[subset]}" for subset, part in names.items() for name in part]
    text = "\n".join(["FileName,angry,SpkrID,Gender,Split_Set", *rows])
    return {"data/CREMA-D/Primary/labels_consensus_1.csv": text}


def as_ogm_ge(names):
    return {
        f"data/CREMAD/{subset}.csv": "\ufeff" + "".join(f"{name},ANG\n" for name in part)
        for subset, part in names.items()
    }


def as_hicmae(names):
    line = "/data/x/CREMA-D/face_aligned/{0} /data/x/CREMA-D/AudioWAV/{0}.wav 0".format
    folder = "saved/data/crema-d/audio_visual/split01"
    return {f"{folder}/{subset}.csv": "\n".join(map(line, part)) for subset, part in names.items()}


FORMATS = dict(
    zip(
        [source.name for source in SOURCES], (as_emobox, as_nkululeko, as_emo_superb, as_ogm_ge, as_hicmae), strict=True
    )
)
NO_VALIDATION = ("OGM-GE", "HiCMAE")


def crema_d(split):
    (found,) = [one for one in split if one.corpus == "crema_d"]
    return found


def names_of(speakers, sentences=("IEO", "TIE")):
    return [f"{speaker}_{sentence}_ANG_XX" for speaker in sorted(speakers) for sentence in sentences]


people = st.sets(st.integers(1001, 1091), min_size=1, max_size=6)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
class TestEachSource:
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(train=people, validation=people, test=people)
    def test_gives_the_speakers_that_its_lists_share(self, source, tmp_path_factory, train, validation, test):
        sentences = {"train": ["IEO"], "validation": ["TIE"], "test": ["IOM", "WSI"]}
        parts = {"train": train, "validation": validation, "test": test}
        if source.name in NO_VALIDATION:
            del parts["validation"]
        names = {subset: names_of(speakers, sentences[subset]) for subset, speakers in parts.items()}
        lists = tiny_lists(tmp_path_factory.mktemp("lists"), source, FORMATS[source.name](names))
        row = atlas.row_of(crema_d(splits_of(source, lists)))
        assert (row["test_speakers"], row["shared_speakers"]) == (len(test), len(train & test))
        assert row["speaker_clips"] == 2 * len(train & test)
        assert (row["train"], row["test"]) == (len(train), 2 * len(test))
        assert row["validation"] == (len(validation) if "validation" in parts else 0)
        assert (row["test_sentences"], row["shared_sentences"]) == (2, 0)
        assert row["verdict"] == ("red" if train & test else "green")
        assert bool(row["examples"]) is bool(train & test)
        assert row["commit"] == source.commit and source.commit in row["url"] and not row["unknown_speakers"]

    def test_counts_the_names_that_stand_in_several_subsets(self, source, tmp_path):
        names = {"train": names_of({1001, 1002}), "test": names_of({1002, 1003})}
        if source.name not in NO_VALIDATION:
            names["validation"] = names_of({1003})
        row = atlas.row_of(crema_d(splits_of(source, tiny_lists(tmp_path, source, FORMATS[source.name](names)))))
        assert row["shared_names"] == 2 and row["verdict"] == "red"
        assert source.name in NO_VALIDATION or row["validation_in_test"] == 2

    def test_an_altered_list_makes_its_own_corpus_grey(self, source, tmp_path):
        names = {"train": names_of({1001}), "test": names_of({1002})}
        texts = FORMATS[source.name](names)
        lists = tiny_lists(tmp_path, source, texts)
        changed = tmp_path / source.folder / next(iter(texts))
        changed.write_text(changed.read_text() + "\n", encoding="utf-8")
        row = atlas.row_of(crema_d(splits_of(source, lists)))
        assert row["verdict"] == "grey" and "is not the list that was pinned" in row["note"]
        assert str(tmp_path) not in row["note"]  # the table is published

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.text(max_size=80))
    @example(text=",")
    @example(text="0")
    @example(text='{"wav": 3}')
    @example(text="path,subset\n3")
    def test_any_text_in_place_of_a_list_stops_nothing(self, source, tmp_path_factory, text):
        names = {"train": names_of({1001}), "test": names_of({1002})}
        texts = dict.fromkeys(FORMATS[source.name](names), text.replace("\r", ""))
        row = atlas.row_of(crema_d(splits_of(source, tiny_lists(tmp_path_factory.mktemp("lists"), source, texts))))
        assert row["verdict"] in ("grey", "red", "green")

    def test_names_only_corpora_and_lists_that_exist(self, source):
        assert set(source.corpora.values()) <= {*NAMES, *CORPORA}
        assert re.fullmatch("[0-9a-f]{40}", source.commit)
        paths = Lists.pinned(HASHES.parent).paths(source)
        matches = [match for path in paths if (match := re.fullmatch(source.lists, path))]
        assert len(matches) == len(paths) > 0  # none is pinned in vain
        assert {match.groupdict().get("corpus", "") for match in matches} == set(source.corpora)


def test_each_fold_is_a_split_of_its_own(tmp_path):
    texts = {}
    for fold, tested in enumerate((1001, 1002), start=1):
        for subset, speakers in (("train", {1001, 1002} - {tested}), ("test", {tested})):
            lines = [json.dumps({"wav": f"{name}.wav"}) for name in names_of(speakers)]
            texts[f"data/cremad/fold_{fold}/cremad_{subset}_fold_{fold}.jsonl"] = "\n".join(lines)
    row = atlas.row_of(crema_d(splits_of(emobox.SOURCE, tiny_lists(tmp_path, emobox.SOURCE, texts))))
    assert (row["folds"], row["test_speakers"], row["shared_speakers"], row["verdict"]) == (2, 2, 0, "green")


def test_parts_of_one_file_are_clips_of_their_own(tmp_path):
    lines = {"train": [0.5, 1.5], "test": [1.5, 2.5]}
    texts = {
        f"data/pavoque/fold_1/pavoque_{subset}_fold_1.jsonl": "\n".join(
            json.dumps({"wav": "downloads/pavoque/pavoque-poker.flac", "start_time": start}) for start in starts
        )
        for subset, starts in lines.items()
    }
    lists = tiny_lists(tmp_path, emobox.SOURCE, texts)
    (split,) = splits_of(emobox.SOURCE, lists, ["pavoque"])
    row = atlas.row_of(split)
    assert (row["test"], row["shared_names"]) == (2, 1)
    assert "one speaker" in row["note"] and "another recording" not in row["note"]


def test_a_placeholder_is_nobody_and_a_missing_train_list_is_grey(tmp_path):
    header = "file,speaker,emotion"
    texts = {
        "data/emofilm/emofilm_train.csv": f"{header}\na.wav,????,x\nb.wav,Ann,x",
        "data/emofilm/emofilm_test.csv": f"{header}\nc.wav,????,x\nd.wav,Bob,x",
        "data/meld/meld_test.csv": f"{header}\ndia0_utt0.wav,Monica,x",
    }
    lists = tiny_lists(tmp_path, nkululeko.SOURCE, texts)
    rows = {split.corpus: atlas.row_of(split) for split in splits_of(nkululeko.SOURCE, lists)}
    film = rows["emofilm"]
    assert (film["test_speakers"], film["shared_speakers"], film["unknown_speakers"], film["verdict"]) == (
        1,
        0,
        2,
        "grey",
    )
    assert rows["meld"]["verdict"] == "grey" and "train lists were not read" in rows["meld"]["note"]
    assert rows["tess"]["verdict"] == "grey" and "none of its lists is pinned" in rows["tess"]["note"]


class TestLists:
    def source(self):
        return ogm_ge.SOURCE

    def test_are_downloaded_once_at_their_commit_and_kept(self, monkeypatch):
        asked = []

        def answer(url, timeout):
            asked.append(url)
            return io.BytesIO(b"1001_IEO_ANG_XX,ANG\n")

        monkeypatch.setattr(published.urllib.request, "urlopen", answer)
        name = f"{self.source().folder}/data/CREMAD/train.csv"
        lists = Lists({name: hashlib.sha256(b"1001_IEO_ANG_XX,ANG\n").hexdigest()})
        for _ in range(2):
            assert lists.text(self.source(), "data/CREMAD/train.csv").startswith("1001")
        url = f"https://raw.githubusercontent.com/GeWu-Lab/OGM-GE_CVPR2022/{self.source().commit}/data/CREMAD/train.csv"
        assert asked == [url]

    def test_that_are_not_as_pinned_are_refused_and_not_kept(self, monkeypatch, tmp_path):
        monkeypatch.setattr(published.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"other"))
        lists = Lists({f"{self.source().folder}/data/CREMAD/train.csv": "0" * 64})
        with pytest.raises(SerError, match="expected the SHA-256 000000000000…, got"):
            lists.text(self.source(), "data/CREMAD/train.csv")
        assert not list((tmp_path / "cache").rglob("*.csv"))

    def test_without_network_the_error_says_what_helps(self, monkeypatch, tmp_path, capsys):
        def fail(url, timeout):
            raise OSError("no route")

        monkeypatch.setattr(published.urllib.request, "urlopen", fail)
        monkeypatch.delenv("SER_ATLAS_DIR", raising=False)
        assert main(["atlas", "--reports-dir", str(tmp_path / "reports")]) == 1
        error = capsys.readouterr().err
        assert "none of the published lists can be read" in error and "SER_ATLAS_DIR" in error
        assert not (tmp_path / "reports").exists()

    def test_a_folder_that_is_not_there_is_refused(self, monkeypatch):
        monkeypatch.setenv("SER_ATLAS_DIR", "/nowhere")
        with pytest.raises(SerError, match="no folder /nowhere"):
            Lists.pinned()

    def test_hashes_are_as_sha256sum_writes_them(self):
        hashes = read_hashes(HASHES)
        assert len(hashes) > 200
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes.values())
        folders = {source.folder for source in SOURCES}
        assert {name.partition("/")[0] for name in hashes} == folders


def row(**changes):
    table = pd.DataFrame({"clip_id": ["a", "b"], "fold": "1", "subset": ["train", "test"], "speaker": ["x", "y"]})
    split = PublishedSplit(
        "EmoBox", "emodb", table.assign(sentence=None), ("data/l.jsonl", "data/m.jsonl"), "c" * 40, "https://x"
    )
    return atlas.row_of(replace(split, **changes))


class TestTable:
    def table(self):
        rows = [
            row(),
            row(corpus="tess", benchmark="nkululeko", problem="a list is broken", table=None),
            row(corpus="crema_d", benchmark="HEAR", stated="red", how="by its code", table=None),
        ]
        return atlas._in_order(pd.DataFrame(rows, columns=atlas.COLUMNS))

    def test_is_in_the_order_of_the_page(self):
        assert self.table()["corpus"].tolist() == ["tess", "crema_d", "emodb"]

    def test_is_read_as_it_was_written(self, tmp_path):
        atlas.write_table(self.table(), tmp_path)
        pd.testing.assert_frame_equal(atlas.read_table(tmp_path), self.table(), check_dtype=False)

    def test_that_is_missing_or_lacks_a_column_is_refused(self, tmp_path):
        with pytest.raises(SerError, match="ser atlas"):
            atlas.read_table(tmp_path)
        self.table().drop(columns="verdict").to_csv(reports_path("atlas.csv", tmp_path))
        with pytest.raises(SerError, match="column verdict is missing"):
            atlas.read_table(tmp_path)

    def test_verdicts_and_notes(self):
        verdicts = self.table().set_index("corpus")["verdict"].to_dict()
        assert verdicts == {"tess": "grey", "crema_d": "red", "emodb": "green"}
        assert "a list is broken" in self.table()["note"][0] and "not counted" in self.table()["note"][1]

    def test_the_summary_counts_it(self):
        first, second, third = atlas.summary(self.table())
        assert "of 3 splits that 3 benchmarks and toolkits publish for 3 corpora, 1 train" in first
        assert second.startswith("In 0 of these") and "1 splits keep" in third and "for 1 it cannot" in third

    def test_benchmarks_without_lists_say_what_their_code_does(self):
        lists = Lists({})
        for name, verdict in {"HEAR": "red", "MTEB": "red", "TFDS": "green"}.items():
            (split,) = atlas.BENCHMARKS[name](lists)
            made = atlas.row_of(split)
            assert (made["corpus"], made["benchmark"], made["verdict"]) == ("crema_d", name, verdict)
            assert made["how"] and made["commit"] in made["url"] and made["how_url"].startswith("https://github.com/")

    def test_this_projects_own_folds_keep_speakers_apart(self, tmp_path):
        texts = as_emobox({"train": names_of(range(1001, 1007)), "test": names_of(range(1007, 1011))})
        lists = tiny_lists(tmp_path, emobox.SOURCE, texts)
        rows = {split.corpus: atlas.row_of(split) for split in own.splits(lists)}
        assert rows["crema_d"]["verdict"] == "green" and rows["crema_d"]["test_speakers"] == 10
        assert rows["ravdess"]["verdict"] == "grey"  # not listed here


class TestPage:
    def test_each_cell_leads_to_its_counts(self):
        page = BeautifulSoup(atlas_page.show_matrix(TestTable().table()), "html.parser")
        links = [link["href"] for link in page.select("tr:not(.detail) td > a")]
        assert links == ["#tess-nkululeko", "#crema_d-hear", "#emodb-emobox"]
        for link in links:
            detail = page.select_one(link)
            assert detail is not None and "detail" in detail["class"] and detail.select("dd")
        text = page.select_one("#emodb-emobox").text
        assert "0 of 1 test speakers" in text and "data/l.jsonl and 1 more" in text and "cccccccccccc" in text

    def test_names_are_escaped(self):
        hostile = "<script>alert(1)</script>"
        table = TestTable().table().assign(examples=hostile, note=hostile, lists=hostile)
        html = atlas_page.show_matrix(table)
        assert "<script" not in html and "&lt;script&gt;" in html

    def test_models_lead_to_their_statement(self):
        table = TestTable().table()
        page = BeautifulSoup(atlas_page.show_matrix(table) + atlas_page.show_heard(), "html.parser")
        links = page.select("td.heard a")
        assert links and all(page.select_one(link["href"]) for link in links)
        for model in HEARD:
            assert set(model.corpora) <= {*NAMES, *CORPORA} and model.url.startswith("https://") and model.how


class TestTheCommittedTable:
    table = atlas.read_table()

    def test_has_one_row_a_corpus_and_benchmark_of_each_source(self):
        assert not self.table.duplicated(["corpus", "benchmark"]).any()
        pairs = set(zip(self.table["benchmark"], self.table["corpus"], strict=True))
        assert {(source.name, corpus) for source in SOURCES for corpus in source.corpora.values()} <= pairs
        assert not self.table["note"].str.startswith("Not read").any()

    def test_its_verdicts_follow_from_its_counts(self):
        counted = self.table[self.table["train"].fillna(0).gt(0) & self.table["test"].fillna(0).gt(0)]
        red = counted[["shared_speakers", "shared_names", "validation_in_test"]].fillna(0).gt(0).any(axis=1)
        assert ((counted["verdict"] == "red") == red).all()
        assert ((counted["verdict"] == "green") == (~red & counted["unknown_speakers"].eq(0))).all()

    def test_known_findings(self):
        shared = self.table.set_index(["benchmark", "corpus"])[["shared_speakers", "test_speakers"]]
        assert shared.loc[("EmoBox", "crema_d")].tolist() == [91, 91]
        assert shared.loc[("EmoBox", "ravdess")].tolist() == [0, 24]


# (shared, tested) speakers, as counted before and by other code; EmoFilm without its three placeholders for nobody.
KNOWN = {
    "EmoBox": {
        **{"crema_d": (91, 91), "emodb": (10, 10), "tess": (2, 2), "ased": (63, 63), "asvp_esd": (130, 130)},
        **{"emov_db": (4, 4), "enterface": (43, 43), "oreau": (29, 29), "shemo": (83, 83), "turev": (6, 6)},
        "urdu": (18, 19),
    },
    "OGM-GE": {"crema_d": (91, 91)},
    "nkululeko": {
        **{"tess": (2, 2), "portuguese": (2, 2), "urdu": (21, 22), "emofilm": (106, 123), "meld": (69, 99)},
        **{"emorynlp": (27, 45), "emns": (1, 1)},
    },
}
CLEAN = {
    "EmoBox": {"ravdess", "savee", "cafe", "casia", "emovo", "jl", "subesco", "iemocap", "polish"},
    "EMO-SUPERB": {"crema_d", "iemocap", "msp_improv", "nnime"},
    "HiCMAE": {"crema_d", "ravdess"},
}


@pytest.mark.real
@pytest.mark.skipif("SER_ATLAS_DIR" not in os.environ, reason="the published lists: $SER_ATLAS_DIR is not set")
def test_the_published_lists_give_the_committed_table_and_the_known_counts(monkeypatch):
    table = atlas.atlas_table()
    committed = atlas.read_table()
    pd.testing.assert_frame_equal(table, committed, check_dtype=False)
    rows = table.set_index(["benchmark", "corpus"])
    for benchmark, corpora in KNOWN.items():
        for corpus, counts in corpora.items():
            assert tuple(rows.loc[(benchmark, corpus), ["shared_speakers", "test_speakers"]]) == counts, (
                benchmark,
                corpus,
            )
    for benchmark, names in CLEAN.items():
        for corpus in names:
            assert rows.loc[(benchmark, corpus), "verdict"] == "green", (benchmark, corpus)
    assert rows.loc[("nkululeko", "meld"), "shared_names"] == 1733
    assert tuple(rows.loc[("OGM-GE", "crema_d"), ["train", "test"]]) == (6698, 744)


def split_of(clips, rng, corpus="crema_d"):
    """A published split of a clip table at random, a quarter of it tested."""
    names = clips["clip_id"].str.removeprefix(f"{corpus}/")
    tested = rng.random(len(clips)) < 0.25
    table = pd.DataFrame({"clip_id": names + ".wav", "fold": "1", "subset": np.where(tested, "test", "train")})
    return PublishedSplit("EmoBox", corpus, table.assign(speaker=None, sentence=None))


def clips_of(speakers, takes=8):
    return make_clips(speakers, ("happy", "sad"), sentences=2, takes=takes, corpora=("crema_d",))


def features_by_speaker(clips, rng):
    """Each speaker says emotions in a way of their own, so that nothing carries over to another speaker."""
    codes = {key: rng.standard_normal(64) for key in zip(clips["speaker"], clips["emotion"], strict=True)}
    rows = [codes[key] for key in zip(clips["speaker"], clips["emotion"], strict=True)]
    return (np.array(rows) + 0.1 * rng.standard_normal((len(clips), 64))).astype(np.float32)


class TestWorth:
    def test_a_model_that_knows_the_speakers_gains_and_sizes_are_equal(self):
        rng = np.random.default_rng(0)
        clips = clips_of(speakers=10)
        table = worth.worth(split_of(clips, rng), clips, features_by_speaker(clips, rng))
        honest, leaky = table.to_dict("records")
        assert leaky["uar"] > 0.95 > 0.75 > honest["uar"] and leaky["points_low"] > 0
        assert honest["n_train"] == leaky["n_train"] and honest["n_test"] == leaky["n_test"]
        assert table["corpora"].eq("crema_d-part").all() and "clips of 7,442" in table["mechanism"][0]
        assert "points" in atlas_page.worth_sentences(table)[0]

    def test_few_speakers_have_rows_of_their_own(self, tmp_path):
        rng = np.random.default_rng(1)
        clips = clips_of(speakers=2, takes=20)
        table = worth.worth(split_of(clips, rng), clips, features_by_speaker(clips, rng)).assign(model="m")
        parts = table[table["part_of"] != ""]
        assert parts["condition"].str.partition(":")[0].tolist() == [
            s for s in ("crema_d-01", "crema_d-02") for _ in "ab"
        ]
        assert parts["n_test"].sum() == 2 * table["n_test"][0]
        worth.write_table(table, tmp_path)
        (sentence,) = atlas_page.worth_sentences(worth.read_table(tmp_path))
        assert "crema_d-01 +" in sentence and "interval" not in sentence

    @settings(max_examples=6, deadline=None)
    @given(speakers=st.integers(2, 12), seed=st.integers(0, 99))
    def test_no_tested_speaker_trains_and_both_draw_from_the_published_list(self, speakers, seed):
        clips = clips_of(speakers)
        split = split_of(clips, np.random.default_rng(seed))
        seen = []
        with pytest.MonkeyPatch.context() as patch:
            real = worth.probed

            def probed(name, leaky, clips, features, made, *rest):
                seen.append(made)
                return real(name, leaky, clips, features, made, *rest)

            patch.setattr(worth, "probed", probed)
            try:
                worth.worth(split, clips, np.zeros((len(clips), 2), dtype=np.float32))
            except SerError as error:
                assert "too few to compare" in str(error) or "no training clip" in str(error)
                return
        listed = set("crema_d/" + split.table.loc[split.table["subset"] == "train", "clip_id"].str.removesuffix(".wav"))
        for made in seen:
            assert set(made.loc[made["subset"] == "train", "clip_id"]) <= listed
        apart, mixed = seen
        for number, rows in apart.groupby("fold"):
            other = mixed[mixed["fold"] == number]
            people = {subset: set(part["speaker"]) for subset, part in rows.groupby("subset")}
            assert not people["train"] & people["test"]
            counts = [part[part["subset"] == "train"]["emotion"].value_counts().to_dict() for part in (rows, other)]
            assert counts[0] == counts[1]
            tests = [sorted(part.loc[part["subset"] == "test", "clip_id"]) for part in (rows, other)]
            assert tests[0] == tests[1]

    def test_too_few_clips_are_refused(self):
        clips = clips_of(speakers=3, takes=1)
        with pytest.raises(SerError, match="too few to compare"):
            worth.worth(split_of(clips, np.random.default_rng(0)), clips, np.zeros((len(clips), 2), dtype=np.float32))

    def test_a_corpus_that_is_not_at_hand_is_named(self, monkeypatch):
        monkeypatch.setattr(worth, "load_available", lambda *_: (_ for _ in ()).throw(SerError("not found")))
        said = []
        table = worth.measure_worth(TestTheCommittedTable.table, lists=Lists({}), say=said.append)
        assert table.empty and said == ["tess is left out: not found", "crema_d is left out: not found"]
