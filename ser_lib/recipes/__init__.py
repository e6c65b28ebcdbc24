"""One YAML file an experiment, and the typed `Recipe` that it is read into."""

from ser_lib.models.settings import Input
from ser_lib.recipes.recipe import Recipe, dump_recipe, keys_of, load_recipe, read_resolved, recipe_names

__all__ = ["Input", "Recipe", "dump_recipe", "keys_of", "load_recipe", "read_resolved", "recipe_names"]
