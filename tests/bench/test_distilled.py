"""Distillation is measured with its teachers."""

import json

import pytest
import torch

from everest.bench.described import describe_task
from everest.bench.distilled import bench_objective, count_teachers, size_of_teachers
from everest.bench.macs import count_macs, format_macs
from everest.bench.profile import profile_step
from everest.bench.step import bench_step, format_step
from everest.bench.tasks import build_step
from everest.cli import main
from everest.errors import ConfigError
from everest.models import DistillationStudent, grid_of
from everest.objectives import DistillationObjective

SHAPE = {"num_frames": 8, "height": 64, "width": 64}
TOKENS = {"video": (64, 1536, 1), "image": (16, 768, 4)}  # of a pass, pixels of each, passes for a clip


def vit_macs(kind: str, width: int, depth: int) -> float:
    """Multiply-adds of a ViT, written out: embedding, projections and MLP, and two products of attention."""
    tokens, pixels, passes = TOKENS[kind]
    return passes * tokens * (pixels * width + depth * (12 * width**2 + 2 * tokens * width)) / 1e9


@pytest.mark.parametrize(("teacher", "width", "depth"), [("tiny", 192, 6), ("small", 384, 12)])
def test_teachers_are_counted_with_all_tokens(teacher: str, width: int, depth: int) -> None:
    counted = count_macs("tiny", "pretrain", "tube", objective="mvd", teacher=teacher, **SHAPE)
    parts = counted["gmacs_by_part"]
    assert parts["teachers"] == pytest.approx(vit_macs("video", width, depth) + vit_macs("image", width, depth))
    assert counted["gmacs"] == pytest.approx(sum(parts.values()))
    assert parts["head"] == pytest.approx(counted["tokens"]["target"] * 192 * 2 * width / 1e9)
    visible, kept = counted["tokens"]["visible"], sum(counted["tokens"][name] for name in ("visible", "target"))
    blocks = 2 * 2 * kept * (12 * 192**2 + 2 * kept * 192)
    blocks -= 2 * visible * (9 * 192**2 + 2 * kept * 192)  # in the last one nothing comes of those
    assert parts["decoder"] == pytest.approx((blocks + 2 * visible * 192**2) / 1e9)
    twice = counted["gmacs"] - parts["teachers"] - parts["embedding"]
    by_weights = visible * 1536 * 192 / 1e9
    assert counted["gmacs_training"] == pytest.approx(parts["teachers"] + parts["embedding"] + by_weights + 3 * twice)


def test_mvd_is_the_slowest_and_everest_the_fastest() -> None:
    """The order of the paper's table; the paper counts neither teachers."""
    everest, videomae = (count_macs("base", "pretrain", method)["gmacs_training"] for method in ("rero", "tube"))
    mvd, ours = (count_macs("base", "pretrain", m, objective="mvd")["gmacs_training"] for m in ("tube", "rero"))
    assert everest < videomae < ours < mvd


def test_a_step_trains_the_student_only() -> None:
    info = describe_task("tiny", "pretrain", "tube", objective="mvd", teacher="small", **SHAPE)
    step = build_step(info, 2, device="cpu")
    assert isinstance(step.model, DistillationStudent)
    assert size_of_teachers(info.objective) == "small"
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    losses = [step.run() for _ in range(6)]
    assert min(losses[-2:]) < losses[0]
    assert all(not torch.equal(old, new) for old, new in zip(before, step.model.parameters(), strict=True))


def test_the_teachers_are_of_the_size_that_was_asked_for() -> None:
    info = describe_task("tiny", "pretrain", "tube", objective="mvd", **SHAPE)
    objective = bench_objective(info, grid_of(info.model, info.clip), torch.device("cpu"))
    assert isinstance(objective, DistillationObjective)
    assert [(teacher.kind, teacher.width) for teacher in objective.teachers] == [("image", 192), ("video", 192)]
    image, video = (teacher.state_dict() for teacher in objective.teachers)
    assert image["network.encoder.patch_embed.proj.weight"].shape[2] == 1  # an image model
    assert video["network.encoder.patch_embed.proj.weight"].shape[2] == 2
    assert count_teachers(info) > 0


def test_a_measurement_and_a_profile_say_what_they_are_of(capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"size": "tiny", "selection": "tube", "objective": "mvd", "num_frames": 4, "height": 32, "width": 32}
    values = bench_step(batch=1, device="cpu", precision="float32", steps=1, **asked)
    assert json.loads(json.dumps(values)) == values
    assert (values["objective"], values["teacher"]) == ("mvd", "tiny")
    assert "tiny pretrain, tube, mvd with tiny teachers" in format_step(values)
    macs = count_macs(asked.pop("size"), "pretrain", **asked)
    assert "tube, mvd with tiny teachers" in format_macs(macs)
    assert values["step_gflop"] == pytest.approx(2 * macs["gmacs_training"])
    asked.pop("selection")
    step = build_step(describe_task("tiny", "pretrain", "tube", **asked), 1, device="cpu", precision="float32")
    stages = {row["name"]: row for row in profile_step(step, steps=1)["stages"]}
    assert stages["targets"]["gflop"] == pytest.approx(2 * macs["gmacs_by_part"]["teachers"])
    capsys.readouterr()
    assert main(["bench", "macs", "--size", "tiny", "--selection", "tube", "--objective", "mvd", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gmacs_by_part"]["teachers"] > 0


@pytest.mark.parametrize("peer", ["plain", "transformers", "module:function"])
def test_a_peer_does_not_distil(peer: str) -> None:
    info = describe_task("tiny", "pretrain", "tube", objective="mvd", **SHAPE)
    with pytest.raises(ConfigError, match=f"the {peer} peer predicts pixels, not mvd"):
        build_step(info, 1, device="cpu", peer=peer)
    with pytest.raises(ConfigError, match="peer predicts pixels"):
        count_macs("tiny", "pretrain", "tube", objective="mvd", peer=peer)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match="objective mvd is one of pre-training"):
        describe_task("tiny", "finetune", "all", objective="mvd")
    with pytest.raises(ConfigError, match="unknown objective 'best'"):
        describe_task("tiny", "pretrain", "tube", objective="best")
    with pytest.raises(ConfigError, match="unknown teacher 'Base'"):
        describe_task("tiny", "pretrain", "tube", objective="mvd", teacher="Base")
