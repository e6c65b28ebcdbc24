"""Files and folders are written whole or not at all, and nothing that is not ours is replaced."""

import pytest

from ser_lib.common.errors import SerError
from ser_lib.common.files import whole_folder


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(SerError, match=r"no earlier export.*holds thesis.txt"), whole_folder(tmp_path / "mine", ("a",)):
        pass
    (tmp_path / "mine" / "thesis.txt").rename(tmp_path / "mine" / "README.md")  # as an export holds one, too
    with pytest.raises(SerError, match="holds README.md"), whole_folder(tmp_path / "mine", ("a", "README.md")):
        pass
    with pytest.raises(SerError, match="holds README.md"), whole_folder(tmp_path / "mine" / "README.md", ("a",)):
        pass
    for text in ("first", "second"):
        with whole_folder(tmp_path / "export", ("a",)) as part:
            (part / "a").write_text(text)
    assert (tmp_path / "export" / "a").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "mine"]
