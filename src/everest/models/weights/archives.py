"""Archives of ``torch.save``: whether they are what was written, which torch itself does not look at."""

import zipfile
import zlib
from pathlib import Path
from pickle import UnpicklingError

_FOLDER = 0x10  # among the attributes of a part

SIGNS_OF_DAMAGE = (
    *(OSError, EOFError, RuntimeError, ValueError, OverflowError),
    *(UnpicklingError, zipfile.BadZipFile, zlib.error),
)
"""What reading an archive ends with, where any of its bytes may be wrong; OverflowError is of places in it."""


def damaged_part(path: Path) -> str | None:
    """Compare every byte of an archive with its check sum.

    Returns:
        The name of a part that is not what was written; None where all are.

    Raises:
        BadZipFile, or another of :data:`SIGNS_OF_DAMAGE`: What says which parts there are is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        odd = (each.filename for each in archive.infolist() if not _is_plain(each))
        return next(odd, None) or archive.testzip()


def _is_plain(part: zipfile.ZipInfo) -> bool:
    """Whether part of an archive is as torch writes it: not packed, and no folder, of which it reads no byte."""
    return part.compress_type == zipfile.ZIP_STORED and not part.external_attr & _FOLDER
