"""Leaks by choosing on test clips: the layer, the best of many models, the epoch."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.evaluation.metrics import decisions, is_right
from ser_lib.models import network_training
from ser_lib.models import networks as models
from ser_lib.protocols.splits import make_split
from ser_lib.studies.leaks.conditions import Condition, Predicted, mean_n_train, table_of, tested
from ser_lib.studies.probe import Fold, folds_of, probe


def layer_chosen_on_test(
    clips: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """An encoder's layer chosen by the test score, as in reports of the best row of a table of all layers.

    Conditions, under folds by speaker: the layer of each fold chosen on its validation speakers (honest); one layer
    chosen on all test clips (leaky); the layer of each fold chosen on the test clips of the fold (leaky).

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
    candidates = _probe_candidates(clips, features, folds, seeds)
    name = "validation speakers choose"
    conditions = [
        Condition(name, False, _chosen(candidates, "validation")),
        Condition("all test clips choose", True, _chosen(candidates, "all test"), against=name),
        Condition("each fold's test clips choose", True, _chosen(candidates, "test"), against=name),
    ]
    return table_of("layer chosen on test", clips, conditions)


def best_of_many(
    clips: pd.DataFrame,
    features: np.ndarray,
    counts: Sequence[int] = (2, 8, 32),
    folds: int = 5,
    seeds: Sequence[int] = (0,),
) -> pd.DataFrame:
    """The best of many equally good models: each reads the features with other noise added.

    It measures the gain from trying many settings and reporting the best, where the settings make no difference.
    Conditions for each count: the model of each fold chosen on validation speakers (honest) or on test clips (leaky).
    The noise has the standard deviation of each feature, and is the same in training and test.

    Args:
        counts: numbers of candidates.
    """
    deviation = features.std(axis=0)
    noise = (np.random.default_rng(number).standard_normal(features.shape) for number in range(max(counts)))
    noisy = np.stack([(features + deviation * array).astype(np.float32) for array in noise], axis=1)
    candidates = _probe_candidates(clips, noisy, folds, seeds)
    conditions = []
    for count in counts:
        name = f"best of {count} on validation"
        leaky = _chosen(candidates, "test", count)
        conditions.append(Condition(name, False, _chosen(candidates, "validation", count)))
        conditions.append(Condition(f"best of {count} on test", True, leaky, against=name))
    return table_of("best of many on test", clips, conditions)


def epoch_chosen_on_test(
    clips: pd.DataFrame,
    features: np.ndarray,
    epochs: int = 30,
    learning_rate: float = 1e-3,
    folds: int = 5,
    seeds: Sequence[int] = (0,),
) -> pd.DataFrame:
    """A network stopped at the epoch that is best on the test clips, where there are no validation clips.

    The source of `ravdess-wav2vec2-frozen-mlp` reports the best of 10 epochs in this way, and that of
    `tess-wav2vec2-finetune` selects on the test set too. Conditions, under folds by speaker: validation speakers choose
    the epoch (honest), test clips choose it (leaky). Training clips, initial weights and the order of batches are equal:
    only the chosen epoch differs.
    """
    splits = [make_split(clips, "speaker", seed, folds=folds) for seed in seeds]

    def probabilities(fold: Fold, chooser: str) -> np.ndarray:
        with network_training.seeded(0):
            network = models.build("mlp", fold.emotions, features.shape[1:], dense=(256,), dropout=0.3)
            network_training.fit(
                network,
                features,
                fold.labels,
                fold.rows["train"],
                fold.rows[chooser],
                epochs=epochs,
                batch_size=16,
                learning_rate=learning_rate,
                device="cpu",
                progress=False,
            )
            return network_training.probabilities(network, features[fold.rows["test"]])

    def trained(chooser: str) -> Predicted:
        every_fold = [fold for split in splits for fold in folds_of(clips, split)]
        tables = [fold.predictions(probabilities(fold, chooser)) for fold in every_fold]
        return Predicted(pd.concat(tables), mean_n_train(splits))

    name = "validation speakers choose"
    conditions = [
        Condition(name, False, trained("validation")),
        Condition("test clips choose", True, trained("test"), against=name),
    ]
    return table_of("epoch chosen on test", clips, conditions)


def _probe_candidates(
    clips: pd.DataFrame, features: np.ndarray, folds: int, seeds: Sequence[int]
) -> list[tuple[pd.DataFrame, list[pd.DataFrame]]]:
    """For each seed the validation and test rows of the split, and the predictions of each candidate for them.

    Args:
        features: (n_clips, n_candidates, n_features).
    """
    candidates = []
    for seed in seeds:
        split = make_split(clips, "speaker", seed, folds=folds)
        as_test = split.assign(subset=split["subset"].replace("validation", "test"), held_out=split["subset"])
        tables = [
            probe(clips, np.ascontiguousarray(features[:, number]), as_test) for number in range(features.shape[1])
        ]
        candidates.append((tested(as_test).assign(n_train=mean_n_train([split])), tables))
    return candidates


def _chosen(candidates: list, chooser: str, count: int | None = None) -> Predicted:
    """Test predictions of the candidate with the highest UAR among the first `count`.

    Args:
        candidates: as of `_probe_candidates`.
        chooser: "validation" or "test" clips of each fold, or "all test" clips of all folds at once.
    """
    parts = []
    for rows, tables in candidates:
        right = np.stack([is_right(decisions(table)) for table in tables[:count]])
        subset, fold, truth = (rows[name].to_numpy() for name in ("held_out", "fold", "emotion"))
        for number in np.unique(fold):
            judged = (subset == chooser) & (fold == number) if chooser != "all test" else subset == "test"
            recalls = [right[:, judged & (truth == emotion)].mean(axis=1) for emotion in np.unique(truth[judged])]
            best = int(np.mean(recalls, axis=0).argmax())
            parts.append(tables[best][(subset == "test") & (fold == number)])
    return Predicted(pd.concat(parts), float(np.mean([rows["n_train"].iloc[0] for rows, _ in candidates])))
