"""Masked Motion Encoding (MME, CVPR 2023) on Kinetics-400: as its paper has it, and with EVEREST's tokens.

Pre-training needs optical flow: `everest data flow MANIFEST` first.
"""

from everest.recipes import kinetics400, videomae
from everest.recipes.recipe import Stages
from everest.settings import override

_MME = ["objective.name=mme"]


def base() -> Stages:
    """Train ViT-B on Kinetics-400 by Masked Motion Encoding.

    Target: top-1 81.8 (paper of MME).
    Hardware: not in the paper; EVEREST's has an epoch of 10 min 15 s on 8 A6000 at a batch of 128.
    Source: MME, its hyper-parameters of K400: tubes of which .7 are masked (59 of 196 places are seen, 472 tokens),
    AdamW at 1.5e-4, 1600 epochs. Batch, weight decay, crops and the fine-tuning are VideoMAE's, on which MME is built.
    """
    pretrain = override(videomae.pretraining(epochs=1600, encode_ratio=0.3), _MME)
    return pretrain, videomae.finetuning()


def everest() -> Stages:
    """Train ViT-B on Kinetics-400 with EVEREST's tokens and MME's objective, which nobody has reported yet.

    Target: none is known; EVEREST alone has top-1 79.2 after as many epochs, MME alone 81.8 after 1600.
    Hardware: that of k400-base and less; the decoder has one block instead of four.
    Source: paper, hyper-parameters of K400, column ViT-B, as in k400-base; the objective and its decoder are MME's.
    """
    pretrain, finetune = kinetics400.base()
    return None if pretrain is None else override(pretrain, _MME), finetune
