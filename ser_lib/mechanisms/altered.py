"""Features of altered copies of clips, computed from their audio; nothing is written to disk."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ser_lib import audio, augmentation
from ser_lib.draws import hash_of
from ser_lib.features import mfcc

COPIES = {
    "speed 0.9": lambda waveform, rng: augmentation.change_speed(waveform, 0.9),
    "speed 1.1": lambda waveform, rng: augmentation.change_speed(waveform, 1.1),
    "noise 20 dB": lambda waveform, rng: augmentation.add_noise(waveform, 20.0, rng),
}


def features_of_copies(
    clips: pd.DataFrame,
    features_of: Callable[[list[np.ndarray], int], np.ndarray],
    audio_settings: dict,
    changes: dict[str, Callable] = COPIES,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Features of altered copies of all clips, for `copies_before_split`; nothing is written.

    Args:
        features_of: waveforms and their sampling rate in Hz -> (n_waveforms, n_features): `mfcc_of`, or what
            `embedding_of` gives.
        audio_settings: keyword arguments of `ser_lib.audio.prepare`, as the originals' features had them.
        changes: name -> function of a waveform and a random generator, the changed waveform.
    """
    rate = audio_settings.get("sampling_rate", 16000)
    found = {name: [None] * len(clips) for name in changes}
    # Clips of like length share a batch, so that an encoder pads little.
    by_length = clips["seconds"].to_numpy().argsort(kind="stable")
    for rows in np.array_split(by_length, -(-len(clips) // 16)):
        ids = clips["clip_id"].iloc[rows]
        waveforms = audio.prepare_all(clips["path"].iloc[rows], audio_settings, progress=False)
        for name, change in changes.items():
            chance = [np.random.default_rng(hash_of(seed, clip_id, name)) for clip_id in ids]
            changed = [change(waveform, rng) for waveform, rng in zip(waveforms, chance, strict=True)]
            for row, own in zip(rows, features_of(changed, rate), strict=True):
                found[name][row] = own
    return {name: np.stack(rows).astype(np.float32) for name, rows in found.items()}


def mfcc_of(waveforms: list[np.ndarray], sampling_rate: int) -> np.ndarray:
    """MFCC's mean and deviation over each clip's frames: (n_waveforms, 80)."""
    frames = [mfcc(waveform, sampling_rate) for waveform in waveforms]
    return np.stack([np.concatenate([own.mean(axis=0), own.std(axis=0)]) for own in frames])


def embedding_of(encoder: str, layer: int) -> Callable[[list[np.ndarray], int], np.ndarray]:
    """What embeds waveforms by an encoder's layer, mean and deviation over frames: (n_waveforms, 2 * n_features)."""
    import torch

    from ser_lib.devices import autocast, pick_precision
    from ser_lib.encoders import load_encoder
    from ser_lib.forward import hidden_states

    loaded = load_encoder(encoder)
    loaded.model.set_attn_implementation("eager")  # as `encoders.embed` on a CPU: the same rounding
    device = next(loaded.model.parameters()).device

    def features_of(waveforms, sampling_rate):
        with torch.no_grad(), autocast(pick_precision("auto", device), device):
            states = hidden_states(loaded.model, loaded.feature_extractor, waveforms)
        frames = [own[layer].float() for own in states]
        return torch.stack([torch.cat([own.mean(0), own.std(0, correction=0)]) for own in frames]).numpy()

    return features_of
