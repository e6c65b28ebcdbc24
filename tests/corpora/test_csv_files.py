"""Files of a list are found in whatever letters their names are written."""

import unicodedata
from pathlib import Path

import pytest

from ser_lib.corpora.csv_files import locate

NAME = "Zo\u00eb/caf\u00e9 1.wav"


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("change", [str, str.upper, lambda name: name.replace(".wav", ".WAV")])
def test_accents_and_capitals_may_be_written_otherwise(listed, on_disk, change, tmp_path):
    file = tmp_path / unicodedata.normalize(on_disk, NAME)
    file.parent.mkdir()
    file.touch()
    assert locate(unicodedata.normalize(listed, change(NAME)), tmp_path).samefile(file)


def test_of_two_files_that_fit_none_is_taken_but_the_exact_one_is(tmp_path):
    for name in ("a.WAV", "A.wav"):
        (tmp_path / name).touch()
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not tell large from small letters")
    assert locate("a.wav", tmp_path) == tmp_path / "a.wav"
    assert locate("A.wav", tmp_path) == tmp_path / "A.wav"
    assert locate("gone/a.wav", tmp_path) == tmp_path / "gone" / "a.wav"
    assert locate("/no/such/folder/a.wav", tmp_path) == Path("/no/such/folder/a.wav")
