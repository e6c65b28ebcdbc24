"""Execute commands of README and docs, one after another, in this process: started by `test_docs` in a copy of the project.

    python docs_runner.py STEPS.json OUTCOMES.json

Network access is refused. Commands whose real work takes minutes, needs a GPU or does not end are executed up to that
work: see `shorten`.
"""

import contextlib
import functools
import inspect
import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path


def refuse_network(self, address):
    raise OSError(f"network access is refused in this test: {address}")


def shorten() -> None:
    """Replace or shorten the functions that do the long work."""
    from ser_lib.deploy import demo
    from ser_lib.models.heads import Head
    from ser_lib.recipes import load_recipe
    from ser_lib.reports import build
    from ser_lib.studies import claims_audit

    def make_report(recipe, protocol, seed, variant, overrides, *places):
        load_recipe(recipe, variant, overrides)
        return Path("reports", "a", "b")

    @functools.wraps(whole_fit := Head.fit)
    def fit(network, features, labels, train, validation, training, **settings):
        few = training.model_copy(update={"epochs": min(training.epochs, 2)})
        return whole_fit(network, features, labels, train, validation, few, **settings)

    build.make_report = make_report
    Head.fit = staticmethod(fit)
    signature = inspect.signature(claims_audit.measure)
    claims_audit.measure = lambda *values, **settings: signature.bind(*values, **settings) and Path("reports", "a")
    build.make_claims_audit = lambda parameters, reports_dir: Path("reports", "Claims_Audit.html")
    demo.serve = lambda run, port, open_browser: None


def run_ser(text: str) -> None:
    from ser_lib.cli import main

    status = main(shlex.split(text, comments=True)[1:])
    if status != 0:
        raise RuntimeError(f"exit status {status}")


def run_make(text: str) -> None:
    """Execute the `ser` commands that the real Makefile prints for a target; its other commands are for make alone."""
    printed = subprocess.run(
        ["make", "-n", *shlex.split(text, comments=True)[1:]], check=True, capture_output=True, text=True
    ).stdout
    found = re.findall(r"^\.venv/bin/(ser (?:report|claims).*)$", printed, re.M)
    if not found:
        raise RuntimeError(f"the target calls no command of ser: {printed}")
    for line in found:
        run_ser(line)


def run_bash(text: str) -> None:
    done = subprocess.run(["bash", "-euc", text], capture_output=True, text=True)
    print(done.stdout, done.stderr)
    done.check_returncode()


def run_python(text: str) -> None:
    exec(compile(text, "documentation", "exec"), {"__name__": "documentation"})


def write_file(text: str) -> None:
    Path(text.partition("\n")[0].removeprefix("# ")).write_text(text, encoding="utf-8")


RUN = {"ser": run_ser, "make": run_make, "bash": run_bash, "python": run_python, "yaml": write_file}


def outcome(kind: str, text: str) -> dict:
    """Execute one step: `error` is empty where it succeeded."""
    here, output, error, started = Path.cwd(), io.StringIO(), "", time.monotonic()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            RUN[kind](text)
        except (Exception, SystemExit):
            error = traceback.format_exc(limit=-4)
    os.chdir(here)
    return {"error": error, "output": output.getvalue()[-3000:], "seconds": round(time.monotonic() - started, 2)}


if __name__ == "__main__":
    steps, outcomes = map(Path, sys.argv[1:])
    socket.socket.connect = socket.socket.connect_ex = refuse_network
    shorten()
    outcomes.write_text(json.dumps([outcome(**step) for step in json.loads(steps.read_text())]))
