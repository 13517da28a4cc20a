"""Small models of every family, and attention spelt out for one query, to compare with."""

import math

import torch
from torch import Tensor, nn

from everest.config import Arch, ClipConfig, ModelConfig, ModelSize
from everest.models import Classifier, build_classifier
from everest.models.supervised.attention import GroupedAttention
from everest.models.supervised.places import TokenPlaces
from everest.tokens import TokenGrid, TokenSelection

GRID = TokenGrid(num_slots=4, num_rows=2, num_columns=3, tubelet_size=2, patch_size=4)
WIDTH, HEADS = 24, 2
TOKEN_ARCHS: tuple[Arch, ...] = ("timesformer", "xvit", "motionformer")
WHOLE_ARCHS: tuple[Arch, ...] = ("mvit_s", "mvit_b", "vivit")
ARCHS = TOKEN_ARCHS + WHOLE_ARCHS


def built(arch: Arch, *, clip: ClipConfig | None = None, size: ModelSize = "tiny", seed: int = 0) -> Classifier:
    """A tiny classifier of three classes whose weights are far from their start."""
    torch.manual_seed(seed)
    clip = clip or ClipConfig(num_frames=8, height=32, width=48)
    model = build_classifier(ModelConfig(arch=arch, size=size), clip, 3)
    return jittered(model).eval()


def jittered(model: Classifier) -> Classifier:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def chosen(grid: TokenGrid, *clips: list[int]) -> TokenSelection:
    """A selection of tokens by number, clip by clip."""
    return TokenSelection(torch.tensor(clips), torch.empty(len(clips), 0, dtype=torch.int64), grid)


def everything(grid: TokenGrid, batch: int = 1) -> TokenSelection:
    return chosen(grid, *[list(range(grid.num_tokens))] * batch)


def masked(places: TokenPlaces) -> TokenPlaces:
    """The same places with their mask spelt out, also where nothing is missing."""
    kept = torch.zeros(len(places.visible), places.grid.num_tokens, dtype=torch.bool).scatter(1, places.visible, True)
    return TokenPlaces(places.grid, places.visible, kept.reshape(len(kept), places.grid.num_slots, -1))


def attention(query: Tensor, keys: list[Tensor], values: list[Tensor], heads: int = HEADS) -> Tensor:
    """Attention of one query over some keys, head by head: [D] and lists of [D] to [D]."""
    size = len(query) // heads
    out = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        logits = torch.stack([query[part] @ key[part] / math.sqrt(size) for key in keys])
        weights = logits.softmax(dim=0)
        out.append(sum(weight * value[part] for weight, value in zip(weights, values, strict=True)))
    return torch.cat(out)  # type: ignore[arg-type]


def projected(module: GroupedAttention, norm: nn.LayerNorm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of one clip by the definition: [K, D] to three of it."""
    D = x.shape[-1]
    normal, weight = norm(x), module.qkv.weight
    return (
        normal @ weight[:D].T + module.q_bias,
        normal @ weight[D : 2 * D].T,
        normal @ weight[2 * D :].T + module.v_bias,
    )


def random_module(module: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.double()
