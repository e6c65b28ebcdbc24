"""Timelines of files as CSV and pictures."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from ser_lib.audio import reading
from ser_lib.common.errors import SerError
from ser_lib.common.files import replacing
from ser_lib.inference.predictor import Predictor
from ser_lib.inference.streaming import Stream, timeline
from ser_lib.reports import plots


def write_timelines(
    predictor: Predictor, files: Iterable[str | Path], folder: str | Path, progress: bool = True, **settings
) -> Iterator[tuple[Path, pd.DataFrame | SerError, Path | None]]:
    """A timeline of every file, each as NAME-timeline.csv and NAME-timeline.png in a folder.

    Args:
        files: audio files, or folders of which every audio file is taken.
        settings: of `timeline`.

    Yields:
        the file, its timeline or the error that there was, and the CSV (None after an error).
    """
    Stream(predictor, **settings)  # settings that cannot be are told once, not of every file
    paths = [file for path in files for file in reading.expand(path)]
    if not paths:
        raise SerError(f"there is nothing to hear: expected audio files ({' '.join(reading.SUFFIXES)}).")
    taken: set[str] = set()
    for path in paths:
        stem, number = path.stem, 1
        while stem.lower() in taken:  # another folder's file of that name, or another format's
            number += 1
            stem = f"{path.stem}-{number}"
        taken.add(stem.lower())
        try:
            table = timeline(predictor, path, progress=progress, **settings)
        except SerError as error:
            yield path, error, None
            continue
        csv = Path(folder) / f"{stem}-timeline.csv"
        with replacing(csv.with_suffix(".png")) as part:
            part.write_bytes(plots.timeline(table).png())
        with replacing(csv) as part:
            table.to_csv(part, index=False, float_format="%.4f")
        yield path, table, csv
