from pathlib import Path

import pytest

from everest.datasets import ClipRecord, Manifest
from everest.errors import DataError
from everest.evaluation import align_labels


def a_manifest(labels: list[int | None], names: tuple[str, ...], note: str = "") -> Manifest:
    records = tuple(ClipRecord(Path(f"/v/{i}.mp4"), label, "test", float(i)) for i, label in enumerate(labels))
    return Manifest(records, names, Path("/v"), note)


def labels_of(manifest: Manifest) -> list[int | None]:
    return [record.label for record in manifest.records]


def test_classes_are_matched_by_name_in_any_order() -> None:
    manifest = a_manifest([0, 1, 2, 0], ("bend", "fall", "sit"), "note")
    aligned = align_labels(manifest, ("sit", "lie", "bend", "fall"))
    assert aligned.class_names == ("sit", "lie", "bend", "fall")
    assert labels_of(aligned) == [2, 3, 0, 2]
    for before, after in zip(manifest.records, aligned.records, strict=True):
        assert manifest.class_names[before.label] == aligned.class_names[after.label]
        assert (before.path, before.start_seconds, before.split) == (after.path, after.start_seconds, after.split)
    assert aligned.note == "note"
    assert align_labels(aligned, aligned.class_names) == aligned


def test_names_that_are_numbers_are_names_first() -> None:
    aligned = align_labels(a_manifest([0, 1], ("0", "1")), ("1", "0"))
    assert labels_of(aligned) == [1, 0]
    assert aligned.note == ""


def test_integers_without_names_are_places_and_that_is_said() -> None:
    aligned = align_labels(a_manifest([2, 0], ("0", "1", "2"), "held out"), ("sit", "lie", "bend", "fall"))
    assert labels_of(aligned) == [2, 0]
    assert aligned.class_names == ("sit", "lie", "bend", "fall")
    assert aligned.note == "held out; integer labels are taken as places in the checkpoint's list of classes"


def test_an_integer_out_of_range_is_an_error() -> None:
    with pytest.raises(DataError, match="label 3 is out of range; the checkpoint has 2 classes, accepted: 0 to 1"):
        align_labels(a_manifest([0, 3], ("0", "1", "2", "3")), ("sit", "lie"))


def test_a_class_without_clips_does_not_matter() -> None:
    assert labels_of(align_labels(a_manifest([1], ("jump", "sit")), ("lie", "sit"))) == [1]


def test_an_unknown_class_is_named_with_what_is_known() -> None:
    with pytest.raises(DataError, match=r"does not know 'sitt'; did you mean 'sit'\?"):
        align_labels(a_manifest([0], ("sitt",)), ("sit", "lie"))
    with pytest.raises(DataError, match=r"does not know 'jump', 'run'; it knows 'sit', 'lie'$"):
        align_labels(a_manifest([0, 1], ("jump", "run")), ("sit", "lie"))
    many = tuple(f"c{i}" for i in range(400))
    with pytest.raises(DataError, match=r"does not know 'jump'; it knows 'c0', .*'c4' and 395 more$"):
        align_labels(a_manifest([0], ("jump",)), many)


def test_clips_without_label_are_an_error() -> None:
    with pytest.raises(DataError, match="2 of 3 clips have no label"):
        align_labels(a_manifest([None, 0, None], ("sit",)), ("sit",))
