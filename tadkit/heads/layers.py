"""Masked layers over time that the pyramids are built of.

With ``masked`` set, padding never leaks: every operation is followed by its mask. Without it norms leave their bias at
padded steps, as the peers' do, and results depend on how long the padding is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn


class MaskedConv1d(nn.Module):
    """Convolution over time of odd ``kernel`` whose output is zero at masked steps."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        assert kernel % 2 == 1, kernel
        self.stride = stride
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
        if bias:
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(
        self, x: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch out_channels strided_time"]:
        """Convolve ``x``; step ``j`` of the result is centred on ``j * stride``."""
        return zero_padding(self.conv(x), strided_mask(mask, self.stride))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each step; ``masked``, then its bias does not leak into padding."""

    def __init__(self, dim: int, *, eps: float = 1e-5, masked: bool = True) -> None:
        super().__init__(dim, eps=eps)
        self.masked = masked

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch channels time"]:
        """Normalise each step of ``x``; masked steps come out as zero where the norm is masked."""
        normed = super().forward(x.transpose(1, 2)).transpose(1, 2)
        return zero_padding(normed, mask) if self.masked else normed


class TimeGroupNorm(nn.GroupNorm):
    """GroupNorm over the channels of a group and all steps; ``masked``, over the real steps alone."""

    def __init__(self, groups: int, dim: int, *, affine: bool = True, masked: bool = True) -> None:
        super().__init__(groups, dim, affine=affine)
        self.masked = masked

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch channels time"]:
        """Normalise; masked steps come out as zero where the norm is masked."""
        if not self.masked or bool(mask.all()):
            return super().forward(x)
        grouped = zero_padding(x, mask).reshape(len(x), self.num_groups, -1, x.shape[2])
        real = mask[:, None, None].to(x.dtype)
        count = real.sum(dim=(2, 3), keepdim=True).clamp(min=1) * grouped.shape[2]
        centred = (grouped - grouped.sum(dim=(2, 3), keepdim=True) / count) * real
        variance = centred.square().sum(dim=(2, 3), keepdim=True) / count
        normed = (centred * (variance + self.eps).rsqrt()).flatten(1, 2)
        if self.affine:
            normed = normed * self.weight[:, None] + self.bias[:, None]
        return zero_padding(normed, mask)


class ResidualPath(nn.Module):
    """What is added to a skip path: scaled channel by channel where ``scaled``, left out at random in training."""

    def __init__(self, dim: int, *, scaled: bool, drop_path: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim, 1), 1e-4)) if scaled else None
        self.drop_path = drop_path

    def forward(self, x: Float[Tensor, "batch dim time"]) -> Float[Tensor, "batch dim time"]:
        """The same shape; a sample whose path is left out comes as zero."""
        if self.scale is not None:
            x = x * self.scale
        if self.training and self.drop_path > 0:
            kept = torch.rand(len(x), 1, 1, device=x.device, dtype=x.dtype) >= self.drop_path
            x = x * kept / (1 - self.drop_path)
        return x


def zero_padding(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch channels time"]:
    """``x`` with zeros at masked steps, whatever stood there (NaN too)."""
    return x.masked_fill(~mask[:, None], 0.0)


def strided_mask(mask: Bool[Tensor, "batch time"], stride: int) -> Bool[Tensor, "batch strided_time"]:
    """Mask of the steps ``0, stride, 2 * stride, ...``."""
    return mask[:, ::stride]


def max_pooled(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"], *, masked: bool = True
) -> Float[Tensor, "batch channels half_time"]:
    """Largest of the real ones among three steps, at every second step; zero at masked steps.

    Without ``masked`` what stands at padded steps joins in, as in the peers, and nothing is zeroed.
    """
    if not masked:
        return nnf.max_pool1d(x, kernel_size=3, stride=2, padding=1)
    lowest = torch.finfo(x.dtype).min
    pooled = nnf.max_pool1d(x.masked_fill(~mask[:, None], lowest), kernel_size=3, stride=2, padding=1)
    return zero_padding(pooled, strided_mask(mask, 2))
