"""What the pictures for careful readers say and show; tests/test_plots.py checks what all pictures have in common."""

import numpy as np
import pytest
from invented_tables import drawn_predictions, speakers_of
from test_comparison import two_models
from test_metrics import make_predictions

from ser_lib.evaluation.calibration import coverage_curve, reliability_table, scaled
from ser_lib.evaluation.comparison import compare_all, confused_pairs
from ser_lib.evaluation.metrics import decisions, score
from ser_lib.reports import plots


def reliability_tables(n=400, sharpness=4.0):
    before = drawn_predictions(n, sharpness)
    return [reliability_table(table, speakers_of(table), bootstrap=50) for table in (before, scaled(before, sharpness))]


def curve_table(n=300):
    return coverage_curve(drawn_predictions(n), bootstrap=50)


def comparison_table(n=4, name="model "):
    first, second, speaker_of = two_models()
    tables = {f"{name}{i}": second if i == 1 else first for i in range(n)}
    return compare_all(tables, speaker_of, bootstrap=500)


def pairs_table(n=200):
    predictions = drawn_predictions(n)
    return confused_pairs(predictions, speakers_of(predictions), bootstrap=50)


def title_of(figure):
    return " ".join(figure.get_suptitle().split())


def test_reliability_names_both_calibration_errors():
    before = drawn_predictions(400, 4.0)
    errors = [score(table, bootstrap=2)["ece"] for table in (before, scaled(before, 4.0))]
    figure = plots.temperature_reliability(*reliability_tables())
    assert title_of(figure) == (
        f"Temperature scaling lowers the calibration error: {errors[0]:.3f} before, {errors[1]:.3f} after"
    )
    assert [len(axes.collections[1].get_offsets()) for axes in figure.axes] == [len(t) for t in reliability_tables()]
    backwards = plots.temperature_reliability(*reliability_tables()[::-1])
    assert title_of(backwards).startswith("Temperature scaling does not lower")


def test_coverage_draws_the_oracle_above_and_random_below_with_their_areas():
    figure = plots.coverage(curve_table())
    oracle, own, random = (line.get_ydata() for line in figure.axes[0].lines)
    assert (oracle >= own - 1e-12).all() and len(set(random)) == 1
    decided = decisions(drawn_predictions(300)).sort_values("confidence", ascending=False)
    wrong, n = (decided["prediction"] != decided["truth"]).to_numpy(), np.arange(1, 301)
    area = {"oracle": np.sort(wrong).cumsum() / n, "aurc": wrong.cumsum() / n, "random": wrong}
    told = [text.get_text() for text in figure.legends[0].texts]
    for name, line in zip(("oracle", "aurc", "random"), told, strict=True):
        assert f"{area[name].mean():.3f}" in line
    accuracy = score(drawn_predictions(300), bootstrap=2)["accuracy"]
    assert title_of(figure).endswith(f"all with {accuracy:.2f}")


def test_differences_that_are_shown_are_filled():
    table = comparison_table()
    figure = plots.paired_differences(table)
    shown = int((table["uar_p_holm"] < 0.05).sum())
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert sum(dot.get_markerfacecolor() != "white" for dot in dots) == shown == 3
    assert title_of(figure) == "3 of 6 differences in UAR on the same test clips are more than chance"
    places = [dot.get_xdata()[0] for dot in dots]
    assert places == sorted(table["uar_difference"], reverse=True)


def test_a_single_difference_is_told_in_words():
    assert title_of(plots.paired_differences(comparison_table(2))).startswith("model 1 is better than model 0 by 0.")
    first, _, speaker_of = two_models()
    same = compare_all({"a": first, "b": first}, speaker_of, bootstrap=50)
    assert title_of(plots.paired_differences(same)).startswith("No difference between a and b is shown")


def test_confused_pairs_are_in_the_colour_of_the_truth_and_the_first_is_named():
    predictions = make_predictions([0] * 4 + [1] * 4, [1, 1, 1, 0, 2, 1, 1, 1])
    figure = plots.confused_pairs(confused_pairs(predictions, bootstrap=50))
    assert title_of(figure).startswith("Most often neutral is taken for calm: 75 % (")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["neutral → calm (3 of 4)", "calm → happy (1 of 4)"]
    assert figure.axes[0].collections[-1].get_offsets()[:, 0].tolist() == pytest.approx([75, 25])


def test_only_the_most_frequent_pairs_are_drawn():
    figure = plots.confused_pairs(pairs_table(), n=3)
    assert len(figure.axes[0].get_yticklabels()) == 3
