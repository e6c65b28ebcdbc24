"""Why published scores are too high: one mechanism at a time, honest and leaky side by side, and its worth in points.

    table = pd.concat([same_speaker(clips, features), normalised_with_test(clips, features)])
    worth(table)                # honest UAR, leaky UAR, and the points between them with their interval

Each function gives a table with `COLUMNS`, one row a condition; within a table the conditions differ in one thing
alone. The model is `ser_lib.studies.probe.probe` with one fixed regularisation: nothing is chosen, so validation clips train
too, except where choosing is the mechanism. What a mechanism is worth depends on the model: one that remembers more
gains more.

In all of them `folds` counts folds by speaker, and folds at random are as many: at most one a speaker. Of several
`seeds` each deals the folds anew; a clip then has several answers, which stay together in the intervals.
"""

from ser_lib.studies.leaks.altered import COPIES, features_of_copies
from ser_lib.studies.leaks.choosing import best_of_many, epoch_chosen_on_test, layer_chosen_on_test
from ser_lib.studies.leaks.labelling import label_decided_by_corpus, speaker_as_label
from ser_lib.studies.leaks.sharing import copies_before_split, doubled, normalised_with_test, same_speaker, twins
from ser_lib.studies.leaks.tables import COLUMNS, worth

__all__ = [
    "COLUMNS",
    "COPIES",
    "best_of_many",
    "copies_before_split",
    "doubled",
    "epoch_chosen_on_test",
    "features_of_copies",
    "label_decided_by_corpus",
    "layer_chosen_on_test",
    "normalised_with_test",
    "same_speaker",
    "speaker_as_label",
    "twins",
    "worth",
]
