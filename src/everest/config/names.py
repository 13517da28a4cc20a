"""The names that settings take, and the base of all settings."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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
TrackerName = Literal["wandb", "mlflow"]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]

Ratio = Field(gt=0.0, le=1.0)

WHOLE_CLIP_ARCHS: frozenset[Arch] = frozenset({"mvit_s", "mvit_b", "vivit"})
"""Networks that cannot leave tokens out."""


class Config(BaseModel):
    """Base of all settings: immutable, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
