"""What listeners heard in clips: votes for each emotion, by people who only heard the voice.

    votes = votes_of(clips)                    # one row a clip of a corpus with votes; empty without the table
    votes.loc["crema_d/1001_IEO_NEU_XX"]       # neutral 10, happy 1, …

CREMA-D publishes such votes: 68,568 of its voices alone, 4 to 12 a clip, of which 40.0 % name the emotion that the actor
was asked for. The table (4 MB, ODbL 1.0, Cao et al. 2014) is not part of this package. It is downloaded once, from one
commit of its repository, and checked by its hash. `$SER_CREMA_D_VOTES` names a file to read in place of that, as it is or
compressed (`.xz`, `.gz`). Nothing needs the votes: without them, reports leave out the comparison with people.
"""

import logging
import os

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.common.files import cache_dir
from ser_lib.corpora import crema_d

logger = logging.getLogger(__name__)

COMMIT = "1658cd342dff90010aa843eaeebd53610a08b1dc"
URL = f"https://raw.githubusercontent.com/CheyneyComputerScience/CREMA-D/{COMMIT}/processedResults/tabulatedVotes.csv"
SHA256 = "774d9d759cb5caf2542758a39eca8c0f1d2777f9987ff5d5adf8066d192f377b"
VARIABLE = "SER_CREMA_D_VOTES"
EMOTION = {name[0]: emotion for name, emotion in crema_d.EMOTION.items()}  # the table's columns: A, D, F, H, N, S
# Rows by voice alone; those from 200001 are by face alone, those from 300001 by both.
FIRST_ROW, LAST_ROW = 100001, 199999


def votes_of(clips: pd.DataFrame) -> pd.DataFrame:
    """How many listeners named each emotion in each clip, by voice alone.

    Where the table of votes cannot be had, a warning says why, and the result is empty.

    Args:
        clips: with the columns clip_id and corpus.

    Returns:
        indexed by clip_id, in the order of the clips, without clips that have no votes; a column of counts an emotion.
    """
    if not (clips["corpus"] == crema_d.CORPUS.name).any():
        return pd.DataFrame(columns=pd.Index(EMOTION.values()), index=pd.Index([], name="clip_id"), dtype=int)
    try:
        table = crema_d_votes()
    except SerError as error:
        logger.warning("what listeners heard is left out: %s", error)
        return votes_of(clips[:0])
    return table.reindex(clips["clip_id"].drop_duplicates()).dropna().astype(int)


def crema_d_votes() -> pd.DataFrame:
    """Read the votes on CREMA-D's voices, of `$SER_CREMA_D_VOTES`, else of the cache or the download.

    Returns:
        indexed by clip_id, a column of counts an emotion.

    Raises:
        SerError: the table cannot be downloaded, is not the one that is expected, or lacks a column.
    """
    path = os.environ.get(VARIABLE) or _downloaded()
    try:
        table = pd.read_csv(path, index_col=0)
        table = table[(table.index >= FIRST_ROW) & (table.index <= LAST_ROW)].set_index("fileName")[[*EMOTION]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SerError(f"{path} is not CREMA-D's tabulatedVotes.csv: {error}. Get it from {URL}.") from error
    # One name ends in X, as its file does.
    table.index = (f"{crema_d.CORPUS.name}/" + table.index).rename("clip_id")
    return table.rename(columns=EMOTION)


def _downloaded() -> str:
    """The path of the downloaded table, checked by its hash."""
    import pooch

    folder = cache_dir() / "votes"
    try:
        return pooch.retrieve(
            URL, f"sha256:{SHA256}", fname="crema_d-tabulatedVotes.csv", path=folder, progressbar=False
        )
    except (OSError, ValueError) as error:
        raise SerError(
            f"CREMA-D's table of votes could not be downloaded from {URL}: {error}. Download it by hand, and set "
            f"${VARIABLE} to its path."
        ) from error
