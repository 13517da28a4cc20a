"""Manifests on disk: lists of clips as CSV, TSV, or lines of ``path label``.

With a header, columns are found by name: path (relative_path, video, file), label (class, class_name), split,
start (start_seconds), end (end_seconds); other columns are ignored. Without a header, every line is a path and a
label, or every line is a path only.
"""

import csv
import io
import math
import os
import re
from pathlib import Path

from everest.datasets.records import ClipRecord, Manifest, natural_sorted, relative_path, split_name
from everest.datasets.rows import INTEGER, Problems, Row, read_rows, read_text, read_text_if_there
from everest.datasets.store import SHARED
from everest.errors import ManifestError, nearest
from everest.links import write_new
from everest.video.protocols import is_of_this_machine
from everest.video.source import Location, ShardMember, is_url
from everest.video.urls import Url

CLASSES_FILE = "classes.txt"
_COLUMNS = ("path", "label", "class_name", "split", "start", "end")
_SHARD_COLUMNS = ("shard", "offset", "num_bytes", "sha256")
_HASH = re.compile("[0-9a-f]{64}")
MAX_CLASSES = 100_000  # a larger integer is an identifier, not a class index


def read_manifest(path: str | Path) -> Manifest:
    """Read a list of clips, from a file or a URL.

    Labels are class names, or integers from 0. Integers are named by a file beside the manifest, one name a line: for
    ``list.csv`` that is ``list.classes.txt`` or, for all lists of a folder, ``classes.txt``; or by the column
    ``class_name``. Without any of these the names are the integers. Paths are relative to
    the manifest's folder. Whether the files exist is not looked at; :func:`everest.datasets.check_manifest` does.

    Args:
        path: The list, UTF-8. Fields are separated by tabs, commas or spaces; fields may be quoted. At a URL that
            fsspec can open, such as ``s3://bucket/packed/manifest.csv``, all clips have to be parts of shards. What
            the URL has of passwords and queries belongs to the shards beside it as well, and is shown nowhere.

    Raises:
        ManifestError: The list cannot be read as a whole; every message names file and line, five at most.
    """
    source = Url(path) if isinstance(path, str) and is_url(path) else Path(path).absolute()
    problems = Problems(source)
    rows = read_rows(source, problems)
    class_names, indices = _resolve_labels(source, rows, problems)
    shards: dict[str, str] = {}  # each name once, however many clips lie in it
    records = tuple(_record(source, row, indices.get(row.line), problems, shards) for row in rows)
    _check_contradictions(rows, records, problems)
    problems.raise_any()
    return Manifest(records, class_names, Path(source))


def write_manifest(manifest: Manifest, path: str | Path, overwrite: bool = False) -> None:
    """Write a list that :func:`read_manifest` reads back as it is.

    Classes without a clip cannot be told from the rows; where there are any, ``list.classes.txt`` is written beside
    ``list.csv``. So it is where the folder has a ``classes.txt`` with other names, which would be read with the list.

    Args:
        manifest: What to write.
        path: The CSV file to make; paths in it are relative to its folder.
        overwrite: Replace files that exist.

    Raises:
        ManifestError: A file exists, or cannot be written.
    """
    target = Path(path).absolute()
    names = manifest.class_names
    used = {r.label for r in manifest.records if r.label is not None}
    outputs = {target: _as_csv(manifest, target.parent)}
    sidecar = target.with_suffix(f".{CLASSES_FILE}")
    if len(used) < len(names) or sidecar.exists() or _read_classes(target)[0] not in ((), names):
        outputs[sidecar] = "".join(f"{name}\n" for name in names)
    for file, content in outputs.items():
        same = file == sidecar and file.is_file() and read_text(file) == content
        if file.exists() and not overwrite and not same:
            what = (
                "exists already" if file == target else f"exists already, and would name the classes of {target.name}"
            )
            raise ManifestError(f"{file}: {what}; delete it, or choose another name for the list")
    _require_unicode(manifest)
    try:
        for file, content in outputs.items():
            partial = file.with_name(f"{file.name}.part")
            write_new(partial, content)
            partial.replace(file)
    except OSError as error:
        raise ManifestError(f"{target}: cannot be written: {error}") from None


def _require_unicode(manifest: Manifest) -> None:
    """Refuse names that cannot be written, such as those of an old file system.

    Raises:
        ManifestError: There are some; it names one.
    """
    names = (str(record.path) for record in manifest.records)
    bad = [ascii(name) for name in names if not name.isascii() and name != name.encode("utf-8", "replace").decode()]
    if bad:
        raise ManifestError(f"{len(bad)} names are not in UTF-8, such as {bad[0]}: rename them")


def _as_csv(manifest: Manifest, folder: Path) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    is_packed = any(r.member is not None for r in manifest.records)
    writer.writerow((*_COLUMNS, *_SHARD_COLUMNS) if is_packed else _COLUMNS)
    for r in manifest.records:
        relative = relative_path(r.path, folder) if r.member is None else r.member.name
        if relative[0].isspace():
            relative = f"./{relative}"  # blanks at the start of a field are not kept when it is read
        name = "" if r.label is None else manifest.class_names[r.label]
        values = (relative, r.label, name, r.split, r.start_seconds, r.end_seconds)  # None: empty
        writer.writerow((*values, *_shard_values(r, folder)) if is_packed else values)
    return buffer.getvalue()


def _shard_values(record: ClipRecord, folder: Path) -> tuple[str | int | None, ...]:
    member = record.member
    if member is None:
        return (None,) * len(_SHARD_COLUMNS)
    if isinstance(member.shard, Url) and member.shard.has_secret:
        raise ManifestError(
            f"{member.shard}: belongs to a URL with a password or a query, which is not written down: use the list "
            "where it is"
        )
    shard = member.shard if is_url(member.shard) else relative_path(Path(member.shard), folder)
    return shard, member.offset, member.num_bytes, member.sha256 or None


def _resolve_labels(source: Location, rows: list[Row], problems: Problems) -> tuple[tuple[str, ...], dict[int, int]]:
    """Turn labels as written into indices.

    Returns:
        The class names, and the index by line number for every row that has a usable label.
    """
    given = {row.line: row.label or row.class_name for row in rows if row.label or row.class_name}
    listed, file = _read_classes(source)
    if listed:
        return listed, _indices_by_list(rows, given, listed, file, problems)
    if not all(INTEGER.fullmatch(label) for label in given.values()):
        names = tuple(natural_sorted(set(given.values())))
        index_of = {name: index for index, name in enumerate(names)}
        return names, {line: index_of[label] for line, label in given.items()}
    indices = {}
    for line, label in given.items():
        indices[line] = _checked_index(line, label, MAX_CLASSES, "", problems)
    num_classes = max(indices.values(), default=-1) + 1
    return _names_by_column(rows, indices, num_classes, problems), indices


def _checked_index(line: int, label: str, num_classes: int, why: str, problems: Problems) -> int:
    if 0 <= int(label) < num_classes:
        return int(label)
    problems.add(line, f"label out of range: {label}; accepted: 0 to {num_classes - 1}{why}")
    return 0


def _indices_by_list(
    rows: list[Row], given: dict[int, str], listed: tuple[str, ...], file: str, problems: Problems
) -> dict[int, int]:
    """Look labels up in a file of class names: integers by place, others by name."""
    index_of = {name: index for index, name in enumerate(listed)}
    why = f", as {file} has {len(listed)} names"
    indices = {}
    for row in rows:
        label = given.get(row.line)
        if label is None:
            continue
        if INTEGER.fullmatch(label) and row.label:
            index = _checked_index(row.line, label, len(listed), why, problems)
            if row.class_name and row.class_name != listed[index]:
                problems.add(row.line, f"class {row.class_name!r} is {listed[index]!r} in {file}")
            elif not row.class_name and index_of.get(label, index) != index:
                problems.add(row.line, f"label {label} is a place and a name in {file}; use other names")
            indices[row.line] = index
        elif label in index_of:
            indices[row.line] = index_of[label]
        else:
            problems.add(row.line, f"class {label!r} is not in {file}: {nearest(label, index_of)}")
    return indices


def _names_by_column(rows: list[Row], indices: dict[int, int], num_classes: int, problems: Problems) -> tuple[str, ...]:
    """Name integer labels by the column ``class_name``; those that it does not name by themselves."""
    names: dict[int, str] = {}
    for row in rows:
        index = indices.get(row.line)
        if index is None or not row.class_name or not row.label:
            continue
        if names.setdefault(index, row.class_name) != row.class_name:
            problems.add(row.line, f"label {index} is called {row.class_name!r} here and {names[index]!r} above")
    all_names = tuple(names.get(index, str(index)) for index in range(num_classes))
    label_of: dict[str, int] = {}
    for row in rows:
        index = indices.get(row.line)
        if index is not None and label_of.setdefault(all_names[index], index) != index:
            problems.add(row.line, f"class {all_names[index]!r} has another label above")
    return all_names


def _read_classes(source: Location) -> tuple[tuple[str, ...], str]:
    """Read the class names that belong to a list, and say in which file; nothing where there is none."""
    places: list[Location]
    if isinstance(source, Url):
        name = source.rpartition("/")[2]
        places = [source.beside(f"{name.rpartition('.')[0] or name}.{CLASSES_FILE}"), source.beside(CLASSES_FILE)]
    else:
        places = [source.with_suffix(f".{CLASSES_FILE}"), source.parent / CLASSES_FILE]
    for path in places:
        text = read_text_if_there(path)
        if text is None:
            continue
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ManifestError(f"{path}: class name {twice!r} occurs twice")
        return names, Path(path).name
    return (), CLASSES_FILE


def _record(source: Location, row: Row, label: int | None, problems: Problems, shards: dict[str, str]) -> ClipRecord:
    start = _seconds(row, "start", row.start, problems)
    end = _seconds(row, "end", row.end, problems)
    if end is not None and end <= (start or 0.0):
        problems.add(row.line, f"end ({end:g} s) must come after start ({start or 0.0:g} s)")
    if not row.path.strip():
        problems.add(row.line, "the path is empty")
    member = _member(source, row, problems, shards) if row.shard else None
    if member is not None:
        path = Path(member.shard) / member.name
    elif isinstance(source, Path):
        path = Path(os.path.normpath(source.parent / row.path))
    else:
        path = Path(source.beside(row.path))
        problems.add(row.line, "a list at a URL needs the columns shard, offset and num_bytes: pack the videos first")
    return ClipRecord(path, label, split_name(row.split) or None, start, end, member)


def _member(source: Location, row: Row, problems: Problems, shards: dict[str, str]) -> ShardMember | None:
    """Read where in which shard a clip lies."""
    if not (row.offset.isdecimal() and row.num_bytes.isdecimal() and int(row.num_bytes)):
        problems.add(row.line, f"offset and num_bytes must be whole numbers, not {row.offset!r} and {row.num_bytes!r}")
        return None
    if row.sha256 and not _HASH.fullmatch(row.sha256):
        problems.add(row.line, f"sha256 must be 64 digits 0 to 9 and a to f, not {row.sha256!r}")
    if row.shard not in shards:
        shards[row.shard] = _shard(source, row.shard)
    shard = shards[row.shard]
    is_foreign = isinstance(source, Url) and not is_of_this_machine(source)
    if is_foreign and is_url(shard) and is_of_this_machine(shard):
        problems.add(row.line, f"a list from elsewhere cannot name files of this machine, such as {shard}")
    store = SHARED if is_url(shard) else None
    return ShardMember(shard, row.path, int(row.offset), int(row.num_bytes), row.sha256, store)


def _shard(source: Location, given: str) -> str:
    if is_url(given):
        return Url.with_mark(given)
    return os.path.normpath(source.parent / given) if isinstance(source, Path) else source.beside(given)


def _seconds(row: Row, column: str, text: str, problems: Problems) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value >= 0:
        return value
    problems.add(row.line, f"{column} must be a time in seconds, not {text!r}")
    return None


def _check_contradictions(rows: list[Row], records: tuple[ClipRecord, ...], problems: Problems) -> None:
    """Report clips that are listed twice with different labels."""
    seen: dict[tuple[Path, float | None, float | None], tuple[int, int | None]] = {}
    for row, r in zip(rows, records, strict=True):
        line, label = seen.setdefault((r.path, r.start_seconds, r.end_seconds), (row.line, r.label))
        if label != r.label and None not in {label, r.label}:  # a test set may leave its labels out
            problems.add(row.line, f"the same clip as in line {line}, with another label")
