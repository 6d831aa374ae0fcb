"""Masked layers over time, from which the heads are built.

Tensors are (batch, channels, time), but from the first norm on the channels of a step are contiguous in memory: on a
CPU, norms, depthwise convolutions and matrix products then run several times faster, and nothing is transposed.

With ``masked`` set, padding never leaks: every operation is followed by its mask. Without it norms leave their bias at
padded steps, as in the authors' code and OpenTAD, and results depend on the length of the padding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable


class StepConv1d(nn.Conv1d):
    """``nn.Conv1d`` of odd kernel that keeps the channels of a step contiguous in memory."""

    def forward(self, x: Float[Tensor, "batch in_channels time"]) -> Float[Tensor, "batch out_channels strided_time"]:
        """Step ``j`` of the result is centred on ``j * stride``."""
        (kernel,), (stride,), weight = self.kernel_size, self.stride, self.weight
        if kernel == stride == 1 and self.groups == x.shape[1] and self.bias is not None:
            return torch.addcmul(self.bias[:, None], x, weight[:, 0])
        if x.is_cuda or x.is_contiguous():
            return super().forward(x)
        if self.groups > 1:
            flat, sizes = x.unsqueeze(2), {"stride": (1, stride), "padding": (0, kernel // 2)}
            y: Tensor = nnf.conv2d(flat, weight.unsqueeze(2), self.bias, groups=self.groups, **sizes)
            return y.squeeze(2)
        steps = x.transpose(1, 2)
        if kernel == 1:
            return nnf.linear(steps[:, ::stride], weight[:, :, 0], self.bias).transpose(1, 2)
        # Gather the inputs of each step side by side, then one matrix product.
        seen = nnf.pad(steps, (0, 0, kernel // 2, kernel // 2)).unfold(1, kernel, stride).flatten(2)
        return nnf.linear(seen, weight.flatten(1), self.bias).transpose(1, 2)


class MaskedConv1d(nn.Module):
    """Convolution over time with an odd ``kernel``; its output is zero at masked steps."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        assert kernel % 2 == 1, kernel
        self.stride = stride
        self.conv = StepConv1d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
        if bias:
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(
        self, x: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch out_channels strided_time"]:
        """Convolve ``x``; step ``j`` of the result is centred on ``j * stride``."""
        return _zeroed(self.conv(x), strided_mask(mask, self.stride))


class DenseConv1d(MaskedConv1d):
    """:class:`~tadkit.models.heads.layers.MaskedConv1d` of stride 1 over all channels, fast forward and backward."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel=kernel, bias=bias)

    def forward(
        self, x: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch out_channels time"]:
        """Convolve ``x``; zero at masked steps."""
        return _zeroed(self.unmasked(x), mask)

    def unmasked(self, x: Float[Tensor, "batch in_channels time"]) -> Float[Tensor, "batch out_channels time"]:
        """Convolve ``x`` without zeroing masked steps."""
        conv = self.conv
        if x.device.type != "cpu" or x.is_contiguous() or conv.kernel_size == (1,):
            return conv(x)  # type: ignore[no-any-return]
        if not torch.is_grad_enabled():
            return _convolved(x, conv.weight, conv.bias)
        return _DenseConvolution.apply(x, conv.weight, conv.bias)  # type: ignore[no-any-return, no-untyped-call]


class _DenseConvolution(torch.autograd.Function):
    """Torch's convolution, except that the gradient of the weight is one matrix product."""

    @staticmethod
    @custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolved(x, weight, bias)

    @staticmethod
    @custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        steps = slope.transpose(1, 2).contiguous()  # (batch, time, out_channels)
        to_x = _convolved(steps.transpose(1, 2), weight.transpose(0, 1).flip(2), None) if needs_x else None
        to_weight = None
        if needs_weight:
            kernel = weight.shape[2]
            padded = nnf.pad(x.transpose(1, 2), (0, 0, kernel // 2, kernel // 2))
            seen = padded.unfold(1, kernel, 1).flatten(2).flatten(0, 1)  # (batch * time, in_channels * kernel)
            to_weight = (steps.flatten(0, 1).T @ seen).view_as(weight)
        return to_x, to_weight, steps.sum(dim=(0, 1)) if needs_bias else None


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution over the last axis, by ``conv2d``, because only it supports a channels-last layout."""
    flat = nnf.conv2d(x.unsqueeze(2), weight.unsqueeze(2), bias, padding=(0, weight.shape[2] // 2))
    return flat.squeeze(2)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each step; if ``masked``, its bias does not leak into padding."""

    def __init__(self, dim: int, *, eps: float = 1e-5, masked: bool = True) -> None:
        super().__init__(dim, eps=eps)
        self.masked = masked

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch channels time"]:
        """Normalise each step of ``x``; masked steps become zero if the norm is masked."""
        normed = super().forward(x.transpose(1, 2)).transpose(1, 2)
        return _zeroed(normed, mask) if self.masked else normed


class Unnormalised(nn.Module):
    """Replaces :class:`~tadkit.models.heads.layers.ChannelNorm` in heads without layer norm."""

    def forward(
        self,
        x: Float[Tensor, "batch channels time"],
        mask: Bool[Tensor, "batch time"],  # noqa: ARG002 - as that of a norm
    ) -> Float[Tensor, "batch channels time"]:
        """``x`` as it is."""
        return x


class TimeGroupNorm(nn.GroupNorm):
    """GroupNorm over the channels of a group and all steps; if ``masked``, over real steps only."""

    def __init__(self, groups: int, dim: int, *, affine: bool = True, masked: bool = True) -> None:
        super().__init__(groups, dim, affine=affine)
        self.masked = masked

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch channels time"]:
        """Normalise; masked steps become zero if the norm is masked."""
        if not self.masked:
            mask = torch.ones_like(mask)
        x = zero_padding(x, mask)
        size = x.shape[1] // self.num_groups
        count = mask.sum(dim=1).clamp(min=1)[:, None] * size
        centred = zero_padding(x - self._spread(x.sum(dim=2), size, count), mask)
        deviation = (self._spread(centred.square().sum(dim=2), size, count) + self.eps).rsqrt()
        if not self.affine:
            return centred * deviation
        return zero_padding(torch.addcmul(self.bias[:, None], centred, deviation * self.weight[:, None]), mask)

    @staticmethod
    def _spread(sums: Tensor, size: int, count: Tensor) -> Float[Tensor, "batch channels 1"]:
        """Mean of each group from the sums of its ``size`` channels, repeated for each channel."""
        means = sums.reshape(len(sums), -1, size).sum(dim=2) / count
        return means.repeat_interleave(size, dim=1)[:, :, None]


class ResidualPath(nn.Module):
    """The branch added to a skip connection: scaled per channel if ``scaled``, dropped at random in training."""

    def __init__(self, dim: int, *, scaled: bool, drop_path: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), 1e-4)) if scaled else None
        self.drop_path = drop_path

    def forward(self, x: Float[Tensor, "batch dim time"]) -> Float[Tensor, "batch dim time"]:
        """The same shape; zero for a sample whose path is dropped."""
        if self.scale is not None:
            x = x * self.scale[:, None]
        if self.training and self.drop_path > 0:
            kept = torch.rand(len(x), 1, 1, device=x.device, dtype=x.dtype) >= self.drop_path
            x = x * kept / (1 - self.drop_path)
        return x


def max_pooled(
    x: Float[Tensor, "batch channels time"],
    mask: Bool[Tensor, "batch time"],
    *,
    masked: bool = True,
    stride: int = 2,
    kernel: int = 3,
) -> Float[Tensor, "batch channels strided_time"]:
    """Maximum over the real ones of ``kernel`` steps (odd), at every ``stride``-th step; zero at masked steps.

    Without ``masked``, padded steps take part, as in the authors' code and OpenTAD, and nothing is zeroed.
    """
    if masked and not _all_real(mask):
        x = torch.where(mask[:, None], x, torch.finfo(x.dtype).min)
    pooled = nnf.max_pool2d(x.unsqueeze(2), (1, kernel), stride=(1, stride), padding=(0, kernel // 2)).squeeze(2)
    return zero_padding(pooled, strided_mask(mask, stride)) if masked else pooled


def zero_padding(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch channels time"]:
    """``x`` with zeros at masked steps, even where the values are NaN."""
    return x if _all_real(mask) else torch.where(mask[:, None], x, 0.0)


def _zeroed(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch channels time"]:
    """As :func:`zero_padding`, of finite values: a product, which in training takes a third of the time on a CPU."""
    if x.is_cuda or not x.requires_grad:
        return zero_padding(x, mask)
    return x if _all_real(mask) else x * mask[:, None].to(x.dtype)


def _all_real(mask: Bool[Tensor, "batch time"]) -> bool:
    """Whether nothing needs masking; always False on a GPU, where checking costs more than masking."""
    return not mask.is_cuda and bool(mask.all())


def strided_mask(mask: Bool[Tensor, "batch time"], stride: int) -> Bool[Tensor, "batch strided_time"]:
    """Mask of the steps ``0, stride, 2 * stride, ...``."""
    return mask[:, ::stride]


def sinusoids(positions: Float[Tensor, "*batch steps"], dim: int) -> Float[Tensor, "*batch steps dim"]:
    """Positional encoding of Vaswani et al. (NeurIPS 2017): sines in even channels, cosines in odd ones."""
    channel = torch.arange(dim, device=positions.device, dtype=positions.dtype)
    angle = positions[..., None] / 10000 ** (2 * channel.div(2, rounding_mode="floor") / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())
