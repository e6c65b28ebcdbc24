"""A finished run on clips that it never heard: another corpus, or one's own.

table = score_on(load_run("runs/ravdess-whisper-logistic/speaker/0"), load_clips(["savee", "tess"]))
"""

import logging

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation import metrics
from ser_lib.inference.run import Run, git_commit

logger = logging.getLogger(__name__)

ALL = "all"
OWN = "own test clips: "
COLUMNS = [
    *("recipe", "variant", "encoder", "protocol", "corpus", "emotion", "n_test", "test_speakers"),
    *("recall", "recall_low", "recall_high", "taken_for", "taken_for_share", "commit"),
]


def answers_on(run: Run, clips: pd.DataFrame, fold: int | str = 0, progress: bool = True) -> pd.DataFrame:
    """The run's answers for clips, a predictions table: clip_id, truth and one probability an emotion.

    Left out, and told of in a logged line: clips that the model learned from, under whatever name, or of whose
    speakers it did, clips of emotions that it cannot name, and files that cannot be read.

    Raises:
        SerError: nothing is left.
    """
    learned = run.split if fold == "all" else run.split[run.split["fold"] == fold]
    learned = learned[learned["subset"] != "test"]
    if "audio_hash" not in learned:
        logger.warning(
            "%s is of an older version, without the hashes of its audio: whether the model learned from these clips "
            "under other names cannot be checked",
            run.folder,
        )
    reasons = {
        "of speakers whom this model learned from": clips["speaker"].isin(learned["speaker"]),
        "which this model learned from": clips["audio_hash"].isin(learned.get("audio_hash", ())),
        f"of emotions other than {', '.join(run.emotions)}": ~clips["emotion"].isin(run.emotions),
    }
    for reason, left_out in reasons.items():
        left_out = left_out.reindex(clips.index)
        if left_out.any():
            logger.warning("%d of %d clips left out, %s", left_out.sum(), len(clips), reason)
        clips = clips[~left_out]
    if clips.empty:
        raise SerError(
            f"no clip is left to test {run.folder} on: give a corpus whose speakers it has not learned from."
        )
    answers = run.predict(clips["path"].tolist(), fold=fold, progress=progress)
    predictions = answers[run.emotions]
    predictions.insert(0, "clip_id", clips["clip_id"].to_numpy())
    predictions.insert(1, "truth", clips["emotion"].to_numpy())
    return predictions[(answers["error"] == "").to_numpy()].reset_index(drop=True)


def score_on(run: Run, clips: pd.DataFrame, fold: int | str = 0, progress: bool = True) -> pd.DataFrame:
    """Recall of every emotion of each corpus, and their mean, with intervals; first of the run's own test clips.

    Returns:
        `COLUMNS`, one row a corpus and emotion, and one "all" whose recall is the UAR: 95 % intervals over speakers, or
        over clips where they are few; taken_for is the wrong answer that was given most often, to what share of the
        clips. The run's own corpora, with the answers of all folds, are told by `OWN` and their names.
    """
    predictions = answers_on(run, clips, fold, progress)
    about = clips.set_index("clip_id").loc[predictions["clip_id"]]
    rows = _rows(OWN + "+".join(run.corpora.values()), run.predictions, run.test_clips()["speaker"])
    for corpus in dict.fromkeys(about["corpus"]):
        own = (about["corpus"] == corpus).to_numpy()
        rows += _rows(corpus, predictions[own].reset_index(drop=True), about["speaker"][own])
    table = pd.DataFrame(rows).assign(
        recipe=run.recipe.name,
        variant=run.recipe.variant_label,
        encoder=run.recipe.features_label,
        protocol=run.protocol,
        commit=git_commit(),
    )
    return table.reindex(columns=COLUMNS)


def _rows(corpus: str, predictions: pd.DataFrame, speakers: pd.Series) -> list[dict]:
    speakers = speakers.reset_index(drop=True)
    rows = [_row(corpus, ALL, metrics.score(predictions, speakers), "uar")]
    by_emotion = metrics.by_group(predictions, predictions["truth"], speakers)
    confused = metrics.confusion(predictions)
    for emotion in in_order(predictions["truth"]):
        row = _row(corpus, emotion, by_emotion.loc[emotion], "accuracy")
        row["test_speakers"] = speakers[predictions["truth"] == emotion].nunique()
        wrong = confused.loc[emotion].drop(emotion)
        if wrong.max() > 0:
            row |= {"taken_for": wrong.idxmax(), "taken_for_share": wrong.max() / row["n_test"]}
        rows.append(row)
    return rows


def _row(corpus: str, emotion: str, score, name: str) -> dict:
    return {
        "corpus": corpus,
        "emotion": emotion,
        "n_test": score["n_test"],
        "test_speakers": score.get("test_speakers"),
        "recall": score[name],
        "recall_low": score[f"{name}_low"],
        "recall_high": score[f"{name}_high"],
    }


def markdown(table: pd.DataFrame) -> str:
    """The table of `score_on` as the README shows it: emotions in rows, corpora in columns."""
    corpora = list(dict.fromkeys(table["corpus"]))
    lines = [
        "| emotion |" + "".join(f" {corpus} | mostly taken for |" for corpus in corpora),
        "|---" * (1 + 2 * len(corpora)) + "|",
    ]
    cells = {(row.corpus, row.emotion): row for row in table.itertuples()}
    for emotion in [ALL, *in_order(set(table["emotion"]) - {ALL})]:
        line = "| **all** (UAR) |" if emotion == ALL else f"| {emotion} |"
        for corpus in corpora:
            row = cells.get((corpus, emotion))
            line += " — | — |" if row is None else f" {_cell(row)} | {_taken_for(row)} |"
        lines.append(line)
    return "\n".join(lines)


def _cell(row) -> str:
    mark = "" if row.test_speakers >= metrics.MIN_SPEAKERS else "†"
    return f"{row.recall:.2f} ({row.recall_low:.2f}–{row.recall_high:.2f}){mark}, {row.n_test} clips"


def _taken_for(row) -> str:
    return f"{row.taken_for}, {row.taken_for_share:.0%}" if isinstance(row.taken_for, str) else ""
