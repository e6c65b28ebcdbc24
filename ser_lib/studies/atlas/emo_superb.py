"""EMO-SUPERB (Wu et al. 2024, arXiv:2402.13018): one CSV a fold, with votes, speaker, gender and subset of each clip."""

import io

import pandas as pd

from ser_lib.studies.atlas.lists import Source


def rows(text: str) -> pd.DataFrame:
    """In NNIME's the file's head is empty. IEMOCAP's number is that of a session, whose two speakers differ in gender."""
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    file = table.columns[0]
    speaker = table["SpkrID"] + " " + table["Gender"].str.lower()
    subset = table["Split_Set"].replace({"Development": "dev"})
    return pd.DataFrame({"path": table[file], "speaker": speaker, "subset": subset})


SOURCE = Source(
    name="EMO-SUPERB",
    repository="EMOsuperb/EMO-SUPERB-submission",
    commit="4167e30211622fe3ab15dbf190744273abe132ca",
    # MSP-IMPROV's secondary labels have the folds of its primary ones.
    lists=r"data/(?P<corpus>CREMA-D/Primary|IEMOCAP/Secondary|IMPROV/Primary|NNIME/Secondary)/labels_consensus_(?P<fold>\d)\.csv",
    corpora={
        "CREMA-D/Primary": "crema_d",
        "IEMOCAP/Secondary": "iemocap",
        "IMPROV/Primary": "msp_improv",
        "NNIME/Secondary": "nnime",
    },
    rows=rows,
    how={
        "": (
            "Its page says that its partitions are independent of the speaker, and that they prevent leakage.",
            "https://emosuperb.github.io/standardization.html",
        )
    },
)
