"""Mechanisms in the labels: emotions that a corpus decides, and speakers that are taken for emotions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import EMOTIONS, in_order
from ser_lib.studies.leaks.folds import fold_by_fold, probed, random_split, speaker_split
from ser_lib.studies.leaks.tables import Condition, table_of


def label_decided_by_corpus(
    clips: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """Corpora joined of which not all have every emotion: hearing which corpus it is narrows the answer.

    `four-corpora-xlsr53-finetune` counts eight emotions, of which RAVDESS alone has calm. Conditions, under folds by
    speaker: only emotions that every corpus has, trained and tested (honest); all emotions (leaky), of which the clips
    without and with the emotions that some corpora lack (with a single one, the UAR is its recall); those emotions
    where only the corpora that have them are trained on; and a rule that knows a clip's corpus and hears nothing: the
    emotion with the largest share of its training clips in that corpus.

    Args:
        clips: of two corpora or more.
        features: (n_clips, n_features).

    Raises:
        SerError: one corpus only, or all corpora have the same emotions.
    """
    n_corpora = clips.groupby("emotion")["corpus"].nunique()
    partial = in_order(n_corpora.index[n_corpora < clips["corpus"].nunique()])
    if not partial or len(partial) == len(n_corpora):
        raise SerError(
            "expected corpora that share some emotions, but not all, such as ravdess and tess (calm), got "
            f"{', '.join(sorted(clips['corpus'].unique()))} with {', '.join(in_order(clips['emotion']))} throughout"
        )
    has_partial = clips["emotion"].isin(partial)
    is_home = clips["corpus"].isin(clips["corpus"][has_partial])

    def probe_of(mask):
        some = clips[mask].reset_index(drop=True)
        splits = [speaker_split(some, folds, seed) for seed in seeds]
        return probed(some, features[mask.to_numpy()], splits)

    corpora = clips["corpus"].to_numpy()

    def by_corpus(rows, labels, emotions):
        trained = pd.crosstab(corpora[rows["train"]], labels[rows["train"]], normalize="columns")
        shares = trained.reindex(index=corpora[rows["test"]], columns=range(len(emotions))).fillna(0) + 1e-9
        return (shares.div(shares.sum(axis=1), axis=0)).to_numpy()

    names = " and ".join(partial)
    joined = Condition("all emotions", True, *probe_of(pd.Series(True, clips.index)), against=f"without {names}")
    alone = Condition("one corpus", False, *probe_of(is_home))
    splits = [speaker_split(clips, folds, seed) for seed in seeds]
    rule = Condition("the corpus alone", True, *fold_by_fold(clips, splits, by_corpus))
    return table_of(
        "label decided by corpus",
        clips,
        [
            Condition(f"without {names}", False, *probe_of(~has_partial)),
            joined,
            joined.part(f"all emotions: without {names}'s clips", ~_is(joined, partial), False),
            joined.part(f"all emotions: {names}", _is(joined, partial), True),
            alone.part(f"{names}, trained on its own corpus", _is(alone, partial), False),
            rule,
            rule.part(f"the corpus alone: {names}", _is(rule, partial), True),
        ],
    )


def speaker_as_label(
    clips: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """File names misread, so that the speaker's initials become the emotion: the model learns who speaks.

    SAVEE's DC_a01 is speaker DC, angry; `four-corpora-xlsr53-finetune`'s source labels it "DC". Here the speakers
    take the names of emotions, in order (DC neutral, JE calm, ...), so that the predictions stay a valid table: they
    mean nothing else. Conditions: the true emotions by speaker (honest), the true emotions at random (leaky), the
    speakers as emotions at random (leaky, and nothing of emotion is learned). By speaker the last cannot be posed: the
    test speaker's "emotion" is in no training clip.

    Args:
        clips: of 2 to 8 speakers.
        features: (n_clips, n_features).

    Raises:
        SerError: there are more speakers than emotions to call them by.
    """
    speakers = sorted(clips["speaker"].unique())
    if len(speakers) > len(EMOTIONS):
        raise SerError(
            f"expected at most {len(EMOTIONS)} speakers, each to be called by an emotion, got {len(speakers)}: take "
            "a corpus of few speakers, such as savee, or the clips of some"
        )
    called = dict(zip(speakers, EMOTIONS, strict=False))
    random = [random_split(clips, folds, seed) for seed in seeds]
    misread = [split.assign(emotion=split["speaker"].map(called)) for split in random]
    name = "true emotions by speaker"
    return table_of(
        "speaker as label",
        clips,
        [
            Condition(name, False, *probed(clips, features, [speaker_split(clips, folds, seed) for seed in seeds])),
            Condition("true emotions at random", True, *probed(clips, features, random)),
            Condition("speakers as emotions at random", True, *probed(clips, features, misread), against=name),
        ],
    )


def _is(condition: Condition, emotions: list[str]) -> np.ndarray:
    return condition.predictions["truth"].isin(emotions).to_numpy()
