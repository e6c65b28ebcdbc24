"""Files and folders are written whole or not at all, and nothing that is not ours is replaced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ser_lib.common import files
from ser_lib.common.errors import SerError
from ser_lib.common.files import being_replaced, move_into_place, replacing, restore, whole_folder, with_home


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


def finished(folder, text):
    folder.mkdir()
    (folder / "a").write_text(text)
    return folder


def test_a_symbolic_link_is_replaced_as_often_as_wanted_and_what_it_leads_to_stays(tmp_path):
    elsewhere = finished(tmp_path / "elsewhere", "first")
    (tmp_path / "0").symlink_to(elsewhere)
    for text in ("second", "third", "fourth"):
        move_into_place(finished(tmp_path / ".0.partial", text), tmp_path / "0")
        assert (tmp_path / "0" / "a").read_text() == text
        (tmp_path / "dangling").unlink(missing_ok=True)
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
        move_into_place(finished(tmp_path / ".1.partial", text), tmp_path / "dangling")
        (tmp_path / "dangling" / "a").unlink()
        (tmp_path / "dangling").rmdir()
    assert (elsewhere / "a").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "elsewhere"]


def test_a_kill_while_a_folder_is_replaced_loses_neither(tmp_path):
    finished(tmp_path / ".0.old", "before")  # the kill came between the two renamings
    assert being_replaced(tmp_path / "0")
    restore(tmp_path / "0")
    assert (tmp_path / "0" / "a").read_text() == "before" and not being_replaced(tmp_path / "0")
    (tmp_path / "0").rename(tmp_path / ".0.old")
    move_into_place(finished(tmp_path / ".0.partial", "after"), tmp_path / "0")
    assert (tmp_path / "0" / "a").read_text() == "after"
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_what_killed_processes_left_is_deleted_once_it_is_old(tmp_path, monkeypatch):
    program = (
        "import os, pathlib, sys\nfrom ser_lib.common.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as part:\n"
        "    part.write_text('half')\n    os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "table.csv")])
    (leftover,) = tmp_path.iterdir()
    mine = finished(tmp_path / ".0.partial", "an interrupted run is no leftover")
    os.utime(mine, (0, 0))
    with replacing(tmp_path / "other.csv") as part:
        part.write_text("whole")
    assert leftover.exists()  # its process may still write it
    os.utime(leftover, (0, 0))
    monkeypatch.setattr(files, "_swept", set())
    with replacing(tmp_path / "other.csv") as part:
        part.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".0.partial", "other.csv"]


def test_a_home_folder_that_does_not_exist_is_a_name(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert with_home("~/clips") == tmp_path / "clips"
    assert with_home("~nobody-of-this-name/clips") == Path("~nobody-of-this-name/clips")
