"""The names that settings take, and the base of all settings."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ModelSize = Literal["nano", "tiny", "small", "base", "large", "huge"]
"""A ViT by its width, depth and heads."""
Arch = Literal["vit", "mvit_s", "mvit_b", "vivit", "timesformer", "xvit", "motionformer"]
"""The network: ours, and those that are trained with labels only."""
Scoring = Literal["auto", "exact", "bfloat16", "projection", "pixels", "random_projection"]
"""What the change of a token is measured on."""
Distance = Literal["l2", "l1", "cosine"]
"""How far a token is from the one before it."""
Camera = Literal["still", "moving"]
"""Whether changes that the camera makes are left out."""
SCORINGS_OF: dict[Distance, tuple[Scoring, ...]] = {
    "l2": ("auto", "exact", "bfloat16", "projection", "pixels", "random_projection"),
    "l1": ("auto", "exact", "bfloat16", "pixels"),
    "cosine": ("auto", "exact", "pixels"),
}
"""What each distance can be measured on: projections keep l2 lengths only, and only changes are known in bfloat16."""
SelectionMethod = Literal[
    "rero", "adaptive", "rlt", "k_centered", "random", "random_equal", "tube", "running_cell", "all"
]
"""Which tokens are computed."""
VARYING: tuple[SelectionMethod, ...] = ("adaptive", "rlt")
"""Selections whose number of tokens follows the clip."""
Task = Literal["pretrain", "finetune"]
"""Learning without labels, or with them."""
ObjectiveName = Literal["pixels", "mme", "mvd"]
"""What is predicted in pre-training."""
PositionKind = Literal["sine", "sine_3d"]
"""How tokens are told their places."""
Decoder = Literal["auto", "pyav", "torchcodec"]
"""What reads video files."""
TrackerName = Literal["wandb", "mlflow"]
"""Where metrics may go besides the run folder."""
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
"""A moment of AdamW, from 0 to below 1."""
Count = Annotated[int, Field(ge=1)]
"""A whole number from 1."""

Ratio = Field(gt=0.0, le=1.0)
"""A share of tokens, above 0 and up to 1."""

WHOLE_CLIP_ARCHS: frozenset[Arch] = frozenset({"mvit_s", "mvit_b", "vivit"})
"""Networks that cannot leave tokens out."""


class Config(BaseModel):
    """Base of all settings: immutable, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
