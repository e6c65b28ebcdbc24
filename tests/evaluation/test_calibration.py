"""Temperatures are where they are known to be, decisions stay, and errors and areas agree with the plain loop."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_tables import drawn_predictions, speakers_of
from test_metrics import make_predictions

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.evaluation.calibration import (
    HIGHEST,
    LOWEST,
    calibrated,
    calibration_change,
    coverage_curve,
    reliability_table,
    scaled,
    temperature,
)
from ser_lib.evaluation.metrics import decisions, expected_calibration_error, score

NAMES = list(EMOTIONS[:4])


rows = st.lists(st.lists(st.integers(0, 10**6), min_size=3, max_size=3), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(rows, st.floats(LOWEST, HIGHEST))
def test_no_temperature_changes_a_decision(drawn, value):
    weights = np.array(drawn, dtype=float) + 1e-3
    table = pd.DataFrame(weights / weights.sum(axis=1, keepdims=True), columns=NAMES[:3])
    table.insert(0, "truth", NAMES[0])
    table.insert(0, "clip_id", [f"clip-{i}" for i in range(len(table))])
    after = scaled(table, value)
    assert decisions(after)["prediction"].tolist() == decisions(table)["prediction"].tolist()


@pytest.mark.parametrize("sharpness", [0.25, 1.0, 4.0])
def test_the_temperature_undoes_what_made_answers_too_sure(sharpness):
    table = drawn_predictions(8000, sharpness)
    assert temperature(table) == pytest.approx(sharpness, rel=0.05)


def test_at_the_temperature_no_other_gives_the_truth_more():
    table = drawn_predictions(300, 3.0)
    best = temperature(table)

    def likelihood(value):
        return np.log(decisions(scaled(table, value))["truth_probability"]).sum()

    assert likelihood(best) > max(likelihood(best * 1.01), likelihood(best / 1.01))


def test_temperature_1_changes_nothing_and_0_is_refused():
    table = drawn_predictions(20)
    pd.testing.assert_frame_equal(scaled(table, 1.0), table)
    with pytest.raises(SerError, match="above 0"):
        scaled(table, 0)


@pytest.mark.parametrize(("predicted", "end"), [([0, 1], LOWEST), ([1, 0], HIGHEST)])
def test_all_right_or_all_wrong_ends_where_the_range_ends_and_says_so(predicted, end, caplog):
    assert temperature(make_predictions([0, 1], predicted)) == end
    assert "the end of its range" in caplog.text


def test_a_probability_of_0_for_the_truth_is_no_infinite_loss():
    table = make_predictions([0, 1, 1, 0], [0, 1, 1, 1], EMOTIONS[:2], confidence=1.0)
    assert LOWEST < temperature(table) < HIGHEST
    assert np.isfinite(calibration_change(table, scaled(table, 3)).drop(columns="interval_over")).all(axis=None)


class TestCalibrated:
    def parts(self):
        sharp, dull = drawn_predictions(600, 4.0, 1), drawn_predictions(600, 0.5, 2)
        return pd.concat([sharp.assign(fold=0), dull.assign(fold=1)])

    def test_gives_each_fold_its_own_temperature_and_keeps_the_order(self):
        validation = pd.concat(
            [drawn_predictions(2000, 4.0, 3).assign(fold=0), drawn_predictions(2000, 0.5, 4).assign(fold=1)]
        )
        table = self.parts().sample(frac=1, random_state=0)  # the index repeats, the folds are mixed
        after = calibrated(table, validation)
        assert list(after) == ["clip_id", "truth", *NAMES]
        assert after["clip_id"].tolist() == table["clip_id"].tolist()
        plain = table.drop(columns="fold")
        assert decisions(after)["prediction"].tolist() == decisions(plain)["prediction"].tolist()
        for fold, expected_temperature in ((0, 4.0), (1, 0.5)):
            rows = table["fold"].to_numpy() == fold
            fitted = temperature(validation[validation["fold"] == fold].drop(columns="fold"))
            assert fitted == pytest.approx(expected_temperature, rel=0.1)
            np.testing.assert_allclose(after[rows][NAMES], scaled(plain[rows], fitted)[NAMES])
        assert score(after)["ece"] < 0.05 < 0.1 < score(plain)["ece"]

    def test_without_folds_takes_one_temperature(self):
        validation, table = drawn_predictions(500, 4.0, 1), drawn_predictions(500, 4.0, 2)
        pd.testing.assert_frame_equal(calibrated(table, validation), scaled(table, temperature(validation)))

    def test_refuses_to_choose_on_the_test(self):
        with pytest.raises(SerError, match="600 test clips of fold 0 are among its validation clips"):
            calibrated(self.parts(), self.parts())

    def test_refuses_a_fold_without_validation_clips(self):
        with pytest.raises(SerError, match="fold 1 has no validation clips"):
            calibrated(self.parts(), drawn_predictions(50, 1.0, 5).assign(fold=0))


class TestTheChange:
    def test_holds_the_scores_of_both_and_their_difference(self):
        before = drawn_predictions(800, 4.0)
        after = scaled(before, 4.0)
        table = calibration_change(before, after, speakers_of(before))
        for name, predictions in (("before", before), ("after", after)):
            assert table.loc[name, "ece"] == pytest.approx(score(predictions)["ece"])
            truth = decisions(predictions)["truth_probability"].clip(lower=1e-8)
            assert table.loc[name, "log_loss"] == pytest.approx(-np.log(truth).mean(), rel=1e-6)
        for name in ("ece", "log_loss", "confidence", "accuracy"):
            assert table.loc["change", name] == pytest.approx(table.loc["after", name] - table.loc["before", name])
        for name in ("ece", "log_loss"):
            assert (table[f"{name}_low"] <= table[name]).all() and (table[name] <= table[f"{name}_high"]).all()
            assert table.loc["change", f"{name}_high"] < 0
        assert set(table["interval_over"]) == {"speakers"}

    def test_of_nothing_is_nothing(self):
        before = drawn_predictions(100)
        table = calibration_change(before, before.copy())
        assert table.loc["change"].drop("interval_over").abs().max() == 0
        assert set(table["interval_over"]) == {"clips"}

    def test_holds_the_error_of_a_calibrated_model_more_often_than_the_percentiles_alone(self):
        held = []
        for seed in range(40):
            table = drawn_predictions(400, 1.0, seed)
            row = calibration_change(table, table).loc["before"]
            held.append(row["ece_low"] <= 0.005)  # it is 0
        assert np.mean(held) > 0.5

    def test_needs_the_same_rows(self):
        table = drawn_predictions(10)
        with pytest.raises(SerError, match="same clips in the same order"):
            calibration_change(table, table[::-1])


def test_the_reliability_table_adds_up_to_the_calibration_error():
    table = drawn_predictions(700, 3.0)
    bins = reliability_table(table, speakers_of(table))
    decided = decisions(table)
    error = expected_calibration_error(decided["confidence"], decided["prediction"] == decided["truth"])
    gaps = (bins["accuracy"] - bins["confidence"]).abs()
    assert (gaps * bins["n"]).sum() / bins["n"].sum() == pytest.approx(error)
    assert bins["n"].sum() == 700
    assert ((bins["from"] < bins["confidence"]) & (bins["confidence"] <= bins["to"] + 1e-12)).all()
    # A bin of one speaker's answers has no interval.
    known = bins.dropna()
    assert len(known) >= 8
    assert ((known["accuracy_low"] <= known["accuracy"]) & (known["accuracy"] <= known["accuracy_high"])).all()


class TestCoverage:
    def table(self, confidence, right):
        parts = [
            make_predictions([0], [0 if good else 1], confidence=sure)
            for sure, good in zip(confidence, right, strict=True)
        ]
        return pd.concat(parts, ignore_index=True).assign(clip_id=[f"clip-{i}" for i in range(len(right))])

    def test_is_the_accuracy_of_the_surest(self):
        table = self.table([0.6, 0.9, 0.7, 0.8], [False, True, True, False])
        curve = coverage_curve(table)
        assert curve["coverage"].tolist() == [0.25, 0.5, 0.75, 1.0]
        assert curve["confidence"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
        assert curve["accuracy"].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
        assert curve["oracle"].tolist() == pytest.approx([1, 1, 2 / 3, 1 / 2])
        assert set(curve["random"]) == {0.5}

    def test_of_equally_confident_answers_is_that_of_chance_in_any_order(self):
        table = self.table([0.7] * 6, [True, True, True, False, False, False])
        for rows in (table, table[::-1]):
            curve = coverage_curve(rows)
            assert curve["accuracy"].tolist() == pytest.approx([0.5] * 6) == curve["random"].tolist()

    def test_intervals_are_those_of_the_accuracy_of_the_clips_that_are_kept(self):
        """The threshold of confidence varies little, so that they are close to those of a fixed set of clips."""
        table = drawn_predictions(480)
        speakers = np.array(speakers_of(table))
        curve = coverage_curve(table, speakers)
        known = curve.dropna()
        assert len(known) > 470 and (known["accuracy_low"] <= known["accuracy"]).all()
        assert (known["accuracy"] <= known["accuracy_high"]).all()
        order = decisions(table)["confidence"].sort_values(ascending=False, kind="stable").index
        for kept in (240, 480):
            alone, row = score(table.loc[order[:kept]], speakers[order[:kept]]), curve.iloc[kept - 1]
            assert row["accuracy_low"] == pytest.approx(alone["accuracy_low"], abs=0.02)
            assert row["accuracy_high"] == pytest.approx(alone["accuracy_high"], abs=0.02)

    def test_repeating_the_answers_under_another_seed_narrows_nothing(self):
        table = drawn_predictions(100)
        twice = pd.concat([table, table], ignore_index=True)
        # Half of the clips, in both tables.
        rows = coverage_curve(table).iloc[49], coverage_curve(twice).iloc[99]
        widths = [row["accuracy_high"] - row["accuracy_low"] for row in rows]
        assert widths[1] == pytest.approx(widths[0], rel=0.05)
