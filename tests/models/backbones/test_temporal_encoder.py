"""The net over time that reads features instead of frames."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tadkit.config import TemporalEncoderSettings
from tadkit.models.backbones import Backbone, build_backbone
from tadkit.video import windows

CHANNELS, STEPS = 12, 41


def encoder(*, depth: int = 3, kernel: int = 5, differences: str = "none") -> Backbone:
    torch.manual_seed(0)
    given = {"name": "temporal-encoder", "depth": depth, "kernel": kernel, "width": 16, "differences": differences}
    settings = TemporalEncoderSettings.model_validate(given)
    return build_backbone(settings, in_channels=CHANNELS, pretrained=False).eval()


def features(steps: int = STEPS) -> Tensor:
    return torch.randn(2, steps, CHANNELS, generator=torch.Generator().manual_seed(1))


def real(steps: int) -> Tensor:
    return torch.ones(2, steps, dtype=torch.bool)


@pytest.mark.parametrize(("depth", "kernel"), [(0, 3), (1, 1), (2, 3), (3, 5)])
@torch.no_grad()
def test_a_step_depends_on_those_within_the_halo_and_on_no_others(depth: int, kernel: int) -> None:
    net, x = encoder(depth=depth, kernel=kernel), features()
    assert net.halo_frames == depth * (kernel // 2)
    changed = x.clone()
    changed[:, 20] += torch.randn(CHANNELS, generator=torch.Generator().manual_seed(2))
    moved = (net(x, real(STEPS)) != net(changed, real(STEPS))).any(dim=1).any(dim=0).nonzero().flatten()
    assert (int(moved.min()), int(moved.max())) == (20 - net.halo_frames, 20 + net.halo_frames)


@pytest.mark.parametrize("differences", ["none", "added", "only"])
@torch.no_grad()
def test_windows_with_a_halo_give_what_one_pass_gives(differences: str) -> None:
    net, x = encoder(differences=differences), features()
    parts = [
        net(x[:, window.start : window.stop], real(window.stop - window.start))[:, :, window.core_steps(1)]
        for window in windows(STEPS, core=8, halo=net.halo_frames)
    ]
    torch.testing.assert_close(torch.cat(parts, dim=2), net(x, real(STEPS)))


@torch.no_grad()
def test_padding_is_zero_and_does_not_reach_real_steps() -> None:
    net, x, mask = encoder(), features(), real(STEPS)
    mask[:, 30:] = False
    padded = net(x, mask)
    assert padded.shape == (2, net.channels, STEPS)
    assert not padded[:, :, 30:].any()
    torch.testing.assert_close(padded[:, :, :30], net(x[:, :30], real(30)))


@torch.no_grad()
def test_the_scale_of_features_does_not_count() -> None:
    net, x = encoder(), features()
    torch.testing.assert_close(net(100 * x, real(STEPS)), net(x, real(STEPS)), atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_with_differences_alone_what_stands_still_is_not_seen() -> None:
    net, x = encoder(differences="only"), features()
    net.norm.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(3))
    still = x[:, :1].expand(-1, STEPS, -1)
    torch.testing.assert_close(net(still, real(STEPS)), net(torch.zeros_like(x), real(STEPS)))
    assert not torch.allclose(net(x, real(STEPS)), net(still, real(STEPS)))
    assert net.halo_frames == encoder().halo_frames + 1
