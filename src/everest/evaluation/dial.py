"""The keep ratio as a dial: a classifier that was trained with one can be used with another."""

from everest.config import WHOLE_CLIP_ARCHS, CheckpointInfo
from everest.errors import ConfigError


def with_keep_ratio(info: CheckpointInfo, keep_ratio: float | None) -> CheckpointInfo:
    """Let a classifier look at another share of the tokens.

    Fewer tokens cost less and say less; :func:`everest.bench.dial.bench_dial` measures both.

    Args:
        info: What travels with the classifier. One that was trained on all tokens takes those that change most.
        keep_ratio: Share of all tokens, above 0 and up to 1; None: as it was trained.

    Raises:
        ConfigError: The share is out of range, or the network takes whole clips.
    """
    if keep_ratio is None:
        return info
    if not 0 < keep_ratio <= 1:
        raise ConfigError(f"a keep ratio lies above 0 and up to 1, given: {keep_ratio}")
    if info.model.arch in WHOLE_CLIP_ARCHS:
        raise ConfigError(f"a classifier with model.arch={info.model.arch} takes whole clips: give no keep ratio")
    given = info.selection
    if given.method == "rlt":
        raise ConfigError("run-length selection keeps what is new, not a share: the keep ratio is no dial for it")
    changed = {
        "method": "rero" if given.method == "all" else given.method,
        "keep_ratio": keep_ratio,
        "encode_ratio": min(given.encode_ratio, keep_ratio),
        "min_keep_ratio": min(given.min_keep_ratio, keep_ratio),
    }
    return info.model_copy(update={"selection": given.model_copy(update=changed)})
