"""Mechanisms by which training knows the test clips: twins, speakers, altered copies, statistics."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ser_lib.audio.features import standardise_by_speaker
from ser_lib.common.errors import SerError
from ser_lib.studies.leaks.folds import known_from_training, probed, random_split, speaker_split
from ser_lib.studies.leaks.tables import Condition, table_of


def twins(archive: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)) -> pd.DataFrame:
    """An archive that holds every recording twice, split at random by file: most test files have a twin in training.

    RAVDESS as Kaggle has it (2880 files of 1440 clips), in both `ravdess-wav2vec2-frozen-mlp` sources; TESS with 5600
    files of 2800 in the `tess-mfcc` source. Conditions: distinct clips at random (honest in this one respect: speakers
    are on both sides), all files at random (leaky), and of its test files those with and without a twin in training.

    Args:
        archive: clip table with its copies (`load_clips(..., keep_duplicates=True)`, or `doubled`).
        features: (n_files, n_features), aligned.

    Raises:
        SerError: no clip of the archive has a twin.
    """
    first = ~archive["audio_hash"].duplicated().to_numpy()
    if first.all():
        raise SerError(
            f"expected an archive with copies, got {len(archive)} distinct clips: load it with keep_duplicates=True, "
            "or make one up with mechanisms.doubled(clips, features)"
        )
    clips = archive[first].reset_index(drop=True)
    honest = probed(clips, features[first], [random_split(clips, folds, seed) for seed in seeds])
    splits = [random_split(archive, folds, seed) for seed in seeds]
    answers, n_train = probed(archive, features, splits)
    has_twin = np.concatenate([known_from_training(split, "audio_hash") for split in splits])
    original = clips.set_index("audio_hash")["clip_id"]
    answers["clip_id"] = original[archive["audio_hash"].iloc[answers.index]].to_numpy()
    leaky = Condition("all files", True, answers, n_train, against="distinct clips")
    return table_of(
        "twins",
        clips,
        [
            Condition("distinct clips", False, *honest),
            leaky,
            leaky.part("files with a twin in training", has_twin, True),
            leaky.part("files without one", ~has_twin, False),
        ],
    )


def doubled(clips: pd.DataFrame, features: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Make up an archive with every clip twice, out of a corpus that has no copies, to show what they would do."""
    copies = clips.assign(clip_id=clips["clip_id"] + "#2")
    return pd.concat([clips, copies], ignore_index=True), np.concatenate([features, features])


def same_speaker(
    clips: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """A random split of distinct clips: every test speaker's voice is known from training.

    All five projects that the recipes reproduce do it. Conditions: folds by speaker (honest) and at random (leaky),
    with exactly as many training clips of each emotion in each fold.

    Args:
        clips, features: clip table without copies, and (n_clips, n_features) aligned to it.
    """
    honest = probed(clips, features, [speaker_split(clips, folds, seed) for seed in seeds])
    leaky = probed(clips, features, [random_split(clips, folds, seed) for seed in seeds])
    return table_of(
        "same speaker",
        clips,
        [Condition("by speaker", False, *honest), Condition("at random", True, *leaky, against="by speaker")],
    )


def copies_before_split(
    clips: pd.DataFrame,
    features: np.ndarray,
    copies: dict[str, np.ndarray],
    folds: int = 5,
    seeds: Sequence[int] = (0,),
) -> pd.DataFrame:
    """Clips multiplied by augmentation and only then split at random: a test clip's altered copies train the model.

    No recipe's source is known to do it; `ser_lib.protocols.leak_audit` looks for it, as "augmented copies". Conditions: clips split
    at random, copies on the side of their original (honest in this one respect); originals and copies split at random
    alike (leaky); and folds by speaker, where copies stay with their original however it is done, and cannot leak. All
    train on the same number of rows. All files are tested, as such sources do; of each condition the originals, whose
    sound is as recorded, have a row of their own.

    Args:
        clips, features: clip table without copies, and (n_clips, n_features).
        copies: name of the change -> features of all clips so changed, aligned to them; see `features_of_copies`.
    """
    names = ["", *(f"~{name}" for name in copies)]
    everything = pd.concat([clips.assign(clip_id=clips["clip_id"] + name) for name in names], ignore_index=True)
    inputs = np.concatenate([features, *copies.values()])

    def with_copies(split):
        return pd.concat([split.assign(clip_id=split["clip_id"] + name) for name in names])

    splits = {
        "split, then copied": [with_copies(random_split(clips, folds, seed)) for seed in seeds],
        "copied, then split": [random_split(everything, folds, seed) for seed in seeds],
        "copied, then split by speaker": [speaker_split(everything, folds, seed) for seed in seeds],
    }
    against = {"copied, then split": "split, then copied"}
    conditions = []
    for name, made in splits.items():
        answers, n_train = probed(everything, inputs, made)
        row = answers.index.to_numpy()
        answers["clip_id"] = clips["clip_id"].to_numpy()[row % len(clips)]
        leaky, honest = name in against, against.get(name, "")
        whole = Condition(name, leaky, answers, n_train, honest)
        part = whole.part(f"{name}: originals", row < len(clips), leaky, f"{honest}: originals" if honest else "")
        conditions += [whole, part]
    return table_of("copies before the split", clips, conditions)


def normalised_with_test(
    clips: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """Features standardised before the split, with the test clips' share in mean and deviation.

    No recipe's source is known to do the first; the protocol `speaker-adapted` does the second, and says so.
    Conditions, under folds by speaker: mean and deviation of the training clips (honest), of all clips (leaky), and of
    each speaker's own clips, the test speakers' unlabelled ones included (transductive: not to be had for one clip of
    a new voice, hence marked leaky).

    Args:
        features: (n_clips, n_features).
    """
    by_speaker = standardise_by_speaker(features, clips["speaker"])
    overall = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-8)

    splits = [speaker_split(clips, folds, seed) for seed in seeds]
    # The probe's own standardising would undo any other.
    every, own = (probed(clips, inputs, splits, standardise=False) for inputs in (overall, by_speaker))
    name = "training clips' mean and deviation"
    return table_of(
        "normalised with test clips",
        clips,
        [
            Condition(name, False, *probed(clips, features, splits)),
            Condition("all clips' mean and deviation", True, *every, against=name),
            Condition("each speaker's own (transductive)", True, *own, against=name),
        ],
    )
