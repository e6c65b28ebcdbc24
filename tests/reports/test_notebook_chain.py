import json

import pytest

from ser_lib.common.files import cache_dir
from ser_lib.reports.index import NOTEBOOKS
from ser_lib.reports.notebook_chain import ONE_PLACE, PARAMETERS, agreement

PLAIN = {
    "recipe_name": "demo",
    "protocol": "speaker",
    "variant": "stated",
    "seed": 0,
    "overrides": [],
    "data_dir": None,
}
PLAIN |= {"runs_dir": None, "something_else": object()}


@pytest.fixture(autouse=True)
def in_a_notebook(monkeypatch):
    monkeypatch.delenv(ONE_PLACE, raising=False)


def test_notebooks_with_the_same_parameters_say_nothing():
    for _ in range(2):
        for name in NOTEBOOKS:
            assert agreement(name, PLAIN) is None


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_that_was_edited_in_one_notebook_is_named(name):
    edited = PLAIN | {name: "<b>other</b>"}
    assert agreement("Data_Preparation", PLAIN) is None
    first = agreement("Model_Training", edited)
    assert first and f"{name} = " in first and "&lt;b&gt;other" in first and "<b>other" not in first
    assert agreement("Run_Model", edited) is None
    second = agreement("Run_Model", PLAIN)
    assert second and "another run than Model_Training" in second


def test_a_report_gives_all_of_them_the_same(monkeypatch):
    agreement("Model_Training", PLAIN | {"seed": 3})
    monkeypatch.setenv(ONE_PLACE, "1")
    assert agreement("Run_Model", PLAIN) is None


@pytest.mark.parametrize("text", ["", "[", json.dumps({"Model_Training": {}})])
def test_a_damaged_note_stops_no_notebook(text):
    agreement("Model_Training", PLAIN)
    (note,) = cache_dir().glob("notebooks-*.json")
    note.write_text(text)
    agreement("Run_Model", PLAIN)
