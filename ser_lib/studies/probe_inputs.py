"""What the small probes of the claims audit are given: clips of the corpora at hand, and a way to read them.

    clips = corpora_at_hand(["ravdess", "tess"])
    read = reader("openai/whisper-base")
    probe(clips, read(clips).reshape(len(clips), -1), split)

Whatever is read, and under whatever condition, every clip is heard as `AUDIO` says.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ser_lib.audio import features
from ser_lib.common.errors import SerError
from ser_lib.corpora.clips import load_clips
from ser_lib.models import encoder_weights
from ser_lib.recipes import Input

AUDIO = {"sampling_rate": 16000, "trim_below_db": 30.0, "normalise": "peak"}  # as the probes hear every clip


def reader(encoder: str | None = None, layers: str | list[int] = "middle") -> Callable[[pd.DataFrame], np.ndarray]:
    """What the small probes read of a clip table: an encoder's layers, or, without an encoder, MFCC; mean and deviation.

    Args:
        layers: as of `ser_lib.models.embeddings.embed`, or "middle": the one half way up, which nothing was chosen by.

    Returns:
        a function of a clip table that gives float32 of shape (n_clips, n_layers, n_features), of MFCC
        (n_clips, n_features).
    """
    if encoder is None:
        settings = Input(pooling="mean+std").feature_settings()
        return partial(features.extract, audio_settings=AUDIO, feature_settings=settings, progress=False)
    from ser_lib.models import embeddings

    if layers == "middle":
        layers = [middle_layer(encoder)]
    settings = Input(encoder=encoder, layers=layers, pooling="mean+std", audio=AUDIO)
    return partial(embeddings.embed, settings=settings, progress=False)


def middle_layer(encoder: str) -> int:
    """The number of the layer half way up an encoder."""
    return encoder_weights.locate(encoder).n_layers // 2


def corpora_at_hand(
    names: Iterable[str], data_dir: str | Path | None = None, say: Callable[[str], None] = print
) -> pd.DataFrame:
    """One clip table of those corpora that can be found, copies kept; the others are told of."""
    tables = []
    for name in names:
        try:
            tables.append(load_clips([name], data_dir, keep_duplicates=True, progress=False))
        except SerError as error:
            say(f"{name} is left out: {error}")
            continue
        if name in tables[-1].attrs.get("shortfall", {}):
            found, expected = tables[-1].attrs["shortfall"][name]
            say(f"{name} is a slice here, {found} of {expected} clips: do not quote its scores")
    if not tables:
        raise SerError(f"none of the corpora {', '.join(names)} can be found.")
    return pd.concat(tables, ignore_index=True)
