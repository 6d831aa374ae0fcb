"""Branch mapping, halo and colour jitter."""

from __future__ import annotations

import torch
from torch import Tensor

from tadkit.config import TemporalShiftSettings
from tadkit.models.backbones import build_backbone
from tadkit.models.branches import BranchMapping, halo_frames, jitter_colour, jitter_flow


def frames_of(length: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(40, 200, (2, length, 6, 8, 3), dtype=torch.uint8, generator=generator)


def jittered(frames: Tensor, mask: Tensor, amount: float, *, seed: int = 0) -> Tensor:
    return jitter_colour(
        frames, mask, amount, torch.rand(3, len(frames), generator=torch.Generator().manual_seed(seed))
    )


def test_flow_jitter_is_one_uniform_scale_for_each_window() -> None:
    motion = torch.ones(4000, 2, 2, 1, 1)
    scales = jitter_flow(motion, 0.4, torch.rand(4000, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(scales, scales[:, :1, :1].expand_as(scales))
    one = scales[:, 0, 0, 0, 0]
    assert 0.6 <= one.min() < 0.61
    assert 1.39 < one.max() <= 1.4
    assert abs(one.mean() - 1) < 0.02


def test_no_jitter_is_the_same_picture() -> None:
    frames = frames_of(3)
    assert torch.equal(jittered(frames, torch.ones(2, 3, dtype=torch.bool), 0.0), frames)


def test_jitter_is_alike_for_all_frames_of_a_window_and_differs_between_windows() -> None:
    frames = frames_of(1).expand(-1, 4, -1, -1, -1)[:1].expand(2, -1, -1, -1, -1)
    out = jittered(frames, torch.ones(2, 4, dtype=torch.bool), 0.5)
    assert all(torch.equal(out[:, 0], out[:, i]) for i in range(4))
    assert not torch.equal(out[0], out[1])
    assert not torch.equal(out, frames)


def test_jitter_of_real_frames_does_not_depend_on_padding() -> None:
    frames = frames_of(3)
    padded = torch.cat([frames, torch.zeros_like(frames)], dim=1)
    mask = (torch.arange(6) < 3).expand(2, -1)
    assert torch.equal(jittered(padded, mask, 0.4)[:, :3], jittered(frames, mask[:, :3], 0.4))


def test_jitter_follows_its_generator() -> None:
    frames, mask = frames_of(2), torch.ones(2, 2, dtype=torch.bool)
    assert torch.equal(jittered(frames, mask, 0.4, seed=1), jittered(frames, mask, 0.4, seed=1))
    assert not torch.equal(jittered(frames, mask, 0.4, seed=1), jittered(frames, mask, 0.4, seed=2))


@torch.no_grad()
def test_mapping_reads_no_padding_and_one_step_to_either_side() -> None:
    torch.manual_seed(0)
    mapping = BranchMapping(inputs=4, outputs=16)
    x = torch.randn(1, 4, 9)
    mask = torch.arange(9)[None] < 6
    noisy = torch.where(mask[:, None], x, 1e3)
    torch.testing.assert_close(mapping(noisy, mask)[:, :, :6], mapping(x[:, :, :6], mask[:, :6]))
    assert not mapping(noisy, mask)[:, :, 6:].any()
    other = x.clone()
    other[:, :, 3] += 1
    everything = torch.ones_like(mask)
    changed = (mapping(x, everything) != mapping(other, everything)).any(dim=1)[0]
    assert changed.nonzero().flatten().tolist() == [2, 3, 4]


def test_the_halo_covers_backbone_and_mapping_and_keeps_windows_aligned() -> None:
    net = build_backbone(TemporalShiftSettings(name="tiny", shift_blocks=3, stride=2), in_channels=3, pretrained=False)
    assert halo_frames(net) == 6  # 3 of the shifts, 2 of the mapping's neighbouring step, rounded up to whole steps
    net.align_frames = 8
    assert halo_frames(net) == 8
