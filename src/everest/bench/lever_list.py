"""The levers: each a way to be faster, and what is done otherwise.

Shapes: B clips, C channels, T frames, H height, W width, N tokens, V visible, M targets, D width, P pixels of a
tubelet, h heads, d width of a head, t time slots, L tokens of a slot.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everest.bench.lever import Lever, Place
from everest.bench.lever_gpu import ATTENTION_KERNELS, bytes_to_the_device, changed_on_the_device, copied_meanwhile
from everest.config import OptimConfig
from everest.models import MaskedAutoencoder
from everest.models.layers import Block
from everest.models.mixing import mix
from everest.models.products import products_by
from everest.models.scoring import score_tokens
from everest.models.tubelets import Tubelets, cut, take
from everest.objectives.pixels import patch_statistics, pixel_targets
from everest.tokens import gather_tokens, patchify, rero_scores
from everest.training.ema import Ema
from everest.training.optim import build_optimizer
from everest.video import normalize

EMA_DECAY = 0.999
LEARNING_RATE = 1e-3


def _as_exact_as_ours() -> AbstractContextManager[None]:
    """Let convolutions in float32 compute without TF32 on a GPU, as matrix products do, and by cuDNN as ever."""
    cudnn = torch.backends.cudnn
    given = {"enabled": cudnn.enabled, "benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic}
    flags: AbstractContextManager[None] = cudnn.flags(**given, allow_tf32=False)
    return flags


def scored_and_embedded(place: Place) -> Lever:
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
        with _as_exact_as_ours():
            tokens = embed.proj(normalize(place.clips, info.mean, info.std)).flatten(2).mT  # [B, N, D]
            slots = (
                tokens.detach().float().reshape(len(tokens), grid.num_slots, grid.tokens_per_slot, -1)
            )  # [B, t, L, D]
            rero_scores(slots[:, 1:] - slots[:, :-1])
            return _gradient(gather_tokens(tokens, place.visible), pull, weight)

    tolerance = 1e-4 if place.dtype == torch.float32 else 0.02
    name = "tokens scored by differences, visible embedded"
    return Lever(name, "all embedded, with gradients", ours, usual, tolerance)


def bytes_until_taken(place: Place) -> Lever:
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


def targets_of_what_is_predicted(place: Place) -> Lever:
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


def tokens_in_order(place: Place) -> Lever:
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


def fused_attention(place: Place) -> Lever:
    """Attention of the visible tokens in one block, forward and backward."""
    q, k, v, pull = (torch.randn(place.heads, device=place.clips.device, dtype=place.dtype) for _ in range(4))
    inputs = [each.requires_grad_() for each in (q, k, v)]

    def usual() -> Tensor:
        weights = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(dim=-1)  # [B, h, V, V]
        return _gradient(weights.to(v.dtype) @ v, pull, *inputs)

    tolerance = 1e-4 if place.dtype == torch.float32 else 0.05
    return Lever(
        "attention, by the kernel that is taken",
        "spelt out, weights kept",
        lambda: _gradient(mix(q, k, v), pull, *inputs),
        usual,
        tolerance,
    )


def products_by_another_library(place: Place) -> Lever:
    """One block of the encoder, forward and backward (decision 0034)."""
    block = deepcopy(place.model.encoder.blocks[0]).eval()  # nothing is left out at random
    shape = (*place.visible.shape, len(place.patch_embed.proj.weight))
    x, pull = torch.randn(shape).requires_grad_(), torch.randn(shape)  # [B, V, D]
    inputs = (x, *block.parameters())

    def usual() -> Tensor:
        with products_by("pytorch"):
            return _gradient(block(x), pull, *inputs)

    return Lever(
        "products of a block by oneDNN", "as PyTorch chooses", lambda: _gradient(block(x), pull, *inputs), usual, 1e-4
    )


def last_layer_of_what_is_predicted(place: Place) -> Lever:
    """The last block of a decoder, forward and backward."""
    counts = (place.visible.shape[1], place.target.shape[1])
    block = cast(Block, cast(MaskedAutoencoder, place.model).decoder.blocks[-1])
    width = block.norm1.normalized_shape[0]
    x = torch.randn(len(place.clips), sum(counts), width, device=place.clips.device).requires_grad_()  # [B, V + M, E]
    pull = torch.randn(len(place.clips), counts[1], width, device=place.clips.device)
    inputs = (x, *block.parameters())
    return Lever(
        "decoder's last layer of predicted tokens",
        "of all tokens",
        lambda: _gradient(block(x, None, counts[1]), pull, *inputs),
        lambda: _gradient(block(x)[:, -counts[1] :], pull, *inputs),
        1e-4 if place.dtype == torch.float32 else 0.02,
    )


def stream_in_float32(place: Place) -> Lever:
    """What goes from block to block, normalised and added to, forward and backward, beside a run in bfloat16.

    Not a gain: what it costs that sums over the depth are exact.
    """
    width = len(place.patch_embed.proj.weight)
    wide = torch.randn(*place.visible.shape, width, device=place.clips.device)  # [B, V, D]
    pull = torch.randn_like(wide)

    def through(x: Tensor) -> Tensor:
        x = x.requires_grad_()
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = (torch.full((width,), value, device=x.device, dtype=x.dtype) for value in (1.0, 0.0))
            return _gradient(x + F.layer_norm(x, (width,), weight, bias).to(torch.bfloat16), pull, x)

    narrow = wide.to(torch.bfloat16)
    return Lever(
        "stream of tokens in float32",
        "in bfloat16",
        lambda: through(wide),
        lambda: through(narrow),
        0.02,
    )


def gradients_in_place(place: Place) -> Lever:
    """Two passes of a step through one block, whose gradients are added up."""
    block = deepcopy(place.model.encoder.blocks[0]).eval()  # nothing is left out at random
    width = len(place.patch_embed.proj.weight)
    first, second, pull = (torch.randn(*place.visible.shape, width, device=place.clips.device) for _ in range(3))

    def ours() -> Tensor:
        block.zero_grad(set_to_none=True)
        for x in (first, second):
            block(x).backward(pull)
        return torch.cat([cast(Tensor, parameter.grad).flatten() for parameter in block.parameters()])

    def usual() -> Tensor:
        passes = [torch.autograd.grad(block(x), list(block.parameters()), pull) for x in (first, second)]
        return torch.cat([(one + other).flatten() for one, other in zip(*passes, strict=True)])

    tolerance = 1e-5 if place.dtype == torch.float32 else 0.02
    return Lever("gradients of two passes added in place", "kept, and added", ours, usual, tolerance)


def fused_optimizer(place: Place) -> Lever:
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


def averages_together(place: Place) -> Lever:
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


LEVERS: tuple[Callable[[Place], Lever], ...] = (
    scored_and_embedded,
    bytes_until_taken,
    targets_of_what_is_predicted,
    tokens_in_order,
    fused_attention,
    products_by_another_library,
    last_layer_of_what_is_predicted,
    stream_in_float32,
    gradients_in_place,
    fused_optimizer,
    averages_together,
    bytes_to_the_device,
    copied_meanwhile,
    changed_on_the_device,
    *ATTENTION_KERNELS,
)
"""In the order of a step; targets are of pre-training, the stream is of bfloat16, another library of float32 on some
processors, and the last ones are for a GPU."""
FOR_A_GPU = (bytes_to_the_device, copied_meanwhile, changed_on_the_device, *ATTENTION_KERNELS)
OF_WHAT_IS_PREDICTED = (targets_of_what_is_predicted, last_layer_of_what_is_predicted)
"""In pre-training only."""


def _tubelets(place: Place) -> Tubelets:
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
