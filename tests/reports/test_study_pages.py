"""The committed pages of the studies come out again from the committed tables, without audio, runs or a GPU."""

import re
import shutil

import pytest
from bs4 import BeautifulSoup

from ser_lib.cli import main
from ser_lib.common.files import reports_path
from ser_lib.evaluation.results import read_results
from ser_lib.reports import build, voice_page
from ser_lib.studies import atlas, claims, claims_audit, voice

# Of each command: its page, the tables of which it is made, and the parts that hold their numbers.
STUDIES = {
    "claims": ("Claims_Audit.html", ["results.csv", "claims_audit"], ["table", ".output_markdown"]),
    "atlas": ("Atlas.html", ["atlas.csv", "atlas-worth.csv"], ["table.atlas", ".output_markdown", "li[id^=heard]"]),
    "voice": ("On_Your_Voice.html", ["voice.csv"], ["table.dataframe", ".output_markdown"]),
}
SUMMARIES = {
    "atlas": lambda: atlas.summary(atlas.read_table()),
    "voice": lambda: voice_page.summary(voice.read_table()),
}


@pytest.mark.notebook
@pytest.mark.parametrize("command", STUDIES)
def test_the_page_is_made_of_the_committed_tables(command, tmp_path):
    name, tables, parts = STUDIES[command]
    for table in map(reports_path, tables):
        (shutil.copytree if table.is_dir() else shutil.copy)(table, tmp_path / table.name)
    assert main([command, "--page", "--reports-dir", str(tmp_path)]) == 0
    html = (tmp_path / name).read_text(encoding="utf-8")
    committed = reports_path(name).read_text(encoding="utf-8")
    pages = [BeautifulSoup(text, "html.parser") for text in (html, committed)]
    assert name in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert len(html.encode()) < build.MAX_PAGE_BYTES or command == "claims"
    for part in parts:
        new, old = ([" ".join(tag.text.split()) for tag in page.select(part)] for page in pages)
        assert new == old and new, f"{part}: run `make tables`"
    for sentence in SUMMARIES.get(command, list)():
        assert sentence in " ".join(pages[0].text.split())
    assert not re.search(r"(?<![\w.])/(tmp|home|root|work)/", html)


def test_the_claims_audit_explains_the_rows_that_its_table_shows():
    accuracies = claims.claims_table(read_results()).set_index(["recipe", "column"])["accuracy"]
    splits = claims_audit.read_tables()["splits"].set_index(["recipe", "column"])["accuracy"]
    assert set(splits.index) == {key for key in accuracies.index if key[1] in claims.EXPLAINED}
    assert splits.to_numpy() == pytest.approx(accuracies[splits.index].to_numpy(), abs=1e-5), (
        "run `ser claims --committed`"
    )
