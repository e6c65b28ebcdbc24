"""Fit and test a recipe's model on one fold."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ser_lib.common import distributed
from ser_lib.common.errors import SerError
from ser_lib.models.base import Inputs, Model, take
from ser_lib.recipes import Recipe, keys_of


class Fitted(NamedTuple):
    """The result of one fold."""

    model: Model
    history: pd.DataFrame
    # Of the test clips, (n_test, n_emotions).
    probabilities: np.ndarray
    # parameters, trained_parameters, clips_trained (training clips times epochs), seconds
    sizes: dict


def fit(
    recipe: Recipe,
    inputs: Inputs,
    labels: np.ndarray,
    rows: dict[str, np.ndarray],
    emotions: list[str],
    seed: int,
    fold: int,
    folder: Path,
    progress: bool = True,
) -> Fitted | None:
    """Fit on the training rows, choose on the validation rows, answer for the test rows.

    Several processes fine-tune an encoder together. A network, which is small, is fitted by the first process alone, and
    the others get None.

    Args:
        inputs, labels: aligned, as `ser_lib.recipes.inputs.inputs_of` returns them, and positions among `emotions`.
        rows: row numbers of "train", "validation" (may be empty) and "test".
        folder: for checkpoints; an interrupted training is resumed from them.
    """
    started, model = time.monotonic(), recipe.create_model()
    if not model.trains_encoder and not distributed.is_first():
        return None
    history = model.fit(
        inputs,
        labels,
        rows["train"],
        rows["validation"],
        emotions=emotions,
        seed=seed,
        folder=folder,
        progress=progress,
        description=f"fold {fold}",
    )
    probabilities = model.probabilities_shared(take(inputs, rows["test"]))
    seconds = time.monotonic() - started + history.attrs.get("seconds_before", 0.0)
    sizes = {
        "trained_parameters": model.trained_parameters,
        "parameters": model.parameters,
        "clips_trained": len(rows["train"]) * len(history),
        "seconds": seconds,
    }
    return Fitted(model, history, probabilities, sizes)


def refuse_idle_overrides(recipe: Recipe) -> None:
    """Raise SerError for an override of a field that the recipe's model never reads: it is a mistake of the user."""
    used = recipe.create_model().used_settings()
    for key in (key for item in recipe.overrides for key in keys_of(item)):
        section, _, name = key.partition(".")
        if name and section in used and name.split(".")[0] not in used[section]:
            raise SerError(
                f"{key} has no effect on model.name={recipe.model.name} with input.encoder={recipe.input.encoder}, "
                f"where {section} has {', '.join(sorted(used[section]))}. Leave it out."
            )
