"""A run as others may see it: without the folders of the machine that it was trained on, and its model card."""

from dataclasses import replace

from ser_lib import checkpoints
from ser_lib.corpora import label as corpus_label
from ser_lib.recipes import Recipe
from ser_lib.runs import Run, model_card


def shareable(run: Run) -> Run:
    """The same run; encoder and corpora are told by their names alone, wherever they lay."""
    return replace(run, recipe=_without_folders(run.recipe))


def _without_folders(recipe: Recipe) -> Recipe:
    test_corpora = recipe.split.test_corpora
    shown = {name: corpus_label(name) for name in (*recipe.corpora, *(test_corpora or ()))}
    encoder = checkpoints.label(recipe.input.encoder)
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
