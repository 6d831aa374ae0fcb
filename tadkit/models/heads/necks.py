"""From the levels of a pyramid to what classifier and regressor read."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.models.heads.layers import ChannelNorm, MaskedConv1d, zero_padding

Level = tuple[Float[Tensor, "batch dim level_time"], Bool[Tensor, "batch level_time"]]
"""Features and mask of one level."""


class FeaturePyramidNeck(nn.Module):
    """Adds coarse levels to fine ones from the top down (Lin et al., CVPR 2017), in one dimension, and normalises.

    Lateral 1x1 convolutions, nearest-neighbour upsampling by 2, depthwise convolutions of 3 steps, layer norm.
    """

    def __init__(self, dim: int, out_dim: int, *, levels: int, eps: float, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.laterals = nn.ModuleList(MaskedConv1d(dim, out_dim, kernel=1, bias=False) for _ in range(levels))
        self.convs = nn.ModuleList(
            MaskedConv1d(out_dim, out_dim, kernel=3, groups=out_dim, bias=False) for _ in range(levels)
        )
        self.norms = nn.ModuleList(ChannelNorm(out_dim, eps=eps, masked=masked) for _ in range(levels))

    def forward(self, levels: list[Level]) -> list[Level]:
        """The levels, finest first, with ``out_dim`` channels."""
        merged: list[Level] = []
        above: Tensor | None = None
        for lateral, (x, mask) in zip(reversed(self.laterals), reversed(levels), strict=True):
            y: Tensor = lateral(x, mask)
            if above is not None:
                y = y + torch.repeat_interleave(above, 2, dim=2)[..., : y.shape[2]]
                # The last coarse step may reach over the end of the finer level.
                y = zero_padding(y, mask) if self.masked else y
            above = y
            merged.append((y, mask))
        return [
            (norm(conv(y, mask), mask), mask)
            for conv, norm, (y, mask) in zip(self.convs, self.norms, reversed(merged), strict=True)
        ]
