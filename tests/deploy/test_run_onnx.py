"""The script of an export answers as the run does, without PyTorch and without this package installed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from tiny import tiny_checkpoint
from tiny_runs import SMALL, sound, train

from ser_lib.cli import main
from ser_lib.deploy import to_onnx

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed (pip install -e '.[export]')")

# Python imports a module of this name first: it hides what the README of an export does not tell to install.
SITECUSTOMIZE = """
import sys
from importlib.machinery import PathFinder

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "ser_lib":
            return PathFinder.find_spec(name, sys.path[:1])
        if name in ("torch", "transformers"):
            raise AssertionError(f"{name} was imported")
        if name in ("pandas", "tqdm", "yaml", "pydantic", "filelock"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Hidden())
"""


def run_script(export, *arguments):
    """Run the script of an export: its exit status, its answers, and what it wrote to stderr."""
    hidden = export.parent / "hidden"
    hidden.mkdir(exist_ok=True)
    (hidden / "sitecustomize.py").write_text(SITECUSTOMIZE)
    script = [sys.executable, str(export / "run_onnx.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(hidden)}
    done = subprocess.run(script, cwd=export.parent, env=environment, capture_output=True, text=True)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize(
    ("recipe", "encoder", "overrides"),
    [
        (
            "demo",
            None,
            [
                "input.pooling=sequence",
                "input.deltas=true",
                "input.chroma=true",
                "input.audio.trim_below_db=30",
                "input.audio.sampling_rate=22050",
                "input.audio.max_seconds=3",
                "input.audio.pad=true",
                "model.name=gru",
            ],
        ),
        (
            "ravdess-wav2vec2-frozen-mlp",
            "whisper",
            ["input.layers=[0,2]", "input.pooling=mean+std", "input.audio.normalise=peak", "input.precision=float32"],
        ),
        (
            "tess-wav2vec2-finetune",
            "wav2vec2",
            [
                "training.precision=float32",
                "training.batch_size=8",
                "input.audio.offset_seconds=0.1",
                "input.audio.max_seconds=0.5",
                "input.audio.crop=centre",
                "input.audio.normalise=rms",
            ],
        ),
    ],
)
def test_the_script_answers_files_as_the_run_does(tmp_path, monkeypatch, recipe, encoder, overrides):
    if encoder:
        folder = tiny_checkpoint(tmp_path / encoder, encoder, **({} if encoder == "whisper" else SMALL))
        overrides = [*overrides, f"input.encoder={folder}"]
    run, _ = train(tmp_path, monkeypatch, recipe, *overrides)
    export = tmp_path / "out"
    assert main(["export", str(run.folder), "--to", "onnx", "--output", str(export)]) == 0
    for path in export.rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path
    long, stereo, silent, short, truncated, muted = files = [tmp_path / f"{number}.wav" for number in range(6)]
    soundfile.write(long, sound(2.4), 16000)
    soundfile.write(stereo, np.stack([sound(0.7, 1), sound(0.7, 2)], axis=1), 44100)
    soundfile.write(silent, np.zeros(8000), 16000)
    soundfile.write(short, sound(0.01), 16000)
    truncated.write_bytes(long.read_bytes()[:-1000])
    soundfile.write(muted, np.random.default_rng(0).integers(-1, 2, 8000).astype(np.int16), 16000)
    status, answers, errors = run_script(export, *files)
    expected = run.predict(files)
    assert status == 1 and errors.splitlines() == expected["error"].tolist()[2:]
    assert [answer["path"] for answer in answers] == [str(long), str(stereo)]
    assert [answer["emotion"] for answer in answers] == expected["emotion"].tolist()[:2]
    probabilities = [list(answer["probabilities"].values()) for answer in answers]
    np.testing.assert_allclose(probabilities, expected[run.emotions][:2], atol=1e-3)
    for column in ("seconds", "heard"):
        np.testing.assert_allclose([answer[column] for answer in answers], expected[column][:2], atol=1e-5)


def test_the_script_reads_the_smaller_model(tmp_path, monkeypatch):
    run, clips = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp")
    export, clip = to_onnx(run, tmp_path / "out", int8=True), clips["path"][0]
    (export / "model.onnx").unlink()
    status, answers, _ = run_script(export, "--int8", clip)
    assert status == 0 and list(answers[0]["probabilities"]) == run.emotions


def test_the_script_refuses_what_is_unlike_speech_and_says_which_answers_are_certain(tmp_path, monkeypatch):
    run, clips = train(tmp_path, monkeypatch, "demo", "input.pooling=mean+std", "model.name=corpus-experts")
    export = to_onnx(run, tmp_path / "out")
    quiet, long = tmp_path / "hum.wav", tmp_path / "long.wav"
    soundfile.write(quiet, 0.1 * np.sin(np.arange(16000) / 3), 16000)
    soundfile.write(long, np.concatenate([sound(2.0), sound(1.5, 1)]), 16000)
    files = [quiet, long, *clips["path"][:3]]
    expected = run.predict(files)
    status, answers, errors = run_script(export, *files)
    assert errors.splitlines() == expected.loc[expected["error"] != "", "error"].tolist()
    answered = expected[expected["error"] == ""]
    assert [answer["certain"] for answer in answers] == answered["certain"].tolist()
    assert status == int(len(answered) < len(files)) and len(answered)
