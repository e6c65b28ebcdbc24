"""Paired comparisons agree with known tests and the plain loop, and reject tables that are not comparable."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_clips
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, ttest_1samp
from test_metrics import make_predictions, random_predictions

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.evaluation.comparison import by_attributes, compare, compare_all, confused_pairs, holm, in_words, ties
from ser_lib.evaluation.intervals import Units, jackknife, ratio
from ser_lib.evaluation.metrics import score


def two_models(n=240, better=0.3, seed=0):
    """Two models on the same clips; the second gets a share of the first's mistakes right."""
    rng = np.random.default_rng(seed)
    first, truth, predicted = random_predictions(n, seed)
    corrected = np.where(rng.random(n) < better, truth, predicted)
    return first, make_predictions(truth, corrected), {f"clip-{i}": f"s{i % 12}" for i in range(n)}


def rows_of(truths_and_predictions):
    truth, predicted = zip(*truths_and_predictions, strict=True)
    return make_predictions(truth, list(predicted))


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(pairs, st.sampled_from([1, 3, 9]))
def test_a_model_is_no_better_than_itself_and_swapping_two_turns_the_sign(drawn, n_speakers):
    truth, one, other = map(list, zip(*drawn, strict=True))
    first, second = make_predictions(truth, one), make_predictions(truth, other)
    speaker_of = {clip: f"s{i % n_speakers}" for i, clip in enumerate(first["clip_id"])}
    same = compare(first, first[::-1], speaker_of)
    for name in ("uar", "accuracy"):
        ends = [same[f"{name}_difference{end}"] for end in ("", "_low", "_high")]
        expected = np.where(np.isnan(ends), ends, 0)  # NaN with 2 or 3 speakers, or an emotion of few
        assert ends == pytest.approx(expected, abs=1e-12, nan_ok=True) and ends[0] == 0
        assert same[f"{name}_p"] == 1 or np.isnan(ends[1])
    assert (same["only_first"], same["only_second"], same["mcnemar_p"]) == (0, 0, 1)

    forward, backward = (compare(a, b, speaker_of) for a, b in ((first, second), (second, first)))
    for name in ("uar", "accuracy"):
        assert forward[f"{name}_difference"] == pytest.approx(-backward[f"{name}_difference"])
        assert forward[f"{name}_difference_low"] == pytest.approx(-backward[f"{name}_difference_high"], nan_ok=True)
        assert forward[f"{name}_p"] == pytest.approx(backward[f"{name}_p"], nan_ok=True)
    assert (forward["only_first"], forward["mcnemar_p"]) == (backward["only_second"], backward["mcnemar_p"])


def test_differences_are_those_of_the_scores():
    first, second, speaker_of = two_models()
    result = compare(first, second.sample(frac=1, random_state=0), speaker_of)
    for name in ("uar", "accuracy"):
        one, other = score(first)[name], score(second)[name]
        assert result[f"{name}_first"] == pytest.approx(one)
        assert result[f"{name}_second"] == pytest.approx(other)
        assert result[f"{name}_difference"] == pytest.approx(one - other)
    assert (result["n_test"], result["test_speakers"], result["interval_over"]) == (240, 12, "speakers")
    assert result["uar_difference_high"] < 0 and result["uar_p"] < 0.001


def test_the_same_speakers_are_left_out_of_both():
    """Speakers who are easy or hard for both alike widen each score, and not the difference."""
    truth, easy = np.tile([0, 1, 2, 3], 60), np.repeat(np.arange(12), 20) < 6
    one = np.where(easy, truth, (truth + 1) % 4)
    other = one.copy()
    other[::20] = (truth[::20] + 2) % 4  # one mistake more of each easy speaker
    first, second = make_predictions(truth, one), make_predictions(truth, other)
    speaker_of = dict(zip(first["clip_id"], np.repeat([f"s{i}" for i in range(12)], 20), strict=True))
    result = compare(first, second, speaker_of)
    assert result["accuracy_difference"] == pytest.approx(6 / 240)
    assert 0 <= result["accuracy_difference_low"] <= result["accuracy_difference_high"] <= 12 / 240
    # A paired t test of twelve speakers, of whom six differ by 1 of 20 clips.
    assert result["accuracy_p"] == pytest.approx(ttest_1samp([0.05] * 6 + [0] * 6, 0).pvalue)
    alone = score(first, list(speaker_of.values()))
    assert alone["accuracy_high"] - alone["accuracy_low"] > 0.5


def test_two_equal_models_are_seldom_told_apart():
    false_alarms = 0
    for seed in range(100):
        rng, truth = np.random.default_rng(seed), np.arange(120) % 4
        first, second = (
            make_predictions(truth, np.where(rng.random(120) < 0.6, truth, rng.integers(4, size=120))) for _ in range(2)
        )
        speaker_of = {clip: f"s{i % 24}" for i, clip in enumerate(first["clip_id"])}
        false_alarms += compare(first, second, speaker_of)["uar_p"] < 0.05
    assert false_alarms <= 13


def test_mcnemar_counts_who_alone_is_right():
    # 9 clips only the first gets right, 1 only the second, 5 both, 5 none.
    truth = [0] * 20
    first = make_predictions(truth, [0] * 9 + [1] + [0] * 5 + [1] * 5)
    second = make_predictions(truth, [1] * 9 + [0] + [0] * 5 + [2] * 5)
    result = compare(first, second)
    assert (result["only_first"], result["only_second"]) == (9, 1)
    assert result["mcnemar_p"] == pytest.approx(22 / 1024)  # 2 × (1 + 10) / 2¹⁰
    assert result["mcnemar_p"] == pytest.approx(2 * binom.cdf(1, 10, 0.5))
    assert result["interval_over"] == "clips" and result["test_speakers"] is None


def test_several_answers_to_a_clip_stay_together_and_have_no_mcnemar():
    first, second, speaker_of = two_models()
    once = compare(first, second, speaker_of)
    thrice = compare(pd.concat([first] * 3), second, speaker_of)
    assert np.isnan(thrice["mcnemar_p"])
    for name in ("uar_difference", "uar_difference_low", "uar_difference_high", "uar_p", "n_test"):
        assert thrice[name] == pytest.approx(once[name])


class TestHolm:
    def test_agrees_with_an_example_by_hand(self):
        # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1; none below the one before it.
        assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_leaves_nan_out_and_ends_at_1(self):
        result = holm([0.8, np.nan, 0.02])
        assert result[0] == pytest.approx(0.8) and np.isnan(result[1]) and result[2] == pytest.approx(0.04)
        assert holm([0.6, 0.7]).tolist() == [1, 1]

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
    def test_never_lowers_keeps_the_order_and_is_at_most_bonferroni(self, drawn):
        result = holm(drawn)
        assert (result >= drawn).all() and (result <= np.minimum(1, np.array(drawn) * len(drawn)) + 1e-12).all()
        assert (np.diff(result[np.argsort(drawn, kind="stable")]) >= 0).all()


class TestAll:
    def test_pairs_are_compared_and_corrected(self):
        first, second, speaker_of = two_models()
        table = compare_all({"a": first, "b": second, "c": first}, pd.Series(speaker_of))
        assert list(zip(table["first"], table["second"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
        assert table["uar_p_holm"].tolist() == pytest.approx(holm(table["uar_p"]))
        assert table["uar_p_holm"].tolist() == pytest.approx([3 * table["uar_p"][0], 1, 3 * table["uar_p"][0]])
        assert table["mcnemar_p_holm"].tolist() == pytest.approx(holm(table["mcnemar_p"]))

    def test_shared_clips_are_those_of_all(self):
        first, second, speaker_of = two_models()
        table = compare_all({"a": first, "b": second[:100], "c": second[50:]}, speaker_of, shared=True)
        assert set(table["n_test"]) == {50}

    def test_one_is_refused_and_a_pair_is_named(self):
        first, second, speaker_of = two_models()
        with pytest.raises(SerError, match="two tables of predictions or more, got 1"):
            compare_all({"a": first})
        with pytest.raises(SerError, match="a and c: the test clips differ: 100 are in both, 140 only in the first"):
            compare_all({"a": first, "b": second, "c": second[:100]}, speaker_of)


class TestRefuses:
    def test_other_emotions(self):
        first, *_ = two_models()
        with pytest.raises(SerError, match=r"emotion sets \(neutral, calm, happy, sad; neutral, calm, happy\)"):
            compare(first, random_predictions(240, n_classes=3)[0])

    def test_no_clip_in_common(self):
        first, second, _ = two_models()
        with pytest.raises(SerError, match="no test clip in common, of 240 and 240"):
            compare(first, second.assign(clip_id="x-" + second["clip_id"]))

    def test_another_truth(self):
        first, second, _ = two_models()
        second.loc[3, "truth"] = next(name for name in EMOTIONS[:4] if name != second.loc[3, "truth"])
        with pytest.raises(SerError, match="1 clips have different labels in the two runs, for example clip-3"):
            compare(first, second)

    def test_speakers_that_are_not_given(self):
        first, second, speaker_of = two_models()
        del speaker_of["clip-7"]
        with pytest.raises(
            SerError, match="the speaker of 1 clips is not given, such as clip-7: complete `speaker_of`"
        ):
            compare(first, second, speaker_of)


class TestInWords:
    ROW = {
        **{"uar_difference": 0.021, "uar_difference_low": 0.003, "uar_difference_high": 0.04, "n_test": 1439},
        **{"test_speakers": 24, "interval_over": "speakers", "uar_p_holm": 0.2, "no_interval": ""},
    }

    def test_names_the_better_one_first(self):
        ending = "by 0.021 UAR (0.003 to 0.040) on the same 1,439 clips of 24 speakers"
        assert in_words(self.ROW, "A", "B") == f"A is better than B {ending}"
        turned = {"uar_difference": -0.021, "uar_difference_low": -0.04, "uar_difference_high": -0.003}
        assert in_words(self.ROW | turned, "A", "B") == f"B is better than A {ending}"

    def test_says_where_nothing_is_shown(self):
        row = self.ROW | {"uar_difference_low": -0.003}
        assert in_words(row, "A", "B").startswith("no difference between A and B is shown: +0.021 UAR (-0.003 to")
        assert in_words(self.ROW, "A", "B", corrected=True).startswith("no difference between A and B is shown")

    def test_says_that_the_interval_is_over_clips(self):
        row = self.ROW | {"interval_over": "clips", "test_speakers": np.nan}
        assert in_words(row, "A", "B").endswith("on the same 1,439 clips, as if clips were independent")

    def test_says_that_two_speakers_allow_no_test(self):
        first, second, _ = two_models()
        row = compare(first, second, {clip_id: f"s{i % 2}" for i, clip_id in enumerate(first["clip_id"])})
        assert np.isnan([row["uar_p"], row["uar_difference_low"], row["uar_smallest"]]).all()
        assert in_words(row, "A", "B").endswith("on the same 240 clips of 2 speakers, without a test: 2 speakers")


class TestTies:
    def test_are_the_models_that_no_test_tells_from_the_best(self):
        first, second, speaker_of = two_models()
        nearly = second.copy()
        nearly.loc[:1, EMOTIONS[:4]] = second.loc[:1, EMOTIONS[:4]].to_numpy()[:, ::-1]
        table = ties({"worse": first, "best": second, "nearly": nearly}, speaker_of)
        assert table.index.tolist() == ["best", "nearly", "worse"]
        assert table["tied"].tolist() == [True, True, False]
        assert table["uar"].tolist() == pytest.approx([score(t)["uar"] for t in (second, nearly, first)])
        pairs = [compare(second, other, speaker_of) for other in (nearly, first)]
        assert table["p_holm"].tolist()[1:] == pytest.approx(holm([pair["uar_p"] for pair in pairs]))
        assert table["difference_low"].tolist()[1:] == pytest.approx([pair["uar_difference_low"] for pair in pairs])

    def test_are_unknown_where_no_test_is_possible(self):
        first, second, _ = two_models()
        speaker_of = {clip_id: f"s{i % 2}" for i, clip_id in enumerate(first["clip_id"])}
        table = ties({"a": first, "b": second, "part": second[:100]}, speaker_of)
        best, *others = table.index
        assert table.loc[best, "tied"] is True and [table.loc[name, "tied"] for name in others] == [None, None]
        assert "test clips differ" in " ".join(table["why"]) and "2 speakers" in " ".join(table["why"])
        alone = ties({"alone": first}, speaker_of)
        assert alone["tied"].tolist() == [True] and alone["smallest"].isna().all()

    def test_a_true_difference_of_the_smallest_size_is_found_in_four_of_five_trials(self):
        """Drawn as normal differences of 20 speakers, whose deviation the test knows as well as anybody."""
        rng = np.random.default_rng(0)
        units = Units(np.arange(20).astype(str), np.full(20, ""), "speakers")
        first = jackknife(units, np.column_stack([rng.standard_normal(20), np.ones(20)]), ratio)[0]
        error = 1 / np.sqrt(20)
        size = first.smallest_difference / first.error * error
        found = []
        for _ in range(400):
            differences = size + rng.standard_normal(20)
            found.append(jackknife(units, np.column_stack([differences, np.ones(20)]), ratio)[0].p_value < 0.05)
        assert 0.73 <= np.mean(found) <= 0.87


class TestConfusedPairs:
    def test_are_counted_with_the_rate_of_their_truth(self):
        table = confused_pairs(rows_of([(0, 1)] * 3 + [(0, 0)] + [(1, 2)] + [(1, 1)] * 5))
        assert table[["truth", "prediction"]].to_numpy().tolist() == [["neutral", "calm"], ["calm", "happy"]]
        assert table["n"].tolist() == [3, 1] and table["n_truth"].tolist() == [4, 6]
        assert table["rate"].tolist() == pytest.approx([3 / 4, 1 / 6])
        assert (table["rate_low"] < table["rate"]).all() and (table["rate"] < table["rate_high"]).all()
        assert set(table["interval_over"]) == {"clips"}

    def test_speakers_who_differ_widen_the_interval(self):
        truth = [0] * 100
        predicted = [1 if i < 50 else 0 for i in range(100)]
        predictions = make_predictions(truth, predicted)
        by_speaker = confused_pairs(predictions, np.repeat([f"s{i}" for i in range(10)], 10))
        widths = [t.loc[0, "rate_high"] - t.loc[0, "rate_low"] for t in (by_speaker, confused_pairs(predictions))]
        assert widths[0] > 2 * widths[1]

    def test_without_mistakes_are_none(self):
        table = confused_pairs(make_predictions([0, 1], [0, 1]))
        assert len(table) == 0 and "rate_low" in table


class TestByAttributes:
    def clips_and_predictions(self):
        clips = make_clips(10, EMOTIONS[:3])
        truth = clips["emotion"].map(EMOTIONS.index).to_numpy()
        wrong = (clips["sex"] == "male").to_numpy() & (np.arange(len(clips)) % 3 == 0)
        predictions = make_predictions(truth, np.where(wrong, (truth + 1) % 3, truth), EMOTIONS[:3])
        return clips, predictions.assign(clip_id=clips["clip_id"])

    def test_hold_each_groups_score_and_chance(self):
        clips, predictions = self.clips_and_predictions()
        clips.loc[clips["emotion"] != "neutral", "intensity"] = "strong"
        table = by_attributes(predictions, clips)
        assert table.index.get_level_values("attribute").unique().tolist() == [
            "sex",
            "speaker",
            "sentence",
            "intensity",
        ]
        male = (clips["sex"] == "male").to_numpy()
        assert table.loc[("sex", "male"), "uar"] == pytest.approx(score(predictions[male])["uar"])
        assert table.loc[("sex", "female"), "accuracy"] == 1
        assert table.loc[("intensity", "strong"), ["emotions", "chance"]].tolist() == [2, 0.5]
        assert table.loc[("intensity", "normal"), ["emotions", "chance"]].tolist() == [1, 1]

    def test_leave_unknown_values_out_and_say_how_many(self, caplog):
        clips, predictions = self.clips_and_predictions()
        clips.loc[:4, "sentence"], clips.loc[5:6, "sentence"] = "", None
        table = by_attributes(predictions, clips)
        assert table.loc["sentence", "n_test"].sum() == len(clips) - 7
        assert "sentence is unknown of 7 of 120 clips" in caplog.text
        assert table.index.get_level_values("attribute").unique().tolist() == [
            "sex",
            "speaker",
            "sentence",
        ]  # one intensity only

    def test_refuse_what_is_not_there(self):
        clips, predictions = self.clips_and_predictions()
        with pytest.raises(SerError, match="in the same order"):
            by_attributes(predictions, clips[::-1])
        clips[["sex", "speaker", "sentence"]] = "x"
        with pytest.raises(SerError, match="none of sex, speaker, sentence, intensity is known with two values"):
            by_attributes(predictions, clips)
