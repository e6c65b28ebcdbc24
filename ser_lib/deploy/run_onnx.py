"""Recognise emotions in audio files with onnxruntime, without PyTorch: one line of JSON a file.

    pip install numpy soundfile soxr onnxruntime librosa
    python run_onnx.py FILE... [--int8]

The script reads what lies beside it: model.onnx, or model.int8.onnx; preprocessor.json, which states how audio is
prepared; and ser_lib, a copy of the modules that prepare audio. librosa is needed only where the model's input is
acoustic features. A file that cannot be read is named on stderr, and the exit status is then 1.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ser_lib.audio import features, reading
from ser_lib.audio.decoding import FORMATS
from ser_lib.audio.windows import Pieces
from ser_lib.common.errors import SerError


class Model:
    """An exported model in memory, of the folder of an export; with `int8` its smaller file."""

    def __init__(self, folder: Path, int8: bool = False):
        import onnxruntime

        self.settings = json.loads((folder / "preprocessor.json").read_text(encoding="utf-8"))
        self.emotions: list[str] = self.settings["emotions"]
        file = folder / ("model.int8.onnx" if int8 else "model.onnx")
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def answer(self, source: reading.AudioSource) -> dict[str, Any]:
        """Recognise the emotion of a recording of any length: a line of `ser predict --json`.

        Raises:
            SerError: as of `ser_lib.audio.windows.Pieces`, or the model's probabilities do not sum to 1.
        """
        pieces = Pieces(source, self.settings["audio"])
        probabilities = np.stack([self.probabilities(piece) for piece in pieces]).mean(axis=0, dtype=np.float64)
        if not abs(probabilities.sum() - 1) < 1e-2:
            advice = "If it does so for every recording, the export is damaged: make it again."
            raise SerError(f"{source}: expected probabilities that sum to 1, but the model answers otherwise. {advice}")
        by_emotion = {name: round(float(value), 6) for name, value in zip(self.emotions, probabilities, strict=True)}
        answer: dict[str, Any] = {"path": str(source), "emotion": self.emotions[int(probabilities.argmax())]}
        answer |= {"seconds": round(pieces.seconds, 6), "heard": round(pieces.heard, 6)}
        return answer | {"probabilities": by_emotion}

    def probabilities(self, source: reading.AudioSource) -> np.ndarray:
        """The probabilities of the emotions in one clip, as training read it: float32 of shape (n_emotions,)."""
        if self.settings["features"] is None:
            inputs = reading.prepare(source, **self.settings["audio"])
        else:
            inputs = features.clip_features(source, self.settings["audio"], self.settings["features"])
        given = {self.settings["input"]: inputs[None].astype(np.float32)}
        if n_profile := self.settings.get("n_profile"):
            # Nothing is known of the speaker.
            given |= {"mean": np.zeros((1, n_profile), np.float32), "count": np.zeros((1, 1), np.float32)}
        return self.session.run(["probabilities"], given)[0][0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Recognise emotions in audio files.")
    parser.add_argument("files", nargs="+", metavar="FILE", help=FORMATS)
    parser.add_argument("--int8", action="store_true", help="use the smaller model, if the export has one")
    options = parser.parse_args()
    model = Model(Path(__file__).parent, options.int8)
    exit_status = 0
    for path in options.files:
        try:
            print(json.dumps(model.answer(path)), flush=True)
        except SerError as error:
            print(error, file=sys.stderr)
            exit_status = 1
    return exit_status


if __name__ == "__main__":
    sys.exit(main())
