"""Shifts, halo, masks and averaging of the frame backbone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from tadkit.config import TemporalShiftSettings
from tadkit.errors import SettingsError
from tadkit.models.backbones import TemporalShiftBackbone, step_mask
from tadkit.models.backbones.temporal_shift import shift

NETS = ("tiny", "efficientnet-lite0", "resnet18", "mobilenet-v3-small")


def backbone(name: str, *, seed: int = 0, channels: int = 3, **chosen: object) -> TemporalShiftBackbone:
    torch.manual_seed(seed)
    chosen.setdefault("pretrained", False)
    net = TemporalShiftBackbone(
        TemporalShiftSettings.model_validate({"name": name, **chosen}), in_channels=channels, pretrained=False
    )
    lively(net)
    return net.eval()


def lively(net: nn.Module) -> None:
    """Running statistics as after training, so that the input still shows after many blocks."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    net.train()
    with torch.no_grad():
        clip = torch.randn(1, 8, net.blocks[0][0].in_channels, 32, 32)
        net(clip, torch.ones(1, 8, dtype=torch.bool))


def clip_of(frames: int, *, seed: int = 1, batch: int = 1, channels: int = 3) -> Tensor:
    return torch.randn(batch, frames, channels, 32, 32, generator=torch.Generator().manual_seed(seed))


def all_real(clip: Tensor) -> Tensor:
    return torch.ones(clip.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_a_frame_reaches_exactly_halo_frames_to_either_side(name: str) -> None:
    net = backbone(name, stride=1, shift_blocks=3)
    assert net.halo_frames == 3
    clip = clip_of(11)
    other = clip.clone()
    other[:, 5] += 1
    changed = (net(clip, all_real(clip)) - net(other, all_real(clip))).abs().amax(dim=1)[0] > 0
    assert changed.nonzero().flatten().tolist() == [2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_without_shifts_frames_are_independent(name: str) -> None:
    net = backbone(name, stride=1, shift_fraction=0.0)
    clip = clip_of(4)
    one_by_one = [net(clip[:, i : i + 1], torch.ones(1, 1, dtype=torch.bool)) for i in range(4)]
    assert net.halo_frames == 0
    torch.testing.assert_close(net(clip, all_real(clip)), torch.cat(one_by_one, dim=2), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_shift_takes_channels_from_both_neighbours_and_zero_beyond_the_ends() -> None:
    net = backbone("tiny", stride=1, shift_blocks=1, shift_fraction=0.25)
    seen: list[Tensor] = []
    net.blocks[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    before: list[Tensor] = []
    net.blocks[-2].register_forward_hook(lambda _, __, output: before.append(output))
    clip = clip_of(3)
    net(clip, all_real(clip))
    (x,), (shifted,) = before, seen
    fold = 16
    zero = torch.zeros_like(x[0, :fold])
    for frame in range(3):
        past = x[frame - 1, :fold] if frame > 0 else zero
        future = x[frame + 1, fold : 2 * fold] if frame < 2 else zero
        torch.testing.assert_close(shifted[frame], torch.cat([past, future, x[frame, 2 * fold :]]))


@given(
    frames=st.integers(1, 9),
    padding=st.integers(0, 5),
    stride=st.integers(1, 4),
    name=st.sampled_from(["tiny", "resnet18"]),
)
@settings(max_examples=12)
@torch.no_grad()
def test_padding_never_changes_real_steps_and_is_zero_itself(frames: int, padding: int, stride: int, name: str) -> None:
    net = backbone(name, stride=stride)
    clip = clip_of(frames)
    alone = net(clip, all_real(clip))
    padded = torch.cat([clip, 9 * clip_of(padding, seed=2)], dim=1)
    mask = torch.arange(frames + padding)[None] < frames
    out = net(padded, mask)
    steps = step_mask(mask, stride)
    assert int(steps.sum()) == alone.shape[2] == -(-frames // stride)
    torch.testing.assert_close(out[:, :, : alone.shape[2]], alone, atol=1e-4, rtol=1e-4)
    assert not out[:, :, alone.shape[2] :].any()


@torch.no_grad()
def test_a_short_last_step_averages_its_own_frames_only() -> None:
    fine, coarse = (backbone("tiny", stride=stride) for stride in (1, 3))
    clip = clip_of(7)
    each, grouped = fine(clip, all_real(clip)), coarse(clip, all_real(clip))
    expected = [each[:, :, 0:3].mean(2), each[:, :, 3:6].mean(2), each[:, :, 6]]
    torch.testing.assert_close(grouped, torch.stack(expected, dim=2))


def test_a_step_is_real_where_any_of_its_frames_is() -> None:
    mask = torch.tensor([[True] * 5 + [False] * 2, [False] * 7])
    assert step_mask(mask, 3).tolist() == [[True, True, False], [False, False, False]]


def test_frozen_blocks_do_not_learn_and_the_others_do() -> None:
    net = backbone("tiny", frozen_blocks=2)
    clip = clip_of(2)
    net(clip, all_real(clip)).sum().backward()
    learns = [all(p.grad is not None for p in block.parameters()) for block in net.blocks]
    assert learns == [False, False, True, True]


def test_pretrained_batch_norm_keeps_its_statistics_in_training() -> None:
    net = TemporalShiftBackbone(TemporalShiftSettings(), in_channels=3, pretrained=True).train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    clip = clip_of(2)
    net(clip, all_real(clip))
    assert before
    assert all(torch.equal(before[name], value) for name, value in net.named_buffers())


def test_pretrained_weights_of_a_net_without_any_are_refused_in_one_line() -> None:
    with pytest.raises(SettingsError, match=r"^backbone\.pretrained: .*'tiny'.*$"):
        TemporalShiftBackbone(TemporalShiftSettings(name="tiny"), in_channels=3, pretrained=True)


@pytest.mark.parametrize("name", NETS)
def test_every_net_takes_flow_and_reports_its_width(name: str) -> None:
    net = backbone(name, channels=2)
    clip = clip_of(2, channels=2)
    assert net(clip, all_real(clip)).shape == (1, net.channels, 1)


def sliced(video: Tensor, mask: Tensor, fold: int) -> Tensor:
    """The shift written by slices, for autograd to differentiate."""
    source = video * mask[:, :, None, None, None]
    zero = torch.zeros_like(video[:, :1])
    past, future = torch.cat([zero, source[:, :-1]], dim=1), torch.cat([source[:, 1:], zero], dim=1)
    return torch.cat([past[:, :, :fold], future[:, :, fold : 2 * fold], video[:, :, 2 * fold :]], dim=2)


@given(frames=st.integers(1, 5), real=st.integers(0, 5), fold=st.integers(1, 3))
@settings(max_examples=20)
def test_the_shift_and_its_gradient_are_those_of_slices(frames: int, real: int, fold: int) -> None:
    mask = (torch.arange(frames) < real).expand(2, -1)
    video = torch.randn(2, frames, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(video)
    own = shift(video.flatten(0, 1), frames=frames, real=mask, fraction=fold / 6).unflatten(0, (2, frames))
    expected = sliced(video, mask, fold)
    torch.testing.assert_close(own, expected)
    (found,), (wanted,) = (torch.autograd.grad(out, video, upstream) for out in (own, expected))
    torch.testing.assert_close(found, wanted)


@torch.no_grad()
def test_the_identity_path_keeps_every_frame_to_itself() -> None:
    net = backbone("resnet18", stride=1, shift_blocks=1)
    clip = clip_of(5)
    other = clip.clone()
    other[:, 2] += 1

    def changed() -> list[int]:
        difference = (net(clip, all_real(clip)) - net(other, all_real(clip))).abs().amax(dim=1)[0]
        return (difference > 0).nonzero().flatten().tolist()

    assert changed() == [1, 2, 3]
    nn.init.zeros_(net.blocks[-1].bn2.weight)  # the residual branch adds nothing
    assert changed() == [2]


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_two_clips_go_through_one_backbone_from_two_threads_at_once(name: str) -> None:
    net = backbone(name)
    clips = [clip_of(length, seed=length) for length in (5, 9)]
    masks = [torch.arange(clip.shape[1])[None] < real for clip, real in zip(clips, (3, 9), strict=True)]
    alone = [net(clip, mask) for clip, mask in zip(clips, masks, strict=True)]
    both_inside = threading.Barrier(2)

    def wait(*_: object) -> None:
        both_inside.wait(timeout=60)

    waits = net.blocks[0].register_forward_pre_hook(wait)
    with ThreadPoolExecutor(max_workers=2) as pool:
        together = list(pool.map(net, clips, masks))
    waits.remove()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_a_backbone_has_no_hooks_and_keeps_nothing_of_a_clip() -> None:
    net = backbone("tiny")
    before = set(vars(net))
    net(clip_of(3), all_real(clip_of(3)))
    assert set(vars(net)) == before
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())


@torch.no_grad()
def test_an_exported_backbone_gives_the_same_features_with_and_without_padding() -> None:
    net = backbone("tiny")
    clip = clip_of(6)
    exported = torch.export.export(net, (clip, all_real(clip))).module()
    for real in (6, 4):
        mask = torch.arange(6)[None] < real
        torch.testing.assert_close(exported(clip, mask), net(clip, mask))


@torch.no_grad()
def test_prefix_and_suffix_make_the_whole() -> None:
    net = backbone("efficientnet-lite0", stride=2)
    net.prefix_blocks = 7
    frames = torch.randint(0, 256, (2, 5, 32, 32, 3), dtype=torch.uint8)
    mask = torch.arange(5) < torch.tensor([[5], [3]])
    activations = net.prefix(frames.flatten(0, 1)).unflatten(0, (2, 5))
    torch.testing.assert_close(net.suffix(activations, mask), net(frames, mask), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "blocks"),
    [
        ({"name": "efficientnet-lite0", "frozen_blocks": 12, "pretrained": True}, 9),  # eight of 17 shift
        ({"name": "efficientnet-lite0", "frozen_blocks": 3, "pretrained": True}, 3),
        ({"name": "efficientnet-lite0", "frozen_blocks": 3}, 0),  # batch norm estimates statistics
        ({"name": "tiny", "frozen_blocks": 2, "shift_blocks": 1}, 2),
        ({"name": "tiny"}, 0),
    ],
)
def test_the_prefix_ends_where_a_block_shifts_or_learns(settings: dict[str, object], blocks: int) -> None:
    net = backbone(**settings)
    assert net.prefix_blocks == blocks
    assert net.has_prefix is (blocks > 0)


@torch.no_grad()
def test_projecting_the_average_is_averaging_the_projection() -> None:
    block = backbone("efficientnet-lite0").blocks[-1]
    x = torch.randn(3, 192, 4, 4)
    torch.testing.assert_close(block.pooled(x, x), block(x).mean(dim=(2, 3)), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_changes_are_those_of_the_grey_level_since_so_many_frames_before() -> None:
    net = backbone("tiny", changes_frames=[1, 3], colours=False)
    grey = torch.tensor([10, 10, 34, 10, 250])
    frames = grey.to(torch.uint8).view(1, 5, 1, 1, 1).expand(1, 5, 32, 32, 3)
    read = net.prepare(frames)
    assert read.shape == (1, 5, 2, 32, 32)
    since_one, since_three = [0, 0, 24, -24, 240], [0, 0, 24, 0, 240]  # at the start, since the first frame
    expected = torch.tensor([since_one, since_three]).T.float()
    torch.testing.assert_close(read[0, :, :, 7, 9], 2 * expected / (expected.abs() + 24))


@torch.no_grad()
def test_still_scenes_of_any_colours_look_alike_to_a_net_that_reads_changes_alone() -> None:
    net = backbone("tiny", changes_frames=[1, 3, 10], colours=False)
    scenes = torch.randint(0, 256, (2, 1, 32, 32, 3), dtype=torch.uint8).expand(2, 14, 32, 32, 3)
    one, other = net(scenes, all_real(scenes))
    assert torch.equal(one, other)
    beside = backbone("tiny", changes_frames=[1, 3, 10])
    one, other = beside(scenes, all_real(scenes))
    assert not torch.allclose(one, other)


@torch.no_grad()
def test_with_changes_the_prefix_of_a_part_reads_the_frames_before_it() -> None:
    net = backbone("efficientnet-lite0", stride=1, changes_frames=[1, 4])
    net.prefix_blocks = 7
    frames = torch.randint(0, 256, (9, 32, 32, 3), dtype=torch.uint8)
    whole = net.prefix(frames)
    torch.testing.assert_close(net.prefix(frames[2:], lead=4), whole[6:], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(net.prefix(frames[:3]), whole[:3], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(net.prefix(frames[6:]), whole[6:], atol=1e-3)


def test_a_net_that_would_read_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="leaves the net nothing to read"):
        TemporalShiftSettings(colours=False)
