"""The index of the reports: leaderboards by corpus and protocol, the pages of each recipe, and all results.

    write_index()        # reports/index.html, from reports/results.csv and the pages beside it

Published scores to compare with are in `anchors.csv`. An anchor is shown where there is a leaderboard of its corpus and
protocol.
"""

import re
from collections import defaultdict
from contextlib import suppress
from html import unescape
from itertools import groupby
from pathlib import Path

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.common.files import reports_path, write_text
from ser_lib.corpora import CORPORA
from ser_lib.evaluation import comparison, metrics, stored_predictions
from ser_lib.evaluation.results import read_results, remarks, spread_of
from ser_lib.protocols.splits import PROTOCOLS
from ser_lib.recipes import load_recipe
from ser_lib.reports.rendering import render, script_source

NOTEBOOKS = ("Data_Preparation", "Model_Training", "Run_Model")
CLAIMS = "Claims_Audit"
ATLAS = "Atlas"
VOICE = "On_Your_Voice"
SEED = "-seed-"  # between protocol and seed in the name of a folder of pages
ANCHORS = Path(__file__).with_name("anchors.csv")
SHUFFLED = "split.permute_labels=true"
DEFAULT_BOARD = [*PROTOCOLS].index("speaker")


def write_index(reports_dir: str | Path | None = None) -> Path:
    """Write `index.html` over the results and pages in a folder; None: `reports/` of the checkout."""
    reports = reports_path("", reports_dir)
    results = [leaderboard_row(row) for row in read_results(reports).itertuples(index=False)]
    compare_boards(results, stored_predictions.predictions_dir(reports))
    folders = sorted({page.parent.relative_to(reports) for page in reports.glob("*/*/*.html")})
    html = render(
        "index.html.j2",
        results=results,
        anchors=anchors_of(results),
        recipes=[
            {
                "name": name,
                "title": _recipe_title(reports, name),
                "protocols": [_pages(reports, folder) for folder in group],
            }
            for name, group in groupby(folders, key=lambda folder: folder.parts[0])
        ],
        smallest=smallest_of(results),
        atlas_page=f"{ATLAS}.html" if (reports / f"{ATLAS}.html").is_file() else "",
        voice_page=f"{VOICE}.html" if (reports / f"{VOICE}.html").is_file() else "",
        claims_page=f"{CLAIMS}.html" if (reports / f"{CLAIMS}.html").is_file() else "",
        script=script_source("index.js"),
    )
    return write_text(html, reports / "index.html")


def leaderboard_row(row) -> dict:
    """A row of `results.csv` with its leaderboard, and what a reader must know before comparing its score.

    Args:
        row: of `read_results`, as `itertuples` gives it.

    Returns:
        the row's columns and: value, low and high of the UAR; spread, as text, of each score; corpus_facts;
        protocol_facts, a `Protocol`; emotions, as text where they are fewer than the recipe's; warnings, the `remarks` on
        the row; settings as text; corpus_order and board, to sort by.
    """
    variant, *overrides = row.variant.split("; ")
    changes = [item for item in overrides if item != SHUFFLED]
    emotions = ""
    with suppress(SerError):  # a recipe of the user's own, in another place
        recipe, changed = load_recipe(row.recipe, variant), load_recipe(row.recipe, variant, overrides)
        emotions = ", ".join(changed.emotions) if set(changed.emotions) < set(recipe.emotions) else ""
    corpus = _corpus_facts(row.corpus)
    return row._asdict() | {
        **{"value": row.uar, "low": row.uar_low, "high": row.uar_high},
        "corpus_facts": corpus,
        "protocol_facts": PROTOCOLS.get(row.protocol, {}),
        "emotions": emotions,
        "warnings": remarks(row),
        "spread": {name: spread_of(row, name) for name in metrics.SCORES},
        "settings": f"reads {row.encoder}; {'; '.join([variant, *changes])}",
        # Whole corpora first, then parts and corpora tested together; synthetic voices last.
        "corpus_order": (bool(corpus["notice"]), "+" in row.corpus, "-part" in row.corpus, row.corpus),
        "board": ([*PROTOCOLS, row.protocol].index(row.protocol), emotions),
    }


def compare_boards(rows: list[dict], folder: Path) -> None:
    """Add to each row what a paired test on the same clips says of it and the best row of its leaderboard.

    Each row gets `tied`: True where no test tells it from the best, which is another row, False where the best is better;
    None for the best itself, for controls, and where no test is possible: `why` is then the reason, or `untested` where it
    is that of all rows. And `smallest`, the smallest difference in UAR that the speakers of the leaderboard can show, or
    None.

    Args:
        rows: as `leaderboard_row` returns them.
        folder: the predictions that the rows were computed from. A row without a file there is not compared.
    """
    boards = defaultdict(list)
    for row in rows:
        row |= {"tied": None, "why": "", "untested": "", "smallest": None}
        if not row["control"] and (folder / row["predictions"]).is_file():
            boards[row["corpus"], row["board"]].append(row)
    for board in boards.values():
        if len(board) > 1:
            _compare(board, folder)


def smallest_of(rows: list[dict]) -> dict[str, dict]:
    """For each corpus a row that tells the smallest difference that its speakers can show, or why there is none.

    It is of the protocol `speaker` where possible, and never of a random split.

    Args:
        rows: as `compare_boards` leaves them.
    """
    honest = [
        row
        for row in rows
        if (row["smallest"] or row["untested"]) and not getattr(row["protocol_facts"], "is_random", False)
    ]
    by_protocol = sorted(honest, key=lambda row: (row["board"][0] != DEFAULT_BOARD, row["board"]))
    # The first of each corpus counts.
    return {row["corpus"]: row for row in reversed(by_protocol)}


def _compare(board: list[dict], folder: Path) -> None:
    """`compare_boards` for the rows of one leaderboard."""
    names = [name.removesuffix("-part") for name in board[0]["corpus"].split("+")]
    tables, about = {}, []
    for row in board:
        stored = stored_predictions.read(folder / row["predictions"])
        stored = stored.part(stored.table["corpus"].isin(names))
        tables[row["predictions"]] = stored.predictions
        about.append(stored.table[["clip_id", "speaker", "corpus"]])
    clips = pd.concat(about).drop_duplicates("clip_id").set_index("clip_id")
    table = comparison.ties(tables, clips["speaker"], clips["corpus"])
    differences = table["smallest"].dropna()
    for row in board:
        compared = table.loc[row["predictions"]]
        row["smallest"] = float(differences.median()) if len(differences) else None
        if row["predictions"] != table.index[0]:
            row |= {"tied": compared["tied"], "why": compared["why"] if compared["tied"] is None else ""}
    # A reason that holds for all rows, such as too few speakers, is one of the leaderboard.
    reasons = {row["why"] for row in board if row["predictions"] != table.index[0]}
    if len(reasons) == 1 and "" not in reasons:
        for row in board:
            row |= {"why": "", "untested": min(reasons)}


def anchors_of(rows: list[dict]) -> list[dict]:
    """The published scores of each leaderboard, as further rows of it.

    Args:
        rows: as `leaderboard_row` returns them.
    """
    anchors = pd.read_csv(ANCHORS)
    anchors = anchors.assign(protocol=anchors["protocol"].str.split()).explode("protocol").to_dict("records")
    boards = {(row["corpus"], row["protocol"]): row for row in rows if not row["emotions"]}
    matching = [anchor for anchor in anchors if (anchor["corpus"], anchor["protocol"]) in boards]
    return [
        boards[anchor["corpus"], anchor["protocol"]] | {"warnings": [], "is_anchor": True} | anchor
        for anchor in matching
    ]


def _corpus_facts(label: str) -> dict:
    """Title, notice, and accuracy of human listeners (or None) of a corpus, or of several tested together."""
    corpora = {name: CORPORA.get(name.removesuffix("-part")) for name in label.split("+")}
    titles = [
        (corpus.title.split(" (")[0] if corpus else name) + " (part)" * name.endswith("-part")
        for name, corpus in corpora.items()
    ]
    single = corpora.get(label)
    people = single.human_accuracy if single else None
    return {"title": " + ".join(titles), "notice": single.notice if single else "", "people": people}


def _pages(reports: Path, folder: Path) -> dict:
    """The report pages of one recipe and protocol."""
    names = [name for name in NOTEBOOKS if (reports / folder / f"{name}.html").is_file()]
    pages = [{"title": name.replace("_", " "), "href": (folder / f"{name}.html").as_posix()} for name in names]
    protocol, _, seed = folder.name.partition(SEED)
    name = f"{protocol}, seed {seed}" if seed else protocol
    return {"protocol": name, "protocol_facts": PROTOCOLS.get(protocol, {}), "pages": pages}


def _recipe_title(reports: Path, folder_name: str) -> str:
    """The title of a folder's recipe: that of the package, or what the folder's pages are called."""
    with suppress(SerError):  # a recipe of the user's own, or one with other settings
        return load_recipe(re.sub("-as-run$", "", folder_name)).title
    for page in reports.glob(f"{folder_name}/*/*.html"):
        if found := re.search(r'class="masthead">.*?<h1>([^<]+)</h1>', page.read_text(encoding="utf-8"), re.S):
            return unescape(found[1])
    return folder_name
