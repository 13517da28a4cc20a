"""The supervised rows: networks without pre-training, from fresh weights."""

from everest.config import (
    AugmentConfig,
    ClipConfig,
    DataConfig,
    EvaluationConfig,
    FinetuneConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    SelectionConfig,
)
from everest.recipes.recipe import Stages


def scratch() -> Stages:
    """Train mvit_s, mvit_b, vivit, timesformer, xvit or motionformer (model.arch) from scratch with labels.

    Target: MViT-S 76.0 and MViT-B 78.4 top-1 on Kinetics-400 (the table's supervised rows), 5 x 1 views. The others
    were published from ImageNet weights; from fresh ones they will end lower.
    Hardware: MViT was trained on 128 GPUs, 4 clips each; one GPU gives the same run through accumulated passes. See
    docs/supervised.md for multiply-adds and seconds.
    Source: MViT (ICCV 2021), training on Kinetics-400, as its paper describes it: 200 epochs, 30 of warm-up, learning
    rate 1.6e-3 for a batch of 512, mixup, cutmix, RandAugment, erasing, drop path .2, dropout .5, two clips per video.
    For the networks of token lists, selection.method and selection.keep_ratio choose tokens; clips of single frames
    as tokens, which TimeSformer and XViT are known with, are model.tubelet_size=1 and clip.num_frames=8.
    """
    return None, FinetuneConfig(
        model=ModelConfig(arch="mvit_b", drop_path=0.2, head_dropout=0.5),
        clip=ClipConfig(num_frames=16, height=224, width=224, sampling="dense", stride=4),
        selection=SelectionConfig(method="all", keep_ratio=0.5, encode_ratio=0.1),  # the ratios wait for a method
        augment=AugmentConfig(
            crop="random_resized",
            min_area=0.08,
            flip=True,
            rand_augment_ops=4,
            rand_augment_magnitude=7.0,
            rand_augment_probability=0.5,
            erase_probability=0.25,
            mixup_alpha=0.8,
            cutmix_alpha=1.0,
        ),
        data=DataConfig(batch_size=8, clips_per_video=2),
        optim=OptimConfig(
            base_lr=8e-4,
            min_lr=8e-6,
            global_batch_size=512,
            epochs=200,
            warmup_epochs=30,
            weight_decay=0.05,
            betas=(0.9, 0.999),
            layer_decay=1.0,
            clip_grad_norm=1.0,
            label_smoothing=0.1,
        ),
        evaluation=EvaluationConfig(num_segments=5, num_crops=1),
        run=RunConfig(save_every_epochs=10, log_every_steps=10),
    )
