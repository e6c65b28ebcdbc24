"""Measure by simulation how often 95 % intervals hold the true score: reports/coverage.csv, its picture, and how often a
comparison tells equal models apart: reports/false_alarms.csv.

    python scripts/simulate_coverage.py                 # a few minutes on two cores
    python scripts/simulate_coverage.py --trials 100    # a rough picture in seconds

A trial draws speakers, and their right and wrong answers, and computes the interval as `ser_lib.evaluation.metrics.score`
does. The true score is that of all speakers who could have been drawn. On the logit scale, speakers differ by a normal
deviation of `SPREADS`, emotions by up to 0.5 on both sides, and each speaker's emotions by another normal deviation of 0.4.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm
from tqdm import tqdm

from ser_lib.common.files import project_dir, replacing, write_csv
from ser_lib.evaluation import comparison, intervals, metrics
from ser_lib.reports import plots

SCORES = (0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
SPEAKERS = (4, 8, 12, 24, 48)
SPREADS = (0.3, 0.5, 0.8)  # standard deviation over speakers; on RAVDESS about 0.5
SPREAD_OF_CELLS = 0.4  # of one speaker's emotions
# Clips of each emotion that one speaker of a corpus has.
CLIPS = {
    "RAVDESS": (4, 8, 8, 8, 8, 8, 8, 8),
    "SAVEE": (30, 15, 15, 15, 15, 15, 15),
    "CREMA-D": (14, 14, 14, 14, 13, 13),
}
POOLED = (
    (("RAVDESS", 4), ("SAVEE", 4)),
    (("RAVDESS", 8), ("SAVEE", 8)),
    (("RAVDESS", 24), ("SAVEE", 4)),
    (("RAVDESS", 24), ("SAVEE", 4), ("CREMA-D", 91)),
)
AT_ONCE = 200  # trials
# Points between which a normal variable is equally likely, to take means over speakers.
NORMAL = norm.ppf((np.arange(400) + 0.5) / 400)


class Design(NamedTuple):
    """A test: corpora with their numbers of speakers, the true accuracy of all, and how far speakers differ."""

    corpora: tuple[tuple[str, int], ...]
    score: float
    spread: float

    @property
    def label(self) -> str:
        return " + ".join(f"{n} of {name}" for name, n in self.corpora)


class Drawn(NamedTuple):
    """Answers of several trials, a row a speaker."""

    right: np.ndarray  # (n_speakers, n_trials, n_emotions)
    clips: np.ndarray  # (n_speakers, n_emotions)
    corpus: np.ndarray  # (n_speakers,)


def levels(design: Design) -> list[np.ndarray]:
    """The mean of each corpus's emotions on the logit scale: corpora differ by 0.3 from one to the next."""
    spread = np.hypot(design.spread, SPREAD_OF_CELLS)
    middle = brentq(lambda level: expit(level + spread * NORMAL).mean() - design.score, -20, 20)
    apart = 0.3 * (np.arange(len(design.corpora)) - (len(design.corpora) - 1) / 2)
    return [middle + apart[i] + np.linspace(-0.5, 0.5, len(CLIPS[name])) for i, (name, _) in enumerate(design.corpora)]


def draw(design: Design, means: Sequence[np.ndarray], n_trials: int, rng: np.random.Generator) -> Drawn:
    """Draw speakers of each corpus, and how many clips of each emotion are right. Corpora share their first emotions.

    Args:
        means: as of `levels`.
    """
    n_emotions = max(len(CLIPS[name]) for name, _ in design.corpora)
    parts = []
    for (name, n_speakers), level in zip(design.corpora, means, strict=True):
        speaker = design.spread * rng.standard_normal((n_speakers, n_trials, 1))
        cells = SPREAD_OF_CELLS * rng.standard_normal((n_speakers, n_trials, len(level)))
        clips = np.tile(CLIPS[name], (n_speakers, 1))
        right = rng.binomial(clips[:, None], expit(level + speaker + cells))
        missing = ((0, 0), (0, n_emotions - len(level)))
        parts.append((np.pad(right, ((0, 0), *missing)), np.pad(clips, missing), np.full(n_speakers, name)))
    return Drawn(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def true_scores(design: Design) -> dict[str, float]:
    """Accuracy and UAR over all speakers who could be drawn, with the corpora's sizes as they are."""
    spread = np.hypot(design.spread, SPREAD_OF_CELLS)
    n_emotions = max(len(CLIPS[name]) for name, _ in design.corpora)
    right, clips = np.zeros(n_emotions), np.zeros(n_emotions)
    for (name, n_speakers), level in zip(design.corpora, levels(design), strict=True):
        n = n_speakers * np.array(CLIPS[name])
        right[: len(n)] += n * expit(level[:, None] + spread * NORMAL).mean(axis=1)
        clips[: len(n)] += n
    return {"accuracy": right.sum() / clips.sum(), "uar": (right / clips).mean()}


def estimate(drawn: Drawn) -> intervals.Estimate:
    """The scores of each trial, as `metrics.score` estimates them, (n_trials, 3); a wrong answer is the next emotion."""
    n_speakers, n_trials, n_emotions = drawn.right.shape
    cells = np.zeros((n_speakers, n_trials, n_emotions, n_emotions))
    number = np.arange(n_emotions)
    cells[..., number, number] = drawn.right
    cells[..., number, (number + 1) % n_emotions] = drawn.clips[:, None] - drawn.right
    clips = drawn.clips.sum(axis=0)
    units = intervals.Units(np.arange(n_speakers).astype(str), drawn.corpus, "speakers")
    n_balanced = n_emotions**2 / (1 / clips).sum()
    is_tested = np.ones(n_emotions, dtype=bool)

    def scores(sums: np.ndarray) -> np.ndarray:
        return metrics.scores_of_cells(sums, is_tested).reshape(-1, n_trials, len(metrics.SCORES))

    # One call for all trials, each with its own columns.
    return intervals.jackknife(units, cells.reshape(n_speakers, -1), scores, [clips.sum(), n_balanced, n_balanced])


def coverage(design: Design, trials: int, seed: int = 0) -> pd.DataFrame:
    """How many trials' intervals hold the true score.

    Returns:
        a row each for accuracy and UAR: test, n_speakers, spread, score (its name), true_score, trials, coverage, width
        (the mean width of the intervals).
    """
    rng, truth = (
        np.random.default_rng([seed, round(1000 * design.score), round(100 * design.spread)]),
        true_scores(design),
    )
    means = levels(design)
    parts = [min(AT_ONCE, trials - start) for start in range(0, trials, AT_ONCE)]
    ends = np.concatenate([estimate(draw(design, means, n, rng)).interval for n in parts], axis=1)  # (2, trials, 3)
    rows = []
    for number, name in enumerate(metrics.SCORES[:2]):
        low, high = ends[..., number]
        held = (low <= truth[name]) & (truth[name] <= high)
        row = {"test": design.label, "n_speakers": sum(n for _, n in design.corpora), "spread": design.spread}
        row |= {"score": name, "aim": design.score, "true_score": truth[name], "trials": trials}
        rows.append(row | {"coverage": held.mean(), "width": (high - low).mean()})
    return pd.DataFrame(rows)


def false_alarms(n_speakers: int, trials: int, seed: int = 0) -> dict:
    """How often a test at 5 % tells two equally good models apart: n_speakers, trials, paired_t, mcnemar (shares).

    Both models have a true score near 0.6. Each suits some speakers better than others, by a deviation of 0.5.
    """
    rng = np.random.default_rng([seed, n_speakers])
    clips = np.array(CLIPS["RAVDESS"])
    truth = np.tile(np.repeat(np.arange(len(clips)), clips), n_speakers)
    speaker = np.repeat(np.arange(n_speakers), clips.sum())
    names = list(metrics.EMOTIONS)
    clip_ids = [f"clip-{i}" for i in range(len(truth))]
    speaker_of = dict(zip(clip_ids, speaker.astype(str), strict=True))
    found = {"paired_t": 0, "mcnemar": 0}
    for _ in range(trials):
        shared = 0.5 * rng.standard_normal((n_speakers, 1))
        own = 0.5 * rng.standard_normal((n_speakers, 2))
        tables = []
        for number in range(2):
            is_right = rng.random(len(truth)) < expit(0.4 + shared[speaker, 0] + own[speaker, number])
            answer = np.where(is_right, truth, (truth + 1) % len(clips))
            table = pd.DataFrame(np.eye(len(clips))[answer], columns=names)
            tables.append(table.assign(clip_id=clip_ids, truth=np.array(names)[truth]))
        row = comparison.compare(tables[0], tables[1], speaker_of)
        found["paired_t"] += row["accuracy_p"] < comparison.ALPHA
        found["mcnemar"] += row["mcnemar_p"] < comparison.ALPHA
    return {"n_speakers": n_speakers, "trials": trials} | {k: n / trials for k, n in found.items()}


def designs() -> list[Design]:
    """All designs that the committed table holds."""
    one = [((name, n),) for name in ("RAVDESS", "SAVEE") for n in SPEAKERS]
    return [Design(corpora, score, spread) for corpora in (*one, *POOLED) for score in SCORES for spread in SPREADS]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="of each design (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--folder", default=project_dir() / "reports", help="where the files go")
    settings = parser.parse_args(arguments)
    with ProcessPoolExecutor(settings.jobs) as pool:
        parts = pool.map(coverage, designs(), repeat(settings.trials))
        table = pd.concat(tqdm(parts, total=len(designs()), unit="design"), ignore_index=True)
    folder = project_dir() / settings.folder
    write_csv(table, folder / "coverage.csv", "%.4f")
    with replacing(folder / "coverage.png") as part:
        part.write_bytes(plots.coverage_of_intervals(table).png())
    with ProcessPoolExecutor(settings.jobs) as pool:
        tests = pd.DataFrame(pool.map(false_alarms, SPEAKERS[:-1], repeat(settings.trials // 5)))
    write_csv(tests, folder / "false_alarms.csv")
    print(tests.to_string(index=False))
    means = table.groupby(["test", "score", "aim"], sort=False)["coverage"].mean().unstack("aim")
    print((100 * means).round(1).to_string())


if __name__ == "__main__":
    main()
