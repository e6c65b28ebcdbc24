"""Write a run as a folder for the Hugging Face Hub: model, recipe, split, predictions and a model card.

    to_hub(load_run("runs/demo/speaker/0"), "demo-hub")
    # then, with an account of the Hub: hf upload USER/NAME demo-hub
    load_run("USER/NAME").predict("my-voice.wav")

The folder holds the files of the run folder and the model that answers, whose files lie beside the others: there
`pipeline("audio-classification", model="USER/NAME")` looks for them.
"""

import shutil
from math import isnan
from pathlib import Path

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


def to_hub(run: Run, folder: str | Path) -> Path:
    """Write and return a folder for the Hub, which `ser_lib.load_run` reads from there or from disk.

    Raises:
        SerError: the model is missing, or the folder holds other files.
    """
    model = model_folder(run.folder)
    files = [name for name in MODEL_FILES if (model / name).is_file()]
    if missing := {"config.json", "model.safetensors"}.difference(files):
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
    test_clips = run.test_clips()
    speakers, corpora = test_clips["speaker"], test_clips["corpus"]
    by_sex = by_group(run.predictions, test_clips["sex"].fillna("unknown"), speakers, corpora).sort_index()
    by_emotion = by_group(run.predictions, run.predictions["truth"], speakers, corpora)
    by_emotion = by_emotion.loc[[emotion for emotion in run.emotions if emotion in by_emotion.index]]
    loader = jinja2.FileSystemLoader(Path(__file__).parents[1] / "reports" / "templates" / "hub")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return environment.get_template("README.md.j2").render(
        run=run,
        metadata=card_data(run),
        model_card=model_card(run),
        protocol_about=get_protocol(run.protocol).about,
        by_sex=by_sex.reset_index().to_dict("records"),
        by_emotion=by_emotion.reset_index().to_dict("records"),
        corpora={name: known_corpus(name) for name in run.environment["corpora"]},
        encoder=run.recipe.features_label if run.recipe.reads_encoder else None,
    )


def card_data(run: Run) -> ModelCardData:
    """The metadata of a `shareable` run for the Hub: what it is, and its scores, each with its protocol."""
    encoder = run.recipe.features_label if run.recipe.reads_encoder else None  # None: it reads MFCC
    results = []
    for name, scores in run.metrics["by_corpus"].items():
        corpus = known_corpus(name)
        title = f"{corpus.title if corpus else name}, protocol {run.protocol}"
        dataset = {"dataset_type": name, "dataset_name": title, "dataset_config": run.protocol, "dataset_split": "test"}
        task = {"task_type": "audio-classification", "task_name": "Speech emotion recognition"}
        for score, (metric, metric_title) in METRICS.items():
            metadata = {"metric_type": metric, "metric_name": metric_title, "metric_value": round(scores[score], 4)}
            interval = [round(scores[f"{score}_{end}"], 4) for end in ("low", "high")]
            arguments: dict = {} if isnan(interval[0]) else {"interval_95": interval}
            arguments |= {"interval_over": scores["interval_over"]}
            arguments |= {} if score == "accuracy" else {"average": "macro"}
            results.append(EvalResult(**task, **dataset, **metadata, metric_args=arguments))
    licences = {corpus.licence if corpus else None for corpus in map(known_corpus, run.environment["corpora"])}
    if encoder is None and licences == {"CC0 1.0"}:
        licence = {"license": "cc0-1.0"}
    else:  # terms of several owners, for which the Hub has no identifier
        licence = {"license": "other", "license_name": "corpora-and-encoder-terms", "license_link": "README.md#licence"}
    return ModelCardData(
        library_name="transformers" if run.recipe.create_model().is_stock_checkpoint else "ser-lib",
        pipeline_tag="audio-classification",
        tags=["speech-emotion-recognition", "emotion-recognition", "speech", "ser-lib", f"protocol-{run.protocol}"],
        datasets=list(run.environment["corpora"]),
        # Others can follow a name of the Hub only.
        base_model=encoder if encoder and "/" in encoder else None,
        metrics=[metric for metric, _ in METRICS.values()],
        model_name=f"{run.recipe.folder_name}, {run.protocol}",
        eval_results=results,
        **licence,
    )
