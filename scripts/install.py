"""Make .venv from requirements.lock: `make` does it, and where there is no make: `python scripts/install.py`.

On Linux without an NVIDIA driver, torch comes without CUDA, unless pip's own settings say where packages come from.
It says first what will come. What is installed already is not fetched again.
"""

import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = PROJECT / ".venv"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Gigabytes on the disk, measured on Linux.
CPU_GIGABYTES, CUDA_GIGABYTES = 2.3, 7.6
# Settings of pip that say where packages come from, as `pip config list` shows them.
PLACES = ("index-url", "find-links", "no-index")


def has_nvidia_driver() -> bool:
    """Whether this computer has a graphics processor that CUDA can use."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def wants_cpu_index(system: str, has_driver: bool, pip_settings: str) -> bool:
    """Whether torch is to come from PyTorch's own index: PyPI's build for Linux alone brings CUDA.

    Args:
        pip_settings: the output of `pip config list`: environment variables and files of settings.
    """
    return system == "Linux" and not has_driver and not any(place in pip_settings for place in PLACES)


def announcement(system: str, has_driver: bool) -> str:
    """What will come, in one sentence."""
    gigabytes = CUDA_GIGABYTES if system == "Linux" and has_driver else CPU_GIGABYTES
    build = "with CUDA, for the NVIDIA driver of this computer" if gigabytes == CUDA_GIGABYTES else "without CUDA"
    return (
        f"Installing about 150 packages into {FOLDER.name}: {gigabytes} GB on the disk (torch {build}), 3 to 15 minutes, "
        "once. If it is interrupted, the same command goes on."
    )


def main() -> None:
    # A newcomer's Python may be older than the package's.
    if sys.version_info < (3, 11):  # noqa: UP036
        command = "make PYTHON=/path/to/python3.11, or /path/to/python3.11 scripts/install.py"
        sys.exit(f"Python 3.11 or newer is needed, and this is {platform.python_version()}; name it with {command}.")
    system = platform.system()
    print(announcement(system, has_nvidia_driver()), flush=True)
    # Links as of `python -m venv`: copies would not replace the links of an environment that is there already.
    venv.create(FOLDER, with_pip=True, symlinks=os.name != "nt")
    python = FOLDER / ("Scripts/python.exe" if system == "Windows" else "bin/python")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    install = [*pip, "install"]
    settings = subprocess.run([*pip, "config", "list"], capture_output=True, text=True).stdout
    lock = PROJECT / "requirements.lock"
    if wants_cpu_index(system, has_nvidia_driver(), settings):
        (torch,) = (line for line in lock.read_text(encoding="utf-8").splitlines() if line.startswith("torch=="))
        done = subprocess.run([*install, "--no-deps", torch, "--index-url", CPU_INDEX])
        if done.returncode:
            print(f"{CPU_INDEX} cannot be reached: torch comes from PyPI, with CUDA.", flush=True)
    subprocess.run([*install, "-r", str(lock)], check=True)
    subprocess.run([*install, "--quiet", "--no-deps", "-e", str(PROJECT)], check=True)
    (FOLDER / "installed").touch()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"The installation stopped, see above (exit status {error.returncode}). The same command goes on.")
