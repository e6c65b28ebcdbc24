"""Embeddings of clips by a pretrained speech encoder, computed once and cached."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from ser_lib.audio import decoding, reading
from ser_lib.audio.reading import Recording
from ser_lib.common import cache, distributed
from ser_lib.common.devices import autocast, pick_device, pick_precision
from ser_lib.common.errors import SerError
from ser_lib.common.files import source_hash
from ser_lib.models import encoder_weights
from ser_lib.models import hidden_states as hidden_states_module
from ser_lib.models.base import Inputs
from ser_lib.models.hidden_states import hidden_states, windows
from ser_lib.models.settings import Input

logger = logging.getLogger(__name__)

# Seconds of audio that are decoded ahead and sorted by length: 77 MB at 16 kHz.
CHUNK_SECONDS = 1200.0
# Seconds of audio that a core, or a GPU, computes at a time.
BATCH_SECONDS = {"cpu": 20.0, "cuda": 400.0}
FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder: float32 weights without gradients, in evaluation mode."""

    checkpoint: encoder_weights.Checkpoint
    model: nn.Module  # Wav2Vec2Model, HubertModel, WavLMModel, Data2VecAudioModel or WhisperEncoder
    feature_extractor: Any

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def sampling_rate(self) -> int:
        return self.feature_extractor.sampling_rate


def load_encoder(encoder: str, revision: str | None = None, device: str | torch.device = "cpu") -> Encoder:
    """Load an encoder; arguments and errors are those of `ser_lib.models.encoder_weights.locate` and `load_model`."""
    from transformers import AutoModel, WhisperForAudioClassification

    checkpoint = encoder_weights.locate(encoder, revision)
    if checkpoint.config["model_type"] == "whisper":
        # This class alone has Whisper's encoder without its decoder.
        new = encoder_weights.HEAD
        model = encoder_weights.load_model(checkpoint, WhisperForAudioClassification, new=new).encoder
    else:
        model = encoder_weights.load_model(checkpoint, AutoModel)
    model = model.requires_grad_(False).to(device)
    return Encoder(checkpoint, model, encoder_weights.load_feature_extractor(checkpoint))


def embed(clips: pd.DataFrame, settings: Input, device: str = "auto", progress: bool = True) -> Inputs:
    """Embeddings of clips by a frozen encoder, from the cache where they are there already.

    All layers are cached, a sequence layer by layer. Several processes share the work.

    Args:
        clips: clip table; rows with the same `audio_hash` are computed once.
        settings: encoder, revision, layers (-1 is the last), pooling, audio and precision of a recipe.

    Returns:
        float32 of shape (n_clips, n_layers, n_features), or 2 * n_features for "mean+std", rounded to float16, within
        its range; for a sequence, of one layer, a list of such arrays (n_frames, n_features), 20 ms a frame.

    Raises:
        SerError: the encoder cannot be had, or does not fit the settings; a file cannot be read; a value is not finite;
            one clip does not fit into the GPU's memory.
    """
    checkpoint, target = encoder_weights.locate(settings.encoder, settings.revision), pick_device(device)
    numbers, layer = _layers(settings, checkpoint)
    precision, audio = pick_precision(settings.precision, target), settings.audio.model_dump()
    kind = "embeddings" if layer is None else "frames"
    cached_with = {
        "encoder": checkpoint.identity,
        "audio": audio,
        "layer": layer,
        "precision": precision,
        "versions": [version(package) for package in ("torch", "transformers", "soxr", "soundfile")],
        "code": source_hash(decoding, reading, encoder_weights, hidden_states_module, sys.modules[__name__]),
    }
    rows = clips.drop_duplicates("audio_hash").sort_values("seconds", ascending=False)
    arrays = {key: cache.get(kind, cached_with, key) for key in rows["audio_hash"]}
    # The first process decides: another may already have added to the cache when a slower one looks.
    missing = distributed.from_first([key for key, array in arrays.items() if array is None])
    part = distributed.share(missing)
    if part:
        loaded = load_encoder(settings.encoder, settings.revision, target)
        encoder_weights.check_sampling_rate(checkpoint, loaded.feature_extractor, settings.audio.sampling_rate)
        computed = _compute(loaded, rows.set_index("audio_hash").loc[part], audio, precision, layer)
        bar = tqdm(computed, total=len(part), desc=kind, unit="clip", leave=False, delay=0.5, disable=not progress)
        for key, array in bar:
            cache.put(kind, cached_with, key, array)
    distributed.wait()
    arrays |= {key: cache.get(kind, cached_with, key) for key in missing}
    return _chosen([arrays[key] for key in clips["audio_hash"]], numbers, settings.pooling)


def embed_with(loaded: Encoder, recordings: Sequence[str | Path | Recording], settings: Input) -> Inputs:
    """As `embed`, without the cache, by a loaded encoder; its weights are rounded to the precision."""
    numbers, layer = _layers(settings, loaded.checkpoint)
    precision = pick_precision(settings.precision, next(loaded.model.parameters()).device)
    # Equal lengths keep the order; the true lengths are known once the audio is read.
    rows = pd.DataFrame({"path": pd.Series(list(recordings), dtype=object), "seconds": 1.0})
    arrays = dict(_compute(loaded, rows, settings.audio.model_dump(), precision, layer))
    return _chosen([arrays[row] for row in rows.index], numbers, settings.pooling)


def _chosen(arrays: list[Any], numbers: list[int], pooling: str) -> Inputs:
    """The wanted layers and pooling of each clip's cached array."""
    if pooling == "sequence":
        return [array.astype(np.float32) for array in arrays]
    chosen = np.stack([array[numbers] for array in arrays]).astype(np.float32)
    return chosen if pooling == "mean+std" else chosen[:, :, : chosen.shape[2] // 2]


def _layers(settings: Input, checkpoint: encoder_weights.Checkpoint) -> tuple[list[int], int | None]:
    """The numbers of the wanted layers, and of the one layer whose frames are kept, if they are."""
    count, layers = checkpoint.n_layers, settings.layers
    wanted = {"all": range(count), "last": [-1]}[layers] if isinstance(layers, str) else layers
    if not wanted or not set(wanted) <= set(range(-count, count)):
        known = f"the layers 0 to {count - 1}; -1 is the last. Also understood: all, last"
        raise SerError(f"input.layers={layers}: {checkpoint.name} has {known}.")
    numbers = [number % count for number in wanted]
    return numbers, numbers[0] if settings.pooling == "sequence" else None


def _compute(
    encoder: Encoder, rows: pd.DataFrame, audio: dict, precision: str, layer: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the key and array of each row: frames of one layer, or mean and deviation of every layer (None)."""
    device = next(encoder.model.parameters()).device
    allowed = BATCH_SECONDS.get(device.type, 20.0) * encoder.sampling_rate
    _quicken(encoder.model, precision, device)

    def read(path: str) -> list[np.ndarray]:
        return windows(encoder.feature_extractor, reading.prepare(path, **audio))

    def pooled(batch: list[np.ndarray]) -> list:
        nonlocal allowed
        samples = len(batch) * max(len(piece) for piece in batch)
        if len(batch) == 1 or samples <= allowed:
            try:
                with torch.no_grad(), autocast(precision, device):
                    states = hidden_states(encoder.model, encoder.feature_extractor, batch, normalise=False)
                return [_pool(window, layer) for window in states]
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    text = f"{samples / encoder.sampling_rate:.1f} s of audio do not fit into the GPU's memory"
                    raise SerError(f"{text}. Free some of it, or use training.device=cpu.") from error
                logger.warning("out of GPU memory with %d clips a batch: continuing with half as many", len(batch))
                allowed = samples / 2
            # Not above, where the error still holds the tensors that did not fit.
            torch.cuda.empty_cache()
        half = len(batch) // 2
        return pooled(batch[:half]) + pooled(batch[half:])

    # A batch for each core: a model that is spread over cores waits for the slowest at each of its small operations.
    threads = torch.get_num_threads()
    workers = threads if device.type == "cpu" else 1
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
    try:
        for chunk in _read_ahead(rows, read):
            parts: dict[str, list[Any]] = {key: [None] * len(pieces) for key, pieces in chunk}
            waiting = [(key, number, piece) for key, pieces in chunk for number, piece in enumerate(pieces)]
            # Windows of similar length share a batch.
            waiting.sort(key=lambda item: len(item[2]), reverse=True)
            batches = []
            while waiting:
                count = max(1, int(allowed / len(waiting[0][2])))
                batches.append(waiting[:count])
                waiting = waiting[count:]
            computed = pool.map(lambda batch: pooled([piece for *_, piece in batch]), batches)
            for batch, results in zip(batches, computed, strict=True):
                for (key, number, _), result in zip(batch, results, strict=True):
                    parts[key][number] = result
                    if all(part is not None for part in parts[key]):
                        yield key, _join(parts.pop(key), layer, rows.loc[key, "path"], precision)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _quicken(model: nn.Module, precision: str, device: torch.device) -> None:
    """Change a loaded model so that it computes the same numbers faster."""
    if device.type == "cpu":
        # The fused kernel's blocks are too large for clips of a few seconds: it needs twice the time.
        model.set_attn_implementation("eager")
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    # Autocast would round these weights again for every batch: a sixth of the time on a CPU.
    for module in model.modules() if kind else ():
        if isinstance(module, nn.Linear | nn.Conv1d):
            if nn.utils.parametrize.is_parametrized(module, "weight"):
                nn.utils.parametrize.remove_parametrizations(module, "weight")
            module.to(kind)


def _read_ahead(rows: pd.DataFrame, read) -> Iterator[list[tuple[str, list[np.ndarray]]]]:
    """Yield (key, windows) of every clip, some minutes of audio at a time, while threads read the next minutes."""
    chunks = rows["path"].groupby((rows["seconds"].cumsum() // CHUNK_SECONDS).to_numpy())
    pool = ThreadPoolExecutor(os.cpu_count())
    submitted = ([(key, pool.submit(read, path)) for key, path in chunk.items()] for _, chunk in chunks)
    try:
        for futures, _ in pairwise(chain(submitted, [[]])):
            yield [(key, future.result()) for key, future in futures]
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(states: torch.Tensor, layer: int | None) -> np.ndarray:
    """The frames of one layer of a window, or (3, n_layers, n_features): count, mean and variance over its frames."""
    if layer is not None:
        return states[layer].float().cpu().numpy()
    states = states.float()
    # As products of matrices: ten times faster on a CPU than `var_mean`.
    share = states.new_full((1, states.shape[1]), 1 / states.shape[1])
    mean = share @ states
    variance = share @ (states - mean).square_()
    return torch.cat([torch.full_like(mean, states.shape[1]), mean, variance], dim=1).transpose(0, 1).cpu().numpy()


def _join(parts: list[np.ndarray], layer: int | None, path: str, precision: str) -> np.ndarray:
    """The array to be cached of a clip, from its windows."""
    if layer is not None:
        joined = np.concatenate(parts)
    else:
        counts, means, variances = np.stack(parts, axis=1).astype(np.float64)
        shares = counts / counts.sum(axis=0)
        mean = (shares * means).sum(axis=0)
        variance = (shares * (variances + (means - mean) ** 2)).sum(axis=0)
        joined = np.concatenate([mean, np.sqrt(variance)], axis=1)
    if not np.isfinite(joined).all():
        advice = "Look at its audio." if precision == "float32" else "Use input.precision=float32."
        raise SerError(f"{path}: its embedding holds NaN or infinite values, computed in {precision}. {advice}")
    return joined.clip(-FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
