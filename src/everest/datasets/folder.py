"""Folders of videos as manifests: the folder's name is the class."""

from pathlib import Path

from everest.datasets.records import (
    SPLIT_NAMES,
    VIDEO_EXTENSIONS,
    ClipRecord,
    Manifest,
    natural_key,
    natural_sorted,
    split_name,
)
from everest.datasets.tree import Tree, scan
from everest.errors import ManifestError


def index_folder(root: str | Path) -> Manifest:
    """List the videos of a folder.

    Three layouts are accepted; deeper folders inside a class belong to that class:

    - ``root/class/video.mp4``: labels without splits;
    - ``root/train/class/video.mp4`` beside ``val`` or ``test``: labels and splits. Videos directly in the folder of a
      split have no label;
    - ``root/video.mp4``: neither labels nor splits.

    Files and folders that start with a dot are left out, links are followed.

    Args:
        root: The folder.

    Returns:
        Clips in natural order of their paths (``clip2`` before ``clip10``), class names in natural order.

    Raises:
        ManifestError: No video in the folder, or a layout that can be read in two ways.
    """
    return index_tree(scan(root))


def index_tree(tree: Tree) -> Manifest:
    """List the videos of a folder that was walked already, as :func:`index_folder` does."""
    folder = tree.root
    found = [Path(path) for path in (*tree.videos, *tree.dangling)]
    if not found:
        raise ManifestError(
            f"{folder}: no videos; expected class/video.mp4, train/class/video.mp4 or video.mp4 below it, "
            f"with one of the extensions {' '.join(sorted(VIDEO_EXTENSIONS))}"
        )
    places = {path: path.relative_to(folder).parts for path in found}
    num_levels = 1 if _has_splits(folder, list(places.values())) else 0  # folders above the class
    class_of = {p: parts[num_levels] if len(parts) > num_levels + 1 else None for p, parts in places.items()}
    loose = [path for path in found if class_of[path] is None]
    if loose and len(loose) < len(found):
        raise ManifestError(
            f"{folder}: {len(loose)} of {len(found)} videos lie beside the class folders, such as {loose[0].name}; "
            "move them into the folder of their class, or list the videos in a manifest"
        )
    class_names = tuple(natural_sorted({name for name in class_of.values() if name is not None}))
    label_of = {name: index for index, name in enumerate(class_names)}
    records = tuple(
        ClipRecord(
            path,
            None if (name := class_of[path]) is None else label_of[name],
            split_name(places[path][0]) if num_levels else None,
        )
        for path in sorted(found, key=lambda path: [(natural_key(part), part) for part in places[path]])
    )
    return Manifest(records, class_names, folder)


def _has_splits(folder: Path, places: list[tuple[str, ...]]) -> bool:
    """Whether the folders directly below are splits; an error where they could be splits or classes."""
    names = {parts[0] for parts in places if len(parts) > 1}
    splits = {name for name in names if name.lower() in SPLIT_NAMES}
    if not splits:
        return False
    if splits == names:
        return True
    # A class may be called "train" among other classes; then nothing but videos lies in it.
    if all(len(parts) == 2 for parts in places if parts[0] in splits):
        return False
    raise ManifestError(
        f"{folder}: {', '.join(natural_sorted(splits))} are splits but "
        f"{', '.join(natural_sorted(names - splits)[:5])} are not; move the classes into the splits"
    )
