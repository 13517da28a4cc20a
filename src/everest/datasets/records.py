"""The value that leaves this folder before decoding: a manifest, which is a list of clips with labels and splits."""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from everest.errors import ManifestError
from everest.video.source import ShardMember, VideoSource, say_location

VIDEO_EXTENSIONS = frozenset(
    {"3gp", "avi", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4"}
    | {"mpeg", "mpg", "mts", "ogv", "ts", "vob", "webm", "wmv"}
)
"""Files that count as videos, by the end of their names, in lower case and without the dot."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}  # as people write them -> as they are used here


@dataclass(frozen=True)
class ClipRecord:
    """One clip: a video file or a span of it.

    Attributes:
        path: The file, absolute; for a member of a shard the path of the shard and the name in it.
        label: Index into the manifest's class names; None where there is no label.
        split: ``train``, ``val``, ``test`` or any other name; None where there are no splits.
        start_seconds: Where the clip begins; None: at the start of the file.
        end_seconds: Where it ends (exclusive); None: at the end of the file.
        member: Where the video lies in a shard; None for a file of its own.
    """

    path: Path
    label: int | None = None
    split: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    member: ShardMember | None = None

    @property
    def source(self) -> VideoSource:
        """What a :class:`~everest.video.VideoReader` opens."""
        return self.path if self.member is None else self.member


@dataclass(frozen=True, repr=False)
class Manifest:
    """A checked list of clips.

    Attributes:
        records: The clips, in the order of the file or in natural order of their paths.
        class_names: Names by label; also those of classes that have no clip.
        source: The manifest file or the folder that the list comes from.
        note: One sentence on what was decided while loading, such as a held-out split; empty where nothing was.
        whole_digest: Digest of the manifest that this is a part of; empty where it is all of it.
    """

    records: tuple[ClipRecord, ...]
    class_names: tuple[str, ...]
    source: Path
    note: str = ""
    whole_digest: str = ""

    @property
    def place(self) -> str:
        """The source as people write it, a path or a URL."""
        return say_location(self.source)

    def __post_init__(self) -> None:
        if not self.records:
            raise ManifestError(f"{self.place}: no clips")
        if len(set(self.class_names)) != len(self.class_names):
            raise ManifestError(f"{self.place}: a class name occurs twice; every class needs its own")
        for record in self.records:
            if record.label is not None and not 0 <= record.label < self.num_classes:
                raise ManifestError(
                    f"{self.place}: label {record.label} of {record.path.name} is out of range; "
                    f"there are {self.num_classes} classes"
                )

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        counts = self.counts()
        splits = ", ".join(f"{name} {sum(classes.values())}" for name, classes in counts.items())
        return (
            f"Manifest({len(self.records)} clips of {self.num_files} files, {self.num_classes} classes, "
            f"{splits}, {self.source.name!r})"
        )

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        return self.source if self.source.is_dir() else self.source.parent

    @property
    def num_classes(self) -> int:
        """Number of classes, those without a clip included."""
        return len(self.class_names)

    @property
    def num_files(self) -> int:
        """Number of distinct video files."""
        return len({record.path for record in self.records})

    @property
    def labelled(self) -> bool:
        """Whether every clip has a label."""
        return all(record.label is not None for record in self.records)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order of their first clip."""
        return tuple(dict.fromkeys(r.split for r in self.records if r.split is not None))

    @property
    def digest(self) -> str:
        """SHA-256 over relative paths, labels, splits and spans in order; equal for equal data on any machine."""
        sha = hashlib.sha256()
        root = self.root
        for r in self.records:
            name = "" if r.label is None else self.class_names[r.label]
            fields = (relative_path(r.path, root), r.label, name, r.split, r.start_seconds, r.end_seconds)
            sha.update(repr(fields).encode("utf-8", "backslashreplace"))
        return sha.hexdigest()

    @property
    def source_digest(self) -> str:
        """Digest of the manifest as it was given, before it was split; the same for all parts of it."""
        return self.whole_digest or self.digest

    @property
    def train(self) -> "Manifest":
        """What may be learnt from, the split ``train`` or everything where there are no splits."""
        return self.split("train") if self.splits else self

    def split(self, name: str) -> "Manifest":
        """Take one split.

        Args:
            name: A split of this manifest; ``all`` takes every clip.

        Raises:
            ManifestError: There is no such split; the message names those that exist.
        """
        if name == "all":
            return self
        wanted = split_name(name)
        records = tuple(r for r in self.records if r.split == wanted)
        if not records:
            exist = f"it has {', '.join(sorted(self.splits))}" if self.splits else "it has no splits"
            raise ManifestError(f"{self.place}: no split {name!r}: {exist}; 'all' takes every clip")
        return replace(self, records=records, whole_digest=self.source_digest)

    def counts(self) -> dict[str, dict[str, int]]:
        """Count the clips of every class in every split.

        Returns:
            ``{split: {class name: clips}}``, every class in every split. Clips without a split are counted under
            ``no split``, clips without a label under ``no label``.
        """
        counts: dict[str, dict[str, int]] = {}
        for record in self.records:
            split = "no split" if record.split is None else record.split
            classes = counts.setdefault(split, dict.fromkeys(self.class_names, 0))
            name = "no label" if record.label is None else self.class_names[record.label]
            classes[name] = classes.get(name, 0) + 1
        return counts


def split_name(given: str) -> str:
    """Bring ``training``, ``Validation`` and the like to ``train``, ``val`` and ``test``; keep other names."""
    return SPLIT_NAMES.get(given.strip().lower(), given.strip())


def is_video(path: str | Path) -> bool:
    """Whether a file name ends like that of a video."""
    return Path(path).suffix.lower().removeprefix(".") in VIDEO_EXTENSIONS


def natural_key(text: str) -> tuple[int | str, ...]:
    """Sort key under which ``clip2`` comes before ``clip10``."""
    parts = re.split(r"([0-9]+)", text)
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts))


def natural_sorted(texts: Iterable[str]) -> list[str]:
    """Sort by :func:`natural_key`; names that differ only in leading zeros keep plain order."""
    return sorted(texts, key=lambda text: (natural_key(text), text))


def relative_path(path: Path, root: Path) -> str:
    """Write a path relative to a folder, with forward slashes; absolute where it lies on another drive."""
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # Windows, another drive
        return path.as_posix()
