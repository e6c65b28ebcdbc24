"""Speaker and sentence as file names tell them, and nothing where they do not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA
from ser_lib.corpora.file_names import NAMES, facts_of, title_of

WITH_PATTERN = [name for name, names in NAMES.items() if names.pattern]


@pytest.mark.parametrize("corpus", WITH_PATTERN)
def test_the_example_tells_what_the_pattern_names(corpus):
    names = NAMES[corpus]
    facts = facts_of(corpus, f"downloads/of somebody/{names.example}")
    for fact, value in facts.items():
        assert (value is not None) is (f"?P<{fact}>" in names.pattern), fact
    assert facts == facts_of(corpus, names.example) == facts_of(corpus, names.example.replace("/", "\\"))


@pytest.mark.parametrize("corpus", WITH_PATTERN)
@pytest.mark.parametrize("spoil", ["?{}", "{}?", ""])
def test_a_name_of_another_form_tells_nothing(corpus, spoil):
    head, _, name = NAMES[corpus].example.rpartition("/")
    stem, _, ending = name.rpartition(".")
    if corpus in ("casia", "mead"):  # the folder tells who speaks
        head = "elsewhere"
    facts = facts_of(corpus, f"{head}/{spoil.format(stem)}.{ending}")
    assert set(facts.values()) == {None}


@pytest.mark.parametrize(
    ("corpus", "path", "speaker", "sentence"),
    [
        ("emodb", "wav/16b10Td.wav", "16", "b10"),
        ("aesdd", "fear/f10 (01).wav", "1", "f10"),  # the speaker of "(1)"
        ("enterface", "subject 3/fear/sentence 5/s_3_fe_5.avi", "3", "fe_5"),
        ("enterface", "subject 6/anger/s6_an.avi", "6", "an"),
        ("enterface", "s16_su_3avi.avi", "16", "su_3"),
        ("iemocap", "Ses05F_script02_2_MXX1.wav", "Ses05M", None),  # who speaks, not in whose recording
        ("iemocap", "Ses05F_impro01_F000.wav", "Ses05F", None),
        ("emov_db", "EmoV-DB_sorted/bea/Neutral/neutral_253-280_0257.wav", "bea", "0257"),
        ("asvp_esd", "actor_/03-02-13-01-01-116-02-02-02-13.wav", "116", None),
        ("ravdess", "Actor_11/03-01-07-02-02-01-11.wav", "11", "dogs"),
        ("crema_d", "AudioWAV/1052_WSI_ANG_XX.wav", "1052", "WSI"),
        ("pavoque", "pavoque-poker.flac#1917.34", "the one speaker", None),
        ("meld", "dia0_utt0.mp4", None, None),
    ],
)
def test_names_as_lists_have_them(corpus, path, speaker, sentence):
    assert facts_of(corpus, path) == {"speaker": speaker, "sentence": sentence}


@given(corpus=st.sampled_from([*NAMES, *CORPORA]), path=st.text(max_size=60))
def test_any_text_is_answered(corpus, path):
    facts = facts_of(corpus, path)
    assert list(facts) == ["speaker", "sentence"]


@given(speaker=st.from_regex(r"\d\d", fullmatch=True), sentence=st.from_regex(r"[ab]\d\d", fullmatch=True))
def test_what_a_name_is_made_of_is_read_from_it(speaker, sentence):
    assert facts_of("emodb", f"{speaker}{sentence}Wb.wav") == {"speaker": speaker, "sentence": sentence}


def test_patterns_are_no_corpus_that_can_be_loaded_and_have_titles():
    assert not set(NAMES) & set(CORPORA)
    titles = [title_of(name) for name in (*CORPORA, *NAMES)]
    assert len(set(titles)) == len(titles) and all(titles)
    for names in NAMES.values():
        assert set(re.compile(names.pattern).groupindex) <= {"speaker", "sentence", "gender"}


def test_an_unknown_corpus_is_refused_with_the_nearest_name():
    with pytest.raises(SerError, match="did you mean 'emovo'"):
        facts_of("emovoo", "x.wav")
