"""Multiply-adds of a clip in fine-tuning, counted."""

from functools import cache

from profiles import PROFILES
from trials import as_settings

from everest.api import finetune_config
from everest.bench.costs import beside_all_tokens
from everest.config import CheckpointInfo


@cache
def gmacs_of(profile: str, keep_ratio: float) -> float:
    """Count a forward pass of a clip, in 10^9 multiply-adds, with a share of its tokens; 1: all, without scoring."""
    method = "all" if keep_ratio == 1.0 else "rero"
    settings = {"selection.method": method, "selection.keep_ratio": keep_ratio, "selection.encode_ratio": 0.1}
    config = finetune_config("demo", as_settings(PROFILES[profile].clip, settings))
    info = CheckpointInfo(task="finetune", model=config.model, clip=config.clip, selection=config.selection)
    return beside_all_tokens(info)[0].gmacs
