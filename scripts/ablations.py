"""Try other models, features and trainings on the layers of Whisper-base: docs/voice.md has the table.

    python scripts/ablations.py [--encoder FOLDER] [--data-dir DIR] [--opensmile] [--tune] [--only PART …]

RAVDESS under the protocol `emobox`: six folds of four actors. Each way is compared with the recipe's form, a logistic
regression, on the same clips. In each fold validation actors choose one setting of the way (C, epochs); then it is fitted
again on training and validation actors together. Perceptrons on vectors are fitted with three seeds, all others with one.
The ways that train the encoder itself (`--tune`) are measured on the first fold, without the second fitting; a regression
that is not fitted again either stands beside them.

The test predictions lie in reports/predictions/ablations/, one file a way; `ser results --readme` makes the table of
them. Features of openSMILE need the package `opensmile`, whose licence is for research.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import recall_score
from sklearn.svm import SVC
from torch import nn
from tqdm import tqdm

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))

from ser_lib.audio import augmentation, degradations, reading  # noqa: E402
from ser_lib.common.files import write_csv  # noqa: E402
from ser_lib.evaluation import metrics  # noqa: E402
from ser_lib.evaluation.stored_predictions import in_units, predictions_dir  # noqa: E402
from ser_lib.models import embeddings, hidden_states, network_training, networks  # noqa: E402
from ser_lib.models.settings import Training  # noqa: E402
from ser_lib.protocols.splits import make_split  # noqa: E402
from ser_lib.recipes import load_recipe  # noqa: E402
from ser_lib.recipes.inputs import clips_of  # noqa: E402
from ser_lib.reports.doc_tables import REFERENCE_WAY, REFERENCE_WAY_OF_FIRST_FOLD  # noqa: E402
from ser_lib.studies.probe import features_of_altered, folds_of  # noqa: E402

RECIPE = "ravdess-whisper-logistic"
STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)
SEEDS = (0, 1, 2)
# (training rows, rows that choose the setting, seed) -> probabilities of all clips; without rows that choose, with
# the setting that was chosen before.
Fit = Callable[..., tuple[np.ndarray, Any]]


class Clips:
    """The clips, their folds, and what is read of them, each once."""

    def __init__(self, options: argparse.Namespace):
        self.encoder = [f"input.encoder={options.encoder}"] if options.encoder else []
        self.recipe = load_recipe(RECIPE, overrides=self.encoder)
        self.table = clips_of(self.recipe, "emobox", options.data_dir)
        self.split = make_split(self.table, "emobox", 0, **self.recipe.split.split_settings())
        self.folds = list(folds_of(self.table, self.split))
        self.emotions = self.folds[0].emotions
        self.labels = self.folds[0].labels.copy()
        for fold in self.folds:
            for rows in fold.rows.values():
                self.labels[rows] = fold.labels[rows]
        self.speakers = pd.factorize(self.table["speaker"])[0]

    def layers(self, *numbers: int) -> np.ndarray:
        """Mean and standard deviation of some of the encoder's layers, (n_clips, 1024 a layer)."""
        return np.concatenate([self._all_layers[:, number] for number in numbers], axis=1)

    @cached_property
    def _all_layers(self) -> np.ndarray:
        return embeddings.embed(self.table, self.recipe.input.model_copy(update={"layers": "all"}))

    @cached_property
    def frames(self) -> list[np.ndarray]:
        """Layers 2 and 3 frame by frame, four frames averaged: float16, (n_frames, 2, 512) a clip, 80 ms a frame."""
        by_layer = []
        for number in (2, 3):
            settings = self.recipe.input.model_copy(update={"layers": (number,), "pooling": "sequence"})
            by_layer.append(embeddings.embed(self.table, settings))
        return [np.stack([_coarser(layer) for layer in of_clip], axis=1) for of_clip in zip(*by_layer, strict=True)]

    def of_recipe(self, name: str) -> np.ndarray:
        """What another recipe's model reads of the same clips."""
        return np.asarray(load_recipe(name).create_model().inputs(self.table), dtype=np.float32)

    @cached_property
    def egemaps(self) -> np.ndarray:
        """The 88 functionals of openSMILE's eGeMAPS, (n_clips, 88)."""
        import opensmile

        smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
        waveforms = reading.prepare_all(self.table["path"], self.recipe.input.audio.model_dump())
        return np.concatenate([smile.process_signal(one, 16000).to_numpy() for one in tqdm(waveforms)]).astype(
            np.float32
        )

    def altered(self, change: Callable[[str, np.ndarray], np.ndarray]) -> np.ndarray:
        """Layers 2 and 3 of altered clips, (n_clips, 2048)."""
        settings = self.recipe.input.model_copy(update={"layers": (2, 3)})
        return features_of_altered(
            self.table, lambda clips: embeddings.embed(clips, settings), change, self.recipe.input.audio.model_dump()
        )

    @cached_property
    def speeds(self) -> list[np.ndarray]:
        """Layers 2 and 3 of clips that are a tenth slower, and of clips that are a tenth faster."""
        return [self.altered(partial(changed_speed, speed)) for speed in (0.9, 1.1)]

    @cached_property
    def pitches(self) -> list[np.ndarray]:
        """Layers 2 and 3 of clips a semitone and a half lower, and of clips as much higher."""
        return [self.altered(partial(shifted_pitch, semitones)) for semitones in (-1.5, 1.5)]

    @cached_property
    def recorded_otherwise(self) -> np.ndarray:
        """Layers 2 and 3 of clips in noise, in a room, through an equaliser or by telephone, drawn for each clip."""

        def change(clip_id: str, waveform: np.ndarray) -> np.ndarray:
            rng = np.random.default_rng(list(clip_id.encode()))
            kind = rng.integers(4)
            if kind == 0:
                return augmentation.add_noise(waveform, rng.uniform(5, 25), rng)
            if kind == 1:
                return augmentation.reverberate(waveform, 16000, rng.uniform(0.2, 0.8), rng)
            if kind == 2:
                spectrum = np.fft.rfft(waveform)
                points = np.interp(np.linspace(0, 7, len(spectrum)), np.arange(8), rng.uniform(-6, 6, 8))
                return np.fft.irfft(spectrum * 10 ** (points / 20), len(waveform)).astype(np.float32)
            return degradations.telephone(waveform, 16000)

        return self.altered(change)

    @cached_property
    def without_channel(self) -> np.ndarray:
        """Layers 2 and 3, read of log-mel spectra from which each band's mean over the clip is subtracted."""
        encoder = embeddings.load_encoder(self.recipe.input.encoder, self.recipe.input.revision)
        waveforms = reading.prepare_all(self.table["path"], self.recipe.input.audio.model_dump())
        # Of all clips: what remains keeps the level that the encoder knows.
        log_mels, lengths = [], []
        for waveform in waveforms:
            n_frames = -(-len(waveform) // 320)
            samples = min(320 * n_frames + 800, 480000)
            read = encoder.feature_extractor(
                [waveform], sampling_rate=16000, max_length=samples, truncation=False, return_tensors="pt"
            )
            log_mels.append(read["input_features"])
            lengths.append(n_frames)
        level = torch.stack([one[0].mean(dim=1) for one in log_mels]).mean(dim=0)
        rows = []
        with torch.inference_mode():
            for log_mel, n_frames in zip(tqdm(log_mels, desc="without channel"), lengths, strict=True):
                changed = log_mel - log_mel.mean(dim=2, keepdim=True) + level[None, :, None]
                (states,) = hidden_states.whisper_states(encoder.model, changed, torch.tensor([n_frames]))
                kept = states[2:4]
                rows.append(torch.cat([kept.mean(dim=1), kept.std(dim=1, correction=0)], dim=1).reshape(-1).numpy())
        return np.stack(rows)


def changed_speed(speed: float, _clip_id: str, waveform: np.ndarray) -> np.ndarray:
    return augmentation.change_speed(waveform, speed)


def shifted_pitch(semitones: float, _clip_id: str, waveform: np.ndarray) -> np.ndarray:
    return augmentation.shift_pitch(waveform, 16000, semitones)


def _coarser(frames: np.ndarray, n_frames: int = 4) -> np.ndarray:
    """The mean of each few frames, in float16."""
    parts = np.array_split(frames, max(1, round(len(frames) / n_frames)))
    return np.stack([part.mean(axis=0) for part in parts]).astype(np.float16)


def standardised(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return (features - features[rows].mean(axis=0)) / np.maximum(features[rows].std(axis=0), 1e-6)


def logistic(clips: Clips, features: np.ndarray, copies: Sequence[np.ndarray] = (), balanced: bool = False) -> Fit:
    """scikit-learn's logistic regression, as the recipe fits it.

    Args:
        copies: features of altered clips, which are trained on as well.
    """
    n_clips, every = len(features), np.concatenate([features, *copies])
    labels = np.tile(clips.labels, 1 + len(copies))

    def fit(train: np.ndarray, choosing: np.ndarray, seed: int, chosen: float | None = None):
        rows = np.concatenate([train + n_clips * number for number in range(1 + len(copies))])
        strengths = STRENGTHS if chosen is None else (chosen,)
        training = Training(inverse_regularisation=strengths, class_weights=balanced)
        with network_training.seeded(seed):
            network = networks.build("logistic-regression", clips.emotions, features.shape[1:])
            history = network_training.fit_logistic(network, every, labels, rows, choosing, training, progress=False)
            best = float(history.loc[history["best"], "inverse_regularisation"].iloc[0])
            return network_training.probabilities(network, features), best

    return fit


def averaged_over_copies(clips: Clips, features: np.ndarray, copies: Sequence[np.ndarray]) -> Fit:
    """The recipe's form, which answers for a clip with the mean over its altered versions."""
    every = np.concatenate([features, *copies])
    fit_all = logistic(clips, every)
    n_clips = len(features)

    def fit(train: np.ndarray, choosing: np.ndarray, seed: int, chosen: float | None = None):
        probabilities, best = fit_all(train, choosing, seed, chosen)
        return probabilities.reshape(1 + len(copies), n_clips, -1).mean(axis=0), best

    return fit


def support_vectors(clips: Clips, features: np.ndarray) -> Fit:
    """A support vector machine with a radial kernel."""

    def fit(train: np.ndarray, choosing: np.ndarray, seed: int, chosen: float | None = None):
        inputs, best = standardised(features, train), (-1.0, 0.0, np.zeros(0))
        for strength in (1.0, 3.0, 10.0, 30.0) if chosen is None else (chosen,):
            machine = SVC(C=strength, decision_function_shape="ovr").fit(inputs[train], clips.labels[train])
            scores = machine.decision_function(inputs)
            answers = np.exp(scores - scores.max(axis=1, keepdims=True))
            uar = _uar(clips, answers[choosing], choosing) if len(choosing) else 0.0
            best = max(best, (uar, strength, answers / answers.sum(axis=1, keepdims=True)), key=lambda one: one[0])
        return best[2], best[1]

    return fit


def mean_of(*fits: Fit) -> Fit:
    """The mean of several ways' probabilities."""

    def fit(train: np.ndarray, choosing: np.ndarray, seed: int, chosen: list | None = None):
        done = [one(train, choosing, seed, *(() if chosen is None else (chosen[i],))) for i, one in enumerate(fits)]
        return np.mean([probabilities for probabilities, _ in done], axis=0), [best for _, best in done]

    return fit


class Reverse(torch.autograd.Function):
    """The identity, whose gradient is negative (Ganin and Lempitsky, 2015, https://arxiv.org/abs/1409.7495)."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return -gradient


class Perceptron(nn.Module):
    """One hidden layer over a clip's vector, or over frames that a small network weighs, of a learned mix of layers."""

    def __init__(
        self, shape: tuple[int, ...], n_emotions: int, n_speakers: int, hidden: int = 128, dropout: float = 0.5
    ):
        super().__init__()
        self.reads_frames = len(shape) == 3
        if self.reads_frames:
            self.mix = nn.Parameter(torch.zeros(shape[1]))
            self.project = nn.Linear(shape[2], hidden)
            self.score = nn.Sequential(nn.Linear(hidden, hidden // 2), nn.Tanh(), nn.Linear(hidden // 2, 1, bias=False))
        n_inputs = 2 * hidden if self.reads_frames else shape[0]
        self.hidden = nn.Sequential(nn.Dropout(dropout / 2), nn.Linear(n_inputs, hidden), nn.ReLU())
        self.emotion = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, n_emotions))
        self.speaker = nn.Linear(hidden, n_speakers)

    def embed(self, inputs: torch.Tensor, is_frame: torch.Tensor | None = None) -> torch.Tensor:
        if not self.reads_frames:
            return self.hidden(inputs)
        mixed = torch.einsum("l,ctlf->ctf", torch.softmax(self.mix, dim=0), inputs)
        frames = torch.relu(self.project(mixed))
        assert is_frame is not None
        weights = torch.softmax(self.score(frames)[..., 0].masked_fill(~is_frame, -torch.inf), dim=1)[..., None]
        mean = (weights * frames).sum(dim=1)
        deviation = (weights * (frames - mean[:, None]) ** 2).sum(dim=1).clamp(min=1e-6).sqrt()
        return self.hidden(torch.cat([mean, deviation], dim=1))


def perceptron(
    clips: Clips,
    features: np.ndarray | list[np.ndarray],
    epochs: int = 60,
    smoothing: float = 0.0,
    mixup: float = 0.0,
    contrast: float = 0.0,
    adversary: float = 0.0,
    average: float = 0.0,
    rate: float = 1e-3,
) -> Fit:
    """A perceptron with one hidden layer, trained by AdamW; validation actors choose the epoch.

    Args:
        features: a vector a clip, or frames a clip, (n_frames, n_layers, n_features).
        smoothing: of labels.
        mixup: the parameter alpha of the Beta distribution that two clips are mixed by (Zhang et al., 2018).
        contrast: weight of the supervised contrastive loss (Khosla et al., 2020).
        adversary: weight of a loss by which the hidden layer forgets the speaker.
        average: decay of the moving average of weights that answers.
    """
    n_speakers = clips.speakers.max() + 1
    truth, speakers = torch.from_numpy(clips.labels), torch.from_numpy(clips.speakers)

    def fit(train: np.ndarray, choosing: np.ndarray, seed: int, chosen: int | None = None):
        torch.manual_seed(seed)
        if isinstance(features, list):
            shape: tuple[int, ...] = (0, *features[0].shape[1:])
            frames = np.concatenate([features[row] for row in train]).astype(np.float32)
            centre, spread = torch.from_numpy(frames.mean(axis=0)), torch.from_numpy(frames.std(axis=0) + 1e-6)
            inputs = None
        else:
            shape = (features.shape[1],)
            inputs = torch.from_numpy(standardised(features, train).astype(np.float32))

        def batch(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
            if inputs is not None:
                return inputs[rows], None
            parts = [torch.from_numpy(features[row]).float() for row in rows]
            padded = nn.utils.rnn.pad_sequence(parts, batch_first=True)
            lengths = torch.tensor([len(part) for part in parts])
            return (padded - centre) / spread, torch.arange(padded.shape[1])[None] < lengths[:, None]

        def answers(rows: np.ndarray) -> np.ndarray:
            averaged.eval()
            with torch.inference_mode():
                parts = [
                    averaged.emotion(averaged.embed(*batch(part)))
                    for part in np.array_split(rows, 1 + len(rows) // 128)
                ]
            return torch.softmax(torch.cat(parts), dim=1).numpy()

        network = Perceptron(shape, len(clips.emotions), n_speakers)
        averaged = Perceptron(shape, len(clips.emotions), n_speakers)
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05)
        loss_of = nn.CrossEntropyLoss(label_smoothing=smoothing)
        rng, best, n_epochs = np.random.default_rng(seed), (-1.0, 0), epochs if chosen is None else chosen
        for epoch in range(1, n_epochs + 1):
            network.train()
            for rows in np.array_split(rng.permutation(train), max(1, len(train) // 32)):
                read, is_frame = batch(rows)
                if mixup and is_frame is None:
                    share, other = rng.beta(mixup, mixup), torch.from_numpy(rng.permutation(len(rows)))
                    logits = network.emotion(network.embed(share * read + (1 - share) * read[other]))
                    loss = share * loss_of(logits, truth[rows]) + (1 - share) * loss_of(logits, truth[rows][other])
                else:
                    hidden = network.embed(read, is_frame)
                    loss = loss_of(network.emotion(hidden), truth[rows])
                    if contrast:
                        loss = loss + contrast * contrastive_loss(hidden, truth[rows])
                    if adversary:
                        guess = network.speaker(Reverse.apply(hidden))
                        loss = loss + adversary * nn.functional.cross_entropy(guess, speakers[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                with torch.no_grad():
                    for slow, fast in zip(averaged.parameters(), network.parameters(), strict=True):
                        slow.lerp_(fast, 1 - average if epoch > 1 else 1.0)
            if chosen is None:
                best = max(best, (_uar(clips, answers(choosing), choosing), epoch), key=lambda one: one[0])
        # While validation actors choose, these are not used: the epoch that they chose is fitted again.
        return answers(np.arange(len(clips.labels))), best[1] or n_epochs

    return fit


def contrastive_loss(hidden: torch.Tensor, labels: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Khosla et al. (2020), https://arxiv.org/abs/2004.11362, equation 2, of one view a clip."""
    vectors = nn.functional.normalize(hidden, dim=1)
    similar = vectors @ vectors.T / temperature
    itself = torch.eye(len(labels), dtype=torch.bool)
    log_share = similar - torch.logsumexp(similar.masked_fill(itself, -torch.inf), dim=1, keepdim=True)
    is_same = (labels[:, None] == labels[None]) & ~itself
    counted = is_same.any(dim=1)
    return -((log_share * is_same).sum(dim=1)[counted] / is_same.sum(dim=1)[counted]).mean()


def _uar(clips: Clips, probabilities: np.ndarray, rows: np.ndarray) -> float:
    """The UAR of some clips, whose probabilities are given in their order."""
    truth = clips.labels[rows]
    return float(recall_score(truth, probabilities.argmax(axis=1), labels=np.unique(truth), average="macro"))


def ways(clips: Clips, options: argparse.Namespace) -> dict[str, tuple[Callable[[], Fit], Sequence[int]]]:
    """Every way without training the encoder: what makes its `Fit`, and its seeds."""
    both = clips.layers(2, 3)
    once, seeds = (0,), SEEDS
    regression, careful = logistic(clips, both), "ravdess-mfcc-careful"

    def layer(number: int) -> Fit:
        return logistic(clips, clips.layers(number))

    found: dict[str, tuple[Callable[[], Fit], Sequence[int]]] = {
        REFERENCE_WAY: (lambda: regression, once),
        **{f"layer {number} alone": (partial(layer, number), once) for number in (1, 2, 3, 4, 5, 6)},
        "layers 2 to 4": (lambda: logistic(clips, clips.layers(2, 3, 4)), once),
        "layers 1 to 5": (lambda: logistic(clips, clips.layers(1, 2, 3, 4, 5)), once),
        "emotions balanced": (lambda: logistic(clips, both, balanced=True), once),
        "mean of five regressions, one a layer": (lambda: mean_of(*map(layer, (1, 2, 3, 4, 5))), once),
        "support vector machine, radial kernel": (lambda: support_vectors(clips, both), once),
        "perceptron": (lambda: perceptron(clips, both), seeds),
        "perceptron, labels smoothed by 0.1": (lambda: perceptron(clips, both, smoothing=0.1), seeds),
        "perceptron, mixup with alpha 0.4": (lambda: perceptron(clips, both, mixup=0.4), seeds),
        "perceptron, moving average of weights": (lambda: perceptron(clips, both, average=0.99), seeds),
        "perceptron, supervised contrast": (lambda: perceptron(clips, both, contrast=0.5), seeds),
        "perceptron, adversary that forgets the speaker": (lambda: perceptron(clips, both, adversary=0.3), seeds),
        "regression and perceptron averaged": (lambda: mean_of(regression, perceptron(clips, both)), seeds),
        "attentive pooling over a learned mix of layers 2 and 3": (lambda: perceptron(clips, clips.frames), once),
        f"features of `{careful}` beside the layers": (
            lambda: logistic(clips, np.concatenate([both, clips.of_recipe(careful)], axis=1)),
            once,
        ),
        f"features of `{careful}`, averaged late": (
            lambda: mean_of(regression, logistic(clips, clips.of_recipe(careful))),
            once,
        ),
        "copies a tenth slower and faster in training": (lambda: logistic(clips, both, clips.speeds), once),
        "answers averaged over these three speeds": (lambda: averaged_over_copies(clips, both, clips.speeds), once),
        "copies of lower and higher pitch in training": (lambda: logistic(clips, both, clips.pitches), once),
        "copies in noise, rooms, by equaliser and telephone": (
            lambda: logistic(clips, both, [clips.recorded_otherwise]),
            once,
        ),
        "mean of each band of the log-mel spectrum subtracted": (lambda: logistic(clips, clips.without_channel), once),
    }
    if options.opensmile:
        found["openSMILE's eGeMAPS alone"] = (lambda: logistic(clips, clips.egemaps), once)
        found["openSMILE's eGeMAPS beside the layers"] = (
            lambda: logistic(clips, np.concatenate([both, clips.egemaps], axis=1)),
            once,
        )
        found["openSMILE's eGeMAPS, averaged late"] = (
            lambda: mean_of(regression, logistic(clips, clips.egemaps)),
            once,
        )
    return found


# Of the encoder itself, on the first fold.
TUNED = {
    "encoder fine-tuned whole": ["model.trainable=all", "training.learning_rate=5e-5"],
    "encoder fine-tuned without its convolutions, head faster": [
        "model.trainable=transformer",
        "training.learning_rate=3e-5",
        "training.head_learning_rate=1e-3",
    ],
    "encoder with LoRA": ["model.trainable=lora", "model.lora_rank=8", "training.learning_rate=5e-4"],
}
TUNING = [
    *("model.name=finetune", "training.epochs=5", "training.batch_size=16", "training.scheduler=linear"),
    *("training.warmup_fraction=0.1", "training.clip_norm=1.0", "training.weight_decay=0.01", "training.patience=null"),
]


def finetuned(clips: Clips, settings: list[str], folder: Path) -> pd.DataFrame:
    """Predictions of the first fold's test clips by an encoder that was fine-tuned on its training clips."""
    audio = "input.audio={sampling_rate: 16000, trim_below_db: 30, normalise: peak, max_seconds: 4, pad: true}"
    recipe = load_recipe(
        "tess-wav2vec2-finetune", overrides=[*clips.encoder, audio, *TUNING, *settings, "emotions=all"]
    )
    recipe = recipe.model_copy(update={"corpora": ("ravdess",)})
    model, fold = recipe.create_model(), clips.folds[0]
    inputs = model.inputs(clips.table)
    about: dict[str, Any] = {"clips": clips.table, "emotions": clips.emotions, "seed": 0, "folder": folder}
    model.fit(inputs, clips.labels, fold.rows["train"], fold.rows["validation"], **about)
    tested = [inputs[row] for row in fold.rows["test"]]
    return fold.predictions(model.probabilities(tested)).assign(seed=0)


def of_first_fold(clips: Clips, fit: Fit) -> pd.DataFrame:
    """The predictions of the first fold's test clips by a model that its training clips alone have fitted."""
    fold = clips.folds[0]
    probabilities, _ = fit(fold.rows["train"], fold.rows["validation"], 0)
    return fold.predictions(probabilities[fold.rows["test"]]).assign(seed=0)


def measure(clips: Clips, fit: Fit, seeds: Sequence[int], name: str) -> pd.DataFrame:
    """The predictions of every fold's test clips, with each seed."""
    parts = []
    bar = tqdm(total=len(seeds) * len(clips.folds), desc=name, leave=False)
    for seed in seeds:
        for fold in clips.folds:
            train, validation = fold.rows["train"], fold.rows["validation"]
            _, chosen = fit(train, validation, seed)
            everything = np.sort(np.concatenate([train, validation]))
            probabilities, _ = fit(everything, np.array([], dtype=int), seed, chosen)
            parts.append(fold.predictions(probabilities[fold.rows["test"]]).assign(seed=seed))
            bar.update()
    return pd.concat(parts, ignore_index=True)


def write(table: pd.DataFrame, name: str, clips: Clips, seconds: float) -> None:
    """Write the predictions of a way: its name and seconds in the first line, then CSV, compressed."""
    speakers = clips.table.set_index("clip_id")["speaker"]
    stored = table[["seed", "clip_id"]].assign(speaker=table["clip_id"].map(speakers), truth=table["truth"])
    units = in_units(table[clips.emotions].to_numpy(dtype=float))
    stored = stored.join(pd.DataFrame(units, columns=clips.emotions, index=table.index))
    path = predictions_dir() / "ablations" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.csv.xz"
    write_csv(stored.assign(way=name, seconds=round(seconds)), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoder", help="in place of openai/whisper-base")
    parser.add_argument("--data-dir", help="the folder of the corpora")
    parser.add_argument("--opensmile", action="store_true", help="also the features of the package opensmile")
    parser.add_argument("--tune", action="store_true", help="also the ways that train the encoder")
    parser.add_argument("--only", nargs="+", help="parts of the names of the ways to measure")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clips = Clips(options)
    frozen = ways(clips, options)
    names = [*frozen, *([REFERENCE_WAY_OF_FIRST_FOLD, *TUNED] if options.tune else [])]
    for number, name in enumerate(names):
        if options.only and not any(part in name for part in options.only):
            continue
        started = time.monotonic()
        if name in frozen:
            make, seeds = frozen[name]
            table = measure(clips, make(), seeds, name)
        elif name == REFERENCE_WAY_OF_FIRST_FOLD:
            table = of_first_fold(clips, frozen[REFERENCE_WAY][0]())
        else:
            table = finetuned(clips, TUNED[name], PROJECT / "runs" / "ablations" / str(number))
        write(table, name, clips, time.monotonic() - started)
        scores = [metrics.uar(part.drop(columns="seed")) for _, part in table.groupby("seed")]
        print(f"{np.mean(scores):.3f}  {time.monotonic() - started:6.0f} s  {name}", flush=True)


if __name__ == "__main__":
    main()
