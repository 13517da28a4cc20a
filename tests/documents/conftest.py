from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from documents.running import measured_here
from documents.small import make_networks_small, make_trainings_small
from everest.bench import hardware, peers


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """Networks, trainings and benches are small, on one thread, and benches start no processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        make_networks_small(patch)
        make_trainings_small(patch)
        patch.setattr(hardware, "CPU_MATRIX", 64)
        patch.setattr(hardware, "CPU_COPY", 2**20)
        patch.setattr(peers, "_measure", measured_here)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def small_on_ray() -> Iterator[None]:
    """Trainings are small; networks are those that processes of the cluster know."""
    with pytest.MonkeyPatch.context() as patch:
        make_trainings_small(patch, model__size="tiny")
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what pages take for granted is kept."""
    return tmp_path_factory.mktemp("given")
