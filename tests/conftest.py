"""What tests of more than one folder share."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_clusters import RayCluster


def pytest_configure() -> None:
    """Hear Ctrl-C also where the tests run in the background of a shell, which has it ignored: some are about it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes that run the tests, one has all tests of a file, and one all that need a Ray cluster."""
    for item in items:
        needs_cluster = "ray_machines" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("ray" if needs_cluster else item.path.stem))


@pytest.fixture(scope="module")
def ray_machines() -> Iterator[RayCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "datasets"), prepend=os.pathsep)  # tasks of tests
        folder = tempfile.mkdtemp(prefix="everest-ray-", dir="/tmp" if Path("/tmp").is_dir() else None)
        cluster = RayCluster(folder)
        try:
            yield cluster
        finally:
            cluster.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ray_cluster(ray_machines: RayCluster) -> RayCluster:
    """The cluster with both of its workers."""
    ray_machines.mend()
    return ray_machines
