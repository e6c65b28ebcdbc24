"""Leaks in the labels: emotions that the corpus gives away, and speakers mistaken for emotions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import EMOTIONS, in_order
from ser_lib.studies.leaks.conditions import (
    Condition,
    Predicted,
    mean_n_train,
    probed,
    random_splits,
    speaker_splits,
    table_of,
)
from ser_lib.studies.probe import Fold, folds_of


def label_decided_by_corpus(
    clips: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """Joined corpora of which not all have every emotion: recognising the corpus excludes emotions.

    `four-corpora-xlsr53-finetune` has eight emotions, of which only RAVDESS has calm. Conditions, under folds by
    speaker: emotions that every corpus has, trained and tested (honest); all emotions (leaky), and its test clips
    without and with the emotions that some corpora lack (of a single one, the UAR is its recall); those emotions after
    training on the corpora that have them; and a rule that knows only a clip's corpus: the emotion with the largest
    share of its training clips in that corpus.

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
    in_their_corpora = clips["corpus"].isin(clips["corpus"][has_partial])

    def probed_part(mask: pd.Series) -> Predicted:
        some = clips[mask].reset_index(drop=True)
        return probed(some, features[mask.to_numpy()], speaker_splits(some, folds, seeds))

    def is_partial(condition: Condition) -> np.ndarray:
        return condition.predicted.predictions["truth"].isin(partial).to_numpy()

    names = " and ".join(partial)
    honest = Condition(f"without {names}", False, probed_part(~has_partial))
    joined = Condition("all emotions", True, probed_part(pd.Series(True, clips.index)), against=honest.name)
    alone = Condition("one corpus", False, probed_part(in_their_corpora))
    splits = speaker_splits(clips, folds, seeds)
    corpora = clips["corpus"].to_numpy()
    tables = [fold.predictions(_corpus_rule(fold, corpora)) for split in splits for fold in folds_of(clips, split)]
    rule = Condition("the corpus alone", True, Predicted(pd.concat(tables), mean_n_train(splits)))
    conditions = [
        honest,
        joined,
        joined.part(f"all emotions: without {names}'s clips", ~is_partial(joined), False),
        joined.part(f"all emotions: {names}", is_partial(joined), True),
        alone.part(f"{names}, trained on its own corpus", is_partial(alone), False),
        rule,
        rule.part(f"the corpus alone: {names}", is_partial(rule), True),
    ]
    return table_of("label decided by corpus", clips, conditions)


def _corpus_rule(fold: Fold, corpora: np.ndarray) -> np.ndarray:
    """Probabilities of the test clips from their corpus alone: the share of each emotion's training clips there."""
    train, test = fold.rows["train"], fold.rows["test"]
    trained = pd.crosstab(corpora[train], fold.labels[train], normalize="columns")
    shares = trained.reindex(index=corpora[test], columns=range(len(fold.emotions))).fillna(0) + 1e-9
    return shares.div(shares.sum(axis=1), axis=0).to_numpy()


def speaker_as_label(
    clips: pd.DataFrame, features: np.ndarray, folds: int = 5, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """File names misread, so that the speaker's initials become the label: the model learns to recognise speakers.

    SAVEE's DC_a01 is speaker DC, angry; the source of `four-corpora-xlsr53-finetune` labels it "DC". Here each speaker is
    given the name of an emotion, in order (DC neutral, JE calm, …), as predictions tables need emotions. Conditions: the
    true emotions by speaker (honest) and at random (leaky), and the speakers as emotions at random (leaky, and unrelated
    to emotion). The last has no variant by speaker: a test speaker would have no training clip.

    Raises:
        SerError: there are more speakers than the 8 emotions.
    """
    speakers = sorted(clips["speaker"].unique())
    if len(speakers) > len(EMOTIONS):
        raise SerError(
            f"expected at most {len(EMOTIONS)} speakers, one for each name of an emotion, got {len(speakers)}: take a "
            "corpus of few speakers, such as savee, or the clips of some"
        )
    emotion_of = dict(zip(speakers, EMOTIONS, strict=False))
    splits = random_splits(clips, folds, seeds)
    misread = [split.assign(emotion=split["speaker"].map(emotion_of)) for split in splits]
    name = "true emotions by speaker"
    conditions = [
        Condition(name, False, probed(clips, features, speaker_splits(clips, folds, seeds))),
        Condition("true emotions at random", True, probed(clips, features, splits)),
        Condition("speakers as emotions at random", True, probed(clips, features, misread), against=name),
    ]
    return table_of("speaker as label", clips, conditions)
