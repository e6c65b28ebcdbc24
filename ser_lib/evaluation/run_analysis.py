"""Analyse finished runs: validation predictions, paired comparisons, and the spread over seeds.

validation = validation_predictions(run)                     # by the saved model of each fold
after = calibrated(test_predictions(run), validation)        # of ser_lib.evaluation.calibration
compare_runs({"a": run, "b": other})
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase

import pandas as pd

from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError
from ser_lib.evaluation import comparison
from ser_lib.evaluation.metrics import predictions_table
from ser_lib.evaluation.stored_predictions import check_same_experiment
from ser_lib.inference.model_card import describe_score
from ser_lib.inference.run import Run
from ser_lib.models.base import take
from ser_lib.protocols.leak_audit import red_leaks
from ser_lib.protocols.splits import ENROLMENT, get_protocol
from ser_lib.recipes.inputs import clips_of, inputs_of

N_CHECKED = 16  # test clips a fold
TOLERANCE = 0.02  # of a probability: processors differ in precision


def test_predictions(run: Run) -> pd.DataFrame:
    """The run's predictions with a column `fold`, as `calibration.calibrated` reads them."""
    return run.predictions.assign(fold=run.test_clips()["fold"].to_numpy())


def validation_predictions(
    run: Run, clips: pd.DataFrame | None = None, data_dir: str | Path | None = None, progress: bool = True
) -> pd.DataFrame:
    """Predict the validation clips of each fold with its saved model, as a run stores predictions of test clips only.

    Some test clips are predicted too and compared with the stored predictions, to check that corpora and encoder are
    those of the run (not where the test speakers gave clips for enrolment). Scores of validation clips are too high, as
    the model was chosen on them; they suffice to fit a temperature, which is one number.

    Args:
        clips: the run's clips, as of `clips_of`; None: load them.
        data_dir: see `load_clips`.

    Returns:
        predictions table with a column `fold`, in the order of the split.

    Raises:
        SerError: the run has no validation clips, a clip is missing, or the predictions of test clips differ.
    """
    split = run.split
    validated, tested = (split[split["subset"] == subset] for subset in ("validation", "test"))
    if validated.empty:
        raise SerError(f"{run.folder} was trained without validation clips: set split.validation_fraction above 0.")
    if ENROLMENT in set(split["subset"]):
        # Their answers depend on the speaker's clips for enrolment too, which are not read here.
        tested = tested[:0]
    checked = tested.sample(frac=1, random_state=0).groupby("fold").head(N_CHECKED)
    predicted = pd.concat([validated, checked[checked["fold"].isin(validated["fold"])]])
    clips = clips_of(run.recipe, run.protocol, data_dir, progress) if clips is None else clips
    used = split if get_protocol(run.protocol).is_transductive else predicted
    missing = set(used["clip_id"]) - set(clips["clip_id"])
    if missing:
        text = f"{len(missing)} clips of {run.folder} are missing, such as {min(missing)}"
        raise SerError(f"{text}: load the corpora as they were when it was trained.")
    # In the order of the clip table, as in training: features standardised by speaker depend on the clips present.
    clips = clips[clips["clip_id"].isin(used["clip_id"])].reset_index(drop=True)
    inputs = inputs_of(run.recipe, clips, run.protocol, progress)
    number_of = pd.Series(clips.index, index=clips["clip_id"])
    stored = run.predictions.set_index("clip_id")[run.emotions]
    tables = []
    for fold, rows in predicted.groupby("fold"):
        model = run.model(int(fold)).to(pick_device(run.recipe.training.device))
        probabilities = model.probabilities(take(inputs, number_of[rows["clip_id"]].to_numpy()))
        table = predictions_table(rows, probabilities, run.emotions).assign(fold=int(fold))
        is_checked = rows["subset"] == "test"
        before = stored.loc[rows.loc[is_checked, "clip_id"]].to_numpy()
        difference = (table.loc[is_checked, run.emotions] - before).abs().max(axis=None)
        if difference > TOLERANCE:
            raise SerError(
                f"the model of fold {fold} in {run.folder} does not reproduce the stored predictions of test clips: a "
                f"probability differs by {difference:.2g}. Are the corpora and the encoder {run.recipe.input.encoder} "
                "still the same?"
            )
        tables.append(table[~is_checked])
    return pd.concat(tables, ignore_index=True)


def compare_runs(runs: Mapping[str, Run], shared: bool = False) -> pd.DataFrame:
    """`comparison.compare_all` of the runs' test predictions, with the speakers of their splits."""
    about = pd.concat([run.test_clips()[["clip_id", "speaker", "corpus"]] for run in runs.values()])
    about = about.drop_duplicates("clip_id").set_index("clip_id")
    tables = {name: run.predictions for name, run in runs.items()}
    return comparison.compare_all(tables, about["speaker"], about["corpus"], shared)


def describe_comparison(runs: Sequence[Run], shared: bool = False) -> str:
    """The text that `ser compare` prints: the runs as A, B, …, the differences of all pairs, and a sentence on each."""
    if not 2 <= len(runs) <= len(ascii_uppercase):
        raise SerError(f"a comparison is of 2 to {len(ascii_uppercase)} runs, got {len(runs)}.")
    run_of = dict(zip(ascii_uppercase, runs, strict=False))
    leaks_of = {name: ", ".join(red_leaks(run.audit)["leak"]) for name, run in run_of.items()}
    about: list[list] = []
    for name, run in run_of.items():
        overall = run.metrics["overall"]
        about.append([name, run.recipe.name, run.recipe.features_label, run.protocol, run.seed])
        about[-1] += [describe_score(overall, "uar"), overall["n_test"], leaks_of[name] or "none"]
    heads = ["run", "recipe", "reads", "protocol", "seed", "UAR", "clips", "leaks"]
    lines = [pd.DataFrame(about, columns=heads).to_string(index=False)]
    # Too long for a column.
    variants = {name: run.recipe.variant_label for name, run in run_of.items()}
    lines += [f"{name}: {variant}" for name, variant in variants.items() if variant != "stated"]
    pairs = compare_runs(run_of, shared)
    several = len(pairs) > 1
    p_titles = {"uar_p": "p", "mcnemar_p": "McNemar p"}
    if several:
        p_titles |= {"uar_p_holm": "p (Holm)", "mcnemar_p_holm": "McNemar p (Holm)"}
    rows, sentences = [], []
    for pair in pairs.to_dict("records"):
        first, second, mark = pair["first"], pair["second"], "†" * (pair["interval_over"] == "clips")
        difference, low, high = (f"{pair[f'uar_difference{end}']:+.3f}" for end in ("", "_low", "_high"))
        row = {"pair": f"{first} - {second}", "UAR": f"{pair['uar_first']:.3f} - {pair['uar_second']:.3f}"}
        interval = "no interval" if pd.isna(pair["uar_difference_low"]) else f"95 % CI {low} to {high}"
        row["difference"] = f"{difference} ({interval}){mark}"
        rows.append(row | {title: _p_value(pair[name]) for name, title in p_titles.items()})
        sentence = comparison.in_words(pair, first, second, corrected=several)
        sentences.append(f"{sentence[0].upper()}{sentence[1:]}.")
    lines += ["", pd.DataFrame(rows).to_string(index=False), *sentences]
    if len({run.protocol for run in runs}) > 1:
        protocols = ", ".join(f"{name} {run.protocol}" for name, run in run_of.items())
        lines.append(f"The protocols differ ({protocols}): they may be the reason for a difference, not the models.")
    lines += [f"{name} leaks ({leaks}): its score is too high." for name, leaks in leaks_of.items() if leaks]
    if (pairs["interval_over"] == "clips").any():
        lines.append("† over the clips of one speaker: the interval says nothing about other speakers.")
    return "\n".join(lines)


def seed_spread(runs: Sequence[Run]) -> pd.DataFrame:
    """How UAR and accuracy vary over runs that differ in their seed: no interval for new speakers.

    Returns:
        rows uar, accuracy; columns seeds (their number), mean, deviation (of a sample: n - 1), lowest, highest.
    """
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < 2 or len(set(seeds)) < len(seeds):
        raise SerError(f"a spread over seeds needs runs of two seeds or more, each once; got {seeds or 'none'}.")
    check_same_experiment(runs)
    scores = pd.DataFrame([run.metrics["overall"] for run in runs])[["uar", "accuracy"]]
    table = scores.agg(["mean", "std", "min", "max"]).T.set_axis(["mean", "deviation", "lowest", "highest"], axis=1)
    table.insert(0, "seeds", len(runs))
    return table.rename_axis("score")


def _p_value(p_value: float) -> str:
    if pd.isna(p_value):
        return "—"
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"
