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

import time
from collections.abc import Callable, Sequence
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
SECTIONS = ("audit", "claims", "leaks", "run")
# The seeds of `run_seeds`, which determine folds and initial weights.
SEEDS = (0, 1, 2)
OF_RUN = ("run_reliability", "run_calibration", "run_coverage", "run_groups", "run_confusions", "run_seeds")
NAMES = ("splits", "leaks", "cross_corpus", "conditions", *OF_RUN, "comparisons", "notes")
# Of these columns, an empty cell is a text.
TEXTS = {"against", "part_of", "stand_in_for"}

Note = Callable[[str], None]


def measure(
    encoder: str | None = None,
    bundled: bool = False,
    train: bool = True,
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    reports_dir: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Measure all claims (`claims.measure_claims`), all leaks, other corpora and noise, and write the tables.

    Args:
        encoder: replaces the recipes' pretrained encoders, and is the one whose embeddings the probes read; None: MFCC.
        bundled: only the bundled synthetic corpus, with few epochs: a test that everything runs.
        train: train missing runs of the claims; else take their committed predictions.

    Returns:
        the folder of the tables.

    Raises:
        SerError: no claim could be measured on new speakers, or no corpus is found.
    """
    start = time.monotonic()
    notes: dict[str, list[str]] = {section: [] for section in SECTIONS}

    def note(section: str, text: str) -> None:
        say(text)
        notes[section].append(text)

    runs = claims.measure_claims(
        encoder=encoder,
        overrides=claims.BUNDLED if bundled else (),
        draws=2 if bundled else claims.DRAWS,
        train=train,
        data_dir=data_dir,
        runs_dir=runs_dir,
        reports_dir=reports_dir,
        say=say,
        note=partial(note, "claims"),
    )
    honest = {name: of_seeds[0] for (name, key), of_seeds in runs.items() if key == "new-speakers"}
    tables = {"splits": claims.shared_by_splits(runs, data_dir), "comparisons": _comparisons(honest)}
    corpora = ["sample"] if bundled else CORPORA
    tables |= _of_probes(corpora, encoder, bundled, data_dir, partial(note, "leaks"))
    tables |= _of_run(_most_speakers(honest), data_dir, runs_dir, partial(note, "run"))
    minutes, commit = (time.monotonic() - start) / 60, git_commit() or "unknown"
    note(
        "audit",
        f"Measured at commit {commit} in {minutes:.0f} min on {pick_device().type}, without runs that were trained before.",
    )
    measured = [(section, text) for section, texts in notes.items() for text in texts]
    tables["notes"] = pd.DataFrame(measured, columns=["section", "note"])
    folder = files.reports_path(FOLDER, reports_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        results.write_table(tables[name], folder / f"{name}.csv")
    return folder


def read_tables(reports_dir: str | Path | None = None) -> dict[str, pd.DataFrame]:
    """Read the tables; SerError where there are none, or one is damaged."""
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
    corpora: Sequence[str], encoder: str | None, quick: bool, data_dir: str | Path | None, note: Note
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
        f"The probes read {source}: {features.shape[1]} features a clip. One corpus: {first}, {len(main)} clips of "
        f"{main['speaker'].nunique()} speakers. All: {', '.join(dict.fromkeys(clips['corpus']))}, {len(clips)} clips."
    )

    def duplicates() -> pd.DataFrame:
        of_corpus = archive[archive["corpus"] == first].reset_index(drop=True)
        if of_corpus["audio_hash"].duplicated().any():
            return leaks.duplicate_files(of_corpus, read(of_corpus).reshape(len(of_corpus), -1))
        note(f"{first} holds no duplicates: every clip is duplicated for this measurement, to show their effect.")
        return leaks.duplicate_files(*leaks.with_duplicates(main, features))

    def layers() -> pd.DataFrame:
        return leaks.layer_chosen_on_test(main, probe.feature_reader(encoder, "all")(main))

    def copies() -> pd.DataFrame:
        return leaks.copies_before_split(main, features, leaks.features_of_copies(main, read, probe.AUDIO))

    def speakers() -> pd.DataFrame:
        few = clips["corpus"] == ("savee" if "savee" in set(clips["corpus"]) else first)
        few &= clips["speaker"].isin(sorted(clips.loc[few, "speaker"].unique())[:8])
        return leaks.speaker_as_label(clips[few].reset_index(drop=True), everything[few])

    has_several = clips["corpus"].nunique() > 1
    studies: list[Callable[[], pd.DataFrame]] = [
        duplicates,
        partial(leaks.same_speaker, main, features),
        partial(leaks.epoch_chosen_on_test, main, features, epochs=4 if quick else 30),
        *([layers] if encoder else []),
        partial(leaks.best_of_many, main, features, (2, 4) if quick else (2, 8, 32)),
        copies,
        partial(leaks.normalised_with_test, main, features),
        *([partial(leaks.label_decided_by_corpus, clips, everything)] if has_several else []),
        speakers,
    ]
    measured = [study() for study in tqdm(studies, desc="leaks", unit="leak", leave=False)]
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
        raise SerError("no claim could be measured on new speakers: the lines above say why each was left out.")
    return max(single, key=lambda run: run.metrics["overall"]["test_speakers"])


def _of_run(run: Run, data_dir: str | Path | None, runs_dir: str | Path | None, note: Note) -> dict[str, pd.DataFrame]:
    """The tables `run_…`: the calibration, groups and confusions of one run, and the spread over `SEEDS`."""
    seeds = [claims.run_with_seed(run, seed, data_dir, runs_dir) for seed in SEEDS]
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
