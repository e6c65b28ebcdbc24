"""Logistic regression for clips of several corpora and for speakers who are known by a few clips.

The weights that all corpora share have a correction for each corpus, weighted by how much a clip sounds like that corpus:
a mixture of experts (Jacobs et al. 1991) on the shared and private features of Daumé (2007, arXiv:0907.1815). Where the
model knows a speaker's profile, a second regression reads the clip with the speaker's mean subtracted, and the two are
mixed: `count / (count + PRIOR_CLIPS)` of the second. Without a profile the answer is that of the first alone.
"""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import nn
from tqdm import tqdm

from ser_lib.models import network_training
from ser_lib.models.base import register
from ser_lib.models.heads import Vector
from ser_lib.models.settings import Training

# The mean over all speakers counts as so many clips of each speaker.
PRIOR_CLIPS = 2.0
# The regressions are fitted to so many principal components of the standardised features.
N_COMPONENTS = 400
# scikit-learn's C of the regression that tells the corpora apart.
GATE_INVERSE_REGULARISATION = 0.001
# How large the squared distance of speech from the training clips' mean may be, as a multiple of that of the farthest
# training clip. Speech of other corpora, by telephone or with noise of half its power is nearer; noise, hum and clicks
# alone are farther.
LIMIT = 1.4
MAX_ITERATIONS = 300


def fit_experts(
    network,
    features,
    labels,
    train,
    validation,
    training: Training,
    *,
    clips: pd.DataFrame,
    standardise=True,
    progress=True,
    description="",
) -> pd.DataFrame:
    """Fit a "corpus-experts" network in place, on the CPU, with scikit-learn's LogisticRegression.

    All corpora have the same weight, and in each corpus all emotions. The arguments are those of
    `network_training.fit_logistic`, and the clip table, aligned to the features.

    Returns:
        As `network_training.fit_logistic`; validation clips are answered without a profile.

    Raises:
        SerError: NaN or infinite features, fewer than two classes, or candidates without validation clips to choose by.
    """
    strengths = training.inverse_regularisation
    network_training.check_logistic(features, labels, train, validation, strengths)
    network.cpu().eval()
    inputs, truth = torch.from_numpy(features), torch.from_numpy(labels.astype(np.int64))
    if standardise:
        network.standardise.fit(inputs[train])
    standardised = network.standardise(inputs[train]).numpy()
    speakers, corpora = (clips[name].to_numpy()[train] for name in ("speaker", "corpus"))
    names, corpus_numbers = np.unique(corpora, return_inverse=True)
    weights = balanced(labels[train], corpus_numbers)
    means = pd.DataFrame(standardised).groupby(speakers).transform("mean").to_numpy()
    counts = pd.Series(speakers).groupby(speakers).transform("size").to_numpy()[:, None]
    first = pd.DataFrame({"corpus": corpora, "speaker": speakers}).drop_duplicates("speaker")
    by_corpus = pd.DataFrame(means[first.index]).groupby(first["corpus"].to_numpy()).mean()
    prior = by_corpus.mean().to_numpy(dtype=np.float32, copy=True)
    centred = standardised - ((counts * means + PRIOR_CLIPS * prior) / (counts + PRIOR_CLIPS)).astype(np.float32)

    # Not more than there are, of which the last is a sum of rounding errors.
    n_components = min(N_COMPONENTS, len(train) - 1, standardised.shape[1])
    solver = "full" if len(train) < 500 else "covariance_eigh"
    basis = PCA(n_components, svd_solver=solver).fit(standardised).components_.T.astype(np.float32)
    body = network.body
    with torch.no_grad():
        body.prior.copy_(torch.from_numpy(prior))
        body.limit.fill_(LIMIT * float(np.square(standardised).mean(axis=1).max()))
    if len(names) > 1:
        gate = LogisticRegression(C=GATE_INVERSE_REGULARISATION, max_iter=MAX_ITERATIONS, class_weight="balanced")
        _fitted(gate, standardised @ basis, corpus_numbers)
        coefficients, intercepts = network_training.all_classes(gate, len(names))
        with torch.no_grad():
            body.gate.weight.copy_(torch.from_numpy(coefficients @ basis.T))
            body.gate.bias.copy_(torch.from_numpy(intercepts))
    parts = [_shared_and_private(part @ basis, corpus_numbers, len(names)) for part in (standardised, centred)]
    regressions = [LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True) for _ in parts]

    def rows() -> Iterator[dict[str, float]]:
        candidates = tqdm(strengths, desc=f"{description}, settings", leave=False, disable=not progress)
        for epoch, strength in enumerate(candidates, start=1):
            blocks, biases = [], []
            for regression, part in zip(regressions, parts, strict=True):
                regression.set_params(C=strength)
                _fitted(regression, part, labels[train], weights)
                coefficients, intercepts = network_training.all_classes(regression, len(network.config["emotions"]))
                by_expert = coefficients.reshape(len(coefficients), -1, n_components)
                blocks.append((by_expert @ basis.T).reshape(len(coefficients), -1))
                biases.append(intercepts)
            linear = network.head[-1]
            with torch.no_grad():
                difference = (biases[1] - biases[0])[:, None]
                linear.weight.copy_(torch.from_numpy(np.concatenate([*blocks, difference], axis=1)))
                linear.bias.copy_(torch.from_numpy(biases[0]))
            row = {"epoch": epoch, "learning_rate": math.nan, "inverse_regularisation": strength}
            yield row | network_training.scores_of(network, inputs, truth, train, validation)

    return network_training.keep_best(network, rows())


def balanced(labels: np.ndarray, corpora: np.ndarray) -> np.ndarray:
    """Weights of clips, 1 on average, with the same sum for each corpus, and in a corpus for each of its emotions.

    >>> balanced(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    table = pd.DataFrame({"corpus": corpora, "label": labels})
    of_emotion = table.groupby(["corpus", "label"])["label"].transform("size")
    n_emotions = table.groupby("corpus")["label"].transform("nunique")
    weights = 1 / (of_emotion * n_emotions * table["corpus"].nunique())
    return (weights * len(table)).to_numpy()


def _shared_and_private(features: np.ndarray, corpora: np.ndarray, n_corpora: int) -> np.ndarray:
    """The features once for all corpora, and once more for each, zero in clips of others; one corpus has no copy."""
    if n_corpora == 1:
        return features
    return np.concatenate([features, *(features * (corpora == number)[:, None] for number in range(n_corpora))], axis=1)


def _fitted(regression: LogisticRegression, features, labels, weights=None) -> None:
    with warnings.catch_warnings(), network_training.one_thread():
        # A few iterations more or fewer change no answer that counts; the limit bounds the time.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(features, labels, weights)


@register("corpus-experts")
class CorpusExperts(Vector):
    """Logistic regression with a correction for each corpus, and one for speakers who are known by a few clips.

    Args:
        n_corpora: experts beside the shared weights; none of one corpus alone.
    """

    sizes = ()
    fit = staticmethod(fit_experts)
    training_fields = ("device", "inverse_regularisation")
    reads_corpora = True
    takes_profile = True
    prior: torch.Tensor
    limit: torch.Tensor

    def __init__(self, n_features: int, n_layers: int, hidden: int, n_corpora: int = 1):
        super().__init__(n_features, n_layers, hidden)
        n_experts = n_corpora + 1 if n_corpora > 1 else 1
        self.gate = nn.Linear(n_features, n_corpora) if n_corpora > 1 else None
        # The mean over all speakers, and the largest mean square of a clip that is taken for speech.
        self.register_buffer("prior", torch.zeros(n_features))
        self.register_buffer("limit", torch.tensor(math.inf))
        self.n_outputs = 2 * n_experts * n_features + 1

    def forward(
        self, features: torch.Tensor, mean: torch.Tensor | None = None, count: torch.Tensor | None = None
    ) -> torch.Tensor:
        if mean is None or count is None:
            mean, count = torch.zeros_like(features[:1]), features.new_zeros(1, 1)
        share = count / (count + PRIOR_CLIPS)
        centred = features - (count * mean + PRIOR_CLIPS * self.prior) / (count + PRIOR_CLIPS)
        parts = [(1 - share) * self._experts(features, features), share * self._experts(centred, features)]
        return torch.cat([*parts, share.expand(len(features), 1)], dim=1)

    def _experts(self, features: torch.Tensor, clip: torch.Tensor) -> torch.Tensor:
        """The features for the shared weights and for each expert, weighted by how the clip sounds."""
        if self.gate is None:
            return features
        weights = torch.softmax(self.gate(clip), dim=1)
        return torch.cat([features, (weights[:, :, None] * features[:, None]).flatten(1)], dim=1)

    def is_like_speech(self, features: torch.Tensor) -> torch.Tensor:
        """Whether the mean square of each standardised clip is below the limit."""
        return features.square().mean(dim=1) <= self.limit
