"""How large experiments are: settings of network, clips and training."""

from collections.abc import Mapping
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
        pretraining_rates: Base learning rates by what chooses the tokens, where they were tuned (``tuning.py``).
        finetuning_rates: The same of ``fresh`` and of ``pre-trained`` networks.
    """

    name: str
    clip: Settings
    pretrain_clips: int
    finetune_clips: int
    finetune_epochs: int
    pretraining: Settings = field(default_factory=dict)
    finetuning: Settings = field(default_factory=dict)
    pretraining_rates: Mapping[str, float] = field(default_factory=dict)
    finetuning_rates: Mapping[str, float] = field(default_factory=dict)

    @property
    def tuning_batch(self) -> int:
        """Clips of a step of fine-tuning."""
        return int(str((self.clip | self.finetuning)["optim.global_batch_size"]))

    def pretraining_of(self, settings: Mapping[str, object]) -> Settings:
        """Give the further settings of a way to pre-train."""
        rate = self.pretraining_rates.get(str(settings.get("selection.method")))
        return self.pretraining | ({} if rate is None else {"optim.base_lr": rate})

    def finetuning_of(self, *, fresh: bool) -> Settings:
        """Give the further settings of fine-tuning, from fresh or from pre-trained weights."""
        rate = self.finetuning_rates.get("fresh" if fresh else "pre-trained")
        return self.finetuning | ({} if rate is None else {"optim.base_lr": rate})


SHORT_RATES: dict[str, dict[str, float]] = {
    "cpu": {"everest": 2e-3, "none": 1e-3, "random": 2e-3, "running-cell": 2e-3, "videomae": 4e-3}
}
"""Profile -> arm of a -> base learning rate of fine-tuning a fifth as long (``tuning.py``): of those within half a
point of the best the smallest, as with large ones some runs learn nothing. Not a part of the profile, whose every
change makes all results anew."""
_RUN: Settings = {
    "run.tensorboard": False,
    "run.report": False,
    "run.save_every_minutes": 60,
    "run.save_every_epochs": 100000,
    "run.log_every_steps": 20,
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
_CPU_BATCH: Settings = {"data.batch_size": 128, "optim.global_batch_size": 128, "optim.layer_decay": 1.0}
# What was best in tuning.py of the rates that were tried first, if by little; where two were equal, the middle one.
_CPU_PRETRAINING = {"rero": 2e-2, "tube": 5e-3, "random_equal": 1e-2, "running_cell": 1e-2}
_CPU_FINETUNING = {"fresh": 1.6e-2, "pre-trained": 1e-3}
_QUICK_BATCH: Settings = {"data.batch_size": 16, "optim.global_batch_size": 16}
_GPU: Settings = {
    "model.size": "small",
    "model.patch_size": 16,
    "clip.num_frames": 8,
    "clip.height": 224,
    "clip.width": 224,
    "data.batch_size": 64,
    "optim.global_batch_size": 64,
    "data.num_workers": -1,
    "run.precision": "bfloat16",
}
# Small batches, for steps: after 1,400 of pre-training no features of the CPU profile told speeds apart, after 12,000
# they did. Rates usual in the field; compiling is worth its time in pre-training only.
_GPU_PRETRAINING: Settings = {"optim.base_lr": 6e-4, "run.compile": True}
_GPU_FINETUNING: Settings = {"optim.base_lr": 1e-3}
PROFILES = {
    profile.name: profile
    for profile in (
        Profile("cpu", _RUN | _CPU, 200_000, 60_000, 100, {}, _CPU_BATCH, _CPU_PRETRAINING, _CPU_FINETUNING),
        Profile("quick", _RUN | _CPU, 200, 200, 100, {"data.batch_size": 16}, _QUICK_BATCH),
        Profile("gpu", _RUN | _GPU, 800_000, 60_000, 100, _GPU_PRETRAINING, _GPU_FINETUNING),
    )
}
"""Two CPU cores for hours; for minutes, to see that all runs; and one GPU."""
