"""Convolution of small pictures with a backward pass that is fast on a CPU.

PyTorch leaves the gradients of a convolution to oneDNN, which has no fast routine for four cases that EfficientNet's
deep blocks consist of: the weight gradients of a depthwise convolution whose kernel has more than three columns or is
larger than the picture, that of a 1x1 convolution, and gradients in another memory format than the inputs. Here kernels
of five columns are cut into ones of three, the other two are matrix products, and every gradient has the channels of a
pixel contiguous. The same function and the same gradients, up to rounding; docs/results.md has the times.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_WHOLE = {8: torch.float64, 16: torch.complex128}
"""A type of number by its size in bytes."""
_CHANNELS_AT_ONCE = 4
"""Channels multiplied together by :func:`depthwise_weight_gradient`: the fastest of 2, 4, 8 and 16."""


def convolve(
    x: Float[Tensor, "batch channels height width"],
    weight: Tensor,
    bias: Tensor,
    *,
    stride: tuple[int, ...],
    pads: tuple[int, int, int, int],
    groups: int,
    active: bool,
) -> Float[Tensor, "batch out height2 width2"]:
    """Convolution and, if ``active``, ReLU6; picks the backward pass by where and in what precision it runs.

    ``pads`` are the pixels of padding left, right, at the top and at the bottom.
    """
    on_cpu = x.device.type == "cpu" and not becomes_a_graph()
    trained = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    left, right, top, bottom = pads
    padding = (top, left)
    if padding != (bottom, right):
        if on_cpu and not trained and groups > 1 and left <= right and top <= bottom:
            # Filters that begin with zeros read the same pixels, and no padded copy of the pictures is written.
            weight, padding = functional.pad(weight, (right - left, 0, bottom - top, 0)), (bottom, right)
        else:
            x, padding = functional.pad(x, pads), (0, 0)
    if on_cpu and trained and torch.is_autocast_enabled("cpu"):
        x, weight, bias = (z.to(torch.get_autocast_dtype("cpu")) for z in (x, weight, bias))
    if on_cpu and trained and x.dtype == weight.dtype and x.dtype in (torch.float32, torch.bfloat16):
        out: Tensor = _Convolution.apply(x, weight, bias, stride, padding, groups, active)  # type: ignore[no-untyped-call]
        return out
    y = functional.conv2d(x, weight, bias, stride, padding, 1, groups)
    return functional.relu6(y, inplace=True) if active else y


def becomes_a_graph() -> bool:
    """Whether what runs is being compiled, or traced for export: then the plainest form of a function is the best."""
    return torch.compiler.is_compiling() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


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
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        gradient = upstream[0].contiguous(memory_format=torch.channels_last)
        if y is not None:
            gradient = torch.ops.aten.hardtanh_backward(gradient, y, 0.0, 6.0)
        wanted = ctx.needs_input_grad[:3]
        geometry = {"stride": ctx.stride, "padding": ctx.padding}
        if ctx.groups == 1 and weight.shape[2:] == (1, 1) and ctx.stride == (1, 1):
            gradients = _pointwise_gradients(x, weight, gradient, wanted)
        elif ctx.groups == x.shape[1] == len(weight):
            gradients = _depthwise_gradients(x, weight, gradient, wanted, **geometry)
        else:
            gradients = _library_gradients(x, weight, gradient, wanted, **geometry, groups=ctx.groups)
        return *gradients, None, None, None, None


def _library_gradients(
    x: Tensor,
    weight: Tensor,
    gradient: Tensor,
    wanted: tuple[bool, ...],
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    groups: int,
) -> tuple[Tensor | None, ...]:
    """Gradients of any convolution, by oneDNN."""
    geometry = (stride, padding, (1, 1), False, (0, 0), groups)
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        gradient, x, weight, [len(weight)], *geometry, wanted
    )
    return found


def _pointwise_gradients(
    x: Tensor, weight: Tensor, gradient: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Gradients of a 1x1 convolution, whose pixels are the rows of a matrix.

    Matrix products are the fastest in bfloat16, oneDNN's convolutions in float32.
    """
    rounded = x.dtype == torch.bfloat16
    to_x, to_weight = None, None
    if wanted[0]:
        to_x = _rows_times(gradient, weight) if rounded else functional.conv2d(gradient, weight.transpose(0, 1))
    if wanted[1]:
        product = _product_of_rows if rounded else _product_by_library
        widens = x.shape[1] < len(weight)  # the narrower one comes first: the other way round takes a quarter longer
        to_weight = product(x, gradient).T if widens else product(gradient, x)
        to_weight = to_weight[:, :, None, None]
    return to_x, to_weight, _sum_of_pixels(gradient) if wanted[2] else None


def _rows_times(gradient: Tensor, weight: Tensor) -> Tensor:
    """Gradient of a 1x1 convolution's input as a matrix product."""
    to_rows: Tensor = gradient.permute(0, 2, 3, 1) @ weight[:, :, 0, 0]
    return to_rows.permute(0, 3, 1, 2)


def _product_of_rows(narrow: Tensor, wide: Tensor) -> Float[Tensor, "narrow wide"]:
    """Sum over all pixels of the products of each two channels."""
    one, other = (z.permute(0, 2, 3, 1).flatten(0, 2) for z in (narrow, wide))
    return one.T @ other


def _product_by_library(narrow: Tensor, wide: Tensor) -> Float[Tensor, "narrow wide"]:
    """The same as the weight gradient of a 1x1 convolution that has ``narrow`` as its input."""
    filters = narrow.new_empty(wide.shape[1], narrow.shape[1], 1, 1)
    sizes: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0), "groups": 1}
    _, product, _ = _library_gradients(narrow, filters, wide, (False, True, False), **sizes)
    assert product is not None
    return product[:, :, 0, 0].T


def _sum_of_pixels(x: Tensor) -> Float[Tensor, " channels"]:
    """Sum over frames and pixels; in bfloat16 twice as fast as ``x.sum((0, 2, 3))``."""
    of_frames = functional.avg_pool2d(x, x.shape[2:], divisor_override=1)
    return of_frames.sum((0, 2, 3))


def _depthwise_gradients(
    x: Tensor,
    weight: Tensor,
    gradient: Tensor,
    wanted: tuple[bool, ...],
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> tuple[Tensor | None, ...]:
    """Gradients of a depthwise convolution."""
    kernel = tuple(weight.shape[2:])
    # oneDNN's own gradient of the input is slower with stride 1, and with stride 2 in bfloat16.
    turned = stride == (1, 1) or gradient.dtype == torch.bfloat16
    turned &= all(pad < size for pad, size in zip(padding, kernel, strict=True))
    small = max(kernel) > min(x.shape[2:])
    wide = not small and kernel[1] == 5 and padding[1] == 2 and stride[1] <= 2
    usual = not (small or wide)
    # oneDNN computes the bias's gradient with that of the weight, which would cost as much for the bias alone.
    to_x, to_weight, to_bias = _library_gradients(
        x,
        weight,
        gradient,
        (wanted[0] and not turned, wanted[1] and usual, wanted[2] and wanted[1] and usual),
        stride=stride,
        padding=padding,
        groups=len(weight),
    )
    if wanted[0] and turned:
        to_x = _turned_convolution(gradient, weight, size=x.shape[2:], stride=stride, padding=padding)
    if wanted[1] and small:
        to_weight = depthwise_weight_gradient(x, gradient, kernel=kernel, stride=stride, padding=padding)
    if wanted[1] and wide:
        to_weight, to_bias = _wide_gradients(x, weight, gradient, stride=stride, padding=padding)
    if wanted[2] and to_bias is None:
        to_bias = _sum_of_pixels(gradient)
    return to_x, to_weight, to_bias


def _turned_convolution(
    gradient: Tensor, weight: Tensor, *, size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """Gradient of a depthwise convolution's input, of ``size``: turned filters over the gradient.

    With a stride, the gradient is first spread to the pixels that the filters were centred on.
    """
    kernel = weight.shape[2:]
    if stride != (1, 1):
        places = [n + 2 * pad - taps + 1 for n, pad, taps in zip(size, padding, kernel, strict=True)]
        spread = gradient.new_zeros(len(gradient), *places, len(weight)).permute(0, 3, 1, 2)  # channels last
        spread[:, :, :: stride[0], :: stride[1]] = gradient
        gradient = spread
    around = [taps - 1 - pad for taps, pad in zip(kernel, padding, strict=True)]
    return functional.conv2d(gradient, weight.flip(2, 3), None, 1, around, 1, len(weight))


def _wide_gradients(
    x: Tensor, weight: Tensor, gradient: Tensor, *, stride: tuple[int, ...], padding: tuple[int, ...]
) -> tuple[Tensor, Tensor | None]:
    """Gradients of depthwise filters with five columns, and of their biases, from those of filters with three columns.

    The three inner columns are such a filter. The first, third and last column see every other column of pixels, where
    they are neighbours: with stride 1 once the even pixels and once the odd ones, with stride 2 only the even ones.
    """

    def narrow(seen: Tensor, upstream: Tensor, *, across: int, with_bias: bool = False) -> tuple[Tensor, Tensor | None]:
        _, to_columns, to_bias = _library_gradients(
            seen.contiguous(memory_format=torch.channels_last),
            weight[..., 1:4],
            upstream.contiguous(memory_format=torch.channels_last),
            (False, True, with_bias),
            stride=(stride[0], across),
            padding=(padding[0], 1),
            groups=len(weight),
        )
        assert to_columns is not None
        return to_columns, to_bias

    inner, to_bias = narrow(x, gradient, across=stride[1], with_bias=True)
    if stride[1] == 2:
        spaced, _ = narrow(x[..., ::2], gradient, across=1)
    else:
        halves = (narrow(x[..., first::2], gradient[..., first::2], across=1)[0] for first in (0, 1))
        spaced = torch.add(*halves)
    columns = (spaced[..., 0], inner[..., 0], inner[..., 1], inner[..., 2], spaced[..., 2])
    return torch.stack(columns, dim=3), to_bias


def depthwise_weight_gradient(
    x: Float[Tensor, "batch channels height width"],
    gradient: Float[Tensor, "batch channels height2 width2"],
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> Float[Tensor, "channels 1 kernel_height kernel_width"]:
    """Weight gradient of a depthwise convolution from the products of every input pixel with every output pixel.

    Each product summed over the batch belongs to one weight, or to none where the two pixels are too far apart. Work
    grows with the square of the pixels, so this is for pictures smaller than the kernel. A few channels share one
    matrix product, of which only the products within a channel are used: that is faster than many small ones.
    """
    channels = x.shape[1]
    some = gcd(channels, _CHANNELS_AT_ONCE)
    rows = [_grouped_rows(z, channels_at_once=some) for z in (x, gradient)]
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
    within = within.to(torch.promote_types(x.dtype, torch.float32))  # sums of products are not rounded to bfloat16
    taps: Tensor = within.new_zeros(kernel[0] * kernel[1], channels).index_add_(0, tap[near], within[near])
    return taps.T.reshape(channels, 1, *kernel).to(x.dtype)


def _grouped_rows(z: Tensor, *, channels_at_once: int) -> Float[Tensor, "groups batch pixels*channels_at_once"]:
    """For each group of channels a matrix with a row for each frame: all pixels, with the group's channels of each."""
    batch, channels = z.shape[:2]
    pixels = z.permute(0, 2, 3, 1).reshape(-1, channels)
    group_bytes = channels_at_once * z.element_size()
    if group_bytes in _WHOLE and pixels.storage_offset() % channels_at_once == 0:  # copied as one number, faster
        transposed = pixels.view(_WHOLE[group_bytes]).T.contiguous().view(z.dtype)
    else:
        transposed = pixels.view(len(pixels), -1, channels_at_once).transpose(0, 1).contiguous()
    return transposed.view(channels // channels_at_once, batch, -1)
