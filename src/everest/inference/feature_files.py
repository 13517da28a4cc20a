"""Features to disk, part by part: a file of many gigabytes is made with the memory that one part takes.

Shapes: n rows, V tokens of a row, D width.
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from everest.inference.feature_rows import (
    METADATA_KEY,
    FeatureRow,
    Features,
    import_arrow,
    require_format,
    require_names,
)
from everest.training.files import atomic_write

Rows = Sequence[FeatureRow]
Parts = Callable[[], Iterable[Rows]]  # the same each time; none of them empty


def write_features(features: Features, path: Path) -> None:
    """Write a file completely or not at all.

    Raises:
        ConfigError: See :func:`~everest.inference.feature_rows.require_format` and
            :func:`~everest.inference.feature_rows.require_names`.
        RunError: The file cannot be written.
    """
    write_parts(lambda: [features.rows] if features.rows else [], features.made_by, path)


def write_parts(parts: Parts, made_by: dict[str, Any], path: Path) -> None:
    """Write a file of many parts, which are read one after the other, as an npz twice.

    Args:
        parts: Gives the rows.
        made_by: What made them.
        path: The file.

    Raises:
        ConfigError: As :func:`write_features`.
        RunError: The file cannot be written.
    """
    require_format(path)
    with atomic_write(path) as file:
        (_write_npz if path.suffix == ".npz" else _write_parquet)(parts, made_by, path, file)


def _write_npz(parts: Parts, made_by: dict[str, Any], _: Path, file: BinaryIO) -> None:
    columns, shape = _small_columns(parts)
    columns[METADATA_KEY] = np.array(json.dumps(made_by))
    with zipfile.ZipFile(file, "w") as archive:
        for name, column in columns.items():
            with _entry(archive, name) as member:
                np.lib.format.write_array(member, column, allow_pickle=False)
        with _entry(archive, "features") as member:
            descr = np.lib.format.dtype_to_descr(np.dtype(np.float32))
            about = {"descr": descr, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, about)
            for rows in parts():
                for row in rows:
                    member.write(np.ascontiguousarray(row.values, dtype=np.float32).data)


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Begin an array in an npz, of any size."""
    return archive.open(f"{name}.npy", "w", force_zip64=True)


def _small_columns(parts: Parts) -> tuple[dict[str, NDArray[Any]], tuple[int, int]]:
    """Gather all but the features, and the shape that those have: [n, D], or of tokens [sum V, D]."""
    texts: dict[str, list[str]] = {"path": [], "label": []}
    seconds: dict[str, list[float]] = {"start_seconds": [], "end_seconds": []}
    tokens, width = [], 0
    for rows in parts():
        for row in rows:
            texts["path"].append(row.path)
            texts["label"].append(row.label or "")
            seconds["start_seconds"].append(_or_nan(row.start_seconds))
            seconds["end_seconds"].append(_or_nan(row.end_seconds))
            width = row.values.shape[-1]
            if row.tokens is not None:
                tokens.append(row.tokens)
    columns: dict[str, NDArray[Any]] = {name: np.array(values) for name, values in (texts | seconds).items()}
    if not tokens:
        return columns, (len(texts["path"]), width)
    columns["tokens"] = np.concatenate(tokens)
    columns["num_tokens"] = np.array([len(numbers) for numbers in tokens])
    return columns, (len(columns["tokens"]), width)


def _write_parquet(parts: Parts, made_by: dict[str, Any], path: Path, file: BinaryIO) -> None:
    arrow, parquet = import_arrow()
    about = {METADATA_KEY: json.dumps(made_by)}
    writer = None
    for rows in parts():
        require_names(path, (name for row in rows for name in (row.path, row.label or "")))
        table = _to_table(arrow, rows, about)
        writer = writer or parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)  # a row group
    (writer or parquet.ParquetWriter(file, _to_table(arrow, (), about).schema)).close()


def _to_table(arrow: Any, rows: Rows, about: dict[str, str]) -> Any:
    vector = arrow.list_(arrow.float32())
    columns = {
        "path": arrow.array([row.path for row in rows], arrow.string()),
        "start_seconds": arrow.array([row.start_seconds for row in rows], arrow.float64()),
        "end_seconds": arrow.array([row.end_seconds for row in rows], arrow.float64()),
        "label": arrow.array([row.label for row in rows], arrow.string()),
    }
    if rows and rows[0].tokens is not None:
        columns["features"] = arrow.array([list(row.values) for row in rows], arrow.list_(vector))
        columns["tokens"] = arrow.array([row.tokens for row in rows], arrow.list_(arrow.int64()))
    else:
        columns["features"] = arrow.array([row.values for row in rows], vector)
    return arrow.table(columns, metadata=about)


def _or_nan(seconds: float | None) -> float:
    return float("nan") if seconds is None else seconds
