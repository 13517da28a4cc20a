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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Of several processes that run the tests, one has all tests of a file, and one all of what takes both cores."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return next((kind for kind in ("ray", "browser") if kind in Path(file).stem.split("_")), file)

    return Scheduling(config, log)


@pytest.fixture(scope="module")
def ray_machines() -> Iterator[RayCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "datasets"), prepend=os.pathsep)  # tasks of tests
        folder = tempfile.mkdtemp(prefix="everest-ray-", dir="/tmp" if Path("/tmp").is_dir() else None)
        patch.setenv("RAY_TMPDIR", folder)  # no other cluster of this machine is seen, or disturbed
        Path(folder, "ray").mkdir()  # where it notes the address: not made by itself for a cluster of its own folder
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
