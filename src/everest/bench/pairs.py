"""Which clips a manifest and its packed shards have in common."""

import json
from dataclasses import replace
from pathlib import Path

from everest.datasets import ClipRecord, Manifest
from everest.datasets.pack import SUMMARY
from everest.errors import DataError


def clips_of_both(manifest: Manifest, packed: Manifest) -> tuple[Manifest, list[str]]:
    """Take the clips of a manifest that were packed; a pack leaves out what cannot be read.

    Args:
        manifest: What was packed.
        packed: The shards, as they were written by ``everest data pack``: each clip is named by its place in the
            manifest.

    Returns:
        The clips that are in both, in the order of the shards' manifest, and the names of the others. Where both have
        the same number of clips, the manifest as it is.

    Raises:
        DataError: Numbers differ, and the shards are those of another manifest or of another program.
    """
    if len(packed) == len(manifest):
        return manifest, []
    problem = f"{packed.source}: {len(packed)} packed clips, but {len(manifest)} in {manifest.source}"
    summary = packed.source.parent / SUMMARY
    if summary.is_file() and _source_digest(summary) not in {manifest.digest, None}:
        raise DataError(f"{problem}, which is not the manifest that was packed: name that one, or pack this one")
    places = [_place(record) for record in packed.records]
    known = [place for place in places if place is not None and place < len(manifest)]
    pairs = zip((manifest.records[place] for place in known), packed.records, strict=False)
    if len(set(known)) < len(packed) or any((a.label, a.split) != (b.label, b.split) for a, b in pairs):
        raise DataError(f"{problem}, and nothing says which these are: pack {manifest.source} again")
    left_out = sorted(set(range(len(manifest))) - set(known))
    both = replace(manifest, records=tuple(manifest.records[place] for place in known))
    return both, [str(manifest.records[place].path) for place in left_out]


def _place(record: ClipRecord) -> int | None:
    stem = Path(record.member.name).stem if record.member is not None else ""
    return int(stem) if stem.isdecimal() else None


def _source_digest(summary: Path) -> str | None:
    try:
        digest = json.loads(summary.read_text(encoding="utf-8")).get("source_digest")
    except (OSError, ValueError, AttributeError):
        return None
    return digest if isinstance(digest, str) else None
