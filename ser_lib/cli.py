"""The command line `ser …`: each command is a function, and its parameters name the options that it takes.

The first line of a function's docstring is the command's help, the lines below it are examples. A function imports
what it needs when it is called, so that `ser --help` answers at once.
"""

import argparse
import inspect
import logging
import os
import re
import signal
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import ser_lib
from ser_lib.common.errors import SerError, did_you_mean
from ser_lib.common.files import absolute, with_home

OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {}


def option(flag: str, help: str, parameter: str | None = None, **settings) -> None:
    """Define an option for the commands that have a parameter of its name, or of the name given.

    A flag without dashes is a positional argument, optional where the parameter has a default. The settings are those of
    `ArgumentParser.add_argument`, and `group`: a heading in the help, with a description below it.
    """
    OPTIONS[parameter or flag.strip("-").replace("-", "_")] = (flag, {"help": help, **settings})


RUN = "a run folder, a folder that holds one run, or a run on the Hugging Face Hub"
CSV_COLUMNS = "a CSV with the columns path, emotion, speaker, or a folder such as PERSON/EMOTION/*.wav"
TIMELINE = "emotion over time"
OWN_SPLIT = """a split of your own
In place of a recipe: a folder of clips (see ser train --corpus), which the protocol splits; a
folder that holds train/ and test/; or a CSV with the columns path and subset (train, validation, test), and if they are known label, speaker, sentence, corpus, fold
and augmented_from. Or its parts, each a folder, a text file with one path a line, or a CSV:"""

option("recipe", "the name of a recipe, or the path of your own recipe.yaml")
option("--protocol", "how clips are split into training and test (default: speaker)", default="speaker")
option("--seed", "seed of split and training (default: 0)", type=int, default=0)
option("--seeds", "the seeds of the runs (default: 0)", type=int, default=[0], nargs="+")
option("--variant", "as the source states, or as it ran", default="stated", choices=["stated", "as-run"])
option("--corpus", f"in place of the recipe's: corpora, or {CSV_COLUMNS}", default=[], nargs="+", metavar="CORPUS")
option("--set", "override fields of the recipe", default=[], nargs="+", metavar="KEY=VALUE", action="extend")
option("--folds", "train only these, as one job of several; the last job joins all folds", metavar="0,1")
option("--data-dir", "the folder of the corpora, one folder each", metavar="DIR")
option("--runs-dir", "the folder of the run folders (default: runs)", metavar="DIR")
REPORTS = "the folder of results.csv and the pages (default: reports; with --set, reports/own)"
option("--reports-dir", REPORTS, metavar="DIR")
option("names", "the corpora to load and count", nargs="*", metavar="CORPUS")
option("corpora", f"names of corpora, or {CSV_COLUMNS}", nargs="+", metavar="CORPUS")
option("model", RUN, metavar="RUN")
option("runs", "two or more run folders: each pair is compared", nargs="+", metavar="RUN")
option("--shared", "if test clips differ, compare on those that all runs have", action="store_true")
option("files", "audio files, or folders of audio files", nargs="+", metavar="FILE")
option("--run", f"{RUN} (default: the model of the package)", metavar="RUN")
option("--speaker", "the name of the speaker whose clips these are: see ser enrol", metavar="NAME")
OWN_NAME = "a name for the speaker, under which ser predict --speaker knows the voice"
option("--speaker", OWN_NAME, "name", required=True, metavar="NAME")
FOLD = 'the fold of the model: a number, or "all" for the mean of all (default: the one that answers)'
option("--fold", FOLD, metavar="K", type=lambda text: int(text) if text.isdecimal() else text)
option("--json", "print one line of JSON a file in place of the table", action="store_true")
option("--csv", "write the table to this file as well", metavar="FILE")
# From this length on, an emotion is likely to change within a recording.
LONG_SECONDS = 15.0
TIMES = "write FILE-timeline.csv and .png, and print the emotions; ? marks an answer that is not certain"
option("--timeline", TIMES, action="store_true", group=TIMELINE)
option("--window", "seconds of a window (default: as the recipe)", type=float, metavar="S", group=TIMELINE)
option("--hop", "seconds from window to window (default: 1, or a window)", type=float, metavar="S", group=TIMELINE)
option("--smoothing", "time constant in seconds; 0: none (default: 2)", type=float, metavar="S", group=TIMELINE)
LEARN = "one person speaks: learn the voice from the windows so far"
option("--learn-speaker", LEARN, action="store_true", group=TIMELINE)
SPEECH = "detect speech by loudness (default) or silero-vad"
option("--speech", SPEECH, choices=["energy", "silero", "none"], group=TIMELINE)
option("--output", "the folder to write (default: the current one; of an export, the run folder)", metavar="DIR")
option("--train", "the train files: a folder, or a list of files", metavar="DIR", group=OWN_SPLIT)
option("--test", "the test files: a folder, or a list of files", metavar="DIR", group=OWN_SPLIT)
option("--validation", "the validation files: a folder, or a list of files", metavar="DIR", group=OWN_SPLIT)
option("--no-audio", "compare names, speakers and sentences alone", action="store_true", group=OWN_SPLIT)
PAGE = "the page to write (default of your own split: NAME-audit.html; of runs: NAMES-comparison.html)"
option("--html", PAGE, metavar="FILE")
option("--fail", "exit with status 1 if there is a red leak", action="store_true")
option("--players", "the pages hold players of clips of your own corpora", action="store_true")
option("--index", "write only the index page of the pages that are there", action="store_true")
option("--encoder", "in place of the pretrained encoders of the recipes")
option("--encoder", "also measure what leaks are worth, with this encoder, where audio is at hand", "worth_encoder")
option("--page", "write only the page, from the tables that are there", action="store_true")
option("--committed", "take the committed predictions of the claims: only one run is trained", action="store_true")
option("--bundled", "a small audit, on the bundled corpus alone", action="store_true")
option("--store", "store the predictions in reports/predictions, for the tables of docs", action="store_true")
option("--add", "store the predictions of these runs, then as --anew", default=[], nargs="+", metavar="RUN")
option("--anew", "compute results.csv, unheard.csv and index.html from the predictions", action="store_true")
option("--readme", "write the tables between the markers of these files", default=[], nargs="+", metavar="FILE")
option("--port", "of 127.0.0.1 (default: the first free one from 7860)", type=int)
option("--no-browser", "print the page's address without opening it", action="store_true")
option("--to", "onnx: runs without PyTorch", required=True, choices=["onnx", "hub"])
option("--int8", "onnx: also write a smaller model, and measure what it loses", action="store_true")
option("--encoder", "the encoder to embed with (default: $SER_WHISPER_BASE, or random weights)", "bench_encoder")
option("--corpus", "the clips to embed (default: the bundled corpus)", "bench_corpus", default="sample")
option("--scale", "simulated corpora of these numbers of clips: writes bench.html", type=int, nargs="+", metavar="N")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; in what it returns, `function` is the command's function."""
    about = "Speech emotion recognition; every score names the protocol that produced it."
    parser = argparse.ArgumentParser(prog="ser", description=about)
    parser.add_argument("--version", action="version", version=f"ser {ser_lib.__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter
    for name, function in COMMANDS.items():
        summary, _, examples = (inspect.getdoc(function) or "").partition("\n\n")
        epilog = f"examples:\n{examples}"
        subparser = subparsers.add_parser(name, help=summary, description=summary, epilog=epilog, formatter_class=raw)
        subparser.set_defaults(function=function)
        sections = {}
        for parameter in inspect.signature(function).parameters.values():
            flag, settings = OPTIONS[parameter.name]
            settings = dict(settings)
            heading = settings.pop("group", None)
            if heading and heading not in sections:
                sections[heading] = subparser.add_argument_group(*heading.split("\n", 1))
            if flag.startswith("-"):
                settings["dest"] = parameter.name
            elif parameter.default is not parameter.empty:
                settings["nargs"] = "?"
            sections.get(heading, subparser).add_argument(flag, **settings)
    return parser


class Terminated(KeyboardInterrupt):
    """The signal of `kill`, handled as Ctrl-C is: temporary files are deleted, and other processes are ended."""


def terminate(*_) -> None:
    """Handle the signal; a second one ends the process at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 success, 1 failure, 2 usage, 130 interrupted, 143 terminated)."""
    parser = build_parser()
    first = next(iter(sys.argv[1:] if arguments is None else arguments), "-")
    if first not in COMMANDS and not first.startswith("-"):
        expected = f"expected one of {', '.join(COMMANDS)}"
        parser.error(f"there is no command {first!r}: {did_you_mean(first, COMMANDS)}{expected}")
    options = vars(parser.parse_args(arguments))
    function = options.pop("function")
    for name in ("SER_DATA_DIR", "SER_CACHE_DIR"):
        if os.environ.get(name):
            os.environ[name] = absolute(os.environ[name])
    # Else a library that sets up logging would change how warnings look.
    logging.basicConfig(format="%(message)s")
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        function(**options)
    except SerError as error:
        return print_error(str(error))
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has closed it.
        sys.stdout = None
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = f" ({error.filename})" if error.filename else ""
        return print_error(f"{error.strerror or error}{place}. No file is half-written: fix the cause and try again.")
    except KeyboardInterrupt as stop:
        resumes = function in (train, report, claims)
        hint = " Finished folds are kept: the same command goes on with the others." if resumes else ""
        print(f"\nser: stopped.{hint}", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def print_error(message: str) -> int:
    """Print a line on standard error; returns the exit status of a failure."""
    print(f"ser: {message}", file=sys.stderr)
    return 1


def overrides_of(corpus: list[str], settings: list[str]) -> list[str]:
    """The overrides of a recipe, one KEY=VALUE each, from the values of `--corpus` and `--set`.

    `make` passes all of SET as one text: "a=[1, 2] b=3".
    """
    import yaml

    from ser_lib.common.files import parse_yaml
    from ser_lib.corpora import lasting_name

    def corpora_of(names: list[str]) -> str:
        on_one_line: dict[str, Any] = {"default_flow_style": True, "allow_unicode": True, "width": 1e6}
        return f"corpora={yaml.safe_dump(list(map(lasting_name, names)), **on_one_line).strip()}"

    overrides = [corpora_of(corpus)] if corpus else []
    for override in (item for text in settings for item in re.split(r"\s+(?=[\w.]+\s*=)", text.strip())):
        key, _, value = (part.strip() for part in override.partition("="))
        if key == "input.encoder" and Path(value).is_dir():
            override = f"{key}={absolute(value)}"
        if key == "corpora":
            # Text that is not YAML is reported by `load_recipe`.
            with suppress(SerError):
                names = parse_yaml(value)
                names = list(map(str, names)) if isinstance(names, list) else [str(names)]
                # The user's spelling stays where it is valid everywhere.
                override = corpora_of(names) if list(map(lasting_name, names)) != names else override
        overrides.append(override)
    return overrides


def recipe_of(recipe: str, variant: str, corpus: list[str], settings: list[str]):
    """The recipe with the overrides of `--corpus` and `--set`."""
    return ser_lib.load_recipe(recipe, variant, overrides_of(corpus, settings))


def corpora(names, data_dir, csv=None):
    """List the corpora, or load some and count their clips.

    ser corpora
    ser corpora ravdess --data-dir ~/corpora
    ser corpora recordings/ --csv my.csv
    """
    import pandas as pd

    from ser_lib.corpora import CORPORA
    from ser_lib.corpora.folder_corpus import write_list

    if csv:
        if len(names) != 1 or not Path(names[0]).is_dir():
            raise SerError(
                "--csv writes the list of one folder of yours, such as `ser corpora recordings/ --csv my.csv`."
            )
        print(write_list(Path(names[0]), Path(csv)))
        return
    if names:
        clips = ser_lib.load_clips(names, data_dir)
        if clips.empty:
            raise SerError("no clip is left: the lines above say why.")
        print(pd.crosstab(clips["corpus"], clips["emotion"], margins=True, margins_name="all").to_string())
        return
    for corpus in CORPORA.values():
        facts = (corpus.title, corpus.licence, f"kagglehub {corpus.handle}" if corpus.handle else str(corpus.folder))
        print(f"{corpus.name:8} {corpus.clips:5} clips {corpus.speakers:3} speakers  {'; '.join(facts)}")


def recipes():
    """List the recipes, and the models and heads that `model.name` of a recipe can name, with a line each.

    ser recipes
    """
    from ser_lib.models.base import MODELS
    from ser_lib.recipes import recipe_names

    width = max(map(len, [*recipe_names(), *MODELS]))
    print("recipes")
    for name in recipe_names():
        print(f"  {name:{width}}  {ser_lib.load_recipe(name).title}")
    print("\nmodels and heads, for --set model.name=…")
    for name, model in MODELS.items():
        print(f"  {name:{width}}  {(inspect.getdoc(model) or '').partition(chr(10))[0]}")


def runs(runs_dir):
    """List the finished runs with their settings and scores.

    ser runs
    ser runs --runs-dir my-runs
    """
    from ser_lib.inference.model_card import describe_score
    from ser_lib.inference.run import runs_below, runs_root

    rows = []
    for folder in runs_below(runs_root(runs_dir)):
        try:
            run = ser_lib.load_run(folder)
        except SerError as error:
            print_error(str(error))
            continue
        uar = describe_score(run.metrics["overall"], "uar")
        date = datetime.fromtimestamp((folder / "metrics.json").stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        rows.append((str(folder), uar, str(run.split["clip_id"].nunique()), date, run.recipe.variant_label))
    if not rows:
        raise SerError(f"{runs_root(runs_dir)} holds no run yet: `ser train demo` makes one.")
    rows.insert(0, ("run", "UAR", "clips", "finished", "settings"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def prepare(recipe, protocol, seed, variant, corpus, set, data_dir, runs_dir):
    """Load the clips, split them, and compute the features into the cache.

    ser prepare tess-mfcc-cnn --protocol speaker
    """
    from ser_lib.recipes.inputs import clips_of, inputs_of, split_of

    recipe = recipe_of(recipe, variant, corpus, set)
    clips = clips_of(recipe, protocol, data_dir)
    split = split_of(recipe, clips, protocol, seed)
    inputs = inputs_of(recipe, clips, protocol)
    print(split.groupby(["fold", "subset"])["clip_id"].count().unstack(fill_value=0).to_string())
    size = f"{len(inputs)} waveforms" if isinstance(inputs, list) else " × ".join(map(str, inputs.shape))
    print(f"inputs: {size} ({recipe.features_label}, {recipe.input_label})")


def train(recipe, protocol, seed, variant, corpus, set, folds, data_dir, runs_dir):
    """Train and test every fold of a recipe, and write the run folder.

    ser train demo
    ser train demo --corpus my.csv
    ser train tess-mfcc-lstm --protocol published --set training.epochs=50
    ser train ravdess-wav2vec2-frozen-mlp --set input.encoder=~/models/whisper-base
    ser train four-corpora-xlsr53-finetune --folds 0,1
    accelerate launch -m ser_lib train tess-wav2vec2-finetune
    """
    from ser_lib.common import distributed
    from ser_lib.inference.model_card import describe_score
    from ser_lib.inference.run import run_folder
    from ser_lib.training.experiment import unfinished_folds

    recipe = recipe_of(recipe, variant, corpus, set)
    try:
        folds = None if folds is None else [int(fold) for fold in folds.split(",")]
    except ValueError as error:
        raise SerError(f"--folds expects numbers such as 0,1, not {folds!r}.") from error
    run = ser_lib.train(recipe, protocol, seed, data_dir, runs_dir, folds=folds)
    if not distributed.is_first():
        return
    if run is None:
        missing = unfinished_folds(run_folder(recipe, protocol, seed, runs_dir))
        print(f"finished; the run still lacks fold {', '.join(map(str, missing))}")
        return
    uar, accuracy = (describe_score(run.metrics["overall"], measure) for measure in ("uar", "accuracy"))
    print(f"{run.recipe.folder_name}, {run.protocol}: UAR {uar}, accuracy {accuracy}\n{run.folder}")


def evaluate(recipe, protocol, variant, corpus, set, seeds, data_dir, runs_dir, reports_dir):
    """Score finished runs, keep their predictions in reports/predictions, and write their row of reports/results.csv.

    ser evaluate tess-mfcc-lstm --protocol speaker --seeds 0 1 2
    """
    from ser_lib.evaluation.results import add_runs, markdown, results_path
    from ser_lib.inference.run import others_of, run_folder
    from ser_lib.training.experiment import unfinished_folds

    recipe = recipe_of(recipe, variant, corpus, set)
    runs = []
    for folder in (run_folder(recipe, protocol, seed, runs_dir) for seed in seeds):
        folds = ",".join(map(str, unfinished_folds(folder)))
        if folds and not folder.is_dir():
            raise SerError(f"{folder} still lacks the folds {folds}: train them with `ser train … --folds {folds}`.")
        if not folder.is_dir():
            raise SerError(
                f"{folder} is not a run folder: it does not exist.{others_of(folder)} `ser train` with the same recipe, "
                "--protocol, --variant and --set makes it, and `ser runs` lists those that are there."
            )
        if folds:
            print_error(f"{folder} is scored as it was before; a newer run still lacks the folds {folds}")
        run = ser_lib.load_run(folder)
        if run.recipe != recipe:
            settings = f"other settings ({run.recipe.variant_label})"
            raise SerError(f"{folder} was trained with {settings}: give the same --variant and --set, or train anew.")
        runs.append(run)
    print(f"{markdown(add_runs(runs, reports_dir))}\n{results_path(reports_dir)}")


def predict(files, run, speaker, json, fold, timeline, window, hop, smoothing, learn_speaker, speech, output):
    """Predict the emotion of recordings, with the model of the package or that of a finished run.

    ser predict my-voice.wav
    ser predict recordings/ --speaker me --json > answers.jsonl
    ser predict --run runs/demo/speaker/0 my-voice.wav
    ser predict meeting.mp3 --timeline --output timelines/
    """
    run, files = run_and_files(run, files)
    options = {"window_seconds": window, "hop_seconds": hop, "smoothing_seconds": smoothing, "detector": speech}
    settings = {name: value for name, value in options.items() if value is not None}
    settings |= {"learn_speaker": True} if learn_speaker else {}
    if (settings or output) and not timeline:
        raise SerError(
            "--window, --hop, --smoothing, --learn-speaker, --speech and --output are about a timeline: give --timeline."
        )
    predictor = predictor_of(run, fold)
    if speaker is not None:
        from ser_lib.inference.enrolment import for_speaker

        predictor = for_speaker(predictor, speaker)
    n_files = n_failed = 0
    if timeline:
        from ser_lib.inference.streaming import stretches
        from ser_lib.reports.timelines import write_timelines

        for path, table, csv in write_timelines(predictor, files, output or ".", **settings):
            n_files += 1
            if csv is None or isinstance(table, SerError):
                n_failed += print_error(str(table))
            elif json:
                table.insert(0, "path", str(path))
                print_json(table, predictor.emotions)
            else:
                short = stretches(table).fillna({"emotion": "(no speech)"}).round(1)
                print(f"{path}\n{short.to_string(index=False)}\n{csv} {csv.with_suffix('.png')}\n")
    else:
        from ser_lib.inference import predict as predicting

        table = predicting.predict(predictor, files)
        answers = table[table["error"] == ""].drop(columns="error")
        n_files, n_failed = len(table), len(table) - len(answers)
        if json:
            print_json(answers, predictor.emotions)
        elif len(answers):
            print(answers.to_string(index=False, float_format="%.3f"))
            if answers["certain"].isna().all() and answers["emotion"].notna().any():
                print("certain is not known: no validation speakers chose a threshold for this run")
            if (answers["seconds"] > LONG_SECONDS).any():
                print("each recording has one answer: --timeline shows how the emotion of a long one changes")
    # Each of them has been named already.
    if n_failed:
        raise SerError(f"{n_failed} of {n_files} files could not be answered, see above.")


def run_and_files(run: str | None, files: list[str]) -> tuple[str | None, list[str]]:
    """The run and the files of a command line; without --run, the first argument may be the run."""
    from ser_lib.audio.decoding import FFMPEG_SUFFIXES, SUFFIXES

    if run or len(files) < 2:
        return run, files
    first, below = Path(files[0]), ("recipe.yaml", "*/recipe.yaml", "*/*/recipe.yaml", "*/*/*/recipe.yaml")
    # What is not there, and has no audio file's name, is a run on the Hub, or a mistyped one.
    is_run = not first.exists() and first.suffix.lower() not in SUFFIXES + FFMPEG_SUFFIXES
    if first.is_dir():
        is_run = any(next(first.glob(pattern), None) for pattern in below)
    return (files[0], files[1:]) if is_run else (None, files)


def predictor_of(run: str | None, fold=None):
    """The predictor of a run, or of the model that comes with the package."""
    if run:
        return ser_lib.load_run(run).predictor(fold)
    from ser_lib.inference.packaged import PackagedPredictor

    if fold is not None:
        raise SerError("--fold is about a run: name it with --run.")
    return PackagedPredictor()


def enrol(files, name, run):
    """Learn a voice from about eight clips of it, without labels, for ser predict --speaker.

    ser enrol me/ --speaker me
    ser enrol interview.mp3 --speaker anna --run runs/speech-emotion
    """
    from ser_lib.inference.enrolment import FEW, enrol, save

    speaker = enrol(predictor_of(run), files, name=name)
    for path, reason in speaker.refused:
        print_error(f"{path} is left out: {str(reason).removeprefix(f'{path}: ')}")
    print(f"{name}: {speaker.clips} clips, which must all be of this one person; kept in {save(speaker)}")
    if speaker.clips < FEW:
        print(f"Fewer than {FEW} clips hardly separate the voice from the mood: add clips, each in a different mood.")


def print_json(table, emotions: list[str]) -> None:
    """Print each row as a line of JSON, its probabilities as one object: null where no speech was detected."""
    import json

    for row in table.to_dict("records"):
        row = {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
        probabilities = {emotion: row.pop(emotion) for emotion in emotions}
        print(json.dumps({**row, "probabilities": probabilities if row["emotion"] else None}))


def score(model, corpora, fold, data_dir, csv, store, reports_dir):
    """Score a finished run on corpora that it was not trained on, emotion by emotion.

    ser score runs/ravdess-whisper-logistic/speaker/0 savee tess
    ser score RUN my-clips.csv
    """
    from ser_lib.evaluation import unseen_corpora
    from ser_lib.evaluation.results import write_table

    predictions = unseen_corpora.collect_on(ser_lib.load_run(model), ser_lib.load_clips(corpora, data_dir), fold)
    table = unseen_corpora.scores_of(predictions)
    print(unseen_corpora.markdown(table))
    if store:
        print(unseen_corpora.store(predictions, reports_dir))
    if csv:
        write_table(table, Path(csv))
        print(csv)


def compare(runs, shared, html=None):
    """Compare finished runs on the same test clips: which is better? As text, and as a page with pictures.

    ser compare runs/demo/speaker/0 runs/demo/speaker/1
    ser compare RUN RUN RUN --shared --html comparison.html
    """
    from ser_lib.evaluation.run_analysis import describe_comparison
    from ser_lib.reports.comparison_page import write_page

    loaded = [ser_lib.load_run(folder) for folder in runs]
    print(describe_comparison(loaded, shared))
    print(f"page: {write_page(loaded, shared, html)}")


def audit(
    recipe=None,
    *,
    protocol,
    seed,
    variant,
    corpus,
    set,
    data_dir,
    runs_dir,
    train,
    test,
    validation,
    no_audio,
    html,
    fail,
):
    """Show what a split leaks: that of a recipe under a protocol, or your own.

    ser audit tess-mfcc-cnn --protocol published
    ser audit recordings/
    ser audit my-split.csv --html my-audit.html
    ser audit data/ --fail
    ser audit --train data/a --test test-files.txt
    ser audit my-split.csv --no-audio --fail
    """
    from ser_lib.protocols import leak_audit
    from ser_lib.protocols.user_split import is_split, read_split, split_name
    from ser_lib.recipes import recipe_names
    from ser_lib.recipes.inputs import clips_of, split_of
    from ser_lib.reports.audit_page import unknown_red, write_page

    if train or test or validation or (recipe and recipe not in recipe_names() and is_split(recipe)):
        split = read_split(recipe, train=train, test=test, validation=validation, audio=not no_audio)
        title = split_name(recipe, train, test)
        html = html or f"{title}-audit.html"
    elif recipe:
        # A folder of clips that are not split yet: as the protocol splits them, with the sizes of the demo.
        is_folder = recipe not in recipe_names() and Path(recipe).is_dir()
        title = f"{Path(recipe).name if is_folder else recipe_of(recipe, variant, corpus, set).folder_name} under {protocol}"
        recipe = recipe_of("demo", variant, [recipe], set) if is_folder else recipe_of(recipe, variant, corpus, set)
        split = split_of(recipe, clips_of(recipe, protocol, data_dir), protocol, seed)
    else:
        raise SerError("name a recipe, a CSV or a folder, such as `ser audit demo`, or give --train and --test.")
    table = leak_audit.audit(split)
    red = leak_audit.red_leaks(table)["leak"].tolist()
    print(table.drop(columns=["examples", "meaning"]).astype(object).fillna("unknown").to_string(index=False))
    for row in table[table["clips"].ne(0).fillna(True)].itertuples():
        print(f"{row.leak}: {row.meaning}" + (f"\n  such as {row.examples}" if row.examples else ""))
    for note in split.attrs.get("notes", []):
        print(note)
    if html:
        print(f"page: {write_page(split, table, title, html)}")
    unknown = unknown_red(table)
    verdict = "LEAKS" if red else f"no leak found, but not checked: {', '.join(unknown)}" if unknown else "clean"
    print(f"{verdict}: {title}")
    if fail and red:
        raise SerError(f"{title} leaks: {', '.join(red)}.")


def report(recipe=None, *, protocol, seed, variant, corpus, set, data_dir, runs_dir, reports_dir, players, index):
    """Execute the notebooks for a recipe and write their HTML pages and the index.

    ser report demo
    ser report demo --corpus recordings/ --players
    ser report tess-mfcc-cnn --protocol speaker
    ser report --index
    """
    from ser_lib.reports.build import NOTEBOOKS, make_report, write_index

    if index:
        print(write_index(reports_dir))
        return
    if not recipe:
        raise SerError("name a recipe, such as `ser report demo`, or ask for the index alone with --index.")
    folders = (data_dir, runs_dir, reports_dir)
    folder = make_report(recipe, protocol, seed, variant, overrides_of(corpus, set), *folders, players)
    pages = [*(folder / f"{name}.html" for name in NOTEBOOKS), folder.parents[1] / "index.html"]
    print("\nThe report is ready. Open in a browser:", *pages, sep="\n  ")


def claims(encoder, bundled, page, committed, data_dir, runs_dir, reports_dir):
    """Measure every published claim again, leak by leak, and write the claims audit.

    ser claims --bundled
    ser claims --encoder openai/whisper-base
    ser claims --committed --encoder models/whisper-base-encoder
    ser claims --page
    """
    from ser_lib.reports.build import make_claims_audit
    from ser_lib.studies import claims_audit

    if page and (committed or encoder):
        raise SerError("--page measures nothing: leave out --committed and --encoder.")
    if encoder and Path(encoder).is_dir():
        encoder = absolute(encoder)
    if bundled:
        runs_dir, reports_dir = claims_audit.bundled_folders(runs_dir, reports_dir)
        # The bundled corpus needs no network.
        os.environ["HF_HUB_OFFLINE"] = "1"
    folders = {"data_dir": data_dir, "runs_dir": runs_dir, "reports_dir": reports_dir}
    if not page:
        print(claims_audit.measure(encoder, bundled, train=not committed, **folders))
    print(f"\nThe audit is ready. Open in a browser:\n  {make_claims_audit({'bundled': bundled}, reports_dir)}")


def atlas(worth_encoder, page, data_dir, reports_dir):
    """Audit the train and test lists that benchmarks publish, and write the atlas of their leaks.

    ser atlas
    ser atlas --encoder openai/whisper-base
    ser atlas --page
    """
    from ser_lib.reports.build import make_atlas
    from ser_lib.studies import atlas
    from ser_lib.studies.atlas import worth

    if not page:
        table = atlas.atlas_table()
        print(f"{atlas.write_table(table, reports_dir)}\n{table['verdict'].value_counts().to_string()}")
        if worth_encoder:
            print(worth.write_table(worth.measure_worth(table, worth_encoder, data_dir), reports_dir))
    print(f"\nThe atlas is ready. Open in a browser:\n  {make_atlas(reports_dir)}")


def voice(encoder, page, data_dir, runs_dir, reports_dir):
    """Measure what a few clips of a new speaker are worth to the recipe speech-emotion, and write the page.

    ser voice
    ser voice --encoder ~/models/whisper-base
    ser voice --page
    """
    from ser_lib.reports.build import make_voice
    from ser_lib.studies import voice

    if not page:
        overrides = [f"input.encoder={absolute(encoder) if Path(encoder).is_dir() else encoder}"] if encoder else []
        recipe = ser_lib.load_recipe("speech-emotion", overrides=overrides)
        print(voice.write_table(voice.measure(recipe, data_dir, runs_dir), reports_dir))
    print(f"\nThe page is ready. Open in a browser:\n  {make_voice(reports_dir)}")


def results(add, anew, readme, reports_dir):
    """Print the table of results as Markdown, or make the tables from the predictions in reports/predictions.

    ser results
    ser results --anew --readme README.md docs/claims.md
    ser results --add runs/*/*/*
    """
    from ser_lib.evaluation import stored_predictions
    from ser_lib.evaluation.results import markdown, read_results
    from ser_lib.reports.doc_tables import fill_tables, make_tables

    n_failed = 0
    for folder in add:
        try:
            print(stored_predictions.store([ser_lib.load_run(folder)], reports_dir))
        except SerError as error:
            n_failed += print_error(str(error))
    if add or anew:
        print(*make_tables(reports_dir), sep="\n")
    for file in readme:
        fill_tables(Path(file), reports_dir)
    if not (add or anew or readme):
        print(markdown(read_results(reports_dir)))
    if n_failed:
        raise SerError(f"{n_failed} of {len(add)} runs could not be added, see above.")


def demo(port, no_browser, model=None):
    """Serve a page on this computer that predicts the emotion of a voice, with the model of the package or of a run.

    ser demo
    ser demo runs/demo/speaker/0
    ser demo RUN --port 8000 --no-browser
    """
    from ser_lib.deploy.demo import serve

    serve(ser_lib.load_run(model) if model else None, port, not no_browser)


def export(model, to, int8, output, data_dir):
    """Write the model of a finished run as ONNX, or as a folder for the Hugging Face Hub.

    ser export runs/demo/speaker/0 --to onnx
    ser export RUN --to onnx --int8 --output my-model
    ser export RUN --to hub
    """
    import json

    from ser_lib.deploy import describe_int8, to_hub, to_onnx

    run = ser_lib.load_run(model)
    # A run from the Hub lies in the Hub's cache, where exports do not belong.
    default = run.folder / to if Path(model).exists() else Path(f"{Path(model).name}-{to}")
    folder = with_home(output) if output else default
    if to == "hub":
        if int8:
            raise SerError("--int8 is for --to onnx: transformers reads the model as it is.")
        folder = to_hub(run, folder)
        print(f"{folder}\ncheck its README.md, then: hf upload USER/NAME {folder}")
        print(f'use it: load_run("{folder}"), and from the Hub load_run("USER/NAME")')
        return
    folder = to_onnx(run, folder, int8, data_dir=data_dir)
    settings = json.loads((folder / "preprocessor.json").read_text(encoding="utf-8"))
    megabytes, difference = settings["megabytes"], settings["largest_difference"]
    print(f"{folder}\nfloat32: {megabytes} MB, differs by at most {difference:.0e} from PyTorch")
    if int8:
        print(f"int8: {describe_int8(settings)}")
    print(f"use it without PyTorch, as {folder / 'README.md'} says: python {folder / 'run_onnx.py'} my-voice.wav")


def bench(bench_encoder, bench_corpus, scale, reports_dir):
    """Measure the speed of features, embedding, the cache, training and streams; or time and memory of large corpora.

    ser bench
    ser bench --encoder openai/whisper-base --corpus ravdess
    ser bench --scale 1000 10000 100000
    """
    if scale:
        from ser_lib.common.files import reports_path
        from ser_lib.reports.large_corpora import measure_all, write_page

        if min(scale) < 200:
            raise SerError(f"--scale expects numbers of clips from 200 on, not {min(scale)}.")
        print(write_page(measure_all(scale), reports_path("bench.html", reports_dir)))
        return
    from ser_lib.bench import run_benchmarks

    run_benchmarks(bench_encoder, bench_corpus)


COMMANDS = {
    function.__name__: function
    for function in (
        *(corpora, recipes, runs, prepare, train, evaluate, predict, enrol, score, compare),
        *(audit, atlas, voice, report, claims, results, demo, export, bench),
    )
}
