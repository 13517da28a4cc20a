"""UCF101: 101 actions, 9.5 thousand training clips (split 1)."""

from everest.recipes.paper import dense, finetuning, pretraining
from everest.recipes.recipe import Stages


def base() -> Stages:
    """Train ViT-B on UCF101 split 1, from scratch.

    Target: top-1 93.4 (paper), 93.7 and top-5 98.9 (the authors' released model), 5 x 3 views. With fewer
    epochs of pre-training, read off the paper's plot: 87.2 (200), 89.7 (400), 91.6 (800), 92.8 (1600).
    Hardware: the authors' scripts use 8 GPUs, 24 clips each in pre-training and 16 in fine-tuning. One GPU
    gives the same run through accumulated passes; on 8, set data.batch_size=24 for pre-training.
    Source: paper, hyper-parameters of UCF101.
    """
    return (
        pretraining(
            stride=4,
            base_lr=1e-3,
            global_batch_size=192,
            epochs=3200,
            batch_size=48,
            save_every_epochs=100,
        ),
        finetuning(clip=dense(4), base_lr=1e-3, global_batch_size=128, epochs=100, batch_size=16, num_segments=5),
    )
