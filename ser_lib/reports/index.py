"""The index of the reports: leaderboards by corpus and protocol, the pages of each recipe, and all results.

    write_index()        # reports/index.html, from reports/results.csv and the pages beside it

Published scores to compare with are in `anchors.csv`; an anchor is shown where there is a leaderboard of its corpus and
protocol.
"""

import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.common.files import project_dir
from ser_lib.corpora import CORPORA
from ser_lib.evaluation.metrics import MIN_SPEAKERS
from ser_lib.evaluation.results import read_results
from ser_lib.protocols.splits import PROTOCOLS
from ser_lib.recipes import load_recipe
from ser_lib.reports.rendering import render, script_source, write_html

NOTEBOOKS = ("Data_Preparation", "Model_Training", "Run_Model")
CLAIMS = "Claims_Audit"
ANCHORS = Path(__file__).with_name("anchors.csv")


def write_index(reports_dir: str | Path | None = None) -> Path:
    """Write `index.html` over the results and pages in a folder; None: `reports/` of the checkout."""
    reports = Path(reports_dir) if reports_dir else project_dir() / "reports"
    results = read_results(reports).to_dict("records")
    html = render(
        "index.html.j2",
        corpora=leaderboards(results),
        results=[row | protocol_facts(row["protocol"]) for row in results],
        recipes=_pages_by_recipe(reports),
        claims_page=f"{CLAIMS}.html" if (reports / f"{CLAIMS}.html").is_file() else "",
        script=script_source("index.js"),
        min_speakers=MIN_SPEAKERS,
        generated=datetime.now(UTC).strftime("%Y-%m-%d"),
    )
    return write_html(html, reports / "index.html")


def leaderboards(results: list[dict]) -> list[dict]:
    """Results by corpus, then by protocol and set of emotions, with anchors; best first.

    Args:
        results: rows of `results.csv`.

    Returns:
        for each corpus its label, title, notice, people (accuracy of listeners, or None) and two lists of leaderboards:
        `sound`, and `leaking` for random splits. Synthetic voices come last.
    """
    boards = defaultdict(list)
    for row in results:
        remarks, emotions = describe_row(row)
        score = {"name": row["recipe"], "value": row["uar"], "low": row["uar_low"], "high": row["uar_high"]}
        score |= {"clips": row["n_test"], "speakers": row["test_speakers"], "remarks": remarks}
        boards[row["corpus"], row["protocol"], emotions].append(score)
    anchors = pd.read_csv(ANCHORS)
    for anchor in anchors.assign(protocol=anchors["protocol"].str.split()).explode("protocol").to_dict("records"):
        key = (anchor["corpus"], anchor["protocol"], "")
        if key in boards:
            boards[key].append(anchor | {"name": anchor["what"], "is_anchor": True})
    corpora: dict[str, dict] = {}
    order = {name: place for place, name in enumerate(PROTOCOLS)}
    for corpus, protocol, emotions in sorted(boards, key=lambda key: (order.get(key[1], len(order)), key[2])):
        rows = sorted(boards[corpus, protocol, emotions], key=lambda row: -row["value"])
        facts = protocol_facts(protocol)
        about = corpora.setdefault(corpus, _corpus_facts(corpus) | {"sound": [], "leaking": []})
        board = facts | {"protocol": protocol, "emotions": emotions, "rows": rows}
        about["leaking" if facts["leaks"] else "sound"].append(board)
    return sorted(
        corpora.values(),
        key=lambda about: (about["is_synthetic"], "+" in about["label"], "-part" in about["label"], about["label"]),
    )


def protocol_facts(name: str) -> dict:
    """What a page says of a protocol: about, leaks (a random split of clips) and is_transductive."""
    return {
        "about": PROTOCOLS.get(name, ""),
        "leaks": name in ("published", "deduplicated"),
        "is_transductive": name == "speaker-adapted",
    }


def describe_row(row: dict) -> tuple[list[dict], str]:
    """What a reader must know before comparing a row of results, and its emotions if they are fewer than the recipe's.

    Returns:
        remarks with `text` and `is_warning` (a stand-in encoder, a part of a corpus, reduced settings, shuffled labels),
        the last one on all settings; the emotions as text, or "".
    """
    variant, *overrides = row["variant"].split("; ")
    warnings = []
    changes = [item for item in overrides if item != "split.permute_labels=true"]
    if len(changes) < len(overrides):
        warnings.append("control: training labels shuffled")
    emotions = ""
    try:
        recipe, changed = load_recipe(row["recipe"], variant), load_recipe(row["recipe"], variant, overrides)
    except SerError:  # a recipe of the user's own, in another place
        pass
    else:
        if _model_name(row["encoder"]) != _model_name(changed.features_label):
            warnings.append(f"stand-in: {row['encoder']} instead of {changed.features_label}")
        sizes = {
            "epochs": (changed.training.epochs, recipe.training.epochs),
            "folds": (changed.split.folds, recipe.split.folds),
        }
        reduced = [f"{now} instead of {full} {what}" for what, (now, full) in sizes.items() if now < full]
        warnings += ["reduced: " + ", ".join(reduced)] if reduced else []
        if set(changed.emotions) < set(recipe.emotions):
            emotions = ", ".join(changed.emotions)
    if "-part" in row["corpus"]:
        warnings.append("only a part of the corpus")
    settings = f"reads {row['encoder']}; {'; '.join([variant, *changes])}"
    remarks = [{"text": text, "is_warning": True} for text in warnings]
    return [*remarks, {"text": settings, "is_warning": False}], emotions


def _model_name(encoder: str) -> str:
    """A name without its owner: a folder `whisper-base-encoder` holds the encoder of `openai/whisper-base`."""
    return encoder.split("/")[-1].removesuffix("-encoder")


def _corpus_facts(label: str) -> dict:
    """What a heading says of a corpus, or of several tested together: `crema_d-part+tess`."""
    corpora = {name: CORPORA.get(name.removesuffix("-part")) for name in label.split("+")}
    titles = [
        (corpus.title.split(" (")[0] if corpus else name) + " (part)" * name.endswith("-part")
        for name, corpus in corpora.items()
    ]
    single = corpora.get(label)
    notice = single.notice if single else ""
    people = single.human_accuracy if single else None
    return {
        "label": label,
        "title": " + ".join(titles),
        "notice": notice,
        "people": people,
        "is_synthetic": bool(notice),
    }


def _pages_by_recipe(reports: Path) -> list[dict]:
    """The report pages in a folder, by recipe and protocol."""
    recipes: dict[str, dict] = {}
    for folder in sorted({page.parent for page in reports.glob("*/*/*.html")}):
        name, protocol = folder.relative_to(reports).parts
        pages = [
            {"title": page.replace("_", " "), "href": f"{name}/{protocol}/{page}.html"}
            for page in NOTEBOOKS
            if (folder / f"{page}.html").is_file()
        ]
        recipe = recipes.setdefault(name, {"name": name, "title": _recipe_title(name), "protocols": []})
        recipe["protocols"].append(protocol_facts(protocol) | {"name": protocol, "pages": pages})
    return list(recipes.values())


def _recipe_title(folder_name: str) -> str:
    try:
        return load_recipe(re.sub("-as-run$", "", folder_name)).title
    except SerError:  # a recipe of the user's own, in another place
        return folder_name
