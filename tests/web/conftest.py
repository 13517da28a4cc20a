from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from web_models import save_small_models


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small models are quickest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pre-trained model and a classifier."""
    return save_small_models(tmp_path_factory.mktemp("models"))
