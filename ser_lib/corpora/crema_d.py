"""CREMA-D, the Crowd-sourced Emotional Multimodal Actors Dataset: here, its audio.

Clips     7442 WAV, 16 kHz, 16 bit, 1 to 5 s
Speakers  91 actors, 48 male and 43 female, 20 to 74 years old
Emotions  happy, sad, angry, fear, disgust 1271 each; neutral 1087
Text      12 sentences; one (IEO) at low, medium and high intensity, the others at one that is not specified
Licence   ODbL 1.0
Cite      Cao et al. (2014), IEEE Trans. Affective Computing 5(4), doi 10.1109/TAFFC.2014.2336244
Source    https://github.com/CheyneyComputerScience/CREMA-D

Known defects
- 1076_MTI_SAD_XX is all zeros: peak normalisation would divide by zero.
- Three pairs of differently labelled names share their audio: 1006_TIE_HAP/NEU, 1013_WSI_DIS/SAD,
  1017_IWW_ANG/FEA.
- One name ends in X, not XX: 1040_ITH_SAD_X.
- The label is what the actor was asked for. Listeners who only heard the clips agreed with it in 40.0 %: see `ser_lib.corpora.votes`.
- There is no surprise: in a joint split that label excludes this corpus.
"""

import re
from pathlib import Path

from ser_lib.corpora.base import Corpus

SENTENCES = "IEO|TIE|IOM|IWW|TAI|MTI|IWL|ITH|DFA|ITS|TSI|WSI"
NAME = re.compile(rf"10(0[1-9]|[1-8][0-9]|9[01])_({SENTENCES})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)")
EMOTION = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
INTENSITY = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
FEMALE = {  # by the archive's VideoDemographics.csv
    2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 18, 20, 21, 24, 25, 28, 29, 30, 37, 43, 46, 47, 49, 52, 53, 54, 55, 56,
    58, 60, 61, 63, 72, 73, 74, 75, 76, 78, 79, 82, 84, 89, 91
}  # fmt: skip


def parse(path: Path) -> dict | None:
    if not (match := NAME.fullmatch(path.stem)):
        return None
    actor, sentence, emotion, intensity = match.groups()
    facts = {"speaker": f"10{actor}", "sex": "female" if int(actor) in FEMALE else "male", "sentence": sentence}
    return {**facts, "emotion": EMOTION[emotion], "intensity": INTENSITY[intensity]}


CORPUS = Corpus(
    name="crema_d",
    title="CREMA-D",
    handle="ejlok1/cremad/versions/1",
    example="1001_DFA_ANG_XX.wav",
    parse=parse,
    clips=7442,
    speakers=91,
    licence="ODbL 1.0",
    citation="Cao et al. (2014), doi 10.1109/TAFFC.2014.2336244",
    url="https://github.com/CheyneyComputerScience/CREMA-D",
    human_accuracy=0.400,  # of 68,568 ratings of the voice alone: tabulatedVotes.csv of the source
)
