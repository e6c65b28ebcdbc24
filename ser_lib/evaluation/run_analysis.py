"""What is asked of finished runs: their validation probabilities, what they differ in, what seeds make of them.

validation = validation_predictions(run)                     # by each fold's saved model
after = calibrated(test_predictions(run), validation)        # of ser_lib.evaluation.calibration
compare_runs({"a": run, "b": other})
"""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

import numpy as np
import pandas as pd

from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError
from ser_lib.evaluation import comparison
from ser_lib.inference.model_card import describe_score
from ser_lib.inference.run import Run
from ser_lib.models.base import Model, take
from ser_lib.protocols.leak_audit import red_leaks
from ser_lib.protocols.splits import get_protocol
from ser_lib.recipes.inputs import clips_of, inputs_of

CHECKED = 16  # test clips a fold, whose probabilities are compared with the run's
TOLERANCE = 0.02  # of a probability: another processor computes in another precision


def test_predictions(run: Run) -> pd.DataFrame:
    """The run's predictions with a column `fold`, as `calibration.calibrated` reads them."""
    return run.predictions.assign(fold=run.test_clips()["fold"].to_numpy())


def validation_predictions(
    run: Run, clips: pd.DataFrame | None = None, data_dir=None, progress: bool = True
) -> pd.DataFrame:
    """Probabilities of each fold's validation clips by that fold's saved model: a run keeps those of test clips alone.

    Some test clips are answered again as well, and have to come out as the run has them: corpora and encoder are then
    those of the run.

    Args:
        clips: the run's clips, such as `clips_of` gives them; None: load them.
        data_dir: see `load_clips`.

    Returns:
        predictions table with a column `fold`, in the order of the split. The run's model was chosen on the very same
        clips, so that scores of them are too high; a temperature has one number to learn from them.

    Raises:
        SerError: the run has no validation clips, a clip is not there any more, or the test clips come out otherwise.
    """
    split = run.split
    if not (split["subset"] == "validation").any():
        raise SerError(
            f"{run.folder} was trained without validation clips: train it with split.validation_fraction above 0."
        )
    clips = clips_of(run.recipe, run.protocol, data_dir, progress) if clips is None else clips
    recorded = run.predictions.set_index("clip_id")
    folds = {}
    for fold, rows in split.groupby("fold"):
        tested = rows[rows["subset"] == "test"]
        step = max(1, len(tested) // CHECKED)
        folds[fold] = rows[rows["subset"] == "validation"], tested.iloc[::step][:CHECKED]
    used = split
    if not get_protocol(run.protocol).is_transductive:
        used = pd.concat([part for pair in folds.values() for part in pair])
    absent = set(used["clip_id"]) - set(clips["clip_id"])
    if absent:
        raise SerError(
            f"{len(absent)} clips of {run.folder} are not there any more, such as {min(absent)}: load the corpora as "
            "they were when it was trained."
        )
    # In the order of the clip table, as in training: features standardised by speaker depend on who is there.
    clips = clips[clips["clip_id"].isin(used["clip_id"])].reset_index(drop=True)
    inputs = inputs_of(run.recipe, clips, run.protocol, progress)
    row_of = pd.Series(np.arange(len(clips)), index=clips["clip_id"])
    tables = []
    for fold, (validated, checked) in folds.items():
        if validated.empty:
            continue
        model = run.model(int(fold)).to(pick_device(run.recipe.training.device))

        def answer(clip_ids: pd.Series, model: Model = model) -> np.ndarray:
            return model.probabilities(take(inputs, row_of[clip_ids].to_numpy()))

        again = answer(checked["clip_id"])
        gap = np.abs(again - recorded.loc[checked["clip_id"], run.emotions].to_numpy()).max()
        if gap > TOLERANCE:
            raise SerError(
                f"the model of fold {fold} in {run.folder} answers test clips otherwise than it did in training: a "
                f"probability differs by {gap:.2g}. Is the encoder {run.recipe.input.encoder} still the same, and are "
                "the corpora?"
            )
        table = pd.DataFrame(answer(validated["clip_id"]), columns=run.emotions)
        table.insert(0, "clip_id", validated["clip_id"].to_numpy())
        table.insert(1, "truth", validated["emotion"].to_numpy())
        tables.append(table.assign(fold=int(fold)))
    return pd.concat(tables, ignore_index=True)


def compare_runs(runs: Mapping[str, Run], shared: bool = False, bootstrap: int | None = None) -> pd.DataFrame:
    """`comparison.compare_all` of the runs' test predictions, with the speakers that their splits name."""
    about = pd.concat([run.test_clips()[["clip_id", "speaker"]] for run in runs.values()])
    speaker_of = about.drop_duplicates("clip_id").set_index("clip_id")["speaker"]
    tables = {name: run.predictions for name, run in runs.items()}
    return comparison.compare_all(tables, speaker_of, shared, bootstrap)


def describe_comparison(runs: Sequence[Run], shared: bool = False) -> str:
    """What `ser compare` prints: the runs as A, B, …, each pair's difference, and a sentence for each.

    Raises:
        SerError: fewer than 2 runs or more than 26, other emotions, or other test clips and not `shared`.
    """
    if not 2 <= len(runs) <= len(ascii_uppercase):
        raise SerError(f"a comparison is of 2 to {len(ascii_uppercase)} runs, got {len(runs)}.")
    named = dict(zip(ascii_uppercase, runs, strict=False))
    pairs = compare_runs(named, shared)
    several = len(pairs) > 1
    leaks = {name: ", ".join(red_leaks(run.audit)["leak"]) for name, run in named.items()}
    about = [
        {
            "run": name,
            "recipe": run.recipe.name,
            "reads": run.recipe.features_label,
            "protocol": run.protocol,
            "seed": run.seed,
            "UAR": describe_score(run.metrics["overall"], "uar"),
            "clips": run.metrics["overall"]["n_test"],
            "leaks": leaks[name] or "none",
        }
        for name, run in named.items()
    ]
    rows = []
    for pair in pairs.to_dict("records"):
        ends = pair["uar_difference_low"], pair["uar_difference_high"]
        row = {
            "pair": f"{pair['first']} - {pair['second']}",
            "UAR": f"{pair['uar_first']:.3f} - {pair['uar_second']:.3f}",
            "difference": f"{pair['uar_difference']:+.3f} (95 % CI {ends[0]:+.3f} to {ends[1]:+.3f})"
            + ("" if pair["interval_over"] == "speakers" else "†"),
            "p": _p_value(pair["uar_p"]),
            "McNemar p": _p_value(pair["mcnemar_p"]),
        }
        if several:
            row |= {"p (Holm)": _p_value(pair["uar_p_holm"]), "McNemar p (Holm)": _p_value(pair["mcnemar_p_holm"])}
        rows.append(row)
    lines = [pd.DataFrame(table).to_string(index=False) for table in (about, rows)]
    lines[0] += "".join(
        f"\n{name}: {run.recipe.variant_label}"  # too long for a column
        for name, run in named.items()
        if run.recipe.variant_label != "stated"
    )
    lines[1] = f"\n{lines[1]}"
    for pair in pairs.to_dict("records"):
        sentence = comparison.in_words(pair, pair["first"], pair["second"], corrected=several)
        lines.append(f"{sentence[0].upper()}{sentence[1:]}.")
    if len({run.protocol for run in runs}) > 1:
        under = ", ".join(f"{name} {run.protocol}" for name, run in named.items())
        lines.append(f"The protocols differ ({under}): a difference may be theirs, and not the models'.")
    lines += [f"{name} leaks ({found}): its score is not what it seems." for name, found in leaks.items() if found]
    if (pairs["interval_over"] == "clips").any():
        lines.append("† over clips, with too few speakers to draw from: interval and p value are too favourable.")
    return "\n".join(lines)


def seed_spread(runs: Sequence[Run]) -> pd.DataFrame:
    """How UAR and accuracy vary over runs of one experiment that differ in their seed.

    The seed deals the folds (under most protocols) and starts the training; the spread is of both, and it is no interval
    for new speakers, which seeds do not draw.

    Returns:
        rows uar, accuracy; columns seeds (how many), mean, deviation (standard, of a sample: n - 1), lowest, highest.

    Raises:
        SerError: fewer than two runs, the same seed twice, or runs that differ in more than their seed.
    """
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < 2 or len(set(seeds)) < len(seeds):
        raise SerError(f"a spread over seeds needs runs of two seeds or more, each once; got {seeds or 'none'}.")
    for run in runs[1:]:
        if (run.recipe, run.protocol, run.emotions) != (runs[0].recipe, runs[0].protocol, runs[0].emotions):
            raise SerError(f"{run.folder} and {runs[0].folder} are not the same experiment: only the seed may differ.")
    scores = pd.DataFrame([run.metrics["overall"] for run in runs])[["uar", "accuracy"]]
    table = scores.agg(["mean", "std", "min", "max"]).T.set_axis(["mean", "deviation", "lowest", "highest"], axis=1)
    table.insert(0, "seeds", len(runs))
    return table.rename_axis("score")


def _p_value(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"
