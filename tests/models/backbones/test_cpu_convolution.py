"""The gradients are those of autograd through an ordinary convolution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tadkit.models.backbones.cpu_convolution import convolve, depthwise_weight_gradient

CASES = {  # kernel, stride, padding, depthwise, size of the picture
    "pointwise": (1, 1, 0, False, (4, 4)),
    "pointwise with stride": (1, 2, 0, False, (4, 4)),
    "depthwise, larger than the picture": (5, 1, 2, True, (4, 4)),
    "depthwise, larger than the picture, with stride": (5, 2, 2, True, (4, 4)),
    "depthwise, smaller than the picture": (3, 1, 1, True, (4, 4)),
    "depthwise, of even size": (2, 1, 1, True, (4, 4)),
    "depthwise, more padding than the kernel": (3, 1, 2, True, (4, 4)),
    "depthwise, five columns": (5, 1, 2, True, (7, 6)),
    "depthwise, five columns, as large as the picture": (5, 1, 2, True, (5, 5)),
    "depthwise, five columns, with stride": (5, 2, 2, True, (7, 6)),
    "depthwise, five columns, with stride, odd": (5, 2, 2, True, (6, 7)),
    "depthwise, five columns, with a stride of 3": (5, 3, 2, True, (8, 7)),
    "depthwise, five columns, without padding": (5, 2, 0, True, (9, 9)),
    "depthwise, seven columns": (7, 1, 3, True, (8, 7)),
    "full": (3, 2, 1, False, (4, 4)),
}


def tensors(kernel: int, groups: int, size: tuple[int, int] = (4, 4)) -> list[Tensor]:
    torch.manual_seed(0)
    x = 3 * torch.randn(3, 6, *size)
    weight = torch.randn(6 if groups > 1 else 5, 6 // groups, kernel, kernel)
    return [z.requires_grad_() for z in (x, weight, torch.randn(len(weight)))]


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_an_ordinary_convolution_in_double_precision(case: str, active: bool) -> None:
    kernel, stride, padding, depthwise, size = CASES[case]
    groups = 6 if depthwise else 1
    ours = tensors(kernel, groups, size)
    theirs = [z.detach().double().requires_grad_() for z in ours]
    y = convolve(*ours, stride=(stride, stride), pads=(padding,) * 4, groups=groups, active=active)
    expected = functional.conv2d(*theirs, stride, padding, 1, groups)
    expected = functional.relu6(expected) if active else expected
    assert bool((expected == 6).any()) is active
    torch.testing.assert_close(y.double(), expected, atol=1e-4, rtol=1e-4)
    upstream = torch.randn(y.shape)  # its channels are not contiguous
    y.backward(upstream)
    expected.backward(upstream.double())
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad.double(), other.grad, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_a_pointwise_convolution_that_widens(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 4, 5, 5), torch.randn(7, 4, 1, 1), torch.randn(7)
    ours = [z.to(dtype).requires_grad_() for z in (x, weight, bias)]
    theirs = [z.detach().double().requires_grad_() for z in ours]
    y = convolve(*ours, stride=(1, 1), pads=(0, 0, 0, 0), groups=1, active=False)
    upstream = torch.randn(y.shape).to(dtype)
    y.backward(upstream)
    functional.conv2d(*theirs).backward(upstream.double())
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad.double(), other.grad, atol=0.02 * float(other.grad.abs().max()), rtol=0)


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("pads", [(0, 1, 0, 1), (1, 2, 1, 1), (0, 0, 0, 2), (1, 0, 2, 0)])
def test_padding_may_differ_between_the_sides(pads: tuple[int, int, int, int], groups: int, trained: bool) -> None:
    x, weight, bias = (z.detach() for z in tensors(3, groups, (8, 7)))
    expected = functional.conv2d(functional.pad(x, pads), weight, bias, 2, 0, 1, groups)
    weight.requires_grad_(trained)
    found = convolve(x, weight, bias, stride=(2, 2), pads=pads, groups=groups, active=False)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 4), (5, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [1, 6, 8])
def test_depthwise_weight_gradient(size: tuple[int, int], stride: int, channels: int) -> None:
    torch.manual_seed(1)
    x, weight = torch.randn(4, channels, *size).double(), torch.randn(channels, 1, 5, 3).double().requires_grad_()
    y = functional.conv2d(x, weight, None, stride, (2, 1), 1, channels)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    found = depthwise_weight_gradient(x, gradient, kernel=(5, 3), stride=(stride, stride), padding=(2, 1))
    torch.testing.assert_close(found, weight.grad)


def test_only_the_gradients_that_are_wanted_are_computed() -> None:
    x, weight, bias = tensors(1, 1)
    y = convolve(x.detach(), weight, bias.detach(), stride=(1, 1), pads=(0, 0, 0, 0), groups=1, active=True)
    y.sum().backward()
    assert weight.grad is not None
    assert x.grad is None
    assert bias.grad is None


@pytest.mark.parametrize("case", CASES)
def test_under_autocast_the_results_are_those_of_rounded_inputs(case: str) -> None:
    kernel, stride, padding, depthwise, size = CASES[case]
    groups = 6 if depthwise else 1
    ours = tensors(kernel, groups, size)
    theirs = [z.detach().bfloat16().double().requires_grad_() for z in ours]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = convolve(*ours, stride=(stride, stride), pads=(padding,) * 4, groups=groups, active=False)
    expected = functional.conv2d(*theirs, stride, padding, 1, groups)
    assert y.dtype == torch.bfloat16
    close = {"atol": 0.02, "rtol": 0.01}  # bfloat16 has 8 bits
    torch.testing.assert_close(y.double(), expected, **close)
    upstream = torch.randn(y.shape).bfloat16()
    y.backward(upstream)
    expected.backward(upstream.double())
    for own, other in zip(ours, theirs, strict=True):
        assert own.grad.dtype == torch.float32
        scale = float(other.grad.abs().max())
        torch.testing.assert_close(own.grad.double() / scale, other.grad / scale, **close)
