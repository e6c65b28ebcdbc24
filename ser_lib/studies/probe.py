"""The probe of the studies: logistic regression on stored features of clips, fitted fold by fold.

    clips = load_available(["ravdess", "tess"])
    read = feature_reader("openai/whisper-base")
    predictions = probe(clips, read(clips).reshape(len(clips), -1), split)

A probe is fitted in seconds, to its optimum, and without randomness: two measurements differ only in what was changed on
purpose. It writes no run folder.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile

from ser_lib.audio import features as acoustic_features
from ser_lib.audio import reading
from ser_lib.common.errors import SerError
from ser_lib.corpora.clips import audio_hash, load_clips
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation.metrics import predictions_table
from ser_lib.models import encoder_weights, network_training
from ser_lib.models import networks as models
from ser_lib.models.settings import Training
from ser_lib.recipes import Input

FeatureReader = Callable[[pd.DataFrame], np.ndarray]  # of a clip table: float32, (n_clips, ...)
# How all probes read audio.
AUDIO: dict[str, Any] = {"sampling_rate": 16000, "trim_below_db": 30.0, "normalise": "peak"}
# Candidates for scikit-learn's C, of which validation clips choose; without validation clips it is the middle one.
STRENGTHS = (0.001, 0.01, 0.1)


class Fold(NamedTuple):
    """One fold of a split: what a model is trained on, and what it predicts."""

    rows: dict[str, np.ndarray]  # row numbers of the clip table, by subset
    labels: np.ndarray  # positions in `emotions`, by row number
    emotions: list[str]
    tested: pd.DataFrame  # the split's test rows

    def predictions(self, probabilities: np.ndarray) -> pd.DataFrame:
        """A predictions table of the test rows, indexed by their row numbers."""
        return predictions_table(self.tested, probabilities, self.emotions).set_index(self.rows["test"])


def folds_of(clips: pd.DataFrame, split: pd.DataFrame) -> Iterator[Fold]:
    """The folds of a split, with labels as the split states them: they may differ from those of the clips."""
    row_of = pd.Series(np.arange(len(clips)), index=clips["clip_id"])
    unknown = set(split["clip_id"]) - set(row_of.index)
    if unknown:
        raise SerError(f"the split names {len(unknown)} clips that are not among the clips: {min(unknown)}, …")
    emotions = in_order(split["emotion"])
    for _, fold in split.groupby("fold"):
        rows = {subset: row_of[part["clip_id"]].to_numpy(copy=True) for subset, part in fold.groupby("subset")}
        labels = np.zeros(len(clips), dtype=int)
        labels[row_of[fold["clip_id"]]] = fold["emotion"].map(emotions.index)
        yield Fold(rows, labels, emotions, fold[fold["subset"] == "test"])


def probe(clips: pd.DataFrame, features: np.ndarray, split: pd.DataFrame, standardise: bool = True) -> pd.DataFrame:
    """Fit a model on the training clips of each fold, and predict its test clips.

    Args:
        clips: clip table.
        features: float32, (n_clips, n_features), in the order of the clip table.
        split: of these clips, as of `make_split`; rows may repeat a clip.
        standardise: by mean and deviation of the training clips.

    Returns:
        predictions table, one row a test clip and fold, in the order of the folds, indexed by row numbers of `clips`.
    """
    return probe_on(clips, features, split, {"": features}, standardise)[""]


def probe_on(
    clips: pd.DataFrame, features: np.ndarray, split: pd.DataFrame, versions: dict[str, np.ndarray], standardise=True
) -> dict[str, pd.DataFrame]:
    """As `probe`, with one predictions table for each version of the features of the test clips, such as in noise."""
    if len(clips) != len(features):
        raise SerError(f"expected features of {len(clips)} clips, got those of {len(features)}.")
    tables: dict[str, list] = {name: [] for name in versions}
    for fold in folds_of(clips, split):
        train, validation = fold.rows["train"], fold.rows.get("validation", np.array([], dtype=int))
        strengths = STRENGTHS if len(validation) else STRENGTHS[1:2]
        training = Training(inverse_regularisation=strengths)
        settings: dict = {"standardise": standardise, "progress": False}
        with network_training.seeded(0):
            network = models.build("logistic-regression", fold.emotions, features.shape[1:])
            network_training.fit_logistic(network, features, fold.labels, train, validation, training, **settings)
            for name, version in versions.items():
                probabilities = network_training.probabilities(network, version[fold.rows["test"]])
                tables[name].append(fold.predictions(probabilities))
    return {name: pd.concat(parts) for name, parts in tables.items()}


def without_validation(split: pd.DataFrame) -> pd.DataFrame:
    """The split with its validation clips in training, for models of which nothing is chosen."""
    return split.assign(subset=split["subset"].replace("validation", "train"))


def feature_reader(encoder: str | None = None, layers: str | list[int] = "middle") -> FeatureReader:
    """A function that reads features of a clip table: mean and deviation of an encoder's layers, or of MFCC.

    Args:
        encoder: as of `ser_lib.models.encoder_weights.locate`; None: MFCC.
        layers: as of `ser_lib.models.embeddings.embed`, or "middle": the layer at half the depth, which is not chosen
            by any score.

    Returns:
        a function of a clip table that returns float32 of shape (n_clips, n_layers, n_features), of MFCC
        (n_clips, n_features).
    """
    if encoder is None:
        settings = Input.model_validate({"pooling": "mean+std"}).feature_settings()
        return partial(acoustic_features.extract, audio_settings=AUDIO, feature_settings=settings, progress=False)
    from ser_lib.models.embeddings import embed

    chosen = [encoder_weights.locate(encoder).n_layers // 2] if layers == "middle" else layers
    wanted = {"encoder": encoder, "layers": chosen, "pooling": "mean+std", "audio": AUDIO}
    return partial(embed, settings=Input.model_validate(wanted), progress=False)


def load_available(
    names: Iterable[str], data_dir: str | Path | None = None, say: Callable[[str], None] = print
) -> pd.DataFrame:
    """One clip table of the corpora that are found, duplicates kept; `say` gets a line for each corpus that is not."""
    tables = []
    for name in names:
        try:
            clips = load_clips([name], data_dir, keep_duplicates=True, progress=False)
        except SerError as error:
            say(f"{name} is left out: {error}")
            continue
        tables.append(clips)
        for n_clips, expected in clips.attrs.get("shortfall", {}).values():
            say(f"{name} is incomplete, {n_clips} of {expected} clips: do not quote its scores")
    if not tables:
        raise SerError(f"none of the corpora {', '.join(names)} can be found.")
    return pd.concat(tables, ignore_index=True)


def flat_features(features: FeatureReader, clips: pd.DataFrame) -> np.ndarray:
    """Features of clips as float32 of shape (n_clips, n_features)."""
    return np.asarray(features(clips), dtype=np.float32).reshape(len(clips), -1)


def features_of_altered(
    clips: pd.DataFrame, features: FeatureReader, change: Callable[[str, np.ndarray], np.ndarray], audio_settings: dict
) -> np.ndarray:
    """Prepare and alter every clip, write it to a temporary folder as float WAV, and read its features.

    Args:
        change: function of a clip's id and waveform that returns the altered waveform; called by several threads.
        audio_settings: keyword arguments of `ser_lib.audio.reading.prepare`.

    Returns:
        float32, (n_clips, n_features).
    """
    sampling_rate = audio_settings.get("sampling_rate", 16000)

    def write(path: Path, clip_id: str, original: str) -> dict:
        waveform = change(clip_id, reading.prepare(original, **audio_settings))
        soundfile.write(path, waveform, sampling_rate, subtype="FLOAT")
        return {
            "path": str(path),
            "seconds": len(waveform) / sampling_rate,
            "sampling_rate": sampling_rate,
            "audio_hash": audio_hash(waveform[:, None], sampling_rate),
        }

    with tempfile.TemporaryDirectory(prefix="ser-altered-") as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        paths = [Path(folder) / f"{row}.wav" for row in range(len(clips))]
        about = list(pool.map(write, paths, clips["clip_id"], clips["path"]))
        return flat_features(features, clips.assign(**pd.DataFrame(about, index=clips.index)))
