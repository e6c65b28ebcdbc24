"""Recognise emotions in audio files with onnxruntime, without PyTorch: one line of JSON a file.

    pip install numpy soundfile soxr onnxruntime
    python run_onnx.py FILE... [--int8]

The script reads what lies beside it: model.onnx, or model.int8.onnx; preprocessor.json, which states how audio is
prepared; and ser_lib, a copy of the modules that prepare audio. A file that cannot be read, or does not sound like
speech, is named on stderr, and the exit status is then 1.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ser_lib.audio import reading
from ser_lib.audio.decoding import FORMATS
from ser_lib.audio.windows import UNLIKE_SPEECH, Pieces
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
            SerError: as of `ser_lib.audio.windows.Pieces`; it is unlike speech; or the model's probabilities do not sum to 1.
        """
        pieces = Pieces(source, self.settings["audio"])
        of_speech = [probabilities for probabilities, is_speech in map(self._outputs, pieces) if is_speech]
        if not of_speech:
            raise SerError(f"{source}: {UNLIKE_SPEECH}")
        probabilities = np.stack(of_speech).mean(axis=0, dtype=np.float64)
        if not abs(probabilities.sum() - 1) < 1e-2:
            advice = "If it does so for every recording, the export is damaged: make it again."
            raise SerError(f"{source}: expected probabilities that sum to 1, but the model answers otherwise. {advice}")
        by_emotion = {name: round(float(value), 6) for name, value in zip(self.emotions, probabilities, strict=True)}
        answer: dict[str, Any] = {"path": str(source), "emotion": self.emotions[int(probabilities.argmax())]}
        certain_from = self.settings["certain_from"]
        answer["certain"] = None if certain_from is None else bool(probabilities.max() >= certain_from)
        answer |= {"seconds": round(pieces.seconds, 6), "heard": round(pieces.heard, 6)}
        return answer | {"probabilities": by_emotion}

    def probabilities(self, source: reading.AudioSource) -> np.ndarray:
        """The probabilities of the emotions in one clip, as training read it: float32 of shape (n_emotions,)."""
        return self._outputs(source)[0]

    def _outputs(self, source: reading.AudioSource) -> tuple[np.ndarray, bool]:
        """The probabilities, and whether the clip can be speech, as far as the model tells."""
        inputs = {"waveform": reading.prepare(source, **self.settings["audio"])[None]}
        n_profile = self.settings["n_profile"]
        if n_profile is None:
            return self.session.run(["probabilities"], inputs)[0][0], True
        # Nothing is known of the speaker.
        inputs |= {"mean": np.zeros((1, n_profile), np.float32), "count": np.zeros((1, 1), np.float32)}
        probabilities, is_speech = self.session.run(["probabilities", "is_speech"], inputs)
        return probabilities[0], bool(is_speech[0])


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
