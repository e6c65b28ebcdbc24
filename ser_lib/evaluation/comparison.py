"""Which of two models is better, on the same test clips: paired, with intervals, and corrected where many are compared.

    compare(first, second, speaker_of)              # first minus second
    compare_all({"a": …, "b": …, "c": …}, speaker_of)   # all pairs, with Holm's correction
    confused_pairs(predictions, speakers)           # what one model takes for what

All of it reads predictions tables as `ser_lib.evaluation.metrics` describes them. A table may hold several answers to a clip, of
several seeds: UAR and accuracy are then those of all answers, a clip's answers stay together in the bootstrap, and
McNemar's test, which knows one decision a clip, is left out (NaN).
"""

import itertools
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation.metrics import by_group, chance_level, decisions, draw_units, sum_by_unit, units_of

logger = logging.getLogger(__name__)


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    speaker_of: Mapping[str, str] | None = None,
    shared: bool = False,
    bootstrap: int = 2000,
    seed: int = 0,
) -> dict:
    """Differences in UAR and accuracy, first minus second, on the same test clips.

    Each resample draws speakers (clips where there are fewer than `metrics.MIN_SPEAKERS`) for both models at once, so
    that what makes a speaker hard for both cancels out. The p value is twice the smaller share of resamples on one side
    of no difference (Davison & Hinkley 1997, "Bootstrap methods and their application", section 4.4.1, inverted
    percentile interval): at least 2 / (bootstrap + 1), and exactly 1 where the answers are the same.

    McNemar's exact test counts the clips that only one of the two gets right. It takes clips for independent, which
    those of one speaker are not. Simulated, with two equally good models that each suit some speakers better (24
    speakers of 60 clips), p < 0.05 came out in 24 % of trials by McNemar, and in 9 % by the bootstrap (10 % with 8
    speakers, 32 % over clips with 4): believe the bootstrap over speakers, and a p value just below 0.05 not too much.

    Args:
        speaker_of: the speaker of each clip_id, a dict or a Series; without it intervals are over clips.
        shared: compare on the clips that both have, where these differ.

    Returns:
        n_test (clips), test_speakers (None where unknown), interval_over ("speakers" or "clips"); for uar and accuracy
        each: `uar_first`, `uar_second`, `uar_difference`, `uar_difference_low`, `uar_difference_high`, `uar_p`;
        only_first (clips that the first alone gets right), only_second, mcnemar_p.

    Raises:
        SerError: other test clips, other emotions, or another truth of a clip.
    """
    first, second = paired(first, second, shared)
    told = [decisions(table) for table in (first, second)]
    clips = pd.Index(sorted(set(first["clip_id"])))
    speakers = None
    if speaker_of is not None:
        unknown = [clip for clip in clips if clip not in speaker_of]
        if unknown:
            raise SerError(
                f"the speakers of {len(unknown)} clips are not given, such as {unknown[0]}: `speaker_of` names one "
                "for each clip_id of the predictions."
            )
        speakers = [speaker_of[clip] for clip in clips]
    units, over = units_of(pd.DataFrame({"clip_id": clips}), speakers)
    numbers, drawn = draw_units(units, bootstrap, seed)
    emotions = in_order(first["truth"])
    scores = [_scores(table, numbers[clips.get_indexer(table["clip_id"])], drawn, emotions) for table in told]
    result = {
        "n_test": len(clips),
        "test_speakers": None if speakers is None else len(set(speakers)),
        "interval_over": over,
    }
    for column, name in enumerate(("uar", "accuracy")):
        one, other = (score[:, column] for score in scores)
        difference = one - other
        low, high = np.percentile(difference[1:], [2.5, 97.5])
        result |= {
            f"{name}_first": float(one[0]),
            f"{name}_second": float(other[0]),
            f"{name}_difference": float(difference[0]),
            f"{name}_difference_low": float(low),
            f"{name}_difference_high": float(high),
            f"{name}_p": _p_value(difference[1:]),
        }
    return result | _mcnemar(*told)


def compare_all(
    tables: Mapping[str, pd.DataFrame],
    speaker_of: Mapping[str, str] | None = None,
    shared: bool = False,
    bootstrap: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """`compare` each pair of named predictions tables, and correct the p values for their number.

    Args:
        shared: compare all of them on the clips that all have.
        bootstrap: None: 2000, or 200 a pair where that is more, since a correction for many pairs needs small p values.

    Returns:
        one row a pair: first, second (names), what `compare` gives, and uar_p_holm, accuracy_p_holm, mcnemar_p_holm.

    Raises:
        SerError: as `compare`, naming the pair; or fewer than two tables.
    """
    if len(tables) < 2:
        raise SerError(f"a comparison needs two tables of predictions or more, got {len(tables)}.")
    if shared:
        common = set.intersection(*(set(table["clip_id"]) for table in tables.values()))
        tables = {name: table[table["clip_id"].isin(common)] for name, table in tables.items()}
    pairs = list(itertools.combinations(tables.items(), 2))
    bootstrap = bootstrap or max(2000, 200 * len(pairs))
    rows = []
    for (one, first), (other, second) in pairs:
        try:
            found = compare(first, second, speaker_of, shared, bootstrap, seed)
        except SerError as error:
            raise SerError(f"{one} and {other}: {error}") from error
        rows.append({"first": one, "second": other, **found})
    table = pd.DataFrame(rows)
    for name in ("uar_p", "accuracy_p", "mcnemar_p"):
        table[f"{name}_holm"] = holm(table[name])
    return table


def paired(first: pd.DataFrame, second: pd.DataFrame, shared: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables on the same clips.

    Raises:
        SerError: the clips differ and `shared` is False, none is in both, or emotions or a clip's truth differ.
    """
    columns = [in_order(set(table) - {"clip_id", "truth"}) for table in (first, second)]
    if columns[0] != columns[1]:
        raise SerError(
            f"the models tell apart other emotions, {', '.join(columns[0])} and {', '.join(columns[1])}: "
            "scores of easier and harder questions do not compare. Train both on the same emotions."
        )
    one, other = set(first["clip_id"]), set(second["clip_id"])
    both = one & other
    if not both:
        raise SerError(f"no clip is tested by both, of {len(one)} and {len(other)}: there is nothing to compare.")
    if one != other:
        if not shared:
            raise SerError(
                f"the test clips differ: {len(both)} are in both, {len(one - both)} only in the first, "
                f"{len(other - both)} only in the second. Test both under one protocol, or compare them on the shared "
                "clips alone (shared=True, `--shared`)."
            )
        first, second = (table[table["clip_id"].isin(both)] for table in (first, second))
    truths = pd.concat([first, second])[["clip_id", "truth"]].drop_duplicates()
    twice = truths["clip_id"][truths["clip_id"].duplicated()]
    if len(twice):
        raise SerError(
            f"{twice.nunique()} clips have two truths, such as {twice.iloc[0]}: they were labelled otherwise."
        )
    return first, second


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction: below 0.05 is then, with 95 % certainty, no false alarm among all of them.

    Holm 1979, "A simple sequentially rejective multiple test procedure". NaN stays NaN, and is not counted.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=float)
    corrected = np.full(len(p_values), np.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected


def in_words(row, first: str, second: str, corrected: bool = False) -> str:
    """One row of a comparison as a sentence.

    Args:
        row: a dict of `compare`, or a row of `compare_all`.
        corrected: let Holm's p value decide what is called better, instead of the interval.
    """
    difference, low, high = (row[f"uar_difference{end}"] for end in ("", "_low", "_high"))
    shown = row["uar_p_holm"] < 0.05 if corrected else low > 0 or high < 0
    if shown and difference < 0:
        first, second, difference, low, high = second, first, -difference, -high, -low
    clips = f"{row['n_test']:,} clips" + (
        f" of {row['test_speakers']:.0f} speakers" if pd.notna(row["test_speakers"]) else ""
    )
    interval = f"({low:.3f} to {high:.3f}) on the same {clips}"
    if shown:
        sentence = f"{first} is better than {second} by {difference:.3f} UAR {interval}"
    else:
        sentence = f"no difference between {first} and {second} is shown: {difference:+.3f} UAR {interval}"
    return sentence + ("" if row["interval_over"] == "speakers" else ", drawn as if clips were independent")


def confused_pairs(
    predictions: pd.DataFrame, speakers: Sequence[str] | None = None, bootstrap: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """How often each emotion is taken for each other, the most frequent first.

    Returns:
        one row a pair that occurs: truth, prediction, n (answers), n_truth (answers of that truth), rate (n / n_truth),
        rate_low, rate_high (95 %), interval_over. No rows where all answers are right.
    """
    told = decisions(predictions)
    units, over = units_of(predictions, speakers)
    numbers, drawn = draw_units(units, bootstrap, seed)
    rows = []
    for (truth, prediction), part in told.groupby(["truth", "prediction"]):
        if truth == prediction:
            continue
        own = (told["truth"] == truth).to_numpy()
        taken = own & (told["prediction"] == prediction).to_numpy()
        sums = sum_by_unit(numbers, np.column_stack([taken, own]), drawn.shape[1])
        resampled = drawn @ sums
        resampled = resampled[resampled[:, 1] > 0]  # one may hold no clip of that emotion
        low, high = np.percentile(resampled[:, 0] / resampled[:, 1], [2.5, 97.5])
        rows.append(
            {
                "truth": truth,
                "prediction": prediction,
                "n": len(part),
                "n_truth": int(own.sum()),
                "rate": len(part) / own.sum(),
                "rate_low": low,
                "rate_high": high,
                "interval_over": over,
            }
        )
    columns = ["truth", "prediction", "n", "n_truth", "rate", "rate_low", "rate_high", "interval_over"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(["rate", "n"], ascending=False, kind="stable", ignore_index=True)


def by_attributes(
    predictions: pd.DataFrame,
    test_clips: pd.DataFrame,
    columns: Sequence[str] = ("sex", "speaker", "sentence", "intensity"),
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """`metrics.by_group` for several attributes of the test clips, one under the other.

    Groups need not hold the same emotions (RAVDESS has no strong neutral): compare a UAR with its own chance.

    Args:
        test_clips: the split's rows of the predictions, aligned to them: `Run.test_clips()`.
        columns: those with the same value for all clips are left out; clips whose value is unknown are left out of that
            attribute, with a logged line.

    Returns:
        indexed by attribute and group: emotions (how many the group's truth holds), chance (of its UAR), and what
        `by_group` gives.

    Raises:
        SerError: there is no such column, or the rows are not those of the predictions.
    """
    missing = [name for name in columns if name not in test_clips]
    if missing:
        raise SerError(
            f"the test clips have no column {', '.join(missing)}; they have {', '.join(test_clips.columns)}."
        )
    if test_clips["clip_id"].tolist() != predictions["clip_id"].tolist():
        raise SerError("expected one row of test clips for each prediction, in the same order.")
    tables = {}
    for name in columns:
        values = test_clips[name].replace("", pd.NA)  # an empty cell of a CSV is no value
        known = values.notna().to_numpy()
        if values.nunique() < 2:
            continue
        if not known.all():
            logger.warning("%s is unknown of %d of %d clips: left out", name, (~known).sum(), len(known))
        groups, answers = values[known].astype(str).to_numpy(), predictions[known]
        table = by_group(answers, groups, test_clips["speaker"][known].to_numpy(), bootstrap, seed)
        held = answers.groupby(groups)["truth"].nunique()
        table.insert(0, "emotions", held)
        table.insert(1, "chance", held.map(chance_level))
        tables[name] = table
    if not tables:
        raise SerError(f"there is nothing to compare: none of {', '.join(columns)} is known with two values or more.")
    return pd.concat(tables, names=["attribute", "group"])


def _scores(told: pd.DataFrame, numbers: np.ndarray, drawn: np.ndarray, emotions: list[str]) -> np.ndarray:
    """UAR and accuracy as they are (first row) and in each resample, shape (1 + bootstrap, 2)."""
    truth = (told["truth"].to_numpy()[:, None] == np.array(emotions)).astype(float)
    hits = truth * (told["prediction"] == told["truth"]).to_numpy()[:, None]
    sums = sum_by_unit(numbers, np.hstack([truth, hits]), drawn.shape[1])
    support, right = np.hsplit(np.vstack([sums.sum(axis=0), drawn @ sums]), 2)
    uar = (right / np.maximum(support, 1)).sum(axis=1) / (support > 0).sum(axis=1)
    return np.column_stack([uar, right.sum(axis=1) / support.sum(axis=1)])


def _p_value(resampled: np.ndarray) -> float:
    resampled = np.where(np.abs(resampled) < 1e-12, 0, resampled)  # sums in another order
    side = min((resampled <= 0).sum(), (resampled >= 0).sum())
    return min(1.0, 2 * (1 + float(side)) / (1 + len(resampled)))


def _mcnemar(first: pd.DataFrame, second: pd.DataFrame) -> dict:
    """McNemar's exact test: is each of the clips that one alone gets right as likely to be the first's?"""
    if first["clip_id"].duplicated().any() or second["clip_id"].duplicated().any():
        return {"only_first": np.nan, "only_second": np.nan, "mcnemar_p": np.nan}
    right = [(told["prediction"] == told["truth"]).set_axis(told["clip_id"]) for told in (first, second)]
    one, other = right[0], right[1].loc[right[0].index]
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    split = only_first + only_second
    p = binomtest(only_first, split).pvalue if split else 1.0
    return {"only_first": only_first, "only_second": only_second, "mcnemar_p": float(p)}
