"""The clips of a recipe, their split, and what its model reads of them."""

from pathlib import Path

import numpy as np
import pandas as pd

from ser_lib.audio.features import standardise_by_speaker
from ser_lib.common.errors import SerError
from ser_lib.corpora.clips import load_clips, select_emotions
from ser_lib.models.base import Inputs
from ser_lib.protocols.splits import get_protocol, make_split
from ser_lib.recipes.recipe import Recipe


def clips_of(recipe: Recipe, protocol: str, data_dir: str | Path | None = None, progress: bool = True) -> pd.DataFrame:
    """The clips of the recipe's corpora and emotions; duplicates are kept only where the protocol repeats the source."""
    keep_duplicates = get_protocol(protocol).repeats_source and recipe.split.keep_duplicates
    clips = load_clips(list(recipe.corpora), data_dir, keep_duplicates=keep_duplicates, progress=progress)
    shortfall = clips.attrs.get("shortfall", {})
    clips = select_emotions(clips, recipe.emotions)
    clips.attrs["shortfall"] = shortfall
    return clips


def split_of(recipe: Recipe, clips: pd.DataFrame, protocol: str, seed: int) -> pd.DataFrame:
    """The split of those clips under a protocol, with the sizes that the recipe states.

    Raises:
        SerError: the clips are of one emotion, or as `make_split`.
    """
    settings = recipe.split.split_settings()
    if not get_protocol(protocol).repeats_source:
        # What the source did with its test clips is repeated only where its claim is.
        settings.update(select_on_test=False, train_on_test=False)
    split = make_split(clips, protocol, seed, **settings)
    emotions = split["emotion"].unique()
    if len(emotions) < 2:
        raise SerError(
            f"all clips are {emotions[0]}: every answer would be right, and the score would say nothing. A model needs "
            "clips of two emotions or more."
        )
    return split


def inputs_of(recipe: Recipe, clips: pd.DataFrame, protocol: str, progress: bool = True) -> Inputs:
    """What the recipe's model reads of clips under a protocol: see `Model.inputs` and `Model.standardised_by_speaker`."""
    model = recipe.create_model()
    inputs = model.inputs(clips, progress)
    is_transductive = get_protocol(protocol).is_transductive
    return model.standardised_by_speaker(inputs, clips["speaker"]) if is_transductive else inputs


def overview_of(recipe: Recipe, clips: pd.DataFrame, protocol: str, progress: bool = True) -> np.ndarray:
    """One row of features a clip, (n_clips, n_features), for a map of the clips: see `Model.overview`."""
    overview = recipe.create_model().overview(clips, progress)
    is_transductive = get_protocol(protocol).is_transductive
    return standardise_by_speaker(overview, clips["speaker"]) if is_transductive else overview
