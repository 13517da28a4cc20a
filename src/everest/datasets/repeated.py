"""Clips that annotations name more than once."""

from dataclasses import dataclass
from pathlib import Path

from everest.datasets.records import ClipRecord, relative_path
from everest.errors import ManifestError


@dataclass(frozen=True)
class Settled:
    """Clips of which each is there once in a split, with one label.

    Attributes:
        records: What is left, in the order that it was in.
        conflicting: Names of clips that have different labels; none of them is left.
        notes: What was found, one sentence each.
    """

    records: tuple[ClipRecord, ...]
    conflicting: tuple[str, ...]
    notes: tuple[str, ...]


def settle_repeated(records: tuple[ClipRecord, ...], root: Path) -> Settled:
    """Keep a clip once in every split, and leave out clips with contradicting labels.

    A clip is a span of a file: the same span of the same file is the same clip.

    Args:
        records: As annotated.
        root: The folder that names are relative to.

    Raises:
        ManifestError: All of them contradict one another.
    """
    seen: dict[tuple[str, float | None, float | None], dict[tuple[str | None, int | None], ClipRecord]] = {}
    for record in records:
        key = (str(record.path), record.start_seconds, record.end_seconds)
        seen.setdefault(key, {}).setdefault((record.split, record.label), record)
    conflicting: list[str] = []
    leaked: list[str] = []
    kept: list[ClipRecord] = []
    for same in seen.values():
        first = next(iter(same.values()))
        for split in {split for split, label in same if label is not None}:
            same.pop((split, None), None)  # listed twice in a split, once without its label
        if len({label for _, label in same} - {None}) > 1:
            conflicting.append(_name(first, root))
            continue
        if len(same) > 1:
            leaked.append(_name(first, root))
        kept += same.values()
    if not kept:
        raise ManifestError(f"{root}: every clip is listed with different labels, such as {conflicting[0]}")
    num_again = len(records) - sum(map(len, seen.values()))
    notes = []
    if num_again:
        notes.append(f"{num_again} clips are listed again in their split: once is enough")
    if leaked:
        notes.append(
            f"{len(leaked)} clips are in more than one split, such as {leaked[0]}: accuracy on them is no test"
        )
    if conflicting:
        notes.append(f"{len(conflicting)} clips have contradicting labels, such as {conflicting[0]}: left out")
    if len(kept) < len(records) or leaked:
        wanted = {id(record) for record in kept}
        return Settled(tuple(r for r in records if id(r) in wanted), tuple(conflicting), tuple(notes))
    return Settled(records, (), ())


def _name(record: ClipRecord, root: Path) -> str:
    name = relative_path(record.path, root)
    if record.start_seconds is None and record.end_seconds is None:
        return name
    return f"{name} at {record.start_seconds or 0:g} s"
