"""Masked Video Distillation on Kinetics-400, as its paper has it and with EVEREST's tokens.

Source: MVD (CVPR 2023), hyper-parameters of pre-training on K400; what it leaves open is VideoMAE's.
"""

from everest.config import (
    AugmentConfig,
    DataConfig,
    EvaluationConfig,
    FinetuneConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    PretrainConfig,
    RunConfig,
    SelectionConfig,
)
from everest.recipes.kinetics400 import base as everest_base
from everest.recipes.paper import ENCODE_RATIO, dense
from everest.recipes.recipe import Stages

_ALL = SelectionConfig(method="all", keep_ratio=1.0, encode_ratio=1.0)
_TUBE = SelectionConfig(method="tube", keep_ratio=1.0, encode_ratio=0.1)
_RERO = SelectionConfig(method="rero", keep_ratio=0.3, encode_ratio=ENCODE_RATIO)


def base() -> Stages:
    """Distil ViT-B on Kinetics-400 from an image and a video teacher (MVD); name them with --set.

    Teachers: the paper's are an MAE of ImageNet-1K and a VideoMAE of K400 with 1600 epochs. Give them with
    --set objective.image_teacher=PATH --set objective.video_teacher=PATH; one of the two is enough to run.
    Target: top-1 82.7 from ViT-B teachers, 83.4 from ViT-L teachers (MVD's paper), 5 x 3 views.
    Hardware: not in our notes of the paper. Teachers see all tokens: a step costs several of VideoMAE's.
    Source: MVD's paper for pre-training. Fine-tuning, which computes all tokens, is VideoMAE's on K400.
    """
    return _pretraining(_TUBE), _finetuning()


def everest() -> Stages:
    """Distil ViT-B on Kinetics-400 with EVEREST's tokens; name the teachers with --set.

    Teachers: as for mvd. They still see all tokens; the student sees a tenth of them and predicts a fifth.
    Target: none is known; neither paper has this row.
    Hardware: one GPU gives the same run through accumulated passes.
    Source: the selection and the fine-tuning are those of EVEREST for K400, ViT-B; all else is MVD's.
    """
    return _pretraining(_RERO), everest_base()[1]


def _pretraining(selection: SelectionConfig) -> PretrainConfig:
    return PretrainConfig(
        model=ModelConfig(size="base", patch_size=16, tubelet_size=2, drop_path=0.1, positions="sine_3d"),
        clip=dense(4),
        selection=selection,
        objective=ObjectiveConfig(name="mvd"),
        augment=AugmentConfig(crop="multi_scale", crop_scales=(1.0, 0.875, 0.75, 0.66), flip=True),
        data=DataConfig(batch_size=32),
        optim=OptimConfig(
            base_lr=1.5e-4,
            min_lr=1e-4,  # like base_lr for a batch of 256, as in VideoMAE: the rate falls from 6e-4 to 4e-4
            global_batch_size=1024,
            epochs=400,
            warmup_epochs=40,
            weight_decay=0.05,
            betas=(0.9, 0.95),
            clip_grad_norm=None,
        ),
        run=RunConfig(save_every_epochs=10, log_every_steps=10),
    )


def _finetuning() -> FinetuneConfig:
    """Fine-tune as VideoMAE does on K400: all tokens, mixup and cutmix, two clips of each video."""
    return FinetuneConfig(
        model=ModelConfig(size="base", patch_size=16, tubelet_size=2, drop_path=0.1),
        clip=dense(4),
        selection=_ALL,
        augment=AugmentConfig(
            crop="random_resized",
            min_area=0.08,
            flip=True,
            rand_augment_ops=2,
            rand_augment_magnitude=9.0,
            rand_augment_probability=0.5,
            erase_probability=0.25,
            mixup_alpha=0.8,
            cutmix_alpha=1.0,
        ),
        data=DataConfig(batch_size=16, clips_per_video=2),
        optim=OptimConfig(
            base_lr=1e-3,
            min_lr=1e-6,
            global_batch_size=512,
            epochs=75,
            warmup_epochs=5,
            weight_decay=0.05,
            betas=(0.9, 0.999),
            layer_decay=0.75,
            clip_grad_norm=None,
            label_smoothing=0.1,
        ),
        evaluation=EvaluationConfig(num_segments=5, num_crops=3),
        run=RunConfig(save_every_epochs=5, log_every_steps=10),
    )
