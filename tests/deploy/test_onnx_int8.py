"""An export with 8-bit matrices states how its scores differ from those of float32."""

import json

import pytest
from tiny_runs import train

from ser_lib.common.errors import SerError
from ser_lib.deploy import to_onnx
from ser_lib.recipes import inputs as inputs_module

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed (pip install -e '.[export]')")


def test_int8_is_compared_with_float32_on_the_test_clips_of_the_fold(tmp_path, monkeypatch):
    run, _ = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp")
    folder = to_onnx(run, tmp_path / "out", int8=True, fold=1)
    int8 = json.loads((folder / "preprocessor.json").read_text())["int8"]
    predictions = run.predictions[(run.test_clips()["fold"] == 1).to_numpy()]
    is_right = predictions[run.emotions].idxmax(axis=1) == predictions["truth"]
    assert int8["clips"] == len(predictions)
    assert int8["uar_float32"] == pytest.approx(is_right.groupby(predictions["truth"]).mean().mean())
    assert int8["uar"] - int8["uar_float32"] == pytest.approx(int8["uar_difference"])
    # The fold tests two speakers.
    assert int8["interval_over"] == "none" and int8["uar_difference_low"] is None
    assert int8["megabytes"] > 0 and 0 <= int8["same_answer"] <= 1
    assert f"UAR is {int8['uar']:.3f}, and {int8['uar_float32']:.3f} with float32" in (folder / "README.md").read_text()
    assert "without an interval, as too few speakers are tested" in (folder / "README.md").read_text()


def test_without_the_test_clips_int8_is_not_compared(tmp_path, monkeypatch, caplog):
    run, _ = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp")

    def nowhere(*_, **__):
        raise SerError("not found in /home/me")

    monkeypatch.setattr(inputs_module, "load_clips", nowhere)
    folder = to_onnx(run, tmp_path / "out", int8=True)
    int8 = json.loads((folder / "preprocessor.json").read_text())["int8"]
    assert int8["not_measured"] == "not all test clips could be read" and "not found in /home/me" in caplog.text
    assert "accuracy was not measured: not all test clips" in (folder / "README.md").read_text()
