import json
import math

import pytest
import torch

from everest.bench import step
from everest.bench.described import describe_task
from everest.bench.hardware import matrix_rate_gflops, peak_memory_bytes
from everest.bench.macs import count_macs
from everest.bench.made_up import moving_clips
from everest.bench.step import bench_step, format_step
from everest.bench.tasks import build_step
from everest.config import ObjectiveConfig
from everest.errors import ConfigError
from everest.models import MotionAutoencoder, build_autoencoder
from everest.tokens import patchify
from everest.video import normalize

TINY = {"num_frames": 4, "height": 32, "width": 32}


@pytest.mark.parametrize("peer", [None, "plain"])
@pytest.mark.parametrize(("task", "selection"), [("pretrain", "rero"), ("pretrain", "tube"), ("finetune", "rero")])
def test_a_step_trains(task: str, selection: str, peer: str | None) -> None:
    info = describe_task("tiny", task, selection, num_frames=8, height=64, width=64, num_classes=3)
    step = build_step(info, 2, device="cpu", peer=peer)
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    losses = [step.run() for _ in range(8)]
    assert min(losses[-3:]) < losses[0]
    assert all(not torch.equal(old, new) for old, new in zip(before, step.model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in step.model.parameters())


@pytest.mark.parametrize("selection", ["rero", "tube"])
def test_a_step_of_masked_motion_encoding_trains(selection: str) -> None:
    info = describe_task("tiny", "pretrain", selection, num_frames=8, height=64, width=64)
    info = info.model_copy(update={"objective": ObjectiveConfig(name="mme")})
    step = build_step(info, 2, device="cpu")
    assert isinstance(step.model, MotionAutoencoder)
    losses = [step.run() for _ in range(8)]
    assert min(losses[-3:]) < losses[0]


def test_a_step_is_the_same_for_the_same_seed() -> None:
    info = describe_task("tiny", "pretrain", "rero", **TINY)
    first, again, other = (build_step(info, 2, device="cpu", seed=seed).run() for seed in (0, 0, 1))
    assert first == again != other


def test_bfloat16_computes_something_else() -> None:
    info = describe_task("tiny", "pretrain", "tube", **TINY)
    single, half = (build_step(info, 1, device="cpu", precision=p) for p in ("float32", "bfloat16"))
    assert (single.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    loss_single, loss_half = single.run(), half.run()
    assert loss_single != loss_half
    assert loss_half == pytest.approx(loss_single, rel=0.05)


def test_clips_have_things_that_move() -> None:
    info = describe_task("tiny", "pretrain", "rero", num_frames=8, height=64, width=64)
    clips = moving_clips(2, info, seed=3)
    assert clips.shape == (2, 3, 8, 64, 64)
    assert torch.equal(clips, moving_clips(2, info, seed=3))
    encoder = build_autoencoder(info.model, info.clip).encoder
    patches = patchify(normalize(clips, info.mean, info.std), encoder.grid)
    scores = encoder.select(patches, info.selection, "pretrain").scores
    assert scores is not None
    assert (scores > 0).all()
    assert (scores.amax(dim=1) > 3 * scores.median(dim=1).values).all()
    assert len(scores[:, 16:].flatten().unique()) == 2 * 48  # nothing is tied after the first slot


def test_a_measurement_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    values = bench_step(size="tiny", batch=2, device="cpu", precision="float32", steps=3, **TINY)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "step 3 of 3" in printed.err
    assert json.loads(json.dumps(values)) == values
    assert 0 < values["seconds_q1"] <= values["seconds_per_step"] <= values["seconds_q3"]
    assert values["clips_per_second"] == pytest.approx(2 / values["seconds_per_step"])
    assert values["peak_memory_gb"] == values["peak_memory_bytes"] / 1e9
    assert values["peak_memory_bytes"] > 4 * 4 * values["num_parameters"]  # weights, gradients, two moments
    assert values["tokens"] == {"total": 8, "visible": 1, "target": 1}
    counted = count_macs("tiny", "pretrain", "rero", **TINY)
    assert values["step_gflop"] == pytest.approx(2 * 2 * counted["gmacs_training"])
    reached = values["step_gflop"] / values["seconds_per_step"]
    assert values["share_of_matrix_rate"] == pytest.approx(reached / values["matrix_rate_gflops"])
    assert 0 < values["share_of_matrix_rate"] < 1
    packages = values["hardware"]["environment"]["packages"]
    assert packages["torch"] is not None
    assert {"transformers", "triton"} < packages.keys()
    text = format_step(values)
    assert f"{values['seconds_per_step']:.3f} s a step" in text
    assert "1 encoded and 1 predicted of 8" in text


def test_cosine_is_measured_exactly_in_bfloat16_too() -> None:
    asked = {"batch": 1, "device": "cpu", "steps": 1, "warmup": 0, "distance": "cosine", "camera": "moving", **TINY}
    values = bench_step(size="tiny", precision="bfloat16", **asked)
    assert (values["distance"], values["camera"], values["precision"]) == ("cosine", "moving", "bfloat16")


def test_steps_that_are_not_waited_for_are_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    info = describe_task("tiny", "pretrain", "rero", **TINY)
    waited, asked = (build_step(info, 2, device="cpu", precision="float32") for _ in range(2))
    clock = iter((10.0, 16.0))
    with monkeypatch.context() as patch:
        patch.setattr(step, "now", lambda _: next(clock))
        assert step._time_in_a_row(asked, 3) == 2.0
    for _ in range(3):
        waited.run()
    assert math.isnan(asked.run(wait=False))
    waited.run()
    assert asked.run() == waited.run()  # as many steps were made of both
    values = bench_step(size="tiny", batch=1, steps=1, device="cpu", **TINY)
    assert values["seconds_in_a_row"] is None
    assert "where none is waited for" not in format_step(values)
    assert "0.500 s where none is waited for" in format_step({**values, "seconds_in_a_row": 0.5})


def test_one_step_has_no_spread() -> None:
    values = bench_step(size="tiny", task="finetune", batch=1, device="cpu", steps=1, warmup=0, peer="plain", **TINY)
    assert values["seconds_q1"] == values["seconds_per_step"] == values["seconds_q3"]
    assert "peer plain" in format_step(values)


def test_the_pace_of_the_hardware_is_plausible() -> None:
    rate = matrix_rate_gflops(torch.device("cpu"), torch.float32, repeats=1)
    assert 1 < rate < 1e5
    assert peak_memory_bytes(torch.device("cpu")) > 5e7  # torch alone takes more


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 0}, "at least one clip"),
        ({"steps": 0}, "at least one step"),
        ({"warmup": -1}, "no or some steps of warm-up"),
        ({"device": "tpu"}, "cannot measure on device 'tpu'"),
        ({"peer": "fancy"}, "no peer 'fancy'"),
        ({"peer": "plain", "compile": True}, "measure it without compile"),
        ({"size": "bsae"}, "unknown size 'bsae': did you mean 'base'"),
        ({"selection": "rerro"}, "unknown selection 'rerro': did you mean 'rero'"),
        ({"task": "sleep"}, "unknown task 'sleep': accepted: finetune, pretrain"),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        bench_step(**{"size": "tiny", "device": "cpu", **TINY, **wrong})
    assert "\n" not in str(caught.value)
