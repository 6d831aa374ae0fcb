"""Convolution over time and all channels, of tracks whose channels of a step lie together in memory.

Embeddings and towers spend most of their time here. On a CPU torch's own convolution reads this layout well but is slow
at its gradients, and one matrix product over steps laid side by side keeps three copies of the track for each layer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from tadkit.models.heads.layers import MaskedConv1d, zero_padding


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
