"""Which of the files of a list are there, and which files beside them the list does not name."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from everest.datasets.records import ClipRecord, Manifest, is_video, natural_sorted, relative_path
from everest.errors import ManifestError


def find_listed(manifest: Manifest, videos: Path | None = None) -> tuple[Manifest, tuple[str, ...], tuple[Path, ...]]:
    """Compare a list with the folders that its files lie in.

    Each of these folders is read once; no file is asked for by itself. Parts of shards are not looked for.

    Args:
        manifest: The list, as read.
        videos: Where its relative paths begin; None: in the folder of the list.

    Returns:
        The clips whose files are there; the paths of the others, as in the list; videos in the same folders that the
        list does not name.

    Raises:
        ManifestError: Not a single file is there.
    """
    records = [_moved(record, manifest.root, videos) for record in manifest.records]
    folders = dict.fromkeys(record.path.parent for record in records if record.member is None)
    content = {folder: _files_of(folder) for folder in folders}
    there = [record.member is not None or _is_there(record.path, content) for record in records]
    if not any(there):
        raise ManifestError(
            f"{manifest.source}: none of its {len(records)} files is there, such as {records[0].path}; "
            "name the folder that its paths are relative to with --videos"
        )
    named = {str(record.path) for record in records}
    left = (f"{folder / name}" for folder, names in content.items() for name in names if is_video(name))
    return (
        replace(manifest, records=tuple(r for r, found in zip(records, there, strict=True) if found)),
        tuple(dict.fromkeys(_absent(manifest.records, there, manifest.root))),
        tuple(Path(path) for path in natural_sorted(path for path in left if path not in named)),
    )


def _absent(records: Iterable[ClipRecord], there: list[bool], root: Path) -> Iterable[str]:
    return (relative_path(record.path, root) for record, found in zip(records, there, strict=True) if not found)


def _moved(record: ClipRecord, root: Path, videos: Path | None) -> ClipRecord:
    """Move a path that is below the folder of the list to another folder."""
    if videos is None or record.member is not None or not record.path.is_relative_to(root):
        return record
    return replace(record, path=videos / record.path.relative_to(root))


def _files_of(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(e.name for e in entries if not e.name.startswith(".") and _is_file(e))
    except OSError:  # then all that should be in it is missing
        return frozenset()


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _is_there(path: Path, content: dict[Path, frozenset[str]]) -> bool:
    """Look a file up by name, and ask the file system where the name alone does not say, as where case is ignored."""
    return path.name in content[path.parent] or path.is_file()
