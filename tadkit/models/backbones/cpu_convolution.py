"""Convolution of small pictures with a backward pass that is fast on a CPU.

PyTorch leaves the gradients of a convolution to oneDNN, which has no fast routine for three cases that EfficientNet's
deep blocks consist of: the weight gradient of a depthwise convolution whose kernel is larger than the picture, that of
a 1x1 convolution, and gradients in another memory format than the inputs. Here the first two are matrix products, and
every gradient has the channels of a pixel contiguous. The same function and the same gradients, up to rounding;
docs/results.md has the times.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_CHANNELS_AT_ONCE = 4
"""Channels multiplied together by :func:`depthwise_weight_gradient`: the fastest of 2, 4, 8 and 16."""


def convolve(
    x: Float[Tensor, "batch channels height width"],
    weight: Tensor,
    bias: Tensor,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, int],
    groups: int,
    active: bool,
) -> Float[Tensor, "batch out height2 width2"]:
    """Convolution and, if ``active``, ReLU6; picks the backward pass by where and in what precision it runs."""
    ours = (
        torch.is_grad_enabled()
        and (x.requires_grad or weight.requires_grad)
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not (torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
    )
    if ours:
        out: Tensor = _Convolution.apply(x, weight, bias, stride, padding, groups, active)  # type: ignore[no-untyped-call]
        return out
    y = functional.conv2d(x, weight, bias, stride, padding, 1, groups)
    return functional.relu6(y, inplace=True) if active else y


class _Convolution(torch.autograd.Function):
    """Convolution and ReLU6; keeps the input and, with ReLU6, the output."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: tuple[int, ...],
        padding: tuple[int, int],
        groups: int,
        active: bool,
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y = functional.conv2d(x, weight, bias, stride, padding, 1, groups)
        if active:
            functional.relu6(y, inplace=True)
        ctx.save_for_backward(x, weight, y if active else None)
        ctx.stride, ctx.padding, ctx.groups = stride, padding, groups
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        if y is not None:
            gradient = torch.ops.aten.hardtanh_backward(gradient, y, 0.0, 6.0)
        wanted = ctx.needs_input_grad[:3]
        if ctx.groups == 1 and weight.shape[2:] == (1, 1) and ctx.stride == (1, 1):
            return *_pointwise_gradients(x, weight, gradient, wanted), None, None, None, None
        small = ctx.groups == x.shape[1] == len(weight) and max(weight.shape[2:]) > min(x.shape[2:])
        geometry = (ctx.stride, ctx.padding, (1, 1), False, (0, 0), ctx.groups)
        to_x, to_weight, to_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, [len(weight)], *geometry, [wanted[0], wanted[1] and not small, False]
        )
        if small and wanted[1]:
            to_weight = depthwise_weight_gradient(
                x, gradient, kernel=tuple(weight.shape[2:]), stride=ctx.stride, padding=ctx.padding
            )
        return to_x, to_weight, gradient.sum((0, 2, 3)) if wanted[2] else to_bias, None, None, None, None


def _pointwise_gradients(
    x: Tensor, weight: Tensor, gradient: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a 1x1 convolution, whose pixels are the rows of a matrix."""
    inputs, outputs = (z.permute(0, 2, 3, 1).flatten(0, 2) for z in (x, gradient))
    to_x = None
    if wanted[0]:
        to_x = (outputs @ weight[:, :, 0, 0]).view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
    to_weight = (outputs.T @ inputs)[:, :, None, None] if wanted[1] else None
    return to_x, to_weight, outputs.sum(0) if wanted[2] else None


def depthwise_weight_gradient(
    x: Float[Tensor, "batch channels height width"],
    gradient: Float[Tensor, "batch channels height2 width2"],
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Float[Tensor, "channels 1 kernel_height kernel_width"]:
    """Weight gradient of a depthwise convolution from the products of every input pixel with every output pixel.

    Each product summed over the batch belongs to one weight, or to none where the two pixels are too far apart. Work
    grows with the square of the pixels, so this is for pictures smaller than the kernel. A few channels share one
    matrix product, of which only the products within a channel are used: that is faster than many small ones.
    """
    batch, channels = x.shape[:2]
    some = gcd(channels, _CHANNELS_AT_ONCE)
    rows = [
        z.permute(0, 2, 3, 1).reshape(batch, -1, channels // some, some).permute(2, 0, 1, 3).flatten(2)
        for z in (x, gradient)
    ]
    products = torch.bmm(rows[0].transpose(1, 2), rows[1])
    pixels = (x.shape[2:].numel(), gradient.shape[2:].numel())
    products = products.view(channels // some, pixels[0], some, pixels[1], some)
    within = products.diagonal(dim1=2, dim2=4).permute(1, 2, 0, 3).reshape(-1, channels)
    down, right = (
        torch.arange(x.shape[2 + axis])[:, None] - stride[axis] * torch.arange(gradient.shape[2 + axis]) + padding[axis]
        for axis in (0, 1)
    )
    near_down, near_right = ((tap >= 0) & (tap < size) for tap, size in zip((down, right), kernel, strict=True))
    # (height, width, height2, width2), as the rows of ``within``
    tap = (down[:, None, :, None] * kernel[1] + right[None, :, None]).flatten()
    near = (near_down[:, None, :, None] & near_right[None, :, None]).flatten()
    taps: Tensor = within.new_zeros(kernel[0] * kernel[1], channels).index_add_(0, tap[near], within[near])
    return taps.T.reshape(channels, 1, *kernel)
