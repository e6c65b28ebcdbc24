"""How fast the chain is on this machine: `ser bench`.

Features, networks and streams are measured on the bundled corpus, an encoder on any corpus. The numbers are printed and
never tested: they depend on the machine and on its load.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import soundfile

from ser_lib.audio.reading import Recording, prepare
from ser_lib.corpora.clips import load_clips
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.inference.packaged import PackagedPredictor
from ser_lib.inference.predictor import TrainedPredictor
from ser_lib.inference.streaming import Stream
from ser_lib.models.base import Inputs, Model
from ser_lib.recipes import Input, Recipe, load_recipe
from ser_lib.studies.probe import AUDIO

# Clips on which the slow ways are measured.
FEW = 16
STREAM_SECONDS = 60
# Of the clip that a new process answers.
CLIP_SECONDS = 4
# `ru_maxrss` would count the memory of the process that starts this one.
FIRST_ANSWER = """
import sys
from pathlib import Path
from ser_lib.cli import main
main(["predict", sys.argv[1]])
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.is_file() else []
print(*[int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")])
"""


def run_benchmarks(encoder: str | None = None, corpus: str = "sample") -> None:
    """Print the time and rate of the packaged model, the clip table, features, cache, training, embedding, and streams.

    The encoder is as of `ser_lib.models.encoder_weights.locate`; None: `$SER_WHISPER_BASE`, else random weights.
    """
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, SER_CACHE_DIR=cache):
        folder = Path(cache)
        packaged_model(folder)
        features_and_networks(folder)
        encoder = encoder or os.environ.get("SER_WHISPER_BASE") or random_whisper_base(folder / "random-whisper-base")
        embedding(load_clips(corpus, progress=False), corpus, encoder)
        frozen = [f"input.encoder={encoder}", "input.layers=last"]
        for recipe in (load_recipe("demo"), load_recipe("ravdess-whisper-logistic", overrides=frozen)):
            streaming(recipe, folder)


def packaged_model(folder: Path) -> None:
    """Measure the model that comes with the package: the first answer of a new process, its memory, and the rate after it."""
    predictor, clips = PackagedPredictor(), load_clips("sample", progress=False)
    rate, paths = predictor.sampling_rate, clips["path"].tolist()
    waveform = np.concatenate([prepare(path, sampling_rate=rate, trim_below_db=30) for path in paths[:4]])
    soundfile.write(folder / "clip.wav", waveform[: CLIP_SECONDS * rate], rate)
    command = [sys.executable, "-c", FIRST_ANSWER, str(folder / "clip.wav")]
    # The first one may read the libraries from the disk.
    for which in ("first", "again"):
        run = partial(subprocess.run, command, capture_output=True, text=True, check=True)
        done, seconds = timed(run)
        show(f"model of the package, new process, {which}", CLIP_SECONDS, seconds, "s of audio")
    if (last := done.stdout.split()[-1]).isdecimal():
        print(f"the memory of that process reached {int(last) / 1e6:.0f} MB")
    recordings = [Recording(waveform[: CLIP_SECONDS * rate], rate)]
    one = np.median([timed(partial(predictor.answers, recordings))[1] for _ in range(FEW)])
    show("model of the package, one clip at a time", CLIP_SECONDS, float(one), "s of audio")
    show(
        "model of the package, many clips",
        clips["seconds"].sum(),
        timed(partial(predictor.answers, paths))[1],
        "s of audio",
    )


def features_and_networks(folder: Path) -> None:
    """Measure acoustic features and networks on the bundled corpus; the cache must be empty."""
    read_clips = partial(load_clips, "sample", progress=False)
    clips, seconds = timed(read_clips)
    show("clip table, decoding every file", len(clips), seconds)
    show("clip table again", len(clips), timed(read_clips)[1])
    read_inputs = partial(load_recipe("demo").create_model().inputs, clips, progress=False)
    inputs, seconds = timed(read_inputs)
    show("MFCC, over all cores, processes started", len(clips), seconds)
    show("MFCC from the cache", len(clips), timed(read_inputs)[1])
    for name in ("cnn", "lstm", "bilstm", "gru"):
        recipe = load_recipe("demo", overrides=[f"model.name={name}", "training.epochs=3"])
        fitting = partial(fitted, recipe, clips, inputs, folder)
        _, seconds = fitting(), timed(fitting)[1]
        show(f"one epoch of {name}, {inputs.shape[1]} frames", len(clips), seconds / 3)


def fitted(recipe: Recipe, clips: pd.DataFrame, inputs: Inputs, folder: Path) -> Model:
    """The recipe's model, fitted on all clips."""
    model, labels, rows = recipe.create_model(), clips["emotion"].map(EMOTIONS.index).to_numpy(), np.arange(len(clips))
    settings: dict = {"clips": clips, "emotions": list(EMOTIONS), "seed": 0, "folder": folder, "progress": False}
    model.fit(inputs, labels, rows, rows[:0], **settings)
    return model


def embedding(clips: pd.DataFrame, corpus: str, encoder: str) -> None:
    """Measure a frozen encoder on a corpus: the usual loop, Hugging Face's batches, and this package."""
    import torch

    from ser_lib.common.devices import pick_device, pick_precision
    from ser_lib.models import embeddings

    device = pick_device()
    loaded = embeddings.load_encoder(encoder, device=device)
    paths = clips["path"].iloc[np.linspace(0, len(clips) - 1, FEW).astype(int)]
    waveforms = [prepare(path, **AUDIO) for path in paths]
    seconds = np.mean([len(waveform) for waveform in waveforms]) / 16000
    print(
        f"\n{loaded.checkpoint.name}, {loaded.n_parameters / 1e6:.1f} M parameters, on {corpus}: {len(clips)} clips of "
        f"{seconds:.2f} s once trimmed; {device}, {torch.get_num_threads()} threads; the first two rows on {FEW} clips."
    )
    # The first call is the warm-up, here and below.
    huggingface(loaded, waveforms[:2])
    loop = timed(lambda: [huggingface(loaded, [prepare(path, **AUDIO)]) for path in paths])[1]
    show("one clip at a time, float32, as padded", FEW, loop)
    batched = timed(lambda: huggingface(loaded, [prepare(path, **AUDIO) for path in paths]))[1]
    show("batches of 16, float32, as padded", FEW, batched)
    settings = Input(encoder=encoder, layers="all", pooling="mean+std", audio=AUDIO)
    embed = partial(embeddings.embed, clips, settings, str(device), progress=False)
    embedding_seconds = timed(embed)[1]
    show(f"ser_lib, {pick_precision('auto', device)}, loading included", len(clips), embedding_seconds)
    show("ser_lib again, from the cache", len(clips), timed(embed)[1])
    per_clip = embedding_seconds / len(clips)
    than_loop, than_batches = (seconds / FEW / per_clip for seconds in (loop, batched))
    print(f"ser_lib is {than_loop:.1f} times as fast as the loop, and {than_batches:.1f} times as fast as the batches")


def huggingface(encoder, waveforms: list[np.ndarray]) -> np.ndarray:
    """Mean and deviation over frames the usual way: the feature extractor pads as it does by default, then the model."""
    import torch

    # Whisper's 30 s; else the longest clip.
    padding = "max_length" if encoder.model.config.model_type == "whisper" else True
    inputs = encoder.feature_extractor(waveforms, sampling_rate=16000, padding=padding, return_tensors="pt")
    with torch.no_grad():
        output = encoder.model(**inputs.to(encoder.model.device), output_hidden_states=True)
    states = torch.stack(output.hidden_states, dim=1)
    return torch.cat([states.mean(dim=2), states.std(dim=2)], dim=2).cpu().numpy()


def streaming(recipe: Recipe, folder: Path) -> None:
    """Measure the processor's time for each second of audio as from a microphone: the bundled clips in a row."""
    clips = load_clips("sample", progress=False)
    few = clips.iloc[:: len(clips) // FEW].reset_index(drop=True)
    brief = {"epochs": 1, "inverse_regularisation": (0.01,)}
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=brief)})
    model = fitted(recipe, few, recipe.create_model().inputs(few, progress=False), folder)
    model.save(folder / recipe.name)
    predictor = TrainedPredictor(recipe, [folder / recipe.name], folder / recipe.name)
    rate = predictor.sampling_rate
    waveform = np.concatenate([prepare(path, sampling_rate=rate) for path in clips["path"]])[: STREAM_SECONDS * rate]
    stream = Stream(predictor)
    Stream(predictor).push(waveform[: STREAM_SECONDS * rate // 6])
    pushes = np.split(waveform, range(rate, len(waveform), rate))
    times = np.array([timed(partial(stream.push, push))[1] for push in pushes])
    seconds = len(waveform) / rate
    show(f"stream, {recipe.features_label}"[:42], seconds, times.sum(), "s of audio")
    # The first window is not complete before.
    milliseconds = 1000 * times[3:]
    print(
        f"real-time factor {times.sum() / seconds:.4f}; a push of 1 s takes {np.median(milliseconds):.1f} ms in the "
        f"median, {np.percentile(milliseconds, 95):.1f} ms at the 95th percentile"
    )


def random_whisper_base(folder: Path) -> str:
    """A checkpoint of Whisper-base's shape with random weights: as fast as the real one, for anyone to measure."""
    import transformers

    shape = {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
    config = transformers.WhisperConfig(**shape, decoder_layers=0)
    transformers.WhisperForAudioClassification(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return str(folder)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a function and its seconds."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def show(what: str, count: float, seconds: float, unit: str = "clips") -> None:
    """Print a row: what was done, its seconds, and how many per second."""
    rate = count / seconds
    print(f"{what:42} {seconds:8.2f} s {rate:10,.{0 if rate >= 20 else 1}f} {unit}/s", flush=True)
