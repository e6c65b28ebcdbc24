"""How fast the chain is on this machine: `ser bench`.

Features, networks and streams are measured on the bundled corpus, an encoder on any corpus. The numbers are printed and
never tested: they depend on the machine and on its load.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser_lib.audio.reading import load, prepare
from ser_lib.corpora.clips import load_clips
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.inference.predictor import Predictor
from ser_lib.inference.streaming import Stream
from ser_lib.recipes import Input, Recipe, load_recipe

AUDIO: dict[str, Any] = {"sampling_rate": 16000, "trim_below_db": 30.0, "normalise": "peak"}
# Clips on which the slow ways are measured.
FEW = 16
STREAM_SECONDS = 60


def run_benchmarks(encoder: str | None = None, corpus: str = "sample") -> None:
    """Print the time and rate of the clip table, features, cache, training, embedding and streams.

    Args:
        encoder: as of `ser_lib.models.encoder_weights.locate`; None: `$SER_WHISPER_BASE`, else random weights of its
            shape.
        corpus: whose clips are embedded.
    """
    with _empty_cache() as folder:
        features_and_networks(folder)
        clips = load_clips(corpus, progress=False)
        if encoder is None and os.environ.get("SER_WHISPER_BASE"):
            encoder = "$SER_WHISPER_BASE"
        encoder = encoder or random_whisper_base(folder / "random-whisper-base")
        embedding(clips, corpus, encoder)
        frozen = [f"input.encoder={encoder}", "input.layers=last"]
        for recipe in (load_recipe("demo"), load_recipe("ravdess-whisper-logistic", overrides=frozen)):
            streaming(recipe, folder)


def features_and_networks(folder: Path) -> None:
    """Acoustic features and networks on the bundled corpus; the cache must be empty."""
    clips, seconds = timed(lambda: load_clips("sample", progress=False))
    show("clip table, decoding every file", len(clips), seconds, "clips")
    show("clip table again", len(clips), timed(lambda: load_clips("sample", progress=False))[1], "clips")
    model = load_recipe("demo").create_model()
    inputs, seconds = timed(lambda: model.inputs(clips, progress=False))
    show("MFCC, over all cores, processes started", len(clips), seconds, "clips")
    show("MFCC from the cache", len(clips), timed(lambda: model.inputs(clips, progress=False))[1], "clips")
    for name in ("cnn", "lstm", "bilstm", "gru"):
        overrides = [f"model.name={name}", "training.epochs=3"]
        fitting = partial(fitted, load_recipe("demo", overrides=overrides), clips, inputs, folder)
        # The first is the warm-up.
        _, seconds = fitting(), timed(fitting)[1]
        show(f"one epoch of {name}, {inputs.shape[1]} frames", len(clips), seconds / 3, "clips")


def fitted(recipe: Recipe, clips: pd.DataFrame, inputs: np.ndarray, folder: Path):
    """The recipe's model, fitted on all clips."""
    model, labels, rows = recipe.create_model(), clips["emotion"].map(EMOTIONS.index).to_numpy(), np.arange(len(clips))
    model.fit(inputs, labels, rows, rows[:0], emotions=list(EMOTIONS), seed=0, folder=folder, progress=False)
    return model


def embedding(clips: pd.DataFrame, corpus: str, encoder: str) -> None:
    """A frozen encoder over a corpus: the usual loop, Hugging Face's batches, ours; and how near that is to the most."""
    import torch

    from ser_lib.common.devices import pick_device, pick_precision
    from ser_lib.models import embeddings

    device = pick_device()
    precision = pick_precision("auto", device)
    loaded = embeddings.load_encoder(encoder, device=device)
    few = clips.iloc[np.linspace(0, len(clips) - 1, FEW).astype(int)]
    waveforms = [prepare(path, **AUDIO) for path in few["path"]]
    print(
        f"\n{loaded.checkpoint.name}, {loaded.n_parameters / 1e6:.1f} M parameters, on {corpus}: {len(clips)} clips of "
        f"{np.mean([len(waveform) for waveform in waveforms]) / 16000:.2f} s once trimmed; {device}, "
        f"{torch.get_num_threads()} threads. The first two rows are measured on {FEW} clips, rates hold for any number."
    )
    huggingface(loaded, waveforms[:2], 2)  # warm-up
    loop = timed(lambda: [huggingface(loaded, [prepare(path, **AUDIO)], 1) for path in few["path"]])[1]
    show("one clip at a time, float32, as padded", FEW, loop, "clips")
    batched = timed(lambda: huggingface(loaded, [prepare(path, **AUDIO) for path in few["path"]], 16))[1]
    show("batches of 16, float32, as padded", FEW, batched, "clips")
    most = ceiling(precision, device)
    settings = Input(encoder=encoder, layers="all", pooling="mean+std", audio=AUDIO)
    embed = partial(embeddings.embed, clips, settings, str(device), progress=False)
    ours = timed(embed)[1]
    most = max(most, ceiling(precision, device))  # whatever else the machine does, it did at one of both times
    show(f"ours, {precision}, model and files to load", len(clips), ours, "clips")
    show("ours again, from the store", len(clips), timed(embed)[1], "clips")
    each, reached = ours / len(clips), flops(loaded, waveforms) / FEW * len(clips) / ours
    print(f"ours is {loop / FEW / each:.1f} x the loop, {batched / FEW / each:.1f} x the batches")
    print(f"{reached / 1e9:,.0f} of {most / 1e9:,.0f} GFLOP/s of large {precision} products: {reached / most:.0%}")


def streaming(recipe: Recipe, folder: Path) -> None:
    """The bundled corpus, clip after clip, as from a microphone: the processor's time for each second of audio."""
    clips = load_clips("sample", progress=False)
    few = clips.iloc[:: len(clips) // FEW].reset_index(drop=True)
    brief = {"epochs": 1, "inverse_regularisation": (0.01,)}
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=brief)})
    model = fitted(recipe, few, recipe.create_model().inputs(few, progress=False), folder)
    model.save(folder / recipe.name)
    predictor = Predictor(recipe, [folder / recipe.name], folder / recipe.name)
    length = STREAM_SECONDS * predictor.sampling_rate
    waveform = np.concatenate([load(path, predictor.sampling_rate)[0] for path in clips["path"]])[:length]
    stream = Stream(predictor)
    # Warm-up.
    Stream(predictor).push(waveform[: length // 6])
    pushes = np.split(waveform, range(predictor.sampling_rate, len(waveform), predictor.sampling_rate))
    times = np.array([timed(partial(stream.push, push))[1] for push in pushes])
    seconds = len(waveform) / predictor.sampling_rate
    show(f"stream, {recipe.features_label}"[:42], seconds, times.sum(), "s of audio")
    # The first window is not complete before.
    milliseconds = 1000 * times[3:]
    print(
        f"real-time factor {times.sum() / seconds:.4f}; a push of 1 s takes {np.median(milliseconds):.1f} ms in the "
        f"median, {np.percentile(milliseconds, 95):.1f} ms at the 95th percentile"
    )


def huggingface(encoder, waveforms: list[np.ndarray], batch_size: int) -> list[np.ndarray]:
    """Mean and deviation over frames the usual way: the feature extractor pads as it does by default, then the model."""
    import torch

    pooled = []
    for start in range(0, len(waveforms), batch_size):
        batch = waveforms[start : start + batch_size]
        padding = "max_length" if encoder.model.config.model_type == "whisper" else True  # 30 s; or the longest
        inputs = encoder.feature_extractor(batch, sampling_rate=16000, padding=padding, return_tensors="pt")
        with torch.no_grad():
            output = encoder.model(**inputs.to(encoder.model.device), output_hidden_states=True)
        states = torch.stack(output.hidden_states, dim=1)
        pooled += [torch.cat([own.mean(dim=1), own.std(dim=1)], dim=1).cpu().numpy() for own in states]
    return pooled


def flops(encoder, waveforms: list[np.ndarray]) -> int:
    """Floating-point operations of the model on these clips' own frames alone, two for each multiplication and addition.

    Counted in products of matrices and convolutions by PyTorch, one clip at a time: padding is no work that is needed.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ser_lib.models.embeddings import hidden_states

    encoder.model.set_attn_implementation("eager")  # of the fused kernels not all are counted
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for waveform in waveforms:
            hidden_states(encoder.model, encoder.feature_extractor, [waveform])
    return counter.get_total_flops()


def ceiling(precision: str, device) -> float:
    """The most FLOP/s that a product of large matrices reaches here with that precision."""
    import torch

    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)

    best = 0.0
    for rows, inner, columns in [(2048, 512, 2048), (2048, 2048, 2048)]:
        left = torch.randn(rows, inner, device=device).to(kind)
        right = torch.randn(columns, inner, device=device).to(kind).T  # as a layer of a network has its weights
        one = 2 * rows * inner * columns
        times = 1 + int((1e14 if device.type == "cuda" else 5e10) / one)
        for _ in range(4):  # the first is the warm-up
            started = time.perf_counter()
            for _ in range(times):
                product = left @ right
            product[0, 0].item()  # waits for a GPU
            best = max(best, times * one / (time.perf_counter() - started))
    return best


def random_whisper_base(folder: Path) -> str:
    """A checkpoint of Whisper-base's shape with random weights: as fast as the real one, for anyone to measure."""
    import transformers

    config = transformers.WhisperConfig(
        d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048, decoder_layers=0
    )
    transformers.WhisperForAudioClassification(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return str(folder)


@contextmanager
def _empty_cache() -> Iterator[Path]:
    """A cache in which nothing is stored yet, for as long as the block runs."""
    before = os.environ.get("SER_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SER_CACHE_DIR"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("SER_CACHE_DIR")
            if before is not None:
                os.environ["SER_CACHE_DIR"] = before


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a function and its seconds."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def show(what: str, count: float, seconds: float, unit: str) -> None:
    rate = count / seconds
    print(f"{what:42} {seconds:8.2f} s {rate:10,.{0 if rate >= 20 else 1}f} {unit}/s", flush=True)
