"""Complete runs by name: one Python function per data set and model size."""

from everest.recipes.recipe import Recipe, Stages
from everest.recipes.registry import get_recipe, list_recipes

__all__ = ["Recipe", "Stages", "get_recipe", "list_recipes"]
