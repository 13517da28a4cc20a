"""What each part of a fast step gains by itself: the same result, computed our way and the way it is usually done.

Shapes: B clips, C channels, T frames, H height, W width, N tokens, V visible, M targets, D width, P pixels of a
tubelet, h heads, d width of a head, t time slots, L tokens of a slot.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor, nn

from everest.bench.described import TaskOptions, describe_task
from everest.bench.hardware import describe_hardware, now
from everest.bench.made_up import moving_clips
from everest.bench.tasks import build_model, find_device
from everest.config import CheckpointInfo, ModelSize, OptimConfig, Task
from everest.errors import ConfigError
from everest.models import Classifier, MaskedModel
from everest.models.embedding import PatchEmbed
from everest.models.mixing import mix
from everest.models.scoring import score_tokens
from everest.models.tubelets import Tubelets, cut, take
from everest.objectives.pixels import patch_statistics, pixel_targets
from everest.tokens import TokenGrid, count_tokens, gather_tokens, patchify, rero_scores
from everest.training.ema import Ema
from everest.training.engine import choose_dtype
from everest.training.optim import build_optimizer
from everest.video import normalize

EMA_DECAY = 0.999
LEARNING_RATE = 1e-3
OnProgress = Callable[[int, int], None]


def _as_it_is(found: Tensor) -> Tensor:
    return found


@dataclass(frozen=True)
class Lever:
    """One way to be faster.

    Attributes:
        name: What is done.
        instead_of: What is done otherwise.
        ours: Does it, forward and where training does so backward, and gives what shows that the results are the same.
        usual: The same the other way.
        tolerance: How far the two may differ, as a share of the largest value.
        aligned: Brings what the other way gives into our order, or shows what it has done; not timed.
        shown: Shows what ours has done, where that is not what it gives; not timed.
    """

    name: str
    instead_of: str
    ours: Callable[[], Tensor]
    usual: Callable[[], Tensor]
    tolerance: float = 1e-5
    aligned: Callable[[Tensor], Tensor] = _as_it_is
    shown: Callable[[Tensor], Tensor] = _as_it_is


@dataclass(frozen=True)
class _Place:
    """What all levers are tried on."""

    info: CheckpointInfo
    model: MaskedModel | Classifier
    clips: Tensor  # [B, 3, T, H, W], uint8
    visible: Tensor  # [B, V]
    target: Tensor  # [B, M]
    dtype: torch.dtype

    @property
    def grid(self) -> TokenGrid:
        return self.model.grid

    @property
    def patch_embed(self) -> PatchEmbed:
        return self.model.encoder.patch_embed


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


def _applies(maker: Callable[[_Place], Lever], place: _Place) -> bool:
    """Whether there is something to predict, or to copy."""
    if maker is targets_of_what_is_predicted:
        return place.target.shape[1] > 0
    return maker is not bytes_to_the_device or place.clips.device.type == "cuda"


def _place(info: CheckpointInfo, batch: int, device: str, precision: str, seed: int) -> _Place:
    place = find_device(device)
    torch.manual_seed(seed)
    model = cast(MaskedModel | Classifier, build_model(info)).to(place).train()
    counts = count_tokens(model.grid, info.selection, info.task)
    order = torch.rand(batch, model.grid.num_tokens).argsort(dim=1).to(place)  # [B, N]
    visible = order[:, : counts.num_visible].sort(dim=1).values  # [B, V]
    target = order[:, counts.num_visible : sum(counts)].sort(dim=1).values  # [B, M]
    clips = moving_clips(batch, info, seed=seed).to(place)  # [B, 3, T, H, W]
    return _Place(info, model, clips, visible, target, choose_dtype(precision, place))


def _measure(lever: Lever, place: _Place, rounds: int) -> dict[str, Any]:
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


def _timed(way: Callable[[], Tensor], place: _Place, seconds: list[float]) -> Tensor:
    device = place.clips.device
    started = now(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=place.dtype == torch.bfloat16):
        found = way()
    seconds.append(now(device) - started)
    return found


def scored_and_embedded(place: _Place) -> Lever:
    """Decision 0008: tokens scored, and the visible ones embedded, forward and backward."""
    info, grid, embed = place.info, place.grid, place.patch_embed
    weight = embed.proj.weight
    pull = torch.randn(*place.visible.shape, len(weight), device=place.clips.device)  # [B, V, D]

    def ours() -> Tensor:
        patches = _tubelets(place)
        _, tokens = score_tokens(embed, patches, grid)
        known = None if tokens is None else gather_tokens(tokens, place.visible)
        return _gradient(embed(take(patches, place.visible), known), pull, weight)

    def usual() -> Tensor:
        with torch.backends.cudnn.flags(allow_tf32=False):
            tokens = embed.proj(normalize(place.clips, info.mean, info.std)).flatten(2).mT  # [B, N, D]
            slots = (
                tokens.detach().float().reshape(len(tokens), grid.num_slots, grid.tokens_per_slot, -1)
            )  # [B, t, L, D]
            rero_scores(slots[:, 1:] - slots[:, :-1])
            return _gradient(gather_tokens(tokens, place.visible), pull, weight)

    tolerance = 1e-4 if place.dtype == torch.float32 else 0.02
    name = "tokens scored by differences, visible embedded"
    return Lever(name, "all embedded, with gradients", ours, usual, tolerance)


def bytes_until_taken(place: _Place) -> Lever:
    """Decision 0015."""
    info, grid = place.info, place.grid

    def usual() -> Tensor:
        return gather_tokens(patchify(normalize(place.clips, info.mean, info.std), grid), place.visible)

    return Lever(
        "visible tubelets normalised when taken",
        "whole clips normalised",
        lambda: _tubelets(place).take(place.visible),
        usual,
    )


def targets_of_what_is_predicted(place: _Place) -> Lever:
    """Normalised pixels of the targets."""
    mean, std = (torch.tensor(numbers, device=place.clips.device) for numbers in (place.info.mean, place.info.std))
    patches = _tubelets(place)

    def ours() -> Tensor:
        return pixel_targets(patches, place.target, place.grid, mean, std)

    def usual() -> Tensor:
        values = patches.pixels.float().div_(255).reshape(*patches.shape[:2], 3, -1).transpose(2, 3)  # [B, N, S, C]
        center, spread = patch_statistics(values)
        return gather_tokens(((values - center) / spread).flatten(2), place.target)

    return Lever("targets of predicted tokens", "of all tokens", ours, usual)


def tokens_in_order(place: _Place) -> Lever:
    """Where the numbers of chosen tokens rise, what lies together is read together."""
    order = torch.rand(place.visible.shape).argsort(dim=1).to(place.visible.device)  # [B, V]
    shuffled = place.visible.gather(1, order)
    tubelets = _tubelets(place)
    return Lever(
        "tokens gathered in rising order",
        "in any order",
        lambda: tubelets.take(place.visible),
        lambda: tubelets.take(shuffled),
        aligned=lambda found: gather_tokens(found, order.argsort(dim=1)),
    )


def fused_attention(place: _Place) -> Lever:
    """Attention of the visible tokens in one block, forward and backward."""
    attention = place.model.encoder.blocks[0].attn
    heads = int(attention.num_heads)  # type: ignore[union-attr, arg-type]
    width = len(place.patch_embed.proj.weight) // heads
    shape = (len(place.clips), heads, place.visible.shape[1], width)
    q, k, v, pull = (torch.randn(shape, device=place.clips.device, dtype=place.dtype) for _ in range(4))
    inputs = [each.requires_grad_() for each in (q, k, v)]

    def usual() -> Tensor:
        weights = ((q * width**-0.5) @ k.mT).softmax(dim=-1)  # [B, h, V, V]
        return _gradient(weights.to(v.dtype) @ v, pull, *inputs)

    tolerance = 1e-4 if place.dtype == torch.float32 else 0.05
    return Lever(
        "attention, by the fastest kernel",
        "spelt out",
        lambda: _gradient(mix(q, k, v), pull, *inputs),
        usual,
        tolerance,
    )


def fused_optimizer(place: _Place) -> Lever:
    """AdamW on all weights, in the groups that training has."""
    models = [deepcopy(place.model) for _ in range(2)]
    for model in models:
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
    depth = len(models[0].encoder.blocks)
    config = OptimConfig(layer_decay=0.75 if place.info.task == "finetune" else 1.0)
    groups = build_optimizer(models[1], config, depth).param_groups
    usual = torch.optim.AdamW([{**group, "fused": None, "lr": LEARNING_RATE} for group in groups])
    ours = build_optimizer(models[0], config, depth)
    for group in ours.param_groups:
        group["lr"] = LEARNING_RATE
    return Lever(
        "AdamW fused",
        "as PyTorch chooses",
        lambda: _stepped(ours, models[0]),
        lambda: _stepped(usual, models[1]),
        aligned=lambda _: _all_weights(models[1]),
        shown=lambda _: _all_weights(models[0]),
    )


def averages_together(place: _Place) -> Lever:
    """Averaged weights, where a run asks for them."""
    alone, model, average = deepcopy(place.model), deepcopy(place.model), Ema(place.model, EMA_DECAY)
    average.update(model)  # the first time copies
    torch._foreach_mul_([weight.data for weight in model.parameters()], 2.0)

    def ours() -> Tensor:
        average.update(model)
        return _first_weight(model)

    @torch.no_grad()
    def usual() -> Tensor:
        for mean, weight in zip(alone.parameters(), model.parameters(), strict=True):
            mean.lerp_(weight, 1 - EMA_DECAY)
        return _first_weight(model)

    return Lever(
        "averaged weights in one call",
        "weight by weight",
        ours,
        usual,
        aligned=lambda _: _all_weights(alone),
        shown=lambda _: _all_weights(average.model),
    )


def bytes_to_the_device(place: _Place) -> Lever:
    """On a GPU: what is copied to it."""
    info = place.info
    narrow = place.clips.cpu().pin_memory()
    wide = normalize(place.clips, info.mean, info.std).cpu().pin_memory()
    return Lever(
        "bytes copied to the device, normalised there",
        "normalised clips copied",
        lambda: normalize(narrow.to(place.clips.device, non_blocking=True), info.mean, info.std),
        lambda: wide.to(place.clips.device, non_blocking=True),
    )


LEVERS: tuple[Callable[[_Place], Lever], ...] = (
    scored_and_embedded,
    bytes_until_taken,
    targets_of_what_is_predicted,
    tokens_in_order,
    fused_attention,
    fused_optimizer,
    averages_together,
    bytes_to_the_device,
)
"""In the order of a step; targets are of pre-training, and the last one is for a GPU."""


def _tubelets(place: _Place) -> Tubelets:
    return cast(Tubelets, cut(place.clips, place.grid, place.info.mean, place.info.std))


def _gradient(out: Tensor, pull: Tensor, *of: Tensor) -> Tensor:
    """Go backward to some tensors, and give the gradient of the first one."""
    return torch.autograd.grad(out, of, pull.to(out.dtype))[0]


def _stepped(optimizer: torch.optim.Optimizer, model: nn.Module) -> Tensor:
    optimizer.step()
    return _first_weight(model)


def _first_weight(model: nn.Module) -> Tensor:
    return next(model.parameters()).detach()


def _all_weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
