"""Every corpus keeps one contract, and the parsers know the traps that are really in the corpora."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from ser_lib import corpora
from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA, crema_d, find_corpus, get_corpus, ravdess, savee, tess
from ser_lib.corpora.base import Corpus
from ser_lib.corpora.clips import load_clips
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.protocols.leak_audit import audit
from ser_lib.protocols.splits import make_split
from ser_lib.protocols.user_split import read_split

MODULES = Path(ravdess.__file__).parent
every_corpus = pytest.mark.parametrize("corpus", CORPORA.values(), ids=list(CORPORA))


@every_corpus
def test_the_example_parses_and_every_fact_is_valid(corpus):
    facts = corpus.parse(Path("any folder") / corpus.example)
    assert set(facts) == {"speaker", "sex", "emotion", "intensity", "sentence"}
    assert facts["emotion"] in EMOTIONS
    assert facts["sex"] in ("female", "male")
    sentence = facts.pop("sentence")
    assert sentence is None or sentence  # None: the name does not tell what is said
    assert all(isinstance(value, str) and value for value in facts.values())


@every_corpus
@pytest.mark.parametrize("name", ["", "speech", "README", "01", "a01", "03-01-01", "x_y_z", "OAF", "DC_"])
def test_a_name_of_no_corpus_gives_none(corpus, name):
    assert corpus.parse(Path(f"{name}.wav")) is None


@every_corpus
def test_no_other_corpus_reads_the_example(corpus):
    for other in CORPORA.values():
        if other.parse is not corpus.parse:  # the sample corpus is named as RAVDESS is
            assert other.parse(Path(corpus.example)) is None, other.name


@every_corpus
def test_the_handle_pins_its_version_so_that_the_cache_answers_offline(corpus):
    if corpus.folder is None:
        assert re.fullmatch(r"[\w-]+/[\w-]+/versions/\d+", corpus.handle)
    else:
        assert corpus.handle is None


@every_corpus
def test_the_card_is_filled_in_and_agrees_with_the_code(corpus):
    assert CORPORA[corpus.name] is corpus
    module = MODULES / f"{corpus.name}.py"
    card = module.read_text().split('"""')[1]
    for heading in ("Clips", "Speakers", "Emotions", "Text", "Licence", "Source", "Known defects"):
        assert re.search(rf"^{heading}\b", card, re.MULTILINE), heading
    assert f"{corpus.clips} " in card and f"{corpus.speakers} " in card and corpus.licence in card
    assert corpus.title and corpus.citation and corpus.url.startswith("http")
    assert len(module.read_text().splitlines()) < 60


def test_only_the_bundled_corpus_may_be_embedded_in_reports():
    assert [corpus.name for corpus in CORPORA.values() if corpus.shareable] == ["sample"]


@pytest.mark.parametrize(
    ("corpus", "name", "expected"),
    [
        ("ravdess", "03-01-08-02-02-01-24", ("24", "female", "surprise", "strong", "dogs")),
        ("ravdess", "03-01-02-01-01-02-01", ("01", "male", "calm", "normal", "kids")),
        ("tess", "OA_bite_neutral", ("OAF", "female", "neutral", "unspecified", "bite")),
        ("tess", "OAF_dime_ps", ("OAF", "female", "surprise", "unspecified", "dime")),
        ("tess", "yaf_Germ_ANGRY", ("YAF", "female", "angry", "unspecified", "germ")),
        ("savee", "DC_a01", ("DC", "male", "angry", "unspecified", None)),
        ("savee", "JK_sa01", ("JK", "male", "sad", "unspecified", None)),
        ("savee", "KL_su15", ("KL", "male", "surprise", "unspecified", None)),
        ("savee", "JE_n30", ("JE", "male", "neutral", "unspecified", None)),
        ("crema_d", "1076_MTI_SAD_XX", ("1076", "female", "sad", "unspecified", "MTI")),
        ("crema_d", "1001_IEO_ANG_HI", ("1001", "male", "angry", "high", "IEO")),
        ("crema_d", "1091_IEO_FEA_LO", ("1091", "female", "fear", "low", "IEO")),
        ("crema_d", "1040_ITH_SAD_X", ("1040", "male", "sad", "unspecified", "ITH")),
        ("sample", "03-01-05-01-02-01-08", ("08", "female", "angry", "normal", "dogs")),
    ],
)
def test_names_are_read_as_their_authors_meant_them(corpus, name, expected):
    facts = CORPORA[corpus].parse(Path(f"{name}.wav"))
    assert tuple(facts[key] for key in ("speaker", "sex", "emotion", "intensity", "sentence")) == expected


@pytest.mark.parametrize(
    ("corpus", "name", "why"),
    [
        ("ravdess", "01-01-05-01-01-01-01", "video with audio"),
        ("ravdess", "02-01-05-01-01-01-01", "video"),
        ("ravdess", "03-02-05-01-01-01-01", "song"),
        ("ravdess", "03-01-01-02-01-01-01", "strong neutral was not recorded"),
        ("ravdess", "03-01-09-01-01-01-01", "a ninth emotion"),
        ("ravdess", "03-01-05-01-01-01-25", "a 25th actor"),
        ("ravdess", "03-01-05-01-01-01-00", "no actor"),
        ("ravdess", "03-01-05-01-01-01-1٣", "a digit, but none of ours"),
        ("ravdess", "03-01-05-01-01-01-01 (1)", "a browser's copy"),
        ("tess", "OAF_back_pleasant", "no emotion"),
        ("tess", "OAF_back", "no emotion"),
        ("tess", "XAF_back_angry", "no speaker"),
        ("savee", "DC_s01", "sad is sa"),
        ("savee", "DC_a16", "15 sentences an emotion"),
        ("savee", "DC_n31", "30 neutral ones"),
        ("savee", "DC_a00", "they count from 1"),
        ("savee", "AB_a01", "no speaker"),
        ("crema_d", "1092_IEO_ANG_HI", "a 92nd actor"),
        ("crema_d", "1000_IEO_ANG_HI", "no actor"),
        ("crema_d", "1001_IEO_SUR_HI", "no surprise"),
        ("crema_d", "1001_ABC_ANG_HI", "no sentence"),
    ],
)
def test_names_outside_the_card_are_refused(corpus, name, why):
    assert CORPORA[corpus].parse(Path(f"{name}.wav")) is None, why


def test_tess_folders_do_not_matter_whatever_their_wording():
    for folder in ("OAF_Fear", "OAF_Pleasant_surprise", "YAF_pleasant_surprised", "YAF_sad"):
        assert tess.parse(Path(folder) / "YAF_back_fear.wav")["emotion"] == "fear"


def test_savee_is_labelled_by_its_letters_not_by_its_speaker():
    emotions = {savee.parse(Path(f"{who}_h01.wav"))["emotion"] for who in ("DC", "JE", "JK", "KL")}
    assert emotions == {"happy"}


def test_crema_d_has_43_women():
    facts = [crema_d.parse(Path(f"{actor}_IEO_SAD_LO.wav")) for actor in range(1001, 1092)]
    assert [row["sex"] for row in facts].count("female") == 43 == len(crema_d.FEMALE)


codes = st.tuples(*(st.integers(0, top) for top in (4, 3, 10, 3, 3, 3, 30)))


@given(codes)
def test_ravdess_reads_exactly_the_codes_of_its_audio_speech(code):
    modality, channel, emotion, intensity, sentence, take, actor = code
    recorded = (
        (modality, channel) == (3, 1)
        and 1 <= emotion <= 8
        and (1 <= intensity <= 2 and not (emotion == 1 and intensity == 2))
        and 1 <= sentence <= 2
        and 1 <= take <= 2
        and 1 <= actor <= 24
    )
    facts = ravdess.parse(Path("-".join(f"{number:02d}" for number in code) + ".wav"))
    assert (facts is not None) == recorded
    if facts:
        assert facts["emotion"] == EMOTIONS[emotion - 1]
        assert facts["speaker"] == f"{actor:02d}"
        assert facts["sex"] == ("male" if actor % 2 else "female")


def test_ravdess_has_as_many_possible_names_as_clips():
    numbers = [f"03-01-{e:02d}-{i:02d}-{s:02d}-{t:02d}-{a:02d}.wav" for e, i, s, t, a in np.ndindex(10, 4, 4, 4, 30)]
    assert sum(ravdess.parse(Path(name)) is not None for name in numbers) == ravdess.CORPUS.clips


names = st.one_of(
    st.from_regex(crema_d.NAME, fullmatch=True),
    st.from_regex(savee.NAME, fullmatch=True),
    st.from_regex(tess.NAME, fullmatch=True),
    st.from_regex(ravdess.NAME, fullmatch=True),
    st.text(alphabet="ADFHKLNOSYXE_-0123", max_size=20),
)


@given(names)
def test_no_name_is_read_by_two_corpora(name):
    readers = [one.CORPUS.name for one in (ravdess, tess, savee, crema_d) if one.parse(Path(f"{name}.wav"))]
    assert len(readers) <= 1


def test_an_unknown_corpus_is_refused_with_the_nearest_name():
    with pytest.raises(SerError, match="did you mean 'crema_d'"):
        get_corpus("CREMA-D")
    with pytest.raises(SerError, match="The corpora are ravdess, tess"):
        get_corpus("zzz")


# Where a corpus is found


@pytest.fixture
def no_download(monkeypatch):
    """kagglehub fails as it does without a network."""
    import kagglehub

    def dataset_download(handle):
        raise ConnectionError(f"no route to {handle}")

    monkeypatch.setattr(kagglehub, "dataset_download", dataset_download)


def put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "a file").touch()
    return folder


def test_the_order_is_data_dir_then_the_environment_then_kagglehub(tmp_path, monkeypatch, caplog):
    import kagglehub

    asked = []
    downloaded = put(tmp_path / "kaggle")
    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: asked.append(handle) or str(downloaded))
    assert find_corpus("savee") == downloaded
    assert asked == ["ejlok1/surrey-audiovisual-expressed-emotion-savee/versions/1"]

    elsewhere = put(tmp_path / "environment" / "savee")
    monkeypatch.setenv("SER_DATA_DIR", str(tmp_path / "environment"))
    assert find_corpus("savee") == elsewhere

    given = put(tmp_path / "given" / "savee")
    assert find_corpus("savee", tmp_path / "given") == given
    assert len(asked) == 1 and not caplog.records

    monkeypatch.delenv("SER_DATA_DIR")
    assert find_corpus("savee", tmp_path / "nowhere") == downloaded
    assert "not in" in caplog.text and "nowhere" in caplog.text  # what was asked for is not what came


def test_the_sample_corpus_is_bundled_and_can_be_replaced(tmp_path):
    assert find_corpus("sample") == CORPORA["sample"].folder
    assert find_corpus("sample", tmp_path) == CORPORA["sample"].folder
    assert find_corpus("sample", put(tmp_path / "sample").parent) == tmp_path / "sample"


def test_found_nowhere_names_all_three_ways_and_chains_the_cause(no_download, tmp_path, monkeypatch):
    monkeypatch.setenv("SER_DATA_DIR", str(tmp_path / "environment"))
    with pytest.raises(SerError) as caught:
        find_corpus("tess", tmp_path / "given")
    message = str(caught.value)
    assert f"{tmp_path}/given/tess" in message
    assert "export SER_DATA_DIR=" in message and f"{tmp_path}/environment/tess" in message
    assert (
        "python -c \"import kagglehub; kagglehub.dataset_download('ejlok1/toronto-emotional-speech-set-tess/versions/1')\""
        in message
    )
    assert "ConnectionError: no route" in message and "OAF_back_angry.wav" in message
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_a_missing_bundled_corpus_says_how_to_get_it_back(monkeypatch, tmp_path):
    import dataclasses

    lost = dataclasses.replace(CORPORA["sample"], folder=tmp_path / "lost")
    monkeypatch.setitem(CORPORA, "sample", lost)
    with pytest.raises(SerError, match="git checkout -- .*lost"):
        find_corpus("sample")


def test_an_empty_folder_is_told_and_not_passed_over(tmp_path):
    (tmp_path / "tess").mkdir()
    with pytest.raises(SerError, match="tess is empty"):
        find_corpus("tess", tmp_path)


def test_kagglehub_itself_fails_as_expected_where_nothing_is_cached(monkeypatch, tmp_path):
    import socket

    def no_network(*args, **kwargs):
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    with pytest.raises(SerError, match="SER_DATA_DIR") as caught:
        find_corpus("crema_d")
    assert isinstance(caught.value.__cause__, OSError)


NEW_CORPUS = '''"""A corpus of one's own: two speakers, two emotions."""

import re

from ser_lib.corpora.base import Corpus
from ser_lib.corpora.labels import to_emotion

NAME = re.compile(r"mine-(ann|bob)-(joy|sadness)-([0-9])")


def parse(path):
    match = NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker, emotion, sentence = match.groups()
    sex = {"ann": "female", "bob": "male"}[speaker]
    facts = {"speaker": speaker, "sex": sex, "intensity": "unspecified", "sentence": sentence}
    return {**facts, "emotion": to_emotion(emotion)}


CORPUS = Corpus(
    name="mine",
    title="Mine",
    handle=None,
    example="mine-ann-joy-1.wav",
    parse=parse,
    clips=8,
    speakers=2,
    licence="mine",
    citation="none",
    url="https://example.org",
)
'''


def test_a_corpus_is_added_by_one_module_that_is_found_by_itself(tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "mine.py").write_text(NEW_CORPUS)
    assert len(NEW_CORPUS.splitlines()) < 60
    monkeypatch.setattr(corpora, "__path__", [*corpora.__path__, str(tmp_path / "modules")])
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "ser_lib.corpora.mine", raising=False)
    discovered = corpora.discover()
    assert list(discovered) == ["ravdess", "tess", "crema_d", "savee", "sample", "mine"] == [*CORPORA, "mine"]
    monkeypatch.setitem(CORPORA, "mine", discovered["mine"])

    rng = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    names = [f"{speaker}-{emotion}-{n}" for speaker in ("ann", "bob") for emotion in ("joy", "sadness") for n in "12"]
    for name in names:
        soundfile.write(tmp_path / "mine" / f"mine-{name}.wav", rng.uniform(-0.5, 0.5, 4000), 16000)
    clips = load_clips("mine", tmp_path)
    assert clips["emotion"].unique().tolist() == ["happy", "sad"]
    assert clips["speaker"].unique().tolist() == ["mine-ann", "mine-bob"]
    assert clips.attrs["shortfall"] == {}
    table = audit(make_split(clips, "speaker"), progress=False).set_index("leak")
    assert table.loc["same speaker", "clips"] == 0 and table.loc["same sentence", "clips"] == len(names) / 2
    assert get_corpus("mine").title == "Mine"


def test_savee_is_read_in_its_authors_layout_with_the_same_ids():
    ours, theirs = savee.parse(Path("ALL/DC_su07.wav")), savee.parse(Path("AudioData/DC/su07.wav"))
    assert theirs == {**ours, "name": "DC_su07"}
    for name in ("DC/su16.wav", "XX/a01.wav", "DC/x01.wav", "a01.wav"):
        assert savee.parse(Path(name)) is None


class TestAStrangersParse:
    """`parse` is anybody's code, and may raise."""

    @pytest.fixture
    def stranger(self, monkeypatch):
        def parse(path):
            raise SerError("unknown emotion 'meow'")

        facts = {"licence": "none", "citation": "none", "clips": 1, "speakers": 1, "example": "meow.wav"}
        corpus = Corpus(name="stranger", title="Stranger", parse=parse, **facts)
        monkeypatch.setitem(CORPORA, "stranger", corpus)
        return corpus

    def test_stops_no_other_corpus(self, stranger, tmp_path):
        assert stranger.facts_of(tmp_path / "a.wav", strict=False) is None
        for name in ("train/a.wav", "test/b.wav"):
            (tmp_path / name).parent.mkdir()
            soundfile.write(tmp_path / name, np.random.default_rng(len(name)).standard_normal(4000) / 9, 16000)
        assert len(read_split(tmp_path, progress=False)) == 2

    def test_is_named_with_the_file(self, stranger, tmp_path):
        (tmp_path / "stranger").mkdir()
        soundfile.write(tmp_path / "stranger" / "a.wav", np.random.default_rng(0).standard_normal(4000) / 9, 16000)
        with pytest.raises(SerError, match=r"`parse` of the corpus stranger fails on the name of .*a\.wav: .*'meow'"):
            load_clips("stranger", tmp_path, progress=False)

    def test_a_corpus_that_cannot_be_downloaded_names_no_repository(self, stranger):
        with pytest.raises(SerError, match="Put its files") as caught:
            find_corpus("stranger")
        assert "git checkout" not in str(caught.value) and "None" not in str(caught.value)
