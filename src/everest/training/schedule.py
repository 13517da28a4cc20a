"""The learning rate of every optimiser step: linear warm-up, then half a cosine.

Pure functions of the step, so a resumed run needs no scheduler state.
"""

import math

from everest.config import OptimConfig
from everest.errors import ConfigError

REFERENCE_BATCH_SIZE = 256


def scaled_lr(base_lr: float, global_batch_size: int) -> float:
    """Scale a learning rate linearly with the batch.

    Args:
        base_lr: Rate for a batch of 256.
        global_batch_size: Clips per optimiser step over all devices and accumulated passes.

    Returns:
        ``base_lr * global_batch_size / 256``.
    """
    return base_lr * global_batch_size / REFERENCE_BATCH_SIZE


def learning_rate_at(step: int, *, peak_lr: float, min_lr: float, num_steps: int, num_warmup_steps: int) -> float:
    """Give the learning rate of one optimiser step.

    Step i of W warm-up steps has ``peak_lr * (i + 1) / W``: the first step already moves the weights and the last one
    of the warm-up has the peak. From there a cosine falls to ``min_lr``, which the last step has exactly. Without
    warm-up the first step has the peak. When there is no step left to fall in (all steps are warm-up, or there is
    one step), the last step has the peak.

    Args:
        step: Number of optimiser steps done before this one, 0 to ``num_steps - 1``.
        peak_lr: Highest rate.
        min_lr: Rate of the last step, at most ``peak_lr``.
        num_steps: Optimiser steps of the whole run, at least 1.
        num_warmup_steps: Steps of linear warm-up, 0 to ``num_steps``.

    Raises:
        ConfigError: A number is outside its range.
    """
    if not 0 <= step < num_steps:
        raise ConfigError(f"the schedule has steps 0 to {num_steps - 1}, not {step}")
    if not 0 <= num_warmup_steps <= num_steps:
        raise ConfigError(f"warm-up takes 0 to {num_steps} steps (the whole run), not {num_warmup_steps}")
    if not 0 <= min_lr <= peak_lr:
        raise ConfigError(f"the last learning rate must be 0 to {peak_lr:g} (the peak), not {min_lr:g}")
    if step < num_warmup_steps:
        return peak_lr * ((step + 1) / num_warmup_steps)  # the quotient first: the last one is exactly 1
    peak_step = max(num_warmup_steps - 1, 0)
    if step == peak_step:
        return peak_lr
    progress = (step - peak_step) / (num_steps - 1 - peak_step)  # exactly 1 at the last step, where the cosine is -1
    return min_lr + 0.5 * (peak_lr - min_lr) * (1.0 + math.cos(math.pi * progress))


def describe_lr(config: OptimConfig, *, num_steps: int, num_warmup_steps: int) -> str:
    """Say in one line which learning rate a run uses and how it came about.

    Args:
        config: Base rates (for a batch of 256) and the batch.
        num_steps: Optimiser steps of the whole run.
        num_warmup_steps: Steps of linear warm-up.

    Returns:
        Such as ``learning rate 7.5e-04 = 1e-03 x 192 / 256; warm-up 1,234 steps, cosine to 7.5e-06 over 12,345``.
    """
    peak, last = (scaled_lr(lr, config.global_batch_size) for lr in (config.base_lr, config.min_lr))
    warmup = f"warm-up {num_warmup_steps:,} steps" if num_warmup_steps else "no warm-up"
    return (
        f"learning rate {_scientific(peak)} = {_scientific(config.base_lr)} x {config.global_batch_size}"
        f" / {REFERENCE_BATCH_SIZE}; {warmup}, cosine to {_scientific(last)} over {num_steps:,}"
    )


def _scientific(value: float) -> str:
    """Write three digits with an exponent and no idle zeros: 7.5e-04, 1e-03."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"
