"""Random numbers that belong to clips: the same for a clip whichever process, device and forward pass computes it.

A generator gives its numbers out in turn, so what a clip gets depends on the clips that were served before it, and thus
on how a batch is divided. Here every clip has a seed, and its numbers follow from the seed and a count by SplitMix64
(Steele, Lea and Flood, OOPSLA 2014), in whole-number arithmetic that is exact on every device.

Shapes: B clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number: 2^64 over the golden ratio, odd
_MIX = ((30, -4658895280553007687), (27, -7723592293110705685), (31, 1))  # shifts, and factors that follow them
_WRAP = 1 << 63
_MANTISSA_BITS = 24  # of float32: every number is exact, and 1 is never reached
_RUNS, _STEPS = 1, 2  # what a seed is mixed from, so that a clip and a step of the same number differ


def _scramble(x: Tensor) -> Tensor:
    """Turn numbers that lie close together into numbers that have nothing to do with each other: int64, any shape."""
    for shift, factor in _MIX:
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor  # >> of a signed number would draw in its sign
    return x


def mix_seeds(*parts: int | Tensor) -> Tensor:
    """Make one seed of several whole numbers, each of which may be a tensor: int64, of their common shape."""
    seed = torch.zeros((), dtype=torch.int64)
    for part in parts:
        seed = _scramble((seed + torch.as_tensor(part, dtype=torch.int64)) * _GOLDEN + _GOLDEN)
    return seed


def seeds_of_clips(run_seed: int, epoch: int, positions: Sequence[int]) -> Tensor:
    """Give the clips of a run their seeds.

    Args:
        run_seed: Of the run.
        epoch: From 0.
        positions: Places of the clips in the epoch, from 0.

    Returns:
        Shape [B], int64.
    """
    return mix_seeds(_RUNS, run_seed, epoch, torch.tensor(positions, dtype=torch.int64))


def seed_of_step(run_seed: int, step: int) -> int:
    """Give an optimiser step the seed of what all of its clips share."""
    return int(mix_seeds(_STEPS, run_seed, step))


@dataclass(eq=False, repr=False)
class ClipDraws:
    """Gives out uniform random numbers, other ones at every call, as a generator does.

    Attributes:
        seeds: Shape [B], int64, on the CPU; or on the device, for draws that all clips have for themselves.
        step_seed: Of what the clips of a step share.
        device: Where the numbers are needed.
    """

    seeds: Tensor
    step_seed: int = 0
    device: torch.device | str = "cpu"
    _placed: Tensor = field(init=False)  # the seeds, on the device
    _num_calls: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._placed = self.seeds.to(self.device, non_blocking=True)

    @property
    def placed(self) -> Tensor:
        """The seeds, where the numbers are needed: shape [B]."""
        return self._placed

    def rand(self, count: int) -> Tensor:
        """Draw numbers from 0 to below 1: float32, shape [B, count]."""
        return self.rand_each([count])[0]

    def rand_each(self, counts: Sequence[int]) -> Sequence[Tensor]:
        """Draw what as many calls of :meth:`rand` would, at once: [B, count] for each of the counts."""
        before = (self._num_calls * _GOLDEN + _WRAP) % (2 * _WRAP) - _WRAP  # as a signed number of 64 bits
        self._num_calls += len(counts)
        calls, numbers = _steps_of(tuple(counts), torch.device(self.device))  # [N] each, of all counts together
        drawn = _scramble(_scramble(self._placed[:, None] + before + calls) + numbers)  # [B, N]
        positive = (drawn >> (64 - _MANTISSA_BITS)) & ((1 << _MANTISSA_BITS) - 1)
        return torch.split(positive.float() / (1 << _MANTISSA_BITS), list(counts), dim=1)

    def __repr__(self) -> str:
        return f"ClipDraws({len(self.seeds)} clips, {self._num_calls} calls)"


@cache  # for good: a step that was recorded on a GPU reads this very memory
def _steps_of(counts: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """What the sequence moves on by from call to call, and from number to number; made once, or it would wait."""
    calls = torch.arange(1, len(counts) + 1).repeat_interleave(torch.tensor(counts))
    numbers = torch.cat([torch.arange(1, count + 1) for count in counts])
    return (calls * _GOLDEN).to(device), (numbers * _GOLDEN).to(device)


Draws = torch.Generator | ClipDraws | None
"""Where random numbers come from; None: PyTorch's own generator."""


def draw_uniform(num_clips: int, count: int, draws: Draws, device: torch.device | str) -> Tensor:
    """Draw numbers from 0 to below 1, ``count`` for each clip: float32, shape [B, count].

    Args:
        num_clips: B; as many as ``draws`` has seeds, where it has.
        count: Numbers for each.
        draws: Where they come from, on ``device``.
        device: Where they are needed.

    Raises:
        ValueError: Seeds of another number of clips.
    """
    if not isinstance(draws, ClipDraws):
        return torch.rand(num_clips, count, generator=draws, device=device)
    if len(draws.seeds) != num_clips:
        raise ValueError(f"{draws!r} cannot draw for {num_clips} clips")
    return draws.rand(count)
