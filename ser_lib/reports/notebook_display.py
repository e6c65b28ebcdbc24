"""What notebooks show besides pictures: audio players, a verdict on the audit, a model's summary."""

import base64
import html
import io
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from torch import nn

from ser_lib.audio import reading
from ser_lib.common.files import project_dir
from ser_lib.corpora import CORPORA
from ser_lib.inference.run import Run
from ser_lib.protocols.leak_audit import red_leaks
from ser_lib.reports import plots


class Html(str):
    """Text that a notebook renders as HTML."""

    def _repr_html_(self) -> str:
        return str(self)


def audit_verdict(table: pd.DataFrame) -> Html:
    """One line over an audit: green where nothing grave leaks, else red with the counts."""
    red = red_leaks(table)
    if len(red):
        found = "; ".join(f"{row.leak}: {row.clips} test clips ({row.share:.0%})" for row in red.itertuples())
        return Html(f'<p class="leak-red"><b>This split leaks.</b> {html.escape(found)}.</p>')
    return Html('<p class="leak-green"><b>No leak found</b> among the kinds marked red below.</p>')


def audit_counts(table: pd.DataFrame) -> pd.DataFrame:
    """The audit as a notebook shows it: one row a kind, with counts, share and meaning."""
    shown = table.set_index("leak")[["severity", "clips", "share", "meaning"]].copy()
    shown["share"] = shown["share"].map("{:.0%}".format, na_action="ignore").fillna("unknown")
    return shown.rename(columns={"clips": "test clips"})


def audio_player(waveform: np.ndarray, sampling_rate: int, label: str) -> str:
    """HTML of a player that holds its own sound, as OGG of one channel (about 6 KB a second at 16 kHz)."""
    waveform = reading.mix_down(waveform) if waveform.ndim == 2 else waveform
    sound = io.BytesIO()
    # Vorbis: a tenth of WAV, and every browser plays it. Peaks beyond ±1 would wrap.
    with soundfile.SoundFile(sound, "w", sampling_rate, 1, "VORBIS", format="OGG") as file:
        # A second at a time: libsndfile crashes where it is handed minutes at once.
        for start in range(0, len(waveform), sampling_rate):
            file.write(np.clip(waveform[start : start + sampling_rate], -1, 1))
    source = base64.b64encode(sound.getvalue()).decode()
    return (
        f"<figure><figcaption>{html.escape(label)}</figcaption>"
        f'<audio controls preload="none" src="data:audio/ogg;base64,{source}"></audio></figure>'
    )


def audio_players(clips: pd.DataFrame, waveforms: list[np.ndarray], sampling_rate: int) -> Html:
    """Players for clips whose corpus may be passed on inside a report; a sentence names those that may not.

    Args:
        clips: clip table rows; waveforms: aligned to them.
    """
    shareable = clips["corpus"].map(lambda name: name in CORPORA and CORPORA[name].shareable).to_numpy()
    players = [
        audio_player(waveform, sampling_rate, f"{row.emotion}, {row.speaker}")
        for row, waveform, share in zip(clips.itertuples(), waveforms, shareable, strict=True)
        if share
    ]
    kept_out = sorted(set(clips.loc[~shareable, "corpus"]))
    note = ""
    if kept_out:
        titles = ", ".join(html.escape(CORPORA[name].title if name in CORPORA else name) for name in kept_out)
        note = f"<p>No player for {titles}: no licence lets a report carry its audio.</p>"
    return Html(f'<div class="players">{"".join(players)}</div>{note}')


def short_path(path: Path) -> str:
    """A folder as a reader finds it again: from the checkout, or from the home folder (`~`), else whole."""
    for base, name in ((project_dir(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return name + path.relative_to(base).as_posix()
    return str(path)


def model_summary(network: nn.Module) -> pd.DataFrame:
    """One row a layer that holds weights: its kind, the shapes of its weights, and how many numbers train.

    Of a large model, one row for each of its blocks instead, such as `encoder.layers`.
    """
    leaves = [(name, module) for name, module in network.named_modules() if list(module.parameters(recurse=False))]
    if len(leaves) > 30:
        return _with_total(_blocks(network))
    rows = []
    for name, module in leaves:
        weights = list(module.parameters(recurse=False))
        rows.append(
            {
                "layer": name,
                "kind": type(module).__name__,
                "weights": ", ".join("×".join(map(str, weight.shape)) for weight in weights),
                "trained numbers": sum(weight.numel() for weight in weights if weight.requires_grad),
            }
        )
    return _with_total(pd.DataFrame(rows).set_index("layer"))


def _blocks(network: nn.Module) -> pd.DataFrame:
    """Parameters by the first words of their names, down to the lists of like layers."""
    rows = {}
    for name, weight in network.named_parameters():
        words = name.split(".")[:-1]
        # `wav2vec2.encoder.layers.3.attention.k_proj` belongs to `wav2vec2.encoder.layers`.
        depth = next((i for i, word in enumerate(words) if word.isdigit()), min(len(words), 2))
        block = ".".join(words[:depth]) or name
        row = rows.setdefault(block, {"tensors": 0, "numbers": 0})
        row["tensors"] += 1
        row["numbers"] += weight.numel()
    return pd.DataFrame(rows).T.rename_axis("block")


def _with_total(table: pd.DataFrame) -> pd.DataFrame:
    numbers = table.select_dtypes("number").sum()
    total = pd.DataFrame({name: [numbers.get(name, "")] for name in table}, index=["total"])
    return pd.concat([table, total])


def model_size(run: Run) -> pd.DataFrame:
    """What the model reads, how many of its numbers were trained, and how fast, as a table of one column."""
    size = run.environment["model"]
    rows = {
        "reads": f"{run.recipe.features_label}, {run.recipe.input_label}",
        "model": run.recipe.model_label,
        "parameters": f"{size['parameters']:,}",
        "of these trained": f"{size['trained_parameters']:,} ({size['trained_parameters'] / size['parameters']:.1%})",
        "training": f"{size['clips_per_second']:,.0f} clips a second, tests included",
        "device": run.environment["device"],
    }
    return pd.DataFrame({"": rows})


def layer_weights(run: Run) -> pd.DataFrame | None:
    """The weight of each layer (rows) in each fold (columns); None for a model that does not weigh layers."""
    weights = {fold: run.model(fold).layer_weights() for fold in sorted(run.split["fold"].unique())}
    return None if weights[0] is None else pd.DataFrame(weights)


def mechanism(table: pd.DataFrame) -> pd.DataFrame:
    """Show the picture and the numbers of a table of `ser_lib.studies.leaks`, and hand it on."""
    from IPython.display import display

    columns = ["leaky", "uar", "uar_low", "uar_high", "points", "points_low", "points_high", "n_test", "n_train"]
    display(plots.honest_and_leaky(table), table.set_index("condition")[columns].round(3).astype(object).fillna(""))
    return table
