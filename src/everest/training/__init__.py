"""Training: the loop, its parts, and the runs that leave a folder with weights."""

from everest.training.runs import TrainedRun, describe_checkpoint, run_finetuning, run_pretraining

__all__ = ["TrainedRun", "describe_checkpoint", "run_finetuning", "run_pretraining"]
