"""Tables of invented numbers in the form of the studies, for tests of pictures."""

import numpy as np
import pandas as pd

from ser_lib.corpora.labels import EMOTIONS as EMOTION_NAMES
from ser_lib.inference.streaming import Envelope
from ser_lib.studies import robustness
from ser_lib.studies.robustness import ALL_OTHERS

RATE = 16000
EMOTIONS = ["neutral", "happy", "sad"]
HOSTILE = "<b>Zoë $x_1$ & 张三</b>"


def babble(seconds, seed=0, rate=RATE):
    """Bursts and pauses, as of speech."""
    rng = np.random.default_rng(seed)
    bursts = np.repeat(rng.choice([0, 0.02, 0.3], size=int(seconds * 8) + 1), rate // 8)[: int(seconds * rate)]
    return (bursts * rng.standard_normal(len(bursts)) * 0.4).astype(np.float32)


def conditions_table():
    rows = [("clean", np.nan)] + list(robustness.CONDITIONS)
    names = ["clean", *(condition.name for condition in robustness.CONDITIONS)]
    table = pd.DataFrame(rows, columns=["kind", "value"]).assign(condition=names, chance=0.125)
    table["uar"] = np.linspace(0.8, 0.3, len(table))
    return table.assign(uar_low=table["uar"] - 0.05, uar_high=table["uar"] + 0.05)


def matrix_table(corpora):
    cells = [(train, test) for train in [*corpora, ALL_OTHERS] for test in corpora]
    table = pd.DataFrame(cells, columns=["train", "test"])
    table["uar"] = np.where(table["train"] == table["test"], 0.75, 0.25)
    return table.assign(uar_low=table["uar"] - 0.05, uar_high=table["uar"] + 0.05, chance=1 / 6)


def timeline_table(seconds=20.0, silent=(), hop=1.0, name=HOSTILE):
    """A timeline of invented probabilities, three seconds a window; rows in `silent` are without speech."""
    start = np.arange(0, seconds - 3 + 1e-9, hop)
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], len(start))
    table = pd.DataFrame({"start": start, "end": start + 3, "speech": 0.8})
    table["emotion"] = pd.Series([EMOTIONS[i] for i in probabilities.argmax(axis=1)], dtype=object)
    table[EMOTIONS] = probabilities
    silent = list(silent)
    table.loc[silent, ["speech", *EMOTIONS]] = [0.0, *[np.nan] * 3]
    table["emotion"] = pd.Series([None if i in silent else e for i, e in enumerate(table["emotion"])], dtype=object)
    rate = RATE if seconds < 60 else 100
    envelope = Envelope(rate)
    envelope.push(babble(seconds, rate=rate))
    table.attrs = {"name": name, "envelope": envelope.as_lists()}
    return table


def drawn_predictions(n, sharpness=1.0, seed=0):
    """Predictions with a truth drawn from their probabilities, which are then sharpened or flattened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 4))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (honest.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    probabilities = np.exp(sharpness * logits) / np.exp(sharpness * logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame(probabilities, columns=list(EMOTION_NAMES[:4]))
    table.insert(0, "truth", np.array(list(EMOTION_NAMES[:4]))[truth])
    table.insert(0, "clip_id", [f"clip-{seed}-{i}" for i in range(n)])
    return table


def speakers_of(table, n=12):
    return [f"s{i % n}" for i in range(len(table))]


def voice_table(study, conditions, speakers=24):
    """As of `ser_lib.studies.voice`: each condition gains half a point more than the one before; few speakers, no interval."""
    rows = []
    for trained_on in ("all corpora", "other corpora"):
        for corpus in ("ravdess", "savee"):
            for number, condition in enumerate(conditions):
                gain, half = 0.005 * number, 0.008 if speakers >= 4 else np.nan
                score = {"uar": 0.6 + gain, "low": 0.6 + gain - half, "high": 0.6 + gain + half}
                ends = {"difference_low": gain - half, "difference_high": gain + half}
                where = {"study": study, "condition": condition, "corpus": corpus, "trained_on": trained_on}
                rows.append(where | {"k": 4 * number} | score | {"difference": gain} | ends)
    return pd.DataFrame(rows).assign(clips=100, speakers=speakers)
