import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation_models import BUNDLED, a_classifier, an_info, some_clips

from everest.config import CheckpointInfo, EvaluationConfig
from everest.datasets import ClipRecord, Manifest
from everest.errors import DataError
from everest.evaluation import Evaluation, evaluate

INFO = an_info()
MODEL = a_classifier(INFO)
VIEWS = EvaluationConfig(num_segments=2, num_crops=1, batch_size=3)
FILES = sorted({record.path for record in BUNDLED.records})


def run(manifest: Manifest, info: CheckpointInfo = INFO) -> Evaluation:
    return evaluate(MODEL, info, manifest, VIEWS, num_workers=0)


def probabilities(evaluation: Evaluation) -> torch.Tensor:
    return torch.stack([result.probabilities for result in evaluation.predictions])


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return run(some_clips(12))


@pytest.fixture
def with_failures(tmp_path: Path) -> Manifest:
    """Five videos, the second of which is cut off and the fourth missing."""
    contents: list[bytes | None] = [path.read_bytes() for path in FILES[:5]]
    contents[1], contents[3] = (contents[1] or b"")[:20000], None
    for number, content in enumerate(contents):
        if content is not None:
            (tmp_path / f"{number}.mp4").write_bytes(content)
    records = tuple(ClipRecord(tmp_path / f"{number}.mp4", number) for number in range(5))
    return Manifest(records, BUNDLED.class_names, tmp_path)


def test_the_numbers_follow_from_the_predictions(evaluation: Evaluation) -> None:
    clips = some_clips(12)
    best = probabilities(evaluation).argmax(1).tolist()
    labels = [record.label for record in clips.records]
    assert [result.label for result in evaluation.predictions] == labels
    hits = [b == label for b, label in zip(best, labels, strict=True)]
    assert 0 < sum(hits) < 12  # or the test would say little
    assert evaluation.top1 == sum(hits) / 12
    assert evaluation.top1_interval[0] < evaluation.top1 < evaluation.top1_interval[1]
    assert evaluation.majority == max(labels.count(label) for label in labels) / 12
    for label, entry in enumerate(evaluation.per_class):
        mine = [hit for hit, true in zip(hits, labels, strict=True) if true == label]
        assert (entry.name, entry.num_clips) == (clips.class_names[label], len(mine))
        assert entry.accuracy == (sum(mine) / len(mine) if mine else None)
    for true in range(5):
        for guess in range(5):
            count = sum((b, label) == (guess, true) for b, label in zip(best, labels, strict=True))
            assert evaluation.confusion[true, guess] == count
    assert (evaluation.num_clips, evaluation.num_views, evaluation.failures) == (12, 2, ())
    assert (evaluation.manifest_digest, evaluation.part_digest) == (clips.source_digest, clips.digest)
    assert evaluation.clips_per_second == pytest.approx(12 / evaluation.seconds)


def test_predictions_say_which_clip_they_are_of(evaluation: Evaluation) -> None:
    for index, (record, result) in enumerate(zip(some_clips(12).records, evaluation.predictions, strict=True)):
        assert (result.record_index, result.path) == (index, record.path)
        assert (result.start_seconds, result.end_seconds) == (record.start_seconds, record.end_seconds)


def test_the_parts_equal_the_whole(evaluation: Evaluation) -> None:
    clips = some_clips(12)
    parts = [run(replace(clips, records=clips.records[part])) for part in (slice(0, 5), slice(5, 12))]
    together = torch.cat([probabilities(part) for part in parts])
    torch.testing.assert_close(together, probabilities(evaluation), atol=1e-5, rtol=0)
    assert (parts[0].confusion + parts[1].confusion).equal(evaluation.confusion)


def test_the_order_of_classes_in_the_data_does_not_matter(evaluation: Evaluation) -> None:
    clips = some_clips(12)
    last = clips.num_classes - 1
    records = tuple(replace(record, label=last - record.label) for record in clips.records)
    other = run(Manifest(records, clips.class_names[::-1], clips.source))
    assert other.confusion.equal(evaluation.confusion)
    assert other.class_names == INFO.class_names
    assert [r.label for r in other.predictions] == [r.label for r in evaluation.predictions]
    assert other.manifest_digest != evaluation.manifest_digest


def test_a_video_that_cannot_be_read_is_listed_and_the_others_are_not_affected(with_failures: Manifest) -> None:
    evaluation = run(with_failures)
    assert [failure.record_index for failure in evaluation.failures] == [1, 3]
    assert [failure.path for failure in evaluation.failures] == [with_failures.records[i].path for i in (1, 3)]
    assert all(f.reason and str(f.path) not in f.reason for f in evaluation.failures)
    assert [result.record_index for result in evaluation.predictions] == [0, 2, 4]
    assert evaluation.num_clips == int(evaluation.confusion.sum()) == 3
    assert [entry.num_clips for entry in evaluation.per_class] == [1, 0, 1, 0, 1]
    assert evaluation.per_class[1].accuracy is None
    good = replace(with_failures, records=with_failures.records[::2])
    torch.testing.assert_close(probabilities(evaluation), probabilities(run(good)), atol=1e-5, rtol=0)


def test_nothing_but_unreadable_videos_is_an_error(with_failures: Manifest) -> None:
    bad = replace(with_failures, records=with_failures.records[1::2])
    with pytest.raises(DataError, match=r"none of the 2 clips can be read; the first one: .*1\.mp4: "):
        run(bad)


def test_two_files_of_one_name_are_two_results(tmp_path: Path) -> None:
    records = []
    for folder, source, label in (("a", FILES[0], 0), ("b", FILES[-1], 1)):
        (tmp_path / folder).mkdir()
        shutil.copy(source, tmp_path / folder / "clip[1].v2.mp4")
        records.append(ClipRecord(tmp_path / folder / "clip[1].v2.mp4", label))
    evaluation = run(Manifest(tuple(records), BUNDLED.class_names, tmp_path))
    assert [result.path.parent.name for result in evaluation.predictions] == ["a", "b"]
    originals = Manifest((ClipRecord(FILES[0], 0), ClipRecord(FILES[-1], 1)), BUNDLED.class_names, BUNDLED.source)
    assert probabilities(evaluation).equal(probabilities(run(originals)))
    assert not evaluation.predictions[0].probabilities.equal(evaluation.predictions[1].probabilities)


def test_a_clip_listed_twice_counts_twice() -> None:
    one = some_clips(1)
    evaluation = run(replace(one, records=one.records * 2))
    assert evaluation.num_clips == 2
    assert [result.record_index for result in evaluation.predictions] == [0, 1]


def test_top_5_is_given_where_it_says_something(evaluation: Evaluation) -> None:
    assert evaluation.top5 is None
    info = INFO.model_copy(update={"class_names": (*INFO.class_names, "jump", "run")})
    model = a_classifier(info)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.arange(7.0))  # bend, the first class, comes last
    result = evaluate(model, info, some_clips(12), VIEWS, num_workers=0)
    assert result.top5 == sum(entry.num_clips for entry in result.per_class[2:]) / 12
    assert 0 < result.top5 < 1
    assert f"top-5 {result.top5:.1%}" in result.summary()


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda m: replace(m, class_names=("bend", "fall", "lie", "sit", "swim")), "does not know 'swim'"),
        (lambda m: replace(m, records=(*m.records, ClipRecord(FILES[0]))), "1 of 13 clips have no label"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_any_work(spoil: Callable[[Manifest], Manifest], match: str) -> None:
    told: list[tuple[int, int]] = []
    with pytest.raises(DataError, match=match):
        evaluate(MODEL, INFO, spoil(some_clips(12)), VIEWS, num_workers=0, on_progress=lambda *done: told.append(done))
    assert told == []


def test_json_holds_everything(evaluation: Evaluation) -> None:
    values = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert values["top1"] == evaluation.top1
    assert values["confusion"] == evaluation.confusion.tolist()
    assert values["per_class"][0] == {
        "name": "bend",
        "num_clips": evaluation.per_class[0].num_clips,
        "accuracy": evaluation.per_class[0].accuracy,
    }
    first = values["predictions"][0]
    assert first["path"] == str(evaluation.predictions[0].path)
    assert first["probabilities"] == pytest.approx(evaluation.predictions[0].probabilities.tolist(), abs=1e-6)
    small = evaluation.to_dict(predictions=False)
    assert {**small, "predictions": values["predictions"]} == values


def test_failures_are_told(with_failures: Manifest) -> None:
    evaluation = run(with_failures)
    lines = evaluation.summary().splitlines()
    assert lines[0].startswith(f"top-1 {evaluation.top1:.1%} (")
    assert "of 3 clips; 95 % interval" in lines[0]
    assert "2 more clips cannot be read and are in none of these numbers:" in lines
    assert sum("mp4: " in line for line in lines) == 2
    many = replace(evaluation, failures=evaluation.failures * 4)
    assert many.summary().endswith("and 3 more")
    assert repr(evaluation).endswith("of 3 clips in 2 views, 5 classes, 2 failures)")
    assert json.loads(json.dumps(evaluation.to_dict()))["failures"][1]["record_index"] == 3


def test_what_was_decided_about_the_data_is_told() -> None:
    clips = replace(some_clips(2), class_names=tuple("01234"))
    evaluation = run(clips)
    assert [r.label for r in evaluation.predictions] == [r.label for r in clips.records]
    assert "note: integer labels are taken as places" in evaluation.summary()
