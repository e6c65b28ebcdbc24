"""Leaks of test data into training: duplicate files, speakers, altered copies, and normalisation."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ser_lib.audio.features import standardise_by_speaker
from ser_lib.common.errors import SerError
from ser_lib.studies.leaks.conditions import (
    Condition,
    known_from_training,
    probed,
    random_splits,
    speaker_splits,
    table_of,
)


def duplicate_files(
    archive: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """An archive that holds every recording twice, split at random by file: most test files have a duplicate in training.

    Such are Kaggle's RAVDESS (2880 files of 1440 clips), in both `ravdess-wav2vec2-frozen-mlp` sources, and TESS (5600
    files of 2800), in the `tess-mfcc` source. Conditions: distinct clips at random (honest except that speakers are on
    both sides), all files at random (leaky), and its test files with and without a duplicate in training.

    Args:
        archive: clip table with duplicates (`load_clips(..., keep_duplicates=True)`, or `with_duplicates`).
        features: (n_files, n_features), in the order of the archive.

    Raises:
        SerError: no clip of the archive has a duplicate.
    """
    first = ~archive["audio_hash"].duplicated().to_numpy()
    if first.all():
        raise SerError(
            f"expected an archive with duplicates, got {len(archive)} distinct clips: load it with "
            "keep_duplicates=True, or add duplicates with leaks.with_duplicates(clips, features)"
        )
    clips = archive[first].reset_index(drop=True)
    honest = probed(clips, features[first], random_splits(clips, folds, seeds))
    splits = random_splits(archive, folds, seeds)
    predicted = probed(archive, features, splits)
    has_duplicate = np.concatenate([known_from_training(split, "audio_hash") for split in splits])
    original = clips.set_index("audio_hash")["clip_id"]
    hashes = archive["audio_hash"].iloc[predicted.predictions.index]
    predicted.predictions["clip_id"] = original[hashes].to_numpy()
    leaky = Condition("all files", True, predicted, against="distinct clips")
    conditions = [
        Condition("distinct clips", False, honest),
        leaky,
        leaky.part("files with a duplicate in training", has_duplicate, True),
        leaky.part("files without one", ~has_duplicate, False),
    ]
    return table_of("duplicate files", clips, conditions)


def with_duplicates(clips: pd.DataFrame, features: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """An archive with every clip twice, made of a corpus without duplicates, to show their effect."""
    duplicates = clips.assign(clip_id=clips["clip_id"] + "#2")
    return pd.concat([clips, duplicates], ignore_index=True), np.concatenate([features, features])


def same_speaker(
    clips: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """A random split of distinct clips: every test speaker is also a training speaker.

    All five projects that the recipes reproduce do this. Conditions: folds by speaker (honest) and at random (leaky),
    with equal numbers of training clips of each emotion in each fold.
    """
    honest = probed(clips, features, speaker_splits(clips, folds, seeds))
    leaky = probed(clips, features, random_splits(clips, folds, seeds))
    conditions = [Condition("by speaker", False, honest), Condition("at random", True, leaky, against="by speaker")]
    return table_of("same speaker", clips, conditions)


def copies_before_split(
    clips: pd.DataFrame,
    features: np.ndarray,
    copies: dict[str, np.ndarray],
    folds: int = 5,
    seeds: Sequence[int] = (0,),
) -> pd.DataFrame:
    """Augmentation before a random split: altered copies of test clips train the model.

    No recipe's source is known to do this; `ser_lib.protocols.leak_audit` looks for it, as "augmented copies".
    Conditions: clips split at random, with copies on the side of their original (honest in this respect); originals and
    copies split at random alike (leaky); and folds by speaker, which keep copies and original together in any case. All
    train on the same number of rows. All files are tested, as such sources do; a second row of each condition has the
    originals only.

    Args:
        copies: features of altered copies of all clips by the name of the change, as of `features_of_copies`.
    """
    names = ["", *(f"~{name}" for name in copies)]
    everything = pd.concat([clips.assign(clip_id=clips["clip_id"] + name) for name in names], ignore_index=True)
    inputs = np.concatenate([features, *copies.values()])
    splits = {
        "split, then copied": [
            pd.concat([split.assign(clip_id=split["clip_id"] + name) for name in names])
            for split in random_splits(clips, folds, seeds)
        ],
        "copied, then split": random_splits(everything, folds, seeds),
        "copied, then split by speaker": speaker_splits(everything, folds, seeds),
    }
    conditions = []
    for name, of_seeds in splits.items():
        predicted = probed(everything, inputs, of_seeds)
        row = predicted.predictions.index.to_numpy()
        predicted.predictions["clip_id"] = clips["clip_id"].to_numpy()[row % len(clips)]
        is_leaky = name == "copied, then split"
        honest = "split, then copied" if is_leaky else ""
        whole = Condition(name, is_leaky, predicted, honest)
        originals = whole.part(
            f"{name}: originals", row < len(clips), is_leaky, f"{honest}: originals" if honest else ""
        )
        conditions += [whole, originals]
    return table_of("copies before the split", clips, conditions)


def normalised_with_test(
    clips: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """Features standardised before the split, so that test clips contribute to mean and deviation.

    No recipe's source is known to take the mean of all clips; the protocol `speaker-adapted` takes that of each speaker,
    and says so. Conditions, under folds by speaker: mean and deviation of the training clips (honest), of all clips
    (leaky), and of each speaker's clips, unlabelled test clips included (marked leaky: transductive, as it needs several
    clips of a new speaker).
    """
    overall = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-8)
    by_speaker = standardise_by_speaker(features, clips["speaker"])
    splits = speaker_splits(clips, folds, seeds)
    name = "training clips' mean and deviation"
    conditions = [Condition(name, False, probed(clips, features, splits))]
    for title, inputs in {
        "all clips' mean and deviation": overall,
        "each speaker's own (transductive)": by_speaker,
    }.items():
        # The probe's standardising would undo any other.
        conditions.append(Condition(title, True, probed(clips, inputs, splits, standardise=False), against=name))
    return table_of("normalised with test clips", clips, conditions)
