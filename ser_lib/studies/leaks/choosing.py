"""Mechanisms that choose on test clips: the layer, the best of many models, the epoch."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.models import network_training
from ser_lib.models import networks as models
from ser_lib.models.settings import Training
from ser_lib.protocols.splits import make_split
from ser_lib.studies.leaks.folds import fold_by_fold, mean_n_train, tested
from ser_lib.studies.leaks.tables import Condition, is_right, table_of
from ser_lib.studies.probe import probe


def layer_chosen_on_test(
    clips: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """An encoder's layer chosen by the test score, as where a table of all layers is made and its best row reported.

    Conditions, under folds by speaker: each fold's layer chosen on its validation speakers (honest); the one layer
    that is best on all test clips (leaky); each fold's layer chosen on that fold's test clips (leaky).

    Args:
        features: (n_clips, n_layers, n_features), two layers or more.

    Raises:
        SerError: the features are not of two layers or more.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        raise SerError(
            "expected features of two layers or more, (n_clips, n_layers, n_features), got the shape "
            f'{features.shape}: embed the clips with layers="all"'
        )
    answered = _held_out(clips, features, folds, seeds)
    honest, overall, by_fold = (_chosen(answered, by) for by in ("validation", "all test", "test"))
    name = "validation speakers choose"
    return table_of(
        "layer chosen on test",
        clips,
        [
            Condition(name, False, *honest),
            Condition("all test clips choose", True, *overall, against=name),
            Condition("each fold's test clips choose", True, *by_fold, against=name),
        ],
    )


def best_of_many(
    clips: pd.DataFrame,
    features: np.ndarray,
    counts: Sequence[int] = (2, 8, 32),
    folds: int = 5,
    seeds: Sequence[int] = (0,),
) -> pd.DataFrame:
    """The best of ever more models of which none is better: each sees the features through noise of its own.

    What trying many settings and reporting the best is worth where the settings do not matter. Conditions for each
    count: each fold's model chosen on validation speakers (honest) or on test clips (leaky). The noise has the
    deviation of each feature, and stays the same in training and test.

    Args:
        features: (n_clips, n_features).
        counts: how many candidates there are to choose from.
    """
    deviation = features.std(axis=0)
    noise = (np.random.default_rng(number).standard_normal(features.shape) for number in range(max(counts)))
    candidates = np.stack([(features + deviation * own).astype(np.float32) for own in noise], axis=1)
    answered = _held_out(clips, candidates, folds, seeds)
    conditions = []
    for count in counts:
        honest, leaky = (_chosen(answered, by, count) for by in ("validation", "test"))
        name = f"best of {count} on validation"
        conditions += [
            Condition(name, False, *honest),
            Condition(f"best of {count} on test", True, *leaky, against=name),
        ]
    return table_of("best of many on test", clips, conditions)


def epoch_chosen_on_test(
    clips: pd.DataFrame,
    features: np.ndarray,
    epochs: int = 30,
    learning_rate: float = 1e-3,
    folds: int = 5,
    seeds: Sequence[int] = (0,),
) -> pd.DataFrame:
    """A network kept at the epoch that is best on the test clips, for want of validation clips.

    The `ravdess-wav2vec2-frozen-mlp` source reports the best of 10 epochs so, `tess-wav2vec2-finetune` selects on the
    test set too. Conditions, under folds by speaker: validation speakers choose the epoch (honest), test clips do
    (leaky). Same training clips, weights at the start and order of batches: only the epoch that is kept differs.

    Args:
        features: (n_clips, n_features).
    """

    def kept_by(chooser: str):
        def answer(rows, labels, emotions):
            with network_training.seeded(0):
                network = models.build("mlp", emotions, features.shape[1:], dense=(256,), dropout=0.3)
                settings = {"epochs": epochs, "batch_size": 16, "learning_rate": learning_rate, "device": "cpu"}
                training = Training(**settings, patience=None)
                network_training.fit(network, features, labels, rows["train"], rows[chooser], training, progress=False)
                return network_training.probabilities(network, features[rows["test"]])

        return answer

    splits = [make_split(clips, "speaker", seed, folds=folds) for seed in seeds]
    honest, leaky = (fold_by_fold(clips, splits, kept_by(chooser)) for chooser in ("validation", "test"))
    name = "validation speakers choose"
    return table_of(
        "epoch chosen on test",
        clips,
        [Condition(name, False, *honest), Condition("test clips choose", True, *leaky, against=name)],
    )


def _held_out(clips, features, folds, seeds) -> list[tuple[pd.DataFrame, list[pd.DataFrame]]]:
    """For each seed the held-out rows (validation and test), and each candidate's answers to them.

    Args:
        features: (n_clips, n_candidates, n_features).
    """
    answered = []
    for seed in seeds:
        split = make_split(clips, "speaker", seed, folds=folds)
        as_test = split.assign(subset=split["subset"].replace("validation", "test"), held_out=split["subset"])
        answers = [
            probe(clips, np.ascontiguousarray(features[:, number]), as_test) for number in range(features.shape[1])
        ]
        answered.append((tested(as_test).assign(n_train=mean_n_train([split])), answers))
    return answered


def _chosen(answered: list, by: str, count: int | None = None) -> tuple[pd.DataFrame, float]:
    """Test answers of the candidate with the highest UAR, among the first `count`.

    Args:
        by: what chooses: "validation" or "test" clips of each fold, or "all test" folds at once.
    """
    tables = []
    for rows, answers in answered:
        answers = answers[:count]
        right = np.stack([is_right(answer) for answer in answers])
        subset, fold, truth = (rows[name].to_numpy() for name in ("held_out", "fold", "emotion"))
        for number in np.unique(fold):
            judges = (subset == by) & (fold == number) if by != "all test" else subset == "test"
            recalls = [right[:, judges & (truth == emotion)].mean(axis=1) for emotion in np.unique(truth[judges])]
            best = int(np.mean(recalls, axis=0).argmax())
            tables.append(answers[best][(subset == "test") & (fold == number)])
    return pd.concat(tables), float(np.mean([rows["n_train"].iloc[0] for rows, _ in answered]))
