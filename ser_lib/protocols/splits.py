"""Every protocol: who is trained on, who chooses, and who is tested.

    split = make_split(clips, "speaker", seed=0)
    train = split[(split.fold == 0) & (split.subset == "train")]

Chance comes from `ser_lib.common.hashing`: the same seed gives the same split on every platform, whatever the order of rows.
"""

import logging
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.common.files import replacing
from ser_lib.common.hashing import draw_clips, hash_of, shuffled, spread
from ser_lib.corpora.clips import check_clips
from ser_lib.corpora.labels import in_order

logger = logging.getLogger(__name__)

PROTOCOLS = {
    "published": "random clips as the source states, duplicate files kept: reproduces a claim, leak and all",
    "deduplicated": "the same random split after de-duplication: what the duplicates were worth",
    "speaker": "k folds, no speaker in both train and test, validation speakers disjoint from both",
    "speaker-sentence": "as speaker, and no sentence in both train and test",
    "leave-one-speaker-out": "one speaker at a time",
    "emobox": "EmoBox's folds for RAVDESS and SAVEE",
    "cross-corpus": "train on some corpora, test on another",
    "speaker-adapted": "as speaker, features standardised per speaker with unlabelled test clips (transductive)",
}
SUBSETS = ("train", "validation", "test")
VALIDATION_SHARE = 0.2  # of the speakers (or, with one speaker left, of the clips) that are not tested

# The actors tested in each fold of EmoBox (Ma et al. 2024, arXiv:2406.07162).
EMOBOX_RAVDESS = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))

_SAVED = [
    "fold",
    "subset",
    "clip_id",
    "corpus",
    "speaker",
    "sex",
    "emotion",
    "intensity",
    "sentence",
    "audio_hash",  # not in the folders of older runs
    "protocol",
    "seed",
]

Fold = dict[str, np.ndarray]  # subset -> row numbers in the clip table


def check_protocol(protocol: str) -> None:
    """Raise SerError where there is no such protocol; the message names the nearest."""
    if protocol not in PROTOCOLS:
        near = get_close_matches(str(protocol), PROTOCOLS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SerError(f"unknown protocol {protocol!r}: {hint}The protocols are {', '.join(PROTOCOLS)}.")


def make_split(
    clips: pd.DataFrame,
    protocol: str = "speaker",
    seed: int = 0,
    *,
    folds: int = 5,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.1,
    stratify: bool = True,
    select_on_test: bool = False,
    train_on_test: bool = False,
    test_corpora: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Split a clip table by one of `PROTOCOLS`.

    Args:
        folds: number of folds of the protocols by speaker, at most one per speaker.
        test_fraction, validation_fraction: of all clips, under `published` and `deduplicated`.
        stratify: keep the shares of the emotions, under `published` and `deduplicated`.
        select_on_test: validate on the test clips, as some sources do; under `published` and `deduplicated`.
        train_on_test: put the test clips into training too, as one source does; under the same two.
        test_corpora: the corpora tested under `cross-corpus`; without it each corpus in turn.

    Returns:
        The rows of `clips`, once for each fold and subset that they are in, with `fold` (from 0), `subset`
        (train, validation, test), `protocol` and `seed`.

    Raises:
        SerError: the protocol is unknown, an option does not belong to it, or these clips cannot give it.
    """
    check_protocol(protocol)
    at_random = protocol in ("published", "deduplicated")
    if (select_on_test or train_on_test) and not at_random:
        raise SerError(
            f"protocol {protocol!r} never chooses or trains on test clips: "
            "use select_on_test and train_on_test with 'published' or 'deduplicated' only"
        )
    if test_corpora is not None and protocol != "cross-corpus":
        raise SerError(f"test_corpora belongs to the protocol 'cross-corpus', not to {protocol!r}")
    check_clips(clips)
    clips = clips.sort_values("clip_id", ignore_index=True)

    if at_random:
        rows = np.arange(len(clips))
        if protocol == "deduplicated":
            rows = rows[~clips["audio_hash"].duplicated().to_numpy()]
            if len(rows) < len(clips):
                logger.warning("deduplicated: %d clips whose audio came before are left out", len(clips) - len(rows))
        made = [
            _random_fold(clips, rows, seed, test_fraction, validation_fraction, stratify, select_on_test, train_on_test)
        ]
    elif protocol in ("speaker", "speaker-adapted"):
        made = [_speaker_fold(clips, tested, seed) for tested in _deal_speakers(clips, folds, seed)]
    elif protocol == "speaker-sentence":
        halves = _halve_sentences(clips, seed)
        made = [
            _speaker_fold(clips, tested, seed, test_rows=half, train_rows=~half)
            for tested in _deal_speakers(clips, folds, seed)
            for half in (halves, ~halves)
        ]
    elif protocol == "leave-one-speaker-out":
        made = [_speaker_fold(clips, [speaker], seed) for speaker in _speakers(clips)]
    elif protocol == "emobox":
        made = [_speaker_fold(clips, tested, seed) for tested in _emobox_speakers(clips)]
    else:
        made = _cross_corpus_folds(clips, test_corpora, seed)
    return _assemble(clips, made, protocol, seed)


def save_split(split: pd.DataFrame, path: str | Path) -> None:
    """Write a split as CSV: fold, subset, clip_id, what is known of the clip, protocol, seed."""
    with replacing(Path(path)) as part:
        split[_SAVED].to_csv(part, index=False)


def load_split(path: str | Path, clips: pd.DataFrame | None = None) -> pd.DataFrame:
    """Read a split that `save_split` wrote; with `clips`, give the very table that `make_split` gave.

    Those of older runs have no `audio_hash`.

    Raises:
        SerError: there is no such file, it is not a split, or it names clips that `clips` does not hold.
    """
    path = Path(path)
    if not path.is_file():
        raise SerError(f"no split at {path}: write one with save_split(make_split(clips), path)")
    try:
        saved = pd.read_csv(path, dtype=str, keep_default_na=False).astype({"fold": int, "seed": int})
        saved = saved[[name for name in _SAVED if name in saved or name != "audio_hash"]]
    except (KeyError, ValueError) as error:
        raise SerError(f"{path} is not a split: expected CSV with the columns {', '.join(_SAVED)}") from error
    if clips is None:
        return saved
    position = pd.Index(clips["clip_id"]).get_indexer(saved["clip_id"])
    unknown = saved.loc[position < 0, "clip_id"].unique()
    if len(unknown):
        raise SerError(
            f"{len(unknown)} clips of {path} are not in the clip table, the first is {unknown[0]}: "
            "load the same corpora as when the split was made (keep_duplicates too), or make a new split"
        )
    rows = clips.iloc[position].reset_index(drop=True)
    return rows.assign(**{name: saved[name] for name in ("fold", "subset", "protocol", "seed")})


def _assemble(clips: pd.DataFrame, made: list[Fold], protocol: str, seed: int) -> pd.DataFrame:
    parts = []
    for number, fold in enumerate(made):
        for subset in ("train", "test"):
            if not len(fold[subset]):
                raise SerError(f"{protocol}: fold {number} has no {subset} clips; add speakers or use fewer folds")
        emotions = {subset: set(clips["emotion"].iloc[fold[subset]]) for subset in SUBSETS}
        for emotion in in_order(emotions["test"] - emotions["train"]):
            logger.warning("%s: fold %d tests %r, which its training never sees", protocol, number, emotion)
        for subset in SUBSETS:
            rows = np.sort(fold[subset])
            parts.append(pd.DataFrame({"row": rows, "fold": number, "subset": subset}))
    where = pd.concat(parts, ignore_index=True)
    split = clips.iloc[where.pop("row").to_numpy()].reset_index(drop=True)
    return split.assign(fold=where["fold"], subset=where["subset"], protocol=protocol, seed=seed)


def _random_fold(
    clips, rows, seed, test_fraction, validation_fraction, stratify, select_on_test, train_on_test
) -> Fold:
    if select_on_test:
        validation_fraction = 0.0
    if not (0 < test_fraction < 1 and 0 <= validation_fraction < 1 and test_fraction + validation_fraction < 1):
        raise SerError(
            "test_fraction must lie between 0 and 1, and leave room for training beside validation_fraction; "
            f"got test_fraction={test_fraction}, validation_fraction={validation_fraction}"
        )
    test = draw_clips(clips, rows, max(1, round(test_fraction * len(rows))), stratify, seed, "test")
    rest = np.setdiff1d(rows, test)
    n_validation = max(1, round(validation_fraction * len(rows))) if validation_fraction else 0
    validation = draw_clips(clips, rest, n_validation, stratify, seed, "validation")
    train = np.setdiff1d(rest, validation)
    emotions = clips["emotion"]
    for part in (train, validation, test):
        lacking = set(emotions.iloc[rows]) - set(emotions.iloc[part])
        if stratify and len(part) and lacking:
            emotion = in_order(lacking)[0]
            raise SerError(
                f"{emotion!r} has {(emotions.iloc[rows] == emotion).sum()} clips, too few for one in each subset "
                f"at test_fraction={test_fraction}, validation_fraction={validation_fraction}: "
                "leave the emotion out (select_emotions), or set stratify=False"
            )
    return {
        "train": np.union1d(train, test) if train_on_test else train,
        "validation": test if select_on_test else validation,
        "test": test,
    }


def _speakers(clips: pd.DataFrame) -> list[str]:
    speakers = sorted(clips["speaker"].unique())
    if len(speakers) < 2:
        raise SerError(
            f"a split by speaker needs at least 2 speakers, got {len(speakers)} ({', '.join(speakers)}): "
            "add a corpus, or recordings of other people (whose they are, a CSV says in its column speaker); or use the "
            "protocol 'deduplicated' and know what it leaks"
        )
    return speakers


def _deal_speakers(clips: pd.DataFrame, folds: int, seed: int) -> list[list[str]]:
    """Deal the speakers to folds, so that each fold has its share of every corpus and sex."""
    if folds < 2:
        raise SerError(f"folds must be at least 2, got {folds}")
    k = min(folds, len(_speakers(clips)))
    dealt = _balanced(clips, seed, "folds")
    return [dealt[fold::k] for fold in range(k)]


def _balanced(clips: pd.DataFrame, *key) -> list[str]:
    """The speakers in random order within each corpus and sex, one group after the other."""
    groups = clips.drop_duplicates("speaker").groupby(["corpus", "sex"], sort=True, dropna=False)["speaker"]
    return [speaker for _, speakers in groups for speaker in shuffled(speakers, *key)]


def _speaker_fold(clips, tested: list[str], seed: int, test_rows=True, train_rows=True) -> Fold:
    is_tested = clips["speaker"].isin(tested)
    test = np.flatnonzero(is_tested & test_rows)
    train, validation = _hold_out(clips, np.flatnonzero(~is_tested & train_rows), (seed, *sorted(tested)))
    return {"train": train, "validation": validation, "test": test}


def _hold_out(clips: pd.DataFrame, rows: np.ndarray, key: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Part `rows` into training and validation: by speaker, or within the speaker where there is only one."""
    part = clips.iloc[rows]
    speakers = _balanced(part, *key, "validation")
    if len(speakers) > 1:
        n_picked = max(1, round(VALIDATION_SHARE * len(speakers)))
        picked = spread(len(speakers), n_picked, offset=hash_of(*key, "offset"))
        held_out = part["speaker"].isin(np.array(speakers, dtype=object)[picked]).to_numpy()
        return rows[~held_out], rows[held_out]
    if not speakers:
        return rows, rows
    logger.warning(
        "only %s is left to train on: validation is a share of the same speaker's clips, "
        "and flatters the choices made on it",
        speakers[0],
    )
    sentences = shuffled(part["sentence"].dropna().unique(), *key, "validation")
    held_out = part["sentence"].isin(sentences[: max(1, round(VALIDATION_SHARE * len(sentences)))]).to_numpy()
    # Sentences that carry one emotion only would take it out of training or out of validation.
    if set(part["emotion"][held_out]) == set(part["emotion"][~held_out]):
        return rows[~held_out], rows[held_out]
    many = part["emotion"].map(part["emotion"].value_counts()).to_numpy() > 1
    n_picked = min(max(1, round(VALIDATION_SHARE * len(rows))), many.sum())
    validation = draw_clips(clips, rows[many], n_picked, True, *key, "validation")
    return np.setdiff1d(rows, validation), validation


def _halve_sentences(clips: pd.DataFrame, seed: int) -> pd.Series:
    """True for the clips whose sentence is in the first half of its corpus's sentences."""
    half = pd.Series(False, index=clips.index)
    for corpus, part in clips.groupby("corpus"):
        # Not keyed by corpus: where two corpora share their sentences, they share the halves.
        sentences = shuffled(part["sentence"].dropna().unique(), seed, "sentences")
        if len(sentences) < 2 or part["sentence"].isna().any():
            raise SerError(
                f"{corpus} has {len(sentences)} known sentences, and {part['sentence'].isna().sum()} clips "
                "without one: 'speaker-sentence' needs at least 2 in each corpus, and each clip's; "
                "use the protocol 'speaker'"
            )
        half |= (clips["corpus"] == corpus) & clips["sentence"].isin(sentences[: (len(sentences) + 1) // 2])
    return half


def _emobox_speakers(clips: pd.DataFrame) -> list[list[str]]:
    corpora = sorted(clips["corpus"].unique())
    if corpora == ["savee"]:
        return [[speaker] for speaker in _speakers(clips)]
    if corpora != ["ravdess"]:
        raise SerError(
            f"'emobox' is defined here for ravdess alone or savee alone, got {', '.join(corpora)}: EmoBox's folds "
            "of CREMA-D and TESS share speakers between train and test, and it has none for corpora joined or "
            "not its own; use the protocol 'speaker'"
        )
    present = set(_speakers(clips))
    named = [[f"ravdess-{actor:02d}" for actor in actors] for actors in EMOBOX_RAVDESS]
    absent = sorted({speaker for tested in named for speaker in tested} - present)
    if absent:
        logger.warning("emobox: %s are absent, so the scores do not compare with EmoBox's", ", ".join(absent))
    return [tested for tested in named if present & set(tested)]


def _cross_corpus_folds(clips: pd.DataFrame, test_corpora: Sequence[str] | None, seed: int) -> list[Fold]:
    corpora = sorted(clips["corpus"].unique())
    test_corpora = [test_corpora] if isinstance(test_corpora, str) else test_corpora
    tested = [[corpus] for corpus in corpora] if test_corpora is None else [list(test_corpora)]
    wanted = {corpus for group in tested for corpus in group}
    if len(corpora) < 2 or not wanted or wanted - set(corpora) or (test_corpora and wanted == set(corpora)):
        raise SerError(
            "'cross-corpus' trains on some corpora and tests on others: the clips are of "
            f"{', '.join(corpora)}, test_corpora is {test_corpora}; load another corpus, or name some, not all, "
            "of those loaded"
        )
    made = []
    for number, group in enumerate(tested):
        is_test = clips["corpus"].isin(group)
        common = set(clips["emotion"][is_test]) & set(clips["emotion"][~is_test])
        if not common:
            raise SerError(f"no emotion of {', '.join(group)} is in the other corpora: nothing can be tested")
        kept = clips["emotion"].isin(common)
        if not kept.all():
            counts = clips["emotion"][~kept].value_counts()
            logger.warning(
                "cross-corpus: fold %d (%s) leaves out %d clips of emotions that train and test do not share: %s",
                number,
                ", ".join(group),
                counts.sum(),
                ", ".join(f"{counts[emotion]} {emotion}" for emotion in in_order(counts.index)),
            )
        train, validation = _hold_out(clips, np.flatnonzero(~is_test & kept), (seed, *sorted(group)))
        made.append({"train": train, "validation": validation, "test": np.flatnonzero(is_test & kept)})
    return made
