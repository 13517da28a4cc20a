"""A small disk."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disks import mount


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 160 MB: room for three states and the weights beside them."""
    path = tmp_path / "disk"
    if not mount(path, "size=160m"):
        pytest.skip("a small disk cannot be mounted by this user; test_disks.py tries again as one who may")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)
