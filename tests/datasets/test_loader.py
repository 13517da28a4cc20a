import gc
import os
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import get_worker_info

from everest.config import (
    AugmentConfig,
    ClipConfig,
    DataConfig,
    EvaluationConfig,
    FinetuneConfig,
    FrameSelectionConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    RunConfig,
    SelectionConfig,
    TrainConfig,
    num_candidate_pairs,
    num_sampled_frames,
)
from everest.datasets import (
    Batch,
    ClipRecord,
    Manifest,
    TrainLoader,
    build_train_loader,
    build_view_loader,
    handover,
    load_data,
)
from everest.datasets.clips import TrainClips
from everest.datasets.handover import NoSharedMemoryError
from everest.datasets.workers import resolve_num_workers
from everest.errors import ConfigError, DataError, VideoError
from everest.video.augment import change_clip

SMALL = load_data("bundled").split("train")


def config(kind: type[TrainConfig] = PretrainConfig, global_batch_size: int = 8, **data: object) -> TrainConfig:
    return kind(
        model=ModelConfig(size="tiny"),
        clip=ClipConfig(num_frames=4, height=32, width=32, stride=2),
        selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
        augment=AugmentConfig(flip=True),
        data=DataConfig(**{"batch_size": 4, "num_workers": 0, **data}),
        optim=OptimConfig(global_batch_size=global_batch_size),
        run=RunConfig(seed=1),
    )


def few(num: int = 17) -> Manifest:
    return Manifest(SMALL.records[:num], SMALL.class_names, SMALL.source)


def equal(a: Batch, b: Batch) -> bool:
    return (
        torch.equal(a.frames, b.frames)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.record_indices, b.record_indices)
    )


def batches(loader: TrainLoader, epoch: int = 0, start_step: int = 0) -> list[Batch]:
    return list(loader.epoch(epoch, start_step))


def failure(loader: TrainLoader) -> str:
    """Read until there is an error, and keep its message only: a traceback would keep the loader and its workers."""
    try:
        for epoch in range(3):
            batches(loader, epoch)
    except DataError as error:
        return str(error)
    return ""


@pytest.fixture
def with_failures(tmp_path: Path) -> Manifest:
    """Ten videos, of which the fourth is cut off and the seventh is empty."""
    paths = sorted({record.path for record in SMALL.records})[:10]
    records = []
    for number, path in enumerate(paths):
        content = path.read_bytes()
        content = {3: content[: len(content) // 3], 6: b""}.get(number, content)
        (tmp_path / f"{number}.mp4").write_bytes(content)
        records.append(ClipRecord(tmp_path / f"{number}.mp4", number % 5))
    return Manifest(tuple(records), SMALL.class_names, tmp_path)


def test_batches_do_not_depend_on_the_number_of_workers() -> None:
    loaders = [build_train_loader(few(), config(num_workers=n, clips_per_video=2)) for n in (0, 1, 2)]
    for epoch in (0, 1):
        reference, *others = [batches(loader, epoch) for loader in loaders]
        assert len(reference) == 8  # 17 videos, 4 in a step of 8 clips, 2 passes of 4 clips
        for other in others:
            assert len(other) == len(reference)
            assert all(equal(a, b) for a, b in zip(reference, other, strict=True))


def test_clips_of_a_video_may_share_their_frames() -> None:
    own, same = (
        next(build_train_loader(few(), config(clips_per_video=2, same_frames=value)).epoch(0)).frames
        for value in (False, True)
    )
    assert torch.equal(own[0], same[0])
    assert not torch.equal(own[1], same[1])


def test_a_batch_holds_the_clips_of_its_videos() -> None:
    manifest = few()
    loader = build_train_loader(manifest, config(clips_per_video=2))
    batch = batches(loader)[0]
    assert batch.frames.shape == (4, 3, 4, 32, 32)
    assert batch.frames.dtype == torch.uint8
    assert batch.labels.dtype == batch.record_indices.dtype == torch.int64
    assert batch.record_indices[0] == batch.record_indices[1] != batch.record_indices[2]
    assert not torch.equal(batch.frames[0], batch.frames[1])
    assert batch.labels.tolist() == [manifest.records[i].label for i in batch.record_indices.tolist()]
    assert repr(batch) == "Batch([4, 3, 4, 32, 32], 0 failures)"


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_the_workers_leave_to_the_device_is_drawn_by_them(num_workers: int) -> None:
    strong = AugmentConfig(flip=True, rand_augment_ops=3, rand_augment_probability=1.0, erase_probability=0.5)
    there, later = (
        config(clips_per_video=2, num_workers=num_workers, augment_on=place).model_copy(update={"augment": strong})
        for place in ("workers", "device")
    )
    done, left = (batches(build_train_loader(few(), c)) for c in (there, later))
    assert len(done) == len(left) > 0
    for a, b in zip(done, left, strict=True):
        assert a.changes == ()
        assert len(b.changes) == len(b.frames) == 4
        assert len(set(b.changes)) == 4
        changed = torch.stack([change_clip(clip, change) for clip, change in zip(b.frames, b.changes, strict=True)])
        assert torch.equal(a.frames, changed)
        assert not torch.equal(a.frames, b.frames)


def test_devices_and_passes_divide_the_same_clips() -> None:
    def first_step(batch_size: int, world_size: int) -> dict[tuple[int, int], torch.Tensor]:
        clips = {}
        for rank in range(world_size):
            loader = build_train_loader(few(), config(batch_size=batch_size), rank=rank, world_size=world_size)
            assert loader.plan.global_batch_size == 8
            for batch in batches(loader)[: loader.plan.accumulation_steps]:
                for clip, index in zip(batch.frames, batch.record_indices.tolist(), strict=True):
                    clips[index, int(clip.long().sum())] = clip
        return clips

    expected = first_step(8, 1)
    assert len(expected) == 8
    for batch_size, world_size in ((4, 1), (2, 2), (4, 2)):
        assert first_step(batch_size, world_size).keys() == expected.keys()


def test_an_epoch_continues_where_it_was_left() -> None:
    loader = build_train_loader(few(), config(num_workers=1))
    whole = batches(loader, epoch=3)
    interrupted = loader.epoch(3)
    next(interrupted)  # leaving an epoch early must not leak its batches into the next
    interrupted.close()
    rest = batches(loader, epoch=3, start_step=1)
    assert len(rest) == len(whole) - loader.plan.accumulation_steps
    assert all(equal(a, b) for a, b in zip(rest, whole[loader.plan.accumulation_steps :], strict=True))


def test_fewer_videos_than_a_batch_fill_it() -> None:
    loader = build_train_loader(few(3), config(global_batch_size=8))
    epoch = batches(loader)
    assert loader.num_steps == 1
    assert [len(batch.frames) for batch in epoch] == [4, 4]
    assert set(torch.cat([batch.record_indices for batch in epoch]).tolist()) == {0, 1, 2}


def test_reading_leaves_the_global_randomness_alone() -> None:
    state = torch.random.get_rng_state()
    batches(build_train_loader(few(8), config()))
    list(build_view_loader(few(2), config().clip, EvaluationConfig(), num_workers=0))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_failures_are_replaced_counted_and_named_once(with_failures: Manifest, num_workers: int) -> None:
    named: list[tuple[str, str]] = []
    loader = build_train_loader(
        with_failures,
        config(num_workers=num_workers, max_failed_share=0.2),
        on_failure=lambda path, reason: named.append((path, reason)),
    )
    for epoch in range(3):
        for batch in loader.epoch(epoch):
            assert batch.frames.shape[0] == 4
            assert not {3, 6} & set(batch.record_indices.tolist())
    assert sorted(Path(path).name for path, _ in named) == ["3.mp4", "6.mp4"]
    assert loader.failed == dict(named)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_too_many_failures_stop_training(with_failures: Manifest, num_workers: int) -> None:
    loader = build_train_loader(with_failures, config(num_workers=num_workers, max_failed_share=0.1))
    message = failure(loader)
    assert message.startswith("2 of 10 videos cannot be read, more than data.max_failed_share (0.1) allows")
    assert str(with_failures.records[6].path) in message
    assert "\n" not in message


@pytest.mark.parametrize(("max_failed_share", "stops"), [(0.05, False), (0.01, True)])
@pytest.mark.parametrize("num_processes", [1, 2, 8, 64])
def test_the_share_of_failures_does_not_depend_on_the_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, num_processes: int, max_failed_share: float, *, stops: bool
) -> None:
    """16 of 1000 files are broken; nothing is decoded, and the processes tell each other what failed as a run does."""

    def clips(self: TrainClips, index: int, *_: int) -> tuple[tuple[torch.Tensor], tuple[()], tuple[()]]:
        if index % 64 == 7:
            raise VideoError("broken")
        return (torch.zeros(3, 4, 32, 32, dtype=torch.uint8),), (), ()

    monkeypatch.setattr(TrainClips, "_clips", clips)
    manifest = Manifest(tuple(ClipRecord(Path(f"/no/{i}.mp4")) for i in range(1000)), (), Path("/no/list.csv"))
    given = config(global_batch_size=64, max_failed_share=max_failed_share)
    loaders = [build_train_loader(manifest, given, rank=r, world_size=num_processes) for r in range(num_processes)]
    stopped: dict[int, str] = {}
    for epoch in range(2):
        for rank, loader in enumerate(loaders):
            try:
                batches(loader, epoch)
            except DataError as error:  # one alone may know of too many, all know after the epoch
                stopped[rank] = str(error)
        failed = [dict(loader.failed) for loader in loaders]
        for rank, loader in enumerate(loaders):
            try:
                loader.hear(failed)
            except DataError as error:
                stopped[rank] = str(error)
        if stopped:
            break
    assert len(stopped) == stops * num_processes  # all of them, or none
    assert all(" of 1000 videos cannot be read, more than" in message for message in stopped.values())
    assert (epoch == 0) == stops


@pytest.mark.parametrize("num_workers", [0, 1])
def test_when_nothing_can_be_read_the_message_is_one_line(tmp_path: Path, num_workers: int) -> None:
    manifest = Manifest(tuple(ClipRecord(tmp_path / f"{i}.mp4") for i in range(8)), (), tmp_path)
    manifest.records[0].path.write_bytes(SMALL.records[0].path.read_bytes())
    loader = build_train_loader(manifest, config(num_workers=num_workers, max_failed_share=1.0))
    manifest.records[0].path.unlink()
    message = failure(loader)
    assert message.startswith("none of the 8 videos can be read; the first one: ")
    assert "\n" not in message
    started = time.monotonic()
    del loader
    gc.collect()
    assert time.monotonic() - started < 4  # no reference is left that keeps workers waiting, which takes 5 s


def test_paths_that_are_all_wrong_are_found_at_the_first_item(tmp_path: Path) -> None:
    manifest = Manifest(tuple(ClipRecord(tmp_path / f"{i}.mp4") for i in range(8)), (), tmp_path)
    with pytest.raises(DataError, match=r"none of the 8 videos can be read; the first one: .*\.mp4: no such file"):
        next(build_train_loader(manifest, config(max_failed_share=1.0)).epoch(0))


def test_a_preloaded_cache_serves_the_workers(with_failures: Manifest) -> None:
    loader = build_train_loader(with_failures, config(num_workers=2, memory_cache=True, max_failed_share=0.2))
    for record in with_failures.records:
        record.path.unlink()
    assert all(batch.frames.shape[0] == 4 for batch in batches(loader))
    assert set(loader.failed) <= {str(with_failures.records[i].path) for i in (3, 6)}


def test_fine_tuning_needs_labels() -> None:
    unlabelled = Manifest(tuple(ClipRecord(r.path) for r in SMALL.records[:8]), (), SMALL.source)
    assert batches(build_train_loader(unlabelled, config()))[0].labels.tolist() == [-1] * 4
    with pytest.raises(DataError, match="8 of 8 clips have no label"):
        build_train_loader(unlabelled, config(FinetuneConfig))


def test_batches_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(ConfigError, match="global_batch_size"):
        build_train_loader(few(), config(global_batch_size=9), world_size=2)
    with pytest.raises(ConfigError, match="clips_per_video"):
        build_train_loader(few(), config(clips_per_video=8))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_reads_every_video_in_order(with_failures: Manifest, num_workers: int) -> None:
    clip, views = config().clip, EvaluationConfig(num_segments=2, num_crops=1)
    found = list(build_view_loader(with_failures, clip, views, num_workers=num_workers))
    assert [v.record_index for v in found] == list(range(10))
    assert [v.record_index for v in found if v.error is not None] == [3, 6]
    assert [len(v.frames) for v in found] == [0 if i in (3, 6) else 2 for i in range(10)]
    parts = [build_view_loader(with_failures, clip, views, num_workers=0, rank=r, world_size=3) for r in range(3)]
    assert [len(part) for part in parts] == [4, 3, 3]
    assert sorted(v.record_index for part in parts for v in part) == list(range(10))


@pytest.mark.parametrize(
    ("num_frames", "tubelet_size", "alpha"), [(16, 2, 1.5), (16, 2, 1.6), (8, 4, 1.3), (6, 1, 1.1)]
)
def test_candidates_are_whole_tubelets(num_frames: int, tubelet_size: int, alpha: float) -> None:
    selection = FrameSelectionConfig(enabled=True, alpha=alpha)
    base = config()
    chosen = base.model_copy(
        update={
            "clip": ClipConfig(num_frames=num_frames),
            "model": ModelConfig(tubelet_size=tubelet_size),
            "frame_selection": selection,
        }
    )
    expected = num_candidate_pairs(num_frames // tubelet_size, selection) * tubelet_size
    assert num_sampled_frames(chosen) == expected
    assert num_sampled_frames(base) == 4


def test_frame_selection_reads_the_candidates() -> None:
    selecting = config().model_copy(update={"frame_selection": FrameSelectionConfig(enabled=True, alpha=1.5)})
    assert batches(build_train_loader(few(8), selecting))[0].frames.shape == (4, 3, 6, 32, 32)


def test_evaluation_goes_on_by_itself_where_shared_memory_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clip, views = ClipConfig(num_frames=4, height=32, width=32), EvaluationConfig(num_segments=2, num_crops=1)
    expected = list(build_view_loader(few(6), clip, views, num_workers=0))
    made = []

    def new_shared(num_bytes: int) -> torch.Tensor:
        made.append(num_bytes)
        if len(made) > 1:  # in each worker: its second item does not fit
            raise NoSharedMemoryError("no shared memory is left")
        return torch.empty(num_bytes, dtype=torch.uint8).share_memory_()

    monkeypatch.setattr(handover, "new_shared", new_shared)
    loader = build_view_loader(few(6), clip, views, num_workers=1)
    for _ in range(2):
        found = list(loader)
        assert [v.record_index for v in found] == list(range(6))
        assert all(torch.equal(a.frames, b.frames) for a, b in zip(found, expected, strict=True))
    assert caplog.text.count("--shm-size") == 1
    assert "data.batch_size" not in caplog.text  # a setting that evaluation does not have


def test_workers_are_counted_by_spare_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for num_cores, expected in ((1, 1), (2, 1), (6, 5), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=num_cores: set(range(n)), raising=False)
        assert resolve_num_workers(-1) == expected
    assert resolve_num_workers(3) == 3
    assert get_worker_info() is None
