"""Files of JSON lines, each written as soon as it is known, that one program at a time adds to."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TextIO

from everest.datasets.lock import Lock
from everest.errors import DataError
from everest.links import append_text, open_new


class LineFile:
    """The file. Use it in a ``with`` statement, at the start of which it is read; until its end nobody else writes.

    Its first line says what the others depend on. A last line that was cut off is taken away.

    Args:
        path: Made where it does not exist.
        header: The first line.
        holds: What such a file holds, for messages.

    Raises:
        DataError: The file cannot be used, or begins with another line.
    """

    def __init__(self, path: Path, header: dict[str, Any], holds: str) -> None:
        self._path, self._header, self._holds = path, header, holds
        busy = "is predicting and writes here: wait until that is done, or name another file with --out"
        self._lock = Lock(path.with_name(f"{path.name}.lock"), f"{path}: {{owner}} {busy}")

    def __enter__(self) -> Self:
        try:
            with ExitStack() as stack:
                stack.enter_context(self._lock)
                content = self._path.read_bytes() if self._path.exists() else b""
                whole = content[: content.rfind(b"\n") + 1]  # the last line may have been cut off
                header = _line(self._header)
                self._read_lines(whole, b"" if header.encode().startswith(content) else content)
                self._file: TextIO = stack.enter_context(append_text(self._path))
                self._file.truncate(len(whole))  # never written anew: a full disk would take what is there
                if not whole:
                    self._append(self._header)
                self._closing = stack.pop_all()
        except OSError as error:
            raise self._unusable(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._closing.close()
        except OSError as error:  # what was not written yet did not fit on the disk
            raise self._unusable(error) from None

    def _append(self, values: dict[str, Any]) -> None:
        """Write a line, at once."""
        try:
            self._file.write(_line(values))
            self._file.flush()
        except OSError as error:
            raise self._unusable(error) from None

    def _replace(self, rows: list[dict[str, Any]]) -> None:
        """Write other lines in place of all but the first; nothing can be added after that."""
        self._file.close()
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            with open_new(part) as file:
                for row in (self._header, *rows):
                    file.write(_line(row).encode())
            part.replace(self._path)
        except OSError as error:
            raise self._unusable(error) from None

    def _take(self, row: dict[str, Any]) -> None:
        """Look at a line that the file holds already; KeyError and TypeError where it is not what it should be."""

    def _read_lines(self, whole: bytes, content: bytes) -> None:
        try:
            header, *rows = [json.loads(line) for line in whole.splitlines()] or [self._header if not content else None]
            if header != self._header:
                raise DataError(f"{self._path}: exists, but does not hold {self._holds}: name another file with --out")
            for row in rows:
                self._take(row)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._path}: is not a file of predictions ({error}): name another with --out") from None

    def _unusable(self, error: OSError) -> DataError:
        return DataError(f"{self._path}: cannot be written: {error.strerror or error}; name another file with --out")


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values) + "\n"  # ASCII, so that any file name can be written
