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
    overrides = [f"input.encoder={encoder}", "input.precision=float32"]
    return train(tmp_path, monkeypatch, "ravdess-wav2vec2-frozen-mlp", *overrides)[0]


class TestToHub:
    def test_folder_is_read_by_load_run_and_pipeline_and_names_no_folder_of_this_machine(self, frozen, tmp_path):
        assert main(["export", str(frozen.folder), "--to", "hub"]) == 0
        folder = frozen.folder / "hub"
        loaded = load_run(folder)
        waveforms = [sound(0.5), sound(1.1, 1)]
        expected = frozen.predict(waveforms, 16000)
        np.testing.assert_allclose(loaded.predict(waveforms, 16000)[EMOTIONS], expected[EMOTIONS], atol=1e-6)
        classify = pipeline("audio-classification", model=str(folder), top_k=None)
        for waveform, row in zip(waveforms, expected[EMOTIONS].to_numpy(), strict=True):
            scores = {answer["label"]: answer["score"] for answer in classify(waveform)}
            np.testing.assert_allclose([scores[emotion] for emotion in EMOTIONS], row, atol=1e-4)
        assert loaded.recipe.input.encoder == "my-encoder" and "input.encoder=my-encoder" in loaded.recipe.overrides
        for path in folder.iterdir():
            assert str(tmp_path).encode() not in path.read_bytes(), path.name
        with pytest.raises(SerError, match="holds one model alone"):
            loaded.predict(waveforms, 16000, fold=1)
        assert to_hub(loaded, folder) == folder and load_run(folder).metrics == frozen.metrics

    def test_card_states_protocol_scores_licence_and_use(self, frozen, tmp_path):
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

    def test_licence_of_a_network_is_cc0_only_where_all_its_corpora_are(self, tmp_path, monkeypatch):
        run, _ = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp")
        folder = to_hub(run, tmp_path / "out")
        assert ModelCard.load(folder / "README.md").data.license == "cc0-1.0"
        assert "pipeline` does not know it" in (folder / "README.md").read_text()
        assert load_run(folder).model().module.config["name"] == "mlp"
        run.environment["corpora"]["tess"] = {"found": 2800, "expected": 2800}
        assert hub.card_data(run).license == "other"

    def test_base_model_is_an_encoder_of_the_hub(self, frozen):
        changed = frozen.recipe.input.model_copy(update={"encoder": "facebook/wav2vec2-base"})
        object.__setattr__(frozen, "recipe", frozen.recipe.model_copy(update={"input": changed}))
        assert hub.card_data(frozen).base_model == "facebook/wav2vec2-base"

    def test_run_without_a_model_is_refused_and_leaves_nothing(self, frozen, tmp_path):
        (frozen.folder / "model" / "model.safetensors").unlink()
        with pytest.raises(SerError, match="model.safetensors is missing"):
            to_hub(frozen, tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestLoadingFromTheHub:
    def test_is_fetched_by_file_names_without_pickles(self, frozen, tmp_path, monkeypatch):
        folder, requests = to_hub(frozen, tmp_path / "out"), []

        def snapshot_download(name, allow_patterns):
            requests.append((name, allow_patterns))
            return str(shutil.copytree(folder, tmp_path / "cache", dirs_exist_ok=True))

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        assert load_run("somebody/speech").metrics == frozen.metrics
        ((name, patterns),) = requests
        assert name == "somebody/speech" and {path.name for path in folder.iterdir()} == {*patterns}
        assert not any("*" in pattern or Path(pattern).suffix in (".bin", ".pt", ".pkl") for pattern in patterns)
        monkeypatch.chdir(tmp_path)
        shutil.copytree(folder, tmp_path / "somebody" / "speech")
        assert load_run("somebody/speech").folder == Path("somebody/speech") and len(requests) == 1

    def test_is_read_from_the_cache_without_a_network(self, frozen, tmp_path, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(SerError, match=r"not a run folder, nor in the Hub's cache"):
            load_run("somebody/speech")
        repository, commit = tmp_path / "hub" / "models--somebody--speech", "1" * 40
        to_hub(frozen, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
        assert load_run("somebody/speech").predict(sound(0.5), 16000)["error"].tolist() == [""]

    def test_unknown_repository_is_an_error(self, monkeypatch):
        def refuse(*_, **__):
            response = type("Response", (), {"headers": {}, "request": None, "status_code": 404})
            raise errors.RepositoryNotFoundError("404", response=response)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(SerError, match="the Hub shows no repository of that name"):
            load_run("somebody/speech")
