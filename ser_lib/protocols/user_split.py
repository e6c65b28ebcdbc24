"""A user's own split, read from a CSV or from folders into the table that `audit` takes.

split = read_split("split.csv")  # or a folder that holds train/ and test/
table = audit(split)
"""

from collections import defaultdict
from pathlib import Path

import pandas as pd

from ser_lib.audio.decoding import shown
from ser_lib.audio.reading import FFMPEG_SUFFIXES, SUFFIXES, files_in
from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA
from ser_lib.corpora.clips import measure_files
from ser_lib.corpora.csv_files import common_folder, first_of, is_file_list, locate, near_equal, read_table, read_text
from ser_lib.corpora.file_names import NAMES, facts_of, title_of

SUBSET_WORDS = {  # the words, in any case, for each subset
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "devel", "development", "eval", "evaluation"),
    "test": ("test", "testing"),
}
_AUDIO = SUFFIXES + FFMPEG_SUFFIXES
EXPORT = """Add these lines to its end, with its own names in place of
train_files and test_files (lists of paths), run it, and audit what it writes with `ser audit split.csv`:

    import pandas as pd
    parts = {"train": train_files, "test": test_files}
    rows = [{"path": path, "subset": subset} for subset, paths in parts.items() for path in paths]
    pd.DataFrame(rows).to_csv("split.csv", index=False)

If they are known, add the columns label, speaker and sentence. Where the arrays of features were split in place of the
files, split the list of the files with the same call and the same random_state."""
# Bad files or words that one error names.
MOST_LISTED = 20
_SUBSET_OF = {word: subset for subset, words in SUBSET_WORDS.items() for word in words}
_KNOWN_WORDS = "Subsets are " + ", ".join(f"{name} ({', '.join(words[1:])})" for name, words in SUBSET_WORDS.items())


def is_split(text: str) -> bool:
    """Whether a word of the command line names a user's own split: a CSV file, or a folder with one of train and test.

    Raises:
        SerError: it is a notebook, or another program's source: the message says what to export from it.
    """
    if text.lower().endswith((".ipynb", ".py")):
        raise SerError(f"{text} is a program; an audit reads the files of its split. {EXPORT}")
    return is_file_list(text) or (text != "" and Path(text).is_dir() and bool(_subset_folders(Path(text))))


def split_name(path: str | Path | None = None, train: str | Path | None = None, test: str | Path | None = None) -> str:
    """A short name for what `read_split` reads: that of the CSV or the folder, or those of both parts."""
    places = [Path(part).resolve() for part in (path, train, test) if part]
    return "-".join(place.name if place.is_dir() else place.stem for place in places)


def read_split(
    path: str | Path | None = None,
    *,
    train: str | Path | None = None,
    test: str | Path | None = None,
    validation: str | Path | None = None,
    audio: bool = True,
    progress: bool = True,
) -> pd.DataFrame:
    """Read a split, and decode each of its files once; SerError where a file or value is missing or cannot be read.

    Args:
        path: a CSV with the columns `path` and `subset` (see `SUBSET_WORDS`), and optionally `label` (or `emotion`; any
            text), `speaker`, `sentence`, `corpus`, `fold` (each fold is a split of its own) and `augmented_from` (path
            or name of the file that this one was made from). Or a folder that holds train/ and test/, with audio at any
            depth; the label is then the name of the folder that a file lies in.
        train, test, validation: instead of `path`, a folder or a list of files each: text with one path a line,
            or a CSV as above, which then needs no subset.
        audio: False: the files are not at hand, and only what the lists and the file names state is compared.

    Where the split does not state them, speaker, sentence, corpus and emotion are read from the file names of known
    corpora (corpus and emotion only if all files are of such corpora). Names of the corpora in `file_names.NAMES` are
    read where the column `corpus` names that corpus.

    Returns:
        one row a file and fold: clip_id (the path from the folder that all files share), path (absolute), subset,
        seconds, sampling_rate, audio_hash (these three not without audio), and of fold, corpus, speaker, sentence, emotion and augmented_from those
        that are known for any clip. `attrs["notes"]` holds sentences on how it was read, to be shown with an audit.
    """
    notes: list[str] = []
    parts = {"train": train, "validation": validation, "test": test}
    if path is not None and any(parts.values()):
        raise SerError("give one CSV or folder, or --train and --test; not both.")
    if path is None:
        missing = [f"--{name}" for name in ("train", "test") if not parts[name]]
        if missing:
            raise SerError(f"an audit compares training with test files: give {' and '.join(missing)} too.")
        rows = [row for subset, source in parts.items() if source for row in _read_part(Path(source), subset)]
    else:
        rows = (_read_folder if Path(path).is_dir() else _read_csv)(Path(path), notes)
    split = pd.DataFrame(rows).dropna(axis=1, how="all")
    _check_folds(split)
    shared = common_folder(split["path"], path or "the split", must_exist=audio)
    names = [(file.relative_to(shared) if shared else file).as_posix() for file in split["path"]]
    split.insert(0, "clip_id", [shown(name) for name in names])
    split = _find_originals(_fill_from_names(split, notes), notes)
    if not audio:
        notes.append("The audio was not read: the audit cannot see the same recording under another name.")
        split["path"] = split["path"].map(shown)
        split.attrs["notes"] = notes + _gaps(split)
        return split
    files = list(split["path"].unique())
    results = measure_files(files, "audio", progress, allow_silence=True)
    problems = [result for result in results if isinstance(result, str)]
    if problems:
        raise SerError(f"{len(problems)} of {len(files)} files cannot be read: {first_of(problems, MOST_LISTED, '; ')}")
    split = split.join(pd.DataFrame(results, index=files), on="path").astype({"path": str})
    split.attrs["notes"] = notes + _gaps(split)
    return split


def _read_part(source: Path, subset: str) -> list[dict]:
    if source.is_dir():
        return _folder_rows(source, subset)
    if is_file_list(source):
        return _read_csv(source, [], subset)
    lines = [line.strip() for line in read_text(source).split("\n") if line.strip()]
    if not lines:
        raise SerError(f"{source} names no file: expected a path a line.")
    return [{"path": locate(line, source.parent), "subset": subset} for line in lines]


def _read_folder(folder: Path, notes: list[str]) -> list[dict]:
    subsets = _subset_folders(folder)
    if not {"train", "test"} <= set(subsets.values()):
        folders = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
        names = first_of([f"{place.name}/" for place in folders], 8) or "no folder"
        advice = "Name the parts with --train and --test, or list the files in a CSV with the columns path and subset."
        raise SerError(f"expected a folder that holds train/ and test/, but {folder} holds {names}. {advice}")
    rows = [row for place, subset in subsets.items() for row in _folder_rows(place, subset)]
    n_outside = len(files_in(folder, _AUDIO)) - len(rows)
    if n_outside > 0:
        names = ", ".join(f"{place.name}/" for place in subsets)
        notes.append(f"Audio files outside {names} are left out: {n_outside}.")
    return rows


def _subset_folders(folder: Path) -> dict[Path, str]:
    """The folders of a folder that are called like a subset, and which."""
    return {
        place: _SUBSET_OF[place.name.lower()]
        for place in sorted(folder.iterdir())
        if place.is_dir() and place.name.lower() in _SUBSET_OF
    }


def _folder_rows(folder: Path, subset: str) -> list[dict]:
    folder = folder.absolute()
    rows = [
        {"path": file, "subset": subset, "folder": None if file.parent == folder else file.parent.name}
        for file in files_in(folder, _AUDIO)
    ]
    if not rows:
        raise SerError(f"no audio ({' '.join(SUFFIXES)}) anywhere under {folder}.")
    return rows


def _read_csv(path: Path, notes: list[str], part: str | None = None) -> list[dict]:
    """The rows of a CSV; `part` is the subset of all its rows, where the user has named it."""
    advice = "Clips that are not split yet: `ser audit demo --corpus FILE`."
    table = read_table(path, ["path"]) if part else read_table(path, ["path", "subset"], advice)
    words = table["subset"]
    subsets, problems = [], []
    for line, word in words.items():
        try:
            subsets.append(_subset_of(word or part or "", f"{path}, line {line}", part))
        except SerError as error:
            problems.append((f"{word!r} in line {line}", error))
    if problems:
        others = first_of([place for place, _ in problems[1:]], MOST_LISTED)
        raise SerError(f"{problems[0][1]}" + (f" So are {others}." if others else "")) from problems[0][1]
    read_as = {word: subset for word, subset in zip(words, subsets, strict=True) if word.lower() != subset}
    if read_as and part is None:
        notes.append(f"Subsets: {', '.join(f'{word!r} as {subset}' for word, subset in read_as.items())}.")

    located = [(name, locate(name or "", path.parent)) for name in table["augmented_from"]]
    originals = [str(file) if file.is_file() else name for name, file in located]
    labels = [label or None for label in table["emotion"]]
    rows = table[["path", "speaker", "sentence", "corpus", "fold"]]
    return rows.assign(subset=subsets, emotion=labels, augmented_from=originals).to_dict("records")


def _subset_of(word: str, where: str, expected: str | None = None) -> str:
    subset = _SUBSET_OF.get(word.lower())
    if subset is None or expected not in (None, subset):
        raise SerError(f"{where}: expected the subset {expected or 'of the clip'}, got {word!r}. {_KNOWN_WORDS}.")
    return subset


def _check_folds(split: pd.DataFrame) -> None:
    """Refuse splits that an audit would call clean only because there is nothing to compare."""
    for column in ("fold", "corpus"):
        n_empty = split[column].isna().sum() if column in split else 0
        if n_empty:
            empty = f"{column} is empty in {n_empty} of {len(split)} rows"
            raise SerError(f"{empty}: fill it in everywhere (once for each fold of a clip), or leave the column out.")
    for fold, rows in split.groupby("fold") if "fold" in split else [("", split)]:
        missing = [subset for subset in ("train", "test") if subset not in set(rows["subset"])]
        if missing:
            place = f"fold {fold}, which is a split of its own," if fold else "the split"
            raise SerError(f"{place} has no {' and no '.join(missing)} clips. {_KNOWN_WORDS}.")


def _fill_from_names(split: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Fill missing columns from the names of files of known corpora, then the labels from the names of folders."""
    columns = ["speaker", "sentence", "corpus", "emotion"]
    stated = split["corpus"] if "corpus" in split else [None] * len(split)
    rows = [_parse(file, corpus) for file, corpus in zip(split["path"], stated, strict=True)]
    parsed = pd.DataFrame(rows, split.index, columns, dtype=object)
    is_known = parsed["corpus"].notna()
    # Where some names are of no known corpus, corpus and label of those files are not known.
    columns = columns if is_known.all() else columns[:2]
    filled = [name for name in columns if name not in split and parsed[name].notna().any()]
    if filled:
        titles = ", ".join(title_of(name) for name in parsed["corpus"].dropna().unique())
        notes.append(f"Read from the names of {is_known.sum()} of {len(split)} files ({titles}): {', '.join(filled)}.")
    split = split.join(parsed[filled])
    if "folder" in split and "emotion" not in filled:
        split["emotion"] = split.get("emotion", split["folder"]).fillna(split["folder"])
    return split.drop(columns="folder", errors="ignore")


def _parse(file: Path, stated: str | None) -> dict[str, str | None]:
    """Speaker, sentence, corpus and emotion by the name; {} where it is that of no known corpus."""
    if stated in NAMES:
        name_facts = facts_of(stated, file.as_posix())
        return {name: value and f"{stated}-{value}" for name, value in name_facts.items()} | {"corpus": stated}
    for corpus in CORPORA.values():
        if facts := corpus.facts_of(file, strict=False):
            named = {key: f"{corpus.name}-{facts[key]}" if facts[key] else None for key in ("speaker", "sentence")}
            return {**named, "corpus": corpus.name, "emotion": facts["emotion"]}
    return {}


def _find_originals(split: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Replace `augmented_from` by the clip_id of the first original; by its name, where the split lacks that clip."""
    if "augmented_from" not in split:
        return split
    ids_of = defaultdict(set)
    for file, clip_id in zip(split["path"], split["clip_id"], strict=True):
        for name in (str(file), file.name, file.stem):
            ids_of[name].add(clip_id)
    sources: dict[str, str] = {}
    for clip_id, name in split.set_index("clip_id")["augmented_from"].dropna().items():
        matches = set(ids_of.get(name, {name}))
        if len(matches) > 1:
            raise SerError(f"augmented_from {name!r} is the name of {len(matches)} files: give its path.")
        if clip_id not in matches:
            sources[clip_id] = matches.pop()
    originals = {}
    for clip_id in sources:
        chain = [clip_id]
        while chain[-1] in sources:
            chain.append(sources[chain[-1]])
            if chain[-1] in chain[:-1]:
                raise SerError(f"augmented_from goes round in a circle: {' from '.join(chain)}.")
        originals[clip_id] = chain[-1]
    outside = set(originals.values()) - set(split["clip_id"])
    if outside:
        names = f"{len(outside)} originals that augmented_from names are not in the split, such as {min(outside)}"
        notes.append(f"{names}: their copies are compared with each other.")
    return split.assign(augmented_from=split["clip_id"].map(originals.get))


def _gaps(split: pd.DataFrame) -> list[str]:
    """What the audit of this split cannot see, a sentence each."""
    gaps = []
    for column, name in (("speaker", "speaker"), ("sentence", "sentence"), ("emotion", "label")):
        n_unknown = split[column].isna().sum() if column in split else 0
        if n_unknown:
            gaps.append(f"The {name} of {n_unknown} of {len(split)} clips is not known: there may be more leaks.")
    for column, different in (("speaker", "different people"), ("sentence", "different sentences")):
        names = split[column].dropna() if column in split else []
        gaps += [f"{alike} count as {different}. If they are one, there are more leaks." for alike in near_equal(names)]
    if {"speaker", "corpus"} <= set(split):
        in_several = split.groupby("speaker")["corpus"].nunique() > 1
        if in_several.any():
            name = f"Speaker {in_several.idxmax()} is in several corpora, and is taken for one person"
            gaps.append(f"{name}; if that is wrong, give each person a name of their own.")
    if "validation" not in set(split["subset"]):
        gaps.append("No validation clips: the audit cannot see whether settings or epochs were chosen on the test set.")
    if "augmented_from" not in split:
        gaps.append("No column augmented_from: the audit cannot see copies at another speed or pitch.")
    return gaps
