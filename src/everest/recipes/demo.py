"""The bundled clips of falls at home: a first result in minutes, on a CPU."""

from everest.config import (
    AugmentConfig,
    ClipConfig,
    DataConfig,
    EvaluationConfig,
    FinetuneConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    RunConfig,
    SelectionConfig,
)
from everest.recipes.recipe import Stages

# The bundled windows last 1 to 2 s at 15 or 30 frames per second: 8 frames at 7.5 per second span 1.07 s.
_CLIP = ClipConfig(num_frames=8, height=112, width=112, fps=7.5)


def tiny() -> Stages:
    """Train the tiny model on the bundled clips: shows that everything runs and that something is learnt.

    Target: better than the largest class. Each of the 33 test windows is worth three points: no claim about
    accuracy can rest on them.
    Hardware: two CPU cores.
    Source: not the paper's; scaled down from its recipe for UCF101.
    """
    pretrain = PretrainConfig(
        model=ModelConfig(size="tiny", decoder_depth=2),
        clip=_CLIP,
        selection=SelectionConfig(method="rero", keep_ratio=0.3, encode_ratio=0.1),
        augment=AugmentConfig(crop="multi_scale", flip=True),
        data=DataConfig(batch_size=16, num_workers=0, memory_cache=True),
        optim=OptimConfig(
            base_lr=5e-3,
            min_lr=1e-5,
            global_batch_size=16,
            epochs=300,  # three steps each
            warmup_epochs=30,
            betas=(0.9, 0.95),
            clip_grad_norm=1.0,
        ),
        run=RunConfig(save_every_epochs=150, log_every_steps=5),
    )
    finetune = FinetuneConfig(
        model=ModelConfig(size="tiny"),
        clip=_CLIP,
        selection=SelectionConfig(method="rero", keep_ratio=0.3, encode_ratio=0.1),
        augment=AugmentConfig(crop="multi_scale", flip=True),
        data=DataConfig(batch_size=16, num_workers=0, memory_cache=True),
        optim=OptimConfig(
            base_lr=1e-2,
            min_lr=1e-6,
            global_batch_size=16,
            epochs=50,
            warmup_epochs=5,
            layer_decay=0.9,
            clip_grad_norm=1.0,
            label_smoothing=0.1,
        ),
        evaluation=EvaluationConfig(num_segments=3, num_crops=1),
        run=RunConfig(save_every_epochs=50, evaluate_every_epochs=5),
    )
    return pretrain, finetune
