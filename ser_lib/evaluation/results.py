"""The table of results, `reports/results.csv`: one row for each recipe, variant, encoder, protocol and test corpus.

Intervals are 95 %, bootstrapped over speakers where `test_speakers` is at least 8, else over clips. Tables for readers
mark intervals over clips with †.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from filelock import FileLock

from ser_lib.common.errors import SerError
from ser_lib.common.files import project_dir, replacing
from ser_lib.common.parsing import damaged, read_table
from ser_lib.evaluation import metrics
from ser_lib.evaluation.intervals import MIN_SPEAKERS
from ser_lib.inference.run import Run
from ser_lib.protocols.splits import PROTOCOLS

KEY = ["recipe", "variant", "encoder", "protocol", "corpus"]
SCORES = [f"{name}{end}" for name in ("accuracy", "uar", "macro_f1") for end in ("", "_low", "_high")]
COUNTS = ["folds", "n_train", "n_test", "test_speakers"]
COLUMNS = [*KEY, *COUNTS, *SCORES, "ece", "seeds", "seconds", "device", "commit"]

AGAIN = "Copy the file again, or move it away: `ser evaluate` writes the rows of finished runs."


def results_path(reports_dir: str | Path | None = None) -> Path:
    return (Path(reports_dir) if reports_dir else project_dir() / "reports") / "results.csv"


def result_rows(runs: Sequence[Run]) -> pd.DataFrame:
    """The rows of one experiment, run with one seed or several: all test clips, then each corpus where there are several.

    Scores are over the predictions of all seeds. The bootstrap resamples speakers or clips, never single predictions.
    """
    check_same_experiment(runs)
    first = runs[0]
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
    groups |= {first.corpora[name]: [name] for name in tested}
    rows = []
    for label, corpora in groups.items():
        mask = about["corpus"].isin(corpora)
        rows.append({**common, "corpus": label, **metrics.score(predictions[mask], about.loc[mask, "speaker"])})
    return pd.DataFrame(rows)[COLUMNS]


def check_same_experiment(runs: Sequence[Run]) -> None:
    """Check that runs differ in nothing but their seed."""
    first = runs[0]
    for run in runs[1:]:
        if (run.recipe, run.protocol, run.emotions) != (first.recipe, first.protocol, first.emotions):
            raise SerError(f"{run.folder} and {first.folder} are not the same experiment: only the seed may differ.")


def update_results(rows: pd.DataFrame, reports_dir: str | Path | None = None) -> Path:
    """Put rows into `results.csv` in place of rows with the same `KEY`; all other rows stay."""
    path = results_path(reports_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(".results.lock")):
        before = read_results(reports_dir)
        table = pd.concat([before, rows], ignore_index=True) if len(before) else rows
        order = {name: position for position, name in enumerate(PROTOCOLS)}
        table = table.drop_duplicates(KEY, keep="last")
        table = table.sort_values(KEY, key=lambda column: column.map(order) if column.name == "protocol" else column)
        with replacing(path) as part:
            table.to_csv(part, index=False, float_format="%.4f")
    return path


def read_results(reports_dir: str | Path | None = None) -> pd.DataFrame:
    """The table of results; without rows where there is none yet.

    Raises:
        SerError: the file has other columns than `COLUMNS`.
    """
    path = results_path(reports_dir)
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS)
    table = read_table(path, AGAIN)
    if list(table.columns) != COLUMNS:
        raise SerError(f"{path} has other columns than expected: {', '.join(COLUMNS)}. Move it away and run again.")
    texts = dict.fromkeys([*KEY, "seeds", "device"], "str")
    try:
        table = table.astype(texts | dict.fromkeys(SCORES, float) | dict.fromkeys(COUNTS, int))
    except (TypeError, ValueError) as error:
        raise damaged(path, error, AGAIN) from error
    return table


def markdown(table: pd.DataFrame) -> str:
    """The table of results as Markdown, with the protocol of each row."""
    heads = ["recipe", "reads", "variant", "protocol", "test corpus", "UAR (95 % CI)", "accuracy (95 % CI)"]
    rows = []
    for row in table.itertuples():
        is_transductive = row.protocol in PROTOCOLS and PROTOCOLS[row.protocol].is_transductive
        protocol = f"`{row.protocol}`" + " (transductive)" * is_transductive
        scores = score_cell(row, "uar", bold=True), score_cell(row, "accuracy"), f"{row.n_test} / {row.test_speakers}"
        rows.append([f"`{row.recipe}`", row.encoder, row.variant, protocol, row.corpus, *scores])
    return markdown_table([*heads, "test clips / speakers"], rows)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in [heads, *rows]]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def score_cell(row, name: str, digits: int = 3, bold: bool = False) -> str:
    """A score and its interval, such as `0.515 (0.496–0.534)†`; † where the interval is over clips.

    Args:
        row: with the attributes `test_speakers`, `name`, `name`_low and `name`_high.
    """
    value, low, high = (f"{getattr(row, name + end):.{digits}f}" for end in ("", "_low", "_high"))
    mark = "" if row.test_speakers >= MIN_SPEAKERS else "†"
    return f"{f'**{value}**' if bold else value} ({low}–{high}){mark}"


def write_into_readme(readme: Path, name: str, table: str) -> None:
    """Replace the text between the README's two markers of a name by a table."""
    text = readme.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SerError(f"{readme} needs the markers {begin} and {end}, once each: the table goes between them.")
    before, rest = text.split(begin)
    with replacing(readme) as part:
        part.write_text(f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}", encoding="utf-8")
