"""Features of many videos, written as they come: a run that was stopped goes on where it was.

Shapes: C channels, T frames, H height, W width, D width.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from everest.config import EvaluationConfig
from everest.datasets import Manifest
from everest.datasets.lock import Lock
from everest.datasets.ray_engine import RayEngine
from everest.errors import ConfigError, DataError
from everest.inference.describing import FeatureReader
from everest.inference.feature_files import write_features, write_parts
from everest.inference.feature_rows import FeatureRow, Features, read_features, require_format, require_names
from everest.inference.windows import Windows
from everest.models.features import FeatureModel
from everest.texts import printable
from everest.training.files import atomic_write

ROWS_OF_PART = 512
BYTES_OF_PART = 64 * 2**20  # of features; of tokens, 512 rows would be gigabytes
SECONDS_OF_PART = 60.0
PROGRESS_NAME = "progress.json"

OnProgress = Callable[[int, int], None]  # videos that are done, all videos


@dataclass(frozen=True)
class EmbedReport:
    """What was embedded.

    Attributes:
        path: The file.
        num_rows: Rows in it.
        num_videos: Videos and parts of videos that were read, earlier starts included.
        failures: Reason by path of those that cannot be read.
        width: D.
        seconds: Time of this start.
    """

    path: Path
    num_rows: int
    num_videos: int
    failures: dict[str, str]
    width: int
    seconds: float

    def summary(self) -> str:
        """Tell a person, in a few lines."""
        lines = [f"{self.num_rows:,} rows of {self.width} numbers from {self.num_videos:,} videos: {self.path}"]
        return "\n".join([*lines, *(printable(f"cannot read {path}: {why}") for path, why in self.failures.items())])

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return asdict(self) | {"path": str(self.path)}


@dataclass
class _Parts:
    """What is done so far, in a folder beside the file that it becomes."""

    folder: Path
    made_by: dict[str, Any]
    done: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    rows: list[FeatureRow] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    _num_bytes: int = 0
    _since: float = field(default_factory=time.monotonic)

    def go_on(self) -> None:
        """Find out what earlier starts have done.

        Raises:
            ConfigError: They were asked for something else.
            DataError: What they left is damaged.
        """
        with self._reading():
            progress = self.folder / PROGRESS_NAME
            self.folder.mkdir(parents=True, exist_ok=True)
            if not progress.exists():
                return
            found = json.loads(progress.read_bytes())
            made_by, done, names = found["made_by"], int(found["done"]), [str(name) for name in found["names"]]
            failures = dict(found["failures"])
            missing = [name for name in names if not (self.folder / name).is_file()]
            if missing:
                raise ValueError(f"{missing[0]} is not there")
        if made_by != self.made_by:
            raise ConfigError(
                f"{self.folder} holds the beginning of other features (another checkpoint, data or setting): "
                "delete it, or write to another file"
            )
        self.done, self.failures, self.names = done, failures, names

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Say what to do where what earlier starts have left cannot be used.

        Raises:
            DataError: It cannot.
        """
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, DataError) as error:  # JSON that is none is a ValueError
            problem = str(error).split("\n", 1)[0]
            what = "cannot be used to go on from"
            raise DataError(f"{self.folder}: {what}: {problem}; delete it, or write to another file") from None

    def add(self, rows: Sequence[FeatureRow], done: int) -> None:
        """Take the rows of one more video."""
        self.rows += rows
        self._num_bytes += sum(row.values.nbytes for row in rows)
        self.done = done
        is_large = len(self.rows) >= ROWS_OF_PART or self._num_bytes >= BYTES_OF_PART
        if is_large or time.monotonic() - self._since > SECONDS_OF_PART:
            self.flush()

    def flush(self) -> None:
        """Put on the disk what is not yet there."""
        if self.rows:
            name = f"part-{len(self.names):06d}.npz"
            write_features(Features(tuple(self.rows), self.made_by), self.folder / name)
            self.names.append(name)
        values = {"made_by": self.made_by, "done": self.done, "failures": self.failures, "names": self.names}
        with atomic_write(self.folder / PROGRESS_NAME) as file:
            file.write(json.dumps(values).encode())
        self.rows, self._num_bytes, self._since = [], 0, time.monotonic()

    def read(self) -> Iterator[tuple[FeatureRow, ...]]:
        """Read everything back, part by part.

        Raises:
            DataError: A part is damaged.
        """
        for name in self.names:
            with self._reading():
                rows = read_features(self.folder / name).rows
            yield rows


def embed(
    model: FeatureModel,
    manifest: Manifest,
    out: Path,
    *,
    made_by: dict[str, Any],
    windows: Windows | None = None,
    views: EvaluationConfig | None = None,
    num_workers: int = -1,
    on_progress: OnProgress | None = None,
    on_skip: Callable[[int], None] | None = None,
    engine: RayEngine | None = None,
    device: str = "auto",
) -> EmbedReport:
    """Write the features of videos into a file.

    What is done is kept in a folder ``OUT.parts`` until the file is complete; the same call goes on from there.

    Args:
        model: Describes clips.
        manifest: The videos, or parts of them; labels are written down where there are any.
        out: The file to make, ``.parquet`` or ``.npz``.
        made_by: What makes the features; it is written into the file, and has to be the same to go on.
        windows: Cut long videos into spans, each with a row of its own; None: one row for each video.
        views: Clips and crops of each video or span, whose features are averaged, and how many run at a time; None:
            three clips of a video, one of a span.
        num_workers: Decoding processes; 0 decodes in this one, -1 takes one process per spare core.
        on_progress: Called after each video with the number of videos done and of all.
        on_skip: Called once with the number of videos that an earlier start has done.
        engine: A Ray cluster, which does all the work; None: this process and ``num_workers``.
        device: Where the model of its workers computes: ``auto`` takes the GPUs that the cluster has.

    Raises:
        ConfigError: The file cannot be of this name, exists, or its beginning is of something else; tokens are asked
            for and there are several views, whose tokens differ.
        DataError: Not a single video can be read; or another start writes to the same file, or it cannot be written.
    """
    require_format(out)
    require_names(out, (*(str(record.path) for record in manifest.records), *manifest.class_names))
    _refuse_existing(out)
    views = views or EvaluationConfig(num_segments=3 if windows is None and not model.per_token else 1, num_crops=1)
    if model.per_token and views.num_segments * views.num_crops > 1:
        raise ConfigError("tokens of several views cannot be averaged: ask for 1x1 views, or for windows")
    start = time.perf_counter()
    asked = made_by | {"data": manifest.digest, "windows": None if windows is None else vars(windows)}
    parts = _Parts(out.with_name(f"{out.name}.parts"), asked | {"views": [views.num_segments, views.num_crops]})
    reader = FeatureReader(model, manifest, windows, views, num_workers, engine, device, parts.folder)
    busy = "is embedding and writes here: wait until that is done, or name another file with --out"
    with _lock(out, f"{out}: {{owner}} {busy}"):
        num_rows, width = _write(reader, parts, out, on_progress, on_skip)
    return EmbedReport(out, num_rows, len(manifest), parts.failures, width, time.perf_counter() - start)


@contextmanager
def _lock(out: Path, busy: str) -> Iterator[None]:
    """Hold the place of a file and of its parts, which another start would write over."""
    with ExitStack() as stack:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(Lock(out.with_name(f"{out.name}.lock"), busy))
        except OSError as error:
            raise DataError(f"{out}: cannot be written: {error}") from None
        _refuse_existing(out)  # another start may just have made it
        yield


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise ConfigError(f"{out}: exists already; name a file that does not exist yet")


def _write(
    reader: FeatureReader,
    parts: _Parts,
    out: Path,
    on_progress: OnProgress | None,
    on_skip: Callable[[int], None] | None,
) -> tuple[int, int]:
    """Go on with the parts until all videos are done, make the file of them, and give its rows and its width."""
    parts.go_on()
    if on_skip is not None:
        on_skip(parts.done)
    for done, rows, failures in reader.read_from(parts.done):
        parts.failures |= failures
        parts.add(rows, done)
        if on_progress is not None:
            on_progress(done, len(reader.manifest))
    parts.flush()
    if not parts.names:
        path, reason = next(iter(parts.failures.items()), (str(reader.manifest.source), "it is empty"))
        raise DataError(f"not a single video can be read; the first one: {path}: {reason}")
    num_rows = width = 0

    def counted() -> Iterator[tuple[FeatureRow, ...]]:
        nonlocal num_rows, width
        num_rows = 0
        for rows in parts.read():
            num_rows, width = num_rows + len(rows), rows[0].values.shape[-1]
            yield rows

    write_parts(counted, parts.made_by, out)
    shutil.rmtree(parts.folder)
    return num_rows, width
