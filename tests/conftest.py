"""What tests of more than one folder share."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ray_clusters import RayCluster

SLOW_FILES = (
    "test_several_processes",
    "test_examples",
    "test_processes",
    "test_memory",
    "test_page_in_browser",
    "test_no_network",
    "test_torch_formats",
    "test_store_bench",
    "test_store",
    "test_suite",
)


def pytest_configure() -> None:
    """Hear Ctrl-C also where the tests run in the background of a shell, which has it ignored: some are about it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take half a minute or more, so that no process is left with one in the end.

    Ray comes last: threads of its gRPC stay in a process that used it, and ask for variables of the environment, which
    C libraries before glibc 2.41 do not survive while a test sets one (pytest itself does, three times a test).
    """
    place = {name: number for number, name in enumerate(SLOW_FILES)}

    def when(item: pytest.Item) -> int:
        stem = item.path.stem
        return len(place) + 1 if "ray" in stem.split("_") else place.get(stem, len(place))

    items.sort(key=when)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Of several processes that run the tests, one has all tests of a file, and one all of what takes both cores."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # the order is that of above, not by how many tests a file has

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return next((kind for kind in ("ray", "browser") if kind in Path(file).stem.split("_")), file)

    return Scheduling(config, log)


@pytest.fixture(scope="module")
def ray_machines(request: pytest.FixtureRequest) -> Iterator[RayCluster]:
    """Two machines, or as many as ``NUM_MACHINES`` of the module says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "datasets"), prepend=os.pathsep)  # tasks of tests
        folder = tempfile.mkdtemp(prefix="everest-ray-", dir="/tmp" if Path("/tmp").is_dir() else None)
        patch.setenv("RAY_TMPDIR", folder)  # no other cluster of this machine is seen, or disturbed
        Path(folder, "ray").mkdir()  # where it notes the address: not made by itself for a cluster of its own folder
        cluster = RayCluster(folder, getattr(request.module, "NUM_MACHINES", 2))
        try:
            yield cluster
        finally:
            cluster.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ray_cluster(ray_machines: RayCluster) -> RayCluster:
    """The cluster with all of its workers."""
    ray_machines.mend()
    return ray_machines
