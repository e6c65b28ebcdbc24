"""Recognise emotions in audio files with onnxruntime, without PyTorch: one line of JSON a file.

    pip install numpy soundfile soxr onnxruntime librosa
    python run_onnx.py FILE... [--int8]

The script reads what lies beside it: model.onnx, or model.int8.onnx; preprocessor.json, which states how audio is
prepared; and ser_lib, a copy of the modules that prepare audio. librosa is needed only where the model reads MFCC, or
where silence is trimmed. A file that cannot be read is named on stderr, and the exit status is then 1.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from ser_lib.audio import features, reading
from ser_lib.common.errors import SerError


class Model:
    """An exported model in memory, of the folder of an export; with `int8` its smaller file."""

    def __init__(self, folder: Path, int8: bool = False):
        import onnxruntime

        self.settings = json.loads((folder / "preprocessor.json").read_text(encoding="utf-8"))
        self.emotions: list[str] = self.settings["emotions"]
        file = folder / ("model.int8.onnx" if int8 else "model.onnx")
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def probabilities(self, source: reading.AudioSource) -> np.ndarray:
        """Compute the probabilities of the emotions in one recording, float32 of shape (n_emotions,).

        Raises:
            SerError: as `ser_lib.audio.reading.decode_audible`, or the recording is longer than the model reads.
        """
        recording = reading.decode_audible(source)
        longest = self.settings["longest_seconds"]
        if len(recording.samples) > longest * recording.sampling_rate:
            raise SerError(f"{source}: longer than {longest:.0f} s: cut it into shorter pieces.")
        if self.settings["features"] is None:
            inputs = reading.prepare(recording, **self.settings["audio"])
        else:
            inputs = features.clip_features(recording, self.settings["audio"], self.settings["features"])
        (answers,) = self.session.run(None, {self.settings["input"]: inputs[None].astype(np.float32)})
        return answers[0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Recognise emotions in audio files.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="WAV, FLAC, OGG or MP3")
    parser.add_argument("--int8", action="store_true", help="use the smaller model, if the export has one")
    options = parser.parse_args()
    model = Model(Path(__file__).parent, options.int8)
    exit_status = 0
    for path in options.files:
        try:
            probabilities = model.probabilities(path)
        except SerError as error:
            print(error, file=sys.stderr)
            exit_status = 1
            continue
        emotion = model.emotions[int(probabilities.argmax())]
        rounded = [round(float(value), 6) for value in probabilities]
        answer = {"path": path, "emotion": emotion, "probabilities": dict(zip(model.emotions, rounded, strict=True))}
        print(json.dumps(answer), flush=True)
    return exit_status


if __name__ == "__main__":
    sys.exit(main())
