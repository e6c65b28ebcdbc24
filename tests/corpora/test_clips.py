"""The clip table is right, says what it left out, and is quick the second time."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import make_clips

from ser_lib.audio import reading
from ser_lib.common.errors import SerError
from ser_lib.common.files import cache_dir
from ser_lib.corpora import CORPORA, clips, find_corpus
from ser_lib.corpora.clips import COLUMNS, check_clips, load_clips, select_emotions


def write(path: Path, seed: int | None = None, seconds=0.1, sampling_rate=16000, **options) -> Path:
    """Write a clip of noise; without a seed, the noise is the name's own."""
    rng = np.random.default_rng(list(path.name.encode()) if seed is None else seed)
    samples = rng.integers(-9000, 9000, int(seconds * sampling_rate), dtype="int16")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, sampling_rate, **options)
    return path


@pytest.fixture
def data(tmp_path):
    """A data folder with a small SAVEE: four speakers, angry, sad and neutral, two sentences."""
    folder = tmp_path / "data"
    for speaker in ("DC", "JE", "JK", "KL"):
        for letters in ("a", "sa", "n"):
            for number in (1, 2):
                write(folder / "savee" / f"{speaker}_{letters}{number:02d}.wav")
    return folder


def load(data, corpora="savee", **options) -> pd.DataFrame:
    return load_clips(corpora, data, progress=False, **options)


# The table


def test_each_row_says_what_the_file_and_its_name_say(data):
    table = load(data)
    assert list(table.columns) == COLUMNS and len(table) == 24
    check_clips(table)
    row = table.set_index("clip_id").loc["savee/JE_sa02"]
    assert row["corpus"] == "savee"
    assert row["path"] == str(data / "savee" / "JE_sa02.wav") and Path(row["path"]).is_absolute()
    assert (row["speaker"], row["sex"], row["emotion"]) == ("savee-JE", "male", "sad")
    assert row["intensity"] == "unspecified" and pd.isna(row["sentence"])
    assert (row["seconds"], row["sampling_rate"]) == (0.1, 16000)
    assert len(row["audio_hash"]) == 32


def test_rows_come_by_corpus_as_asked_then_by_path(data):
    write(data / "tess" / "YAF_sad" / "YAF_back_sad.wav")
    write(data / "tess" / "OAF_Sad" / "OAF_back_sad.wav")
    table = load(data, ["tess", "savee", "tess"])
    assert table["corpus"].tolist() == ["tess"] * 2 + ["savee"] * 24
    assert table["path"][:2].str.contains("OAF").tolist() == [True, False]
    assert table["path"][2:].is_monotonic_increasing
    assert table.index.tolist() == list(range(26))


def test_a_relative_data_dir_gives_absolute_paths(data, monkeypatch):
    monkeypatch.chdir(data.parent)
    assert load("data")["path"].tolist() == load(data)["path"].tolist()


def test_the_same_audio_has_the_same_hash_as_wav_and_flac(tmp_path):
    wav = reading.decode(write(tmp_path / "a.wav", seed=1))
    flac = reading.decode(write(tmp_path / "a.flac", seed=1))
    assert clips.audio_hash(*wav) == clips.audio_hash(*flac)


def test_other_samples_channels_or_rates_have_another_hash():
    samples = np.float32([[0.1], [0.2], [0.3], [0.4]])
    hashes = {
        clips.audio_hash(samples, 16000),
        clips.audio_hash(samples, 8000),
        clips.audio_hash(samples.reshape(2, 2), 16000),
        clips.audio_hash(samples[:3], 16000),
        clips.audio_hash(samples * 0.999, 16000),
    }
    assert len(hashes) == 5


def test_files_are_found_at_any_depth_in_any_format_and_hidden_ones_are_not(data):
    folder = data / "savee"
    write(folder / "<b> & Ünïcode" / "deep" / "DC_h01.WAV", format="WAV")
    write(folder / "more" / "DC_h02.flac")
    write(folder / "more" / "DC_h03.ogg")
    write(folder / "more" / "DC_h04.mp3", seconds=0.5)
    write(folder / "._DC_h05.wav")
    write(folder / ".hidden" / "DC_h06.wav")
    write(folder / "__MACOSX" / "DC_h07.wav")
    (folder / "DC_h08.txt").write_text("no audio")
    table = load(data)
    assert sorted(table["clip_id"][table["emotion"] == "happy"]) == [f"savee/DC_h0{i}" for i in range(1, 5)]


def test_links_are_followed_and_a_link_in_a_circle_ends(data, tmp_path):
    write(tmp_path / "elsewhere" / "DC_h01.wav")
    (data / "savee" / "link").symlink_to(tmp_path / "elsewhere")
    (data / "savee" / "circle").symlink_to(data / "savee")
    (data / "savee" / "DC_h02.wav").symlink_to(tmp_path / "elsewhere" / "DC_h01.wav")
    (data / "savee" / "DC_h03.wav").symlink_to(tmp_path / "nowhere.wav")
    table = load(data, keep_duplicates=True)
    assert len(table) == 26
    assert {"savee/DC_h01", "savee/DC_h02"} <= set(table["clip_id"])


# What is left out is told


def test_a_half_downloaded_corpus_is_told_with_numbers(data, caplog):
    table = load(data)
    assert "savee: 24 of 480 clips found" in caplog.text and str(data / "savee") in caplog.text
    assert table.attrs["shortfall"] == {"savee": (24, 480)}


def test_a_whole_corpus_is_told_with_nothing(caplog):
    table = load_clips("sample", progress=False)
    assert len(table) == CORPORA["sample"].clips and table.attrs["shortfall"] == {}
    assert not caplog.records


def test_bad_and_silent_files_are_left_out_with_count_and_reasons(data, caplog):
    folder = data / "savee"
    (folder / "DC_a01.wav").write_bytes(b"")
    (folder / "DC_a02.wav").write_text("words")
    soundfile.write(folder / "DC_n01.wav", np.zeros(1600), 16000)
    table = load(data)
    assert len(table) == 21 and not table["clip_id"].isin(["savee/DC_a01", "savee/DC_a02", "savee/DC_n01"]).any()
    line = next(record.getMessage() for record in caplog.records if "left out" in record.getMessage())
    assert "3 of 24 files left out" in line
    assert "DC_a01.wav: expected audio, but the file is empty" in line
    assert "cannot be decoded" in line and "silent" in line


def test_many_bad_files_are_one_line_that_names_three(data, caplog):
    for path in (data / "savee").glob("*_a0*.wav"):
        path.write_bytes(b"")
    load(data)
    line = next(record.getMessage() for record in caplog.records if "8 of 24" in record.getMessage())
    assert line.count("is empty") == 3 and line.endswith("; ...")


def test_nothing_but_bad_files_is_an_error(data):
    for path in (data / "savee").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SerError, match="none of the 24 clips .* can be used: .*DC_a01.wav"):
        load(data)


def test_the_folder_of_another_corpus_is_told_which(data):
    (data / "savee").rename(data / "tess")
    with pytest.raises(SerError) as caught:
        load(data, "tess")
    for part in ("none of 24", "OAF_back_angry.wav", "DC_a01.wav", "look like savee"):
        assert part in str(caught.value)


def test_names_of_no_corpus_show_what_was_expected_and_what_came(data):
    for path in list((data / "savee").iterdir()):
        path.rename(path.with_name(f"my {path.name}"))
    with pytest.raises(SerError, match="expected names like DC_a01.wav, but came my DC_a01.wav.$"):
        load(data)


def test_two_corpora_in_one_folder_are_told_apart_and_counted(data, caplog):
    for word in ("back", "bar", "base"):
        write(data / "savee" / f"OAF_{word}_angry.wav")
    assert len(load(data)) == 24
    assert "3 of 27 audio files left out" in caplog.text and "look like tess" in caplog.text
    (data / "savee").rename(data / "tess")
    assert len(load(data, "tess")) == 3


def test_a_folder_without_audio_is_an_error(tmp_path):
    (tmp_path / "savee").mkdir()
    (tmp_path / "savee" / "readme.txt").touch()
    with pytest.raises(SerError, match="no audio .*anywhere under"):
        load(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path):
    (tmp_path / "savee").mkdir()
    with pytest.raises(SerError, match="is empty"):
        load(tmp_path)


def test_a_corpus_found_nowhere_is_an_error_with_three_ways(tmp_path, monkeypatch):
    import kagglehub

    def dataset_download(handle):
        raise ConnectionError("no network")

    monkeypatch.setattr(kagglehub, "dataset_download", dataset_download)
    with pytest.raises(SerError) as caught:
        load(tmp_path)
    for way in ("data_dir=DIR", "export SER_DATA_DIR=DIR", "kagglehub.dataset_download('ejlok1/surrey"):
        assert way in str(caught.value)


def test_no_corpus_or_an_unknown_one_is_an_error(data):
    with pytest.raises(SerError, match="no corpus was asked for"):
        load(data, [])
    with pytest.raises(SerError, match="did you mean 'savee'"):
        load(data, "savvee")


# Duplicates


@pytest.fixture
def copied(data):
    """Every clip twice, as Kaggle's archives nest them, and JK_n02 with the audio of JK_n01."""
    shutil.copy(data / "savee" / "JK_n01.wav", data / "savee" / "JK_n02.wav")
    shutil.copytree(data / "savee", data / "copy")
    (data / "copy").rename(data / "savee" / "nested")
    return data


def test_copies_are_dropped_and_counted(copied, caplog):
    table = load(copied)
    assert len(table) == 23 and table["audio_hash"].is_unique
    assert "savee/JK_n01" in set(table["clip_id"]) and "savee/JK_n02" not in set(table["clip_id"])
    assert not table["clip_id"].str.contains("#").any()
    assert not table["path"].str.contains("nested").any()
    assert "25 of 48 files left out, as copies" in caplog.text and "(savee 25)" in caplog.text
    assert table.attrs["shortfall"] == {"savee": (24, 480)}  # names are counted, not files


def test_copies_are_kept_on_demand_under_names_of_their_own(copied, caplog):
    table = load(copied, keep_duplicates=True)
    assert len(table) == 48 and table["clip_id"].is_unique
    assert table["clip_id"].str.endswith("#2").sum() == 24
    twins = table.set_index("clip_id").loc[["savee/DC_a01", "savee/DC_a01#2"]]
    assert twins["audio_hash"].nunique() == 1 and twins["path"].nunique() == 2
    check_clips(table)
    assert "left out" not in caplog.text


def test_one_name_with_other_audio_is_still_the_same_clip(data, caplog):
    write(data / "savee" / "resampled" / "DC_a01.wav", seed=1, sampling_rate=8000)
    assert len(load(data)) == 24
    assert "1 of 25 files left out, as copies" in caplog.text


def test_the_same_audio_with_two_labels_is_dropped_whole(data, caplog):
    shutil.copy(data / "savee" / "DC_a01.wav", data / "savee" / "DC_n01.wav")
    table = load(data)
    assert len(table) == 22 and not table["clip_id"].isin(["savee/DC_a01", "savee/DC_n01"]).any()
    assert "2 files left out, because the same audio is labelled with different emotions" in caplog.text
    assert "savee/DC_a01 = savee/DC_n01" in caplog.text
    assert len(load(data, keep_duplicates=True)) == 24  # the sources of published numbers kept them


def test_audio_that_two_corpora_share_is_dropped_once(data):
    (data / "tess").mkdir()
    shutil.copy(data / "savee" / "DC_a01.wav", data / "tess" / "OAF_back_angry.wav")
    write(data / "tess" / "OAF_back_sad.wav")
    assert load(data, ["savee", "tess"])["corpus"].tolist() == ["savee"] * 24 + ["tess"]


# The cache


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that were decoded."""
    names = []
    decode = reading.decode
    monkeypatch.setattr(reading, "decode", lambda path: names.append(path.name) or decode(path))
    return names


def test_the_second_call_decodes_nothing_and_gives_the_same(data, decoded):
    first = load(data)
    assert len(decoded) == 24
    decoded.clear()
    pd.testing.assert_frame_equal(load(data), first)
    assert decoded == []


def test_a_file_that_changed_is_decoded_again_and_only_it(data, decoded):
    before = load(data).set_index("clip_id")
    decoded.clear()
    path = data / "savee" / "DC_a01.wav"
    old = path.stat()
    write(path, seed=1)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1))  # the size is the same; the time alone tells
    write(data / "savee" / "DC_h01.wav")
    after = load(data).set_index("clip_id")
    assert sorted(decoded) == ["DC_a01.wav", "DC_h01.wav"]
    changed = before["audio_hash"] != after["audio_hash"].drop("savee/DC_h01")
    assert changed[changed].index.tolist() == ["savee/DC_a01"]


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\xff\xfe\x00", "cut", "flip"])
def test_a_damaged_cache_is_computed_again(data, decoded, damage):
    first = load(data)
    (cache,) = cache_dir().glob("store/clips/*/*/*.npz")
    whole = cache.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    cache.write_bytes({"cut": whole[:middle], "flip": flipped}.get(damage, damage))
    decoded.clear()
    pd.testing.assert_frame_equal(load(data), first)
    assert len(decoded) == 24
    assert cache.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(data, monkeypatch, caplog, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SER_CACHE_DIR", str(tmp_path / "file"))
    assert len(load(data)) == 24
    assert "cannot be written" in caplog.text


def test_a_file_that_was_bad_is_read_once_it_is_mended(data):
    path = data / "savee" / "DC_a01.wav"
    good = path.read_bytes()
    path.write_bytes(b"")
    assert len(load(data)) == 23
    path.write_bytes(good)
    assert len(load(data)) == 24


def test_progress_goes_to_stderr_only(data, capsys):
    load_clips("savee", data, progress=True)
    assert capsys.readouterr().out == ""


# Checks and selections


def test_a_valid_table_passes():
    check_clips(make_clips())


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda table: table.drop(columns=["speaker", "path"]), "lacks path, speaker"),
        (lambda table: table.iloc[:0], "no rows"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "unique.*sample/01-neutral-1-1"),
        (lambda table: table.assign(emotion="bored"), "unknown emotions bored"),
        (lambda table: table.assign(emotion=None), "unknown emotions"),
    ],
)
def test_what_is_no_clip_table_is_refused(spoil, match):
    with pytest.raises(SerError, match=match):
        check_clips(spoil(make_clips()))


def test_selecting_emotions_counts_what_is_left_out(caplog):
    table = make_clips(emotions=("happy", "sad", "calm"))
    chosen = select_emotions(table, ["sadness", "happy"])
    assert set(chosen["emotion"]) == {"happy", "sad"} and len(chosen) == len(table) * 2 // 3
    assert chosen.index.tolist() == list(range(len(chosen)))
    assert "24 of 72 clips left out, of other emotions: calm 24" in caplog.text


def test_selecting_all_emotions_says_nothing(caplog):
    table = make_clips()
    pd.testing.assert_frame_equal(select_emotions(table, table["emotion"].unique()), table)
    assert not caplog.records


@pytest.mark.parametrize(
    ("emotions", "match"),
    [(["disgust"], "no clip is disgust; there are: "), (["hapy"], "did you mean 'happy'"), ([], "no emotion was")],
)
def test_a_selection_that_leaves_nothing_is_refused(emotions, match):
    with pytest.raises(SerError, match=match):
        select_emotions(make_clips(), emotions)


# The real corpora


def clips_by_emotion(table) -> dict[str, int]:
    return table["emotion"].value_counts().to_dict()


def on_disk(name) -> list[Path]:
    return list(find_corpus(name).rglob("*.wav"))


@pytest.mark.real
def test_ravdess_has_1439_distinct_clips_and_a_copy_of_each_where_kaggle_nests_one(real, caplog):
    real("ravdess")
    kept = load_clips("ravdess", keep_duplicates=True, progress=False)
    table = load_clips("ravdess", progress=False)
    assert len(kept) == len(on_disk("ravdess")) and len(kept) in (1440, 2880)
    assert len(table) == 1439 and table.attrs["shortfall"] == {}
    assert f"{len(kept) - 1439} of {len(kept)} files left out" in caplog.text
    ids = set(table["clip_id"])
    assert "ravdess/03-01-03-01-02-01-07" in ids and "ravdess/03-01-03-01-02-02-07" not in ids
    assert clips_by_emotion(table) == {
        **dict.fromkeys(("calm", "sad", "angry", "fear", "disgust", "surprise"), 192),
        **{"happy": 191, "neutral": 96},
    }
    assert table["speaker"].nunique() == 24 and table["sentence"].nunique() == 2
    assert table.groupby("speaker")["sex"].first().value_counts().to_dict() == {"female": 12, "male": 12}


@pytest.mark.real
def test_tess_has_2800_distinct_clips_and_a_copy_of_each_where_kaggle_nests_one(real):
    real("tess")
    kept = load_clips("tess", keep_duplicates=True, progress=False)
    table = load_clips("tess", progress=False)
    assert len(kept) == len(on_disk("tess")) and len(kept) in (2800, 5600)
    assert len(table) == 2800 and table.attrs["shortfall"] == {}
    assert clips_by_emotion(table).keys() == set(clips.EMOTIONS) - {"calm"}
    assert set(clips_by_emotion(table).values()) == {400}
    assert table["speaker"].value_counts().to_dict() == {"tess-OAF": 1400, "tess-YAF": 1400}
    assert set(table["sex"]) == {"female"} and table["sentence"].nunique() == 200
    odd = table.set_index("clip_id").loc["tess/OA_bite_neutral"]
    assert (odd["speaker"], odd["emotion"], odd["sentence"]) == ("tess-OAF", "neutral", "bite")


@pytest.mark.real
def test_savee_is_labelled_by_emotion_not_by_speaker(real, caplog):
    real("savee")
    table = load_clips("savee", progress=False)
    assert len(table) == 480 and "ser_lib" not in {record.name.split(".")[0] for record in caplog.records}
    counts = pd.crosstab(table["speaker"], table["emotion"])
    assert (counts.drop(columns="neutral") == 15).all(axis=None) and (counts["neutral"] == 30).all()
    assert counts.shape == (4, 7)


@pytest.mark.real
def test_crema_d_loses_its_silent_clip_and_its_contradictions(real, caplog):
    real("crema_d")
    found = len(on_disk("crema_d"))
    kept = load_clips("crema_d", keep_duplicates=True, progress=False)
    table = load_clips("crema_d", progress=False)
    assert len(kept) == found - 1 and "1076_MTI_SAD_XX.wav: silent" in caplog.text
    assert "crema_d/1076_MTI_SAD_XX" not in set(table["clip_id"])
    contradicting = kept.groupby("audio_hash")["emotion"].transform("nunique") > 1
    assert set(table["clip_id"]) <= set(kept["clip_id"][~contradicting])
    assert "calm" not in set(table["emotion"]) and "surprise" not in set(table["emotion"])
    if found < CORPORA["crema_d"].clips:
        assert table.attrs["shortfall"] == {"crema_d": (found, 7442)}
        assert f"crema_d: {found} of 7442 clips found" in caplog.text


@pytest.mark.real
def test_real_corpora_share_no_speaker_and_no_id(real):
    real("savee", "crema_d")
    table = load_clips(["savee", "crema_d", "sample"], progress=False)
    assert table["clip_id"].is_unique
    assert (table.groupby("speaker")["corpus"].nunique() == 1).all()
    assert (table["path"].map(lambda path: Path(path).is_file())).all()
