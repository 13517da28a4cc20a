"""An exported file beside PyTorch, on real clips: whatever differs is said.

Rounding differs from one program to another by some 1e-6. Outputs may differ by that much. Tokens are kept by rank, and
where the last one that is kept and the first one that is dropped have the same score to within rounding, a program may
keep the other one; then PyTorch is asked for the outputs of the very tokens that the file has kept.

Shapes: B clips, T frames, T' sampled frames, H height, W width, N tokens, V kept tokens, K classes, D width.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from everest.inference.exporting.reference import Reference, Run

TOLERANCE = 1e-4
"""Outputs may differ by this much, or by this share of the largest one where that is above 1."""
TIE = 1e-5
"""Scores that differ by a smaller share are the same to within rounding: either token may be kept."""
MAX_BATCH = 8
REPEATS = 3  # of which the shortest is the time of one clip


@dataclass(frozen=True)
class Agreement:
    """How a file compares with PyTorch.

    Attributes:
        num_clips: That were compared.
        batch_sizes: In which they were run.
        differences: Largest difference of each output, where both compute the same tokens.
        allowed: Largest one that is taken for rounding.
        same_class: Clips whose most probable class is PyTorch's; None where there are no classes.
        same_tokens: Clips of which the same tokens are kept; None where the file does not say.
        tie_gap: Of tokens that only one of the two has kept, the largest distance of a score from that of the last
            token that is kept, as a share of it; 0 where there are none.
        problems: What is wrong beyond rounding; empty where nothing is.
        seconds_per_clip: One clip by the file, the shortest of three runs.
        seconds_in_pytorch: The same by PyTorch, as ``everest predict`` computes it.
        num_threads: Of both.
    """

    num_clips: int
    batch_sizes: tuple[int, ...]
    differences: dict[str, float]
    allowed: dict[str, float]
    same_class: int | None
    same_tokens: int | None
    tie_gap: float
    problems: tuple[str, ...]
    seconds_per_clip: float
    seconds_in_pytorch: float
    num_threads: int

    @property
    def is_good(self) -> bool:
        """Whether nothing differs by more than rounding."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        finite = {name: value if math.isfinite(value) else None for name, value in self.differences.items()}
        gap = self.tie_gap if math.isfinite(self.tie_gap) else None
        return asdict(self) | {"differences": finite, "tie_gap": gap, "is_good": self.is_good}

    def lines(self) -> list[str]:
        """Tell a person."""
        batches = ", ".join(map(str, sorted(set(self.batch_sizes))))
        told = [f"{name} {value:.1e} (allowed {self.allowed[name]:.1e})" for name, value in self.differences.items()]
        same = [] if self.same_class is None else [f"same class {self.same_class} of {self.num_clips}"]
        if self.same_tokens is not None:
            same.append(f"same tokens {self.same_tokens} of {self.num_clips}")
            if self.same_tokens < self.num_clips:
                same.append(f"tokens that differ have scores within {self.tie_gap:.1e} of the last one that is kept")
        threads = f"{self.num_threads} thread{'' if self.num_threads == 1 else 's'}"
        return [
            f"{self.num_clips} real clips in batches of {batches}, beside PyTorch",
            f"largest difference: {', '.join(told)}",
            *([", ".join(same)] if same else []),
            f"one clip: {self.seconds_per_clip:.3f} s, PyTorch {self.seconds_in_pytorch:.3f} s ({threads}, shortest of "
            f"{REPEATS})",
            *(f"WRONG: {problem}" for problem in self.problems),
        ]


def compare(run: Run, reference: Reference, clips: Tensor) -> Agreement:
    """Run a file and PyTorch on the same clips, in batches of 1, 3 and 8 at most.

    Args:
        run: The file.
        reference: PyTorch.
        clips: Uint8, shape [n, 3, T', H, W].
    """
    frames = clips.permute(0, 2, 3, 4, 1).contiguous()  # [n, T', H, W, 3]
    parts = [part for part in (frames[:1], frames[1:4], *torch.split(frames[4:], MAX_BATCH)) if len(part)]
    found = _Found()
    for part in parts:
        found.add(run(part), reference, part)
    one = frames[:1]
    return Agreement(
        num_clips=len(frames),
        batch_sizes=tuple(map(len, parts)),
        differences=found.differences,
        allowed={name: TOLERANCE * max(1.0, largest) for name, largest in found.largest.items()},
        same_class=found.same_class,
        same_tokens=found.same_tokens,
        tie_gap=found.tie_gap,
        problems=tuple(found.problems()),
        seconds_per_clip=_shortest(lambda: run(one)),
        seconds_in_pytorch=_shortest(lambda: reference.answer(one)),
        num_threads=torch.get_num_threads(),
    )


class _Found:
    """Differences, batch by batch."""

    def __init__(self) -> None:
        self.differences: dict[str, float] = {}
        self.largest: dict[str, float] = {}
        self.same_class: int | None = None
        self.same_tokens: int | None = None
        self.tie_gap = 0.0
        self._wrong: dict[str, None] = {}  # in order, each once

    def add(self, given: Mapping[str, Tensor], reference: Reference, frames: Tensor) -> None:
        """Compare one batch."""
        own = wanted = reference(frames)
        if "chosen_frames" in given and not torch.equal(given["chosen_frames"], own["chosen_frames"]):
            self._wrong["other frames are chosen than by PyTorch"] = None
            return
        if "visible" in given:
            visible = given["visible"]
            if not _are_tokens(visible, own["visible"], reference):
                self._wrong["what is called visible are no ascending numbers of as many tokens"] = None
                return
            rows = (visible != own["visible"]).any(dim=1)  # [B]
            self.same_tokens = (self.same_tokens or 0) + int((~rows).sum())
            if bool(rows.any()):
                self._take_gap(reference, frames[rows], visible[rows], own["visible"][rows])
                wanted = reference(frames, visible)
        if "logits" in given:
            same = given["logits"].argmax(dim=1) == own["logits"].argmax(dim=1)
            self.same_class = (self.same_class or 0) + int(same.sum())
        for name, values in given.items():
            if values.is_floating_point():
                self._take(name, values, wanted[name])

    def problems(self) -> list[str]:
        """List what is more than rounding."""
        found = [*self._wrong]
        for name, value in self.differences.items():
            if not value <= TOLERANCE * max(1.0, self.largest[name]):  # nor is what is not a number
                found.append(f"{name} differ by {value:.1e}")
        if self.tie_gap > TIE:
            found.append(f"tokens are kept whose scores are {self.tie_gap:.1e} from the last one that PyTorch keeps")
        return found

    def _take(self, name: str, values: Tensor, wanted: Tensor) -> None:
        if values.shape != wanted.shape:
            self._wrong[f"{name} are {list(values.shape)}, not {list(wanted.shape)}"] = None
            return
        difference = float((values - wanted).abs().max())
        difference = difference if math.isfinite(difference) else math.inf
        self.differences[name] = max(self.differences.get(name, 0.0), difference)
        self.largest[name] = max(self.largest.get(name, 0.0), float(wanted.abs().max()))

    def _take_gap(self, reference: Reference, frames: Tensor, visible: Tensor, wanted: Tensor) -> None:
        """Find how far from a tie the tokens are that only one of the two keeps."""
        if reference.info.selection.method != "rero":
            self.tie_gap = math.inf  # those are the same for every clip
            return
        scores = reference.scores(frames)  # [B, N]
        last = scores.gather(1, wanted).min(dim=1, keepdim=True).values  # [B, 1]
        ours, theirs = (torch.zeros_like(scores, dtype=torch.bool).scatter_(1, v, True) for v in (wanted, visible))
        # 0 / 0 where nothing changes: there the lower one is kept
        gaps = ((scores - last).abs() / last)[ours != theirs]
        self.tie_gap = max(self.tie_gap, float(gaps.nan_to_num(math.inf, math.inf).max()))


def _are_tokens(visible: Tensor, wanted: Tensor, reference: Reference) -> bool:
    """Whether these can be tokens of clips [B, V], whichever they are."""
    if visible.shape != wanted.shape or visible.dtype != torch.int64:
        return False
    is_inside = int(visible.min()) >= 0 and int(visible.max()) < reference.model.encoder.grid.num_tokens
    return is_inside and bool((visible[:, 1:] > visible[:, :-1]).all())


def _shortest(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
