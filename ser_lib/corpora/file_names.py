"""Who speaks in a file, and which sentence, as far as the file's name tells: for corpora of which no audio is at hand.

    facts_of("emodb", "downloads/emodb/wav/03a02Wb.wav")     # {"speaker": "03", "sentence": "a02"}

The corpora of `CORPORA` are read by their own `parse`. Of the others only file names are read, so that each needs one
line in `NAMES`. Where a pattern has no group `speaker` or `sentence`, the file name does not state it, and it is None.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from ser_lib.common.errors import SerError, did_you_mean
from ser_lib.corpora import CORPORA

NOTHING: dict[str, str | None] = {"speaker": None, "sentence": None}


@dataclass(frozen=True)
class FileNames:
    """How a corpus names its files."""

    title: str
    # A path as the pattern reads it.
    example: str = ""
    # Of the end of a path without its ending, with the groups `speaker` and `sentence`; "": the name tells nothing.
    pattern: str = ""
    # Of a corpus with one speaker.
    only_speaker: str = ""


# Where sentences are numbered anew for each emotion, the emotion belongs to the sentence's name.
NAMES: dict[str, FileNames] = {
    "aesdd": FileNames("AESDD", "anger/a06 (5)b.wav", r"(?P<sentence>[a-z]\d\d) \(0?(?P<speaker>\d)\)[a-z]?"),
    "ased": FileNames("ASED", "05Angry/a5-06-01-01-21.wav", r"(?P<sentence>\w\d-\d\d)-\d\d-\d\d-(?P<speaker>\d\d)"),
    "asvp_esd": FileNames("ASVP-ESD", "03-02-09-01-07-123-02-02-02-09.wav", r"(?:\d+-){5}(?P<speaker>\d+)-[\d -]+"),
    "baved": FileNames("BAVED", "47-m-20-2-0-724.wav", r"(?P<speaker>\d+)-[mf]-\d+-(?P<sentence>\d)-\d-\d+"),
    "cafe": FileNames("CaFE", "Fort/08-P-2-1.wav", r"(?P<speaker>\d\d)-[A-Z]-\d-(?P<sentence>\d)"),
    "casia": FileNames("CASIA", "wangzhe/neutral/239.wav", r"(?P<speaker>[a-z]+)/[a-z]+/(?P<sentence>\d+)"),
    "cmu_mosei": FileNames("CMU-MOSEI"),
    "demos": FileNames("DEMoS", "NP_f_61_gio02c.wav", r"(?:(?:NP|PR)_)?(?P<speaker>[fm]_\d\d)_\w+"),
    "ekorpus": FileNames("Estonian Emotional Speech Corpus"),
    "emns": FileNames("EMNS", only_speaker="the one speaker"),
    "emodb": FileNames("EMO-DB", "wav/03a02Wb.wav", r"(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)[A-Z][a-z]?"),
    "emofilm": FileNames("EmoFilm"),
    "emorynlp": FileNames("EmoryNLP"),
    "emov_db": FileNames(
        "EmoV-DB",
        "sam_Amused/amused_367-392_0384.wav",
        r"(?P<speaker>bea|jenie|josh|sam)[_/]\w+/[A-Za-z]+_\d+[-_]\d+_(?P<sentence>\d{4})",
    ),
    "emovo": FileNames("EMOVO", "f2/gio-f2-b2.wav", r"[a-z]{3}-(?P<speaker>[fm]\d)-(?P<sentence>[a-z]\d)"),
    "emozionalmente": FileNames("Emozionalmente"),
    "enterface": FileNames(
        "eNTERFACE", "anger/sentence 3/s14_an_3.avi", r"s_?(?P<speaker>\d+)_(?P<sentence>[a-z]{2}(?:_\d)?)(?:avi)?"
    ),
    "esd": FileNames("ESD", "0005/Neutral/0005_000001.wav", r"(?P<speaker>\d{4})_\d{6}"),
    "gerparas": FileNames("GerParaS"),
    "iemocap": FileNames("IEMOCAP", "Ses01F_impro04_M000.wav", r"(?P<speaker>Ses\d\d)[FM]_\w+_(?P<gender>[FM])[X\d]+"),
    "jl": FileNames(
        "JL corpus", "male2_concerned_6b_1.wav", r"(?P<speaker>(?:fe)?male\d)_[a-z]+_(?P<sentence>\d+[ab])_\d"
    ),
    "m3ed": FileNames("M3ED"),
    "mead": FileNames("MEAD", "W019/audio/neutral/level_1/020.m4a", r"(?P<speaker>[MW]\d{3})/audio/\w+/level_\d/\d+"),
    "meld": FileNames("MELD"),
    "mer2023": FileNames("MER2023"),
    "mesd": FileNames("MESD", "Anger_F_B_ofensa.wav", r"[A-Z][a-z]+_[CFM]_[AB]_(?P<sentence>\w+)"),
    "mess": FileNames("MESS", "HM3V10_SCR.wav", r"[A-Z](?P<speaker>[FM]\d)(?P<sentence>[A-Z]\d\d)_SCR"),
    "mlendsnd": FileNames("MLEnd Spoken Numerals"),
    "msp_improv": FileNames("MSP-IMPROV"),
    "msp_podcast": FileNames("MSP-Podcast"),
    "nnime": FileNames("NNIME"),
    "oreau": FileNames("Oréau", "sessj/29a13Ja.wav", r"(?P<speaker>\d\d)[a-z](?P<sentence>\d\d[A-Z])[a-z]"),
    "pavoque": FileNames("PAVOQUE", only_speaker="the one speaker"),
    "polish": FileNames(
        "Emotions in Polish speech", "m3.s_trzymaj_5.wav", r"(?P<speaker>[fm]\d)\.\w_(?P<sentence>\w+)_\d"
    ),
    "portuguese": FileNames("Portuguese (Castro & Lima)", "18pB_angry18.wav", r"\d+[ps](?P<speaker>[AB])_[a-z]+\d+"),
    "resd": FileNames("RESD"),
    "shemo": FileNames("ShEMO", "male/M32S01.wav", r"(?P<speaker>[FM]\d\d)[A-Z]\d\d"),
    "subesco": FileNames(
        "SUBESCO", "M_09_SHUMANTA_S_2_FEAR_2.wav", r"(?P<speaker>[FM]_\d\d)_[A-Z]+_(?P<sentence>S_\d+)_[A-Z]+_\d\]?"
    ),
    "thorsten": FileNames("Thorsten, emotional", only_speaker="the one speaker"),
    "turev": FileNames("TurEV-DB", "Calm/1984_sk_orgu.wav", r"(?P<speaker>\d{4})_[a-z]{2}_(?P<sentence>[a-z]+)\d?"),
    "urdu": FileNames("URDU", "Neutral/SM5_F63_N091.wav", r"(?P<speaker>S[FM]\d+)_F\d+_[A-Z]\d+"),
    "vivae": FileNames("VIVAE", "S05_achievement_strong_05.wav", r"(?P<speaker>S\d\d)_[a-z]+_[a-z]+_\d\d"),
}


def title_of(corpus: str) -> str:
    """The corpus's name for readers; SerError where neither `CORPORA` nor `NAMES` has it.

    >>> title_of("crema_d"), title_of("jl")
    ('CREMA-D', 'JL corpus')
    """
    if corpus in CORPORA:
        return CORPORA[corpus].title.split(" (")[0]
    return _names(corpus).title


def facts_of(corpus: str, path: str) -> dict[str, str | None]:
    """The `speaker` and the `sentence` that a file's name states, each None where it does not.

    Args:
        corpus: a name of `CORPORA` or `NAMES`.
        path: of the file, as a list names it.

    >>> facts_of("emovo", "downloads/emovo/f2/gio-f2-b2.wav")
    {'speaker': 'f2', 'sentence': 'b2'}
    >>> facts_of("mesd", "Anger_F_B_ofensa.wav")
    {'speaker': None, 'sentence': 'ofensa'}
    """
    file = PurePosixPath(path.replace("\\", "/"))
    if corpus in CORPORA:
        facts = CORPORA[corpus].parse(file) or NOTHING  # type: ignore[arg-type]
        return {name: facts[name] for name in NOTHING}
    names = _names(corpus)
    if names.only_speaker:
        return NOTHING | {"speaker": names.only_speaker}
    match = names.pattern and re.search(rf"(?:^|/){names.pattern}$", (file.parent / file.stem).as_posix())
    if not match:
        return dict(NOTHING)
    groups = match.groupdict()
    facts = NOTHING | {name: groups.get(name) for name in NOTHING}
    if "gender" in groups:  # of two people in one session
        facts["speaker"] = f"{facts['speaker']}{groups['gender']}"
    return facts


def _names(corpus: str) -> FileNames:
    if corpus not in NAMES:
        nearest = did_you_mean(corpus, [*CORPORA, *NAMES])
        raise SerError(f"no file names of a corpus {corpus!r} are known: {nearest}Add a line to {__name__}.")
    return NAMES[corpus]
