"""The notebooks, executed from end to end on the bundled corpus, and the pages made of them."""

import asyncio
import base64
import copy
import gc
import hashlib
import logging
import re
import subprocess
import sys
from dataclasses import replace
from html import escape
from pathlib import Path
from types import SimpleNamespace

import nbformat
import nbformat.v4 as notebooks
import pytest
from bs4 import BeautifulSoup

from ser_lib.common.errors import SerError
from ser_lib.evaluation.results import read_results
from ser_lib.inference.run import load_run, run_folder
from ser_lib.recipes import dump_recipe, load_recipe
from ser_lib.reports import build
from ser_lib.reports.build import MAX_PAGE_BYTES, NOTEBOOKS, execute_notebook, make_report, write_index, write_page
from ser_lib.training import experiment

ROOT = Path(__file__).parents[2]
FAST = ["training.epochs=2", "split.folds=2"]
FOLDER = load_recipe("demo", overrides=FAST).folder_name
HOSTILE = "<b>Zoë $x_1$ & 张三_é</b>\n<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The whole report under an honest protocol, and one page of a run under a protocol that leaks."""
    root = tmp_path_factory.mktemp("report")
    recipe = load_recipe("demo", overrides=FAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_CACHE_DIR", str(root / "cache"))
        make_report("demo", "speaker", overrides=FAST, runs_dir=root / "runs", reports_dir=root / "reports")
        leaky = experiment.train(recipe, "deduplicated", runs_dir=root / "runs", progress=False)
    page = root / "reports" / recipe.folder_name / "deduplicated" / "Run_Model.html"
    write_page(notebook("1"), build.page_context(leaky, "Run_Model", 1.0), page)
    write_index(root / "reports")
    return root


@pytest.fixture(scope="module")
def pages(folders):
    folder = folders / "reports" / FOLDER / "speaker"
    return {name: (folder / f"{name}.html").read_text(encoding="utf-8") for name in NOTEBOOKS}


def notebook(*cells):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    made.cells[0].metadata["tags"] = ["parameters"]
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


@pytest.mark.notebook
class TestTheReport:
    def test_has_three_pages_and_nothing_else(self, folders):
        left = {path.name for path in (folders / "reports" / FOLDER / "speaker").iterdir()}
        assert left == {f"{name}.html" for name in NOTEBOOKS}

    def test_pages_need_nothing_else_and_are_small(self, pages):
        for name, html in pages.items():
            assert len(html.encode()) <= MAX_PAGE_BYTES, name
            loaded = re.findall(r"""(?:src|href)=["'](https?://[^"']+)""", re.sub(r"<a [^>]*>", "", html))
            assert not loaded, (name, loaded)
            assert "<script src" not in html and "@import" not in html

    def test_header_says_what_made_the_numbers(self, folders, pages):
        run = load_run(run_folder(load_recipe("demo", overrides=FAST), "speaker", 0, folders / "runs"))
        for name in NOTEBOOKS:
            html = pages[name]
            head = html[: html.index("Open in Colab")]
            for expected in ("speaker", "256 of 256 clips", f"{run.metrics['overall']['uar']:.3f}", "mfcc-40"):
                assert expected in head, (name, expected)

    def test_first_lines_say_that_the_voices_are_synthetic(self, pages):
        for html in pages.values():
            text = re.sub(r"<style.*?</style>|<script.*?</script>|<[^>]+>", " ", html, flags=re.S)
            assert text.index("say nothing about how well human emotion") < 600

    def test_banner_is_red_where_the_protocol_leaks_and_only_there(self, folders, pages):
        leaky = (folders / "reports" / FOLDER / "deduplicated" / "Run_Model.html").read_text(encoding="utf-8")
        assert 'class="strip red"' in leaky and "same speaker" in leaky
        for name in NOTEBOOKS:
            assert 'class="strip red"' not in pages[name]

    def test_shows_what_readers_expect(self, pages):
        prepared, trained, ran = (pages[name] for name in NOTEBOOKS)
        assert prepared.count("<audio") == 8 and prepared.count("<img") >= 6
        assert trained.count("<img") >= 1 and "trained numbers" in trained and "validation_uar" in trained
        assert ran.count("<img") >= 6 and "precision" in ran and "→" in ran
        for html in (prepared, trained, ran):
            assert "Traceback" not in html and "/site-packages/" not in html

    def test_leaves_its_row_and_an_index(self, folders):
        (row,) = read_results(folders / "reports").to_dict(orient="records")
        assert (row["recipe"], row["protocol"], row["n_test"]) == ("demo", "speaker", 256)
        assert row["variant"] == "stated; " + "; ".join(FAST)
        index = (folders / "reports" / "index.html").read_text(encoding="utf-8")
        for name in NOTEBOOKS:
            assert f'href="{FOLDER}/speaker/{name}.html"' in index
        assert f'href="{FOLDER}/deduplicated/Run_Model.html"' in index


def test_an_unknown_parameter_is_an_error_though_papermill_only_warns(tmp_path):
    path = tmp_path / "Some.ipynb"
    nbformat.write(notebook("alpha = 1", "print(alpha)"), path)
    with pytest.raises(SerError, match="Some.ipynb has no parameter 'beta'; it has alpha"):
        execute_notebook(path, {"beta": 2}, tmp_path / "failed.ipynb")
    assert not (tmp_path / "failed.ipynb").exists()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_parameter_that_the_report_passes_exists(name, monkeypatch, tmp_path):
    passed = {}

    def record(path, parameters, failed_copy):
        passed.update(parameters)
        raise SerError("stop here")

    monkeypatch.setattr(build, "execute_notebook", record)
    with pytest.raises(SerError, match="stop here"):
        make_report("demo", runs_dir=tmp_path, reports_dir=tmp_path)
    import papermill

    assert set(passed) == set(papermill.inspect_notebook(str(build.project_dir() / "notebooks" / f"{name}.ipynb")))


def test_a_recipe_of_ones_own_is_the_one_that_is_reported(monkeypatch, tmp_path):
    passed = {}

    def record(path, parameters, failed_copy):
        passed.update(parameters)
        raise SerError("stop here")

    monkeypatch.setattr(build, "execute_notebook", record)
    monkeypatch.chdir(tmp_path)
    # Named as a bundled one: the notebooks must not take that instead.
    (tmp_path / "demo.yaml").write_text("title: Mine\ncorpora: [sample]\nmodel: {name: gru}\n")
    with pytest.raises(SerError, match="stop here"):
        make_report("demo.yaml", data_dir="corpora", runs_dir="runs", reports_dir="reports")
    assert passed["recipe_name"] == str(tmp_path / "demo.yaml")
    assert load_recipe(passed["recipe_name"]).title == "Mine"
    assert (passed["data_dir"], passed["runs_dir"]) == (str(tmp_path / "corpora"), str(tmp_path / "runs"))


class TestThePlaceOfPages:
    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({}, "reports/demo/speaker"),
            ({"seed": 1}, "reports/own/demo/speaker-seed-1"),
            ({"overrides": FAST}, f"reports/own/{FOLDER}/speaker"),
            ({"overrides": FAST, "reports_dir": "elsewhere"}, f"elsewhere/{FOLDER}/speaker"),
        ],
    )
    def test_is_that_of_committed_pages_for_a_recipe_as_it_is_alone(self, monkeypatch, tmp_path, settings, expected):
        def record(path, parameters, failed_copy):
            raise SerError(f"pages in {failed_copy.parent}")

        monkeypatch.setattr(build, "execute_notebook", record)
        monkeypatch.setattr(build, "project_dir", lambda: tmp_path)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SerError, match=f"{expected}$"):
            make_report("demo", **settings)

    def test_of_own_settings_is_ignored_by_git(self):
        asked = [f"reports/own/{FOLDER}/speaker/Run_Model.html", "reports/own/results.csv", "notebooks/recording.wav"]
        ignored = subprocess.run(["git", "check-ignore", *asked], cwd=ROOT, capture_output=True, text=True)
        assert ignored.stdout.split() == asked


def test_a_transductive_page_says_so(folders):
    run = load_run(run_folder(load_recipe("demo", overrides=FAST), "speaker", 0, folders / "runs"))
    adapted = replace(run, split=run.split.assign(protocol="speaker-adapted"))
    assert "Transductive" in build.page_context(adapted, "Run_Model", 1.0)["notice"]
    assert "Transductive" not in build.page_context(run, "Run_Model", 1.0)["notice"]


class TestPathsThatAreNobodysBusiness:
    @pytest.fixture(autouse=True)
    def no_variables(self, monkeypatch):
        for name in build.FOLDER_VARIABLES:
            monkeypatch.delenv(name, raising=False)

    @pytest.fixture
    def clinic(self, tmp_path):
        """A CSV beside its audio, under names that HTML, Python and YAML each write in another way."""
        folder = tmp_path / "Möller & sons clinic, where a line of YAML is long enough to break"
        (folder / "audio").mkdir(parents=True)
        (folder / "audio" / "a.wav").touch()
        (folder / "patients.csv").write_text("path,emotion,speaker\naudio/a.wav,sad,anna\n", encoding="utf-8")
        return folder

    def test_are_told_by_their_last_part(self, clinic, tmp_path, folders):
        from papermill.translators import PythonTranslator

        path = str(clinic / "patients.csv")
        recipe = load_recipe("demo", overrides=[f"corpora=['{path}']"])
        given = {"overrides": list(recipe.overrides), "runs_dir": str(tmp_path / "runs"), "protocol": "speaker"}
        made = notebook(PythonTranslator.codify(given))
        html = f"<td>{escape(path)}</td><td>{escape(str(clinic / 'audio'))}</td>"
        made.cells[0].outputs = [
            nbformat.v4.new_output("stream", text=f"{clinic}/audio/a.wav: silent\n{dump_recipe(recipe)}"),
            nbformat.v4.new_output("display_data", {"text/html": html}),
        ]
        before = copy.deepcopy(made)
        shown = build.public_names(recipe.corpora, given)
        assert set(shown.values()) == {"patients.csv", "audio", "runs"}
        run = load_run(run_folder(load_recipe("demo", overrides=FAST), "speaker", 0, folders / "runs"))
        write_page(build.replace_paths(made, shown), build.page_context(run, "Run_Model", 1.0), tmp_path / "x")
        page = (tmp_path / "x").read_text(encoding="utf-8")
        assert made == before and page.count("patients.csv") >= 3 and "audio/a.wav: silent" in page
        for part in ("ller", "clinic", str(tmp_path)):
            assert part not in page

    def test_are_hidden_whenever_a_report_is_made(self, clinic, tmp_path, monkeypatch, folders):
        written = {}
        run = load_run(run_folder(load_recipe("demo", overrides=FAST), "speaker", 0, folders / "runs"))

        def executed(_, parameters, __):
            made = notebook(repr(parameters))
            made.metadata["papermill"] = {"duration": 1.0}
            return made

        monkeypatch.setattr(build, "execute_notebook", executed)
        monkeypatch.setattr(build, "load_run", lambda _: run)
        monkeypatch.setattr(build, "write_page", lambda page, _, path, *__: written.update({path.name: page}))
        corpora = f"corpora=['{clinic / 'patients.csv'}']"
        places = {"runs_dir": str(tmp_path / "runs"), "reports_dir": str(tmp_path / "reports")}
        make_report("demo", overrides=[corpora], data_dir=str(clinic), **places)
        build.make_claims_audit({"data_dir": str(clinic), "runs_dir": places["runs_dir"]}, places["reports_dir"])
        assert len(written) == 4
        for page in written.values():
            assert str(tmp_path) not in page.cells[0].source and "'runs_dir': 'runs'" in page.cells[0].source

    def test_are_hidden_where_a_variable_names_the_folder_of_corpora(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/ada")
        monkeypatch.setenv("SER_DATA_DIR", "/srv/clinic/speech")
        monkeypatch.setenv("KAGGLEHUB_CACHE", "/home/ada/kaggle")
        shown = build.public_names(["ravdess"], {})
        assert shown == {"/srv/clinic/speech": "speech"}
        page = build.replace_paths(notebook("'/srv/clinic/speech/ravdess/a.wav'"), shown)
        assert page.cells[0].source == "'speech/ravdess/a.wav'"

    def test_below_home_and_by_chance_stay_as_they_are(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/ada")
        given = {"data_dir": "/data", "runs_dir": "/home/ada/runs", "seed": 0, "protocol": "speaker"}
        shown = build.public_names(["ravdess"], given)
        assert shown == {"/data": "data"}
        kept = "https://host/data /database ~/data base64,abc/data+/dataA=="
        made = build.replace_paths(notebook(f"{kept} '/data' /data/ravdess"), shown)
        assert made.cells[0].source == f"{kept} 'data' data/ravdess"


def test_a_failing_cell_is_named_and_its_executed_copy_kept(tmp_path):
    path, copy = tmp_path / "Some.ipynb", tmp_path / "Some.failed.ipynb"
    nbformat.write(notebook("alpha = 1", "print('reached')", "alpha / 0", "print('never')"), path)
    with pytest.raises(SerError, match=r"(?s)Some failed in cell \d+, which begins `alpha / 0`.*ZeroDivisionError"):
        execute_notebook(path, {"alpha": 5}, copy)
    outputs = [cell.get("outputs") for cell in nbformat.read(copy, as_version=4).cells if cell.cell_type == "code"]
    assert any("reached" in str(output) for output in outputs) and outputs[-1] == []


def test_a_report_that_fails_leaves_earlier_pages_and_exits_with_1(tmp_path, capsys):
    from ser_lib.cli import main

    page = tmp_path / "demo" / "speaker" / "Model_Training.html"
    page.parent.mkdir(parents=True)
    page.write_text("an earlier page")
    arguments = ["--runs-dir", str(tmp_path / "runs"), "--reports-dir", str(tmp_path)]
    # One speaker in all cannot be split by speaker: the first notebook fails.
    assert main(["report", "demo", "--data-dir", str(one_speaker(tmp_path)), *arguments]) == 1
    error = capsys.readouterr().err
    assert "Data_Preparation failed in cell" in error and "at least 2 speakers, got 1" in error
    assert page.read_text() == "an earlier page"
    assert (page.parent / "Data_Preparation.failed.ipynb").is_file()


def one_speaker(tmp_path):
    folder = tmp_path / "data" / "sample"
    folder.mkdir(parents=True)
    (folder / "Actor_01").symlink_to(build.project_dir() / "data" / "sample" / "Actor_01")
    return tmp_path / "data"


def test_what_a_cell_tagged_log_says_is_folded_and_what_another_says_is_not(tmp_path, folders):
    run = load_run(run_folder(load_recipe("demo", overrides=FAST), "speaker", 0, folders / "runs"))
    made = notebook("1", "2")
    for cell, text in zip(made.cells, ("training the first", "a result"), strict=True):
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
    made.cells[0].metadata["tags"] = ["log"]
    write_page(made, build.page_context(run, "Run_Model", 1.0), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    (folded,) = re.findall(r'<details class="log-output">.*?</details>', html, re.DOTALL)
    assert "training the first" in folded and "a result" not in folded and "a result" in html


def test_a_page_that_grew_too_large_is_refused(tmp_path, folders):
    run = load_run(run_folder(load_recipe("demo", overrides=FAST), "speaker", 0, folders / "runs"))
    context = build.page_context(run, "Run_Model", 1.0)
    with pytest.raises(SerError, match="show fewer or smaller pictures"):
        write_page(notebook("1"), context, tmp_path / "page.html", at_most=10)
    assert not (tmp_path / "page.html").exists()


def leak(name="same speaker", severity="red", clips=0, meaning="why"):
    return {"leak": name, "severity": severity, "clips": clips, "share": clips and clips / 10, "meaning": meaning}


def context(**changes):
    return {
        "title": "Model Training",
        "window_title": "Model Training · demo",
        "description": "A demonstration",
        "facts": {"Protocol": "speaker: k folds", "Commit": "abc"},
        "scores": [{"name": "UAR", "value": 0.5, "low": 0.4, "high": 0.6}],
        "scores_note": "95 % intervals",
        "leaks": [leak()],
        "notice": None,
        "pages": ["Run_Model"],
        "index_href": "../../index.html",
    } | changes


def page(tmp_path, *cells, **changes):
    notebook = notebooks.new_notebook(cells=list(cells))
    build.write_page(notebook, context(**changes), tmp_path / "page.html")
    return (tmp_path / "page.html").read_text()


def code(*outputs, source="1"):
    return notebooks.new_code_cell(source, outputs=list(outputs))


def stderr(text):
    return notebooks.new_output("stream", name="stderr", text=text)


def policy(soup):
    return soup.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]


def assert_loads_nothing(html):
    soup = BeautifulSoup(html, "html.parser")
    loaded = [
        tag[name] for tag in soup.find_all() for name in ("src", "srcset", "data", "poster") if tag.has_attr(name)
    ]
    loaded += [tag["href"] for tag in soup.find_all("link")]
    assert all(address.startswith("data:") for address in loaded)
    assert not re.search(r"@import|url\(", html)
    assert "default-src 'none'" in policy(soup)


def test_a_page_loads_nothing_and_adds_less_than_40_kilobytes(tmp_path):
    picture = notebooks.new_output("display_data", {"image/png": "iVBORw0K"}, metadata={"image/png": {"alt": "a bar"}})
    html = page(tmp_path, code(picture), notebooks.new_markdown_cell("[link](https://example.org)"))
    assert_loads_nothing(html)
    assert 'alt="a bar"' in html
    assert len(html) < 40_000


def test_the_only_script_of_a_page_is_the_one_that_its_policy_allows(tmp_path):
    soup = BeautifulSoup(page(tmp_path), "html.parser")
    [script] = soup.find_all("script")
    digest = base64.b64encode(hashlib.sha256(script.string.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy(soup)


def test_names_from_outside_are_escaped_in_a_page(tmp_path):
    changes = {key: HOSTILE for key, value in context().items() if isinstance(value, str)}
    changes |= {
        "facts": {HOSTILE: HOSTILE},
        "notice": HOSTILE,
        "scores": [{"name": HOSTILE, "value": 0.5, "low": 0.4, "high": 0.6}],
        "leaks": [leak(HOSTILE, "red", 3, HOSTILE), leak(HOSTILE, "amber", 3, HOSTILE), leak(HOSTILE, "red", None)],
        "pages": [HOSTILE, '"><script>'],
    }
    error = notebooks.new_output("error", ename=HOSTILE, evalue=HOSTILE, traceback=[HOSTILE])
    html = page(tmp_path, code(stderr(HOSTILE), error, source=HOSTILE), **changes)
    assert html.count("<script") == 1 and "<b>Zoë" not in html
    assert html.count("&lt;b&gt;Zoë") >= len(changes)


@pytest.mark.parametrize(
    "leaks, colour",
    [
        ([leak(clips=0)], "green"),
        ([leak(clips=3)], "red"),
        ([leak(clips=0), leak("same sentence", "amber", 3)], "green"),
        ([leak(clips=None)], "plain"),
        ([leak(clips=None), leak("same audio", "red", 1)], "red"),
    ],
)
def test_the_strip_of_a_page_is_red_only_for_grave_leaks_and_green_only_when_all_were_looked_for(
    tmp_path, leaks, colour
):
    [strip] = BeautifulSoup(page(tmp_path, leaks=leaks), "html.parser").select(".strip")
    assert strip["class"] == ["strip", colour]


def test_a_red_strip_counts_the_clips_and_amber_leaks_are_named_below_it(tmp_path):
    leaks = [leak("same audio", "red", 9), leak("same sentence", "amber", 10), leak("near-same audio", "red", 0)]
    soup = BeautifulSoup(page(tmp_path, leaks=leaks), "html.parser")
    assert "same audio: 9 test clips (90 %)" in soup.select_one(".strip.red").text
    assert "same sentence: 10 test clips (100 %)" in soup.select_one(".aside").text
    assert "near-same audio" not in soup.text
    assert soup.select(".scores.leaking")


def test_a_page_about_many_runs_says_nothing_of_a_split(tmp_path):
    about = context()
    del about["leaks"], about["scores"], about["pages"]
    build.write_page(notebooks.new_notebook(cells=[]), about, tmp_path / "page.html")
    soup = BeautifulSoup((tmp_path / "page.html").read_text(), "html.parser")
    assert not soup.select(".strip, .scores") and soup.select(".facts dd")[1].text == "abc"


def test_a_page_does_not_tell_whose_home_it_was_made_in(tmp_path):
    html = page(tmp_path, code(stderr(f"170 clips found under {Path.home()}/corpora")))
    assert "170 clips found under ~/corpora" in html and f"{Path.home()}/" not in html


def test_a_notice_stands_above_everything_else(tmp_path):
    soup = BeautifulSoup(page(tmp_path, notice="synthetic voices"), "html.parser")
    assert soup.select_one(".strip").text == "synthetic voices"


def test_code_is_collapsed_and_empty_outputs_leave_no_trace(tmp_path):
    empty = notebooks.new_output("stream", name="stdout", text=" \n")
    soup = BeautifulSoup(page(tmp_path, code(empty, source="x = 1"), code(empty, source=" ")), "html.parser")
    [source] = soup.select("details.source")
    assert not source.has_attr("open") and source.pre.text.strip() == "x = 1"
    assert not soup.select(".output")


def test_code_cells_without_output_are_joined_to_one_set_up(tmp_path):
    made = [
        code(source="import sys"),
        code(source="seed = 0"),
        code(stderr("loaded"), source="load()"),
        code(source="x"),
    ]
    soup = BeautifulSoup(page(tmp_path, *made), "html.parser")
    assert [source.summary.text for source in soup.select("details.source")] == ["set-up", "code", "code"]
    assert soup.select_one("details.source pre").text.split("\n") == ["import sys", "", "seed = 0", ""]


def test_progress_bars_are_left_out_but_warnings_beside_them_are_kept(tmp_path):
    bar = "\r  0%|          | 0/10 [00:00<?, ?epoch/s]\r100%|██████████| 10/10 [00:02<00:00, 4.2epoch/s, loss=0.3]"
    counter = "\r12it [00:03,  3.90it/s]"
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "0%| 0/10 [00:00<?]"}
    outputs = [
        stderr(bar + "\n"),
        stderr(bar + "ravdess: 1391 of 1440 clips found\n" + counter + "\n2 clips left out at 50 %\n"),
        notebooks.new_output("display_data", widget),
    ]
    soup = BeautifulSoup(page(tmp_path, code(*outputs)), "html.parser")
    assert [log.text for log in soup.select(".output")] == [
        "ravdess: 1391 of 1440 clips found\n2 clips left out at 50 %"
    ]


@pytest.fixture
def in_colab(monkeypatch, tmp_path):
    """Stands in for Colab: `run` executes a notebook's set-up cell with `git clone` succeeding or not."""
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(name, reachable):
        commands = []

        def system(command):
            commands.append(command)
            if command.startswith("git clone") and reachable:
                (tmp_path / "ser-lib").mkdir()
                (tmp_path / "ser-lib" / "pyproject.toml").touch()

        cells = nbformat.read(build.project_dir() / "notebooks" / f"{name}.ipynb", as_version=4).cells
        (source,) = [cell.source for cell in cells if "git clone" in cell.source]
        source = source.replace("/content/ser-lib", str(tmp_path / "ser-lib"))
        exec(source, {"get_ipython": lambda: SimpleNamespace(system=system)})
        return commands

    return run


@pytest.mark.parametrize("name", [*NOTEBOOKS, "Claims_Audit"])
def test_the_set_up_cell_installs_in_colab_and_says_what_to_do_where_the_project_is_not_reachable(
    name, in_colab, tmp_path
):
    with pytest.raises(SystemExit, match=r"not reachable. Upload its folder to .*, and run this cell again"):
        in_colab(name, reachable=False)
    clone, install = in_colab(name, reachable=True)
    assert "pip install" in install and sys.path[0] == str(tmp_path / "ser-lib")
    assert len(in_colab(name, reachable=True)) == 1  # it is not cloned twice


def test_a_kernel_that_is_killed_is_an_error_that_says_so(tmp_path):
    killed = notebook("alpha = 1", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    nbformat.write(killed, tmp_path / "Killed.ipynb")
    with pytest.raises(SerError, match="Killed did not end: its process was ended from outside"):
        execute_notebook(tmp_path / "Killed.ipynb", {"alpha": 5}, tmp_path / "failed.ipynb")


def test_a_notebook_that_is_interrupted_prints_no_traceback(tmp_path, monkeypatch):
    import papermill

    loop, tasks = asyncio.new_event_loop(), []

    async def die():
        raise RuntimeError("Kernel died")

    def execute(*_, **__):
        tasks.append(loop.create_task(die()))
        loop.run_until_complete(asyncio.sleep(0.01))
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    monkeypatch.setattr(logging.getLogger("asyncio"), "level", logging.NOTSET)
    nbformat.write(notebook("alpha = 1"), tmp_path / "Stopped.ipynb")
    with pytest.raises(KeyboardInterrupt):
        execute_notebook(tmp_path / "Stopped.ipynb", {"alpha": 5}, tmp_path / "failed.ipynb")
    said = []
    monkeypatch.setattr(logging.getLogger("asyncio"), "callHandlers", said.append)
    tasks.clear()
    gc.collect()
    loop.close()
    assert said == []


def test_what_a_kernel_itself_prints_stands_in_the_error_and_nowhere_else(tmp_path, monkeypatch, capfd):
    (tmp_path / "ipykernel_launcher.py").write_text("raise ImportError('No module named ipykernel')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    nbformat.write(notebook("alpha = 1"), tmp_path / "Broken.ipynb")
    with pytest.raises(
        SerError, match="Broken did not end: the last line of its process is: ImportError: No module named ipykernel"
    ):
        execute_notebook(tmp_path / "Broken.ipynb", {"alpha": 5}, tmp_path / "failed.ipynb")
    assert "Traceback" not in capfd.readouterr().err
