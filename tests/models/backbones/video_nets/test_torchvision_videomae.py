"""torchvision's nets beside torchvision itself, and VideoMAE beside torch's own transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from tadkit.config import BackboneSettings, VideoMaeSettings
from tadkit.models.backbones import build_backbone
from tadkit.models.backbones.video_nets.torchvision_video import NETS
from tadkit.models.backbones.video_nets.video_net import AttentionNet, ConvolutionalNet
from tadkit.models.backbones.video_nets.videomae import Block, Width, sine_positions
from tadkit.runtime.devices import import_torchvision


def chosen(name: str, **values: object) -> BackboneSettings:
    return TypeAdapter(BackboneSettings).validate_python({"name": name, "pretrained": False} | values)


@torch.no_grad()
def called_directly(net: nn.Module, name: str, clip: Tensor) -> Tensor:
    """What torchvision's own forward pass gives to its pooling, averaged over space."""
    seen: list[Tensor] = []
    layer = {"r2plus1d-18": "layer4", "s3d": "features", "mvit-v2-s": "norm", "swin3d-t": "norm"}[name]
    net.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    if name == "s3d":
        net.avgpool = nn.Identity()  # it needs 224 px
    net(clip)
    (x,) = seen
    if name == "mvit-v2-s":  # without the class token
        return x[:, 1:].unflatten(1, (clip.shape[2] // 2, -1)).mean(dim=2).transpose(1, 2)
    return x.mean(dim=(2, 3)).transpose(1, 2) if name == "swin3d-t" else x.mean(dim=(3, 4))


@pytest.mark.parametrize(
    ("name", "frames", "side"),
    [
        ("s3d", 16, 64),
        ("mvit-v2-s", 16, 64),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("r2plus1d-18", 16, 112), ("s3d", 16, 224), ("mvit-v2-s", 16, 224), ("swin3d-t", 32, 112)]
        ),
    ],
)
@torch.no_grad()
def test_torchvision_nets_equal_torchvision_called_directly(name: str, frames: int, side: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = getattr(import_torchvision("torchvision.models.video"), NETS[name].function)(weights=None).eval()
    torch.save(theirs.state_dict(), path := tmp_path / "w.pth")
    backbone = build_backbone(chosen(name, weights=path), in_channels=3, pretrained=True).eval()
    clip = torch.randn(1, 3, frames, side, side)
    assert isinstance(backbone, ConvolutionalNet | AttentionNet)
    steps = backbone.net_steps(clip) if isinstance(backbone, ConvolutionalNet) else backbone.clip_steps(clip)
    if name == "mvit-v2-s":  # its forward pass reads the grid here
        theirs.pos_encoding.spatial_size = (side // 4, side // 4)
    expected = called_directly(theirs, name, clip)
    assert expected.shape[1] == backbone.channels
    torch.testing.assert_close(steps, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_the_features_of_a_convolutional_net_are_those_of_the_video_with_its_end_frames_repeated() -> None:
    backbone: Any = build_backbone(chosen("r2plus1d-18"), in_channels=3, pretrained=False).eval()
    clip = torch.randn(1, 3, 13, 16, 16)
    first, last = clip[:, :, :1], clip[:, :, -1:]
    extended = torch.cat([first.expand(-1, -1, 4, -1, -1), clip, last.expand(-1, -1, 7, -1, -1)], dim=2)
    expected = backbone.net_steps(extended)[:, :, 1:]
    torch.testing.assert_close(backbone.steps_of(clip), expected, atol=1e-5, rtol=1e-5)


def test_colours_are_scaled_as_torchvision_scales_them() -> None:
    backbone = build_backbone(chosen("s3d"), in_channels=3, pretrained=False)
    grey = torch.full((1, 1, 1, 1, 3), 128, dtype=torch.uint8)
    expected = (128 / 255 - torch.tensor([0.43216, 0.394666, 0.37645])) / torch.tensor([0.22803, 0.22145, 0.216989])
    torch.testing.assert_close(backbone.prepare(grey).flatten(), expected)


@pytest.mark.parametrize("name", ["s3d", *(pytest.param(n, marks=pytest.mark.slow) for n in NETS if n != "s3d")])
def test_torchvision_nets_read_flow_through_the_mean_of_the_rgb_filters(name: str, tmp_path: Path) -> None:
    theirs = getattr(import_torchvision("torchvision.models.video"), NETS[name].function)(weights=None)
    torch.save(theirs.state_dict(), path := tmp_path / "w.pth")
    net: Any = build_backbone(chosen(name, weights=path), in_channels=2, pretrained=True)
    stem = f"{NETS[name].stem}.weight"
    mean = theirs.state_dict()[stem].mean(dim=1)
    for channel in (0, 1):
        torch.testing.assert_close(net.net.state_dict()[stem][:, channel], 1.5 * mean)


def test_names_of_videomae_are_those_of_its_public_code() -> None:
    state = build_backbone(VideoMaeSettings(name="videomae-s"), in_channels=3, pretrained=False).net.state_dict()
    block = {
        "norm1.weight": (384,),
        "norm1.bias": (384,),
        "attn.q_bias": (384,),
        "attn.v_bias": (384,),
        "attn.qkv.weight": (1152, 384),
        "attn.proj.weight": (384, 384),
        "attn.proj.bias": (384,),
        "norm2.weight": (384,),
        "norm2.bias": (384,),
        "mlp.fc1.weight": (1536, 384),
        "mlp.fc1.bias": (1536,),
        "mlp.fc2.weight": (384, 1536),
        "mlp.fc2.bias": (384,),
    }
    expected = {f"blocks.{number}.{name}": shape for number in range(12) for name, shape in block.items()}
    expected |= {"patch_embed.proj.weight": (384, 3, 2, 16, 16), "patch_embed.proj.bias": (384,)}
    expected |= {"fc_norm.weight": (384,), "fc_norm.bias": (384,)}
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


@torch.no_grad()
def test_a_block_of_videomae_is_that_of_torch_with_a_bias_on_queries_and_values_alone() -> None:
    torch.manual_seed(0)
    block, other = (
        Block(Width(24, 3)).eval(),
        nn.TransformerEncoderLayer(24, 3, 96, 0.0, "gelu", 1e-6, True, True).eval(),
    )
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    own = block.state_dict()
    bias = torch.cat([own["attn.q_bias"], torch.zeros(24), own["attn.v_bias"]])
    names = {"self_attn.in_proj_weight": "attn.qkv.weight"}
    for theirs, ours in {"self_attn.out_proj": "attn.proj", "linear1": "mlp.fc1", "linear2": "mlp.fc2"}.items():
        names |= {f"{theirs}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")}
    names |= {f"norm{n}.{kind}": f"norm{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")}
    other.load_state_dict({"self_attn.in_proj_bias": bias} | {theirs: own[ours] for theirs, ours in names.items()})
    tokens = torch.randn(2, 7, 24)
    torch.testing.assert_close(block(tokens), other(tokens), atol=1e-5, rtol=1e-5)


def test_positions_are_sines_and_cosines_of_the_tokens_number() -> None:
    positions = sine_positions(384)
    assert positions.shape == (8, 14, 14, 384)
    number = 3 * 14 * 14 + 5 * 14 + 11
    wave = torch.tensor(number / 10000 ** (2 * 40 / 384), dtype=torch.float64)
    assert positions[3, 5, 11, 80].item() == pytest.approx(wave.sin().item(), abs=1e-6)
    assert positions[3, 5, 11, 81].item() == pytest.approx(wave.cos().item(), abs=1e-6)


@torch.no_grad()
def test_positions_at_another_size_are_interpolated_over_space_and_kept_over_time() -> None:
    net: Any = build_backbone(VideoMaeSettings(name="videomae-s"), in_channels=3, pretrained=False).net
    assert net._positions(14, 14) is net.positions
    resized = net._positions(7, 6)
    assert resized.shape == (8, 7, 6, 384)
    net.positions[3:] = 0
    assert not net._positions(7, 6)[3:].any()
    torch.testing.assert_close(net._positions(7, 6)[:3], resized[:3])


def test_pretrained_videomae_loads_without_its_decoder_and_keeps_a_new_last_norm(tmp_path: Path) -> None:
    settings = VideoMaeSettings(name="videomae-s")
    trained = build_backbone(settings, in_channels=3, pretrained=False).net.state_dict()
    state = {f"encoder.{name}": value for name, value in trained.items() if not name.startswith("fc_norm.")}
    state |= {"encoder.norm.weight": torch.full((384,), 7.0), "mask_token": torch.zeros(1, 1, 192)}
    torch.save({"model": state}, path := tmp_path / "checkpoint.pth")
    net = build_backbone(VideoMaeSettings(name="videomae-s", weights=path), in_channels=3, pretrained=True)
    assert net.weights_report is not None
    assert net.weights_report.missing == ("net.fc_norm.weight", "net.fc_norm.bias")
    assert net.weights_report.left_over == ("encoder.norm.weight", "mask_token")
    assert torch.equal(net.state_dict()["net.blocks.11.mlp.fc2.weight"], trained["blocks.11.mlp.fc2.weight"])
    assert torch.equal(net.state_dict()["net.fc_norm.weight"], torch.ones(384))
