"""Trained models at work: the classes of a video file, and pictures of what pre-training predicts."""

from everest.inference.embedding import EmbedReport, embed
from everest.inference.feature_files import write_features
from everest.inference.feature_rows import FeatureRow, Features, read_features
from everest.inference.inspection import WITHOUT_CHECKPOINT, Inspection, Looker, inspect_video, read_clip
from everest.inference.predict import DEFAULT_VIEWS, Predictor
from everest.inference.predictions import ClipPrediction, FailedPrediction
from everest.inference.reconstruct import Reconstruction, assemble, reconstruct
from everest.inference.timeline import Segment, Timeline
from everest.inference.windows import Windows

__all__ = [
    "DEFAULT_VIEWS",
    "WITHOUT_CHECKPOINT",
    "ClipPrediction",
    "EmbedReport",
    "FailedPrediction",
    "FeatureRow",
    "Features",
    "Inspection",
    "Looker",
    "Predictor",
    "Reconstruction",
    "Segment",
    "Timeline",
    "Windows",
    "assemble",
    "embed",
    "inspect_video",
    "read_clip",
    "read_features",
    "reconstruct",
    "write_features",
]
