"""Compare the answers of a model with the votes of people who listened to the same clips.

table = beside_listeners(predictions, votes_of(clips), clips["speaker"])

The truth of a clip is the emotion that its actor was asked for. Listeners often name another emotion, and
disagree with each other: their votes are a second truth, which also shows how much listeners agree.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.spatial.distance import jensenshannon

from ser_lib.corpora.labels import in_order
from ser_lib.evaluation import intervals, metrics

ALL = "all"
COLUMNS = ["model", "people", "soft_accuracy", "distance"]


def beside_listeners(predictions: pd.DataFrame, votes: pd.DataFrame, speakers: ArrayLike | None = None) -> pd.DataFrame:
    """What the model and listeners name in the same clips, and how far they agree.

    Args:
        predictions: see `ser_lib.evaluation.metrics`; clips without votes are left out.
        votes: as of `ser_lib.corpora.votes.votes_of`.
        speakers: of each row of the predictions.

    Returns:
        one row an acted emotion, and `ALL`: clips (their number); model (share of clips in which it names the acted
        emotion), people (share of the listeners' votes that name it), soft_accuracy (mean share of a clip's votes that
        the model's answer got: at most what always answering the most frequent vote gets), each with _low and _high
        (95 %, as of `metrics.score`); distance, with _low and _high (mean Jensen-Shannon distance between the model's
        probabilities and the shares of votes, with logarithms of base 2: 0 equal, 1 disjoint; Lin 1991, "Divergence
        measures based on the Shannon entropy"). No rows without votes.
    """
    known = predictions["clip_id"].isin(votes.index).to_numpy()
    if not known.any():
        return pd.DataFrame(columns=["clips", *(name + end for name in COLUMNS for end in ("", "_low", "_high"))])
    rows = predictions[known]
    names = None if speakers is None else intervals.one_per_row(speakers, predictions, "speakers")[known]
    emotions = in_order({*metrics.emotions_of(rows), *votes.columns})
    decided = metrics.decisions(rows)
    counts = votes.reindex(columns=emotions, fill_value=0).loc[rows["clip_id"]].to_numpy(dtype=float)
    shares = counts / counts.sum(axis=1, keepdims=True)
    probabilities = rows.reindex(columns=emotions, fill_value=0.0).to_numpy(dtype=float)
    row, number = np.arange(len(rows)), pd.Index(emotions)
    truth, answer = (number.get_indexer(decided[name]) for name in ("truth", "prediction"))
    # Rounding may leave a distance of -1e-9 squared.
    distance = np.nan_to_num(jensenshannon(probabilities, shares, base=2, axis=1))
    one = np.ones(len(rows))
    parts = [(truth == answer).astype(float), counts[row, truth], shares[row, answer], distance]
    columns = np.column_stack([*parts, one, counts.sum(axis=1), one, one])
    table = {}
    for emotion in [ALL, *in_order(decided["truth"])]:
        mask = (decided["truth"] == emotion).to_numpy() | (emotion == ALL)
        units = intervals.units_of(rows[mask], None if names is None else names[mask])
        n_clips = rows.loc[mask, "clip_id"].nunique()
        estimate = intervals.jackknife(units, columns[mask], intervals.ratio, [n_clips] * 4)
        table[emotion] = {"clips": n_clips}
        for place, name in enumerate(COLUMNS):
            table[emotion] |= estimate[place].columns(name)
    return pd.DataFrame.from_dict(table, "index").rename_axis("emotion")
