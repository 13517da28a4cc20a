"""From tubelets and their scores to the tokens that are computed.

Shapes: B clips, N tokens, K kept tokens, V visible, P pixels of a tubelet, C channels, D width.
"""

from dataclasses import replace

import torch
from torch import Tensor

from everest.config import SelectionConfig, Task
from everest.draws import Draws, draw_uniform
from everest.errors import SelectionError
from everest.models.tubelets import Tubelets
from everest.tokens import (
    TokenGrid,
    TokenSelection,
    count_tokens,
    gather_tokens,
    num_tokens,
    rank_by_score,
    select_tokens,
    split_kept,
)
from everest.tokens.others.adaptive import count_by_coverage, split_by_count
from everest.tokens.others.k_centered import k_centers
from everest.tokens.others.packed import pack_selection
from everest.tokens.others.run_length import is_new

SCORED = ("rero", "adaptive")
"""Methods that need the change of every token."""


@torch.no_grad()
def choose_tokens(
    patches: Tensor | Tubelets,
    grid: TokenGrid,
    config: SelectionConfig,
    task: Task,
    *,
    scores: Tensor | None = None,
    embedded: Tensor | None = None,
    generator: Draws = None,
) -> TokenSelection:
    """Choose the tokens of a batch of clips, by any method.

    Args:
        patches: All tubelets of the clips, shape [B, N, P], normalised or as bytes.
        grid: Where they are.
        config: Method and ratios.
        task: Pre-training or fine-tuning.
        scores: Change of every token, shape [B, N], for the methods in :data:`SCORED`.
        embedded: Embeddings of all tokens, shape [B, N, D], if scoring has computed them.
        generator: Source of randomness on the device of the patches.

    Raises:
        SelectionError: Scores are needed and missing; or no token is left to predict.
    """
    if config.method == "k_centered":
        selection = _choose_centers(patches, grid, config, task, generator)
    elif config.method in {"adaptive", "rlt"}:
        selection = _choose_varying(patches, grid, config, task, scores, generator)
    else:
        selection = select_tokens(
            config, task, grid, len(patches), scores=scores, generator=generator, device=patches.device
        )
    return selection if embedded is None else replace(selection, embedded=gather_tokens(embedded, selection.visible))


def _choose_centers(
    patches: Tensor | Tubelets, grid: TokenGrid, config: SelectionConfig, task: Task, generator: Draws
) -> TokenSelection:
    """Tubelets that represent the others, as many of every clip."""
    counts = count_tokens(grid, config, task)
    pixels = patches.pixels if isinstance(patches, Tubelets) else patches
    normal = (patches.normalize(clip) if isinstance(patches, Tubelets) else clip for clip in pixels)  # one at a time
    kept = torch.stack([k_centers(clip, sum(counts)) for clip in normal])  # [B, K]
    noise = draw_uniform(len(kept), kept.shape[1], generator, kept.device)
    return TokenSelection(*split_kept(kept, counts.num_visible, noise), grid)


def _choose_varying(  # noqa: PLR0917 - what choose_tokens was given
    patches: Tensor | Tubelets,
    grid: TokenGrid,
    config: SelectionConfig,
    task: Task,
    scores: Tensor | None,
    generator: Draws,
) -> TokenSelection:
    """As many tokens of each clip as it asks for, packed."""
    least = 1 if task == "finetune" else 2  # one to encode and one to predict
    most = num_tokens(config.keep_ratio, grid.num_tokens) if config.method == "adaptive" else grid.num_tokens
    if most < least:
        raise SelectionError(f"no token is left to predict, {most} of {grid.num_tokens} are kept: raise the keep ratio")
    if config.method == "rlt":
        new = is_new(*_with_scale(patches), grid=grid, threshold=config.threshold)  # [B, N]
        ranked, num_kept = rank_by_score(new.float()), new.sum(dim=1)
    elif scores is None:
        raise SelectionError("adaptive selection needs the scores of all tokens")
    else:
        floor = max(least, num_tokens(config.min_keep_ratio, grid.num_tokens))
        ranked = rank_by_score(scores)
        num_kept = count_by_coverage(scores, config.coverage, min(floor, most), most)
    noise = torch.zeros(ranked.shape, device=ranked.device)
    num_visible = num_kept
    if task == "pretrain":
        share = config.encode_ratio / (config.keep_ratio if config.method == "adaptive" else 1.0)
        num_kept = num_kept.clamp(min=least)
        num_visible = (num_kept * share + 1e-6).long().clamp(min=1).minimum(num_kept - 1)
        noise = draw_uniform(len(ranked), ranked.shape[1], generator, ranked.device)
    visible, target = split_by_count(ranked, num_kept, num_visible, noise)
    return pack_selection(visible, target, grid, scores)


def _with_scale(patches: Tensor | Tubelets) -> tuple[Tensor, Tensor]:
    """Pixels, and what makes their differences those of normalised pixels, [C]."""
    if isinstance(patches, Tubelets):
        return patches.pixels, torch.tensor([1 / (255 * s) for s in patches.std]).to(patches.device)
    return patches, torch.ones(3, device=patches.device)
