"""Every setting of a run, typed, checked as a whole, and changed by dotted keys.

A recipe returns one :class:`PretrainConfig` or :class:`FinetuneConfig`; ``settings.py`` changes single settings by
their keys. The resolved configuration is written into the run folder, and what inference needs travels inside the
checkpoint as :class:`CheckpointInfo`.
"""

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

ModelSize = Literal["tiny", "small", "base", "large", "huge"]
Arch = Literal["vit", "mvit_s", "mvit_b", "vivit", "timesformer", "xvit", "motionformer"]
Scoring = Literal["auto", "exact", "bfloat16", "projection", "pixels"]
SelectionMethod = Literal[
    "rero", "adaptive", "rlt", "k_centered", "random", "random_equal", "tube", "running_cell", "all"
]
VARYING: tuple[SelectionMethod, ...] = ("adaptive", "rlt")
"""Selections whose number of tokens follows the clip."""
Task = Literal["pretrain", "finetune"]
ObjectiveName = Literal["pixels", "mme", "mvd"]
PositionKind = Literal["sine", "sine_3d"]
Decoder = Literal["auto", "pyav", "torchcodec"]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]

Ratio = Field(gt=0.0, le=1.0)

WHOLE_CLIP_ARCHS: frozenset[Arch] = frozenset({"mvit_s", "mvit_b", "vivit"})
"""Networks that cannot leave tokens out."""


class Config(BaseModel):
    """Base of all settings: immutable, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(Config):
    """The network: a plain ViT over tubelets, or one of the supervised networks that it is compared with.

    Attributes:
        arch: ``vit``, or a network for fine-tuning and training from scratch only; docs/supervised.md tells of each.
        size: Named width, depth and heads; ``everest.models.zoo`` has the table. An MViT has the size
            of its own name, and takes only notice of ``tiny``, which makes it narrower.
        patch_size: Height and width of a tubelet in pixels.
        tubelet_size: Frames in a tubelet.
        decoder_depth: Blocks of the pre-training decoder; None takes as many as the objective is known with: 4 for
            pixels, 1 for MME, 2 for MVD.
        drop_path: Largest probability of skipping a block in training; grows linearly with depth.
        head_dropout: Dropout before the classification head.
        positions: The encoder's table: ``sine`` counts all tokens of a clip (VideoMAE, EVEREST), ``sine_3d`` has parts
            for time and for the two sides of a frame (MVD).
        positions_grid: Slots, rows and columns that the table is made for; it is interpolated to those of the clip.
            None: made for the clip. Set by fine-tuning from weights that were trained on clips of another shape.
        norm_epsilon: What LayerNorms add to the variance.
        head_norm_epsilon: The same of the norm before a head; weights from transformers have another there.
        encoder_norm: Close the encoder with a norm in pre-training, as all do but transformers by default.
    """

    arch: Arch = "vit"
    size: ModelSize = "base"
    patch_size: int = Field(16, ge=1)
    tubelet_size: int = Field(2, ge=1)
    decoder_depth: int | None = Field(None, ge=1)
    drop_path: float = Field(0.0, ge=0.0, lt=1.0)
    head_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    positions: PositionKind = "sine"
    positions_grid: tuple[Count, Count, Count] | None = None
    norm_epsilon: float = Field(1e-6, gt=0.0, lt=1.0)
    head_norm_epsilon: float = Field(1e-6, gt=0.0, lt=1.0)
    encoder_norm: bool = True


class ClipConfig(Config):
    """How a clip is taken from a video.

    Attributes:
        num_frames: Frames in a clip.
        height, width: Of a clip, in pixels.
        sampling: ``dense``: consecutive frames ``stride`` apart from a random (training) or given (evaluation)
            start. ``segments``: one frame from each of ``num_frames`` equal parts of the video.
        stride: Frames of the video from one sampled frame to the next (dense sampling).
        fps: Sampled frames per second instead of ``stride``, whatever the rate of the file; None: use ``stride``.
    """

    num_frames: int = Field(16, ge=1)
    height: int = Field(224, ge=1)
    width: int = Field(224, ge=1)
    sampling: Literal["dense", "segments"] = "dense"
    stride: int = Field(4, ge=1)
    fps: float | None = Field(None, gt=0.0)


class SelectionConfig(Config):
    """Which tokens are computed.

    Attributes:
        method: ``rero`` is the paper's. ``adaptive`` is ours: ReRo with as many tokens as the clip's motion asks for.
            ``rlt`` drops what repeats, ``k_centered`` takes tubelets that represent the others (see
            ``everest.tokens.others``); the rest are controls (see ``everest.tokens.selection``).
        keep_ratio: Share of all tokens that is kept; the largest share where the method is ``adaptive``.
        encode_ratio: Share of all tokens that is encoded in pre-training; the rest of the kept ones is predicted. Where
            fewer are kept (``adaptive``, ``rlt``), fewer are encoded, in proportion.
        coverage: ``adaptive`` keeps the tokens that cover this share of all change in the clip.
        min_keep_ratio: Smallest share that ``adaptive`` keeps.
        threshold: ``rlt`` drops a tubelet whose pixels differ by less, on average, from those before (normalised).
        scoring: How ``rero`` finds the tokens that change; ``auto`` is exact, and ``bfloat16`` where training computes
            in that (see ``everest.models.scoring``).
    """

    method: SelectionMethod = "rero"
    keep_ratio: float = Ratio
    encode_ratio: float = Ratio
    coverage: float = Field(0.8, gt=0.0, le=1.0)
    min_keep_ratio: float = Field(0.05, gt=0.0, le=1.0)
    threshold: float = Field(0.1, ge=0.0)
    scoring: Scoring = "auto"

    @model_validator(mode="after")
    def _check(self) -> Self:
        kept_first = {"rero", "adaptive", "k_centered", "random_equal", "running_cell"}
        if self.method in kept_first and self.encode_ratio > self.keep_ratio:
            raise ValueError(
                f"encode_ratio ({self.encode_ratio}) is a share of all tokens and cannot exceed "
                f"keep_ratio ({self.keep_ratio})"
            )
        if self.method == "adaptive" and self.min_keep_ratio > self.keep_ratio:
            raise ValueError(
                f"min_keep_ratio ({self.min_keep_ratio}) cannot exceed keep_ratio ({self.keep_ratio}), which is the "
                "largest share that adaptive selection keeps"
            )
        return self


class ObjectiveConfig(Config):
    """What is predicted of the target tokens in pre-training.

    Attributes:
        name: ``pixels``: their normalised pixels (EVEREST, VideoMAE). ``mme``: their shapes and motion (Masked Motion
            Encoding). ``mvd``: the features that teachers give them (Masked Video Distillation).
        flow: The folder with the optical flow for ``mme``, from ``everest data flow``; None: where that command puts
            it, beside the list of clips.
        image_teacher, video_teacher: Where the teachers of ``mvd`` are: a run folder, a weights file, a folder of the
            transformers library, or ``hf:OWNER/NAME`` for one of the Hugging Face hub; None: no such teacher. What a
            weights file says of them is for people: using the student needs no teacher.
        image_weight, video_weight: Of their losses.
        image_width, video_width: Values that each teacher gives a token: found out when a run starts, and needed to
            build the student again.
    """

    name: ObjectiveName = "pixels"
    flow: str | None = None
    image_teacher: str | None = None
    video_teacher: str | None = None
    image_weight: float = Field(1.0, gt=0.0)
    video_weight: float = Field(1.0, gt=0.0)
    image_width: int | None = Field(None, ge=1)
    video_width: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        teachers = {"image_teacher": self.image_teacher, "video_teacher": self.video_teacher}
        given = [name for name, teacher in teachers.items() if teacher is not None]
        if given and self.name != "mvd":
            raise ValueError(f"{' and '.join(given)}: only name=mvd learns from teachers, given: name={self.name}")
        return self


class FrameSelectionConfig(Config):
    """Information-intensive frame selection (paper, section on frame selection).

    Attributes:
        enabled: Choose frame pairs by their share of selected tokens instead of taking all frames.
        alpha: Candidates per frame that is kept, above 1.
    """

    enabled: bool = False
    alpha: float = Field(1.5, gt=1.0)


class AugmentConfig(Config):
    """Random changes to training clips; every change is the same for all frames of a clip.

    Attributes:
        crop: ``multi_scale``: corner, centre or edge, at one of ``crop_scales`` of the short side.
            ``random_resized``: of random area and aspect. ``center``: none.
        crop_scales: For ``multi_scale``.
        min_area: Smallest share of the area for ``random_resized``.
        flip: Mirror half of the clips. Wrong for data whose classes tell left from right.
        rand_augment_ops: Number of RandAugment operations per clip; 0 turns it off.
        rand_augment_magnitude: Mean strength of RandAugment, 0 to 10; each operation draws around it.
        rand_augment_probability: Chance of each operation to be applied.
        erase_probability: Chance to overwrite a box of the clip with noise.
        mixup_alpha: Beta parameter of mixup; 0 turns it off.
        cutmix_alpha: The same of cutmix. With both on, half of the batches get each.
    """

    crop: Literal["multi_scale", "random_resized", "center"] = "multi_scale"
    crop_scales: Annotated[tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...], Field(min_length=1)] = (
        1.0,
        0.875,
        0.75,
        0.66,
    )
    min_area: float = Field(0.08, gt=0.0, le=1.0)
    flip: bool = False
    rand_augment_ops: int = Field(0, ge=0)
    rand_augment_magnitude: float = Field(9.0, ge=0.0, le=10.0)
    rand_augment_probability: float = Field(0.5, ge=0.0, le=1.0)
    erase_probability: float = Field(0.0, ge=0.0, le=1.0)
    mixup_alpha: float = Field(0.0, ge=0.0)
    cutmix_alpha: float = Field(0.0, ge=0.0)


class DataConfig(Config):
    """How clips reach the device.

    Attributes:
        batch_size: Clips per device and pass; ``optim.global_batch_size`` decides how many passes make a step.
        num_workers: Decoding processes; -1 takes one per spare core.
        clips_per_video: Clips taken from each decoded video (repeated augmentation).
        same_frames: The clips of a video show the same frames, each cropped and changed in its own way, as in the
            fine-tuning of VideoMAE; cheaper than clips that begin at times of their own.
        max_failed_share: Training stops when more than this share of the videos cannot be read.
        holdout: Share of each class that is held out as ``test`` when the data has no splits.
        memory_cache: Keep decoded spans in memory: for data sets of a few hundred short clips.
        decoder: What reads the files: ``pyav``, or ``torchcodec`` where it is installed; ``auto`` takes PyAV.
        time_limit_seconds: A video that takes longer to decode counts as one that cannot be read.
        augment_on: Where RandAugment and erasing are done: by the ``workers`` or on the ``device``; ``auto`` takes the
            device where it is a GPU of NVIDIA or AMD. Crops, resizing and flips are always done by the workers.
    """

    batch_size: int = Field(16, ge=1)
    num_workers: int = Field(-1, ge=-1)
    clips_per_video: int = Field(1, ge=1)
    same_frames: bool = False
    max_failed_share: float = Field(0.05, ge=0.0, le=1.0)
    holdout: float = Field(0.2, gt=0.0, lt=1.0)
    memory_cache: bool = False
    decoder: Decoder = "auto"
    time_limit_seconds: float = Field(60.0, gt=0.0)
    augment_on: Literal["auto", "workers", "device"] = "auto"


class OptimConfig(Config):
    """AdamW with warm-up and cosine, per step.

    Attributes:
        base_lr: Learning rate for a batch of 256; base_lr * global_batch_size / 256 is used.
        min_lr: Rate at the last step, for a batch of 256 as well.
        global_batch_size: Clips per optimiser step over all devices and accumulated passes.
        epochs: Passes over the data, each with ``data.clips_per_video`` clips of each video.
        warmup_epochs: Epochs of linear warm-up; may be a fraction.
        weight_decay: Decoupled weight decay of matrices; vectors have none.
        betas: AdamW's moments.
        layer_decay: Factor on the rate from one layer to the one before (fine-tuning); 1 turns it off.
        clip_grad_norm: Largest gradient norm; None turns clipping off.
        ema_decay: Decay of an averaged copy of the weights, used in evaluation; None turns it off.
        label_smoothing: Share of the target that is spread over all classes (fine-tuning).
    """

    base_lr: float = Field(1e-3, gt=0.0)
    min_lr: float = Field(1e-5, ge=0.0)
    global_batch_size: int = Field(256, ge=1)
    epochs: int = Field(100, ge=1)
    warmup_epochs: float = Field(5.0, ge=0.0)
    weight_decay: float = Field(0.05, ge=0.0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    layer_decay: float = Field(1.0, gt=0.0, le=1.0)
    clip_grad_norm: float | None = Field(None, gt=0.0)
    ema_decay: float | None = Field(None, gt=0.0, lt=1.0)
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs}) cannot exceed epochs ({self.epochs})")
        return self


class EvaluationConfig(Config):
    """Multi-view evaluation: every video is decoded once for all its views.

    Attributes:
        num_segments: Clips spread over the duration.
        num_crops: Crops spread over the long side of each clip.
        batch_size: Views per forward pass.
        decoder: What reads the files, as in training.
        time_limit_seconds: A video that takes longer to decode is listed as one that cannot be read.
    """

    num_segments: int = Field(5, ge=1, le=100)
    num_crops: int = Field(3, ge=1, le=100)
    batch_size: int = Field(16, ge=1)
    decoder: Decoder = "auto"
    time_limit_seconds: float = Field(60.0, gt=0.0)


class RunConfig(Config):
    """How the program runs.

    Attributes:
        seed: Decides weights, order, augmentation and selection.
        device: ``auto`` takes an accelerator where there is one.
        precision: ``auto`` takes bfloat16 on accelerators that have it and float32 elsewhere.
        compile: Use torch.compile for encoder and decoder.
        save_every_epochs: Epochs from one checkpoint to the next; the last is always saved.
        keep_checkpoints: Training states that stay on disk.
        log_every_steps: Optimiser steps from one line of metrics to the next.
        evaluate_every_epochs: Epochs between evaluations in fine-tuning; 0: after the last only.
        tensorboard: Write TensorBoard events beside metrics.jsonl.
    """

    seed: int = Field(0, ge=0, lt=2**31)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    save_every_epochs: int = Field(10, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    log_every_steps: int = Field(1, ge=1)
    evaluate_every_epochs: int = Field(0, ge=0)
    tensorboard: bool = True


def _arch_problems(config: "TrainConfig | CheckpointInfo") -> list[str]:
    """Say what a network other than ours cannot do."""
    arch, method = config.model.arch, config.selection.method
    if arch not in WHOLE_CLIP_ARCHS:
        return []
    whole = f"model.arch={arch} takes whole clips"
    problems = [] if method == "all" else [f"{whole}, given selection.method={method}: set selection.method=all"]
    if config.frame_selection.enabled and arch != "vivit":
        problems.append(f"{whole} and has no tokens to choose frames by: set frame_selection.enabled=false")
    return problems


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
        problems += _arch_problems(self)
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
