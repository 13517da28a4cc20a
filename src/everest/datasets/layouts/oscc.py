"""Ego4D object state change classification (OSCC): does an object change its state in these eight seconds?

``fho_oscc-pnr_{train,val,test_unannotated}.json`` have a list ``clips``; each clip lies from ``parent_start_sec`` to
``parent_end_sec`` in the video ``video_uid``, which lasts minutes to hours and is not cut. ``state_change`` is missing
in the test set. The first edition has the bare list.
"""

from pathlib import Path

from everest.datasets.layouts.annotations import Annotations, Entry, find_files, parse_records, read_json
from everest.datasets.rows import Problems
from everest.errors import ManifestError

CLASS_NAMES = ("no state change", "state change")
_FILES = {"train": "train", "val": "val", "test": "test_unannotated"}


def read_oscc(folder: Path, fold: int = 1) -> Annotations:
    """Read the annotations of all splits that are there.

    Args:
        folder: Holds the JSON files, there or in a folder below.
        fold: Not used: there is one official split.

    Raises:
        ManifestError: No file is there, or one is not what it should be.
    """
    del fold
    entries: list[Entry] = []
    for split, name in _FILES.items():
        for path in find_files(folder, f"fho_oscc-pnr_{name}.json"):
            entries += _read_clips(path, split)
    if not entries:
        raise ManifestError(
            f"{folder}: no file fho_oscc-pnr_train.json (or _val, _test_unannotated) there or below; "
            "name its folder with --annotations"
        )
    return Annotations(CLASS_NAMES, tuple(entries))


def _read_clips(path: Path, split: str) -> list[Entry]:
    values = read_json(path)
    clips = values.get("clips") if isinstance(values, dict) else values
    problems = Problems(path)
    entries = []
    fields = {"video_uid": str, "parent_start_sec": float, "parent_end_sec": float}
    for number, clip in enumerate(parse_records(path, clips, **fields), 1):
        start, end, change = max(clip["parent_start_sec"], 0.0), clip["parent_end_sec"], clip.get("state_change")
        if end <= start:
            problems.add(number, f"the clip ends at {end:g} s, before it begins at {start:g} s")
        elif not isinstance(change, bool) and (split != "test" or change is not None):
            problems.add(number, f"state_change must be true or false, not {change!r}")
        else:
            entries.append(Entry((clip["video_uid"],), None if change is None else int(change), split, start, end))
    problems.raise_any()
    return entries
