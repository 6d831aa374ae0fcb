"""ResNets with temporal shifts are those of TSM's authors: where they shift, which way, and what their weights do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tadkit.config import TsmResnetSettings
from tadkit.models.backbones import build_backbone, step_mask
from tadkit.models.backbones.temporal_shift import shift
from tadkit.runtime.devices import import_torchvision


class Shifted(nn.Module):
    """Their rule, written by slices: the first eighth from the next frame, the second from the previous one."""

    def __init__(self, net: nn.Module, frames: int) -> None:
        super().__init__()
        self.net, self.frames = net, frames

    def forward(self, x: Tensor) -> Tensor:
        clip = x.unflatten(0, (-1, self.frames))
        fold = clip.shape[2] // 8
        out = torch.zeros_like(clip)
        out[:, :-1, :fold] = clip[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = clip[:, :-1, fold : 2 * fold]
        out[:, :, 2 * fold :] = clip[:, :, 2 * fold :]
        return self.net(out.flatten(0, 1))


def authors_net(name: str, *, frames: int) -> nn.Module:
    """torchvision's net under the names of the authors' files, with lively batch norms."""
    torch.manual_seed(1)
    net = getattr(import_torchvision("torchvision.models"), name)(weights=None)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        for number, block in enumerate(stage):
            if number % (2 if len(net.layer3) >= 23 else 1) == 0:
                block.conv1 = Shifted(block.conv1, frames)
    net.fc = nn.Identity()
    whole = nn.Module()
    whole.base_model, whole.new_fc = net, nn.Linear(512, 7)
    return whole.eval()


def test_the_shift_on_a_worked_example() -> None:
    clip = torch.tensor([[10 * frame + channel for channel in range(8)] for frame in (1, 2, 3)]).float()
    shifted = shift(clip[:, :, None, None], frames=3, real=None, fraction=1 / 8, first="next")
    assert shifted[:, :, 0, 0].tolist() == [
        [20, 0, 12, 13, 14, 15, 16, 17],
        [30, 11, 22, 23, 24, 25, 26, 27],
        [0, 21, 32, 33, 34, 35, 36, 37],
    ]


@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
@torch.no_grad()
def test_weights_of_the_authors_code_give_the_features_of_their_net(name: str, tmp_path: Path) -> None:
    theirs, path = authors_net(name, frames=4), tmp_path / "tsm.pth.tar"
    state = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"epoch": 50, "arch": name, "state_dict": state, "best_prec1": 1.0}, path)
    net = build_backbone(
        TsmResnetSettings(name=f"tsm-{name}", weights=path, stride=1), in_channels=3, pretrained=True
    ).eval()
    frames = torch.randint(0, 256, (1, 4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    expected = theirs.base_model(net.prepare(frames)[0])
    torch.testing.assert_close(net(frames, torch.ones(1, 4, dtype=torch.bool))[0].T, expected, atol=1e-4, rtol=1e-4)
    report = net.weights_report
    assert report is not None
    assert (report.missing, report.left_over) == ((), ("module.new_fc.weight", "module.new_fc.bias"))


@pytest.mark.parametrize(("name", "halo", "channels"), [("18", 8, 512), ("50", 16, 2048), ("101", 18, 2048)])
def test_the_halo_is_the_number_of_blocks_that_shift(name: str, halo: int, channels: int) -> None:
    settings = TsmResnetSettings(name=f"tsm-resnet{name}", pretrained=False)
    with torch.device("meta"):
        net = build_backbone(settings, in_channels=3, pretrained=False)
    assert (net.halo_frames, net.channels, net.align_frames) == (halo, channels, 2)
    if name == "101":
        assert [shifts for _, shifts in net.blocks()][:7] == [True, False, True, True, False, True, False]


@torch.no_grad()
def test_padding_does_not_reach_real_frames() -> None:
    torch.manual_seed(0)
    net = build_backbone(
        TsmResnetSettings(name="tsm-resnet18", pretrained=False), in_channels=2, pretrained=False
    ).eval()
    flow, mask = torch.randn(1, 6, 2, 32, 32), torch.arange(6)[None] < 3
    torch.testing.assert_close(net(flow, mask)[:, :, :2], net(flow[:, :3], mask[:, :3]), atol=1e-4, rtol=1e-4)
    assert step_mask(mask, net.stride).tolist() == [[True, True, False]]
