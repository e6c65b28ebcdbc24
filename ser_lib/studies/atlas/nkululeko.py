"""nkululeko, a toolkit for speaker characteristics: a CSV for each part of a corpus, with a header."""

import io

import pandas as pd

from ser_lib.studies.atlas.lists import Source

RENAMED = {
    **{"cmu-mosei": "cmu_mosei", "crema-d-csv": "crema_d", "emov-db": "emov_db", "msp-podcast": "msp_podcast"},
    **{"oreau2": "oreau", "thorsten-emotional": "thorsten"},
}
SAME = (
    *("aesdd", "ased", "baved", "cafe", "demos", "ekorpus", "emns", "emofilm", "emorynlp", "emovo", "esd", "gerparas"),
    *("jl", "meld", "mesd", "mess", "mlendsnd", "polish", "portuguese", "ravdess", "savee", "shemo", "tess", "urdu"),
    "vivae",
)

FOLDER = {corpus: folder for folder, corpus in RENAMED.items()}
CODE = "https://github.com/felixbur/nkululeko/blob"
AT_RANDOM = (
    "The script beside the lists draws a fifth of the clips for the test at random: scikit-learn's train_test_split."
)
# Corpus -> what its script does, and the commit of the script that was read.
HOW = {
    "tess": (AT_RANDOM, "5171c5172d701763041e824e3c170d389ac31212"),
    "portuguese": (AT_RANDOM, "edebc5befb3636f6a7f0d99494c581cf084432ea"),
    "emns": (AT_RANDOM, "7d869219bb918ec0e5120d15cf3408f104235d6a"),
    "thorsten": (AT_RANDOM, "1cfbb09a21e253d982cfce8c0b51f00f8e0e3b12"),
    "emofilm": (
        f"{AT_RANDOM} It names the speakers as groups, and does not use them.",
        "6cd086f6938712ac2f606914a97338957faf997b",
    ),
    "urdu": (
        f"{AT_RANDOM} Lines that split by speaker are commented out, with the words “very low result”.",
        "1cfbb09a21e253d982cfce8c0b51f00f8e0e3b12",
    ),
    "meld": (
        "The script takes MELD's own parts. Their files lie in three folders and are numbered anew in each; the lists leave "
        "the folder out, so that one name stands for several recordings.",
        "6d35a47d511c960763d0fa83cddab28e841406ea",
    ),
    "emorynlp": ("The script takes EmoryNLP's own parts.", "98de0a016ffcbf7daae0624a25220afd8b6dfcf5"),
}


def rows(text: str) -> pd.DataFrame:
    """Paths, and speakers and words under the heads that these lists have for them."""
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    heads = {"file": "path", "speakers": "speaker", "speaker_id": "speaker", "word": "sentence"}
    table = table.rename(columns=heads)
    return table[[name for name in ("path", "speaker", "sentence") if name in table]]


SOURCE = Source(
    name="nkululeko",
    repository="felixbur/nkululeko",
    commit="a1e2bd19f7277135e548d4f6d4e73c8194aff299",
    # Not read: lists of the same files in other formats, RAVDESS's for the recognition of speakers, and lists that are
    # not about emotion, or whose test has no labels.
    lists=r"data/(?P<corpus>[\w-]+)/[a-z0-9-]+_(?P<subset>train|dev|test)[12]?\.csv",
    corpora={name: name for name in SAME} | RENAMED,
    rows=rows,
    how={
        corpus: (text, f"{CODE}/{commit}/data/{FOLDER.get(corpus, corpus)}/process_database.py")
        for corpus, (text, commit) in HOW.items()
    },
)
