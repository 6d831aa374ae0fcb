"""What every backbone does with its inputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tadkit.config import BackboneSettings, TemporalShiftSettings, TsmResnetSettings
from tadkit.models.backbones import Backbone, build_backbone, step_mask

KINDS = (TemporalShiftSettings(name="tiny"), TsmResnetSettings(name="tsm-resnet18", pretrained=False))


def backbone(settings: BackboneSettings = KINDS[0], *, in_channels: int = 3) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(settings, in_channels=in_channels, pretrained=False).eval()


def frames_of(length: int) -> Tensor:
    return torch.randint(0, 256, (2, length, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_rgb_goes_to_minus_one_to_one_channels_first() -> None:
    frames = torch.tensor([255, 127, 0], dtype=torch.uint8).reshape(1, 1, 1, 1, 3)
    assert backbone().prepare(frames).flatten().tolist() == [1.0, 0.0, -127 / 128]
    assert backbone().prepare(frames).shape == (1, 1, 3, 1, 1)


def test_scaling_rgb_is_that_of_earlier_versions_to_the_bit() -> None:
    frames = torch.arange(256, dtype=torch.uint8)[:, None, None, None, None].expand(-1, 1, 1, 1, 3)
    expected = (torch.arange(256).float() - 127.0) / 128.0
    assert all(torch.equal(backbone().prepare(frames)[:, 0, c, 0, 0], expected) for c in range(3))


@pytest.mark.parametrize(("channels", "unit"), [(2, 2.0), (3, 32.0)])
def test_flow_and_gradient_have_their_own_unit(channels: int, unit: float) -> None:
    motion = torch.full((1, 1, channels, 2, 2), unit)
    assert torch.equal(backbone().prepare(motion), torch.ones_like(motion))
    stacks = motion.repeat(1, 1, 3, 1, 1)
    net = build_backbone(KINDS[0], in_channels=3 * channels, pretrained=False, stack=3)
    assert torch.equal(net.prepare(stacks), torch.ones_like(stacks))


def test_each_colour_has_its_own_mean_and_deviation() -> None:
    net = backbone()
    net.rgb_mean, net.rgb_std = (10.0, 20.0, 30.0), (1.0, 2.0, 5.0)
    frames = torch.tensor([11, 24, 45], dtype=torch.uint8).reshape(1, 1, 1, 1, 3)
    assert net.prepare(frames).flatten().tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings.name)
@torch.no_grad()
def test_every_kind_gives_a_zero_step_for_padding_and_one_step_for_each_stride(settings: BackboneSettings) -> None:
    net, frames = backbone(settings), frames_of(7)
    mask = (torch.arange(7) < 3).expand(2, -1)
    features = net(frames, mask)
    assert features.shape == (2, net.channels, -(-7 // net.stride))
    real = step_mask(mask, net.stride)
    assert bool((features.abs().sum(dim=1) > 0).eq(real).all())
    torch.testing.assert_close(features[:, :, :2], net(frames[:, :3], mask[:, :3]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings.name)
@torch.no_grad()
def test_a_window_at_an_aligned_frame_with_the_halo_gives_the_steps_of_one_pass(settings: BackboneSettings) -> None:
    net = backbone(settings.model_copy(update={"stride": 2}))
    frames = frames_of(30)
    everything = torch.ones(2, 30, dtype=torch.bool)
    halo = -(-net.halo_frames // net.align_frames) * net.align_frames
    start = 12 // net.align_frames * net.align_frames
    part = slice(start - halo, start + net.stride + halo)
    whole = net(frames, everything)[:, :, start // net.stride]
    window = net(frames[:, part], everything[:, part])[:, :, halo // net.stride]
    torch.testing.assert_close(window, whole, atol=1e-4, rtol=1e-4)


def test_frozen_blocks_do_not_learn_and_frozen_norm_keeps_its_statistics() -> None:
    net = build_backbone(
        TsmResnetSettings(name="tsm-resnet18", frozen_blocks=3), in_channels=3, pretrained=False
    ).train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    net(frames_of(2), torch.ones(2, 2, dtype=torch.bool)).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in net.named_buffers())
    learning = {name.split(".")[1] for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert learning == {"layer2", "layer3", "layer4"}
