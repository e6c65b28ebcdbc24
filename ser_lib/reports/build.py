"""Notebooks to HTML: papermill runs them, nbconvert makes pages that need nothing else, an index links them."""

import copy
import importlib.resources
import re
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from ser_lib.common.errors import SerError
from ser_lib.common.files import project_dir, replacing
from ser_lib.corpora import CORPORA, find_corpus, known_corpus, label
from ser_lib.corpora.csv_files import is_file_list
from ser_lib.evaluation.results import read_results, result_rows, update_results
from ser_lib.inference.run import Run, git_commit, load_run, run_folder
from ser_lib.protocols.splits import PROTOCOLS, get_protocol
from ser_lib.recipes import load_recipe

NOTEBOOKS = ("Data_Preparation", "Model_Training", "Run_Model")
CLAIMS = "Claims_Audit"
TEMPLATES = importlib.resources.files("ser_lib.reports") / "templates"
MAX_PAGE_BYTES = 800_000
MAX_AUDIT_BYTES = 1_200_000  # thirty pictures
TRANSDUCTIVE = (
    "Transductive: features were standardised with all clips of each test speaker, unlabelled. A score for a "
    "single clip of an unknown voice would be lower."
)


def make_report(
    recipe_name: str | Path,
    protocol: str = "speaker",
    seed: int = 0,
    variant: str = "stated",
    overrides: Sequence[str] = (),
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    reports_dir: str | Path | None = None,
) -> Path:
    """Run the three notebooks for a recipe and write their pages, the row of results, and the index.

    Args:
        recipe_name, variant, overrides: as `ser_lib.load_recipe` takes them.

    Returns:
        the folder of the pages, `<reports_dir>/<recipe>/<protocol>`.

    Raises:
        SerError: a notebook lacks a parameter, or a cell failed: the message names the cell, and the executed
            copy lies beside the pages as `<Notebook>.failed.ipynb`. Earlier pages stay as they were.
    """
    recipe = load_recipe(recipe_name, variant, overrides)
    get_protocol(protocol)
    reports = Path(reports_dir) if reports_dir else project_dir() / "reports"
    folder = reports / recipe.folder_name / protocol
    folder.mkdir(parents=True, exist_ok=True)
    own_file = str(recipe_name).endswith((".yaml", ".yml"))
    # The notebooks run in a folder of their own, so every path is made absolute.
    given = {
        "recipe_name": _absolute(recipe_name) if own_file else str(recipe_name),
        "variant": variant,
        "protocol": protocol,
        "seed": seed,
        "overrides": list(overrides),
        "data_dir": _absolute(data_dir) if data_dir else None,
        "runs_dir": _absolute(runs_dir) if runs_dir else None,
    }
    executed, seconds = {}, {}
    for number, name in enumerate(NOTEBOOKS, start=1):
        print(f"[{number}/{len(NOTEBOOKS)}] {name} ({recipe.folder_name}, {protocol})", flush=True)
        started = time.monotonic()
        executed[name] = execute_notebook(
            project_dir() / "notebooks" / f"{name}.ipynb", given, folder / f"{name}.failed.ipynb"
        )
        seconds[name] = time.monotonic() - started
    run = load_run(run_folder(recipe, protocol, seed, runs_dir))
    shown = shown_paths(recipe.corpora, given)
    for name in NOTEBOOKS:
        page = without_folders(executed[name], shown)
        write_page(page, page_context(run, name, seconds[name]), folder / f"{name}.html")
    update_results(result_rows([run]), reports)
    write_index(reports)
    return folder


def make_claims_audit(parameters: dict, reports_dir: str | Path | None = None) -> Path:
    """Run the notebook Claims_Audit and write `<reports_dir>/Claims_Audit.html`, beside the index, which links it.

    Args:
        parameters: of the notebook, paths absolute.

    Raises:
        SerError: as `make_report`.
    """
    reports = Path(reports_dir).absolute() if reports_dir else project_dir() / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    notebook = project_dir() / "notebooks" / f"{CLAIMS}.ipynb"
    given = parameters | ({"reports_dir": str(reports)} if reports_dir else {})
    executed = execute_notebook(notebook, given, reports / f"{CLAIMS}.failed.ipynb")
    context = {
        "title": "Claims audit",
        "window_title": "Claims audit: published numbers of speech emotion recognition, measured again",
        "description": "Published numbers, reproduced, then with their leaks closed",
        "facts": [
            {"name": "Commit", "value": git_commit(), "mono": True},
            {"name": "Made in", "value": f"{(time.monotonic() - started) / 60:.1f} min, with what was measured before"},
        ],
        "notice": CORPORA["sample"].notice if parameters.get("bundled") else "",
        "leaks": [],
        "pages": [],
        "index_href": "index.html",
    }
    page = without_folders(executed, shown_paths([], given))
    write_page(page, context, reports / f"{CLAIMS}.html", MAX_AUDIT_BYTES)
    write_index(reports)
    return reports / f"{CLAIMS}.html"


def _absolute(path: str | Path) -> str:
    return str(Path(path).expanduser().absolute())


def execute_notebook(notebook: Path, parameters: dict, failed_copy: Path):
    """Execute a notebook with papermill and return it with its outputs.

    Raises:
        SerError: the notebook's parameter cell does not know a parameter (papermill itself would only warn), or
            a cell failed; then `failed_copy` holds the notebook as far as it came.
    """
    import nbformat
    import papermill

    if not notebook.is_file():
        raise SerError(f"{notebook} is missing: expected a checkout of the repository with its notebooks folder.")
    known = papermill.inspect_notebook(str(notebook))
    for name in parameters:
        if name not in known:
            raise SerError(f"{notebook.name} has no parameter {name!r}; it has {', '.join(known)}.")
    try:
        papermill.execute_notebook(
            str(notebook),
            str(failed_copy),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(notebook.parent),
            progress_bar={"leave": False},
            log_output=False,
        )
    except papermill.PapermillExecutionError as error:
        first_line = (error.source.strip().splitlines() or ["(empty cell)"])[0]
        raise SerError(
            f"{notebook.stem} failed in cell {error.cell_index}, which begins `{first_line}`:\n"
            f"{error.ename}: {error.evalue}\nThe notebook as far as it came: {failed_copy}"
        ) from error
    executed = nbformat.read(failed_copy, as_version=4)
    failed_copy.unlink()
    return executed


def shown_paths(corpora: Iterable[str], parameters: dict) -> dict[str, str]:
    """What a page says in place of each path that tells how somebody's computer is laid out.

    A CSV that lists a corpus of one's own goes by its name alone. Its clips' folder, and folders and files that the
    parameters name, go by their last part; not so below the home folder, which pages write as `~`.
    """
    shown = {name: label(name) for name in corpora if is_file_list(name)}
    places = [find_corpus(name, parameters.get("data_dir")) for name in shown]
    places += [Path(value) for value in parameters.values() if isinstance(value, str)]
    for place in places:
        if place.is_absolute() and place.name and not place.is_relative_to(Path.home()):
            shown[str(place)] = place.name
    return shown


def without_folders(notebook, shown: dict[str, str]):
    """A copy of a notebook whose cells and outputs have, for each path, what is shown in its place."""
    spellings = {}
    for path, name in shown.items():
        in_python = path.encode("unicode_escape").decode()  # as papermill writes parameters
        spellings |= {path: name, in_python: name, escape(path): escape(name)}
    patterns = {
        # No part of a longer path or word, so no chance hit in a picture's base64. YAML breaks lines at spaces.
        rf"(?<![\w/+.~-]){re.escape(path)}(?![\w+-])".replace("\\ ", r"\s+"): spellings[path]
        for path in sorted(spellings, key=len, reverse=True)  # files before the folders that they lie in
    }

    def renamed(value):
        if isinstance(value, str):
            for pattern, name in patterns.items():
                value = re.sub(pattern, lambda _, name=name: name, value)
        elif isinstance(value, list):
            value = [renamed(item) for item in value]
        elif isinstance(value, dict):
            value = type(value)({key: renamed(item) for key, item in value.items()})
        return value

    return renamed(notebook)


def page_context(run: Run, page: str, seconds: float) -> dict:
    """What the header of a page says, as the template expects it."""
    overall = run.metrics["overall"]
    names = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1"}
    corpora, notices = [], list(run.recipe.notices)
    for name, count in run.environment["corpora"].items():
        corpus = known_corpus(name)
        corpora.append(f"{corpus.title if corpus else name}, {count['found']} of {count['expected']} clips")
        notices += [corpus.notice] if corpus else []
    if get_protocol(run.protocol).is_transductive:
        notices.append(TRANSDUCTIVE)
    over_speakers = overall["interval_over"] == "speakers"
    return {
        "title": page.replace("_", " "),
        "window_title": f"{page.replace('_', ' ')} · {run.recipe.name} · {run.protocol}",
        "description": run.recipe.title,
        "facts": [
            {"name": "Recipe", "value": f"{run.recipe.name}: {run.recipe.variant_label}"},
            {"name": "Protocol", "value": run.protocol, "detail": get_protocol(run.protocol).about},
            {"name": "Corpora", "value": "; ".join(corpora)},
            {
                "name": "Features",
                "value": f"{run.recipe.features_label}, {run.recipe.input_label}; {run.recipe.model_label}",
            },
            {"name": "Seed", "value": run.seed},
            {"name": "Commit", "value": run.environment["commit"], "mono": True},
            {"name": "Made in", "value": f"{seconds:.0f} s on {run.environment['device']}"},
        ],
        "scores": [
            {"name": title, "value": overall[key], "low": overall[f"{key}_low"], "high": overall[f"{key}_high"]}
            for key, title in names.items()
        ],
        "interval_note": (
            f"95 % intervals, bootstrapped over {overall['test_speakers']} test speakers"
            if over_speakers
            else f"† 95 % intervals, bootstrapped over clips: {overall['test_speakers']} test speakers are too few"
        ),
        "leaks": run.audit.astype(object).where(run.audit.notna(), None).to_dict(orient="records"),
        "audited": True,
        "notice": " ".join(filter(None, notices)),
        "pages": [
            {"title": name.replace("_", " "), "href": f"{name}.html", "current": name == page} for name in NOTEBOOKS
        ],
        "index_href": "../../index.html",
    }


def write_page(notebook, context: dict, path: Path, at_most: int = MAX_PAGE_BYTES) -> None:
    """Convert an executed notebook to one self-contained HTML file of at most so many bytes.

    Raises:
        SerError: the page is larger.
    """
    from nbconvert import HTMLExporter

    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":  # a picture from the network becomes its text: the page loads nothing
            cell.source = re.sub(r"!\[([^\]]*)\]\(https?://[^)]*\)", r"\1", cell.source)
    exporter = HTMLExporter(
        template_name="report", extra_template_basedirs=[str(TEMPLATES)], extra_template_paths=[str(TEMPLATES)]
    )
    html, _ = exporter.from_notebook_node(notebook, resources={"ser": context})
    html = html.replace(f"{Path.home()}/", "~/")  # whose computer it was is nobody's business
    size = len(html.encode())
    if size > at_most:
        raise SerError(
            f"{path.name} would be {size / 1000:.0f} KB, more than {at_most / 1000:.0f} KB: "
            "show fewer or smaller pictures and players."
        )
    with replacing(path) as part:
        part.write_text(html, encoding="utf-8")


def write_index(reports_dir: str | Path | None = None) -> Path:
    """Write `index.html` over all report pages that are there, with the table of results."""
    import jinja2

    reports = Path(reports_dir) if reports_dir else project_dir() / "reports"
    entries = []
    for folder in sorted({page.parent for page in reports.glob("*/*/*.html")}):
        name, protocol = folder.relative_to(reports).parts
        pages = [page for page in NOTEBOOKS if (folder / f"{page}.html").is_file()]
        entries.append(
            {
                "recipe": name,
                "protocol": protocol,
                "title": _recipe_title(name),
                "pages": [
                    {"title": page.replace("_", " "), "href": f"{name}/{protocol}/{page}.html"} for page in pages
                ],
            }
        )
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(str(TEMPLATES)), autoescape=True)
    html = environment.get_template("index.html.j2").render(
        results=read_results(reports).to_dict(orient="records"),
        claims_page=f"{CLAIMS}.html" if (reports / f"{CLAIMS}.html").is_file() else "",
        reports=entries,
        protocols=PROTOCOLS,
        generated=datetime.now(UTC).strftime("%Y-%m-%d"),
    )
    with replacing(reports / "index.html") as part:
        part.write_text(html, encoding="utf-8")
    return reports / "index.html"


def _recipe_title(folder_name: str) -> str:
    try:
        return load_recipe(re.sub("-as-run$", "", folder_name)).title
    except SerError:  # a recipe of the user's own, which lies elsewhere
        return folder_name
