"""What a recipe is: a name, the settings of its runs, and what to expect of them."""

from dataclasses import dataclass

from everest.config import FinetuneConfig, PretrainConfig

Stages = tuple[PretrainConfig | None, FinetuneConfig | None]
"""Settings of pre-training and of fine-tuning; None where a recipe has no such run."""


@dataclass(frozen=True)
class Recipe:
    """Pre-training and fine-tuning that belong together.

    Attributes:
        name: What the command line and :func:`everest.recipes.get_recipe` take.
        summary: One line.
        pretrain: Settings of pre-training; None if the recipe has none.
        finetune: Settings of fine-tuning and the evaluation after it; None if the recipe has none.
        docs: Target result, hardware and source.
    """

    name: str
    summary: str
    pretrain: PretrainConfig | None
    finetune: FinetuneConfig | None
    docs: str
