"""Clips of a list that lie elsewhere: a list may name any video that its reader may open."""

from pathlib import Path

from everest.datasets.records import ClipRecord, Manifest
from everest.video.source import is_url


def clips_outside(manifest: Manifest) -> tuple[str, ...]:
    """Name the files of this machine that do not lie below the folder of their list, links followed; each once.

    Args:
        manifest: Of a list or folder of this machine; what a list at a URL names is not of this machine.
    """
    if is_url(str(manifest.source)):
        return ()
    folder = manifest.source if manifest.source.is_dir() else manifest.source.parent
    root = folder.resolve()
    places = dict.fromkeys(_place_of(record) for record in manifest.records)
    return tuple(place for place in places if not is_url(place) and not Path(place).resolve().is_relative_to(root))


def _place_of(record: ClipRecord) -> str:
    return str(record.path if record.member is None else record.member.shard)
