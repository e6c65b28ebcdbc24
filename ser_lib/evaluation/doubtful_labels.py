"""Clips whose label may be wrong: those that their own label fits least, by cleanlab.

    doubtful_labels(run.predictions, tested)       # the twenty most doubtful, with their paths, to listen to

It needs predictions of clips that the model did not learn from, as a run's test predictions are. A low score is a reason
to listen, and no proof: the model may be wrong, and an actor may have played the emotion badly.
"""

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation import metrics

COLUMNS = ["label", "model_says", "label_probability", "label_score"]


def doubtful_labels(predictions: pd.DataFrame, n: int = 20) -> pd.DataFrame:
    """The clips that their own label fits least, the most doubtful first.

    Probabilities of several seeds are averaged. The score is cleanlab's "normalized margin": half of 1 + the probability
    of the label - that of the most probable other emotion (Northcutt et al. 2021, "Confident learning", doi
    10.1613/jair.1.12125). 0: the model is sure of another emotion; 1: it is sure of the label.

    Args:
        predictions: see `ser_lib.evaluation.metrics`, of clips that the model did not learn from.

    Returns:
        at most `n` rows, indexed by clip_id: `COLUMNS`.

    Raises:
        SerError: cleanlab is not installed.
    """
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise SerError('the list of doubtful labels needs cleanlab: pip install "ser-lib[labels]"') from error
    metrics.check_predictions(predictions)
    emotions = in_order(metrics.emotions_of(predictions))
    by_clip = predictions.groupby("clip_id", sort=False)
    probabilities, label = by_clip[emotions].mean(), by_clip["truth"].first()
    number = label.map(emotions.index).to_numpy()
    array = probabilities.to_numpy(dtype=float)
    array = array / array.sum(axis=1, keepdims=True)
    table = pd.DataFrame({"label": label, "model_says": np.array(emotions)[array.argmax(axis=1)]})
    table["label_probability"] = array[np.arange(len(array)), number]
    table["label_score"] = get_label_quality_scores(number, array, method="normalized_margin")
    return table.nsmallest(n, "label_score")
