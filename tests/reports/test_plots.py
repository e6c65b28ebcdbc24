"""Every picture on ordinary and extreme tables."""

import base64
import io
import itertools
import warnings
from array import array

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import make_clips
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_tables import conditions_table, drawn_predictions, matrix_table, speakers_of, timeline_table, voice_table
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from PIL import Image
from test_comparison import two_models
from test_metrics import make_predictions

from ser_lib.corpora.labels import EMOTIONS
from ser_lib.evaluation import calibration, comparison, metrics
from ser_lib.evaluation.calibration import coverage_curve, reliability_table, scaled
from ser_lib.evaluation.comparison import compare_all, confused_pairs
from ser_lib.evaluation.listeners import beside_listeners
from ser_lib.recipes import load_recipe
from ser_lib.reports import plots
from ser_lib.reports.plots.style import text
from ser_lib.studies import claims, leaks

HOSTILE = "<b>Zoë $x_1$ & 张三_é</b>\n<script>alert(1)</script>"
RATE = 16000


def split_table(speakers, folds):
    clips = make_clips(speakers)
    number = clips["speaker"].factorize()[0]
    return pd.concat(
        clips.assign(
            fold=fold,
            subset=np.select([number % folds == fold, (number + 1) % folds == fold], ["test", "validation"], "train"),
        )
        for fold in range(folds)
    )


def history_table(folds, epochs, validation=True):
    epoch = np.arange(1, epochs + 1)
    rows = pd.DataFrame({"epoch": epoch, "train_loss": 2 / epoch, "train_accuracy": 1 - 1 / (epoch + 1)})
    for column in ("validation_loss", "validation_accuracy", "validation_uar"):
        rows[column] = 0.5 / epoch if validation else np.nan
    rows["learning_rate"], rows["best"] = 1e-3, epoch == (1 if validation else epochs)
    return pd.concat(rows.assign(fold=fold) for fold in range(folds))


def predictions_table(emotions=EMOTIONS, n=40, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.dirichlet(np.ones(len(emotions)), n), columns=list(emotions))
    table.insert(0, "truth", [emotions[i % len(emotions)] for i in range(n)])
    table.insert(0, "clip_id", [f"sample/{HOSTILE}{i}" for i in range(n)])
    return table


def groups_table(n):
    uar = np.linspace(0.2, 0.9, n)
    index = pd.Index([f"{HOSTILE}{i}" for i in range(n)], name=HOSTILE)
    return pd.DataFrame({"uar": uar, "uar_low": uar - 0.1, "uar_high": uar + 0.1, "n_test": 40}, index=index)


def points_table(clips):
    points = np.random.default_rng(0).normal(size=(len(clips), 2))
    return points, clips["emotion"], clips["speaker"]


def weights_table(layers, folds):
    weights = np.random.default_rng(0).dirichlet(np.ones(layers), size=folds).T
    return pd.DataFrame(weights)


def tone(seconds, rate=RATE):
    return np.sin(np.arange(int(seconds * rate)) / 7).astype(np.float32)


def reliability_tables(n=400, sharpness=4.0):
    before = drawn_predictions(n, sharpness)
    return [reliability_table(table, speakers_of(table)) for table in (before, scaled(before, sharpness))]


def curve_table(n=300):
    return coverage_curve(drawn_predictions(n))


def comparison_table(n=4, name="model "):
    first, second, speaker_of = two_models()
    tables = {f"{name}{i}": second if i == 1 else first for i in range(n)}
    return compare_all(tables, speaker_of)


def pairs_table(n=200):
    predictions = drawn_predictions(n)
    return confused_pairs(predictions, speakers_of(predictions))


def hostile_clips():
    clips = make_clips(2, emotions=("sad",), corpora=("a", "b", "c", "d", "e"))
    clips["corpus"], clips["speaker"] = clips["corpus"] + HOSTILE, HOSTILE + clips["speaker"]
    return clips


def claims_table(n):
    rows = [
        {
            "recipe": HOSTILE * (i + 1),
            "column": key,
            "title": column.title,
            "accuracy": 0.5,
            "accuracy_low": float("nan") if key == "floor" else 0.4,
            "accuracy_high": float("nan") if key == "floor" else 0.6,
            "accuracy_lowest": 0.45,
            "accuracy_highest": 0.55,
            "stand_in_for": "" if i % 2 else HOSTILE,
        }
        for i in range(n)
        for key, column in claims.columns_of(load_recipe("tess-mfcc-gru")).items()
    ]
    return pd.DataFrame(rows)


def mechanism_table():
    clips = make_clips(10)
    features = np.random.default_rng(0).normal(size=(len(clips), 3)).astype(np.float32)
    return leaks.same_speaker(clips, features)


def occlusion_table(over):
    low, high = {"time": ("start", "end"), "frequency": ("low_hz", "high_hz")}[over]
    table = pd.DataFrame({low: [0.0, 0.2], high: [0.4, 0.5], "probability": [0.1, 0.8], "change": [-0.7, 0.0]})
    table.attrs = {"over": over, "emotion": "sad", "probability": 0.8}
    table.attrs |= {"waveform": array("f", tone(0.5)), "sampling_rate": RATE}
    return table


def coverage_table():
    rows = itertools.product(["4 of RAVDESS", "8 of RAVDESS + 8 of SAVEE"], ["uar", "accuracy"], [0.3, 0.9, 0.99])
    return pd.DataFrame(rows, columns=["test", "score", "aim"]).assign(coverage=0.951)


def people_table():
    predictions = drawn_predictions(60)
    votes = pd.DataFrame(1, index=pd.Index(predictions["clip_id"]), columns=["neutral", "sad"])
    return beside_listeners(predictions, votes, speakers_of(predictions))


def without_ends(table):
    """As with too few speakers."""
    ends = [name for name in table if name.endswith(("_low", "_high"))]
    return table.assign(**dict.fromkeys(ends, np.nan))


PICTURES = {
    "class_counts": lambda: plots.class_counts(make_clips(4, EMOTIONS, corpora=("ravdess", "tess"))),
    "class_counts, hostile names, one emotion": lambda: plots.class_counts(hostile_clips()),
    "speaker_counts, 2 speakers": lambda: plots.speaker_counts(make_clips(2)),
    "speaker_counts, 91 speakers": lambda: plots.speaker_counts(make_clips(91, EMOTIONS)),
    "speaker_counts, hostile names, one emotion": lambda: plots.speaker_counts(hostile_clips()),
    "durations": lambda: plots.durations(make_clips(corpora=("ravdess", "tess"))),
    "durations, one clip": lambda: plots.durations(hostile_clips().head(1)),
    "emotion_gallery, 0.03 s": lambda: plots.emotion_gallery([(tone(0.03), RATE, "sad", HOSTILE)]),
    "emotion_gallery, silent": lambda: plots.emotion_gallery([(np.zeros(RATE), RATE, "sad", HOSTILE)]),
    "emotion_gallery, 8 kHz": lambda: plots.emotion_gallery([(tone(1, 8000), 8000, "sad", "low")]),
    "emotion_gallery, 96 kHz": lambda: plots.emotion_gallery([(tone(1, 96000), 96000, "sad", "high")]),
    "emotion_gallery": lambda: plots.emotion_gallery([(tone(0.4), RATE, e, HOSTILE) for e in EMOTIONS]),
    "emotion_gallery, one": lambda: plots.emotion_gallery([(tone(0.4), RATE, "sad", HOSTILE)]),
    "emotion_gallery, five": lambda: plots.emotion_gallery([(tone(0.4), RATE, e, "x") for e in EMOTIONS[:5]]),
    "split_sizes, 1 fold": lambda: plots.split_sizes(split_table(2, 1)),
    "split_sizes, 24 folds": lambda: plots.split_sizes(split_table(24, 24)),
    "learning_curves, 1 fold, 1 epoch": lambda: plots.learning_curves(history_table(1, 1)),
    "learning_curves, 24 folds": lambda: plots.learning_curves(history_table(24, 30)),
    "learning_curves, no validation": lambda: plots.learning_curves(history_table(1, 5, validation=False)),
    "confusion_matrices": lambda: plots.confusion_matrices(metrics.confusion(predictions_table())),
    "confusion_matrices, one emotion": lambda: plots.confusion_matrices(metrics.confusion(predictions_table(("sad",)))),
    "confusion_matrices, an emotion that is never true": lambda: plots.confusion_matrices(
        metrics.confusion(predictions_table(n=5))
    ),
    "probability_plot": lambda: plots.probability_plot(predictions_table()),
    "probability_plot, no truth": lambda: plots.probability_plot(predictions_table().drop(columns="truth"), n=1),
    "probability_by_truth": lambda: plots.probability_by_truth(predictions_table()),
    "probability_by_truth, one emotion": lambda: plots.probability_by_truth(predictions_table(("sad",))),
    "reliability": lambda: plots.reliability(predictions_table(n=400)),
    "reliability, one clip": lambda: plots.reliability(predictions_table(n=1)),
    "scores_by_group, 2 groups": lambda: plots.scores_by_group(groups_table(2), HOSTILE, chance=0.5),
    "scores_by_group, 91 groups": lambda: plots.scores_by_group(groups_table(91), HOSTILE),
    "scores_by_group, no intervals": lambda: plots.scores_by_group(
        groups_table(3).assign(uar_low=np.nan, uar_high=np.nan), "three"
    ),
    "feature_heatmap": lambda: plots.feature_heatmap(np.random.default_rng(0).normal(size=(60, 52)), EMOTIONS[:6] * 10),
    "feature_heatmap, constant, one emotion": lambda: plots.feature_heatmap(np.ones((3, 1)), ["sad"] * 3),
    "embedding_map": lambda: plots.embedding_map(*points_table(make_clips(6, EMOTIONS))),
    "embedding_map, 91 speakers": lambda: plots.embedding_map(*points_table(make_clips(91))),
    "embedding_map, hostile names": lambda: plots.embedding_map(*points_table(hostile_clips())),
    "layer_weights": lambda: plots.layer_weights(weights_table(7, 5)),
    "layer_weights, 25 layers, one fold": lambda: plots.layer_weights(weights_table(25, 1)),
    "claims_ladder": lambda: plots.claims_ladder(claims_table(8), {HOSTILE * i: 0.9 for i in range(1, 9)}),
    "claims_ladder, one": lambda: plots.claims_ladder(claims_table(1), {HOSTILE: 0.9}),
    "occlusion": lambda: plots.occlusion(occlusion_table("time")),
    "occlusion, frequency": lambda: plots.occlusion(occlusion_table("frequency")),
    "timeline": lambda: plots.timeline(timeline_table(20, silent=[4, 5])),
    "timeline, not certain": lambda: plots.timeline(timeline_table(20, silent=[4]).assign(certain=[True, False] * 9)),
    "timeline, no speech": lambda: plots.timeline(timeline_table(4, silent=[0, 1])),
    "timeline, an hour": lambda: plots.timeline(timeline_table(3600, silent=range(100, 200))),
    "honest_and_leaky": lambda: plots.honest_and_leaky(mechanism_table()),
    "worth_of_mechanisms": lambda: plots.worth_of_mechanisms(leaks.worth(mechanism_table())),
    "temperature_reliability, one clip": lambda: plots.temperature_reliability(*reliability_tables(1)),
    "coverage, certain": lambda: plots.coverage(curve_table(40), {"share": 0.4, "accuracy": 0.9}),
    "coverage, one clip": lambda: plots.coverage(curve_table(1)),
    "paired_differences, hostile names": lambda: plots.paired_differences(comparison_table(2, HOSTILE)),
    "confused_pairs, one pair": lambda: plots.confused_pairs(pairs_table().head(1)),
    "cross_corpus_heatmap": lambda: plots.cross_corpus_heatmap(matrix_table(["ravdess", "tess", "savee"])),
    "growth": lambda: plots.growth(
        pd.DataFrame({"clips": [1e3, 1e5], "step": "audit", "seconds": [1.0, 160.0], "gigabytes": [0.2, 1.8]})
    ),
    "noise_curves": lambda: plots.noise_curves(conditions_table()),
    "condition_points": lambda: plots.condition_points(conditions_table()),
    "coverage_of_intervals": lambda: plots.coverage_of_intervals(coverage_table()),
    "model_and_people": lambda: plots.model_and_people(people_table()),
    "paired_differences, no intervals": lambda: plots.paired_differences(without_ends(comparison_table())),
    "worth_of_mechanisms, no intervals": lambda: plots.worth_of_mechanisms(
        without_ends(leaks.worth(mechanism_table()))
    ),
    "temperature_reliability": lambda: plots.temperature_reliability(
        *[calibration.reliability_table(predictions_table(n=60))] * 2
    ),
    "coverage": lambda: plots.coverage(calibration.coverage_curve(predictions_table(n=60))),
    "paired_differences": lambda: plots.paired_differences(
        comparison.compare_all({name: predictions_table(n=60) for name in (HOSTILE, "b", "c")})
    ),
    "enrolment_curves": lambda: plots.enrolment_curves(
        voice_table("number", ["no clips", "4 clips", "half of all clips"])
    ),
    "enrolment_curves, no intervals": lambda: plots.enrolment_curves(voice_table("number", ["no clips"], 2)),
    "enrolment_differences": lambda: plots.enrolment_differences(voice_table("moods", [HOSTILE, "8 clips"]), HOSTILE),
    "confused_pairs": lambda: plots.confused_pairs(comparison.confused_pairs(predictions_table(n=60))),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_has_a_title_and_labels_is_small_and_leaves_nothing_behind(name):
    before = dict(plt.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing letter in the font is a warning
        figure = PICTURES[name]()
        png = figure.png()
    assert isinstance(figure, Figure)
    assert len(figure.get_suptitle()) > 2
    axes = [axes for axes in figure.axes if axes.get_visible()]
    assert any(one.get_xlabel() for one in axes) and any(one.get_ylabel() for one in axes)
    assert plt.get_fignums() == [] and dict(plt.rcParams) == before
    assert len(png) < 130_000
    assert Image.open(io.BytesIO(png)).width == 1080


def test_every_plotting_function_is_among_the_pictures_tested():
    drawing = {name for name, value in vars(plots).items() if callable(value)}
    assert drawing == {name.split(",")[0] for name in PICTURES}


def test_a_notebook_shows_a_picture_once_with_its_title_as_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata: shown.append((data, metadata)))
    plots.durations(make_clips())._ipython_display_()
    [(data, metadata)] = shown
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == "Lengths of clips"


# Machado, Oliveira & Fernandes 2009, severity 1, applied to linear RGB.
COLOUR_VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_the_colours_of_the_emotions_are_told_apart_by_colour_blind_readers(vision):
    assert list(plots.COLOURS) == list(EMOTIONS)
    rgb = np.array([to_rgb(colour) for colour in plots.COLOURS.values()])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(COLOUR_VISION[vision]).T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (seen @ to_xyz.T / [0.9505, 1, 1.089]).T
    f = [np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116) for v in (x, y, z)]
    lab = np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])], axis=1)
    distances = {
        (a, b): np.linalg.norm(lab[i] - lab[j]) for (i, a), (j, b) in itertools.combinations(enumerate(EMOTIONS), 2)
    }
    assert min(distances.values()) > 25, min(distances, key=distances.get)


@given(st.text())
def test_any_name_becomes_one_line_that_the_font_can_draw(name):
    drawn = text(name, longest=20)
    known = get_font(findfont("DejaVu Sans")).get_charmap()
    assert len(drawn) <= 20 and all(ord(letter) in known for letter in drawn)


def test_the_end_of_a_long_name_is_kept_since_it_tells_files_apart():
    assert text("a" * 50 + "-07.wav", longest=10) == "…aa-07.wav"


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def row_names(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_class_counts_writes_the_counts_of_each_corpus():
    clips = make_clips(2, ("neutral", "sad"), corpora=("ravdess", "tess")).iloc[1:]
    assert texts(plots.class_counts(clips)) == ["7", "8", "8", "8"]


def test_durations_name_the_median_and_the_range_of_each_corpus():
    [axes] = plots.durations(make_clips(2, ("sad",))).axes
    assert axes.get_title(loc="left") == "sample: median 1.15 s (line), 1.10 to 1.20 s, 0.2 minutes in all"


def test_silence_is_dark_in_a_spectrogram_and_speech_is_not():
    def brightest(waveform):
        figure = plots.emotion_gallery([(waveform, RATE, "sad", "x")])
        return max(mesh.get_array().max() for axes in figure.axes for mesh in axes.collections)

    assert brightest(np.zeros(RATE)) <= -70
    assert brightest(tone(1)) == pytest.approx(0, abs=0.01)


def test_split_sizes_says_how_many_clips_are_tested():
    split = split_table(6, 3)
    assert plots.split_sizes(split).axes[0].get_xlabel() == "clips (72 of 72 are tested)"
    assert plots.split_sizes(split[split["fold"] == 0]).axes[0].get_xlabel() == "clips (24 of 72 are tested)"


def test_split_sizes_show_clips_for_enrolment_where_there_are_some():
    split = split_table(6, 3)
    subsets = ["train", "validation", "test"]
    assert legend_of(plots.split_sizes(split)) == subsets
    given = split.index[split["subset"] == "test"][:5]
    split.loc[given, "subset"] = "enrolment"
    figure = plots.split_sizes(split)
    assert legend_of(figure) == [*subsets, "enrolment"]
    assert figure.axes[0].get_xlabel() == "clips (67 of 72 are tested)"
    ends = {bar.get_x() + bar.get_width() for bar in figure.axes[0].patches}
    assert max(ends) == 72  # all clips of a fold, those for enrolment included


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].texts]


def test_learning_curves_name_the_epoch_that_is_kept():
    assert legend_of(plots.learning_curves(history_table(2, 5))) == ["train", "validation", "epoch kept (1 of 5)"]
    without = plots.learning_curves(history_table(1, 5, validation=False))
    assert legend_of(without) == ["train", "epoch kept (5 of 5)"]


def test_learning_curves_show_accuracy_where_there_is_no_uar():
    history = history_table(1, 3)
    assert plots.learning_curves(history).axes[1].get_ylabel() == "train accuracy, validation UAR"
    without = plots.learning_curves(history.drop(columns="validation_uar"))
    assert without.axes[1].get_ylabel() == "train accuracy, validation accuracy"


def test_confusion_matrices_write_clips_and_shares():
    table = pd.DataFrame([[90, 10], [1, 3]], index=["happy", "sad"], columns=["happy", "sad"])
    assert texts(plots.confusion_matrices(table)) == ["90", "10", "1", "3", "90", "10", "25", "75"]


def test_probability_plot_names_truth_and_prediction_of_each_clip():
    table = pd.DataFrame({"clip_id": ["a", "b"], "truth": ["sad", "happy"], "happy": [0.7, 0.6], "sad": [0.3, 0.4]})
    assert texts(plots.probability_plot(table)) == ["happy 70% ✗ truth sad", "happy 60% ✓"]
    assert texts(plots.probability_plot(table.drop(columns="truth"))) == ["happy 70%", "happy 60%"]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 9))
def test_reliability_counts_every_clip_once_and_states_the_error_of_metrics(sad, seed):
    truth = np.random.default_rng(seed).choice(["happy", "sad"], len(sad))
    table = pd.DataFrame({"clip_id": range(len(sad)), "truth": truth, "happy": 1 - np.array(sad), "sad": sad})
    left, right = plots.reliability(table).axes
    # The upper bars stand on the lower ones.
    assert sum(patch.get_height() for patch in right.patches) == len(sad)
    stated = float(left.get_title(loc="left").rpartition(" ")[2])
    assert stated == pytest.approx(metrics.score(table)["ece"], abs=6e-4)


def test_scores_by_group_has_the_best_group_on_top_with_its_number_of_clips():
    [axes] = plots.scores_by_group(groups_table(3).set_axis(["low", "middle", "high"]), "x").axes
    assert row_names(axes) == ["high (40)", "middle (40)", "low (40)"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_layer_weights_draw_the_mean_over_folds_at_the_number_of_each_layer():
    weights = pd.DataFrame({0: [0.2, 0.5, 0.3], 1: [0.1, 0.6, 0.3]}, index=[3, 4, 5])
    [axes] = plots.layer_weights(weights).axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.15, 0.55, 0.3])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3", "4", "5"]


def test_embedding_map_draws_every_clip_in_both_panels_in_the_colour_of_its_emotion():
    clips = make_clips(5, EMOTIONS[:3])
    figure = plots.embedding_map(*points_table(clips))
    left, right = (axes.collections[0] for axes in figure.axes)
    assert len(left.get_offsets()) == len(right.get_offsets()) == len(clips)
    drawn = {to_hex(colour) for colour in left.get_facecolors()}
    assert drawn == {plots.COLOURS[emotion] for emotion in EMOTIONS[:3]}
    assert len({to_hex(colour) for colour in right.get_facecolors()}) == 5


def test_embedding_map_says_how_often_neighbours_share_emotion_and_speaker():
    points = np.array([[0.0, 0], [0, 1], [9, 0], [9, 1.5]])
    clips = make_clips(2, ("happy", "sad"), 1, 1)  # speaker by speaker
    figure = plots.embedding_map(points, clips["emotion"], clips["speaker"])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["by emotion: 0% lie next to the same emotion", "by speaker: 100% lie next to the same speaker"]


def test_feature_heatmap_is_in_standard_deviations_from_the_mean_of_all_clips():
    features = np.zeros((4, 5))
    features[:, 3] = [0, 0, 1, 1]
    figure = plots.feature_heatmap(features, ["sad", "sad", "angry", "angry"])
    cells = figure.axes[0].collections[0].get_array().reshape(2, 5)
    assert cells[:, 3].tolist() == [-1, 1] and not np.delete(cells, 3, axis=1).any()


def test_temperature_reliability_names_both_calibration_errors():
    before = drawn_predictions(400, 4.0)
    errors = [metrics.score(table)["ece"] for table in (before, scaled(before, 4.0))]
    figure = plots.temperature_reliability(*reliability_tables())
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        f"before: calibration error (ECE) {errors[0]:.3f}",
        f"after: calibration error (ECE) {errors[1]:.3f}",
    ]
    assert [len(axes.collections[1].get_offsets()) for axes in figure.axes] == [len(t) for t in reliability_tables()]


def test_a_timeline_hatches_what_is_not_certain(tmp_path):
    table = timeline_table(20, silent=[4]).assign(certain=[True, False] * 9)
    table["certain"] = table["certain"].astype(object).where(table["emotion"].notna(), None)
    table.to_csv(tmp_path / "timeline.csv", index=False)
    for one in (table, pd.read_csv(tmp_path / "timeline.csv")):
        figure = plots.timeline(one)
        (hatched,) = [patch for axes in figure.axes for patch in axes.patches if patch.get_hatch()]
        assert np.array_equal(hatched.get_data().values == 1, [number % 2 == 1 for number in range(18)])
        assert legend_of(figure)[-1] == "not certain"
    # Of before, and of a model whose threshold is not known.
    for other in (table.drop(columns="certain"), table.assign(certain=None), table.assign(certain=True)):
        assert "not certain" not in legend_of(plots.timeline(other))


def test_coverage_marks_what_the_threshold_gives():
    figure = plots.coverage(curve_table(), {"share": 0.4, "accuracy": 0.9})
    assert figure.axes[0].lines[-1].get_xydata().tolist() == [[40, 0.9]]
    assert legend_of(figure)[-1] == "certain answers: 40 % of the clips, accuracy 0.900"
    for nothing in (None, {"share": 0.0, "accuracy": None}):
        assert len(legend_of(plots.coverage(curve_table(), nothing))) == 3


def test_coverage_draws_the_oracle_above_and_random_below_with_their_areas():
    figure = plots.coverage(curve_table())
    oracle, confident, random = (line.get_ydata() for line in figure.axes[0].lines)
    assert (oracle >= confident - 1e-12).all() and len(set(random)) == 1
    curve = curve_table()
    for name, line in zip(("oracle", "accuracy", "random"), legend_of(figure), strict=True):
        assert f"AURC {(1 - curve[name]).mean():.3f}" in line


def test_significant_differences_are_filled_and_the_largest_is_on_top():
    table = comparison_table()
    figure = plots.paired_differences(table)
    dots = figure.axes[0].collections[-1]
    faces = [to_hex(face) for face in dots.get_facecolors()]
    filled = [x for x, face in zip(dots.get_offsets()[:, 0], faces, strict=True) if face != "#ffffff"]
    significant = table.loc[table["uar_p_holm"] < 0.05, "uar_difference"]
    assert filled == sorted(significant, reverse=True) and len(filled) == 3
    assert dots.get_offsets()[:, 0].tolist() == sorted(table["uar_difference"], reverse=True)


def test_confused_pairs_are_in_the_colour_of_the_truth_and_the_most_frequent_is_on_top():
    predictions = make_predictions([0] * 4 + [1] * 4, [1, 1, 1, 0, 2, 1, 1, 1])
    [axes] = plots.confused_pairs(confused_pairs(predictions)).axes
    assert row_names(axes) == ["neutral → calm (3 of 4)", "calm → happy (1 of 4)"]
    dots = axes.collections[-1]
    assert dots.get_offsets()[:, 0].tolist() == pytest.approx([75, 25])
    assert [to_hex(colour) for colour in dots.get_facecolors()] == [plots.COLOURS["neutral"], plots.COLOURS["calm"]]


def test_only_the_most_frequent_pairs_are_drawn():
    assert len(row_names(plots.confused_pairs(pairs_table(), n=3).axes[0])) == 3
