"""What each command of `ser` does with its options; nothing heavy is imported before it is used."""

import os
import re
import sys
from pathlib import Path

from ser_lib.common.errors import SerError


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
        from ser_lib.corpora.clips import load_clips

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
    from ser_lib.recipes.inputs import clips_of, inputs_of, split_of

    recipe = recipe_of(options)
    clips = clips_of(recipe, options.protocol, options.data_dir)
    split = split_of(recipe, clips, options.protocol, options.seed)
    inputs = inputs_of(recipe, clips, options.protocol)
    print(split.groupby(["fold", "subset"])["clip_id"].count().unstack(fill_value=0).to_string())
    size = f"{len(inputs)} waveforms" if isinstance(inputs, list) else " × ".join(map(str, inputs.shape))
    print(f"inputs: {size} ({recipe.features_label}, {recipe.input_label})")


def train(options) -> None:
    from ser_lib.common import distributed
    from ser_lib.inference.model_card import describe_score
    from ser_lib.inference.run import run_folder
    from ser_lib.training import experiment
    from ser_lib.training.resume import unfinished_folds

    recipe = recipe_of(options)
    folds = folds_of(options)
    run = experiment.train(recipe, options.protocol, options.seed, options.data_dir, options.runs_dir, folds=folds)
    if not distributed.is_first():
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
    from ser_lib.evaluation.results import markdown, result_rows, update_results
    from ser_lib.inference.run import load_run, run_folder
    from ser_lib.training.resume import unfinished_folds

    recipe = recipe_of(options)
    folders = [run_folder(recipe, options.protocol, seed, options.runs_dir) for seed in options.seeds]
    for folder in folders:
        missing = unfinished_folds(folder)
        folds = ",".join(map(str, missing))
        if missing and folder.is_dir():
            print(
                f"ser: {folder} is scored as it was before; a newer run still lacks the folds {folds}", file=sys.stderr
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

    from ser_lib.inference.run import load_run

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
        print(answered.drop(columns="error").to_string(index=False, float_format="%.3f"))
    if len(answered) < len(table):  # each was named already
        raise SerError(f"{len(table) - len(answered)} of {len(table)} files could not be answered, see above.")


def timeline_settings(options) -> dict:
    """What of the timeline's options was given, by the names that `ser_lib.inference.streaming.timeline` has for it."""
    names = {"window": "window_seconds", "hop": "hop_seconds", "smoothing": "smoothing_seconds", "speech": "detector"}
    given = [option for option in [*names, "output"] if getattr(options, option) is not None]
    if given and not options.timeline:
        raise SerError(f"--{given[0]} is about a timeline: give --timeline with it.")
    return {names[option]: getattr(options, option) for option in given if option in names}


def show_timelines(predictor, options, settings: dict) -> None:
    import json

    from ser_lib.inference.streaming import stretches
    from ser_lib.reports.timelines import write_timelines

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
    from ser_lib.common.files import replacing
    from ser_lib.corpora.clips import load_clips
    from ser_lib.evaluation import unseen_corpora
    from ser_lib.inference.run import load_run

    table = unseen_corpora.score_on(
        load_run(options.model), load_clips(options.corpora, options.data_dir), fold_of(options)
    )
    print(unseen_corpora.markdown(table))
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
    from ser_lib.evaluation.run_analysis import describe_comparison
    from ser_lib.inference.run import load_run

    print(describe_comparison([load_run(folder) for folder in options.runs], options.shared))


def show_audit(options) -> None:
    from ser_lib.protocols.leak_audit import audit, red_leaks
    from ser_lib.reports.audit_page import unknown_red, write_page

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
    from ser_lib.protocols.user_split import is_split, read_split, split_name
    from ser_lib.recipes import recipe_names

    parts = {"train": options.train, "test": options.test}
    given = options.recipe
    if any(parts.values()) or options.validation or (given not in recipe_names() and is_split(given or "")):
        split = read_split(given, **parts, validation=options.validation)
        title = split_name(given, **parts)
        return split, title, options.html or f"{title}-audit.html"
    if not given:
        raise SerError("name a recipe, a CSV or a folder, such as `ser audit demo`, or give --train and --test.")

    from ser_lib.recipes.inputs import clips_of, split_of

    recipe = recipe_of(options)
    clips = clips_of(recipe, options.protocol, options.data_dir)
    split = split_of(recipe, clips, options.protocol, options.seed)
    return split, f"{recipe.folder_name} under {options.protocol}", options.html


def report(options) -> None:
    from ser_lib.reports.build import NOTEBOOKS, make_report, write_index

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
    from ser_lib.common.files import project_dir
    from ser_lib.reports.build import make_claims_audit

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
    from ser_lib.evaluation.results import markdown, read_results
    from ser_lib.reports.doc_tables import fill_tables

    if options.readme:
        fill_tables(Path(options.readme), options.reports_dir)
    else:
        print(markdown(read_results(options.reports_dir)))


def demo(options) -> None:
    import signal

    from ser_lib.deploy.demo import serve
    from ser_lib.inference.run import load_run

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no recording outlives `kill` either
    serve(load_run(options.model), options.port, not options.no_browser)


def export(options) -> None:
    import json

    from ser_lib.deploy import describe_int8, to_hub, to_onnx
    from ser_lib.inference.run import load_run

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
    print(
        f"use it where there is no PyTorch: python {folder / 'run_onnx.py'} my-voice.wav\n"
        f"what it needs there is in {folder / 'README.md'}"
    )


def bench(options) -> None:
    from ser_lib.bench import run_benchmarks

    run_benchmarks(options.encoder, options.corpus)
