"""Exports: they answer as the run does, without PyTorch or from the Hub, and nothing is left half-written."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import tone_clips
from huggingface_hub import ModelCard, errors
from tiny import KINDS, tiny_checkpoint
from transformers import pipeline

from ser_lib.audio import features, reading
from ser_lib.cli import main
from ser_lib.common.errors import SerError
from ser_lib.common.files import whole_folder
from ser_lib.deploy import hub, onnx, onnx_int8, run_onnx, to_hub, to_onnx
from ser_lib.inference.run import load_run
from ser_lib.models import encoder_weights, finetuned_encoder, onnx_graphs
from ser_lib.models import networks as models
from ser_lib.models.embeddings import load_encoder
from ser_lib.models.hf_checkpoint import SpeechEmotionModel, save_frozen
from ser_lib.recipes import inputs as inputs_module
from ser_lib.recipes import load_recipe
from ser_lib.training import experiment

EMOTIONS = ["neutral", "happy", "sad"]
COMMON = ["emotions=[neutral,happy,sad]", "split.folds=2", "training.device=cpu", "training.epochs=1"]


@pytest.fixture
def onnxruntime():
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is not installed (pip install -e '.[export]')")
    return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install -e '.[export]')")


def sound(seconds, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16000)) / 16000
    tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 2000) * time) + 0.02
    return (tone + 0.05 * rng.standard_normal(len(time))).astype(np.float32)


def train(tmp_path, monkeypatch, name, *overrides, **settings):
    """A run on tones, in `tmp_path / "runs"`, and its clips."""
    clips = tone_clips(tmp_path / "tones", speakers=4, takes=2, seconds=0.3)
    monkeypatch.setattr(inputs_module, "load_clips", lambda *_, **__: clips.copy())
    recipe = load_recipe(name, overrides=[*COMMON, "corpora=[sample]", *overrides])
    return experiment.train(recipe, runs_dir=tmp_path / "runs", progress=False, **settings), clips


def exported(onnxruntime, graph, name, example, inputs, tmp_path):
    """What the ONNX model says of each input."""
    onnx._export(graph, name, example, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    return [session.run(None, {name: given.numpy()})[0] for given in inputs]


# Two convolutions and one layer in place of seven and two: the exporter takes half as long.
SMALL = {"conv_dim": (8, 8), "conv_kernel": (20, 16), "conv_stride": (20, 16), "num_hidden_layers": 1}
BATCHES = [torch.from_numpy(np.stack([sound(seconds, seed) for seed in (1, 2)])) for seconds in (0.02, 0.5, 1.7)]


def frozen_graph(folder, kind, head="mlp"):
    """The graph of a frozen encoder, and what `SpeechEmotionModel` says of each of `BATCHES`."""
    encoder = load_encoder(str(tiny_checkpoint(folder / kind, kind, **({} if kind == "whisper" else SMALL))))
    layers, pooling, shape = HEADS[head]
    torch.manual_seed(0)
    network = models.build(head, EMOTIONS, shape, hidden=8, dense=(16,)).eval()
    save_frozen(encoder, network, layers, pooling, folder)
    model, extractor = SpeechEmotionModel.from_pretrained(folder).eval(), encoder.feature_extractor
    expected = []
    for batch in BATCHES:
        given = extractor(list(batch.numpy()), sampling_rate=16000, return_tensors="pt")
        if kind == "whisper":
            given["attention_mask"] = torch.ones(2, 480_000).cumsum(dim=1) <= batch.shape[1]
        with torch.inference_mode():
            expected.append(torch.softmax(model(**given).logits, dim=1).numpy())
    return onnx_graphs.FrozenEncoderGraph(encoder.model, extractor, network, layers, pooling), expected


def fine_tuned_graph(folder, kind):
    """The graph of a classification model, and what PyTorch says of each of `BATCHES`; Whisper cuts the last."""
    torch.manual_seed(0)
    checkpoint = tiny_checkpoint(folder / kind, kind, **({} if kind == "whisper" else SMALL))
    tuned = finetuned_encoder.build(encoder_weights.locate(str(checkpoint)), EMOTIONS, 16000, seconds=1.0)
    expected = [finetuned_encoder.probabilities(*tuned, list(batch.numpy())) for batch in BATCHES]
    return onnx_graphs.FinetunedGraph(*tuned), expected


def agree(found, expected):
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-3, rtol=0)
    assert np.ptp(np.concatenate(found), axis=0).max() > 5e-3  # else they would agree by saying nothing


HEADS = {  # layers, pooling, and the shape of what the network reads, of two layers of 32 features
    "mlp": ([1], "mean", (32,)),
    "logistic-regression": ([0, 1], "mean+std", (128,)),
    "weighted-layers": ([0, 1], "mean+std", (2, 64)),
    "attentive-pooling": ([1], "frames", (1, 32)),
}


class TestAGraph:
    @pytest.mark.parametrize("kind", KINDS)
    def test_says_what_the_model_says(self, tmp_path, kind):
        for make in (frozen_graph, fine_tuned_graph):
            graph, expected = make(tmp_path, kind)
            with torch.inference_mode():
                agree([graph(batch).numpy() for batch in BATCHES], expected)

    @pytest.mark.parametrize("head", HEADS)
    def test_pools_as_the_model_does(self, tmp_path, head):
        graph, expected = frozen_graph(tmp_path, "hubert", head)
        with torch.inference_mode():
            agree([graph(batch).numpy() for batch in BATCHES], expected)

    @pytest.mark.parametrize(
        ("make", "kind"),
        # A frozen Whisper and a fine-tuned wav2vec2 are exported below.
        [(frozen_graph, "wav2vec2-layer-norm"), (frozen_graph, "data2vec-audio")]
        + [(fine_tuned_graph, "hubert"), (fine_tuned_graph, "wavlm"), (fine_tuned_graph, "whisper")],
    )
    def test_of_an_encoder_is_exported_for_any_number_of_clips_and_samples(self, onnxruntime, tmp_path, make, kind):
        graph, expected = make(tmp_path, kind)
        found = exported(onnxruntime, graph, "waveform", torch.randn(3, 16001), [*BATCHES, BATCHES[1][:1]], tmp_path)
        agree(found, [*expected, expected[1][:1]])

    @pytest.mark.parametrize(
        ("name", "form"), [("cnn", "sequence"), ("bilstm", "sequence"), ("gru", "vector"), ("mlp", "vector")]
    )
    def test_of_a_network_is_exported_for_any_number_of_clips_and_frames(self, onnxruntime, tmp_path, name, form):
        torch.manual_seed(0)
        network = models.build(name, EMOTIONS, (12,) if form == "vector" else (1, 12), hidden=8, dense=(8,)).eval()
        network.standardise.fit(3 + 2 * torch.randn(50, 12))

        def some(n_clips, n_frames):
            return 3 + 2 * torch.randn(n_clips, *(n_frames,) * (form == "sequence"), 12)

        inputs = [some(1, 4), some(3, 31), some(2, 1)]
        if form == "sequence":
            inputs[1][0, 7:] = torch.nan
        with torch.inference_mode():
            expected = [torch.softmax(network(own), dim=1).numpy() for own in inputs]
        graph = onnx_graphs.FeaturesGraph(network)
        agree(exported(onnxruntime, graph, "features", some(2, 9), inputs, tmp_path), expected)

    def test_that_is_too_large_for_one_file_takes_two(self, onnxruntime, tmp_path, monkeypatch):
        monkeypatch.setattr(onnx, "PROTOBUF_BYTES", 0)
        network, features = models.build("mlp", EMOTIONS, (400,)).eval(), torch.randn(2, 400)
        expected = torch.softmax(network(features), dim=1).detach().numpy()
        (found,) = exported(onnxruntime, onnx_graphs.FeaturesGraph(network), "features", features, [features], tmp_path)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert (tmp_path / "model.onnx.data").stat().st_size > (tmp_path / "model.onnx").stat().st_size
        onnx_int8.write(tmp_path)
        assert sorted(path.name for path in tmp_path.glob("model*")) == ["model.int8.onnx", *onnx.NAMES[:2]]

    @pytest.mark.parametrize("seconds", [0.02, 1.0, 3.3])
    def test_holds_whispers_own_log_mel_frames(self, seconds):
        from transformers import WhisperFeatureExtractor

        extractor, waveform = WhisperFeatureExtractor(), sound(seconds)
        expected = extractor([waveform], sampling_rate=16000, padding=False, return_tensors="pt")["input_features"]
        found = onnx_graphs.LogMel(extractor)(torch.from_numpy(waveform[None]))
        torch.testing.assert_close(found[:, :, : expected.shape[2]], expected, atol=1e-3, rtol=0)


AUDIO = [
    {},
    {"trim_below_db": 30.0, "normalise": "peak"},
    {"offset_seconds": 0.1, "max_seconds": 0.5, "normalise": "rms", "crop": "centre"},
    {"offset_seconds": 9.0, "max_seconds": 3.0, "pad": True, "sampling_rate": 22050},
]


class TestTheScript:
    @pytest.mark.parametrize("settings", AUDIO)
    def test_prepares_audio_as_training_does(self, settings):
        samples = np.stack([sound(1.3, 1), 0.5 * sound(1.3, 2)], axis=1)
        samples[:4000] *= 1e-3
        recipe = load_recipe("demo", overrides=[f"input.audio={json.dumps(settings)}"])
        given = recipe.input.audio.model_dump()
        expected = reading.prepare(reading.Recording(samples, 44100), **given)
        np.testing.assert_allclose(run_onnx.prepare(samples, 44100, **given), expected, atol=1e-6)
        assert len(expected)

    @pytest.mark.parametrize("pooling", ["mean", "mean+std", "sequence"])
    @pytest.mark.parametrize("seconds", [0.05, 0.8])
    def test_computes_the_features_of_training(self, pooling, seconds):
        recipe = load_recipe("demo", overrides=[f"input.pooling={pooling}", "input.chroma=true", "input.deltas=true"])
        settings, waveform = recipe.input.feature_settings(), sound(seconds)
        expected = features.clip_features(reading.Recording(waveform, 16000), {"sampling_rate": 16000}, settings)
        np.testing.assert_allclose(run_onnx.clip_features(waveform, 16000, **settings), expected, rtol=1e-5, atol=1e-5)


WITHOUT_TORCH = """
import runpy, sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "ser_lib"):
            raise AssertionError(f"{name} was imported")

sys.meta_path.insert(0, Refused())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_without_torch(folder, *arguments):
    """The exit status, the answers and what was said on stderr."""
    script = [sys.executable, "-c", WITHOUT_TORCH, str(folder / "run_onnx.py"), *map(str, arguments)]
    done = subprocess.run(script, cwd=folder, capture_output=True, text=True)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


class TestToOnnx:
    @pytest.mark.parametrize(
        ("name", "kind", "overrides"),
        [
            ("demo", None, ["input.pooling=sequence", "model.name=gru", "input.audio.trim_below_db=30"]),
            (
                "ravdess-wav2vec2-frozen-mlp",
                "whisper",
                [
                    "input.layers=[0,2]",
                    "input.pooling=mean+std",
                    "input.audio.normalise=peak",
                    "input.precision=float32",
                ],
            ),
            ("tess-wav2vec2-finetune", "wav2vec2", ["training.precision=float32", "training.batch_size=8"]),
        ],
    )
    def test_answers_files_as_the_run_does(self, onnxruntime, tmp_path, monkeypatch, name, kind, overrides):
        if kind:
            encoder = tiny_checkpoint(tmp_path / kind, kind, **({} if kind == "whisper" else SMALL))
            overrides = [*overrides, f"input.encoder={encoder}"]
        run, _ = train(tmp_path, monkeypatch, name, *overrides)
        assert main(["export", str(run.folder), "--to", "onnx", "--output", str(tmp_path / "out")]) == 0
        long, stereo, silent = (tmp_path / f"{name}.wav" for name in ("long", "stereo", "silent"))
        soundfile.write(long, sound(2.4), 16000)
        soundfile.write(stereo, np.stack([sound(0.7, 1), sound(0.7, 2)], axis=1), 44100)
        soundfile.write(silent, np.zeros(8000), 16000)
        status, found, said = run_without_torch(tmp_path / "out", long, silent, stereo)
        assert status == 1 and said == f"{silent}: silent, every sample is 0\n"
        expected = run.predict([long, stereo])
        assert [answer["path"] for answer in found] == [str(long), str(stereo)]
        assert [answer["emotion"] for answer in found] == expected["emotion"].tolist()
        told = [list(answer["probabilities"].values()) for answer in found]
        np.testing.assert_allclose(told, expected[run.emotions], atol=1e-3)
        for file in ("preprocessor.json", "README.md"):
            assert str(tmp_path) not in (tmp_path / "out" / file).read_text()

    def test_measures_what_int8_loses_on_the_folds_test_clips(self, onnxruntime, tmp_path, monkeypatch):
        run, clips = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp")
        folder = to_onnx(run, tmp_path / "out", int8=True, fold=1, progress=False)
        settings = json.loads((folder / "preprocessor.json").read_text())
        tested = run.test_clips()
        tested = tested[tested["fold"] == 1]
        own = run.predictions[run.predictions["clip_id"].isin(tested["clip_id"])]
        right = own[run.emotions].idxmax(axis=1).to_numpy() == own["truth"].to_numpy()
        recalls = [right[own["truth"] == emotion].mean() for emotion in own["truth"].unique()]
        assert settings["int8"]["clips"] == len(tested)
        assert settings["int8"]["uar_float32"] == pytest.approx(np.mean(recalls))
        assert f"UAR is {settings['int8']['uar']:.3f}" in (folder / "README.md").read_text()
        assert settings["int8"]["megabytes"] > 0
        status, found, _ = run_without_torch(folder, "--int8", clips["path"].iloc[0])
        assert status == 0 and set(found[0]["probabilities"]) == set(run.emotions)

        def nowhere(*_, **__):
            raise SerError("not found in /home/me")

        monkeypatch.setattr(inputs_module, "load_clips", nowhere)
        settings = json.loads((to_onnx(run, folder, int8=True, progress=False) / "preprocessor.json").read_text())
        assert settings["int8"]["not_measured"] == "the corpora with the test clips were not at hand"
        assert "was not measured" in (folder / "README.md").read_text()

    def test_that_answers_otherwise_leaves_nothing(self, onnxruntime, tmp_path, monkeypatch):
        run, _ = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp")
        wrong = onnx_graphs.FeaturesGraph.forward
        monkeypatch.setattr(onnx_graphs.FeaturesGraph, "forward", lambda self, features: wrong(self, features + 1))
        with pytest.raises(SerError, match=r"answers otherwise than PyTorch: .* is off by 0\."):
            to_onnx(run, tmp_path / "deep" / "out")
        assert list((tmp_path / "deep").iterdir()) == []

    def test_without_its_packages_says_how_to_get_them(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(SerError, match=r"pip install onnx onnxscript onnxruntime"):
            to_onnx(None, tmp_path / "out")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(SerError, match=r"no earlier export.*holds thesis.txt"), whole_folder(tmp_path / "mine", ("a",)):
        pass
    (tmp_path / "mine" / "thesis.txt").rename(tmp_path / "mine" / "README.md")  # as an export holds one, too
    with pytest.raises(SerError, match="holds README.md"), whole_folder(tmp_path / "mine", ("a", "README.md")):
        pass
    with pytest.raises(SerError, match="holds README.md"), whole_folder(tmp_path / "mine" / "README.md", ("a",)):
        pass
    for text in ("first", "second"):
        with whole_folder(tmp_path / "export", ("a",)) as part:
            (part / "a").write_text(text)
    assert (tmp_path / "export" / "a").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "mine"]


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
        assert load_run(folder).model().module.config["name"] == "mlp"
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
