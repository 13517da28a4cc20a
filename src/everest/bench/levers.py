"""What each part of a fast step gains by itself: the same result, computed our way and the way it is usually done.

Shapes: B clips, T frames, H height, W width, N tokens, V visible, M targets.
"""

from collections.abc import Callable
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor

from everest.bench.described import TaskOptions, describe_task
from everest.bench.hardware import describe_hardware, now
from everest.bench.lever import Lever, Place
from everest.bench.lever_gpu import AttentionBy
from everest.bench.lever_list import (
    FOR_A_GPU,
    LEVERS,
    OF_WHAT_IS_PREDICTED,
    products_by_another_library,
    stream_in_float32,
)
from everest.bench.made_up import moving_clips
from everest.bench.tasks import build_model, find_device
from everest.config import CheckpointInfo, ModelSize, Task
from everest.errors import ConfigError
from everest.models import Classifier, MaskedModel
from everest.models.products import goes_to_onednn
from everest.tokens import count_tokens
from everest.training.engine import choose_dtype

OnProgress = Callable[[int, int], None]


def bench_levers(
    *,
    size: ModelSize = "base",
    task: Task = "pretrain",
    batch: int = 4,
    device: str = "auto",
    precision: str = "auto",
    rounds: int = 5,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Time every lever and what it stands for, in turn, and compare what they give.

    Args:
        size: Model size.
        task: Decides how many tokens are visible, and whether some are predicted.
        batch: Clips at once, made up.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``float32``, ``bfloat16`` or ``auto``, as in training.
        rounds: How often each is timed, after once for warming up.
        seed: Of clips, weights and tokens.
        on_progress: Called with the number of finished and of all levers.
        **options: As :func:`~everest.bench.described.describe_task` takes them.

    Returns:
        Values that JSON can hold: ``levers``, each with ``name``, ``instead_of``, ``ms`` and ``usual_ms`` (medians),
        ``gain`` (times as fast), ``difference`` (the largest of the results, as a share of the largest value) and
        ``same`` (whether it is within the tolerance); ``hardware`` and what was asked for.

    Raises:
        ConfigError: Something that cannot be measured.
    """
    if min(batch, rounds) < 1:
        raise ConfigError(f"try levers on at least one clip in at least one round, given: {batch} and {rounds}")
    place = _place(describe_task(size, task, "rero", **cast(TaskOptions, options)), batch, device, precision, seed)
    makers = [maker for maker in LEVERS if _applies(maker, place)]
    rows = []
    for maker in makers:
        rows.append(_measure(maker(place), place, rounds))
        if on_progress is not None:
            on_progress(len(rows), len(makers))
    return {
        "levers": rows,
        **{"size": size, "task": task, "batch": batch, "rounds": rounds},
        **{"device": place.clips.device.type, "precision": str(place.dtype).removeprefix("torch.")},
        "tokens": {"total": place.grid.num_tokens, "visible": place.visible.shape[1]},
        "hardware": describe_hardware(place.clips.device),
    }


def format_levers(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_levers` to people."""
    lines = [f"{'':44}{'ms':>9}{'otherwise':>11}{'gain':>8}{'differs by':>12}  instead of"]
    for row in values["levers"]:
        remark = "" if row["same"] else "  NOT THE SAME"
        lines.append(
            f"{row['name']:44}{row['ms']:9.2f}{row['usual_ms']:11.2f}{row['gain']:8.2f}"
            f"{row['difference']:12.0e}  {row['instead_of']}{remark}"
        )
    lines.append(
        f"{values['size']} {values['task']}, batch {values['batch']}, {values['precision']}, "
        f"{values['tokens']['visible']} of {values['tokens']['total']} tokens visible; medians of {values['rounds']}; "
        f"{values['hardware']['name']}"
    )
    return "\n".join(lines)


def _applies(maker: Callable[[Place], Lever], place: Place) -> bool:
    """Whether there is something to predict, another number format, or something to copy."""
    if maker in OF_WHAT_IS_PREDICTED:
        return place.target.shape[1] > 0
    if maker is stream_in_float32:
        return place.dtype == torch.bfloat16
    if maker is products_by_another_library:
        return place.dtype == torch.float32 and goes_to_onednn(
            place.patch_embed.proj.weight, place.patch_embed.proj.weight
        )
    if isinstance(maker, AttentionBy) and not maker.works(place):
        return False
    return maker not in FOR_A_GPU or place.clips.device.type == "cuda"


def _place(info: CheckpointInfo, batch: int, device: str, precision: str, seed: int) -> Place:
    place = find_device(device)
    torch.manual_seed(seed)
    model = cast(MaskedModel | Classifier, build_model(info)).to(place).train()
    counts = count_tokens(model.grid, info.selection, info.task)
    order = torch.rand(batch, model.grid.num_tokens).argsort(dim=1).to(place)  # [B, N]
    visible = order[:, : counts.num_visible].sort(dim=1).values  # [B, V]
    target = order[:, counts.num_visible : sum(counts)].sort(dim=1).values  # [B, M]
    clips = moving_clips(batch, info, seed=seed).to(place)  # [B, 3, T, H, W]
    return Place(info, model, clips, visible, target, choose_dtype(precision, place))


def _measure(lever: Lever, place: Place, rounds: int) -> dict[str, Any]:
    """Time both in turn; what both have done as often as the other has to be the same."""
    seconds: tuple[list[float], list[float]] = ([], [])
    found: list[Tensor] = [torch.empty(0)] * 2
    for number in range(rounds + 1):
        for way in (0, 1) if number % 2 else (1, 0):  # neither always finds warm what the other has read
            found[way] = _timed((lever.ours, lever.usual)[way], place, seconds[way])
    ours, usual = (each.detach().float() for each in (lever.shown(found[0]), lever.aligned(found[1])))
    difference = float((ours - usual).abs().max() / usual.abs().max().clamp(min=1e-12))
    fast, slow = (median(its[1:]) for its in seconds)
    return {
        **{"name": lever.name, "instead_of": lever.instead_of},
        **{"ms": 1e3 * fast, "usual_ms": 1e3 * slow, "gain": slow / fast},
        **{"difference": difference, "same": difference <= lever.tolerance},
    }


def _timed(way: Callable[[], Tensor], place: Place, seconds: list[float]) -> Tensor:
    device = place.clips.device
    started = now(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=place.dtype == torch.bfloat16):
        found = way()
    seconds.append(now(device) - started)
    return found
