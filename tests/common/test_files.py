"""Files and folders are written whole or not at all, nothing that is not ours is replaced, and damage is named."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ser_lib.common import files
from ser_lib.common.errors import SerError
from ser_lib.common.files import (
    being_replaced,
    move_into_place,
    parse_yaml,
    read_json,
    read_table,
    replacing,
    restore,
    whole_folder,
    with_home,
)


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


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


class TestYaml:
    def test_of_plain_values_is_read(self):
        text = "a: {b: [1, 2.5, true, null, 'x']}\nc: |\n  two\n  lines\n"
        assert parse_yaml(text) == {"a": {"b": [1, 2.5, True, None, "x"]}, "c": "two\nlines\n"}

    @pytest.mark.parametrize(
        "text, problem",
        [
            (BOMB, r"an alias, \*a, is not allowed"),
            ("[" * 5000, "more than 20 levels"),
            ("- " * 5000, "more than 20 levels"),
            ("x" * 100_001, "at most 100000 characters"),
            ("x: 2020-13-45", "month must be in"),
            ("!!int ''", "expected YAML"),
            ("!!timestamp x", "expected YAML"),
            ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
            (r'"\ud800"', "the control character"),
            (r'"\e[2J"', "the control character"),
            ("{", "expected YAML"),
        ],
    )
    def test_that_harms_or_breaks_is_refused_at_once(self, text, problem):
        started = time.monotonic()
        with pytest.raises(SerError, match=problem):
            parse_yaml(text)
        # A bomb needs minutes; the bound is for a busy machine.
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"a": 1'])
def test_damaged_json_is_named_with_what_to_do(tmp_path, content):
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(SerError, match=r"metrics\.json cannot be read: .*\. Do this\.$"):
        read_json(tmp_path / "metrics.json", "Do this.")


@pytest.mark.parametrize("content", [b"", b"\xff\xfea,b", b'a,b\n"1,2\n', b"a\n1,2,3\n1,2,3,4\n"])
def test_a_damaged_table_is_named(tmp_path, content):
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(SerError, match=r"history\.csv cannot be read: "):
        read_table(tmp_path / "history.csv")


def test_a_missing_or_forbidden_file_is_named(tmp_path):
    with pytest.raises(SerError, match=r"none\.json cannot be read: No such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(SerError, match="cannot be read: Is a directory"):
        read_table(tmp_path)
