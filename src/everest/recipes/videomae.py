"""VideoMAE (NeurIPS 2022), as its paper has it; MME and MVD are built on it.

Source: VideoMAE, tables of hyper-parameters. What it shares with EVEREST's recipes is taken from there.
"""

from everest.config import FinetuneConfig, PretrainConfig
from everest.recipes import paper
from everest.recipes.recipe import Stages
from everest.settings import override


def kinetics400() -> Stages:
    """Train ViT-B on Kinetics-400 by VideoMAE: tubes of which .9 are masked, all tokens in fine-tuning.

    Target: top-1 81.5 after 1600 epochs (EVEREST's paper, fine-tuned with all tokens).
    Hardware: not in our notes of the paper; one GPU gives the same run through accumulated passes.
    Source: VideoMAE, hyper-parameters of Kinetics-400. For the same weights fine-tuned on EVEREST's tokens, use the
    recipe k400-base with --init.
    """
    return pretraining(epochs=1600), finetuning()


def ucf101() -> Stages:
    """Train ViT-B on UCF101 by VideoMAE: tubes of which .75 are masked.

    Target: top-1 91.3 (split 1).
    Hardware: not in our notes of the paper.
    Source: VideoMAE, hyper-parameters of UCF101.
    """
    pretrain = pretraining(epochs=3200, encode_ratio=0.25, base_lr=3e-4, global_batch_size=192)
    own = ["optim.layer_decay=0.7", "model.drop_path=0.2", "model.head_dropout=0.5"]
    return pretrain, override(finetuning(base_lr=5e-4, global_batch_size=128, epochs=100), own)


def hmdb51() -> Stages:
    """Train ViT-B on HMDB51 by VideoMAE: tubes of which .75 are masked.

    Target: top-1 62.6 (split 1).
    Hardware: not in our notes of the paper.
    Source: VideoMAE, hyper-parameters of HMDB51; rate and batch of pre-training, and what fine-tuning does not name,
    are those of UCF101.
    """
    pretrain = pretraining(epochs=4800, encode_ratio=0.25, base_lr=3e-4, global_batch_size=192, stride=2)
    own = ["optim.layer_decay=0.7", "model.drop_path=0.2", "model.head_dropout=0.5"]
    tuned = finetuning(global_batch_size=128, epochs=50, stride=2, num_segments=10)
    return pretrain, override(tuned, own)


def pretraining(
    *,
    epochs: int,
    encode_ratio: float = 0.1,
    base_lr: float = 1.5e-4,
    global_batch_size: int = 1024,
    stride: int = 4,
) -> PretrainConfig:
    """Build a pre-training run of VideoMAE, ViT-B: EVEREST's with tubes instead of ReRo selection.

    Args:
        epochs: Passes over the data.
        encode_ratio: Share of the places that is seen.
        base_lr: Learning rate for a batch of 256.
        global_batch_size: Clips per optimiser step.
        stride: Frames of the video from one sampled frame to the next.
    """
    run = paper.pretraining(
        stride=stride,
        base_lr=base_lr,
        global_batch_size=global_batch_size,
        epochs=epochs,
        batch_size=32,
        save_every_epochs=20,
    )
    return override(
        run, ["selection.method=tube", "selection.keep_ratio=1.0", f"selection.encode_ratio={encode_ratio}"]
    )


def finetuning(
    *,
    base_lr: float = 1e-3,
    global_batch_size: int = 512,
    epochs: int = 75,
    stride: int = 4,
    num_segments: int = 5,
) -> FinetuneConfig:
    """Build a fine-tuning run of VideoMAE, ViT-B: all tokens, mixup and cutmix, two crops of each clip.

    The paper's batch of 512 is read as a count of clips: 256 videos with two crops each. The source gives the batch and
    the repeated augmentation of 2 side by side and does not decide whether the batch counts videos or crops; for the
    other reading double ``optim.global_batch_size``, which the learning rate follows.

    Args:
        base_lr: Learning rate for a batch of 256.
        global_batch_size: Clips per optimiser step, crops of one video counted apart.
        epochs: Passes over the data.
        stride: Frames of the video from one sampled frame to the next.
        num_segments: Views over time in the evaluation; over space there are three.
    """
    run = paper.finetuning(
        clip=paper.dense(stride),
        base_lr=base_lr,
        global_batch_size=global_batch_size,
        epochs=epochs,
        batch_size=16,
        num_segments=num_segments,
    )
    all_tokens = ["selection.method=all", "selection.keep_ratio=1.0", "selection.encode_ratio=1.0"]
    mixed = ["augment.mixup_alpha=0.8", "augment.cutmix_alpha=1.0"]
    return override(run, [*all_tokens, *mixed, "data.clips_per_video=2", "data.same_frames=true"])
