"""Features on disk come back as they were."""

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from everest.errors import ConfigError, DataError
from everest.inference import FeatureRow, Features, read_features, write_features
from everest.inference.feature_files import write_parts


def some(*, of_tokens: bool) -> Features:
    random = np.random.default_rng(0)
    rows = []
    for number in range(3):
        values = random.normal(size=(2 + number, 5) if of_tokens else 5).astype(np.float32)
        tokens = np.arange(2 + number) * 3 if of_tokens else None
        span = (None, None) if number == 1 else (0.25 * number, 1.5)
        rows.append(FeatureRow(f"a folder/clip, {number}.mp4", *span, None if number == 2 else "Fäll", values, tokens))
    return Features(tuple(rows), {"layer": None, "checkpoint": "x"})


@pytest.mark.parametrize("of_tokens", [False, True], ids=["clips", "tokens"])
@pytest.mark.parametrize("name", ["features.npz", "features.parquet"])
def test_they_come_back(name: str, of_tokens: bool, tmp_path: Path) -> None:
    given = some(of_tokens=of_tokens)
    write_features(given, tmp_path / name)
    found = read_features(tmp_path / name)
    assert found.made_by == given.made_by
    assert found.of_tokens == of_tokens
    for row, expected in zip(found.rows, given.rows, strict=True):
        assert (row.path, row.label) == (expected.path, expected.label)
        assert (row.start_seconds, row.end_seconds) == (expected.start_seconds, expected.end_seconds)
        assert row.values.dtype == np.float32
        assert np.array_equal(row.values, expected.values)
        assert of_tokens == (row.tokens is not None)
        assert expected.tokens is None or np.array_equal(row.tokens, expected.tokens)
    assert found.matrix().shape == (3, 5)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


@pytest.mark.parametrize("which", ["path", "label"])
def test_names_that_are_no_utf8_are_kept_or_refused(which: str, tmp_path: Path) -> None:
    features = some(of_tokens=False)
    odd = Features((replace(features.rows[0], **{which: os.fsdecode(b"a\xff.mp4")}), *features.rows[1:]), {})
    write_features(odd, tmp_path / "f.npz")
    assert os.fsencode(getattr(read_features(tmp_path / "f.npz").rows[0], which)) == b"a\xff.mp4"
    with pytest.raises(ConfigError, match=r"1 are something else, the first: a\\udcff\.mp4; write \.npz"):
        write_features(odd, tmp_path / "f.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_others_read_parquet(tmp_path: Path) -> None:
    from pyarrow import parquet

    write_features(some(of_tokens=False), tmp_path / "f.parquet")
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["path", "start_seconds", "end_seconds", "label", "features"]
    assert table.column("start_seconds").to_pylist() == [0.0, None, 0.5]


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_other_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_features(tmp_path / name)
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(DataError, match="not a file of features"):
        read_features(tmp_path / name)
    with pytest.raises(ConfigError, match=r"\.parquet or \.npz"):
        write_features(some(of_tokens=False), tmp_path / "f.csv")


def test_a_pickle_in_an_npz_is_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", path=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(DataError, match="not a file of features"):
        read_features(tmp_path / "f.npz")


@pytest.mark.parametrize("of_tokens", [False, True], ids=["clips", "tokens"])
@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_a_file_of_many_parts_takes_the_memory_of_one(name: str, of_tokens: bool, tmp_path: Path) -> None:
    num_parts, num_bytes = 24, 2**20
    shape = (2**5, 2**13) if of_tokens else (2**18,)
    tokens = np.arange(2**5) if of_tokens else None

    def part(number: int) -> list[FeatureRow]:
        values = np.random.default_rng(number).normal(size=shape).astype(np.float32)
        return [FeatureRow(f"{number}.mp4", None, None, None, values, tokens)]

    write_features(Features(tuple(part(0)), {}), tmp_path / name)  # what is imported at first counts for nothing
    tracemalloc.start()
    write_parts(lambda: map(part, range(num_parts)), {"layer": 1}, tmp_path / name)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < num_parts * num_bytes / 2
    found = read_features(tmp_path / name)
    assert found.made_by == {"layer": 1}
    assert [row.path for row in found.rows] == [f"{number}.mp4" for number in range(num_parts)]
    for number in (0, num_parts - 1):
        assert np.array_equal(found.rows[number].values, part(number)[0].values)


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_a_file_of_no_rows_is_one(name: str, tmp_path: Path) -> None:
    write_features(Features((), {"layer": 1}), tmp_path / name)
    found = read_features(tmp_path / name)
    assert (found.rows, found.made_by) == ((), {"layer": 1})
