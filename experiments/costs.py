"""Multiply-adds of a clip, counted."""

from functools import cache

from profiles import PROFILES
from trials import as_settings

from everest.api import finetune_config, pretrain_config
from everest.bench.costs import beside_all_tokens
from everest.config import CheckpointInfo, FinetuneConfig, PretrainConfig, Task


@cache
def gmacs_of(profile: str, keep_ratio: float, task: Task = "finetune") -> float:
    """Count a forward pass of a clip, in 10^9 multiply-adds, with a share of its tokens; 1: all, without scoring."""
    method = "all" if keep_ratio == 1.0 else "rero"
    settings = {"selection.method": method, "selection.keep_ratio": keep_ratio, "selection.encode_ratio": 0.1}
    words = as_settings(PROFILES[profile].clip, settings)
    config: FinetuneConfig | PretrainConfig
    config = finetune_config("demo", words) if task == "finetune" else pretrain_config("demo", words)
    info = CheckpointInfo(task=task, model=config.model, clip=config.clip, selection=config.selection)
    return beside_all_tokens(info)[0].gmacs
