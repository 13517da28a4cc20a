"""HMDB51: 51 actions, 3.6 thousand training clips (split 1)."""

from everest.recipes.paper import dense, finetuning, pretraining
from everest.recipes.recipe import Stages


def base() -> Stages:
    """Train ViT-B on HMDB51 split 1, from scratch.

    Target: top-1 68.1 (paper), 10 x 3 views.
    Hardware: the authors' scripts use 8 GPUs, 24 clips each in pre-training and 16 in fine-tuning. One GPU
    gives the same run through accumulated passes; on 8, set data.batch_size=24 for pre-training.
    Source: paper, hyper-parameters of HMDB51.
    """
    return (
        pretraining(
            stride=2,
            base_lr=1e-3,
            global_batch_size=192,
            epochs=4800,
            batch_size=48,
            save_every_epochs=100,
        ),
        finetuning(clip=dense(2), base_lr=1e-3, global_batch_size=128, epochs=50, batch_size=16, num_segments=10),
    )
