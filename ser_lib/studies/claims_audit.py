"""All measurements of the claims audit, as tables in `reports/claims_audit/`.

    measure(encoder="openai/whisper-base")      # hours on a CPU: trains missing runs, measures, and writes the tables
    tables = read_tables()                       # what the notebook Claims_Audit shows beside results.csv

Tables:
    splits          of each claim and column, what training and test share: as of `claims.shared_by_splits`
    leaks           each leak on its own: as of `ser_lib.studies.leaks`, one table under the other
    cross_corpus    as of `robustness.cross_corpus_matrix`
    conditions      as of `robustness.under_conditions`
    run_...         one run on new speakers in detail: reliability, calibration, coverage, groups, confusions, seeds
    comparisons     of the recipes that were tested on the same clips, in pairs: as of `comparison.compare_all`
    notes           what a reader of the tables must know, such as a recipe that was left out: section, note
"""

import logging
import os
import re
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from ser_lib.common import files
from ser_lib.common.devices import pick_device
from ser_lib.common.errors import SerError
from ser_lib.evaluation import calibration, comparison, results, run_analysis
from ser_lib.inference.run import Run, git_commit
from ser_lib.models import encoder_weights
from ser_lib.protocols.splits import make_split
from ser_lib.studies import claims, leaks, probe, robustness

FOLDER = "claims_audit"
CORPORA = ("ravdess", "tess", "savee", "crema_d")
# The seeds of `run_seeds`, which determine folds and initial weights.
SEEDS = (0, 1, 2)
OF_RUN = ("run_reliability", "run_calibration", "run_coverage", "run_groups", "run_confusions", "run_seeds")
NAMES = ("splits", "leaks", "cross_corpus", "conditions", *OF_RUN, "comparisons", "notes")
# Of these columns, an empty cell is a text.
TEXTS = {"against", "part_of", "stand_in_for"}

# Of an absolute path, all but its last part.
FOLDERS = re.compile(r"(?<![\w.~…])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:;,]+[/\\])+")

Say = Callable[[str], None]


class Notes(logging.Handler):
    """The notes of one section, each once; as a handler of a logger, also what it warns of.

    Notes are published: of paths on this computer, only the last part stays, or the part below the home folder.

    Args:
        say: called with each note as it is.
    """

    def __init__(self, say: Say):
        super().__init__(logging.WARNING)
        self.say = say
        self.texts: list[str] = []

    def __call__(self, text: str) -> None:
        self.say(text)
        self._add(text)

    def emit(self, record: logging.LogRecord) -> None:
        self._add(record.getMessage())

    def _add(self, text: str) -> None:
        # What to do about it is for the reader of the console.
        text = text.partition("\n")[0].replace(f"{Path.home()}{os.sep}", f"~{os.sep}")
        text = FOLDERS.sub("…/", text)
        self.texts += [] if text in self.texts else [text]

    @contextmanager
    def with_warnings(self):
        """The context in which warnings of this package are notes too."""
        logger = logging.getLogger("ser_lib")
        logger.addHandler(self)
        try:
            yield self
        finally:
            logger.removeHandler(self)


def bundled_folders(runs_dir: str | Path | None, reports_dir: str | Path | None) -> tuple[Path, Path]:
    """The folders of runs and reports of an audit of the bundled voices, which must not replace the real one."""
    project = files.project_dir()
    return Path(runs_dir or project / "runs" / "bundled"), Path(reports_dir or project / "reports" / "bundled")


def measure(
    encoder: str | None = None,
    bundled: bool = False,
    train: bool = True,
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    reports_dir: str | Path | None = None,
    say: Say = print,
) -> Path:
    """Measure all claims (`claims.measure_claims`), all leaks, other corpora and noise, and write the tables.

    What cannot be measured is left out, and named in the notes.

    Args:
        encoder: replaces the recipes' pretrained encoders, and is the one whose embeddings the probes read; None: each
            recipe reads its own, and the probes read MFCC.
        bundled: only the bundled synthetic corpus, with few epochs: a test that everything runs. Its folders are those
            of `bundled_folders` where none are given.
        train: train missing runs of the claims; else take their committed predictions, and train only the run of the
            tables `run_...`, with three seeds.
        data_dir: as of `load_clips`.
        runs_dir, reports_dir: the folders of all runs and of results.csv; None: those of the checkout.
        say: called with a line for each training and each note.

    Returns:
        the folder of the tables.

    Raises:
        SerError: no claim on a single corpus could be measured on new speakers, no corpus is found, or the run of the
            tables `run_...` has no validation clips.
    """
    if bundled:
        runs_dir, reports_dir = bundled_folders(runs_dir, reports_dir)
    notes = {section: Notes(say) for section in ("audit", "claims", "leaks", "run")}
    runs = claims.measure_claims(
        encoder=encoder,
        overrides=claims.BUNDLED if bundled else (),
        draws=2 if bundled else claims.DRAWS,
        train=train,
        data_dir=data_dir,
        runs_dir=runs_dir,
        reports_dir=reports_dir,
        say=say,
        note=notes["claims"],
    )
    honest = {name: of_seeds[0] for (name, key), of_seeds in runs.items() if key == "new-speakers"}
    run = _most_speakers(honest)
    tables = {"splits": claims.shared_by_splits(runs, data_dir), "comparisons": _comparisons(honest)}
    with notes["leaks"].with_warnings() as note:
        tables |= _of_probes(["sample"] if bundled else CORPORA, encoder, bundled, data_dir, note)
    with notes["run"].with_warnings() as note:
        tables |= _of_run(run, data_dir, runs_dir, note, say)
    notes["audit"](f"Measured on {pick_device().type} at commit {git_commit() or 'unknown'}.")
    rows = [(section, text) for section, of_section in notes.items() for text in of_section.texts]
    tables["notes"] = pd.DataFrame(rows, columns=["section", "note"])
    folder = files.reports_path(FOLDER, reports_dir)
    for name in NAMES:
        # The scores of each speaker are not shown.
        results.write_table(tables[name].drop(columns="speaker_scores", errors="ignore"), folder / f"{name}.csv")
    return folder


def read_tables(reports_dir: str | Path | None = None) -> dict[str, pd.DataFrame]:
    """The tables by the names in `NAMES`; SerError where there are none, or one is damaged."""
    folder = files.reports_path(FOLDER, reports_dir)
    tables = {name: files.read_table(folder / f"{name}.csv", "`ser claims` measures it.") for name in NAMES}
    for table in tables.values():
        for name in TEXTS & set(table):
            table[name] = table[name].astype(object).fillna("")
    return tables


def _comparisons(honest: dict[str, Run]) -> pd.DataFrame:
    """Comparisons in pairs within each group of runs with the same test clips; the column `group` numbers the groups."""
    groups = [run_analysis.compare_runs(group) for group in claims.comparable_groups(honest)]
    tables = [table.assign(group=number) for number, table in enumerate(groups)]
    return pd.concat(tables) if tables else pd.DataFrame(columns=["group", "first", "second"])


def _of_probes(
    corpora: Sequence[str], encoder: str | None, quick: bool, data_dir: str | Path | None, note: Say
) -> dict[str, pd.DataFrame]:
    """The tables `leaks`, `cross_corpus` and `conditions`, measured on the first corpus that is found, or on all.

    Args:
        quick: with few candidates, epochs and conditions.
    """
    archive = probe.load_available(corpora, data_dir, note)
    clips = archive.drop_duplicates("audio_hash").reset_index(drop=True)
    first = clips["corpus"].iloc[0]
    main = clips[clips["corpus"] == first].reset_index(drop=True)
    read = probe.feature_reader(encoder)
    features = read(main).reshape(len(main), -1)
    everything = read(clips).reshape(len(clips), -1)
    source = f"{encoder_weights.label(encoder)}, its middle layer" if encoder else "MFCC"
    note(
        f"The model reads {source}: {features.shape[1]} features a clip. What concerns one corpus is measured on {first} "
        f"({len(main)} clips of {main['speaker'].nunique()} speakers), what concerns several on "
        f"{', '.join(dict.fromkeys(clips['corpus']))} ({len(clips)} clips)."
    )

    def duplicates() -> pd.DataFrame:
        of_corpus = archive[archive["corpus"] == first].reset_index(drop=True)
        if of_corpus["audio_hash"].duplicated().any():
            return leaks.duplicate_files(of_corpus, read(of_corpus).reshape(len(of_corpus), -1))
        note(f"{first} holds no duplicates: every clip is duplicated for this measurement, to show their effect.")
        return leaks.duplicate_files(*leaks.with_duplicates(main, features))

    def layers() -> pd.DataFrame:
        if encoder is None:
            raise SerError("MFCC have no layers to choose from")
        return leaks.layer_chosen_on_test(main, probe.feature_reader(encoder, "all")(main))

    def copies() -> pd.DataFrame:
        return leaks.copies_before_split(main, features, leaks.features_of_copies(main, read, probe.AUDIO))

    def speakers() -> pd.DataFrame:
        few = clips["corpus"] == ("savee" if "savee" in set(clips["corpus"]) else first)
        few &= clips["speaker"].isin(sorted(clips.loc[few, "speaker"].unique())[:8])
        return leaks.speaker_as_label(clips[few].reset_index(drop=True), everything[few])

    studies: dict[str, Callable[[], pd.DataFrame]] = {
        "duplicate files": duplicates,
        "same speaker": partial(leaks.same_speaker, main, features),
        "epoch chosen on test": partial(leaks.epoch_chosen_on_test, main, features, epochs=4 if quick else 30),
        "layer chosen on test": layers,
        "best of many on test": partial(leaks.best_of_many, main, features, (2, 4) if quick else (2, 8, 32)),
        "copies before the split": copies,
        "normalised with test clips": partial(leaks.normalised_with_test, main, features),
        "label decided by corpus": partial(leaks.label_decided_by_corpus, clips, everything),
        "speaker as label": speakers,
    }
    measured = []
    for name, study in tqdm(studies.items(), desc="leaks", unit="leak", leave=False):
        try:
            measured.append(study())
        except SerError as error:
            note(f"{name} is not measured: {error}")
    has_several = clips["corpus"].nunique() > 1
    matrix = (
        robustness.cross_corpus_matrix(clips, everything) if has_several else pd.DataFrame(columns=["train", "test"])
    )
    split, conditions = make_split(main, "speaker", 0), robustness.CONDITIONS[10:13] if quick else robustness.CONDITIONS
    return {
        "leaks": pd.concat(measured),
        "cross_corpus": matrix,
        "conditions": robustness.under_conditions(main, split, read, conditions, audio=probe.AUDIO),
    }


def _most_speakers(honest: dict[str, Run]) -> Run:
    """Of the runs on new speakers, that of a single corpus with the most test speakers."""
    single = [run for run in honest.values() if len(run.corpora) == 1]
    if not single:
        raise SerError("no claim on a single corpus could be measured on new speakers: the lines above say why.")
    return max(single, key=lambda run: run.metrics["overall"]["test_speakers"])


def _of_run(
    run: Run, data_dir: str | Path | None, runs_dir: str | Path | None, note: Say, say: Say
) -> dict[str, pd.DataFrame]:
    """The tables `run_…`: the calibration, groups and confusions of one run, and the spread over `SEEDS`."""
    seeds = [claims.run_with_seed(run, seed, data_dir, runs_dir, say) for seed in SEEDS]
    run = seeds[0]
    tested = run.test_clips()
    about = tested["speaker"], tested["corpus"]
    note(f"{run.recipe.name}: {len(tested)} test clips of {tested['speaker'].nunique()} speakers.")
    for text in run.recipe.notices:
        note(text)
    validation = run_analysis.validation_predictions(run, data_dir=data_dir)
    after = calibration.calibrated(run_analysis.test_predictions(run), validation)
    stages = {"before": run.predictions, "after": after}
    reliability = [calibration.reliability_table(table, *about).assign(stage=name) for name, table in stages.items()]
    return {
        "run_reliability": pd.concat(reliability),
        "run_calibration": calibration.calibration_change(run.predictions, after, *about).reset_index(),
        "run_coverage": calibration.coverage_curve(run.predictions, *about),
        "run_groups": comparison.by_attributes(run.predictions, tested).reset_index(),
        "run_confusions": comparison.confused_pairs(run.predictions, *about),
        "run_seeds": run_analysis.seed_spread(seeds).reset_index(),
    }
