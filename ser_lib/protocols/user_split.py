"""A split of the reader's own, from a CSV or from folders, as the table that `audit` takes.

split = read_split("split.csv")  # or a folder that holds train/ and test/
table = audit(split)

Labels are free text here: any label set can be audited.
"""

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from ser_lib.audio import reading
from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA
from ser_lib.corpora.clips import audio_hash
from ser_lib.corpora.csv_files import cell, common_folder, is_file_list, locate, read_rows, read_text

SUBSETS = {  # the words, in any case, that mean a subset
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "devel", "development", "eval", "evaluation"),
    "test": ("test", "testing"),
}
COLUMNS = ("speaker", "sentence", "corpus", "fold", "augmented_from")  # read where they are, besides the label
_SUBSET_OF = {word: subset for subset, words in SUBSETS.items() for word in words}


def is_split(text: str) -> bool:
    """Whether a word of the command line means a split of the reader's own: a CSV file, or a folder that exists."""
    return is_file_list(text) or (text != "" and Path(text).is_dir())


def read_split(
    path: str | Path | None = None,
    *,
    train: str | Path | None = None,
    test: str | Path | None = None,
    validation: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Read a split and decode each of its files once.

    Args:
        path: a CSV file (comma, semicolon or tab) with the columns `path` (relative to the CSV's folder, or
            absolute) and `subset` (see `SUBSETS`), and where they are known `label` (or `emotion`), `speaker`,
            `sentence`, `corpus`, `fold` (each fold a split of its own) and `augmented_from` (path or name of the
            file that this one was made from). Or a folder that holds train/ and test/, with audio at any depth,
            whose labels are the names of the folders that the files lie in.
        train, test, validation: in place of `path`, a folder or a list of files each: text with one path a line,
            or a CSV as above, which then needs no subset.

    Speaker, sentence, corpus and emotion are read from the file names of corpora that this project knows, where
    the split does not tell them (corpus and emotion only if all the files are of such corpora).

    Returns:
        one row a file and fold: clip_id (the path from the folder that all files share), path (absolute), subset,
        seconds, sampling_rate, audio_hash, and of fold, corpus, speaker, sentence, emotion and augmented_from those
        that are known for any clip. `attrs["notes"]` holds sentences on how it was read, to be shown with an audit.

    Raises:
        SerError: no such file or folder, no train or no test clips, a value that cannot be understood, or files
            that are missing or cannot be decoded.
    """
    notes: list[str] = []
    given = {"train": train, "validation": validation, "test": test}
    if path is not None and any(given.values()):
        raise SerError("give one CSV or folder, or --train and --test; not both.")
    if path is None:
        lacking = [f"--{name}" for name in ("train", "test") if not given[name]]
        if lacking:
            raise SerError(f"an audit compares training with test files: give {' and '.join(lacking)} too.")
        rows = [row for subset, source in given.items() if source for row in _read_part(Path(source), subset)]
    elif Path(path).is_dir():
        rows = _read_folder(Path(path), notes)
    else:
        rows = _read_csv(Path(path), notes=notes)
    lacking = [name for name in ("train", "test") if name not in {row["subset"] for row in rows}]
    if lacking:
        raise SerError(f"{path} has no {' and no '.join(lacking)} clips. {_the_words()}")
    missing = [row["path"] for row in rows if not row["path"].is_file()]
    if missing:
        raise SerError(
            f"{len(missing)} of {len(rows)} files are not there, the first is {missing[0]}. "
            "Paths in a list are relative to the list's own folder, or absolute."
        )
    split = pd.DataFrame(rows).dropna(axis=1, how="all")
    split.insert(0, "clip_id", _clip_ids(split["path"]))
    split = _fill_from_names(split, notes)
    split = _name_sources(split, notes)
    _check_folds(split)
    split = split.join(_measure(split["path"], progress), on="path")
    split["path"] = split["path"].map(str)
    split.attrs["notes"] = notes + _gaps(split)
    return split


def split_name(path=None, train=None, test=None) -> str:
    """A short name of what `read_split` was given: of the CSV or the folder, or of both parts."""
    places = [Path(part).resolve() for part in (path, train, test) if part]
    return "-".join(place.name if place.is_dir() else place.stem for place in places)


def _read_part(source: Path, subset: str) -> list[dict]:
    if source.is_dir():
        return _folder_rows(source, subset)
    if is_file_list(source):
        return _read_csv(source, subset)
    lines = [line.strip() for line in read_text(source).split("\n")]
    rows = [{"path": locate(line, source.parent), "subset": subset} for line in lines if line]
    if not rows:
        raise SerError(f"{source} names no file: expected a path a line.")
    return rows


def _read_folder(folder: Path, notes: list[str]) -> list[dict]:
    inside = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
    subsets = {place: _SUBSET_OF[place.name.lower()] for place in inside if place.name.lower() in _SUBSET_OF}
    if not {"train", "test"} <= set(subsets.values()):
        held = ", ".join(f"{place.name}/" for place in inside[:8]) + (", ..." if len(inside) > 8 else "")
        raise SerError(
            f"expected a folder that holds train/ and test/ (and validation/, if there is one), but {folder} holds "
            f"{held or 'no folder'}. Name the parts with --train and --test, or list the files in a CSV with the "
            "columns path and subset."
        )
    n_outside = len(list(_audio_below(folder))) - sum(len(list(_audio_below(place))) for place in subsets)
    if n_outside > 0:
        names = ", ".join(f"{place.name}/" for place in subsets)
        notes.append(f"Audio files outside {names} are left out: {n_outside}.")
    return [row for place, subset in subsets.items() for row in _folder_rows(place, subset)]


def _folder_rows(folder: Path, subset: str) -> list[dict]:
    folder = folder.absolute()
    files = sorted(_audio_below(folder))
    if not files:
        raise SerError(f"no audio ({' '.join(reading.SUFFIXES)}) anywhere under {folder}.")
    return [
        {"path": file, "subset": subset, "folder": None if file.parent == folder else file.parent.name}
        for file in files
    ]


def _audio_below(folder: Path):
    seen = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back to a parent would have no end
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and name != "__MACOSX"]
        for name in names:
            # Those too that are not read, so that they are reported and not passed over.
            if not name.startswith(".") and name.lower().endswith((*reading.SUFFIXES, *reading.NOT_READ)):
                yield Path(place, name)


def _read_csv(path: Path, subset: str | None = None, notes: list[str] | None = None) -> list[dict]:
    """The rows of a CSV; `subset` is that of all its rows, where the reader named it."""
    needed = [("path",)] if subset else [("path",), ("subset",)]
    rows, words = [], {}
    advice = "" if subset else "Clips that are not split yet: `ser audit demo --corpus FILE`."
    for line, values in read_rows(path, needed, advice):
        rows.append(_csv_row(values, path.parent, subset, f"{path}, line {line}"))
        words[values.get("subset", "").strip()] = rows[-1]["subset"]
    read_as = [f"{word!r} as {meant}" for word, meant in words.items() if word.lower() != meant]
    if read_as and notes is not None:
        notes.append(f"Subsets: {', '.join(read_as)}.")
    return rows


def _csv_row(values: dict, folder: Path, subset: str | None, where: str) -> dict:
    word = values.get("subset", "").strip()
    own = _subset_of(word, where) if word else subset
    if own is None or subset not in (None, own):
        raise SerError(f"{where}: expected the subset {subset or 'of the clip'}, got {word!r}.")
    label = values.get("label", values.get("emotion", "")).strip()
    row = {"path": locate(values["path"], folder), "subset": own, "emotion": label or None}
    for column in COLUMNS:
        row[column] = cell(values, column)
    if row["augmented_from"]:
        source = locate(row["augmented_from"], folder)
        row["augmented_from"] = str(source) if source.is_file() else row["augmented_from"]
    return row


def _subset_of(word: str, where: str) -> str:
    if word.lower() not in _SUBSET_OF:
        raise SerError(f"{where}: unknown subset {word!r}. {_the_words()}")
    return _SUBSET_OF[word.lower()]


def _the_words() -> str:
    known = ", ".join(f"{name} ({', '.join(words[1:])})" for name, words in SUBSETS.items())
    return f"Subsets are {known}."


def _clip_ids(paths: pd.Series) -> list[str]:
    shared = common_folder(paths)
    return [(path.relative_to(shared) if shared else path).as_posix() for path in paths]


def _fill_from_names(split: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Fill columns that are missing from the names of files of known corpora; then labels from folders."""
    parsed = [_parse(path) for path in split["path"]]
    known = [facts for facts in parsed if facts]
    # Where some files are of another source, what it is called and which labels it has is not known from names.
    columns = ["speaker", "sentence"] + (["corpus", "emotion"] if len(known) == len(split) else [])
    filled = [column for column in columns if column not in split and any(facts[column] for facts in known)]
    for column in filled:
        split[column] = [facts[column] if facts else None for facts in parsed]
    if filled:
        corpora = ", ".join(dict.fromkeys(CORPORA[facts["corpus"]].title for facts in known))
        notes.append(f"Read from the names of {len(known)} of {len(split)} files ({corpora}): {', '.join(filled)}.")
    if "folder" in split:
        if "emotion" not in filled:
            split["emotion"] = split["emotion"].fillna(split["folder"]) if "emotion" in split else split["folder"]
        split = split.drop(columns="folder")
    return split


def _parse(path: Path) -> dict | None:
    for corpus in CORPORA.values():
        if facts := corpus.parse(path):
            sentence = f"{corpus.name}-{facts['sentence']}" if facts["sentence"] else None
            speaker = f"{corpus.name}-{facts['speaker']}"
            return {"corpus": corpus.name, "speaker": speaker, "sentence": sentence, "emotion": facts["emotion"]}
    return None


def _name_sources(split: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Turn `augmented_from` into the clip_id of the first original, where that is in the split."""
    if "augmented_from" not in split:
        return split
    named = defaultdict(set)
    for path, clip_id in zip(split["path"], split["clip_id"], strict=True):
        for name in (str(path), path.name, path.stem):
            named[name].add(clip_id)
    sources = {}
    for clip_id, source in split.set_index("clip_id")["augmented_from"].dropna().items():
        if len(named.get(source, ())) > 1:
            raise SerError(f"augmented_from {source!r} is the name of {len(named[source])} files: give its path.")
        sources[clip_id] = next(iter(named.get(source, {source})))
    sources = {clip_id: source for clip_id, source in sources.items() if source != clip_id}

    def first(clip_id):
        seen = [clip_id]
        while seen[-1] in sources:
            seen.append(sources[seen[-1]])
            if seen[-1] in seen[:-1]:
                raise SerError(f"augmented_from goes round in a circle: {' from '.join(seen)}.")
        return seen[-1] if len(seen) > 1 else None

    outside = set(sources.values()) - set(split["clip_id"])
    if outside:
        notes.append(
            f"{len(outside)} originals that augmented_from names are not in the split, such as "
            f"{min(outside)}: their copies are compared with each other."
        )
    return split.assign(augmented_from=split["clip_id"].map(first))


def _check_folds(split: pd.DataFrame) -> None:
    """Refuse what would make an audit look clean because there is nothing to compare."""
    for column in ("fold", "corpus"):
        if column in split and split[column].isna().any():
            raise SerError(
                f"{column} is empty in {split[column].isna().sum()} of {len(split)} rows: fill it in everywhere (clips "
                "that several folds use stand in each of them), or leave the column out."
            )
    if "fold" not in split:
        return
    for fold, subsets in split.groupby("fold")["subset"]:
        if not {"train", "test"} <= set(subsets):
            raise SerError(
                f"fold {fold} has {', '.join(sorted(set(subsets)))} clips alone. Each fold is a split of its own: list "
                "its train and its test clips, or leave the column fold out."
            )


def _measure(paths: pd.Series, progress: bool) -> pd.DataFrame:
    """Seconds, sampling rate and hash of each distinct path."""
    distinct = list(paths.unique())
    bar = tqdm(total=len(distinct), desc="audio", unit="file", leave=False, delay=0.5, disable=not progress)
    facts, problems = {}, []
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, measured in zip(distinct, pool.map(_measure_file, distinct), strict=True):
            if isinstance(measured, dict):
                facts[path] = measured
            else:
                problems.append(measured)
            bar.update()
    if problems:
        others = f" (and {len(problems) - 1} other files)" if len(problems) > 1 else ""
        raise SerError(f"{len(problems)} of {len(distinct)} files cannot be read{others}: {problems[0]}")
    return pd.DataFrame.from_dict(facts, orient="index")


def _measure_file(path: Path) -> dict | str:
    try:
        samples, sampling_rate = reading.decode(path)
    except SerError as error:
        return str(error)
    except UnicodeEncodeError:  # libsndfile cannot be asked for it
        return f"{path}: the name is not UTF-8; rename the file."
    seconds = len(samples) / sampling_rate
    digest = audio_hash(samples, sampling_rate)
    return {"seconds": seconds, "sampling_rate": sampling_rate, "audio_hash": digest}


def _gaps(split: pd.DataFrame) -> list[str]:
    """What the audit of this split cannot see, a sentence each."""
    gaps = []
    for column, name in (("speaker", "speaker"), ("sentence", "sentence"), ("emotion", "label")):
        n_known = split[column].notna().sum() if column in split else 0
        if 0 < n_known < len(split):
            gaps.append(f"The {name} is known of {n_known} of {len(split)} clips: there may be more leaks of it.")
    if "speaker" in split and "corpus" in split:
        several = split.groupby("speaker")["corpus"].nunique() > 1
        if several.any():
            gaps.append(
                f"Speaker {several.idxmax()} stands in several corpora, and is taken for one person; if it is not, "
                "give each its own name."
            )
    if "validation" not in set(split["subset"]):
        gaps.append("No validation clips: whether settings or epochs were chosen on the test set is not told here.")
    if "augmented_from" not in split:
        gaps.append("No column augmented_from: copies at another speed or pitch would not be noticed.")
    return gaps
