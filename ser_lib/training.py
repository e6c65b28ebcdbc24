"""Fit a network: mini-batches, a schedule, early stopping, and the best epoch by validation."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import recall_score
from torch import nn
from tqdm import tqdm

from ser_lib.errors import SerError

SCHEDULERS = ("plateau", "cosine", "none")


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is the GPU where PyTorch sees one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SerError(
            f"device {name!r} was asked for, but PyTorch sees no GPU. Leave it out, or set it to cpu."
        )
    return torch.device(name)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch inside the block and make it repeatable; restore all of it afterwards.

    One CPU thread: sums then have one order, whatever the number of cores. For networks as small as those in
    `ser_lib.models` it is also the fastest (an epoch of the LSTM on TESS: half the time of two threads).
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    before = torch.backends.cudnn.deterministic, torch.get_num_threads()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        torch.backends.cudnn.deterministic = True
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic = before[0]
            torch.set_num_threads(before[1])


def balanced_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Weight n / (n_classes × n_of_class) for each class, so that each counts alike in the loss.

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

    The best epoch is the one with the highest validation UAR, the lower loss deciding between equals. Random numbers come from PyTorch's own state: build the network
    and call this inside `seeded`.

    Args:
        features: float32, all clips, as `ser_lib.features.extract` returns them.
        labels: int, position of each clip's emotion among the network's logits.
        train, validation: row numbers; `validation` may be empty.
        scheduler: "plateau" halves the rate when the validation loss has not fallen for 5 epochs, "cosine" lets
            it fall to 0 over all epochs, "none" leaves it.
        patience: stop after that many epochs without a better one; None: never.
        keep_best: False keeps the last epoch instead of the best, as does a lack of validation clips.
        clip_norm: largest norm of the gradient of all weights; None: no limit.
        class_weights: weight the training loss by `balanced_weights`.
        standardise: fit the network's `Standardise` on the training clips first.

    Returns:
        One row an epoch: epoch (from 1), train_loss, train_accuracy, validation_loss, validation_accuracy,
        validation_uar (NaN without validation clips), learning_rate, best (True in the row of the weights kept).

    Raises:
        SerError: the loss became NaN or infinite; the message names epoch, batch and what to change.
    """
    if scheduler not in SCHEDULERS:
        raise SerError(
            f"unknown scheduler {scheduler!r}: training.scheduler is one of {', '.join(SCHEDULERS)}."
        )
    if len(train) == 0:
        raise SerError("there are no training clips: check the corpora, emotions and protocol.")
    target = pick_device(device)
    network.to(target)
    inputs, truth = (
        torch.from_numpy(features).to(target),
        torch.from_numpy(labels.astype(np.int64)).to(target),
    )
    train, validation = torch.tensor(train, device=target), torch.tensor(validation, device=target)
    if standardise:
        network.standardise.fit(inputs[train])

    weight = None
    if class_weights:
        n_classes = len(network.config["emotions"])
        weight = torch.tensor(
            balanced_weights(labels[train.cpu().numpy()], n_classes), dtype=torch.float32
        ).to(target)
    loss_of = nn.CrossEntropyLoss(weight=weight)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=learning_rate, weight_decay=weight_decay
    )  # = Adam at 0
    schedule = {
        "plateau": lambda: torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=5),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs),
        "none": lambda: None,
    }[scheduler]()

    history, best, best_weights, best_epoch = [], (-math.inf, -math.inf), None, 0
    bar = tqdm(range(1, epochs + 1), desc=description, unit="epoch", leave=False, disable=not progress)
    for epoch in bar:
        row = {"epoch": epoch, "learning_rate": optimiser.param_groups[0]["lr"]}
        row["train_loss"], row["train_accuracy"] = _one_epoch(
            network, inputs, truth, train, batch_size, loss_of, optimiser, clip_norm, epoch
        )
        if len(validation):
            scores = row["validation_loss"], row["validation_accuracy"], row["validation_uar"] = _validate(
                network, inputs, truth, validation, batch_size
            )
            rank = (scores[2], -scores[0])
        else:
            row.update(validation_loss=math.nan, validation_accuracy=math.nan, validation_uar=math.nan)
        if not (keep_best and len(validation)):
            rank = (epoch, 0.0)
        if schedule is not None:
            by_loss = scheduler == "plateau"
            schedule.step(
                *([row["validation_loss"] if len(validation) else row["train_loss"]] if by_loss else [])
            )
        history.append(row)
        if rank > best:
            best, best_epoch = rank, epoch
            best_weights = copy.deepcopy(network.state_dict())
        bar.set_postfix(
            loss=f"{row['train_loss']:.3f}", validation_uar=f"{row['validation_uar']:.3f}", refresh=False
        )
        if patience is not None and epoch - best_epoch >= patience:
            break

    network.load_state_dict(best_weights)
    network.eval()
    history = pd.DataFrame(history)
    history["best"] = history["epoch"] == best_epoch
    columns = [
        "epoch",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "validation_uar",
    ]
    return history[[*columns, "learning_rate", "best"]]


def _one_epoch(
    network, inputs, truth, train, batch_size, loss_of, optimiser, clip_norm, epoch
) -> tuple[float, float]:
    """Mean loss and accuracy over the training clips, as seen while the weights change."""
    network.train()
    total, correct = 0.0, 0
    order = train[torch.randperm(len(train)).to(train.device)]
    for number, rows in enumerate(order.split(batch_size), start=1):
        logits = network(inputs[rows])
        loss = loss_of(logits, truth[rows])
        if not torch.isfinite(loss):
            rate = optimiser.param_groups[0]["lr"]
            raise SerError(
                f"the training loss became {loss.item()} in epoch {epoch}, batch {number}, at learning rate {rate:g}. "
                "Lower training.learning_rate, or limit the gradient with training.clip_norm=1.0; if it happens in "
                "the first batch, look for NaN in the features."
            )
        optimiser.zero_grad()
        loss.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        optimiser.step()
        total += loss.item() * len(rows)
        correct += int((logits.argmax(dim=1) == truth[rows]).sum())
    return total / len(train), correct / len(train)


def _validate(network, inputs, truth, rows, batch_size) -> tuple[float, float, float]:
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
    logits = _logits(network, torch.from_numpy(features).to(target), batch_size)
    return torch.softmax(logits.double(), dim=1).cpu().numpy()
