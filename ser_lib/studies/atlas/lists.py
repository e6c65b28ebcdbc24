"""Published train and test lists: from GitHub at a pinned commit, checked by their hash, and read into splits.

    lists = Lists.pinned()                          # of $SER_ATLAS_DIR, else of the cache, else of GitHub
    for split in splits_of(emobox.SOURCE, lists):
        split.table                                 # clip_id, fold, subset, speaker, sentence

A list lies in OWNER+NAME@COMMIT/PATH, with the first twelve digits of the commit, both in the cache and in a folder that
stands in for GitHub. `lists.sha256` names the lists that are read, as `sha256sum` writes it in such a folder.
"""

import hashlib
import os
import re
import urllib.request
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.common.files import cache_dir, replacing
from ser_lib.corpora.csv_files import NOT_KNOWN
from ser_lib.corpora.file_names import facts_of

HASHES = Path(__file__).with_name("lists.sha256")
TIMEOUT_SECONDS = 60
SUBSETS = {"train": "train", "dev": "validation", "valid": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class Source:
    """A repository that publishes lists, and how a line of one becomes path, speaker, sentence and subset."""

    name: str  # of the benchmark or toolkit, for readers
    repository: str  # owner/name on GitHub
    commit: str  # 40 hexadecimal digits
    lists: str  # a pattern of the paths of lists, with the groups corpus, fold and subset as far as the path tells them
    corpora: dict[str, str]  # the pattern's group corpus ("" without one) -> name in this package
    rows: Callable[[str], pd.DataFrame]  # the text of a list -> path, and speaker, sentence, subset where it has them
    # How the source says that it splits: corpus in this package, or "" for all others -> text and address.
    how: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """OWNER+NAME@COMMIT, with twelve digits of the commit."""
        return f"{self.repository.replace('/', '+')}@{self.commit[:12]}"

    @property
    def url(self) -> str:
        """The repository's files at the commit, in a browser."""
        return f"https://github.com/{self.repository}/tree/{self.commit}"


@dataclass(frozen=True)
class PublishedSplit:
    """One corpus as one benchmark splits it: by its lists, or as its code or documentation states it."""

    benchmark: str
    corpus: str  # name in `ser_lib.corpora`
    table: pd.DataFrame | None = None  # as `audit` takes it; None: no list was read
    lists: tuple[str, ...] = ()  # paths in the repository
    commit: str = ""
    url: str = ""
    speakers_from: str = ""  # what states who speaks
    how: str = ""
    how_url: str = ""
    stated: str = ""  # without lists: "red" or "green", by what the source states
    problem: str = ""  # why no list was read


@dataclass(frozen=True)
class Lists:
    """Where lists are read from, and their hashes."""

    hashes: dict[str, str] = field(repr=False)  # OWNER+NAME@COMMIT/PATH -> SHA-256
    folder: Path | None = None  # a folder that stands in for GitHub

    @classmethod
    def pinned(cls, folder: str | Path | None = None) -> "Lists":
        """The lists of the package's `lists.sha256`, of a folder, else of `$SER_ATLAS_DIR`, else of GitHub."""
        folder = folder or os.environ.get("SER_ATLAS_DIR")
        if folder and not Path(folder).is_dir():
            raise SerError(
                f"there is no folder {folder}: name one that holds OWNER+NAME@COMMIT/…, or unset SER_ATLAS_DIR."
            )
        return cls(read_hashes(HASHES), Path(folder) if folder else None)

    def paths(self, source: Source) -> list[str]:
        """The paths in a source's repository of the lists whose hash is known."""
        start = f"{source.folder}/"
        return [name.removeprefix(start) for name in self.hashes if name.startswith(start)]

    def text(self, source: Source, path: str) -> str:
        """The text of a list; SerError where it cannot be had, or is not the one that was pinned."""
        name = f"{source.folder}/{path}"
        file = (self.folder or cache_dir() / "atlas") / name
        if file.is_file():
            data = file.read_bytes()
        elif self.folder:
            raise SerError(f"{name} is missing in the folder of lists, which is not complete.")
        else:
            data = _download(source, path)
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.hashes[name]:
            raise SerError(
                f"{name} is not the list that was pinned: expected the SHA-256 {self.hashes[name][:12]}…, got {digest[:12]}…. "
                "Delete that file, and try again."
            )
        if not file.is_file():
            with replacing(file) as part:
                part.write_bytes(data)
        return data.decode("utf-8-sig")


def read_hashes(path: Path) -> dict[str, str]:
    """The lines of a file of `sha256sum`, as name -> SHA-256."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def splits_of(source: Source, lists: Lists, only: Collection[str] = ()) -> Iterator[PublishedSplit]:
    """The split of each corpus of a source; a list that cannot be read makes that corpus alone unknown.

    Args:
        only: names of corpora in this package; (): all that the source has.
    """
    lists_of: dict[str, list[tuple[str, dict]]] = {}
    for path in sorted(lists.paths(source)):
        if match := re.fullmatch(source.lists, path):
            groups = {name: value or "" for name, value in match.groupdict().items()}
            lists_of.setdefault(groups.get("corpus", ""), []).append((path, groups))
    wanted = {key: corpus for key, corpus in source.corpora.items() if corpus in only or not only}
    for key, corpus in wanted.items():
        parts = lists_of.get(key, [])
        how, how_url = source.how.get(corpus, source.how.get("", ("", "")))
        split = PublishedSplit(
            benchmark=source.name,
            corpus=corpus,
            lists=tuple(path for path, _ in parts),
            commit=source.commit,
            url=source.url,
            how=how,
            how_url=how_url,
        )
        try:
            table, speakers_from = _table(source, corpus, lists, parts)
        # SerError is a ValueError; a list in another form than its source's has values of other types.
        except (OSError, ValueError, LookupError, TypeError) as error:
            yield replace(split, problem=f"{type(error).__name__}: {error}")
            continue
        yield replace(split, table=table, speakers_from=speakers_from)


def _table(source: Source, corpus: str, lists: Lists, parts: list[tuple[str, dict]]) -> tuple[pd.DataFrame, str]:
    """A table as `audit` takes it, and what states who speaks."""
    tables = []
    for path, groups in parts:
        rows = source.rows(lists.text(source, path)).assign(fold=groups.get("fold", ""))
        if "subset" not in rows:
            rows["subset"] = groups["subset"]
        tables.append(rows)
    if not tables:
        raise SerError("none of its lists is pinned.")
    table = pd.concat(tables, ignore_index=True)
    if table["path"].isna().any():
        raise SerError(f"{source.name}: a list of {corpus} has a line without a file.")
    table["subset"] = table["subset"].str.lower().map(SUBSETS)
    if table["subset"].isna().any():
        raise SerError(f"{source.name}: a list of {corpus} has a subset that is none of {', '.join(SUBSETS)}.")
    by_name = pd.DataFrame([facts_of(corpus, path) for path in table["path"]], table.index, dtype=object)
    speakers_from = "the lists" if "speaker" in table else "the file names" if by_name["speaker"].notna().any() else ""
    for column in by_name:
        listed = table[column].astype(object) if column in table else by_name[column]
        table[column] = listed.where(~listed.astype(str).str.lower().str.strip("?").isin(NOT_KNOWN), None)
    columns = ["clip_id", "fold", "subset", "speaker", "sentence"]
    return table.rename(columns={"path": "clip_id"})[columns], speakers_from


def _download(source: Source, path: str) -> bytes:
    url = f"https://raw.githubusercontent.com/{source.repository}/{source.commit}/{quote(path)}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            return answer.read()
    except OSError as error:
        raise SerError(
            f"{url} cannot be had ({error}): a network, or a folder of lists in $SER_ATLAS_DIR, is needed."
        ) from error
