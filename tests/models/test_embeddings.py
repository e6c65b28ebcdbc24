"""Hidden states and embeddings of pretrained encoders: right, alone as in any batch, stored once, bounded in memory."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import tone_clips
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import KINDS, tiny_checkpoint
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, WhisperModel

from ser_lib.audio import reading
from ser_lib.common import cache
from ser_lib.common.errors import SerError
from ser_lib.models import embeddings
from ser_lib.models import hidden_states as hidden_states_module
from ser_lib.models.embeddings import hidden_states, load_encoder
from ser_lib.models.settings import Input

# The large models of HuBERT and WavLM have a front end that reads padded batches, the base models one that does not.
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
EXTRA = {"hubert-layer-norm": ("hubert", LAYER_NORM), "wavlm-layer-norm": ("wavlm", LAYER_NORM)}
EVERY = [*KINDS, *EXTRA]
AUDIO = {"sampling_rate": 16000, "normalise": "peak"}
EXACT = {"audio": AUDIO, "precision": "float32", "device": "cpu", "progress": False}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    for name in EVERY:
        kind, changes = EXTRA.get(name, (name, {}))
        tiny_checkpoint(folder / name, kind, **changes)
    return folder


@pytest.fixture(scope="session")
def loaded(folders):
    # A function: a failing test prints its arguments.
    return {name: load_encoder(str(folders / name)) for name in EVERY}.__getitem__


@pytest.fixture
def clips(tmp_path):
    """Twelve clips of different lengths, 0.3 to 0.7 s."""
    clips = tone_clips(tmp_path / "tones", speakers=2, takes=2, seconds=0.7)
    for number, path in enumerate(clips["path"]):
        waveform, rate = soundfile.read(path)
        waveform = waveform[: 4800 + 537 * number]
        soundfile.write(path, waveform, rate)
        clips.loc[number, "seconds"] = len(waveform) / rate
    return clips


def speech(n_samples, seed=0):
    """Noise whose level and colour change, on an offset."""
    rng = np.random.default_rng(seed)
    noise = np.convolve(rng.standard_normal(n_samples + 2), [1, 1.7, 0.8], mode="valid")
    return (0.1 * noise * np.linspace(0.2, 1, n_samples) + 0.02).astype(np.float32)


def states_of(encoder, *waveforms):
    return hidden_states(encoder.model, encoder.feature_extractor, list(waveforms))


def assert_alike(ours, theirs, tolerance=1e-3):
    """Within that part of the layer's size."""
    assert ours.shape == theirs.shape
    for own, their in zip(ours, theirs, strict=True):
        assert (own - their).abs().max() < tolerance * their.abs().max()


def stock_states(name, folders, waveform):
    """One clip alone, as transformers computes it from the feature extractor's output."""
    extractor = AutoFeatureExtractor.from_pretrained(folders / name)
    inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        if name == "whisper":
            model = WhisperModel.from_pretrained(folders / name).encoder.eval()
            output = model(inputs["input_features"], output_hidden_states=True)
        else:
            model = AutoModelForAudioClassification.from_pretrained(folders / name).base_model.eval()
            output = model(inputs["input_values"], output_hidden_states=True)
    return torch.cat([*output.hidden_states[:-1], output.last_hidden_state])


def embed(clips, encoder, device="cpu", progress=False, **settings):
    settings = {"layers": "all", "pooling": "mean+std"} | settings
    return embeddings.embed(clips, Input(encoder=encoder, **settings), device, progress)


class TestLoadEncoder:
    @pytest.mark.parametrize("name", EVERY)
    def test_gives_a_frozen_model_of_known_size(self, loaded, name):
        encoder = loaded(name)
        assert (encoder.checkpoint.n_layers, encoder.sampling_rate) == (3, 16000)
        assert encoder.checkpoint.name == name and not encoder.model.training
        assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
        assert encoder.n_parameters == sum(weight.numel() for weight in encoder.model.parameters()) > 10_000

    def test_leaves_whispers_decoder_out(self, loaded):
        assert type(loaded("whisper").model).__name__ == "WhisperEncoder"

    def test_leaves_an_adapter_out(self, folders, tmp_path):
        tiny_checkpoint(tmp_path / "adapted", "wav2vec2", add_adapter=True, output_hidden_size=32)
        encoder = load_encoder(str(tmp_path / "adapted"))
        assert states_of(encoder, speech(8000))[0].shape == (3, 24, 32)


class TestHiddenStates:
    @pytest.mark.parametrize("name", [name for name in EVERY if name != "whisper"])
    def test_of_a_clip_are_the_stock_models(self, loaded, folders, name):
        waveform = speech(9000)
        assert_alike(states_of(loaded(name), waveform)[0], stock_states(name, folders, waveform))

    def test_of_whisper_are_the_stock_encoders_on_thirty_seconds(self, loaded, folders):
        waveform = speech(480_000)
        assert_alike(states_of(loaded("whisper"), waveform)[0], stock_states("whisper", folders, waveform))

    @pytest.mark.parametrize("n_samples", [1, 159, 160, 161, 320, 321, 5000, 6400, 479_679, 479_681])
    def test_of_whisper_begin_as_the_stock_encoders_whatever_the_length(self, loaded, folders, n_samples):
        waveform = speech(n_samples) + np.float32(0.5)  # the end of a clip is a step: the frames there see it
        own = states_of(loaded("whisper"), waveform)[0]
        assert own.shape[1] == -(-n_samples // 320)
        stock = stock_states("whisper", folders, waveform)[0, : own.shape[1]]
        assert_alike(own[:1], stock[None], tolerance=1e-5)

    @pytest.mark.parametrize("name", EVERY)
    def test_do_not_depend_on_the_batch(self, loaded, name):
        waveforms = [speech(n, seed) for seed, n in enumerate((6000, 16000, 6000, 500, 11111, 11112, 15999))]
        together = states_of(loaded(name), *waveforms)
        for waveform, states in zip(waveforms, together, strict=True):
            assert_alike(states, states_of(loaded(name), waveform)[0])

    @pytest.mark.parametrize("name", EVERY)
    @settings(max_examples=8, deadline=None)
    @given(data=st.data())
    def test_do_not_depend_on_any_batch(self, loaded, name, data):
        lengths = data.draw(st.lists(st.integers(1, 8000), min_size=2, max_size=5))
        order = data.draw(st.permutations(range(len(lengths))))
        waveforms = [speech(n, seed) for seed, n in enumerate(lengths)]
        one, other = (states_of(loaded(name), *waveforms), states_of(loaded(name), *(waveforms[i] for i in order)))
        alone = states_of(loaded(name), waveforms[order[0]])[0]
        for place, i in enumerate(order):
            assert_alike(one[i], other[place])
        assert_alike(other[0], alone)

    @pytest.mark.parametrize("name", ["wav2vec2-layer-norm", "wavlm-layer-norm", "data2vec-audio"])
    def test_are_normalised_by_the_clip_alone_where_the_extractor_asks_for_it(self, loaded, name):
        quiet, loud = speech(8000), 30 * speech(8000) + 0.3
        assert_alike(*(states_of(loaded(name), loud, waveform)[1] for waveform in (quiet, loud)))
        encoder = loaded(name)
        plain = AutoFeatureExtractor.from_pretrained(encoder.checkpoint.folder, do_normalize=False)
        own = hidden_states(encoder.model, plain, [loud])[0]
        assert (own - states_of(encoder, loud)[0]).abs().max() > 0.01

    @pytest.mark.parametrize("name", EVERY)
    def test_of_silence_and_of_a_single_sample_are_finite(self, loaded, name):
        for waveform in (np.zeros(8000, np.float32), np.zeros(1, np.float32), np.float32([0.5])):
            states = states_of(loaded(name), waveform)[0]
            assert states.isfinite().all() and states.shape[1] >= 1

    @pytest.mark.parametrize("name", ["wav2vec2", "wavlm-layer-norm", "whisper"])
    def test_of_a_long_clip_are_those_of_its_windows(self, loaded, name, monkeypatch):
        monkeypatch.setattr(hidden_states_module, "MAX_SECONDS", 0.5)
        encoder = loaded(name)
        waveform = speech(20000)
        pieces = hidden_states_module.windows(encoder.feature_extractor, waveform)
        assert [len(piece) for piece in pieces] == [6667, 6667, 6666]
        assert np.array_equal(
            np.concatenate(pieces)[:5], hidden_states_module.windows(encoder.feature_extractor, waveform)[0][:5]
        )
        parts = hidden_states(encoder.model, encoder.feature_extractor, pieces, normalise=False)
        assert_alike(states_of(encoder, speech(3000), waveform)[1], torch.cat(parts, dim=1))

    @pytest.mark.parametrize("name", EVERY)
    def test_of_a_model_within_another_one(self, loaded, folders, name):
        whole = AutoModelForAudioClassification.from_pretrained(folders / name).eval()
        base = whole.encoder if name == "whisper" else whole.base_model
        extractor = loaded(name).feature_extractor
        waveforms = [speech(7000), speech(5000)]
        with torch.no_grad():
            found = hidden_states(base, extractor, waveforms)
        assert_alike(found[1], states_of(loaded(name), waveforms[1])[0])

    @pytest.mark.parametrize("name", ["wav2vec2", "whisper"])
    def test_can_be_learned_from(self, folders, name):
        model = load_encoder(str(folders / name)).model.requires_grad_(True)
        extractor = AutoFeatureExtractor.from_pretrained(folders / name)
        hidden_states(model, extractor, [speech(5000)])[0].sum().backward()
        assert model.get_parameter("layers.0.fc1.weight" if name == "whisper" else
                                   "encoder.layers.0.attention.q_proj.weight").grad.abs().max() > 0  # fmt: skip


def expected(encoder, clips, tolerance=2e-3):
    """Mean and deviation over each clip's own frames, each clip computed alone."""
    rows = []
    for path in clips["path"]:
        states = states_of(encoder, reading.prepare(path, **AUDIO))[0].double()
        rows.append(torch.cat([states.mean(dim=1), states.std(dim=1, correction=0)], dim=1).numpy())
    return np.stack(rows)


def never(*_, **__):
    raise AssertionError("computed again")


class TestEmbed:
    @pytest.mark.parametrize("name", EVERY)
    def test_gives_mean_and_deviation_of_every_layer(self, loaded, folders, clips, name):
        found = embed(clips, str(folders / name), **EXACT)
        assert found.shape == (12, 3, 64) and found.dtype == np.float32
        np.testing.assert_allclose(found, expected(loaded(name), clips), rtol=2e-3, atol=2e-3)

    def test_is_computed_once_for_every_layer_and_pooling(self, folders, clips, monkeypatch):
        encoder = str(folders / "wav2vec2")
        whole = embed(clips, encoder, **EXACT)
        for name in ("load_encoder", "hidden_states"):
            monkeypatch.setattr(embeddings, name, never)
        assert np.array_equal(embed(clips, encoder, **EXACT), whole)
        assert np.array_equal(embed(clips, encoder, layers="last", **EXACT), whole[:, [2]])
        assert np.array_equal(embed(clips, encoder, layers=(-1, 0), **EXACT), whole[:, [2, 0]])
        assert np.array_equal(embed(clips, encoder, layers=[1], pooling="mean", **EXACT), whole[:, [1], :32])
        shuffled = clips.sample(frac=1, random_state=0)
        assert np.array_equal(embed(shuffled, encoder, **EXACT), whole[shuffled.index])

    @pytest.mark.parametrize("name", ["wav2vec2", "whisper"])
    def test_keeps_the_frames_of_one_layer(self, loaded, folders, clips, name, monkeypatch):
        encoder = str(folders / name)
        frames = embed(clips, encoder, layers="last", pooling="sequence", **EXACT)
        for path, found in zip(clips["path"], frames, strict=True):
            own = states_of(loaded(name), reading.prepare(path, **AUDIO))[0][2]
            assert found.dtype == np.float32 and found.shape == own.shape
            np.testing.assert_allclose(found, own, rtol=2e-3, atol=2e-3)
        monkeypatch.setattr(embeddings, "load_encoder", never)
        again = embed(clips, encoder, layers=[-1], pooling="sequence", **EXACT)
        assert all(np.array_equal(*both) for both in zip(frames, again, strict=True))
        with pytest.raises(AssertionError, match="computed again"):  # of the other layers nothing is stored
            embed(clips, encoder, layers=[1], pooling="sequence", **EXACT)

    def test_computes_the_same_audio_once(self, folders, clips, monkeypatch):
        clips.loc[1, "audio_hash"] = clips.loc[0, "audio_hash"]
        clips.loc[1, "path"] = clips.loc[0, "path"]
        read, prepare = [], reading.prepare
        monkeypatch.setattr(reading, "prepare", lambda path, **how: read.append(path) or prepare(path, **how))
        found = embed(clips, str(folders / "wav2vec2"), **EXACT)
        assert np.array_equal(found[0], found[1]) and sorted(read) == sorted(set(clips["path"]))

    @pytest.mark.parametrize(
        "changes",
        [{"audio": AUDIO | {"normalise": None}}, {"precision": "auto"}, {"encoder": "hubert"}, {}],
        ids=["audio", "precision", "encoder", "code"],
    )
    def test_is_computed_again_where_anything_differs(self, folders, clips, monkeypatch, changes):
        embed(clips, str(folders / "wav2vec2"), **EXACT)
        # As on a processor that multiplies bfloat16, whichever this one is.
        monkeypatch.setattr(embeddings, "pick_precision", lambda name, _: "bf16" if name == "auto" else name)
        if not changes:
            monkeypatch.setattr(embeddings, "source_hash", lambda *_: "another")
        monkeypatch.setattr(embeddings, "load_encoder", never)
        encoder = str(folders / changes.pop("encoder", "wav2vec2"))
        with pytest.raises(AssertionError, match="computed again"):
            embed(clips, encoder, **EXACT | changes)

    def test_mends_what_is_damaged_in_the_store(self, folders, clips, caplog):
        whole = embed(clips, str(folders / "wav2vec2"), **EXACT)
        entry = sorted(cache.cache_dir().glob("store/embeddings/*/*/*.npz"))[3]
        content = bytearray(entry.read_bytes())
        content[len(content) // 2] ^= 1
        entry.write_bytes(content)
        assert np.array_equal(embed(clips, str(folders / "wav2vec2"), **EXACT), whole)
        assert "is damaged" in caplog.text and entry.read_bytes() != content

    @pytest.mark.parametrize("name", EVERY)
    def test_in_bfloat16_is_close_and_leaves_no_trace(self, folders, clips, name, monkeypatch):
        exact = embed(clips, str(folders / name), **EXACT)
        monkeypatch.setattr(embeddings, "pick_precision", lambda *_: "bf16")
        threads = torch.get_num_threads()
        torch.set_num_threads(threads + 1)
        try:
            rounded = embed(clips, str(folders / name), **EXACT | {"precision": "auto"})
            # A new thread: one that has been told keeps its number.
            assert ThreadPoolExecutor(1).submit(torch.get_num_threads).result() == threads + 1
        finally:
            torch.set_num_threads(threads)
        # Encoders with few random weights enlarge rounding: to 1 or 2 % with AVX2 and AVX-512, which convert to float32
        # and back, and to 16 % with the tiles of AMX. A wrong computation is off by about 100 %.
        assert 0 < np.linalg.norm(rounded - exact) < 0.3 * np.linalg.norm(exact)

    @pytest.mark.parametrize("name", ["wav2vec2", "wav2vec2-layer-norm", "whisper"])
    def test_joins_the_windows_of_a_long_clip(self, loaded, folders, clips, name, monkeypatch):
        monkeypatch.setattr(hidden_states_module, "MAX_SECONDS", 0.05)
        found = embed(clips, str(folders / name), **EXACT)
        np.testing.assert_allclose(found, expected(loaded(name), clips), rtol=2e-3, atol=2e-3)
        frames = embed(clips, str(folders / name), layers=[1], pooling="sequence", **EXACT)
        for path, own in zip(clips["path"], frames, strict=True):
            states = states_of(loaded(name), reading.prepare(path, **AUDIO))[0][1]
            np.testing.assert_allclose(own, states, rtol=2e-3, atol=2e-3)

    @pytest.mark.parametrize("name", ["wav2vec2", "whisper"])
    def test_a_clip_of_any_length_takes_no_more_than_half_a_minute_at_a_time(
        self, loaded, folders, tmp_path, name, monkeypatch
    ):
        seconds = []

        def watched(model, extractor, batch, **settings):
            seconds.append(len(batch) * max(map(len, batch)) / 16000)
            return hidden_states(model, extractor, batch, **settings)

        monkeypatch.setattr(embeddings, "hidden_states", watched)
        soundfile.write(tmp_path / "long.wav", np.tile(speech(16000), 130), 16000)
        long = tone_clips(tmp_path / "tones", speakers=1, emotions=("sad",), takes=2).iloc[:1]
        long = long.assign(path=str(tmp_path / "long.wav"), seconds=130.0, audio_hash="long")
        assert embed(long, str(folders / name), **EXACT).shape == (1, 3, 64)
        assert max(seconds) <= 30 and sum(seconds) == pytest.approx(130, abs=0.01)

    def test_weighs_windows_by_their_frames(self):
        states = torch.randn(3, 20, 8) * torch.linspace(1, 9, 20)[:, None] + 100
        parts = [embeddings._pool(part, None) for part in states.split([1, 12, 7], dim=1)]
        joined = embeddings._join(parts, None, "path", "float32")
        own = states.double()
        whole = torch.cat([own.mean(dim=1), own.std(dim=1, correction=0)], dim=1)
        np.testing.assert_allclose(joined, whole, rtol=1e-3)

    def test_is_the_same_whatever_shares_a_batch(self, folders, clips, monkeypatch):
        whole = embed(clips, str(folders / "whisper"), **EXACT)
        monkeypatch.setattr(embeddings, "source_hash", lambda *_: "another")
        monkeypatch.setattr(embeddings, "CHUNK_SECONDS", 1.0)
        monkeypatch.setattr(embeddings, "BATCH_SECONDS", {"cpu": 1.2})
        np.testing.assert_allclose(embed(clips, str(folders / "whisper"), **EXACT), whole, rtol=2e-3, atol=2e-3)

    def test_clips_what_float16_cannot_hold(self, folders, clips, monkeypatch):
        huge = torch.full((3, 5, 32), 1e6)
        monkeypatch.setattr(embeddings, "hidden_states", lambda model, extractor, batch, **_: [huge for _ in batch])
        found = embed(clips, str(folders / "wav2vec2"), **EXACT)
        assert (found[..., :32] == 65504).all() and (found[..., 32:] == 0).all()

    def test_halves_the_batch_when_the_gpu_is_full_and_remembers(self, folders, clips, monkeypatch, caplog):
        whole = embed(clips, str(folders / "whisper"), **EXACT)
        sizes = []

        def scarce(model, extractor, batch, **how):
            sizes.append(len(batch))
            if len(batch) > 4:
                raise torch.OutOfMemoryError("out of memory")
            return hidden_states(model, extractor, batch, **how)

        monkeypatch.setattr(embeddings, "hidden_states", scarce)
        monkeypatch.setattr(embeddings, "source_hash", lambda *_: "another")
        with caplog.at_level(logging.WARNING):
            found = embed(clips, str(folders / "whisper"), **EXACT)
        np.testing.assert_allclose(found, whole, rtol=2e-3, atol=2e-3)
        assert sizes[:2] == [12, 6] and max(sizes[2:]) <= 4 and "12 clips a batch: continuing with half" in caplog.text

    def test_says_when_a_clip_alone_is_too_much_for_the_gpu(self, folders, clips, monkeypatch):
        def full(*_, **__):
            raise torch.OutOfMemoryError("out of memory")

        monkeypatch.setattr(embeddings, "hidden_states", full)
        with pytest.raises(SerError, match=r"0\.\d s of audio do not fit into the GPU's memory"):
            embed(clips, str(folders / "wav2vec2"), **EXACT)

    @pytest.mark.parametrize("precision, advice", [("float32", "Look at its audio"), ("bf16", "precision=float32")])
    def test_names_the_clip_that_is_not_finite(self, folders, clips, monkeypatch, precision, advice):
        def broken(model, extractor, batch, **how):
            states = hidden_states(model, extractor, batch, **how)
            for own, waveform in zip(states, batch, strict=True):
                if len(waveform) == shortest:
                    own[1, 0, 0] = np.nan
            return states

        shortest = round(16000 * clips["seconds"].min())
        monkeypatch.setattr(embeddings, "pick_precision", lambda *_: precision)
        monkeypatch.setattr(embeddings, "hidden_states", broken)
        with pytest.raises(SerError, match=advice) as info:
            embed(clips, str(folders / "whisper"), **EXACT | {"precision": "auto"})
        assert clips["path"][clips["seconds"].idxmin()] in str(info.value)

    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"layers": [3]}, r"layers=\(3,\): wav2vec2 has the layers 0 to 2"),
            ({"layers": [-4]}, "has the layers 0 to 2"),
            ({"layers": []}, "has the layers 0 to 2"),
            ({"audio": AUDIO | {"sampling_rate": 8000}}, "reads 16000 Hz.*is 8000: set it to 16000"),
        ],
    )
    def test_refuses_what_it_cannot_do(self, folders, clips, changes, message):
        with pytest.raises(SerError, match=message):
            embed(clips, str(folders / "wav2vec2"), **EXACT | changes)

    def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_kept_for_the_next_time(self, folders, clips):
        broken = Path(clips["path"][clips["seconds"].idxmin()])  # the shortest come last
        good = broken.read_bytes()
        broken.write_bytes(b"")
        with pytest.raises(SerError, match="the file is empty") as info:
            embed(clips, str(folders / "wav2vec2"), **EXACT)
        assert str(broken) in str(info.value)
        broken.write_bytes(good)
        assert embed(clips, str(folders / "wav2vec2"), **EXACT).shape == (12, 3, 64)
