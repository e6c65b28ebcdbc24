"""Random choices by hashes of names: the same on every platform, for any order of the rows, hardly changed by a clip."""

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd


def hash_of(*key) -> int:
    """An integer from 0 to 2⁶⁴ − 1 that depends on the key alone (for example seed, purpose, name)."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, key)).encode()).digest()[:8])


def shuffled(names: Iterable[str], *key) -> list[str]:
    """The names in a random order that depends on the key, not on their order before."""
    return sorted(names, key=lambda name: (hash_of(*key, name), name))


def spread(size: int, n_picked: int, offset: int = 0) -> np.ndarray:
    """Pick exactly `n_picked` of `size` positions at equal distances: bool of shape (size,).

    >>> spread(10, 3).astype(int)
    array([0, 0, 0, 1, 0, 0, 1, 0, 0, 1])
    """
    steps = (np.arange(size + 1) * n_picked + offset % max(size, 1)) // max(size, 1)
    return np.diff(steps) > 0


def draw_clips(clips: pd.DataFrame, rows: np.ndarray, n_picked: int, stratify: bool, *key) -> np.ndarray:
    """Draw `n_picked` of the rows at random; with `stratify` in proportion to the emotions, at least one of each."""
    table = clips.iloc[rows][["clip_id", "emotion"]].assign(row=rows)
    table["order"] = [hash_of(*key, clip_id) for clip_id in table["clip_id"]]
    table = table.sort_values(["emotion", "order", "clip_id"] if stratify else ["order", "clip_id"])
    picked = pd.Series(spread(len(table), n_picked), index=table.index)
    if stratify and n_picked:
        none_picked = ~picked.groupby(table["emotion"]).transform("any")
        picked |= none_picked & ~table["emotion"].duplicated()
    return table.loc[picked, "row"].to_numpy()
