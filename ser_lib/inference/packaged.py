"""The model that comes with the package, for real human emotion: no training, no network, no PyTorch.

    predict(PackagedPredictor(), "voice.wav")

`speech_emotion/` beside this module holds the model as ONNX, its settings, its model card and the licence of its encoder.
`make model` makes them again: see `ser_lib.deploy.package_model`.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from ser_lib.audio import reading
from ser_lib.audio.reading import Recording
from ser_lib.common.errors import SerError
from ser_lib.common.files import file_hash, read_json
from ser_lib.inference.predictor import Answers, Predictor, checked
from ser_lib.models.profiles import Profile
from ser_lib.models.settings import Audio

FOLDER = Path(__file__).with_name("speech_emotion")
FILES = ("LICENSE", "model.onnx", "settings.json", "README.md", "answers.csv")
AGAIN = "In a checkout, `git checkout -- ser_lib/inference/speech_emotion` brings the model back; else install the package again"
OUTPUTS = ["probabilities", "features", "is_speech"]
# Clips that are answered at the same time, each by one thread: threads that share a clip would wait for each other.
MOST_AT_ONCE = 4


class Settings(BaseModel):
    """What the predictor needs of `settings.json`, which also has what the model card says."""

    recipe: str
    emotions: list[str]
    audio: Audio
    # The numbers in the mean of a speaker's profile.
    n_profile: int
    certain_from: float | None
    # Of model.onnx.
    sha256: str


class PackagedPredictor(Predictor):
    """The model in a folder as `FOLDER`, run by onnxruntime.

    Raises:
        SerError: a file is missing or damaged.
    """

    takes_profile = True

    def __init__(self, folder: Path = FOLDER):
        import onnxruntime

        path, settings = folder / "model.onnx", read_settings(folder)
        self.name, self.emotions, self.audio = settings.recipe, settings.emotions, settings.audio
        self.certain_from, self.identity, self._n_profile = settings.certain_from, settings.sha256, settings.n_profile
        try:
            is_same = file_hash(path) == settings.sha256
        except OSError as error:
            raise SerError(f"the model of the package cannot be read: {path} ({error.strerror}). {AGAIN}.") from error
        if not is_same:
            raise SerError(f"the model of the package is damaged: {path} is not the one of settings.json. {AGAIN}.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        # Memory for the longest clip so far would be kept for each thread.
        options.enable_cpu_mem_arena = False
        # Errors alone: a missing graphics card is none.
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def answers(self, recordings: Sequence[str | Path | Recording], profile: Profile | None = None) -> Answers:
        profile = profile or Profile(np.zeros(self._n_profile), 0.0)
        # One for all clips, or one a clip.
        means = np.broadcast_to(np.asarray(profile.mean, np.float32), (len(recordings), self._n_profile))
        counts = np.broadcast_to(np.asarray(profile.count, np.float32), (len(recordings), 1))
        with ThreadPoolExecutor(min(MOST_AT_ONCE, os.cpu_count() or 1)) as pool:
            answers = list(pool.map(self._answer, recordings, means, counts))
        if not answers:
            return Answers(
                np.zeros((0, len(self.emotions))), np.zeros((0, self._n_profile), np.float32), np.zeros(0, bool)
            )
        probabilities, features, is_speech = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        probabilities = checked(probabilities.astype(np.float64), recordings, self.name, 1e-3)
        return Answers(probabilities, features, is_speech)

    def _answer(self, recording: str | Path | Recording, mean: np.ndarray, count: np.ndarray) -> list[np.ndarray]:
        """The outputs for one clip, each of shape (1, …)."""
        waveform = reading.prepare(recording, **self.audio.model_dump())
        return self._session.run(OUTPUTS, {"waveform": waveform[None], "mean": mean[None], "count": count[None]})


def read_settings(folder: Path = FOLDER) -> Settings:
    """What `settings.json` says to the predictor; SerError where it is missing or damaged."""
    path = folder / "settings.json"
    try:
        return Settings.model_validate(read_json(path, f"{AGAIN}."))
    except ValidationError as error:
        raise SerError(f"the model of the package is damaged: {path} does not hold its settings. {AGAIN}.") from error
