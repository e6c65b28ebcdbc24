"""The table of results, `reports/results.csv`: one row for each recipe, variant, encoder, protocol and test corpus.

It is computed from the files in `reports/predictions/` alone (see `ser_lib.evaluation.stored_predictions`), without
audio, models or run folders:

    add_runs(runs)             # stores the runs' predictions, and writes their rows
    make_results()             # computes all rows anew

Intervals are 95 %, as of `ser_lib.evaluation.metrics.score`: over speakers, and missing where there are too few. A row of a
control (shuffled labels) has none: its scores are means over draws, one a seed, and their spread stands beside them.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from ser_lib.common.errors import SerError
from ser_lib.common.files import read_table, reports_path, write_csv, write_text
from ser_lib.evaluation import metrics, stored_predictions
from ser_lib.evaluation.stored_predictions import StoredPredictions
from ser_lib.inference.run import Run
from ser_lib.protocols.splits import PROTOCOLS

KEY = ["recipe", "variant", "encoder", "protocol", "corpus"]
# What keeps the score from being compared with that of the source, "" where nothing does: see `remarks`.
REMARKS = ["stand_in_for", "part", "reduced", "control", "caveat"]
SCORES = [f"{name}{end}" for name in metrics.SCORES for end in ("", "_low", "_high")]
# Over seeds, where there are several: standard deviation (of a sample), lowest, highest.
SPREADS = [f"{name}_{end}" for name in metrics.SCORES for end in ("sd", "lowest", "highest")]
BY_SPEAKER = ["accuracy_by_speaker", "uar_by_speaker"]  # such as "tess-oaf=0.430000; tess-yaf=0.600000"
CHANCE = ["accuracy_chance", "uar_chance"]  # of the emotions tested
COUNTS = ["folds", "n_train", "n_test", "test_speakers"]
COLUMNS = [
    *(*KEY, *REMARKS, *COUNTS),
    *(*SCORES, "interval_over", "no_interval", *BY_SPEAKER, *SPREADS, *CHANCE, "ece"),
    *("seeds", "seconds", "device", "commit", "predictions"),
]
TEXTS = [*KEY, *REMARKS, "interval_over", "no_interval", *BY_SPEAKER, "seeds", "device", "commit", "predictions"]
AGAIN = "`make tables` writes it anew from reports/predictions."


def results_path(reports_dir: str | Path | None = None) -> Path:
    return reports_path("results.csv", reports_dir)


def rows_of(stored: StoredPredictions) -> pd.DataFrame:
    """The rows of one experiment: all test clips, then each corpus where there are several.

    Scores are over the predictions of all seeds; those of a control are means over the seeds.
    """
    facts, table, n_runs = stored.facts, stored.table, len(stored.facts.runs)
    folds, n_train = (round(np.mean([getattr(run, name) for run in facts.runs])) for name in ("folds", "n_train"))
    common = {
        **{name: getattr(facts, name) for name in ("recipe", "variant", "encoder", "protocol", "stand_in_for")},
        **{"reduced": facts.reduced, "caveat": facts.caveat, "folds": folds, "n_train": n_train},
        "control": f"labels shuffled, {n_runs} draw{'s' * (n_runs != 1)}" if facts.is_control else "",
        "seeds": " ".join(str(run.seed) for run in facts.runs),
        "seconds": round(sum(run.seconds for run in facts.runs), 1),
        **{name: " ".join(dict.fromkeys(getattr(run, name) for run in facts.runs)) for name in ("device", "commit")},
        "predictions": facts.file_name,
    }
    labels = facts.corpus_labels
    tested = sorted(set(table["corpus"]))
    groups = {"+".join(labels[name] for name in tested): tested} | {labels[name]: [name] for name in tested}
    rows = []
    for label, corpora in groups.items():
        counts = {name: facts.corpora[name] for name in corpora}
        parts = [f"{n:,} of {of:,} clips of {name}" for name, (n, of) in counts.items() if n < of]
        scores = _scores(stored.part(table["corpus"].isin(corpora)))
        rows.append({**common, "corpus": label, "part": ", ".join(parts), **scores})
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _scores(stored: StoredPredictions) -> dict:
    """The scores with their intervals; of a control their mean over the seeds, and no interval."""
    about, predictions, copies = stored.table, stored.predictions, stored.copies
    score = metrics.score(predictions, about["speaker"], about["corpus"], copies)
    score["uar_chance"] = score.pop("chance")
    score |= {f"{name}_by_speaker": by_speaker(score, name) for name in ("accuracy", "uar")}
    seeds = [rows.index for _, rows in about.groupby("seed")]
    of_seeds = pd.DataFrame([_point_scores(predictions.loc[rows], copies.loc[rows]) for rows in seeds])
    if len(seeds) > 1:
        for name in metrics.SCORES:
            ends = of_seeds[name].agg(["std", "min", "max"])
            score |= dict(zip((f"{name}_sd", f"{name}_lowest", f"{name}_highest"), ends, strict=True))
    if stored.facts.is_control:
        score |= of_seeds.mean().to_dict() | dict.fromkeys(BY_SPEAKER, "")
        score |= {f"{name}_{end}": np.nan for name in metrics.SCORES for end in ("low", "high")}
        score |= {"interval_over": "none", "no_interval": "a control: see the spread over its draws"}
    return score


def by_speaker(score: dict, name: str) -> str:
    """One score of each speaker as text, such as "tess-oaf=0.430000; tess-yaf=0.600000"; "" where there are many.

    Args:
        score: as of `metrics.score`.
    """
    return "; ".join(f"{speaker}={scores[name]:.6f}" for speaker, scores in score["speaker_scores"].items())


def _point_scores(predictions: pd.DataFrame, copies: pd.Series) -> dict[str, float]:
    """`metrics.SCORES` of the predictions of one seed, where all copies of a recording together count once."""
    emotions, decided = metrics.emotions_of(predictions), metrics.decisions(predictions)
    cells = metrics.weights_of(predictions, copies) @ metrics.confusion_cells(decided, emotions)
    scores = metrics.scores_of_cells(cells[None], np.isin(emotions, decided["truth"]))[0]
    return dict(zip(metrics.SCORES, scores, strict=True))


def add_runs(runs: Sequence[Run], reports_dir: str | Path | None = None) -> pd.DataFrame:
    """Store the predictions of one experiment, and write its rows into `results.csv`; all other rows stay.

    The seeds that are stored already, and that are not among the runs, stay in the rows.

    Returns:
        the rows.
    """
    path = results_path(reports_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(".results.lock")):
        before = read_results(reports_dir)
        rows = rows_of(stored_predictions.read(stored_predictions.store(runs, reports_dir)))
        others = before[before["predictions"] != rows["predictions"].iloc[0]]
        _write(pd.concat([others, rows], ignore_index=True) if len(others) else rows, path)
    return rows


def make_results(reports_dir: str | Path | None = None) -> Path:
    """Write `results.csv` anew, from all stored predictions."""
    path = results_path(reports_dir)
    folder = stored_predictions.predictions_dir(reports_dir)
    tables = [rows_of(stored) for stored in stored_predictions.read_all(folder)]
    if not tables:
        raise SerError(f"{folder} holds no predictions: `ser evaluate` and `ser results --add` store those of runs.")
    with FileLock(path.with_name(".results.lock")):
        _write(pd.concat(tables, ignore_index=True), path)
    return path


def _write(table: pd.DataFrame, path: Path) -> None:
    order = {name: position for position, name in enumerate(PROTOCOLS)}
    table = table.sort_values(KEY, key=lambda column: column.map(order) if column.name == "protocol" else column)
    write_table(table, path)


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write a table of scores as CSV, with six digits: tables and pages round them once more, to three."""
    # Processors differ in the last digits: 0.56249999999 and 0.5625 must be written alike.
    numbers = table.select_dtypes("float").columns
    return write_csv(table.assign(**table[numbers].round(9)), path, "%.6f")


def read_results(reports_dir: str | Path | None = None) -> pd.DataFrame:
    """The table of results; without rows where there is none yet.

    Raises:
        SerError: the file has other columns than `COLUMNS`.
    """
    path = results_path(reports_dir)
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS)
    numbers = dict.fromkeys([*SCORES, *SPREADS, *CHANCE], float) | dict.fromkeys(COUNTS, int)
    table = read_table(path, AGAIN, types=numbers)
    if list(table.columns) != COLUMNS:
        raise SerError(
            f"{path} has other columns than expected: {', '.join(COLUMNS)}. `make tables` writes it anew from "
            f"{stored_predictions.predictions_dir(reports_dir)}; without that folder, move the file away."
        )
    return table.assign(**table[TEXTS].astype(object).fillna("").astype(str))


def remarks(row) -> list[str]:
    """What keeps the score of a row from being compared with that of its source, in words; empty where nothing does.

    Args:
        row: with the attributes `REMARKS` and `encoder`.
    """
    texts = {
        "stand_in_for": f"stand-in: {row.encoder} in place of {row.stand_in_for}",
        "part": row.part,
        "reduced": row.reduced,
        "control": f"control: {row.control}",
        "caveat": row.caveat,
    }
    return [text for name, text in texts.items() if getattr(row, name)]


def markdown(table: pd.DataFrame) -> str:
    """The table of results as Markdown, with the protocol of each row."""
    heads = ["recipe", "reads", "variant", "protocol", "test corpus", "UAR (95 % CI)", "accuracy (95 % CI)"]
    rows = []
    for row in table.itertuples():
        is_transductive = row.protocol in PROTOCOLS and PROTOCOLS[row.protocol].is_transductive
        protocol = f"`{row.protocol}`" + " (transductive)" * is_transductive
        scores = score_cell(row, "uar", bold=True), score_cell(row, "accuracy"), f"{row.n_test} / {row.test_speakers}"
        about = [f"`{row.recipe}`", row.encoder, row.variant, protocol, row.corpus]
        rows.append([*about, *scores, "; ".join(remarks(row))])
    return markdown_table([*heads, "test clips / speakers", "remarks"], rows)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in [heads, *rows]]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def score_cell(row, name: str, digits: int = 3, bold: bool = False) -> str:
    """A score with what `spread_of` says of it: `0.515 (0.496–0.534)`."""
    value, spread = _number(getattr(row, name), digits), spread_of(row, name, digits)
    shown = f"**{value}**" if bold else value
    return f"{shown} ({spread.removesuffix('†')}){'†' * spread.endswith('†')}" if spread else shown


def spread_of(row, name: str, digits: int = 3) -> str:
    """The interval of a score: `0.496–0.534`, with † where it is over clips.

    Without an interval it is the scores of the few speakers, such as `speakers: 0.430, 0.600`; of several draws the
    standard deviation and the range, such as `sd 0.046, 0.062–0.155`; else the reason, such as `no interval: tess has 2
    speakers`, or "" where it is not known.

    Args:
        row: with the attributes `name`_low, `name`_high and interval_over; and no_interval, and of `BY_SPEAKER` and
            `SPREADS` those of the name, where there is no interval.
    """
    low, high = (_number(getattr(row, name + end), digits) for end in ("_low", "_high"))
    if low and high:
        return f"{low}–{high}{'†' * (row.interval_over == 'clips')}"
    if speakers := re.findall(r"=([\d.]+)(?:; |$)", getattr(row, f"{name}_by_speaker", "")):
        return f"speakers: {', '.join(_number(float(score), digits) for score in speakers)}"
    ends = ("sd", "lowest", "highest")
    sd, lowest, highest = (_number(getattr(row, f"{name}_{end}", np.nan), digits) for end in ends)
    if sd:
        return f"sd {sd}, {lowest}–{highest}"
    return f"no interval: {row.no_interval}" if getattr(row, "no_interval", "") else ""


def _number(value: float, digits: int) -> str:
    """A number with some digits, "" where it is missing."""
    return "" if pd.isna(value) else f"{value:.{digits}f}"


def write_into_readme(readme: Path, name: str, table: str) -> None:
    """Replace the text between the README's two markers of a name by a table."""
    text = readme.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SerError(f"{readme} needs the markers {begin} and {end}, once each: the table goes between them.")
    before, rest = text.split(begin)
    write_text(f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}", readme)
