"""One way in for all data: a manifest file, a folder of videos, or the bundled clips."""

import hashlib
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from everest.datasets.folder import index_folder
from everest.datasets.manifest import read_manifest
from everest.datasets.records import Manifest, is_video, relative_path
from everest.errors import ConfigError, DataError
from everest.video.source import is_url
from everest.video.urls import Url

BUNDLED = "bundled"
FOLDER_MANIFEST = "manifest.csv"


def load_data(path: str | Path, holdout: float | None = None) -> Manifest:
    """Load a list of clips from whatever the user names.

    Args:
        path: A manifest (see :func:`read_manifest`), a folder (see :func:`index_folder`; a ``manifest.csv`` in it is
            read instead), the same of packed shards at a URL, or the word ``bundled`` for the labelled clips that come
            with the package.
        holdout: Share of each class that becomes the split ``test`` where the data has labels but no splits.

    Raises:
        DataError: There is nothing at ``path``, or it cannot be used.
    """
    manifest = _load(path)
    if holdout is None or manifest.splits or not manifest.labelled:
        return manifest
    return hold_out(manifest, holdout)


def _load(path: str | Path) -> Manifest:
    if isinstance(path, str) and is_url(path):
        url = Url(path)
        if is_video(Path(url)):
            raise DataError(f"{url}: one video; at a URL expected a list of packed clips, or the folder of a pack")
        return read_manifest(url if url.endswith((".csv", ".tsv", ".txt")) else url.below(FOLDER_MANIFEST))
    if str(path) == BUNDLED:
        bundled = Path(str(files("everest").joinpath("assets", "falls", "windows.csv")))
        if not bundled.is_file():
            raise DataError(f"{bundled}: the bundled clips are missing; install the package again")
        return read_manifest(bundled)
    source = Path(path).expanduser()
    if source.is_dir():
        listed = source / FOLDER_MANIFEST
        return read_manifest(listed) if listed.is_file() else index_folder(source)
    if source.is_file() and is_video(source):
        raise DataError(f"{source}: one video; expected a folder of videos or a list of them")
    if source.is_file():
        return read_manifest(source)
    raise DataError(f"{source}: no such file or folder; expected a manifest, a folder of videos, or {BUNDLED!r}")


def hold_out(manifest: Manifest, share: float) -> Manifest:
    """Split a labelled manifest in ``train`` and ``test``.

    The choice depends on names only: the files of each class are ordered by a hash of their relative path, and the
    first ones become ``test``, at least one and never all where the class has two or more. All clips of a file stay
    on one side. Where files hold clips of several classes, that can leave a class on one side only; the note says so.

    Args:
        manifest: Labelled clips; existing splits are replaced.
        share: Share of the files of each class that is held out, in (0, 1).

    Returns:
        The same clips with splits, and a note.

    Raises:
        ConfigError: The share is not between 0 and 1.
        DataError: A clip has no label.
    """
    if not 0.0 < share < 1.0:
        raise ConfigError(f"holdout must lie between 0 and 1, not {share}")
    if not manifest.labelled:
        raise DataError(f"{manifest.place}: a hold-out by class needs a label for every clip")
    root = manifest.root
    files_of: dict[int, set[Path]] = {}
    for record in manifest.records:
        if record.label is not None:
            files_of.setdefault(record.label, set()).add(record.path)
    order = {path: _name_hash(path, root) for members in files_of.values() for path in members}
    is_test: dict[Path, bool] = {}
    for label in sorted(files_of, key=lambda label: (len(files_of[label]), label)):  # rare classes choose first
        members = files_of[label]
        wanted = min(max(round(share * len(members)), 1), len(members) - 1)
        wanted -= sum(is_test.get(path, False) for path in members)
        undecided = sorted((path for path in members if path not in is_test), key=order.__getitem__)
        is_test.update({path: index < wanted for index, path in enumerate(undecided)})
    records = tuple(replace(r, split="test" if is_test[r.path] else "train") for r in manifest.records)
    split = replace(manifest, records=records, whole_digest=manifest.source_digest)
    note = f"no splits given: {100 * share:g} % of the videos of each class held out as test, chosen by file name"
    return replace(split, note=note + _one_sided(split))


def _name_hash(path: Path, root: Path) -> bytes:
    return hashlib.sha256(relative_path(path, root).encode("utf-8", "backslashreplace")).digest()


def _one_sided(manifest: Manifest) -> str:
    """Name the classes that are missing on one side."""
    sides = Counter((r.label, r.split) for r in manifest.records)
    parts = []
    for split in ("train", "test"):
        other = "test" if split == "train" else "train"
        absent = [
            name for label, name in enumerate(manifest.class_names) if not sides[label, split] and sides[label, other]
        ]
        if absent:
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            parts.append(f"; no {split} clip of {', '.join(absent[:5])}{more}")
    return "".join(parts)
