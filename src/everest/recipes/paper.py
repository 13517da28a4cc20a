"""What the recipes of the paper have in common; a data set's module says only where it differs.

Source: EVEREST (ICML 2024, arXiv 2211.10636), tables of hyper-parameters. A comment "not in the paper" marks
a choice that the paper leaves open, with where it was taken from.
"""

from everest.config import (
    AugmentConfig,
    ClipConfig,
    DataConfig,
    EvaluationConfig,
    FinetuneConfig,
    FrameSelectionConfig,
    ModelConfig,
    ModelSize,
    OptimConfig,
    PretrainConfig,
    RunConfig,
    SelectionConfig,
)

ENCODE_RATIO = 0.1
"""Share of all tokens that the encoder sees in pre-training (paper, ReRo masking)."""


def pretraining(
    *,
    size: ModelSize = "base",
    stride: int,
    base_lr: float,
    global_batch_size: int,
    epochs: int,
    batch_size: int,
    save_every_epochs: int,
    warmup_epochs: int = 40,
    keep_ratio: float = 0.3,
    flip: bool = True,
    frame_selection: FrameSelectionConfig | None = None,
) -> PretrainConfig:
    """Build a pre-training run of the paper: 16 x 224 x 224, AdamW, cosine, multi-scale crops.

    Args:
        size: Model size.
        stride: Frames of the video from one sampled frame to the next.
        base_lr: Learning rate for a batch of 256.
        global_batch_size: Clips per optimiser step.
        epochs: Passes over the data.
        batch_size: Clips per device and forward pass; any divisor of the global batch gives the same run.
        save_every_epochs: Epochs from one checkpoint to the next.
        warmup_epochs: Epochs of linear warm-up.
        keep_ratio: The paper's rho_pre.
        flip: Mirror half of the clips.
        frame_selection: Information-intensive frame selection; None for all frames.
    """
    return PretrainConfig(
        # The decoder has 4 blocks (paper). No drop path in pre-training: not in the paper, as VideoMAE does.
        model=ModelConfig(size=size, patch_size=16, tubelet_size=2, drop_path=0.0),
        clip=ClipConfig(num_frames=16, height=224, width=224, sampling="dense", stride=stride),
        selection=SelectionConfig(method="rero", keep_ratio=keep_ratio, encode_ratio=ENCODE_RATIO),
        frame_selection=frame_selection or FrameSelectionConfig(),
        augment=AugmentConfig(crop="multi_scale", crop_scales=(1.0, 0.875, 0.75, 0.66), flip=flip),
        data=DataConfig(batch_size=batch_size),
        optim=OptimConfig(
            base_lr=base_lr,
            min_lr=1e-5,  # not in the paper: VideoMAE's, for a batch of 256 like base_lr
            global_batch_size=global_batch_size,
            epochs=epochs,
            warmup_epochs=warmup_epochs,
            weight_decay=0.05,
            betas=(0.9, 0.95),
            clip_grad_norm=None,  # not in the paper: VideoMAE clips nothing
        ),
        run=RunConfig(save_every_epochs=save_every_epochs, log_every_steps=10),
    )


def finetuning(
    *,
    size: ModelSize = "base",
    clip: ClipConfig,
    base_lr: float,
    global_batch_size: int,
    epochs: int,
    batch_size: int,
    num_segments: int,
    keep_ratio: float = 0.6,
    flip: bool = True,
) -> FinetuneConfig:
    """Build a fine-tuning run of the paper: layer decay, RandAugment, label smoothing, evaluation by views.

    Args:
        size: Model size.
        clip: How clips are taken.
        base_lr: Learning rate for a batch of 256.
        global_batch_size: Clips per optimiser step.
        epochs: Passes over the data.
        batch_size: Clips per device and forward pass; any divisor of the global batch gives the same run.
        num_segments: Views over time in the evaluation; over space there are always three.
        keep_ratio: Share of the tokens that is computed, without randomness.
        flip: Mirror half of the clips. Not in the paper: as VideoMAE, everywhere but on SSv2.
    """
    return FinetuneConfig(
        # No dropout before the head: not in the paper, as VideoMAE on Kinetics.
        model=ModelConfig(size=size, patch_size=16, tubelet_size=2, drop_path=0.1, head_dropout=0.0),
        clip=clip,
        selection=SelectionConfig(method="rero", keep_ratio=keep_ratio, encode_ratio=ENCODE_RATIO),
        augment=AugmentConfig(
            crop="random_resized",  # not in the paper: VideoMAE's crop, with its smallest area
            min_area=0.08,
            flip=flip,
            # The paper writes "RandAugment (9, 0.5)", read as magnitude 9 and probability 0.5 for each
            # operation. Two operations: not in the paper, the usual default.
            rand_augment_ops=2,
            rand_augment_magnitude=9.0,
            rand_augment_probability=0.5,
            erase_probability=0.25,  # not in the paper: VideoMAE's
            # The paper names neither mixup nor cutmix, and the authors' scripts turn both off.
            mixup_alpha=0.0,
            cutmix_alpha=0.0,
        ),
        # One clip per video and epoch: not in the paper, the authors' scripts do so (VideoMAE takes two).
        data=DataConfig(batch_size=batch_size, clips_per_video=1),
        optim=OptimConfig(
            base_lr=base_lr,
            min_lr=1e-6,  # not in the paper: VideoMAE's, for a batch of 256 like base_lr
            global_batch_size=global_batch_size,
            epochs=epochs,
            warmup_epochs=5,
            weight_decay=0.05,
            betas=(0.9, 0.999),
            layer_decay=0.75,
            clip_grad_norm=None,  # not in the paper: VideoMAE clips nothing
            label_smoothing=0.1,
        ),
        evaluation=EvaluationConfig(num_segments=num_segments, num_crops=3),
        run=RunConfig(save_every_epochs=5, log_every_steps=10),
    )


def dense(stride: int) -> ClipConfig:
    """Take 16 frames of 224 x 224, ``stride`` frames of the video apart."""
    return ClipConfig(num_frames=16, height=224, width=224, sampling="dense", stride=stride)
