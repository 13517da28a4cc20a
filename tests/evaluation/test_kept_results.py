"""An evaluation that was broken off goes on where it was, and only if it is the same."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_models import a_classifier, an_info, some_clips

import everest.evaluation.kept as kept_module
from everest.config import EvaluationConfig
from everest.datasets import ClipRecord, Manifest
from everest.errors import DataError
from everest.evaluation import Evaluation, evaluate, forget_results
from everest.models import classify_clips

INFO = an_info()
MODEL = a_classifier(INFO)
VIEWS = EvaluationConfig(num_segments=2, num_crops=1, batch_size=3)
FORWARD = "everest.evaluation.views.classify_clips"


class BrokenOffError(Exception):
    """Ends an evaluation."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "EVERY_SECONDS", 0.0)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of views that the model was shown."""
    sizes: list[int] = []

    def count(model: Any, clips: torch.Tensor, info: Any) -> torch.Tensor:
        sizes.append(len(clips))
        return classify_clips(model, clips, info)

    monkeypatch.setattr(FORWARD, count)
    return sizes


def run(manifest: Manifest, keep: Path | None, views: EvaluationConfig = VIEWS, **more: Any) -> Evaluation:
    return evaluate(MODEL, INFO, manifest, views, num_workers=0, keep=keep, **more)


def break_off(manifest: Manifest, keep: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin an evaluation that ends when so many batches are computed."""
    num = 0

    def forward(model: Any, clips: torch.Tensor, info: Any) -> torch.Tensor:
        nonlocal num
        num += 1
        if num > after:
            raise BrokenOffError
        return classify_clips(model, clips, info)

    with monkeypatch.context() as patch:
        patch.setattr(FORWARD, forward)
        with pytest.raises(BrokenOffError):
            run(manifest, keep)


def without_time(evaluation: Evaluation) -> dict[str, Any]:
    values = evaluation.to_dict()
    return {key: value for key, value in values.items() if key not in {"seconds", "clips_per_second"}}


def rows(keep: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(keep.iterdir()) for line in path.read_text().splitlines()[1:]]


def test_what_is_known_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at: list[int]
) -> None:
    clips, keep = some_clips(7), tmp_path / "keep"
    expected = without_time(run(clips, None))
    assert sum(looked_at) == 14
    break_off(clips, keep, after=2, monkeypatch=monkeypatch)  # six views: three videos
    assert [row["record"] for row in rows(keep)] == [0, 1, 2]
    looked_at.clear()
    skipped: list[int] = []
    progress: list[tuple[int, int]] = []
    found = run(clips, keep, on_skip=skipped.append, on_progress=lambda *at: progress.append(at))
    assert sum(looked_at) == 8
    assert skipped == [3]
    assert progress == [(number, 7) for number in (4, 5, 6, 7)]
    assert without_time(found) == expected
    assert found.seconds > max(row["seconds"] for row in rows(keep)[:3])
    looked_at.clear()
    assert without_time(run(clips, keep)) == expected
    assert looked_at == []
    (keep / "mine.txt").write_text("stays")
    forget_results(keep)
    assert [path.name for path in keep.iterdir()] == ["mine.txt"]
    (keep / "mine.txt").unlink()
    forget_results(keep)
    forget_results(keep)
    assert not keep.exists()


def test_videos_that_cannot_be_read_are_tried_again_and_changed_ones_too(tmp_path: Path, looked_at: list[int]) -> None:
    clips, keep, copy = some_clips(3), tmp_path / "keep", tmp_path / "0.mp4"
    absent = ClipRecord(tmp_path / "absent.mp4", 1)
    copy.write_bytes(clips.records[0].path.read_bytes())
    data = replace(clips, records=(replace(clips.records[0], path=copy), absent, *clips.records[1:]))
    assert [failure.record_index for failure in run(data, keep).failures] == [1]
    absent.path.write_bytes(clips.records[1].path.read_bytes())
    copy.write_bytes(clips.records[2].path.read_bytes())
    looked_at.clear()
    found = run(data, keep)
    assert sum(looked_at) == 4
    assert not found.failures
    for result, expected in zip(found.predictions, run(data, None).predictions, strict=True):
        torch.testing.assert_close(result.probabilities, expected.probabilities, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: '"probability"'.join(text.rsplit('"probabilities"', 1)),
        lambda text: text.replace('"record": 2', '"record": 7'),
        lambda text: text.replace('"record": 2', '"record": -1'),
        lambda text: text.rpartition("{")[0] + "[]\n",
        lambda text: text.rpartition("{")[0] + "{{{\n",
        lambda text: text.rpartition("[")[0] + "[0.5, 0.5]}\n",
        lambda text: text.rpartition("[")[0] + "[NaN, 0.1, 0.2, 0.3, 0.4]}\n",
    ],
)
def test_a_damaged_row_is_evaluated_again(
    damage: Callable[[str], str], tmp_path: Path, looked_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, keep = some_clips(4), tmp_path / "keep"
    break_off(clips, keep, after=2, monkeypatch=monkeypatch)
    (path,) = keep.iterdir()
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    looked_at.clear()
    found = run(clips, keep)
    assert sum(looked_at) == 4
    torch.testing.assert_close(found.predictions[2].probabilities, run(clips, None).predictions[2].probabilities)


def test_a_file_that_holds_nothing_yet_is_no_other_evaluation(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "1-0.jsonl").write_text('{"weights": "12')
    (keep / "2-0.jsonl").write_text("")
    assert run(some_clips(2), keep).num_clips == 2


def test_the_beginning_of_another_evaluation_is_refused_or_replaced(tmp_path: Path, looked_at: list[int]) -> None:
    clips, keep = some_clips(3), tmp_path / "keep"
    run(clips, keep)
    (before,) = keep.iterdir()
    text = before.read_text()
    three = VIEWS.model_copy(update={"num_segments": 3})
    other = a_classifier(INFO)
    with torch.no_grad():
        other.head.bias.add_(0.5)
    for asked, named in (
        (lambda: run(clips, keep, three), "other views: go on with that one"),
        (lambda: run(replace(clips, records=clips.records[:2]), keep), "other data:"),
        (lambda: run(clips, keep, dtype=torch.bfloat16), "other dtype:"),
        (lambda: evaluate(other, INFO, clips, VIEWS, num_workers=0, keep=keep), "other weights:"),
    ):
        with pytest.raises(DataError, match=named):
            asked()
    assert before.read_text() == text
    looked_at.clear()
    run(clips, keep, VIEWS.model_copy(update={"batch_size": 2}))
    assert looked_at == []  # the size of batches makes no other evaluation
    assert run(clips, keep, three, replaces=True).num_views == 3
    assert not before.exists()
    assert sum(looked_at) == 9


def test_what_cannot_be_kept_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be kept") as caught:
        found = run(some_clips(3), tmp_path / "file" / "keep")
    assert found.num_clips == 3
    assert len(caught) == 1


def test_it_waits_for_the_device_now_and_then_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "EVERY_SECONDS", 3600.0)
    clips, keep = some_clips(5), tmp_path / "keep"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        break_off(clips, keep, after=3, monkeypatch=monkeypatch)
        assert not keep.exists()
        run(clips, keep)
    assert [row["record"] for row in rows(keep)] == list(range(5))  # but all that are known at the end
