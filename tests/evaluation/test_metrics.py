"""Scores agree with scikit-learn, and say where they have no interval."""

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
    scores = score(predictions)
    present = np.unique(truth)
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert scores["uar"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert scores["macro_f1"] == pytest.approx(
        f1_score(truth, predicted, average="macro", labels=present, zero_division=0)
    )
    assert scores["n_test"] == len(truth)
    is_single = np.min(np.unique(truth, return_counts=True)[1]) == 1 and len(truth) > 1
    for name in ("accuracy", "uar", "macro_f1"):
        low, high = scores[f"{name}_low"], scores[f"{name}_high"]
        # The only clip of an emotion has no spread.
        if name == "accuracy" or not is_single:
            assert 0 <= low <= scores[name] <= high <= 1 and low < high
        else:
            assert np.isnan([low, high]).all()

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


@pytest.mark.parametrize(
    ("n_speakers", "over"), [(1, "clips"), (2, "none"), (3, "none"), (4, "speakers"), (8, "speakers")]
)
def test_four_speakers_are_enough_for_an_interval(n_speakers, over):
    predictions, *_ = random_predictions(160)
    speakers = np.array([f"s{i * 7 // 8 % n_speakers}" for i in range(160)])
    scores = score(predictions, speakers)
    assert scores["interval_over"] == over
    assert np.isnan(scores["accuracy_low"]) == np.isnan(scores["uar_high"]) == (over == "none")
    assert scores["no_interval"] == (f"{n_speakers} speakers" if over == "none" else "")
    assert list(scores["speaker_scores"]) == ([f"s{i}" for i in range(n_speakers)] if 2 <= n_speakers <= 4 else [])
    for name, alone in scores["speaker_scores"].items():
        expected = score(predictions[speakers == name])
        assert alone == {key: expected[key] for key in ("accuracy", "uar", "macro_f1", "n_test")}


def test_an_emotion_of_few_speakers_leaves_uar_without_an_interval():
    """Left out, its speaker would take the emotion along, and the mean over the other emotions is another score."""
    truth, speakers = [0, 1] * 8 + [0, 2, 1, 0, 1, 0], [f"s{i}" for i in range(16)] + ["s16", "s17", *["s3"] * 4]
    scores = score(make_predictions(truth, truth[:-2] + [1, 1]), speakers)
    assert scores["no_interval"] == "happy has 1 speaker"
    assert np.isnan([scores["uar_low"], scores["macro_f1_high"]]).all()
    assert 0 < scores["accuracy_low"] < scores["accuracy"] < scores["accuracy_high"] < 1


def test_pooled_corpora_are_strata():
    """Speakers of a corpus are alike here, and corpora differ: only the difference within corpora is uncertain."""
    truth = np.tile([0, 1], 80)
    corpora = np.repeat(["easy", "hard"], 80)
    speakers = np.char.add(corpora, (np.arange(160) // 10 % 8).astype(str))
    rng = np.random.default_rng(0)
    right = rng.random(160) < np.where(corpora == "easy", 0.95, 0.3)
    predictions = make_predictions(truth, np.where(right, truth, 1 - truth), EMOTIONS[:2])
    apart, mixed = score(predictions, speakers, corpora), score(predictions, speakers)
    assert apart["uar"] == mixed["uar"]
    assert apart["uar_high"] - apart["uar_low"] < 0.6 * (mixed["uar_high"] - mixed["uar_low"])
    few = score(predictions, np.where(corpora == "hard", "only", speakers), corpora)
    assert few["interval_over"] == "none" and few["no_interval"] == "hard has 1 speaker"


def test_copies_of_a_recording_are_one_test_clip():
    predictions, *_ = random_predictions(40)
    copies = np.array([f"r{i}" for i in range(40)])
    twice = pd.concat([predictions, predictions[:10].assign(clip_id=[f"copy-{i}" for i in range(10)])])
    once, counted = score(predictions), score(twice, copies=[*copies, *copies[:10]])
    assert counted["n_test"] == 40 and score(twice)["n_test"] == 50
    names = [f"{name}{end}" for name in ("accuracy", "uar", "macro_f1") for end in ("", "_low", "_high")]
    assert [counted[name] for name in names] == pytest.approx([once[name] for name in names])
    assert counted["ece"] == pytest.approx(once["ece"])
    # Of two copies, one right and one wrong are half a right clip.
    half = score(make_predictions([0, 0, 1], [0, 1, 1]), copies=["a", "a", "b"])
    assert (half["accuracy"], half["uar"], half["n_test"]) == (0.75, 0.75, 2)


def test_chance_is_that_of_the_emotions_tested():
    """The model knows four emotions, of which two are tested, one three times as often."""
    scores = score(make_predictions([0, 0, 0, 1], [0, 0, 2, 3]))
    assert (scores["chance"], scores["accuracy_chance"]) == (0.5, 0.75)


def without_speakers(scores):
    """The scores that are numbers and text, without the nested ones."""
    return {name: value for name, value in scores.items() if name != "speaker_scores"}


@pytest.mark.parametrize("n_speakers", [0, 10])
def test_repeating_the_same_answers_under_more_seeds_narrows_nothing(n_speakers):
    predictions, *_ = random_predictions(100)
    speakers = [f"s{i % n_speakers}" for i in range(100)] if n_speakers else None
    once = score(predictions, speakers)
    thrice = score(pd.concat([predictions] * 3, ignore_index=True), speakers * 3 if speakers else None)
    assert without_speakers(thrice) == pytest.approx(without_speakers(once))
    assert thrice["n_test"] == 100


def test_the_order_of_rows_changes_nothing():
    predictions, *_ = random_predictions(50)
    shuffled = score(predictions.sample(frac=1, random_state=0))
    assert without_speakers(score(predictions)) == pytest.approx(without_speakers(shuffled))


def test_a_perfect_score_has_a_width():
    scores = score(make_predictions([0, 1, 2, 3] * 30, [0, 1, 2, 3] * 30, confidence=1.0))
    assert [scores[name] for name in ("accuracy", "uar", "uar_high", "macro_f1_high", "ece")] == [1, 1, 1, 1, 0]
    assert [scores[f"{name}_low"] for name in ("accuracy", "uar", "macro_f1")] == pytest.approx([0.97] * 3, abs=0.002)
    none = score(make_predictions([0] * 120, [1] * 120))
    assert (none["accuracy"], none["accuracy_low"]) == (0, 0) and none["accuracy_high"] == pytest.approx(
        0.03, abs=0.001
    )


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
    assert set(by_group(predictions, group, speakers)["interval_over"]) == {"speakers"}


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
