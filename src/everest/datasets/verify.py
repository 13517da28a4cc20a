"""See whether packed shards are still what was written."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from everest.datasets.manifest import read_manifest
from everest.datasets.pack import MANIFEST, SUMMARY
from everest.errors import DataError, ManifestError
from everest.hashing import sha256_of

_SHARD = re.compile(r"[0-9]{6,}\.tar")


@dataclass(frozen=True)
class Verification:
    """What became of packed shards since they were written.

    Attributes:
        digest: Of their manifest, as it was written.
        problems: What is wrong, one line for each file; empty where nothing is.
    """

    digest: str
    problems: tuple[str, ...]


def verify_shards(out: str | Path) -> Verification:
    """Compare the manifest and every shard with the hashes that were taken when they were written.

    Raises:
        DataError: The folder holds no shards, or not all of them yet.
    """
    folder, problems = Path(out), list[str]()
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        shards, digest = list(summary["shards"]), str(summary["digest"])
    except (OSError, ValueError, TypeError, KeyError):
        raise DataError(
            f"{folder}: no folder of packed shards on this machine, or packing has not come to its end"
        ) from None
    try:
        if read_manifest(folder / MANIFEST).digest != digest:
            problems.append(f"{folder / MANIFEST}: was changed or damaged after it was written")
    except ManifestError as error:
        problems.append(str(error))
    for shard in shards:
        name = shard.get("name") if isinstance(shard, dict) else None
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            problems.append(f"{folder / SUMMARY}: {name!r} is no name of a shard")
            continue
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: is missing")
        elif sha256_of(path) != shard.get("sha256"):
            problems.append(f"{path}: was changed or damaged after it was written")
    return Verification(digest, tuple(problems))
