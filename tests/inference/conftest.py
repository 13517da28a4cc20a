from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_predictors import INFO, a_predictor

from everest.config import ClipConfig
from everest.models import save_weights


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small models are quickest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a classifier of few and small frames."""
    info = INFO.model_copy(update={"clip": ClipConfig(num_frames=4, height=32, width=32, stride=2)})
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(a_predictor(info).model, info, path)
    return path
