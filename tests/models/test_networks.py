import numpy as np
import pytest
import torch

from ser_lib.common.errors import SerError
from ser_lib.models import networks as models
from ser_lib.models.base import MODELS
from ser_lib.models.heads import Head

EMOTIONS = ["neutral", "happy", "sad"]
SHAPES = {"vector": (5,), "layers": (4, 5), "sequence": (20, 5)}
HEADS = {name: entry.forms for name, entry in MODELS.items() if issubclass(entry, Head)}
BOTH = [name for name, forms in HEADS.items() if forms == ("vector", "sequence")]


def network(name, form="sequence", **settings):
    torch.manual_seed(0)
    return models.build(name, EMOTIONS, SHAPES[form], hidden=16, **settings).eval()


@pytest.mark.parametrize("name, form", [(name, form) for name, forms in HEADS.items() for form in forms])
class TestEveryNetworkInEachOfItsForms:
    def test_gives_a_logit_an_emotion(self, name, form):
        logits = network(name, form)(torch.randn(6, *SHAPES[form]))
        assert logits.shape == (6, 3) and torch.isfinite(logits).all()

    def test_reads_half_precision_as_what_it_holds(self, name, form):
        model, clips = network(name, form), torch.randn(6, *SHAPES[form]).half()
        logits = model(clips)
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, model(clips.float()), rtol=0, atol=0)

    def test_every_weight_is_trained(self, name, form):
        model = network(name, form).train()
        model(torch.randn(8, *SHAPES[form])).logsumexp(dim=1).sum().backward()
        for weight_name, weight in model.named_parameters():
            assert weight.grad is not None and weight.grad.abs().sum() > 0, weight_name

    def test_is_read_as_it_was_saved(self, name, form, tmp_path):
        model = network(name, form)
        model.standardise.fit(torch.randn(9, *SHAPES[form]) * 3 + 1)
        models.save(model, tmp_path)
        clips = torch.randn(4, *SHAPES[form])
        torch.testing.assert_close(models.load(tmp_path)(clips), model(clips), rtol=0, atol=0)
        assert models.load(tmp_path).config == model.config


@pytest.mark.parametrize("name", [*BOTH, "attentive-pooling"])
class TestEveryNetworkOnSequences:
    @pytest.mark.parametrize("n_frames", [1, 2, 3, 50])
    def test_gives_a_logit_an_emotion_for_sequences_of_any_length(self, name, n_frames):
        logits = network(name)(torch.randn(4, n_frames, 5))
        assert logits.shape == (4, 3) and torch.isfinite(logits).all()

    def test_padding_does_not_change_a_result(self, name):
        model, clip = network(name), torch.randn(1, 13, 5)
        model.standardise.mean.fill_(2.0)  # so that a padded zero is not the standardised zero
        alone = model(clip)
        for longest in (14, 15, 16, 17, 40):
            batch = torch.full((3, longest, 5), float("nan"))
            batch[0, :13] = clip
            batch[1], batch[2, :2] = torch.randn(longest, 5), torch.randn(2, 5)
            torch.testing.assert_close(model(batch)[:1], alone, rtol=1e-4, atol=1e-5)


def test_bidirectional_and_plain_lstm_end_in_states_of_the_same_width():
    assert network("lstm").body.n_outputs == network("bilstm").body.n_outputs == 16
    assert network("bilstm").body(torch.randn(2, 5, 5)).shape == (2, 16)


def test_the_seed_projects_lstm_has_its_sizes():
    model = models.build("lstm", ["a"] * 7, (40,), hidden=128, dense=(64, 32))
    recurrence = sum(weight.numel() for weight in model.body.parameters())
    assert recurrence == 4 * (128 * (1 + 128) + 2 * 128)  # PyTorch keeps two biases, Keras one
    assert [tuple(layer.weight.shape) for layer in model.head if hasattr(layer, "weight")] == [
        (64, 128),
        (32, 64),
        (7, 32),
    ]


def test_standardising_leaves_out_padding_and_survives_a_constant_feature():
    layer = models.Standardise(2)
    features = torch.tensor([[[1.0, 5.0], [3.0, 5.0]], [[5.0, 5.0], [float("nan")] * 2]])
    layer.fit(features)
    assert layer.mean.tolist() == [3.0, 5.0]
    np.testing.assert_allclose(layer.deviation.numpy(), [np.std([1, 3, 5]), 1.0], rtol=1e-6)


def test_an_unknown_network_is_refused_with_the_known_ones():
    with pytest.raises(SerError, match="unknown model 'svm'.*cnn, lstm, bilstm, gru"):
        models.build("svm", EMOTIONS, (5,))


def test_a_folder_without_a_network_is_refused(tmp_path):
    with pytest.raises(SerError, match="holds no saved network"):
        models.load(tmp_path)


def test_weights_of_another_configuration_are_refused(tmp_path):
    models.save(network("lstm"), tmp_path / "lstm")
    models.save(network("gru"), tmp_path / "gru")
    (tmp_path / "lstm" / "config.json").replace(tmp_path / "gru" / "config.json")
    with pytest.raises(SerError, match="does not fit"):
        models.load(tmp_path / "gru")


def test_damaged_weights_are_refused(tmp_path):
    models.save(network("cnn"), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(SerError, match="does not fit"):
        models.load(tmp_path)
