"""Splits that differ in one thing alone, and what every fold's model answers, one under the other."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ser_lib.common.hashing import shuffled
from ser_lib.corpora.labels import in_order
from ser_lib.protocols.splits import make_split
from ser_lib.studies.probe import probe, without_validation


def speaker_split(clips: pd.DataFrame, folds: int, seed: int) -> pd.DataFrame:
    """Folds by speaker, their validation clips in training."""
    return without_validation(make_split(clips, "speaker", seed, folds=folds))


def random_split(clips: pd.DataFrame, folds: int, seed: int) -> pd.DataFrame:
    """The split by speaker, after its clips have exchanged their places at random with others of their emotion.

    Folds, training sets and the emotions in each keep their sizes to the clip, and every clip is tested once, so that
    nothing else tells the two splits apart.
    """
    split = speaker_split(clips, folds, seed)
    place = {}
    for _, ids in clips.groupby("emotion")["clip_id"]:
        place |= dict(zip(sorted(ids), shuffled(ids, seed, "places"), strict=True))
    moved = clips.set_index("clip_id").loc[split["clip_id"].map(place)].reset_index()
    return moved.assign(**{name: split[name].to_numpy() for name in ("fold", "subset", "seed")})


def tested(split: pd.DataFrame) -> pd.DataFrame:
    """The test rows, in the order in which they are answered."""
    return split[split["subset"] == "test"].sort_values("fold", kind="stable")


def known_from_training(split: pd.DataFrame, column: str) -> np.ndarray:
    """Whether each test row has its value of a column in common with a training row of its fold: bool (n_test_rows,)."""
    train, test = split[split["subset"] == "train"], tested(split)
    known = set(zip(train["fold"], train[column], strict=True))
    return np.array([pair in known for pair in zip(test["fold"], test[column], strict=True)])


def probed(
    clips: pd.DataFrame, features: np.ndarray, splits: list[pd.DataFrame], standardise: bool = True
) -> tuple[pd.DataFrame, float]:
    """The probe's answers to all splits, and how many rows a fold trains on, on average."""
    answers = [probe(clips, features, split, standardise=standardise) for split in splits]
    return pd.concat(answers), mean_n_train(splits)


def fold_by_fold(clips: pd.DataFrame, splits: list[pd.DataFrame], answer: Callable) -> tuple[pd.DataFrame, float]:
    """As `probed`, for any model.

    Args:
        answer: of rows (subset -> row numbers of `clips`), labels (of all clips, as positions) and emotions; gives
            the test rows' probabilities, (n_test_rows, n_emotions).
    """
    row_of = pd.Series(np.arange(len(clips)), index=clips["clip_id"])
    emotions = in_order(clips["emotion"])
    labels = clips["emotion"].map(emotions.index).to_numpy(copy=True)
    tables = []
    for split in splits:
        for _, fold in split.groupby("fold"):
            rows = {name: row_of[part["clip_id"]].to_numpy(copy=True) for name, part in fold.groupby("subset")}
            table = pd.DataFrame(answer(rows, labels, emotions), columns=emotions, index=rows["test"])
            table.insert(0, "clip_id", clips["clip_id"].to_numpy()[rows["test"]])
            table.insert(1, "truth", clips["emotion"].to_numpy()[rows["test"]])
            tables.append(table)
    return pd.concat(tables), mean_n_train(splits)


def mean_n_train(splits: list[pd.DataFrame]) -> float:
    """Training rows a fold, on average."""
    return float(np.mean([(split["subset"] == "train").sum() / split["fold"].nunique() for split in splits]))
