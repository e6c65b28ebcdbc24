"""How fast the chain is on this machine, measured on the bundled corpus: `ser bench`.

Numbers here are printed, never tested: they depend on the machine and on what else it does.
"""

import os
import tempfile
import time
from collections.abc import Callable

from ser_lib import experiments, training
from ser_lib.clips import load_clips
from ser_lib.labels import EMOTIONS
from ser_lib.recipes import load_recipe


def run_benchmarks() -> None:
    """Print the clip table, the features, the store and one epoch of every network, each with its rate."""
    recipe = load_recipe("demo")
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("SER_CACHE_DIR")
        os.environ["SER_CACHE_DIR"] = folder  # nothing is stored yet
        try:
            clips, seconds = timed(lambda: load_clips("sample", progress=False))
            show("clip table, decoding every file", len(clips), seconds, "clips")
            show(
                "clip table again",
                len(clips),
                timed(lambda: load_clips("sample", progress=False))[1],
                "clips",
            )
            inputs, seconds = timed(lambda: experiments.inputs_of(recipe, clips, "speaker", progress=False))
            show("MFCC, over all cores, processes started", len(clips), seconds, "clips")
            again = timed(lambda: experiments.inputs_of(recipe, clips, "speaker", progress=False))[1]
            show("MFCC from the store", len(clips), again, "clips")
        finally:
            os.environ.pop("SER_CACHE_DIR")
            if before is not None:
                os.environ["SER_CACHE_DIR"] = before

    labels = clips["emotion"].map(EMOTIONS.index).to_numpy()
    rows = clips.index.to_numpy()
    settings = recipe.training.model_dump() | {"epochs": 3, "progress": False}
    for name in ("cnn", "lstm", "bilstm", "gru"):
        changed = load_recipe("demo", overrides=[f"model.name={name}"])
        with training.seeded(0):
            network = experiments.build_model(changed, list(EMOTIONS), inputs)
            training.fit(network, inputs, labels, rows, rows[:0], **settings | {"epochs": 1})  # warm-up
            seconds = timed(lambda: training.fit(network, inputs, labels, rows, rows[:0], **settings))[1]  # noqa: B023
        show(f"one epoch of {name}, {inputs.shape[1]} frames", len(clips), seconds / 3, "clips")


def timed(work: Callable) -> tuple[object, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def show(what: str, count: int, seconds: float, unit: str) -> None:
    print(f"{what:42} {seconds:8.2f} s {count / seconds:10,.0f} {unit}/s", flush=True)
