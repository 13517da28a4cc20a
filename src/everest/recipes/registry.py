"""All recipes by name."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType

from everest.errors import ConfigError, nearest
from everest.recipes import demo, hmdb51, kinetics400, motion, mvd, oscc, own, ssv2, supervised, ucf101, videomae
from everest.recipes.recipe import Recipe, Stages

_BUILDERS: Mapping[str, Callable[[], Stages]] = MappingProxyType(
    {
        "demo": demo.tiny,
        "own": own.small,
        "own-nano": own.nano,
        "ucf101": ucf101.base,
        "hmdb51": hmdb51.base,
        "k400-small": kinetics400.small,
        "k400-base": kinetics400.base,
        "k400-large": kinetics400.large,
        "ssv2": ssv2.base,
        "oscc": oscc.base,
        "videomae": videomae.kinetics400,
        "videomae-ucf101": videomae.ucf101,
        "videomae-hmdb51": videomae.hmdb51,
        "mme": motion.base,
        "everest-mme": motion.everest,
        "mvd": mvd.base,
        "everest-mvd": mvd.everest,
        "supervised": supervised.scratch,
    }
)


def list_recipes() -> list[Recipe]:
    """Build every recipe, smallest first."""
    return [get_recipe(name) for name in _BUILDERS]


def get_recipe(name: str) -> Recipe:
    """Build one recipe.

    Args:
        name: A name from :func:`list_recipes`.

    Raises:
        ConfigError: No recipe has this name; the nearest one is named.
    """
    if name not in _BUILDERS:
        raise ConfigError(f"unknown recipe {name!r}: {nearest(name, _BUILDERS)}")
    build = _BUILDERS[name]
    docs = inspect.getdoc(build) or ""
    pretrain, finetune = build()
    return Recipe(name=name, summary=docs.partition("\n")[0], pretrain=pretrain, finetune=finetune, docs=docs)
