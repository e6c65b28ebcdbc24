"""The effect of one leak at a time on the score: honest and leaky conditions, and their difference in points of UAR.

    table = pd.concat([same_speaker(clips, features), normalised_with_test(clips, features)])
    worth(table)                # honest UAR, leaky UAR, and the points between them with their interval

Each function returns a table with `COLUMNS`, one row a condition; the conditions of a table differ in one thing only. The
model is `ser_lib.studies.probe.probe` with one fixed regularisation: nothing is chosen, so that validation clips train
too, except where choosing is the leak. A model that memorises more gains more from a leak.

In all of them `clips` is a clip table without duplicates, and `features` an array of (n_clips, n_features) in its order.
`folds` is the number of folds, by speaker or at random: at most one a speaker. Each of `seeds` assigns the folds anew; a
clip then has several predictions, which stay together in the intervals.
"""

from ser_lib.studies.leaks.altered import COPIES, features_of_copies
from ser_lib.studies.leaks.choosing import best_of_many, epoch_chosen_on_test, layer_chosen_on_test
from ser_lib.studies.leaks.conditions import COLUMNS, worth
from ser_lib.studies.leaks.labelling import label_decided_by_corpus, speaker_as_label
from ser_lib.studies.leaks.sharing import (
    copies_before_split,
    duplicate_files,
    normalised_with_test,
    same_speaker,
    with_duplicates,
)

__all__ = [
    "COLUMNS",
    "COPIES",
    "best_of_many",
    "copies_before_split",
    "duplicate_files",
    "epoch_chosen_on_test",
    "features_of_copies",
    "label_decided_by_corpus",
    "layer_chosen_on_test",
    "normalised_with_test",
    "same_speaker",
    "speaker_as_label",
    "with_duplicates",
    "worth",
]
