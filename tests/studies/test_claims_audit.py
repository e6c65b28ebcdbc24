"""The claims audit, executed from end to end on the bundled corpus, and the page made of it."""

import inspect
import logging
import re

import pytest
from bs4 import BeautifulSoup

from ser_lib.cli import main
from ser_lib.common.files import project_dir
from ser_lib.evaluation.results import read_results, score_cell
from ser_lib.reports import build
from ser_lib.reports.build import MAX_PAGE_BYTES, make_claims_audit
from ser_lib.studies import claims, claims_audit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_CACHE_DIR", str(root / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        make_claims_audit({"measure": True, "bundled": True, "runs_dir": str(root / "runs")}, root / "reports")
    return root / "reports"


@pytest.fixture(scope="module")
def page(folder):
    return BeautifulSoup((folder / "Claims_Audit.html").read_text(encoding="utf-8"), "html.parser")


def test_notes_hold_each_text_once_and_no_path_of_this_computer(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada lovelace")
    said = []
    notes = claims_audit.Notes(said.append)
    missing = f"TESS was not found in {tmp_path}/tess.\nDownload it into {tmp_path}."
    notes(missing)
    notes(missing)
    with notes.with_warnings():
        logging.getLogger("ser_lib.corpora").warning("1 of 170 files left out: /media/disk/a.wav, C:\\data\\b.wav")
    logging.getLogger("ser_lib.corpora").warning("later")
    notes("damaged: /home/ada lovelace/me.wav")
    assert said[:2] == [missing, missing]
    expected = ["TESS was not found in …/tess.", "1 of 170 files left out: …/a.wav, …/b.wav", "damaged: ~/me.wav"]
    assert notes.texts == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--committed", "--encoder", "somebody/encoder"], {"encoder": "somebody/encoder", "train": False}),
        (["--bundled"], {"bundled": True, "reports_dir": project_dir() / "reports" / "bundled"}),
        (["--page"], None),
    ],
)
def test_the_command_measures_what_is_asked_for(arguments, expected, monkeypatch, tmp_path, capsys):
    measured = []
    signature = inspect.signature(claims_audit.measure)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(claims_audit, "measure", lambda *a, **k: measured.append(signature.bind(*a, **k).arguments))
    monkeypatch.setattr(build, "make_claims_audit", lambda parameters, reports_dir: tmp_path)
    assert main(["claims", *arguments]) == 0
    assert len(measured) == (expected is not None)
    assert all(expected.items() <= settings.items() for settings in measured)
    assert main(["claims", "--page", "--committed"]) == 1 and "leave out" in capsys.readouterr().err


@pytest.mark.notebook
class TestThePage:
    def test_stands_alone_and_is_small(self, folder, page):
        assert {path.name for path in folder.iterdir()} - {".results.lock", ".predictions.lock"} == {
            "Claims_Audit.html",
            "claims_audit",
            "index.html",
            "results.csv",
            "predictions",
        }
        assert (folder / "Claims_Audit.html").stat().st_size <= MAX_PAGE_BYTES
        assert not [tag for tag in page.find_all(["img", "script", "link"]) if "http" in str(tag.get("src"))]
        assert "Claims_Audit.html" in (folder / "index.html").read_text(encoding="utf-8")

    def test_says_first_that_the_voices_are_synthetic(self, page):
        assert "synthetic" in page.select_one(".strip").text

    def test_has_every_claim_beside_what_it_measured(self, folder, page):
        table = claims.claims_table(read_results(folder), claims.BUNDLED)
        assert set(table["recipe"]) == {f"tess-mfcc-{name}" for name in ("cnn", "lstm", "bilstm", "gru")}
        for row in table.itertuples():
            assert score_cell(row, "accuracy") in page.text
        for name in ("tess-wav2vec2-finetune", "four-corpora-xlsr53-finetune"):
            assert re.search(f"{name} is left out: .*is not in the Hub's cache", page.text)
        assert "label decided by corpus is not measured: expected corpora that share some emotions" in page.text

    @pytest.mark.parametrize(
        "heading", ["The claims", "One leak at a time", "Other corpora", "What a careful reader asks", "How to read"]
    )
    def test_has_its_parts(self, page, heading):
        assert any(heading in tag.text for tag in page.find_all(["h2"]))

    def test_shows_a_picture_of_each_leak(self, page):
        titles = " ".join(str(image.get("alt")) for image in page.find_all("img"))
        for name in (
            "Duplicate files",
            "Same speaker",
            "Epoch",
            "Best of",
            "Copies before the split",
            "Normalis",
            "Speaker as label",
        ):
            assert re.search(name, titles, re.I), (name, titles)
