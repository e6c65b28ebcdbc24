"""Files that others wrote or damaged are read to a value, or refused by name."""

import time

import pytest

from ser_lib.common.errors import SerError
from ser_lib.common.parsing import parse_yaml, read_json, read_table

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
