"""A run as others may see it: without the folders of the machine that it was trained on, and its model card."""

import html
from dataclasses import replace
from math import isnan

from ser_lib.corpora import known_corpus
from ser_lib.corpora import label as corpus_label
from ser_lib.inference.run import Run
from ser_lib.models import encoder_weights
from ser_lib.protocols.leak_audit import red_leaks
from ser_lib.protocols.splits import get_protocol
from ser_lib.recipes import keys_of

NOT_FOR = (
    "Deciding anything about a person. The model learned from few people, who acted emotions in quiet rooms, and the "
    "emotion that people express is not the emotion that they feel. The model may also name an emotion for music or "
    "noise."
)


def describe_score(score: dict, name: str) -> str:
    """`0.498 (95 % CI 0.451 to 0.545)`, marked † where the interval is over clips; without one, each speaker's score."""
    low, high = score[f"{name}_low"], score[f"{name}_high"]
    if isnan(low):
        by_speaker = [f"{speaker} {scores[name]:.3f}" for speaker, scores in score.get("speaker_scores", {}).items()]
        return f"{score[name]:.3f} ({'; '.join(['no interval', *by_speaker])})"
    return f"{score[name]:.3f} (95 % CI {low:.3f} to {high:.3f}){'†' * (score['interval_over'] == 'clips')}"


def describe_certainty(certainty: dict | None) -> list[str]:
    """A line about what the threshold of certain answers is worth on test speakers; none where it is not known."""
    if not certainty or certainty["accuracy"] is None:
        return []
    low, high = min(certainty["by_fold"]), max(certainty["by_fold"])
    thresholds = {"": f"each fold's own threshold, {low:.2f} to {high:.2f}", "_at_threshold": "the median in all folds"}
    worth = [
        f"by {threshold}, {certainty[f'share{ending}']:.0%} of the test clips are certain, and "
        f"{certainty[f'accuracy{ending}']:.0%} of these answers are right"
        for ending, threshold in thresholds.items()
        # Runs of version 0.1 do not state the worth of the median.
        if certainty.get(f"accuracy{ending}") is not None
    ]
    worth.append(f"of all answers {certainty['accuracy_of_all']:.0%} are right")
    return [
        f"- **Certain** from a probability of {certainty['threshold']:.2f}, the median of the folds' thresholds: "
        + "; ".join(worth)
    ]


def model_card(run: Run) -> str:
    """The README of a run folder: what the model is, on what it learned, and under which protocol it was scored."""
    recipe, environment, overall, leaks = run.recipe, run.environment, run.metrics["overall"], red_leaks(run.audit)
    size = environment["model"]
    audio = ", ".join(f"{name}={value!r}" for name, value in recipe.input.audio.model_dump().items() if value)
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    # Within a code span and a heading, whoever wrote the recipe.
    variant = recipe.variant_label.replace("`", "'")
    lines = [f"# {html.escape(recipe.title, quote=False)}\n"]
    corpora = {name: known_corpus(name) for name in environment["corpora"]}
    for notice in [*(corpus.notice for corpus in corpora.values() if corpus), *recipe.notices]:
        lines += [f"> {notice}\n"] if notice else []
    if len(leaks):
        counts = "; ".join(f"{row.leak}: {row.clips} test clips" for row in leaks.itertuples())
        lines.append(f"> **This protocol leaks.** {counts}. The scores below say little about new speakers.\n")
    lines += [
        f"- **Recipe** `{recipe.name}`, variant `{variant}`, seed {run.seed}",
        f"- **Protocol** `{run.protocol}`: {get_protocol(run.protocol).about}",
        f"- **Reads** {recipe.features_label}, {recipe.input_label}; **model** {recipe.model_label}, "
        f"{size['trained_parameters']:,} trained of {size['parameters']:,} parameters",
        f"- **Audio** prepared by `ser_lib.audio.reading.prepare(path, {audio})` before the model hears it",
        f"- **Answers** with a model that learned from {environment['model'].get('fitted_on', 'the training clips of fold 0')}"
        "; the scores are those of the folds' models, on clips that these did not learn from",
        f"- **Accuracy** {describe_score(overall, 'accuracy')}",
        f"- **UAR** {describe_score(overall, 'uar')}",
        f"- **Macro F1** {describe_score(overall, 'macro_f1')}",
        f"- **Tested on** {overall['n_test']} clips of {overall['test_speakers']} speakers",
        *describe_certainty(run.metrics.get("certainty")),
        f"- **Made with** {versions}, on {environment['device']}, commit {environment['commit'] or 'unknown'}\n",
        "Intervals are over speakers, of which 4 are needed; † marks those over the clips of one speaker.\n",
        "## Corpora\n",
    ]
    for name, corpus in corpora.items():
        count = environment["corpora"][name]
        about = f"{corpus.title}: {corpus.licence}. {corpus.citation}" if corpus else name
        lines.append(f"- {about} ({count['found']} of {count['expected']} clips)")
    return "\n".join([*lines, "\n## Not for\n", NOT_FOR, ""])


def shareable(run: Run) -> Run:
    """The same run with the names alone of encoder and corpora, wherever they lay."""
    recipe, encoder = run.recipe, encoder_weights.label(run.recipe.input.encoder)
    names = {name: corpus_label(name) for name in (*recipe.corpora, *(recipe.split.test_corpora or ()))}
    overrides = recipe.overrides
    for written, name in (names | {recipe.input.encoder: encoder}).items():
        overrides = tuple(item.replace(written, name) for item in overrides)
    # Typed as a variable, or as another way to the folder.
    is_encoder = [keys_of(item) == ["input.encoder"] for item in overrides]
    overrides = tuple(
        f"input.encoder={encoder}" if is_it else item for item, is_it in zip(overrides, is_encoder, strict=True)
    )
    test_corpora = recipe.split.test_corpora and tuple(names[name] for name in recipe.split.test_corpora)
    changes = {
        "overrides": overrides,
        "corpora": tuple(names[name] for name in recipe.corpora),
        "input": recipe.input.model_copy(update={"encoder": encoder}),
        "split": recipe.split.model_copy(update={"test_corpora": test_corpora}),
    }
    return replace(run, recipe=recipe.model_copy(update=changes))
