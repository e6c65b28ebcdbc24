"""Fit the model of a recipe on one fold, whichever kind it is: a network on arrays, or an encoder on waveforms.

The three functions that fit, `network_training.fit`, `network_training.fit_logistic` and `finetuning.finetune`, each take those
fields of the recipe's `training` that are among their arguments.
"""

import inspect
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ser_lib.common import distributed
from ser_lib.common.errors import SerError
from ser_lib.models import network_training
from ser_lib.models import networks as models
from ser_lib.models.networks import WITH_HIDDEN
from ser_lib.recipes import Recipe, keys_of


class Fitted(NamedTuple):
    """What is left of a fold that was fitted."""

    save: Callable[[Path], None]  # writes the model into a folder
    history: pd.DataFrame
    probabilities: np.ndarray  # of the test clips, (n_test, n_emotions)
    sizes: dict  # parameters, trained_parameters, clips_trained (how often a clip was learned from), seconds


def fit(
    recipe: Recipe,
    inputs,
    labels: np.ndarray,
    rows: dict[str, np.ndarray],
    emotions: list[str],
    seed: int,
    fold: int,
    work: Path,
    with_encoder: bool,
    progress: bool = True,
) -> Fitted | None:
    """Fit on the training rows, choose on the validation rows, answer for the test rows.

    With several processes all of them fine-tune together; a network, which is small, is fitted by the first
    alone, and the others get None.

    Args:
        inputs, labels: aligned, as `reading.inputs_of` gives them, and positions among `emotions`.
        rows: row numbers of "train", "validation" (may be empty) and "test".
        work: a folder for checkpoints; what is there already is resumed.
        with_encoder: save a head together with its frozen encoder, as one checkpoint.
    """
    settings = _settings(recipe) | {"progress": progress, "description": f"fold {fold}"}
    if recipe.model.name == "finetune":
        return _finetune(recipe, inputs, labels, rows, emotions, seed, work, settings)
    if not distributed.is_first():
        return None
    return _fit(recipe, inputs, labels, rows, emotions, seed, with_encoder, settings)


def refuse_idle_overrides(recipe: Recipe) -> None:
    """An override that nothing of the recipe ever looks at is a mistake, not a wish."""
    read = _fields_read(recipe)
    for key in (key for item in recipe.overrides for key in keys_of(item)):
        section, _, name = key.partition(".")
        if name and section in read and name.split(".")[0] not in read[section]:
            raise SerError(
                f"{key} has no effect on model.name={recipe.model.name} with input.encoder={recipe.input.encoder}, "
                f"where {section} has {', '.join(sorted(read[section]))}. Leave it out."
            )


def _fields_read(recipe: Recipe) -> dict[str, set[str]]:
    """Those fields of the sections `input`, `model` and `training` that make a difference."""
    given, name = recipe.input, recipe.model.name
    if name == "finetune":
        reads, sizes = ({"revision"}, {"trainable"} | ({"lora_rank"} if recipe.model.trainable == "lora" else set()))
    else:
        mfcc = given.encoder == "mfcc"
        reads = set(given.feature_settings()) if mfcc else {"revision", "layers", "precision", "pooling"}
        reads |= {"standardise"}
        sizes = set() if name == "logistic-regression" else {"dense", "dropout"}
        sizes |= {"hidden"} if name in WITH_HIDDEN else set()
    fields = set(recipe.training.model_dump()) & set(inspect.signature(_function(recipe)).parameters)
    return {"input": reads | {"encoder", "audio"}, "model": sizes | {"name"}, "training": fields | {"device"}}


def build_model(recipe: Recipe, emotions: list[str], inputs: np.ndarray) -> models.Network:
    """The recipe's network with random weights, for inputs of that shape."""
    sizes = recipe.model.model_dump(exclude={"trainable", "lora_rank"})
    return models.build(**sizes, emotions=emotions, input_shape=inputs.shape[1:])


def _function(recipe: Recipe):
    """The function that fits the recipe's model."""
    if recipe.model.name == "finetune":
        from ser_lib.models import finetuning

        return finetuning.finetune
    return network_training.fit_logistic if recipe.model.name == "logistic-regression" else network_training.fit


def _settings(recipe: Recipe) -> dict:
    """The fields of `training` that this function takes."""
    taken = inspect.signature(_function(recipe)).parameters
    return {name: value for name, value in recipe.training.model_dump().items() if name in taken}


def _fit(recipe, inputs, labels, rows, emotions, seed, with_encoder, settings) -> Fitted:
    started = time.monotonic()
    with network_training.seeded(seed):
        network = build_model(recipe, emotions, inputs)
        history = _function(recipe)(
            network, inputs, labels, rows["train"], rows["validation"], standardise=recipe.input.standardise, **settings
        )
        probabilities = network_training.probabilities(network, inputs[rows["test"]])
    trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    sizes = {
        "trained_parameters": trained,
        "parameters": trained,
        "clips_trained": len(rows["train"]) * len(history),
        "seconds": time.monotonic() - started,
    }
    save = partial(models.save, network.cpu())
    if recipe.input.encoder != "mfcc":
        from ser_lib.models import embeddings, frozen_encoder

        given = recipe.input
        encoder = embeddings.load_encoder(given.encoder, given.revision)
        sizes["parameters"] += encoder.n_parameters
        if with_encoder:
            save = partial(frozen_encoder.save_frozen, encoder, network.cpu(), given.layers, given.frames_or_pooled)
    return Fitted(save, history, probabilities, sizes)


def _finetune(recipe, waveforms, labels, rows, emotions, seed, work, settings) -> Fitted:
    from ser_lib.models import finetuned_encoder, finetuning

    given, started = recipe.input, time.monotonic()
    model, feature_extractor, history = finetuning.finetune(
        given.encoder,
        given.revision,
        waveforms,
        labels,
        rows["train"],
        rows["validation"],
        emotions,
        work,
        seconds=given.audio.max_seconds,
        sampling_rate=given.audio.sampling_rate,
        trainable=recipe.model.trainable,
        lora_rank=recipe.model.lora_rank,
        seed=seed,
        **settings,
    )
    tested = [waveforms[row] for row in rows["test"]]
    finetuned_encoder.warn_of_cuts(feature_extractor, tested)
    model.to(network_training.pick_device(recipe.training.device))
    probabilities = finetuning.shared_probabilities(model, feature_extractor, tested)
    sizes = finetuned_encoder.count_parameters(model, recipe.model.trainable, recipe.model.lora_rank)
    sizes |= {"clips_trained": len(rows["train"]) * len(history)}
    sizes["seconds"] = time.monotonic() - started + history.attrs["seconds_before"]
    return Fitted(
        lambda folder: finetuned_encoder.save(model.cpu(), feature_extractor, folder), history, probabilities, sizes
    )
