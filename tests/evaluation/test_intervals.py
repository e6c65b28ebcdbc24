"""Intervals agree with the plain jackknife and with known ones, and hold the true score as often as they state."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_metrics import make_predictions

from ser_lib.common.errors import SerError
from ser_lib.evaluation.intervals import Estimate, Units, clopper_pearson, jackknife, ratio, units_of

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import simulate_coverage

shares = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 8)), min_size=4, max_size=12)


def of_speakers(right, clips, corpora=None):
    """Accuracy of speakers with so many clips, of which so many are right."""
    strata = np.full(len(clips), "") if corpora is None else np.asarray(corpora)
    units = Units(np.arange(len(clips)).astype(str), strata, "speakers")
    return jackknife(units, np.column_stack([right, clips]).astype(float), ratio, [np.sum(clips)])


def test_of_equal_speakers_is_the_t_interval_of_their_mean_on_the_logit_scale():
    right = np.array([12, 15, 9, 18, 14, 11])
    estimate = of_speakers(right, np.full(6, 20))
    mean, error = (right / 20).mean(), stats.sem(right / 20)
    assert estimate.value == pytest.approx(mean) and estimate.error == pytest.approx(error)
    half = stats.t.ppf(0.975, 5) * error / (mean * (1 - mean))
    ends = 1 / (1 + np.exp(-(np.log(mean / (1 - mean)) + np.array([-half, half]))))
    assert estimate.interval[:, 0] == pytest.approx(ends)


@settings(max_examples=60, deadline=None)
@given(shares, shares)
def test_agrees_with_the_plain_loop_over_speakers_of_two_corpora(one, other):
    rows = np.array([(min(right, clips), clips) for right, clips in one + other], dtype=float)
    corpora = np.repeat(["one", "other"], [len(one), len(other)])
    estimate = of_speakers(*rows.T, corpora)
    variances = []
    for corpus in ("one", "other"):
        numbers, values = np.flatnonzero(corpora == corpus), []
        for left_out in numbers:
            weights = np.where(corpora == corpus, len(numbers) / (len(numbers) - 1), 1.0)
            weights[left_out] = 0
            values.append((weights @ rows[:, 0]) / (weights @ rows[:, 1]))
        variances.append(np.var(values) * (len(numbers) - 1))
    assert estimate.error == pytest.approx(np.sqrt(sum(variances)), abs=1e-7)
    low, high = estimate.interval
    assert 0 <= low <= estimate.value <= high <= 1 and low < high
    if min(variances) > 1e-9:
        free = np.array([len(one) - 1, len(other) - 1])
        assert estimate.degrees == pytest.approx(sum(variances) ** 2 / (np.square(variances) / free).sum(), rel=1e-3)


@pytest.mark.parametrize("n_right", [0, 120])
def test_none_or_all_right_have_a_width(n_right):
    estimate = of_speakers(np.full(4, n_right / 4), np.full(4, 30))
    exact = stats.binomtest(n_right, 120).proportion_ci(0.95, "exact")
    assert estimate.interval[:, 0] == pytest.approx([exact.low, exact.high])


@given(st.integers(1, 60), st.integers(0, 60))
def test_clopper_and_pearsons_interval_is_scipys(n_clips, n_right):
    n_right = min(n_right, n_clips)
    exact = stats.binomtest(n_right, n_clips).proportion_ci(0.95, "exact")
    assert clopper_pearson(n_right / n_clips, n_clips) == pytest.approx([exact.low, exact.high])


def test_a_difference_that_all_speakers_share_is_judged_as_tosses_of_a_coin():
    units = Units(np.arange(6).astype(str), np.full(6, ""), "speakers")
    columns = np.column_stack([np.full(6, 0.1), np.ones(6)])
    assert jackknife(units, columns, ratio)[0].p_value == 0.5**5
    assert jackknife(units, columns * [0, 1], ratio)[0].p_value == 1
    unknown = jackknife(Units(units.names, units.strata, "none", "2 speakers"), columns, ratio)[0]
    assert unknown.value == pytest.approx(0.1) and np.isnan([*unknown.interval, unknown.p_value]).all()


def test_units_are_the_speakers_of_each_corpus_or_clips():
    predictions = make_predictions([0] * 12, [0] * 12)
    four = [f"s{i % 4}" for i in range(12)]
    assert units_of(predictions).over == units_of(predictions, ["s"] * 12).over == "clips"
    assert units_of(predictions, four).over == "speakers"
    # Three speakers of one corpus and one of another.
    corpora = ["tess" if i % 4 == 3 else "savee" for i in range(12)]
    few = units_of(predictions, four, corpora)
    assert (few.over, few.too_few) == ("none", "savee has 3 speakers and tess has 1 speaker")
    for name in ("corpora", "copies"):
        with pytest.raises(SerError, match=f"{name} must hold one value for each of 12 predictions, got 11"):
            units_of(predictions, four, **{name: ["x"] * 11})


def test_only_where_hides_the_error_and_keeps_the_value():
    one = np.ones(2)
    estimate = Estimate(one / 2, one / 9, one * 5, one / 2, one * 9).only_where([True, False])
    assert estimate.value.tolist() == [0.5, 0.5] and np.isnan(estimate.interval).tolist() == [[False, True]] * 2


@pytest.mark.parametrize(
    "corpora", [(("SAVEE", 4),), (("RAVDESS", 12),), (("RAVDESS", 8), ("SAVEE", 8))], ids=["4", "12", "8 and 8"]
)
def test_95_percent_of_intervals_hold_the_true_score(corpora):
    """400 trials are within 3 standard errors of 95 %: from 91.7 to 98.3 %. reports/coverage.csv holds more."""
    table = simulate_coverage.coverage(simulate_coverage.Design(corpora, 0.7, 0.5), trials=400)
    assert table["coverage"].between(0.917, 0.983).all()
    assert table["true_score"].between(0.65, 0.75).all() and (table["width"] > 0.02).all()
