"""What all nets over time and space promise: their grid, their halo, padding, and freezing."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor, nn

from tadkit.config import BackboneSettings
from tadkit.errors import SettingsError
from tadkit.models.backbones import build_backbone
from tadkit.models.backbones.video_nets.video_net import AttentionNet, ReceptiveField, VideoNet

CONVOLUTIONAL = {"i3d": 8, "slowfast-r50-8x8": 4, "slowfast-r50-4x16": 8, "r2plus1d-18": 8, "s3d": 8}
ATTENTION = {"mvit-v2-s": 16, "swin3d-t": 32, "videomae-s": 16, "videomae-b": 16}
CHANNELS = {
    "i3d": 1024,
    "slowfast-r50-8x8": 2304,
    "slowfast-r50-4x16": 2304,
    "r2plus1d-18": 512,
    "s3d": 1024,
    "mvit-v2-s": 768,
    "swin3d-t": 768,
    "videomae-s": 384,
    "videomae-b": 768,
}
QUICK = ("i3d", "s3d", "mvit-v2-s", "videomae-s")
"""The nets that are tried by default; the others take seconds to build or to run."""


def nets(*names: str) -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


def chosen(name: str, **values: object) -> BackboneSettings:
    return TypeAdapter(BackboneSettings).validate_python({"name": name, "pretrained": False} | values)


@cache
def net_of(name: str, **values: object) -> VideoNet:
    """A net whose activations neither vanish nor explode, so that its steps differ."""
    torch.manual_seed(0)
    net = build_backbone(chosen(name, **values), in_channels=3, pretrained=False)
    assert isinstance(net, VideoNet)
    for conv in (module for module in net.modules() if isinstance(module, nn.Conv3d)):
        nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    return net.eval()


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal but for rounding: 1e-5 of the largest value."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def video(frames: int, *, side: int, seed: int = 1, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, frames, side, side, 3), dtype=torch.uint8, generator=generator)


def all_real(frames: Tensor) -> tuple[Tensor, Tensor]:
    return frames, torch.ones(frames.shape[:2], dtype=torch.bool)


def side_of(net: VideoNet) -> int:
    """The smallest frames that a net reads, of a few pixels."""
    return max(net.min_side_px, 8)


@pytest.mark.parametrize("name", nets(*CHANNELS))
@torch.no_grad()
def test_padding_reaches_nothing_and_has_no_features(name: str) -> None:
    net = net_of(name)
    short, long = 11, 21
    frames = video(long, side=side_of(net), batch=2)
    mask = torch.arange(long) < torch.tensor([[short], [long]])
    together, steps = net(frames, mask), -(-short // net.stride)
    assert together.shape == (2, CHANNELS[name], -(-long // net.stride)) == (2, net.channels, together.shape[2])
    for row, length in enumerate((short, long)):
        alone = net(*all_real(frames[row : row + 1, :length]))
        assert_same(together[row : row + 1, :, : alone.shape[2]], alone)
    assert not together[0, :, steps:].any()
    assert together[0, :, :steps].std(dim=0).min() > 0
    assert torch.equal(net(frames, torch.zeros_like(mask)), torch.zeros_like(together))


@pytest.mark.parametrize("name", nets(*CONVOLUTIONAL))
@torch.no_grad()
def test_a_step_depends_on_the_frames_of_the_halo_and_is_centred_on_its_own(name: str) -> None:
    net = build_backbone(chosen(name, stride=CONVOLUTIONAL[name]), in_channels=3, pretrained=False).eval()
    for conv in (module for module in net.modules() if isinstance(module, nn.Conv3d)):
        conv.weight.fill_(1 / conv.in_channels / conv.kernel_size[0])  # what reaches a step neither cancels nor fades
    stride, halo = net.stride, net.halo_frames
    step = -(-halo // stride) + 1
    first, last = step * stride - halo, (step + 1) * stride - 1 + halo
    clip = torch.rand(1, last + 2 * stride, 3, side_of(net), side_of(net))
    real = torch.ones(clip.shape[:2], dtype=torch.bool)
    quiet = net(clip, real)[:, :, step]

    def reach(*frames: int) -> bool:
        other = clip.clone()
        other[:, list(frames)] = 1e15
        return not torch.equal(net(other, real)[:, :, step], quiet)

    assert not reach(*range(first), *range(last + 1, clip.shape[1]))
    # Half a frame beside the middle of the step's frames, the centre leaves one side a frame shorter.
    assert reach(first + 1)
    assert reach(last - 1)
    assert [reach(first), reach(last)].count(True) == 1


@pytest.mark.parametrize("name", nets(*CONVOLUTIONAL))
@pytest.mark.parametrize("start", ["first", "middle", "last"])
@torch.no_grad()
def test_a_window_with_its_halo_gives_what_one_pass_gives(name: str, start: str) -> None:
    net = net_of(name)
    halo = -(-net.halo_frames // net.align_frames) * net.align_frames
    frames = video(2 * halo + 3 * net.stride + 3, side=side_of(net))
    length = frames.shape[1]
    begin = {"first": 0, "middle": halo + net.stride, "last": length // net.stride * net.stride}[start]
    part = slice(max(0, begin - halo), begin + net.stride + halo)
    window = net(*all_real(frames[:, part]))[:, :, (begin - part.start) // net.stride]
    assert_same(window, whole_pass(name, length)[:, :, begin // net.stride])


@cache
@torch.no_grad()
def whole_pass(name: str, length: int) -> Tensor:
    net = net_of(name)
    return net(*all_real(video(length, side=side_of(net))))


@pytest.mark.parametrize("name", nets(*ATTENTION))
@torch.no_grad()
def test_clips_lie_on_a_grid_and_the_last_is_completed_by_its_last_frame(name: str) -> None:
    net = net_of(name)
    assert isinstance(net, AttentionNet)
    length, clip = ATTENTION[name] + 5, ATTENTION[name]
    assert (net.clip_frames, net.align_frames, net.halo_frames) == (clip, clip, clip - 2)
    frames = video(length, side=side_of(net))
    whole = net(*all_real(frames))
    assert whole.shape[2] == -(-length // 2)
    assert_same(whole[:, :, : clip // 2], net(*all_real(frames[:, :clip])))
    still = frames[:, -1:].expand(-1, clip - 5, -1, -1, -1)
    completed = net(*all_real(torch.cat([frames[:, clip:], still], dim=1)))
    assert_same(whole[:, :, clip // 2 :], completed[:, :, :3])
    first_changed = torch.cat([255 - frames[:, :1], frames[:, 1:]], dim=1)
    difference = (net(*all_real(first_changed)) - whole).abs().amax(dim=1)[0] > 1e-5
    assert difference.tolist() == [True] * (clip // 2) + [False] * 3


@pytest.mark.parametrize(
    ("name", "stride"), [pytest.param("slowfast-r50-8x8", 16, marks=pytest.mark.slow), ("videomae-s", 4)]
)
@torch.no_grad()
def test_a_larger_stride_averages_the_steps_of_the_net(name: str, stride: int) -> None:
    fine, coarse = (
        net_of(name, stride=CONVOLUTIONAL.get(name, 2)),
        build_backbone(chosen(name, stride=stride), in_channels=3, pretrained=False),
    )
    coarse.load_state_dict(fine.state_dict())
    frames = video(21, side=16)
    each, averaged = fine(*all_real(frames)), coarse.eval()(*all_real(frames))
    groups = each.split(stride // fine.stride, dim=2)
    expected = torch.stack([group.mean(dim=2) for group in groups], dim=2)
    assert_same(averaged, expected)
    assert coarse.align_frames % stride == 0
    assert coarse.halo_frames <= fine.halo_frames


@pytest.mark.parametrize("name", nets("i3d", "slowfast-r50-8x8", "r2plus1d-18", "s3d", "swin3d-t", "videomae-s"))
def test_frozen_blocks_do_not_learn_and_frozen_norms_keep_their_statistics(name: str) -> None:
    # As for a checkpoint, which brings its own weights: those of the file are not read.
    net = build_backbone(chosen(name, weights="w.pth", frozen_blocks=2), in_channels=2, pretrained=False).train()
    assert isinstance(net, VideoNet)
    before = {key: value.clone() for key, value in net.named_buffers()}
    net(torch.randn(1, 8, 2, side := max(side_of(net), 16), side), torch.ones(1, 8, dtype=torch.bool)).sum().backward()
    assert all(torch.equal(before[key], value) for key, value in net.named_buffers())
    learns = [all(p.grad is not None for p in block.parameters()) for block in net.blocks() if list(block.parameters())]
    assert learns == [False, False] + [True] * (len(learns) - 2)


@pytest.mark.parametrize(("name", "hw"), [("videomae-s", (32, 40)), ("s3d", (24, 64)), ("mvit-v2-s", (31, 64))])
def test_frames_that_a_net_cannot_read_are_refused_in_one_line(name: str, hw: tuple[int, int]) -> None:
    frames = torch.zeros(1, 4, *hw, 3, dtype=torch.uint8)
    with pytest.raises(SettingsError, match=rf"^video: frames of {hw[0]}x{hw[1]} px do not suit .*px.*$"):
        net_of(name)(*all_real(frames))


@given(layers=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_receptive_fields_of_layers_in_sequence_are_those_found_by_trying(layers: list[tuple[int, int, int]]) -> None:
    convs = nn.Sequential(
        *(nn.Conv3d(1, 1, (k, 1, 1), (s, 1, 1), (min(p, k // 2), 0, 0), bias=False) for k, s, p in layers)
    ).double()
    field = ReceptiveField().through(convs)
    for conv in convs:
        nn.init.ones_(conv.weight)
    frames = 4 * field.stride + field.last - field.first + 60
    clip = torch.zeros(1, 1, frames, 1, 1, dtype=torch.float64, requires_grad=True)
    step = -(field.first // field.stride) + 1
    (gradient,) = torch.autograd.grad(convs(clip)[0, 0, step].sum(), clip)
    reached = gradient.flatten().nonzero().flatten()
    assert (int(reached.min()), int(reached.max())) == (
        step * field.stride + field.first,
        step * field.stride + field.last,
    )
