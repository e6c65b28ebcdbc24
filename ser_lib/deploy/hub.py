"""A run as a folder for the Hugging Face Hub: model, recipe, split and predictions, and a card that says it all.

    to_hub(load_run("runs/demo/speaker/0"), "demo-hub")
    # then, with one's own account: hf upload USER/NAME demo-hub
    load_run("USER/NAME").predict("my-voice.wav")

The folder holds what the run folder does, but for the models of other folds than the first, whose files lie beside the
others: there `pipeline("audio-classification", model="USER/NAME")` looks for them.
"""

import shutil
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from ser_lib.common.errors import SerError
from ser_lib.common.files import whole_folder
from ser_lib.corpora import known_corpus
from ser_lib.evaluation.metrics import by_group
from ser_lib.inference.model_card import card_of, shareable
from ser_lib.inference.run import FILES, MODEL_FILES, Run, model_folder
from ser_lib.protocols.splits import get_protocol
from ser_lib.recipes import dump_recipe

METRICS = {  # of ours: the Hub's name, and that of its results
    "accuracy": ("accuracy", "Accuracy"),
    "uar": ("recall", "UAR (unweighted average recall, balanced accuracy)"),
    "macro_f1": ("f1", "Macro F1"),
}
PLACEHOLDER = "USER/NAME"


def to_hub(run: Run, folder: str | Path) -> Path:
    """Write a folder for `huggingface_hub.upload_folder` that `ser_lib.load_run` reads, there and here.

    Returns:
        the folder.

    Raises:
        SerError: the first fold's model is missing, or the folder holds something else already.
    """
    model = model_folder(run.folder, 0)
    files = [name for name in MODEL_FILES if (model / name).is_file()]
    missing = {"config.json", "model.safetensors"}.difference(files)
    if missing:
        raise SerError(f"{model} holds no saved model: {min(missing)} is missing. Train the run again.")
    run = shareable(run)
    with whole_folder(Path(folder), (*FILES, *MODEL_FILES, "README.md")) as part:
        for name in files:
            shutil.copy(model / name, part)
        for name in FILES:
            shutil.copy(run.folder / name, part)
        (part / "recipe.yaml").write_text(dump_recipe(run.recipe), encoding="utf-8")
        (part / "README.md").write_text(_readme(run), encoding="utf-8")
    return Path(folder)


def _readme(run: Run) -> str:
    """The run's model card behind the Hub's metadata, with results by group, licences and how to use it."""
    parts = [f"---\n{card_data(run).to_yaml()}\n---", "", card_of(run)]
    parts += ["## Intended use", "", *_intended_use(run), ""]
    parts += ["## Results by sex and by emotion", "", *_results(run), ""]
    parts += ["## Licence", "", *_licence(run), ""]
    parts += ["## How to use", "", *_how_to_use(run), ""]
    return "\n".join(parts)


def card_data(run: Run) -> ModelCardData:
    """The Hub's metadata of a run that is `shareable`: what it is, and its scores, each with its protocol."""
    by_transformers, encoder = run.recipe.model.name == "finetune", _encoder(run)
    return ModelCardData(
        library_name="transformers" if by_transformers else "ser-lib",
        pipeline_tag="audio-classification",
        tags=["speech-emotion-recognition", "emotion-recognition", "speech", "ser-lib", f"protocol-{run.protocol}"],
        datasets=list(run.environment["corpora"]),
        # Only a name of the Hub is one that others can follow.
        base_model=encoder if encoder and "/" in encoder else None,
        metrics=[metric for metric, _ in METRICS.values()],
        model_name=f"{run.recipe.folder_name}, {run.protocol}",
        eval_results=_eval_results(run),
        **_licence_data(run),
    )


def _eval_results(run: Run) -> list[EvalResult]:
    results = []
    for name, scores in run.metrics["by_corpus"].items():
        corpus = known_corpus(name)
        for ours, (metric, title) in METRICS.items():
            interval = [round(scores[f"{ours}_{end}"], 4) for end in ("low", "high")]
            results.append(
                EvalResult(
                    task_type="audio-classification",
                    task_name="Speech emotion recognition",
                    dataset_type=name,
                    dataset_name=f"{corpus.title if corpus else name}, protocol {run.protocol}",
                    dataset_config=run.protocol,
                    dataset_split="test",
                    metric_type=metric,
                    metric_name=title,
                    metric_value=round(scores[ours], 4),
                    metric_args={"interval_95": interval, "interval_over": scores["interval_over"]}
                    | ({} if ours == "accuracy" else {"average": "macro"}),
                )
            )
    return results


def _encoder(run: Run) -> str | None:
    """Name of the pretrained encoder, None of a model that reads MFCC."""
    return None if run.recipe.input.encoder == "mfcc" else run.recipe.features_label


def _licence_data(run: Run) -> dict[str, str]:
    """CC0 where nothing else went into the model; else terms that no single identifier of the Hub describes."""
    licences = [corpus.licence if corpus else None for corpus in map(known_corpus, run.environment["corpora"])]
    if set(licences) == {"CC0 1.0"} and _encoder(run) is None:
        return {"license": "cc0-1.0"}
    return {"license": "other", "license_name": "corpora-and-encoder-terms", "license_link": "README.md#licence"}


def _licence(run: Run) -> list[str]:
    lines = []
    for name in run.environment["corpora"]:
        corpus = known_corpus(name)
        told = f"{corpus.title}: {corpus.licence}" if corpus else f"{name}: not known here"
        lines.append(f"- Learned from {told}.{f' {corpus.url}' if corpus and corpus.url else ''}")
    encoder = _encoder(run)
    if encoder:
        where = f" https://huggingface.co/{encoder}" if "/" in encoder else ""
        lines.append(f"- The encoder {encoder} keeps the licence under which it was published.{where}")
    if _licence_data(run)["license"] == "cc0-1.0":
        return [*lines, "", "Nothing else went into this model: it is dedicated to the public domain, CC0 1.0."]
    return [
        *lines,
        "",
        "Whether a model must follow the terms of the recordings that it learned from is not settled law, and differs by "
        "country. To be careful, use it only as all of these terms allow: where one of them forbids commercial use, or "
        "asks for the same licence, not otherwise.",
    ]


def _intended_use(run: Run) -> list[str]:
    return [
        "For research on speech emotion recognition: to compare with other models under the same protocol "
        f"(`{run.protocol}`: {get_protocol(run.protocol).about}), to study what such a model hears, and to teach.",
        "",
        "It must not be used to judge people: not in hiring, at work, in schools, in policing or at borders, in insurance "
        "or credit, nor to diagnose. In the European Union, inferring emotions at work and in education is prohibited, but "
        "for medical or safety reasons (Regulation 2024/1689, Article 5). Nor should anybody be recorded for it without knowing and agreeing.",
    ]


def _results(run: Run) -> list[str]:
    tested = run.test_clips()
    sexes = by_group(run.predictions, tested["sex"].fillna("unknown"), tested["speaker"])
    lines = ["| sex | test clips | UAR | accuracy |", "|---|---|---|---|"]
    for row in sexes.sort_index().itertuples():
        lines.append(
            f"| {row.Index} | {row.n_test} | {_with_interval(row, 'uar')} | {_with_interval(row, 'accuracy')} |"
        )
    emotions = by_group(run.predictions, run.predictions["truth"], tested["speaker"])
    lines += ["", "| emotion | test clips | recall |", "|---|---|---|"]
    for row in emotions.loc[[name for name in run.emotions if name in emotions.index]].itertuples():
        # Among clips of one emotion, accuracy is its recall.
        lines.append(f"| {row.Index} | {row.n_test} | {_with_interval(row, 'accuracy')} |")
    folds = run.split["fold"].nunique()
    whose = f" The scores are those of {folds} models, one a fold; this one is the first's." if folds > 1 else ""
    return [*lines, "", f"With 95 % intervals; † marks those over clips, which are too narrow.{whose}"]


def _with_interval(row, name: str) -> str:
    score, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
    return f"{score:.3f} ({low:.3f} to {high:.3f}){'' if row.interval_over == 'speakers' else '†'}"


def _how_to_use(run: Run) -> list[str]:
    lines = [
        "```python",
        "from ser_lib import load_run",
        "",
        f'load_run("{PLACEHOLDER}").predict(["my-voice.wav"])  # audio is prepared as in training',
        "```",
    ]
    if run.recipe.input.encoder == "mfcc":
        return [*lines, "", "It reads MFCC, so transformers' `pipeline` does not know it."]
    known = [] if run.recipe.model.name == "finetune" else ["import ser_lib  # makes transformers know the model"]
    return [
        *lines,
        "",
        "Or by transformers, of a mono waveform that was prepared as **Audio** above says:",
        "",
        "```python",
        *known,
        "from transformers import pipeline",
        "",
        f'pipeline("audio-classification", model="{PLACEHOLDER}")(waveform)',
        "```",
    ]
