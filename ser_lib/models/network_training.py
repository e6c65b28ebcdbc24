"""Fit a network: mini-batches, a schedule, early stopping, and the best epoch by validation.

Logistic regression is fitted by scikit-learn, and its coefficients are copied into a network.
"""

import copy
import logging
import math
import random
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import recall_score
from threadpoolctl import threadpool_limits
from torch import nn
from torch.optim import lr_scheduler
from tqdm import tqdm

from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError
from ser_lib.models.profiles import Profile
from ser_lib.models.settings import Training

VALIDATION = ["validation_loss", "validation_accuracy", "validation_uar"]
COLUMNS = ["epoch", "train_loss", "train_accuracy", *VALIDATION, "learning_rate", "best"]
# The fields of the recipe's `training` that `fit` uses, beside class_weights and device.
FIELDS = ("epochs", "batch_size", "learning_rate", "weight_decay", "scheduler", "patience", "keep_best", "clip_norm")
# Of L-BFGS, for each candidate of logistic regression.
MAX_ITERATIONS = 1000
NOT_CONVERGED = "training.inverse_regularisation=%g has not converged after %d iterations: more may change its numbers"

logger = logging.getLogger(__name__)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread inside the block: sums then have a fixed order, and small networks train fastest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # The threads of NumPy and scikit-learn.
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def private_randomness() -> Iterator[None]:
    """Make cuDNN repeatable inside the block, and restore that and all global random states afterwards."""
    before = random.getstate(), np.random.get_state(), torch.backends.cudnn.deterministic  # noqa: NPY002
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.backends.cudnn.deterministic = True
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
            torch.backends.cudnn.deterministic = before[2]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch inside the block and make it repeatable, on one thread; restore all of it afterwards."""
    with private_randomness(), one_thread():
        torch.manual_seed(seed)
        yield


def balanced_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Weight n / (n_classes × n_of_class) for each class, so that all classes contribute equally to the loss.

    >>> balanced_weights(np.array([0, 0, 0, 1]), 2).round(3).tolist()
    [0.667, 2.0]
    """
    counts = np.bincount(labels, minlength=n_classes)
    return len(labels) / (n_classes * np.maximum(counts, 1))


def fit(
    network: nn.Module,
    features: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    training: Training,
    *,
    standardise: bool = True,
    progress: bool = True,
    description: str = "epochs",
) -> pd.DataFrame:
    """Fit a network in place with AdamW and cross-entropy; it ends with the weights of its best epoch.

    Args:
        network: built inside `seeded`, in which this is called too: random numbers come from PyTorch's own state.
        features: float32 or float16, all clips, in the network's form.
        labels: int, position of each clip's emotion among the network's logits.
        train, validation: row numbers; without validation clips the last epoch is the best.
        standardise: fit the network's `Standardise` on the training clips first.

    Returns:
        One row an epoch: epoch (from 1), train_loss, train_accuracy, validation_loss, validation_accuracy,
        validation_uar (NaN without validation clips), learning_rate, best (True in the row of the weights kept).

    Raises:
        SerError: the loss became NaN or infinite.
    """
    target = pick_device(training.device)
    network.to(target)
    inputs, truth = torch.from_numpy(features).to(target), torch.from_numpy(labels.astype(np.int64)).to(target)
    train_rows, validation_rows = torch.tensor(train, device=target), torch.tensor(validation, device=target)
    if standardise:
        network.standardise.fit(inputs[train_rows])
    balance = torch.from_numpy(balanced_weights(labels[train], len(network.config["emotions"]))).float().to(target)
    weight = balance if training.class_weights else None
    rates = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    optimiser = torch.optim.AdamW(network.parameters(), **rates)
    schedule: Any = {
        "plateau": partial(lr_scheduler.ReduceLROnPlateau, optimiser, factor=0.5, patience=5),
        "cosine": partial(lr_scheduler.CosineAnnealingLR, optimiser, T_max=training.epochs),
        "linear": partial(lr_scheduler.LinearLR, optimiser, 1.0, 0.0, total_iters=training.epochs),
        "none": partial(lr_scheduler.ConstantLR, optimiser, 1.0),
    }[training.scheduler]()

    def rows() -> Iterator[dict[str, float]]:
        epochs = range(1, training.epochs + 1)
        bar = tqdm(epochs, desc=f"{description}, epochs", unit="epoch", leave=False, disable=not progress)
        for epoch in bar:
            network.train()
            rate, total, correct = optimiser.param_groups[0]["lr"], 0.0, 0
            order = train_rows[torch.randperm(len(train)).to(target)]
            for number, batch in enumerate(order.split(training.batch_size), start=1):
                logits = network(inputs[batch])
                loss = summed_loss(logits, truth[batch], weight) / len(batch)
                if not torch.isfinite(loss):
                    raise SerError(
                        f"the training loss became {loss.item()} in epoch {epoch}, batch {number}, at learning rate "
                        f"{rate:g}. Lower training.learning_rate, or limit the gradient with training.clip_norm=1.0; if "
                        "it happens in the first batch, look for NaN in the features."
                    )
                optimiser.zero_grad()
                loss.backward()
                if training.clip_norm is not None:
                    nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
                optimiser.step()
                total += loss.item() * len(batch)
                correct += int((logits.argmax(dim=1) == truth[batch]).sum())
            # As seen while the weights changed.
            row = {"train_loss": total / len(train), "train_accuracy": correct / len(train)}
            row |= zip(VALIDATION, _scores(network, inputs, truth, validation_rows, training.batch_size), strict=True)
            if training.scheduler == "plateau":
                schedule.step(row["validation_loss"] if len(validation) else row["train_loss"])
            else:
                schedule.step()
            scores = {"loss": f"{row['train_loss']:.3f}", "validation_uar": f"{row['validation_uar']:.3f}"}
            bar.set_postfix(scores, refresh=False)
            yield {"epoch": epoch, "learning_rate": rate} | row

    return keep_best(network, rows(), training.keep_best, training.patience)


def summed_loss(logits: torch.Tensor, truth: torch.Tensor, class_weights: torch.Tensor | None, **options):
    """The sum of the clips' weighted cross-entropies: divided by the number of clips, it is what training minimises.

    The mean that PyTorch takes by itself would divide by the weights of the clips that a batch happens to hold.
    """
    return nn.functional.cross_entropy(logits, truth, class_weights, reduction="sum", **options)


def best_row(history: list[dict[str, float]]) -> int:
    """The position of the row with the highest UAR on validation clips, then the lowest loss; without them the last."""
    if math.isnan(history[-1]["validation_uar"]):
        return len(history) - 1
    return max(range(len(history)), key=lambda n: (history[n]["validation_uar"], -history[n]["validation_loss"]))


def keep_best(
    network: nn.Module, rows: Iterable[dict[str, float]], keep_best: bool = True, patience: int | None = None
) -> pd.DataFrame:
    """Compute row after row, until `patience` rows bring no better one, and load the weights of `best_row`.

    Without `keep_best` the weights are those of the last row.
    """
    history: list[dict[str, float]] = []
    for row in rows:
        history.append(row)
        best = best_row(history)
        if best == len(history) - 1:
            weights = copy.deepcopy(network.state_dict())
        if patience is not None and len(history) - 1 - best >= patience:
            break
    if not keep_best:
        best = len(history) - 1
    else:
        network.load_state_dict(weights)
    network.eval()
    table = pd.DataFrame(history)
    table["best"] = np.arange(len(table)) == best
    return table[[*COLUMNS, *table.columns.difference(COLUMNS)]]


def fit_logistic(
    network, features, labels, train, validation, training: Training, *, standardise=True, progress=True, description=""
) -> pd.DataFrame:
    """Fit a "logistic-regression" network in place, on the CPU, with scikit-learn's LogisticRegression.

    It ends with the coefficients of the best of `training.inverse_regularisation`. The arguments are those of `fit`.

    Returns:
        The columns of `fit`, one row a candidate, and `inverse_regularisation`, its value: epoch counts the
        candidates from 1, learning_rate is NaN, the training loss is unweighted, without the penalty.

    Raises:
        SerError: NaN or infinite features, fewer than two classes, or candidates without validation clips to choose by.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    strengths = training.inverse_regularisation
    check_logistic(features, labels, train, validation, strengths)
    network.cpu().eval()
    inputs, truth = torch.from_numpy(features), torch.from_numpy(labels.astype(np.int64))
    if standardise:
        network.standardise.fit(inputs[train])
    standardised = network.standardise(inputs[train]).double().numpy()
    balance = dict(enumerate(balanced_weights(labels[train], len(network.config["emotions"]))))
    weights = balance if training.class_weights else None
    # Each begins where the one before ended: a third of the iterations, to the same optimum.
    regression = LogisticRegression(class_weight=weights, max_iter=MAX_ITERATIONS, warm_start=True)

    def rows() -> Iterator[dict[str, float]]:
        candidates = tqdm(strengths, desc=f"{description}, settings", leave=False, disable=not progress)
        for epoch, strength in enumerate(candidates, start=1):
            regression.set_params(C=strength)
            with warnings.catch_warnings(), one_thread():
                # A log line below states it with the name of the recipe's field.
                warnings.simplefilter("ignore", ConvergenceWarning)
                regression.fit(standardised, labels[train])
            if regression.n_iter_.max() >= MAX_ITERATIONS:
                logger.warning(NOT_CONVERGED, strength, MAX_ITERATIONS)
            coefficients, intercepts = all_classes(regression, len(network.config["emotions"]))
            linear = network.head[-1]
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(coefficients))
                linear.bias.copy_(torch.from_numpy(intercepts))
            row = {"epoch": epoch, "learning_rate": math.nan, "inverse_regularisation": strength}
            yield row | scores_of(network, inputs, truth, train, validation)

    return keep_best(network, rows())


def check_logistic(features, labels, train, validation, strengths) -> None:
    """Raise SerError where logistic regression cannot be fitted, or none of several candidates chosen."""
    if len(strengths) > 1 and len(validation) == 0:
        values = f"{len(strengths)} values of training.inverse_regularisation"
        text = f"there are no validation clips to choose one of {values} by"
        raise SerError(f"{text}: give one value, or a split.validation_fraction above 0.")
    if len(np.unique(labels[train])) < 2:
        raise SerError("the training clips are all of one emotion: logistic regression needs two or more.")
    broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(broken):
        text = f"the features of {len(broken)} clips hold NaN or infinite values, first in row {broken[0]}"
        raise SerError(f"{text}: logistic regression cannot be fitted to them. Look at those clips' audio.")


def all_classes(regression, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients, (n_classes, n_features), and intercepts of scikit-learn's LogisticRegression, for every class."""
    coefficients, intercepts = regression.coef_, regression.intercept_
    # Of two classes scikit-learn keeps the logit of the second against the first.
    if len(coefficients) == 1:
        coefficients, intercepts = (np.concatenate([-part, part]) / 2 for part in (coefficients, intercepts))
    every = np.zeros((n_classes, coefficients.shape[1]))
    # A class without training clips: probability 0, yet a finite loss.
    biases = np.full(n_classes, -1e4)
    every[regression.classes_], biases[regression.classes_] = coefficients, intercepts
    return every, biases


def scores_of(network, inputs, truth, train, validation) -> dict[str, float]:
    """The columns of a history that are scores."""
    row = dict(zip(("train_loss", "train_accuracy"), _scores(network, inputs, truth, train), strict=False))
    return row | dict(zip(VALIDATION, _scores(network, inputs, truth, validation), strict=True))


def _scores(network, inputs, truth, rows, batch_size=256) -> tuple[float, float, float]:
    """Unweighted cross-entropy, accuracy and UAR on some rows; NaN where there are none."""
    if len(rows) == 0:
        return math.nan, math.nan, math.nan
    logits = _logits(network, inputs[rows], batch_size)
    loss = nn.functional.cross_entropy(logits, truth[rows]).item()
    expected, prediction = truth[rows].cpu().numpy(), logits.argmax(dim=1).cpu().numpy()
    uar = recall_score(expected, prediction, labels=np.unique(expected), average="macro", zero_division=0)
    return loss, float((prediction == expected).mean()), float(uar)


@torch.inference_mode()
def _logits(network: nn.Module, inputs: torch.Tensor, batch_size: int = 256, known: tuple = ()) -> torch.Tensor:
    """The logits of all clips; `known` is the mean and count of a profile for each, as `Network.forward` takes them."""
    network.eval()
    parts = zip(*(tensor.split(batch_size) for tensor in (inputs, *known)), strict=True)
    return torch.cat([network(*batch) for batch in parts])


def probabilities(network: nn.Module, features: np.ndarray, profile: Profile | None = None) -> np.ndarray:
    """Softmax probabilities, float64 of shape (n_clips, n_emotions), on the device where the network is."""
    target = next(network.parameters()).device
    known: tuple = ()
    if profile is not None:
        mean = np.broadcast_to(np.asarray(profile.mean, np.float32), features.shape).copy()
        count = np.broadcast_to(np.asarray(profile.count, np.float32), (len(features), 1)).copy()
        known = torch.from_numpy(mean).to(target), torch.from_numpy(count).to(target)
    with one_thread():
        logits = _logits(network, torch.from_numpy(features).to(target), known=known)
        return torch.softmax(logits.double(), dim=1).cpu().numpy()
