"""Rows of a manifest as they were written: header, separator, quotes. Nothing is looked up here."""

import csv
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches

from everest.datasets.records import VIDEO_EXTENSIONS, is_video
from everest.errors import ManifestError, RemoteError
from everest.video.remote import OnRetry, read_url, read_url_if_there
from everest.video.source import Location
from everest.video.urls import Url

COLUMNS = {
    "path": "path",
    "relative_path": "path",
    "video": "path",
    "file": "path",
    "label": "label",
    "class": "label",
    "class_name": "label",
    "split": "split",
    "start": "start",
    "start_seconds": "start",
    "end": "end",
    "end_seconds": "end",
    "shard": "shard",
    "offset": "offset",
    "num_bytes": "num_bytes",
    "sha256": "sha256",
}  # as written in the header -> what it means
_LOG = logging.getLogger("everest")
NUM_LISTED = 5  # problems that a message spells out

_EXTENSION = rf"\.(?:{'|'.join(sorted(VIDEO_EXTENSIONS))})"
_AFTER_EXTENSION = re.compile(rf"{_EXTENSION}[\"']?[\s,]", re.IGNORECASE)
INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True)
class Row:
    """One line as it was written; empty strings where nothing was given."""

    line: int
    path: str
    label: str = ""
    class_name: str = ""
    split: str = ""
    start: str = ""
    end: str = ""
    shard: str = ""
    offset: str = ""
    num_bytes: str = ""
    sha256: str = ""


@dataclass
class Problems:
    """Collects what is wrong with a file, to say it all at once; ``unit`` is what is counted in it."""

    source: Location
    unit: str = "line"
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, text: str) -> None:
        """Remember a problem and go on."""
        self.found.append((line, text))

    def raise_any(self) -> None:
        """Raise one error for everything that was found.

        Raises:
            ManifestError: Something was; the message has the first few by line, and counts the others.
        """
        if not self.found:
            return
        more = len(self.found) - NUM_LISTED
        tail = f"; and {more} more" if more > 0 else ""
        listed = "; ".join(f"{self.unit} {line}: {text}" for line, text in sorted(self.found)[:NUM_LISTED])
        raise ManifestError(f"{self.source}: {listed}{tail}")


def read_rows(source: Location, problems: Problems) -> list[Row]:
    """Split a list of clips into rows, with or without a header.

    Args:
        source: The list.
        problems: Takes what is wrong with single lines; those lines are left out.

    Raises:
        ManifestError: The file cannot be read, is empty, or has a header that cannot be used.
    """
    text = read_text(source)
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ManifestError(f"{source}: the file is empty; expected one clip a line: path,label")
    header = _find_header(source, lines[0][1])
    if header is None:
        return list(_rows_without_header(lines, problems))
    rows = list(_rows_with_header(text, *header, problems))
    if not rows and not problems.found:
        raise ManifestError(f"{source}: no rows after the header; expected one clip a line")
    return rows


def read_text(source: Location) -> str:
    """Read a text file in UTF-8, with or without a byte order mark; also from a URL."""
    try:
        if isinstance(source, Url):
            return read_url(source, on_retry=_say_waiting(source)).decode("utf-8-sig")
        return source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ManifestError(f"{source}: not a text file in UTF-8; save the list as UTF-8 CSV") from None
    except RemoteError as error:
        raise ManifestError(f"{source}: cannot be read: {error}") from None
    except (OSError, ValueError) as error:  # the latter: a name that cannot be one
        raise ManifestError(f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_text_if_there(source: Location) -> str | None:
    """Read a text file that need not be there, as :func:`read_text` does; None where it is not."""
    if not isinstance(source, Url):
        return read_text(source) if source.is_file() else None
    try:
        content = read_url_if_there(source, on_retry=_say_waiting(source))
        return None if content is None else content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ManifestError(f"{source}: not a text file in UTF-8; save the list as UTF-8 CSV") from None
    except RemoteError as error:
        raise ManifestError(f"{source}: cannot be read: {error}") from None


def _say_waiting(source: str) -> OnRetry:
    return lambda problem, seconds: _LOG.warning("%s: %s; asking again in %.1f s", source, problem.text, seconds)


def _split_fields(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))


def _find_header(source: Location, line: str) -> tuple[str, dict[str, int]] | None:
    """Find separator and columns in a first line, or None where it is no header."""
    for delimiter in "\t, ":
        names = [name.strip().lower() for name in _split_fields(line, delimiter)]
        known = [name for name in names if name in COLUMNS]
        is_data = any(is_video(name) or INTEGER.fullmatch(name) for name in names)
        if not known or is_data or (delimiter == " " and len(known) < len(names)):
            continue
        if "path" not in {COLUMNS[name] for name in known}:
            raise ManifestError(
                f"{source}: line 1: unknown columns {', '.join(names)}; one must be path, relative_path, video or file"
            )
        return delimiter, _columns(source, names)
    return None


def _no_path_column(source: Location, names: list[str]) -> ManifestError:
    return ManifestError(
        f"{source}: line 1: unknown columns {', '.join(names)}; one must be path, relative_path, video or file"
    )


def _columns(source: Location, names: list[str]) -> dict[str, int]:
    """Map what is needed to the numbers of the columns that have it."""
    columns: dict[str, int] = {}
    for index, name in enumerate(names):
        # Beside a label, class_name says what the label is called; alone it is the label.
        meaning = name if name == "class_name" and {"label", "class"} & set(names) else COLUMNS.get(name)
        if meaning in columns:
            raise ManifestError(f"{source}: line 1: two columns say {meaning}; keep one of them")
        if meaning is not None:
            columns[meaning] = index
    for name in names:  # what looks like a column that is needed must not be ignored as one that is not
        words = [word for word in re.split(r"[^a-z]+", name) if word in COLUMNS]
        similar = words or get_close_matches(name, COLUMNS, n=1, cutoff=0.75)
        if name not in COLUMNS and similar and COLUMNS[similar[0]] not in columns:
            raise ManifestError(f"{source}: line 1: unknown column {name!r}: did you mean {similar[0]!r}?")
    return columns


def _rows_with_header(text: str, delimiter: str, columns: dict[str, int], problems: Problems) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    num_fields = 0
    for fields in reader:
        if not any(f.strip() for f in fields):
            continue
        if not num_fields:
            num_fields = len(fields)  # the header
            continue
        if len(fields) != num_fields:
            problems.add(
                reader.line_num,
                f"{len(fields)} fields where the header has {num_fields}; quote fields that hold a separator",
            )
            continue
        values = {m: fields[i] if m == "path" else fields[i].strip() for m, i in columns.items()}
        yield Row(reader.line_num, **values)


def _rows_without_header(lines: list[tuple[int, str]], problems: Problems) -> Iterator[Row]:
    """Read lines of a path and a label; the label is the last field, whatever the path holds."""
    texts = [line.strip() for _, line in lines]
    if all(is_video(_unquote(text)) and not _has_more_fields(text) for text in texts):
        yield from (Row(number, _unquote(text)) for (number, _), text in zip(lines, texts, strict=True))
        return
    delimiter = _find_delimiter(texts[:1000])
    pattern = _two_fields(delimiter)
    matches = [pattern.fullmatch(text) for text in texts]
    videos = [m is not None and is_video(_unquote(m["path"])) for m in matches]
    # A first line without any video, above lines that all have one, is a header of unknown names.
    if len(texts) > 1 and not _AFTER_EXTENSION.search(f"{texts[0]} ") and all(videos[1:]):
        raise _no_path_column(problems.source, _split_fields(texts[0], delimiter))
    for (number, _), text, match in zip(lines, texts, matches, strict=True):
        if match is None or not _unquote(match["path"]):
            problems.add(number, f"expected a path and a label, not {text!r}")
        elif _has_more_fields(match["path"]):
            problems.add(
                number,
                f"expected a path and a label, not {text!r}; "
                "quote a field that holds a separator, or name the columns in a header: path,label,split",
            )
        else:
            yield Row(number, _unquote(match["path"]), _unquote(match["label"]))


def _find_delimiter(texts: list[str]) -> str:
    """Choose the separator that leaves a video before the last field of most lines."""

    def num_videos(delimiter: str) -> int:
        matches = (_two_fields(delimiter).fullmatch(text) for text in texts)
        return sum(is_video(_unquote(m["path"])) for m in matches if m)

    def num_split(delimiter: str) -> int:
        return sum(_two_fields(delimiter).fullmatch(text) is not None for text in texts)

    return max("\t, ", key=lambda delimiter: (num_videos(delimiter), num_split(delimiter)))


def _two_fields(delimiter: str) -> re.Pattern[str]:
    quoted = r"\"(?:[^\"]|\"\")*\"|'[^']*'"
    return re.compile(rf"(?P<path>{quoted}|.+){delimiter}\s*(?P<label>{quoted}|[^{delimiter}\"]+)")


def _has_more_fields(path_text: str) -> bool:
    """Whether something follows the end of a file name: a third field, or an unquoted label of two words."""
    return path_text[0] not in "\"'" and _AFTER_EXTENSION.search(path_text) is not None


def _unquote(field_text: str) -> str:
    text = field_text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].replace('""', '"') if text[0] == '"' else text[1:-1]
    return text
