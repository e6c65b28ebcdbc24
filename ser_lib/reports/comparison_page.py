"""A comparison of finished runs as one HTML page: the text that `ser compare` prints, with pictures.

write_page([load_run(first), load_run(second)], shared=False)
"""

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

from ser_lib.common.files import write_text
from ser_lib.evaluation import metrics
from ser_lib.evaluation.run_analysis import compare_runs, describe_comparison
from ser_lib.inference.run import Run
from ser_lib.reports import plots
from ser_lib.reports.rendering import render


def page_name(runs: Sequence[Run]) -> str:
    """A file name that states the runs, so that no comparison replaces another."""
    names = [f"{run.recipe.folder_name}-{run.protocol}-{run.seed}" for run in runs]
    return f"{'-vs-'.join(names)[:180]}-comparison.html"


def write_page(runs: Sequence[Run], shared: bool = False, path: str | Path | None = None) -> Path:
    """Write the page of a comparison; None: to `page_name` in the working folder.

    Args:
        shared: as of `ser_lib.evaluation.run_analysis.compare_runs`.
    """
    text = describe_comparison(runs, shared)
    run_of = dict(zip(ascii_uppercase, runs, strict=False))
    pictures = [("Differences", plots.paired_differences(compare_runs(run_of, shared)))]
    for name, run in run_of.items():
        title = f"{name}: {run.recipe.title} ({run.recipe.variant_label}), {run.protocol}, seed {run.seed}"
        pictures.append((title, plots.confusion_matrices(metrics.confusion(run.predictions))))
    title = f"{len(runs)} runs compared"
    shown = [
        {"title": title, "image": f"data:image/png;base64,{picture.base64}", "alt": picture.alt}
        for title, picture in pictures
    ]
    return write_text(render("comparison.html.j2", title=title, text=text, pictures=shown), path or page_name(runs))
