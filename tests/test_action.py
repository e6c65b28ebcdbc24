"""The GitHub Action: its step, executed as GitHub's runner would, and the workflow that its page of docs shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]


@pytest.fixture
def run(tmp_path):
    """Run the audit's step with inputs in a folder; return the finished process, its summary and its output."""
    program = tmp_path / "bin" / "ser"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ser_lib "$@"\n')
    program.chmod(0o755)
    files = {"GITHUB_STEP_SUMMARY": tmp_path / "summary.md", "GITHUB_OUTPUT": tmp_path / "output"}
    (step,) = [step for step in STEPS if step.get("id") == "audit"]

    def execute(folder, **inputs):
        known = {name: str(about["default"]) for name, about in ACTION["inputs"].items()}
        given = known | inputs
        assert given.keys() == known.keys()
        read = {name: re.fullmatch(r"\$\{\{ inputs\.([\w-]+) \}\}", text)[1] for name, text in step["env"].items()}
        environment = {name: given[source] for name, source in read.items()}
        environment |= {name: str(path) for name, path in files.items()}
        environment |= {"PATH": f"{program.parent}:{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path)}
        environment |= {"PYTHONPATH": str(ROOT), "SER_CACHE_DIR": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        return done, files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8"), files["GITHUB_OUTPUT"].read_text()

    return execute


def test_a_leak_fails_the_run_and_stands_in_its_summary(run, tmp_path):
    (tmp_path / "my split.csv").write_text(
        "path,subset\nOAF_a_sad.wav,train\nOAF_b_`$(x)`_<b>.wav,train\nOAF_c_sad.wav,test\n"
    )
    done, summary, output = run(tmp_path, split="my split.csv", audio="false")
    assert done.returncode == 1 and "LEAKS: my split" in done.stdout
    assert summary.startswith("### Leak audit\n\n    ")
    assert all(line.startswith("    ") for line in summary.splitlines()[2:])  # shown as it is, not as Markdown
    assert "LEAKS: my split" in summary and "same speaker" in summary
    page = Path(re.fullmatch(r"page=(.+)\n", output)[1])
    assert "This split leaks" in page.read_text(encoding="utf-8")


def test_a_clean_split_passes(run, tmp_path):
    (tmp_path / "train.txt").write_text("OAF_a_sad.wav\n")
    (tmp_path / "test.txt").write_text("YAF_b_sad.wav\n")
    done, summary, _ = run(tmp_path, train="train.txt", test="test.txt", audio="false")
    assert done.returncode == 0, done.stdout
    assert "clean" in summary


def test_a_missing_split_fails_with_the_reason(run, tmp_path):
    done, summary, _ = run(tmp_path, split="none.csv")
    assert done.returncode == 1 and "there is no file or folder none.csv" in summary


def test_inputs_reach_the_shell_as_variables_alone():
    for step in STEPS:
        assert "${{" not in step.get("run", "")
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])


def test_the_page_of_docs_shows_inputs_that_exist():
    text = (ROOT / "docs" / "audit-action.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yml\n(.*?)^```$", text, re.M | re.S)
    (step,) = [step for step in yaml.safe_load(block)["jobs"]["audit"]["steps"] if "ser-lib" in step["uses"]]
    assert set(step["with"]) <= set(ACTION["inputs"])
    assert all(f"`{name}`" in text for name in ACTION["inputs"])
    assert all(f"`{name}`" in text for name in ACTION["outputs"])
