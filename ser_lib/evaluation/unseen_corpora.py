"""Score a finished run on clips that it was not trained on: another corpus, or recordings of the user.

table = score_on(load_run("runs/ravdess-whisper-logistic/speaker/0"), load_clips(["savee", "tess"]))
"""

import logging

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation import metrics
from ser_lib.evaluation.results import markdown_table, score_cell
from ser_lib.inference.run import Run, git_commit

logger = logging.getLogger(__name__)

ALL = "all"
OWN_TEST_CLIPS = "own test clips: "
COLUMNS = [
    *("recipe", "variant", "encoder", "protocol", "corpus", "emotion", "n_test", "test_speakers"),
    *("recall", "recall_low", "recall_high", "taken_for", "taken_for_share", "commit"),
]


def predictions_on(run: Run, clips: pd.DataFrame, fold: int | str | None = None, progress: bool = True) -> pd.DataFrame:
    """The run's predictions of clips: a table of clip_id, truth and one probability an emotion.

    Left out, with a warning: clips with the audio or the speaker of a training or validation clip, clips of emotions
    that the model does not have, and files that cannot be read.

    Raises:
        SerError: no clip is left.
    """
    learned = run.learned_from(fold)
    if "audio_hash" not in learned:
        text = "%s has no audio hashes: whether it learned from these clips under other names cannot be checked"
        logger.warning(text, run.folder)
    reasons = {
        "of speakers whom this model learned from": clips["speaker"].isin(learned["speaker"]),
        "which this model learned from": clips["audio_hash"].isin(learned.get("audio_hash", ())),
        f"of emotions other than {', '.join(run.emotions)}": ~clips["emotion"].isin(run.emotions),
    }
    for reason, is_excluded in reasons.items():
        is_excluded = is_excluded.reindex(clips.index)
        if is_excluded.any():
            logger.warning("%d of %d clips left out, %s", is_excluded.sum(), len(clips), reason)
        clips = clips[~is_excluded]
    if clips.empty:
        raise SerError(
            f"no clip is left to test {run.folder} on: give a corpus of speakers that it did not learn from."
        )
    answers = run.predict(clips["path"].tolist(), fold=fold, progress=progress)
    predictions = metrics.predictions_table(clips, answers[run.emotions].to_numpy(), run.emotions)
    return predictions[(answers["error"] == "").to_numpy()].reset_index(drop=True)


def score_on(run: Run, clips: pd.DataFrame, fold: int | str | None = None, progress: bool = True) -> pd.DataFrame:
    """UAR and recall of each emotion with intervals: first of the run's own test clips, then of each corpus of `clips`.

    Returns:
        `COLUMNS`, one row a corpus and emotion, and one "all" whose recall is the UAR. Intervals are 95 %, as of
        `metrics.score`; taken_for is the most frequent wrong prediction, taken_for_share its share of
        the clips. The run's own corpora, with the predictions of all folds, are named `OWN_TEST_CLIPS` and their names.
    """
    predictions = predictions_on(run, clips, fold, progress)
    about = clips.set_index("clip_id").loc[predictions["clip_id"]].reset_index()
    tables = [_scores(OWN_TEST_CLIPS + "+".join(run.corpora.values()), run.predictions, run.test_clips()["speaker"])]
    for corpus, rows in about.groupby("corpus", sort=False):
        tables.append(_scores(corpus, predictions.loc[rows.index], rows["speaker"]))
    recipe = run.recipe
    table = pd.concat(tables, ignore_index=True).assign(recipe=recipe.name, variant=recipe.variant_label)
    table = table.assign(encoder=recipe.features_label, protocol=run.protocol, commit=git_commit())
    return table.reindex(columns=COLUMNS)


def _scores(corpus: str, predictions: pd.DataFrame, speakers: pd.Series) -> pd.DataFrame:
    """The rows of one corpus: UAR, and the recall of each emotion."""
    confusion = metrics.confusion(predictions)
    rows = []
    for emotion in [ALL, *in_order(predictions["truth"])]:
        is_used = (predictions["truth"] == emotion).to_numpy() | (emotion == ALL)
        score = metrics.score(predictions[is_used], speakers[is_used])
        name = "uar" if emotion == ALL else "accuracy"
        row = {"emotion": emotion, "n_test": score["n_test"], "test_speakers": score["test_speakers"]}
        row |= {f"recall{end}": score[f"{name}{end}"] for end in ("", "_low", "_high")}
        if emotion != ALL and (mistakes := confusion.loc[emotion].drop(emotion)).max() > 0:
            row |= {"taken_for": mistakes.idxmax(), "taken_for_share": mistakes.max() / row["n_test"]}
        rows.append(row)
    return pd.DataFrame(rows).assign(corpus=corpus)


def markdown(table: pd.DataFrame) -> str:
    """The table of `score_on` as Markdown: emotions in rows, corpora in columns."""
    corpora = list(dict.fromkeys(table["corpus"]))
    heads = ["emotion", *(head for corpus in corpora for head in (corpus, "mostly taken for"))]
    rows = {(row.corpus, row.emotion): row for row in table.itertuples()}
    lines = []
    for emotion in [ALL, *in_order(set(table["emotion"]) - {ALL})]:
        cells = ["**all** (UAR)" if emotion == ALL else emotion]
        for corpus in corpora:
            row = rows.get((corpus, emotion))
            if row is None:
                cells += ["—", "—"]
                continue
            taken_for = f"{row.taken_for}, {row.taken_for_share:.0%}" if isinstance(row.taken_for, str) else ""
            cells += [f"{score_cell(row, 'recall', digits=2)}, {row.n_test} clips", taken_for]
        lines.append(cells)
    return markdown_table(heads, lines)
