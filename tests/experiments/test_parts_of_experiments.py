"""What experiments are made of: windows that move, still footage, shares of change, lists, arms."""

import csv
import json
import math
import sys
import tempfile
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from everest.errors import ConfigError, DataError
from everest.tokens import TokenGrid

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import a_pretraining
import b_keep_ratio
import c_frames
import d_scores
import e_camera
import f_adaptive
import tuning
from c_frames import after_cut, is_inside
from command import chosen_arms, only, parser_of
from e_camera import foreground, shows_foreground
from f_adaptive import coverage_for
from fewer_labels import labelled, shorten
from lists import Bench, contents, digest_of, num_tuning_clips, sampling, schedule, tuning_schedule
from moving_camera import look_through, pan, shake
from profiles import PROFILES, Profile
from simple import differences, rhythm
from still_parts import MOST_MOTION, put_among, quiet_parts
from time_tasks import scene_in
from trials import TIMES, UNTRAINED, Arm, as_settings, losses_of, num_clips_of, trials

from everest.api import finetune_config, pretrain_config
from everest.tokens.others.adaptive import count_by_coverage
from everest.video.encode import encode_video

EXPERIMENTS = (a_pretraining, b_keep_ratio, c_frames, d_scores, e_camera, f_adaptive)

GRID = TokenGrid.of_clip(num_frames=4, height=16, width=16, tubelet_size=2, patch_size=8)


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_window_that_moves_by_whole_pixels_cuts_pixels_out() -> None:
    frames = noise(3, 20, 30, 3)
    places = torch.tensor([[0, 0], [1, -2], [-2, 5]], dtype=torch.float32)
    seen = look_through(frames, places, side=10)
    for frame, window, (down, right) in zip(frames, seen, places.int().tolist(), strict=True):
        torch.testing.assert_close(
            window, frame[5 + down : 15 + down, 10 + right : 20 + right].float(), rtol=0, atol=0.01
        )


def test_a_window_stops_at_the_border() -> None:
    frames = noise(1, 20, 20, 3)
    torch.testing.assert_close(
        look_through(frames, torch.tensor([[99.0, -99.0]]), side=10)[0], frames[0, 10:, :10].float(), rtol=0, atol=0.01
    )


def test_a_pan_is_even_and_a_shake_is_not() -> None:
    places = pan(2.0, seed=3)
    steps = places[1:] - places[:-1]
    torch.testing.assert_close(steps.norm(dim=1), torch.full((7,), 2.0))
    torch.testing.assert_close(steps, steps[:1].expand(7, 2))
    assert not pan(0.0, seed=3).any()
    assert (shake(1.0, 3)[1:] - shake(1.0, 3)[:-1]).norm(dim=1).std() > 0.1
    assert not torch.equal(pan(2.0, 3), pan(2.0, 4))


def test_still_footage_is_found_between_what_moves() -> None:
    frames = noise(50, 6, 6, 3)
    frames[20:40] = frames[20]
    found = quiet_parts(frames)
    assert [still.motion for still in found] == [0.0]
    assert torch.equal(found[0].frames, frames[20:36])
    assert found[0].motion < MOST_MOTION
    large = F.interpolate(frames[20:36].permute(0, 3, 1, 2) // 2, scale_factor=60).permute(0, 2, 3, 1)  # 360 x 360
    speckled = large + torch.randint(3, large.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert (speckled[1:].float() - speckled[:-1].float()).abs().mean() > MOST_MOTION  # seen small it evens out
    assert [torch.equal(still.frames, speckled) for still in quiet_parts(speckled)] == [True]


def test_a_clip_is_put_among_still_frames_as_it_is() -> None:
    action, still = noise(8, 12, 10, 3), noise(16, 24, 20, 3)
    for place in (0, 5, 16):
        video = put_among(action, still, place)
        assert video.shape == (24, 12, 10, 3)
        assert torch.equal(video[place : place + 8], action)


def test_pairs_after_a_cut_are_told_from_others() -> None:
    assert [is_inside(frame, 3) for frame in (2, 3, 10, 11)] == [False, True, True, False]
    pairs = [(0, 1), (2, 3), (4, 5), (6, 9), (10, 12), (13, 14), (15, 20)]
    assert after_cut(pairs, 3) == [False, True, True, False, True, True, False]
    assert after_cut(pairs, 0) == [False, False, False, True, True, False, False]
    assert after_cut([(0, 1), (2, 3)], 16) == [False, False]


def test_tokens_that_show_what_changes_are_foreground() -> None:
    frames = torch.zeros(4, 16, 16, 3, dtype=torch.uint8)
    frames[2:, 0:8, 8:16] = 200  # the upper right quarter changes from the first slot to the second
    shown = shows_foreground(foreground(frames, step=2), GRID)
    assert shown.tolist() == [False, True, False, False] * 2


def test_coverage_keeps_as_many_tokens_on_average_as_asked_for() -> None:
    scores = torch.rand(50, 200, generator=torch.Generator().manual_seed(0)) ** 4
    for ratio in (0.2, 0.4, 0.6):
        kept = count_by_coverage(scores, coverage_for(scores, ratio), 10, 200).float().mean() / 200
        assert kept == pytest.approx(ratio, abs=0.01)


def write(path: Path, rows: list[tuple[str, ...]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_epochs_follow_from_the_clips_for_training(tmp_path: Path) -> None:
    rows = [("path", "split"), *((f"{n}.mp4", "train" if n < 20 else "test") for n in range(30))]
    manifest = write(tmp_path / "manifest.csv", rows)
    assert schedule(manifest, 1000)["optim.epochs"] == 50
    assert schedule(manifest, 1000, most_epochs=7) == {"optim.epochs": 7, "optim.warmup_epochs": 0.7}
    assert schedule(manifest, 1)["optim.epochs"] == 1
    with pytest.raises(DataError, match="no clips for training"):
        schedule(write(tmp_path / "none.csv", rows[:1]), 1000)


@cache
def clip_bytes(num_frames: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for _ in encode_video([torch.zeros(num_frames, 16, 16, 3, dtype=torch.uint8)], path, Fraction(8)):
            pass
        return path.read_bytes()


def put_clip(path: Path, num_frames: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(clip_bytes(num_frames))


def a_bench(folder: Path, *chosen: str) -> Bench:
    rows = [
        ("1x/003-0.mp4", "1x", "test", "a"),
        ("2x/003-0.mp4", "2x", "test", "a"),
        ("1x/004-0.mp4", "1x", "train", "b"),
    ]
    for task, place in (("speed", "tasks"), ("speed", "controls"), ("falls", "tasks")):
        manifest = write(folder / place / task / "manifest.csv", [("path", "label", "split", "group"), *rows])
        for path, *_ in rows:
            put_clip(manifest.parent / path)
    write(folder / "footage" / "manifest.csv", [("path", "split")])
    return Bench(folder, folder / "out", PROFILES["quick"], chosen=chosen)


def test_results_know_what_they_were_made_of_and_which_clips_belong_together(tmp_path: Path) -> None:
    bench = a_bench(tmp_path)
    (trial,) = trials(bench, [Arm("none", None, {"all": {}}, probed=())], [0], ["speed"])
    path = bench.results / "groups" / f"{trial['made_of']}.json"
    assert json.loads(path.read_text()) == ["a", "a"]
    path = tmp_path / "tasks" / "speed" / "1x" / "003-0.mp4"
    path.write_bytes(path.read_bytes() + b"\0" * 8)  # another machine's coder may take other bytes for the same frames
    (same,) = trials(bench, [Arm("none", None, {"all": {}}, probed=())], [0], ["speed"])
    assert same["made_of"] == trial["made_of"]
    assert contents(bench.manifest("speed")) != contents(bench.manifest("speed-control"))  # of the same text
    put_clip(path, num_frames=3)  # another clip of the same name
    (changed,) = trials(bench, [Arm("none", None, {"all": {}}, probed=())], [0], ["speed"])
    assert changed["made_of"] != trial["made_of"]
    (other,) = trials(bench, [Arm("none", None, {"all": {"optim.base_lr": 1}}, probed=())], [0], ["speed"])
    assert (other["made_of"], other["settings"] == trial["settings"]) == (changed["made_of"], False)


def test_tasks_are_chosen_by_name(tmp_path: Path) -> None:
    assert a_bench(tmp_path).tasks() == ("falls", "speed")
    control = a_bench(tmp_path, "speed-control", "falls")
    assert control.tasks() == ("speed-control", "falls")
    assert control.manifest("speed-control") == tmp_path / "controls" / "speed" / "manifest.csv"
    with pytest.raises(DataError, match="no task walks; there are falls, speed"):
        a_bench(tmp_path, "walks").tasks()


def test_learning_rates_are_chosen_on_training_clips_alone(tmp_path: Path) -> None:
    bench = a_bench(tmp_path / "data", "speed")
    rows = [(f"1x/{n:03}-0.mp4", "1x", "test" if n < 10 else "train", f"scene {n // 2}") for n in range(100)]
    manifest = write(bench.manifest("speed"), [("path", "label", "split", "group"), *rows])
    for path, *_ in rows:
        put_clip(manifest.parent / path)
    held_out = tuning.hold_out(bench, tmp_path / "out" / "held-out")
    with held_out.manifest("speed").open() as file:
        found = list(csv.DictReader(file))
    assert [(held_out.manifest("speed").parent / row["path"]).resolve() for row in found] == [
        manifest.parent / path for path, _, split, _ in rows if split == "train"
    ]
    by_split = {split: {row["group"] for row in found if row["split"] == split} for split in ("train", "test")}
    assert not by_split["train"] & by_split["test"]
    assert 3 <= len(by_split["test"]) <= 18
    known = [trial["made_of"] for trial in tuning.trials(held_out)]
    chosen = replace(held_out, profile=replace(held_out.profile, finetuning_rates={"fresh": 1.0}))
    assert [trial["made_of"] for trial in tuning.trials(chosen)] == known


def test_where_time_is_short_every_arm_has_the_same_choice_of_learning_rates(tmp_path: Path) -> None:
    bench = a_bench(tmp_path, "speed")
    write(bench.manifest("speed"), [("path", "label", "split", "group")])
    trials = list(tuning.trials(bench))
    short = [trial for trial in trials if trial["stage"] == tuning.SHORT]
    rates = {arm: [trial["rate"] for trial in short if trial["arm"] == arm] for arm in ("none", *tuning.PRETRAINING)}
    assert len(short) == len(rates) * len(tuning.SHORT_SEEDS) * len(tuning.FINETUNING_RATES)
    assert all(its == rates["none"] for its in rates.values())
    other = replace(bench, profile=replace(bench.profile, pretraining_rates={"rero": 1.0}))
    again = list(tuning.trials(other))  # these begin with what was pre-trained at the rate chosen, the others do not
    assert [one["made_of"] == two["made_of"] for one, two in zip(trials, again, strict=True)] == [
        trial["stage"] != tuning.SHORT for trial in trials
    ]
    words = ["--data", "d", "--out", "o", "--seeds", "1", "--arms", "none", "--hows", tuning.SHORT]
    given = parser_of(None).parse_args(words)
    asked = [trial for trial in trials if tuning.is_chosen(trial, given)]
    assert asked == [trial for trial in short if (trial["arm"], trial["seed"]) == ("none", 1)]


def test_a_fifth_of_every_class_is_labelled_scene_by_scene() -> None:
    rows = [{"group": f"scene {n // 3}", "label": f"{n % 3}"} for n in range(90)]
    scenes = labelled(rows)
    assert len(scenes) == 6
    assert labelled([*reversed(rows)]) == scenes
    assert scenes < labelled(rows, share=2)
    large = [{"group": "scene 0", "label": "0"}, *({"group": "scene 1", "label": "1"} for _ in range(9))]
    with pytest.raises(DataError, match="no scene is small enough for a 5th of 0, 1"):
        labelled(large)


def test_few_labels_are_trained_on_for_as_many_steps(tmp_path: Path) -> None:
    bench = a_bench(tmp_path, "speed-few")
    rows = [(f"1x/{n:03}-0.mp4", "1x", "test" if n < 10 else "train", f"scene {n}") for n in range(110)]
    whole = write(bench.manifest("speed"), [("path", "label", "split", "group"), *rows])
    assert shorten(tmp_path, "speed") == {"train": 20, "test": 10}
    assert bench.tasks() == ("speed-few",)
    assert sampling("speed-few") == sampling("speed")
    with bench.manifest("speed-few").open() as file:
        found = list(csv.DictReader(file))
    paths = [(bench.manifest("speed-few").parent / row["path"]).resolve() for row in found]
    assert set(paths) < {whole.parent / path for path, *_ in rows}
    assert paths[:10] == [whole.parent / path for path, *_ in rows[:10]]
    bench = replace(bench, profile=replace(bench.profile, finetune_clips=100_000, finetune_epochs=30))
    assert tuning_schedule(bench, "speed")["optim.epochs"] == 30
    assert num_tuning_clips(bench, "speed") == 30 * 96  # six whole batches of 16 in 100 clips
    assert tuning_schedule(bench, "speed-few")["optim.epochs"] == 180  # one batch in 20 clips
    assert num_tuning_clips(bench, "speed-few") == num_tuning_clips(bench, "speed")
    assert tuning_schedule(bench, "speed-few", 0.2)["optim.epochs"] == 36
    with pytest.raises(DataError, match="is there already"):
        shorten(tmp_path, "speed")


def test_rates_are_those_that_were_chosen_for_an_arm() -> None:
    profile = Profile("some", {}, 1, 1, 1, {"a": 1}, {"b": 2}, {"tube": 0.5}, {"fresh": 0.25})
    assert profile.pretraining_of({"selection.method": "tube"}) == {"a": 1, "optim.base_lr": 0.5}
    assert profile.pretraining_of({"selection.method": "rero"}) == {"a": 1}
    assert profile.finetuning_of(fresh=True) == {"b": 2, "optim.base_lr": 0.25}
    assert profile.finetuning_of(fresh=False) == {"b": 2}


def test_an_arm_may_be_made_of_some_seeds_only(tmp_path: Path) -> None:
    arms = [Arm("all", None, {"all": {}}, probed=()), Arm("few", None, {"all": {}}, probed=(), num_seeds=1)]
    made = [(trial["arm"], trial["seed"]) for trial in trials(a_bench(tmp_path), arms, [0, 1], ["speed"])]
    assert made == [("all", 0), ("few", 0), ("all", 1)]


def test_how_change_is_spread_over_a_clip_says_nothing_of_its_amount() -> None:
    frames = noise(1, 4, 6, 3).expand(8, -1, -1, -1)
    assert rhythm(frames) == pytest.approx([0.0] * 15, abs=1e-5)
    even = (torch.arange(8)[:, None, None, None] * torch.ones(8, 4, 6, 3)).to(torch.uint8)
    assert rhythm(even) == pytest.approx(rhythm(even * 5), abs=1e-6)
    moving = noise(8, 4, 6, 3) // 4
    assert rhythm(moving) == pytest.approx(rhythm(moving * 4), abs=0.01)
    uneven = even.clone()
    uneven[4:] += 3
    assert max(rhythm(uneven)[:7]) == rhythm(uneven)[3] > 0.5


def test_scenes_are_read_from_names_of_known_data_sets() -> None:
    assert scene_in("v_ApplyEyeMakeup_g01_c01.avi") == scene_in("v_ApplyEyeMakeup_g01_c02.avi")
    assert scene_in("v_ApplyEyeMakeup_g01_c01.avi") != scene_in("v_ApplyEyeMakeup_g02_c01.avi")
    assert scene_in("RATRACE_wave_f_nm_np1_fr_goo_37.avi") == "RATRACE"
    assert scene_in("my holiday.mp4") == "my holiday.mp4"


def test_arms_are_fine_tuned_and_probed() -> None:
    assert Arm("some", {}, {"all": {}}).hows == ("all", "frozen", "frozen, 60 %")
    assert Arm("some", {}, {"all": {}}, probed=()).hows == ("all",)
    some, other = Arm("some", {}), Arm("other", {})
    assert chosen_arms([some, other], None) == [some, other]
    assert chosen_arms([some, other], ["other"]) == [other]
    with pytest.raises(ConfigError, match="no arm third; there are some, other"):
        chosen_arms([some, other], ["third"])


def test_a_part_of_what_is_measured_can_be_asked_for() -> None:
    some, none = Arm("some", {}, {"all": {}, "half": {"a": 1}}), Arm("none", None, probed=("frozen",))
    assert only([some, none], None) == [some, none]
    parts = only([some, none], ["half", "frozen"])
    assert [part.hows for part in parts] == [("half", "frozen"), ("frozen",)]
    assert parts[0].tunings["half"] == {"a": 1}
    with pytest.raises(ConfigError, match="no way quarter to measure these arms; there are all, half, frozen, "):
        only([some, none], ["quarter"])


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.__name__)
def test_every_arm_has_settings_that_fit(experiment: ModuleType, profile: Profile) -> None:
    times = {"optim.epochs": 10, "optim.warmup_epochs": 1}
    for arm in experiment.ARMS:
        for given in [] if arm.pretraining is None else [arm.pretraining, UNTRAINED]:
            settings = {key: value for key, value in given.items() if key != TIMES}
            words = as_settings(profile.clip, profile.pretraining_of(settings), times, settings)
            assert pretrain_config("demo", words).model.size == profile.clip["model.size"]
        for given in arm.tunings.values():
            settings = {} if callable(given) else {key: value for key, value in given.items() if key != TIMES}
            words = as_settings(profile.clip, sampling("speed"), profile.finetuning_of(fresh=True), times, settings)
            assert finetune_config("demo", words).clip.num_frames == profile.clip["clip.num_frames"]


def test_equal_time_is_as_many_clips_as_it_is_enough_for(tmp_path: Path) -> None:
    tube, rero = {"selection.method": "tube"}, {"selection.method": "rero"}
    bench = replace(a_bench(tmp_path), equal="time")
    bench.out.mkdir()
    names = [
        digest_of(contents(bench.footage), bench.profile, sorted(as_settings(settings))) for settings in (tube, rero)
    ]
    (bench.out / "rates-quick.json").write_text(json.dumps(dict(zip(names, (50.0, 125.0), strict=True))))
    assert num_clips_of(bench, tube, tube) == 200
    assert num_clips_of(bench, rero, tube) == 500
    assert num_clips_of(replace(bench, minutes=2.0), rero, tube) == 15000
    assert num_clips_of(replace(bench, equal="steps"), rero, tube) == 200
    with pytest.raises(ConfigError, match="no arm whose time others are given"):
        num_clips_of(bench, rero, None)


def test_the_course_of_a_loss_is_means_of_equal_parts(tmp_path: Path) -> None:
    rows = [*({"step": step, "loss": float(step // 3)} for step in range(60)), {"step": 60, "top1": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert losses_of(tmp_path) == [float(part) for part in range(20)]
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    assert losses_of(tmp_path) == [2.0, 1.0]


def test_differences_of_frames_know_no_picture() -> None:
    frames = noise(1, 4, 6, 3).expand(8, -1, -1, -1)
    assert differences(frames) == [0.0] * 28
    brighter = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 4, 6, 3)
    assert differences(brighter)[:7] == pytest.approx([math.log1p(step) for step in range(1, 8)])


def test_another_rule_makes_results_anew(tmp_path: Path) -> None:
    def of(tuning: object) -> str:
        arm = Arm("none", None, {"as long": tuning}, probed=())  # type: ignore[dict-item]
        return str(next(trials(a_bench(tmp_path), [arm], [0], ["speed"]))["settings"])

    rules = [of(a_pretraining.AsLong()), of(a_pretraining.AsLong("another rule")), of(lambda *_: {})]
    assert len({*rules}) == 3
    assert rules[0] == of(a_pretraining.AsLong())


def test_fresh_networks_are_trained_as_long_as_others_altogether(tmp_path: Path) -> None:
    bench = a_bench(tmp_path)
    bench = replace(bench, profile=replace(bench.profile, pretrain_clips=1000, finetune_epochs=10, finetune_clips=999))
    bench.out.mkdir()
    names = {
        digest_of(contents(bench.footage), bench.profile, sorted(as_settings(a_pretraining.EVEREST))): 50.0,
        digest_of(contents(bench.manifest("speed")), bench.profile, sorted(as_settings(a_pretraining.SIXTY))): 80.0,
    }
    (bench.out / "rates-quick.json").write_text(json.dumps(names))
    found = a_pretraining.AsLong()(bench, "speed", None)
    assert found[TIMES] == 1 + 20 * 80 / 160  # 20 seconds of pre-training; ten epochs of one batch of 16
