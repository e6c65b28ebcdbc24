"""What a split leaks: which test clips a model may know from training, and why.

table = audit(split)        # one row a kind of leak, none left out
has_leaks(table)            # is any of the grave ones there?
"""

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.protocols.near_duplicates import near_duplicate_groups

# kind -> severity, meaning. Red: the score is not what it seems; amber: it may be, for the reason named.
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
_N_EXAMPLES = 3


def audit(split: pd.DataFrame, near_duplicates: bool = True, progress: bool = True) -> pd.DataFrame:
    """Count the test clips that each kind of leak touches.

    Training means the train subset; the validation subset counts for `selection on test` alone. Leaks are
    looked for within each fold, and clips counted once over all folds.

    Args:
        split: what `make_split` gives, or any table with `clip_id` and `subset` (train, validation, test).
            More columns allow more kinds: fold, audio_hash, path, speaker, sentence, emotion, corpus, and
            augmented_from (the clip_id of the clip that this one was made from, where it was).
        near_duplicates: compare the audio itself for near-same audio, which reads each file once.

    Returns:
        one row for each of `LEAKS`: leak, severity (red, amber), clips (distinct test clips; <NA> where the
        table cannot tell), share (of all distinct test clips), examples (up to 3, "test ↔ train"), meaning.

    Raises:
        SerError: the table is no split, or an audio file cannot be read.
    """
    missing = [name for name in ("clip_id", "subset") if name not in split]
    if missing:
        raise SerError(f"the audit needs a split: no column {' and '.join(missing)}; make one with make_split(clips)")
    unknown = set(split["subset"]) - {"train", "validation", "test"}
    if unknown or not {"train", "test"} <= set(split["subset"]):
        raise SerError(
            "the audit compares clips whose subset is 'test' with clips whose subset is 'train' (or 'validation'), "
            f"got {', '.join(sorted(map(repr, split['subset'].unique()))) or 'no rows'}"
        )
    table = split.assign(fold=split.get("fold", 0)).reset_index(drop=True)
    train, validation, test = (table[table["subset"] == name] for name in ("train", "validation", "test"))

    same_audio = _same_audio(test, train)
    found = {
        "same audio": same_audio,
        "near-same audio": "not looked for: near_duplicates is False",
        "same speaker": _lacks(table, "speaker") or _shared(test, train, ["speaker"]),
        "same sentence": _lacks(table, "sentence")
        or _unknown(table, "sentence")
        or _shared(test, train, _keys(table, "sentence")),
        "label decided by corpus": _lacks(table, "corpus", "emotion") or _decided_by_corpus(table, test, train),
        "selection on test": _same_audio(test, validation),
        "augmented copies": _augmented(test, train),
    }
    if near_duplicates:
        found["near-same audio"] = _lacks(table, "path", "audio_hash") or _near_same(table, same_audio, progress)
    n_test = test["clip_id"].nunique()
    return pd.DataFrame([_row(leak, found[leak], n_test) for leak in LEAKS]).astype({"clips": "Int64"})


def red_leaks(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of an audit that are red and were found in at least one test clip."""
    return table[(table["severity"] == "red") & (table["clips"].fillna(0) > 0)]


def has_leaks(table: pd.DataFrame) -> bool:
    """Whether an audit found any test clip with a leak that is red."""
    return len(red_leaks(table)) > 0


def _row(leak: str, found: pd.Series | str, n_test: int) -> dict:
    severity, meaning = LEAKS[leak]
    if isinstance(found, str):
        return {
            "leak": leak,
            "severity": severity,
            "clips": pd.NA,
            "share": float("nan"),
            "examples": "",
            "meaning": f"Unknown ({found}). {meaning}",
        }
    return {
        "leak": leak,
        "severity": severity,
        "clips": len(found),
        "share": len(found) / n_test,
        "examples": "; ".join(f"{tested} ↔ {known}" for tested, known in found.head(_N_EXAMPLES).items()),
        "meaning": meaning,
    }


def _lacks(table: pd.DataFrame, *columns: str) -> str:
    missing = [name for name in columns if name not in table]
    return f"the table has no column {' and '.join(missing)}" if missing else ""


def _unknown(table: pd.DataFrame, column: str) -> str:
    known = table[column].replace("", pd.NA).notna().any()
    return "" if known else f"no clip's {column} is known"


def _keys(table: pd.DataFrame, column: str) -> list[str]:
    # Corpora number their sentences alike, so a sentence is the same only within its corpus.
    return [column, "corpus"] if "corpus" in table else [column]


def _shared(test: pd.DataFrame, train: pd.DataFrame, keys: list[str]) -> pd.Series:
    """For each test clip that shares all `keys` with a training clip of its fold: such a clip's id."""
    keys = ["fold", *keys]
    known = train[[*keys, "clip_id"]].replace("", pd.NA)  # an empty cell of a CSV is no value
    known = known.dropna(subset=keys).drop_duplicates(keys)
    both = test.merge(known, on=keys, suffixes=("", "_known"))
    return both.drop_duplicates("clip_id").set_index("clip_id")["clip_id_known"].sort_index()


def _same_audio(test: pd.DataFrame, known: pd.DataFrame) -> pd.Series | str:
    if "audio_hash" in test:
        return _shared(test, known, ["audio_hash"])
    # Without hashes the same name still is the same audio, but other names prove nothing.
    same_name = test.merge(known[["fold", "clip_id"]], on=["fold", "clip_id"])["clip_id"].drop_duplicates()
    return pd.Series(same_name.to_numpy(), index=same_name) if len(same_name) else _lacks(test, "audio_hash")


def _near_same(table: pd.DataFrame, same_audio: pd.Series, progress: bool) -> pd.Series:
    groups = near_duplicate_groups(table.drop_duplicates("clip_id").set_index("clip_id"), progress)
    table = table.assign(group=table["clip_id"].map(groups))
    test, train = table[table["subset"] == "test"], table[table["subset"] == "train"]
    near = _shared(test, train, ["group"])
    return near[~near.index.isin(same_audio.index)]


def _decided_by_corpus(table: pd.DataFrame, test: pd.DataFrame, train: pd.DataFrame) -> pd.Series:
    having = table.drop_duplicates(["emotion", "corpus"]).sort_values("corpus").groupby("emotion")["corpus"].agg(list)
    having = having[having.map(len) < table["corpus"].nunique()]
    # A corpus that is not trained on cannot be recognised: what it lacks gives nothing away.
    recognised = test.merge(train[["fold", "corpus"]].drop_duplicates(), on=["fold", "corpus"])
    given_away = recognised[recognised["emotion"].isin(having.index)].drop_duplicates("clip_id")
    only = [f"{emotion} only in {', '.join(having[emotion])}" for emotion in given_away["emotion"]]
    return pd.Series(only, index=given_away["clip_id"], dtype=object).sort_index()


def _augmented(test: pd.DataFrame, train: pd.DataFrame) -> pd.Series:
    if "augmented_from" not in test:
        return pd.Series(dtype=object)

    def with_source(table):
        source = table["augmented_from"].replace("", pd.NA)
        return table.assign(is_copy=source.notna(), source=source.fillna(table["clip_id"]))

    columns = ["fold", "source", "clip_id", "is_copy"]
    both = with_source(test)[columns].merge(with_source(train)[columns], on=["fold", "source"], suffixes=("", "_known"))
    both = both[(both["is_copy"] | both["is_copy_known"]) & (both["clip_id"] != both["clip_id_known"])]
    return both.drop_duplicates("clip_id").set_index("clip_id")["clip_id_known"].sort_index()
