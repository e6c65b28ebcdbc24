"""All tables of README, docs and index come out again from the committed files of reports/, without audio or runs."""

import shutil
from pathlib import Path

import pytest

from ser_lib.evaluation import unseen_corpora
from ser_lib.evaluation.results import results_path
from ser_lib.evaluation.stored_predictions import predictions_dir
from ser_lib.reports.doc_tables import fill_tables, make_tables

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports"
CARD = ROOT / "ser_lib" / "inference" / "speech_emotion" / "README.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), CARD]
WITH_TABLES = [page for page in PAGES if ": begin -->" in page.read_text(encoding="utf-8")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the committed predictions, the tables made of them, and the committed pages."""
    folder = tmp_path_factory.mktemp("made") / "reports"
    shutil.copytree(predictions_dir(), predictions_dir(folder))
    for page in REPORTS.glob("**/*.html"):
        if page.name != "index.html":
            (folder / page.relative_to(REPORTS)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(page, folder / page.relative_to(REPORTS))
    # Measured or simulated, not made of predictions.
    for name in ("coverage.csv", "false_alarms.csv", "processors.csv", "voice.csv"):
        shutil.copy(REPORTS / name, folder)
    make_tables(folder)
    return folder


@pytest.mark.parametrize("path", [results_path(), unseen_corpora.unheard_path(), REPORTS / "index.html"], ids=str)
def test_the_committed_tables_are_those_of_the_committed_predictions(path, made):
    if path == unseen_corpora.unheard_path() and not (predictions_dir() / unseen_corpora.FOLDER).is_dir():
        pytest.skip("no predictions of unseen corpora are committed")
    text = path.read_text(encoding="utf-8")
    assert (made / path.name).read_text(encoding="utf-8") == text, "run `make tables`"


@pytest.mark.parametrize("page", WITH_TABLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_tables_of_a_page_are_those_of_the_committed_predictions(page, made, tmp_path):
    if not (made / "unheard.csv").is_file():
        shutil.copy(unseen_corpora.unheard_path(), made)
    copy = tmp_path / page.name
    shutil.copy(page, copy)
    fill_tables(copy, made)
    assert copy.read_text(encoding="utf-8") == page.read_text(encoding="utf-8"), "run `make tables`"


def test_every_committed_file_of_predictions_is_small():
    sizes = {path.name: path.stat().st_size for path in predictions_dir().glob("**/*.xz")}
    assert sizes and max(sizes.values()) < 1_000_000 and sum(sizes.values()) < 10_000_000
