"""Make notebooks/*.ipynb from notebooks/*.py, the only side that is edited.

python scripts/pair_notebooks.py            write them
python scripts/pair_notebooks.py --check    exit 1 where one differs from what would be written
"""

import sys
from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).parents[1] / "notebooks"


def notebook_text(source: Path) -> str:
    """The .ipynb that belongs to a percent script: no outputs, and cell ids that depend on nothing but position."""
    notebook = jupytext.read(source)
    for position, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{position:02d}"
    notebook.metadata.pop("jupytext", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def differing() -> list[Path]:
    """Notebooks that are not what their script makes."""
    return [
        source.with_suffix(".ipynb")
        for source in sorted(FOLDER.glob("*.py"))
        if not source.with_suffix(".ipynb").is_file()
        or source.with_suffix(".ipynb").read_text(encoding="utf-8") != notebook_text(source)
    ]


def main() -> int:
    if "--check" in sys.argv[1:]:
        for path in differing():
            print(f"{path.name} is not what its .py side makes: run `make notebooks`.", file=sys.stderr)
        return 1 if differing() else 0
    for source in sorted(FOLDER.glob("*.py")):
        source.with_suffix(".ipynb").write_text(notebook_text(source), encoding="utf-8")
        print(source.with_suffix(".ipynb"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
