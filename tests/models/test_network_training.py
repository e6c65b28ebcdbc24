import numpy as np
import pytest
import torch

from ser_lib.common.errors import SerError
from ser_lib.models import network_training
from ser_lib.models import networks as models
from ser_lib.models.base import MODELS
from ser_lib.models.settings import Training

SETTINGS = {"epochs": 12, "batch_size": 16, "learning_rate": 0.01, "patience": None, "device": "cpu"}


def fit(network, features, labels, train, validation, **settings):
    training = Training(**SETTINGS | settings)
    return network_training.fit(network, features, labels, train, validation, training, progress=False)


def problem(n=120, n_features=6, noise=0.5, seed=0):
    """Three classes that a network can learn: each raises one feature."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    features = rng.normal(0, noise, (n, n_features)).astype(np.float32)
    features[np.arange(n), labels] += 2
    rows = np.arange(n)
    return features, labels, rows[: n // 2], rows[n // 2 : 3 * n // 4], rows[3 * n // 4 :]


def fitted(seed=0, features=None, name="cnn", **changes):
    own, labels, train, validation, test = problem()
    features = own if features is None else features
    with network_training.seeded(seed):
        network = models.build(name, ["happy", "sad", "angry"], (6,), hidden=16)
        history = fit(network, features, labels, train, validation, **changes)
    return network, history, (features, labels, test)


VECTOR_NETWORKS = [name for name, forms in MODELS.items() if "vector" in getattr(forms, "forms", ())]


@pytest.mark.parametrize("name", VECTOR_NETWORKS)
def test_a_network_learns_what_can_be_learned(name):
    network, history, (features, labels, test) = fitted(name=name, epochs=40)
    probabilities = network_training.probabilities(network, features[test])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-9)
    assert (probabilities.argmax(axis=1) == labels[test]).mean() > 0.8
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


def test_a_seed_reproduces_every_digit_and_another_does_not():
    first, second, other = fitted(0), fitted(0), fitted(1)
    assert first[1].equals(second[1])
    features = first[2][0]
    np.testing.assert_array_equal(
        network_training.probabilities(first[0], features), network_training.probabilities(second[0], features)
    )
    assert not first[1].equals(other[1])


def test_seeding_leaves_the_callers_random_numbers_and_threads_alone():
    torch.manual_seed(5)
    threads, expected = torch.get_num_threads(), torch.rand(3)
    torch.manual_seed(5)
    fitted()
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


def test_the_weights_of_the_best_epoch_are_kept():
    network, history, _ = fitted(learning_rate=0.05)
    best = history[history["best"]]
    assert len(best) == 1
    assert best["validation_uar"].iloc[0] == history["validation_uar"].max()
    features, labels, _, validation, _ = problem()
    accuracy = (
        network_training.probabilities(network, features[validation]).argmax(axis=1) == labels[validation]
    ).mean()
    assert accuracy == pytest.approx(best["validation_accuracy"].iloc[0])


def test_the_last_epoch_is_kept_where_asked():
    _, history, _ = fitted(keep_best=False)
    assert history["best"].tolist() == [False] * 11 + [True]


def test_the_last_epoch_is_kept_where_patience_ends_the_training():
    _, stopped, _ = fitted(epochs=200, patience=3, learning_rate=0.05)
    network, history, _ = fitted(epochs=200, patience=3, learning_rate=0.05, keep_best=False)
    assert len(history) == len(stopped) < 200
    assert history["best"].tolist() == [False] * (len(history) - 1) + [True]


@pytest.mark.parametrize("class_weights", [True, False])
def test_the_loss_of_a_batch_does_not_depend_on_the_weights_of_its_own_clips(class_weights):
    logits, truth = torch.randn(5, 3), torch.tensor([0, 0, 0, 1, 2])
    weights = torch.tensor([0.5, 1.0, 2.0]) if class_weights else None
    each = torch.nn.functional.cross_entropy(logits, truth, reduction="none")
    expected = (each * weights[truth]).sum() if class_weights else each.sum()
    assert network_training.summed_loss(logits, truth, weights).item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_validation_the_last_epoch_is_kept():
    features, labels, train, _, _ = problem()
    with network_training.seeded(0):
        network = models.build("cnn", ["happy", "sad", "angry"], (6,))
        history = fit(network, features, labels, train, np.array([], dtype=int))
    assert history["best"].iloc[-1] and history["validation_uar"].isna().all()


def test_training_stops_early_when_patience_is_spent():
    _, history, _ = fitted(epochs=200, patience=3, learning_rate=0.05)
    assert len(history) < 200
    assert history["epoch"].iloc[-1] - history.loc[history["best"], "epoch"].iloc[0] == 3


def test_cosine_and_linear_fall_to_zero_and_plateau_halves_and_none_stays():
    rates = {
        name: fitted(scheduler=name, epochs=60)[1]["learning_rate"] for name in ("plateau", "cosine", "linear", "none")
    }
    assert (rates["cosine"].diff().dropna() < 0).all() and rates["cosine"].iloc[-1] < 1e-4
    np.testing.assert_allclose(rates["linear"], np.linspace(0.01, 0, 61)[:-1], rtol=1e-6)
    assert set(np.round(rates["none"], 9)) == {0.01}
    assert rates["plateau"].min() <= 0.005


def test_clipping_limits_what_one_batch_can_do():
    free, clipped = fitted()[1]["train_loss"], fitted(clip_norm=1e-12)[1]["train_loss"]
    assert free.iloc[-1] < 0.7 * free.iloc[0]
    assert clipped.iloc[-1] > 0.95 * clipped.iloc[0]  # gradients of hardly any length move hardly anything


def test_class_weights_raise_the_recall_of_a_rare_class():
    rng = np.random.default_rng(0)
    labels = (rng.random(600) < 0.06).astype(int)
    features = rng.normal(0, 1, (600, 6)).astype(np.float32)
    features[labels == 1, 0] += 1.5
    recall = {}
    for weighted in (False, True):
        with network_training.seeded(0):
            network = models.build("cnn", ["happy", "sad"], (6,), hidden=16)
            fit(network, features, labels, np.arange(400), np.array([], int), class_weights=weighted)
        prediction = network_training.probabilities(network, features[400:]).argmax(axis=1)
        recall[weighted] = prediction[labels[400:] == 1].mean()
    assert recall[True] > recall[False]


def test_nan_features_stop_the_training_with_an_error_that_says_what_to_do():
    features = problem()[0]
    features[3] = np.inf
    with pytest.raises(SerError, match="loss became nan in epoch 1, batch .*training.learning_rate.*clip_norm"):
        fitted(features=features)


def test_an_exploding_loss_stops_the_training():
    with pytest.raises(SerError, match="training loss became"):
        fitted(learning_rate=1e25, epochs=50)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(SerError, match="PyTorch sees no GPU"):
        network_training.pick_device("cuda")
    assert network_training.pick_device("auto").type == "cpu"
