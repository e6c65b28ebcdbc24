"""The benchmark runs and says what it measured; its numbers are nobody's promise."""

import os
import re

import pytest
from tiny import tiny_checkpoint

from ser_lib import bench
from ser_lib.corpora import clips
from ser_lib.models.embeddings import load_encoder


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2"])
def test_prints_every_rate_and_leaves_no_trace(kind, tmp_path, monkeypatch, capsys):
    encoder = str(tiny_checkpoint(tmp_path / kind, kind))
    few = clips.load_clips("sample", progress=False).iloc[::20].reset_index(drop=True)
    monkeypatch.setattr(bench, "load_clips", lambda *_, **__: few)
    monkeypatch.setattr(bench, "FEW", 2)
    monkeypatch.setattr(bench, "STREAM_SECONDS", 12)
    before = dict(os.environ), sorted(tmp_path.rglob("cache/store/**"))
    bench.run_benchmarks(encoder)
    assert (dict(os.environ), sorted(tmp_path.rglob("cache/store/**"))) == before
    printed = capsys.readouterr().out
    rates = dict(re.findall(r"^(.{42}) +\d+\.\d\d s +([\d.,]+) [\w ]+/s$", printed, re.MULTILINE))
    assert len(rates) == 18 and all(float(rate.replace(",", "")) > 0 for rate in rates.values())
    assert re.search(rf"{kind}, 0\.\d M parameters, on sample: 13 clips of", printed)
    told = r"real-time factor \d\.\d{4}; a push of 1 s takes [\d.]+ ms in the median, [\d.]+ ms at the 95th"
    assert len(re.findall(told, printed)) == 2
    assert re.search(r"ser_lib is [\d.]+ times as fast as the loop, and [\d.]+ times as fast as the batches\n", printed)


def test_random_weights_have_whisper_bases_shape(tmp_path):
    encoder = load_encoder(bench.random_whisper_base(tmp_path / "random"))
    assert (encoder.checkpoint.n_layers, encoder.model.config.d_model, encoder.n_parameters) == (7, 512, 20_590_592)
