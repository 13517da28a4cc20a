"""Every block of every page is run, in its order; those that need a Ray cluster are in test_pages_on_ray.py."""

from pathlib import Path

import pytest

from documents.given import FOLDERS
from documents.pages import PAGES, name_of
from documents.running import is_run, needs_ray, run_page


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("page", [p for p in PAGES if is_run(p) and not needs_ray(p)], ids=name_of)
def test_blocks_run(page: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run_page(page, home, tmp_path / "work", monkeypatch)
    if name_of(page) == "README.md":  # where classes are folders
        assert {name for name, _ in ran.values[-1]} == set(FOLDERS)
