"""Which tokens are computed: ReRo selection and the selections it is compared with.

``visible`` tokens are encoded, ``target`` tokens are predicted; both are lists of token numbers in ascending order.
Everything else is never touched. Pre-training has both, fine-tuning visible tokens only. For others' see ``others``.

Shapes: B clips, N tokens, L tokens of a slot, K kept tokens, V visible, M targets (K = V + M), D width.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from everest.config import SelectionConfig, Task
from everest.draws import Draws, draw_uniform
from everest.errors import SelectionError
from everest.tokens.grid import TokenGrid
from everest.tokens.others.controls import rank_by_running_cell, take_tubes


class TokenCounts(NamedTuple):
    """How many tokens of a clip are encoded and how many predicted."""

    num_visible: int
    num_target: int


@dataclass(frozen=True)
class TokenSelection:
    """The tokens of a batch of clips that are computed; shapes are checked, not the numbers, which may be on a GPU.

    Attributes:
        visible: Numbers of the encoded tokens, ascending, shape [B, V], int64.
        target: Numbers of the predicted tokens, ascending, none of them visible, shape [B, M], int64; M may be 0.
        grid: Where the tokens are.
        scores: Change of every token where the method needs it, shape [B, N].
        embedded: Embeddings of the visible tokens if scoring has computed them already, shape [B, V, D].
        counts: Of each clip, where clips keep different numbers of tokens; then both lists are one row, the clips one
            after another, [1, sum V] and [1, sum M], and token n of clip b has the number b * N + n.
    """

    visible: Tensor
    target: Tensor
    grid: TokenGrid
    scores: Tensor | None = None
    embedded: Tensor | None = None
    counts: tuple[TokenCounts, ...] = ()

    def __post_init__(self) -> None:
        for name, index in (("visible", self.visible), ("target", self.target)):
            if index.ndim != 2 or index.dtype != torch.int64 or len(index) != len(self.visible):
                given = f"{index.dtype} {list(index.shape)}"
                raise SelectionError(f"{name} takes one list of token numbers per clip, int64 [B, K], given: {given}")
        if self.embedded is not None and self.embedded.shape[:2] != self.visible.shape:
            raise SelectionError(f"embeddings {self.embedded.shape} do not fit visible {self.visible.shape}")
        row = TokenCounts(self.visible.shape[1], self.target.shape[1])
        fits = not self.counts or (len(self.visible), *row) == (1, *map(sum, zip(*self.counts, strict=True)))
        if not fits or not all(v > 0 and v + m <= self.grid.num_tokens for v, m in self.counts or [row]):
            raise SelectionError(f"{row.num_visible} visible and {row.num_target} target tokens do not fit {self.grid}")

    @property
    def num_clips(self) -> int:
        """B."""
        return len(self.counts) or len(self.visible)

    def places(self, index: Tensor) -> Tensor:
        """Numbers of tokens inside their own clips."""
        return index % self.grid.num_tokens if self.counts else index

    def __repr__(self) -> str:
        shapes = f"visible {list(self.visible.shape)}, target {list(self.target.shape)}"
        clips = f" of {self.num_clips} clips" if self.counts else ""
        return f"TokenSelection({shapes}{clips}, of {self.grid.num_tokens} tokens)"


def num_tokens(ratio: float, total: int) -> int:
    """The one rule from a ratio in (0, 1] to a number of tokens: at least 1, rounded down, exactly: .1 of 800 is 80."""
    if not 0 < ratio <= 1:
        raise SelectionError(f"a ratio of tokens lies above 0 and up to 1, given: {ratio}")
    return max(1, int(Fraction(str(ratio)) * total))


def count_tokens(grid: TokenGrid, config: SelectionConfig, task: Task) -> TokenCounts:
    """How many tokens a selection encodes and predicts at most; SelectionError if pre-training has none to predict."""
    total, encode_ratio = grid.num_tokens, config.encode_ratio if task == "pretrain" else config.keep_ratio
    keep, encode = num_tokens(config.keep_ratio, total), num_tokens(encode_ratio, total)
    if config.method == "tube":  # whole places through all slots; VideoMAE rounds the number of masked ones down
        encode = (grid.tokens_per_slot - int((1 - Fraction(str(encode_ratio))) * grid.tokens_per_slot)) * grid.num_slots
    if task == "finetune":
        return TokenCounts(total if config.method in {"all", "rlt"} else encode, 0)
    predict = (total if config.method in {"tube", "random", "all", "rlt"} else keep) - encode
    if predict < 1:
        raise SelectionError(f"no token is left to predict, {encode} of {total} are encoded: lower the encode ratio")
    return TokenCounts(encode, predict)


def rank_by_score(scores: Tensor) -> Tensor:
    """Order tokens by falling score, and equal ones by rising number, on every device: [B, N] to [B, N]."""
    return scores.argsort(dim=1, descending=True, stable=True)


def split_kept(kept: Tensor, num_visible: int, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Share kept tokens out at random: those with the smallest noise are encoded, the others predicted.

    ``kept`` [B, K] holds token numbers in order of rank, ``noise`` [B, K] a number for each rank. Returns visible and
    target token numbers, each ascending, [B, V] and [B, M].
    """
    shuffled = kept.gather(1, noise.argsort(dim=1, stable=True))  # [B, K]
    return shuffled[:, :num_visible].sort(dim=1).values, shuffled[:, num_visible:].sort(dim=1).values


def select_tokens(
    config: SelectionConfig,
    task: Task,
    grid: TokenGrid,
    batch_size: int,
    *,
    scores: Tensor | None = None,
    generator: Draws = None,
    device: torch.device | str = "cpu",
) -> TokenSelection:
    """Choose the tokens of a batch of clips.

    - ``rero``: the tokens that change most (paper, section on ReRo masking). In pre-training a random share of them is
      encoded and the rest predicted; in fine-tuning all are encoded and nothing is random.
    - ``random_equal``: as many tokens as ``rero``, drawn at random: the control that tells what choosing is worth.
    - ``running_cell``: as many again, from 2 x 2 cells in which the kept place moves on from slot to slot.
    - ``random``, ``tube``, ``all``: in pre-training a random share is encoded and all others are predicted; ``tube``
      takes the same places in every slot (VideoMAE). In fine-tuning a random share, random places, and every token.

    Args:
        config: Method and ratios.
        task: Decides which of them count.
        grid: Where the tokens are.
        batch_size: Number of clips, B.
        scores: Change of every token, shape [B, N]; for ``rero``.
        generator: Source of randomness, on ``device``; None takes PyTorch's own.
        device: Where the selection is needed.

    Raises:
        SelectionError: Scores are needed and missing, or of another shape; or no token is left to predict.
    """

    def draw(count: int) -> Tensor:
        return draw_uniform(batch_size, count, generator, device)

    counts = count_tokens(grid, config, task)
    if config.method == "tube":
        visible, target = take_tubes(draw(grid.tokens_per_slot).argsort(dim=1, stable=True), counts.num_visible, grid)
        return TokenSelection(visible, target[:, : counts.num_target], grid)
    if config.method in {"adaptive", "rlt", "k_centered"}:
        raise SelectionError(f"{config.method} looks at the clips: use everest.models.Encoder.select")
    if config.method == "rero":
        if scores is None or scores.shape != (batch_size, grid.num_tokens):
            given = getattr(scores, "shape", None)
            raise SelectionError(f"ReRo needs scores of shape [{batch_size}, {grid.num_tokens}], given: {given}")
        ranked = rank_by_score(scores)
    elif config.method == "running_cell":
        ranked = rank_by_running_cell(draw(grid.num_tokens), grid)
    else:
        ranked = draw(grid.num_tokens).argsort(dim=1, stable=True)
    kept = ranked[:, : sum(counts)]
    noise = draw(sum(counts)) if counts.num_target else torch.zeros(kept.shape, device=device)
    visible, target = split_kept(kept, counts.num_visible, noise)
    return TokenSelection(visible, target, grid, scores if config.method == "rero" else None)
