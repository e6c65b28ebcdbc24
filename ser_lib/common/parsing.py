"""JSON, YAML and tables from files that others may have written, damaged or made by hand.

Whatever a file holds, the caller gets a value or a SerError that names the file: parsers raise errors of many classes
over damaged input, and none of them reaches the user as a traceback.
"""

import io
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ser_lib.common.errors import SerError

# A recipe has about forty lines, and four levels.
MAX_YAML_CHARACTERS = 100_000
MAX_YAML_DEPTH = 20
# A line of a message.
MAX_REASON = 200
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def read_json(path: Path, advice: str = "") -> Any:
    """The value in a JSON file.

    Args:
        advice: a sentence for the error: how the file is made again.

    Raises:
        SerError: the file is missing, or damaged.
    """
    text = read_text(path, advice)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, advice) from error


def read_table(path: Path, advice: str = "") -> pd.DataFrame:
    """The table in a CSV that this package wrote. `None`, `NA` and the like are names in it; "" is a missing value.

    Raises:
        SerError: the file is missing, or damaged.
    """
    # Read once: a file that is replaced between two readings would be of two runs, or missing.
    text = read_text(path, advice)
    try:
        return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])
    except (ValueError, OverflowError, pd.errors.ParserError) as error:
        raise damaged(path, error, advice) from error


def read_text(path: Path, advice: str = "") -> str:
    """The text in a file in UTF-8; SerError where the file is missing, or no such text."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise damaged(path, error, advice) from error


def damaged(path: Path, error: object, advice: str = "") -> SerError:
    """The error about a file that cannot be read."""
    reason = str(getattr(error, "strerror", None) or error or type(error).__name__)
    return SerError(f"{path} cannot be read: {' '.join(reason.split())[:MAX_REASON]}. {advice}".rstrip())


def parse_yaml(text: str) -> Any:
    """The value of a YAML text of a few kilobytes, with plain values only.

    Aliases are refused, since a few lines of them can stand for gigabytes, and so are deep nesting, tags and text that
    no file can hold.

    Raises:
        SerError: it is no such YAML; the message has no name of a file.

    >>> parse_yaml("epochs: 3")
    {'epochs': 3}
    """
    if len(text) > MAX_YAML_CHARACTERS:
        raise SerError(f"expected at most {MAX_YAML_CHARACTERS} characters of YAML, but came {len(text)}.")
    try:
        return yaml.load(text, _PlainLoader)
    # PyYAML's constructors raise whatever Python's own conversions raise, for dates, numbers and tags.
    except Exception as error:
        raise SerError(f"expected YAML: {' '.join(str(error).split())[:MAX_REASON] or type(error).__name__}") from error


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases and control characters, and with a limit on the depth."""

    depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias, *{event.anchor}, is not allowed: write the value out")
        self.depth += 1
        if self.depth > MAX_YAML_DEPTH:
            raise yaml.YAMLError(f"more than {MAX_YAML_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node):
        value = super().construct_scalar(node)
        # An escape can spell a command to the terminal, and half of a surrogate pair, which no file can hold.
        if found := CONTROL.search(value):
            raise yaml.YAMLError(f"the control character {found[0]!r} is not allowed")
        return value
