"""How time and memory grow with the size of a corpus: `ser bench --scale 1000 10000 100000`.

Each size is a simulated corpus of real WAV files, in a process of its own: the clip table, the audit with fingerprints,
every protocol, and the store read again. 100 speakers at every size, since `leave-one-speaker-out` has a row for each
clip and speaker.
"""

import csv
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

SPEAKERS, SENTENCES, SECONDS, SAMPLING_RATE = 100, 20, 1.0, 8000
WORDS = ("neutral", "happy", "sad", "angry", "fear")


def measure_all(sizes: Sequence[int]) -> pd.DataFrame:
    """Measure each size.

    Returns:
        one row a size and step: clips, step, seconds, gigabytes (the largest memory of the process until then).
    """
    rows = []
    for size in sorted(sizes):
        with tempfile.TemporaryDirectory(prefix="ser-scale-") as folder:
            write_corpus(Path(folder), size)
            environment = {**os.environ, "SER_CACHE_DIR": str(Path(folder, "cache"))}
            command = [sys.executable, "-m", "ser_lib.reports.large_corpora", str(Path(folder, "simulated.csv"))]
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        for row in json.loads(done.stdout.splitlines()[-1]):
            rows.append({"clips": size, **row})
            print(f"{size:9,} clips  {row['step']:12} {row['seconds']:8.1f} s  {row['gigabytes']:5.2f} GB")
    return pd.DataFrame(rows)


def write_corpus(folder: Path, n_clips: int) -> None:
    """Write a corpus of voice-like sounds, each different, and the CSV that lists them."""
    rng = np.random.default_rng(0)
    times = np.arange(round(SECONDS * SAMPLING_RATE)) / SAMPLING_RATE
    with (folder / "simulated.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "emotion", "speaker", "sentence"])
        for number in range(n_clips):
            speaker, rest = number % SPEAKERS, number // SPEAKERS
            glide = np.cumsum(rng.uniform(90, 260) * (1 + 0.2 * np.sin(rng.uniform(2, 20) * times + rng.uniform(0, 6))))
            phases = 2 * np.pi * glide / SAMPLING_RATE * np.arange(1, 6)[:, None]
            waveform = rng.uniform(0.1, 1, 5) @ np.sin(phases) + 0.2 * rng.standard_normal(len(times))
            name = f"{speaker:03}/{number:07}.wav"
            (folder / name).parent.mkdir(exist_ok=True)
            soundfile.write(folder / name, 0.3 * waveform / np.abs(waveform).max(), SAMPLING_RATE)
            table.writerow(
                [name, WORDS[rest % len(WORDS)], f"speaker-{speaker:03}", f"s{rest // len(WORDS) % SENTENCES}"]
            )


def measure(corpus: str) -> list[dict]:
    """Measure the steps on a corpus, in this process."""
    from ser_lib.corpora.clips import load_clips
    from ser_lib.protocols.leak_audit import audit
    from ser_lib.protocols.near_duplicates import near_duplicate_groups
    from ser_lib.protocols.splits import make_split

    rows: list[dict] = []

    def timed(step: str, work: Callable):
        started = time.perf_counter()
        result = work()
        # Linux counts kilobytes, macOS bytes.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
        rows.append({"step": step, "seconds": time.perf_counter() - started, "gigabytes": memory})
        return result

    def split_all() -> None:
        for protocol in ("published", "deduplicated", "speaker", "speaker-sentence", "leave-one-speaker-out"):
            make_split(clips, protocol)

    clips = timed("clip table", lambda: load_clips(corpus, progress=False))
    timed("audit", lambda: audit(make_split(clips, "speaker"), progress=False))
    timed("splits", split_all)
    timed("store again", lambda: near_duplicate_groups(clips, progress=False))
    return rows


def growth(table: pd.DataFrame) -> float:
    """The time of the largest size over that of the smallest, as a multiple of what n log n allows."""
    seconds = table.groupby("clips")["seconds"].sum()
    small, large = seconds.index.min(), seconds.index.max()
    allowed = large * math.log(large) / (small * math.log(small))
    return float(seconds[large] / seconds[small] / allowed)


def write_page(table: pd.DataFrame, path: Path) -> Path:
    """Write curve and numbers as a page."""
    # Each size is measured in a process of its own, whose memory holds nothing of this.
    from ser_lib.common.files import write_text
    from ser_lib.reports import plots
    from ser_lib.reports.rendering import render

    figure = plots.growth(table)
    return write_text(
        render(
            "bench.html.j2",
            rows=table.to_dict("records"),
            picture=figure.base64,
            picture_text=figure.alt,
            growth=growth(table),
            largest=int(table["clips"].max()),
            gigabytes=table["gigabytes"].max(),
            seconds=SECONDS,
            speakers=SPEAKERS,
            processors=os.cpu_count(),
            generated=datetime.now(UTC).strftime("%Y-%m-%d"),
        ),
        path,
    )


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
