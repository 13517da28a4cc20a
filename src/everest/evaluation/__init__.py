"""How well a classifier does: probabilities over the views of each video, and the numbers that follow from them."""

from everest.evaluation.devices import choose_device
from everest.evaluation.dial import with_keep_ratio
from everest.evaluation.evaluate import ClassAccuracy, ClipFailure, ClipResult, Evaluation, evaluate
from everest.evaluation.kept import KEPT_NAME, forget_results
from everest.evaluation.labels import align_labels
from everest.evaluation.metrics import (
    confusion_matrix,
    majority_accuracy,
    per_class_accuracy,
    sign_test,
    top_k_accuracy,
    wilson_interval,
)
from everest.evaluation.stored import find_evaluations, hardest, most_probable, read_evaluation
from everest.evaluation.views import VideoProbabilities, classify_videos, evaluation_mode, parse_views

__all__ = [
    "KEPT_NAME",
    "ClassAccuracy",
    "ClipFailure",
    "ClipResult",
    "Evaluation",
    "VideoProbabilities",
    "align_labels",
    "choose_device",
    "classify_videos",
    "confusion_matrix",
    "evaluate",
    "evaluation_mode",
    "find_evaluations",
    "forget_results",
    "hardest",
    "majority_accuracy",
    "most_probable",
    "parse_views",
    "per_class_accuracy",
    "read_evaluation",
    "sign_test",
    "top_k_accuracy",
    "wilson_interval",
    "with_keep_ratio",
]
