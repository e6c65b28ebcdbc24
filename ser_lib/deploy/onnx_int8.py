"""The same ONNX model with 8-bit integers for its matrices: a third of the size, and what that costs, measured."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ser_lib.common.errors import SerError
from ser_lib.evaluation.comparison import compare
from ser_lib.inference.run import Run
from ser_lib.recipes.inputs import clips_of

logger = logging.getLogger(__name__)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporter and quantiser say about their own code, which a user cannot act upon."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def write(folder: Path) -> None:
    """Write the matrices that multiply as 8-bit integers; convolutions, which lose more and gain less, stay."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(folder / "model.onnx")
    # The exporter's notes of inner shapes are not brought up to date where it turns a matrix; they are found anew.
    del model.graph.value_info[:]
    with quiet():
        quantize_dynamic(
            model,
            folder / "model.int8.onnx",
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )


def loss(run: Run, fold: int, folder: Path, data_dir, progress: bool) -> dict:
    """UAR of both models on the fold's test clips; where these cannot be had, why there is none."""
    from ser_lib.deploy.run_onnx import Model

    tested = run.test_clips()
    tested = tested[tested["fold"] == fold]
    try:
        paths = clips_of(run.recipe, run.protocol, data_dir, progress).set_index("clip_id")["path"]
        missing = tested.loc[~tested["clip_id"].isin(paths.index), "clip_id"]
        if len(missing):
            raise SerError(f"{len(missing)} of its {len(tested)} test clips are missing, such as {missing.iloc[0]}")
    except SerError as error:
        logger.warning("what int8 loses was not measured: %s", error)
        return {"not_measured": "the corpora with the test clips were not at hand"}
    truth = tested[["clip_id"]].assign(truth=tested["emotion"].to_numpy())
    tables = []
    bar = tqdm(total=2 * len(tested), desc="int8", unit="clip", leave=False, disable=not progress)
    try:
        with bar:
            for small in (False, True):
                model, answers = Model(folder, small), []
                for clip in tested["clip_id"]:
                    answers.append(model.hear(paths[clip]))
                    bar.update()
                answers = np.stack(answers).astype(np.float64)
                answers /= answers.sum(axis=1, keepdims=True)
                tables.append(truth.assign(**dict(zip(run.emotions, answers.T, strict=True))))
    except ValueError as error:
        logger.warning("what int8 loses was not measured: %s: %s", clip, error)
        return {"not_measured": "of the test clips one is silent, or longer than the model hears"}
    difference = compare(*reversed(tables), tested.set_index("clip_id")["speaker"])
    same = [table[run.emotions].to_numpy().argmax(axis=1) for table in tables]
    return {
        "clips": len(tested),
        "uar": difference["uar_first"],
        "uar_float32": difference["uar_second"],
        "uar_difference": difference["uar_difference"],
        "uar_difference_low": difference["uar_difference_low"],
        "uar_difference_high": difference["uar_difference_high"],
        "interval_over": difference["interval_over"],
        "same_answer": float((same[0] == same[1]).mean()),
    }


def describe(settings: dict) -> str:
    """What int8 saves and what it costs, in a sentence or two."""
    found = settings["int8"]
    sizes = f"{found['megabytes']} MB in place of {settings['megabytes']} MB"
    if "not_measured" in found:
        return f"{sizes}. What it loses was not measured: {found['not_measured']}."
    return (
        f"{sizes}. On the {found['clips']} test clips of fold {settings['fold']} its UAR is {found['uar']:.3f} where that "
        f"of float32 is {found['uar_float32']:.3f}: a difference of {found['uar_difference']:+.3f} (95 % CI "
        f"{found['uar_difference_low']:+.3f} to {found['uar_difference_high']:+.3f}, over {found['interval_over']}). "
        f"{found['same_answer']:.1%} of the answers are the same. Measured on one processor: older ones without 8-bit "
        "instructions (VNNI) may lose more."
    )
