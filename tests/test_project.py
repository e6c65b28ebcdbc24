"""What holds the repository together: the lock, the environments, the notebooks' two sides, the README, the Makefile."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
import soundfile
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ser_lib.corpora import CORPORA
from ser_lib.corpora.clips import load_clips
from ser_lib.protocols.splits import PROTOCOLS
from ser_lib.recipes import load_recipe, recipe_names

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def pins():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(
        (canonicalize_name(name), version)
        for name, version in (line.split("==") for line in lines if line and not line.startswith("#"))
    )


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


class TestReadme:
    def test_names_every_recipe_protocol_and_corpus(self):
        for name in [*recipe_names(), *PROTOCOLS, *CORPORA]:
            assert f"`{name}`" in README, name

    def test_links_lead_somewhere(self):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", README):
            assert (ROOT / target).exists(), target

    def test_its_commands_exist(self):
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
        assert set(re.findall(r"^make ([a-z]+)", README, re.M)) <= targets
        from ser_lib.cli import COMMANDS

        assert set(re.findall(r"(?:^|bin/|`)ser ([a-z]+)", README, re.M)) <= set(COMMANDS)

    def test_its_corpus_of_ones_own_is_loaded_as_it_stands_there(self, tmp_path, monkeypatch):
        (source,) = re.findall(r"```python\n(\"\"\"My corpus.*?)```", README, re.S)
        assert source.count("\n") < 60
        scope = {}
        exec(compile(source, "mine.py", "exec"), scope)
        monkeypatch.setitem(CORPORA, "mine", scope["CORPUS"])
        rng = np.random.default_rng(0)
        for name in ("anna_03_happy", "bert_03_sadness"):
            path = tmp_path / "mine" / f"{name}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, rng.normal(0, 0.1, 8000), 16000)
        clips = load_clips("mine", tmp_path)
        assert clips["speaker"].tolist() == ["mine-anna", "mine-bert"]
        assert clips["emotion"].tolist() == ["happy", "sad"] and clips["sex"].tolist() == ["female", "male"]

    def test_its_recipe_of_ones_own_is_complete(self, tmp_path):
        (source,) = re.findall(r"```yaml\n(title: My corpus.*?)```", README, re.S)
        (tmp_path / "mine.yaml").write_text(source)
        recipe = load_recipe(tmp_path / "mine.yaml")
        assert (recipe.name, recipe.model.name, recipe.input.pooling) == ("mine", "gru", "sequence")

    def test_its_python_runs(self, tmp_path):
        (source,) = re.findall(r"```python\n(from ser_lib.*?)```", README, re.S)
        source = source.replace('["ravdess", "tess"]', '"sample"').replace(
            'load_recipe("demo"), "speaker"',
            f'load_recipe("demo", overrides=["training.epochs=1"]), "speaker", runs_dir={str(tmp_path)!r}',
        )
        exec(compile(source, "README.md", "exec"), {})
        assert (tmp_path / "demo" / "speaker" / "0" / "metrics.json").is_file()


def test_make_help_lists_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True)
    documented = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    assert documented >= {"help", "report", "test", "lint", "notebooks", "bench", "clean"}
    for target in documented:
        assert f"make {target}" in done.stdout


def test_no_audio_is_in_git_but_the_bundled_corpus():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    audio = [name for name in done.stdout.splitlines() if name.endswith((".wav", ".flac", ".mp3", ".ogg"))]
    assert all(name.startswith("data/sample/") for name in audio)
