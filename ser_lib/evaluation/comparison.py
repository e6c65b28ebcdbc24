"""Which of two models is better on the same test clips: paired differences with intervals, corrected for many pairs.

    compare(first, second, speaker_of)                  # first minus second
    compare_all({"a": …, "b": …, "c": …}, speaker_of)   # all pairs, with Holm's correction
    confused_pairs(predictions, speakers)               # how often one emotion is predicted for another

All functions read predictions tables as `ser_lib.evaluation.metrics` describes them. Where a table holds predictions of
several seeds, UAR and accuracy are those of all rows, and all rows of a clip stay together in the bootstrap. McNemar's
test needs one decision a clip, and is then left out (NaN).
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


def compare(
    first: pd.DataFrame, second: pd.DataFrame, speaker_of: Mapping[str, str] | None = None, bootstrap: int = 2000
) -> dict:
    """Differences in UAR and accuracy, first minus second, on the same test clips.

    Each resample holds the same speakers (or clips, see `intervals.units_of`) for both models, so that a speaker who is
    hard for both does not widen the interval. McNemar's exact test takes the clips of a speaker for independent: with two
    equally good models that each suit some speakers better (24 speakers of 60 clips, simulated), p < 0.05 occurred in
    24 % of trials by McNemar, and in 9 % by the bootstrap (10 % with 8 speakers, 32 % over clips with 4).

    Args:
        speaker_of: the speaker of each clip_id, a dict or a Series; None: intervals are over clips.

    Returns:
        n_test (clips), test_speakers (None where unknown), interval_over ("speakers" or "clips"); for uar and accuracy
        each: `uar_first`, `uar_second`, `uar_difference`, `uar_difference_low`, `uar_difference_high`, `uar_p` (see
        `intervals.Estimate.p_value`); only_first (clips that only the first gets right), only_second, mcnemar_p.

    Raises:
        SerError: the tables differ in their clips, emotions, or the truth of a clip.
    """
    _check_comparable(first, second)
    speakers = None if speaker_of is None else first["clip_id"].map(speaker_of)
    if speakers is not None and speakers.isna().any():
        unknown = first.loc[speakers.isna(), "clip_id"].unique()
        raise SerError(
            f"the speakers of {len(unknown)} clips are not given, such as {unknown[0]}: complete `speaker_of`."
        )
    units, over = intervals.units_of(first, speakers)
    both = paired_scores(first, second, dict(zip(first["clip_id"], units, strict=True)), bootstrap)
    result: dict = {
        "n_test": first["clip_id"].nunique(),
        "test_speakers": None if speakers is None else speakers.nunique(),
        "interval_over": over,
    }
    for name in ("uar", "accuracy"):
        one, other, difference = (both[row][metrics.SCORES.index(name)] for row in range(3))
        result |= {f"{name}_first": float(one.value), f"{name}_second": float(other.value)}
        result |= difference.columns(f"{name}_difference") | {f"{name}_p": difference.p_value}
    return result | _mcnemar(first, second)


def paired_scores(
    first: pd.DataFrame, second: pd.DataFrame, unit_of: Mapping | None, bootstrap: int = 2000
) -> intervals.Estimate:
    """Scores of two predictions tables, and first minus second, on resamples that hold the same units for both.

    Args:
        unit_of: the unit that is drawn, such as the speaker, by clip_id; None: the clip.

    Returns:
        shape (3, 3): first, second, difference; and `metrics.SCORES`.
    """
    decided = [metrics.decisions(first), metrics.decisions(second)]
    emotions = in_order({*metrics.emotions_of(first), *metrics.emotions_of(second)})
    columns = block_diag(*(metrics.confusion_cells(table, emotions) for table in decided))
    clips = pd.concat(decided)["clip_id"]
    units = clips if unit_of is None else clips.map(unit_of)

    def scores(sums: np.ndarray) -> np.ndarray:
        one, other = (metrics.scores_of_cells(half) for half in np.hsplit(sums, 2))
        return np.stack([one, other, one - other], axis=1)

    return intervals.bootstrap(units, columns, scores, bootstrap)


def compare_all(
    tables: Mapping[str, pd.DataFrame],
    speaker_of: Mapping[str, str] | None = None,
    shared: bool = False,
    bootstrap: int | None = None,
) -> pd.DataFrame:
    """`compare` each pair of named predictions tables, and correct the p values for the number of pairs.

    Args:
        shared: compare all of them on the clips that all tables hold.
        bootstrap: None: 2000, or 200 a pair where that is more, for the small p values that the correction needs.

    Returns:
        one row a pair: first, second (names), what `compare` gives, and uar_p_holm, accuracy_p_holm, mcnemar_p_holm.
    """
    if len(tables) < 2:
        raise SerError(f"a comparison needs two tables of predictions or more, got {len(tables)}.")
    common = set.intersection(*(set(table["clip_id"]) for table in tables.values()))
    if shared and common:
        tables = {name: table[table["clip_id"].isin(common)] for name, table in tables.items()}
    pairs = list(itertools.combinations(tables.items(), 2))
    bootstrap = bootstrap or max(2000, 200 * len(pairs))
    rows = []
    for (one, first), (other, second) in pairs:
        try:
            row = compare(first, second, speaker_of, bootstrap)
        except SerError as error:
            raise SerError(f"{one} and {other}: {error}") from error
        rows.append({"first": one, "second": other, **row})
    table = pd.DataFrame(rows)
    for name in ("uar_p", "accuracy_p", "mcnemar_p"):
        table[f"{name}_holm"] = holm(table[name])
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
    is_shown = row["uar_p_holm"] < 0.05 if corrected else low > 0 or high < 0
    if is_shown and difference < 0:
        first, second, difference, low, high = second, first, -difference, -high, -low
    clips = f"{row['n_test']:,} clips"
    if pd.notna(row["test_speakers"]):
        clips += f" of {row['test_speakers']:.0f} speakers"
    interval = f"({low:.3f} to {high:.3f}) on the same {clips}"
    end = "" if row["interval_over"] == "speakers" else ", as if clips were independent"
    if is_shown:
        return f"{first} is better than {second} by {difference:.3f} UAR {interval}{end}"
    return f"no difference between {first} and {second} is shown: {difference:+.3f} UAR {interval}{end}"


def confused_pairs(predictions: pd.DataFrame, speakers: ArrayLike | None = None, bootstrap: int = 2000) -> pd.DataFrame:
    """How often each emotion is predicted for each other, the most frequent first.

    Returns:
        one row a pair that occurs: truth, prediction, n (rows), n_truth (rows of that truth), rate (n / n_truth),
        rate_low, rate_high (95 %), interval_over. No rows where all predictions are right.
    """
    decided = metrics.decisions(predictions)
    pairs = decided[~metrics.is_right(decided)].groupby(["truth", "prediction"]).size().rename("n").reset_index()
    truth = decided["truth"].to_numpy()[:, None] == pairs["truth"].to_numpy()  # rows by pairs
    both = truth & (decided["prediction"].to_numpy()[:, None] == pairs["prediction"].to_numpy())
    units, over = intervals.units_of(predictions, speakers)
    rate = intervals.bootstrap(units, np.hstack([both, truth]), intervals.ratio, bootstrap).columns("rate")
    pairs = pairs.assign(n_truth=truth.sum(axis=0), **rate, interval_over=over)
    return pairs.sort_values(["rate", "n"], ascending=False, kind="stable", ignore_index=True)


def by_attributes(predictions: pd.DataFrame, test_clips: pd.DataFrame, bootstrap: int = 2000) -> pd.DataFrame:
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
        table = metrics.by_group(rows, groups, test_clips["speaker"][known], bootstrap)
        n_emotions = rows.groupby(groups)["truth"].nunique()
        about = pd.DataFrame({"emotions": n_emotions, "chance": n_emotions.map(metrics.chance_level)})
        tables[name] = about.loc[table.index].join(table)
    if not tables:
        raise SerError(
            f"there is nothing to compare: none of {', '.join(ATTRIBUTES)} is known with two values or more."
        )
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
