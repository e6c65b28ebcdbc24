"""Timelines of audio files, written as CSV and pictures."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from ser_lib.audio import reading
from ser_lib.common.errors import SerError
from ser_lib.common.files import replacing, write_csv
from ser_lib.inference.predictor import Predictor
from ser_lib.inference.streaming import Stream, timeline
from ser_lib.reports import plots


def write_timelines(
    predictor: Predictor, files: Iterable[str | Path], folder: str | Path, progress: bool = True, **settings
) -> Iterator[tuple[Path, pd.DataFrame | SerError, Path | None]]:
    """Write the timeline of each file to NAME-timeline.csv and NAME-timeline.png in a folder.

    Args:
        files: audio files, or folders of which every audio file is taken.
        settings: of `timeline`.

    Yields:
        the file, its timeline or its error, and the path of the CSV (None after an error).

    Raises:
        SerError: there is no file, or a setting is out of range.
    """
    # Raises the error of a wrong setting once, not for every file.
    Stream(predictor, **settings)
    paths = [file for path in files for file in reading.expand(path)]
    if not paths:
        raise SerError(f"there is nothing to predict: expected audio files ({' '.join(reading.SUFFIXES)}).")
    names: set[str] = set()
    for path in paths:
        # Files of other folders or formats may have the same name.
        name, number = path.stem, 1
        while name.lower() in names:
            number += 1
            name = f"{path.stem}-{number}"
        names.add(name.lower())
        try:
            table = timeline(predictor, path, progress=progress, **settings)
        except SerError as error:
            yield path, error, None
            continue
        csv = Path(folder) / f"{name}-timeline.csv"
        with replacing(csv.with_suffix(".png")) as part:
            part.write_bytes(plots.timeline(table).png())
        yield path, table, write_csv(table, csv, "%.4f")
