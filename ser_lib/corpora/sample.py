"""The sample corpus: synthetic voices, bundled with this repository so that everything runs without a download.

Clips     256 FLAC, 16 kHz, 16 bit, mono, 1 to 2 s, in RAVDESS's layout and under its names
Speakers  8 voices of espeak-ng, 32 clips each; the odd ones sound male, the even ones female
Emotions  neutral, calm, happy, sad, angry, fear, disgust, surprise: 32 each, all at normal intensity
Text      RAVDESS's: "Kids are talking by the door", "Dogs are sitting by the door"; each said twice
Licence   CC0 1.0: share it, embed it in reports
Source    scripts/make_sample_corpus.py

Known defects
- No person spoke or acted it: it shows that the code works, and a score on it says nothing about people.
"""

from pathlib import Path

from ser_lib.corpora import ravdess
from ser_lib.corpora.base import Corpus

CORPUS = Corpus(
    name="sample",
    title="Sample (bundled, synthetic)",
    example="03-01-05-01-02-01-08.flac",
    parse=ravdess.parse,
    clips=256,
    speakers=8,
    licence="CC0 1.0",
    citation="none needed",
    url="https://creativecommons.org/publicdomain/zero/1.0/",
    shareable=True,
    notice=(
        "These voices are synthetic, made by a speech synthesiser from rules. The numbers here show that the chain "
        "works; they say nothing about how well human emotion is recognised."
    ),
    folder=Path(__file__).resolve().parents[2] / "data" / "sample",
)
