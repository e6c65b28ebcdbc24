"""RAVDESS, the Ryerson Audio-Visual Database of Emotional Speech and Song: here, its speech without pictures.

Clips     1440 WAV, 48 kHz, 16 bit, 3 to 5 s
Speakers  24 actors, 60 clips each; the odd ones are male, the even ones female
Emotions  neutral 96; calm, happy, sad, angry, fear, disgust, surprise 192 each
Text      kids, dogs: "Kids are talking / Dogs are sitting by the door", twice at two intensities (neutral: one)
People    recognise 62.4 % of the emotions from the audio alone
Licence   CC BY-NC-SA 4.0
Cite      Livingstone & Russo (2018), PLoS ONE 13(5), doi 10.1371/journal.pone.0196391
Source    https://zenodo.org/records/1188976

Known defects
- Kaggle's archive contains every clip twice (2880 files): a random split puts copies of most test clips into training.
- 03-01-03-01-02-01-07 and 03-01-03-01-02-02-07 are the same audio, so 1439 clips are distinct.
- Five files of the original are stereo.
- Two sentences: a split by speaker still shares all of the text.
- `calm` exists in no other corpus here: in a joint split that label identifies the corpus.
"""

import re
from pathlib import Path

from ser_lib.corpora.base import Corpus
from ser_lib.corpora.labels import EMOTIONS

# Modality 03 (audio), channel 01 (speech), emotion (in the order of EMOTIONS), intensity (neutral has one only),
# sentence, repetition, actor.
NAME = re.compile(r"03-01-(?!01-02)(0[1-8])-(0[12])-(0[12])-0[12]-(0[1-9]|1[0-9]|2[0-4])")
INTENSITY = {"01": "normal", "02": "strong"}
SENTENCE = {"01": "kids", "02": "dogs"}


def parse(path: Path) -> dict | None:
    if not (match := NAME.fullmatch(path.stem)):
        return None
    emotion, intensity, sentence, actor = match.groups()
    facts = {"speaker": actor, "sex": "male" if int(actor) % 2 else "female", "emotion": EMOTIONS[int(emotion) - 1]}
    return facts | {"intensity": INTENSITY[intensity], "sentence": SENTENCE[sentence]}


CORPUS = Corpus(
    name="ravdess",
    title="RAVDESS (speech, audio only)",
    handle="uwrfkaggler/ravdess-emotional-speech-audio/versions/1",
    example="03-01-05-01-02-01-12.wav",
    parse=parse,
    clips=1440,
    speakers=24,
    licence="CC BY-NC-SA 4.0",
    citation="Livingstone & Russo (2018), doi 10.1371/journal.pone.0196391",
    url="https://zenodo.org/records/1188976",
    human_accuracy=0.624,
)
