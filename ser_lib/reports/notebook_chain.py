"""The three notebooks of one run have a parameter cell each: a line in each says whether the cells agree.

    agreement("Run_Model", globals())

Each notebook leaves its parameters in the cache. Under `ser report`, which gives all three the same, nothing is said.
"""

import hashlib
import html
import json
import os
from collections.abc import Mapping
from typing import Any

from ser_lib.common.files import cache_dir, project_dir, write_text
from ser_lib.reports.index import NOTEBOOKS
from ser_lib.reports.notebook_display import Html

PARAMETERS = ("recipe_name", "protocol", "variant", "seed", "overrides", "data_dir", "runs_dir")
# Set by `ser report` in the environment of the notebooks.
ONE_PLACE = "SER_REPORT"


def agreement(notebook: str, names: Mapping[str, Any]) -> Html | None:
    """A red line where the notebook before this one, of the same checkout, last ran with other parameters; else nothing.

    Args:
        notebook: one of `NOTEBOOKS`.
        names: the notebook's variables, of which those of `PARAMETERS` count.
    """
    if os.environ.get(ONE_PLACE):
        return None
    checkout = hashlib.sha256(str(project_dir()).encode()).hexdigest()[:8]
    file = cache_dir() / f"notebooks-{checkout}.json"
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    here = json.loads(json.dumps({name: names[name] for name in PARAMETERS}, default=str))
    write_text(json.dumps({**before, notebook: here}), file)
    number = NOTEBOOKS.index(notebook)
    earlier = NOTEBOOKS[number - 1] if number else ""
    there = before.get(earlier, here)
    differing = [
        f"{name} = {there.get(name)!r} there, {here[name]!r} here" for name in here if there.get(name) != here[name]
    ]
    if not differing:
        return None
    return Html(
        f'<p class="leak-red"><b>This notebook shows another run than {earlier} did at its last execution</b>: '
        f"{html.escape('; '.join(differing))}. If that is not what you want, copy the parameter cell of one notebook into "
        "the others, and run them again.</p>"
    )
