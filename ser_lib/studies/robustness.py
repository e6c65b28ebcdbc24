"""Scores on other corpora, and on test clips in noise, in reverberation, by telephone, or cut short.

    read = feature_reader()                                            # of ser_lib.studies.probe
    cross_corpus_matrix(clips, read(clips))
    under_conditions(clips, split, read, audio=AUDIO)

The model is the probe of `ser_lib.studies.probe`. Nothing is chosen on test clips.
"""

import hashlib
import logging
import sys
from collections.abc import Iterable
from functools import cache as memoised

import numpy as np
import pandas as pd
from tqdm import tqdm

from ser_lib.audio import augmentation, decoding, degradations, reading
from ser_lib.audio.degradations import Condition, degrade
from ser_lib.common import cache
from ser_lib.common.errors import SerError
from ser_lib.common.files import source_hash
from ser_lib.common.hashing import hash_of
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation import metrics
from ser_lib.protocols.splits import make_split
from ser_lib.studies import probe as probe_module
from ser_lib.studies.probe import FeatureReader, features_of_altered, flat_features, probe, probe_on, without_validation

logger = logging.getLogger(__name__)

EMOTIONS = ("neutral", "happy", "sad", "angry", "fear", "disgust")  # that acted corpora have in common
ALL_OTHERS = "all others"
VOICES = 6  # of babble: too many to understand one of them
CONDITIONS = (
    *(Condition(noise, level) for noise in ("white", "pink", "babble") for level in (20.0, 10.0, 5.0, 0.0)),
    Condition("reverberation", 0.3),  # a living room
    Condition("reverberation", 1.0),  # a hall
    Condition("telephone"),
    Condition("MP3", 32.0),
    Condition("MP3", 16.0),
    *(Condition("first", seconds) for seconds in (0.5, 1.0, 2.0)),
)


def cross_corpus_matrix(clips: pd.DataFrame, features: np.ndarray, *, folds: int = 5) -> pd.DataFrame:
    """Train on each corpus and test on each other, within a corpus on other speakers; and train on all others.

    The regularisation is fixed, so that all speakers train. Validation would take one of the two speakers of TESS, and
    leave a single voice.

    Args:
        features: float32, (n_clips, ...); further axes are flattened.
        folds: by speaker, within a corpus.

    Returns:
        one row a cell: train (a corpus, or `ALL_OTHERS` where there are three or more), test, folds, emotions (those of
        `EMOTIONS` that both sides have), chance (of the UAR), n_train (clips, of the first fold), and the values of
        `metrics.score`. A cell is left out with a warning where the corpora share fewer than two emotions, or where a
        corpus of one speaker would test itself.
    """
    corpora = list(dict.fromkeys(clips["corpus"]))
    if len(corpora) < 2:
        raise SerError(f"a cross-corpus matrix needs two corpora or more, got {', '.join(corpora)}.")
    if len(clips) != len(features):
        raise SerError(f"expected features of {len(clips)} clips, got those of {len(features)}.")
    features = features.reshape(len(clips), -1)
    cells = [(train, test, [train]) for train in corpora for test in corpora]
    if len(corpora) > 2:
        cells += [(ALL_OTHERS, test, [name for name in corpora if name != test]) for test in corpora]
    rows = []
    for train, test, trained in tqdm(cells, desc="matrix", unit="cell", leave=False, delay=0.5):
        sides = [clips.loc[clips["corpus"].isin(names), "emotion"] for names in (trained, [test])]
        shared = in_order(set(EMOTIONS).intersection(*sides))
        part = clips["corpus"].isin([*trained, test]) & clips["emotion"].isin(shared)
        used = clips[part]
        if len(shared) < 2:
            logger.warning("%s to %s is left out: they share %d emotions", train, test, len(shared))
            continue
        if train == test and used["speaker"].nunique() < 2:
            logger.warning("%s within itself is left out: it has one speaker", test)
            continue
        if train == test:
            split = make_split(used, "speaker", 0, folds=folds)
        else:
            split = make_split(used, "cross-corpus", 0, test_corpora=[test])
        split = without_validation(split)
        row = {
            "train": train,
            "test": test,
            "folds": split["fold"].nunique(),
            "emotions": " ".join(shared),
            "n_train": int(((split["fold"] == 0) & (split["subset"] == "train")).sum()),
        }
        rows.append(row | _score(used, probe(used, features[part.to_numpy()], split)))
    return pd.DataFrame(rows)


def under_conditions(
    clips: pd.DataFrame,
    split: pd.DataFrame,
    features: FeatureReader,
    conditions: Iterable[Condition] = CONDITIONS,
    *,
    audio: dict,
) -> pd.DataFrame:
    """Train and choose the regularisation on clean clips, and test under one condition after another.

    Args:
        split: of these clips, with each clip tested once.
        features: as of `probe.feature_reader`.
        audio: the settings with which it reads audio: see `degraded_features`.

    Returns:
        one row a condition, clean clips first: condition (its name), kind, value (in the unit of `degradations.KINDS`),
        chance (of the UAR), and the values of `metrics.score`.
    """
    conditions = [Condition(*condition) for condition in conditions]
    clean = flat_features(features, clips)
    versions = {"clean": clean}
    bar = tqdm(conditions, desc="conditions", unit="condition", leave=False, delay=0.5)
    for condition in bar:
        versions[condition.name] = degraded_features(clips, split, features, clean, condition, audio)
    predictions = probe_on(clips, clean, split, versions)
    rows = []
    for condition in [Condition("clean"), *conditions]:
        row = {"condition": condition.name, **condition._asdict()}
        rows.append(row | _score(clips, predictions[condition.name]))
    return pd.DataFrame(rows)


def degraded_features(
    clips: pd.DataFrame,
    split: pd.DataFrame,
    features: FeatureReader,
    clean: np.ndarray,
    condition: Condition,
    audio: dict,
) -> np.ndarray:
    """Features of the test clips under a condition; NaN for clips that are not tested.

    A clip is first resampled and its silent ends are cut, as `audio` states: the level of noise is relative to the
    voice, and the first second is a second of voice. The noise of a clip is the same at every level. Babble is made of
    `VOICES` training clips of the clip's fold, of different speakers where there are as many. Results are cached; after
    an interruption `features` finds its cached clips again, as a degraded clip has the hash of its samples.

    Args:
        clean: features of the clips, (n_clips, n_features).
        audio: keyword arguments of `ser_lib.audio.reading.prepare`, of which sampling_rate and trim_below_db are used.

    Returns:
        float32, (n_clips, n_features).
    """
    audio = {name: audio[name] for name in ("sampling_rate", "trim_below_db") if name in audio}
    tested = split.loc[split["subset"] == "test", "clip_id"]
    repeated = tested[tested.duplicated()]
    if len(repeated):
        raise SerError(
            f"{repeated.nunique()} clips are tested in several folds, such as {repeated.iloc[0]}, and have one degraded "
            "version: give a split that tests each clip once."
        )
    rows = np.flatnonzero(clips["clip_id"].isin(tested))
    paths, hashes = clips["path"].to_numpy(), clips["audio_hash"].to_numpy()
    voices = babble_rows(clips, split) if condition.kind == "babble" else {}
    about = clips[["clip_id", "audio_hash"]].iloc[rows]
    about = about.assign(voices=[" ".join(hashes[voices.get(clip_id, [])]) for clip_id in about["clip_id"]])
    # The features of the clean clips identify the function that made them.
    identity = about.to_csv().encode() + np.ascontiguousarray(clean[rows]).tobytes()
    key = hashlib.sha256(identity).hexdigest()[:32]
    code = source_hash(decoding, reading, augmentation, degradations, probe_module, sys.modules[__name__])
    settings = {"condition": list(condition), "audio": audio, "code": code}
    degraded = cache.get("degraded", settings, key)
    if degraded is None:

        @memoised  # a voice is in the babble of many clips
        def voice(row: int) -> np.ndarray:
            return reading.prepare(paths[row], **audio)

        def change(clip_id: str, waveform: np.ndarray) -> np.ndarray:
            rng = np.random.default_rng(hash_of(0, condition.kind, clip_id))
            other_voices = [voice(row) for row in voices.get(clip_id, ())]
            return degrade(waveform, audio.get("sampling_rate", 16000), condition, rng, other_voices)

        degraded = features_of_altered(clips.iloc[rows], features, change, audio)
        cache.put("degraded", settings, key, degraded)
    array = np.full((len(clips), degraded.shape[1]), np.nan, dtype=np.float32)
    array[rows] = degraded
    return array


def babble_rows(clips: pd.DataFrame, split: pd.DataFrame) -> dict[str, np.ndarray]:
    """Row numbers of the clips that make the babble of each test clip, by its `clip_id`."""
    row_of = pd.Series(np.arange(len(clips)), index=clips["clip_id"])
    chosen = {}
    for _, fold in split.groupby("fold"):
        training = fold[fold["subset"] == "train"].sort_values("clip_id")
        rows, speakers = row_of[training["clip_id"]].to_numpy(), training["speaker"].factorize()[0]
        for clip_id in fold.loc[fold["subset"] == "test", "clip_id"]:
            order = np.random.default_rng(hash_of(0, "voices", clip_id)).permutation(len(rows))
            # One clip of each speaker, then a second one of each.
            turn = pd.Series(speakers[order]).groupby(speakers[order]).cumcount()
            chosen[clip_id] = rows[order[np.argsort(turn, kind="stable")[:VOICES]]]
    return chosen


def _score(clips: pd.DataFrame, predictions: pd.DataFrame) -> dict:
    about = clips.iloc[predictions.index]
    return metrics.score(predictions, about["speaker"], about["corpus"])
