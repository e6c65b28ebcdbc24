"""The networks that read embeddings, and logistic regression."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ser_lib.common.errors import SerError
from ser_lib.models import heads, network_training
from ser_lib.models import networks as models
from ser_lib.models.settings import Training

EMOTIONS = ["happy", "sad", "angry"]
SETTINGS = {"epochs": 25, "batch_size": 16, "learning_rate": 0.01, "patience": None, "device": "cpu"}
CANDIDATES = (10.0, 0.1, 0.001)


def build(name, shape=(6,), emotions=EMOTIONS, **settings):
    torch.manual_seed(0)
    return models.build(name, emotions, shape, **{"hidden": 8, "dense": (16,), **settings})


def problem(n=160, n_classes=3, seed=0):
    """Each class raises one feature of (n, 6) vectors; the rows of training, validation and test clips."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    vectors = rng.normal(5, 0.7, (n, 6)).astype(np.float32)
    vectors[np.arange(n), labels] += 2
    return vectors, labels, np.arange(n)[: n // 2], np.arange(n)[n // 2 : -40], np.arange(n)[-40:]


def fit(network, features, labels, train, validation, **settings):
    training = Training(**SETTINGS | settings)
    return network_training.fit(network, features, labels, train, validation, training, progress=False)


def accuracy(network, features, labels):
    return (network_training.probabilities(network, features).argmax(axis=1) == labels).mean()


class TestMlp:
    def test_is_the_student_projects_head(self):
        network = build("mlp", (768,), ["a"] * 8, dense=(256,), dropout=0.3)
        layers = [layer for layer in network.body.children()] + list(network.head)
        assert [type(layer).__name__ for layer in layers] == ["Linear", "ReLU", "Dropout", "Linear"]
        assert (layers[0].in_features, layers[0].out_features, layers[2].p) == (768, 256, 0.3)
        assert (layers[3].in_features, layers[3].out_features) == (256, 8)
        clips = torch.randn(3, 768)
        torch.testing.assert_close(network.eval()(clips), network.head(clips))  # nothing else before it is fitted

    def test_nan_in_a_vector_is_no_padding_but_an_error(self):
        vectors, labels, train, validation, _ = problem()
        vectors[train[3], 2] = np.nan
        network = build("mlp")
        with pytest.raises(SerError, match="loss became nan"):
            fit(network, vectors, labels, train, validation)


class TestWeightedLayers:
    def test_finds_the_layer_that_tells_the_classes_apart(self):
        vectors, labels, train, validation, test = problem()
        layers = np.random.default_rng(1).normal(size=(160, 4, 6)).astype(np.float16)
        layers[:, 2] = 100 * vectors
        layers[:, 0] *= 1000  # a loud layer says no more than a quiet one
        network = build("weighted-layers", (4, 6))
        np.testing.assert_allclose(network.layer_weights(), [0.25] * 4)
        fit(network, layers, labels, train, validation, keep_best=False)
        weights = network.layer_weights()
        assert weights.sum() == pytest.approx(1) and weights.argmax() == 2 and weights[2] > 0.4
        assert accuracy(network, layers[test], labels[test]) > 0.8

    def test_standardises_each_layer_by_itself(self):
        layers = torch.randn(50, 4, 6) * torch.tensor([1.0, 10, 100, 1000])[:, None] + 7
        network = build("weighted-layers", (4, 6))
        network.standardise.fit(layers)
        standardised = network.standardise(layers)
        torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(4, 6), atol=1e-3, rtol=0)
        torch.testing.assert_close(standardised.std(dim=0, correction=0), torch.ones(4, 6), atol=1e-3, rtol=0)

    def test_sums_with_its_weights(self):
        body = heads.WeightedLayers(2, 3, 1)
        body.scores.data = torch.log(torch.tensor([1.0, 2, 7]))
        clip = torch.tensor([[[1.0, 0], [0, 1], [10, 10]]])
        torch.testing.assert_close(body(clip), torch.tensor([[7.1, 7.2]]))

    def test_other_networks_weigh_no_layers(self):
        assert build("mlp").layer_weights() is None


class TestAttentivePooling:
    def test_with_equal_weights_gives_mean_and_deviation(self):
        body = heads.AttentivePooling(6, 1, 8)
        torch.nn.init.zeros_(body.score[2].weight)
        frames = torch.randn(2, 9, 6)
        frames[1, 4:] = float("nan")
        for clip, own in ((0, frames[0]), (1, frames[1, :4])):
            expected = torch.cat([own.mean(dim=0), own.std(dim=0, correction=0)])
            torch.testing.assert_close(body(frames)[clip], expected)

    def test_weighs_frames_by_their_scores(self):
        body = heads.AttentivePooling(1, 1, 1)
        for weight, value in zip(body.score.parameters(), (1.0, 0.0, 2.0), strict=True):
            torch.nn.init.constant_(weight, value)
        frames = np.array([-1.0, 0.5, 3.0])
        weights = np.exp(2 * np.tanh(frames))
        weights /= weights.sum()
        mean = (weights * frames).sum()
        deviation = np.sqrt((weights * frames**2).sum() - mean**2)
        pooled = body(torch.tensor(frames, dtype=torch.float32)[None, :, None])
        np.testing.assert_allclose(pooled[0].detach().numpy(), [mean, deviation], rtol=1e-5)

    def test_a_single_frame_has_a_slope(self):
        body = heads.AttentivePooling(6, 1, 8)
        frame = torch.randn(1, 1, 6, requires_grad=True)
        body(frame).sum().backward()
        assert torch.isfinite(frame.grad).all()

    def test_learns_from_a_few_telling_frames(self):
        vectors, labels, train, validation, test = problem()
        rng = np.random.default_rng(2)
        frames = rng.normal(5, 0.7, (160, 12, 6)).astype(np.float16)
        frames[:, 1] = vectors
        for clip, length in enumerate(rng.integers(2, 13, 160)):
            frames[clip, length:] = np.nan
        network = build("attentive-pooling", (12, 6))
        fit(network, frames, labels, train, validation, epochs=40)
        assert accuracy(network, frames[test], labels[test]) > 0.8


class TestLogisticRegression:
    def fitted(self, n_classes=3, candidates=CANDIDATES, change=None, class_weights=False, **settings):
        vectors, labels, train, validation, test = problem(n_classes=n_classes)
        if change is not None:
            vectors, labels = change(vectors.copy(), labels.copy())
        network = build("logistic-regression", emotions=EMOTIONS[:n_classes])
        training = Training(inverse_regularisation=candidates, class_weights=class_weights)
        history = network_training.fit_logistic(
            network, vectors, labels, train, validation, training, progress=False, **settings
        )
        return network, history, (vectors, labels, train, validation, test)

    def test_is_one_linear_layer(self):
        network = build("logistic-regression", dense=(64, 32))
        assert [tuple(weight.shape) for weight in network.parameters()] == [(3, 6), (3,)]
        assert network.config["dense"] == []

    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("class_weights", [False, True])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_gives_the_probabilities_of_scikit_learn(self, n_classes, class_weights, dtype, tmp_path):
        network, _, (vectors, labels, train, _, test) = self.fitted(
            n_classes,
            candidates=(0.3,),
            class_weights=class_weights,
            change=lambda vectors, labels: (vectors.astype(dtype), labels),
        )
        mean, deviation = vectors[train].mean(axis=0, dtype=float), vectors[train].std(axis=0, dtype=float)
        standardised = (vectors - mean) / deviation
        expected = LogisticRegression(C=0.3, class_weight="balanced" if class_weights else None, max_iter=1000).fit(
            standardised[train], labels[train]
        )
        models.save(network, tmp_path)
        for own in (network, models.load(tmp_path)):
            np.testing.assert_allclose(
                network_training.probabilities(own, vectors[test]),
                expected.predict_proba(standardised[test]),
                atol=1e-4,
            )

    def test_the_best_candidate_by_validation_is_kept(self):
        network, history, (vectors, labels, _, validation, _) = self.fitted()
        assert history["epoch"].tolist() == [1, 2, 3]
        assert history["inverse_regularisation"].tolist() == list(CANDIDATES)
        ranks = list(zip(history["validation_uar"], -history["validation_loss"], strict=True))
        assert history["best"].tolist() == [rank == max(ranks) for rank in ranks]
        kept = history[history["best"]].iloc[0]
        likelihoods = network_training.probabilities(network, vectors[validation])[
            np.arange(len(validation)), labels[validation]
        ]
        assert -np.log(likelihoods).mean() == pytest.approx(kept["validation_loss"], rel=1e-5)
        assert kept["epoch"] < 3  # not the last fitted, whose coefficients would be there without any choice
        # Less freedom, a higher loss where it was fitted: the candidates do differ.
        assert history["train_loss"].is_monotonic_increasing and history["train_loss"].is_unique

    def test_its_history_is_read_like_that_of_any_network(self):
        vectors, labels, train, validation, _ = problem()
        other = fit(build("mlp"), vectors, labels, train, validation, epochs=1)
        _, history, _ = self.fitted()
        assert history.columns.tolist() == [*other.columns, "inverse_regularisation"]
        pd.testing.assert_series_equal(history.drop(columns="inverse_regularisation").dtypes, other.dtypes)

    def test_one_candidate_needs_no_validation_but_a_choice_does(self):
        vectors, labels, train, _, _ = problem()
        none = np.array([], dtype=int)
        network = build("logistic-regression")
        one, three = Training(inverse_regularisation=1.0), Training(inverse_regularisation=CANDIDATES)
        history = network_training.fit_logistic(network, vectors, labels, train, none, one, progress=False)
        assert history["best"].tolist() == [True] and history["validation_uar"].isna().all()
        assert accuracy(network, vectors[train], labels[train]) > 0.8
        with pytest.raises(SerError, match="no validation clips to choose one of 3 values"):
            network_training.fit_logistic(network, vectors, labels, train, none, three)

    def test_a_class_without_training_clips_is_never_predicted(self):
        def without(vectors, labels):
            labels[:80] = np.where(labels[:80] == 1, 0, labels[:80])
            return vectors, labels

        network, history, (vectors, labels, _, _, test) = self.fitted(change=without, class_weights=True)
        probabilities = network_training.probabilities(network, vectors[test])
        assert probabilities[:, 1].max() == 0
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        assert (labels[test] == 1).any() and np.isfinite(history["validation_loss"]).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_broken_features_are_refused(self, value):
        def broken(vectors, labels):
            vectors[17, 3] = value
            return vectors, labels

        with pytest.raises(SerError, match="1 clips hold NaN or infinite values, first in row 17"):
            self.fitted(change=broken)

    def test_one_class_is_refused(self):
        with pytest.raises(SerError, match="all of one emotion"):
            self.fitted(change=lambda vectors, labels: (vectors, np.zeros_like(labels)))

    def test_too_few_iterations_are_logged(self, caplog, monkeypatch):
        with caplog.at_level(logging.WARNING), monkeypatch.context() as limited:
            limited.setattr(network_training, "MAX_ITERATIONS", 1)
            self.fitted(candidates=(10.0,))
        assert "inverse_regularisation=10 has not converged after 1 iterations" in caplog.text
        caplog.clear()
        self.fitted(candidates=(10.0,))
        assert not caplog.text

    def test_without_standardising_raw_features_are_read(self):
        network, _, (vectors, labels, _, _, test) = self.fitted(standardise=False)
        assert network.standardise.mean.eq(0).all() and network.standardise.deviation.eq(1).all()
        assert accuracy(network, vectors[test], labels[test]) > 0.8
