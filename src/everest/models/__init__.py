"""Models: a plain ViT encoder, a light decoder, the masked autoencoder, the classifier, and their named sizes."""

from everest.models.autoencoder import Decoder, MaskedAutoencoder, MaskedModel, Prediction
from everest.models.classifier import Classifier
from everest.models.encoder import Encoder
from everest.models.motion import MotionAutoencoder
from everest.models.pipeline import ModelInput, classify_clips, select_input
from everest.models.student import DistillationStudent
from everest.models.weights import LoadReport, initialize_from, load_model, save_weights
from everest.models.zoo import SIZES, Size, build_autoencoder, build_classifier, build_masked_model, grid_of

__all__ = [
    "SIZES",
    "Classifier",
    "Decoder",
    "DistillationStudent",
    "Encoder",
    "LoadReport",
    "MaskedAutoencoder",
    "MaskedModel",
    "ModelInput",
    "MotionAutoencoder",
    "Prediction",
    "Size",
    "build_autoencoder",
    "build_classifier",
    "build_masked_model",
    "classify_clips",
    "grid_of",
    "initialize_from",
    "load_model",
    "save_weights",
    "select_input",
]
