"""Something-Something V2: 174 movements, 169 thousand training clips; classes tell left from right."""

from everest.config import ClipConfig
from everest.recipes.paper import finetuning, pretraining
from everest.recipes.recipe import Stages


def base() -> Stages:
    """Train ViT-B on Something-Something V2.

    Target: top-1 64.6 (paper), 2 x 3 views.
    Hardware: not in the paper. One GPU gives the same run through accumulated passes; on 8 GPUs set
    data.batch_size=6 for fine-tuning.
    Source: paper, hyper-parameters of SSv2. No clip is mirrored, because mirroring changes the class.
    """
    return (
        pretraining(
            stride=2,
            base_lr=1.5e-4,
            global_batch_size=256,
            epochs=200,
            batch_size=32,
            save_every_epochs=10,
            flip=False,
        ),
        finetuning(
            clip=ClipConfig(num_frames=16, height=224, width=224, sampling="segments"),
            base_lr=5e-4,
            global_batch_size=48,
            epochs=50,
            batch_size=12,
            num_segments=2,
            keep_ratio=0.8,
            flip=False,
        ),
    )
