"""Measure how far scores move from processor to processor, and write reports/processors.csv.

    python scripts/processors.py [--encoder FOLDER] [--data-dir DIR]

Libraries choose among instruction sets when they start. Each recipe is trained once with those of this processor and once
with those of older ones, which the libraries are told to use; then again on the features of this processor, which shows
what training adds. The committed predictions, measured on yet another processor, are compared as well.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))
RECIPES = [("tess-mfcc-cnn", "speaker"), ("ravdess-mfcc-careful", "speaker"), ("ravdess-whisper-logistic", "speaker")]
# What numpy, OpenBLAS, PyTorch, its MKL and oneDNN, and numba (librosa) are told.
OLDER = {
    "AVX2": {
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "NUMBA_CPU_NAME": "haswell",
    },
    "SSE4.2": {
        "OPENBLAS_CORETYPE": "Nehalem",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "NUMBA_CPU_NAME": "nehalem",
    },
}
# numpy's names of what AVX2 and newer bring.
NEWER = {"AVX2": ("X86_V4", "AVX512"), "SSE4.2": ("X86_V3", "X86_V4", "AVX", "FMA")}


def environment(processor: str) -> dict[str, str]:
    """The variables that make the libraries work as on an older processor; none for this one."""
    if processor not in OLDER:
        return {}
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    disabled = [name for name in extensions.get("found", []) if name.startswith(NEWER[processor])]
    return OLDER[processor] | ({"NPY_DISABLE_CPU_FEATURES": " ".join(disabled)} if disabled else {})


def train(recipe: str, protocol: str, place: Path, processor: str, options: argparse.Namespace) -> Path:
    """Train in a process of its own, and return the folder with `run.json`, `features.npy` and the run."""
    command = [sys.executable, __file__, "--work", recipe, protocol, str(place)]
    for name in ("encoder", "data_dir"):
        if getattr(options, name):
            command += [f"--{name.replace('_', '-')}", getattr(options, name)]
    settings = os.environ | environment(processor) | {"SER_CACHE_DIR": str(place / "cache")}
    subprocess.run(command, env=settings, check=True)
    return place


def train_here(recipe_name: str, protocol: str, place: Path, options: argparse.Namespace) -> None:
    """Train, and write what was read."""
    import ser_lib
    from ser_lib.recipes.inputs import clips_of

    recipe = ser_lib.load_recipe(recipe_name)
    if recipe.reads_encoder and options.encoder:
        recipe = ser_lib.load_recipe(recipe_name, overrides=[f"input.encoder={options.encoder}"])
    run = ser_lib.train(recipe, protocol, data_dir=options.data_dir, runs_dir=place / "runs", progress=False)
    assert run is not None
    clips = clips_of(recipe, protocol, options.data_dir, progress=False)
    np.save(place / "features.npy", recipe.create_model().inputs(clips, progress=False))
    (place / "run.json").write_text(json.dumps(str(run.folder)))


def measure(recipe: str, protocol: str, place: Path, options: argparse.Namespace) -> list[dict]:
    """The rows of one recipe: this processor, older ones, and the committed predictions."""
    import ser_lib
    from ser_lib.evaluation import metrics, stored_predictions

    def predictions(folder: Path) -> pd.DataFrame:
        run = ser_lib.load_run(json.loads((folder / "run.json").read_text()))
        return run.predictions.set_index("clip_id").sort_index()

    def scores(table: pd.DataFrame) -> dict:
        emotions = [name for name in table.columns if name != "truth"]
        changed = (table[emotions].idxmax(axis=1) != reference[emotions].idxmax(axis=1)).mean()
        return {"uar": metrics.uar(table.reset_index()), "changed": changed}

    # A processor that has nothing newer than AVX2 is one already.
    capability = torch.backends.cpu.get_cpu_capability()
    older = [name for name in OLDER if name != capability]
    first = train(recipe, protocol, place / "this", "this", options)
    reference, features = predictions(first), np.load(first / "features.npy")
    about = {"recipe": recipe, "protocol": protocol}
    rows = [about | {"processor": capability, "features": 0.0} | scores(reference)]
    for processor in older:
        folder = train(recipe, protocol, place / processor, processor, options)
        spread = np.nanstd(features, axis=0) + 1e-9
        off = np.nanmax(np.abs(np.load(folder / "features.npy") - features) / spread)
        rows.append(about | {"processor": processor, "features": off} | scores(predictions(folder)))
        shutil.copytree(first / "cache", place / "same" / "cache")
        again = train(recipe, protocol, place / "same", processor, options)
        rows.append(about | {"processor": f"{processor}, same features", "features": 0.0} | scores(predictions(again)))
        shutil.rmtree(place / "same")
    for stored in stored_predictions.read_all(stored_predictions.predictions_dir()):
        facts = stored.facts
        if (facts.recipe, facts.protocol, facts.variant) == (recipe, protocol, "stated"):
            seed = stored.part(stored.table["seed"] == 0)
            table = seed.predictions.set_index("clip_id").sort_index()
            rows.append(about | {"processor": "that of the committed row", "features": np.nan} | scores(table))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoder", help="in place of openai/whisper-base")
    parser.add_argument("--data-dir", help="the folder of the corpora")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        recipe, protocol, place = options.work
        return train_here(recipe, protocol, Path(place), options)
    from ser_lib.common.files import write_csv

    rows = []
    for recipe, protocol in RECIPES:
        with tempfile.TemporaryDirectory() as name:
            rows += measure(recipe, protocol, Path(name), options)
        print(pd.DataFrame(rows).to_string())
        write_csv(pd.DataFrame(rows), PROJECT / "reports" / "processors.csv", "%.4g")


if __name__ == "__main__":
    main()
