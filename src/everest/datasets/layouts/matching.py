"""From what annotations say to the files that are there."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from everest.datasets.layouts.annotations import Annotations, Entry, Span
from everest.datasets.pool import Lost, run_parallel
from everest.datasets.records import ClipRecord
from everest.datasets.rows import NUM_LISTED
from everest.datasets.tree import Tree
from everest.errors import ManifestError
from everest.video.reader import probe

_SPLIT_FOLDERS = {"val": ("val", "valid", "validate", "validation")}  # of other splits: their own name
_NUM_PROBED = 5  # files that say whether all others are cut
PROBE_SECONDS = 20.0  # to open one of them
_TOLERANCE_SECONDS = 1.0  # clips are cut at key frames, and whole seconds are rounded


@dataclass(frozen=True)
class Matches:
    """What came of the annotations of a data set.

    Attributes:
        records: The clips whose files are there, in the order of the annotations.
        missing: Names of those whose file is not there, as ``split/name``.
        unannotated: Videos that no annotation names.
        notes: What a person should know.
    """

    records: tuple[ClipRecord, ...]
    missing: tuple[str, ...]
    unannotated: tuple[Path, ...]
    notes: tuple[str, ...]


def match(annotations: Annotations, tree: Tree) -> Matches:
    """Find the file of every entry.

    Files are found by name, wherever they lie. Where several have a name, the one in a folder called like the entry's
    split is meant, and if that leaves more than one, the one in a folder called like its class.

    Args:
        annotations: What should be there.
        tree: Where it may be.

    Raises:
        ManifestError: Not a single file is there, or two could be meant.
    """
    files = _Files(tree, annotations)
    records: list[ClipRecord] = []
    missing: list[str] = []
    for entry in annotations.entries:
        path, span = files.take(entry)
        if path:
            start, end = span or (None, None)
            records.append(ClipRecord(Path(path), entry.label, entry.split, start, end))
        else:
            missing.append(f"{entry.split}/{entry.names[0]}")
    files.raise_any()
    if not records:
        raise _nothing_there(annotations, tree)
    notes = [files.say_passed_over()]
    if annotations.may_be_cut:
        records, note = _settle_spans(records)
        notes.append(note)
    return Matches(tuple(records), tuple(missing), files.left_over(), tuple(filter(None, notes)))


class _Files:
    """The videos of a folder by name, and which of them were taken."""

    def __init__(self, tree: Tree, annotations: Annotations) -> None:
        self._num_above = len(tree.root.parts)
        self._annotations = annotations
        self._by_stem: dict[str, list[str]] = {}
        for path in tree.videos:
            self._by_stem.setdefault(self._key(_stem(path)), []).append(path)
        self._taken: set[str] = set()
        self._passed_over: list[str] = []
        self._ambiguous: list[str] = []

    def take(self, entry: Entry) -> tuple[str, Span | None]:
        """Give the file of an entry, empty where there is none, and the span in it."""
        for index, name in enumerate(entry.names):
            paths = self._by_stem.get(self._key(name))
            if paths is None:
                continue
            chosen = paths[0] if len(paths) == 1 else self._choose(paths, entry)
            self._taken.add(chosen)
            return chosen, entry.spans[index] if entry.spans else None
        return "", None

    def raise_any(self) -> None:
        """Raise one error for all names that several files have."""
        if self._ambiguous:
            more = len(self._ambiguous) - NUM_LISTED
            tail = f"; and {more} more" if more > 0 else ""
            raise ManifestError(
                f"{'; '.join(self._ambiguous[:NUM_LISTED])}{tail}: keep one of each, or name one folder with --videos"
            )

    def say_passed_over(self) -> str:
        """Say how many files have the name of a clip but lie in another folder than theirs."""
        num = len(set(self._passed_over) - self._taken)
        return f"{num} files have the name of one in the folder of its split or class: not used" if num else ""

    def left_over(self) -> tuple[Path, ...]:
        """Give the videos that no annotation names, and those that another was preferred to."""
        unused = {self._key(name) for name in self._annotations.unused}
        return tuple(
            Path(path)
            for stem, paths in sorted(self._by_stem.items())
            if stem not in unused
            for path in paths
            if path not in self._taken
        )

    def _key(self, name: str) -> str:
        return name.lower() if self._annotations.ignores_case else name

    def _choose(self, paths: list[str], entry: Entry) -> str:
        """Choose by the folder of the split, then by that of the class; remember where that is not enough."""
        chosen = self._in_folders(paths, _SPLIT_FOLDERS.get(entry.split, (entry.split,)))
        if entry.label is not None:
            name = self._annotations.class_names[entry.label].lower()
            chosen = self._in_folders(chosen, (name, name.replace(" ", "_")))
        if len(chosen) > 1:
            self._ambiguous.append(f"{chosen[0]} and {chosen[1]} could both be {entry.split}/{entry.names[0]}")
        self._passed_over += [path for path in paths if path != chosen[0]]
        return chosen[0]

    def _in_folders(self, paths: list[str], names: Iterable[str]) -> list[str]:
        """Keep the paths that lie in a folder of one of these names; all of them where none does."""
        wanted = set(names)
        inside = [path for path in paths if wanted & set(Path(path.lower()).parent.parts[self._num_above :])]
        return inside or paths


def _stem(path: str) -> str:
    return path.rpartition(os.sep)[2].rpartition(".")[0]


def _nothing_there(annotations: Annotations, tree: Tree) -> ManifestError:
    if not annotations.entries:
        return ManifestError(f"{tree.root}: the annotations name no clip of this split")
    wanted = " or ".join(f"{name}.*" for name in annotations.entries[0].names)
    return ManifestError(
        f"{tree.root}: none of the {len(annotations.entries)} annotated videos is there or below, such as {wanted}; "
        "name their folder with --videos"
    )


def _settle_spans(records: list[ClipRecord]) -> tuple[list[ClipRecord], str]:
    """Find out whether files that are called like a whole video hold the whole video, or the clip only.

    The names do not say, so a few files are opened.

    Raises:
        ManifestError: Some hold the one and some the other.
    """
    spanned = [record for record in records if record.end_seconds is not None]
    if not spanned:
        return records, ""
    step = max(len(spanned) // (4 * _NUM_PROBED), 1)
    whole: list[Path] = []
    cut: list[Path] = []
    for record in spanned[::step]:
        if len(whole) + len(cut) == _NUM_PROBED:
            break
        verdict = _is_whole(record)
        if verdict is not None:
            (whole if verdict else cut).append(record.path)
    if whole and cut:
        raise ManifestError(
            f"{whole[0]} holds a whole video and {cut[0]} a cut clip; call the files of cut clips ID_START_END"
        )
    if whole:
        return (
            records,
            f"{len(spanned)} files hold whole videos, as {whole[0].name} does: start and end are in the list",
        )
    plain = [ClipRecord(r.path, r.label, r.split) for r in records]
    return plain, f"{len(spanned)} files are called by an identifier without times: taken as cut clips"


def _is_whole(record: ClipRecord) -> bool | None:
    """Whether a file holds more than its clip; None where that cannot be told."""
    start, end = record.start_seconds or 0.0, record.end_seconds or 0.0
    (_, found), *_ = run_parallel(probe, [record.path], num_workers=1, time_limit_seconds=PROBE_SECONDS)
    if isinstance(found, Lost):
        return None
    seconds = found.duration_seconds
    if seconds < end - _TOLERANCE_SECONDS:
        return False
    return True if seconds > end - start + 2 * _TOLERANCE_SECONDS else None
