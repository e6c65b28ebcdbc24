"""SAVEE, Surrey Audio-Visual Expressed Emotion: here, its audio.

Clips     480 WAV, 44.1 kHz, 16 bit, 2 to 7 s
Speakers  4 male researchers, 120 clips each: DC, JE, JK, KL
Emotions  neutral 120; happy, sad, angry, fear, disgust, surprise 60 each
Text      TIMIT sentences, 15 an emotion and 30 for neutral
Licence   research use: free, on registration with its authors
Cite      Haq & Jackson (2010), Multimodal Emotion Recognition, in Machine Audition, IGI Global, pp. 398-423
Source    http://kahlan.eps.surrey.ac.uk/savee/

Known defects
- DC_a01 is speaker DC, angry. A public project labelled by the prefix, so each clip's emotion was its speaker.
  `sa` and `su` must be tried before shorter codes.
- `sentence` is None: three texts are common to all emotions, and neutral repeats two of each other emotion, but the
  name does not state which, so no split can separate the texts.
- 104 of the 480 clips have clipped samples.
- All speakers are male.
"""

import re
from pathlib import Path

from ser_lib.corpora.base import Corpus

# DC_a01.wav as Kaggle has them, or DC/a01.wav in the authors' archive.
NAME = re.compile(r"(DC|JE|JK|KL)[_/](sa|su|a|d|f|h|n)([0-3][0-9])")
EMOTION = {"a": "angry", "d": "disgust", "f": "fear", "h": "happy", "n": "neutral", "sa": "sad", "su": "surprise"}


def parse(path: Path) -> dict | None:
    if not (match := NAME.fullmatch(path.stem) or NAME.fullmatch(f"{path.parent.name}/{path.stem}")):
        return None
    speaker, letters, number = match.groups()
    if not 1 <= int(number) <= (30 if letters == "n" else 15):
        return None
    facts = {"speaker": speaker, "sex": "male", "intensity": "unspecified", "sentence": None}
    # So that clips have the same ids in both layouts.
    name = {} if "_" in path.stem else {"name": f"{speaker}_{path.stem}"}
    return {**facts, "emotion": EMOTION[letters], **name}


CORPUS = Corpus(
    name="savee",
    title="SAVEE",
    handle="ejlok1/surrey-audiovisual-expressed-emotion-savee/versions/1",
    example="DC_a01.wav",
    parse=parse,
    clips=480,
    speakers=4,
    licence="research use",
    citation="Haq & Jackson (2010), Multimodal Emotion Recognition, in Machine Audition, IGI Global",
    url="http://kahlan.eps.surrey.ac.uk/savee/",
)
