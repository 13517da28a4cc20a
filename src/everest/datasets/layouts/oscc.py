"""Ego4D object state change classification (OSCC): does an object change its state in these eight seconds?

``fho_oscc-pnr_{train,val,test_unannotated}.json`` have a list ``clips``; each clip lies from ``parent_start_sec`` to
``parent_end_sec`` in the video ``video_uid``, which lasts minutes to hours and is not cut. Ego4D also hands out pieces
of five minutes: where ``clip_uid`` names one, the clip lies from ``clip_start_sec`` to ``clip_end_sec`` in it.
``state_change`` is missing in the test set. Copies with the bare list are about as well.
"""

from pathlib import Path
from typing import Any

from everest.datasets.layouts.annotations import (
    Annotations,
    Entry,
    Span,
    as_name,
    as_seconds,
    find_any,
    no_file,
    parse_records,
    read_json,
    say_absent,
)
from everest.datasets.rows import Problems
from everest.datasets.tree import Tree

CLASS_NAMES = ("no state change", "state change")
_FILES = {
    split: f"fho_oscc-pnr_{name}.json"
    for split, name in zip(("train", "val", "test"), ("train", "val", "test_unannotated"), strict=True)
}


def read_oscc(tree: Tree, fold: int = 1) -> Annotations:
    """Read the annotations of all splits that are there.

    Args:
        tree: Has the JSON files somewhere.
        fold: Not used: there is one official split.

    Raises:
        ManifestError: No file is there, or one is not what it should be.
    """
    del fold
    entries: list[Entry] = []
    found = set()
    for split, name in _FILES.items():
        path = find_any(tree, name)
        if path is not None:
            entries += _read_clips(path, split)
            found.add(split)
    if not found:
        raise no_file(tree, *_FILES.values())
    return Annotations(CLASS_NAMES, tuple(entries), notes=say_absent(_FILES, found))


def is_oscc(tree: Tree) -> bool:
    """Whether annotations of OSCC are there."""
    return any(name in tree.texts for name in _FILES.values())


def _read_clips(path: Path, split: str) -> list[Entry]:
    values = read_json(path)
    clips = values.get("clips") if isinstance(values, dict) else values
    problems = Problems(path, "clip")
    entries = []
    fields = {"video_uid": as_name, "parent_start_sec": as_seconds, "parent_end_sec": as_seconds}
    for number, clip in parse_records(path, clips, problems, **fields):
        change = clip.get("state_change")
        span = (max(clip["parent_start_sec"], 0.0), clip["parent_end_sec"])
        if span[1] <= span[0]:
            problems.add(number, f"ends at {span[1]:g} s, before it begins at {span[0]:g} s")
        elif not isinstance(change, bool) and (split != "test" or change is not None):
            problems.add(number, f"state_change must be true or false, not {change!r}")
        else:
            names, spans = (clip["video_uid"], *_piece(clip)[0]), (span, *_piece(clip)[1])
            entries.append(Entry(names, None if change is None else int(change), split, spans))
    problems.raise_any()
    return entries


def _piece(clip: dict[str, Any]) -> tuple[tuple[str, ...], tuple[Span, ...]]:
    """Name the piece of the video that holds the clip too, and say where; nothing where there is none."""
    try:
        name = as_name(clip["clip_uid"])
        start, end = max(as_seconds(clip["clip_start_sec"]), 0.0), as_seconds(clip["clip_end_sec"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return (), ()
    return ((name,), ((start, end),)) if start < end else ((), ())
