"""The index of the reports: leaderboards by corpus and protocol, the pages of each recipe, and all results.

    write_index()        # reports/index.html, from reports/results.csv and the pages beside it

Published scores to compare with are in `anchors.csv`. An anchor is shown where there is a leaderboard of its corpus and
protocol.
"""

import re
from contextlib import suppress
from datetime import UTC, datetime
from html import unescape
from itertools import groupby
from pathlib import Path

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.common.files import project_dir
from ser_lib.corpora import CORPORA
from ser_lib.evaluation.results import MIN_SPEAKERS, read_results
from ser_lib.protocols.splits import PROTOCOLS
from ser_lib.recipes import load_recipe
from ser_lib.reports.rendering import render, script_source, write_html

NOTEBOOKS = ("Data_Preparation", "Model_Training", "Run_Model")
CLAIMS = "Claims_Audit"
SEED = "-seed-"  # between protocol and seed in the name of a folder of pages
ANCHORS = Path(__file__).with_name("anchors.csv")
SHUFFLED = "split.permute_labels=true"


def write_index(reports_dir: str | Path | None = None) -> Path:
    """Write `index.html` over the results and pages in a folder; None: `reports/` of the checkout."""
    reports = Path(reports_dir) if reports_dir else project_dir() / "reports"
    results = [leaderboard_row(row) for row in read_results(reports).to_dict("records")]
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
        claims_page=f"{CLAIMS}.html" if (reports / f"{CLAIMS}.html").is_file() else "",
        script=script_source("index.js"),
        min_speakers=MIN_SPEAKERS,
        generated=datetime.now(UTC).strftime("%Y-%m-%d"),
    )
    return write_html(html, reports / "index.html")


def leaderboard_row(row: dict) -> dict:
    """A row of `results.csv` with its leaderboard, and what a reader must know before comparing its score.

    Returns:
        the row and: value, low and high of the UAR; corpus_facts; protocol_facts, a `Protocol`; emotions, as text where
        they are fewer than the recipe's; warnings of a stand-in encoder, reduced settings, a part of a corpus or
        shuffled labels; settings as text; corpus_order and board, to sort by.
    """
    variant, *overrides = row["variant"].split("; ")
    changes = [item for item in overrides if item != SHUFFLED]
    warnings = ["control: training labels shuffled"] if SHUFFLED in overrides else []
    warnings += ["only a part of the corpus"] if "-part" in row["corpus"] else []
    emotions = ""
    with suppress(SerError):  # a recipe of the user's own, in another place
        recipe, changed = load_recipe(row["recipe"], variant), load_recipe(row["recipe"], variant, overrides)
        if _model_name(row["encoder"]) != _model_name(changed.features_label):
            warnings.append(f"stand-in: {row['encoder']} instead of {changed.features_label}")
        sizes = [("epochs", changed.training.epochs, recipe.training.epochs)]
        sizes += [("folds", changed.split.folds, recipe.split.folds)]
        reduced = [f"{now} instead of {full} {name}" for name, now, full in sizes if now < full]
        warnings += ["reduced: " + ", ".join(reduced)] if reduced else []
        emotions = ", ".join(changed.emotions) if set(changed.emotions) < set(recipe.emotions) else ""
    corpus = _corpus_facts(row["corpus"])
    return row | {
        **{"value": row["uar"], "low": row["uar_low"], "high": row["uar_high"]},
        "corpus_facts": corpus,
        "protocol_facts": PROTOCOLS.get(row["protocol"], {}),
        "emotions": emotions,
        "warnings": warnings,
        "settings": f"reads {row['encoder']}; {'; '.join([variant, *changes])}",
        # Whole corpora first, then parts and corpora tested together; synthetic voices last.
        "corpus_order": (bool(corpus["notice"]), "+" in row["corpus"], "-part" in row["corpus"], row["corpus"]),
        "board": ([*PROTOCOLS, row["protocol"]].index(row["protocol"]), emotions),
    }


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


def _model_name(encoder: str) -> str:
    """A name without its owner: a folder `whisper-base-encoder` holds the encoder of `openai/whisper-base`."""
    return encoder.split("/")[-1].removesuffix("-encoder")


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
