"""What a check says about one file, and the file in which the rows of a check are kept."""

import dataclasses
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from everest.datasets.lock import Lock
from everest.errors import DataError
from everest.links import append_text, write_new
from everest.video.source import say_location

Span = tuple[float | None, float | None]  # start and end in seconds; None: of the file


@dataclass(frozen=True)
class CheckRow:
    """What one file is, and what is wrong with it. Numbers are 0 and texts empty where the file cannot be opened.

    Attributes:
        path: The file; of a URL, which is written with both of its slashes, the path that Python makes of it.
        num_bytes: Its size.
        modified_ns: When it was written last, in nanoseconds.
        spans: The clips of it, each once.
        decoder: What read it, with its version.
        num_frames: Number of frames.
        fps: Frames per second.
        duration_seconds: Length in seconds.
        height: Height in pixels, upright.
        width: Width in pixels, upright.
        codec: Name of the codec.
        pixel_format: FFmpeg's name of how pixels are stored.
        container: FFmpeg's name of the container, whatever the file is called.
        rotation_degrees: How far frames are turned to be upright.
        is_constant_rate: Whether all frames are shown equally long; None where that was not looked at, as only parts
            of the file are used.
        fault: Why it cannot be used, in one line; None where it can.
        faulty_spans: The clips that cannot be used.
        warnings: What does not keep it from being used.
        was_stopped: The fault is that reading hung or killed its process, or that a server did not answer; the next
            check tries again.
        content_hash: BLAKE2b of the bytes, where another file has as many of them; empty elsewhere.
    """

    path: Path
    num_bytes: int = 0
    modified_ns: int = 0
    spans: tuple[Span, ...] = ((None, None),)
    decoder: str = ""
    num_frames: int = 0
    fps: float = 0.0
    duration_seconds: float = 0.0
    height: int = 0
    width: int = 0
    codec: str = ""
    pixel_format: str = ""
    container: str = ""
    rotation_degrees: int = 0
    is_constant_rate: bool | None = None
    fault: str | None = None
    faulty_spans: tuple[Span, ...] = ()
    warnings: tuple[str, ...] = ()
    was_stopped: bool = False
    content_hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give the row as plain values that JSON can hold."""
        return {**dataclasses.asdict(self), "path": say_location(self.path)}

    def answers(self, other: "CheckRow") -> bool:
        """Whether this row is a finished check of what ``other`` asks about."""
        asked = ("path", "num_bytes", "modified_ns", "spans", "decoder")
        return not self.was_stopped and all(getattr(self, name) == getattr(other, name) for name in asked)


_FIELDS = {field.name for field in dataclasses.fields(CheckRow)}


class ReportFile:
    """Rows as JSON lines, each written as soon as it is known, so that a check can go on where it was stopped.

    Use it in a ``with`` statement, at the start of which it is read; until its end nobody else may write there.

    Args:
        path: The file; it is made where it does not exist.

    Attributes:
        rows: What was in it, by path; of several rows the last. A line that was being written when the
            program was killed, and rows of other versions, are left out.

    Raises:
        DataError: The file cannot be read or written, is not such a report, or another check writes to it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.rows: dict[Path, CheckRow] = {}
        busy = "is checking and writes here: wait until that is done, or name another file with --report"
        self._lock = Lock(self.path.with_name(f"{self.path.name}.lock"), f"{self.path}: {{owner}} {busy}")

    def __enter__(self) -> "ReportFile":
        with ExitStack() as stack:
            try:
                stack.enter_context(self._lock)
            except OSError as error:
                raise self._unusable(error) from None
            self._read()
            self._closing = stack.pop_all()  # the lock is kept
        return self

    def _read(self) -> None:
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]
            self.rows = {row.path: row for row in self._parse(whole)}
            if content and not whole and not content.startswith(b'{"'):
                raise self._foreign()
            self._file: TextIO = append_text(self.path)
            self._file.truncate(len(whole))  # never written anew: a full disk would take what is there
        except OSError as error:
            raise self._unusable(error) from None

    def _parse(self, content: bytes) -> list[CheckRow]:
        rows = []
        for line in content.split(b"\n")[:-1]:
            try:
                values = json.loads(line)
            except ValueError:
                raise self._foreign() from None
            if not isinstance(values, dict) or "path" not in values:
                raise self._foreign()
            if set(values) == _FIELDS:
                rows.append(_row(values))
        return rows

    def add(self, row: CheckRow) -> None:
        """Write a row, at once.

        Raises:
            DataError: It cannot be written.
        """
        try:
            self._file.write(_line(row))
            self._file.flush()
        except OSError as error:
            raise self._unusable(error) from None

    def finish(self, rows: tuple[CheckRow, ...]) -> None:
        """Write all rows anew, in order, in place of what is in the file.

        Raises:
            DataError: They cannot be written.
        """
        self._file.close()
        part = self.path.with_name(f"{self.path.name}.part")
        try:
            write_new(part, "".join(_line(row) for row in rows))
            part.replace(self.path)
        except OSError as error:
            raise self._unusable(error) from None

    def __exit__(self, *_: object) -> None:
        with self._closing:
            try:
                self._file.close()
            except OSError as error:  # what was not written yet did not fit on the disk
                raise self._unusable(error) from None

    def _foreign(self) -> DataError:
        return DataError(f"{self.path}: exists, but is not the report of a check; name another file with --report")

    def _unusable(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot be written: {error.strerror}; name another file with --report")


def _line(row: CheckRow) -> str:
    return json.dumps(row.to_dict()) + "\n"  # ASCII, so that any file name can be written


def _row(values: dict[str, Any]) -> CheckRow:
    spans = {name: tuple((start, end) for start, end in values[name]) for name in ("spans", "faulty_spans")}
    return CheckRow(**{**values, **spans, "path": Path(values["path"]), "warnings": tuple(values["warnings"])})
