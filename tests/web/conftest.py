from pathlib import Path

import pytest
from web_models import save_small_models


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pre-trained model and a classifier."""
    return save_small_models(tmp_path_factory.mktemp("models"))
