"""TESS, the Toronto Emotional Speech Set.

Clips     2800 WAV, 24414 Hz, 16 bit, 1 to 3 s
Speakers  2 actresses, 1400 clips each: OAF (64 years old), YAF (26)
Emotions  neutral, happy, sad, angry, fear, disgust, surprise ("pleasant surprise"): 400 each
Text      "Say the word ...", with 200 words
Licence   CC BY-NC-ND 4.0
Cite      Pichora-Fuller & Dupuis (2020), doi 10.5683/SP2/E8H2MF
Source    https://doi.org/10.5683/SP2/E8H2MF

Known defects
- Kaggle's archive contains every clip twice (a nested copy): 5600 files. A random split puts copies of most test
  clips into training.
- Two speakers: a random split scores near 1.00 because speaker and word are known. Train on one actress and test
  on the other.
- All sentences share one carrier phrase, so a split by speaker still shares text.
- One file is named OA_bite_neutral: its speaker is OAF.
- Folder names vary in case and wording (OAF_Fear, OAF_Pleasant_surprise, YAF_pleasant_surprised), so only the
  file name is read.
- One original is at 96 kHz.
"""

import re
from pathlib import Path

from ser_lib.corpora.base import Corpus
from ser_lib.corpora.labels import to_emotion

NAME = re.compile(r"(OAF|OA|YAF)_([a-z]+)_(neutral|happy|sad|angry|fear|disgust|ps)", re.IGNORECASE | re.ASCII)


def parse(path: Path) -> dict | None:
    if not (match := NAME.fullmatch(path.stem)):
        return None
    speaker, word, emotion = match.groups()
    facts = {"speaker": "YAF" if speaker.upper() == "YAF" else "OAF", "sex": "female", "intensity": "unspecified"}
    return {**facts, "emotion": to_emotion(emotion), "sentence": word.lower()}


CORPUS = Corpus(
    name="tess",
    title="TESS",
    handle="ejlok1/toronto-emotional-speech-set-tess/versions/1",
    example="OAF_back_angry.wav",
    parse=parse,
    clips=2800,
    speakers=2,
    licence="CC BY-NC-ND 4.0",
    citation="Pichora-Fuller & Dupuis (2020), doi 10.5683/SP2/E8H2MF",
    url="https://doi.org/10.5683/SP2/E8H2MF",
)
