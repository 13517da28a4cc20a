import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everest.datasets import ClipRecord, Manifest, read_manifest, write_manifest
from everest.datasets.source import hold_out
from everest.errors import ManifestError


def written(folder: Path, text: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def names_of(manifest: Manifest) -> list[str]:
    return [r.path.relative_to(manifest.root).as_posix() for r in manifest.records]


def test_header_names_are_found_whatever_their_order_and_others_are_ignored(tmp_path: Path) -> None:
    path = written(
        tmp_path, "subject,Class,video,split,end_seconds,start\n1,run,a b.mp4,Training,2.5,0.5\n,walk,c.mp4,val,,\n"
    )
    manifest = read_manifest(path)
    assert manifest.records == (
        ClipRecord(tmp_path / "a b.mp4", 0, "train", 0.5, 2.5),
        ClipRecord(tmp_path / "c.mp4", 1, "val", None, None),
    )
    assert manifest.class_names == ("run", "walk")
    assert manifest.labelled
    assert manifest.splits == ("train", "val")


@pytest.mark.parametrize("separator", [",", "\t", " "])
@pytest.mark.parametrize("header", [True, False])
def test_every_separator_gives_the_same_manifest(tmp_path: Path, separator: str, header: bool) -> None:
    rows = (["path", "label"],) * header + (["x/a.mp4", "1"], ["y/b.avi", "0"], ["z/c.MKV", "2"])
    manifest = read_manifest(written(tmp_path, "\n".join(separator.join(row) for row in rows)))
    assert names_of(manifest) == ["x/a.mp4", "y/b.avi", "z/c.MKV"]
    assert [r.label for r in manifest.records] == [1, 0, 2]
    assert manifest.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("line", "path", "label"),
    [
        ("my videos/a clip.mp4 3", "my videos/a clip.mp4", "3"),
        ("my videos, new/a.mp4 3", "my videos, new/a.mp4", "3"),
        ('"a clip.mp4" 3', "a clip.mp4", "3"),
        ("'a clip.mp4' 3", "a clip.mp4", "3"),
        ('"a, b.mp4",3', "a, b.mp4", "3"),
        ('"a ""b"".mp4",3', 'a "b".mp4', "3"),
        ("a.mp4,arm wrestling", "a.mp4", "arm wrestling"),
        ('a.mp4 "arm wrestling"', "a.mp4", "arm wrestling"),
        ("a.mp4\tarm wrestling", "a.mp4", "arm wrestling"),
        ("frames/video 7", "frames/video", "7"),
    ],
)
def test_without_a_header_the_label_is_the_last_field(tmp_path: Path, line: str, path: str, label: str) -> None:
    manifest = read_manifest(written(tmp_path, line + "\n", "train.txt"))
    assert names_of(manifest) == [path]
    assert manifest.class_names[manifest.records[0].label or 0] == label


def test_a_list_of_paths_alone_has_no_labels(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, "a b.mp4\nc.webm\n"))
    assert names_of(manifest) == ["a b.mp4", "c.webm"]
    assert not manifest.labelled
    assert manifest.class_names == ()


def test_absolute_paths_stay_and_byte_order_marks_go(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,label\n/data/a.mp4,0\n../b.mp4,0\n", encoding="utf-8-sig")
    assert [r.path for r in read_manifest(path).records] == [Path("/data/a.mp4"), tmp_path.parent / "b.mp4"]


def test_integers_reach_up_to_the_largest(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, "a.mp4 4\nb.mp4 0\n"))
    assert manifest.class_names == ("0", "1", "2", "3", "4")


def test_class_names_are_in_natural_order(tmp_path: Path) -> None:
    assert read_manifest(written(tmp_path, "a.mp4,c10\nb.mp4,c9\n")).class_names == ("c9", "c10")


def test_a_file_of_class_names_names_integers_and_orders_names(tmp_path: Path) -> None:
    written(tmp_path, "walk\nrun\nsit\n", "classes.txt")
    by_number = read_manifest(written(tmp_path, "a.mp4 1\nb.mp4 0\n", "numbers.txt"))
    by_name = read_manifest(written(tmp_path, "a.mp4,run\nb.mp4,walk\n", "names.csv"))
    assert by_number.class_names == by_name.class_names == ("walk", "run", "sit")
    assert [r.label for r in by_number.records] == [r.label for r in by_name.records] == [1, 0]


def test_label_out_of_range_names_line_label_and_range(tmp_path: Path) -> None:
    written(tmp_path, "walk\nrun\n", "classes.txt")
    path = written(tmp_path, "a.mp4 1\nb.mp4 2\n")
    with pytest.raises(ManifestError, match=r"list\.csv: line 2: label out of range: 2; accepted: 0 to 1"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("path,label\n", "no rows"),
        ("a.mp4 -1\n", r"line 1: label out of range: -1"),
        ("a.mp4 9999999\n", r"line 1: label out of range: 9999999"),
        ("clip,category\nx.mp4,1\ny.mp4,0\n", "line 1: unknown columns clip, category; one must be path"),
        ("name,label,split\na.mp4,1,train\n", "unknown columns name, label, split"),
        ("path,lable\na.mp4,1\n", "unknown column 'lable': did you mean 'label'"),
        ("path,label,time_start\na.mp4,1,3\n", "unknown column 'time_start': did you mean 'start'"),
        ("path,video,label\na.mp4,b.mp4,1\n", "two columns say path"),
        ("path,label\na.mp4,1,train\n", "line 2: 3 fields where the header has 2"),
        ("path,label,start,end\na.mp4,1,2,2\n", r"line 2: end \(2 s\) must come after start \(2 s\)"),
        ("path,label,start,end\na.mp4,1,,0\n", "line 2: end"),
        ("path,label,start,end\n\na.mp4,1,-1,2\n", "line 3: start must be a time in seconds, not '-1'"),
        ("path,label,start,end\na.mp4,1,nan,2\n", "line 2: start must be a time"),
        ("path,label,start,end\na.mp4,1,0:10,2\n", "line 2: start must be a time"),
        ("path,label\n ,1\n", "line 2: the path is empty"),
        ("a.mp4 0 train\n", "line 1: expected a path and a label.*header"),
        ("a.mp4 0 120 3\n", "line 1: expected a path and a label"),
        ("a.mp4 arm wrestling\nb.mp4 run\n", "line 1: expected a path and a label.*quote"),
        ("a.mp4,1\nb.mp4\n", "line 2: expected a path and a label, not 'b.mp4'"),
        ("path,label\na.mp4,run\na.mp4,sit\n", "line 3: the same clip as in line 2, with another label"),
        ("path,label,class_name\na.mp4,0,run\nb.mp4,0,sit\n", "line 3: label 0 is called 'sit' here"),
        ("path,label,class_name\na.mp4,0,run\nb.mp4,1,run\n", "line 3: class 'run' has another label"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(written(tmp_path, text))
    assert str(tmp_path / "list.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_five_problems_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    lines = "".join(f"v{i}.mp4,1,5,{i % 5}\n" for i in range(12))
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(tmp_path, "path,label,start,end\n" + lines))
    assert str(caught.value).count("must come after") == 5
    assert str(caught.value).endswith("and 7 more")
    assert "line 2:" in str(caught.value)


def test_files_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes("path,label\nä.mp4,0\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="UTF-8"):
        read_manifest(path)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "none.csv")


def test_names_and_places_of_classes_may_not_contradict(tmp_path: Path) -> None:
    written(tmp_path, "1\n0\n", "classes.txt")
    with pytest.raises(ManifestError, match="line 1: label 0 is a place and a name"):
        read_manifest(written(tmp_path, "a.mp4 0\n"))
    written(tmp_path, "walk\nrun\n", "classes.txt")
    with pytest.raises(ManifestError, match="line 2: class 'sit' is 'run' in classes"):
        read_manifest(written(tmp_path, "path,label,class_name\na.mp4,1,sit\n"))
    with pytest.raises(ManifestError, match=r"line 1: class 'runn' is not in classes\.txt: did you mean 'run'"):
        read_manifest(written(tmp_path, "a.mp4,runn\n"))
    written(tmp_path, "walk\nwalk\n", "classes.txt")
    with pytest.raises(ManifestError, match="'walk' occurs twice"):
        read_manifest(written(tmp_path, "a.mp4,walk\n"))


words = st.text("abc ,'\"ä0129.-#", min_size=1, max_size=8).filter(lambda s: s.strip(" .") not in ("",))
spans = st.one_of(
    st.just((None, None)),
    st.tuples(st.floats(0, 10), st.none()),
    st.tuples(st.floats(0, 10), st.floats(10.5, 99)),
)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(words.map(str.strip), unique=True, max_size=4),
    rows=st.lists(
        st.tuples(words, st.integers(-1, 3), st.sampled_from([None, "train", "test", "fold 1"]), spans), min_size=1
    ),
)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, names: list[str], rows: list) -> None:
    root = tmp_path_factory.mktemp("law")
    records = tuple(
        ClipRecord(root / f"{word}{i}/{word}.mp4", label if 0 <= label < len(names) else None, split, *span)
        for i, (word, label, split, span) in enumerate(rows)
    )
    manifest = Manifest(records, tuple(names), root)
    write_manifest(manifest, root / "out.csv")
    again = read_manifest(root / "out.csv")
    assert again.records == manifest.records
    assert again.class_names == manifest.class_names
    assert again.digest == manifest.digest


def test_writing_elsewhere_keeps_the_files(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    manifest = read_manifest(written(tmp_path, "a.mp4 0\nb.mp4 1\n"))
    write_manifest(manifest, tmp_path / "lists" / "out.csv")
    again = read_manifest(tmp_path / "lists" / "out.csv")
    assert again.records == manifest.records
    assert "../a.mp4" in (tmp_path / "lists" / "out.csv").read_text()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, "a.mp4 0\n"))
    with pytest.raises(ManifestError, match="exists already"):
        write_manifest(manifest, tmp_path / "list.csv")
    assert (tmp_path / "list.csv").read_text() == "a.mp4 0\n"
    write_manifest(manifest, tmp_path / "list.csv", overwrite=True)
    assert (tmp_path / "list.csv").read_text().startswith("path,label,class_name,split,start,end\n")
    assert read_manifest(tmp_path / "list.csv").records == manifest.records


def test_split_names_those_that_exist(tmp_path: Path) -> None:
    path = written(tmp_path, "path,label,split\na.mp4,run,train\nb.mp4,sit,testing\nc.mp4,sit,train\n")
    manifest = read_manifest(path)
    assert names_of(manifest.split("train")) == ["a.mp4", "c.mp4"]
    assert names_of(manifest.split("test")) == ["b.mp4"]
    assert manifest.split("all") is manifest
    assert manifest.split("test").class_names == ("run", "sit")
    with pytest.raises(ManifestError, match="no split 'val': it has test, train"):
        manifest.split("val")
    with pytest.raises(ManifestError, match="it has no splits"):
        read_manifest(written(tmp_path, "a.mp4 0\n")).split("train")
    assert manifest.counts() == {"train": {"run": 1, "sit": 1}, "test": {"run": 0, "sit": 1}}
    assert "3 clips of 3 files, 2 classes, train 2, test 1" in repr(manifest)


def test_clips_without_split_or_label_are_counted(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, "path,label\na.mp4,run\nb.mp4,\n"))
    assert manifest.counts() == {"no split": {"run": 1, "no label": 1}}
    assert not manifest.labelled


def test_the_digest_tells_data_apart_but_not_places(tmp_path: Path) -> None:
    base = "path,label,split,start,end\na.mp4,run,train,0,1\nb.mp4,sit,test,0,1\n"
    variants = [
        base.replace(*change) for change in (("a.mp4", "c.mp4"), ("run", "hop"), ("train", "val"), (",1", ",2"))
    ]
    digests = set()
    for number, text in enumerate([base, *variants]):
        folder = tmp_path / str(number)
        folder.mkdir()
        digests.add(read_manifest(written(folder, text)).digest)
    assert len(digests) == 5
    (tmp_path / "moved").mkdir()
    assert read_manifest(written(tmp_path / "moved", base, "other.csv")).digest in digests


def test_long_lists_are_read_in_reasonable_time(tmp_path: Path) -> None:
    rng = random.Random(0)
    lines = "".join(f"class {rng.randrange(400)}/video {i}.mp4 {rng.randrange(400)}\n" for i in range(20_000))
    manifest = read_manifest(written(tmp_path, lines))
    assert len(manifest) == 20_000
    assert manifest.records[7].path.name == "video 7.mp4"


def test_a_manifest_is_checked_when_made(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no clips"):
        Manifest((), (), tmp_path)
    with pytest.raises(ManifestError, match="out of range"):
        Manifest((ClipRecord(tmp_path / "a.mp4", 1),), ("x",), tmp_path)
    with pytest.raises(ManifestError, match="twice"):
        Manifest((ClipRecord(tmp_path / "a.mp4", 1),), ("x", "x"), tmp_path)


def test_names_that_cannot_be_written_are_refused_before_anything_is(tmp_path: Path) -> None:
    records = (ClipRecord(tmp_path / "grün.mp4"), ClipRecord(tmp_path / "b\udcff.mp4"))
    with pytest.raises(ManifestError, match=r"1 names are not in UTF-8, such as '.*b\\udcff\.mp4'"):
        write_manifest(Manifest(records, (), tmp_path), tmp_path / "list.csv")
    assert list(tmp_path.iterdir()) == []
    write_manifest(Manifest(records[:1], (), tmp_path), tmp_path / "list.csv")
    assert read_manifest(tmp_path / "list.csv").records == records[:1]


@pytest.mark.parametrize("quote", ['"', "'"])
def test_paths_in_quotes_are_no_header(tmp_path: Path, quote: str) -> None:
    (tmp_path / "list.csv").write_text(f"{quote}my vids/clip 1.mp4{quote},0\n{quote}a, b/clip 2.mp4{quote},1\n")
    records = read_manifest(tmp_path / "list.csv").records
    assert [(str(r.path.relative_to(tmp_path)), r.label) for r in records] == [
        ("my vids/clip 1.mp4", 0),
        ("a, b/clip 2.mp4", 1),
    ]


def test_parts_carry_the_digest_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,split\na.mp4,x,train\nb.mp4,y,train\nb.mp4,,test\nc.mp4,x,val\n")
    whole = read_manifest(tmp_path / "list.csv")
    assert whole.source_digest == whole.digest
    parts = [whole.split(name) for name in ("train", "test", "val")]
    assert {part.source_digest for part in parts} == {whole.digest}
    assert len({part.digest for part in parts} | {whole.digest}) == 4
    plain = replace(whole, records=tuple(replace(r, split=None, label=0) for r in whole.records[:2]))
    held = hold_out(plain, 0.5)
    assert held.source_digest == held.split("train").source_digest == plain.digest != held.digest
