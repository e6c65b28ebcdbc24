"""The command line, `ser …`: thin, and quick to answer, since nothing heavy is imported before it is used."""

import argparse
import os
import re
import sys
from pathlib import Path

from ser_lib.errors import SerError

EXAMPLES = {
    "corpora": "ser corpora\nser corpora ravdess --data-dir ~/corpora",
    "prepare": "ser prepare tess-mfcc-cnn --protocol speaker",
    "train": "ser train demo\nser train demo --corpus my.csv\n"
    "ser train tess-mfcc-lstm --protocol published --set training.epochs=50\n"
    "ser train ravdess-wav2vec2-frozen-mlp --set input.encoder=~/models/whisper-base\n"
    "ser train four-corpora-xlsr53-finetune --folds 0,1\n"
    "accelerate launch -m ser_lib train tess-wav2vec2-finetune",
    "evaluate": "ser evaluate tess-mfcc-lstm --protocol speaker --seeds 0 1 2",
    "predict": "ser predict runs/demo/speaker/0 my-voice.wav\nser predict RUN recordings/ --json > answers.jsonl\n"
    "ser predict RUN meeting.mp3 --timeline --output timelines/",
    "score": "ser score runs/ravdess-whisper-logistic/speaker/0 savee tess\nser score RUN my-clips.csv",
    "compare": "ser compare runs/demo/speaker/0 runs/demo/speaker/1\nser compare RUN RUN RUN --shared",
    "audit": "ser audit tess-mfcc-cnn --protocol published\nser audit my-split.csv --html my-audit.html\n"
    "ser audit data/ --fail\nser audit --train data/a --test test-files.txt",
    "report": "ser report demo\nser report tess-mfcc-cnn --protocol speaker\nser report --index",
    "claims": "ser claims --bundled\nser claims --encoder openai/whisper-base",
    "results": "ser results\nser results --readme README.md",
    "demo": "ser demo runs/demo/speaker/0\nser demo RUN --port 8000 --no-browser",
    "export": "ser export runs/demo/speaker/0 --to onnx\nser export RUN --to onnx --int8 --output my-model\n"
    "ser export RUN --to hub",
    "bench": "ser bench\nser bench --encoder openai/whisper-base --corpus ravdess",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 could not be done, 2 misused, 130 interrupted)."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    for name in ("SER_DATA_DIR", "SER_CACHE_DIR"):
        if os.environ.get(name):  # notebooks run in another folder, where a relative path leads elsewhere
            os.environ[name] = str(Path(os.environ[name]).expanduser().absolute())
    try:
        options.run(options)
    except SerError as error:
        return fail(str(error))
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has had enough
        sys.stdout = None
        return 0
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        where = f" ({error.filename})" if error.filename else ""
        return fail(
            f"{error.strerror or error}{where}. Nothing is left half-written; mend that and run it again."
        )
    except KeyboardInterrupt:
        print(
            "\nser: stopped. Finished folds are kept: the same command goes on from there.", file=sys.stderr
        )
        return 130
    return 0


def fail(message: str) -> int:
    print(f"ser: {message}", file=sys.stderr)
    return 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ser", description="Speech emotion recognition; every number beside the protocol that made it."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name, function, summary):
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"examples:\n{EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=function)
        return command

    command = add("corpora", show_corpora, "list the corpora, or load some and count their clips")
    command.add_argument("names", nargs="*", metavar="CORPUS", help="load and count these")
    command.add_argument("--data-dir", metavar="DIR", help="folder that holds the corpora, one folder each")

    for name, function, summary in (
        ("prepare", prepare, "load the clips, split them, and compute the features into the store"),
        ("train", train, "train and test every fold of a recipe, and write the run folder"),
        ("audit", show_audit, "show what a split leaks: a recipe's under a protocol, or your own"),
    ):
        command = add(name, function, summary)
        add_experiment_options(command, optional=name == "audit")
        if name == "audit":
            add_own_split_options(command)
        if name == "train":
            command.add_argument(
                "--folds",
                metavar="0,1",
                help="train these folds alone, as one of several jobs; the last to finish joins them",
            )
    command = add("evaluate", evaluate, "score finished runs and put their row into reports/results.csv")
    add_experiment_options(command, seed=False)
    command.add_argument("--seeds", nargs="+", type=int, default=[0], help="the runs' seeds (default: 0)")
    command.add_argument("--reports-dir", metavar="DIR", help="where results.csv lies (default: reports)")
    command = add("predict", predict, "say which emotion is heard in recordings, by a finished run")
    command.add_argument(
        "model", metavar="RUN", help="a run folder, or the name of one on the Hugging Face Hub"
    )
    command.add_argument("files", nargs="+", metavar="FILE", help="audio files, or folders of them")
    command.add_argument("--json", action="store_true", help="one line of JSON a file in place of the table")
    command.add_argument(
        "--fold", default="0", metavar="K", help='whose model: a number, or "all" for their mean (default: 0)'
    )
    add_timeline_options(command)
    command = add("score", score, "score a finished run on corpora that it never heard, emotion by emotion")
    command.add_argument(
        "model", metavar="RUN", help="a run folder, or the name of one on the Hugging Face Hub"
    )
    command.add_argument(
        "corpora",
        nargs="+",
        metavar="CORPUS",
        help="registered corpora, or a CSV with the columns path, emotion, speaker",
    )
    command.add_argument(
        "--fold", default="0", metavar="K", help='whose model: a number, or "all" (default: 0)'
    )
    command.add_argument("--data-dir", metavar="DIR", help="folder that holds the corpora, one folder each")
    command.add_argument("--csv", metavar="FILE", help="write the table there as well")
    command = add("compare", compare, "compare finished runs on the same test clips: which is better?")
    command.add_argument("runs", nargs="+", metavar="RUN", help="run folders, two or more: all pairs of them")
    command.add_argument(
        "--shared", action="store_true", help="where test clips differ, compare on those that all runs share"
    )
    command = add(
        "report", report, "execute the notebooks for a recipe and write their HTML pages and the index"
    )
    add_experiment_options(command, optional=True)
    command.add_argument("--reports-dir", metavar="DIR", help="where the pages go (default: reports)")
    command.add_argument("--index", action="store_true", help="write only the index page over what is there")
    command = add(
        "claims", claims, "measure every published claim again, leak by leak, and write the claims audit"
    )
    command.add_argument(
        "--encoder", help="read this one in place of the recipes' pretrained encoders, which cannot be had"
    )
    command.add_argument("--bundled", action="store_true", help="in small, on the bundled corpus alone")
    command.add_argument("--data-dir", metavar="DIR", help="folder that holds the corpora, one folder each")
    command.add_argument("--runs-dir", metavar="DIR", help="where run folders go (default: runs)")
    command.add_argument("--reports-dir", metavar="DIR", help="where the page goes (default: reports)")
    command = add(
        "results", show_results, "print the table of results as Markdown, or write it into the README"
    )
    command.add_argument("--readme", metavar="FILE", help="replace the table between this file's markers")
    command.add_argument("--reports-dir", metavar="DIR", help="where results.csv lies (default: reports)")
    command = add("demo", demo, "serve a page on this computer that answers a voice, by a finished run")
    command.add_argument(
        "model", metavar="RUN", help="a run folder, or the name of one on the Hugging Face Hub"
    )
    command.add_argument("--port", type=int, help="of 127.0.0.1 (default: the first that is free from 7860)")
    command.add_argument(
        "--no-browser", action="store_true", help="do not open the page, only print its address"
    )
    command = add(
        "export", export, "write a finished run's model as ONNX, or as a folder for the Hugging Face Hub"
    )
    command.add_argument(
        "model", metavar="RUN", help="a run folder, or the name of one on the Hugging Face Hub"
    )
    command.add_argument("--to", required=True, choices=["onnx", "hub"], help="onnx: runs without PyTorch")
    command.add_argument(
        "--int8", action="store_true", help="onnx: a smaller model too, and what it loses, measured"
    )
    command.add_argument(
        "--output", metavar="DIR", help="the folder to write (default: onnx or hub in the run folder)"
    )
    command.add_argument("--data-dir", metavar="DIR", help="folder that holds the corpora, one folder each")
    command = add("bench", bench, "measure feature extraction, embedding, the store, training and streams")
    command.add_argument(
        "--encoder", help="embed with this one (default: $SER_WHISPER_BASE, else one of random weights)"
    )
    command.add_argument("--corpus", default="sample", help="clips to embed (default: the bundled corpus)")
    return parser


def add_experiment_options(command, seed: bool = True, optional: bool = False) -> None:
    command.add_argument(
        "recipe", nargs="?" if optional else None, help="a recipe's name, or your own recipe.yaml"
    )
    command.add_argument(
        "--protocol", default="speaker", help="how train and test are split (default: speaker)"
    )
    if seed:
        command.add_argument("--seed", type=int, default=0, help="seed of split and training (default: 0)")
    command.add_argument(
        "--variant", default="stated", choices=["stated", "as-run"], help="as the source states, or ran"
    )
    command.add_argument(
        "--corpus",
        nargs="+",
        default=[],
        metavar="CORPUS",
        help="in place of the recipe's: registered corpora, or a CSV with the columns path, emotion, speaker",
    )
    command.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        action="extend",
        help="override fields of the recipe",
    )
    command.add_argument("--data-dir", metavar="DIR", help="folder that holds the corpora, one folder each")
    command.add_argument("--runs-dir", metavar="DIR", help="where run folders go (default: runs)")


def add_timeline_options(command) -> None:
    own = command.add_argument_group("which emotion is heard when")
    own.add_argument(
        "--timeline",
        action="store_true",
        help="write FILE-timeline.csv and .png, and print what is heard when",
    )
    own.add_argument(
        "--window", type=float, metavar="S", help="seconds heard at once (default: as the recipe)"
    )
    own.add_argument(
        "--hop", type=float, metavar="S", help="seconds from one window to the next (default: 1)"
    )
    own.add_argument("--smoothing", type=float, metavar="S", help="seconds of memory; 0: none (default: 2)")
    own.add_argument(
        "--speech",
        choices=["energy", "silero", "none"],
        help="how speech is found: by loudness (default), by silero-vad, or all is taken for speech",
    )
    own.add_argument("--output", metavar="DIR", help="where the files go (default: the current folder)")


def add_own_split_options(command) -> None:
    own = command.add_argument_group(
        "a split of your own",
        "In place of a recipe: a folder that holds train/ and test/, or a CSV with the columns path and\n"
        "subset (train, validation, test), and if they are known label, speaker, sentence, corpus, fold\n"
        "and augmented_from. Or its parts, each a folder, a text file with one path a line, or a CSV:",
    )
    for subset in ("train", "test", "validation"):
        own.add_argument(
            f"--{subset}", metavar="DIR", help=f"the {subset} files: a folder, or a list of files"
        )
    command.add_argument(
        "--html", metavar="FILE", help="write the audit as a page (default: NAME-audit.html)"
    )
    command.add_argument("--fail", action="store_true", help="exit with status 1 if a red leak is found")


def recipe_of(options):
    from ser_lib.recipes import load_recipe

    return load_recipe(options.recipe, options.variant, overrides_of(options))


def overrides_of(options) -> list[str]:
    """The overrides one by one: `make` hands over all of SET as one text, "a=[1, 2] b=3"."""
    items = [item for text in options.set for item in re.split(r"\s+(?=[\w.]+\s*=)", text.strip())]
    if options.corpus:
        items.insert(0, f"corpora={as_list(options.corpus)}")
    for number, item in enumerate(items):
        key, _, value = item.partition("=")
        if key.strip() == "input.encoder" and Path(value.strip()).is_dir():  # notebooks run in another folder
            items[number] = f"input.encoder={Path(value.strip()).absolute()}"
        if key.strip() == "corpora" and re.search(r"\.[ct]sv\b", value, re.IGNORECASE):
            items[number] = f"corpora={lasting_corpora(value)}"
    return items


def lasting_corpora(value: str) -> str:
    """The value of `corpora=…`, each CSV by a name under which notebooks find it too."""
    import yaml

    from ser_lib.corpora import lasting_name

    try:
        names = yaml.safe_load(value)
    except yaml.YAMLError:
        return value  # told where the recipe is read
    return as_list([lasting_name(str(name)) for name in ([names] if isinstance(names, str) else names)])


def as_list(names: list[str]) -> str:
    """`[ravdess, my.csv]`: names as a list in YAML, on one line, quoted where they need it."""
    import yaml

    return yaml.safe_dump(names, default_flow_style=True, allow_unicode=True, width=10**6).strip()


def show_corpora(options) -> None:
    from ser_lib.corpora import CORPORA

    if options.names:
        from ser_lib.clips import load_clips

        clips = load_clips(options.names, options.data_dir)
        print(
            clips.pivot_table(
                index="corpus",
                columns="emotion",
                values="clip_id",
                aggfunc="count",
                fill_value=0,
                margins=True,
                margins_name="all",
            ).to_string()
        )
        return
    for corpus in CORPORA.values():
        source = f"kagglehub {corpus.handle}" if corpus.handle else corpus.folder
        print(
            f"{corpus.name:8} {corpus.clips:5} clips {corpus.speakers:3} speakers  {corpus.title}; {corpus.licence}; {source}"
        )


def prepare(options) -> None:
    from ser_lib import experiments, reading

    recipe = recipe_of(options)
    clips = experiments.clips_of(recipe, options.protocol, options.data_dir)
    split = experiments.split_of(recipe, clips, options.protocol, options.seed)
    inputs = reading.inputs_of(recipe, clips, options.protocol)
    print(split.groupby(["fold", "subset"])["clip_id"].count().unstack(fill_value=0).to_string())
    size = f"{len(inputs)} waveforms" if isinstance(inputs, list) else " × ".join(map(str, inputs.shape))
    print(f"inputs: {size} ({recipe.features_label}, {recipe.input_label})")


def train(options) -> None:
    from ser_lib import experiments, parallel
    from ser_lib.runs import describe_score, run_folder
    from ser_lib.unfinished import unfinished_folds

    recipe = recipe_of(options)
    folds = folds_of(options)
    run = experiments.train(
        recipe, options.protocol, options.seed, options.data_dir, options.runs_dir, folds=folds
    )
    if not parallel.is_first():
        return
    if run is None:
        missing = unfinished_folds(run_folder(recipe, options.protocol, options.seed, options.runs_dir))
        print(f"finished; the run still lacks fold {', '.join(map(str, missing))}")
        return
    overall = run.metrics["overall"]
    print(
        f"{run.recipe.folder_name}, {run.protocol}: UAR {describe_score(overall, 'uar')}, "
        f"accuracy {describe_score(overall, 'accuracy')}\n{run.folder}"
    )


def folds_of(options) -> list[int] | None:
    """`--folds 0,1` as numbers; None where it was not given."""
    if options.folds is None:
        return None
    try:
        return [int(fold) for fold in options.folds.split(",")]
    except ValueError as error:
        raise SerError(f"--folds expects numbers such as 0,1, not {options.folds!r}.") from error


def evaluate(options) -> None:
    from ser_lib.results import markdown, result_rows, update_results
    from ser_lib.runs import load_run, run_folder
    from ser_lib.unfinished import unfinished_folds

    recipe = recipe_of(options)
    folders = [run_folder(recipe, options.protocol, seed, options.runs_dir) for seed in options.seeds]
    for folder in folders:
        missing = unfinished_folds(folder)
        folds = ",".join(map(str, missing))
        if missing and folder.is_dir():
            print(
                f"ser: {folder} is scored as it was before; a newer run still lacks the folds {folds}",
                file=sys.stderr,
            )
        elif missing:
            raise SerError(
                f"{folder} still lacks the folds {folds}: train them with `ser train … --folds {folds}`, "
                "or all that are missing with `ser train …`."
            )
    runs = [load_run(folder) for folder in folders]
    for run in runs:
        if run.recipe != recipe:
            raise SerError(
                f"{run.folder} was trained with other settings ({run.recipe.variant_label}): "
                "give the same --variant and --set, or train it again."
            )
    rows = result_rows(runs)
    path = update_results(rows, options.reports_dir)
    print(f"{markdown(rows)}\n{path}")


def predict(options) -> None:
    import json

    from ser_lib.runs import load_run

    run = load_run(options.model)
    settings = timeline_settings(options)
    if options.timeline:
        show_timelines(run.predictor(fold_of(options)), options, settings)
        return
    table = run.predict(options.files, fold=fold_of(options))
    answered = table[table["error"] == ""]
    if options.json:
        for row in answered.to_dict("records"):
            told = {emotion: round(row[emotion], 6) for emotion in run.emotions}
            print(json.dumps({"path": row["path"], "emotion": row["emotion"], "probabilities": told}))
    elif len(answered):
        print(answered.drop(columns="error").round(3).to_string(index=False))
    if len(answered) < len(table):  # each was named already
        raise SerError(
            f"{len(table) - len(answered)} of {len(table)} files could not be answered, see above."
        )


def timeline_settings(options) -> dict:
    """What of the timeline's options was given, by the names that `ser_lib.timeline.timeline` has for it."""
    names = {
        "window": "window_seconds",
        "hop": "hop_seconds",
        "smoothing": "smoothing_seconds",
        "speech": "detector",
    }
    given = [option for option in [*names, "output"] if getattr(options, option) is not None]
    if given and not options.timeline:
        raise SerError(f"--{given[0]} is about a timeline: give --timeline with it.")
    return {names[option]: getattr(options, option) for option in given if option in names}


def show_timelines(predictor, options, settings: dict) -> None:
    import json

    from ser_lib.timeline import stretches, write_timelines

    bad = files = 0
    for path, table, csv in write_timelines(predictor, options.files, options.output or ".", **settings):
        files += 1
        if csv is None:
            bad += 1
            print(f"ser: {table}", file=sys.stderr)
        elif options.json:
            for row in table.to_dict("records"):
                told = {emotion: round(row[emotion], 6) for emotion in predictor.emotions}
                moment = {name: round(row[name], 6) for name in ("start", "end", "speech")}
                answer = {"emotion": row["emotion"], "probabilities": told if row["emotion"] else None}
                print(json.dumps({"path": str(path), **moment, **answer}))
        else:
            short = stretches(table).fillna({"emotion": "(no speech)"}).round(1)
            print(f"{path}\n{short.to_string(index=False)}\n{csv} {csv.with_suffix('.png')}\n")
    if bad:
        raise SerError(f"{bad} of {files} files could not be heard, see above.")


def score(options) -> None:
    from ser_lib import transfer
    from ser_lib.clips import load_clips
    from ser_lib.files import replacing
    from ser_lib.runs import load_run

    table = transfer.score_on(
        load_run(options.model), load_clips(options.corpora, options.data_dir), fold_of(options)
    )
    print(transfer.markdown(table))
    if options.csv:
        with replacing(Path(options.csv)) as part:
            table.to_csv(part, index=False, float_format="%.4f")
        print(options.csv)


def fold_of(options) -> int | str:
    """`--fold` as a number, or "all"."""
    if options.fold == "all":
        return "all"
    try:
        return int(options.fold)
    except ValueError as error:
        raise SerError(f'--fold expects a number or "all", not {options.fold!r}.') from error


def compare(options) -> None:
    from ser_lib.afterwards import describe_comparison
    from ser_lib.runs import load_run

    print(describe_comparison([load_run(folder) for folder in options.runs], options.shared))


def show_audit(options) -> None:
    from ser_lib.audit import audit, red_leaks
    from ser_lib.audit_page import unknown_red, write_page

    split, title, page = audited_split(options)
    table = audit(split)
    red = red_leaks(table)["leak"].tolist()
    print(table.drop(columns=["examples", "meaning"]).to_string(index=False))
    for row in table[table["clips"].ne(0).fillna(True)].itertuples():
        print(f"{row.leak}: {row.meaning}" + (f"\n  such as {row.examples}" if row.examples else ""))
    for note in split.attrs.get("notes", []):
        print(note)
    if page:
        print(f"page: {write_page(split, table, title, page)}")
    unknown = "" if red or not unknown_red(table) else f" (unknown: {', '.join(unknown_red(table))})"
    print(f"{'LEAKS' if red else 'clean'}{unknown}: {title}")
    if options.fail and red:
        raise SerError(f"{title} leaks: {', '.join(red)}.")


def audited_split(options):
    """The split to audit, its title, and where its page goes (None: nowhere, as long as it is not asked for)."""
    from ser_lib.recipes import recipe_names
    from ser_lib.user_splits import is_split, read_split, split_name

    parts = {"train": options.train, "test": options.test}
    given = options.recipe
    if any(parts.values()) or options.validation or (given not in recipe_names() and is_split(given or "")):
        split = read_split(given, **parts, validation=options.validation)
        title = split_name(given, **parts)
        return split, title, options.html or f"{title}-audit.html"
    if not given:
        raise SerError(
            "name a recipe, a CSV or a folder, such as `ser audit demo`, or give --train and --test."
        )
    from ser_lib import experiments

    recipe = recipe_of(options)
    clips = experiments.clips_of(recipe, options.protocol, options.data_dir)
    split = experiments.split_of(recipe, clips, options.protocol, options.seed)
    return split, f"{recipe.folder_name} under {options.protocol}", options.html


def report(options) -> None:
    from ser_lib.report import NOTEBOOKS, make_report, write_index

    if options.index:
        print(write_index(options.reports_dir))
        return
    if not options.recipe:
        raise SerError("name a recipe, such as `ser report demo`, or ask for the index alone with --index.")
    folder = make_report(
        options.recipe,
        options.protocol,
        options.seed,
        options.variant,
        overrides_of(options),
        data_dir=options.data_dir,
        runs_dir=options.runs_dir,
        reports_dir=options.reports_dir,
    )
    print("\nThe report is ready. Open in a browser:")
    for page in [*(folder / f"{name}.html" for name in NOTEBOOKS), folder.parents[1] / "index.html"]:
        print(f"  {page}")


def claims(options) -> None:
    from ser_lib.files import project_dir
    from ser_lib.report import make_claims_audit

    encoder = options.encoder
    if encoder and Path(encoder).is_dir():  # the notebook runs in another folder
        encoder = str(Path(encoder).absolute())
    # In small and on synthetic voices, it takes no place of the real one, and asks no network.
    places = {"runs_dir": options.runs_dir, "reports_dir": options.reports_dir}
    if options.bundled:
        places = {name: place or project_dir() / name[:-4] / "bundled" for name, place in places.items()}
        os.environ["HF_HUB_OFFLINE"] = "1"
    given = {"bundled": options.bundled, "encoder": encoder}
    for name, place in {"data_dir": options.data_dir, "runs_dir": places["runs_dir"]}.items():
        if place:
            given[name] = str(Path(place).expanduser().absolute())
    page = make_claims_audit(given, places["reports_dir"])
    print(f"\nThe audit is ready. Open in a browser:\n  {page}")


def show_results(options) -> None:
    from ser_lib import claims, transfer
    from ser_lib.results import markdown, read_results, results_path, write_into_readme
    from ser_lib.runs import read_table

    table = read_results(options.reports_dir)
    if options.readme:
        # Synthetic voices show that the chain works; a reader of the table looks for people's.
        write_into_readme(Path(options.readme), "results", markdown(table[table["corpus"] != "sample"]))
        write_into_readme(Path(options.readme), "claims", claims.markdown(claims.claims_table(table)))
        unheard = results_path(options.reports_dir).with_name("unheard.csv")
        if unheard.is_file():  # of `ser score … --csv reports/unheard.csv`
            write_into_readme(Path(options.readme), "unheard", transfer.markdown(read_table(unheard)))
    else:
        print(markdown(table))


def demo(options) -> None:
    import signal

    from ser_lib.demo import serve
    from ser_lib.runs import load_run

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no recording outlives `kill` either
    serve(load_run(options.model), options.port, not options.no_browser)


def export(options) -> None:
    import json

    from ser_lib.export import describe_int8, to_hub, to_onnx
    from ser_lib.runs import load_run

    run = load_run(options.model)
    # What was fetched lies in the Hub's cache, which is no place for what is made here.
    fetched = not Path(options.model).exists()
    default = Path(f"{Path(options.model).name}-{options.to}") if fetched else run.folder / options.to
    output = Path(options.output).expanduser() if options.output else default
    if options.to == "hub":
        if options.int8:
            raise SerError("--int8 is for --to onnx: transformers reads the model as it is.")
        folder = to_hub(run, output)
        print(f"{folder}\nlook through its README.md, then: hf upload USER/NAME {folder}")
        print(f'use it: load_run("{folder}"), and from the Hub load_run("USER/NAME")')
        return
    folder = to_onnx(run, output, options.int8, data_dir=options.data_dir)
    settings = json.loads((folder / "preprocessor.json").read_text(encoding="utf-8"))
    print(
        f"{folder}\nfloat32: {settings['megabytes']} MB, at most {settings['largest_difference']:.0e} away from PyTorch"
    )
    if options.int8:
        print(f"int8: {describe_int8(settings)}")
    print(f"use it, without PyTorch: python {folder / 'run_onnx.py'} my-voice.wav")


def bench(options) -> None:
    from ser_lib.bench import run_benchmarks

    run_benchmarks(options.encoder, options.corpus)


if __name__ == "__main__":
    sys.exit(main())
