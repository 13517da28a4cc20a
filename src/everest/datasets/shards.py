"""Other people's WebDataset shards as manifests: the headers are read, and nothing is unpacked."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from everest.datasets.records import VIDEO_EXTENSIONS, ClipRecord, Manifest, natural_sorted, split_name
from everest.errors import ManifestError
from everest.video.source import ShardMember, open_member

_CLASS_KEYS = ("class_name", "class", "label_name", "label")
MAX_TEXT_BYTES = 2**20  # of a description
MAX_CLASSES = 100_000  # with numbers of their own
Class = tuple[str | None, int | None]  # name and number, at least one of them


def index_shards(source: str | Path) -> Manifest:
    """List the videos of tar files in the layout of WebDataset.

    Members of one key belong together: ``KEY.mp4`` (or another video) with ``KEY.json`` or ``KEY.cls``. A class is
    taken from ``class_name``, ``class``, ``label_name`` or ``label`` of the JSON, or from the number in ``.cls``;
    ``split`` of the JSON is kept. Where the JSON has a name and a number ``label``, classes keep their numbers.

    Args:
        source: A tar file, or a folder with tar files in it.

    Raises:
        ManifestError: No tar file, one that cannot be read, or none with a video; or only some videos have a class.
    """
    folder = Path(source).expanduser().absolute()
    paths = sorted(folder.glob("*.tar")) if folder.is_dir() else [folder]
    if not paths or not paths[0].is_file():
        raise ManifestError(f"{folder}: no tar files; expected a tar file or a folder of them")
    found: list[tuple[ShardMember, Class | None, str | None]] = []
    for path in paths:
        try:
            found += _videos(path)
        except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"{path}: cannot be read as a tar file: {error}") from None
    if not found:
        raise ManifestError(f"{folder}: no videos in {len(paths)} tar files")
    unnamed = next((member for member, label, _ in found if label is None), None)
    labels = {label for _, label, _ in found if label is not None}
    if labels and unnamed is not None:
        raise ManifestError(f"{folder}: some videos have a class and others not, such as {unnamed}")
    index_of, class_names = _number(labels)
    records = tuple(
        ClipRecord(
            Path(member.shard) / member.name,
            None if label is None else index_of[label],
            None if split is None else split_name(split),
            member=member,
        )
        for member, label, split in found
    )
    return Manifest(records, class_names, folder)


def with_hashes(manifest: Manifest) -> Manifest:
    """Read every clip that lies in a shard and whose hash is not known, and note it: for a cache, and against damage.

    Raises:
        ManifestError: No clip lies in a shard.
        VideoError: One cannot be read.
    """
    if all(record.member is None for record in manifest.records):
        raise ManifestError(f"{manifest.source}: hashes belong to clips in shards, and none of these lies in one")
    return replace(manifest, records=tuple(_with_hash(record) for record in manifest.records))


def _with_hash(record: ClipRecord) -> ClipRecord:
    if record.member is None or record.member.sha256:
        return record
    content = open_member(record.member).getvalue()
    return replace(record, member=replace(record.member, sha256=hashlib.sha256(content).hexdigest()))


def _number(classes: "set[Class]") -> tuple[dict[Class, int], tuple[str, ...]]:
    """Give classes their numbers: their own where all have one that is theirs alone, else by the order of names."""
    numbers = {number for _, number in classes if number is not None}
    if len(numbers) == len(classes) and numbers and max(numbers) < MAX_CLASSES:
        index_of = {(name, number): number or 0 for name, number in classes}
        name_of = {number: name for name, number in classes if name is not None}
        return index_of, tuple(name_of.get(n, str(n)) for n in range(max(numbers) + 1))
    names = natural_sorted({_name(label) for label in classes})
    place = {name: index for index, name in enumerate(names)}
    return {label: place[_name(label)] for label in classes}, tuple(names)


def _name(label: "Class") -> str:
    return str(label[1]) if label[0] is None else label[0]


def _videos(path: Path) -> Iterator[tuple[ShardMember, Class | None, str | None]]:
    """Give the videos of a tar file with class and split."""
    videos: dict[str, ShardMember] = {}
    described: dict[str, dict[str, Any]] = {}
    with tarfile.open(path, "r:") as tar:
        for info in tar:
            if not info.isfile() or not info.size:
                continue
            name = PurePosixPath(info.name)
            stem, _, extension = name.name.partition(".")
            if not stem:  # such as ._clip.mp4, which macOS puts beside clip.mp4
                continue
            key = str(name.with_name(stem))
            if extension.lower() in VIDEO_EXTENSIONS:
                videos[key] = ShardMember(str(path), info.name, info.offset_data, info.size)
            elif extension in {"json", "cls"} and info.size <= MAX_TEXT_BYTES:
                file = tar.extractfile(info)
                text = "" if file is None else file.read().decode("utf-8")
                described.setdefault(key, {}).update(_parse(text, extension))
    for key, member in videos.items():
        values = described.get(key, {})
        split = values.get("split")
        yield member, _class_of(values), split if isinstance(split, str) else None


def _class_of(values: dict[str, Any]) -> Class | None:
    """Give the name of a class, its number, or both."""
    given = [values[name] for name in _CLASS_KEYS if isinstance(values.get(name), str | int)]
    name = next((value for value in given if isinstance(value, str) and value), None)
    number = next((value for value in given if isinstance(value, int) and value >= 0), None)
    return None if name is None and number is None else (name, number)


def _parse(text: str, extension: str) -> dict[str, Any]:
    if extension == "cls":
        text = text.strip()
        return {"label": int(text) if text.isdecimal() else text or None}
    try:
        values = json.loads(text)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
