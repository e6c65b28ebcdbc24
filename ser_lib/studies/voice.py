"""What a few clips of a voice are worth: answers to unheard speakers after enrolment, by how many clips and which ones.

    table = measure(load_recipe("speech-emotion"))       # trains the recipe where it has no finished run
    write_table(table)                                    # reports/voice.csv, with `COLUMNS`

The speakers are those who test each fold of `PROTOCOLS`, and the models those of the folds, which have never heard them. A
speaker's clips are enrolled without their labels, and no clip is tested by a model that was given this clip.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ser_lib.audio.degradations import Condition, degrade
from ser_lib.common import files
from ser_lib.common.hashing import hash_of, shuffled
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation import comparison, metrics, results
from ser_lib.inference.run import Run, runs_root
from ser_lib.models.base import Model
from ser_lib.models.profiles import Profile, profile_of
from ser_lib.recipes import Recipe
from ser_lib.recipes.inputs import clips_of, inputs_of
from ser_lib.studies.claims import PlannedRun
from ser_lib.studies.probe import features_of_altered

COLUMNS = [
    "study",  # what differs: number, moods, speaker, microphone or listening
    "condition",
    "corpus",
    "trained_on",  # values of `PROTOCOLS`
    "k",  # clips that are enrolled; -1: half of the speaker's; of listening, the fewest that were heard before
    *["uar", "low", "high"],
    *["difference", "difference_low", "difference_high"],  # UAR minus that of the same trials without enrolment, paired
    "clips",  # distinct
    "speakers",
]
PROTOCOLS = {"speaker": "all corpora", "cross-corpus": "other corpora"}
COUNTS = (2, 4, 8, 16)
FEW, ENOUGH = 4, 8
DRAWS = 3
# Of a recording; the bins of listening hold few clips of a speaker each.
RECORDINGS = 10
HEARD = (0, 1, 4, 8, 16, 32, 64)
DEGRADED = {"by telephone": Condition("telephone"), "in a room": Condition("reverberation", 0.3)}
# Of a speaker; the encoder must read each of them once more for each of `DEGRADED`.
DEGRADED_CLIPS = 32


class Voice(NamedTuple):
    """A speaker who tests a fold: the model of the fold, the speaker's clips, and what the model reads of them."""

    model: Model
    clips: pd.DataFrame
    inputs: np.ndarray
    # Inputs of the other speakers of the corpus.
    others: list[np.ndarray]


class Trial(NamedTuple):
    """Some clips of a voice, and whom the model knows when it answers them; None: nobody."""

    clips: pd.DataFrame
    inputs: np.ndarray
    profile: Profile | None


# The trials of one voice, with random choices; none where the voice has too few clips.
Trials = Callable[[Voice, np.random.Generator], Iterable[Trial]]


def measure(
    recipe: Recipe,
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    say: Callable[[str], None] = print,
    protocols: Mapping[str, str] = PROTOCOLS,
) -> pd.DataFrame:
    """Measure enrolment on every speaker whom a recipe is tested on: `COLUMNS`, one row a corpus and condition.

    Corpora of which each speaker has too few clips are left out, and named by `say`.

    Args:
        protocols: as `PROTOCOLS`.

    Raises:
        SerError: the recipe's model takes no profile.
    """
    recipe.create_model().check_takes_profile()
    tables = []
    for protocol, trained_on in protocols.items():
        planned = PlannedRun(recipe, protocol, 0, runs_root(runs_dir))
        run = planned.finished_or_trained(data_dir, say)
        tables.append(measure_run(run, data_dir, say).assign(trained_on=trained_on))
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def measure_run(run: Run, data_dir: str | Path | None = None, say: Callable[[str], None] = print) -> pd.DataFrame:
    """The rows of one run, without the column `trained_on`."""
    rows = []
    for corpus, voices in voices_of(run, data_dir).items():
        fewest = min(len(voice.clips) for voice in voices)
        if fewest < 2 * COUNTS[0]:
            say(f"{corpus}, {run.protocol}: left out, as some of its speakers have only {fewest} clips")
            continue
        say(f"{corpus}, {run.protocol}: {len(voices)} speakers")
        degraded = {name: degraded_inputs(run.recipe, voices, condition) for name, condition in DEGRADED.items()}
        for study, condition, k, trials in [*conditions(), *microphone_conditions(degraded)]:
            row = _row(voices, condition, trials)
            rows += [{"study": study, "condition": condition, "corpus": corpus, "k": k} | row] if row else []
        rows += [{"study": "listening", "corpus": corpus} | row for row in _listening(voices)]
    return pd.DataFrame(rows)


def voices_of(run: Run, data_dir: str | Path | None = None) -> dict[str, list[Voice]]:
    """The speakers who test the folds of a run, by corpus."""
    clips = clips_of(run.recipe, run.protocol, data_dir, progress=False)
    clips = clips[clips["clip_id"].isin(run.split["clip_id"])].reset_index(drop=True)
    inputs = inputs_of(run.recipe, clips, run.protocol)
    rows_of = {speaker: rows.to_numpy() for speaker, rows in clips.groupby("speaker").groups.items()}
    voices: dict[str, list[Voice]] = {}
    tested = run.split[run.split["subset"] == "test"]
    for fold, of_fold in tested.groupby("fold"):
        model = run.model(int(fold))
        for (corpus, speaker), _ in of_fold.groupby(["corpus", "speaker"]):
            is_other = (clips["corpus"] == corpus) & (clips["speaker"] != speaker)
            other_speakers = clips.loc[is_other, "speaker"].unique()
            others = [inputs[rows_of[name]] for name in other_speakers] if len(other_speakers) < 100 else []
            voices.setdefault(corpus, []).append(
                Voice(model, clips.iloc[rows_of[speaker]].reset_index(drop=True), inputs[rows_of[speaker]], others)
            )
    return voices


def conditions() -> Iterator[tuple[str, str, int, Trials]]:
    """The studies of clips as they are: study, condition, k and the trials of a voice."""
    yield "number", "no clips", 0, partial(_by_halves, k=0)
    for k in COUNTS:
        yield "number", f"{k} clips", k, partial(_by_halves, k=k)
    yield "number", "half of all clips", -1, partial(_by_halves, k=None)
    for k in (FEW, ENOUGH):
        yield "moods", f"{k} clips, all neutral", k, partial(_of_moods, k=k, moods=["neutral"])
        yield "moods", f"{k} clips, of two emotions", k, partial(_of_moods, k=k)
    yield "speaker", f"{ENOUGH} clips of another speaker", ENOUGH, _of_another


def _by_halves(voice: Voice, rng: np.random.Generator, k: int | None) -> Iterator[Trial]:
    """Each half of the clips is tested after k clips of the other half, or after all of it."""
    halves = _halves(len(voice.clips), rng)
    if k is not None and k > min(map(len, halves)):
        return
    for enrolled, tested in (halves, halves[::-1]):
        profile = voice.model.profile(voice.inputs[enrolled[:k]]) if k != 0 else None
        yield Trial(voice.clips.iloc[tested], voice.inputs[tested], profile)


def _halves(n_clips: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(n_clips)
    return order[::2], order[1::2]


def _of_moods(voice: Voice, rng: np.random.Generator, k: int, moods: list[str] | None = None) -> Iterator[Trial]:
    """All other clips are tested after k clips, as many of each of the moods; None: of two that are drawn."""
    emotions = voice.clips["emotion"].to_numpy()
    each = k // (2 if moods is None else len(moods))
    enough = [mood for mood in in_order(set(emotions)) if (emotions == mood).sum() >= each]
    if moods is None and len(enough) >= 2:
        moods = rng.choice(enough, 2, replace=False).tolist()
    if moods is None or not set(moods) <= set(enough):
        return
    enrolled = np.concatenate([rng.choice(np.flatnonzero(emotions == mood), each, replace=False) for mood in moods])
    tested = np.setdiff1d(np.arange(len(emotions)), enrolled)
    yield Trial(voice.clips.iloc[tested], voice.inputs[tested], voice.model.profile(voice.inputs[enrolled]))


def _of_another(voice: Voice, rng: np.random.Generator) -> Iterator[Trial]:
    """All clips are tested after clips of another speaker of the corpus."""
    others = [inputs for inputs in voice.others if len(inputs) >= ENOUGH]
    if others:
        inputs = others[rng.integers(len(others))]
        profile = voice.model.profile(inputs[rng.choice(len(inputs), ENOUGH, replace=False)])
        yield Trial(voice.clips, voice.inputs, profile)


def degraded_inputs(recipe: Recipe, voices: list[Voice], condition: Condition) -> dict[str, np.ndarray]:
    """What the model reads of up to `DEGRADED_CLIPS` drawn clips of each voice under a condition, by clip."""
    drawn = pd.concat([voice.clips[voice.clips["clip_id"].isin(_drawn(voice.clips))] for voice in voices])
    audio = recipe.input.audio.model_dump(include={"sampling_rate", "trim_below_db"})

    def change(clip_id: str, waveform: np.ndarray) -> np.ndarray:
        return degrade(waveform, audio["sampling_rate"], condition, np.random.default_rng(hash_of(condition, clip_id)))

    inputs = features_of_altered(drawn.reset_index(drop=True), recipe.create_model().inputs, change, audio)
    return dict(zip(drawn["clip_id"], inputs, strict=True))


def _drawn(clips: pd.DataFrame) -> list[str]:
    return shuffled(clips["clip_id"], "degraded")[:DEGRADED_CLIPS]


def microphone_conditions(degraded: dict[str, dict[str, np.ndarray]]) -> Iterator[tuple[str, str, int, Trials]]:
    """Enrolment and answers that are recorded in the same way or not: as `conditions`, on the clips that were drawn."""
    for name, inputs in degraded.items():
        trials = partial(_by_microphone, degraded=inputs)
        for is_degraded, how in ((False, "as recorded"), (True, name)):
            condition = f"answers {how}, no clips ({name})"
            yield "microphone", condition, 0, partial(trials, tested=is_degraded, enrolled=None)
            for other, how_enrolled in ((False, "as recorded"), (True, name)):
                condition = f"answers {how}, {ENOUGH} clips {how_enrolled}"
                if is_degraded or other:
                    yield "microphone", condition, ENOUGH, partial(trials, tested=is_degraded, enrolled=other)


def _by_microphone(voice: Voice, rng, degraded: dict[str, np.ndarray], tested: bool, enrolled: bool | None):
    ids = voice.clips["clip_id"]
    rows = np.flatnonzero(ids.isin(list(degraded)))
    if len(rows) < 2 * ENOUGH:
        return
    halves = [rows[half] for half in _halves(len(rows), rng)]

    def read(half: np.ndarray, is_degraded: bool) -> np.ndarray:
        return np.stack([degraded[name] for name in ids.iloc[half]]) if is_degraded else voice.inputs[half]

    for first, second in (halves, halves[::-1]):
        profile = None if enrolled is None else voice.model.profile(read(first[:ENOUGH], enrolled))
        yield Trial(voice.clips.iloc[second], read(second, tested), profile)


def _row(voices: list[Voice], condition: str, trials_of: Trials) -> dict | None:
    """Scores of `DRAWS` draws of a condition together, or None where a voice has too few clips for it."""
    known, unknown = [], []
    for voice in voices:
        for draw in range(DRAWS):
            rng = np.random.default_rng(hash_of(condition, voice.clips["speaker"].iloc[0], draw))
            trials = list(trials_of(voice, rng))
            if not trials:
                return None
            for trial in trials:
                known.append(_answered(voice, trial))
                unknown.append(_answered(voice, trial._replace(profile=None)))
    return _scores(voices, pd.concat(known), pd.concat(unknown))


def _listening(voices: list[Voice]) -> Iterator[dict]:
    """Scores by how many clips were heard before, where a voice's clips in random order are heard as one recording."""
    longest = min(HEARD[-1], *(len(voice.clips) for voice in voices))
    for with_itself in (False, True):
        known, unknown, heard = [], [], []
        for voice in voices:
            for recording in range(RECORDINGS):
                rng = np.random.default_rng(hash_of("listening", voice.clips["speaker"].iloc[0], recording))
                rows = rng.permutation(len(voice.clips))[:longest]
                trial = Trial(voice.clips.iloc[rows], voice.inputs[rows], None)
                unknown.append(_answered(voice, trial))
                predicted = unknown[-1][voice.model.emotions].to_numpy().argmax(axis=1)
                profile = _so_far(trial.inputs, predicted, with_itself)
                known.append(_answered(voice, trial._replace(profile=profile)))
                heard.append(np.arange(longest))
        all_known, all_unknown, n_heard = pd.concat(known), pd.concat(unknown), np.concatenate(heard)
        for fewest, following in pairwise(number for number in (*HEARD, longest) if number <= longest):
            chosen = (n_heard >= fewest) & (n_heard < following)
            if not chosen.any():
                continue
            number = f"{fewest} or more" if following == longest else f"{fewest} to {following - 1}" if fewest else "0"
            condition = f"{number} earlier clips{' and the clip itself' if with_itself else ''}"
            yield {"condition": condition, "k": fewest} | _scores(voices, all_known[chosen], all_unknown[chosen])


def _so_far(inputs: np.ndarray, predicted: np.ndarray, with_itself: bool) -> Profile:
    """For each clip the profile of those before it, and of the clip itself where a stream learns from it first."""
    ends = np.arange(len(inputs)) + with_itself
    profiles = [profile_of(inputs[:end], predicted[:end]) if end else Profile(0 * inputs[0], 0.0) for end in ends]
    counts = np.array([profile.count for profile in profiles], np.float32)[:, None]
    return Profile(np.stack([profile.mean for profile in profiles]), counts)


def _answered(voice: Voice, trial: Trial) -> pd.DataFrame:
    """The predictions table of a trial."""
    model = voice.model
    return metrics.predictions_table(trial.clips, model.probabilities(trial.inputs, trial.profile), model.emotions)


def _scores(voices: list[Voice], known: pd.DataFrame, unknown: pd.DataFrame) -> dict:
    """UAR of answers after enrolment, and the difference to the answers without, of the same trials."""
    clips = pd.concat([voice.clips for voice in voices]).drop_duplicates("clip_id").set_index("clip_id")
    speaker_of = clips["speaker"]
    score = metrics.score(known, speaker_of[known["clip_id"]].to_numpy())
    paired = comparison.compare(known, unknown, speaker_of)
    row = {"uar": score["uar"], "low": score["uar_low"], "high": score["uar_high"]}
    row |= {f"difference{end}": paired[f"uar_difference{end}"] for end in ("", "_low", "_high")}
    return row | {"clips": score["n_test"], "speakers": score["test_speakers"]}


def write_table(table: pd.DataFrame, reports_dir: str | Path | None = None) -> Path:
    """Write the table as CSV, whole or not at all."""
    return results.write_table(table[COLUMNS], files.reports_path("voice.csv", reports_dir))


def read_table(reports_dir: str | Path | None = None) -> pd.DataFrame:
    """Read the table; SerError where there is none, or a column is missing."""
    return files.read_table(files.reports_path("voice.csv", reports_dir), "`ser voice` measures it.", COLUMNS)
