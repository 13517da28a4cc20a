"""Masked Video Distillation on Kinetics-400, as its paper has it and with EVEREST's tokens.

Source: MVD (CVPR 2023), hyper-parameters of pre-training on K400; what it leaves open is VideoMAE's.
"""

from everest.config import PretrainConfig
from everest.recipes import kinetics400, videomae
from everest.recipes.recipe import Stages
from everest.settings import override


def base() -> Stages:
    """Distil ViT-B on Kinetics-400 from an image and a video teacher (MVD); name them with --set.

    Teachers: the paper's are an MAE of ImageNet-1K and a VideoMAE of K400 with 1600 epochs. Give them with
    --set objective.image_teacher=PATH --set objective.video_teacher=PATH; one of the two is enough to run.
    Target: top-1 82.7 from ViT-B teachers, 83.4 from ViT-L teachers (MVD's paper), 5 x 3 views.
    Hardware: not in our notes of the paper. Teachers see all tokens: a step costs several of VideoMAE's.
    Source: MVD's paper for pre-training. Fine-tuning, which computes all tokens, is VideoMAE's on K400.
    """
    return _pretraining(), videomae.finetuning()


def everest() -> Stages:
    """Distil ViT-B on Kinetics-400 with EVEREST's tokens; name the teachers with --set.

    Teachers: as for mvd. They still see all tokens; the student sees a tenth of them and predicts a fifth.
    Target: none is known; neither paper has this row.
    Hardware: one GPU gives the same run through accumulated passes.
    Source: the selection and the fine-tuning are those of EVEREST for K400, ViT-B; all else is MVD's.
    """
    pretrain, finetune = kinetics400.base()
    selection = None if pretrain is None else pretrain.selection
    return _pretraining().model_copy(update={"selection": selection}), finetune


def _pretraining() -> PretrainConfig:
    # min_lr is for a batch of 256 like base_lr, as in VideoMAE: the rate falls from 6e-4 to 4e-4.
    network = ["model.drop_path=0.1", "model.positions=sine_3d", "objective.name=mvd"]
    return override(videomae.pretraining(epochs=400), [*network, "optim.min_lr=1e-4", "run.save_every_epochs=10"])
