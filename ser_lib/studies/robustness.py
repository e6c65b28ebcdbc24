"""What survives of a model outside its room: other corpora, and its own test clips in noise, in echo, or cut short.

    read = functools.partial(embed, encoder=..., audio=audio)          # or features.extract
    cross_corpus_matrix(clips, read(clips))
    under_conditions(clips, split, read, audio=audio)

Both are of the one small model of `ser_lib.studies.probe`, and nothing is chosen on what is tested.
"""

import hashlib
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache as memoised
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ser_lib.audio import augmentation, degradations
from ser_lib.audio import reading as audio_module
from ser_lib.audio.degradations import Condition, degrade
from ser_lib.common import cache
from ser_lib.common.errors import SerError
from ser_lib.common.files import source_hash
from ser_lib.common.hashing import hash_of
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation import metrics
from ser_lib.protocols.splits import make_split
from ser_lib.studies.leaks import altered
from ser_lib.studies.probe import probe, without_validation

logger = logging.getLogger(__name__)

EMOTIONS = ("neutral", "happy", "sad", "angry", "fear", "disgust")  # that acted corpora have in common
ALL_OTHERS = "all others"
CLEAN = "clean"
VOICES = 6  # of babble: a crowd in which one cannot follow any
CONDITIONS = (
    *(Condition(noise, level) for noise in ("white", "pink", "babble") for level in (20.0, 10.0, 5.0, 0.0)),
    Condition("reverberation", 0.3),  # a living room
    Condition("reverberation", 1.0),  # a hall
    Condition("telephone"),
    Condition("MP3", 32.0),
    Condition("MP3", 16.0),
    *(Condition("first", seconds) for seconds in (0.5, 1.0, 2.0)),
)


def cross_corpus_matrix(
    clips: pd.DataFrame,
    features: np.ndarray,
    *,
    emotions: Sequence[str] = EMOTIONS,
    folds: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Train on each corpus and test on each other; within a corpus on other speakers; and train on all the others.

    The regularisation is fixed, so that no speaker is spared for choosing it: of a corpus with two, such as TESS,
    validation would take one, and the model would have heard a single voice.

    Args:
        clips: clip table of two corpora or more.
        features: float32, one row a clip: (n_clips, n_features); more axes are laid flat.
        emotions: of these, each cell has those that its two sides share, and says which.
        folds: by speaker, within a corpus.

    Returns:
        one row a cell: train (a corpus, or `ALL_OTHERS`, from three corpora on), test, folds, emotions, chance (of the
        UAR), n_train (clips, of the first fold), and all that `metrics.score` gives. A cell that cannot be is left
        out with a logged line: with fewer than two emotions in common, or one speaker and only its own clips to test.

    Raises:
        SerError: fewer than two corpora, or features and clips are not of the same length.
    """
    corpora = list(dict.fromkeys(clips["corpus"]))
    if len(corpora) < 2:
        raise SerError(f"a cross-corpus matrix needs two corpora or more, got {', '.join(corpora)}.")
    if len(clips) != len(features):
        raise SerError(f"expected features of {len(clips)} clips, got those of {len(features)}.")
    features = features.reshape(len(clips), -1)
    held = clips[clips["emotion"].isin(emotions)].groupby("corpus")["emotion"].agg(set)
    cells = [(train, test) for train in corpora for test in corpora]
    if len(corpora) > 2:
        cells += [(ALL_OTHERS, test) for test in corpora]
    rows = []
    for train, test in tqdm(cells, desc="matrix", unit="cell", leave=False, delay=0.5, disable=not progress):
        trained = [name for name in corpora if name != test] if train == ALL_OTHERS else [train]
        shared = in_order(held.get(test, set()) & set().union(*(held.get(name, set()) for name in trained)))
        part = clips["corpus"].isin([*trained, test]) & clips["emotion"].isin(shared)
        if len(shared) < 2:
            logger.warning("%s to %s is left out: they share %d emotions", train, test, len(shared))
            continue
        if train == test and clips["speaker"][part].nunique() < 2:
            logger.warning("%s within itself is left out: it has one speaker", test)
            continue
        used = clips[part]
        if train == test:
            split = make_split(used, "speaker", seed, folds=folds)
        else:
            split = make_split(used, "cross-corpus", seed, test_corpora=[test])
        split = without_validation(split)
        predictions = probe(used, features[part.to_numpy()], split)
        rows.append(
            {
                "train": train,
                "test": test,
                "folds": split["fold"].nunique(),
                "emotions": " ".join(shared),
                "chance": metrics.chance_level(len(shared)),
                "n_train": int(((split["fold"] == 0) & (split["subset"] == "train")).sum()),
                **_score(used, predictions),
            }
        )
    return pd.DataFrame(rows)


def under_conditions(
    clips: pd.DataFrame,
    split: pd.DataFrame,
    features: Callable[[pd.DataFrame], np.ndarray],
    conditions: Iterable[Condition] = CONDITIONS,
    *,
    audio: dict,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Train on clean clips, and test on the same test clips under one condition after the other.

    One model a fold reads all of them; its regularisation is chosen on clean validation clips.

    Args:
        split: of these clips; no clip tested twice, as under every protocol.
        features: of a clip table, one row a clip, as `encoders.embed` and `features.extract` with their settings give.
        audio: the settings with which they read audio: see `degraded_features`.

    Returns:
        one row a condition, clean clips first: condition (its name), kind, value (in `degradations.KINDS`' unit),
        chance (of the UAR), and all that `metrics.score` gives.

    Raises:
        SerError: a condition cannot be, or a clip is tested twice.
    """
    conditions = [Condition(*condition) for condition in conditions]
    clean = _flat(features(clips))
    heard = {CLEAN: clean}
    bar = tqdm(conditions, desc="conditions", unit="condition", leave=False, delay=0.5, disable=not progress)
    for condition in bar:
        heard[condition.name] = degraded_features(
            clips, split, features, condition, audio=audio, seed=seed, clean=clean
        )
    answers = probe(clips, clean, split, heard)
    chance = metrics.chance_level(split["emotion"].nunique())
    return pd.DataFrame(
        {
            "condition": condition.name,
            "kind": condition.kind,
            "value": condition.value,
            "chance": chance,
            **_score(clips, answers[condition.name]),
        }
        for condition in [Condition(CLEAN), *conditions]
    )


def degraded_features(
    clips: pd.DataFrame,
    split: pd.DataFrame,
    features: Callable[[pd.DataFrame], np.ndarray],
    condition: Condition,
    *,
    audio: dict,
    seed: int = 0,
    clean: np.ndarray | None = None,
) -> np.ndarray:
    """Features of the test clips under a condition; NaN for clips that are not tested.

    A clip is first resampled and its silent ends are cut, as `audio` says, so that the level of noise is that under the
    voice, and the first second a second of voice. What comes of it is written to a temporary folder as float WAV, and
    read as any file is. Of one clip and kind of noise, the noise is the same at every level.

    Babble is made of `VOICES` clips of the training subset of the clip's fold, of different speakers as far as there
    are so many: never of a test or validation speaker. Which voices, a clip's id and the seed decide.

    It can be killed and started again: `features` finds in its own store the clips that it has done, since a degraded
    clip goes by the hash of its samples, and the finished array is stored as well.

    Args:
        audio: keyword arguments of `ser_lib.audio.reading.prepare`, of which sampling_rate and trim_below_db are used here.
        clean: `features(clips)`, where it is known.

    Returns:
        float32, (n_clips, n_features).

    Raises:
        SerError: the condition cannot be, or a clip is tested twice.
    """
    clean = _flat(features(clips)) if clean is None else clean
    given = {name: audio[name] for name in ("sampling_rate", "trim_below_db") if name in audio}
    tested = split[split["subset"] == "test"]
    if tested["clip_id"].duplicated().any():
        twice = tested["clip_id"][tested["clip_id"].duplicated()]
        raise SerError(
            f"{twice.nunique()} clips are tested in several folds, such as {twice.iloc[0]}, and would be degraded in "
            "one way for each: give a split that tests each clip once."
        )
    rows = np.flatnonzero(clips["clip_id"].isin(tested["clip_id"]))
    voices = babble_rows(clips, split, seed) if condition.kind == "babble" else {}
    # The features of the clean clips stand for the function that made them.
    told = clips[["clip_id", "audio_hash"]].iloc[rows].to_csv() + json.dumps(
        {clip_id: clips["audio_hash"].iloc[chosen].tolist() for clip_id, chosen in voices.items()}
    )
    key = hashlib.sha256(told.encode() + np.ascontiguousarray(clean[rows]).tobytes()).hexdigest()[:32]
    settings = {
        "condition": list(condition),
        "seed": seed,
        "audio": given,
        "code": source_hash(audio_module, augmentation, degradations, altered, sys.modules[__name__]),
    }
    found = cache.get("degraded", settings, key)
    if found is None:
        with tempfile.TemporaryDirectory(prefix="ser-degraded-") as folder:
            found = _flat(features(_degraded(clips, rows, voices, condition, given, seed, Path(folder))))
        cache.put("degraded", settings, key, found)
    array = np.full((len(clips), found.shape[1]), np.nan, dtype=np.float32)
    array[rows] = found
    return array


def babble_rows(clips: pd.DataFrame, split: pd.DataFrame, seed: int = 0) -> dict[str, np.ndarray]:
    """Whose voices a test clip's babble is made of: row numbers of `clips`, by its `clip_id`."""
    row_of = pd.Series(np.arange(len(clips)), index=clips["clip_id"])
    chosen = {}
    for _, fold in split.groupby("fold"):
        training = fold[fold["subset"] == "train"].sort_values("clip_id")
        rows, speakers = row_of[training["clip_id"]].to_numpy(), training["speaker"].factorize()[0]
        for clip_id in fold.loc[fold["subset"] == "test", "clip_id"]:
            order = np.random.default_rng(hash_of(seed, "voices", clip_id)).permutation(len(rows))
            # One clip of each speaker, then a second one of each.
            turn = pd.Series(speakers[order]).groupby(speakers[order]).cumcount()
            chosen[clip_id] = rows[order[np.argsort(turn, kind="stable")[:VOICES]]]
    return chosen


def _degraded(
    clips: pd.DataFrame,
    rows: np.ndarray,
    voices: dict[str, np.ndarray],
    condition: Condition,
    given: dict,
    seed: int,
    folder: Path,
) -> pd.DataFrame:
    """Write those rows' clips, degraded, into the folder: a clip table of them."""
    paths = clips["path"].to_numpy()

    @memoised  # a voice is in many clips' babble
    def voice(row: int) -> np.ndarray:
        return audio_module.prepare(paths[row], **given)

    def change(clip_id: str, waveform: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(hash_of(seed, condition.kind, clip_id))
        voices_around = [voice(other) for other in voices.get(clip_id, ())]
        return degrade(waveform, given.get("sampling_rate", 16000), condition, rng, voices_around)

    return altered.write_altered(clips.iloc[rows], change, given, folder)


def _flat(features: np.ndarray) -> np.ndarray:
    return np.asarray(features, dtype=np.float32).reshape(len(features), -1)


def _score(clips: pd.DataFrame, predictions: pd.DataFrame) -> dict:
    return metrics.score(predictions, clips["speaker"].iloc[predictions.index])
