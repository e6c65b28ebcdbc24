"""The effect of one leak at a time on the score: honest and leaky conditions, and their difference in points of UAR.

    table = pd.concat([same_speaker(clips, features), normalised_with_test(clips, features)])
    worth(table)                # honest UAR, leaky UAR, and the points between them with their interval

Each function returns a table with `conditions.COLUMNS`, one row a condition; the conditions of a table differ in one thing
only. The model is `ser_lib.studies.probe.probe` with one fixed regularisation: nothing is chosen, so that validation clips
train too, except where choosing is the leak. A model that memorises more gains more from a leak.

In all of them `clips` is a clip table without duplicates, `features` an array of (n_clips, n_features) in its order, and
`folds` the number of folds, by speaker or at random: at most one a speaker.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ser_lib.audio import augmentation
from ser_lib.audio.features import standardise_by_speaker
from ser_lib.common.errors import SerError
from ser_lib.common.hashing import hash_of
from ser_lib.corpora.labels import EMOTIONS, in_order
from ser_lib.evaluation.metrics import decisions, is_right
from ser_lib.models import network_training
from ser_lib.models import networks as models
from ser_lib.models.settings import Training
from ser_lib.protocols.splits import make_split
from ser_lib.studies.conditions import Condition, mean_n_train, probed, random_split, speaker_split, table_of, tested
from ser_lib.studies.probe import FeatureReader, features_of_altered, folds_of, probe

COPIES = {
    "speed 0.9": lambda waveform, rng: augmentation.change_speed(waveform, 0.9),
    "speed 1.1": lambda waveform, rng: augmentation.change_speed(waveform, 1.1),
    "noise 20 dB": lambda waveform, rng: augmentation.add_noise(waveform, 20.0, rng),
}


def duplicate_files(archive: pd.DataFrame, features: np.ndarray, folds: int = 5) -> pd.DataFrame:
    """An archive that holds every recording twice, split at random by file: most test files have a duplicate in training.

    Such are Kaggle's RAVDESS (2880 files of 1440 clips), in both `ravdess-wav2vec2-frozen-mlp` sources, and TESS (5600
    files of 2800), in the `tess-mfcc` source. The distinct clips are honest except that speakers are on both sides.

    Args:
        archive: clip table with duplicates (`load_clips(..., keep_duplicates=True)`, or `with_duplicates`).
        features: (n_files, n_features), in the order of the archive.
    """
    first = ~archive["audio_hash"].duplicated().to_numpy()
    if first.all():
        raise SerError(
            f"expected an archive with duplicates, got {len(archive)} distinct clips: load it with keep_duplicates=True, "
            "or add duplicates by leaks.with_duplicates(clips, features)"
        )
    clips = archive[first].reset_index(drop=True)
    honest = probed("distinct clips", False, clips, features[first], random_split(clips, folds))
    split = random_split(archive, folds)
    leaky = probed("all files", True, archive, features, split, honest.name)
    originals = archive.groupby("audio_hash")["clip_id"].transform("first")
    leaky.predictions["clip_id"] = originals.iloc[leaky.predictions.index].to_numpy()
    both = split[split["subset"] == "train"], tested(split)
    train, test = (pd.MultiIndex.from_frame(rows[["fold", "audio_hash"]]) for rows in both)
    has_duplicate = test.isin(train)
    conditions = [
        honest,
        leaky,
        leaky.part("files with a duplicate in training", True, has_duplicate),
        leaky.part("files without one", False, ~has_duplicate),
    ]
    return table_of("duplicate files", clips, conditions)


def with_duplicates(clips: pd.DataFrame, features: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """An archive with every clip twice, made of a corpus without duplicates, to show their effect."""
    duplicates = clips.assign(clip_id=clips["clip_id"] + "#2")
    return pd.concat([clips, duplicates], ignore_index=True), np.concatenate([features, features])


def same_speaker(clips: pd.DataFrame, features: np.ndarray, folds: int = 5) -> pd.DataFrame:
    """A random split of distinct clips: every test speaker is also a training speaker.

    All five projects that the recipes reproduce do this. Both splits have as many training clips of each emotion.
    """
    honest = probed("by speaker", False, clips, features, speaker_split(clips, folds))
    leaky = probed("at random", True, clips, features, random_split(clips, folds), honest.name)
    return table_of("same speaker", clips, [honest, leaky])


def copies_before_split(
    clips: pd.DataFrame, features: np.ndarray, copies: dict[str, np.ndarray], folds: int = 5
) -> pd.DataFrame:
    """Augmentation before a random split: altered copies of test clips train the model.

    No recipe's source is known to do this; `ser_lib.protocols.leak_audit` looks for it, as "augmented copies". Copies
    stay with their original if they are made after the split, and in any split by speaker. All conditions train on the
    same number of rows, and test all files, as such sources do; a second row of each has the originals only.

    Args:
        copies: features of altered copies of all clips by the name of the change, as of `features_of_copies`.
    """
    names = ["", *(f"~{name}" for name in copies)]
    everything = pd.concat([clips.assign(clip_id=clips["clip_id"] + name) for name in names], ignore_index=True)
    inputs = np.concatenate([features, *copies.values()])
    split = random_split(clips, folds)
    honest_name, leaky_name = "split, then copied", "copied, then split"
    splits = {
        honest_name: pd.concat([split.assign(clip_id=split["clip_id"] + name) for name in names]),
        leaky_name: random_split(everything, folds),
        "copied, then split by speaker": speaker_split(everything, folds),
    }
    conditions = []
    for name, split in splits.items():
        leaky = name == leaky_name
        whole = probed(name, leaky, everything, inputs, split, honest_name if leaky else "")
        row = whole.predictions.index.to_numpy()
        whole.predictions["clip_id"] = clips["clip_id"].to_numpy()[row % len(clips)]
        against = f"{honest_name}: originals" if leaky else ""
        conditions += [whole, whole.part(f"{name}: originals", leaky, row < len(clips), against)]
    return table_of("copies before the split", clips, conditions)


def features_of_copies(clips: pd.DataFrame, features: FeatureReader, audio_settings: dict) -> dict[str, np.ndarray]:
    """Features of copies of all clips, altered in each way of `COPIES`, for `copies_before_split`.

    Args:
        features: the function that read the features of the originals.
        audio_settings: keyword arguments of `ser_lib.audio.reading.prepare`, the same as for the originals.

    Returns:
        float32 of shape (n_clips, n_features), by the name of the change.
    """
    arrays = {}
    for name in COPIES:

        def change(clip_id: str, waveform: np.ndarray, name: str = name) -> np.ndarray:
            return COPIES[name](waveform, np.random.default_rng(hash_of(0, clip_id, name)))

        arrays[name] = features_of_altered(clips, features, change, audio_settings)
    return arrays


def normalised_with_test(clips: pd.DataFrame, features: np.ndarray, folds: int = 5) -> pd.DataFrame:
    """Features standardised before the split, so that test clips contribute to mean and deviation.

    No recipe's source is known to take the mean of all clips; the protocol `speaker-adapted` takes that of each speaker,
    and says so: it is marked leaky as it is transductive, and needs several clips of a new speaker.
    """
    split = speaker_split(clips, folds)
    honest = probed("training clips' mean and deviation", False, clips, features, split)
    inputs = {
        "all clips' mean and deviation": (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-8),
        "each speaker's own (transductive)": standardise_by_speaker(features, clips["speaker"]),
    }
    # The probe's standardising would undo any other.
    leaky = [probed(name, True, clips, x, split, honest.name, standardise=False) for name, x in inputs.items()]
    return table_of("normalised with test clips", clips, [honest, *leaky])


def layer_chosen_on_test(clips: pd.DataFrame, features: np.ndarray, folds: int = 5) -> pd.DataFrame:
    """An encoder's layer chosen by the test score, as in reports of the best row of a table of all layers.

    Args:
        features: (n_clips, n_layers, n_features), two layers or more.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        expected = "expected features of two layers or more, (n_clips, n_layers, n_features)"
        raise SerError(f'{expected}, got the shape {features.shape}: embed the clips with layers="all"')
    candidates = _Candidates(clips, features, folds)
    name = "validation speakers choose"
    conditions = [
        candidates.chosen(name, "validation"),
        candidates.chosen("all test clips choose", "all test", name),
        candidates.chosen("each fold's test clips choose", "test", name),
    ]
    return table_of("layer chosen on test", clips, conditions)


def best_of_many(
    clips: pd.DataFrame, features: np.ndarray, counts: Sequence[int] = (2, 8, 32), folds: int = 5
) -> pd.DataFrame:
    """The best of many equally good models: each reads the features with other noise added.

    It measures the gain from trying many settings and reporting the best, where the settings make no difference. The
    noise has the standard deviation of each feature, and is the same in training and test.

    Args:
        counts: numbers of candidates.
    """
    noise = (np.random.default_rng(number).standard_normal(features.shape) for number in range(max(counts)))
    deviation = features.std(axis=0)
    noisy = np.stack([(features + deviation * array).astype(np.float32) for array in noise], axis=1)
    candidates = _Candidates(clips, noisy, folds)
    conditions = []
    for count in counts:
        honest = candidates.chosen(f"best of {count} on validation", "validation", count=count)
        conditions += [honest, candidates.chosen(f"best of {count} on test", "test", honest.name, count)]
    return table_of("best of many on test", clips, conditions)


class _Candidates:
    """Predictions of the validation and test rows of a split by the probe on each of several arrays of features."""

    def __init__(self, clips: pd.DataFrame, features: np.ndarray, folds: int):
        split = make_split(clips, "speaker", 0, folds=folds)
        as_test = split.assign(subset=split["subset"].replace("validation", "test"), held_out=split["subset"])
        candidates = [np.ascontiguousarray(features[:, number]) for number in range(features.shape[1])]
        self.n_train = mean_n_train(split)
        self.rows = tested(as_test)
        self.tables = [probe(clips, array, as_test) for array in candidates]

    def chosen(self, name: str, chooser: str, against: str = "", count: int | None = None) -> Condition:
        """Test predictions of the candidate with the highest UAR among the first `count`.

        Args:
            chooser: "validation" or "test" clips of each fold, or "all test" clips of all folds at once.
        """
        right = np.stack([is_right(decisions(table)) for table in self.tables[:count]])
        subset, fold, truth = (self.rows[column].to_numpy() for column in ("held_out", "fold", "emotion"))
        parts = []
        for number in np.unique(fold):
            judged = (subset == chooser) & (fold == number) if chooser != "all test" else subset == "test"
            recalls = [right[:, judged & (truth == emotion)].mean(axis=1) for emotion in np.unique(truth[judged])]
            best = int(np.mean(recalls, axis=0).argmax())
            parts.append(self.tables[best][(subset == "test") & (fold == number)])
        return Condition(name, chooser != "validation", pd.concat(parts), self.n_train, against)


def epoch_chosen_on_test(clips: pd.DataFrame, features: np.ndarray, epochs: int = 30, folds: int = 5) -> pd.DataFrame:
    """A network stopped at the epoch that is best on the test clips, where there are no validation clips.

    The source of `ravdess-wav2vec2-frozen-mlp` reports the best of 10 epochs in this way, and that of
    `tess-wav2vec2-finetune` selects on the test set too. Training clips, initial weights and the order of batches are
    equal: only the chosen epoch differs.
    """
    split = make_split(clips, "speaker", 0, folds=folds)
    training = Training(epochs=epochs, batch_size=16, learning_rate=1e-3, device="cpu", patience=None)

    def trained(chooser: str) -> pd.DataFrame:
        tables = []
        for fold in folds_of(clips, split):
            with network_training.seeded(0):
                network = models.build("mlp", fold.emotions, features.shape[1:], dense=(256,), dropout=0.3)
                rows = fold.rows["train"], fold.rows[chooser]
                network_training.fit(network, features, fold.labels, *rows, training, progress=False)
                tables.append(fold.predictions(network_training.probabilities(network, features[fold.rows["test"]])))
        return pd.concat(tables)

    honest = Condition("validation speakers choose", False, trained("validation"), mean_n_train(split))
    leaky = Condition("test clips choose", True, trained("test"), honest.n_train, honest.name)
    return table_of("epoch chosen on test", clips, [honest, leaky])


def label_decided_by_corpus(clips: pd.DataFrame, features: np.ndarray, folds: int = 5) -> pd.DataFrame:
    """Joined corpora of which not all have every emotion: recognising the corpus excludes emotions.

    `four-corpora-xlsr53-finetune` has eight emotions, of which only RAVDESS has calm. Honest: emotions that every corpus
    has, trained and tested. The last two conditions are of a rule that knows only a clip's corpus: it predicts the
    emotion with the largest share of its training clips in that corpus. Of a single emotion, the UAR is its recall.
    """
    n_corpora = clips.groupby("emotion")["corpus"].nunique()
    partial = in_order(n_corpora.index[n_corpora < clips["corpus"].nunique()])
    if not partial or len(partial) == len(n_corpora):
        raise SerError(
            "expected corpora that share some emotions, but not all, such as ravdess and tess (calm), got "
            f"{', '.join(sorted(clips['corpus'].unique()))} with {', '.join(in_order(clips['emotion']))} throughout"
        )
    names, has_partial = " and ".join(partial), clips["emotion"].isin(partial)

    def measured(name: str, leaky: bool, mask: pd.Series, against: str = "") -> Condition:
        some = clips[mask].reset_index(drop=True)
        return probed(name, leaky, some, features[mask.to_numpy()], speaker_split(some, folds), against)

    def is_partial(condition: Condition) -> np.ndarray:
        return condition.predictions["truth"].isin(partial).to_numpy()

    honest = measured(f"without {names}", False, ~has_partial)
    joined = measured("all emotions", True, pd.Series(True, clips.index), honest.name)
    alone = measured("one corpus", False, clips["corpus"].isin(clips["corpus"][has_partial]))
    corpora, tables = clips["corpus"].to_numpy(), []
    for fold in folds_of(clips, speaker_split(clips, folds)):
        train, test = fold.rows["train"], fold.rows["test"]
        share = pd.crosstab(corpora[train], fold.labels[train], normalize="columns")
        share = share.reindex(index=corpora[test], columns=range(len(fold.emotions))).fillna(0) + 1e-9
        tables.append(fold.predictions(share.div(share.sum(axis=1), axis=0).to_numpy()))
    rule = Condition("the corpus alone", True, pd.concat(tables), joined.n_train)
    conditions = [
        honest,
        joined,
        joined.part(f"all emotions: without {names}'s clips", False, ~is_partial(joined)),
        joined.part(f"all emotions: {names}", True, is_partial(joined)),
        alone.part(f"{names}, trained on its own corpus", False, is_partial(alone)),
        rule,
        rule.part(f"the corpus alone: {names}", True, is_partial(rule)),
    ]
    return table_of("label decided by corpus", clips, conditions)


def speaker_as_label(clips: pd.DataFrame, features: np.ndarray, folds: int = 5) -> pd.DataFrame:
    """File names misread, so that the speaker's initials become the label: the model learns to recognise speakers.

    SAVEE's DC_a01 is speaker DC, angry; the source of `four-corpora-xlsr53-finetune` labels it "DC". Here each speaker is
    given the name of an emotion, in order (DC neutral, JE calm, …), as predictions tables need emotions. By speaker there
    is no such condition: a test speaker would have no training clip.
    """
    speakers = sorted(clips["speaker"].unique())
    if len(speakers) > len(EMOTIONS):
        raise SerError(
            f"expected at most {len(EMOTIONS)} speakers, one for each name of an emotion, got {len(speakers)}: take the "
            "clips of some, or a small corpus, such as savee"
        )
    split = random_split(clips, folds)
    misread = split.assign(emotion=split["speaker"].map(dict(zip(speakers, EMOTIONS, strict=False))))
    honest = probed("true emotions by speaker", False, clips, features, speaker_split(clips, folds))
    conditions = [
        honest,
        probed("true emotions at random", True, clips, features, split),
        probed("speakers as emotions at random", True, clips, features, misread, honest.name),
    ]
    return table_of("speaker as label", clips, conditions)


def worth(table: pd.DataFrame) -> pd.DataFrame:
    """The difference of each leaky condition from its honest one, the largest first.

    Args:
        table: of one leak, or of several one under the other.

    Returns:
        corpora, mechanism, honest and leaky (names of the conditions), honest_uar and leaky_uar (each with _low and
        _high), points (100 × the difference), points_low and points_high (95 %, paired), interval_over.
    """
    keys, scores = ["corpora", "mechanism", "condition"], ["uar", "uar_low", "uar_high"]
    repeated = table[table.duplicated(keys)]
    if len(repeated):
        corpora, mechanism, condition = repeated[keys].iloc[0]
        raise SerError(
            f"{mechanism!r} of {corpora} has the condition {condition!r} twice: drop one of its tables, or give them "
            "different names (table.assign(mechanism=...))"
        )
    points = ["points", "points_low", "points_high", "interval_over"]
    of_honest, of_leaky = ({score: f"{side}_{score}" for score in scores} for side in ("honest", "leaky"))
    leaky = table.loc[table["against"] != "", [*keys, "against", *scores, *points]]
    leaky = leaky.rename(columns={"condition": "leaky", "against": "honest", **of_leaky})
    honest = table[[*keys, *scores]].rename(columns={"condition": "honest", **of_honest})
    both = leaky.merge(honest, on=["corpora", "mechanism", "honest"])
    columns = ["corpora", "mechanism", "honest", "leaky", *of_honest.values(), *of_leaky.values(), *points]
    return both[columns].sort_values("points", ascending=False, kind="stable", ignore_index=True)
