"""One walk through a folder: its videos, and the files that may say something about them."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path

from everest.datasets.records import VIDEO_EXTENSIONS
from everest.errors import ManifestError

TEXT_EXTENSIONS = frozenset(("csv", "json", "txt"))  # what annotations are written in


@dataclass(frozen=True, repr=False)
class Tree:
    """What lies below a folder. Files and folders that start with a dot are left out, links are followed.

    Attributes:
        root: The folder, absolute.
        videos: Paths of the files that are called like videos, by folder and name.
        texts: Paths by file name of what may be annotations.
        dangling: What is called like a video but is no file: links that lead nowhere, pipes.
        others: Number of all other files by extension, lower case; the empty text where there is none.
    """

    root: Path
    videos: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    dangling: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def __repr__(self) -> str:
        return f"Tree({str(self.root)!r}: {len(self.videos)} videos, {sum(map(len, self.texts.values()))} texts)"

    def find(self, *patterns: str, accepts: Callable[[Path], bool] = Path.is_file) -> list[Path]:
        """List annotation files by name.

        Args:
            patterns: Names with ``*``, in the order of preference.
            accepts: Looks into a file and says whether it can be meant.

        Returns:
            The files of the first pattern that has any: those that lie least deep, sorted.
        """
        for pattern in patterns:
            matches = re.compile(translate(pattern)).match
            names = [pattern] if "*" not in pattern else [name for name in self.texts if matches(name)]
            found = [path for name in names for path in self.texts.get(name, ()) if accepts(Path(path))]
            if found:
                depth = min(path.count(os.sep) for path in found)
                return [Path(path) for path in sorted(found) if path.count(os.sep) == depth]
        return []

    def say_others(self) -> str:
        """Say what else lies there, in half a sentence; nothing where there is nothing else."""
        if not self.others:
            return ""
        kinds = ", ".join(
            f"{number} .{name}" if name else f"{number} bare" for name, number in self.others.most_common(4)
        )
        more = ", ..." if len(self.others) > 4 else ""
        return f"{self.others.total()} other files were not looked at ({kinds}{more})"


def scan(root: str | Path) -> Tree:
    """Walk a folder and what it links to; a link to a folder above is not followed.

    Files are not opened, and nothing is asked about one but its name: 240,000 of them take about a second.

    Raises:
        ManifestError: It is not a folder, or a folder in it cannot be read.
    """
    tree = Tree(Path(root).absolute())
    if not tree.root.is_dir():
        raise ManifestError(f"{tree.root}: not a folder")
    for entry in _walk(str(tree.root), ()):
        extension = entry.name.rpartition(".")[2].lower() if "." in entry.name else ""
        if extension in VIDEO_EXTENSIONS:
            (tree.videos if _leads_to_a_file(entry) else tree.dangling).append(entry.path)
            continue
        tree.others[extension] += 1
        if extension in TEXT_EXTENSIONS:
            tree.texts.setdefault(entry.name, []).append(entry.path)
    return tree


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> "Iterator[os.DirEntry[str]]":
    """Give every file, folder by folder, in the order of names."""
    try:
        status = Path(folder).stat()
        with os.scandir(folder) as entries:
            visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise ManifestError(f"{folder}: cannot be read: {error.strerror}") from None
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    for entry in visible:
        if _leads_to_a_folder(entry):
            yield from _walk(entry.path, (*above, identity))
        else:
            yield entry


def _leads_to_a_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _leads_to_a_file(entry: "os.DirEntry[str]") -> bool:
    """Whether there is something to open; asks the file system about links only."""
    try:
        return entry.is_file()
    except OSError:
        return False
