"""What notebooks display besides pictures: recipes, audio players, the verdict of an audit, model summaries."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import soundfile
import yaml
from torch import nn

from ser_lib.audio import reading
from ser_lib.audio.reading import Recording
from ser_lib.common.errors import SerError
from ser_lib.common.files import project_dir
from ser_lib.corpora import CORPORA
from ser_lib.evaluation.doubtful_labels import doubtful_labels as doubtful_labels_of
from ser_lib.inference.enrolment import enrol, for_speaker
from ser_lib.inference.predict import predict
from ser_lib.inference.predictor import Predictor
from ser_lib.inference.run import Run
from ser_lib.protocols.leak_audit import red_leaks
from ser_lib.recipes import Recipe
from ser_lib.recipes.inputs import clips_of
from ser_lib.reports import plots

if TYPE_CHECKING:
    from IPython.display import Markdown


class Html(str):
    """Text that a notebook renders as HTML."""

    def _repr_html_(self) -> str:
        return str(self)


def sentences(texts: str | Sequence[str]) -> "Markdown":
    """A paragraph, or a list of several sentences, as a notebook shows text; HTML in it is escaped."""
    from IPython.display import Markdown

    text = texts if isinstance(texts, str) else "\n".join(f"- {sentence}" for sentence in texts)
    return Markdown(html.escape(text, quote=False))


def stated_recipe(recipe: Recipe) -> Html:
    """The recipe as YAML, as its file and the overrides state it: fields left at their default are not listed."""
    fields = recipe.model_dump(mode="json", exclude_unset=True, exclude={"name", "variant", "overrides"})
    # A page is for others: it names an encoder without the folder where it lies.
    if recipe.reads_encoder and "encoder" in fields.get("input", {}):
        fields["input"]["encoder"] = recipe.features_label
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, default_flow_style=None, width=80)
    whole = f"# {recipe.name}: {recipe.variant_label}\n{text}"
    return Html(f"<pre>{html.escape(whole)}</pre>")


def audit_verdict(table: pd.DataFrame) -> Html:
    """One line on an audit: red with the counts if there are red leaks, else green."""
    red = red_leaks(table)
    if len(red):
        counts = "; ".join(f"{row.leak}: {row.clips} test clips ({row.share:.0%})" for row in red.itertuples())
        return Html(f'<p class="leak-red"><b>This split leaks.</b> {html.escape(counts)}.</p>')
    return Html('<p class="leak-green"><b>No leak found</b> of a kind that would invalidate the score.</p>')


def audit_counts(table: pd.DataFrame) -> pd.DataFrame:
    """The audit with one row per kind of leak: severity, test clips, share and meaning."""
    counts = table.set_index("leak")[["severity", "clips", "share", "meaning"]].copy()
    counts["share"] = counts["share"].map("{:.0%}".format, na_action="ignore").fillna("unknown")
    counts["clips"] = counts["clips"].astype(object).fillna("unknown")
    return counts.rename(columns={"clips": "test clips"})


def audio_player(waveform: np.ndarray, sampling_rate: int, label: str) -> str:
    """HTML of a player that contains its audio as one-channel OGG (about 6 KB per second at 16 kHz)."""
    waveform = reading.mix_down(waveform) if waveform.ndim == 2 else waveform
    sound = io.BytesIO()
    # Vorbis has a tenth of the size of WAV, and every browser plays it.
    with soundfile.SoundFile(sound, "w", sampling_rate, 1, "VORBIS", format="OGG") as file:
        # One second at a time, since libsndfile crashes on minutes at once. Peaks beyond ±1 would wrap.
        for start in range(0, len(waveform), sampling_rate):
            file.write(np.clip(waveform[start : start + sampling_rate], -1, 1))
    source = base64.b64encode(sound.getvalue()).decode()
    return (
        f"<figure><figcaption>{html.escape(label)}</figcaption>"
        f'<audio controls preload="none" src="data:audio/ogg;base64,{source}"></audio></figure>'
    )


def audio_players(
    clips: pd.DataFrame, waveforms: list[np.ndarray], sampling_rate: int, own_players: bool = False
) -> Html:
    """Players for clips of corpora with a licence that lets a report contain audio; a sentence names the others.

    Args:
        clips: clip table rows.
        waveforms: aligned to `clips`.
        own_players: also for clips of the user's own corpora.
    """
    names = clips["corpus"]
    allowed = np.array([CORPORA[name].shareable if name in CORPORA else own_players for name in names], dtype=bool)
    players = [
        audio_player(waveform, sampling_rate, f"{row.emotion}, {row.speaker}")
        for row, waveform, is_allowed in zip(clips.itertuples(), waveforms, allowed, strict=True)
        if is_allowed
    ]
    others = sorted(set(clips.loc[~allowed, "corpus"]))
    titles = ", ".join(html.escape(CORPORA[name].title if name in CORPORA else name) for name in others)
    reason = "no licence allows its audio in a report"
    if others and not set(others) & set(CORPORA):
        reason = (
            "your recordings stay out of the page unless you ask for players: players = True, or ser report --players"
        )
    note = f"<p>No player for {titles}: {reason}.</p>" if others else ""
    return Html(f'<div class="players">{"".join(players)}</div>{note}')


def short_path(path: Path) -> str:
    """A path relative to the checkout or, with `~`, to the home folder; elsewhere the whole path."""
    for base, name in ((project_dir(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return name + path.relative_to(base).as_posix()
    return str(path)


def model_summary(network: nn.Module) -> pd.DataFrame:
    """One row per layer with weights: its kind, the shapes of its weights, and how many numbers it has and trains.

    A model of more than 30 layers has one row per block instead, such as `encoder.layers`.
    """
    named = list(network.named_parameters())
    many = len({name.rpartition(".")[0] for name, _ in named}) > 30
    blocks: dict[str, list[nn.Parameter]] = {}
    for name, weight in named:
        words = name.split(".")[:-1]
        # `encoder.layers.3.attention.k_proj` belongs to `encoder.layers`.
        depth = next((i for i, word in enumerate(words) if word.isdigit()), 2) if many else len(words)
        blocks.setdefault(".".join(words[:depth]), []).append(weight)
    rows = {
        name or "(itself)": {
            "kind": type(network.get_submodule(name)).__name__,
            "weights": f"{len(weights)} tensors" if many else ", ".join("×".join(map(str, w.shape)) for w in weights),
            "numbers": sum(weight.numel() for weight in weights),
            "trained numbers": sum(weight.numel() for weight in weights if weight.requires_grad),
        }
        for name, weights in blocks.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")
    total = table[["numbers", "trained numbers"]].sum()
    return pd.concat([table, total.to_frame("total").T]).fillna("")


def model_size(run: Run) -> pd.DataFrame:
    """A model's inputs, its number of parameters and its training speed, as a table of one column."""
    size = run.environment["model"]
    rows = {
        "reads": f"{run.recipe.features_label}, {run.recipe.input_label}",
        "model": run.recipe.model_label,
        "parameters": f"{size['parameters']:,}",
        "of these trained": f"{size['trained_parameters']:,} ({size['trained_parameters'] / size['parameters']:.1%})",
        "training": f"{size['clips_per_second']:,.0f} clips per second, with tests",
        "device": run.environment["device"],
    }
    return pd.DataFrame({"": rows})


def doubtful_labels(run: Run, data_dir: str | Path | None = None, n: int = 20) -> pd.DataFrame | Html:
    """The test clips that their own label fits least, with the files to listen to; a sentence where that cannot be had.

    Args:
        data_dir: see `load_clips`.
    """
    try:
        table = doubtful_labels_of(run.predictions, n)
        clips = clips_of(run.recipe, run.protocol, data_dir, progress=False)
    except SerError as error:
        return Html(f"<p>Not shown: {html.escape(str(error))}</p>")
    paths = clips.set_index("clip_id")["path"].reindex(table.index)
    return table.round(3).assign(file=[short_path(Path(path)) if isinstance(path, str) else "" for path in paths])


def certainty(run: Run) -> "Markdown":
    """What the threshold of certain answers is worth on the run's test clips, as a sentence."""
    worth = run.metrics.get("certainty")
    if not worth:
        return sentences(
            "Not shown: this run has no threshold for certain answers, because its recipe does not refit "
            "(training.refit), or because an earlier version of ser_lib made the run."
        )
    right = (
        "so the share of right answers among certain answers is not known"
        if worth["accuracy"] is None
        else f"{worth['accuracy']:.3f} of these are right"
    )
    return sentences(
        f"An answer is **certain** where its highest probability is at least {worth['threshold']:.3f}, the median of the "
        f"thresholds that the folds' validation speakers chose. With those, {100 * worth['share']:.0f} % of the test clips have a "
        f"certain answer; {right}. Of all answers, {worth['accuracy_of_all']:.3f} are right."
    )


def after_enrolment(
    predictor: Predictor, clips: Sequence[Recording], recordings: Sequence[Recording]
) -> "pd.DataFrame | Markdown":
    """Answers for the speaker of some clips, one row a recording; a sentence where the model learns nothing of these clips."""
    try:
        speaker = enrol(predictor, clips)
    except SerError as error:
        return sentences(f"Not shown: {error}")
    answers = predict(for_speaker(predictor, speaker), recordings, progress=False)
    return answers.set_index("path").round(3)


def layer_weights(run: Run) -> pd.DataFrame | None:
    """The weight of each layer (rows) in each fold (columns); None for a model without layer weights."""
    weights = {fold: run.model(fold).layer_weights() for fold in sorted(run.split["fold"].unique())}
    return None if weights[0] is None else pd.DataFrame(weights)


def rounded(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """The table with its fractions as texts of that many digits; unknown ones are left empty."""
    return table.map(
        lambda cell: cell if not isinstance(cell, float) else "" if np.isnan(cell) else f"{cell:.{digits}f}"
    )


def mechanism(table: pd.DataFrame, name: str) -> None:
    """Display one leak's picture and numbers.

    Args:
        table: tables of `ser_lib.studies.leaks`, one under the other.
    """
    from IPython.display import display

    rows = table[table["mechanism"] == name]
    if rows.empty:
        print("Not measured: the lines above say why.")
        return
    columns = ["leaky", "uar", "uar_low", "uar_high", "points", "points_low", "points_high", "n_test", "n_train"]
    numbers = rows.set_index("condition")[columns].round({"n_train": 0}).astype({"n_train": int})
    display(plots.honest_and_leaky(rows), rounded(numbers))
