"""The comparison finds what is wrong, and takes for rounding what is rounding."""

import json
from collections.abc import Callable, Mapping

import pytest
import torch
from small_graphs import classifier_with, mostly_still, moving, selection
from torch import Tensor

from everest.inference.exporting.reference import Reference
from everest.inference.exporting.verifying import Agreement, compare

Outputs = Mapping[str, Tensor]
MODEL, INFO = classifier_with(selection())
REFERENCE = Reference(MODEL, INFO)


def agreement(change: Callable[[dict[str, Tensor], Tensor], Outputs], frames: Tensor | None = None) -> Agreement:
    """Compare PyTorch with itself, its answers changed."""
    frames = moving(8) if frames is None else frames
    return compare(lambda part: change(REFERENCE(part), part), REFERENCE, frames.permute(0, 4, 1, 2, 3))


def keep_others(outputs: dict[str, Tensor], frames: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    return REFERENCE(frames, tokens)


def test_the_same_answers_agree() -> None:
    found = agreement(lambda outputs, _: outputs)
    assert found.is_good
    assert (found.num_clips, found.batch_sizes) == (8, (1, 3, 4))
    assert (found.same_class, found.same_tokens, found.tie_gap) == (8, 8, 0.0)
    assert set(found.differences) == {"logits", "probabilities", "features"}
    assert max(found.differences.values()) == 0.0
    assert found.seconds_per_clip > 0 < found.seconds_in_pytorch
    assert "same class 8 of 8, same tokens 8 of 8" in found.lines()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda outputs, _: outputs | {"logits": outputs["logits"] + 2e-3}, "logits differ by 2.0e-03"),
        (lambda outputs, _: outputs | {"features": outputs["features"] * torch.nan}, "features differ by inf"),
        (lambda outputs, _: outputs | {"logits": outputs["logits"][:, :2]}, "logits are [1, 2], not [1, 3]"),
        (lambda outputs, _: outputs | {"visible": outputs["visible"].flip(1)}, "no ascending numbers"),
        (lambda outputs, _: outputs | {"visible": outputs["visible"] + 64}, "no ascending numbers"),
        (lambda outputs, _: outputs | {"visible": outputs["visible"].int()}, "no ascending numbers"),
    ],
)
def test_what_is_wrong_is_said(change: Callable[[dict[str, Tensor], Tensor], Outputs], told: str) -> None:
    found = agreement(change)
    assert not found.is_good
    assert any(told in problem for problem in found.problems)
    assert any(line.startswith("WRONG: ") for line in found.lines())
    assert not json.loads(json.dumps(found.to_dict(), allow_nan=False))["is_good"]


def test_differences_of_rounding_are_none() -> None:
    found = agreement(lambda outputs, _: outputs | {"logits": outputs["logits"] + 5e-5})
    assert found.is_good
    assert found.differences["logits"] == pytest.approx(5e-5, rel=0.1)


def test_other_tokens_are_found_even_where_the_outputs_are_right_for_them() -> None:
    first = torch.arange(32)

    found = agreement(lambda outputs, frames: keep_others(outputs, frames, first.expand(len(frames), -1)))
    assert found.same_tokens == 0
    assert max(found.differences.values()) == 0.0
    assert any("tokens are kept whose scores are" in problem for problem in found.problems)


def test_ties_to_within_rounding_are_told_and_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token that comes next is kept instead of the last one; their scores are made equal to one part in 10^6."""
    frames = moving(8)
    scores = REFERENCE.scores(frames)
    order = scores.argsort(dim=1, descending=True, stable=True)
    kept = torch.cat([order[:, :31], order[:, 32:33]], dim=1).sort(dim=1).values
    near = scores.scatter(1, order[:, 32:33], scores.gather(1, order[:, 31:32]) * (1 - 1e-6))
    rows = {bytes(frame.numpy().tobytes()): index for index, frame in enumerate(frames)}

    def of(part: Tensor) -> Tensor:
        return torch.tensor([rows[frame.numpy().tobytes()] for frame in part])

    monkeypatch.setattr(REFERENCE, "scores", lambda part: near[of(part)])
    found = agreement(lambda outputs, part: keep_others(outputs, part, kept[of(part)]), frames)
    assert found.is_good
    assert (found.same_tokens, max(found.differences.values())) == (0, 0.0)
    assert found.tie_gap == pytest.approx(1e-6, rel=0.2)
    assert "tokens that differ have scores within" in "\n".join(found.lines())


def test_ties_where_nothing_changes_go_to_the_lower_number() -> None:
    """All of them score exactly 0 in every program: there is no rounding to blame."""
    last = torch.arange(32, 64)
    still = mostly_still(4)[:, :1].expand(-1, 8, -1, -1, -1)
    found = agreement(lambda outputs, frames: keep_others(outputs, frames, last.expand(len(frames), -1)), still)
    assert not found.is_good
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["tie_gap"] is None
