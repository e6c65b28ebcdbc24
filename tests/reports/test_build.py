"""The notebooks, executed from end to end on the bundled corpus, and the pages made of them."""

import copy
import re
from dataclasses import replace
from html import escape

import nbformat
import pytest

from ser_lib.common.errors import SerError
from ser_lib.evaluation.results import read_results
from ser_lib.inference.run import load_run, run_folder
from ser_lib.recipes import dump_recipe, load_recipe
from ser_lib.reports import build
from ser_lib.reports.build import MAX_PAGE_BYTES, NOTEBOOKS, execute_notebook, make_report, write_index, write_page
from ser_lib.training import experiment

FAST = ["training.epochs=2", "split.folds=2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The whole report under an honest protocol, and one page of a run under a protocol that leaks."""
    root = tmp_path_factory.mktemp("report")
    recipe = load_recipe("demo", overrides=FAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_CACHE_DIR", str(root / "cache"))
        make_report("demo", "speaker", overrides=FAST, runs_dir=root / "runs", reports_dir=root / "reports")
        leaky = experiment.train(recipe, "deduplicated", runs_dir=root / "runs", progress=False)
    page = root / "reports" / "demo" / "deduplicated" / "Run_Model.html"
    write_page(notebook("1"), build.page_context(leaky, "Run_Model", 1.0), page)
    write_index(root / "reports")
    return root


@pytest.fixture(scope="module")
def pages(folders):
    folder = folders / "reports" / "demo" / "speaker"
    return {name: (folder / f"{name}.html").read_text(encoding="utf-8") for name in NOTEBOOKS}


def notebook(*cells):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    made.cells[0].metadata["tags"] = ["parameters"]
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


@pytest.mark.notebook
class TestTheReport:
    def test_has_three_pages_and_nothing_else(self, folders):
        left = {path.name for path in (folders / "reports" / "demo" / "speaker").iterdir()}
        assert left == {f"{name}.html" for name in NOTEBOOKS}

    def test_pages_need_nothing_else_and_are_small(self, pages):
        for name, html in pages.items():
            assert len(html.encode()) <= MAX_PAGE_BYTES, name
            loaded = re.findall(r"""(?:src|href)=["'](https?://[^"']+)""", re.sub(r"<a [^>]*>", "", html))
            assert not loaded, (name, loaded)
            assert "<script src" not in html and "@import" not in html

    def test_header_says_what_made_the_numbers(self, folders, pages):
        run = load_run(run_folder(load_recipe("demo"), "speaker", 0, folders / "runs"))
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
        leaky = (folders / "reports" / "demo" / "deduplicated" / "Run_Model.html").read_text(encoding="utf-8")
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
            assert f'href="demo/speaker/{name}.html"' in index
        assert 'href="demo/deduplicated/Run_Model.html"' in index


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


def test_a_transductive_page_says_so(folders):
    run = load_run(run_folder(load_recipe("demo"), "speaker", 0, folders / "runs"))
    adapted = replace(run, split=run.split.assign(protocol="speaker-adapted"))
    assert "Transductive" in build.page_context(adapted, "Run_Model", 1.0)["notice"]
    assert "Transductive" not in build.page_context(run, "Run_Model", 1.0)["notice"]


class TestPathsThatAreNobodysBusiness:
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
        shown = build.shown_paths(recipe.corpora, given)
        assert set(shown.values()) == {"patients.csv", "audio", "runs"}
        run = load_run(run_folder(load_recipe("demo"), "speaker", 0, folders / "runs"))
        write_page(build.without_folders(made, shown), build.page_context(run, "Run_Model", 1.0), tmp_path / "x")
        page = (tmp_path / "x").read_text(encoding="utf-8")
        assert made == before and page.count("patients.csv") >= 3 and "audio/a.wav: silent" in page
        for part in ("ller", "clinic", str(tmp_path)):
            assert part not in page

    def test_are_hidden_whenever_a_report_is_made(self, clinic, tmp_path, monkeypatch, folders):
        written = {}
        run = load_run(run_folder(load_recipe("demo"), "speaker", 0, folders / "runs"))
        monkeypatch.setattr(build, "execute_notebook", lambda _, given, __: notebook(repr(given)))
        monkeypatch.setattr(build, "load_run", lambda _: run)
        monkeypatch.setattr(build, "write_page", lambda page, _, path, *__: written.update({path.name: page}))
        corpora = f"corpora=['{clinic / 'patients.csv'}']"
        places = {"runs_dir": str(tmp_path / "runs"), "reports_dir": str(tmp_path / "reports")}
        make_report("demo", overrides=[corpora], data_dir=str(clinic), **places)
        build.make_claims_audit({"data_dir": str(clinic), "runs_dir": places["runs_dir"]}, places["reports_dir"])
        assert len(written) == 4
        for page in written.values():
            assert str(tmp_path) not in page.cells[0].source and "'runs_dir': 'runs'" in page.cells[0].source

    def test_below_home_and_by_chance_stay_as_they_are(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/ada")
        given = {"data_dir": "/data", "runs_dir": "/home/ada/runs", "seed": 0, "protocol": "speaker"}
        shown = build.shown_paths(["ravdess"], given)
        assert shown == {"/data": "data"}
        kept = "https://host/data /database ~/data base64,abc/data+/dataA=="
        made = build.without_folders(notebook(f"{kept} '/data' /data/ravdess"), shown)
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
    run = load_run(run_folder(load_recipe("demo"), "speaker", 0, folders / "runs"))
    made = notebook("1", "2")
    for cell, text in zip(made.cells, ("training the first", "a result"), strict=True):
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
    made.cells[0].metadata["tags"] = ["log"]
    write_page(made, build.page_context(run, "Run_Model", 1.0), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    (folded,) = re.findall(r'<details class="told">.*?</details>', html, re.DOTALL)
    assert "training the first" in folded and "a result" not in folded and "a result" in html


def test_a_page_that_grew_too_large_is_refused(tmp_path, folders):
    run = load_run(run_folder(load_recipe("demo"), "speaker", 0, folders / "runs"))
    context = build.page_context(run, "Run_Model", 1.0)
    with pytest.raises(SerError, match="show fewer or smaller pictures"):
        write_page(notebook("1"), context, tmp_path / "page.html", at_most=10)
    assert not (tmp_path / "page.html").exists()


def test_an_index_over_no_reports_is_written(tmp_path):
    html = write_index(tmp_path).read_text(encoding="utf-8")
    assert "No results yet" in html


def test_foreign_names_are_escaped_in_the_index(tmp_path):
    folder = tmp_path / "<b>mine" / "speaker"
    folder.mkdir(parents=True)
    (folder / "Run_Model.html").write_text("x")
    assert "<b>mine" not in write_index(tmp_path).read_text(encoding="utf-8")
