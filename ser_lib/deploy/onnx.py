"""A run's model as an ONNX file, checked against PyTorch, with a script that runs it without PyTorch.

    to_onnx(load_run("runs/demo/speaker/0"), "demo-onnx")

demo-onnx/
    model.onnx         one batch of waveforms in, probabilities out: `ser_lib.models.onnx_graphs`
    model.int8.onnx    with `int8=True`, its matrices as 8-bit integers
    preprocessor.json  how audio is prepared, the emotions, the protocol and its scores, and what int8 lost
    run_onnx.py        audio files in, lines of JSON out, as `ser predict --json` gives them
    ser_lib/           the modules that `run_onnx.py` imports
    README.md
"""

import json
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from ser_lib.audio.reading import Recording
from ser_lib.common.errors import SerError
from ser_lib.common.files import whole_folder
from ser_lib.deploy import onnx_int8
from ser_lib.deploy.onnx_int8 import quiet
from ser_lib.inference.model_card import model_card, shareable
from ser_lib.inference.predictor import Predictor
from ser_lib.inference.run import Run
from ser_lib.models.base import OnnxGraph

NAMES = ("model.onnx", "model.onnx.data", "model.int8.onnx", "preprocessor.json", "run_onnx.py", "ser_lib", "README.md")
SCRIPT_MODULES = (
    "common/__init__",
    "common/errors",
    "audio/__init__",
    *(f"audio/{name}" for name in ("decoding", "reading", "vad", "windows")),
)
OPSET = 23  # the newest that the exporter writes; in onnxruntime since 1.23
TOLERANCE = 1e-3  # of a probability
CHECKED_SECONDS = (0.03, 0.5, 1.7, 3.1, 12.3)
PROTOBUF_BYTES = 2**31 - 2**24  # what is larger cannot be one file


def to_onnx(
    run: Run, folder: str | Path, int8: bool = False, fold: int | None = None, data_dir: str | Path | None = None
) -> Path:
    """Write the model that answers, or that of one fold, as ONNX, with a script that needs no PyTorch, and return the folder.

    Args:
        int8: also write a smaller model, and measure on the test clips of the fold, or of fold 0, what that costs.
        data_dir: as of `ser_lib.load_clips`, for the test clips.

    Raises:
        SerError: a package is missing; the run has no such fold, or no model of its own (`speaker-adapted`); what
            was exported answers otherwise than PyTorch; or the folder holds something else already.
    """
    try:
        for package in ("onnx", "onnxruntime", "onnxscript"):
            import_module(package)
    except ImportError as error:
        raise SerError(
            f"an export to ONNX needs {error.name}, which is not installed: "
            "`pip install onnx onnxscript onnxruntime`, or this package with its extra, `pip install -e '.[export]'`."
        ) from error
    # The export must agree with PyTorch in float32.
    exact_input = run.recipe.input.model_copy(update={"precision": "float32"})
    exact = replace(run, recipe=run.recipe.model_copy(update={"input": exact_input}))
    reference = exact.predictor(fold, device="cpu")
    with whole_folder(Path(folder), NAMES) as part:
        graph = run.model(fold).onnx_graph()
        _export(graph, part / "model.onnx")
        shutil.copy(Path(__file__).with_name("run_onnx.py"), part)
        (part / "ser_lib").mkdir()
        (part / "ser_lib" / "__init__.py").touch()
        for name in SCRIPT_MODULES:
            copy = part / "ser_lib" / f"{name}.py"
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(Path(__file__).parents[1] / f"{name}.py", copy)
        audio = run.recipe.input.audio
        settings = {"input": "waveform", "emotions": run.emotions, "sampling_rate": audio.sampling_rate}
        settings |= {"audio": audio.model_dump(), "n_profile": graph.n_profile, "certain_from": reference.certain_from}
        settings |= {"recipe": run.recipe.folder_name, "protocol": run.protocol, "seed": run.seed, "fold": fold}
        settings["scores"] = run.metrics["overall"]
        _write_settings(settings, part)
        settings["largest_difference"] = _check(reference, part)
        settings["megabytes"] = _megabytes(part, "model.onnx")
        if int8:
            onnx_int8.write(part)
            size = {"megabytes": _megabytes(part, "model.int8.onnx")}
            settings["int8"] = size | _int8_scores(run, fold, part, data_dir)
        _write_settings(settings, part)
        (part / "README.md").write_text(_readme(shareable(run), settings), encoding="utf-8")
    return Path(folder)


def _int8_scores(run: Run, fold: int | None, folder: Path, data_dir: str | Path | None) -> dict:
    """What int8 costs on test clips: of a model that has learned from all clips, by the model of fold 0 in its place."""
    if fold is not None or not run.answers_for_all:
        return onnx_int8.compare_scores(run, fold or 0, folder, data_dir)
    with TemporaryDirectory() as other:
        to_onnx(run, Path(other) / "fold-0", int8=True, fold=0, data_dir=data_dir)
        scores = json.loads((Path(other) / "fold-0" / "preprocessor.json").read_text(encoding="utf-8"))["int8"]
    return {name: value for name, value in scores.items() if name != "megabytes"}


def _export(graph: OnnxGraph, path: Path) -> None:
    """Write a graph whose batch and time axes may have any size."""
    examples, n_dynamic, inputs, outputs = [graph.example], [2], ["waveform"], ["probabilities"]
    if graph.n_profile:
        n_clips = len(graph.example)
        examples += [torch.zeros(n_clips, graph.n_profile), torch.ones(n_clips, 1)]
        n_dynamic, inputs, outputs = [2, 1, 1], [*inputs, "mean", "count"], [*outputs, "features", "is_speech"]
    shapes = tuple(dict.fromkeys(range(n), torch.export.Dim.DYNAMIC) for n in n_dynamic)
    settings = {"dynamic_shapes": shapes, "opset_version": OPSET, "dynamo": True, "verbose": False}
    with quiet():
        names = {"input_names": inputs, "output_names": outputs}
        program = torch.onnx.export(graph.module.eval(), tuple(examples), **names, **settings)
    size = sum(weight.nbytes for weight in graph.module.state_dict().values())
    assert program is not None
    program.save(path, external_data=size > PROTOBUF_BYTES)


def _write_settings(settings: dict, folder: Path) -> None:
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    (folder / "preprocessor.json").write_text(f"{text}\n", encoding="utf-8")


def _megabytes(folder: Path, name: str) -> float:
    return round(sum(path.stat().st_size for path in folder.glob(f"{name}*")) / 1e6, 2)


def _check(reference: Predictor, folder: Path) -> float:
    """Return the largest difference of a probability from PyTorch's, over sounds of several lengths, or refuse it."""
    from ser_lib.deploy.run_onnx import Model

    model, differences = Model(folder), []
    for seconds in CHECKED_SECONDS:
        recording = Recording(_sound(seconds, reference.sampling_rate), reference.sampling_rate)
        expected = reference.probabilities([recording])[0]
        differences.append(float(np.abs(model.probabilities(recording) - expected).max()))
    worst = int(np.argmax(differences))  # or that of a NaN
    if not differences[worst] <= TOLERANCE:
        raise SerError(
            f"the exported model answers otherwise than PyTorch: a probability for {CHECKED_SECONDS[worst]} s of sound "
            f"is off by {differences[worst]:.4f}, and {TOLERANCE} is allowed. Nothing was written; please report it, "
            "with the versions of torch, onnxscript and onnxruntime."
        )
    return differences[worst]


def _sound(seconds: float, sampling_rate: int) -> np.ndarray:
    """Something like a voice: harmonics of a pitch that falls, in syllables, and a little noise."""
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    pitch = 2 * np.pi * (180 * time - 10 * np.sin(3 * time))
    voice = sum(np.sin(number * pitch) / number for number in range(1, 12))
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.1 * voice * (1 + np.sin(20 * time)) + 0.01 * noise).astype(np.float32)


def _readme(run: Run, settings: dict) -> str:
    """The run's model card, and how its ONNX files are used."""
    int8_option, further_lines = "", ""
    of_fold = "the run's model" if settings["fold"] is None else f"the model of fold {settings['fold']}"
    if "int8" in settings:
        int8_option, further_lines = "--int8 ", f"- **int8** `model.int8.onnx`: {onnx_int8.describe(settings)}\n"
    if "precision" in run.recipe.create_model().used_settings()["input"] and run.recipe.input.precision == "auto":
        further_lines += "- `ser predict` computes in bfloat16 where the processor has it, and may then differ by "
        further_lines += "some thousandths\n"
    if settings["n_profile"]:
        further_lines += (
            f"- **Speaker** `mean`, {settings['n_profile']} numbers a clip, and `count`, one a clip, are the mean of the output "
            "`features` over a few clips of the speaker, and how many clips these are; `run_onnx.py` gives zeros, which "
            "stand for a stranger. The output `is_speech` is false for noise or music\n"
        )
    return f"""{model_card(run)}
## As ONNX

```bash
pip install numpy soundfile soxr onnxruntime
python run_onnx.py {int8_option}my-voice.wav
```

- **float32** `model.onnx`: {settings["megabytes"]} MB, {of_fold}, opset {OPSET}; at \
most {settings["largest_difference"]:.0e} away from PyTorch's probabilities
{further_lines}- **Input** `waveform`, **output** `probabilities` of {", ".join(settings["emotions"])}; \
batch and time may have any size

Audio must be prepared as `preprocessor.json` says and `run_onnx.py` does it: recordings that are longer than the \
training clips are divided into windows.
"""
