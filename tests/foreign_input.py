"""Properties of everything that reads input of others: an answer or a SerError, whatever comes.

The tests execute them a few times each, `make torture` a million times.
"""

import json
import string
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from hostile_audio import encoded
from hypothesis import strategies as st

from ser_lib.audio.reading import prepare
from ser_lib.common.errors import SerError
from ser_lib.common.files import parse_yaml, read_json, read_table
from ser_lib.corpora import csv_corpus, csv_files, get_corpus
from ser_lib.models.base import registered
from ser_lib.protocols.splits import get_protocol
from ser_lib.protocols.user_split import read_split
from ser_lib.recipes import load_recipe

# Text with the characters that mean something in YAML, CSV, JSON, HTML, paths and terminals.
SIGNS = "\0\t\n\r\x1b\x7f\x85\ud800\u202e\ufeff 'é\"\\,;:=.-_*&!|>%@`#?[]{}()<>$~/0123456789eEnNaA"
LETTERS = st.one_of(st.sampled_from(SIGNS), st.sampled_from(string.ascii_letters), st.characters())
TEXT = st.text(LETTERS, max_size=60)
FIELDS = ["training.epochs", "training", "input.encoder", "input.audio.max_seconds", "corpora", "split.folds", "title"]
FIELDS += ["model.name", "model.dense", "emotions", "name", "as_run", "input.layers", "x", "training.augmentation", ""]
VALUES = ["3", "[", "{", "&a [*a]", "2020-13-45", "!!int ''", ".inf", "-.nan", "1e999", "0x", "!!python/name:os.system"]
VALUES += ["null", "'", "{epochs: 3}", "[[1]]", "? a", "'\\0'", '"\\ud800"', "$HOME", "~", "10" * 20, "true", "- 1"]
VALUE = st.one_of(st.sampled_from(VALUES), TEXT)
OVERRIDE = st.one_of(
    TEXT, st.tuples(st.sampled_from(FIELDS), st.sampled_from(["=", " = ", "==", ""]), VALUE).map("".join)
)
YAML = st.one_of(
    TEXT,
    st.lists(st.tuples(st.sampled_from([*FIELDS, "claim", "model", "input"]), VALUE).map(": ".join), max_size=8).map(
        "\n".join
    ),
)
CELL = st.one_of(st.sampled_from(["path", "emotion", "subset", "a.wav", "happy", "test", "train", ""]), TEXT)
CSV = st.lists(st.lists(CELL, max_size=5).map(",".join), max_size=6).map("\n".join)
JSON = st.one_of(TEXT, st.recursive(st.none() | st.floats() | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=8).map(json.dumps))  # fmt: skip

FOLDER = tempfile.TemporaryDirectory(prefix="ser-foreign-")


def answers(function, *arguments) -> None:
    """Call a function; a SerError with a message is an answer too."""
    try:
        function(*arguments)
    except SerError as error:
        assert str(error)


def written(text: str, suffix: str) -> Path:
    """A file with that text, the same one each time."""
    path = Path(FOLDER.name, f"input{suffix}")
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def override(text: str) -> None:
    from ser_lib.cli import overrides_of

    answers(lambda: load_recipe("demo", overrides=overrides_of([], [text])))


def recipe_file(text: str) -> None:
    answers(load_recipe, written(text, ".yaml"))


def plain_yaml(text: str) -> None:
    answers(parse_yaml, text)


def name(text: str) -> None:
    for function in (get_corpus, get_protocol, registered, load_recipe):
        answers(function, text)


def csv(text: str) -> None:
    path = written(text, ".csv")
    answers(csv_files.read_table, path, ["path"])
    answers(csv_corpus.read_corpus, path)
    answers(read_split, path)


def run_file(text: str) -> None:
    path = written(text, ".json")
    answers(read_json, path)
    answers(read_table, path)


@cache
def whole_files() -> list[tuple[str, bytes]]:
    """Short audio files of several formats: their suffix and content."""
    samples = 0.3 * np.sin(np.arange(1600) / 5)
    formats = ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "RF64", "W64"]
    return [(f".{name.lower()}", encoded(samples, 16000, name)) for name in formats]


def audio(text: str) -> None:
    """Damage an audio file as the text says: which one, the bytes that change, and perhaps where it is cut."""
    codes = [ord(letter) for letter in text]
    suffix, content = whole_files()[sum(codes) % len(whole_files())]
    damaged = bytearray(content)
    for place, value in zip(codes[::2], codes[1::2], strict=False):
        # Most of what a decoder believes stands at the beginning.
        damaged[place * place % len(damaged) if value % 3 else place % 64] = value % 256
    if codes and codes[0] % 4 == 0:
        del damaged[codes[-1] * 7 % len(damaged) :]
    path = Path(FOLDER.name, f"input{suffix}")
    path.write_bytes(damaged)
    answers(lambda: prepare(path, sampling_rate=16000))


# Name: the property, and what it is executed on.
PROPERTIES = {
    "--set": (override, OVERRIDE),
    "recipe.yaml": (recipe_file, YAML),
    "YAML": (plain_yaml, st.one_of(VALUE, YAML)),
    "names": (name, TEXT),
    "audio": (audio, TEXT),
    "CSV": (csv, CSV),
    "JSON and tables of runs": (run_file, st.one_of(JSON, CSV)),
}
