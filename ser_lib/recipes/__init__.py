"""One YAML file an experiment, and the typed `Recipe` that reads it."""

from ser_lib.recipes.recipe import Input, Recipe, dump_recipe, keys_of, load_recipe, read_resolved, recipe_names

__all__ = ["Input", "Recipe", "dump_recipe", "keys_of", "load_recipe", "read_resolved", "recipe_names"]
