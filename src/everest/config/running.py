"""Settings of how it is computed: augmentation, data, optimiser, evaluation, devices."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from everest.config.names import Beta, Config, Decoder, TrackerName


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


class RemoteConfig(Config):
    """Clips that lie in shards at URLs.

    Attributes:
        cache_dir: Folder of this machine in which they are kept for the next time, by any number of processes and
            runs; None: every clip is fetched whenever it is needed.
        cache_gb: Gigabytes (10^9 bytes) that are kept at most.
        patience_seconds: How long a clip is asked for again where the server is busy or the connection breaks.
    """

    cache_dir: str | None = None
    cache_gb: float = Field(50.0, gt=0.0)
    patience_seconds: float = Field(300.0, gt=0.0)


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
        remote: Clips at URLs.
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
    remote: RemoteConfig = RemoteConfig()


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
        remote: Clips at URLs, as in training.
    """

    num_segments: int = Field(5, ge=1, le=100)
    num_crops: int = Field(3, ge=1, le=100)
    batch_size: int = Field(16, ge=1)
    decoder: Decoder = "auto"
    time_limit_seconds: float = Field(60.0, gt=0.0)
    remote: RemoteConfig = RemoteConfig()


class RunConfig(Config):
    """How the program runs.

    Attributes:
        seed: Decides weights, order, augmentation and selection.
        shard_weights: Several processes divide weights, gradients and optimiser state between them (FSDP2), where these
            do not fit into one GPU; else each has all of them (DDP).
        device: ``auto`` takes an accelerator where there is one.
        precision: ``auto`` takes bfloat16 on accelerators that have it and float32 elsewhere.
        compile: Use torch.compile for the blocks of encoder and decoder.
        cuda_graphs: Record forward and backward pass as a CUDA graph, once for each shape and type of a batch, and
            replay it: on one GPU, with a step in one pass, as many tokens of every clip and a camera that stands still,
            and pixels or classes as what is predicted. The memory of a pass is then held all the time. No GPU was at
            hand: it has been tested without one only.
        activation_checkpointing: Keep only what enters each block for the backward pass, and compute the rest again:
            less memory for more time, and nothing else changes.
        save_every_epochs: Epochs from one checkpoint to the next; the last is always saved.
        save_every_minutes: A checkpoint is saved when the last one is so old; None turns it off.
        save_every_steps: Optimiser steps from one checkpoint to the next; None turns it off.
        keep_checkpoints: Training states that stay on disk.
        log_every_steps: Optimiser steps from one line of metrics to the next.
        evaluate_every_epochs: Epochs between evaluations in fine-tuning; 0: after the last only.
        tensorboard: Write TensorBoard events beside metrics.jsonl.
        max_skipped_steps: Steps in a row that may be skipped because loss or gradient are not finite; one more stops
            the run.
        trackers: Where settings and metrics go as well: ``wandb``, ``mlflow``, or ``wandb,mlflow``.
        report: Draw report.html when the run has ended.
    """

    seed: int = Field(0, ge=0, lt=2**31)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    activation_checkpointing: bool = False
    shard_weights: bool = False
    save_every_epochs: int = Field(10, ge=1)
    save_every_minutes: float | None = Field(10.0, gt=0.0)
    save_every_steps: int | None = Field(None, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    log_every_steps: int = Field(1, ge=1)
    evaluate_every_epochs: int = Field(0, ge=0)
    tensorboard: bool = True
    max_skipped_steps: int = Field(10, ge=0)
    trackers: tuple[TrackerName, ...] = ()
    report: bool = True

    @field_validator("trackers", mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        """Take names with commas between them, as they are written after ``--set``."""
        names = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
        return tuple(dict.fromkeys(names)) if isinstance(names, list | tuple) else () if names is None else names
