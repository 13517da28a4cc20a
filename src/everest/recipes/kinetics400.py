"""Kinetics-400: 400 actions, 240 thousand training clips of ten seconds."""

from everest.recipes.paper import dense, finetuning, pretraining
from everest.recipes.recipe import Stages


def small() -> Stages:
    """Train ViT-S on Kinetics-400.

    Target: top-1 75.9 (paper), 2 x 3 views.
    Hardware: the paper reports 6.3 GMAC per clip in pre-training, 29.1 in fine-tuning, and 59.9 GB in all on
    8 GPUs at a batch of 256 in pre-training.
    Source: paper, hyper-parameters of K400, column ViT-S.
    """
    return (
        pretraining(
            size="small",
            stride=4,
            base_lr=1.5e-4,
            global_batch_size=1024,
            epochs=200,
            batch_size=128,
            save_every_epochs=10,
        ),
        finetuning(
            size="small",
            clip=dense(4),
            base_lr=5e-4,
            global_batch_size=384,
            epochs=75,
            batch_size=48,
            num_segments=2,
        ),
    )


def base() -> Stages:
    """Train ViT-B on Kinetics-400.

    Target: top-1 79.2 (paper), 2 x 3 views.
    Hardware: the paper reports 21.5 GMAC per clip in pre-training, 98.1 in fine-tuning, and 91.2 GB in all on
    8 GPUs at a batch of 256 in pre-training; an epoch of 8 min 18 s on 8 A6000 at a batch of 128.
    Source: paper, hyper-parameters of K400, column ViT-B.
    """
    return (
        pretraining(
            size="base",
            stride=4,
            base_lr=3e-4,
            global_batch_size=1024,
            epochs=200,
            batch_size=64,
            save_every_epochs=10,
        ),
        finetuning(
            size="base",
            clip=dense(4),
            base_lr=1e-3,
            global_batch_size=384,
            epochs=35,
            batch_size=24,
            num_segments=2,
        ),
    )


def large() -> Stages:
    """Train ViT-L on Kinetics-400.

    Target: top-1 82.1 (paper), 2 x 3 views.
    Hardware: the paper reports 60.8 GMAC per clip in pre-training, 330.0 in fine-tuning, and 164.1 GB in all
    on 8 GPUs at a batch of 256 in pre-training.
    Source: paper, hyper-parameters of K400, column ViT-L.
    """
    return (
        pretraining(
            size="large",
            stride=4,
            base_lr=1.5e-4,
            global_batch_size=512,
            epochs=200,
            batch_size=32,
            save_every_epochs=10,
        ),
        finetuning(
            size="large",
            clip=dense(4),
            base_lr=2e-3,
            global_batch_size=128,
            epochs=35,
            batch_size=8,
            num_segments=2,
        ),
    )
