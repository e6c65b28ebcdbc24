"""The folder of the packaged model is made from a run of its recipe alone, whole, and says what it was made of."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import tone_clips
from tiny import tiny_checkpoint

from ser_lib.common.errors import SerError
from ser_lib.deploy import package_model
from ser_lib.deploy.package_model import make_model, write_card
from ser_lib.inference.enrolment import enrol
from ser_lib.inference.packaged import FILES, PackagedPredictor
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.training import experiment

for package in ("onnx", "onnxscript"):
    pytest.importorskip(package, reason=f"{package} is not installed (pip install -e '.[export]')")


@pytest.fixture
def run(tmp_path, monkeypatch):
    clips = tone_clips(tmp_path / "tones", speakers=4, takes=2, seconds=0.6)
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: clips.copy())
    encoder = tiny_checkpoint(tmp_path / "whisper", "whisper")
    overrides = [f"input.encoder={encoder}", "corpora=[sample]", "emotions=[neutral,happy,sad]", "split.folds=2"]
    recipe = load_recipe(package_model.RECIPE, overrides=[*overrides, "input.layers=[1]", "training.device=cpu"])
    return experiment.train(recipe, runs_dir=tmp_path / "runs", progress=False)


def test_a_run_becomes_a_folder_that_answers_as_it_does(run, tmp_path, monkeypatch):
    with pytest.raises(SerError, match="has other settings than the recipe speech-emotion: `ser train speech-emotion`"):
        make_model(run, tmp_path / "packaged")
    assert not (tmp_path / "packaged").exists()

    public = load_recipe(package_model.RECIPE).input
    settings = run.recipe.input.model_copy(update={"encoder": public.encoder, "revision": public.revision})
    stated = run.recipe.model_copy(update={"input": settings, "overrides": ()})
    monkeypatch.setattr(package_model, "load_recipe", lambda *_: stated)
    folder = make_model(run, tmp_path / "packaged", reports_dir=tmp_path)
    assert {path.name for path in folder.iterdir()} == set(FILES)
    for path in folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path
    predictor, paths = PackagedPredictor(folder), inputs_module.load_clips()["path"].tolist()
    assert predictor.emotions == run.emotions and predictor.certain_from == run.certain_from
    trained = run.predictor(device="cpu")
    profile = enrol(trained, paths[:6]).profile
    for known in (None, profile):
        found, expected = (model.with_profile(known).probabilities(paths) for model in (predictor, trained))
        # Rounded weights.
        np.testing.assert_allclose(found, expected, atol=0.1, rtol=0)
    answers = pd.read_csv(folder / "answers.csv")
    assert answers["clip_id"].str.startswith("sample/").all() and list(answers)[1:] == run.emotions

    about = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    assert about["encoder"] == "openai/whisper-base" and about["corpora"]["sample"]["speakers"] == 4
    assert about["int8"]["all"]["n_test"] == len(run.predictions) and about["int8"]["same_answer"] > 0.8
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "openai/whisper-base" in card and f"UAR {run.metrics['overall']['uar']:.3f}" in card
    (folder / "README.md").unlink()
    assert write_card(folder, tmp_path).read_text(encoding="utf-8") == card
