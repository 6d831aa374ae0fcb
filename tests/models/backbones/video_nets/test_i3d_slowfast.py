"""I3D and SlowFast beside their public code: names, shapes, outputs; and weights under their names."""

from __future__ import annotations

import hashlib
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tadkit.config import I3DSettings, ModelSettings, SlowFastSettings
from tadkit.config.loading import check_settings
from tadkit.errors import SettingsError
from tadkit.models.backbones import build_backbone
from tadkit.models.backbones.video_nets.i3d import SameConv3d, SamePool, i3d_layers
from tadkit.models.backbones.video_nets.slowfast import NETS, Pathways, SlowFast, pytorchvideo_name

GOLDEN = json.loads((Path(__file__).parents[3] / "golden/backbones.json").read_text())
"""Part of ``shared/fixtures/backbones``, whose README has the formulas below."""


def by_formula(net: nn.Module) -> nn.Module:
    """Fill weights from their names."""
    for name, value in net.state_dict().items():
        if not value.is_floating_point():
            continue
        k, i = sum(map(ord, name)), torch.arange(value.numel(), dtype=torch.float64)
        u = 2 * (torch.sin(12.9898 * (i + 1) + 0.1 * k) * 43758.5453).abs().frac() - 1
        if value.ndim > 1:
            filled = u * math.sqrt(6 / value[0].numel())
        elif name.endswith("running_var"):
            filled = 1 + 0.2 * u
        elif name.endswith("running_mean"):
            filled = 0.1 * u
        else:
            filled = 1 + 0.1 * u if name.endswith("weight") else 0.05 * u
        value.copy_(filled.view_as(value))
    return net.eval()


def clip_by_formula(channels: int, frames: int, a: float = 0.05, b: float = 0.07) -> Tensor:
    j, t, y, x = (torch.arange(size, dtype=torch.float64) for size in (channels, frames, 224, 224))
    j, t, y = j[:, None, None, None], t[:, None, None], y[:, None]
    return (torch.sin(a * (x + 2 * t) + j) * torch.cos(b * (y - t) + 0.5 * j)).float()[None]


@cache
def net_of(name: str) -> nn.Module:
    if name == "slowfast_r50_8x8":
        return Pathways(NETS["slowfast-r50-8x8"], in_channels=3)
    return i3d_layers({"i3d_rgb": 3, "i3d_flow": 2}[name])


def assert_published(found: Tensor, rows: list[list[float]], every: int) -> None:
    """Largest difference relative to the largest value: 1e-3, as the fixture promises across machines."""
    expected = torch.tensor(rows).T
    assert float((found[0, ::every] - expected).abs().max() / expected.abs().max()) < 1e-3
    torch.testing.assert_close(found[0, ::every], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["i3d_rgb", "i3d_flow", "slowfast_r50_8x8"])
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    state = net_of(name).state_dict()
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in state.items() if value.is_floating_point())
    assert lines[::60] == GOLDEN[name]["some"]
    assert len(lines) == GOLDEN[name]["parameters"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == GOLDEN[name]["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channels"), [("i3d_rgb", 3), ("i3d_flow", 2)])
@torch.no_grad()
def test_i3d_gives_what_the_public_code_gives(name: str, channels: int) -> None:
    steps = by_formula(net_of(name))(clip_by_formula(channels, 40)).mean(dim=(3, 4))
    assert steps.shape == (1, 1024, 5)
    pairs = (steps[:, :, 1:] + steps[:, :, :-1]) / 2  # its pooling over 2 steps
    assert_published(pairs, GOLDEN[name]["features"], GOLDEN[name]["every_channel"])


@pytest.mark.slow
@torch.no_grad()
def test_slowfast_gives_what_pytorchvideo_gives() -> None:
    golden = GOLDEN["slowfast_r50_8x8"]
    slow, fast = by_formula(net_of("slowfast_r50_8x8"))(clip_by_formula(3, 32))
    assert_published(slow.mean(dim=(3, 4)), golden["slow"], golden["every_channel"])
    assert_published(fast.mean(dim=(3, 4)), golden["fast"], golden["every_channel"])


@pytest.mark.slow
@torch.no_grad()
def test_a_step_of_slowfast_holds_a_slow_frame_beside_the_mean_of_the_fast_frames_around_it() -> None:
    net = build_backbone(SlowFastSettings(name="slowfast-r50-8x8", stride=4), in_channels=3, pretrained=False).eval()
    assert isinstance(net, SlowFast)
    clip = torch.randn(1, 3, 16, 8, 8)
    steps, (slow, fast) = net.net_steps(clip), (x.mean(dim=(3, 4)) for x in net.net(clip))
    torch.testing.assert_close(steps[:, :2048], slow)
    for step in range(1, 4):
        torch.testing.assert_close(steps[:, 2048:, step], fast[:, :, 4 * step - 2 : 4 * step + 2].mean(dim=2))


@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 7, 2), (9, 2, 2), (6, 3, 1), (1, 3, 2)])
@torch.no_grad()
def test_same_padding_puts_the_odd_step_at_the_end(size: int, kernel: int, stride: int) -> None:
    x = torch.rand(1, 1, size, size, size)
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    padded = functional.pad(x, [total // 2, total - total // 2] * 3)
    conv = SameConv3d(1, 1, kernel, stride=stride, bias=False)
    torch.testing.assert_close(conv(x), functional.conv3d(padded, conv.weight, stride=stride))
    pooled = SamePool((kernel,) * 3, (stride,) * 3)(x)
    torch.testing.assert_close(pooled, functional.max_pool3d(padded, kernel, stride))
    assert pooled.shape == (1, 1, outputs, outputs, outputs)


def pyslowfast_names() -> dict[str, str]:
    """Names of PySlowFast by its own rules, and pytorchvideo's."""
    names = {"head.projection.weight": "blocks.6.proj.weight"}
    for pathway in (0, 1):
        theirs, own = f"s1.pathway{pathway}_stem", f"blocks.0.multipathway_blocks.{pathway}"
        names |= {f"{theirs}.conv": f"{own}.conv", f"{theirs}.bn": f"{own}.norm"}
        for stage, depth in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
            for block in range(depth):
                theirs = f"s{stage}.pathway{pathway}_res{block}"
                own = f"blocks.{stage - 1}.multipathway_blocks.{pathway}.res_blocks.{block}"
                if block == 0:
                    names |= {f"{theirs}.branch1": f"{own}.branch1_conv", f"{theirs}.branch1_bn": f"{own}.branch1_norm"}
                for part in "abc":
                    names[f"{theirs}.branch2.{part}"] = f"{own}.branch2.conv_{part}"
                    names[f"{theirs}.branch2.{part}_bn"] = f"{own}.branch2.norm_{part}"
    for stage in (1, 2, 3, 4):
        fusion = f"blocks.{stage - 1}.multipathway_fusion"
        names |= {f"s{stage}_fuse.conv_f2s": f"{fusion}.conv_fast_to_slow", f"s{stage}_fuse.bn": f"{fusion}.norm"}
    return names


def test_weights_under_the_names_of_pyslowfast_load(tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained = Pathways(NETS["slowfast-r50-4x16"], in_channels=3).state_dict()
    theirs = {own: name for name, own in pyslowfast_names().items()}
    renamed: dict[str, Any] = {"head.projection.weight": torch.zeros(400, 2304)}
    for name, value in trained.items():
        module, _, kind = name.rpartition(".")
        renamed[f"{theirs[module]}.{kind}"] = value
    torch.save({"epoch": 3, "model_state": renamed}, path := tmp_path / "SLOWFAST_4x16_R50.pyth")
    settings = SlowFastSettings(name="slowfast-r50-4x16", weights=path)
    net = build_backbone(settings, in_channels=3, pretrained=True)
    assert net.weights_report is not None
    assert (net.weights_report.missing, net.weights_report.left_over) == ((), ("head.projection.weight",))
    loaded = net.state_dict()
    assert all(torch.equal(loaded[f"net.{name}"], value) for name, value in trained.items())
    assert all(pytorchvideo_name(name) == name for name in trained)


def test_weights_of_i3d_load_and_rgb_filters_become_means_for_flow(tmp_path: Path) -> None:
    trained = net_of("i3d_rgb").state_dict() | {"logits.conv3d.weight": torch.zeros(400, 1024, 1, 1, 1)}
    torch.save(trained, path := tmp_path / "rgb_imagenet.pt")
    stem = "Conv3d_1a_7x7.conv3d.weight"
    for channels in (3, 2):
        net = build_backbone(I3DSettings(name="i3d", weights=path), in_channels=channels, pretrained=True)
        assert net.weights_report is not None
        assert (net.weights_report.missing, net.weights_report.left_over) == ((), ("logits.conv3d.weight",))
        assert net.weights_report.averaged == (() if channels == 3 else (f"net.{stem}",))
        mean = trained[stem].mean(dim=1, keepdim=True)
        expected = trained[stem] if channels == 3 else 1.5 * mean.expand(-1, 2, -1, -1, -1)
        torch.testing.assert_close(net.state_dict()[f"net.{stem}"], expected)
        assert net.frozen_norm


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "i3d", "stride": 2}, r"^r: backbone\.stride: .*8.*16"),
        (
            {"name": "i3d", "pretrained": True},
            r"^r: backbone: no weights of this backbone can be downloaded; set weights",
        ),
        ({"name": "slowfast-r50-4x16", "stride": 4}, r"^r: backbone: slowfast-r50-4x16 has one step for every 8"),
    ],
)
def test_settings_that_a_net_does_not_have_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_settings(ModelSettings, {"backbone": values}, name="r")
