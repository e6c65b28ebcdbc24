"""What a recipe's model reads: of a table of clips through the store, or of recordings, of which nothing is kept."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ser_lib.audio import features
from ser_lib.audio.reading import Recording, prepare_all
from ser_lib.common import distributed
from ser_lib.common.errors import SerError
from ser_lib.corpora.clips import load_clips, select_emotions
from ser_lib.protocols.splits import get_protocol, make_split
from ser_lib.recipes import Recipe


def clips_of(recipe: Recipe, protocol: str, data_dir=None, progress: bool = True) -> pd.DataFrame:
    """The recipe's clips: its corpora and emotions, duplicates kept only where its source kept them."""
    keep_duplicates = get_protocol(protocol).repeats_source and recipe.split.keep_duplicates
    clips = load_clips(list(recipe.corpora), data_dir, keep_duplicates=keep_duplicates, progress=progress)
    shortfall = clips.attrs.get("shortfall", {})
    clips = select_emotions(clips, recipe.emotions)
    clips.attrs["shortfall"] = shortfall
    return clips


def split_of(recipe: Recipe, clips: pd.DataFrame, protocol: str, seed: int) -> pd.DataFrame:
    """The split of those clips under a protocol, with the sizes that the recipe states."""
    settings = recipe.split.split_settings()
    if not get_protocol(protocol).repeats_source:
        # What the source did with its test clips is repeated only where its claim is.
        settings.update(select_on_test=False, train_on_test=False)
    return make_split(clips, protocol, seed, **settings)


def inputs_of(recipe: Recipe, clips: pd.DataFrame, protocol: str, progress: bool = True):
    """What the model reads, aligned to the clips.

    Returns:
        an array of MFCC (`ser_lib.audio.features.extract`) or of a frozen encoder's layers (`ser_lib.models.embeddings.embed`):
        (n_clips, n_features), (n_clips, n_frames, n_features) with NaN padding, or, for `weighted-layers`,
        (n_clips, n_layers, n_features). For a model that is fine-tuned, the list of waveforms.

    Raises:
        SerError: the encoder cannot be had, or a transductive protocol with a model that reads waveforms.
    """
    given, audio_settings = recipe.input, recipe.input.audio.model_dump()
    if recipe.model.name == "finetune":
        if get_protocol(protocol).is_transductive:
            raise SerError(
                f"{protocol} standardises features by speaker, and a fine-tuned model reads waveforms: "
                "use another protocol, or a frozen encoder."
            )
        return prepare_all(clips["path"], audio_settings, progress)
    if given.encoder == "mfcc":
        arrays = distributed.after_first(
            lambda: features.extract(clips, audio_settings, given.feature_settings(), progress)
        )
    else:
        arrays = _embeddings(recipe, clips, audio_settings, progress)
    if get_protocol(protocol).is_transductive:
        shape = arrays.shape
        if recipe.model.name == "weighted-layers":  # layers are no frames: each is standardised by itself
            arrays = arrays.reshape(len(arrays), -1)
        arrays = features.standardise_by_speaker(arrays, clips["speaker"]).reshape(shape)
    return arrays


def overview_of(recipe: Recipe, clips: pd.DataFrame, protocol: str, progress: bool = True) -> np.ndarray:
    """One row of features a clip, to look at: what the model reads, averaged over frames or layers.

    A model that is fine-tuned reads waveforms; here its encoder, as it was before, stands in for it.
    """
    if recipe.model.name == "finetune":
        given = recipe.input.model_copy(update={"layers": "last", "pooling": "mean"})
        frozen = recipe.model_copy(update={"input": given})
        return _embeddings(frozen, clips, given.audio.model_dump(), progress)
    return features.flat(inputs_of(recipe, clips, protocol, progress))


def _embeddings(recipe: Recipe, clips: pd.DataFrame, audio_settings: dict, progress: bool) -> np.ndarray:
    """A frozen encoder's layers in the form that the recipe's model reads."""
    from ser_lib.models import embeddings

    given = recipe.input
    arrays = embeddings.embed(
        clips,
        given.encoder,
        given.revision,
        layers=given.layers,
        pooling=given.frames_or_pooled,
        audio=audio_settings,
        precision=given.precision,
        device=recipe.training.device,
        progress=progress,
    )
    return _as_read(recipe, arrays)


def _as_read(recipe: Recipe, arrays: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """An encoder's layers in the form that the recipe's model reads."""
    if recipe.input.pooling == "sequence":
        return features.stack_sequences(arrays)
    if recipe.model.name == "weighted-layers":
        return arrays
    return arrays.reshape(len(arrays), -1)  # the layers' values side by side


def inputs_of_recordings(recipe: Recipe, recordings: Sequence[str | Path | Recording], encoder=None) -> np.ndarray:
    """As `inputs_of`, of files or recordings instead of clips, without the store, for a model that reads arrays.

    Args:
        encoder: an `ser_lib.models.embeddings.Encoder`, where the recipe reads one.
    """
    given, audio_settings = recipe.input, recipe.input.audio.model_dump()
    if encoder is None:
        arrays = [
            features.clip_features(recording, audio_settings, given.feature_settings()) for recording in recordings
        ]
        return features.stack_sequences(arrays) if given.pooling == "sequence" else np.stack(arrays)
    from ser_lib.models import embeddings

    arrays = embeddings.embed_with(
        encoder,
        recordings,
        layers=given.layers,
        pooling=given.frames_or_pooled,
        audio=audio_settings,
        precision=given.precision,
    )
    return _as_read(recipe, arrays)
