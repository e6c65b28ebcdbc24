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
    "train": "ser train demo\nser train tess-mfcc-lstm --protocol published --set training.epochs=50\n"
    "ser train ravdess-wav2vec2-frozen-mlp --set input.encoder=~/models/whisper-base\n"
    "ser train four-corpora-xlsr53-finetune --folds 0,1\n"
    "accelerate launch -m ser_lib train tess-wav2vec2-finetune",
    "evaluate": "ser evaluate tess-mfcc-lstm --protocol speaker --seeds 0 1 2",
    "compare": "ser compare runs/demo/speaker/0 runs/demo/speaker/1\nser compare RUN RUN RUN --shared",
    "audit": "ser audit tess-mfcc-cnn --protocol published\nser audit my-split.csv --html my-audit.html\n"
    "ser audit data/ --fail\nser audit --train data/a --test test-files.txt",
    "report": "ser report demo\nser report tess-mfcc-cnn --protocol speaker\nser report --index",
    "claims": "ser claims --bundled\nser claims --encoder openai/whisper-base",
    "results": "ser results\nser results --readme README.md",
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
    command = add("bench", bench, "measure feature extraction, embedding, the store and training")
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
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        action="extend",
        help="override fields of the recipe",
    )
    command.add_argument("--data-dir", metavar="DIR", help="folder that holds the corpora, one folder each")
    command.add_argument("--runs-dir", metavar="DIR", help="where run folders go (default: runs)")


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
    for number, item in enumerate(items):
        key, _, value = item.partition("=")
        if key.strip() == "input.encoder" and Path(value.strip()).is_dir():  # notebooks run in another folder
            items[number] = f"input.encoder={Path(value.strip()).absolute()}"
    return items


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
    from ser_lib import experiments

    recipe = recipe_of(options)
    clips = experiments.clips_of(recipe, options.protocol, options.data_dir)
    split = experiments.split_of(recipe, clips, options.protocol, options.seed)
    inputs = experiments.inputs_of(recipe, clips, options.protocol)
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
    from ser_lib import claims
    from ser_lib.results import markdown, read_results, write_into_readme

    table = read_results(options.reports_dir)
    if options.readme:
        # Synthetic voices show that the chain works; a reader of the table looks for people's.
        write_into_readme(Path(options.readme), "results", markdown(table[table["corpus"] != "sample"]))
        write_into_readme(Path(options.readme), "claims", claims.markdown(claims.claims_table(table)))
    else:
        print(markdown(table))


def bench(options) -> None:
    from ser_lib.bench import run_benchmarks

    run_benchmarks(options.encoder, options.corpus)


if __name__ == "__main__":
    sys.exit(main())
