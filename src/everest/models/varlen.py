"""Clips of different lengths in one row: attention inside each clip, and what else has to know where clips begin.

Everything that works token by token runs on the row as it is. Attention runs clip by clip, so a clip with few tokens
costs little, whatever the others of its batch cost.

Shapes: S tokens of all clips together, h heads, d width of a head, D width, B clips.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from everest.models.mixing import mix
from everest.tokens import TokenCounts

Lengths = Sequence[int]
"""Tokens of each clip, in the order of the row; they add up to S."""


def attend(q: Tensor, k: Tensor, v: Tensor, lengths: Lengths) -> Tensor:
    """Attend inside each clip.

    On a GPU in half precision one fused call does all clips (torch 2.10 and later); else it is one call per clip.

    Args:
        q: Queries, shape [1, h, S, d].
        k: Keys, of the same shape.
        v: Values, of the same shape.
        lengths: Tokens of each clip.

    Returns:
        Shape [1, h, S, d].
    """
    if q.device.type == "cuda" and q.dtype in {torch.bfloat16, torch.float16}:
        return _attend_at_once(q, k, v, lengths)
    parts = zip(*(torch.split(x, list(lengths), dim=2) for x in (q, k, v)), strict=True)
    return torch.cat([mix(*part) for part in parts], dim=2)


def _attend_at_once(q: Tensor, k: Tensor, v: Tensor, lengths: Lengths) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    starts = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)  # [B + 1]
    starts = starts.to(q.device, non_blocking=True)
    q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))  # each [S, h, d]
    mixed = varlen_attn(q, k, v, starts, starts, max(lengths), max(lengths))  # [S, h, d]
    assert isinstance(mixed, Tensor)  # noqa: S101 - for the type checker: nothing else was asked for
    return mixed.transpose(0, 1)[None]


def per_token(values: Tensor, lengths: Lengths) -> Tensor:
    """Give every token the value of its clip: [B] to [1, S, 1]."""
    each = torch.tensor(lengths).to(values.device, non_blocking=True)
    return values.repeat_interleave(each, output_size=sum(lengths))[None, :, None]


def mean_of_clips(x: Tensor, lengths: Lengths) -> Tensor:
    """Average the tokens of each clip: [1, S, D] to [B, D]."""
    return torch.stack([part.mean(dim=1)[0] for part in torch.split(x, list(lengths), dim=1)])


def join_clips(visible: Tensor, masked: Tensor, counts: Sequence[TokenCounts]) -> Tensor:
    """Bring visible and masked tokens of each clip together: [1, sum V, D] and [1, sum M, D] to [1, S, D]."""
    pairs = zip(
        _split(visible, [c.num_visible for c in counts]), _split(masked, [c.num_target for c in counts]), strict=True
    )
    return torch.cat([part for pair in pairs for part in pair], dim=1)


def take_masked(x: Tensor, counts: Sequence[TokenCounts]) -> Tensor:
    """Take the masked tokens of what :func:`join_clips` has joined: [1, S, D] to [1, sum M, D]."""
    parts = _split(x, [sum(c) for c in counts])
    return torch.cat([part[:, c.num_visible :] for part, c in zip(parts, counts, strict=True)], dim=1)


def _split(x: Tensor, lengths: Lengths) -> tuple[Tensor, ...]:
    return torch.split(x, list(lengths), dim=1)
