"""Finds clips that are the same recording, even if a file was resampled, made louder, trimmed or compressed.

A fingerprint is the waveform at 2 kHz. Each clip is compared with the few clips that have the most similar spectrum.
Two clips count as one recording if the highest normalised cross-correlation of their waveforms over all shifts, from
100 Hz up, exceeds `THRESHOLD`: no speaker repeats an utterance that exactly. Measured on RAVDESS, TESS and SAVEE:

    different utterances, highest of 28,000 compared pairs: 0.66
    copies that were resampled, inverted, cut by 50 ms, trimmed, compressed (MP3, OGG) or all at once, lowest: 0.99
    copies that were overdriven 0.97; in white noise 10 dB below the speech 0.93, at its level 0.65

Not found are copies at another speed or pitch, and excerpts with less than about two thirds of the energy. Two
synthetic clips of the same steady tone count as one recording.
"""

import sys

import numpy as np
import pandas as pd
from scipy.fft import next_fast_len
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ser_lib.audio import decoding, reading
from ser_lib.common import cache
from ser_lib.common.files import source_hash

THRESHOLD = 0.8
SAMPLING_RATE = 2000
LOWEST_HZ = 100  # hum and rumble below are similar in all clips of one room
BAND_HZ = 20  # narrow enough to separate a voice's harmonics
MAX_SECONDS = 20.0
NEIGHBOURS = 8
# Neighbours are searched for in the directions in which spectra differ most, where a tree finds them in n log n, and the
# nearest of these candidates are taken: on speech-like clips 99.7 % of the neighbours of an exhaustive search.
DIRECTIONS = 12
CANDIDATES = 32


def near_duplicate_groups(clips: pd.DataFrame, progress: bool = True) -> pd.Series:
    """Number the recordings from 0, aligned to the rows: one number is the same audio, or altered copies of it.

    Args:
        clips: needs `path` and `audio_hash`; rows with the same `audio_hash` are one recording without comparison.
    """
    number, hashes = pd.factorize(clips["audio_hash"])
    distinct = clips[~clips["audio_hash"].duplicated()]
    code = source_hash(decoding, reading, sys.modules[__name__])
    settings = {"sampling_rate": SAMPLING_RATE, "max_seconds": MAX_SECONDS, "code": code}
    waveforms = cache.collect(distinct, "fingerprint", settings, fingerprint, progress=progress)
    pairs = _near_pairs(waveforms)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(hashes), len(hashes)))
    _, group = connected_components(links, directed=False)
    return pd.Series(pd.factorize(group[number])[0], index=clips.index, name="group")


def fingerprint(path: str) -> np.ndarray:
    """The first `MAX_SECONDS` of the waveform at 2 kHz, peak 1, float16 of shape (n_samples,)."""
    waveform = reading.prepare(path, sampling_rate=SAMPLING_RATE, max_seconds=MAX_SECONDS, normalise="peak")
    return waveform.astype(np.float16)


def similarity(first: list[np.ndarray], second: list[np.ndarray]) -> np.ndarray:
    """Highest absolute normalised cross-correlation over all shifts, of each pair: 0 to 1, with silence 0."""
    # Twice the longest one, so that a shift cannot wrap around.
    n_fft = next_fast_len(2 * max(map(len, [*first, *second])), real=True)
    spectra = _spectra(first, n_fft) * _spectra(second, n_fft).conj()
    # The spectra have unit energy over the positive half of the frequencies, hence n_fft / 2.
    return np.abs(np.fft.irfft(spectra, n_fft)).max(axis=1) * n_fft / 2


def _spectra(waveforms: list[np.ndarray], n_fft: int) -> np.ndarray:
    padded = np.zeros((len(waveforms), n_fft), dtype=np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    spectra = np.fft.rfft(padded)
    spectra[:, : LOWEST_HZ * n_fft // SAMPLING_RATE] = 0
    return spectra / np.maximum(np.linalg.norm(spectra, axis=1, keepdims=True), 1e-12)


def _near_pairs(waveforms: list[np.ndarray]) -> np.ndarray:
    """Pairs of row numbers, of shape (n_pairs, 2), of clips that are one recording."""
    near = [np.empty((0, 2), dtype=int)]
    if len(waveforms) < 2:
        return near[0]
    spectra = np.stack([_band_energy(waveform) for waveform in waveforms])
    neighbours = _neighbours(spectra)
    pairs = np.column_stack([np.repeat(np.arange(len(waveforms)), neighbours.shape[1]), neighbours.ravel()])
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    # Pairs of similar length are in one batch, so that its transform is short.
    lengths = np.array([len(waveform) for waveform in waveforms])
    pairs = pairs[np.argsort(lengths[pairs].max(axis=1), kind="stable")]
    for start in range(0, len(pairs), 128):
        batch = pairs[start : start + 128]
        likeness = similarity([waveforms[i] for i in batch[:, 0]], [waveforms[j] for j in batch[:, 1]])
        near.append(batch[likeness > THRESHOLD])
    return np.concatenate(near)


def _neighbours(spectra: np.ndarray) -> np.ndarray:
    """Row numbers of the nearest spectra of each spectrum, itself included, of shape (n_clips, NEIGHBOURS + 1 or fewer)."""
    centred = spectra - spectra.mean(axis=0)
    # In rising order of the variance.
    _, directions = np.linalg.eigh(centred.T @ centred)
    points = centred @ directions[:, -DIRECTIONS:]
    _, candidates = cKDTree(points).query(points, k=np.arange(1, min(CANDIDATES + 1, len(points)) + 1), workers=-1)
    nearest = []
    for start in range(0, len(spectra), 4096):
        part = candidates[start : start + 4096]
        distances = np.linalg.norm(spectra[part] - spectra[start : start + 4096, None], axis=2)
        order = np.argsort(distances, axis=1, kind="stable")[:, : NEIGHBOURS + 1]
        nearest.append(np.take_along_axis(part, order, axis=1))
    return np.concatenate(nearest)


def _band_energy(waveform: np.ndarray) -> np.ndarray:
    """Square root of each band's share of the energy; gain, shift and surrounding silence do not change it."""
    n_fft = next_fast_len(max(len(waveform), SAMPLING_RATE // 4), real=True)
    energy = np.abs(np.fft.rfft(waveform.astype(np.float32), n_fft)) ** 2
    edges = np.arange(LOWEST_HZ, SAMPLING_RATE // 2 - BAND_HZ + 1, BAND_HZ) * n_fft // SAMPLING_RATE
    bands = np.add.reduceat(energy, edges)
    return np.sqrt(bands / max(bands.sum(), 1e-12)).astype(np.float32)
