"""Trained models at work: the classes of a video file, and pictures of what pre-training predicts."""

from everest.inference.predict import DEFAULT_VIEWS, ClipPrediction, FailedPrediction, Predictor
from everest.inference.reconstruct import Reconstruction, assemble, reconstruct

__all__ = [
    "DEFAULT_VIEWS",
    "ClipPrediction",
    "FailedPrediction",
    "Predictor",
    "Reconstruction",
    "assemble",
    "reconstruct",
]
