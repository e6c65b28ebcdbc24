"""Which of two models is better on the same test clips: paired differences with intervals, corrected for many pairs.

    compare(first, second, speaker_of)                  # first minus second
    compare_all({"a": …, "b": …, "c": …}, speaker_of)   # all pairs, with Holm's correction
    ties({"a": …, "b": …, "c": …}, speaker_of)          # which of them cannot be told from the best
    confused_pairs(predictions, speakers)               # how often one emotion is predicted for another

All functions read predictions tables as `ser_lib.evaluation.metrics` describes them. Where a table holds predictions of
several seeds, UAR and accuracy are those of all rows, and all rows of a clip stay together. McNemar's test needs one
decision a clip, and is then left out (NaN).

`speaker_of` and `corpus_of` are the speaker and the corpus of each clip_id, a dict or a Series. Without speakers,
intervals are over clips; without corpora, all speakers are of one. The test of a difference is a paired t test over
speakers: `ser_lib.evaluation.intervals` computes the standard error, as of any other interval.
"""

import itertools
import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.linalg import block_diag
from scipy.stats import binomtest

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation import intervals, metrics

logger = logging.getLogger(__name__)

ATTRIBUTES = ("sex", "speaker", "sentence", "intensity")  # of clips
ALPHA = 0.05


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    speaker_of: Mapping[str, str] | None = None,
    corpus_of: Mapping[str, str] | None = None,
) -> dict:
    """Differences in UAR and accuracy, first minus second, on the same test clips.

    The difference is taken within each speaker, so that a speaker who is hard for both does not widen the interval.
    McNemar's exact test takes the clips of a speaker for independent: its p value is too small where models suit some
    speakers better than others.

    Returns:
        n_test (clips), test_speakers (None where unknown), interval_over and no_interval as of `metrics.score`; for uar
        and accuracy each: `uar_first`, `uar_second`, `uar_difference`, `uar_difference_low`, `uar_difference_high`,
        `uar_p` (see `intervals.Estimate.p_value`), `uar_smallest` (see `intervals.Estimate.smallest_difference`);
        only_first (clips that only the first gets right), only_second, mcnemar_p.

    Raises:
        SerError: the tables differ in their clips, emotions, or the truth of a clip, or a speaker or corpus is missing.
    """
    _check_comparable(first, second)
    both, units = paired_scores(first, second, speaker_of, corpus_of)
    result: dict = {
        "n_test": first["clip_id"].nunique(),
        "test_speakers": None if speaker_of is None else first["clip_id"].map(speaker_of).nunique(),
        "interval_over": units.over,
        "no_interval": units.too_few,
    }
    for name in ("uar", "accuracy"):
        one, other, difference = (both[row][metrics.SCORES.index(name)] for row in range(3))
        result |= {f"{name}_first": float(one.value), f"{name}_second": float(other.value)}
        result |= difference.columns(f"{name}_difference") | {f"{name}_p": difference.p_value}
        result[f"{name}_smallest"] = difference.smallest_difference
    return result | _mcnemar(first, second)


def paired_scores(
    first: pd.DataFrame,
    second: pd.DataFrame,
    speaker_of: Mapping[str, str] | None = None,
    corpus_of: Mapping[str, str] | None = None,
) -> tuple[intervals.Estimate, intervals.Units]:
    """Scores of two predictions tables and first minus second, by leaving out the same speaker or clip of both.

    Returns:
        estimates of shape (3, 3), first, second, difference by `metrics.SCORES`; and what they are over.
    """
    decided = [metrics.decisions(first), metrics.decisions(second)]
    rows = pd.concat(decided)
    emotions = in_order({*metrics.emotions_of(first), *metrics.emotions_of(second)})
    tested = [np.isin(emotions, table["truth"]) for table in decided]
    columns = block_diag(*(metrics.confusion_cells(table, emotions) for table in decided))
    units = intervals.units_of(rows, _of_clips(rows, speaker_of, "speaker"), _of_clips(rows, corpus_of, "corpus"))

    def scores(sums: np.ndarray) -> np.ndarray:
        halves = zip(np.hsplit(sums, 2), tested, strict=True)
        one, other = (metrics.scores_of_cells(half, is_tested) for half, is_tested in halves)
        return np.stack([one, other, one - other], axis=1)

    rare = metrics.rare_emotions(units, rows["truth"])
    return intervals.jackknife(units, columns, scores).only_where([True, not rare, not rare]), units


def _of_clips(rows: pd.DataFrame, values: Mapping[str, str] | None, name: str) -> pd.Series | None:
    """The speaker or corpus of each row."""
    if values is None:
        return None
    column = rows["clip_id"].map(values)
    if column.isna().any():
        unknown = rows.loc[column.isna().to_numpy(), "clip_id"].unique()
        raise SerError(f"the {name} of {len(unknown)} clips is not given, such as {unknown[0]}: complete `{name}_of`.")
    return column


def compare_all(
    tables: Mapping[str, pd.DataFrame],
    speaker_of: Mapping[str, str] | None = None,
    corpus_of: Mapping[str, str] | None = None,
    shared: bool = False,
) -> pd.DataFrame:
    """`compare` each pair of named predictions tables, and correct the p values for the number of pairs.

    Args:
        shared: compare all of them on the clips that all tables hold.

    Returns:
        one row a pair: first, second (names), what `compare` gives, and uar_p_holm, accuracy_p_holm, mcnemar_p_holm.
    """
    if len(tables) < 2:
        raise SerError(f"a comparison needs two tables of predictions or more, got {len(tables)}.")
    common = set.intersection(*(set(table["clip_id"]) for table in tables.values()))
    if shared and common:
        tables = {name: table[table["clip_id"].isin(common)] for name, table in tables.items()}
    rows = []
    for (one, first), (other, second) in itertools.combinations(tables.items(), 2):
        try:
            row = compare(first, second, speaker_of, corpus_of)
        except SerError as error:
            raise SerError(f"{one} and {other}: {error}") from error
        rows.append({"first": one, "second": other, **row})
    table = pd.DataFrame(rows)
    for name in ("uar_p", "accuracy_p", "mcnemar_p"):
        table[f"{name}_holm"] = holm(table[name])
    return table


def ties(
    tables: Mapping[str, pd.DataFrame],
    speaker_of: Mapping[str, str] | None = None,
    corpus_of: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Which of several predictions tables cannot be told from the best by UAR.

    The best is compared with each other table, and the p values are corrected by Holm's method. A tie is no proof that
    two models are equally good: `smallest` is what the test can show.

    Returns:
        indexed by name, the best first: uar; difference (the best minus this one), difference_low, difference_high
        (95 %, paired), p_holm, smallest (see `intervals.Estimate.smallest_difference`); tied: True for the best and where
        p_holm is at least 0.05, False where the best is better, None where no test is possible; why: the reason for None.
    """
    if not tables:
        raise SerError("expected one table of predictions or more, got none.")
    uar = {name: metrics.uar(table) for name, table in tables.items()}
    best, *others = sorted(uar, key=lambda name: -uar[name])
    rows = {best: {"uar": uar[best], "tied": True, "why": ""}}
    for name in others:
        rows[name] = {"uar": uar[name], "tied": None, "why": ""}
        try:
            row = compare(tables[best], tables[name], speaker_of, corpus_of)
        except SerError as error:
            rows[name]["why"] = str(error)
            continue
        renamed = {"p": row["uar_p"], "smallest": row["uar_smallest"], "why": row["no_interval"]}
        rows[name] |= {f"difference{end}": row[f"uar_difference{end}"] for end in ("", "_low", "_high")} | renamed
    columns = ["uar", "difference", "difference_low", "difference_high", "p", "smallest", "tied", "why"]
    table = pd.DataFrame.from_dict(rows, "index", columns=None).reindex(columns=columns).rename_axis("name")
    table.insert(4, "p_holm", holm(table.pop("p")))
    is_tested = table["p_holm"].notna()
    table["tied"] = table["tied"].astype(object)
    table.loc[is_tested, "tied"] = (table.loc[is_tested, "p_holm"] >= ALPHA).astype(object)
    return table


def _check_comparable(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Check that two predictions tables have the same emotions, clips, and truth of each clip."""
    emotions = [", ".join(in_order(set(table) - {"clip_id", "truth"})) for table in (first, second)]
    if emotions[0] != emotions[1]:
        raise SerError(f"the runs use different emotion sets ({'; '.join(emotions)}): train both on the same emotions.")
    one, other = set(first["clip_id"]), set(second["clip_id"])
    both = one & other
    if not both:
        raise SerError(f"the runs have no test clip in common, of {len(one)} and {len(other)}: compare runs that do.")
    if one != other:
        raise SerError(
            f"the test clips differ: {len(both)} are in both, {len(one - both)} only in the first, {len(other - both)} "
            "only in the second. Test both under one protocol, or compare them on the shared clips (shared=True, "
            "`--shared`)."
        )
    truths = pd.concat([first, second])[["clip_id", "truth"]].drop_duplicates()
    relabelled = truths["clip_id"][truths["clip_id"].duplicated()].unique()
    if len(relabelled):
        raise SerError(
            f"{len(relabelled)} clips have different labels in the two runs, for example {relabelled[0]}: train both on "
            "the same labels."
        )


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's step-down correction. Controls the family-wise error rate: reject where the adjusted p is below 0.05.

    Holm 1979, "A simple sequentially rejective multiple test procedure". NaN stays NaN and is not counted.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = pd.Series(p_values, dtype=float)
    ordered = values.sort_values(kind="stable").dropna()
    steps = ordered * np.arange(len(ordered), 0, -1)
    return steps.cummax().clip(upper=1).reindex(values.index).to_numpy()


def in_words(row, first: str, second: str, corrected: bool = False) -> str:
    """One row of a comparison as a sentence.

    Args:
        row: as of `compare`, or a row of `compare_all`.
        corrected: the difference is shown where Holm's p value is below 0.05, not where its interval excludes 0.
    """
    difference, low, high = (row[f"uar_difference{end}"] for end in ("", "_low", "_high"))
    clips = f"{row['n_test']:,} clips"
    if pd.notna(row["test_speakers"]):
        clips += f" of {row['test_speakers']:.0f} speakers"
    if pd.isna(low):
        reason = row["no_interval"] or "an emotion has too few speakers"
        return f"{first} and {second} differ by {difference:+.3f} UAR on the same {clips}, without a test: {reason}"
    is_shown = row["uar_p_holm"] < ALPHA if corrected else low > 0 or high < 0
    if is_shown and difference < 0:
        first, second, difference, low, high = second, first, -difference, -high, -low
    interval = f"({low:.3f} to {high:.3f}) on the same {clips}"
    end = "" if row["interval_over"] == "speakers" else ", as if clips were independent"
    if is_shown:
        return f"{first} is better than {second} by {difference:.3f} UAR {interval}{end}"
    return f"no difference between {first} and {second} is shown: {difference:+.3f} UAR {interval}{end}"


def confused_pairs(
    predictions: pd.DataFrame, speakers: ArrayLike | None = None, corpora: ArrayLike | None = None
) -> pd.DataFrame:
    """How often each emotion is predicted for each other, the most frequent first.

    Returns:
        one row a pair that occurs: truth, prediction, n (rows), n_truth (rows of that truth), rate (n / n_truth),
        rate_low, rate_high (95 %, NaN with too few speakers), interval_over. No rows where all predictions are right.
    """
    decided = metrics.decisions(predictions)
    pairs = decided[~metrics.is_right(decided)].groupby(["truth", "prediction"]).size().rename("n").reset_index()
    truth = decided["truth"].to_numpy()[:, None] == pairs["truth"].to_numpy()  # rows by pairs
    both = truth & (decided["prediction"].to_numpy()[:, None] == pairs["prediction"].to_numpy())
    units = intervals.units_of(predictions, speakers, corpora)
    n_clips = decided.groupby("truth")["clip_id"].nunique()[pairs["truth"]].to_numpy()
    rate = intervals.jackknife(units, np.hstack([both, truth]), intervals.ratio, n_clips).columns("rate")
    pairs = pairs.assign(n_truth=truth.sum(axis=0), **rate, interval_over=units.over)
    return pairs.sort_values(["rate", "n"], ascending=False, kind="stable", ignore_index=True)


def by_attributes(predictions: pd.DataFrame, test_clips: pd.DataFrame) -> pd.DataFrame:
    """`metrics.by_group` for several attributes of the test clips, one under the other.

    Groups need not hold the same emotions (RAVDESS has no strong neutral): compare each UAR with the chance beside it.

    Args:
        test_clips: the split's rows of the predictions, in their order: `Run.test_clips()`. An attribute with the same
            value for all clips is left out, and so are clips of unknown value, with a warning.

    Returns:
        indexed by attribute and group: emotions (their number in the truth of the group), chance (of its UAR), and the
        columns of `by_group`.
    """
    if test_clips["clip_id"].tolist() != predictions["clip_id"].tolist():
        raise SerError("expected one row of test clips for each prediction, in the same order.")
    tables = {}
    for name in ATTRIBUTES:
        values = test_clips[name].replace("", pd.NA)  # an empty cell of a CSV is no value
        known = values.notna().to_numpy()
        if values.nunique() < 2:
            continue
        if not known.all():
            logger.warning("%s is unknown of %d of %d clips: left out", name, (~known).sum(), len(known))
        groups, rows = values[known].astype(str).to_numpy(), predictions[known]
        table = metrics.by_group(rows, groups, test_clips["speaker"][known], test_clips["corpus"][known])
        n_emotions = rows.groupby(groups)["truth"].nunique()
        about = pd.DataFrame({"emotions": n_emotions, "chance": n_emotions.map(metrics.chance_level)})
        tables[name] = about.loc[table.index].join(table)
    if not tables:
        raise SerError(f"there is nothing to compare: none of {', '.join(ATTRIBUTES)} is known with two values.")
    return pd.concat(tables, names=["attribute", "group"])


def _mcnemar(first: pd.DataFrame, second: pd.DataFrame) -> dict:
    """McNemar's exact test, with the null hypothesis that a clip that one model alone gets right is as often either's."""
    if first["clip_id"].duplicated().any() or second["clip_id"].duplicated().any():
        return {"only_first": np.nan, "only_second": np.nan, "mcnemar_p": np.nan}
    one, other = (
        pd.Series(metrics.is_right(metrics.decisions(table)), table["clip_id"]).sort_index()
        for table in (first, second)
    )
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    n_differing = only_first + only_second
    p_value = float(binomtest(only_first, n_differing).pvalue) if n_differing else 1.0
    return {"only_first": only_first, "only_second": only_second, "mcnemar_p": p_value}
