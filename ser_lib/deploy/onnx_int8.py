"""Write an exported model with 8-bit matrices, about a third of the size, and measure how its answers change."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ser_lib.common.errors import SerError
from ser_lib.evaluation.comparison import compare
from ser_lib.inference.run import Run
from ser_lib.recipes.inputs import clips_of

logger = logging.getLogger(__name__)

DIFFERENCE = ("uar_difference", "uar_difference_low", "uar_difference_high", "interval_over")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings of exporter and quantiser, which concern their own code."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def write(folder: Path) -> None:
    """Write `model.int8.onnx` beside `model.onnx`: matrix products in 8 bits, convolutions in float32.

    Convolutions would lose more accuracy and save less.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(folder / "model.onnx")
    # The quantiser transposes matrices without correcting the shapes that the exporter noted: it infers them again.
    del model.graph.value_info[:]
    with quiet():
        quantize_dynamic(
            model,
            folder / "model.int8.onnx",
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )


def compare_scores(run: Run, fold: int, folder: Path, data_dir: str | Path | None, progress: bool) -> dict:
    """Compare int8 with float32 on the test clips of a fold.

    Returns:
        clips, uar (of int8), uar_float32, uar_difference with its interval, and same_answer (share of the clips); or
        not_measured (the reason) where not all test clips can be read.
    """
    clips = run.test_clips().query("fold == @fold")
    try:
        paths = clips_of(run.recipe, run.protocol, data_dir, progress).set_index("clip_id")["path"]
        missing = clips.loc[~clips["clip_id"].isin(paths.index), "clip_id"]
        if len(missing):
            raise SerError(f"{len(missing)} of its {len(clips)} test clips are missing, such as {missing.iloc[0]}")
        clips = clips.assign(path=clips["clip_id"].map(paths))
        int8, float32 = (_predictions(folder, in_int8, clips, progress) for in_int8 in (True, False))
    except SerError as error:
        logger.warning("int8 was not compared with float32: %s", error)
        return {"not_measured": "not all test clips could be read"}
    difference = compare(int8, float32, clips.set_index("clip_id")["speaker"])
    same_answer = int8[run.emotions].idxmax(axis=1) == float32[run.emotions].idxmax(axis=1)
    return {
        "clips": len(clips),
        "uar": difference["uar_first"],
        "uar_float32": difference["uar_second"],
        **{name: difference[name] for name in DIFFERENCE},
        "same_answer": float(same_answer.mean()),
    }


def _predictions(folder: Path, in_int8: bool, clips: pd.DataFrame, progress: bool) -> pd.DataFrame:
    """Predict clips with an exported model: clip_id, truth, and one column of probabilities an emotion."""
    from ser_lib.deploy.run_onnx import Model

    model, name = Model(folder, in_int8), "int8" if in_int8 else "float32"
    bar = tqdm(clips["path"], name, unit="clip", leave=False, disable=not progress)
    probabilities = np.stack([model.probabilities(path) for path in bar]).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predictions = pd.DataFrame(probabilities, clips.index, model.emotions)
    return pd.concat([clips[["clip_id"]], clips["emotion"].rename("truth"), predictions], axis=1)


def describe(settings: dict) -> str:
    """Describe in one or two sentences what int8 saves and what it costs; `settings` are of `preprocessor.json`."""
    int8 = settings["int8"]
    sizes = f"{int8['megabytes']} MB in place of {settings['megabytes']} MB"
    if "not_measured" in int8:
        return f"{sizes}. Its accuracy was not measured: {int8['not_measured']}."
    return (
        f"{sizes}. On the {int8['clips']} test clips of fold {settings['fold']} UAR is {int8['uar']:.3f}, and "
        f"{int8['uar_float32']:.3f} with float32: a difference of {int8['uar_difference']:+.3f} (95 % CI "
        f"{int8['uar_difference_low']:+.3f} to {int8['uar_difference_high']:+.3f}, over {int8['interval_over']}). "
        f"{int8['same_answer']:.1%} of the answers are the same. Measured on one processor: older ones without 8-bit "
        "instructions (VNNI) may lose more accuracy."
    )
