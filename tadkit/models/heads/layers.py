"""Masked layers over time that the pyramids are built of.

Tensors are (batch, channels, time), but in memory the channels of a step lie together from the first norm on: on a CPU
norms, depthwise convolutions and matrix products then run several times faster, and nothing is transposed.

With ``masked`` set, padding never leaks: every operation is followed by its mask. Without it norms leave their bias at
padded steps, as the peers' do, and results depend on how long the padding is.
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
    """Convolution over time of odd kernel, as ``nn.Conv1d``, that keeps the channels of a step together in memory."""

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
        # The steps that each step sees, side by side, then one matrix product.
        seen = nnf.pad(steps, (0, 0, kernel // 2, kernel // 2)).unfold(1, kernel, stride).flatten(2)
        return nnf.linear(seen, weight.flatten(1), self.bias).transpose(1, 2)


class MaskedConv1d(nn.Module):
    """Convolution over time of odd ``kernel`` whose output is zero at masked steps."""

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
        """Mean over a group from sums of its ``size`` channels, for each of them."""
        means = sums.reshape(len(sums), -1, size).sum(dim=2) / count
        return means.repeat_interleave(size, dim=1)[:, :, None]


class ResidualPath(nn.Module):
    """What is added to a skip path: scaled channel by channel where ``scaled``, left out at random in training."""

    def __init__(self, dim: int, *, scaled: bool, drop_path: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), 1e-4)) if scaled else None
        self.drop_path = drop_path

    def forward(self, x: Float[Tensor, "batch dim time"]) -> Float[Tensor, "batch dim time"]:
        """The same shape; a sample whose path is left out comes as zero."""
        if self.scale is not None:
            x = x * self.scale[:, None]
        if self.training and self.drop_path > 0:
            kept = torch.rand(len(x), 1, 1, device=x.device, dtype=x.dtype) >= self.drop_path
            x = x * kept / (1 - self.drop_path)
        return x


def zero_padding(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch channels time"]:
    """``x`` with zeros at masked steps, whatever stood there (NaN too)."""
    return x if _all_real(mask) else torch.where(mask[:, None], x, 0.0)


def _all_real(mask: Bool[Tensor, "batch time"]) -> bool:
    """Whether there is surely nothing to mask; not asked on a GPU, where the answer would cost more than the mask."""
    return not mask.is_cuda and bool(mask.all())


def strided_mask(mask: Bool[Tensor, "batch time"], stride: int) -> Bool[Tensor, "batch strided_time"]:
    """Mask of the steps ``0, stride, 2 * stride, ...``."""
    return mask[:, ::stride]


def max_pooled(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"], *, masked: bool = True
) -> Float[Tensor, "batch channels half_time"]:
    """Largest of the real ones among three steps, at every second step; zero at masked steps.

    Without ``masked`` what stands at padded steps joins in, as in the peers, and nothing is zeroed.
    """
    if masked and not _all_real(mask):
        x = torch.where(mask[:, None], x, torch.finfo(x.dtype).min)
    pooled = nnf.max_pool2d(x.unsqueeze(2), (1, 3), stride=(1, 2), padding=(0, 1)).squeeze(2)
    return zero_padding(pooled, strided_mask(mask, 2)) if masked else pooled


_BLOCK_STEPS = 32


class DepthwiseProjection(nn.Module):
    """Depthwise convolution, which tells each step its surroundings in place of a positional embedding, norm, 1x1."""

    def __init__(self, dim: int, *, stride: int, masked: bool) -> None:
        super().__init__()
        self.conv = MaskedConv1d(dim, dim, kernel=3, stride=stride, groups=dim, bias=False)
        self.norm = ChannelNorm(dim, masked=masked)
        self.linear = MaskedConv1d(dim, dim, kernel=1)

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim strided_time"]:
        """Project; the result is zero at masked steps."""
        out_mask = strided_mask(mask, self.conv.stride)
        return self.linear(self.norm(self.conv(x, mask), out_mask), out_mask)  # type: ignore[no-any-return]


class ConvAttention(nn.Module):
    """Self-attention of each step to its ``window // 2`` real neighbours on either side, and itself.

    With ``stride`` 2, queries, keys and values come at half the rate. A window of 0 attends to all real steps.

    Args:
        dim: channels in and out.
        heads: that the channels are split into.
        window: odd, or 0.
        stride: 1 or 2.
        dropout: of the result.
        relative: learn a weight for each distance in the window.
        masked: the norms leave no bias at padded steps.
    """

    def __init__(
        self, dim: int, *, heads: int, window: int, stride: int, dropout: float, relative: bool, masked: bool
    ) -> None:
        super().__init__()
        self.heads, self.window, self.stride = heads, window, stride
        self.query = DepthwiseProjection(dim, stride=stride, masked=masked)
        self.key = DepthwiseProjection(dim, stride=stride, masked=masked)
        self.value = DepthwiseProjection(dim, stride=stride, masked=masked)
        self.out = MaskedConv1d(dim, dim, kernel=1)
        self.dropout = nn.Dropout(dropout)
        # A vector, as biases are, so that weight decay leaves it alone.
        self.distances = nn.Parameter(torch.empty(heads * window)) if relative and window else None
        if self.distances is not None:
            nn.init.trunc_normal_(self.distances, std=(2.0 / dim) ** 0.5)

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim strided_time"]:
        """Attend; the result is zero at masked steps."""
        out_mask = strided_mask(mask, self.stride)
        query, key, value = (
            project(x, mask).unflatten(1, (self.heads, -1)) for project in (self.query, self.key, self.value)
        )
        if self.window:
            distances = None if self.distances is None else self.distances.reshape(self.heads, self.window)
            mixed = sliding_attention(query, key, value, out_mask, window=self.window, distances=distances)
        else:
            mixed = global_attention(query, key, value, out_mask)
        return self.dropout(self.out(mixed.flatten(1, 2), out_mask))  # type: ignore[no-any-return]


def global_attention(
    query: Float[Tensor, "batch heads part time"],
    key: Float[Tensor, "batch heads part time"],
    value: Float[Tensor, "batch heads part time"],
    mask: Bool[Tensor, "batch time"],
) -> Float[Tensor, "batch heads part time"]:
    """Scaled dot-product attention of each step to all real steps; values at masked steps must be zero."""
    lowest = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
    query, key, value = (x.transpose(2, 3) for x in (query, key, value))
    mixed = nnf.scaled_dot_product_attention(query, key, value, attn_mask=lowest[:, None, None])
    return mixed.transpose(1, 2).contiguous().permute(0, 2, 3, 1)


def sliding_attention(
    query: Float[Tensor, "batch heads part time"],
    key: Float[Tensor, "batch heads part time"],
    value: Float[Tensor, "batch heads part time"],
    mask: Bool[Tensor, "batch time"],
    *,
    window: int,
    distances: Float[Tensor, "heads window"] | None = None,
) -> Float[Tensor, "batch heads part time"]:
    """Scaled dot-product attention of each step to the real steps at most ``window // 2`` away.

    Time is cut into blocks for the matrix products; each block sees a wing on either side, and a band keeps every step
    to its own window, so that the result depends on the cut by rounding alone. Memory is linear in time. Values at
    masked steps must be zero. ``distances`` are added to the logits, the farthest earlier step's first.
    """
    wing, time = window // 2, query.shape[-1]
    block = max(_BLOCK_STEPS, wing)
    count = -(-time // block)
    pad = count * block - time
    query = _blocks(query * query.shape[2] ** -0.5, block, pad)  # (batch, heads, blocks, block, part)
    key, value = (_with_wings(_blocks(x, block, pad), wing) for x in (key, value))  # (..., block + 2 * wing, part)
    real = _with_wings(_blocks(mask[:, None, None], block, pad), wing)[..., 0]
    step, other = torch.arange(block, device=mask.device), torch.arange(block + 2 * wing, device=mask.device)
    shift = other - step[:, None]  # 0 is the farthest earlier step
    near = (shift >= 0) & (shift < window)
    logits = query @ key.transpose(-1, -2)
    if distances is not None:
        logits = logits + distances[:, shift.clamp(0, window - 1)][:, None]
    logits = logits.masked_fill(~(near & real[..., None, :]), torch.finfo(logits.dtype).min)
    mixed = (logits.softmax(dim=-1) @ value).permute(0, 2, 3, 1, 4).flatten(1, 2)  # (batch, time, heads, part)
    return mixed[:, :time].contiguous().permute(0, 2, 3, 1)


def _blocks(x: Tensor, block: int, pad: int) -> Tensor:
    """(batch, heads, part, time) to (batch, heads, blocks, block, part), with ``pad`` zeros at the end."""
    steps = nnf.pad(x.permute(0, 3, 1, 2), (0, 0, 0, 0, 0, pad))
    return steps.reshape(len(x), -1, block, *steps.shape[2:]).permute(0, 3, 1, 2, 4)


def _with_wings(blocks: Tensor, wing: int) -> Tensor:
    """Each block with the last ``wing`` steps of the one before it and the first of the one after it, or zeros."""
    ends = nnf.pad(blocks, (0, 0, 0, 0, 1, 1))
    return torch.cat((ends[:, :, :-2, blocks.shape[3] - wing :], blocks, ends[:, :, 2:, :wing]), dim=3)


class DenseConv1d(MaskedConv1d):
    """:class:`~tadkit.models.heads.layers.MaskedConv1d` of stride 1 over all channels, quick both ways."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel=kernel, bias=bias)

    def forward(
        self, x: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch out_channels time"]:
        """Convolve ``x``; zero at masked steps."""
        return zero_padding(self.unmasked(x), mask)

    def unmasked(self, x: Float[Tensor, "batch in_channels time"]) -> Float[Tensor, "batch out_channels time"]:
        """Convolve ``x``, whatever comes out at masked steps."""
        conv = self.conv
        if x.device.type != "cpu" or x.is_contiguous() or conv.kernel_size == (1,):
            return conv(x)  # type: ignore[no-any-return]
        return _DenseConvolution.apply(x, conv.weight, conv.bias)  # type: ignore[no-any-return, no-untyped-call]


class _DenseConvolution(torch.autograd.Function):
    """Torch's convolution, but for the weight's gradient: that is one matrix product."""

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
    """Convolution over the last axis; in two dimensions, which alone know a layout with the channels together."""
    flat = nnf.conv2d(x.unsqueeze(2), weight.unsqueeze(2), bias, padding=(0, weight.shape[2] // 2))
    return flat.squeeze(2)


def sinusoids(positions: Float[Tensor, "*batch steps"], dim: int) -> Float[Tensor, "*batch steps dim"]:
    """Positional encoding of Vaswani et al. (NeurIPS 2017): sines in even channels, cosines in odd ones."""
    channel = torch.arange(dim, device=positions.device, dtype=positions.dtype)
    angle = positions[..., None] / 10000 ** (2 * channel.div(2, rounding_mode="floor") / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())
