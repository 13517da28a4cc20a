"""Whole runs, and what travels with their weights."""

from fractions import Fraction
from typing import Literal, Self

from pydantic import model_validator

from everest.config.model import ClipConfig, FrameSelectionConfig, ModelConfig, ObjectiveConfig, SelectionConfig
from everest.config.names import VARYING, WHOLE_CLIP_ARCHS, Config, Task
from everest.config.running import AugmentConfig, DataConfig, EvaluationConfig, OptimConfig, RunConfig


def _arch_problems(config: "TrainConfig | CheckpointInfo") -> list[str]:
    """Say what a network other than ours cannot do."""
    arch, method = config.model.arch, config.selection.method
    if arch != "vit" and method in VARYING:
        return [f"model.arch={arch} takes as many tokens of every clip, given selection.method={method}: use rero"]
    if arch not in WHOLE_CLIP_ARCHS:
        return []
    whole = f"model.arch={arch} takes whole clips"
    problems = [] if method == "all" else [f"{whole}, given selection.method={method}: set selection.method=all"]
    if config.frame_selection.enabled and arch != "vivit":
        problems.append(f"{whole} and has no tokens to choose frames by: set frame_selection.enabled=false")
    return problems


def _graph_problems(config: "TrainConfig") -> list[str]:
    """Say what cannot be recorded as a CUDA graph."""
    if not config.run.cuda_graphs:
        return []
    reasons = {
        f"as many tokens of every clip, but selection.method={config.selection.method} keeps another number of each": (
            config.selection.method in VARYING
        ),
        "as many operations for every clip, but with selection.camera=moving clips decide": (
            config.selection.camera == "moving"
        ),
        "what a pass keeps, but run.activation_checkpointing=true keeps little and computes it again": (
            config.run.activation_checkpointing
        ),
    }
    return [
        f"run.cuda_graphs=true replays {reason}: use run.cuda_graphs=false"
        for reason, is_so in reasons.items()
        if is_so
    ]


class TrainConfig(Config):
    """What pre-training and fine-tuning have in common."""

    model: ModelConfig
    clip: ClipConfig
    selection: SelectionConfig
    frame_selection: FrameSelectionConfig = FrameSelectionConfig()
    augment: AugmentConfig
    data: DataConfig = DataConfig()
    optim: OptimConfig
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [
            f"clip.{name} ({given}) must be a multiple of model.{unit} ({size})"
            for name, given, unit, size in (
                ("num_frames", self.clip.num_frames, "tubelet_size", self.model.tubelet_size),
                ("height", self.clip.height, "patch_size", self.model.patch_size),
                ("width", self.clip.width, "patch_size", self.model.patch_size),
            )
            if given % size
        ]
        if self.model.tubelet_size * self.model.patch_size**2 < 2:
            problems.append("a tubelet of a single pixel has no variance: raise model.tubelet_size or model.patch_size")
        needs_scores = self.selection.method in {"rero", "adaptive", "rlt"} or self.frame_selection.enabled
        if needs_scores and self.clip.num_frames < 2 * self.model.tubelet_size:
            problems.append(
                f"clip.num_frames ({self.clip.num_frames}) must hold at least two tubelets of "
                f"{self.model.tubelet_size} frames: the selection compares neighbours in time"
            )
        if self.run.compile and self.selection.method in VARYING:
            problems.append(
                f"run.compile=true compiles for one number of tokens, but selection.method={self.selection.method} "
                "keeps another of every clip: use run.compile=false"
            )
        problems += [*_graph_problems(self), *_arch_problems(self)]
        if problems:
            raise ValueError("; ".join(problems))
        return self


class PretrainConfig(TrainConfig):
    """A complete pre-training run."""

    task: Literal["pretrain"] = "pretrain"
    objective: ObjectiveConfig = ObjectiveConfig()

    @model_validator(mode="after")
    def _check_objective(self) -> Self:
        if self.objective.name == "mme" and self.augment.rand_augment_ops:
            raise ValueError(
                f"objective.name=mme needs augment.rand_augment_ops=0, given: {self.augment.rand_augment_ops}. "
                "RandAugment turns and shifts clips, and trajectories would not follow"
            )
        return self

    @model_validator(mode="after")
    def _check_graphs(self) -> Self:
        if self.run.cuda_graphs and self.objective.name != "pixels":
            raise ValueError(
                "run.cuda_graphs=true replays what is computed from clips alone, but "
                f"objective.name={self.objective.name} takes more: use run.cuda_graphs=false"
            )
        return self

    @model_validator(mode="after")
    def _check_arch(self) -> Self:
        if self.model.arch != "vit":
            raise ValueError(
                f"model.arch={self.model.arch} is trained with labels only: set model.arch=vit to pre-train, "
                "or use everest finetune"
            )
        return self


class FinetuneConfig(TrainConfig):
    """A complete fine-tuning run, with the evaluation that closes it."""

    task: Literal["finetune"] = "finetune"
    evaluation: EvaluationConfig = EvaluationConfig()


class CheckpointInfo(Config):
    """What travels inside a weights file so that it can be used without its recipe.

    Attributes:
        format_version: Raised when the meaning of a field changes.
        task, model: What the weights were trained for, and the network.
        clip: How clips were taken and how large they are.
        selection: Which tokens are computed.
        frame_selection: Whether frames are chosen by their information.
        objective: What a pre-trained model predicts.
        class_names: Names by class index; empty after pre-training.
        mean, std: Per channel, of pixel values scaled to 0..1.
    """

    format_version: Literal[1] = 1
    task: Task
    model: ModelConfig
    clip: ClipConfig
    selection: SelectionConfig
    frame_selection: FrameSelectionConfig = FrameSelectionConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    class_names: tuple[str, ...] = ()
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problems := _arch_problems(self):
            raise ValueError("; ".join(problems))
        return self


def num_candidate_pairs(num_pairs: int, config: FrameSelectionConfig) -> int:
    """Candidates for ``num_pairs`` wanted pairs of frames: floor(alpha * num_pairs), computed exactly, if turned on."""
    return int(Fraction(str(config.alpha)) * num_pairs) if config.enabled else num_pairs


def num_sampled_frames(config: TrainConfig | CheckpointInfo) -> int:
    """Frames to take from a video for one clip: more than the model takes where frames are selected."""
    size = config.model.tubelet_size
    return num_candidate_pairs(config.clip.num_frames // size, config.frame_selection) * size
