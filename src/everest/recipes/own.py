"""A folder of videos of one's own, on one GPU or on a patient CPU."""

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

# Frames per second rather than a stride, because own videos come at many rates: 7.5 is stride 4 at 30.
_CLIP = ClipConfig(num_frames=16, height=224, width=224, fps=7.5)


def small() -> Stages:
    """Train ViT-S on a folder of videos, one sub-folder per class, from scratch or from given weights.

    Target: depends on the data. The smallest set that the paper pre-trains on from scratch is HMDB51, 3.6
    thousand clips; with far fewer, fine-tune from weights of a larger data set.
    Hardware: one GPU of 12 GB or more, going by the paper's table of memory for ViT-S. On a CPU, make the clip
    smaller: --set clip.height=112 --set clip.width=112 --set clip.num_frames=8.
    Source: not the paper's; its recipe for UCF101 with a smaller model, smaller batches, clipped gradients and
    no mirroring. If no class of yours tells left from right, add --set augment.flip=true.
    """
    pretrain = PretrainConfig(
        model=ModelConfig(size="small"),
        clip=_CLIP,
        selection=SelectionConfig(method="rero", keep_ratio=0.3, encode_ratio=0.1),
        augment=AugmentConfig(crop="multi_scale", flip=False),
        data=DataConfig(batch_size=32),
        optim=OptimConfig(
            base_lr=1e-3,
            min_lr=1e-5,
            global_batch_size=64,
            epochs=400,
            warmup_epochs=20,
            betas=(0.9, 0.95),
            clip_grad_norm=1.0,
        ),
        run=RunConfig(save_every_epochs=20),
    )
    finetune = FinetuneConfig(
        model=ModelConfig(size="small", drop_path=0.1),
        clip=_CLIP,
        selection=SelectionConfig(method="rero", keep_ratio=0.6, encode_ratio=0.1),
        augment=AugmentConfig(
            crop="random_resized", min_area=0.25, flip=False, rand_augment_ops=2, erase_probability=0.25
        ),
        data=DataConfig(batch_size=16),
        optim=OptimConfig(
            base_lr=1e-3,
            min_lr=1e-6,
            global_batch_size=64,
            epochs=50,
            warmup_epochs=5,
            layer_decay=0.75,
            clip_grad_norm=1.0,
            label_smoothing=0.1,
        ),
        evaluation=EvaluationConfig(num_segments=2, num_crops=3),
        run=RunConfig(evaluate_every_epochs=5),
    )
    return pretrain, finetune


# The shape that the ready-made weights were trained with (docs/ready-made.md).
_SMALL_CLIP = ClipConfig(num_frames=8, height=112, width=112, fps=7.5)


def nano() -> Stages:
    """Train the nano model on a folder of videos, in minutes on a CPU.

    Target: depends on the data; a first answer, before ViT-S is worth its time.
    Hardware: two CPU cores. Fine-tuning sees some 170 clips a second on one of them (Intel Xeon with AMX, bfloat16).
    Source: ours; what docs/results.md found for networks this small. Learning rates are high for that reason, and
    batches of pre-training small: fewer, larger steps learn nothing.
    """
    pretrain = PretrainConfig(
        model=ModelConfig(size="nano"),
        clip=_SMALL_CLIP,
        selection=SelectionConfig(method="rero", keep_ratio=0.3, encode_ratio=0.1),
        augment=AugmentConfig(crop="multi_scale", flip=False),
        data=DataConfig(batch_size=16, memory_cache=True),
        optim=OptimConfig(
            base_lr=1e-2,
            min_lr=1e-5,
            global_batch_size=16,
            epochs=600,
            warmup_epochs=60,
            betas=(0.9, 0.95),
            clip_grad_norm=1.0,
        ),
        run=RunConfig(save_every_epochs=100),
    )
    finetune = FinetuneConfig(
        model=ModelConfig(size="nano"),
        clip=_SMALL_CLIP,
        selection=SelectionConfig(method="rero", keep_ratio=0.6, encode_ratio=0.1),
        augment=AugmentConfig(crop="multi_scale", flip=False),
        data=DataConfig(batch_size=64, memory_cache=True),
        optim=OptimConfig(
            base_lr=4e-3,
            min_lr=1e-6,
            global_batch_size=64,
            epochs=100,
            warmup_epochs=10,
            layer_decay=0.9,
            clip_grad_norm=1.0,
            label_smoothing=0.1,
        ),
        evaluation=EvaluationConfig(num_segments=3, num_crops=1),
        run=RunConfig(evaluate_every_epochs=10),
    )
    return pretrain, finetune
