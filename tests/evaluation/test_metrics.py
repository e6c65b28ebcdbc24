"""Scores agree with scikit-learn, and intervals with the plain loop over resamples."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.evaluation.metrics import (
    by_group,
    chance_level,
    check_predictions,
    confusion,
    decisions,
    expected_calibration_error,
    per_class,
    score,
)


def make_predictions(truth, predicted, emotions=EMOTIONS[:4], confidence=0.7) -> pd.DataFrame:
    """A predictions table of the given classes: numbers in, probabilities out."""
    rest = (1 - confidence) / (len(emotions) - 1)
    probabilities = np.full((len(truth), len(emotions)), rest)
    probabilities[np.arange(len(truth)), predicted] = confidence
    table = pd.DataFrame(probabilities, columns=list(emotions))
    table.insert(0, "truth", [emotions[i] for i in truth])
    table.insert(0, "clip_id", [f"clip-{i}" for i in range(len(truth))])
    return table


def random_predictions(n, seed=0, n_classes=4, accuracy=0.6):
    rng = np.random.default_rng(seed)
    truth = rng.integers(n_classes, size=n)
    predicted = np.where(rng.random(n) < accuracy, truth, rng.integers(n_classes, size=n))
    return make_predictions(truth, predicted, EMOTIONS[:n_classes]), truth, predicted


pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@settings(max_examples=100, deadline=None)
@given(pairs)
def test_scores_agree_with_scikit_learn(drawn):
    truth, predicted = map(np.array, zip(*drawn, strict=True))
    predictions = make_predictions(truth, predicted, EMOTIONS[:5])
    scores = score(predictions, bootstrap=20)
    present = np.unique(truth)
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert scores["uar"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert scores["macro_f1"] == pytest.approx(
        f1_score(truth, predicted, average="macro", labels=present, zero_division=0)
    )
    assert scores["n_test"] == len(truth)
    for name in ("accuracy", "uar", "macro_f1"):
        assert 0 <= scores[f"{name}_low"] <= scores[f"{name}_high"] <= 1

    assert (confusion(predictions).to_numpy() == confusion_matrix(truth, predicted, labels=range(5))).all()
    table = per_class(predictions)
    expected = precision_recall_fscore_support(truth, predicted, labels=range(5), zero_division=0)
    rows = table.loc[list(EMOTIONS[:5])]
    np.testing.assert_allclose(rows["precision"], expected[0])
    np.testing.assert_allclose(rows["recall"].fillna(0), expected[1])
    np.testing.assert_allclose(rows["f1"].fillna(0), expected[2])
    assert rows["support"].tolist() == expected[3].tolist()
    assert rows["recall"].isna().tolist() == (expected[3] == 0).tolist()
    assert table.loc["macro", "recall"] == pytest.approx(scores["uar"])
    assert table.loc["macro", "f1"] == pytest.approx(scores["macro_f1"])
    assert table.loc["macro", "support"] == len(truth)


def naive_intervals(truth, predicted, units, n_resamples=1500):
    """Draw units with replacement, one resample after the other, and let scikit-learn score each."""
    rng = np.random.default_rng(1)
    members = [np.flatnonzero(units == unit) for unit in np.unique(units)]
    values = []
    for _ in range(n_resamples):
        rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        values.append(
            (accuracy_score(truth[rows], predicted[rows]), balanced_accuracy_score(truth[rows], predicted[rows]))
        )
    return np.percentile(values, [2.5, 97.5], axis=0)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@pytest.mark.parametrize("over", ["speakers", "clips"])
def test_intervals_are_those_of_the_plain_loop(over):
    predictions, truth, predicted = random_predictions(240)
    speakers = np.arange(240) % (10 if over == "speakers" else 5)
    predicted = np.where(speakers < 3, truth, predicted)  # some speakers are easy
    predictions = make_predictions(truth, predicted)
    scores = score(predictions, speakers.astype(str), bootstrap=4000)
    assert scores["interval_over"] == over
    assert scores["test_speakers"] == len(np.unique(speakers))
    low, high = naive_intervals(truth, predicted, speakers if over == "speakers" else np.arange(240))
    ends = [[scores["accuracy_low"], scores["uar_low"]], [scores["accuracy_high"], scores["uar_high"]]]
    np.testing.assert_allclose(ends, [low, high], atol=0.012)


def test_speakers_who_differ_widen_the_interval():
    speakers = np.repeat([f"s{i}" for i in range(10)], 20)
    truth = np.tile([0, 1, 2, 3], 50)
    predicted = np.where(np.repeat(np.arange(10), 20) < 5, truth, (truth + 1) % 4)  # all right or all wrong
    predictions = make_predictions(truth, predicted)
    by_speaker, by_clip = score(predictions, speakers), score(predictions)
    assert by_speaker["accuracy"] == by_clip["accuracy"] == 0.5
    assert (by_clip["interval_over"], by_clip["test_speakers"]) == ("clips", None)
    width = [scores["accuracy_high"] - scores["accuracy_low"] for scores in (by_speaker, by_clip)]
    assert width[0] > 3 * width[1]


@pytest.mark.parametrize("n_speakers", [1, 7, 8])
def test_eight_speakers_are_enough_to_draw_from(n_speakers):
    predictions, *_ = random_predictions(80)
    scores = score(predictions, [f"s{i % n_speakers}" for i in range(80)], bootstrap=10)
    assert scores["interval_over"] == ("speakers" if n_speakers >= 8 else "clips")


def test_95_percent_of_intervals_hold_the_truth():
    held = 0
    for seed in range(200):
        predictions, *_ = random_predictions(120, seed, accuracy=0.6)
        scores = score(predictions, bootstrap=200, seed=seed)
        held += scores["accuracy_low"] <= 0.6 + 0.4 / 4 <= scores["accuracy_high"]
    assert 0.9 <= held / 200 <= 0.99


@pytest.mark.parametrize("n_speakers", [0, 10])
def test_repeating_the_same_answers_under_more_seeds_narrows_nothing(n_speakers):
    predictions, *_ = random_predictions(100)
    speakers = [f"s{i % n_speakers}" for i in range(100)] if n_speakers else None
    once = score(predictions, speakers)
    thrice = score(pd.concat([predictions] * 3, ignore_index=True), speakers * 3 if speakers else None)
    assert thrice == pytest.approx(once)
    assert thrice["n_test"] == 100


def test_the_same_seed_gives_the_same_interval():
    predictions, *_ = random_predictions(50)
    shuffled = predictions.sample(frac=1, random_state=0)
    assert score(predictions, seed=1) == score(predictions, seed=1) == pytest.approx(score(shuffled, seed=1))
    assert score(predictions, seed=1) != score(predictions, seed=2)


def test_a_perfect_score_has_no_width():
    scores = score(make_predictions([0, 1, 2, 3] * 5, [0, 1, 2, 3] * 5, confidence=1.0))
    assert [scores[name] for name in ("uar", "uar_low", "uar_high", "macro_f1_low", "ece")] == [1, 1, 1, 1, 0]


def test_an_emotion_that_is_never_true_does_not_enter_the_averages():
    scores = score(make_predictions([0, 0, 1, 1], [0, 2, 1, 1]))
    assert scores["uar"] == 0.75
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_the_calibration_error_of_a_case_made_by_hand():
    # Bins of 1/15: 0.41 and 0.46 share (0.4, 0.4667], half right; 0.97 is alone, and right.
    confidence, correct = np.array([0.41, 0.46, 0.97]), np.array([True, False, True])
    expected = (2 * abs(0.5 - 0.435) + abs(1 - 0.97)) / 3
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected)
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(abs(2 / 3 - 1.84 / 3))
    # An edge belongs to the bin below it.
    assert expected_calibration_error(np.array([0.5, 0.3]), np.array([True, False]), bins=2) == pytest.approx(0.1)
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0
    predictions = make_predictions([0, 1, 2, 3], [0, 1, 2, 0], confidence=0.7)
    assert score(predictions)["ece"] == pytest.approx(0.05)


def test_columns_in_another_order_change_nothing():
    predictions, *_ = random_predictions(40)
    turned = predictions[predictions.columns[::-1]]
    assert score(turned) == score(predictions)
    assert list(confusion(turned).columns) == list(EMOTIONS[:4])


def test_groups_are_scored_apart_with_the_lowest_first():
    truth = np.tile([0, 1, 2, 3], 30)
    group = np.repeat(["easy", "hard", "middling"], 40)
    predicted = np.where((group == "easy") | ((group == "middling") & (truth < 2)), truth, 0)
    predictions = make_predictions(truth, predicted)
    table = by_group(predictions, pd.Series(group, index=predictions.index + 100))
    assert table["uar"].to_dict() == {"hard": 0.25, "middling": 0.5, "easy": 1.0}
    assert list(table.index) == ["hard", "middling", "easy"]
    assert (table["n_test"] == 40).all() and set(table["interval_over"]) == {"clips"}
    alone = score(predictions[group == "middling"])
    assert (table.loc["middling", "uar_low"], table.loc["middling", "uar_high"]) == (
        alone["uar_low"],
        alone["uar_high"],
    )
    speakers = [f"s{i % 9}" for i in range(120)]
    assert set(by_group(predictions, group, speakers, bootstrap=10)["interval_over"]) == {"speakers"}


def test_decisions_name_the_most_probable_emotion():
    table = decisions(make_predictions([0, 1], [0, 3], confidence=0.7))
    assert table["prediction"].tolist() == ["neutral", "sad"]
    np.testing.assert_allclose(table[["confidence", "truth_probability"]], [[0.7, 0.7], [0.7, 0.1]])


def test_chance_is_one_in_the_number_of_emotions():
    assert chance_level(4) == 0.25


@pytest.mark.parametrize(
    ("message", "spoil"),
    [
        ("got 0 rows", lambda table: table.iloc[:0]),
        ("expected a predictions table with clip_id", lambda table: table.drop(columns="clip_id")),
        ("expected a predictions table with clip_id", lambda table: table.drop(columns="truth")),
        ("unknown emotions as columns of the predictions: bored", lambda table: table.assign(bored=0.0)),
        ("truth holds surprise, for which there is no column", lambda table: table.assign(truth="surprise")),
        ("truth holds nan", lambda table: table.assign(truth=table["truth"].where(table.index > 0))),
        ("1 rows are NaN.*clip-0", lambda table: table.assign(sad=table["sad"].where(table.index > 0))),
        ("6 rows are NaN, negative or do not sum", lambda table: table.assign(sad=0.9)),
        ("negative", lambda table: table.assign(sad=-0.1, calm=table["calm"] + table["sad"] + 0.1)),
    ],
)
def test_a_table_that_is_no_predictions_table_is_refused(message, spoil):
    table = spoil(make_predictions([0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 0, 1]))
    for function in (check_predictions, score, per_class, confusion, decisions):
        with pytest.raises(SerError, match=message):
            function(table)


def test_speakers_and_groups_must_be_as_many_as_predictions():
    predictions, *_ = random_predictions(10)
    with pytest.raises(SerError, match="speakers must hold one value for each of 10 predictions, got 9"):
        score(predictions, ["a"] * 9)
    with pytest.raises(SerError, match="groups must hold one value for each of 10 predictions, got 11"):
        by_group(predictions, ["a"] * 11)
