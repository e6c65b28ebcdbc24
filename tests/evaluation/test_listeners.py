"""Model and listeners are counted on the same clips."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_metrics import make_predictions

from ser_lib.corpora.labels import EMOTIONS
from ser_lib.evaluation.listeners import ALL, beside_listeners
from ser_lib.evaluation.metrics import score

counts = st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any), min_size=2, max_size=20)


def votes_table(rows, emotions=("neutral", "happy", "sad")):
    index = pd.Index([f"clip-{i}" for i in range(len(rows))], name="clip_id")
    return pd.DataFrame(rows, index=index, columns=list(emotions))


def test_a_case_made_by_hand():
    predictions = make_predictions([0, 2, 3], [0, 0, 3], EMOTIONS[:4], confidence=1.0)  # neutral, calm, happy, sad
    votes = votes_table([[3, 1, 0], [1, 1, 2], [0, 0, 4]])
    table = beside_listeners(predictions, votes)
    assert table.index.tolist() == [ALL, "neutral", "happy", "sad"]
    assert table.loc[ALL, ["clips", "model", "people"]].tolist() == [3, 2 / 3, (3 + 1 + 4) / 12]
    assert table.loc[ALL, "soft_accuracy"] == pytest.approx((3 / 4 + 1 / 4 + 1) / 3)
    assert table.loc["sad", ["model", "people", "soft_accuracy", "distance"]].tolist() == [1, 1, 1, 0]
    # One half of the votes of the first clip would be log2: the distance of (1, 0) from (3/4, 1/4).
    middle = np.array([7 / 8, 1 / 8])
    divergence = (np.log2(8 / 7) + 3 / 4 * np.log2(6 / 7) + 1 / 4 * np.log2(2)) / 2
    assert middle.sum() == 1 and table.loc["neutral", "distance"] == pytest.approx(np.sqrt(divergence))


@settings(max_examples=40, deadline=None)
@given(counts, st.integers(0, 2**32 - 1))
def test_a_model_that_answers_as_people_vote_has_no_distance(rows, seed):
    votes = votes_table(rows)
    truth = np.random.default_rng(seed).integers(3, size=len(rows))
    shares = votes.div(votes.sum(axis=1), axis=0).reset_index()
    predictions = shares.assign(truth=np.array(["neutral", "happy", "sad"])[truth])
    row = beside_listeners(predictions, votes).loc[ALL]
    assert row["distance"] == pytest.approx(0, abs=1e-6)
    assert row["soft_accuracy"] == pytest.approx(votes.max(axis=1).div(votes.sum(axis=1)).mean())
    assert row["model"] == pytest.approx(score(predictions)["accuracy"])


def test_clips_without_votes_are_left_out_and_intervals_are_over_speakers():
    predictions = make_predictions([0, 2] * 20, [0, 2] * 19 + [2, 0], EMOTIONS[:4])
    speakers = [f"s{i % 5}" for i in range(40)]
    table = beside_listeners(predictions, votes_table([[3, 1, 0]] * 30), speakers)
    assert table.loc[ALL, "clips"] == 30 and table.loc[ALL, "model"] == 1
    alone = score(predictions[:30], speakers[:30])
    assert table.loc[ALL, "model_low"] == pytest.approx(alone["accuracy_low"])
    few = beside_listeners(predictions, votes_table([[3, 1, 0]] * 30), [f"s{i // 2 % 2}" for i in range(40)])
    assert few["people"].notna().all() and few["people_low"].isna().all()
    assert beside_listeners(predictions, votes_table([])).empty
