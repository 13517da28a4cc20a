"""One manifest for whatever somebody has: folders, lists, and the official layouts of known data sets."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from everest.datasets.folder import index_folder
from everest.datasets.layouts import LAYOUTS, Annotations, Entry
from everest.datasets.manifest import read_manifest
from everest.datasets.records import ClipRecord, Manifest, is_video, natural_key
from everest.datasets.source import load_data
from everest.errors import ConfigError, ManifestError, nearest

FORMATS = ("auto", "folder", "unlabelled", "list", *LAYOUTS)
NUM_LISTED = 5  # files that a summary names
MAX_CLASSES_LISTED = 12  # classes that a summary counts one by one

_ALIASES = {
    "kinetics": "kinetics400",
    "kinetics600": "kinetics400",
    "kinetics700": "kinetics400",
    "k400": "kinetics400",
}


@dataclass(frozen=True, repr=False)
class Index:
    """A manifest, and what did not come into it.

    Attributes:
        manifest: The clips whose files are there.
        missing: Names of annotated clips whose file is not there, as ``split/name``.
        unannotated: Videos below the folder that no annotation names.
    """

    manifest: Manifest
    missing: tuple[str, ...] = ()
    unannotated: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        return f"Index({self.manifest}, {len(self.missing)} missing, {len(self.unannotated)} unannotated)"

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return {
            "num_clips": len(self.manifest),
            "num_files": self.manifest.num_files,
            "num_classes": self.manifest.num_classes,
            "digest": self.manifest.digest,
            "counts": self.manifest.counts(),
            "note": self.manifest.note,
            "missing": list(self.missing),
            "unannotated": [str(path) for path in self.unannotated],
        }

    def summary(self) -> str:
        """Tell a person, in a few lines."""
        manifest = self.manifest
        lines = [f"{len(manifest)} clips of {manifest.num_files} files, {manifest.num_classes} classes"]
        for split, classes in manifest.counts().items():
            counts = {name: number for name, number in classes.items() if number}
            empty = len(classes) - len(counts)
            lines.append(f"  {split}: {sum(counts.values())} clips{f', {empty} classes without any' if empty else ''}")
            if len(classes) <= MAX_CLASSES_LISTED:
                lines += [f"    {number:6} {name}" for name, number in classes.items()]
            else:
                lines.append(
                    f"    {min(counts.values())} to {max(counts.values())} clips in each of {len(counts)} classes"
                )
        if manifest.note:
            lines.append(f"note: {manifest.note}")
        lines += _listed("annotated, but the file is not there", self.missing)
        lines += _listed("videos that no annotation names", [str(path) for path in self.unannotated])
        return "\n".join([*lines, f"digest: {manifest.digest}"])


def _listed(title: str, names: "tuple[str, ...] | list[str]") -> list[str]:
    if not names:
        return []
    more = [f"  and {len(names) - NUM_LISTED} more"] if len(names) > NUM_LISTED else []
    return [f"{len(names)} {title}:", *(f"  {name}" for name in names[:NUM_LISTED]), *more]


def index_source(
    source: str | Path,
    format: str = "auto",  # the option's name
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    fold: int = 1,
) -> Index:
    """List the clips of a data set.

    Args:
        source: A folder, a list, or the folder of a known data set with annotations and videos somewhere in it.
        format: One of :data:`FORMATS`. ``folder``: class folders; ``unlabelled``: every video below the folder;
            ``list``: CSV, TSV or lines of ``path label``; ``auto``: whatever :func:`~everest.datasets.load_data` sees;
            the others are the official layouts (``kinetics400`` is that of Kinetics-600 and -700 as well).
        annotations: Folder with the annotation files, where that is not in ``source``.
        videos: Folder with the videos, where that is not ``source``.
        fold: Which of the official splits of UCF101 and HMDB51: 1, 2 or 3.

    Raises:
        ConfigError: There is no such format.
        ManifestError: Annotations are missing or cannot be read, or not a single video of them is there.
        DataError: There is nothing at ``source``.
    """
    name = _ALIASES.get(format, format)
    if name not in FORMATS:
        raise ConfigError(f"unknown format {format!r}: {nearest(format, FORMATS)}")
    if name not in LAYOUTS:
        if annotations is not None or videos is not None or fold != 1:
            raise ConfigError(f"annotations, videos and fold belong to {', '.join(LAYOUTS)}, not to {name}")
        return Index(_index_plain(Path(source).expanduser(), name))
    folder = Path(source).expanduser().absolute()
    found = LAYOUTS[name](Path(annotations or folder).expanduser().absolute(), fold)
    return _match(found, Path(videos or folder).expanduser().absolute(), folder)


def _index_plain(source: Path, name: str) -> Manifest:
    if name == "folder":
        return index_folder(source)
    if name == "list":
        return read_manifest(source)
    if name == "auto":
        return load_data(source)
    folder = source.absolute()
    paths = sorted(find_videos(folder), key=lambda path: natural_key(path.as_posix()))
    if not paths:
        raise ManifestError(f"{folder}: no videos there or below")
    return Manifest(tuple(ClipRecord(path) for path in paths), (), folder)


def find_videos(folder: Path) -> Iterator[Path]:
    """Walk a folder and give every video below it; files and folders that start with a dot are left out.

    Raises:
        ManifestError: It is not a folder, or cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise ManifestError(f"{error.filename}: cannot be read: {error.strerror}")

    if not folder.is_dir():
        raise ManifestError(f"{folder}: not a folder")
    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in files if is_video(name) and not name.startswith("."))


def _match(annotations: Annotations, videos: Path, source: Path) -> Index:
    """Find the file of every entry."""
    by_stem: dict[str, list[Path]] = {}
    for path in find_videos(videos):
        by_stem.setdefault(path.stem, []).append(path)
    records, missing, used = [], [], set()
    for entry in annotations.entries:
        name = next((name for name in entry.names if name in by_stem), None)
        if name is None:
            missing.append(f"{entry.split}/{entry.names[0]}")
            continue
        used.add(name)
        path = _choose(by_stem[name], entry, annotations)
        records.append(ClipRecord(path, entry.label, entry.split, entry.start_seconds, entry.end_seconds))
    if not records:
        wanted = annotations.entries[0].names[0] if annotations.entries else "anything"
        raise ManifestError(
            f"{videos}: none of the {len(annotations.entries)} annotated videos is there or below, such as {wanted}.*; "
            "name their folder with --videos"
        )
    known = used | annotations.unused
    unannotated = tuple(path for stem, paths in sorted(by_stem.items()) if stem not in known for path in paths)
    manifest = Manifest(tuple(records), annotations.class_names, source)
    notes = [annotations.note, _leak(manifest)]
    return Index(replace(manifest, note="; ".join(filter(None, notes))), tuple(missing), unannotated)


def _choose(paths: list[Path], entry: Entry, annotations: Annotations) -> Path:
    """Choose among files of one name: by the folder of the split, then by that of the class.

    Raises:
        ManifestError: That does not leave a single one.
    """
    if len(paths) == 1:
        return paths[0]
    folders = {entry.split, "validate" if entry.split == "val" else entry.split}
    remaining = [path for path in paths if folders & set(path.parts)] or paths
    if entry.label is not None and len(remaining) > 1:
        class_name = annotations.class_names[entry.label]
        names = {class_name, class_name.replace(" ", "_")}
        remaining = [path for path in remaining if names & set(path.parts)] or remaining
    if len(remaining) > 1:
        raise ManifestError(
            f"two files could be {entry.split}/{entry.names[0]}: {remaining[0]} and {remaining[1]}; keep one"
        )
    return remaining[0]


def _leak(manifest: Manifest) -> str:
    """Say when clips are on more than one side."""
    sides: dict[tuple[Path, float | None, float | None], set[str | None]] = {}
    for r in manifest.records:
        sides.setdefault((r.path, r.start_seconds, r.end_seconds), set()).add(r.split)
    shared = Counter(len(splits) for splits in sides.values())
    num = sum(number for splits, number in shared.items() if splits > 1)
    return f"{num} clips are in more than one split: accuracy on them means nothing" if num else ""
