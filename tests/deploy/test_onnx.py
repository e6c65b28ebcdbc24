"""Graphs give the answers of their models, for any number of clips and samples, and a wrong export leaves nothing."""

import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import KINDS, tiny_checkpoint
from tiny_runs import EMOTIONS, SMALL, sound, train

from ser_lib.audio import features, reading
from ser_lib.common.errors import SerError
from ser_lib.deploy import onnx, onnx_int8, to_onnx
from ser_lib.models import audio_classifier, encoder_weights, network_training, onnx_features, onnx_graphs
from ser_lib.models import networks as models
from ser_lib.models.base import OnnxGraph
from ser_lib.models.embeddings import load_encoder
from ser_lib.models.hf_checkpoint import SpeechEmotionModel, save_frozen
from ser_lib.models.hidden_states import hidden_states, pooled
from ser_lib.models.profiles import Profile


@pytest.fixture
def onnxruntime():
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is not installed (pip install -e '.[export]')")
    return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install -e '.[export]')")


def exported(onnxruntime, graph, example, inputs, tmp_path):
    """What the ONNX model says of each input."""
    onnx._export(OnnxGraph(graph, example), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    return [session.run(None, {"waveform": given.numpy()})[0] for given in inputs]


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
    tuned = audio_classifier.build(encoder_weights.locate(str(checkpoint)), EMOTIONS, 16000, seconds=1.0)
    expected = [audio_classifier.probabilities(*tuned, list(batch.numpy())) for batch in BATCHES]
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

    def test_with_a_profile_says_what_the_model_says_of_a_known_speaker(self, onnxruntime, tmp_path, monkeypatch):
        encoder = load_encoder(str(tiny_checkpoint(tmp_path / "whisper", "whisper")))
        encoder.model.half().float()
        torch.manual_seed(0)
        network = models.build("corpus-experts", EMOTIONS, (128,), n_corpora=2).eval()
        network.body.prior.normal_()
        batch, extractor = BATCHES[1], encoder.feature_extractor
        states = hidden_states(encoder.model, extractor, list(batch.numpy()))
        features = torch.stack([pooled(clip[[0, 1]], "mean+std", "vector") for clip in states])
        network.standardise.fit(features + torch.randn(30, 1, 128))
        # Between the two clips.
        network.body.limit.fill_(network.standardise(features).square().mean())
        profiles = [Profile(np.zeros(128, np.float32), 0.0), Profile(features[0].numpy() + 1, 8.0)]
        expected = [
            network_training.probabilities(network, features.numpy(), profile) for profile in [None, profiles[1]]
        ]
        is_speech = network.is_like_speech(features.numpy())
        assert np.abs(expected[1] - expected[0]).max() > 0.01 and sorted(is_speech) == [False, True]

        graph = onnx_graphs.FrozenEncoderGraph(encoder.model, extractor, network, [0, 1], "mean+std", max_seconds=2.0)
        path = tmp_path / "model.onnx"
        onnx._export(OnnxGraph(graph, torch.randn(3, 16001), n_profile=128), path)

        def answers(path, profile):
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            means, counts = np.tile(profile.mean, (2, 1)), np.full((2, 1), profile.count, np.float32)
            names = ["probabilities", "features", "is_speech"]
            return session.run(names, {"waveform": batch.numpy(), "mean": means, "count": counts})

        for profile, probabilities in zip(profiles, expected, strict=True):
            found = answers(path, profile)
            np.testing.assert_allclose(found[0], probabilities, atol=1e-3, rtol=0)
            np.testing.assert_allclose(found[1], features, atol=1e-2, rtol=0)
            np.testing.assert_array_equal(found[2], is_speech)

        import onnx as onnx_package

        model = onnx_package.load(path)
        shapes = {weight.name: list(weight.dims) for weight in model.graph.initializer}
        # Of 1500; and nothing of the second layer, which the network does not read.
        assert shapes["encoder.embed_positions.weight"] == [100, 32]
        assert not [name for name in shapes if name.startswith("encoder.layers.1.")]
        # Half precision holds the encoder's weights and not those of the front and the network.
        monkeypatch.setattr(onnx_int8, "SMALL", 1000)
        onnx_int8.halve(model)
        kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
        assert kinds["encoder.conv1.weight.half"] == onnx_package.TensorProto.FLOAT16
        assert kinds["front.waves"] == kinds["network.head.0.weight"] == onnx_package.TensorProto.FLOAT
        onnx_package.save(model, tmp_path / "halved.onnx")
        for own, other in zip(answers(path, profiles[1]), answers(tmp_path / "halved.onnx", profiles[1]), strict=True):
            np.testing.assert_array_equal(own, other)

    @pytest.mark.parametrize(
        ("make", "kind"),
        # A frozen Whisper and a fine-tuned wav2vec2 are exported below.
        [(frozen_graph, "wav2vec2-layer-norm"), (frozen_graph, "data2vec-audio")]
        + [(fine_tuned_graph, "hubert"), (fine_tuned_graph, "wavlm"), (fine_tuned_graph, "whisper")],
    )
    def test_of_an_encoder_is_exported_for_any_number_of_clips_and_samples(self, onnxruntime, tmp_path, make, kind):
        graph, expected = make(tmp_path, kind)
        found = exported(onnxruntime, graph, torch.randn(3, 16001), [*BATCHES, BATCHES[1][:1]], tmp_path)
        agree(found, [*expected, expected[1][:1]])

    @pytest.mark.parametrize(
        ("name", "kind", "pooling", "settings"),
        [
            ("cnn", "mfcc", "sequence", {"n_mfcc": 40}),
            ("bilstm", "mfcc", "mean", {"n_mfcc": 12, "deltas": True, "chroma": True, "frame": 1023, "hop": 200}),
            ("mlp", "mfcc-pitch-spectrum", "mean+std", {"n_mfcc": 20, "deltas": True, "frame": 512, "hop": 160}),
        ],
    )
    def test_of_acoustic_features_takes_waveforms_of_any_length(
        self, onnxruntime, tmp_path, name, kind, pooling, settings
    ):
        torch.manual_seed(0)
        expected_of = partial(features.clip_features, audio_settings={"sampling_rate": 16000, "remove_offset": False})
        feature_settings = {"kind": kind, "pooling": pooling, **settings}

        def features_of(batch):
            clips = [reading.Recording(waveform, 16000) for waveform in batch.numpy()]
            return torch.from_numpy(np.stack([expected_of(clip, feature_settings=feature_settings) for clip in clips]))

        given = [features_of(batch) for batch in BATCHES]
        network = models.build(name, EMOTIONS, tuple(given[1].shape[1:]), hidden=8, dense=(16,)).eval()
        network.standardise.fit(given[1])
        with torch.inference_mode():
            expected = [torch.softmax(network(own), dim=1).numpy() for own in given]
        graph = onnx_graphs.FeaturesGraph(network, onnx_features.GRAPHS[kind](16000, **settings), pooling)
        agree(exported(onnxruntime, graph, 0.1 * torch.randn(2, 16001), BATCHES, tmp_path), expected)
        onnx_int8.write(tmp_path)
        import onnx as onnx_package

        small = onnx_package.load(tmp_path / "model.int8.onnx")
        kept = {name for node in small.graph.node if node.op_type == "MatMul" for name in node.input}
        exact = {name for name, _ in graph.front.named_buffers() if name.endswith(("mel", "cosine", "second_real"))}
        assert exact and {f"front.{name}" for name in exact} <= kept

    @settings(max_examples=40, deadline=None)
    @given(
        n_samples=st.integers(1, 20000),
        rate=st.sampled_from([8000, 16000, 22050]),
        frame=st.sampled_from([256, 400, 1023, 1024, 2048]),
        hop=st.sampled_from([100, 160, 512]),
        scale=st.sampled_from([1e-4, 1e-2, 1.0]),
        switches=st.tuples(st.booleans(), st.booleans()),
    )
    def test_holds_librosas_own_mfcc(self, n_samples, rate, frame, hop, scale, switches):
        """To 0.02 of values that span hundreds: float32 rounds 80 dB below the loudest frame to some thousandths."""
        waveform = scale * np.random.default_rng(n_samples).standard_normal(n_samples).astype(np.float32)
        settings = {"n_mfcc": 40, "frame": frame, "hop": hop, "deltas": switches[0], "chroma": switches[1]}
        found = onnx_features.Mfcc(rate, **settings)(torch.from_numpy(waveform[None]))[0].numpy()
        expected = features.mfcc(waveform, rate, **settings)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=0.02, rtol=0)

    @settings(max_examples=20, deadline=None)
    @given(
        seconds=st.floats(0.005, 1.5),
        rate=st.sampled_from([8000, 16000, 22050]),
        frame_and_hop=st.sampled_from([(400, 160), (512, 128), (2048, 512)]),
        voices=st.integers(0, 3),
    )
    def test_holds_the_packages_own_pitch_and_spectrum(self, seconds, rate, frame_and_hop, voices):
        waveform = np.concatenate([sound(seconds, seed) for seed in range(1 + voices)])
        settings = {"n_mfcc": 20, "frame": frame_and_hop[0], "hop": frame_and_hop[1], "deltas": True}
        found = onnx_features.MfccPitchSpectrum(rate, **settings)(torch.from_numpy(waveform[None]))[0].numpy()
        expected = features.mfcc_pitch_spectrum(waveform, rate, **settings)
        assert found.shape == expected.shape
        # In 32 bits, two periods that fit equally well may change places in a frame or two.
        off = np.abs(found - expected) > 0.05
        assert off.any(axis=1).mean() <= 0.1, np.flatnonzero(off.any(axis=0))

    def test_that_is_too_large_for_one_file_takes_two(self, onnxruntime, tmp_path, monkeypatch):
        monkeypatch.setattr(onnx, "PROTOBUF_BYTES", 0)
        network, front = models.build("mlp", EMOTIONS, (40,)).eval(), onnx_features.Mfcc(16000, 40)
        expected = torch.softmax(network(front(BATCHES[1]).mean(dim=1)), dim=1).detach().numpy()
        graph = onnx_graphs.FeaturesGraph(network, front, "mean")
        (found,) = exported(onnxruntime, graph, BATCHES[1], [BATCHES[1]], tmp_path)
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


class TestToOnnx:
    def test_that_answers_otherwise_leaves_nothing(self, onnxruntime, tmp_path, monkeypatch):
        run, _ = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp")
        wrong = onnx_graphs.FeaturesGraph.forward
        monkeypatch.setattr(onnx_graphs.FeaturesGraph, "forward", lambda self, inputs: wrong(self, inputs.flip(1) ** 3))
        with pytest.raises(SerError, match=r"answers otherwise than PyTorch: .* is off by 0\."):
            to_onnx(run, tmp_path / "deep" / "out")
        assert list((tmp_path / "deep").iterdir()) == []

    def test_without_its_packages_says_how_to_get_them(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(SerError, match=r"pip install onnx onnxscript onnxruntime"):
            to_onnx(None, tmp_path / "out")
