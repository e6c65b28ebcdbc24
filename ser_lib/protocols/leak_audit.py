"""The leaks of a split: which test clips a model may know from training, and why.

table = audit(split)        # one row a kind of leak, none left out
red_leaks(table)            # the rows of severity red that a test clip has
"""

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.protocols.near_duplicates import near_duplicate_groups

# kind -> severity, meaning. Red: the score is not what it seems; amber: it may be, for the reason stated.
LEAKS = {
    "same audio": ("red", "The identical recording is in training and in test: remembering it is enough."),
    "near-same audio": ("red", "A resampled, louder, trimmed or compressed copy of the test recording is in training."),
    "same speaker": ("red", "The model has heard the test speaker: the score does not hold for a new voice."),
    "same sentence": ("amber", "The model has heard the test sentence: the score may not hold for other words."),
    "label decided by corpus": (
        "amber",
        "Only some of the corpora have the emotion: recognising the corpus already narrows the answer.",
    ),
    "selection on test": (
        "red",
        "Test recordings are in the validation set: what is chosen on it is chosen on the test.",
    ),
    "augmented copies": ("red", "The test clip and an augmented copy of it stand on both sides."),
}


def audit(split: pd.DataFrame, near_duplicates: bool = True, progress: bool = True) -> pd.DataFrame:
    """Count the test clips that each kind of leak affects; SerError where the table is no split or audio is unreadable.

    Training means the train subset; the validation subset counts only for `selection on test`. Leaks are searched for
    within each fold, and the clips are counted once over all folds.

    Args:
        split: a table that `make_split` returns, or any table with `clip_id` and `subset` (train, validation, test; enrolment,
            which is compared with nothing). More columns allow more kinds: fold, audio_hash, path, speaker, sentence,
            emotion, corpus, and augmented_from (the clip_id of the clip that an augmented copy was made from).
        near_duplicates: compare the audio itself for near-same audio, which reads each file once.

    Returns:
        one row for each of `LEAKS`: leak, severity, clips (distinct test clips; <NA> where the table cannot tell),
        share (of all distinct test clips), examples (up to 3, "test ↔ train"), meaning.
    """
    missing = _missing(split, "clip_id", "subset")
    if missing:
        raise SerError(f"the audit needs a split, but {missing}; make one with make_split(clips)")
    subsets = set(split["subset"])
    if not {"train", "test"} <= subsets <= {"train", "validation", "test", "enrolment"}:
        names = ", ".join(sorted(map(repr, subsets))) or "no rows"
        raise SerError(f"the audit compares clips of the subset 'test' with 'train' (and 'validation'), got {names}")
    table = split.assign(fold=split.get("fold", 0)).reset_index(drop=True)
    train, validation, test = (table[table["subset"] == name] for name in ("train", "validation", "test"))
    # Corpora number their sentences alike, so a sentence is the same only within its corpus.
    sentence_keys = ["sentence", "corpus"] if "corpus" in table else ["sentence"]
    no_sentence = _missing(table, "sentence")
    if not no_sentence and table["sentence"].replace("", pd.NA).isna().all():
        no_sentence = "no clip's sentence is known"
    same_audio = _same_audio(test, train)
    near_same: pd.Series | str = "not searched for: near_duplicates is False"
    if near_duplicates:
        near_same = _missing(table, "path", "audio_hash") or _near_same(table, same_audio, progress)
    # kind -> the affected test clips, each with an example from training; or why that is not known
    results = {
        "same audio": same_audio,
        "near-same audio": near_same,
        "same speaker": _missing(table, "speaker") or _shared(test, train, ["speaker"]),
        "same sentence": no_sentence or _shared(test, train, sentence_keys),
        "label decided by corpus": _missing(table, "corpus", "emotion") or _decided_by_corpus(table, test, train),
        "selection on test": _same_audio(test, validation),
        "augmented copies": _augmented(test, train),
    }
    rows = []
    for leak, (severity, meaning) in LEAKS.items():
        result = results[leak]
        if isinstance(result, str):
            rows.append(
                (leak, severity, pd.NA, float("nan"), "", f"Not checked: {result}. If there is this leak: {meaning}")
            )
            continue
        examples = "; ".join(f"{tested} ↔ {trained}" for tested, trained in result.head(3).items())
        rows.append((leak, severity, len(result), len(result) / test["clip_id"].nunique(), examples, meaning))
    columns = ["leak", "severity", "clips", "share", "examples", "meaning"]
    return pd.DataFrame(rows, columns=columns).astype({"clips": "Int64"})


def red_leaks(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of an audit with severity red and at least one test clip."""
    return table[(table["severity"] == "red") & (table["clips"].fillna(0) > 0)]


def shared_values(split: pd.DataFrame, column: str) -> tuple[set, set]:
    """The values of a column, such as speakers, that test clips have, and those that training clips of a fold have too.

    Args:
        split: as `audit` takes it. Rows without a value are left out.

    >>> split = pd.DataFrame({"subset": ["train", "test", "test"], "speaker": ["ann", "ann", "bob"]})
    >>> tested, shared = shared_values(split, "speaker")
    >>> sorted(tested), sorted(shared)
    (['ann', 'bob'], ['ann'])
    """
    known = split.assign(fold=split.get("fold", 0), **{column: split[column].replace("", pd.NA)})
    known = known.dropna(subset=[column])[["subset", "fold", column]].drop_duplicates()
    test, train = (known[known["subset"] == subset].drop(columns="subset") for subset in ("test", "train"))
    return set(test[column]), set(test.merge(train)[column])


def _missing(table: pd.DataFrame, *columns: str) -> str:
    missing = [name for name in columns if name not in table]
    return f"the table has {' and '.join(f'no column {name}' for name in missing)}" if missing else ""


def _shared(test: pd.DataFrame, train: pd.DataFrame, keys: list[str]) -> pd.Series:
    """For each test clip that shares all `keys` with a training clip of its fold: such a clip's id."""
    # An empty cell of a CSV is no value; an empty fold is the only one.
    trained = train[["fold", *keys, "clip_id"]].replace(dict.fromkeys(keys, ""), pd.NA)
    keys = ["fold", *keys]
    trained = trained.dropna(subset=keys).drop_duplicates(keys)
    merged = test.merge(trained, on=keys, suffixes=("", "_trained")).drop_duplicates("clip_id")
    return merged.set_index("clip_id")["clip_id_trained"].sort_index()


def _same_audio(test: pd.DataFrame, others: pd.DataFrame) -> pd.Series | str:
    if "audio_hash" in test:
        return _shared(test, others, ["audio_hash"])
    # Without hashes, clips of the same name are the same audio; clips of different names may be.
    same_name = test.merge(others[["fold", "clip_id"]], on=["fold", "clip_id"])["clip_id"].drop_duplicates()
    return pd.Series(same_name.to_numpy(), index=same_name) if len(same_name) else _missing(test, "audio_hash")


def _near_same(table: pd.DataFrame, same_audio: pd.Series | str, progress: bool) -> pd.Series:
    groups = near_duplicate_groups(table.drop_duplicates("clip_id").set_index("clip_id"), progress)
    table = table.assign(group=table["clip_id"].map(groups))
    near = _shared(table[table["subset"] == "test"], table[table["subset"] == "train"], ["group"])
    return near[~near.index.isin(same_audio.index)]


def _decided_by_corpus(table: pd.DataFrame, test: pd.DataFrame, train: pd.DataFrame) -> pd.Series:
    corpora = table.drop_duplicates(["emotion", "corpus"]).sort_values("corpus").groupby("emotion")["corpus"].agg(list)
    corpora = corpora[corpora.map(len) < table["corpus"].nunique()]
    # A model cannot recognise a corpus that it was not trained on.
    recognised = test.merge(train[["fold", "corpus"]].drop_duplicates(), on=["fold", "corpus"])
    affected = recognised[recognised["emotion"].isin(corpora.index)].drop_duplicates("clip_id")
    reasons = [f"{emotion} only in {', '.join(corpora[emotion])}" for emotion in affected["emotion"]]
    return pd.Series(reasons, index=affected["clip_id"], dtype=object).sort_index()


def _augmented(test: pd.DataFrame, train: pd.DataFrame) -> pd.Series:
    if "augmented_from" not in test:
        return pd.Series(dtype=object)

    def with_original(table: pd.DataFrame) -> pd.DataFrame:
        original = table["augmented_from"].replace("", pd.NA)
        return table.assign(is_copy=original.notna(), original=original.fillna(table["clip_id"]))

    both = with_original(test).merge(with_original(train), on=["fold", "original"], suffixes=("", "_trained"))
    is_leak = (both["is_copy"] | both["is_copy_trained"]) & (both["clip_id"] != both["clip_id_trained"])
    return both[is_leak].drop_duplicates("clip_id").set_index("clip_id")["clip_id_trained"].sort_index()
