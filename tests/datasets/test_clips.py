import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from everest.config import AugmentConfig, ClipConfig, EvaluationConfig
from everest.datasets import ClipRecord, Sample, TrainClips, ViewClips, load_data
from everest.datasets.spans import chunked, sampled_step, span_of
from everest.errors import DataError, VideoError
from everest.video.reader import VideoInfo, VideoReader

CLIP = ClipConfig(num_frames=4, height=32, width=32, stride=3)
PLAIN = AugmentConfig(crop="center")
VIDEOS = sorted({record.path for record in load_data("bundled").records})


@pytest.fixture
def broken(tmp_path: Path) -> list[ClipRecord]:
    """A good video, an empty one, a truncated one, one that is missing, and another good one."""
    good = VIDEOS[0].read_bytes()
    contents = (good, b"", good[: len(good) // 3], None, VIDEOS[1].read_bytes())
    for number, content in enumerate(contents):
        if content is not None:
            (tmp_path / f"{number}.mp4").write_bytes(content)
    return [ClipRecord(tmp_path / f"{number}.mp4", number) for number in range(len(contents))]


def info(num_frames: int = 100, fps: float = 30.0) -> VideoInfo:
    return VideoInfo(Path("v.mp4"), num_frames, fps, num_frames / fps, 128, 170, "h264", 0)


def same(a: Sample, b: Sample) -> bool:
    return torch.equal(a.frames, b.frames) and a.label == b.label


def find_frames(frames: Tensor, path: Path, clip: ClipConfig = CLIP, *, view: bool = False) -> list[int]:
    """Say which frames of a file a clip [C,T,H,W] of centre crops, or a view, is made of."""
    everything = clip.model_copy(update={"num_frames": length(path), "stride": 1})
    record = ClipRecord(path)
    if view:  # views are resized before they are cropped, training clips after
        whole = ViewClips([record], everything, EvaluationConfig(num_segments=1, num_crops=1))[0].frames[0]
    else:
        whole = TrainClips([record], everything, PLAIN)[0, 0, 0].frames[0]
    distance = (frames.float().transpose(0, 1).flatten(1)[:, None] - whole.float().transpose(0, 1).flatten(1)).abs()
    nearest = distance.mean(-1).min(1)  # [T, all frames]
    assert nearest.values.max() == 0
    return nearest.indices.tolist()


def length(path: Path) -> int:
    with VideoReader(path) as reader:
        return reader.info.num_frames


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, (0, 100)),
        (1.0, 2.0, (30, 30)),
        (0.1, 0.2, (3, 3)),  # 0.1 * 30 is a little more than 3 in floating point
        (1.01, 1.99, (31, 29)),  # the first frame at or after the start, the last one before the end
        (3.0, None, (90, 10)),
        (3.0, 99.0, (90, 10)),
        (1.01, 1.02, (31, 1)),  # between two frames: one frame all the same
        (3.32, None, (99, 1)),
    ],
)
def test_a_span_has_the_frames_within_its_times(
    start: float | None, end: float | None, expected: tuple[int, int]
) -> None:
    assert span_of(ClipRecord(Path("v.mp4"), 0, None, start, end), info()) == expected


def test_a_span_after_the_end_is_an_error() -> None:
    with pytest.raises(VideoError, match=r"begins at 5 s but the video lasts 3\.33333 s"):
        span_of(ClipRecord(Path("v.mp4"), 0, None, 5.0, 6.0), info())


def test_chunks_cover_a_span_once() -> None:
    big = replace(info(1000), height=2160, width=3840)
    chunks = chunked(7, 50, big)
    assert [i for chunk in chunks for i in chunk] == list(range(7, 57))
    assert max(len(chunk) for chunk in chunks) * 3 * big.height * big.width <= 64 * 2**20


def test_clips_of_a_span_come_from_the_span() -> None:
    with VideoReader(VIDEOS[0]) as reader:
        fps = reader.info.fps
    clips = TrainClips([ClipRecord(VIDEOS[0], 0, None, 1.0, 2.0)], CLIP, PLAIN)
    starts = set()
    for position in range(12):
        frames = find_frames(clips[0, position, 0].frames[0], VIDEOS[0])
        assert fps <= frames[0] <= frames[-1] < 2 * fps
        assert [b - a for a, b in pairwise(frames)] == [3, 3, 3]
        starts.add(frames[0])
    assert len(starts) > 4


def test_more_candidates_cover_the_same_time() -> None:
    for video_fps in (15.0, 30.0):
        for clip in (CLIP, ClipConfig(num_frames=4, fps=7.5)):
            assert sampled_step(clip, 6, video_fps) * 6 == pytest.approx(sampled_step(clip, 4, video_fps) * 4)
    sample = TrainClips([ClipRecord(VIDEOS[0])], CLIP, PLAIN, num_sampled_frames=6)[0, 0, 0]
    frames = find_frames(sample.frames[0], VIDEOS[0])
    assert [b - a for a, b in pairwise(frames)] == [2] * 5


def test_samples_depend_on_seed_epoch_position_and_record_only() -> None:
    records = [ClipRecord(path, number) for number, path in enumerate(VIDEOS[:3])]
    augment = AugmentConfig(flip=True)
    clips = TrainClips(records, CLIP, augment, seed=5)
    first = clips[2, 7, 1]
    clips[0, 0, 0], torch.rand(3)
    assert same(first, clips[2, 7, 1])
    assert same(first, TrainClips(records, CLIP, augment, seed=5)[2, 7, 1])
    assert (first.label, first.record_index, first.failures) == (1, 1, ())
    for other in (clips[1, 7, 1], clips[2, 8, 1], TrainClips(records, CLIP, augment, seed=6)[2, 7, 1]):
        assert not torch.equal(first.frames, other.frames)


def test_repeated_clips_are_different_draws_of_the_same_video(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = VideoReader.__init__

    def counted(self: VideoReader, path: Path, **options: object) -> None:
        opened.append(path)
        original(self, path)

    monkeypatch.setattr(VideoReader, "__init__", counted)
    sample = TrainClips([ClipRecord(VIDEOS[0])], CLIP, AugmentConfig(), clips_per_video=3)[0, 0, 0]
    assert len(opened) == 1
    assert sample.frames.shape == (3, 3, 4, 32, 32)
    assert sample.frames.dtype == torch.uint8
    assert not torch.equal(sample.frames[0], sample.frames[1])
    assert not torch.equal(sample.frames[1], sample.frames[2])
    single = TrainClips([ClipRecord(VIDEOS[0])], CLIP, AugmentConfig())[0, 0, 0]
    assert torch.equal(single.frames[0], sample.frames[0])


def test_one_frame_from_each_segment_in_training() -> None:
    clip = ClipConfig(num_frames=4, height=32, width=32, sampling="segments")
    frames = find_frames(TrainClips([ClipRecord(VIDEOS[0])], clip, PLAIN)[0, 0, 0].frames[0], VIDEOS[0])
    quarter = length(VIDEOS[0]) / 4
    assert [int(index // quarter) for index in frames] == [0, 1, 2, 3]


def test_videos_that_cannot_be_read_are_replaced_and_reported_in_training(broken: list[ClipRecord]) -> None:
    sample = TrainClips(broken, CLIP.model_copy(update={"sampling": "segments"}), PLAIN)[0, 0, 1]
    assert (sample.record_index, sample.label) == (4, 4)
    assert [Path(path).name for path, _ in sample.failures] == ["1.mp4", "2.mp4", "3.mp4"]
    reasons = dict(sample.failures)
    assert "empty" in reasons[str(broken[1].path)]
    assert "no such file" in reasons[str(broken[3].path)]
    assert all("mp4" not in reason for reason in reasons.values())
    after = TrainClips([*broken[:2], broken[1]], CLIP, PLAIN)[0, 0, 2]
    assert after.record_index == 0  # the one after the last is the first


def test_when_no_video_can_be_read_training_stops(broken: list[ClipRecord]) -> None:
    with pytest.raises(DataError, match=r"none of the 2 videos can be read; the first one: .*3\.mp4: no such file"):
        TrainClips([broken[1], broken[3]], CLIP, PLAIN)[0, 0, 1]
    with pytest.raises(DataError, match="no clips"):
        TrainClips([], CLIP, PLAIN)


def test_the_cache_gives_the_same_clips_without_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    shutil.copy(VIDEOS[0], path)
    record = ClipRecord(path, 0, None, 1.0, 2.5)
    clip = ClipConfig(num_frames=4, height=112, width=112, stride=3)  # frames of 128 pixels are not shrunk
    expected = TrainClips([record], clip, AugmentConfig())[1, 2, 0]
    lazy = TrainClips([record], clip, AugmentConfig(), memory_cache=True)
    eager = TrainClips([record], clip, AugmentConfig(), memory_cache=True)
    assert same(lazy[1, 2, 0], expected)
    eager.preload(2)
    path.unlink()
    assert same(lazy[1, 2, 0], expected)
    assert same(eager[1, 2, 0], expected)


def test_the_cache_is_shrunk_and_remembers_failures(broken: list[ClipRecord]) -> None:
    clips = TrainClips(broken, CLIP, PLAIN, memory_cache=True)
    clips.preload()
    frames, _ = clips._cache[0]
    assert isinstance(frames, Tensor)
    assert min(frames.shape[1:3]) == 37  # 1.15 * 32
    assert frames.shape[0] == length(VIDEOS[0])
    broken[1].path.write_bytes(VIDEOS[0].read_bytes())
    sample = clips[0, 0, 1]
    assert (sample.record_index, sample.frames.shape) == (4, (1, 3, 4, 32, 32))
    assert "empty" in dict(sample.failures)[str(broken[1].path)]


def test_views_are_segments_times_crops() -> None:
    record = ClipRecord(VIDEOS[0], 3)
    views = ViewClips([record], CLIP, EvaluationConfig(num_segments=2, num_crops=3))[0]
    assert views.frames.shape == (6, 3, 4, 32, 32)
    assert views.frames.dtype == torch.uint8
    assert (views.label, views.record_index, views.error) == (3, 0, None)
    again = ViewClips([record], CLIP, EvaluationConfig(num_segments=2, num_crops=3))[0]
    assert torch.equal(views.frames, again.frames)
    centre = ViewClips([record], CLIP, EvaluationConfig(num_segments=2, num_crops=1))[0]
    assert torch.equal(centre.frames[1], views.frames[4])  # the middle crop of the second segment
    last = length(VIDEOS[0]) - 1
    assert find_frames(centre.frames[0], VIDEOS[0], view=True) == [0, 3, 6, 9]
    assert find_frames(centre.frames[1], VIDEOS[0], view=True) == [last - 9, last - 6, last - 3, last]


def test_views_of_segment_sampling_lie_between_each_other() -> None:
    clip = ClipConfig(num_frames=4, height=32, width=32, sampling="segments")
    views = ViewClips([ClipRecord(VIDEOS[0])], clip, EvaluationConfig(num_segments=2, num_crops=1))[0]
    quarter = length(VIDEOS[0]) / 4
    found = [find_frames(frames, VIDEOS[0], view=True) for frames in views.frames]
    assert found == [[int((i + offset) * quarter) for i in range(4)] for offset in (0.25, 0.75)]


def test_videos_that_cannot_be_read_stay_in_the_evaluation(broken: list[ClipRecord]) -> None:
    views = ViewClips(broken, CLIP, EvaluationConfig(num_segments=2, num_crops=3))
    errors = [views[index].error for index in range(len(views))]
    assert [error is None for error in errors] == [True, False, False, False, True]
    assert views[1].frames.shape == (0, 3, 4, 32, 32)
    assert (views[1].label, views[1].record_index) == (1, 1)
    assert "empty" in str(errors[1])


def test_reprs_show_shapes(broken: list[ClipRecord]) -> None:
    assert "1 x [3, 4, 32, 32], label 0" in repr(TrainClips(broken, CLIP, PLAIN)[0, 0, 0])
    assert "error 'the file is empty'" in repr(ViewClips(broken, CLIP, EvaluationConfig())[1])


def test_clips_of_the_same_frames_differ_in_their_crops_alone() -> None:
    record, cropping, whole = ClipRecord(VIDEOS[0]), AugmentConfig(crop="multi_scale"), AugmentConfig(crop="center")
    planned: list[list[list[int]]] = []

    class Noted(TrainClips):
        def plan(self, num_available: int, fps: float, generators: Sequence[torch.Generator]) -> list[list[int]]:
            planned.append(super().plan(num_available, fps, generators))
            return planned[-1]

    def read(augment: AugmentConfig, same_frames: bool) -> Sample:
        return Noted([record], CLIP, augment, clips_per_video=3, same_frames=same_frames)[0, 0, 0]

    same, _, plain = read(cropping, True), read(cropping, False), read(whole, True)
    assert planned[0][0] == planned[0][1] == planned[0][2] == planned[1][0]
    assert len({tuple(row) for row in planned[1]}) > 1
    assert not torch.equal(same.clips[0], same.clips[1])
    assert torch.equal(plain.clips[0], plain.clips[1])  # nothing is left to differ in
    assert torch.equal(same.frames, read(cropping, True).frames)
