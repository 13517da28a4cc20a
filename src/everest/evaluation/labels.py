"""Labels of the data, classes of the checkpoint: the same thing under the same name."""

from collections.abc import Sequence
from dataclasses import replace

from everest.datasets import Manifest
from everest.errors import DataError, nearest

NUM_LISTED = 5  # class names that a message gives


def align_labels(manifest: Manifest, class_names: Sequence[str]) -> Manifest:
    """Number the labels of data as a checkpoint numbers its classes.

    Classes are matched by name, whatever their order. Data whose classes have no names, only integers, cannot be
    matched by name with a checkpoint that has them: there the integers are taken as places in the checkpoint's list,
    and the note of the result says so. Classes of the data that have no clip do not matter.

    Args:
        manifest: Labelled clips.
        class_names: Of the checkpoint, by class index.

    Returns:
        The same clips in the same order, with the checkpoint's class names and indices.

    Raises:
        DataError: A clip has no label, or a class that the checkpoint does not know.
    """
    num_missing = sum(record.label is None for record in manifest.records)
    if num_missing:
        raise DataError(
            f"{manifest.place}: {num_missing} of {len(manifest)} clips have no label to compare with; "
            f"give every clip a label, or use prediction, which needs none"
        )
    index_of = {name: index for index, name in enumerate(class_names)}
    used = sorted({record.label for record in manifest.records if record.label is not None})
    unknown = [manifest.class_names[label] for label in used if manifest.class_names[label] not in index_of]
    by_place = bool(unknown) and manifest.class_names == tuple(map(str, range(manifest.num_classes)))
    if by_place:
        _check_range(manifest, used, len(class_names))
    elif unknown:
        raise DataError(f"{manifest.place}: {_unknown_classes(unknown, class_names)}")
    new_of = {label: label if by_place else index_of[manifest.class_names[label]] for label in used}
    records = tuple(r if r.label is None else replace(r, label=new_of[r.label]) for r in manifest.records)
    said = "integer labels are taken as places in the checkpoint's list of classes" if by_place else ""
    note = "; ".join(text for text in (manifest.note, said) if text)
    return replace(manifest, records=records, class_names=tuple(class_names), note=note)


def _check_range(manifest: Manifest, labels: list[int], num_classes: int) -> None:
    if labels[-1] >= num_classes:
        raise DataError(
            f"{manifest.place}: label {labels[-1]} is out of range; the checkpoint has {num_classes} classes, "
            f"accepted: 0 to {num_classes - 1}"
        )


def _unknown_classes(unknown: list[str], class_names: Sequence[str]) -> str:
    """Name the classes that are not known, and those that are or are near."""
    more = f" and {len(unknown) - NUM_LISTED} more" if len(unknown) > NUM_LISTED else ""
    told = f"the checkpoint does not know {', '.join(map(repr, unknown[:NUM_LISTED]))}{more}; "
    if len(unknown) == 1 and len(class_names) <= 2 * NUM_LISTED:
        return told + nearest(unknown[0], class_names)
    rest = f" and {len(class_names) - NUM_LISTED} more" if len(class_names) > NUM_LISTED else ""
    return f"{told}it knows {', '.join(map(repr, class_names[:NUM_LISTED]))}{rest}"
