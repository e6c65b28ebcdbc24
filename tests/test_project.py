"""What holds the repository together: lock, environments, notebooks, workflows, hooks, the address, the website."""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def pins():
    """The lock's versions, by name, for the Python that runs the tests."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    texts = [line.partition(";") for line in lines if line and not line.startswith("#")]
    here = [pin for pin, _, marker in texts if not marker or Marker(marker).evaluate()]
    return {canonicalize_name(name): version for name, version in (pin.split("==") for pin in here)}


class TestEnvironments:
    def test_every_range_of_pyproject_admits_the_version_of_the_lock(self):
        locked = pins()
        for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
            requirement = Requirement(text)
            version = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), (text, version)

    @pytest.mark.parametrize(
        "release",
        # What Colab brings, and what is current.
        ["transformers==5.23.0", "librosa==0.11.0", "librosa==1.0.0", "torch==2.11.0", "torch==2.15.0"]
        + ["numpy==2.0.2", "pandas==2.2.2", "pandas==3.1.1", "scikit-learn==1.6.1", "numpy==2.5.5"],
    )
    def test_the_ranges_admit_what_users_have(self, release):
        name, version = release.split("==")
        ranges = {r.name: r.specifier for r in map(Requirement, PROJECT["dependencies"])}
        assert ranges[name].contains(version)

    def test_conda_installs_the_same_lock_on_the_same_python(self):
        conda = yaml.safe_load((ROOT / "environment.yml").read_text())
        python = next(item for item in conda["dependencies"] if str(item).startswith("python="))
        assert f">={python.split('=')[1]}" == PROJECT["requires-python"]
        (pip,) = [item["pip"] for item in conda["dependencies"] if isinstance(item, dict)]
        assert pip == ["-r requirements.lock", "-e ."]  # lines of a requirements file: no options behind them

    def test_the_lock_holds_plain_pins_that_any_index_has(self):
        for name, version in pins().items():
            assert re.fullmatch(r"[0-9][0-9a-z.]*", version), (name, version)

    def test_the_lock_holds_what_its_packages_need(self):
        locked, missing = pins(), set()
        for name in locked:
            for text in importlib.metadata.requires(name) or []:
                requirement = Requirement(text)
                needed = canonicalize_name(requirement.name)
                # CUDA's libraries come with PyPI's build of torch alone, and setuptools with Python.
                if needed.startswith(("nvidia-", "cuda-", "triton", "setuptools")) or needed in locked:
                    continue
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    missing.add((name, text))
        assert not missing

    def test_every_import_of_the_package_is_a_dependency(self):
        modules = {"yaml": "pyyaml", "sklearn": "scikit-learn", "PIL": "pillow"}
        extras = {name: texts for name, texts in PROJECT["optional-dependencies"].items() if name != "dev"}
        always = named(PROJECT["dependencies"])
        in_functions = always.union(*map(named, extras.values()))  # users without an extra never come there
        for path in (ROOT / "ser_lib").rglob("*.py"):
            for walk, wanted in ((when_imported, always), (ast.walk, in_functions)):
                for name in imported(path, walk):
                    top = name.split(".")[0]
                    if top not in sys.stdlib_module_names and top != "ser_lib":
                        found = canonicalize_name(modules.get(top, top))
                        assert found in wanted, (path.name, top)


def named(requirements):
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def when_imported(tree):
    """Every node that runs when the module is imported: none within a function."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from when_imported(node)


def imported(path, walk=ast.walk):
    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "ser_lib":
                yield from (f"ser_lib.{alias.name}" for alias in node.names)
            yield node.module


class TestNotebooks:
    def test_both_sides_agree(self):
        done = subprocess.run(
            [sys.executable, "scripts/pair_notebooks.py", "--check"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
    def test_is_thin(self, path):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                assert not cell.outputs and cell.execution_count is None
                assert cell.source.count("\n") < 15, cell.source
                assert not re.search(r"^\s*(def|class) ", cell.source, re.M), cell.source

    @pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
    def test_opens_in_colab_from_the_projects_own_address(self, path):
        repository = PROJECT["urls"]["Repository"]
        text = path.read_text(encoding="utf-8")
        place = repository.removeprefix("https://github.com/")
        assert f"colab.research.google.com/github/{place}/blob/main/notebooks/{path.name}" in text
        assert f"git clone --depth 1 {repository}.git" in text

    def test_set_up_cell_does_nothing_elsewhere(self):
        for path in NOTEBOOKS:
            source = next(
                cell.source for cell in nbformat.read(path, as_version=4).cells if "google.colab" in cell.source
            )
            scope = {}
            exec(source, scope)  # would fail on get_ipython, were it to do anything
            assert "google.colab" not in sys.modules


def test_make_help_lists_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True)
    documented = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    assert documented >= {"help", "report", "test", "lint", "notebooks", "bench", "clean"}
    for target in documented:
        assert f"make {target}" in done.stdout


class TestAddress:
    @pytest.fixture
    def copy(self, tmp_path):
        """The repository's files, in a repository of their own."""
        for name in TRACKED:
            if (ROOT / name).is_file():
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, tmp_path / name)
        for arguments in (["init", "--quiet"], ["add", "--all"]):
            subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
        return tmp_path

    @staticmethod
    def texts(folder):
        return {name: (folder / name).read_bytes() for name in TRACKED if (folder / name).is_file()}

    def set_address(self, folder, url):
        command = ["make", "--silent", "address", f"URL={url}", f"PYTHON={sys.executable}"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True)

    def test_is_replaced_everywhere_and_only_once(self, copy):
        old = PROJECT["urls"]["Repository"].removeprefix("https://github.com/")
        owner, name = old.split("/")
        new = "/".join(["some-one", "fork.two"])  # in parts, since the way back would rewrite this file too
        done = self.set_address(copy, f"https://github.com/{new}")
        assert done.returncode == 0, done.stderr
        for file in (
            "README.md",
            "pyproject.toml",
            "CITATION.cff",
            "notebooks/Run_Model.py",
            "notebooks/Run_Model.ipynb",
        ):
            assert file in done.stdout.splitlines()
            assert new in (copy / file).read_text(encoding="utf-8")
        after = self.texts(copy)
        for form in (old, f"{owner}.github.io/{name}"):
            assert [name for name, text in after.items() if re.search(rb"(?<![\w.-])" + form.encode(), text)] == []
        again = self.set_address(copy, f"https://github.com/{new}.git")
        assert (again.returncode, again.stdout) == (0, "") and self.texts(copy) == after
        # And back: every file as it was.
        assert self.set_address(copy, PROJECT["urls"]["Repository"]).returncode == 0
        assert self.texts(copy) == self.texts(ROOT)

    @pytest.mark.parametrize("url", ["", "me/fork", "https://example.org/me/fork", "https://github.com/me"])
    def test_that_is_no_address_of_a_repository_is_refused(self, url):
        done = subprocess.run([sys.executable, "scripts/set_address.py", url], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1 and done.stdout == ""
        assert "make address URL=https://github.com/me/fork" in done.stderr


class TestWorkflows:
    FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
    def test_pin_every_action_by_commit_and_name_its_version(self, path):
        text = path.read_text()
        yaml.safe_load(text)
        used = re.findall(r"uses: (.+)", text)
        assert used
        for action in used:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action

    def test_run_every_python_that_the_package_names(self):
        jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
        named = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if "Python :: 3." in text]
        assert jobs["newcomer"]["strategy"]["matrix"]["python"] == named
        assert f">={named[0]}" == PROJECT["requires-python"]

    def test_the_website_holds_readme_docs_and_reports_and_its_links_lead_somewhere(self, tmp_path):
        from bs4 import BeautifulSoup

        subprocess.run([sys.executable, "scripts/make_site.py", tmp_path], cwd=ROOT, check=True)
        sources = ["index", "CONTRIBUTING", "CHANGELOG", "data/README"]
        sources += [f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")]
        assert (tmp_path / "reports" / "index.html").is_file()
        for source in sources:
            path = tmp_path / f"{source}.html"
            page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            assert page.title.text and page.find("h1")
            for tag in page.find_all(["a", "img"]):
                link = tag.get("href") or tag.get("src")
                if not re.match(r"https?:", link):
                    target, _, fragment = link.partition("#")
                    target = path.parent / target if target else path
                    assert target.is_file(), (source, link)
                    if fragment:
                        assert f'id="{fragment}"' in target.read_text(encoding="utf-8"), (source, link)
                elif "/blob/main/" in link:
                    assert (ROOT / link.partition("/blob/main/")[2]).exists(), (source, link)


class TestHooks:
    HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]

    @pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
    def test_accept_the_repository_as_it_is(self, hook):
        # As `make lint` runs them: a hook may change files, a test may not.
        entry = hook["entry"].replace(" format", " format --check").replace(" --fix", "")
        program, *arguments = entry.replace(".venv/bin", str(Path(sys.executable).parent)).split()
        files = [name for name in TRACKED if (ROOT / name).is_file()]
        if hook.get("types") == ["python"]:
            files = [name for name in files if name.endswith(".py")]
        files = [] if hook.get("pass_filenames") is False else files
        done = subprocess.run([program, *arguments, *files], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_refuse_large_files_outputs_and_audio(self, tmp_path):
        cell = {"cell_type": "code", "outputs": [{"output_type": "stream"}], "execution_count": None}
        (tmp_path / "ran.ipynb").write_text(json.dumps({"cells": [cell]}))
        (tmp_path / "large.csv").write_text("0" * 1_000_001)
        (tmp_path / "voice.wav").write_text("")
        (tmp_path / "small.csv").write_text("0")
        command = [
            sys.executable,
            ROOT / "scripts" / "check_files.py",
            *sorted(path.name for path in tmp_path.iterdir()),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["large.csv", "ran.ipynb", "voice.wav"]


def test_the_citation_agrees_with_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["authors"]
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]


def test_the_changelog_is_in_the_form_of_keep_a_changelog():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.M)
    assert versions[0] == ("Unreleased", "") and PROJECT["version"] in [version for version, _ in versions]
    assert all(date for version, date in versions if version != "Unreleased")
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }


def test_no_audio_is_in_git_but_the_bundled_corpus():
    audio = [name for name in TRACKED if name.endswith((".wav", ".flac", ".mp3", ".ogg"))]
    assert all(name.startswith("data/sample/") for name in audio)
