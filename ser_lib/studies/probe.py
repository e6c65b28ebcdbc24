"""Logistic regression on stored features, fold by fold: the small model with which mechanisms are measured.

It is fitted in seconds, to its optimum, and nothing about it is random: what differs between two measurements is
what was changed on purpose. A run folder is not written; the predictions are the result.
"""

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import in_order
from ser_lib.models import network_training
from ser_lib.models import networks as models
from ser_lib.models.settings import Training

STRENGTHS = (0.001, 0.01, 0.1)  # of scikit-learn's C: validation clips choose


def probe(
    clips: pd.DataFrame,
    features: np.ndarray,
    split: pd.DataFrame,
    test_features: np.ndarray | dict[str, np.ndarray] | None = None,
    inverse_regularisation: tuple[float, ...] = STRENGTHS,
    standardise: bool = True,
) -> pd.DataFrame | dict[str, pd.DataFrame]:
    """Fit on each fold's training clips, choose the regularisation on its validation clips, answer for its test clips.

    Args:
        clips: clip table; its row numbers are those of the features.
        features: float32, (n_clips, n_features).
        split: of these clips, as `make_split` gives it; rows may repeat a clip.
        test_features: what is read of test clips instead, such as of the same clips in noise; of several, by name,
            each fold's one model reads them all.
        inverse_regularisation: candidates; of several, validation clips choose, and without any the middle one is
            taken.
        standardise: by the training clips' mean and deviation.

    Returns:
        predictions table, one row a test clip and fold: clip_id, truth, one column of probabilities an emotion, in
        the order of the split's folds; its index are row numbers of `clips`. For several test features a dict of
        such tables.

    Raises:
        SerError: features and clips are not of the same length, the split names an unknown clip, or a fold cannot be
            fitted.
    """
    if len(clips) != len(features):
        raise SerError(f"expected features of {len(clips)} clips, got those of {len(features)}.")
    row_of = pd.Series(np.arange(len(clips)), index=clips["clip_id"])
    unknown = set(split["clip_id"]) - set(row_of.index)
    if unknown:
        raise SerError(f"the split names {len(unknown)} clips that are not among the clips: {min(unknown)}, …")
    several = isinstance(test_features, dict)
    heard = test_features if several else {"": features if test_features is None else test_features}
    emotions = in_order(split["emotion"])
    answers = {name: [] for name in heard}
    for _, fold in split.groupby("fold"):
        rows = {name: row_of[part["clip_id"]].to_numpy(copy=True) for name, part in fold.groupby("subset")}
        # The label stands in the split, so that a mechanism can change it.
        labels = np.zeros(len(clips), dtype=int)
        labels[row_of[fold["clip_id"]]] = fold["emotion"].map(emotions.index).to_numpy()
        validation = rows.get("validation", np.array([], dtype=int))
        candidates = inverse_regularisation
        if not len(validation):
            candidates = (candidates[len(candidates) // 2],)
        with network_training.seeded(0):
            network = models.build("logistic-regression", emotions, features.shape[1:])
            training = Training(inverse_regularisation=candidates)
            chosen_by = rows["train"], validation, training
            network_training.fit_logistic(
                network, features, labels, *chosen_by, standardise=standardise, progress=False
            )
            tested = fold[fold["subset"] == "test"]
            for name, read in heard.items():
                probabilities = network_training.probabilities(network, read[rows["test"]])
                table = pd.DataFrame(probabilities, columns=emotions, index=rows["test"])
                table.insert(0, "clip_id", tested["clip_id"].to_numpy())
                table.insert(1, "truth", tested["emotion"].to_numpy())
                answers[name].append(table)
    tables = {name: pd.concat(parts) for name, parts in answers.items()}
    return tables if several else tables[""]


def without_validation(split: pd.DataFrame) -> pd.DataFrame:
    """The split with its validation clips in training: where nothing is chosen, no speaker need be spared for it."""
    return split.assign(subset=split["subset"].replace("validation", "train"))
