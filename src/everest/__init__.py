"""EVEREST: masked video autoencoders that train on the tokens that change.

    import everest

    everest.pretrain(recipe="own", data="videos/", out="runs/pretrained")
    everest.finetune(recipe="own", data="videos/", out="runs/mine", init="runs/pretrained")
    everest.load("runs/mine").predict("clip.mp4")

The functions are those of the command line. ``everest.tokens`` is the method of the paper by itself.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everest.api import FinetunedRun, embed, evaluate, finetune, load, pretrain
    from everest.config import FinetuneConfig, PretrainConfig
    from everest.datasets import Manifest, load_data
    from everest.errors import EverestError
    from everest.evaluation import Evaluation
    from everest.exporting import ExportReport, export
    from everest.features_api import SearchReport, probe, search
    from everest.inference import ClipPrediction, Predictor
    from everest.inference.probing import ProbeReport
    from everest.inspecting import InspectReport, inspect
    from everest.recipes import get_recipe, list_recipes
    from everest.tokens import TokenGrid, TokenSelection
    from everest.training import TrainedRun
    from everest.video import Clip

try:
    __version__ = version("everest-video")
except PackageNotFoundError:  # the source tree without installation
    __version__ = "0.0.0"

# Imported when first used: `everest doctor` and `everest --help` must not wait for torch, or fail with it.
_HOMES = {
    "Clip": "everest.video",
    "ClipPrediction": "everest.inference",
    "Evaluation": "everest.evaluation",
    "EverestError": "everest.errors",
    "ExportReport": "everest.exporting",
    "FinetuneConfig": "everest.config",
    "FinetunedRun": "everest.api",
    "InspectReport": "everest.inspecting",
    "Manifest": "everest.datasets",
    "Predictor": "everest.inference",
    "PretrainConfig": "everest.config",
    "ProbeReport": "everest.inference.probing",
    "SearchReport": "everest.features_api",
    "TokenGrid": "everest.tokens",
    "TokenSelection": "everest.tokens",
    "TrainedRun": "everest.training",
    "Windows": "everest.inference",
    "embed": "everest.api",
    "evaluate": "everest.api",
    "export": "everest.exporting",
    "finetune": "everest.api",
    "get_recipe": "everest.recipes",
    "inspect": "everest.inspecting",
    "list_recipes": "everest.recipes",
    "load": "everest.api",
    "load_data": "everest.datasets",
    "pretrain": "everest.api",
    "probe": "everest.features_api",
    "search": "everest.features_api",
}

__all__ = [
    "Clip",
    "ClipPrediction",
    "Evaluation",
    "EverestError",
    "ExportReport",
    "FinetuneConfig",
    "FinetunedRun",
    "InspectReport",
    "Manifest",
    "Predictor",
    "PretrainConfig",
    "ProbeReport",
    "SearchReport",
    "TokenGrid",
    "TokenSelection",
    "TrainedRun",
    "Windows",
    "__version__",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "get_recipe",
    "inspect",
    "list_recipes",
    "load",
    "load_data",
    "pretrain",
    "probe",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'everest' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
