"""The pages that need a Ray cluster, on one with a single worker."""

from pathlib import Path

import pytest

from documents.pages import PAGES, name_of
from documents.running import is_run, needs_ray, run_page
from ray_clusters import RayCluster

NUM_MACHINES = 1


@pytest.mark.usefixtures("small_on_ray")
@pytest.mark.parametrize("page", [p for p in PAGES if is_run(p) and needs_ray(p)], ids=name_of)
def test_blocks_run(
    page: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: RayCluster
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster.address)  # what "auto" finds
    run_page(page, home, tmp_path / "work", monkeypatch, ray_cluster.address)
