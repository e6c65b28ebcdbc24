"""Protocols: rules that say which clips a model trains on, is chosen on (validation) and is tested on.

    split = make_split(clips, "speaker", seed=0)
    train = split[(split.fold == 0) & (split.subset == "train")]

A protocol is a function that returns its folds, under one line that adds it to `PROTOCOLS`. Random choices come from
`common.hashing`: the same seed gives the same split on every platform, in whatever order the rows are.
"""

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError, did_you_mean
from ser_lib.common.files import write_csv
from ser_lib.common.hashing import draw_clips, hash_of, shuffled, spread
from ser_lib.corpora.clips import COLUMNS, check_clips
from ser_lib.corpora.labels import in_order

logger = logging.getLogger(__name__)

SUBSETS = ("train", "validation", "test")
# The fourth subset: unlabelled clips of the test speakers, which a model reads before it answers.
ENROLMENT = "enrolment"
MANY_ROWS = 1_000_000  # of a split: from here on, each text is stored once, and rows hold its number
VALIDATION_SHARE = 0.2  # of the speakers (or, with one speaker left, of the clips) that are not tested

# The actors tested in each fold of EmoBox (Ma et al. 2024, arXiv:2406.07162), which states no validation speakers.
EMOBOX_RAVDESS = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))

_PUBLISHED = "random clips as the source states, duplicate files kept: reproduces a claim with its leaks"
_DEDUPLICATED = "the same random split after de-duplication: files that an archive holds twice are used once"
_ENROLLED = "as speaker; first, each test speaker gives 8 unlabelled clips (split.enrol_clips), which are not tested"
_ADAPTED = "as speaker, features standardised per speaker with unlabelled test clips (transductive)"
_FROM_FILES = {"path", "seconds", "sampling_rate"}
_SAVED = ["fold", "subset", *(name for name in COLUMNS if name not in _FROM_FILES), "protocol", "seed"]

Fold = dict[str, np.ndarray]  # subset -> row numbers in the clip table
Split = Callable[..., list[Fold]]


@dataclass(frozen=True)
class Protocol:
    """One way to split a clip table.

    `split(clips, seed, ...)` returns the folds. It receives clips sorted by `clip_id`, with row numbers from 0, and of
    the settings of `make_split` those that its signature names.
    """

    name: str
    about: str  # one line for tables, model cards and reports
    split: Split
    is_random: bool = False  # clips are drawn at random, so the speakers tested are in training too
    is_transductive: bool = False  # features are standardised for each speaker, which uses unlabelled test clips
    repeats_source: bool = False  # keeps the duplicates that the source kept, and uses test clips as the source did

    def takes(self, setting: str) -> bool:
        """Whether `split` has a parameter of that name."""
        return setting in inspect.signature(self.split).parameters


PROTOCOLS: dict[str, Protocol] = {}


def protocol(name: str, about: str, **properties: bool) -> Callable[[Split], Split]:
    """Add the decorated function, and `properties`, to `PROTOCOLS` as a `Protocol`."""

    def add(split: Split) -> Split:
        PROTOCOLS[name] = Protocol(name, about, split, **properties)
        return split

    return add


def get_protocol(name: str) -> Protocol:
    """Return the protocol of that name; SerError with the nearest name if there is none.

    >>> get_protocol("speaker-adapted").is_transductive
    True
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    nearest = did_you_mean(name, PROTOCOLS)
    raise SerError(f"unknown protocol {name!r}: {nearest}The protocols are {', '.join(PROTOCOLS)}.")


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
    enrol_clips: int | None = None,
) -> pd.DataFrame:
    """Split a clip table by one of `PROTOCOLS`; SerError where there is no such one or setting, or it cannot split it.

    Args:
        folds: number of folds, at most one for each speaker (`speaker`, `speaker-sentence`, `speaker-adapted`).
        test_fraction, validation_fraction: shares of all clips (`published` and `deduplicated`, like the next three).
        stratify: keep the share of each emotion in every subset.
        select_on_test: use the test clips for validation, as some sources do.
        train_on_test: put the test clips into training too, as one source does.
        test_corpora: the corpora to be tested (`cross-corpus`); None tests each corpus in turn.
        enrol_clips: clips that each test speaker gives first, at most half of that speaker's (`enrolled`, where None is
            8, and `cross-corpus`, where None is 0).

    Returns:
        The rows of `clips`, once for each fold and subset that they are in, with `fold` (from 0), `subset`
        (train, validation, test, and enrolment where there are such clips), `protocol` and `seed`. Columns of text are
        categories where there are very many rows, as with one fold for each of hundreds of speakers.
    """
    chosen = get_protocol(protocol)
    special_settings: dict[str, object] = {"select_on_test": select_on_test, "train_on_test": train_on_test}
    special_settings |= {"test_corpora": test_corpora, "enrol_clips": enrol_clips}
    # A recipe states the sizes for all protocols; the other settings are refused where they would have no effect.
    for name, value in special_settings.items():
        if value not in (None, False) and not chosen.takes(name):
            others = ", ".join(other.name for other in PROTOCOLS.values() if other.takes(name))
            raise SerError(f"protocol {protocol!r} has no setting {name}: leave it out, or use {others}.")
    if enrol_clips is not None and enrol_clips < 0:
        raise SerError(f"enrol_clips is a number of clips, 0 or more; got {enrol_clips}")
    sizes = {"folds": folds, "test_fraction": test_fraction, "validation_fraction": validation_fraction}
    settings = {**sizes, "stratify": stratify, **special_settings}
    check_clips(clips)
    clips = clips.sort_values("clip_id", ignore_index=True)
    made = chosen.split(clips, seed, **{name: value for name, value in settings.items() if chosen.takes(name)})
    emotions, numbers_of = np.unique(clips["emotion"].to_numpy(dtype=object).astype(str), return_inverse=True)
    for number, fold in enumerate(made):
        for empty in ("train", "test"):
            if not len(fold[empty]):
                raise SerError(f"{protocol}: fold {number} has no {empty} clips; add speakers or use fewer folds")
        for emotion in in_order(emotions[np.setdiff1d(numbers_of[fold["test"]], numbers_of[fold["train"]])]):
            logger.warning("%s: fold %d tests %r, which is not in its training set", protocol, number, emotion)
    subsets_used = [*SUBSETS, ENROLMENT] if any(ENROLMENT in fold for fold in made) else [*SUBSETS]
    n_rows = [len(fold.get(subset, ())) for fold in made for subset in subsets_used]
    if sum(n_rows) > MANY_ROWS:
        numbers = dict.fromkeys(clips.select_dtypes("integer").columns, "int32")
        clips = clips.astype(dict.fromkeys(clips.select_dtypes(exclude="number").columns, "category") | numbers)
    # One selection of all rows, since a table of all folds may be large.
    nothing = np.array([], dtype=int)
    rows = np.concatenate([np.sort(fold.get(subset, nothing)) for fold in made for subset in subsets_used])
    names = sorted(subsets_used)
    codes = np.array([names.index(subset) for subset in subsets_used], dtype="int8")
    subsets = pd.Categorical.from_codes(np.tile(codes, len(made)).repeat(n_rows), names)
    split = clips.iloc[rows].reset_index(drop=True)
    split["fold"] = np.arange(len(made), dtype="int32").repeat(
        np.add.reduceat(n_rows, np.arange(0, len(n_rows), len(subsets_used)))
    )
    split["subset"] = subsets
    split["protocol"] = pd.Categorical.from_codes(np.zeros(len(split), dtype="int8"), [protocol])
    split["seed"] = np.full(len(split), seed)
    return split if len(split) > MANY_ROWS else split.astype({"fold": int, "subset": "str", "protocol": "str"})


def save_split(split: pd.DataFrame, path: str | Path) -> None:
    """Write the columns of a split that do not depend on the machine's files as CSV."""
    write_csv(split[_SAVED], path)


def load_split(path: str | Path) -> pd.DataFrame:
    """Read a split that `save_split` wrote (older ones have no `audio_hash`); SerError where it is missing or none."""
    path = Path(path)
    if not path.is_file():
        raise SerError(f"no split at {path}: write one with save_split(make_split(clips), path)")
    try:
        saved = pd.read_csv(path, dtype=str, keep_default_na=False).astype({"fold": int, "seed": int})
        return saved[[name for name in _SAVED if name in saved or name != "audio_hash"]]
    except (OSError, KeyError, ValueError) as error:
        raise SerError(f"{path} is not a split: expected CSV with the columns {', '.join(_SAVED)}") from error


@protocol("published", _PUBLISHED, is_random=True, repeats_source=True)
def random_clips(
    clips: pd.DataFrame,
    seed: int,
    test_fraction: float,
    validation_fraction: float,
    stratify: bool,
    select_on_test: bool,
    train_on_test: bool,
    drop_copies: bool = False,
) -> list[Fold]:
    rows = np.arange(len(clips))
    if drop_copies:
        rows = rows[~clips["audio_hash"].duplicated().to_numpy()]
        if len(rows) < len(clips):
            logger.warning("%d clips left out: their audio is the same as another clip's", len(clips) - len(rows))
    if select_on_test:
        validation_fraction = 0.0
    fractions = f"test_fraction={test_fraction}, validation_fraction={validation_fraction}"
    if not (0 < test_fraction < 1 and 0 <= validation_fraction < 1 and test_fraction + validation_fraction < 1):
        room = "must lie between 0 and 1, and leave room for training beside validation_fraction"
        raise SerError(f"test_fraction {room}; got {fractions}")
    test = draw_clips(clips, rows, max(1, round(test_fraction * len(rows))), stratify, seed, "test")
    rest = np.setdiff1d(rows, test)
    n_validation = max(1, round(validation_fraction * len(rows))) if validation_fraction else 0
    validation = draw_clips(clips, rest, n_validation, stratify, seed, "validation")
    train = np.setdiff1d(rest, validation)
    emotions = clips["emotion"].to_numpy()
    for part in (train, validation, test):
        missing = in_order(set(emotions[rows]) - set(emotions[part]))
        if stratify and len(part) and missing:
            few = f"{missing[0]!r} has {(emotions[rows] == missing[0]).sum()} clips, too few for one in each subset"
            raise SerError(f"{few} at {fractions}: leave it out (select_emotions), or set stratify=False")
    train = np.union1d(train, test) if train_on_test else train
    return [{"train": train, "validation": test if select_on_test else validation, "test": test}]


protocol("deduplicated", _DEDUPLICATED, is_random=True)(partial(random_clips, drop_copies=True))


@protocol("speaker", "k folds, no speaker in both train and test, validation speakers disjoint from both")
def unseen_speakers(clips: pd.DataFrame, seed: int, folds: int) -> list[Fold]:
    return [_speaker_fold(clips, tested, seed) for tested in _deal_speakers(clips, folds, seed)]


@protocol("speaker-sentence", "as speaker, and no sentence in both train and test")
def unseen_speakers_and_sentences(clips: pd.DataFrame, seed: int, folds: int) -> list[Fold]:
    in_half = pd.Series(False, index=clips.index)  # of the sentences of each corpus
    for corpus, part in clips.groupby("corpus"):
        # The corpus is not in the key, so that corpora with the same sentences have the same halves.
        sentences = shuffled(part["sentence"].dropna().unique(), seed, "sentences")
        n_unknown = part["sentence"].isna().sum()
        if len(sentences) < 2 or n_unknown:
            counts = f"{corpus} has {len(sentences)} known sentences, and {n_unknown} clips without one"
            raise SerError(f"{counts}: 'speaker-sentence' needs 2 or more, and each clip's; use the protocol 'speaker'")
        in_half[part.index] = part["sentence"].isin(sentences[: (len(sentences) + 1) // 2])
    return [
        _speaker_fold(clips, tested, seed, test_rows=half, train_rows=~half)
        for tested in _deal_speakers(clips, folds, seed)
        for half in (in_half, ~in_half)
    ]


@protocol("leave-one-speaker-out", "one speaker at a time")
def one_speaker_at_a_time(clips: pd.DataFrame, seed: int) -> list[Fold]:
    return [_speaker_fold(clips, [speaker], seed) for speaker in _speakers(clips)]


def _speakers(clips: pd.DataFrame) -> list[str]:
    speakers = sorted(clips["speaker"].unique())
    if len(speakers) < 2:
        few = f"a split by speaker needs at least 2 speakers, got {len(speakers)} ({', '.join(speakers)})"
        raise SerError(f"{few}: add clips of other people, or use the protocol 'deduplicated' and know what it leaks")
    return speakers


def _deal_speakers(clips: pd.DataFrame, folds: int, seed: int) -> list[list[str]]:
    """The speakers to be tested in each fold; each fold has its share of every corpus and sex."""
    if folds < 2:
        raise SerError(f"folds must be at least 2, got {folds}")
    n_folds = min(folds, len(_speakers(clips)))
    speakers = _balanced(clips, seed, "folds")
    return [speakers[fold::n_folds] for fold in range(n_folds)]


def _balanced(clips: pd.DataFrame, *key) -> list[str]:
    """The speakers in random order within each corpus and sex, one group after the other."""
    groups = clips.drop_duplicates("speaker").groupby(["corpus", "sex"], sort=True, dropna=False)["speaker"]
    return [speaker for _, speakers in groups for speaker in shuffled(speakers, *key)]


def _speaker_fold(clips: pd.DataFrame, tested: list[str], seed: int, test_rows=True, train_rows=True) -> Fold:
    is_tested = clips["speaker"].isin(tested)
    test = np.flatnonzero(is_tested & test_rows)
    train, validation = hold_out(clips, np.flatnonzero(~is_tested & train_rows), (seed, *sorted(tested)))
    return {"train": train, "validation": validation, "test": test}


def hold_out(clips: pd.DataFrame, rows: np.ndarray, key: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Divide the rows that are not tested into training and validation, by speaker; within the only speaker's clips.

    The seed and what else distinguishes this fold are the `key`, which determines the random choice.
    """
    part = clips[["speaker", "corpus", "sex", "sentence", "emotion"]].iloc[rows]
    speakers = _balanced(part, *key, "validation")
    if len(speakers) > 1:
        n_held_out = max(1, round(VALIDATION_SHARE * len(speakers)))
        picked = spread(len(speakers), n_held_out, offset=hash_of(*key, "offset"))
        held_out = part["speaker"].isin(np.array(speakers, dtype=object)[picked]).to_numpy()
        return rows[~held_out], rows[held_out]
    if not speakers:
        return rows, rows
    message = "only %s remains for training: validation is a share of those clips, and flatters the choices made on it"
    logger.warning(message, speakers[0])
    sentences = shuffled(part["sentence"].dropna().unique(), *key, "validation")
    held_out = part["sentence"].isin(sentences[: max(1, round(VALIDATION_SHARE * len(sentences)))]).to_numpy()
    # A sentence that is said in one emotion only would remove it from training or from validation.
    if set(part["emotion"][held_out]) == set(part["emotion"][~held_out]):
        return rows[~held_out], rows[held_out]
    not_single = part["emotion"].duplicated(keep=False).to_numpy()
    n_held_out = min(max(1, round(VALIDATION_SHARE * len(rows))), not_single.sum())
    validation = draw_clips(clips, rows[not_single], n_held_out, True, *key, "validation")
    return np.setdiff1d(rows, validation), validation


@protocol("emobox", "EmoBox's folds for RAVDESS and SAVEE")
def emobox(clips: pd.DataFrame, seed: int) -> list[Fold]:
    corpora = sorted(clips["corpus"].unique())
    if corpora == ["savee"]:
        return one_speaker_at_a_time(clips, seed)
    if corpora != ["ravdess"]:
        reason = "those of CREMA-D and TESS share speakers between train and test, and it has no others; use 'speaker'"
        raise SerError(f"EmoBox's folds are for ravdess alone or savee alone, got {', '.join(corpora)}: {reason}")
    present = set(_speakers(clips))
    published = [[f"ravdess-{actor:02d}" for actor in actors] for actors in EMOBOX_RAVDESS]
    absent = sorted({speaker for tested in published for speaker in tested} - present)
    if absent:
        logger.warning("emobox: %s are absent, so the scores do not compare with EmoBox's", ", ".join(absent))
    return [_speaker_fold(clips, tested, seed) for tested in published if present & set(tested)]


@protocol("cross-corpus", "train on some corpora, test on another")
def cross_corpus(
    clips: pd.DataFrame, seed: int, test_corpora: Sequence[str] | None, enrol_clips: int | None
) -> list[Fold]:
    corpora = sorted(clips["corpus"].unique())
    test_corpora = [test_corpora] if isinstance(test_corpora, str) else test_corpora
    tested = [[corpus] for corpus in corpora] if test_corpora is None else [list(test_corpora)]
    wanted = {corpus for group in tested for corpus in group}
    if len(corpora) < 2 or not wanted or wanted - set(corpora) or (test_corpora and wanted == set(corpora)):
        names = f"the clips are of {', '.join(corpora)}, test_corpora is {test_corpora}"
        advice = "load another corpus, or name some, not all, of those loaded"
        raise SerError(f"'cross-corpus' trains on some corpora and tests on others: {names}; {advice}")
    made = []
    for number, group in enumerate(tested):
        is_test = clips["corpus"].isin(group)
        common = set(clips["emotion"][is_test]) & set(clips["emotion"][~is_test])
        if not common:
            raise SerError(f"no emotion of {', '.join(group)} is in the other corpora: nothing can be tested")
        is_common = clips["emotion"].isin(common)
        left_out = clips["emotion"][~is_common].value_counts()
        if len(left_out):
            counts = ", ".join(f"{left_out[emotion]} {emotion}" for emotion in in_order(left_out.index))
            message = "cross-corpus: fold %d (%s) leaves out %d clips of emotions that train and test do not share: %s"
            logger.warning(message, number, ", ".join(group), left_out.sum(), counts)
        train, validation = hold_out(clips, np.flatnonzero(~is_test & is_common), (seed, *sorted(group)))
        fold = {"train": train, "validation": validation, "test": np.flatnonzero(is_test & is_common)}
        made.append(with_enrolment(clips, fold, enrol_clips or 0, seed))
    return made


@protocol("enrolled", _ENROLLED)
def enrolled_speakers(clips: pd.DataFrame, seed: int, folds: int, enrol_clips: int | None) -> list[Fold]:
    n_enrolled = 8 if enrol_clips is None else enrol_clips
    return [with_enrolment(clips, fold, n_enrolled, seed) for fold in unseen_speakers(clips, seed, folds)]


def with_enrolment(clips: pd.DataFrame, fold: Fold, n_enrolled: int, seed: int) -> Fold:
    """The fold with some test clips of each speaker in the subset `ENROLMENT` instead, drawn without their labels."""
    if n_enrolled == 0:
        return fold
    drawn: list[str] = []
    for speaker, ids in clips.iloc[fold["test"]].groupby("speaker")["clip_id"]:
        drawn += shuffled(ids, seed, speaker, ENROLMENT)[: min(n_enrolled, len(ids) // 2)]
    is_drawn = clips["clip_id"].iloc[fold["test"]].isin(drawn).to_numpy()
    return {**fold, "test": fold["test"][~is_drawn], ENROLMENT: fold["test"][is_drawn]}


protocol("speaker-adapted", _ADAPTED, is_transductive=True)(unseen_speakers)
