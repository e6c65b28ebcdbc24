"""Fixtures that many tests share: synthetic clip tables, tiny audio files, and the real corpora where they are."""

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from ser_lib.common.errors import SerError
from ser_lib.corpora import CORPORA, find_corpus


@pytest.fixture(autouse=True)
def caches_of_their_own(tmp_path, monkeypatch):
    """Every test starts with an empty cache, and finds no corpus folder that it did not ask for."""
    monkeypatch.setenv("SER_CACHE_DIR", str(tmp_path / "cache"))
    if "SER_DATA_DIR" in os.environ:
        monkeypatch.setenv("SER_REAL_DATA_DIR", os.environ["SER_DATA_DIR"])
    monkeypatch.delenv("SER_DATA_DIR", raising=False)


def make_clips(
    speakers=6, emotions=("neutral", "happy", "sad"), sentences=2, takes=2, corpora=("sample",)
) -> pd.DataFrame:
    """A valid clip table of invented clips: no audio behind it."""
    rows = []
    for corpus, speaker, emotion, sentence, take in itertools.product(
        corpora, range(1, speakers + 1), emotions, range(1, sentences + 1), range(1, takes + 1)
    ):
        stem = f"{speaker:02d}-{emotion}-{sentence}-{take}"
        rows.append(
            {
                "clip_id": f"{corpus}/{stem}",
                "corpus": corpus,
                "path": f"/nowhere/{corpus}/{stem}.wav",
                "speaker": f"{corpus}-{speaker:02d}",
                "sex": "male" if speaker % 2 else "female",
                "emotion": emotion,
                "intensity": "normal",
                "sentence": f"sentence-{sentence}",
                "seconds": 1.0 + take / 10,
                "sampling_rate": 16000,
                "audio_hash": f"{corpus}-{stem}",
            }
        )
    return pd.DataFrame(rows)


def tone_clips(folder, speakers=6, emotions=("neutral", "happy", "sad"), takes=4, seconds=0.4) -> pd.DataFrame:
    """A clip table with audio: each emotion a pitch, each speaker a shift of it, each take its own noise."""
    clips = make_clips(speakers, emotions, sentences=2, takes=takes // 2)
    time = np.arange(int(seconds * 16000)) / 16000
    for i, row in enumerate(clips.itertuples()):
        rng = np.random.default_rng(i)
        pitch = 200 * 1.8 ** list(emotions).index(row.emotion) * (1 + 0.02 * int(row.speaker[-2:]))
        waveform = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.05 * rng.standard_normal(len(time))
        path = folder / f"{row.clip_id.replace('/', '_')}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, waveform.astype("float32"), 16000, subtype="PCM_16")
        clips.loc[i, "path"] = str(path)
    clips["seconds"] = seconds
    return clips


@pytest.fixture
def real(monkeypatch, tmp_path_factory):
    """Return a function that finds a real corpus or skips the test, saying which corpus is not there.

    Tests of real corpora share one cache: reading thousands of clips takes seconds each time.
    """
    base = tmp_path_factory.getbasetemp()
    # Each process of xdist has a folder of its own in that of the session.
    cache_of_session = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real-corpora"

    def find(*names):
        monkeypatch.setenv("SER_CACHE_DIR", str(cache_of_session))
        if "SER_REAL_DATA_DIR" in os.environ:
            monkeypatch.setenv("SER_DATA_DIR", os.environ["SER_REAL_DATA_DIR"])
        for name in names:
            # Only what is there already: a test never starts a download of gigabytes.
            cache = Path(os.environ.get("KAGGLEHUB_CACHE", "~/.cache/kagglehub")).expanduser()
            in_cache = (cache / "datasets" / f"{CORPORA[name].handle.replace('/versions/', '/')}.complete").exists()
            in_folder = "SER_DATA_DIR" in os.environ and Path(os.environ["SER_DATA_DIR"], name).is_dir()
            if not (in_cache or in_folder):
                pytest.skip(f"{CORPORA[name].title} is neither in kagglehub's cache nor under $SER_DATA_DIR")
            try:
                find_corpus(name)
            except SerError as error:
                pytest.fail(f"{name} is in the cache, but was not found: {error}")

    return find
