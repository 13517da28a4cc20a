"""Settings of what is computed: network, clip, selections, objective."""

from typing import Literal, Self

from pydantic import Field, model_validator

from everest.config.names import (
    SCORINGS_OF,
    Arch,
    Camera,
    Config,
    Count,
    Distance,
    ModelSize,
    ObjectiveName,
    PositionKind,
    Ratio,
    Scoring,
    SelectionMethod,
)


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
        scoring: What ``rero`` and ``adaptive`` measure change on; ``auto`` is exact, and ``bfloat16`` where training
            computes in that (see ``everest.models.scoring``).
        distance: How they measure it: ``l2`` is the paper's. ``l1`` goes with auto, exact, bfloat16 and pixels, and
            ``cosine``, which is always exact, with auto, exact and pixels.
        camera: ``moving`` compares with the slot before as the camera has moved since, if it has, so that a pan alone
            scores nothing (see ``everest.tokens.others.camera``).
        seed: Which tokens the controls that draw take outside of training, the same ones of every clip; in training
            ``run.seed`` draws.
    """

    method: SelectionMethod = "rero"
    keep_ratio: float = Ratio
    encode_ratio: float = Ratio
    coverage: float = Field(0.8, gt=0.0, le=1.0)
    min_keep_ratio: float = Field(0.05, gt=0.0, le=1.0)
    threshold: float = Field(0.1, ge=0.0)
    scoring: Scoring = "auto"
    distance: Distance = "l2"
    camera: Camera = "still"
    seed: int = Field(0, ge=0, lt=2**63)

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
        if self.scoring not in SCORINGS_OF[self.distance]:
            raise ValueError(
                f"distance={self.distance} cannot be measured with scoring={self.scoring}; it goes with "
                f"{', '.join(SCORINGS_OF[self.distance])}"
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
        by: ``change``, or as a control ``chance``: pairs of the same candidates are drawn uniformly, of each clip in
            training, and once for all clips by ``selection.seed`` in evaluation.
    """

    enabled: bool = False
    alpha: float = Field(1.5, gt=1.0)
    by: Literal["change", "chance"] = "change"
