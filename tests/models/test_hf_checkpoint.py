"""A frozen encoder with its network as one checkpoint: tiny random encoders, saved, and loaded by transformers."""

import errno
import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny import KINDS, tiny_checkpoint
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

from ser_lib.models import network_training
from ser_lib.models import networks as models
from ser_lib.models.embeddings import hidden_states, load_encoder
from ser_lib.models.hf_checkpoint import save_frozen

EMOTIONS = ["neutral", "happy", "sad"]
HEADS = {  # layers, pooling, and the shape of what the network reads, of three layers of 32 features
    "mlp": ("last", "mean", (32,)),
    "logistic-regression": ([0, -1], "mean+std", (128,)),
    "weighted-layers": ("all", "mean+std", (3, 64)),
    "attentive-pooling": ([1], "frames", (1, 32)),
}


def sound(seconds, seed=0):
    """A tone in noise, of another pitch and loudness for every seed."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16000)) / 16000
    tone = rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * rng.uniform(100, 2000) * time)
    return (tone + rng.uniform(0.001, 0.2) * rng.normal(size=len(time))).astype(np.float32)


def embedding(encoder, waveform, head):
    """What the network was trained on, for one clip: rounded as the store does."""
    with torch.inference_mode():
        states = hidden_states(encoder.model, encoder.feature_extractor, [waveform])[0].numpy()
    both = np.concatenate([states.mean(axis=1), states.std(axis=1)], axis=1)
    read = {
        "mlp": lambda: both[-1, :32],
        "logistic-regression": lambda: both[[0, 2]].reshape(-1),
        "weighted-layers": lambda: both,
        "attentive-pooling": lambda: states[1],
    }[head]()
    return torch.tensor(read[None].astype(np.float16).astype(np.float32))


@pytest.fixture
def frozen(tmp_path):
    """Return a function that saves an encoder with a network, fitted to its embeddings of random sounds."""

    def make(kind, head="mlp", waveform=None):
        encoder = load_encoder(str(tiny_checkpoint(tmp_path / kind, kind)))
        layers, pooling, shape = HEADS[head]
        torch.manual_seed(0)
        network = models.build(head, EMOTIONS, shape, hidden=8, dense=(16,)).eval()
        seen = [embedding(encoder, sound(0.5, seed), head)[0] for seed in range(1, 6)]
        network.standardise.fit(torch.stack(seen))
        for weight in network.head.parameters():
            weight.data *= 2  # probabilities that are not all alike
        folder = tmp_path / f"{kind}-{head}"
        save_frozen(encoder, network, layers, pooling, folder)
        return folder, encoder, network

    return make


def logits(folder, waveforms):
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    padding = "max_length" if "Whisper" in type(extractor).__name__ else True
    inputs = extractor(waveforms, sampling_rate=16000, padding=padding, return_tensors="pt")
    with torch.inference_mode():
        return AutoModelForAudioClassification.from_pretrained(folder)(**inputs).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", HEADS)
def test_a_pipeline_gives_the_probabilities_of_the_network(frozen, kind, head, capfd):
    folder, encoder, network = frozen(kind, head)
    waveform = sound(0.73)
    answer = {item["label"]: item["score"] for item in pipeline("audio-classification", model=str(folder))(waveform)}
    expected = network_training.probabilities(network, embedding(encoder, waveform, head).numpy())[0]
    np.testing.assert_allclose([answer[emotion] for emotion in EMOTIONS], expected, atol=1e-4)
    assert expected.max() - expected.min() > 0.02
    assert "not supported" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_a_clips_logits_do_not_depend_on_its_batch(frozen, kind):
    folder, _, _ = frozen(kind, "attentive-pooling")
    waveforms = [sound(seconds, seed) for seed, seconds in enumerate((0.9, 0.33, 0.5012, 0.9))]
    alone = torch.cat([logits(folder, [waveform]) for waveform in waveforms])
    assert alone.std(dim=0).min() > 0.01
    torch.testing.assert_close(logits(folder, waveforms), alone, rtol=1e-3, atol=1e-3)


def test_whispers_masks_of_samples_and_of_frames_mean_the_same(frozen):
    folder, encoder, network = frozen("whisper", "attentive-pooling")
    waveforms = [sound(0.4321), sound(1.2)]
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    samples = extractor(waveforms, sampling_rate=16000, return_tensors="pt")
    frames = extractor(waveforms, sampling_rate=16000, return_tensors="pt", return_attention_mask=True)
    assert samples["attention_mask"].shape[1] == 480_000 and frames["attention_mask"].shape[1] == 3000
    model = AutoModelForAudioClassification.from_pretrained(folder)
    with torch.inference_mode():
        torch.testing.assert_close(model(**samples).logits, model(**frames).logits, rtol=0, atol=0)
        # Without a mask the silence up to 30 s belongs to the clip.
        unmasked = model(input_features=samples["input_features"]).logits
    padded = [np.pad(waveform, (0, 480_000 - len(waveform))) for waveform in waveforms]
    expected = [network(embedding(encoder, waveform, "attentive-pooling")) for waveform in padded]
    torch.testing.assert_close(unmasked, torch.cat(expected), rtol=1e-3, atol=1e-3)


def test_whisper_computes_no_more_than_the_clip(frozen):
    folder, _, _ = frozen("whisper")
    pipe, seen = pipeline("audio-classification", model=str(folder)), []
    pipe.model.encoder.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2]))
    pipe(sound(0.5))
    assert seen == [51]  # of 3000: half a second, and what the second convolution sees behind it


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-layer-norm"])
def test_a_clip_of_more_than_half_a_minute_is_read_in_windows(frozen, kind):
    folder, encoder, network = frozen(kind, "attentive-pooling")
    waveform = sound(31.0)
    expected = network(embedding(encoder, waveform, "attentive-pooling"))
    torch.testing.assert_close(logits(folder, [waveform]), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm", "whisper"])
def test_a_clip_of_a_few_samples_is_answered(frozen, kind):
    folder, encoder, network = frozen(kind)
    waveform = sound(0.01)
    expected = network(embedding(encoder, waveform, "mlp"))
    torch.testing.assert_close(logits(folder, [waveform]), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_labels_give_a_loss_that_trains_the_network_alone(frozen, kind):
    folder, _, _ = frozen(kind)
    model = AutoModelForAudioClassification.from_pretrained(folder).train()
    assert model.network.training and not any(module.training for module in model.encoder.modules())
    inputs = AutoFeatureExtractor.from_pretrained(folder)(sound(0.4), sampling_rate=16000, return_tensors="pt")
    output = model(**inputs, labels=torch.tensor([2]))
    torch.testing.assert_close(output.loss, -output.logits.log_softmax(dim=1)[0, 2])
    output.loss.backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.network.parameters())
    assert all(weight.grad is None for weight in model.encoder.parameters())


class TestTheFolder:
    def test_holds_one_file_of_weights_and_no_path_of_this_machine(self, frozen, tmp_path):
        folder, _, _ = frozen("wav2vec2", "logistic-regression")
        assert sorted(path.name for path in folder.iterdir()) == [
            *("config.json", "model.safetensors", "preprocessor_config.json")
        ]
        config = json.loads((folder / "config.json").read_text())
        assert config["id2label"] == {"0": "neutral", "1": "happy", "2": "sad"}
        assert config["label2id"] == {"neutral": 0, "happy": 1, "sad": 2}
        assert (config["layers"], config["pooling"], config["sampling_rate"]) == ([0, 2], "mean+std", 16000)
        for name in ("config.json", "preprocessor_config.json"):
            assert str(tmp_path) not in (folder / name).read_text()

    @pytest.mark.parametrize("head", HEADS)
    def test_gives_its_network_back_alone(self, frozen, head):
        folder, encoder, network = frozen("whisper", head)
        own = models.load(folder)
        assert own.config == network.config and not own.training
        clip = embedding(encoder, sound(0.5), head)
        torch.testing.assert_close(own(clip), network(clip), rtol=0, atol=0)

    def test_leaves_the_encoder_as_it_was(self, frozen):
        folder, encoder, _ = frozen("wav2vec2")
        assert not encoder.feature_extractor.return_attention_mask
        saved = AutoModelForAudioClassification.from_pretrained(folder).encoder.state_dict()
        for name, weight in encoder.model.state_dict().items():
            torch.testing.assert_close(saved[name], weight, rtol=0, atol=0)

    def test_on_a_full_disk_is_an_error_of_the_system(self, frozen, tmp_path):
        """A limit on the size of files stands for a full disk."""
        _, encoder, network = frozen("wav2vec2")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            with pytest.raises(OSError, match="cannot be written.*File too large") as caught:
                save_frozen(encoder, network, "last", "mean", tmp_path / "full")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.errno == errno.EIO and caught.value.filename == str(tmp_path / "full")


class TestRegistration:
    """In processes of their own, since here everything is imported already."""

    def run(self, script):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    LIGHT = "import sys, ser_lib; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)\n"

    @pytest.mark.parametrize(
        "imports",
        [
            LIGHT + "from transformers import AutoModelForAudioClassification, pipeline",
            "from transformers import AutoModelForAudioClassification, pipeline; import ser_lib",
        ],
        ids=["the package first", "transformers first"],
    )
    def test_importing_the_package_is_enough_in_either_order_and_light(self, frozen, imports):
        folder = str(frozen("wav2vec2")[0])
        assert self.run(
            f"{imports}\n"
            f"model = AutoModelForAudioClassification.from_pretrained({folder!r})\n"
            f"pipe = pipeline('audio-classification', model={folder!r})\n"
            "print(type(model).__name__, type(pipe.model) is type(model), sorted(model.config.label2id))"
        ).endswith("SpeechEmotionModel True ['happy', 'neutral', 'sad']")

    def test_the_network_alone_is_loaded_without_transformers(self, frozen):
        folder = str(frozen("wav2vec2")[0])
        script = (
            f"import sys, pathlib; from ser_lib.models import networks as models; print(models.load(pathlib.Path({folder!r})).config['name']);"
            "print('transformers' in sys.modules)"
        )
        assert self.run(script).split() == ["mlp", "False"]
