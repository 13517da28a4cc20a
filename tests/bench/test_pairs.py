"""Packed clips are compared with the clips that they were made of."""

from dataclasses import replace
from pathlib import Path

import pytest

from everest.bench.loader import bench_loader, format_loader
from everest.bench.pairs import clips_of_both
from everest.config import ClipConfig
from everest.datasets import ClipRecord, Manifest, PackSettings, load_data, pack_manifest
from everest.errors import DataError

BUNDLED = load_data("bundled").split("train")
SMALL = ClipConfig(num_frames=8, height=64, width=64, stride=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Five clips of which the second cannot be packed."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "empty.mp4").touch()
    first, *others = BUNDLED.records[:4]
    records = (first, ClipRecord(folder / "empty.mp4", first.label, first.split), *others)
    return Manifest(records, BUNDLED.class_names, folder / "list.csv")


@pytest.fixture(scope="module")
def packed(source: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("packed") / "out"
    assert len(pack_manifest(source, out, PackSettings(clips_per_shard=2), num_workers=0).failures) == 1
    return load_data(out)


def test_what_was_not_packed_is_left_out_for_all(source: Manifest, packed: Manifest) -> None:
    both, left_out = clips_of_both(source, packed)
    assert both.records == tuple(record for record in source.records if record.path.name != "empty.mp4")
    assert left_out == [str(source.records[1].path)]
    values = bench_loader(source, packed=packed, clip=SMALL, rounds=1)
    assert values["num_items"] == 4
    assert (values["not_packed"], values["left_out"]) == (left_out, [])
    assert "not among the packed ones, left out for all: 1" in format_loader(values)


def test_equal_numbers_are_taken_as_they_are(packed: Manifest) -> None:
    assert clips_of_both(packed, packed) == (packed, [])


def test_shards_of_another_manifest_are_refused(source: Manifest, packed: Manifest) -> None:
    other = replace(source, records=(*source.records, source.records[0]))
    with pytest.raises(DataError, match=r"4 packed clips, but 6 in .*not the manifest that was packed"):
        clips_of_both(other, packed)
    elsewhere = replace(packed, source=Path("nowhere/manifest.csv"))  # at a URL there is no summary to look at
    assert clips_of_both(source, elsewhere)[1] == [str(source.records[1].path)]
    labels = tuple(replace(record, label=0) for record in source.records)
    assert len({record.label for record in source.records}) > 1
    with pytest.raises(DataError, match="nothing says which"):
        clips_of_both(replace(source, records=labels), elsewhere)
    with pytest.raises(DataError, match="nothing says which"):
        clips_of_both(source, replace(source, records=source.records[:2]))
