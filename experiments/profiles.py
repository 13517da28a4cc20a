"""How large experiments are: settings of network, clips and training."""

from dataclasses import dataclass, field

Settings = dict[str, object]
"""Settings as the command line knows them, by name."""


@dataclass(frozen=True)
class Profile:
    """How large everything is.

    Attributes:
        name: In results.
        clip: Settings of network, clip and batch, of both stages.
        pretrain_clips: Clips that an arm is pre-trained on, each as often as it comes round; of equal time, VideoMAE's.
        finetune_clips: The same of a classifier.
        finetune_epochs: A classifier sees no clip more often.
        pretraining: Further settings of pre-training.
        finetuning: Further settings of fine-tuning.
    """

    name: str
    clip: Settings
    pretrain_clips: int
    finetune_clips: int
    finetune_epochs: int
    pretraining: Settings = field(default_factory=dict)
    finetuning: Settings = field(default_factory=dict)


_RUN: Settings = {
    "run.tensorboard": False,
    "run.report": False,
    "run.save_every_minutes": 60,
    "run.save_every_epochs": 100000,
    "run.log_every_steps": 20,
    "data.memory_cache": True,
    "data.num_workers": 0,
}
_CPU: Settings = {  # 8 frames of 48 x 48 pixels in patches of 8 are 4 x 6 x 6 = 144 tokens
    "model.size": "nano",
    "model.patch_size": 8,
    "clip.num_frames": 8,
    "clip.height": 48,
    "clip.width": 48,
    "augment.crop_scales": [1.0, 0.875],
    "run.precision": "bfloat16",
}
# Fewer than a hundred clips in a batch, and networks this small do not find what tells the classes apart.
_CPU_BATCH: Settings = {
    "data.batch_size": 128,
    "optim.global_batch_size": 128,
    "optim.base_lr": 4e-3,
    "optim.layer_decay": 1.0,
}
_GPU: Settings = {
    "model.size": "small",
    "model.patch_size": 16,
    "clip.num_frames": 16,
    "clip.height": 224,
    "clip.width": 224,
    "data.batch_size": 64,
    "optim.global_batch_size": 64,
    "data.num_workers": -1,
    "run.compile": True,
    "run.precision": "bfloat16",
}
PROFILES = {
    profile.name: profile
    for profile in (
        Profile("cpu", _RUN | _CPU, 200_000, 60_000, 100, {"optim.base_lr": 1e-2}, _CPU_BATCH),
        Profile("quick", _RUN | _CPU, 200, 200, 100, {"data.batch_size": 16}, {"data.batch_size": 16}),
        Profile("gpu", _RUN | _GPU, 400_000, 60_000, 100),
    )
}
"""Two CPU cores for hours; for minutes, to see that all runs; and one GPU."""
