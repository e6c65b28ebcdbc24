"""The table of results, `reports/results.csv`: one row a (recipe, variant, encoder, protocol, test corpus).

Intervals are 95 %, bootstrapped over speakers where there are at least 8, else over clips: the column
`test_speakers` tells which, and tables for readers mark the latter with †.
"""

from pathlib import Path

import pandas as pd
from filelock import FileLock

from ser_lib.common.errors import SerError
from ser_lib.common.files import project_dir, replacing
from ser_lib.evaluation import metrics
from ser_lib.inference.run import Run, read_table
from ser_lib.protocols.splits import PROTOCOLS

KEY = ["recipe", "variant", "encoder", "protocol", "corpus"]
SCORES = [f"{name}{end}" for name in ("accuracy", "uar", "macro_f1") for end in ("", "_low", "_high")]
COLUMNS = [*KEY, "folds", "n_train", "n_test", "test_speakers", *SCORES, "ece", "seeds", "seconds", "device", "commit"]
MIN_SPEAKERS = metrics.MIN_SPEAKERS


def results_path(reports_dir: str | Path | None = None) -> Path:
    return (Path(reports_dir) if reports_dir else project_dir() / "reports") / "results.csv"


def result_rows(runs: list[Run]) -> pd.DataFrame:
    """The rows of one experiment, run with one seed or several: all test clips, then each corpus of several.

    With several seeds every clip has several predictions; scores are over all of them, and the bootstrap
    resamples speakers (or clips), never single predictions.

    Raises:
        SerError: the runs differ in more than their seed.
    """
    first = runs[0]
    for run in runs[1:]:
        if (run.recipe, run.protocol, run.emotions) != (first.recipe, first.protocol, first.emotions):
            raise SerError(f"{run.folder} and {first.folder} are not the same experiment: only the seed may differ.")
    predictions = pd.concat([run.predictions for run in runs], ignore_index=True)
    about = pd.concat([run.test_clips() for run in runs], ignore_index=True)
    split = first.split
    common = {
        "recipe": first.recipe.name,
        "variant": first.recipe.variant_label,
        "encoder": first.recipe.features_label,
        "protocol": first.protocol,
        "folds": split["fold"].nunique(),
        "n_train": round((split["subset"] == "train").sum() / split["fold"].nunique()),
        "seeds": " ".join(str(run.seed) for run in runs),
        "seconds": round(sum(run.environment["seconds"] for run in runs), 1),
        "device": first.environment["device"],
        "commit": first.environment["commit"],
    }
    tested = list(dict.fromkeys(about["corpus"]))
    groups = {"+".join(first.corpora[name] for name in tested): tested}
    if len(tested) > 1:
        groups |= {first.corpora[name]: [name] for name in tested}
    rows = []
    for label, corpora in groups.items():
        own = about["corpus"].isin(corpora)
        score = metrics.score(predictions[own].reset_index(drop=True), about.loc[own, "speaker"].reset_index(drop=True))
        rows.append({**common, "corpus": label, **score})
    return pd.DataFrame(rows)[COLUMNS]


def update_results(rows: pd.DataFrame, reports_dir: str | Path | None = None) -> Path:
    """Put rows into `results.csv` in place of those with the same key; rows of other experiments stay."""
    path = results_path(reports_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(".results.lock")):
        before = read_results(reports_dir)
        replaced = pd.MultiIndex.from_frame(before[KEY]).isin(pd.MultiIndex.from_frame(rows[KEY]))
        table = pd.concat([before[~replaced], rows], ignore_index=True) if len(before) else rows
        order = {name: position for position, name in enumerate(PROTOCOLS)}
        table = table.sort_values(KEY, key=lambda column: column.map(order) if column.name == "protocol" else column)
        with replacing(path) as part:
            table.to_csv(part, index=False, float_format="%.4f")
    return path


def read_results(reports_dir: str | Path | None = None) -> pd.DataFrame:
    """The table of results; empty, with its columns, where there is none yet."""
    path = results_path(reports_dir)
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS)
    table = read_table(path).astype({"seeds": str})
    if list(table.columns) != COLUMNS:
        raise SerError(f"{path} has other columns than expected: {', '.join(COLUMNS)}. Move it away and run again.")
    return table


def markdown(table: pd.DataFrame) -> str:
    """The table as the README shows it: protocol beside every number, † where the interval is over clips."""
    lines = [
        "| recipe | reads | variant | protocol | test corpus | UAR (95 % CI) | accuracy (95 % CI) | test clips / speakers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    transductive = [name for name, protocol in PROTOCOLS.items() if protocol.is_transductive]
    for row in table.itertuples():
        mark = "" if row.test_speakers >= MIN_SPEAKERS else "†"
        uar = f"**{row.uar:.3f}** ({row.uar_low:.3f}–{row.uar_high:.3f}){mark}"
        accuracy = f"{row.accuracy:.3f} ({row.accuracy_low:.3f}–{row.accuracy_high:.3f}){mark}"
        protocol = f"`{row.protocol}`" + " (transductive)" * (row.protocol in transductive)
        cells = [f"`{row.recipe}`", row.encoder, row.variant, protocol, row.corpus, uar, accuracy]
        lines.append("| " + " | ".join([*cells, f"{row.n_test} / {row.test_speakers}"]) + " |")
    return "\n".join(lines)


def write_into_readme(readme: Path, name: str, table: str) -> None:
    """Replace what stands between the README's two markers of that name by a table.

    Raises:
        SerError: a marker is missing.
    """
    text = readme.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SerError(f"{readme} needs the markers {begin} and {end}, once each: the table goes between them.")
    before, rest = text.split(begin)
    with replacing(readme) as part:
        part.write_text(f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}", encoding="utf-8")
