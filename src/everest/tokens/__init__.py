"""The method of the paper: token grid, scores, token selection, frame selection. Pure functions on tensors."""

from everest.tokens.frames import FrameSelection, count_per_pair, select_pairs, take_pairs
from everest.tokens.grid import TokenGrid, gather_tokens, patchify, unpatchify
from everest.tokens.scores import rero_scores, token_changes
from everest.tokens.selection import TokenCounts, TokenSelection, count_tokens, num_tokens, rank_by_score
from everest.tokens.selection import select_tokens as select_tokens
from everest.tokens.selection import split_kept as split_kept

__all__ = ["FrameSelection", "TokenCounts", "TokenGrid", "TokenSelection", "count_per_pair", "count_tokens"]
__all__ += ["gather_tokens", "num_tokens", "patchify", "rank_by_score", "rero_scores"]
__all__ += ["select_pairs", "select_tokens", "split_kept", "take_pairs", "token_changes", "unpatchify"]
