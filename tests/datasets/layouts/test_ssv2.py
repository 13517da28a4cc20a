import json
from collections.abc import Callable
from pathlib import Path

import pytest

from everest.datasets import index_source
from everest.errors import ManifestError

CLASSES = ("Approaching something with your camera", "Holding something", "Holding something next to something")


@pytest.fixture
def tree(root: Path, put: Callable[..., None], text: Callable[[str, str], Path]) -> Path:
    text("labels/labels.json", json.dumps({name: str(CLASSES.index(name)) for name in reversed(CLASSES)}))
    train = [
        {"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["potato"]},
        {"id": 42326, "label": "x", "template": "Holding [something] next to [something]", "placeholders": []},
    ]
    text("labels/train.json", json.dumps(train))
    validation = [{"id": "74225", "label": "x", "template": "Approaching [something] with your camera"}]
    text("labels/validation.json", json.dumps([*validation, {"id": "5", "template": "Holding [something]"}]))
    text("labels/test.json", json.dumps([{"id": "1420"}, {"id": "1421"}]))
    put(*(f"20bn-something-something-v2/{name}.webm" for name in ("78687", "42326", "74225", "1420", "1421", "999")))
    return root


def test_templates_are_classes(tree: Path, rows: Callable, text: Callable[[str, str], Path]) -> None:
    index = index_source(tree, "ssv2")
    assert rows(index) == [
        ("78687.webm", "Holding something", "train", None, None),
        ("42326.webm", "Holding something next to something", "train", None, None),
        ("74225.webm", "Approaching something with your camera", "val", None, None),
        ("1420.webm", None, "test", None, None),
        ("1421.webm", None, "test", None, None),
    ]
    assert index.manifest.class_names == CLASSES  # in the order of their numbers, not of the file
    assert index.missing == ("val/5",)
    assert [path.name for path in index.unannotated] == ["999.webm"]
    text("labels/test-answers.csv", "1421;Holding [something]\n1420;Holding something next to something\n")
    assert [row[1] for row in rows(index_source(tree, "ssv2"))[-2:]] == [CLASSES[2], CLASSES[1]]


def test_older_names_of_the_files_are_known(tree: Path) -> None:
    expected = index_source(tree, "ssv2").manifest.records
    for path in sorted((tree / "labels").iterdir()):
        path.rename(tree / f"something-something-v2-{path.name}")
    assert index_source(tree, "ssv2").manifest.records == expected


def test_splits_without_annotations_are_said(tree: Path) -> None:
    for name in ("train", "test"):
        (tree / "labels" / f"{name}.json").unlink()
    index = index_source(tree, "ssv2")
    assert index.manifest.splits == ("val",)
    assert "no train.json: nothing in the split train; no test.json: nothing in the split test" in index.manifest.note
    (tree / "labels" / "validation.json").unlink()
    with pytest.raises(ManifestError, match=r"no file train\.json or validation\.json or test\.json there or below"):
        index_source(tree, "ssv2")
    (tree / "labels" / "labels.json").unlink()
    with pytest.raises(ManifestError, match=r"no file labels\.json or something-something-v2-labels\.json"):
        index_source(tree, "ssv2")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labels", "[1, 2]", "expected names with numbers"),
        ("labels", '{"A": null}', "expected names with numbers"),
        ("labels", "{}", "numbered from 0"),
        ("labels", '{"A": "0", "B": "5"}', "numbered from 0 to 1 without gaps"),
        ("train", "{", "not JSON"),
        ("train", "[" * 100_000, "not JSON"),
        ("train", "9" * 10_000, "not JSON"),
        ("train", '{"id": "1"}', "a list of clips is expected, not dict"),
        (
            "train",
            '[{"id": "1", "template": "Holding [something]"}, {"id": "2"}]',
            r"clip 2: needs id \(name\), template",
        ),
        ("train", '[{"id": null, "template": "Holding [something]"}]', "clip 1: needs id"),
        ("train", "[7]", "clip 1: needs id"),
        ("train", '[{"id": "1", "template": "Holdin [something]"}]', "clip 1: .*did you mean 'Holding something'"),
        ("train", '[{"id": "1", "template": "Zzz"}]', r"'Zzz' is not in labels\.json$"),
        ("test", '[{"name": "1"}]', r"clip 1: needs id \(name\)$"),
        ("test-answers", "1420;Nonsense\n", "line 1: expected an id and a class"),
    ],
)
def test_annotations_that_cannot_be_read_are_named(tree: Path, file: str, content: str, message: str) -> None:
    path = tree / "labels" / (f"{file}.csv" if "answers" in file else f"{file}.json")
    path.write_text(content)
    with pytest.raises(ManifestError, match=message) as raised:
        index_source(tree, "ssv2")
    assert path.name in str(raised.value)
    assert "\n" not in str(raised.value)
