"""Hashes of files. Imported by all."""

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Hash the content of a file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
