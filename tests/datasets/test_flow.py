"""From videos of known motion to the trajectories of a batch: computing flow, keeping it, reading it."""

import json
import os
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from everest.cli import main
from everest.config import (
    AugmentConfig,
    ClipConfig,
    DataConfig,
    FinetuneConfig,
    FrameSelectionConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    PretrainConfig,
    RunConfig,
    SelectionConfig,
)
from everest.datasets import Batch, ClipRecord, Manifest, build_train_loader, compute_flow, default_flow, load_data
from everest.datasets import flow as flow_module
from everest.datasets.clips import make_generator
from everest.datasets.flow_files import flow_name, read_header, read_steps
from everest.datasets.pack import pack_manifest
from everest.errors import ConfigError, DataError
from everest.settings import override
from everest.video import open_video
from everest.video.augment import draw_box
from everest.video.encode import encode_video
from everest.video.trajectories import NUM_STEPS

RIGHT, DOWN = 1.5, -0.75  # pixels that the made videos move by from frame to frame


def write_moving(path: Path, *, right: float = RIGHT, down: float = DOWN, num_frames: int = 24) -> None:
    """Write a video of 128 x 160 whose texture moves evenly."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:128, :160].astype(np.float64)
    waves = [(random.uniform(-0.6, 0.6), random.uniform(-0.6, 0.6), random.uniform(0, 6.3)) for _ in range(30)]
    frames = [sum(np.sin(a * (x - t * right) + b * (y - t * down) + c) for a, b, c in waves) for t in range(num_frames)]
    grey = (np.stack(frames) * 15 + 128).clip(0, 255).round().astype(np.uint8)
    chunk = torch.from_numpy(np.repeat(grey[..., None], 3, axis=-1))
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in encode_video([chunk], path, Fraction(24), crf=4):
        pass


@pytest.fixture
def moving(tmp_path: Path) -> Manifest:
    """A list of two videos, one of them twice: as a whole and a span of it."""
    write_moving(tmp_path / "videos" / "a.mp4")
    write_moving(tmp_path / "videos" / "b.mp4", right=0.0, down=0.0)
    rows = "path,start,end\nvideos/a.mp4,,\nvideos/a.mp4,0.25,0.75\nvideos/b.mp4,,\n"
    (tmp_path / "list.csv").write_text(rows)
    return load_data(tmp_path / "list.csv")


def config(*settings: str, **data: object) -> PretrainConfig:
    base = PretrainConfig(
        model=ModelConfig(size="tiny"),
        clip=ClipConfig(num_frames=4, height=64, width=64, stride=3),
        selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
        objective=ObjectiveConfig(name="mme"),
        augment=AugmentConfig(flip=True),
        data=DataConfig(**{"batch_size": 2, "num_workers": 0, **data}),
        optim=OptimConfig(global_batch_size=2),
        run=RunConfig(seed=1, device="cpu"),
    )
    return override(base, settings)


def one(manifest: Manifest, number: int) -> Manifest:
    return replace(manifest, records=(manifest.records[number],))


def batches(manifest: Manifest, config: PretrainConfig, epochs: int = 1) -> list[Batch]:
    loader = build_train_loader(manifest, config)
    return [batch for epoch in range(epochs) for batch in loader.epoch(epoch)]


def equal(a: Tensor | None, b: Tensor | None) -> bool:
    assert a is not None
    assert b is not None
    return torch.equal(a.nan_to_num(-99.0), b.nan_to_num(-99.0))


def boxes_of(config: PretrainConfig, epoch: int, num_clips: int) -> list[tuple[float, float]]:
    """Draw the boxes of the clips of a batch again: how many pixels of the clip a pixel of the video is."""
    frames = torch.empty(3, 1, 128, 160, dtype=torch.uint8)
    scales = []
    for position in range(num_clips):
        generator = make_generator(config.run.seed, epoch, position, 0)
        torch.rand((), generator=generator, dtype=torch.float64)  # the start
        box = draw_box(frames, config.augment, 64, 64, generator)
        scales.append(((-1 if box.is_flipped else 1) * 64 / box.width, 64 / box.height))
    return scales


def test_trajectories_follow_the_motion_through_crop_resize_and_flip(moving: Manifest) -> None:
    compute_flow(moving, num_workers=0)
    seen = set()
    settings = config()
    for epoch, batch in enumerate(batches(one(moving, 0), settings, epochs=4)):
        assert batch.motion is not None
        assert batch.motion.dtype == torch.float16
        assert batch.motion.shape == (2, 2 * 4 * 4, 32)
        for motion, (across, along) in zip(batch.motion, boxes_of(settings, epoch, 2), strict=True):
            steps = motion.float().reshape(-1, 2)
            found = steps[steps.isfinite().all(dim=1)]
            assert len(found) > 0.6 * len(steps)
            assert float(found[:, 0].median()) == pytest.approx(RIGHT * across, abs=0.12)
            assert float(found[:, 1].median()) == pytest.approx(DOWN * along, abs=0.12)
            seen.add((across > 0, round(abs(across), 3)))
    assert {mirrored for mirrored, _ in seen} == {True, False}
    assert len({scale for _, scale in seen}) > 1


def test_motion_is_found_where_and_when_it_is_seen(tmp_path: Path) -> None:
    """The right half of the frames moves down, from frame 12 on."""
    write_moving(tmp_path / "a.mp4", right=0.0, down=2.0)
    with open_video(tmp_path / "a.mp4") as reader:
        frames = reader.read(range(24)).frames
    still = frames[:1].expand(24, -1, -1, -1).clone()
    still[12:, :, 80:] = frames[:12, :, 80:]  # frame 12 looks like frame 11
    for _ in encode_video([still], tmp_path / "a.mp4", Fraction(24), crf=4):
        pass
    (tmp_path / "list.csv").write_text("path\na.mp4\n")
    manifest = load_data(tmp_path / "list.csv")
    compute_flow(manifest, num_workers=0)
    settings = config("clip.num_frames=16", "clip.stride=1", "augment.crop=center")
    mirrored = set()
    for epoch, batch in enumerate(batches(manifest, settings, epochs=3)):
        for position in range(2):
            generator = make_generator(1, epoch, position, 0)
            start = int(float(torch.rand((), generator=generator, dtype=torch.float64)) * 9)
            box = draw_box(torch.empty(3, 1, 128, 160, dtype=torch.uint8), settings.augment, 64, 64, generator)
            mirrored.add(box.is_flipped)
            assert batch.motion is not None
            motion = batch.motion[position].reshape(8, 4, 4, 2, 2, 4, 2).transpose(2, 3)  # [S, R, r, C, c, K, 2]
            down = motion.reshape(8, 8, 8, 4, 2)[:, 1:6, :, :, 1].nanmedian(dim=1).values  # [S, cell columns, K]
            moving = down.flip(1) if box.is_flipped else down  # columns of the video
            for slot in range(8):
                for k in range(4):
                    frame = start + 2 * slot + k
                    if frame >= 23:
                        assert bool(moving[slot, :, k].isnan().all())
                        continue
                    assert bool((moving[slot, :3, k].abs() < 0.1).all()), (start, slot, k)
                    expected = 2.0 * 64 / 128 if frame >= 12 else 0.0
                    found = moving[slot, 5:, k]
                    assert bool(((found - expected).abs() < 0.15).all()), (start, slot, k, found)
    assert mirrored == {True, False}


def test_a_still_video_has_trajectories_of_zero(moving: Manifest) -> None:
    compute_flow(moving, num_workers=0)
    motion = batches(one(moving, 2), config("clip.stride=1"))[0].motion
    assert motion is not None
    assert not bool(motion.nan_to_num(0.0).any())
    assert bool((motion == 0).any())


def test_steps_end_with_the_video_and_with_the_span(moving: Manifest) -> None:
    compute_flow(moving, num_workers=0)
    names = [default_flow(moving) / flow_name(record, moving.root) for record in moving.records]
    for name, num_frames in zip(names, (24, 12, 24), strict=True):
        firsts = [0, num_frames - 3]
        _, flow, trusted = read_steps(name, firsts, NUM_STEPS)
        assert flow.shape == (2, 4, 2, 32, 40)
        assert trusted.any(dim=(2, 3)).tolist() == [[True] * 4, [True, True, False, False]]
    whole, span = (read_steps(name, [first], NUM_STEPS)[1] for name, first in ((names[0], 6), (names[1], 0)))
    assert torch.equal(whole, span)  # the span begins with frame 6


def test_every_pair_of_frames_is_read_where_a_worker_reads_long_videos_in_parts(
    moving: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_once = compute_flow(one(moving, 0), tmp_path / "at once", num_workers=0)
    monkeypatch.setattr("everest.datasets.spans.CHUNK_BYTES", 5 * 3 * 128 * 160)
    in_parts = compute_flow(one(moving, 0), tmp_path / "in parts", num_workers=0)
    assert at_once.num_bytes == in_parts.num_bytes
    name = flow_name(moving.records[0], moving.root)
    first, second = (read_steps(report.folder / name, range(23), 1)[1] for report in (at_once, in_parts))
    assert torch.equal(first, second)


@pytest.mark.parametrize("same_frames", [True, False])
def test_batches_are_the_same_for_any_number_of_workers(moving: Manifest, same_frames: bool) -> None:
    compute_flow(moving, num_workers=0)
    data = {"clips_per_video": 2, "same_frames": same_frames}
    here = batches(moving, config(**data), epochs=2)
    there = batches(moving, config(**data, num_workers=2), epochs=2)
    assert len(here) == len(there) == 6
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.frames, b.frames)
        assert equal(a.motion, b.motion)
    clips = [batch.motion for batch in here if batch.motion is not None]
    assert [len(motion) for motion in clips] == [2] * 6
    assert not all(equal(motion[0], motion[1]) for motion in clips)


def test_clips_of_a_batch_keep_their_trajectories_when_the_next_ones_come(moving: Manifest) -> None:
    compute_flow(moving, num_workers=0)
    taken = batches(moving, config(num_workers=1), epochs=6)
    again = batches(moving, config(), epochs=6)
    assert all(equal(a.motion, b.motion) for a, b in zip(taken, again, strict=True))


def test_frames_from_memory_have_the_same_trajectories_but_for_the_scale(moving: Manifest) -> None:
    compute_flow(moving, num_workers=0)
    plain, cached = (batches(one(moving, 0), config(memory_cache=m), epochs=2) for m in (False, True))
    for a, b in zip(plain, cached, strict=True):
        assert a.motion is not None
        assert b.motion is not None
        both = a.motion.isfinite() & b.motion.isfinite()
        assert float((a.motion - b.motion)[both].abs().float().median()) < 0.1


def test_all_sampled_frames_have_trajectories_where_frames_are_chosen_later(moving: Manifest) -> None:
    compute_flow(moving, num_workers=0)
    settings = config().model_copy(update={"frame_selection": FrameSelectionConfig(enabled=True, alpha=2.5)})
    batch = batches(moving, settings)[0]
    assert batch.frames.shape[2] == 10
    assert batch.motion is not None
    assert batch.motion.shape == (2, 5 * 16, 32)


def test_other_objectives_have_no_trajectories_and_ask_for_no_flow(moving: Manifest) -> None:
    (batch,) = batches(moving, config("objective.name=pixels"))
    assert batch.motion is None


def test_the_clips_are_those_of_other_objectives(moving: Manifest) -> None:
    compute_flow(moving, num_workers=0)
    with_motion, without = (batches(moving, config(f"objective.name={name}"), 3) for name in ("mme", "pixels"))
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(with_motion, without, strict=True))


def test_what_is_there_is_not_computed_again(moving: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compute_flow(moving, num_workers=2)
    assert (first.num_clips, first.num_known, first.failures) == (3, 0, ())
    assert first.video_seconds == pytest.approx(2.5)
    assert first.num_bytes == sum(path.stat().st_size for path in first.folder.rglob("*.safetensors"))
    assert first.folder == moving.source.with_name("list.flow")
    (default_flow(moving) / flow_name(moving.records[1], moving.root)).unlink()
    done: list[Path] = []
    compute = flow_module.compute_span
    monkeypatch.setattr(flow_module, "compute_span", lambda task: done.append(task.target) or compute(task))
    skipped: list[int] = []
    second = compute_flow(moving, num_workers=0, on_skip=skipped.append)
    assert [path.stem[:2] for path in done] == [flow_name(moving.records[1], moving.root)[:2]]
    assert (second.num_known, second.num_bytes, skipped) == (2, first.num_bytes, [2])


def test_a_run_that_was_interrupted_goes_on(moving: Manifest) -> None:
    def stop(num_done: int, _: int) -> None:
        if num_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_flow(moving, num_workers=0, on_progress=stop)
    assert compute_flow(moving, num_workers=0).num_known == 2
    assert not list(default_flow(moving).rglob("*.partial"))


def test_a_video_that_has_changed_gets_new_flow(moving: Manifest) -> None:
    compute_flow(moving, num_workers=0)
    write_moving(moving.records[2].path, right=2.0)
    with pytest.raises(DataError, match=r"b.mp4 has changed .* run `everest data flow .*list.csv` again"):
        batches(one(moving, 2), config())
    report = compute_flow(moving, num_workers=0)
    assert (report.num_known, report.num_clips) == (2, 3)
    motion = batches(one(moving, 2), config())[0].motion
    assert motion is not None
    assert bool((motion.abs() > 0.5).any())


def test_a_changed_time_alone_is_a_change(moving: Manifest) -> None:
    compute_flow(moving, num_workers=0)
    path = moving.records[2].path
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert compute_flow(moving, num_workers=0).num_known == 2


def test_missing_flow_is_said_before_training_with_the_command(moving: Manifest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 of 3 clips have no optical flow in .*list.flow.*`everest data flow .*csv`"):
        build_train_loader(moving, config())
    compute_flow(one(moving, 0), tmp_path / "elsewhere", num_workers=0)
    elsewhere = config(f"objective.flow={tmp_path / 'elsewhere'}")
    with pytest.raises(DataError, match=r"2 of 3 clips .* --out .*elsewhere`"):
        build_train_loader(moving, elsewhere)
    assert batches(one(moving, 0), elsewhere)[0].motion is not None


@pytest.mark.parametrize("spoil", [lambda c: c[:-20], lambda c: b"", lambda c: c[:-40] + b"?" * 10 + c[-30:]])
def test_a_damaged_file_is_named(moving: Manifest, spoil) -> None:  # type: ignore[no-untyped-def]
    compute_flow(moving, num_workers=0)
    path = default_flow(moving) / flow_name(moving.records[1], moving.root)
    path.write_bytes(spoil(path.read_bytes()))
    settings = config("clip.stride=1")
    with pytest.raises(DataError, match=f"{path.name}: not a readable file .* delete it and run `everest data flow"):
        batches(one(moving, 1), settings, epochs=8)
    path.unlink()
    compute_flow(moving, num_workers=0)
    assert batches(one(moving, 1), settings)[0].motion is not None


def test_a_file_that_is_cut_off_is_computed_again(moving: Manifest) -> None:
    compute_flow(moving, num_workers=0)
    path = default_flow(moving) / flow_name(moving.records[1], moving.root)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert read_header(path) is None
    assert compute_flow(moving, num_workers=0).num_known == 2
    assert path.read_bytes() == whole


def test_a_broken_video_is_reported_and_replaced_in_training(
    moving: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = moving.root / "videos" / "c.mp4"
    broken.write_bytes(b"no video")
    rows = moving.source.read_text() + "videos/c.mp4,,\n"
    moving.source.write_text(rows)
    assert main(["data", "flow", str(moving.source), "--workers", "0", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [failure["path"] for failure in report["failures"]] == [str(broken)]
    assert report["bytes_per_minute"] == pytest.approx(60 * report["num_bytes"] / report["video_seconds"])
    loader = build_train_loader(load_data(moving.source), config(max_failed_share=0.5))
    seen = [batch for epoch in range(3) for batch in loader.epoch(epoch)]
    assert all(batch.motion is not None for batch in seen)
    assert set(loader.failed) == {str(broken)}
    write_moving(broken)
    assert main(["data", "flow", str(moving.source), "--workers", "0"]) == 0
    assert "4 of 4 clips have optical flow, 3 had it before" in capsys.readouterr().out


def test_packed_clips_have_flow_of_their_own(moving: Manifest, tmp_path: Path) -> None:
    packed = pack_manifest(moving, tmp_path / "packed", num_workers=0).manifest
    with pytest.raises(DataError, match="no optical flow"):
        build_train_loader(packed, config())
    report = compute_flow(packed, num_workers=0)
    assert (report.num_clips, report.failures) == (3, ())
    assert report.folder == tmp_path / "packed" / "manifest.flow"
    motion = batches(one(packed, 0), config())[0].motion
    assert motion is not None
    assert bool((motion.abs() > 0.5).any())


def test_a_clip_that_is_listed_in_two_splits_is_done_once(moving: Manifest) -> None:
    twice = replace(moving, records=(*moving.records, replace(moving.records[0], split="test")))
    assert compute_flow(twice, num_workers=0).num_clips == 3


def test_names_tell_spans_files_and_shards_apart_and_do_not_depend_on_the_place(moving: Manifest) -> None:
    names = {flow_name(record, moving.root) for record in moving.records}
    assert len(names) == 3
    moved = [
        ClipRecord(Path("/else") / "videos" / r.path.name, None, None, r.start_seconds, r.end_seconds)
        for r in moving.records
    ]
    assert {flow_name(record, Path("/else")) for record in moved} == names


def test_flow_is_kept_beside_lists_and_folders(
    moving: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_flow(moving) == tmp_path / "list.flow"
    assert default_flow(load_data(tmp_path / "videos")) == tmp_path / "videos.flow"
    monkeypatch.chdir(tmp_path)
    assert default_flow(load_data("bundled")) == Path("bundled.flow")
    with pytest.raises(DataError, match="run `everest data flow bundled` first"):
        build_train_loader(load_data("bundled"), config())


def test_a_folder_that_cannot_be_written_to_ends_it(moving: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be made .* another folder with --out"):
        compute_flow(moving, tmp_path / "file", num_workers=0)


def test_changes_of_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"objective.name=mme needs augment.rand_augment_ops=0"):
        config("augment.rand_augment_ops=2")
    assert config("objective.name=pixels", "augment.rand_augment_ops=2").augment.rand_augment_ops == 2


def test_fine_tuning_needs_no_flow(moving: Manifest) -> None:
    labelled = replace(moving, records=tuple(replace(r, label=0) for r in moving.records), class_names=("x",))
    values = config().model_dump(exclude={"task", "objective"})
    (batch,) = build_train_loader(labelled, FinetuneConfig.model_validate(values)).epoch(0)
    assert batch.motion is None


def test_a_video_that_does_not_get_on_costs_only_itself(moving: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = flow_module.compute_span

    def slow(task: flow_module.FlowTask):  # type: ignore[no-untyped-def]
        if task.record.path.name == "b.mp4":
            time.sleep(60)
        return (yield from compute(task))

    monkeypatch.setattr(flow_module, "compute_span", slow)
    report = compute_flow(moving, num_workers=2, time_limit_seconds=3.0)
    assert report.failures == ((str(moving.records[2].source), "took longer than 3 s and was stopped"),)
    assert "2 of 3 clips have optical flow" in report.summary()
    assert f"no flow: {moving.records[2].source}: took longer" in report.summary()


def test_a_full_disk_ends_it_at_once(moving: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(task: flow_module.FlowTask) -> None:
        raise DataError(f"{task.target}: the optical flow cannot be written: No space left on device")

    monkeypatch.setattr(flow_module, "compute_span", full)
    with pytest.raises(DataError, match=r"No space left on device: name another folder with --out"):
        compute_flow(moving, num_workers=1)
