"""nkululeko, a toolkit for speaker characteristics: a CSV for each part of a corpus, with a header."""

import io
from functools import partial

import pandas as pd

from ser_lib.studies.atlas.lists import Source, splits_of

RENAMED = {
    **{"cmu-mosei": "cmu_mosei", "crema-d-csv": "crema_d", "emov-db": "emov_db", "msp-podcast": "msp_podcast"},
    **{"oreau2": "oreau", "thorsten-emotional": "thorsten"},
}
SAME = (
    *("aesdd", "ased", "baved", "cafe", "demos", "ekorpus", "emns", "emofilm", "emorynlp", "emovo", "esd", "gerparas"),
    *("jl", "meld", "mesd", "mess", "mlendsnd", "polish", "portuguese", "ravdess", "savee", "shemo", "tess", "urdu"),
    "vivae",
)


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
)
splits = partial(splits_of, SOURCE)
