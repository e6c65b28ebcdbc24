"""Acoustic features in PyTorch, as the first part of an exported graph: waveforms in, features of frames out.

`GRAPHS` maps each kind of `ser_lib.audio.features.ACOUSTIC_FEATURES` to its graph, whose settings are those of the kind.
Waveforms have shape (n_clips, n_samples), features (n_clips, 1 + n_samples // hop, n_features). The graphs are made of
products of small matrices, as any runtime has them.
"""

import math

import librosa
import numpy as np
import scipy.fft
import scipy.signal
import torch
from torch import nn

from ser_lib.audio import features

DELTA_WIDTH = 9
CONTRAST_QUANTILE = 0.02


class Mfcc(nn.Module):
    """The features of `ser_lib.audio.features.mfcc`, whose values span hundreds, to within 0.02."""

    def __init__(
        self,
        sampling_rate: int,
        n_mfcc: int,
        deltas: bool = False,
        chroma: bool = False,
        frame: int = 2048,
        hop: int = 512,
    ):
        super().__init__()
        self.frames, self.deltas, self.chroma = Frames(frame, hop), deltas, chroma
        _constant(self, "mel", librosa.filters.mel(sr=sampling_rate, n_fft=frame).T)
        _constant(self, "cosine", scipy.fft.dct(np.eye(128), norm="ortho")[:, :n_mfcc])
        self.differences = Differences()
        if chroma:
            _constant(self, "pitches", librosa.filters.chroma(sr=sampling_rate, n_fft=frame, tuning=0.0).T)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        power = self.frames(_at_least(waveform, self.frames.frame))
        parts = [self.coefficients(power)]
        if self.deltas:
            parts += self.differences(parts[0])
        if self.chroma:
            energy = power @ self.pitches
            highest = energy.amax(dim=2, keepdim=True)
            parts.append(energy / torch.where(highest > 0, highest, torch.ones_like(highest)))
        return torch.cat(parts, dim=2)

    def coefficients(self, power: torch.Tensor) -> torch.Tensor:
        """The coefficients, (n_clips, n_frames, n_mfcc), of the power of each frequency."""
        return _decibels(power @ self.mel) @ self.cosine


class MfccPitchSpectrum(nn.Module):
    """`ser_lib.audio.features.mfcc_pitch_spectrum`.

    Means over a clip differ by less than a hundredth of their spread over clips; a single frame of unclear pitch may be an
    octave off.
    """

    def __init__(self, sampling_rate: int, n_mfcc: int = 40, deltas: bool = False, frame: int = 2048, hop: int = 512):
        super().__init__()
        self.mfcc, self.pitch = Mfcc(sampling_rate, n_mfcc, frame=frame, hop=hop), Pitch(sampling_rate, hop)
        self.deltas, self.differences = deltas, Differences()
        self.bands = _octave_bands(sampling_rate, frame)
        _constant(self, "frequencies", librosa.fft_frequencies(sr=sampling_rate, n_fft=frame))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        waveform = _at_least(waveform, self.mfcc.frames.frame)
        power, (octaves, voicing) = self.mfcc.frames(waveform), self.pitch(waveform)
        magnitudes = power.sqrt()
        parts = [self.mfcc.coefficients(power), octaves, voicing, *self.shape_of_spectrum(power, magnitudes)]
        joined = torch.cat(parts, dim=2)
        return torch.cat([joined, *self.differences(joined)], dim=2) if self.deltas else joined

    def shape_of_spectrum(self, power: torch.Tensor, magnitudes: torch.Tensor) -> list[torch.Tensor]:
        """Centroid, log flatness, contrast and flux of each frame, (n_clips, n_frames, …)."""
        centroid = (_unit(magnitudes, magnitudes.sum(dim=2, keepdim=True)) * self.frequencies).sum(dim=2, keepdim=True)
        audible = power.clamp(min=1e-10)
        flatness = audible.log().mean(dim=2, keepdim=True) - audible.mean(dim=2, keepdim=True).log()
        peaks, valleys = [], []
        for first, last, count in self.bands:
            band = magnitudes[:, :, first:last]
            peaks.append(band.topk(count, dim=2).values.mean(dim=2))
            valleys.append(band.topk(count, dim=2, largest=False).values.mean(dim=2))
        contrast = _decibels(torch.stack(peaks, dim=2)) - _decibels(torch.stack(valleys, dim=2))
        unit = _unit(magnitudes, power.sum(dim=2, keepdim=True).sqrt())
        change = unit - torch.cat([unit[:, :1], unit[:, :-1]], dim=1)
        return [centroid, flatness, contrast, change.square().sum(dim=2, keepdim=True).sqrt()]


class Pitch(nn.Module):
    """`ser_lib.audio.features.pitch`: octaves above 100 Hz, interpolated where the voice has none, and voicing."""

    def __init__(self, sampling_rate: int, hop: int):
        super().__init__()
        lowest, highest = features.PITCH_RANGE
        half = round(features.PITCH_SECONDS * sampling_rate / 2)
        window = np.hanning(2 * half + 1)[:-1]
        lags = np.arange(int(sampling_rate / highest), int(sampling_rate / lowest) + 1)
        self.frames = Frames(2 * half, hop, window, 4 * half)
        # The autocorrelation at each lag, and at one before the first and one behind the last, of the power spectrum.
        around = np.arange(lags[0] - 1, lags[-1] + 2)
        turns = np.cos(2 * np.pi * np.outer(np.arange(2 * half + 1), around) / (4 * half))
        weights = np.full((2 * half + 1, 1), 2.0)
        weights[[0, -1]] = 1.0
        overlap = np.fft.irfft(np.abs(np.fft.rfft(window, 4 * half)) ** 2)
        _constant(self, "transform", weights * turns / (overlap[around] / overlap[0]))
        _constant(self, "total", weights)
        _constant(self, "lags", lags)
        _constant(self, "cost", features.OCTAVE_COST * np.log2(lags / lags[0]))
        self.sampling_rate = sampling_rate

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        power = self.frames(waveform)
        energy = power @ self.total
        values = power @ self.transform / torch.where(energy > 0, energy, torch.ones_like(energy))
        before, here, behind = values[:, :, :-2], values[:, :, 1:-1], values[:, :, 2:]
        curvature = before - 2 * here + behind
        # In 32 bits a slow drift has peaks of rounding, which are flat: those of a voice are ten times as sharp.
        is_peak = (here >= before) & (here > behind) & (curvature < -2e-5)
        curvature = torch.where(is_peak, curvature, torch.ones_like(here))
        vertex = torch.where(is_peak, (before - behind) / (2 * curvature), torch.zeros_like(here))
        heights = torch.where(is_peak, here - (before - behind) * vertex / 4, torch.zeros_like(here))
        best = (heights - self.cost).argmax(dim=2, keepdim=True)
        period = self.lags[best] + vertex.gather(2, best)
        voicing = heights.gather(2, best).clamp(0, 1)
        octaves = torch.log2(self.sampling_rate / period / 100)
        return _interpolated(octaves, voicing >= features.VOICED), voicing


class Frames(nn.Module):
    """The power of each frequency of each frame, (n_clips, n_frames, n_bins), half a frame of silence at both ends.

    A Fourier transform of n points is one of n₁ times n₂ points (Cooley & Tukey 1965), whose matrices take kilobytes.

    Args:
        window: None: Hann's. With one of one's own, each frame is taken without its mean.
        n_points: of the transform, with silence behind the frame; None: those of the frame.
    """

    def __init__(self, frame: int, hop: int, window: np.ndarray | None = None, n_points: int | None = None):
        super().__init__()
        n_points = n_points or frame
        self.frame, self.hop, self.n_points, self.centred = frame, hop, n_points, window is not None
        n_1 = max(size for size in range(1, math.isqrt(n_points) + 1) if n_points % size == 0)
        n_2 = n_points // n_1
        # Only the first half of the bins is needed.
        n_kept = (n_points // 2 + 1) // n_1 + 1
        self.shape = (n_1, n_2, n_kept)
        by_1, by_2 = np.arange(n_1), np.arange(n_2)
        _constant(self, "window", scipy.signal.get_window("hann", frame) if window is None else window)
        _constant(self, "first", np.exp(-2j * np.pi * np.outer(by_1, by_1) / n_1))
        _constant(self, "twiddle", np.exp(-2j * np.pi * np.outer(by_1, by_2) / n_points))
        _constant(self, "second", np.exp(-2j * np.pi * np.outer(by_2, np.arange(n_kept)) / n_2))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        padded = nn.functional.pad(waveform, (self.frame // 2, self.frame // 2))
        n_frames = 1 + (padded.shape[1] - self.frame) // self.hop
        starts = torch.arange(n_frames, device=waveform.device) * self.hop
        frames = padded[:, starts[:, None] + torch.arange(self.frame, device=waveform.device)]
        if self.centred:
            frames = frames - frames.mean(dim=2, keepdim=True)
        frames = nn.functional.pad(frames * self.window, (0, self.n_points - self.frame))
        n_1, n_2, n_kept = self.shape
        # Sample n₂ a + b is row a, column b; bin c + n₁ d is row c, column d.
        table = frames.reshape(frames.shape[0], -1, n_1, n_2)
        real, imaginary = self.first_real @ table, self.first_imaginary @ table
        real, imaginary = (
            real * self.twiddle_real - imaginary * self.twiddle_imaginary,
            real * self.twiddle_imaginary + imaginary * self.twiddle_real,
        )
        real, imaginary = (
            real @ self.second_real - imaginary @ self.second_imaginary,
            real @ self.second_imaginary + imaginary @ self.second_real,
        )
        power = (real.square() + imaginary.square()).transpose(2, 3)
        return power.reshape(power.shape[0], -1, n_1 * n_kept)[:, :, : self.n_points // 2 + 1]


class Differences(nn.Module):
    """First and second differences of features over 9 frames, as librosa's `delta` with mode="nearest"."""

    def __init__(self):
        super().__init__()
        rows = [scipy.signal.savgol_coeffs(DELTA_WIDTH, order, deriv=order, use="dot") for order in (1, 2)]
        _constant(self, "weights", np.stack(rows))

    def forward(self, frames: torch.Tensor) -> list[torch.Tensor]:
        reach = DELTA_WIDTH // 2
        padded = torch.cat([frames[:, :1]] * reach + [frames] + [frames[:, -1:]] * reach, dim=1).transpose(1, 2)
        flat = padded.reshape(-1, 1, padded.shape[2])
        changes = [nn.functional.conv1d(flat, weights[None, None]) for weights in self.weights]
        return [change.reshape(-1, frames.shape[2], change.shape[2]).transpose(1, 2) for change in changes]


GRAPHS: dict[str, type[nn.Module]] = {"mfcc": Mfcc, "mfcc-pitch-spectrum": MfccPitchSpectrum}


def _constant(module: nn.Module, name: str, values: np.ndarray) -> None:
    """Give a module an array in float32; a complex one as two, `name_real` and `name_imaginary`."""
    if np.iscomplexobj(values):
        _constant(module, f"{name}_real", values.real)
        _constant(module, f"{name}_imaginary", values.imag)
    else:
        module.register_buffer(name, torch.tensor(values, dtype=torch.float32))


def _at_least(waveform: torch.Tensor, n_samples: int) -> torch.Tensor:
    """The waveforms, with silence behind those that are shorter."""
    return nn.functional.pad(waveform, (0, torch.sym_max(waveform.shape[1], n_samples) - waveform.shape[1]))


def _decibels(energy: torch.Tensor) -> torch.Tensor:
    """As librosa's `power_to_db`: no lower than 80 dB below the highest value of each clip."""
    levels = 10 * energy.clamp(min=1e-10).log10()
    return torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - 80)


def _unit(values: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """The values divided by their length; as they are where that is 0."""
    return values / torch.where(length > torch.finfo(torch.float32).tiny, length, torch.ones_like(length))


def _octave_bands(sampling_rate: int, frame: int) -> list[tuple[int, int, int]]:
    """The first and last bin of each band of librosa's `spectral_contrast`, and how many bins are a peak or a valley."""
    frequencies = librosa.fft_frequencies(sr=sampling_rate, n_fft=frame)
    n_bands = features.contrast_bands(sampling_rate)
    ends = [0.0, *(200.0 * 2.0 ** np.arange(n_bands + 1))]
    bands = []
    for number, (low, high) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
        inside = np.flatnonzero((frequencies >= low) & (frequencies <= high))
        first = inside[0] - (number > 0)
        behind = len(frequencies) if number == n_bands else inside[-1] + 1
        count = max(1, round(CONTRAST_QUANTILE * (behind - first)))
        bands.append((int(first), int(behind - (number < n_bands)), count))
    return bands


def _interpolated(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Values of (n_clips, n_frames, 1), in straight lines where they are not known; 0 where none of a clip is."""
    n_frames = values.shape[1]
    number = torch.arange(n_frames, device=values.device)
    row, column = number[None, :, None], number[None, None, :]
    is_known = known.transpose(1, 2)
    # The known frame at or before each frame, and that at or behind it.
    before = torch.where(is_known & (column <= row), column, -1).amax(dim=2)
    behind = torch.where(is_known & (column >= row), column, n_frames).amin(dim=2)
    has_before, has_behind = before >= 0, behind < n_frames
    before, behind = torch.where(has_before, before, behind), torch.where(has_behind, behind, before)
    nowhere = ~(has_before | has_behind)
    before, behind = (torch.where(nowhere, 0, index).clamp(0, n_frames - 1) for index in (before, behind))
    start, end = (values[:, :, 0].gather(1, index) for index in (before, behind))
    share = (number[None] - before) / torch.where(behind > before, behind - before, 1)
    between = start + (end - start) * share
    return torch.where(nowhere, torch.zeros_like(between), between)[:, :, None]
