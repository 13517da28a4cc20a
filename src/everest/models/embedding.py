"""From tubelets to embeddings, computing each token once.

Shapes: B clips, N tokens, K some of them, P pixels of a tubelet, D width, t time slots, L tokens of a slot.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from everest.models.products import gradient_of_weight, linear, multiply
from everest.models.tubelets import Tubelets
from everest.tokens import TokenGrid, token_changes


class PatchEmbed(nn.Module):
    """A linear map of the pixels of a tubelet.

    It is stored as the 3-D convolution that the field uses (kernel = stride = tubelet), so that weights are
    exchanged without change, but computed as the matrix product that it is, on the tubelets that are needed.
    """

    def __init__(self, grid: TokenGrid, width: int) -> None:
        super().__init__()
        tubelet = (grid.tubelet_size, grid.patch_size, grid.patch_size)
        self.proj = nn.Conv3d(3, width, kernel_size=tubelet, stride=tubelet)

    def forward(self, patches: Tensor, embedded: Tensor | None = None) -> Tensor:
        """Embed tubelets.

        Args:
            patches: Shape [B, K, P].
            embedded: Their embeddings, if :meth:`embed_all` has computed them; then only gradients are computed here.

        Returns:
            Shape [B, K, D].
        """
        weight = self.proj.weight.flatten(1)  # [D, P]
        assert self.proj.bias is not None  # noqa: S101 - for the type checker: built with a bias above
        if embedded is None:
            return linear(patches, weight, self.proj.bias)
        known: Tensor = _KnownLinear.apply(patches, weight, self.proj.bias, embedded)  # type: ignore[no-untyped-call]
        return known

    @torch.no_grad()
    def embed_all(self, patches: Tensor | Tubelets, grid: TokenGrid) -> tuple[Tensor, Tensor]:
        """Embed all tokens of a clip and their changes over time in one pass, without gradient.

        The changes are embedded from differences of pixels, so that what stands still is exactly 0; the embeddings
        are their running sums from slot 0 on. In float32 at least, whatever autocast says: a coarser number format
        would make ties of tokens that differ.

        Args:
            patches: Shape [B, N, P].
            grid: Where the tokens are.

        Returns:
            Embeddings, shape [B, N, D], and changes of slots 1 to t - 1, shape [B, t - 1, L, D].
        """
        kind = patches.device.type
        with torch.autocast("cpu" if kind == "meta" else kind, enabled=False):  # autocast does not know meta
            if isinstance(patches, Tubelets):
                return self._embed_bytes(patches, grid)
            patches = patches.to(torch.promote_types(patches.dtype, torch.float32))
            weight = self.proj.weight.flatten(1).to(patches.dtype)  # [D, P]
            bias = None if self.proj.bias is None else self.proj.bias.to(patches.dtype)
            first = linear(patches[:, : grid.tokens_per_slot], weight, bias)  # [B, L, D]
            changes = linear(token_changes(patches, grid), weight)  # [B, t - 1, L, D]
            tokens = torch.cat([first[:, None], changes], dim=1).cumsum(dim=1)  # [B, t, L, D]
        return tokens.flatten(1, 2), changes

    def _embed_bytes(self, patches: Tubelets, grid: TokenGrid) -> tuple[Tensor, Tensor]:
        """The same for bytes, whose differences are exact; on a CPU clip by clip: one fits into the cache."""
        weight = self.proj.weight.flatten(1).float()  # [D, P]
        bias = None if self.proj.bias is None else self.proj.bias.float()
        weight_of_changes = patches.weight_of_changes(weight)
        B, t, L = len(patches), grid.num_slots, grid.tokens_per_slot
        tokens = weight.new_empty(B, t, L, len(weight))
        changes = weight.new_empty(B, t - 1, L, len(weight))
        num_together = 1 if patches.device.type == "cpu" else B
        for start in range(0, B, num_together):
            part = slice(start, start + num_together)
            slots = patches.pixels[part].reshape(-1, t, L, grid.num_pixels)  # [b, t, L, P], uint8
            tokens[part, 0] = linear(patches.normalize(slots[:, 0]), weight, bias)
            differences = torch.sub(slots[:, 1:], slots[:, :-1].float())  # [b, t - 1, L, P]
            changes[part] = linear(differences, weight_of_changes)
            torch.cumsum(torch.cat([tokens[part, :1], changes[part]], dim=1), dim=1, out=tokens[part])
        return tokens.flatten(1, 2), changes


class _KnownLinear(torch.autograd.Function):
    """A linear map whose result is known already: forward hands it on, backward is the map's own."""

    @staticmethod
    def forward(ctx: Any, patches: Tensor, weight: Tensor, bias: Tensor, embedded: Tensor) -> Tensor:
        ctx.save_for_backward(patches, weight)
        return embedded.view_as(embedded)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        patches, weight = ctx.saved_tensors
        by_patches = multiply(grad, weight) if ctx.needs_input_grad[0] else None
        by_weight = gradient_of_weight(grad, patches) if ctx.needs_input_grad[1] else None
        by_bias = grad.sum(dim=(0, 1)) if ctx.needs_input_grad[2] else None
        return by_patches, by_weight, by_bias, None
