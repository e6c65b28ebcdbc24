"""Logistic regression with a correction for each corpus, and profiles of speakers."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from ser_lib.common.errors import SerError
from ser_lib.models import corpus_experts, network_training, networks, profiles
from ser_lib.models.corpus_experts import PRIOR_CLIPS, balanced, fit_experts
from ser_lib.models.profiles import Profile, profile_of
from ser_lib.models.settings import Training
from ser_lib.recipes import load_recipe

EMOTIONS = ["happy", "sad", "angry"]
N_FEATURES = 7
NONE = np.array([], dtype=int)


def voices(corpora=("savee", "tess"), speakers=6, takes=6, offset=0.0, distance=4.0, seed=0):
    """Features, labels and clip table of invented speakers: each emotion raises one feature, each corpus another.

    Args:
        speakers: of each corpus.
        offset: deviation of what is added to all features of a speaker.
        distance: between two corpora.
    """
    rng = np.random.default_rng(seed)
    rows = [
        (corpus, f"{corpus}-{speaker:02d}", emotion)
        for corpus in corpora
        for speaker in range(speakers)
        for emotion in range(len(EMOTIONS))
        for _ in range(takes)
    ]
    clips = pd.DataFrame(rows, columns=["corpus", "speaker", "label"])
    labels = clips["label"].to_numpy()
    own = {speaker: rng.normal(0, offset, N_FEATURES) for speaker in clips["speaker"].unique()}
    features = rng.normal(5, 0.7, (len(clips), N_FEATURES)) + np.stack([own[name] for name in clips["speaker"]])
    features[np.arange(len(clips)), labels] += 2
    features[:, 4:6] += distance * (clips["corpus"].to_numpy()[:, None] == np.array(corpora)[:2])
    order = rng.permutation(len(clips))
    return features[order].astype(np.float32), labels[order], clips.iloc[order].reset_index(drop=True)


def fitted(features, labels, clips, train=None, validation=NONE, strength=(0.1,), emotions=EMOTIONS, **options):
    """A fitted network and its history."""
    train = np.arange(len(labels)) if train is None else train
    n_corpora = clips["corpus"].iloc[train].nunique()
    with network_training.seeded(0):
        network = networks.build("corpus-experts", emotions, features.shape[1:], n_corpora=n_corpora)
        training = Training(inverse_regularisation=strength)
        history = fit_experts(
            network, features, labels, train, validation, training, clips=clips, progress=False, **options
        )
    return network, history


def standardised(features, train=None):
    own = features if train is None else features[train]
    return (features - own.mean(axis=0, dtype=float)) / own.std(axis=0, dtype=float)


def softmax(logits):
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def regression(features, labels, weights, strength=0.1):
    return LogisticRegression(C=strength, max_iter=2000, tol=1e-6).fit(features, labels, weights)


def profile(values, count=8.0):
    return Profile(np.asarray(values, dtype=np.float32), count)


class TestWithoutAProfile:
    def test_one_corpus_is_plain_logistic_regression_on_balanced_clips(self):
        features, labels, clips = voices(corpora=("savee",), takes=3)
        # Sad clips are rare, so that their weight shows.
        kept = np.flatnonzero((labels != 1) | (np.arange(len(labels)) % 4 == 0))
        network, _ = fitted(features, labels, clips, kept)
        assert network.body.gate is None and network.config["n_corpora"] == 1
        read = standardised(features, kept)
        counts = np.bincount(labels[kept])
        expected = regression(read[kept], labels[kept], (len(kept) / (3 * counts))[labels[kept]])
        answers = network_training.probabilities(network, features)
        np.testing.assert_allclose(answers, expected.predict_proba(read), atol=5e-3)
        unweighted = regression(read[kept], labels[kept], None).predict_proba(read)
        assert np.abs(unweighted - answers).max() > 0.05

    def test_several_corpora_share_weights_and_have_their_own(self):
        """The columns are those of scikit-learn on the features, once for all clips and once for each corpus."""
        features, labels, clips = voices(takes=4)
        labels = np.where(clips["corpus"] == "tess", (labels + 1) % 3, labels)  # the corpora contradict each other
        network, _ = fitted(features, labels, clips)
        read = standardised(features)
        of_corpus = [read * (clips["corpus"] == name).to_numpy()[:, None] for name in ("savee", "tess")]
        weights = balanced(labels, clips["corpus"].to_numpy())
        expected = regression(np.concatenate([read, *of_corpus], axis=1), labels, weights).coef_
        learned = network.head[-1].weight.detach().numpy()[:, : 3 * N_FEATURES]
        np.testing.assert_allclose(learned, expected, atol=0.02)
        assert np.abs(expected).max() > 0.3

    def test_experts_are_weighted_by_how_a_clip_sounds(self):
        features, labels, clips = voices(corpora=("crema_d", "savee", "tess"), distance=1.0, takes=3)
        network, _ = fitted(features, labels, clips)
        read, body = standardised(features), network.body
        gate, bias = (part.detach().numpy().astype(float) for part in (body.gate.weight, body.gate.bias))
        shares = softmax(read @ gate.T + bias)
        assert shares.shape == (len(clips), 3) and shares.min() > 0.01 and np.ptp(shares) > 0.05
        weights = network.head[-1].weight.detach().numpy().astype(float)
        shared, *private = np.split(weights[:, : 4 * N_FEATURES], 4, axis=1)
        logits = read @ shared.T + network.head[-1].bias.detach().numpy()
        logits += sum(shares[:, [number]] * (read @ part.T) for number, part in enumerate(private))
        np.testing.assert_allclose(network_training.probabilities(network, features), softmax(logits), atol=1e-4)

    def test_the_gate_knows_the_corpora_and_weighs_them_alike(self):
        """Most clips are of one corpus; a gate that guesses it for all would hide the others."""
        many, few = voices(corpora=("savee",), takes=20), voices(corpora=("savee", "tess"), takes=2)
        features, labels = (np.concatenate([many[part], few[part]]) for part in (0, 1))
        clips = pd.concat([many[2], few[2]], ignore_index=True)
        features[: len(many[0]), 4:6] = few[0][few[2]["corpus"] == "savee"][0, 4:6]
        network, _ = fitted(features, labels, clips)
        with torch.inference_mode():
            chosen = network.body.gate(network.standardise(torch.from_numpy(features))).argmax(dim=1).numpy()
        names = np.array(["savee", "tess"])[chosen]
        assert (names == clips["corpus"])[clips["corpus"] == "tess"].mean() > 0.95
        assert (names == clips["corpus"])[clips["corpus"] == "savee"].mean() > 0.95

    def test_contradictions_between_corpora_are_learned(self, monkeypatch):
        # With so few clips the gate would hardly choose.
        monkeypatch.setattr(corpus_experts, "GATE_INVERSE_REGULARISATION", 1.0)
        features, labels, clips = voices(takes=8, distance=8.0)
        labels = np.where(clips["corpus"] == "tess", (labels + 1) % 3, labels)
        train, test = np.arange(200), np.arange(200, len(labels))
        network, _ = fitted(features, labels, clips, train, strength=(1.0,))
        answers = network_training.probabilities(network, features[test]).argmax(axis=1)
        assert (answers == labels[test]).mean() > 0.8

    def test_a_class_without_training_clips_is_never_predicted(self):
        features, labels, clips = voices()
        train = np.flatnonzero(labels != 1)
        network, history = fitted(features, labels, clips, train, np.flatnonzero(labels == 1))
        for known in (None, profile(features[train].mean(axis=0))):
            answers = network_training.probabilities(network, features, known)
            assert answers[:, 1].max() == 0
            np.testing.assert_allclose(answers.sum(axis=1), 1)
        assert np.isfinite(history["validation_loss"]).all()

    def test_two_emotions_have_two_logits(self):
        features, labels, clips = voices()
        kept = np.flatnonzero(labels < 2)
        network, _ = fitted(features[kept], labels[kept], clips.iloc[kept], emotions=EMOTIONS[:2])
        answers = network_training.probabilities(network, features[kept])
        assert answers.shape == (len(kept), 2) and (answers.argmax(axis=1) == labels[kept]).mean() > 0.8


class TestFitting:
    def test_validation_clips_choose_the_strength(self):
        features, labels, clips = voices(takes=3)
        train, validation = np.arange(60), np.arange(60, len(labels))
        candidates = (0.00001, 0.03, 300.0)
        network, history = fitted(features, labels, clips, train, validation, candidates)
        assert history["inverse_regularisation"].tolist() == list(candidates)
        assert history.columns.tolist() == [*network_training.COLUMNS, "inverse_regularisation"]
        ranks = list(zip(history["validation_uar"], -history["validation_loss"], strict=True))
        assert history["best"].tolist() == [rank == max(ranks) for rank in ranks]
        kept = history[history["best"]].iloc[0]
        answers = network_training.probabilities(network, features[validation])
        likelihoods = answers[np.arange(len(validation)), labels[validation]]
        assert -np.log(likelihoods).mean() == pytest.approx(kept["validation_loss"], rel=1e-4)
        assert kept["epoch"] < 3  # not the last fitted, whose coefficients would be there without any choice
        assert history["train_loss"].is_monotonic_decreasing and history["train_loss"].is_unique

    def test_a_choice_needs_validation_clips(self):
        with pytest.raises(SerError, match="no validation clips to choose one of 2 values"):
            fitted(*voices(), strength=(0.1, 1.0))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_broken_features_are_refused(self, value):
        features, labels, clips = voices()
        features[17, 3] = value
        with pytest.raises(SerError, match="1 clips hold NaN or infinite values, first in row 17"):
            fitted(features, labels, clips)

    def test_one_class_is_refused(self):
        features, labels, clips = voices()
        with pytest.raises(SerError, match="all of one emotion"):
            fitted(features, np.zeros_like(labels), clips)

    def test_fewer_clips_than_features_are_enough(self):
        features, labels, clips = voices(speakers=1, takes=1)
        assert len(features) < N_FEATURES
        answers = network_training.probabilities(fitted(features, labels, clips)[0], features)
        assert np.isfinite(answers).all()

    def test_a_constant_feature_and_half_precision_do_no_harm(self):
        features, labels, clips = voices()
        features[:, 6] = 3
        half = features.astype(np.float16)
        answers, of_half = (
            network_training.probabilities(fitted(table, labels, clips)[0], table) for table in (features, half)
        )
        np.testing.assert_allclose(of_half, answers, atol=0.02)

    def test_without_standardising_raw_features_are_read(self):
        features, labels, clips = voices()
        network, _ = fitted(features, labels, clips, standardise=False)
        assert network.standardise.mean.eq(0).all() and network.standardise.deviation.eq(1).all()
        assert (network_training.probabilities(network, features).argmax(axis=1) == labels).mean() > 0.8

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=40))
    def test_corpora_have_equal_weights_and_so_have_their_emotions(self, rows):
        labels, corpora = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        weights = balanced(labels, corpora)
        assert weights.shape == labels.shape and weights.min() > 0
        assert weights.mean() == pytest.approx(1)
        table = pd.DataFrame({"corpus": corpora, "label": labels, "weight": weights})
        of_corpus = table.groupby("corpus")["weight"].sum()
        np.testing.assert_allclose(of_corpus, len(rows) / len(of_corpus))
        for _, part in table.groupby("corpus"):
            of_emotion = part.groupby("label")["weight"]
            np.testing.assert_allclose(of_emotion.sum(), of_emotion.sum().iloc[0])
            assert (of_emotion.nunique() == 1).all()  # clips of one emotion and corpus are alike


class TestWithAProfile:
    def test_no_clips_say_nothing(self):
        features, labels, clips = voices()
        network, _ = fitted(features, labels, clips)
        plain = network_training.probabilities(network, features)
        for values in (features[0], 100 * features[0]):
            known = network_training.probabilities(network, features, profile(values, 0.0))
            np.testing.assert_allclose(known, plain, atol=1e-6)

    def test_many_clips_leave_the_answer_to_the_second_regression(self):
        """With one corpus it is scikit-learn's, fitted to clips with their speaker's mean subtracted."""
        features, labels, clips = voices(corpora=("savee",), offset=2.0)
        network, _ = fitted(features, labels, clips)
        read, speakers = standardised(features), clips["speaker"].to_numpy()
        means = pd.DataFrame(read).groupby(speakers).transform("mean").to_numpy()
        n_clips = len(EMOTIONS) * 6
        prior = means.mean(axis=0)
        centred = read - (n_clips * means + PRIOR_CLIPS * prior) / (n_clips + PRIOR_CLIPS)
        expected = regression(centred, labels, balanced(labels, clips["corpus"].to_numpy()))
        speaker = speakers == "savee-03"
        answers = network_training.probabilities(
            network, features[speaker], profile(features[speaker].mean(axis=0), 1e6)
        )
        wanted = expected.predict_proba(read[speaker] - means[speaker])
        np.testing.assert_allclose(answers, wanted, atol=5e-3)
        assert np.abs(answers - network_training.probabilities(network, features[speaker])).max() > 0.1

    @pytest.mark.parametrize("count", [1.0, 6.0])
    def test_mixes_both_regressions_and_the_clip_as_it_is_chooses_the_experts(self, count):
        features, labels, clips = voices(corpora=("crema_d", "savee"), distance=6.0, offset=1.0)
        # Unequal corpora and speakers: the mean over all speakers is not the mean over all clips.
        kept = np.flatnonzero((clips["corpus"] == "savee") | (np.arange(len(clips)) % 3 == 0))
        features, labels, clips = features[kept], labels[kept], clips.iloc[kept].reset_index(drop=True)
        network, _ = fitted(features, labels, clips)
        read, body = standardised(features), network.body
        of_speakers = pd.DataFrame(read).groupby([clips["corpus"], clips["speaker"]]).mean()
        prior = of_speakers.groupby("corpus").mean().mean().to_numpy()
        assert np.abs(prior).max() > 0.1
        speaker = clips["speaker"] == "savee-02"
        mean = read[speaker].mean(axis=0)
        centred = read - (count * mean + PRIOR_CLIPS * prior) / (count + PRIOR_CLIPS)
        gate = softmax(read @ body.gate.weight.detach().numpy().T + body.gate.bias.detach().numpy())
        design = [
            np.concatenate([part, *(gate[:, [number]] * part for number in range(2))], axis=1)
            for part in (read, centred)
        ]
        linear, share = network.head[-1], count / (count + PRIOR_CLIPS)
        weights, bias = (part.detach().numpy().astype(float) for part in (linear.weight, linear.bias))
        logits = (1 - share) * design[0] @ weights[:, : 3 * N_FEATURES].T + share * weights[:, -1] + bias
        logits += share * design[1] @ weights[:, 3 * N_FEATURES : -1].T
        answers = network_training.probabilities(network, features, profile(features[speaker].mean(axis=0), count))
        np.testing.assert_allclose(answers, softmax(logits), atol=1e-3)

    def test_more_clips_bring_the_answer_nearer_to_the_second_regression(self):
        features, labels, clips = voices(offset=2.0)
        network, _ = fitted(features, labels, clips)
        speaker = features[clips["speaker"] == "tess-03"]
        # With the mean over all speakers as profile, only the share of the second regression changes.
        mean = network.body.prior * network.standardise.deviation + network.standardise.mean
        answers = {
            count: network_training.probabilities(network, speaker, profile(mean, count))
            for count in (0, 2, 8, 32, 1e7)
        }
        distances = [np.abs(answers[count] - answers[1e7]).mean() for count in answers]
        assert distances == sorted(distances, reverse=True) and distances[0] > 0.01
        logits = {
            count: np.log(answer) - np.log(answer).mean(axis=1, keepdims=True) for count, answer in answers.items()
        }
        np.testing.assert_allclose(logits[2], (logits[0] + logits[1e7]) / 2, atol=1e-2)

    def test_each_clip_may_have_its_own(self):
        """More clips than a batch, so that clips and profiles are divided alike."""
        features, labels, clips = voices(speakers=10, takes=5, offset=2.0)
        assert len(features) > 256
        network, _ = fitted(features, labels, clips)
        rng = np.random.default_rng(0)
        means = features[rng.permutation(len(features))]
        counts = rng.integers(0, 9, (len(features), 1)).astype(float)
        together = network_training.probabilities(network, features, Profile(means, counts))
        for row in (0, 100, 255, 256, len(features) - 1):
            alone = network_training.probabilities(
                network, features[row : row + 1], profile(means[row], float(counts[row, 0]))
            )
            np.testing.assert_allclose(together[row], alone[0], atol=1e-5)

    @pytest.mark.parametrize("corpora", [("savee",), ("savee", "tess")])
    def test_helps_where_speakers_differ(self, corpora):
        features, labels, clips = voices(corpora=corpora, speakers=12, offset=1.5, takes=8)
        is_new = clips["speaker"].str[-2:].astype(int).to_numpy() >= 8
        network, _ = fitted(features, labels, clips, np.flatnonzero(~is_new))
        right = {"without": [], "with": [], "of another": []}
        for speaker in clips["speaker"][is_new].unique():
            rows = np.flatnonzero(clips["speaker"] == speaker)
            enrolled, tested = rows[:8], rows[8:]
            predicted = network_training.probabilities(network, features[enrolled]).argmax(axis=1)
            known = profile_of(features[enrolled], predicted)
            other = profile(known.mean + 3, known.count)
            for name, given_profile in (("without", None), ("with", known), ("of another", other)):
                answers = network_training.probabilities(network, features[tested], given_profile)
                right[name] += (answers.argmax(axis=1) == labels[tested]).tolist()
        accuracy = {name: np.mean(hits) for name, hits in right.items()}
        assert accuracy["with"] > accuracy["without"] + 0.1
        assert accuracy["with"] > 0.8

    def test_a_model_makes_it_of_its_own_predictions(self, tmp_path):
        model, features, _ = fitted_model(tmp_path)
        assert model.takes_profile
        known = model.profile(features[:9])
        expected = profile_of(features[:9], model.probabilities(features[:9]).argmax(axis=1))
        assert known.count == expected.count and np.array_equal(known.mean, expected.mean)
        answers = model.probabilities(features, known)
        np.testing.assert_array_equal(answers, network_training.probabilities(model.network, features, known))
        assert np.abs(answers - model.probabilities(features)).max() > 0.01

    def test_other_heads_refuse_it(self):
        model = load_recipe("demo", overrides=["model.name=mlp", "input.pooling=mean"]).create_model()
        assert not model.takes_profile
        with pytest.raises(
            SerError, match="a model mlp cannot use clips of a speaker: take a recipe such as speech-em"
        ):
            model.profile(np.zeros((2, 40), dtype=np.float32))


def fitted_model(folder, corpora=("savee", "tess")):
    """A model of a recipe, fitted to invented voices, with their features and clips."""
    features, labels, clips = voices(corpora, offset=1.0)
    overrides = ["model.name=corpus-experts", "input.pooling=mean", "training.inverse_regularisation=[0.1]"]
    model = load_recipe("demo", overrides=overrides).create_model()
    settings = {"clips": clips, "emotions": EMOTIONS, "seed": 0, "folder": folder, "progress": False}
    model.fit(features, labels, np.arange(len(labels)), NONE, **settings)
    return model, features, clips


class TestAModel:
    @pytest.mark.parametrize("corpora", [("savee",), ("savee", "tess")])
    def test_answers_the_same_once_it_was_saved(self, tmp_path, corpora):
        model, features, _ = fitted_model(tmp_path, corpora)
        model.save(tmp_path / "model")
        again = load_recipe("demo", overrides=["model.name=corpus-experts", "input.pooling=mean"]).create_model()
        again.load(tmp_path / "model")
        known = model.profile(features[:6])
        for given_profile in (None, known):
            np.testing.assert_array_equal(
                again.probabilities(features, given_profile), model.probabilities(features, given_profile)
            )
        assert again.profile(features[:6]).count == known.count
        far = features + 50
        for model_ in (model, again):
            assert model_.is_like_speech(features).all() and not model_.is_like_speech(far).any()
        assert again.emotions == EMOTIONS and again.takes_profile

    def test_has_an_expert_for_each_corpus_of_its_training_clips_alone(self, tmp_path):
        features, labels, clips = voices(corpora=("crema_d", "savee", "tess"))
        model = load_recipe("demo", overrides=["model.name=corpus-experts", "input.pooling=mean"]).create_model()
        model.training = Training(inverse_regularisation=(0.1,))
        train = np.flatnonzero(clips["corpus"] != "tess")
        settings = {"clips": clips, "emotions": EMOTIONS, "seed": 0, "folder": tmp_path, "progress": False}
        model.fit(features, labels, train, np.flatnonzero(clips["corpus"] == "tess"), **settings)
        assert model.network.config["n_corpora"] == 2
        assert model.probabilities(features).shape == (len(clips), 3)

    def test_takes_clips_for_speech_that_are_no_farther_than_speech(self):
        features, labels, clips = voices(distance=1.0)
        train = np.arange(100)
        network, _ = fitted(features, labels, clips, train)
        squares = np.square(standardised(features, train)).mean(axis=1)
        assert float(network.body.limit) == pytest.approx(corpus_experts.LIMIT * squares[train].max(), rel=1e-4)
        far = features[0] + np.linspace(0, 40, 30)[:, None].astype(np.float32)
        squares = np.square((far - features[train].mean(axis=0)) / features[train].std(axis=0)).mean(axis=1)
        is_near = squares <= float(network.body.limit)
        assert network.is_like_speech(far).tolist() == is_near.tolist() and 0 < is_near.sum() < 30
        assert network.is_like_speech(features[train]).all()
        broken = np.full((1, N_FEATURES), np.nan, dtype=np.float32)
        assert network.is_like_speech(broken).tolist() == [False]

    def test_other_heads_take_all_for_speech(self):
        network = networks.build("mlp", EMOTIONS, (5,))
        assert network.is_like_speech(np.full((3, 5), 1e6, dtype=np.float32)).tolist() == [True] * 3


@st.composite
def predicted_clips(draw):
    n_clips = draw(st.integers(1, 30))
    values = st.floats(-100, 100, width=32)
    inputs = np.array(draw(st.lists(st.tuples(values, values), min_size=n_clips, max_size=n_clips)), dtype=np.float32)
    predicted = draw(st.lists(st.integers(0, 4), min_size=n_clips, max_size=n_clips))
    return inputs, np.array(predicted)


class TestProfileOf:
    @settings(max_examples=100, deadline=None)
    @given(clips=predicted_clips(), seed=st.integers(0, 100))
    def test_counts_at_most_the_clips_in_whatever_order(self, clips, seed):
        inputs, predicted = clips
        known = profile_of(inputs, predicted)
        per_emotion = np.minimum(np.bincount(predicted), profiles.MOST_OF_AN_EMOTION)
        assert known.count == pytest.approx(per_emotion.sum()) and known.count <= len(inputs) + 1e-9
        assert known.mean.dtype == np.float32 and known.mean.shape == (2,)
        assert (known.mean >= inputs.min(axis=0) - 1e-4).all() and (known.mean <= inputs.max(axis=0) + 1e-4).all()
        order = np.random.default_rng(seed).permutation(len(inputs))
        shuffled = profile_of(inputs[order], predicted[order])
        np.testing.assert_allclose(shuffled.mean, known.mean, atol=1e-3)
        assert shuffled.count == pytest.approx(known.count)

    @settings(max_examples=50, deadline=None)
    @given(clips=predicted_clips())
    def test_the_mean_of_one_input_repeated_is_that_input(self, clips):
        inputs, predicted = clips
        inputs = np.repeat(inputs[:1], len(predicted), axis=0)
        np.testing.assert_allclose(profile_of(inputs, predicted).mean, inputs[0], rtol=1e-5, atol=1e-5)

    def test_clips_of_one_mood_pull_no_more_than_their_share(self):
        inputs = np.array([[0.0]] * 20 + [[9.0]] * 2, dtype=np.float32)
        assert profile_of(inputs, np.array([0] * 20 + [1] * 2)).mean == pytest.approx([4.5])

    def test_keeps_the_shape_of_a_clips_inputs(self):
        assert profile_of(np.ones((4, 3, 5), dtype=np.float32), np.array([0, 0, 0, 1])).mean.shape == (3, 5)
