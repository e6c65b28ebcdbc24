"""Report pages: papermill runs the notebooks, and nbconvert makes self-contained HTML of them."""

import copy
import logging
import math
import os
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from unittest import mock

from ser_lib.common.errors import SerError
from ser_lib.common.files import absolute, project_dir, write_text
from ser_lib.corpora import CORPORA, find_corpus, known_corpus, label
from ser_lib.evaluation.results import add_runs
from ser_lib.inference.run import Run, load_run, run_folder
from ser_lib.protocols.splits import get_protocol
from ser_lib.recipes import load_recipe
from ser_lib.reports.index import ATLAS, CLAIMS, NOTEBOOKS, SEED, VOICE, write_index
from ser_lib.reports.notebook_chain import ONE_PLACE
from ser_lib.reports.rendering import TEMPLATES, script_source

MAX_PAGE_BYTES = 800_000
MAX_AUDIT_BYTES = 1_200_000  # it has thirty pictures
FOLDER_VARIABLES = ("SER_DATA_DIR", "KAGGLEHUB_CACHE")
UAR = "UAR, the unweighted average recall: the mean over the emotions of the share of their clips that was recognised."
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
    players: bool = False,
) -> Path:
    """Run the three notebooks for a recipe and write their pages, the row of results, and the index.

    Args:
        recipe_name, variant, overrides: as `ser_lib.load_recipe` takes them.
        reports_dir: None: `reports/` of the checkout for a recipe of the package as it is; else `reports/own/`, which
            git ignores, so that nobody's settings replace committed pages and rows.

        players: the pages hold players of clips of the user's own corpora.

    Returns:
        the folder of the pages, `<reports_dir>/<recipe>/<protocol>`; of another seed than 0 `<protocol>-seed-1`.

    Raises:
        SerError: a notebook lacks a parameter, or a cell failed: the message names the cell, and the executed
            copy lies beside the pages as `<Notebook>.failed.ipynb`. Earlier pages stay as they were.
    """
    recipe = load_recipe(recipe_name, variant, overrides)
    get_protocol(protocol)
    is_file = str(recipe_name).endswith((".yaml", ".yml"))
    is_committed = not (overrides or is_file or seed)
    reports = Path(reports_dir) if reports_dir else project_dir() / "reports" / ("" if is_committed else "own")
    name = run_folder(recipe, protocol, seed, runs_dir).parents[1].name
    folder = reports / name / (f"{protocol}{SEED}{seed}" if seed else protocol)
    folder.mkdir(parents=True, exist_ok=True)
    # The notebooks run in another folder, so their paths must be absolute.
    parameters = {
        "recipe_name": absolute(recipe_name) if is_file else str(recipe_name),
        "variant": variant,
        "protocol": protocol,
        "seed": seed,
        "overrides": list(overrides),
        "data_dir": absolute(data_dir) if data_dir else None,
        "runs_dir": absolute(runs_dir) if runs_dir else None,
        "players": players,
    }
    executed = {}
    for number, name in enumerate(NOTEBOOKS, start=1):
        print(f"[{number}/{len(NOTEBOOKS)}] {name} ({recipe.folder_name}, {protocol})", flush=True)
        executed[name] = execute_notebook(_notebook(name), parameters, folder / f"{name}.failed.ipynb")
    run = load_run(run_folder(recipe, protocol, seed, runs_dir))
    names = public_names(recipe.corpora, parameters | {"encoder": recipe.input.encoder})
    for name, notebook in executed.items():
        write_page(replace_paths(notebook, names), page_context(run, name, _seconds(notebook)), folder / f"{name}.html")
    add_runs([run], reports)
    write_index(reports)
    return folder


def make_claims_audit(parameters: dict, reports_dir: str | Path | None = None) -> Path:
    """Run the notebook Claims_Audit on the tables in `reports_dir`, and write its page there, which the index links.

    Args:
        parameters: of the notebook, paths absolute; `measure=True` measures the tables first.

    Raises:
        SerError: as `make_report`; or there are no tables.
    """
    titles = {
        "title": "Claims audit",
        "window_title": "Claims audit: published scores of speech emotion recognition, measured again",
        "description": "Published scores, measured again with and without their leaks",
        "notice": CORPORA["sample"].notice if parameters.get("bundled") else "",
    }
    return _make_study(CLAIMS, CLAIMS, titles, parameters, reports_dir, "results.csv and claims_audit/")


def make_atlas(reports_dir: str | Path | None = None) -> Path:
    """Run the notebook Leak_Atlas on the tables in `reports_dir`, and write `Atlas.html` there, which the index links.

    Raises:
        SerError: as `make_report`; or there is no `atlas.csv`.
    """
    titles = {
        "title": "Atlas of published splits",
        "window_title": "Atlas: which published splits of speech emotion corpora share speakers",
        "description": "Which published splits train a model on the people who test it",
    }
    return _make_study("Leak_Atlas", ATLAS, titles, {}, reports_dir, "atlas.csv and atlas-worth.csv")


def make_voice(reports_dir: str | Path | None = None) -> Path:
    """Run the notebook On_Your_Voice on `voice.csv` in `reports_dir`, and write its page there, which the index links.

    Raises:
        SerError: as `make_report`; or there is no `voice.csv`.
    """
    titles = {
        "title": "On your voice",
        "window_title": "On your voice: what a few clips of a speaker are worth to speech emotion recognition",
        "description": "What a model gains from a few clips of a voice that it has never heard",
    }
    return _make_study(VOICE, VOICE, titles, {}, reports_dir, "voice.csv")


def _make_study(
    notebook: str, page: str, titles: dict, parameters: dict, reports_dir: str | Path | None, made_of: str
) -> Path:
    """Run a notebook that belongs to no recipe, and write its page and the index."""
    reports = Path(reports_dir).absolute() if reports_dir else project_dir() / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    parameters = parameters | ({"reports_dir": str(reports)} if reports_dir else {})
    executed = execute_notebook(_notebook(notebook), parameters, reports / f"{notebook}.failed.ipynb")
    # No time and no commit: the same tables make the same page.
    context = {"facts": {"Made of": made_of}, "index_href": "index.html"} | titles
    write_page(
        replace_paths(executed, public_names([], parameters)), context, reports / f"{page}.html", MAX_AUDIT_BYTES
    )
    write_index(reports)
    return reports / f"{page}.html"


def _notebook(name: str) -> Path:
    return project_dir() / "notebooks" / f"{name}.ipynb"


def _seconds(executed) -> float:
    """The duration that papermill measured."""
    return executed.metadata["papermill"]["duration"]


def execute_notebook(notebook: Path, parameters: dict, failed_copy: Path):
    """Execute a notebook with papermill and return it with its outputs.

    Raises:
        SerError: the notebook's parameter cell lacks a parameter (papermill would only warn), or a cell failed; then
            `failed_copy` is the notebook with the outputs up to that cell.
    """
    import nbformat
    import papermill

    if not notebook.is_file():
        raise SerError(f"{notebook} is missing: expected a checkout of the repository with its notebooks folder.")
    known = papermill.inspect_notebook(str(notebook))
    for name in parameters:
        if name not in known:
            raise SerError(f"{notebook.name} has no parameter {name!r}; it has {', '.join(known)}.")
    settings = {
        # As for the other commands: relative paths, also those in a recipe of one's own, are relative to it.
        "cwd": str(Path.cwd()),
        "kernel_name": "python3",
        "log_output": False,
        "progress_bar": {"leave": False},
        # Each kernel would warn that it uses TCP, on this computer alone.
        "extra_arguments": ["--IPKernelApp.log_level=ERROR"],
    }
    try:
        with mock.patch.dict(os.environ, {ONE_PLACE: "1"}), TemporaryFile() as messages:
            settings["kernel_manager_class"] = _kernel_manager(messages)
            try:
                papermill.execute_notebook(str(notebook), str(failed_copy), parameters, **settings)
            # Of nbclient, when the process of the notebook is gone.
            except RuntimeError as error:
                messages.seek(0)
                last = messages.read().decode(errors="replace").strip().rpartition("\n")[2]
                reason = "its process was ended from outside: by a signal, or by the system for want of memory"
                reason = f"the last line of its process is: {last}" if last else reason
                advice = "Finished folds are kept: the same command goes on with the others"
                raise SerError(f"{notebook.stem} did not end: {reason}. {advice}.") from error
            except KeyboardInterrupt:
                # When this process ends, asyncio would print a traceback of the cell that was interrupted.
                logging.getLogger("asyncio").setLevel(logging.CRITICAL)
                raise
    except papermill.PapermillExecutionError as error:
        first_line = (error.source.strip().splitlines() or ["(empty cell)"])[0]
        raise SerError(
            f"{notebook.stem} failed in cell {error.cell_index}, which begins `{first_line}`:\n"
            f"{error.ename}: {error.evalue}\nThe notebook up to that cell: {failed_copy}"
        ) from error
    executed = nbformat.read(failed_copy, as_version=4)
    failed_copy.unlink()
    return executed


def _kernel_manager(messages: IO[bytes]) -> type:
    """A manager of kernels that print to a file: a kernel that is ended in the middle of a cell prints a traceback."""
    from jupyter_client import AsyncKernelManager

    class KernelManager(AsyncKernelManager):
        async def start_kernel(self, **settings) -> None:  # type: ignore[override]  # jupyter_client's is an attribute
            await super().start_kernel(**settings, stderr=messages)

    return KernelManager


def public_names(corpora: Iterable[str], parameters: dict) -> dict[str, str]:
    """The text that pages show in place of each path outside the home folder, which would describe a reader's computer.

    A corpus as a CSV or a folder, the folder of its clips, the folders in `FOLDER_VARIABLES`, and the paths among the
    parameters are shown by their last part. Paths below the home folder are not included: pages write that folder as `~`.
    """
    names = {name: label(name) for name in corpora if name not in CORPORA}
    paths = [find_corpus(name, parameters.get("data_dir")) for name in names]
    paths += [Path(value) for value in parameters.values() if isinstance(value, str)]
    paths += [Path(os.environ[name]) for name in FOLDER_VARIABLES if os.environ.get(name)]
    outside = [path for path in paths if path.is_absolute() and path.name and not path.is_relative_to(Path.home())]
    return names | {str(path): path.name for path in outside}


def replace_paths(notebook, names: dict[str, str]):
    """A copy of a notebook with each path in its cells and outputs replaced by its name."""
    if not names:
        return notebook
    spellings: dict[str, str] = {}
    for path, name in names.items():
        in_python = path.encode("unicode_escape").decode()  # as papermill writes parameters
        spellings |= {_one_line(path): name, _one_line(in_python): name, _one_line(escape(path)): escape(name)}
    # Longest first, since files lie in folders. YAML breaks lines at spaces.
    longest_first = sorted(spellings, key=len, reverse=True)
    any_path = "|".join(re.escape(path).replace("\\ ", r"\s+") for path in longest_first)
    # Not as a part of a longer path or word, nor by chance in a picture's base64.
    pattern = re.compile(rf"(?<![\w/+.~-])(?:{any_path})(?![\w+-])")

    def replaced(value):
        if isinstance(value, str):
            return pattern.sub(lambda match: spellings[_one_line(match.group())], value)
        if isinstance(value, list):
            return [replaced(item) for item in value]
        if isinstance(value, dict):
            return type(value)({key: replaced(item) for key, item in value.items()})
        return value

    return replaced(notebook)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _by_speaker(speaker_scores: dict) -> str:
    """The UAR of each speaker as a sentence, or nothing where there are many."""
    scores = ", ".join(f"{score['uar']:.3f} ({speaker})" for speaker, score in speaker_scores.items())
    return f"UAR of each speaker: {scores}." if scores else ""


def page_context(run: Run, page: str, seconds: float) -> dict:
    """The values of a page's header, as the template `report/index.html.j2` takes them."""
    recipe, overall, protocol = run.recipe, run.metrics["overall"], get_protocol(run.protocol)
    notices, corpora = [*recipe.notices], []
    for name, count in run.environment["corpora"].items():
        corpus = known_corpus(name)
        corpora.append(f"{corpus.title if corpus else name}, {count['found']} of {count['expected']} clips")
        notices += [corpus.notice] if corpus else []
    notices += [TRANSDUCTIVE] if protocol.is_transductive else []
    over = {
        "speakers": f"95 % intervals are over {overall['test_speakers']} test speakers.",
        "clips": "95 % intervals are over the clips of the only test speaker, and tell nothing about others (†).",
        "none": f"No interval: {overall['no_interval']}. " + _by_speaker(overall["speaker_scores"]),
    }[overall["interval_over"]]
    return {
        "title": page.replace("_", " "),
        "window_title": f"{page.replace('_', ' ')} · {recipe.name} · {protocol.name}",
        "description": recipe.title,
        "facts": {
            "Recipe": f"{recipe.name}: {recipe.variant_label}",
            "Protocol": f"{protocol.name}: {protocol.about}",
            "Corpora": "; ".join(corpora),
            "Features": f"{recipe.features_label}, {recipe.input_label}; {recipe.model_label}",
            "Seed": run.seed,
            "Commit": run.environment["commit"],
            "Made in": f"{seconds:.0f} s on {run.environment['device']}",
        },
        "scores": [
            {"name": title, "value": overall[name]} | {end: _known(overall[f"{name}_{end}"]) for end in ("low", "high")}
            for name, title in {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1"}.items()
        ],
        "scores_note": f"{UAR} {over}".strip(),
        "leaks": run.audit.astype(object).where(run.audit.notna(), None).to_dict(orient="records"),
        "notice": " ".join(filter(None, notices)),
        "pages": NOTEBOOKS,
        "index_href": "../../index.html",
    }


def write_page(notebook, context: dict, path: Path, at_most: int = MAX_PAGE_BYTES) -> None:
    """Convert an executed notebook to one self-contained HTML file.

    Args:
        context: as `page_context` returns it.
        at_most: size limit in bytes.

    Raises:
        SerError: the page is larger.
    """
    from nbconvert import HTMLExporter

    notebook = join_silent_cells(copy.deepcopy(notebook))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":  # pages load no picture from the network: its text stands for it
            cell.source = re.sub(r"!\[([^\]]*)\]\(https?://[^)]*\)", r"\1", cell.source)
    folders = {"extra_template_basedirs": [str(TEMPLATES)], "extra_template_paths": [str(TEMPLATES)]}
    values = context | {"script": script_source("report/report.js")}
    html, _ = HTMLExporter(template_name="report", **folders).from_notebook_node(notebook, resources={"ser": values})
    html = html.replace(f"{Path.home()}/", "~/")  # the user's name is private
    size = len(html.encode())
    if size > at_most:
        raise SerError(
            f"{path.name} would be {size / 1000:.0f} KB, more than {at_most / 1000:.0f} KB: "
            "show fewer or smaller pictures and players."
        )
    write_text(html, path)


def join_silent_cells(notebook):
    """Join neighbouring code cells without output, such as set-up and imports, to one cell with the tag "setup"."""
    cells: list = []
    for cell in notebook.cells:
        is_silent = cell.cell_type == "code" and not cell.outputs
        if is_silent and cells and cells[-1].cell_type == "code" and not cells[-1].outputs:
            cells[-1].source += f"\n\n{cell.source}"
            cells[-1].metadata["tags"] = ["setup"]
        else:
            cells.append(cell)
    notebook.cells = cells
    return notebook
