"""Every setting of a run, typed, checked as a whole, and changed by dotted keys.

A recipe returns one :class:`PretrainConfig` or :class:`FinetuneConfig`; ``settings.py`` changes single settings by
their keys. The resolved configuration is written into the run folder, and what inference needs travels inside the
checkpoint as :class:`CheckpointInfo`.
"""

from everest.config.model import ClipConfig, FrameSelectionConfig, ModelConfig, ObjectiveConfig, SelectionConfig
from everest.config.names import (
    SCORINGS_OF,
    VARYING,
    WHOLE_CLIP_ARCHS,
    Arch,
    Beta,
    Camera,
    Config,
    Count,
    Decoder,
    Distance,
    ModelSize,
    ObjectiveName,
    PositionKind,
    Ratio,
    Scoring,
    SelectionMethod,
    Task,
    TrackerName,
)
from everest.config.running import AugmentConfig, DataConfig, EvaluationConfig, OptimConfig, RemoteConfig, RunConfig
from everest.config.runs import (
    CheckpointInfo,
    FinetuneConfig,
    PretrainConfig,
    TrainConfig,
    num_candidate_pairs,
    num_sampled_frames,
)

__all__ = [
    "SCORINGS_OF",
    "VARYING",
    "WHOLE_CLIP_ARCHS",
    "Arch",
    "AugmentConfig",
    "Beta",
    "Camera",
    "CheckpointInfo",
    "ClipConfig",
    "Config",
    "Count",
    "DataConfig",
    "Decoder",
    "Distance",
    "EvaluationConfig",
    "FinetuneConfig",
    "FrameSelectionConfig",
    "ModelConfig",
    "ModelSize",
    "ObjectiveConfig",
    "ObjectiveName",
    "OptimConfig",
    "PositionKind",
    "PretrainConfig",
    "Ratio",
    "RemoteConfig",
    "RunConfig",
    "Scoring",
    "SelectionConfig",
    "SelectionMethod",
    "Task",
    "TrackerName",
    "TrainConfig",
    "num_candidate_pairs",
    "num_sampled_frames",
]
