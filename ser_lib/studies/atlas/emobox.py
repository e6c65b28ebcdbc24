"""EmoBox (Ma et al. 2024, arXiv:2406.07162): train and test lists of 32 corpora, one JSON object a line."""

import json

import pandas as pd

from ser_lib.studies.atlas.lists import Source

# EmoBox's name of a corpus -> this package's, where they differ.
RENAMED = {
    **{"asvpesd": "asvp_esd", "cremad": "crema_d", "emovdb": "emov_db", "jlcorpus": "jl", "turevdb": "turev"},
    "msppodcast": "msp_podcast",
}
SAME = (
    *("aesdd", "ased", "cafe", "casia", "emns", "emodb", "emovo", "emozionalmente", "enterface", "esd", "iemocap"),
    *("m3ed", "mead", "meld", "mer2023", "mesd", "oreau", "pavoque", "polish", "ravdess", "resd", "savee", "shemo"),
    *("subesco", "tess", "urdu"),
)


def rows(text: str) -> pd.DataFrame:
    """Paths; several clips of PAVOQUE are parts of one file, so that their start belongs to the path."""
    lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    starts = [f"#{line['start_time']}" if "start_time" in line else "" for line in lines]
    files = [line["wav"] if "wav" in line else line["audio"] for line in lines]
    return pd.DataFrame({"path": [file + start for file, start in zip(files, starts, strict=True)]}, dtype=object)


SOURCE = Source(
    name="EmoBox",
    repository="emo-box/EmoBox",
    commit="08280f279d47fb55d2c614061c70523d0a338d6b",
    lists=r"data/(?P<corpus>\w+)/fold_(?P<fold>\d+)/\w+_(?P<subset>train|valid|test)_fold_\d+\.jsonl",
    corpora={name: name for name in SAME} | RENAMED,
    rows=rows,
    how={
        "": (
            "Its code says: where a corpus has fewer than 4 speakers, or speakers differ in the number of clips of an "
            "emotion, “disregard speaker”, and draw a quarter of each emotion's clips for the test; other speakers are kept "
            "apart. Where there is no validation list, its loader draws validation clips from the training list at random.",
            "https://github.com/emo-box/EmoBox/blob/fdc57b07574ee03ac9e6e952d51ce0df374e0303/EmoBox/utils/preprocess_utils.py",
        )
    },
)
