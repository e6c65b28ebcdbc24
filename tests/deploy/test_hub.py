"""A run as a repository of the Hugging Face Hub: what its folder holds, and how it is loaded from there."""

import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, errors
from tiny import tiny_checkpoint
from tiny_runs import EMOTIONS, sound, train
from transformers import pipeline

from ser_lib.cli import main
from ser_lib.common.errors import SerError
from ser_lib.deploy import hub, to_hub
from ser_lib.inference.run import load_run


@pytest.fixture
def frozen(tmp_path, monkeypatch):
    encoder = tiny_checkpoint(tmp_path / "my-encoder", "hubert")
    own = [f"input.encoder={encoder}", "input.precision=float32"]
    return train(tmp_path, monkeypatch, "ravdess-wav2vec2-frozen-mlp", *own)[0]


class TestToHub:
    def test_holds_what_load_run_and_pipeline_read_and_no_folder_of_this_machine(self, frozen, tmp_path):
        assert main(["export", str(frozen.folder), "--to", "hub"]) == 0
        folder = frozen.folder / "hub"
        loaded = load_run(folder)
        waveforms = [sound(0.5), sound(1.1, 1)]
        expected = frozen.predict(waveforms, 16000)
        np.testing.assert_allclose(loaded.predict(waveforms, 16000)[EMOTIONS], expected[EMOTIONS], atol=1e-6)
        classify = pipeline("audio-classification", model=str(folder), top_k=None)
        for waveform, row in zip(waveforms, expected[EMOTIONS].to_numpy(), strict=True):
            told = {answer["label"]: answer["score"] for answer in classify(waveform)}
            np.testing.assert_allclose([told[emotion] for emotion in EMOTIONS], row, atol=1e-4)
        assert loaded.recipe.input.encoder == "my-encoder" and "input.encoder=my-encoder" in loaded.recipe.overrides
        for path in folder.iterdir():
            assert str(tmp_path).encode() not in path.read_bytes(), path.name
        with pytest.raises(SerError, match="the model of fold 0 alone"):
            loaded.predict(waveforms, 16000, fold=1)
        assert to_hub(loaded, folder) == folder and load_run(folder).metrics == frozen.metrics  # once more, over itself

    def test_its_card_says_protocol_scores_licence_and_use(self, frozen, tmp_path):
        to_hub(frozen, tmp_path / "out")
        card = ModelCard.load(tmp_path / "out" / "README.md")
        data, scores = card.data, frozen.metrics["overall"]
        assert data.pipeline_tag == "audio-classification" and data.library_name == "ser-lib"
        assert data.datasets == ["sample"] and data.base_model is None and data.license == "other"
        by_type = {result.metric_type: result for result in data.eval_results}
        assert set(by_type) == {"accuracy", "recall", "f1"}
        for result in by_type.values():
            assert result.dataset_config == "speaker" and "protocol speaker" in result.dataset_name
        assert by_type["recall"].metric_value == pytest.approx(scores["uar"], abs=1e-4)
        again = ModelCard(f"---\n{data.to_yaml()}\n---\n")
        assert again.data.to_dict() == data.to_dict()
        huggingface_hub.repocard.model_index_to_eval_results(yaml.safe_load(data.to_yaml())["model-index"])
        text = card.text
        for heading in ("Corpora", "Not for", "Intended use", "Results by sex and by emotion", "Licence", "How to use"):
            assert f"\n## {heading}\n" in text
        assert f"UAR** {scores['uar']:.3f} (95 % CI" in text and "| female | " in text and "| happy | " in text

    def test_of_a_network_states_its_licence_only_where_it_is_free(self, tmp_path, monkeypatch):
        run, _ = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp")
        folder = to_hub(run, tmp_path / "out")
        assert ModelCard.load(folder / "README.md").data.license == "cc0-1.0"
        assert "pipeline` does not know it" in (folder / "README.md").read_text()
        assert load_run(folder).model().config["name"] == "mlp"
        run.environment["corpora"]["tess"] = {"found": 2800, "expected": 2800}
        assert hub.card_data(run).license == "other"

    def test_names_an_encoder_of_the_hub_as_base_model(self, frozen):
        given = frozen.recipe.input.model_copy(update={"encoder": "facebook/wav2vec2-base"})
        object.__setattr__(frozen, "recipe", frozen.recipe.model_copy(update={"input": given}))
        assert hub.card_data(frozen).base_model == "facebook/wav2vec2-base"

    def test_without_its_model_leaves_nothing(self, frozen, tmp_path):
        (frozen.folder / "model" / "model.safetensors").unlink()
        with pytest.raises(SerError, match="model.safetensors is missing"):
            to_hub(frozen, tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestARunOfTheHub:
    def test_is_fetched_by_its_name_and_without_pickles(self, frozen, tmp_path, monkeypatch):
        folder, asked = to_hub(frozen, tmp_path / "out"), []

        def snapshot_download(name, allow_patterns):
            asked.append((name, allow_patterns))
            return str(shutil.copytree(folder, tmp_path / "cache", dirs_exist_ok=True))

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        assert load_run("somebody/speech").metrics == frozen.metrics
        ((name, patterns),) = asked
        assert name == "somebody/speech" and {path.name for path in folder.iterdir()} == {*patterns}
        assert not any("*" in pattern or Path(pattern).suffix in (".bin", ".pt", ".pkl") for pattern in patterns)
        monkeypatch.chdir(tmp_path)
        shutil.copytree(folder, tmp_path / "somebody" / "speech")
        assert load_run("somebody/speech").folder == Path("somebody/speech") and len(asked) == 1

    def test_comes_from_the_hubs_cache_without_a_network(self, frozen, tmp_path, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(SerError, match=r"not a run folder, nor in the Hub's cache"):
            load_run("somebody/speech")
        repository, commit = tmp_path / "hub" / "models--somebody--speech", "1" * 40
        to_hub(frozen, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
        assert load_run("somebody/speech").predict(sound(0.5), 16000)["error"].tolist() == [""]

    def test_that_is_not_there(self, monkeypatch):
        def refuse(*_, **__):
            response = type("Response", (), {"headers": {}, "request": None, "status_code": 404})
            raise errors.RepositoryNotFoundError("404", response=response)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(SerError, match="the Hub shows no repository of that name"):
            load_run("somebody/speech")
