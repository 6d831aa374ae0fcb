import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tadkit.models.heads.layers import DenseConv1d


def together(x: Tensor) -> Tensor:
    """The same numbers, the channels of a step side by side in memory."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@settings(max_examples=30, deadline=None)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    outputs=st.sampled_from([1, 2, 6]),
    batch=st.integers(1, 3),
    time=st.integers(1, 9),
    bias=st.booleans(),
)
def test_result_and_gradients_are_those_of_the_plain_convolution(
    kernel: int, outputs: int, batch: int, time: int, bias: bool
) -> None:
    conv = DenseConv1d(4, outputs, kernel=kernel, bias=bias).double()
    x = torch.randn(batch, 4, time, dtype=torch.float64)
    mask = torch.arange(time).expand(batch, -1) < max(1, time - 2)
    slope = torch.randn(batch, outputs, time, dtype=torch.float64)

    def with_gradients(result: Tensor, read: Tensor) -> tuple[Tensor, ...]:
        return result, *torch.autograd.grad(result, (read, *conv.parameters()), slope)

    plain, laid = x.clone().requires_grad_(), together(x).requires_grad_()
    wanted = functional.conv1d(plain, conv.conv.weight, conv.conv.bias, padding=kernel // 2) * mask[:, None]
    torch.testing.assert_close(with_gradients(conv(laid, mask), laid), with_gradients(wanted, plain))


@pytest.mark.parametrize("time", [1, 7])
def test_what_follows_finds_the_channels_together_too(time: int) -> None:
    conv, mask = DenseConv1d(4, 6, kernel=3), torch.ones(2, time, dtype=torch.bool)
    x = together(torch.randn(2, 4, time)).requires_grad_()
    out = conv(x, mask)
    out.sum().backward()
    assert out.transpose(1, 2).is_contiguous()
    assert x.grad is not None
    assert x.grad.transpose(1, 2).is_contiguous()


def test_mixed_precision_trains_it() -> None:
    torch.manual_seed(0)
    conv, mask = DenseConv1d(8, 6, kernel=3), torch.ones(2, 20, dtype=torch.bool)
    x = together(torch.randn(2, 8, 20)).requires_grad_()
    wanted = torch.autograd.grad(conv(x, mask).square().sum(), (x, *conv.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(x, mask)
    assert out.dtype == torch.bfloat16
    found = torch.autograd.grad(out.float().square().sum(), (x, *conv.parameters()))
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05 * float(wanted[1].abs().max()))
