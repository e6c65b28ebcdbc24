"""This project's own folds: its default protocol, by speaker, on the file names that EmoBox lists of its corpora."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA
from ser_lib.corpora.clips import COLUMNS
from ser_lib.protocols.splits import get_protocol, make_split
from ser_lib.studies.atlas import emobox
from ser_lib.studies.atlas.lists import Lists, PublishedSplit, splits_of

PROTOCOL = "speaker"
CORPUS_NAMES = ("ravdess", "tess", "crema_d", "savee")
FROM_AUDIO = {"seconds": 1.0, "sampling_rate": 1}  # not known here, and not used by the protocol


def splits(lists: Lists) -> Iterator[PublishedSplit]:
    listed = {split.corpus: split for split in splits_of(emobox.SOURCE, lists, CORPUS_NAMES)}
    for corpus in CORPUS_NAMES:
        how = f"Protocol {PROTOCOL}: {get_protocol(PROTOCOL).about}. Computed from the file names that EmoBox lists."
        empty = replace(listed[corpus], benchmark="ser_lib", table=None, speakers_from="", how=how, how_url="")
        names = listed[corpus].table
        if names is None:
            yield empty
            continue
        try:
            split = make_split(_clips(corpus, names["clip_id"].unique()), PROTOCOL)
        except SerError as error:
            yield replace(empty, problem=str(error))
            continue
        table = split[["clip_id", "fold", "subset", "speaker", "sentence"]]
        yield replace(empty, table=table, speakers_from="the file names")


def _clips(corpus: str, paths: list[str]) -> pd.DataFrame:
    """A clip table by names alone."""
    facts = [(path, CORPORA[corpus].parse(Path(path))) for path in paths]
    rows = [known | {"path": path, "audio_hash": path, "clip_id": path} for path, known in facts if known]
    return pd.DataFrame(rows).assign(corpus=corpus, **FROM_AUDIO)[COLUMNS]
