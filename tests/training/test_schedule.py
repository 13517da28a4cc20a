"""The learning rate of every step, against its definition and against the release's curves."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everest.config import OptimConfig
from everest.errors import ConfigError
from everest.training.schedule import describe_lr, learning_rate_at, scaled_lr

RELEASE = json.loads((Path(__file__).parent / "data" / "release_cosine.json").read_text())


def curve(*, peak_lr: float, min_lr: float, num_steps: int, num_warmup_steps: int) -> list[float]:
    return [
        learning_rate_at(step, peak_lr=peak_lr, min_lr=min_lr, num_steps=num_steps, num_warmup_steps=num_warmup_steps)
        for step in range(num_steps)
    ]


@given(st.integers(1, 60), st.data(), st.floats(1e-6, 1.0), st.floats(0.0, 1.0))
def test_rises_to_the_peak_then_falls_to_the_minimum(
    num_steps: int, data: st.DataObject, peak_lr: float, share: float
) -> None:
    num_warmup_steps = data.draw(st.integers(0, num_steps))
    min_lr = peak_lr * share
    rates = curve(peak_lr=peak_lr, min_lr=min_lr, num_steps=num_steps, num_warmup_steps=num_warmup_steps)
    top = max(num_warmup_steps - 1, 0)
    assert rates[0] > 0
    assert rates[top] == peak_lr == max(rates)
    assert all(a < b for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b for a, b in pairwise(rates[top:]))
    if top < num_steps - 1:
        assert rates[-1] == min_lr


def test_warmup_is_linear_from_its_first_share() -> None:
    rates = curve(peak_lr=1.0, min_lr=0.0, num_steps=10, num_warmup_steps=4)
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]


def test_the_middle_of_the_cosine_is_halfway() -> None:
    rates = curve(peak_lr=3.0, min_lr=1.0, num_steps=5, num_warmup_steps=0)
    assert rates[2] == pytest.approx(2.0)


@pytest.mark.parametrize("num_warmup_steps", [0, 1])
def test_one_step_has_the_peak(num_warmup_steps: int) -> None:
    assert curve(peak_lr=0.5, min_lr=0.1, num_steps=1, num_warmup_steps=num_warmup_steps) == [0.5]


def test_warmup_only_ends_at_the_peak() -> None:
    assert curve(peak_lr=1.0, min_lr=0.1, num_steps=2, num_warmup_steps=2) == [0.5, 1.0]


@pytest.mark.parametrize("recorded", [c for c in RELEASE["curves"] if "warmup_epochs" in c["arguments"]])
def test_release_curve_one_step_earlier(recorded: dict) -> None:
    """The release has its peak twice, starts at zero and stops one step short of the minimum."""
    arguments, release = recorded["arguments"], recorded["values"]
    base, final, num_steps = arguments["base_value"], arguments["final_value"], len(release)
    warmup = arguments.get("warmup_steps", arguments["warmup_epochs"] * arguments["niter_per_ep"])
    ours = curve(peak_lr=base, min_lr=final, num_steps=num_steps, num_warmup_steps=warmup)
    # Where the two agree: our cosine is the release's, one step earlier.
    assert ours[warmup - 1 : -1] == pytest.approx(release[warmup:], rel=1e-12)
    # Where they differ: the first step (zero there) and the last one (above the minimum there).
    assert release[0] == 0.0
    assert ours[0] == pytest.approx(base / warmup)
    assert release[-1] > final
    assert ours[-1] == final
    assert release[:warmup] == pytest.approx([base * i / (warmup - 1) for i in range(warmup)])


def test_constant_rate_equals_the_release() -> None:
    (recorded,) = (c for c in RELEASE["curves"] if "warmup_epochs" not in c["arguments"])
    ours = curve(peak_lr=0.05, min_lr=0.05, num_steps=len(recorded["values"]), num_warmup_steps=0)
    assert ours == recorded["values"]


@pytest.mark.parametrize("epochs", [3, 10])
def test_cosine_follows_the_formula(epochs: int) -> None:
    rates = curve(peak_lr=1e-3, min_lr=1e-5, num_steps=epochs, num_warmup_steps=0)
    for i, rate in enumerate(rates):
        expected = 1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + math.cos(math.pi * i / (epochs - 1)))
        assert rate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("step", "changes", "message"),
    [
        (10, {}, "steps 0 to 9, not 10"),
        (-1, {}, "not -1"),
        (0, {"num_warmup_steps": 11}, "0 to 10 steps"),
        (0, {"min_lr": 2.0}, "0 to 1 "),
    ],
)
def test_impossible_schedules_are_refused(step: int, changes: dict, message: str) -> None:
    settings = {"peak_lr": 1.0, "min_lr": 0.0, "num_steps": 10, "num_warmup_steps": 2} | changes
    with pytest.raises(ConfigError, match=message):
        learning_rate_at(step, **settings)


def test_rate_scales_with_the_batch() -> None:
    assert scaled_lr(1e-3, 192) == pytest.approx(7.5e-4)  # the release's UCF101 pre-training


def test_description_has_every_number() -> None:
    config = OptimConfig(base_lr=1e-3, min_lr=1e-5, global_batch_size=192)
    assert describe_lr(config, num_steps=12345, num_warmup_steps=1234) == (
        "learning rate 7.5e-04 = 1e-03 x 192 / 256; warm-up 1,234 steps, cosine to 7.5e-06 over 12,345"
    )
    assert "no warm-up" in describe_lr(config, num_steps=10, num_warmup_steps=0)
