"""Score a finished run on clips that it was not trained on: another corpus, or recordings of the user.

predictions = collect_on(load_run("runs/ravdess-whisper-logistic/speaker/0"), load_clips(["savee", "tess"]))
table = scores_of(predictions)                               # recall of each emotion, and UAR
"""

import logging
from pathlib import Path

import pandas as pd

from ser_lib.common.errors import SerError
from ser_lib.common.files import read_table
from ser_lib.corpora.labels import in_order
from ser_lib.evaluation import metrics, stored_predictions
from ser_lib.evaluation.results import by_speaker, markdown_table, results_path, score_cell, write_table
from ser_lib.evaluation.stored_predictions import StoredPredictions
from ser_lib.inference.run import Run

logger = logging.getLogger(__name__)

ALL = "all"
OWN_TEST_CLIPS = "own test clips: "
FOLDER = "unseen"  # of the stored predictions
COLUMNS = [
    *("recipe", "variant", "encoder", "protocol", "caveat", "corpus", "emotion", "n_test", "test_speakers"),
    *("recall", "recall_low", "recall_high", "interval_over", "no_interval", "recall_by_speaker"),
    *("taken_for", "taken_for_share", "commit"),
]
TEXTS = ["caveat", "interval_over", "no_interval", "recall_by_speaker"]


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
        raise SerError(f"no clip is left to test {run.folder} on: give a corpus of speakers whom it has not heard.")
    # As the run's own test clips were read, with whose scores these are compared.
    answers = run.predict(clips["path"].tolist(), fold=fold, progress=progress, as_clips=True)
    predictions = metrics.predictions_table(clips, answers[run.emotions].to_numpy(), run.emotions)
    return predictions[(answers["error"] == "").to_numpy()].reset_index(drop=True)


def collect_on(run: Run, clips: pd.DataFrame, fold: int | str | None = None) -> StoredPredictions:
    """The run's predictions of its own test clips and of other corpora, as a file of `reports/predictions/unseen/`."""
    of_test_clips = stored_predictions.collect([run])
    predictions = predictions_on(run, clips, fold)
    about = clips.set_index("clip_id").loc[predictions["clip_id"]].reset_index().assign(seed=run.seed, fold=-1)
    unseen = tuple(dict.fromkeys(about["corpus"]))
    shortfall = clips.attrs.get("shortfall", {})
    counts = {name: shortfall.get(name, ((about["corpus"] == name).sum(),) * 2) for name in unseen}
    facts = of_test_clips.facts.model_copy(
        update={
            "corpora": of_test_clips.facts.corpora | {name: tuple(map(int, count)) for name, count in counts.items()},
            "unseen": unseen,
            "answers": "the run's model" if fold is None else f"the model of fold {fold}",
        }
    )
    rows = stored_predictions.rows_of(about, about, predictions, run.emotions)
    return StoredPredictions(facts, pd.concat([of_test_clips.table, rows], ignore_index=True))


def scores_of(stored: StoredPredictions) -> pd.DataFrame:
    """UAR and recall of each emotion with intervals: first of the run's own test clips, then of each unseen corpus.

    Returns:
        `COLUMNS`, one row a corpus and emotion, and one "all" whose recall is the UAR. Intervals are 95 %, as of
        `metrics.score`; taken_for is the most frequent wrong prediction, taken_for_share its share of the clips. The
        run's own corpora, with the predictions of all folds, are named `OWN_TEST_CLIPS` and their names.
    """
    facts, labels = stored.facts, stored.facts.corpus_labels
    trained_on = [name for name in labels if name not in facts.unseen]
    groups = {OWN_TEST_CLIPS + "+".join(labels[name] for name in trained_on): trained_on}
    groups |= {labels[name]: [name] for name in facts.unseen}
    tables = [_scores(name, stored.part(stored.table["corpus"].isin(corpora))) for name, corpora in groups.items()]
    about = {name: getattr(facts, name) for name in ("recipe", "variant", "encoder", "protocol", "caveat")}
    table = pd.concat(tables, ignore_index=True).assign(**about, commit=facts.runs[0].commit)
    return table.reindex(columns=COLUMNS)


def _scores(corpus: str, stored: StoredPredictions) -> pd.DataFrame:
    """The rows of one corpus: UAR, and the recall of each emotion."""
    confusion, truth = metrics.confusion(stored.predictions), stored.table["truth"]
    rows = []
    for emotion in [ALL, *in_order(truth)]:
        part = stored.part((truth == emotion) | (emotion == ALL))
        score = metrics.score(part.predictions, part.table["speaker"], part.table["corpus"], part.copies)
        name = "uar" if emotion == ALL else "accuracy"
        row = {"emotion": emotion, "recall_by_speaker": by_speaker(score, name)}
        row |= {name: score[name] for name in ("n_test", "test_speakers", "interval_over", "no_interval")}
        row |= {f"recall{end}": score[f"{name}{end}"] for end in ("", "_low", "_high")}
        if emotion != ALL and (mistakes := confusion.loc[emotion].drop(emotion)).max() > 0:
            row |= {"taken_for": mistakes.idxmax(), "taken_for_share": mistakes.max() / confusion.loc[emotion].sum()}
        rows.append(row)
    return pd.DataFrame(rows).assign(corpus=corpus)


def unheard_path(reports_dir: str | Path | None = None) -> Path:
    return results_path(reports_dir).with_name("unheard.csv")


def store(stored: StoredPredictions, reports_dir: str | Path | None = None) -> Path:
    """Write what `collect_on` returns into its file."""
    path = stored_predictions.predictions_dir(reports_dir) / FOLDER / stored.facts.file_name
    stored_predictions.write(stored, path)
    return path


def make_unheard(reports_dir: str | Path | None = None) -> Path | None:
    """Write `unheard.csv` anew, from all stored predictions of unseen corpora; None where there are none."""
    folder = stored_predictions.predictions_dir(reports_dir) / FOLDER
    tables = [scores_of(stored) for stored in stored_predictions.read_all(folder)]
    if not tables:
        return None
    write_table(pd.concat(tables, ignore_index=True), unheard_path(reports_dir))
    return unheard_path(reports_dir)


def read_scores(path: Path) -> pd.DataFrame:
    """Read a table of scores, such as that of `unheard_path`."""
    table = read_table(path)
    return table.assign(**table[TEXTS].astype(object).fillna(""))


def markdown(table: pd.DataFrame) -> str:
    """The table of `scores_of` as Markdown, one table a run: emotions in rows, corpora in columns."""
    runs = [rows for _, rows in table.groupby(["recipe", "variant", "encoder"], sort=False)]
    if len(runs) > 1:
        return "\n\n".join(map(markdown, runs))
    corpora = list(dict.fromkeys(table["corpus"]))
    caveat = f" ({table['caveat'].iloc[0]})" if table["caveat"].iloc[0] else ""
    titles = [corpus + caveat if corpus.startswith(OWN_TEST_CLIPS) else corpus for corpus in corpora]
    heads = ["emotion", *(head for title in titles for head in (title, "mostly taken for"))]
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
