"""Tiny trees out of real clips, under the names that data sets give their files."""

import shutil
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from everest.datasets import Index, load_data, write_manifest
from everest.datasets.spans import read_span
from everest.video.sampling import dense_indices

Row = tuple[str, str | None, str | None, float | None, float | None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the data set."""
    return tmp_path / "data set"


@pytest.fixture
def put(root: Path) -> Callable[..., None]:
    """Put real clips under other names below the folder, each time the next one."""
    clips = cycle(sorted({record.path for record in load_data("bundled").records}))

    def copy(*names: str) -> None:
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(next(clips), root / name)

    return copy


@pytest.fixture
def text(root: Path) -> Callable[[str, str], Path]:
    """Write a text file below the folder."""

    def write(name: str, content: str) -> Path:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
        return root / name

    return write


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[Index], list[Row]]:
    """Write the manifest elsewhere, read it back with nothing lost, decode its last clip, and give its rows."""

    def round_trip(index: Index) -> list[Row]:
        file = tmp_path / "lists" / "out.csv"
        file.parent.mkdir(exist_ok=True)
        write_manifest(index.manifest, file, overwrite=True)
        again = load_data(file)
        assert again.records == index.manifest.records
        assert again.class_names == index.manifest.class_names
        clip = read_span(again.records[-1], lambda num, fps: [dense_indices(num, 4, 2.0, 0.0)])[0]
        assert clip.shape[:2] == (3, 4)
        names = again.class_names
        return [
            (r.path.name, None if r.label is None else names[r.label], r.split, r.start_seconds, r.end_seconds)
            for r in again.records
        ]

    return round_trip
