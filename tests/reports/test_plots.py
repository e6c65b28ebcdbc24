"""Every picture on ordinary and extreme tables, and the templates of the pages that hold them."""

import base64
import hashlib
import io
import itertools
import re
import warnings
from array import array
from pathlib import Path

import jinja2
import matplotlib.pyplot as plt
import nbformat.v4 as notebooks
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import make_clips
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_tables import conditions_table, matrix_table, timeline_table
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from PIL import Image
from test_plots_careful import comparison_table, curve_table, pairs_table, reliability_tables

from ser_lib.corpora.labels import EMOTIONS
from ser_lib.evaluation import calibration, comparison, metrics
from ser_lib.protocols.splits import PROTOCOLS
from ser_lib.recipes import load_recipe
from ser_lib.reports import build, plots
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
            "accuracy_low": 0.4,
            "accuracy_high": 0.6,
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


PICTURES = {
    "class_counts": lambda: plots.class_counts(make_clips(4, EMOTIONS, corpora=("ravdess", "tess"))),
    "class_counts, hostile names, one emotion": lambda: plots.class_counts(hostile_clips()),
    "speaker_counts, 2 speakers": lambda: plots.speaker_counts(make_clips(2)),
    "speaker_counts, 91 speakers": lambda: plots.speaker_counts(make_clips(91, EMOTIONS)),
    "speaker_counts, hostile names, one emotion": lambda: plots.speaker_counts(hostile_clips()),
    "durations": lambda: plots.durations(make_clips(corpora=("ravdess", "tess"))),
    "durations, one clip": lambda: plots.durations(hostile_clips().head(1)),
    "waveform_and_spectrogram": lambda: plots.waveform_and_spectrogram(tone(1.5), RATE, "sad", "sad"),
    "waveform_and_spectrogram, 0.03 s": lambda: plots.waveform_and_spectrogram(tone(0.03), RATE, HOSTILE),
    "waveform_and_spectrogram, silent": lambda: plots.waveform_and_spectrogram(np.zeros(RATE), RATE, HOSTILE),
    "waveform_and_spectrogram, 8 kHz": lambda: plots.waveform_and_spectrogram(tone(1, 8000), 8000, "low"),
    "waveform_and_spectrogram, 96 kHz": lambda: plots.waveform_and_spectrogram(tone(1, 96000), 96000, "high"),
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
    "timeline, no speech": lambda: plots.timeline(timeline_table(4, silent=[0, 1])),
    "timeline, an hour": lambda: plots.timeline(timeline_table(3600, silent=range(100, 200))),
    "honest_and_leaky": lambda: plots.honest_and_leaky(mechanism_table()),
    "worth_of_mechanisms": lambda: plots.worth_of_mechanisms(leaks.worth(mechanism_table())),
    "temperature_reliability, one clip": lambda: plots.temperature_reliability(*reliability_tables(1)),
    "coverage, one clip": lambda: plots.coverage(curve_table(1)),
    "paired_differences, hostile names": lambda: plots.paired_differences(comparison_table(2, HOSTILE)),
    "confused_pairs, one pair": lambda: plots.confused_pairs(pairs_table().head(1)),
    "cross_corpus_heatmap": lambda: plots.cross_corpus_heatmap(matrix_table(["ravdess", "tess", "savee"])),
    "noise_curves": lambda: plots.noise_curves(conditions_table()),
    "condition_points": lambda: plots.condition_points(conditions_table()),
    "temperature_reliability": lambda: plots.temperature_reliability(
        *[calibration.reliability_table(predictions_table(n=60))] * 2
    ),
    "coverage": lambda: plots.coverage(calibration.coverage_curve(predictions_table(n=60))),
    "paired_differences": lambda: plots.paired_differences(
        comparison.compare_all({name: predictions_table(n=60) for name in (HOSTILE, "b", "c")})
    ),
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
    drawing = {name for name in plots.__all__ if callable(getattr(plots, name))}
    assert drawing == {name.split(",")[0] for name in PICTURES}


def test_a_notebook_shows_a_picture_once_with_its_title_as_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata: shown.append((data, metadata)))
    plots.durations(make_clips())._ipython_display_()
    [(data, metadata)] = shown
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"].startswith("Nine in ten clips last")


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


def test_class_counts_writes_the_counts_of_each_corpus():
    clips = make_clips(2, ("neutral", "sad"), corpora=("ravdess", "tess")).iloc[1:]
    assert texts(plots.class_counts(clips)) == ["7", "8", "8", "8"]


def test_speaker_counts_tells_of_speakers_without_an_emotion():
    clips = make_clips(3)
    clips = clips[~((clips["speaker"] == "sample-02") & (clips["emotion"] == "sad"))]
    assert plots.speaker_counts(clips).get_suptitle() == "3 speakers with 8 to 12 clips each; 1 lacks an emotion"


def test_silence_is_dark_in_a_spectrogram_and_speech_is_not():
    def brightest(waveform):
        figure = plots.waveform_and_spectrogram(waveform, RATE, "x")
        return max(image.get_array().max() for axes in figure.axes for image in axes.images)

    assert brightest(np.zeros(RATE)) <= -70
    assert brightest(tone(1)) == pytest.approx(0, abs=0.01)


def test_split_sizes_says_whether_every_clip_is_tested():
    split = split_table(6, 3)
    assert "every one of 72 clips is tested exactly once" in plots.split_sizes(split).get_suptitle()
    assert "24 of 72 clips are tested" in plots.split_sizes(split[split["fold"] == 0]).get_suptitle()


def test_learning_curves_name_the_epoch_that_is_kept():
    history = history_table(2, 5)
    assert plots.learning_curves(history).get_suptitle().startswith("Epoch 1 of 5 is kept: validation UAR 0.50")
    without = plots.learning_curves(history_table(1, 5, validation=False))
    assert without.get_suptitle() == "No validation clips: epoch 5 of 5 is kept"


def test_learning_curves_show_accuracy_where_there_is_no_uar():
    history = history_table(1, 3).drop(columns="validation_uar")
    assert "validation accuracy 0.50" in plots.learning_curves(history).get_suptitle()


def test_confusion_matrices_name_the_most_frequent_mistake_by_share_not_by_count():
    table = pd.DataFrame([[90, 10], [1, 3]], index=["happy", "sad"], columns=["happy", "sad"])
    figure = plots.confusion_matrices(table)
    assert figure.get_suptitle() == "Most often confused: 25 % of the sad clips are taken for happy"
    assert texts(figure) == ["90", "10", "1", "3", "90", "10", "25", "75"]


def test_probability_plot_names_truth_and_prediction_of_each_clip():
    table = pd.DataFrame({"clip_id": ["a", "b"], "truth": ["sad", "happy"], "happy": [0.7, 0.6], "sad": [0.3, 0.4]})
    figure = plots.probability_plot(table)
    assert texts(figure) == ["happy 70% ✗ truth sad", "happy 60% ✓"]
    assert figure.get_suptitle() == "1 of 2 clips recognised"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 9))
def test_reliability_counts_every_clip_once_and_states_the_error_of_metrics(sad, seed):
    truth = np.random.default_rng(seed).choice(["happy", "sad"], len(sad))
    table = pd.DataFrame({"clip_id": range(len(sad)), "truth": truth, "happy": 1 - np.array(sad), "sad": sad})
    figure = plots.reliability(table)
    # The upper bars stand on the lower ones.
    assert sum(patch.get_height() for patch in figure.axes[1].patches) == len(sad)
    assert figure.get_suptitle().endswith(f"(ECE) {metrics.score(table, bootstrap=1)['ece']:.2f}")


def test_scores_by_group_has_the_best_group_on_top_with_its_number_of_clips():
    [axes] = plots.scores_by_group(groups_table(3).set_axis(["low", "middle", "high"]), "x").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["high (40)", "middle (40)", "low (40)"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_layer_weights_name_the_layer_that_counts_most_by_its_own_number():
    weights = pd.DataFrame({0: [0.2, 0.5, 0.3], 1: [0.1, 0.6, 0.3]}, index=[3, 4, 5])
    figure = plots.layer_weights(weights)
    assert figure.get_suptitle() == "Layer 4 counts most, with 55% of the weight"


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
    title = " ".join(figure.get_suptitle().split())
    assert title.startswith("Of 4 clips, 0% lie next to one of the same emotion, 100% next to one of the same")


def test_feature_heatmap_names_the_coefficient_that_differs_most():
    features = np.zeros((4, 5))
    features[:, 3] = [0, 0, 1, 1]
    figure = plots.feature_heatmap(features, ["sad", "sad", "angry", "angry"])
    assert figure.get_suptitle().startswith("Coefficient 3 sets the emotions apart most, from sad (low) to angry")


# The pages.


def leak(name="same speaker", severity="red", clips=0, meaning="why"):
    return {"leak": name, "severity": severity, "clips": clips, "share": clips and clips / 10, "meaning": meaning}


def context(**changes):
    return {
        "title": "Model Training",
        "window_title": "Model Training · demo",
        "description": "A demonstration",
        "facts": [
            {"name": "Protocol", "value": "speaker", "detail": "k folds"},
            {"name": "Commit", "value": "abc", "mono": True},
        ],
        "scores": [{"name": "UAR", "value": 0.5, "low": 0.4, "high": 0.6}],
        "interval_note": "95 % intervals",
        "leaks": [leak()],
        "audited": True,
        "notice": None,
        "pages": [{"title": "Run Model", "href": "Run_Model.html", "current": False}],
        "index_href": "../../index.html",
    } | changes


def page(tmp_path, *cells, **changes):
    notebook = notebooks.new_notebook(cells=list(cells))
    build.write_page(notebook, context(**changes), tmp_path / "page.html")
    return (tmp_path / "page.html").read_text()


def code(*outputs, source="1"):
    return notebooks.new_code_cell(source, outputs=list(outputs))


def stderr(text):
    return notebooks.new_output("stream", name="stderr", text=text)


def result_row(**changes):
    scores = {f"{name}{end}": 0.5 for name in ("uar", "accuracy", "macro_f1") for end in ("", "_low", "_high")}
    about = {"recipe": "demo", "variant": "stated", "encoder": "mfcc-40", "protocol": "speaker", "corpus": "sample"}
    return about | scores | {"ece": 0.1, "n_test": 1440, "test_speakers": 24, "seeds": "0"} | changes


def index(*rows, reports=()):
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(str(build.TEMPLATES)), autoescape=True)
    return environment.get_template("index.html.j2").render(
        results=rows, reports=reports, protocols=PROTOCOLS, generated="2025-01-01"
    )


def policy(soup):
    return soup.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]


def assert_loads_nothing(html):
    soup = BeautifulSoup(html, "html.parser")
    loaded = [
        tag[name] for tag in soup.find_all() for name in ("src", "srcset", "data", "poster") if tag.has_attr(name)
    ]
    loaded += [tag["href"] for tag in soup.find_all("link")]
    assert all(address.startswith("data:") for address in loaded)
    assert not re.search(r"@import|url\(", html)
    assert "default-src 'none'" in policy(soup)


def test_a_page_loads_nothing_and_adds_less_than_40_kilobytes(tmp_path):
    picture = notebooks.new_output("display_data", {"image/png": "iVBORw0K"}, metadata={"image/png": {"alt": "a bar"}})
    html = page(tmp_path, code(picture), notebooks.new_markdown_cell("[link](https://example.org)"))
    assert_loads_nothing(html)
    assert_loads_nothing(index(result_row()))
    assert 'alt="a bar"' in html
    assert len(html) < 40_000 and len(index()) < 40_000


def test_the_only_script_of_a_page_is_the_one_that_its_policy_allows(tmp_path):
    soup = BeautifulSoup(page(tmp_path), "html.parser")
    [script] = soup.find_all("script")
    digest = base64.b64encode(hashlib.sha256(script.string.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy(soup), "write this hash into report/index.html.j2"
    assert "script-src 'none'" in policy(BeautifulSoup(index(), "html.parser"))


def test_names_from_outside_are_escaped_in_a_page(tmp_path):
    changes = {key: HOSTILE for key, value in context().items() if isinstance(value, str)}
    changes |= {
        "facts": [{"name": HOSTILE, "value": HOSTILE, "detail": HOSTILE}],
        "notice": HOSTILE,
        "scores": [{"name": HOSTILE, "value": 0.5, "low": 0.4, "high": 0.6}],
        "leaks": [leak(HOSTILE, "red", 3, HOSTILE), leak(HOSTILE, "amber", 3, HOSTILE), leak(HOSTILE, "red", None)],
        "pages": [{"title": HOSTILE, "href": '"><script>', "current": True}],
    }
    error = notebooks.new_output("error", ename=HOSTILE, evalue=HOSTILE, traceback=[HOSTILE])
    html = page(tmp_path, code(stderr(HOSTILE), error, source=HOSTILE), **changes)
    assert html.count("<script") == 1 and "<b>Zoë" not in html
    assert html.count("&lt;b&gt;Zoë") >= len(changes)


def test_names_from_outside_are_escaped_in_the_index():
    words = {key: HOSTILE for key, value in result_row().items() if isinstance(value, str)}
    entry = {
        "recipe": HOSTILE,
        "protocol": HOSTILE,
        "title": HOSTILE,
        "pages": [{"title": HOSTILE, "href": '"><script>'}],
    }
    html = index(result_row(**words), reports=[entry])
    assert "<script" not in html and "<b>Zoë" not in html and "alert(1)" in html


@pytest.mark.parametrize(
    "leaks, colour",
    [
        ([leak(clips=0)], "green"),
        ([leak(clips=3)], "red"),
        ([leak(clips=0), leak("same sentence", "amber", 3)], "green"),
        ([leak(clips=None)], "plain"),
        ([leak(clips=None), leak("same audio", "red", 1)], "red"),
    ],
)
def test_the_strip_of_a_page_is_red_only_for_grave_leaks_and_green_only_when_all_were_looked_for(
    tmp_path, leaks, colour
):
    [strip] = BeautifulSoup(page(tmp_path, leaks=leaks), "html.parser").select(".strip")
    assert strip["class"] == ["strip", colour]


def test_a_red_strip_counts_the_clips_and_amber_leaks_are_named_below_it(tmp_path):
    leaks = [leak("same audio", "red", 9), leak("same sentence", "amber", 10), leak("near-same audio", "red", 0)]
    soup = BeautifulSoup(page(tmp_path, leaks=leaks), "html.parser")
    assert "same audio: 9 test clips (90 %)" in soup.select_one(".strip.red").text
    assert "same sentence: 10 test clips (100 %)" in soup.select_one(".aside").text
    assert "near-same audio" not in soup.text
    assert soup.select(".scores.leaking")


def test_a_page_that_was_not_audited_says_so_instead_of_being_green(tmp_path):
    html = page(tmp_path, leaks=[], audited=False)
    assert "Not audited" in html and 'class="strip green"' not in html


def test_a_page_about_many_runs_says_nothing_of_a_split(tmp_path):
    about = context(leaks=[])
    del about["audited"], about["scores"]
    build.write_page(notebooks.new_notebook(cells=[]), about, tmp_path / "page.html")
    soup = BeautifulSoup((tmp_path / "page.html").read_text(), "html.parser")
    assert not soup.select(".strip, .scores") and soup.select(".facts .mono")[0].text == "abc"


def test_a_page_does_not_tell_whose_home_it_was_made_in(tmp_path):
    html = page(tmp_path, code(stderr(f"170 clips found under {Path.home()}/corpora")))
    assert "170 clips found under ~/corpora" in html and f"{Path.home()}/" not in html


def test_a_notice_stands_above_everything_else(tmp_path):
    soup = BeautifulSoup(page(tmp_path, notice="synthetic voices"), "html.parser")
    assert soup.select_one(".strip").text == "synthetic voices"


def test_code_is_collapsed_and_empty_outputs_leave_no_trace(tmp_path):
    empty = notebooks.new_output("stream", name="stdout", text=" \n")
    soup = BeautifulSoup(page(tmp_path, code(empty, source="x = 1"), code(source=" ")), "html.parser")
    [source] = soup.select("details.source")
    assert not source.has_attr("open") and source.pre.text.strip() == "x = 1"
    assert not soup.select(".output")


def test_progress_bars_are_left_out_but_warnings_beside_them_are_kept(tmp_path):
    bar = "\r  0%|          | 0/10 [00:00<?, ?epoch/s]\r100%|██████████| 10/10 [00:02<00:00, 4.2epoch/s, loss=0.3]"
    counter = "\r12it [00:03,  3.90it/s]"
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "0%| 0/10 [00:00<?]"}
    outputs = [
        stderr(bar + "\n"),
        stderr(bar + "ravdess: 1391 of 1440 clips found\n" + counter + "\n2 clips left out at 50 %\n"),
        notebooks.new_output("display_data", widget),
    ]
    soup = BeautifulSoup(page(tmp_path, code(*outputs)), "html.parser")
    assert [log.text for log in soup.select(".output")] == [
        "ravdess: 1391 of 1440 clips found\n2 clips left out at 50 %"
    ]


def test_the_index_marks_leaking_protocols_intervals_over_clips_and_missing_values():
    rows = [result_row(protocol="published"), result_row(test_speakers=2), result_row(ece=float("nan"))]
    leaking, few, unknown = BeautifulSoup(index(*rows), "html.parser").select("tbody tr")
    assert leaking.select_one(".leaks").text == "published" and not few.select(".leaks")
    assert few.text.count("†") == 3 and "†" not in leaking.text
    assert "—" in unknown.text and "nan" not in unknown.text
    assert "1,440 clips" in few.text


def test_an_index_without_results_says_how_to_make_some():
    assert "make report" in index()


def test_the_index_links_the_pages_of_each_report():
    pages = [{"title": "Run Model", "href": "demo/speaker/Run_Model.html"}]
    html = index(reports=[{"recipe": "demo", "protocol": "speaker", "title": "A demonstration", "pages": pages}])
    [link] = BeautifulSoup(html, "html.parser").select(".reports a")
    assert (link.text, link["href"]) == ("Run Model", "demo/speaker/Run_Model.html")
