"""Refuse files that must not enter the repository: large files, notebook outputs, audio outside the bundled corpus.

python scripts/check_files.py FILE...
"""

import json
import sys
from pathlib import Path

MAX_BYTES = 1_000_000
# Larger ones that the package needs.
MOST_OF = {"ser_lib/inference/speech_emotion/model.onnx": 15_000_000}
AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aiff")


def fault(path: Path) -> str | None:
    """Why a file, named relative to the repository's root, must not be committed; None where it may be."""
    if path.suffix.lower() in AUDIO and path.parts[:2] != ("data", "sample"):
        return "audio stays out of the repository, except the bundled corpus in data/sample/"
    if path.stat().st_size > (most := MOST_OF.get(path.as_posix(), MAX_BYTES)):
        return f"{path.stat().st_size:,} bytes, more than {most:,}"
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        if any(cell.get("outputs") or cell.get("execution_count") for cell in cells):
            return "a notebook with outputs: edit the .py side and run `make notebooks`"
    return None


def main() -> int:
    faults = {path: fault(path) for path in map(Path, sys.argv[1:]) if path.is_file()}
    for path, text in faults.items():
        if text:
            print(f"{path}: {text}", file=sys.stderr)
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main())
