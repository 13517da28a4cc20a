from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation_models import a_classifier, an_info, some_clips

from everest.config import EvaluationConfig, SelectionConfig
from everest.datasets import ClipRecord, Manifest, ViewClips
from everest.errors import ConfigError, DataError, WeightsError
from everest.evaluation import VideoProbabilities, classify_videos, evaluation_mode, parse_views
from everest.models import classify_clips
from everest.video import VideoReader

INFO = an_info()
MODEL = a_classifier(INFO)
VIEWS = EvaluationConfig(num_segments=2, num_crops=2, batch_size=3)


def classify(manifest: Manifest, views: EvaluationConfig = VIEWS, **options: object) -> VideoProbabilities:
    return classify_videos(MODEL, INFO, manifest, views, **options)


@pytest.mark.parametrize(("text", "segments", "crops"), [("5x3", 5, 3), (" 1X1 ", 1, 1), ("10 × 3", 10, 3)])
def test_views_are_read(text: str, segments: int, crops: int) -> None:
    views = parse_views(text)
    assert (views.num_segments, views.num_crops) == (segments, crops)


@pytest.mark.parametrize("text", ["", "5", "x3", "0x3", "5x0", "-1x3", "5x3x2", "5.0x3", "five", "٥x٣", "1e3x1", "5x"])
def test_nonsense_for_views_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 5x3"):
        parse_views(text)


def test_probabilities_are_the_mean_over_the_views_of_each_video() -> None:
    clips = some_clips(5)
    found = classify(clips)
    assert found.record_indices.tolist() == list(range(5))
    views = ViewClips(clips.records, INFO.clip, VIEWS)
    for index in range(5):
        alone = classify_clips(MODEL, views[index].frames, INFO)
        assert len(alone) == 4
        assert (alone - alone[0]).abs().max() > 1e-3
        torch.testing.assert_close(found.probabilities[index], alone.double().mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(5).double())
    assert (found.probabilities[0] - found.probabilities[4]).abs().max() > 1e-2


def test_the_batch_size_does_not_matter() -> None:
    clips = some_clips(3)
    expected = classify(clips).probabilities
    for batch_size in (1, 4, 5, 100):
        views = VIEWS.model_copy(update={"batch_size": batch_size})
        torch.testing.assert_close(classify(clips, views).probabilities, expected, atol=1e-5, rtol=0)


def test_batches_are_full_but_for_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def counting(model: object, clips: torch.Tensor, info: object) -> torch.Tensor:
        sizes.append(len(clips))
        return classify_clips(model, clips, info)

    monkeypatch.setattr("everest.evaluation.views.classify_clips", counting)
    classify(some_clips(5))
    assert sizes == [3, 3, 3, 3, 3, 3, 2]


def test_every_video_is_opened_once_for_all_its_views(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    start = VideoReader.__init__

    def counting(self: VideoReader, path: object, *args: object, **options: object) -> None:
        opened.append(path)
        start(self, path, *args, **options)

    monkeypatch.setattr(VideoReader, "__init__", counting)
    clips = some_clips(3)
    classify(clips, EvaluationConfig(num_segments=4, num_crops=3))
    assert opened == [record.path for record in clips.records]


def test_workers_do_not_change_the_answer_and_progress_is_told() -> None:
    clips = some_clips(3)
    told = []
    found = classify(clips, num_workers=1, on_progress=lambda done, total: told.append((done, total)))
    torch.testing.assert_close(found.probabilities, classify(clips).probabilities, atol=0, rtol=0)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_nothing_is_random_and_nothing_outside_is_changed() -> None:
    model = a_classifier(INFO)
    model.dropout.rate, model.dropout.is_on = 0.5, True
    model.train()
    before = torch.get_rng_state()
    found = [classify_videos(model, INFO, some_clips(2), VIEWS).probabilities for _ in range(2)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert model.dropout.training


def test_the_mode_comes_back_after_an_error() -> None:
    model = a_classifier(INFO).train()
    with pytest.raises(WeightsError, match="training False"), evaluation_mode(model):
        raise WeightsError(f"training {model.training}")
    assert model.training


def test_frames_are_selected_from_candidates_where_the_checkpoint_says_so() -> None:
    info = an_info(frames=True)
    clips = some_clips(2)
    found = classify_videos(a_classifier(info), info, clips, VIEWS)
    views = ViewClips(clips.records, info.clip, VIEWS, num_sampled_frames=12)
    expected = torch.stack([classify_clips(a_classifier(info), views[i].frames, info).mean(0) for i in range(2)])
    torch.testing.assert_close(found.probabilities, expected.double(), atol=1e-5, rtol=0)


def test_bfloat16_is_near_float32_and_not_the_same() -> None:
    exact = classify(some_clips(3)).probabilities
    coarse = classify(some_clips(3), dtype=torch.bfloat16).probabilities
    assert 0 < (exact - coarse).abs().max() < 0.05


def test_a_model_that_gives_no_numbers_is_an_error() -> None:
    model = a_classifier(INFO)
    with torch.no_grad():
        model.head.bias[1] = float("nan")
    with pytest.raises(WeightsError, match="not finite"):
        classify_videos(model, INFO, some_clips(1), VIEWS)


def test_rows_and_records_go_together() -> None:
    found = classify(some_clips(2))
    assert repr(found) == "VideoProbabilities([2, 5], 0 failures)"
    with pytest.raises(DataError, match="1 videos need as many rows, not 2"):
        replace(found, record_indices=found.record_indices[:1])


@pytest.mark.parametrize("method", ["rero", "random", "random_equal", "tube", "running_cell", "all"])
def test_a_clip_gets_the_same_answer_in_any_batch(method: str) -> None:
    selection = SelectionConfig(method=method, keep_ratio=0.5, encode_ratio=0.1)
    info = INFO.model_copy(update={"selection": selection})
    model = a_classifier(info)
    clips = torch.randint(0, 256, (5, 3, info.clip.num_frames, info.clip.height, info.clip.width), dtype=torch.uint8)
    together = classify_clips(model, clips, info)
    alone = torch.cat([classify_clips(model, clip[None], info) for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_each_video_is_told_of_once_with_what_is_said_of_it_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    clips = some_clips(5)
    records = (*clips.records[:3], ClipRecord(tmp_path / "text.mp4"), *clips.records[3:])
    told: dict[int, torch.Tensor | str] = {}

    def tell(index: int, outcome: torch.Tensor | str) -> None:
        assert index not in told
        told[index] = outcome

    views = VIEWS.model_copy(update={"batch_size": 3})  # batches end within videos
    found = classify(replace(clips, records=records), views, on_video=tell)
    assert told.pop(3) == found.failures[3]
    for index, expected in zip(found.record_indices.tolist(), found.probabilities, strict=True):
        torch.testing.assert_close(told.pop(index), expected)
    assert told == {}
