"""The index: leaderboards, anchors, warnings in the rows, pages by recipe, and the table of all results."""

import base64
import hashlib
import shutil

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import make_clips
from test_build import HOSTILE, assert_loads_nothing, policy
from test_results import made_run

from ser_lib.evaluation import results, stored_predictions
from ser_lib.evaluation.results import COLUMNS, results_path
from ser_lib.protocols.splits import PROTOCOLS
from ser_lib.reports import index
from ser_lib.reports.index import compare_boards, leaderboard_row, write_index


def result_row(**changes):
    scores = {f"{name}{end}": 0.5 for name in ("uar", "accuracy", "macro_f1") for end in ("", "_low", "_high")}
    scores |= {"interval_over": "speakers", "predictions": "none.csv.xz"}
    about = {"recipe": "demo", "variant": "stated", "encoder": "mfcc-40", "protocol": "speaker", "corpus": "sample"}
    about |= {"folds": 4, "n_train": 160, "seconds": 1.0, "device": "cpu", "commit": "abc"}
    return about | scores | {"ece": 0.1, "n_test": 1440, "test_speakers": 24, "seeds": "0"} | changes


def whisper_row(**changes):
    about = {"recipe": "ravdess-whisper-logistic", "encoder": "whisper-base-encoder", "corpus": "ravdess"}
    return result_row(**about | changes)


@pytest.fixture
def soup_of(tmp_path):
    def write(*rows):
        if rows:
            pd.DataFrame(rows).reindex(columns=COLUMNS).to_csv(results_path(tmp_path), index=False)
        return BeautifulSoup(write_index(tmp_path).read_text(encoding="utf-8"), "html.parser")

    return write


def names_of(board):
    return [name.text for name in board.select("li strong")]


def test_without_results_it_says_how_to_make_some(soup_of):
    assert "No results yet: make report makes the first." in soup_of().text


def test_a_leaderboard_holds_one_corpus_and_protocol_best_first(soup_of):
    rows = [result_row(recipe=name, uar=uar) for name, uar in (("low", 0.2), ("high", 0.9), ("middle", 0.5))]
    few = {"corpus": "tess", "test_speakers": 2, "uar_low": float("nan"), "uar_high": float("nan")}
    other = [result_row(protocol="speaker-sentence"), result_row(**few, uar_by_speaker="tess-oaf=0.4; tess-yaf=0.6")]
    soup = soup_of(*rows, *other)
    assert [heading.text for heading in soup.select("h2")][:2] == ["TESS", "Sample"]  # synthetic voices come last
    assert "synthetic" in soup.select_one("h2#sample + .strip").text
    tess, sample, strict = soup.select(".board")
    assert names_of(sample) == ["high", "middle", "low"] and names_of(tess) == names_of(strict) == ["demo"]
    assert "speakers: 0.400, 0.600" in tess.text and "speakers:" not in sample.text
    assert "0.500–0.500" in sample.text and "1,440 clips, 24 speakers" in sample.text


@pytest.fixture
def measured(tmp_path):
    """Two runs that are nearly alike and one that is worse, on 12 speakers, and a control."""
    clips = make_clips(speakers=12, sentences=4)
    for overrides, accuracy in (
        ([], 0.8),
        (["training.epochs=300"], 0.79),
        (["training.epochs=200"], 0.4),
        (["split.permute_labels=true"], 0.9),
    ):
        results.add_runs([made_run(clips, 0, accuracy, overrides)], tmp_path)
    return BeautifulSoup(write_index(tmp_path).read_text(encoding="utf-8"), "html.parser")


def test_what_a_paired_test_cannot_tell_from_the_best_is_a_tie(measured):
    rows = [row.text for row in measured.select(".board li")]
    assert ["tie with the best" in row for row in rows] == [False, False, True, False]
    assert "control" in rows[0] and "epochs=200" in rows[3]


def test_the_smallest_difference_that_the_speakers_show_stands_beside_the_corpus(measured, tmp_path):
    rows = [leaderboard_row(row) for row in results.read_results(tmp_path).itertuples(index=False)]
    compare_boards(rows, stored_predictions.predictions_dir(tmp_path))
    (smallest,) = {row["smallest"] for row in rows if not row["control"]}
    assert 0 < smallest < 0.4
    beside = [tag.text for tag in measured.select("h2#sample ~ p.note")]
    assert any(f"12 speakers of this corpus show differences of {smallest:.3f} UAR or more" in text for text in beside)


def test_rows_of_too_few_speakers_are_not_compared_and_say_why(tmp_path):
    for overrides in ([], ["training.epochs=200"]):
        results.add_runs([made_run(make_clips(speakers=2), 0, 0.7, overrides)], tmp_path)
    soup = BeautifulSoup(write_index(tmp_path).read_text(encoding="utf-8"), "html.parser")
    assert "tie with" not in soup.text and "show differences" not in soup.text
    assert "Shows no difference between models: sample has 2 speakers." in soup.text
    assert "No test tells these rows apart: sample has 2 speakers." in soup.text


def test_random_splits_stand_apart_and_red(soup_of):
    soup = soup_of(result_row(), *[result_row(protocol=name) for name in ("published", "deduplicated")])
    [apart] = soup.select("details.random")
    assert [heading.text for heading in apart.select("h3.leaks, h3 .leaks")] == ["published", "deduplicated"]
    assert len(soup.select(".board")) == 3 and len(apart.select(".board.leaking")) == 2
    assert [row.select_one(".leaks").text for row in soup.select(".results .leaking")] == ["published", "deduplicated"]


def test_anchors_are_marked_rows_with_their_source_where_their_leaderboard_is(soup_of):
    assert not soup_of(whisper_row(protocol="speaker-sentence")).select(".anchor")
    [board] = soup_of(whisper_row(protocol="leave-one-speaker-out", uar=0.76)).select(".board")
    assert len(board.select(".anchor")) == 9 and names_of(board)[4] == "ravdess-whisper-logistic"
    first = board.select_one(".anchor")
    assert "published by hsn07pk" in first.text and "0.819" in first.text and "0.778–0.859" in first.text
    assert first.a["href"].startswith("https://")
    [board] = soup_of(whisper_row()).select(".board")
    assert all("accuracy, not UAR" in anchor.text for anchor in board.select(".anchor"))


def test_every_anchor_names_its_source_and_belongs_to_a_protocol():
    anchors = pd.read_csv(index.ANCHORS)
    assert anchors[["what", "source", "url"]].notna().all(axis=None) and set(anchors["measure"]) == {"uar", "accuracy"}
    assert anchors["value"].between(0, 1).all() and set(" ".join(anchors["protocol"]).split()) <= set(PROTOCOLS)


@pytest.mark.parametrize(
    "changes, warnings",
    [
        ({}, []),
        (
            {"stand_in_for": "facebook/wav2vec2-base"},
            ["stand-in: whisper-base-encoder in place of facebook/wav2vec2-base"],
        ),
        ({"part": "170 of 7,442 clips of crema_d"}, ["170 of 7,442 clips of crema_d"]),
        ({"control": "labels shuffled, 10 draws"}, ["control: labels shuffled, 10 draws"]),
        (
            {"reduced": "3 instead of 20 epochs", "caveat": "chosen on test"},
            ["3 instead of 20 epochs", "chosen on test"],
        ),
    ],
)
def test_a_row_says_what_keeps_its_score_from_being_compared(changes, warnings, soup_of):
    row = whisper_row(**changes)
    soup = soup_of(row)
    assert [chip.text for chip in soup.select(".board li:not(.anchor) .chip.warning")] == warnings
    assert all(warning in soup.select_one(".results tbody").text for warning in warnings)
    assert soup.select_one(".board li:not(.anchor) small").text.startswith(f"reads {row['encoder']}; stated")


def test_scores_of_fewer_emotions_have_a_leaderboard_of_their_own(soup_of):
    soup = soup_of(whisper_row(), whisper_row(variant="stated; emotions=[happy,sad]"))
    assert [heading.text for heading in soup.select("h3")] == ["speaker", "speaker, only happy, sad"]
    soup = soup_of(whisper_row(variant="stated; emotions=all"))
    assert [heading.text for heading in soup.select("h3")] == ["speaker"]


def test_pages_are_listed_by_recipe(soup_of, tmp_path):
    for protocol in ("speaker", "published"):
        (tmp_path / "demo" / protocol).mkdir(parents=True)
        (tmp_path / "demo" / protocol / "Run_Model.html").write_text("x")
    for name in ("Claims_Audit", "On_Your_Voice"):
        (tmp_path / f"{name}.html").write_text("x")
    soup = soup_of()
    [recipe] = soup.select(".reports li")
    assert recipe.h3.text == "A demonstration on the bundled synthetic voices"
    assert [link["href"] for link in recipe.select("a")] == [
        f"demo/{protocol}/Run_Model.html" for protocol in ("published", "speaker")
    ]
    assert recipe.select_one(".leaks").text == "published" and soup.select('a[href="Claims_Audit.html"]')
    assert soup.select('a[href="On_Your_Voice.html"]') and not soup.select('a[href="Atlas.html"]')


def test_names_from_outside_are_escaped(soup_of, tmp_path):
    (tmp_path / "<b>mine" / "<b>speaker").mkdir(parents=True)
    (tmp_path / "<b>mine" / "<b>speaker" / "Run_Model.html").write_text("x")
    words = {key: HOSTILE for key, value in result_row().items() if isinstance(value, str)}
    soup_of(result_row(**words))
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert html.count("<script") == 1 and "<b>" not in html and html.count("alert(1)") >= 4


def test_it_loads_nothing_and_runs_its_own_script_alone(soup_of, tmp_path):
    soup = soup_of(result_row(ece=float("nan")))
    assert_loads_nothing((tmp_path / "index.html").read_text(encoding="utf-8"))
    [script] = soup.find_all("script")
    digest = base64.b64encode(hashlib.sha256(script.string.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy(soup)
    assert "—" in soup.select_one(".results tbody").text and "nan" not in soup.text


def test_the_table_of_all_results_sorts_and_filters_in_a_browser(soup_of, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium to open the index")
    soup_of(*[result_row(recipe=name, uar=uar, n_test=n) for name, uar, n in (("b", 0.5, 99), ("a", 0.45, 1440))])
    with playwright.sync_playwright() as driver:
        page = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page()
        page.set_viewport_size({"width": 390, "height": 800})
        page.goto((tmp_path / "index.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.locator("details summary").click()

        def names():
            return page.locator(".results tbody tr:visible td:first-child").all_inner_texts()

        heads = page.locator(".results th button")
        for column, expected in ((0, ["a", "b"]), (5, ["b", "a"]), (5, ["a", "b"]), (3, ["a", "b"])):
            heads.nth(column).click()
            assert names() == expected, column
        page.fill("#filter", "B speaker")
        assert names() == ["b"] and page.locator("#matches").inner_text() == "1 of 2 rows"
