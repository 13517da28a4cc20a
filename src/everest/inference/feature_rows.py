"""Features on disk: one row for each clip, as Parquet or as numpy's npz.

Columns of Parquet: ``path``, ``start_seconds``, ``end_seconds`` (null: start and end of the file), ``label`` (null:
none), ``features`` (a list of D numbers, or of tokens: V lists of D) and, of tokens, ``tokens``. An npz has the same
names; of tokens ``features`` is [sum V, D], ``tokens`` [sum V], and ``num_tokens`` says how many of them each clip has.
What made them (checkpoint, layer, selection) is in the metadata ``everest``, as JSON.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everest.errors import ConfigError, DataError
from everest.texts import printable

FORMATS = (".parquet", ".npz")
METADATA_KEY = "everest"


@dataclass(frozen=True, eq=False, repr=False)
class FeatureRow:
    """The features of one clip.

    Attributes:
        path: The video; absolute, or a URL.
        start_seconds: Where the clip begins; None: at the start of the file.
        end_seconds: Where it ends; None: at the end of the file.
        label: Name of its class; None where there is none.
        values: Shape [D], or of tokens [V, D]; float32.
        tokens: Numbers of the tokens, shape [V]; None where the values are the clip's.
    """

    path: str
    start_seconds: float | None
    end_seconds: float | None
    label: str | None
    values: NDArray[np.float32]
    tokens: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """The features of many clips.

    Attributes:
        rows: In the order of the clips.
        made_by: What made them: checkpoint, layer, selection and more.
    """

    rows: tuple[FeatureRow, ...]
    made_by: dict[str, Any]

    @property
    def of_tokens(self) -> bool:
        """Whether each row has a vector for each token."""
        return bool(self.rows) and self.rows[0].tokens is not None

    def matrix(self) -> NDArray[np.float32]:
        """Give one vector for each row, of tokens their mean: shape [n, D]."""
        return np.stack([row.values if row.tokens is None else row.values.mean(axis=0) for row in self.rows])

    def __repr__(self) -> str:
        width = self.rows[0].values.shape[-1] if self.rows else 0
        return f"Features({len(self.rows)} rows of width {width}{', of tokens' if self.of_tokens else ''})"


def require_format(path: Path) -> None:
    """Refuse a file of an unknown format, before the work that ends in it.

    Raises:
        ConfigError: The name does not end as one of the formats, or the library for it is missing.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path}: features are written as .parquet or .npz; give a name that ends so")
    if path.suffix == ".parquet":
        import_arrow()


def require_names(path: Path, names: Iterable[str]) -> None:
    """Refuse names of videos and classes that a file of this format cannot hold, before the work that ends in it.

    Raises:
        ConfigError: Parquet holds UTF-8, and a name is something else; an npz holds any.
    """
    if path.suffix != ".parquet":
        return
    wrong = [name for name in names if not _is_utf8(name)]
    if wrong:
        raise ConfigError(
            f"{path}: Parquet holds names in UTF-8 only, and {len(wrong)} are something else, the first: "
            f"{printable(wrong[0])}; write .npz, or rename what is called so"
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of a file name that are no UTF-8 are half of a pair in Python
        return False
    return True


def read_features(path: Path | str) -> Features:
    """Read what :func:`~everest.inference.feature_files.write_features` wrote, all of it at once.

    Raises:
        DataError: There is no such file, or it holds something else.
    """
    path = Path(path)
    require_format(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; everest embed writes one")
    try:
        return _from_npz(path) if path.suffix == ".npz" else _from_parquet(path)
    except (OSError, ValueError, KeyError, TypeError) as error:  # ArrowInvalid is a ValueError
        problem = str(error).split("\n", 1)[0]
        raise DataError(f"{path}: not a file of features that everest embed wrote: {problem}") from None


def _from_npz(path: Path) -> Features:
    with np.load(path, allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    values, tokens = list(columns["features"]), [None] * len(columns["path"])
    if "tokens" in columns:
        ends = np.cumsum(columns["num_tokens"])[:-1]
        values, tokens = np.split(columns["features"], ends), np.split(columns["tokens"], ends)  # type: ignore[assignment]
    parts = (columns["path"].tolist(), *(map(_or_none, columns[n].tolist()) for n in ("start_seconds", "end_seconds")))
    labels = (name or None for name in columns["label"].tolist())
    rows = (FeatureRow(*row) for row in zip(*parts, labels, values, tokens, strict=True))
    return Features(tuple(rows), json.loads(str(columns[METADATA_KEY])))


def _from_parquet(path: Path) -> Features:
    table = import_arrow()[1].read_table(path)
    columns: dict[str, list[Any]] = {name: table.column(name).to_pylist() for name in table.column_names}
    values = [np.array(row, dtype=np.float32) for row in columns["features"]]
    numbers = columns.get("tokens", [None] * len(values))
    tokens = [None if row is None else np.array(row, dtype=np.int64) for row in numbers]
    names = ("path", "start_seconds", "end_seconds", "label")
    rows = (FeatureRow(*row) for row in zip(*(columns[name] for name in names), values, tokens, strict=True))
    return Features(tuple(rows), json.loads(table.schema.metadata[METADATA_KEY.encode()]))


def _or_none(seconds: float) -> float | None:
    return None if np.isnan(seconds) else seconds


def import_arrow() -> Sequence[Any]:
    """Import what reads and writes Parquet: the modules pyarrow and pyarrow.parquet.

    Raises:
        ConfigError: They are missing.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError:
        raise ConfigError("Parquet needs pyarrow: pip install 'everest-video[features]', or write .npz") from None
    return pyarrow, parquet
