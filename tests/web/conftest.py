from pathlib import Path

import pytest
from web_models import save_small_models

from everest.web.models import Lookers, load_lookers


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pre-trained model and a classifier."""
    return save_small_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def lookers(checkpoints: tuple[Path, Path]) -> Lookers:
    """What looks at videos with them."""
    return load_lookers(checkpoints, "cpu")
