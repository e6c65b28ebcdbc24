"""The command line, `ser …`: its commands, options and errors; what a command does stands in `commands`."""

import argparse
import os
import sys
from pathlib import Path

from ser_lib import commands
from ser_lib.common.errors import SerError

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
        return fail(f"{error.strerror or error}{where}. Nothing is left half-written; mend that and run it again.")
    except KeyboardInterrupt:
        resumes = options.run in (commands.train, commands.report, commands.claims)
        kept = " Finished folds are kept: the same command goes on from there." if resumes else ""
        print(f"\nser: stopped.{kept}", file=sys.stderr)
        return 130
    return 0


def fail(message: str) -> int:
    print(f"ser: {message}", file=sys.stderr)
    return 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ser", description="Speech emotion recognition; every number beside the protocol that made it."
    )
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name, function, summary):
        command = subparsers.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"examples:\n{EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=function)
        return command

    command = add("corpora", commands.show_corpora, "list the corpora, or load some and count their clips")
    command.add_argument("names", nargs="*", metavar="CORPUS", help="load and count these")
    command.add_argument("--data-dir", metavar="DIR", help="folder that holds the corpora, one folder each")

    for name, function, summary in (
        ("prepare", commands.prepare, "load the clips, split them, and compute the features into the store"),
        ("train", commands.train, "train and test every fold of a recipe, and write the run folder"),
        ("audit", commands.show_audit, "show what a split leaks: a recipe's under a protocol, or your own"),
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
    command = add("evaluate", commands.evaluate, "score finished runs and put their row into reports/results.csv")
    add_experiment_options(command, seed=False)
    command.add_argument("--seeds", nargs="+", type=int, default=[0], help="the runs' seeds (default: 0)")
    command.add_argument("--reports-dir", metavar="DIR", help="where results.csv lies (default: reports)")
    command = add("predict", commands.predict, "say which emotion is heard in recordings, by a finished run")
    add_run(command)
    command.add_argument("files", nargs="+", metavar="FILE", help="audio files, or folders of them")
    command.add_argument("--json", action="store_true", help="one line of JSON a file in place of the table")
    add_fold(command)
    add_timeline_options(command)
    command = add("score", commands.score, "score a finished run on corpora that it never heard, emotion by emotion")
    add_run(command)
    command.add_argument(
        "corpora",
        nargs="+",
        metavar="CORPUS",
        help="registered corpora, or a CSV with the columns path, emotion, speaker",
    )
    add_fold(command)
    command.add_argument("--data-dir", metavar="DIR", help="folder that holds the corpora, one folder each")
    command.add_argument("--csv", metavar="FILE", help="write the table there as well")
    command = add("compare", commands.compare, "compare finished runs on the same test clips: which is better?")
    command.add_argument("runs", nargs="+", metavar="RUN", help="run folders, two or more: all pairs of them")
    command.add_argument(
        "--shared", action="store_true", help="where test clips differ, compare on those that all runs share"
    )
    command = add(
        "report", commands.report, "execute the notebooks for a recipe and write their HTML pages and the index"
    )
    add_experiment_options(command, optional=True)
    command.add_argument("--reports-dir", metavar="DIR", help="where the pages go (default: reports)")
    command.add_argument("--index", action="store_true", help="write only the index page over what is there")
    command = add(
        "claims", commands.claims, "measure every published claim again, leak by leak, and write the claims audit"
    )
    command.add_argument(
        "--encoder", help="read this one in place of the recipes' pretrained encoders, which cannot be had"
    )
    command.add_argument("--bundled", action="store_true", help="in small, on the bundled corpus alone")
    command.add_argument("--data-dir", metavar="DIR", help="folder that holds the corpora, one folder each")
    command.add_argument("--runs-dir", metavar="DIR", help="where run folders go (default: runs)")
    command.add_argument("--reports-dir", metavar="DIR", help="where the page goes (default: reports)")
    command = add(
        "results", commands.show_results, "print the table of results as Markdown, or write it into the README"
    )
    command.add_argument("--readme", metavar="FILE", help="replace the table between this file's markers")
    command.add_argument("--reports-dir", metavar="DIR", help="where results.csv lies (default: reports)")
    command = add("demo", commands.demo, "serve a page on this computer that answers a voice, by a finished run")
    add_run(command)
    command.add_argument("--port", type=int, help="of 127.0.0.1 (default: the first that is free from 7860)")
    command.add_argument("--no-browser", action="store_true", help="do not open the page, only print its address")
    command = add(
        "export", commands.export, "write a finished run's model as ONNX, or as a folder for the Hugging Face Hub"
    )
    add_run(command)
    command.add_argument("--to", required=True, choices=["onnx", "hub"], help="onnx: runs without PyTorch")
    command.add_argument("--int8", action="store_true", help="onnx: a smaller model too, and what it loses, measured")
    command.add_argument("--output", metavar="DIR", help="the folder to write (default: onnx or hub in the run folder)")
    command.add_argument("--data-dir", metavar="DIR", help="folder that holds the corpora, one folder each")
    command = add("bench", commands.bench, "measure feature extraction, embedding, the store, training and streams")
    command.add_argument(
        "--encoder", help="embed with this one (default: $SER_WHISPER_BASE, else one of random weights)"
    )
    command.add_argument("--corpus", default="sample", help="clips to embed (default: the bundled corpus)")
    return parser


def add_run(command) -> None:
    command.add_argument("model", metavar="RUN", help="a run folder, or the name of one on the Hugging Face Hub")


def add_fold(command) -> None:
    command.add_argument(
        "--fold", default="0", metavar="K", help='whose model: a number, or "all" for their mean (default: 0)'
    )


def add_experiment_options(command, seed: bool = True, optional: bool = False) -> None:
    command.add_argument("recipe", nargs="?" if optional else None, help="a recipe's name, or your own recipe.yaml")
    command.add_argument("--protocol", default="speaker", help="how train and test are split (default: speaker)")
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
        "--set", nargs="+", default=[], metavar="KEY=VALUE", action="extend", help="override fields of the recipe"
    )
    command.add_argument("--data-dir", metavar="DIR", help="folder that holds the corpora, one folder each")
    command.add_argument("--runs-dir", metavar="DIR", help="where run folders go (default: runs)")


def add_timeline_options(command) -> None:
    own = command.add_argument_group("which emotion is heard when")
    own.add_argument(
        "--timeline", action="store_true", help="write FILE-timeline.csv and .png, and print what is heard when"
    )
    own.add_argument("--window", type=float, metavar="S", help="seconds heard at once (default: as the recipe)")
    own.add_argument(
        "--hop", type=float, metavar="S", help="seconds from one window to the next (default: 1, or the window)"
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
        own.add_argument(f"--{subset}", metavar="DIR", help=f"the {subset} files: a folder, or a list of files")
    command.add_argument(
        "--html",
        metavar="FILE",
        help="write the audit as a page (default: NAME-audit.html of your own split, none of a recipe)",
    )
    command.add_argument("--fail", action="store_true", help="exit with status 1 if a red leak is found")


if __name__ == "__main__":
    sys.exit(main())
