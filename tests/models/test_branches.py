"""Inputs of teacher and student."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tadkit.models.branches import BranchMapping, jitter_colour, jitter_flow, prepare_motion, prepare_rgb


def frames_of(length: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(40, 200, (2, length, 6, 8, 3), dtype=torch.uint8, generator=generator)


def jittered(frames: Tensor, mask: Tensor, amount: float, *, seed: int = 0) -> Tensor:
    return jitter_colour(frames, mask, amount, torch.Generator().manual_seed(seed))


def test_rgb_goes_to_minus_one_to_one_channels_first() -> None:
    frames = torch.tensor([255, 127, 0], dtype=torch.uint8).reshape(1, 1, 1, 1, 3)
    assert prepare_rgb(frames).flatten().tolist() == [1.0, 0.0, -127 / 128]
    assert prepare_rgb(frames).shape == (1, 1, 3, 1, 1)


@pytest.mark.parametrize(("channels", "unit"), [(2, 2.0), (3, 32.0)])
def test_flow_and_gradient_have_their_own_unit(channels: int, unit: float) -> None:
    motion = torch.full((1, 1, channels, 2, 2), unit)
    assert torch.equal(prepare_motion(motion), torch.ones_like(motion))
    stacks = motion.repeat(1, 1, 3, 1, 1)
    assert torch.equal(prepare_motion(stacks, stack=3), torch.ones_like(stacks))


def test_flow_jitter_is_one_uniform_scale_for_each_window() -> None:
    motion = torch.ones(4000, 2, 2, 1, 1)
    scales = jitter_flow(motion, 0.4, torch.Generator().manual_seed(0))
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
