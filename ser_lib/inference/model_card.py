"""A run as others may see it: without the folders of the machine that it was trained on, and its model card."""

from dataclasses import replace

import pandas as pd

from ser_lib.corpora import known_corpus
from ser_lib.corpora import label as corpus_label
from ser_lib.inference.run import Run
from ser_lib.models import encoder_weights
from ser_lib.protocols.leak_audit import red_leaks
from ser_lib.protocols.splits import get_protocol
from ser_lib.recipes import Recipe

NOT_FOR = (
    "Deciding anything about a person. The model learned from few voices, in quiet rooms, that acted what they say; what "
    "people show is not what they feel. And it always answers, to music and noise as well."
)


def describe_score(score: dict, name: str) -> str:
    """`0.498 (95 % CI 0.451 to 0.545)`, marked † where the interval is over clips."""
    mark = "" if score["interval_over"] == "speakers" else "†"
    return f"{score[name]:.3f} (95 % CI {score[f'{name}_low']:.3f} to {score[f'{name}_high']:.3f}){mark}"


def model_card(recipe: Recipe, protocol: str, seed: int, metrics: dict, audit: pd.DataFrame, environment: dict) -> str:
    """The README of a run folder: what the model is, on what it learned, and under which protocol it was scored."""
    overall = metrics["overall"]
    leaks = red_leaks(audit)
    audio = ", ".join(f"{name}={value!r}" for name, value in recipe.input.audio.model_dump().items() if value)
    lines = [f"# {recipe.title}", ""]
    corpora = {name: known_corpus(name) for name in environment["corpora"]}
    for notice in [*(corpus.notice for corpus in corpora.values() if corpus), *recipe.notices]:
        lines += [f"> {notice}", ""] if notice else []
    if len(leaks):
        found = "; ".join(f"{row.leak}: {row.clips} test clips" for row in leaks.itertuples())
        lines += [f"> **This protocol leaks.** {found}. The scores below say little about new speakers.", ""]
    lines += [
        f"- **Recipe** `{recipe.name}`, variant `{recipe.variant_label}`, seed {seed}",
        f"- **Protocol** `{protocol}`: {get_protocol(protocol).about}",
        f"- **Reads** {recipe.features_label}, {recipe.input_label}; **model** {recipe.model_label}, "
        f"{environment['model']['trained_parameters']:,} trained of {environment['model']['parameters']:,} parameters",
        f"- **Audio** prepared by `ser_lib.audio.reading.prepare(path, {audio})` before the model hears it",
        f"- **Accuracy** {describe_score(overall, 'accuracy')}",
        f"- **UAR** {describe_score(overall, 'uar')}",
        f"- **Macro F1** {describe_score(overall, 'macro_f1')}",
        f"- **Tested on** {overall['n_test']} clips of {overall['test_speakers']} speakers",
        "- **Made with** "
        + ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        + f", on {environment['device']}, commit {environment['commit'] or 'unknown'}",
        "",
        "Intervals are bootstrapped over speakers; † marks those over clips, where there are fewer than 8 speakers.",
        "",
        "## Corpora",
        "",
    ]
    for name, count in environment["corpora"].items():
        corpus = corpora[name]
        about = f"{corpus.title}: {corpus.licence}. {corpus.citation}" if corpus else name
        lines.append(f"- {about} ({count['found']} of {count['expected']} clips)")
    lines += ["", "## Not for", "", NOT_FOR, ""]
    return "\n".join(lines)


def shareable(run: Run) -> Run:
    """The same run; encoder and corpora are told by their names alone, wherever they lay."""
    return replace(run, recipe=_without_folders(run.recipe))


def _without_folders(recipe: Recipe) -> Recipe:
    test_corpora = recipe.split.test_corpora
    shown = {name: corpus_label(name) for name in (*recipe.corpora, *(test_corpora or ()))}
    encoder = encoder_weights.label(recipe.input.encoder)
    overrides = recipe.overrides
    for written, told in (shown | {recipe.input.encoder: encoder}).items():
        overrides = tuple(item.replace(written, told) for item in overrides)
    return recipe.model_copy(
        update={
            "overrides": overrides,
            "corpora": tuple(shown[name] for name in recipe.corpora),
            "input": recipe.input.model_copy(update={"encoder": encoder}),
            "split": recipe.split.model_copy(
                update={"test_corpora": test_corpora and tuple(shown[name] for name in test_corpora)}
            ),
        }
    )


def card_of(run: Run) -> str:
    """The run's model card in Markdown, as it stands in its folder, of a run that is `shareable`."""
    return model_card(run.recipe, run.protocol, run.seed, run.metrics, run.audit, run.environment)
