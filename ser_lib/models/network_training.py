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

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import recall_score
from threadpoolctl import threadpool_limits
from torch import nn
from tqdm import tqdm

from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError

SCHEDULERS = ("plateau", "cosine", "linear", "none")
VALIDATION = ["validation_loss", "validation_accuracy", "validation_uar"]
COLUMNS = ["epoch", "train_loss", "train_accuracy", *VALIDATION, "learning_rate", "best"]
NO_CLIPS = "there are no training clips: check the corpora, emotions and protocol."

logger = logging.getLogger(__name__)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread inside the block: sums have one order, and networks as small as ours are the fastest."""
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
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    scheduler: str = "none",
    patience: int | None = None,
    keep_best: bool = True,
    clip_norm: float | None = None,
    class_weights: bool = False,
    standardise: bool = True,
    device: str = "auto",
    progress: bool = True,
    description: str = "epochs",
) -> pd.DataFrame:
    """Fit a network in place with AdamW and cross-entropy; it ends with the weights of its best epoch.

    Random numbers come from PyTorch's own state: build the network and call this inside `seeded`.

    Args:
        features: float32 or float16, all clips, in the network's form.
        labels: int, position of each clip's emotion among the network's logits.
        train, validation: row numbers; `validation` may be empty.
        scheduler: "plateau" halves the rate when the validation loss has not fallen for 5 epochs, "cosine" and
            "linear" lower it to 0 over all epochs, "none" leaves it.
        patience: stop after that many epochs without a better one; None: never.
        keep_best: False keeps the last epoch instead of the best, as does a lack of validation clips.
        clip_norm: largest norm of the gradient of all weights.
        class_weights: weight the training loss by `balanced_weights`.
        standardise: fit the network's `Standardise` on the training clips first.

    Returns:
        One row an epoch: epoch (from 1), train_loss, train_accuracy, validation_loss, validation_accuracy,
        validation_uar (NaN without validation clips), learning_rate, best (True in the row of the weights kept).

    Raises:
        SerError: the loss became NaN or infinite; the message names epoch, batch and what to change.
    """
    if scheduler not in SCHEDULERS:
        raise SerError(f"unknown scheduler {scheduler!r}: training.scheduler is one of {', '.join(SCHEDULERS)}.")
    if len(train) == 0:
        raise SerError(NO_CLIPS)
    target = pick_device(device)
    network.to(target)
    inputs, truth = torch.from_numpy(features).to(target), torch.from_numpy(labels.astype(np.int64)).to(target)
    train_rows, validation_rows = torch.tensor(train, device=target), torch.tensor(validation, device=target)
    if standardise:
        network.standardise.fit(inputs[train_rows])
    weight = None
    if class_weights:
        weights = balanced_weights(labels[train], len(network.config["emotions"]))
        weight = torch.tensor(weights, dtype=torch.float32).to(target)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)  # = Adam at 0
    schedule = {
        "plateau": lambda: torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=5),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs),
        "linear": lambda: torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=epochs),
        "none": lambda: None,
    }[scheduler]()

    def one_epoch(epoch: int, rate: float) -> tuple[float, float]:
        """Mean loss and accuracy over the training clips, as seen while the weights change."""
        network.train()
        total, correct = 0.0, 0
        order = train_rows[torch.randperm(len(train)).to(target)]
        for number, rows in enumerate(order.split(batch_size), start=1):
            logits = network(inputs[rows])
            loss = nn.functional.cross_entropy(logits, truth[rows], weight)
            if not torch.isfinite(loss):
                raise SerError(
                    f"the training loss became {loss.item()} in epoch {epoch}, batch {number}, at learning rate "
                    f"{rate:g}. Lower training.learning_rate, or limit the gradient with training.clip_norm=1.0; if it "
                    "happens in the first batch, look for NaN in the features."
                )
            optimiser.zero_grad()
            loss.backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
            optimiser.step()
            total += loss.item() * len(rows)
            correct += int((logits.argmax(dim=1) == truth[rows]).sum())
        return total / len(train), correct / len(train)

    def rows() -> Iterator[dict[str, float]]:
        bar = tqdm(range(1, epochs + 1), desc=description, unit="epoch", leave=False, disable=not progress)
        for epoch in bar:
            row = {"epoch": epoch, "learning_rate": optimiser.param_groups[0]["lr"]}
            row["train_loss"], row["train_accuracy"] = one_epoch(epoch, row["learning_rate"])
            row |= _validated(network, inputs, truth, validation_rows, batch_size)
            if scheduler == "plateau":
                schedule.step(row["validation_loss"] if len(validation) else row["train_loss"])
            elif schedule is not None:
                schedule.step()
            scores = {"loss": f"{row['train_loss']:.3f}", "validation_uar": f"{row['validation_uar']:.3f}"}
            bar.set_postfix(scores, refresh=False)
            yield row

    return _keep_best(network, rows(), keep_best and len(validation) > 0, patience)


def _keep_best(
    network: nn.Module, rows: Iterable[dict[str, float]], by_validation: bool, patience: int | None = None
) -> pd.DataFrame:
    """Load the weights that the network had at the best row, or at the last; the rows, with that one marked.

    Args:
        rows: computed one by one; best is the highest UAR on validation clips, then the lower loss.
        patience: the number of rows without a better one after which no more are computed.
    """
    history: list[dict[str, float]] = []
    best: tuple[float, float] | None = None
    for row in rows:
        history.append(row)
        rank = (row["validation_uar"], -row["validation_loss"]) if by_validation else (row["epoch"], 0.0)
        if best is None or rank > best:
            best, best_epoch, weights = rank, row["epoch"], copy.deepcopy(network.state_dict())
        if patience is not None and row["epoch"] - best_epoch >= patience:
            break
    network.load_state_dict(weights)
    network.eval()
    table = pd.DataFrame(history)
    table["best"] = table["epoch"] == best_epoch
    return table[[*COLUMNS, *table.columns.difference(COLUMNS)]]


def fit_logistic(
    network: nn.Module,
    features: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    *,
    inverse_regularisation: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0),
    class_weights: bool = False,
    standardise: bool = True,
    max_iterations: int = 1000,
    progress: bool = True,
    description: str = "candidates",
) -> pd.DataFrame:
    """Fit a "logistic-regression" network in place, on the CPU, with scikit-learn's LogisticRegression.

    The network ends with the coefficients of the best candidate. Nothing here is random; inside `seeded` it does not
    depend on the number of cores either.

    Args:
        inverse_regularisation: the candidates, scikit-learn's C: small is strongly regularised.
        max_iterations: of L-BFGS, for each candidate.

    Returns:
        The columns of `fit`, one row a candidate, and `inverse_regularisation`, its value: epoch counts the
        candidates from 1, learning_rate is NaN, the training loss is unweighted, without the penalty.

    Raises:
        SerError: NaN or infinite features, fewer than two classes to learn, or several candidates without
            validation clips to choose by.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(train) == 0:
        raise SerError(NO_CLIPS)
    if len(inverse_regularisation) > 1 and len(validation) == 0:
        raise SerError(
            f"there are no validation clips to choose one of {len(inverse_regularisation)} values of "
            "training.inverse_regularisation by: give one value, or a training.validation_fraction above 0."
        )
    if len(np.unique(labels[train])) < 2:
        raise SerError("the training clips are all of one emotion: logistic regression needs two or more.")
    network.cpu().eval()
    inputs, truth = torch.from_numpy(features), torch.from_numpy(labels.astype(np.int64))
    broken = (~torch.isfinite(inputs)).any(dim=1).nonzero()[:, 0].tolist()
    if broken:
        raise SerError(
            f"the features of {len(broken)} clips hold NaN or infinite values, first in row {broken[0]}: "
            "logistic regression cannot be fitted to them. Look at those clips' audio."
        )
    if standardise:
        network.standardise.fit(inputs[train])
    standardised = network.standardise(inputs[train]).double().numpy()
    weights = (
        dict(enumerate(balanced_weights(labels[train], len(network.config["emotions"])))) if class_weights else None
    )
    # Each begins where the one before ended: a third of the iterations, to the same optimum.
    regression = LogisticRegression(class_weight=weights, max_iter=max_iterations, warm_start=True)

    def rows() -> Iterator[dict[str, float]]:
        candidates = tqdm(inverse_regularisation, desc=description, leave=False, disable=not progress)
        for epoch, strength in enumerate(candidates, start=1):
            regression.set_params(C=strength)
            with warnings.catch_warnings(), one_thread():
                # A log line below states it with the name of the recipe's field.
                warnings.simplefilter("ignore", ConvergenceWarning)
                regression.fit(standardised, labels[train])
            if regression.n_iter_.max() >= max_iterations:
                logger.warning(
                    "logistic regression with training.inverse_regularisation=%g has not converged after %d iterations: "
                    "its numbers may change with more of them",
                    strength,
                    max_iterations,
                )
            _copy_coefficients(regression, network.head[-1])
            row = {"epoch": epoch, "learning_rate": math.nan, "inverse_regularisation": strength}
            row["train_loss"], row["train_accuracy"], _ = _scores(network, inputs, truth, train)
            yield row | _validated(network, inputs, truth, validation)

    return _keep_best(network, rows(), len(validation) > 0)


def _copy_coefficients(regression, linear: nn.Linear) -> None:
    """Give a linear layer, one output a class, what scikit-learn fitted to the classes that it saw."""
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(coefficients) == 1:  # two classes: scikit-learn keeps the logit of the second against the first
        coefficients, intercepts = (np.concatenate([-part, part]) / 2 for part in (coefficients, intercepts))
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.fill_(-1e4)  # a class without training clips: probability 0, yet a finite loss
        linear.weight[regression.classes_] = torch.from_numpy(coefficients).float()
        linear.bias[regression.classes_] = torch.from_numpy(intercepts).float()


def _validated(network, inputs, truth, rows, batch_size=256) -> dict[str, float]:
    """The scores on validation clips, as the history names them; NaN where there are none."""
    scores = _scores(network, inputs, truth, rows, batch_size) if len(rows) else [math.nan] * 3
    return dict(zip(VALIDATION, scores, strict=True))


def _scores(network, inputs, truth, rows, batch_size=256) -> tuple[float, float, float]:
    """Unweighted cross-entropy, accuracy and UAR on some rows."""
    logits = _logits(network, inputs[rows], batch_size)
    loss = nn.functional.cross_entropy(logits, truth[rows]).item()
    expected, prediction = truth[rows].cpu().numpy(), logits.argmax(dim=1).cpu().numpy()
    uar = recall_score(expected, prediction, labels=np.unique(expected), average="macro", zero_division=0)
    return loss, float((prediction == expected).mean()), float(uar)


@torch.inference_mode()
def _logits(network: nn.Module, inputs: torch.Tensor, batch_size: int) -> torch.Tensor:
    network.eval()
    return torch.cat([network(batch) for batch in inputs.split(batch_size)])


def probabilities(network: nn.Module, features: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Softmax probabilities, float64 of shape (n_clips, n_emotions), on the device where the network is."""
    target = next(network.parameters()).device
    with one_thread():
        logits = _logits(network, torch.from_numpy(features).to(target), batch_size)
        return torch.softmax(logits.double(), dim=1).cpu().numpy()
