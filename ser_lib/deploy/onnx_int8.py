"""Write an exported model with 8-bit matrices, about a third of the size, and measure how its answers change."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ser_lib.common.errors import SerError
from ser_lib.evaluation.comparison import compare
from ser_lib.evaluation.metrics import predictions_table
from ser_lib.inference.run import Run
from ser_lib.recipes.inputs import clips_of

logger = logging.getLogger(__name__)

# Weights that are not worth a node of their own.
SMALL = 4096


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings of exporter and quantiser, which concern their own code."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)


def write(folder: Path) -> None:
    """Write `model.int8.onnx` with matrix products in 8 bits; convolutions would lose more accuracy and save less.

    What half precision holds exactly, such as the weights of an encoder that was trained in it, is stored so.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(folder / "model.onnx")
    # The quantiser transposes matrices without correcting the shapes that the exporter noted: it infers them again.
    del model.graph.value_info[:]
    settings: dict[str, Any] = {"op_types_to_quantize": ["MatMul", "Gemm"], "per_channel": True}
    # The transforms before the model are exact: rounded, they would no longer be a Fourier transform. What follows an
    # encoder is small beside it.
    has_encoder = any(weight.name.startswith("encoder.") for weight in model.graph.initializer)
    exact = ("front.", "network.") if has_encoder else ("front.",)
    kept = [node.name for node in model.graph.node if any(name.startswith(exact) for name in node.input)]
    # Weights of 7 bits: with 8, sums overflow on processors without VNNI, and probabilities of the packaged model moved by up
    # to 0.24; with 7, by 0.003.
    settings |= {"weight_type": QuantType.QInt8, "reduce_range": True, "nodes_to_exclude": kept}
    with quiet():
        quantize_dynamic(model, folder / "model.int8.onnx", **settings)
    model = onnx.load(folder / "model.int8.onnx")
    halve(model)
    onnx.save(model, folder / "model.int8.onnx")


def halve(model) -> None:
    """Store those large float32 weights in float16, in place, that float16 holds exactly."""
    from onnx import TensorProto, helper, numpy_helper

    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < SMALL or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        halves = values.astype(np.float16)
        if np.array_equal(halves, values):
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(halves, f"{name}.half"))
            model.graph.node.insert(0, helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))


def compare_scores(run: Run, fold: int, folder: Path, data_dir: str | Path | None) -> dict:
    """Compare int8 with float32 on the test clips of a fold.

    Returns:
        clips, uar (of int8), uar_float32, uar_difference with its interval, and same_answer (share of the clips); or
        not_measured (the reason) where not all test clips can be read.
    """
    from ser_lib.deploy.run_onnx import Model

    clips, tables = run.test_clips().query("fold == @fold"), {}
    try:
        paths = clips_of(run.recipe, run.protocol, data_dir).set_index("clip_id")["path"]
        missing = clips.loc[~clips["clip_id"].isin(paths.index), "clip_id"]
        if len(missing):
            raise SerError(f"{len(missing)} of its {len(clips)} test clips are missing, such as {missing.iloc[0]}")
        for name in ("int8", "float32"):
            model = Model(folder, name == "int8")
            bar = tqdm(clips["clip_id"].map(paths), name, unit="clip", leave=False)
            probabilities = np.stack([model.probabilities(path) for path in bar]).astype(np.float64)
            probabilities /= probabilities.sum(axis=1, keepdims=True)
            tables[name] = predictions_table(clips, probabilities, model.emotions)
    except SerError as error:
        logger.warning("int8 was not compared with float32: %s", error)
        return {"not_measured": "not all test clips could be read"}
    about = clips.set_index("clip_id")
    difference = compare(tables["int8"], tables["float32"], about["speaker"], about["corpus"])
    answers = {name: table[run.emotions].idxmax(axis=1) for name, table in tables.items()}
    scores = {
        "fold": fold,
        "clips": len(clips),
        "uar": difference["uar_first"],
        "uar_float32": difference["uar_second"],
    }
    for name in ("uar_difference", "uar_difference_low", "uar_difference_high", "interval_over"):
        # JSON knows no NaN.
        scores[name] = None if difference[name] != difference[name] else difference[name]
    return scores | {"same_answer": float((answers["int8"] == answers["float32"]).mean())}


def describe(settings: dict) -> str:
    """Describe in one or two sentences what int8 saves and what it costs; `settings` are of `preprocessor.json`."""
    int8 = settings["int8"]
    sizes = f"{int8['megabytes']} MB in place of {settings['megabytes']} MB"
    if "not_measured" in int8:
        return f"{sizes}. Its accuracy was not measured: {int8['not_measured']}."
    low, high = int8["uar_difference_low"], int8["uar_difference_high"]
    interval = "without an interval, as too few speakers are tested"
    if low is not None:
        interval = f"95 % CI {low:+.3f} to {high:+.3f}, over {int8['interval_over']}"
    return (
        f"{sizes}. On the {int8['clips']} test clips of fold {int8['fold']} UAR is {int8['uar']:.3f}, and "
        f"{int8['uar_float32']:.3f} with float32: a difference of {int8['uar_difference']:+.3f} "
        f"({interval}). "
        f"{int8['same_answer']:.1%} of the answers are the same."
    )
