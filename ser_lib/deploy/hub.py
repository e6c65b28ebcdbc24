"""Write a run as a folder for the Hugging Face Hub: model, recipe, split, predictions and a model card.

    to_hub(load_run("runs/demo/speaker/0"), "demo-hub")
    # then, with an account of the Hub: hf upload USER/NAME demo-hub
    load_run("USER/NAME").predict("my-voice.wav")

The folder holds the files of the run folder and the model of the first fold, whose files lie beside the others: there
`pipeline("audio-classification", model="USER/NAME")` looks for them.
"""

import shutil
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from ser_lib.common.errors import SerError
from ser_lib.common.files import whole_folder
from ser_lib.corpora import known_corpus
from ser_lib.evaluation.metrics import by_group
from ser_lib.inference.model_card import model_card, shareable
from ser_lib.inference.run import FILES, MODEL_FILES, Run, model_folder
from ser_lib.protocols.splits import get_protocol
from ser_lib.recipes import dump_recipe

METRICS = {  # our name: the name of the metric on the Hub, and the title of a result
    "accuracy": ("accuracy", "Accuracy"),
    "uar": ("recall", "UAR (unweighted average recall, balanced accuracy)"),
    "macro_f1": ("f1", "Macro F1"),
}
TEMPLATES = Path(__file__).parents[1] / "reports" / "templates" / "hub"


def to_hub(run: Run, folder: str | Path) -> Path:
    """Write a folder for `huggingface_hub.upload_folder`, which `ser_lib.load_run` reads from the Hub or from disk.

    Returns:
        the folder.

    Raises:
        SerError: the model of the first fold is missing, or the folder holds other files.
    """
    model = model_folder(run.folder, 0)
    files = [name for name in MODEL_FILES if (model / name).is_file()]
    missing = {"config.json", "model.safetensors"}.difference(files)
    if missing:
        raise SerError(f"{model} holds no saved model: {min(missing)} is missing. Train the run again.")
    run = shareable(run)
    with whole_folder(Path(folder), (*FILES, *MODEL_FILES, "README.md")) as part:
        for path in [*(model / name for name in files), *(run.folder / name for name in FILES)]:
            shutil.copy(path, part)
        (part / "recipe.yaml").write_text(dump_recipe(run.recipe), encoding="utf-8")
        (part / "README.md").write_text(_readme(run), encoding="utf-8")
    return Path(folder)


def _readme(run: Run) -> str:
    """Render the model card of a run for the Hub: metadata, results by group, licences and how to use it."""
    test_clips, metadata = run.test_clips(), card_data(run)
    by_sex = by_group(run.predictions, test_clips["sex"].fillna("unknown"), test_clips["speaker"])
    by_emotion = by_group(run.predictions, run.predictions["truth"], test_clips["speaker"])
    by_emotion = by_emotion.loc[[emotion for emotion in run.emotions if emotion in by_emotion.index]]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("README.md.j2").render(
        run=run,
        metadata=metadata.to_yaml(),
        model_card=model_card(run),
        protocol_about=get_protocol(run.protocol).about,
        by_sex=by_sex.sort_index().reset_index().to_dict("records"),
        by_emotion=by_emotion.reset_index().to_dict("records"),
        n_folds=run.split["fold"].nunique(),
        corpora={name: known_corpus(name) for name in run.environment["corpora"]},
        encoder=_encoder(run),
        is_free=metadata.license == "cc0-1.0",
        is_transformers_class=metadata.library_name == "transformers",
    )


def card_data(run: Run) -> ModelCardData:
    """The metadata of a `shareable` run for the Hub: what it is, and its scores, each with its protocol."""
    by_transformers, encoder = run.recipe.create_model().is_stock_checkpoint, _encoder(run)
    licences = {corpus.licence if corpus else None for corpus in map(known_corpus, run.environment["corpora"])}
    if encoder is None and licences == {"CC0 1.0"}:
        licence = {"license": "cc0-1.0"}
    else:  # terms of several owners, for which the Hub has no identifier
        licence = {"license": "other", "license_name": "corpora-and-encoder-terms", "license_link": "README.md#licence"}
    return ModelCardData(
        library_name="transformers" if by_transformers else "ser-lib",
        pipeline_tag="audio-classification",
        tags=["speech-emotion-recognition", "emotion-recognition", "speech", "ser-lib", f"protocol-{run.protocol}"],
        datasets=list(run.environment["corpora"]),
        # Others can follow a name of the Hub only.
        base_model=encoder if encoder and "/" in encoder else None,
        metrics=[metric for metric, _ in METRICS.values()],
        model_name=f"{run.recipe.folder_name}, {run.protocol}",
        eval_results=[
            _eval_result(run.protocol, corpus, scores, name)
            for corpus, scores in run.metrics["by_corpus"].items()
            for name in METRICS
        ],
        **licence,
    )


def _eval_result(protocol: str, corpus_name: str, scores: dict[str, Any], name: str) -> EvalResult:
    """One score of `METRICS` on one test corpus, in the form of the Hub."""
    corpus, (metric, title) = known_corpus(corpus_name), METRICS[name]
    interval = [round(scores[f"{name}_{end}"], 4) for end in ("low", "high")]
    average = {} if name == "accuracy" else {"average": "macro"}
    return EvalResult(
        task_type="audio-classification",
        task_name="Speech emotion recognition",
        dataset_type=corpus_name,
        dataset_name=f"{corpus.title if corpus else corpus_name}, protocol {protocol}",
        dataset_config=protocol,
        dataset_split="test",
        metric_type=metric,
        metric_name=title,
        metric_value=round(scores[name], 4),
        metric_args={"interval_95": interval, "interval_over": scores["interval_over"]} | average,
    )


def _encoder(run: Run) -> str | None:
    """Name of the pretrained encoder; None for a model that reads MFCC."""
    return run.recipe.features_label if run.recipe.reads_encoder else None
