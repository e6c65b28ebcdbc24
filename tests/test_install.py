"""What `scripts/install.py` decides before it installs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import install  # noqa: E402


@pytest.mark.parametrize(
    ("system", "has_driver", "settings", "expected"),
    [
        ("Linux", False, "", True),
        ("Linux", False, ":env:.cert='/etc/ssl'\nglobal.timeout='60'", True),
        ("Linux", True, "", False),
        ("Darwin", False, "", False),
        ("Windows", False, "", False),
        ("Linux", False, ":env:.find-links='/opt/wheels'", False),
        ("Linux", False, "global.extra-index-url='https://example.org'", False),
    ],
)
def test_torch_comes_without_cuda_where_nothing_could_use_it(system, has_driver, settings, expected):
    assert install.wants_cpu_index(system, has_driver, settings) is expected


def test_what_comes_is_said_first():
    assert "2.3 GB" in install.announcement("Linux", False) and "minutes" in install.announcement("Linux", False)
    assert "7.6 GB" in install.announcement("Linux", True) and "CUDA" in install.announcement("Linux", True)
    assert "2.3 GB" in install.announcement("Darwin", False)


@pytest.mark.parametrize("typed", ["input.encoder=$SER_X", "input.encoder=$$SER_X", "corpora=[a, b] title='it''s'"])
def test_make_passes_settings_as_they_were_typed(typed):
    printed = subprocess.run(["make", "-n", "report", f"SET={typed}"], cwd=ROOT, capture_output=True, text=True).stdout
    (line,) = [line for line in printed.splitlines() if "ser report" in line]
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True).stdout.splitlines()
    assert words[words.index("--set") + 1] == re.sub(r"\$\$", "$", typed)
