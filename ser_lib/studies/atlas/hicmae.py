"""HiCMAE (Sun et al. 2024, arXiv:2401.05698): folds of CREMA-D and RAVDESS; folder of faces, audio file and label a line."""

import pandas as pd

from ser_lib.studies.atlas.lists import Source


def rows(text: str) -> pd.DataFrame:
    """The audio file of each line."""
    return pd.DataFrame({"path": [line.split(" ")[1] for line in text.splitlines() if line.strip()]}, dtype=object)


SOURCE = Source(
    name="HiCMAE",
    repository="sunlicai/HiCMAE",
    commit="cdd28d481d7a03fe6cd5d27e968f51ec20d892a4",
    lists=r"saved/data/(?P<corpus>[a-z-]+)/audio_visual/split(?P<fold>\d+)/(?P<subset>train|test)\.csv",
    corpora={"crema-d": "crema_d", "ravdess": "ravdess"},
    rows=rows,
)
