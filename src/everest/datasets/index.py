"""One manifest for whatever somebody has: folders, lists, and the official layouts of known data sets."""

from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from everest.datasets.folder import index_tree
from everest.datasets.layouts import LAYOUTS, match
from everest.datasets.listed import find_listed
from everest.datasets.manifest import read_manifest
from everest.datasets.records import SPLIT_NAMES, ClipRecord, Manifest, natural_sorted
from everest.datasets.repeated import settle_repeated
from everest.datasets.shards import index_shards
from everest.datasets.source import BUNDLED, FOLDER_MANIFEST, load_data
from everest.datasets.tree import Tree, scan
from everest.errors import ConfigError, ManifestError, nearest
from everest.video.source import is_url

FORMATS = ("auto", "folder", "unlabelled", "list", "shards", *LAYOUTS)
"""What ``everest data index --format`` takes."""
NUM_LISTED = 5  # files that a summary names
MAX_CLASSES_LISTED = 12  # classes that a summary counts one by one

_ALIASES = {
    "kinetics": "kinetics400",
    "kinetics600": "kinetics400",
    "kinetics700": "kinetics400",
    "k400": "kinetics400",
}


@dataclass(frozen=True, repr=False)
class Index:
    """A manifest, and what did not come into it.

    Attributes:
        manifest: The clips whose files are there.
        missing: Names of annotated clips whose file is not there, as ``split/name``; paths where a list was given.
        unannotated: Videos below the folder that no annotation names.
        conflicting: Names of clips that are listed with different labels.
    """

    manifest: Manifest
    missing: tuple[str, ...] = ()
    unannotated: tuple[Path, ...] = ()
    conflicting: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"Index({self.manifest}, {len(self.missing)} missing, {len(self.unannotated)} unannotated, "
            f"{len(self.conflicting)} conflicting)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return {
            "num_clips": len(self.manifest),
            "num_files": self.manifest.num_files,
            "num_classes": self.manifest.num_classes,
            "digest": self.manifest.digest,
            "counts": self.manifest.counts(),
            "note": self.manifest.note,
            "warnings": _odd_splits(self.manifest),
            "missing": list(self.missing),
            "unannotated": [str(path) for path in self.unannotated],
            "conflicting": list(self.conflicting),
        }

    def summary(self) -> str:
        """Tell a person, in a few lines."""
        manifest = self.manifest
        lines = [f"{len(manifest)} clips of {manifest.num_files} files, {manifest.num_classes} classes"]
        for split, classes in manifest.counts().items():
            counts = {name: number for name, number in classes.items() if number}
            empty = len(classes) - len(counts)
            lines.append(f"  {split}: {sum(counts.values())} clips{f', {empty} classes without any' if empty else ''}")
            if len(classes) <= MAX_CLASSES_LISTED:
                lines += [f"    {number:6} {name}" for name, number in classes.items()]
            else:
                lines.append(
                    f"    {min(counts.values())} to {max(counts.values())} clips in each of {len(counts)} classes"
                )
        lines += [f"warning: {warning}" for warning in _odd_splits(manifest)]
        lines += [f"note: {note}" for note in manifest.note.split("; ") if note]
        lines += _listed("annotated, but the file is not there", self.missing)
        lines += _listed("videos that no annotation names", [str(path) for path in self.unannotated])
        lines += _listed("clips with contradicting labels, left out", self.conflicting)
        return "\n".join([*lines, f"digest: {manifest.digest}"])


def _odd_splits(manifest: Manifest) -> list[str]:
    """Say which splits have a name of their own beside usual ones: it may be one of these, misspelt."""
    usual = set(SPLIT_NAMES.values())
    names = {record.split for record in manifest.records if record.split is not None}
    if not names & usual:
        return []
    lines = []
    for name in sorted(names - usual):
        near = get_close_matches(name.lower(), SPLIT_NAMES, n=1, cutoff=0.7)
        guess = f"did you mean {SPLIT_NAMES[near[0]]!r}?" if near else "fine if that is meant"
        number = sum(record.split == name for record in manifest.records)
        lines.append(f"{number} clips are in a split {name!r} of their own, which no command takes by itself: {guess}")
    return lines


def _listed(title: str, names: "tuple[str, ...] | list[str]") -> list[str]:
    if not names:
        return []
    more = [f"  and {len(names) - NUM_LISTED} more"] if len(names) > NUM_LISTED else []
    return [f"{len(names)} {title}:", *(f"  {name}" for name in names[:NUM_LISTED]), *more]


def index_source(
    source: str | Path,
    format: str = "auto",  # the option's name
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    fold: int = 1,
) -> Index:
    """List the clips of a data set.

    Args:
        source: A folder, a list, or the folder of a known data set with annotations and videos somewhere in it.
        format: One of :data:`FORMATS`. ``folder``: class folders; ``unlabelled``: every video below the folder;
            ``list``: CSV, TSV or lines of ``path label``; ``shards``: tar files in the layout of WebDataset; ``auto``:
            the known data set whose annotations are there, else whatever :func:`~everest.datasets.load_data` sees;
            the others are the official layouts (``kinetics400`` is that of Kinetics-600 and -700 as well).
        annotations: Folder with the annotation files, where that is not in ``source``.
        videos: Folder with the videos, where that is not ``source``; of a list: what its paths are relative to.
        fold: Which of the official splits of UCF101 and HMDB51: 1, 2 or 3.

    Raises:
        ConfigError: There is no such format, or an option does not belong to it.
        ManifestError: Annotations are missing or cannot be read, or not a single video of them is there.
        DataError: There is nothing at ``source``.
    """
    name = _ALIASES.get(format, format)
    if name not in FORMATS:
        raise ConfigError(f"unknown format {format!r}: {nearest(format, FORMATS)}")
    tree = None
    if name == "auto":
        tree = _scan_unlisted(source)
        name = "list" if tree is None else _recognise(tree)
    _check_options(name, annotations, videos, fold)
    if name == "shards":
        return Index(index_shards(source))
    if tree is None and name in {"folder", "unlabelled"}:
        tree = scan(_absolute(source))
    if name in LAYOUTS:
        places = (_absolute(annotations or source), _absolute(videos or source))
        return _index_layout(name, _absolute(source), *places, fold=fold, tree=tree)
    if tree is not None:
        manifest = _index_unlabelled(tree) if name == "unlabelled" else index_tree(tree)
        return Index(replace(manifest, note=tree.say_others()))
    manifest = load_data(source) if format == "auto" else read_manifest(_location(source))
    found, missing, unannotated = find_listed(manifest, None if videos is None else _absolute(videos))
    settled = settle_repeated(found.records, found.root)  # contradictions are refused when a list is read
    notes = "; ".join(filter(None, (found.note, *settled.notes)))
    return Index(replace(found, records=settled.records, note=notes), missing, unannotated, settled.conflicting)


def _absolute(place: str | Path) -> Path:
    return Path(place).expanduser().absolute()


def _location(source: str | Path) -> Path | str:
    return source if isinstance(source, str) and is_url(source) else _absolute(source)


def _scan_unlisted(source: str | Path) -> Tree | None:
    """Walk a folder; None for whatever else there may be, and for a folder with a list in it."""
    folder = _absolute(source)
    if str(source) == BUNDLED or is_url(str(source)) or not folder.is_dir() or (folder / FOLDER_MANIFEST).is_file():
        return None
    return scan(folder)


def _recognise(tree: Tree) -> str:
    """Tell a known data set by its annotations.

    Raises:
        ConfigError: There are several.
    """
    names = [name for name, layout in LAYOUTS.items() if layout.is_there(tree)]
    if len(names) > 1:
        raise ConfigError(f"{tree.root}: annotations of {' and '.join(names)} are there; name one with --format")
    return names[0] if names else "folder"


def _check_options(name: str, annotations: str | Path | None, videos: str | Path | None, fold: int) -> None:
    """Refuse options that a format has no use for.

    Raises:
        ConfigError: There is one.
    """
    with_folds = [known for known, layout in LAYOUTS.items() if layout.has_folds]
    if fold != 1 and name not in with_folds:
        raise ConfigError(f"fold {fold}: folds belong to {' and '.join(with_folds)}, not to {name}")
    if annotations is not None and name not in LAYOUTS:
        raise ConfigError(f"annotations belong to {', '.join(LAYOUTS)}, not to {name}")
    if videos is not None and name not in {"list", *LAYOUTS}:
        raise ConfigError(f"a folder of videos belongs to list, {', '.join(LAYOUTS)}, not to {name}")


def _index_layout(name: str, source: Path, annotations: Path, videos: Path, *, fold: int, tree: Tree | None) -> Index:
    """Read the annotations and find the videos, each folder walked once."""
    trees = {} if tree is None else {tree.root: tree}
    for folder in {annotations, videos} - set(trees):
        trees[folder] = scan(folder)
    found = LAYOUTS[name].read(trees[annotations], fold)
    matches = match(found, trees[videos])
    settled = settle_repeated(matches.records, source)
    notes = ([f"format: {name}"] if tree is not None else []) + [*found.notes, *matches.notes, *settled.notes]
    manifest = Manifest(settled.records, found.class_names, source, "; ".join(notes))
    return Index(manifest, matches.missing, matches.unannotated, settled.conflicting)


def _index_unlabelled(tree: Tree) -> Manifest:
    paths = natural_sorted([*tree.videos, *tree.dangling])
    if not paths:
        raise ManifestError(f"{tree.root}: no videos there or below")
    return Manifest(tuple(ClipRecord(Path(path)) for path in paths), (), tree.root)
