"""OGM-GE (Peng et al., CVPR 2022): train and test list of CREMA-D, copied by audio-visual work; no header."""

import io

import pandas as pd

from ser_lib.studies.atlas.lists import Source


def rows(text: str) -> pd.DataFrame:
    """A name without its ending, and a label, in each line."""
    table = pd.read_csv(io.StringIO(text), header=None, names=["path", "label"], dtype=str)
    return table[["path"]] + ".wav"


SOURCE = Source(
    name="OGM-GE",
    repository="GeWu-Lab/OGM-GE_CVPR2022",
    commit="343dc1d95c9bda88f105c0da8d24f185e0e98b54",
    lists=r"data/CREMAD/(?P<subset>train|test)\.csv",
    corpora={"": "crema_d"},
    rows=rows,
)
