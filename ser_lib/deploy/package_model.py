"""Make the model that comes with the package from a run of `speech-emotion`: `make model`.

ser_lib/inference/speech_emotion/
    model.onnx      waveform, mean and count of the speaker's clips in; probabilities, features and is_speech out: see
                    `ser_lib.models.onnx_graphs`. The matrices of its encoder have 8-bit integers.
    settings.json   what `ser_lib.inference.packaged` needs, and the scores for model card and page
    answers.csv     what the model answers on some clips, for the tests
    README.md       the model card; its tables are filled by `make tables`
    LICENSE         of Whisper, whose encoder is part of the model
"""

import json
import shutil
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ser_lib.common.errors import SerError
from ser_lib.common.files import file_hash, read_json, whole_folder, write_text
from ser_lib.corpora import get_corpus
from ser_lib.corpora.clips import load_clips
from ser_lib.deploy import onnx_int8
from ser_lib.deploy.onnx import to_onnx
from ser_lib.evaluation.comparison import compare
from ser_lib.evaluation.metrics import by_group, predictions_table
from ser_lib.evaluation.results import by_speaker, markdown_table, score_cell
from ser_lib.inference.model_card import NOT_FOR, describe_certainty, describe_score
from ser_lib.inference.packaged import FILES, FOLDER, PackagedPredictor
from ser_lib.inference.run import Run
from ser_lib.protocols.splits import get_protocol
from ser_lib.recipes import load_recipe
from ser_lib.recipes.inputs import clips_of
from ser_lib.reports.doc_tables import fill_tables

RECIPE = "speech-emotion"
# Clips of each corpus whose answers are kept for the tests.
N_ANSWERS = 24
# Of a batch of the model, for the progress bar.
AT_ONCE = 32


def make_model(
    run: Run, folder: Path = FOLDER, data_dir: str | Path | None = None, reports_dir: str | Path | None = None
) -> Path:
    """Write the folder of the model that comes with the package from the model that answers for a run.

    Args:
        run: of the recipe `speech-emotion`; its encoder may be a local copy of the recipe's own.
        data_dir: as of `ser_lib.load_clips`.

    Raises:
        SerError: the run is of another recipe or answers with the model of a fold, or a clip is missing.
    """
    stated = load_recipe(RECIPE)
    settled = {"encoder": stated.input.encoder, "revision": stated.input.revision}
    same_input = run.recipe.input.model_copy(update=settled)
    if run.recipe.model_copy(update={"input": same_input, "overrides": ()}) != stated or not run.answers_for_all:
        raise SerError(
            f"{run.folder} has other settings than the recipe {RECIPE}: `ser train {RECIPE}` makes a run of it."
        )
    with whole_folder(folder, FILES) as part, TemporaryDirectory() as other:
        export = to_onnx(run, Path(other) / "export")
        onnx_int8.write(export)
        shutil.copy(export / "model.int8.onnx", part / "model.onnx")
        shutil.copy(FOLDER / "LICENSE", part)
        exported = read_json(export / "preprocessor.json")
        settings = _settings(run, exported | settled, part)
        # The predictor reads them.
        _write_settings(settings, part)
        predictor = PackagedPredictor(part)
        clips = clips_of(stated, run.protocol, data_dir)
        settings["int8"] = _int8_scores(run, predictor, clips)
        _write_settings(settings, part)
        samples = [clips[clips["corpus"] == corpus] for corpus in settings["corpora"]]
        _write_answers(predictor, [load_clips("sample", progress=False), *samples], part)
        write_card(part, reports_dir)
    return folder


def _settings(run: Run, exported: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What is known of a run's model before int8 is measured."""
    tested = run.test_clips()
    groups = {"sex": tested["sex"], "emotion": run.predictions["truth"], "corpus": tested["corpus"]}
    scores: dict[str, Any] = {"overall": run.metrics["overall"]}
    for name, group in groups.items():
        table = by_group(run.predictions, group, tested["speaker"], tested["corpus"]).sort_index()
        scores[f"by_{name}"] = table.reset_index().to_dict("records")
    learned = run.learned_from().drop_duplicates("clip_id").groupby("corpus", sort=False)
    corpora = {
        name: run.environment["corpora"][name] | {"clips": len(clips), "speakers": clips["speaker"].nunique()}
        for name, clips in learned
    }
    copied = ("emotions", "audio", "n_profile", "encoder", "revision")
    path = folder / "model.onnx"
    return {
        "recipe": RECIPE,
        "title": run.recipe.title,
        "sha256": file_hash(path),
        "megabytes": round(path.stat().st_size / 1e6, 2),
        **{name: exported[name] for name in copied},
        "layers": run.recipe.input.layers,
        "certain_from": run.certain_from,
        "corpora": corpora,
        "protocol": run.protocol,
        "seed": run.seed,
        "scores": scores,
        "certainty": run.metrics["certainty"],
        "versions": run.environment["versions"],
    }


def _write_settings(settings: dict[str, Any], folder: Path) -> None:
    text = json.dumps(settings, indent=1, ensure_ascii=False)
    (folder / "settings.json").write_text(f"{text}\n", encoding="utf-8")


def _int8_scores(run: Run, predictor: PackagedPredictor, clips: pd.DataFrame) -> dict[str, Any]:
    """What int8 costs on the test clips of all folds.

    Heads have no 8-bit integers: the features of the encoder with them, read by the head of each fold, are what an export
    of that fold would answer.
    """
    tested = run.test_clips()
    paths = tested["clip_id"].map(clips.set_index("clip_id")["path"])
    if paths.isna().any():
        raise SerError(
            f"{paths.isna().sum()} test clips of {run.folder} are missing, such as {tested['clip_id'][paths.isna()].iloc[0]}."
        )
    batches = [paths[start : start + AT_ONCE].tolist() for start in range(0, len(paths), AT_ONCE)]
    features = np.concatenate([predictor.answers(batch).inputs for batch in tqdm(batches, "int8", leave=False)])
    probabilities = np.zeros((len(tested), len(run.emotions)))
    for fold in sorted(set(tested["fold"])):
        rows = (tested["fold"] == fold).to_numpy()
        probabilities[rows] = run.model(fold).probabilities(features[rows])
    table = predictions_table(tested, probabilities, run.emotions)
    about = tested.set_index("clip_id")
    # All together over clips: some corpora have too few speakers for an interval over speakers.
    comparisons = {"all": compare(table, run.predictions)}
    for corpus in tested["corpus"].unique():
        rows = (tested["corpus"] == corpus).to_numpy()
        comparisons[corpus] = compare(table[rows], run.predictions[rows], about["speaker"])
    names = ("uar_difference", "uar_difference_low", "uar_difference_high", "interval_over", "n_test")
    result: dict[str, Any] = {corpus: {name: row[name] for name in names} for corpus, row in comparisons.items()}
    same = table[run.emotions].idxmax(axis=1).to_numpy() == run.predictions[run.emotions].idxmax(axis=1).to_numpy()
    return result | {"same_answer": float(same.mean())}


def _write_answers(predictor: PackagedPredictor, tables: list[pd.DataFrame], folder: Path) -> None:
    """Write the answers for some clips of each corpus, evenly spread over its table."""
    rows = []
    for clips in tables:
        chosen = clips.iloc[np.linspace(0, len(clips) - 1, min(N_ANSWERS, len(clips))).astype(int)]
        answers = pd.DataFrame(predictor.probabilities(chosen["path"].tolist()), columns=predictor.emotions)
        rows.append(answers.assign(clip_id=chosen["clip_id"].to_numpy()))
    table = pd.concat(rows)[["clip_id", *predictor.emotions]]
    table.to_csv(folder / "answers.csv", index=False, float_format="%.4f")


def write_card(folder: Path = FOLDER, reports_dir: str | Path | None = None) -> Path:
    """Write the model card of a folder from its settings and from the tables of results."""
    settings = read_json(folder / "settings.json", "`make model` writes it.")
    path = write_text(_card(settings), folder / "README.md")
    fill_tables(path, reports_dir)
    return path


def _card(settings: dict[str, Any]) -> str:
    overall, int8 = settings["scores"]["overall"], settings["int8"]
    corpora = {get_corpus(name): counts for name, counts in settings["corpora"].items()}
    learned = [
        f"- [{corpus.title}]({corpus.url}): {counts['clips']} clips of {counts['speakers']} speakers"
        + (f", a part of its {counts['expected']} clips" if counts["found"] < counts["expected"] else "")
        + f". Licence: {corpus.licence}. {corpus.citation}"
        for corpus, counts in corpora.items()
    ]
    groups = []
    for kind in ("corpus", "sex", "emotion"):
        for row in settings["scores"][f"by_{kind}"]:
            # Of one emotion, UAR is the share of its clips that is recognised.
            scores = pd.Series(row | {"uar_by_speaker": by_speaker(row, "uar")})
            groups.append([kind, str(row["group"]), score_cell(scores, "uar"), str(row["n_test"])])
    return f"""# The model that comes with the package: {RECIPE}

The model reads a recording of a voice and gives a probability for each of {", ".join(settings["emotions"])}. The file \
of {settings["megabytes"]} MB is run by onnxruntime on a processor, without a network.

```bash
ser predict voice.wav
ser enrol me/ --speaker me             # about eight clips of you, each in another mood, without labels
ser predict voice.wav --speaker me
ser demo                               # a page on this computer
```

From Python: `ser_lib.inference.predict.predict(ser_lib.inference.packaged.PackagedPredictor(), ["voice.wav"])`.

## What it must not be used for

{NOT_FOR}

- Research only, not commercial use: its corpora were licensed for that, see below.
- The corpora hold English words, acted by adults. Other languages, children, old or ill people were not tested.
- Calm is in RAVDESS alone, and the two voices of TESS are women's.

## What it learned from

{chr(10).join(learned)}

This folder contains no audio of the corpora. The model reads layers \
{" and ".join(map(str, settings["layers"]))} of the encoder of \
[{settings["encoder"]}](https://huggingface.co/{settings["encoder"]}) by OpenAI, revision \
`{settings["revision"]}`, and contains the encoder up to the last of these layers, under the MIT licence in \
[LICENSE](LICENSE). The encoder's weights are those of that revision, rounded; only the head behind the encoder was \
trained on the corpora.

## How good it is

The model in this folder was trained on all clips. The scores are those of models of the same recipe, each \
tested on speakers who are not in its training data: \
protocol `{settings["protocol"]}`, {get_protocol(settings["protocol"]).about}; \
{overall["n_test"]} clips of {overall["test_speakers"]} speakers. UAR {describe_score(overall, "uar")}, accuracy {describe_score(overall, "accuracy")}, \
where guessing has a UAR of {overall["chance"]:.3f}. Intervals are over speakers.

{markdown_table(["group by", "group", "UAR (of one emotion: its recall)", "test clips"], groups)}

*Another corpus* is nearest to your voice and your microphone; *after 8 clips* is enrolment.

<!-- voices: begin -->
<!-- voices: end -->

Every measured row of the recipe, with other protocols, numbers of clips for enrolment and settings:

<!-- speech-emotion: begin -->
<!-- speech-emotion: end -->

## Certain answers

{chr(10).join(describe_certainty(settings["certainty"]))}

<!-- certainty: begin -->
<!-- certainty: end -->

Silence, noise, hum, tones and clicks are refused, whatever their length. A laugh, a cough or music may be accepted.

## What the small file costs

The matrices of the encoder have 8-bit integers with 7 bits in use, so that all processors answer alike; the head and the transforms of the signal \
have float32. On the test clips of all folds, UAR of the small file minus that of float32: {_difference(int8["all"])}. \
{int8["same_answer"]:.1%} of the answers are the same. By corpus: \
{"; ".join(f"{name} {_difference(row)}" for name, row in int8.items() if name in settings["corpora"])}. \
Intervals are over speakers, or with † over clips.

`make model` makes this folder again from the corpora; `answers.csv` has what the model answered on some clips, which a test compares.
"""


def _difference(row: dict[str, Any]) -> str:
    """`-0.002 (95 % CI -0.004 to +0.001)`, with † where it is over clips, or without an interval."""
    low, high = row["uar_difference_low"], row["uar_difference_high"]
    interval = "" if isnan(low) else f" (95 % CI {low:+.3f} to {high:+.3f}){'†' * (row['interval_over'] == 'clips')}"
    return f"{row['uar_difference']:+.3f}{interval}"
