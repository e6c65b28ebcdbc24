"""Make requirements.lock: every package of a fresh environment that satisfies pyproject.toml, pinned.

    make lock PYTHON=/path/to/python3.11

Use the oldest 3.11 at hand: some packages want 3.11.5, and a newcomer may have less. torch is installed first and at
the version below: left to the resolver, the newest build is taken. `LATER` lists by hand what newer Pythons need beside
it; tests/test_project.py fails on a Python for which a package is missing.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCH = "2.13.0"
HEADER = """\
# Every package of the environment, pinned for Linux and Python 3.11 to 3.13; made by `make lock`, installed by `make`.
# torch is pinned without a build tag: PyPI's build brings CUDA on Linux. scripts/install.py takes the CPU build where
# there is no NVIDIA driver; with pip alone, set PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu first.
"""
LATER = """\
# What papermill needs on Python 3.12 alone.
aiohappyeyeballs==2.7.1; python_version == "3.12"
aiohttp==3.14.5; python_version == "3.12"
aiosignal==1.4.0; python_version == "3.12"
frozenlist==1.8.0; python_version == "3.12"
multidict==7.2.1; python_version == "3.12"
propcache==0.5.4; python_version == "3.12"
yarl==1.25.1; python_version == "3.12"
# Modules that Python has no more from 3.13 on.
audioop-lts==0.2.2; python_version >= "3.13"
standard-aifc==3.13.0; python_version >= "3.13"
standard-chunk==3.13.0; python_version >= "3.13"
standard-sunau==3.13.0; python_version >= "3.13"
"""


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"torch=={TORCH}"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        frozen = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    # A local build tag (2.13.0+cpu) is found on no public index.
    pins = [line.split("+")[0] for line in frozen.splitlines() if not line.startswith(("nvidia-", "triton"))]
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(pins) + "\n" + LATER)


if __name__ == "__main__":
    main()
