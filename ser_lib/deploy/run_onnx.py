"""Say which emotion is heard in audio files, with onnxruntime and without PyTorch: one line of JSON a file.

    pip install numpy soundfile soxr onnxruntime librosa
    python run_onnx.py FILE... [--int8]

It reads the files beside it: model.onnx, or model.int8.onnx, and preprocessor.json, which says how audio is prepared.
librosa is needed only where the model reads MFCC, or where silence is trimmed. A file that cannot be answered is named
on stderr, the others are answered all the same, and the exit status is then 1.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr

MIN_SECONDS = 0.02  # nothing shorter is speech
RMS_TARGET = 0.1


class Model:
    """What an export holds, in memory.

    Args:
        folder: of the export.
        int8: take the smaller model.
    """

    def __init__(self, folder: Path, int8: bool = False):
        import onnxruntime  # not needed to look at the functions below

        self.settings = json.loads((folder / "preprocessor.json").read_text(encoding="utf-8"))
        file = folder / ("model.int8.onnx" if int8 else "model.onnx")
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self.emotions = self.settings["emotions"]

    def hear(self, path: str) -> np.ndarray:
        """Probabilities of the emotions in a file, shape (n_emotions,).

        Raises:
            ValueError: the file is no audio, or nothing can be heard in it.
        """
        try:
            samples, sampling_rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (OSError, soundfile.SoundFileError) as error:
            raise ValueError(f"cannot be read: {error}") from error
        if len(samples) < MIN_SECONDS * sampling_rate:
            raise ValueError(f"expected at least {MIN_SECONDS} s of audio, got {len(samples) / sampling_rate:.4f} s")
        if not np.isfinite(samples).all():
            raise ValueError("holds NaN or infinite samples")
        if not samples.any():
            raise ValueError("silent, every sample is 0")
        if len(samples) > self.settings["longest_seconds"] * sampling_rate:
            raise ValueError(f"longer than {self.settings['longest_seconds']:.0f} s: cut it into shorter pieces")
        return self.probabilities(samples, sampling_rate)

    def probabilities(self, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Probabilities of the emotions, from float32 samples of shape (n_samples, n_channels) within ±1."""
        waveform = prepare(samples, sampling_rate, **self.settings["audio"])
        features = self.settings["features"]
        given = waveform if features is None else clip_features(waveform, self.settings["sampling_rate"], **features)
        (answer,) = self.session.run(None, {self.settings["input"]: given[None].astype(np.float32)})
        return answer[0]


def prepare(
    samples: np.ndarray,
    from_rate: int,
    *,
    sampling_rate: int,
    offset_seconds: float,
    max_seconds: float | None,
    trim_below_db: float | None,
    normalise: str | None,
    crop: str,
    pad: bool,
) -> np.ndarray:
    """One channel at `sampling_rate`, float32 of shape (n_samples,), as the model heard its training clips."""
    waveform = samples[:, 0]
    if samples.shape[1] > 1:
        waveform = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    if from_rate != sampling_rate:
        waveform = soxr.resample(waveform, from_rate, sampling_rate)
    if trim_below_db is not None:
        import librosa

        waveform = librosa.effects.trim(waveform, top_db=trim_below_db)[0]
    latest = len(waveform) - round(MIN_SECONDS * sampling_rate)
    waveform = waveform[max(0, min(round(offset_seconds * sampling_rate), latest)) :]
    if normalise is not None:
        wide = waveform.astype(np.float64)
        level = np.abs(wide).max() if normalise == "peak" else np.sqrt(np.square(wide).mean()) / RMS_TARGET
        waveform = (wide / level).astype(np.float32) if level > 0 else waveform
    if max_seconds is not None:
        surplus = len(waveform) - round(max_seconds * sampling_rate)
        if surplus > 0:
            start = surplus // 2 if crop == "centre" else 0
            waveform = waveform[start : len(waveform) - surplus + start]
        elif pad:
            waveform = np.pad(waveform, (0, -surplus))
    return waveform


def clip_features(
    waveform: np.ndarray,
    sampling_rate: int,
    *,
    n_mfcc: int,
    deltas: bool,
    chroma: bool,
    frame: int,
    hop: int,
    pooling: str,
) -> np.ndarray:
    """MFCC and chroma, (n_frames, n_features), or pooled over the frames."""
    import librosa

    if len(waveform) < frame:
        waveform = np.pad(waveform, (0, frame - len(waveform)))
    size = {"y": waveform, "sr": sampling_rate, "n_fft": frame, "hop_length": hop}
    parts = [librosa.feature.mfcc(n_mfcc=n_mfcc, **size)]
    if deltas:
        parts += [librosa.feature.delta(parts[0], order=order, mode="nearest") for order in (1, 2)]
    if chroma:
        parts.append(np.nan_to_num(librosa.feature.chroma_stft(tuning=0.0, **size)))
    frames = np.concatenate(parts).T.astype(np.float32)
    if pooling == "sequence":
        return frames
    mean = frames.mean(axis=0)
    return mean if pooling == "mean" else np.concatenate([mean, frames.std(axis=0)])


def main() -> int:
    parser = argparse.ArgumentParser(description="Say which emotion is heard in audio files.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="WAV, FLAC, OGG or MP3")
    parser.add_argument("--int8", action="store_true", help="take the smaller model, where there is one")
    options = parser.parse_args()
    model, failed = Model(Path(__file__).parent, options.int8), False
    for path in options.files:
        try:
            probabilities = model.hear(path)
        except ValueError as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
            continue
        told = {emotion: round(float(value), 6) for emotion, value in zip(model.emotions, probabilities, strict=True)}
        answer = {"path": path, "emotion": max(told, key=told.get), "probabilities": told}
        print(json.dumps(answer), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
