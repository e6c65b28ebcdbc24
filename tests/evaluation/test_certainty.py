"""The threshold from which on answers are certain, and what it is worth on test clips."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_lib.evaluation.metrics import CERTAIN, certain_from, score_certainty

EMOTIONS = ["happy", "sad", "angry"]


def answers(highest, is_right):
    """Truth and probabilities of clips whose highest probability is that of emotion 0, right or wrong."""
    highest = np.asarray(highest, dtype=float)
    return np.where(is_right, 0, 1), np.column_stack([highest, (1 - highest) / 2, (1 - highest) / 2])


def predictions(highest, is_right):
    truth, probabilities = answers(highest, is_right)
    table = pd.DataFrame(probabilities, columns=EMOTIONS)
    table.insert(0, "truth", np.array(EMOTIONS)[truth])
    table.insert(0, "clip_id", [f"sample/{number}" for number in range(len(table))])
    return table


# Few values, so that many are equal.
clip_answers = st.lists(
    st.tuples(st.sampled_from([0.4, 0.5, 0.55, 0.7, 0.85, 0.999]), st.booleans()), min_size=1, max_size=40
)


class TestThreshold:
    @settings(max_examples=200, deadline=None)
    @given(rows=clip_answers, target=st.sampled_from([0.5, 0.75, 0.9, 1.0]))
    def test_is_the_lowest_with_enough_right_answers_above_it(self, rows, target):
        highest, is_right = (np.array(column) for column in zip(*rows, strict=True))
        chosen = certain_from(*answers(highest, is_right), target)
        enough = [value for value in highest if is_right[highest >= value].mean() >= target]
        assert chosen == (min(enough) if enough else 2.0)
        if enough:
            assert is_right[highest >= chosen].mean() >= target

    @settings(max_examples=50, deadline=None)
    @given(rows=clip_answers, seed=st.integers(0, 1000))
    def test_does_not_depend_on_the_order_of_clips(self, rows, seed):
        highest, is_right = (np.array(column) for column in zip(*rows, strict=True))
        truth, probabilities = answers(highest, is_right)
        order = np.random.default_rng(seed).permutation(len(truth))
        assert certain_from(truth[order], probabilities[order]) == certain_from(truth, probabilities)

    def test_of_equal_probabilities_takes_all_or_none(self):
        # The right ones come first, but the threshold cannot tell them from the wrong one.
        assert certain_from(*answers([0.9, 0.8, 0.8, 0.8], [True, True, True, False]), 0.9) == 0.9
        assert certain_from(*answers([0.8] * 10, [True] * 9 + [False]), 0.9) == 0.8
        assert certain_from(*answers([0.8] * 10, [True] * 8 + [False] * 2), 0.9) == 2.0

    def test_a_wrong_answer_on_top_may_be_outweighed(self):
        assert certain_from(*answers([0.99, *[0.9] * 9], [False, *[True] * 9]), 0.9) == 0.9

    def test_reads_the_emotion_that_is_highest(self):
        truth, probabilities = np.array([2, 1]), np.array([[0.1, 0.2, 0.7], [0.5, 0.4, 0.1]])
        assert certain_from(truth, probabilities, 1.0) == 0.7


class TestScore:
    def test_counts_certain_answers_of_each_fold_by_its_own_threshold(self):
        folds = [
            predictions([0.9, 0.8, 0.6, 0.5], [True, True, False, True]),
            predictions([0.9, 0.8, 0.6, 0.5], [True, False, True, False]),
            predictions([0.5, 0.5], [True, False]),
        ]
        result = score_certainty(folds, [0.8, 0.55, 2.0])
        assert result == {
            "target": CERTAIN,
            "threshold": 0.8,
            "by_fold": [0.8, 0.55, 2.0],
            "share": 5 / 10,
            "accuracy": 4 / 5,
            "share_at_threshold": 4 / 10,
            "accuracy_at_threshold": 3 / 4,
            "accuracy_of_all": 6 / 10,
        }
        assert json.loads(json.dumps(result)) == result

    def test_has_no_accuracy_where_no_answer_is_certain(self):
        result = score_certainty([predictions([0.9, 0.5], [True, False])], [2.0])
        assert (result["share"], result["accuracy"], result["accuracy_of_all"]) == (0, None, 0.5)

    @pytest.mark.parametrize("thresholds", [[None, None], [0.5, None], []])
    def test_is_none_where_a_fold_has_no_threshold(self, thresholds):
        assert (
            score_certainty([predictions([0.9], [True]), predictions([0.9], [True])][: len(thresholds)], thresholds)
            is None
        )
