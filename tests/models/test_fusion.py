"""Local attentive fusion is the formula of docs/method.md, section 3."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tadkit.config import FusionSettings
from tadkit.models.fusion import LocalAttentiveFusion, masked_mean, running_mean

CHANNELS = 6


def fusion(kind: str = "local-attentive") -> LocalAttentiveFusion:
    torch.manual_seed(0)
    return LocalAttentiveFusion(FusionSettings.model_validate({"kind": kind}), channels=CHANNELS).double()


def track(time: int, *, seed: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, CHANNELS, time, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(target: Tensor, reference: Tensor, real: list[bool], gate: torch.nn.Module) -> list[list[float]]:
    """The formula for one video, with loops: w_t = sigmoid(W_q A(target) * W_k reference_t), f~_t = w_t * target_t."""
    wq, bq = gate.query.weight.tolist(), gate.query.bias.tolist()
    wk, bk = gate.key.weight[:, :, 0].tolist(), gate.key.bias.tolist()
    steps = [t for t, is_real in enumerate(real) if is_real]
    mean = [sum(float(target[c, t]) for t in steps) / len(steps) for c in range(CHANNELS)]
    query = [bq[i] + sum(wq[i][j] * mean[j] for j in range(CHANNELS)) for i in range(CHANNELS)]
    out = [[0.0] * len(real) for _ in range(CHANNELS)]
    for t in steps:
        for i in range(CHANNELS):
            key = bk[i] + sum(wk[i][j] * float(reference[j, t]) for j in range(CHANNELS))
            weight = 1 / (1 + math.exp(-query[i] * key))
            assert 0 < weight < 1
            out[i][t] = weight * float(target[i, t])
    return out


@torch.no_grad()
def test_fusion_is_the_formula_written_out_with_loops() -> None:
    net = fusion()
    motion, appearance = track(5, seed=1), track(5, seed=2)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    fused = net(motion, appearance, mask)
    for video in range(2):
        real = mask[video].tolist()
        expected = by_hand(motion[video], appearance[video], real, net.gates[0]) + by_hand(
            appearance[video], motion[video], real, net.gates[1]
        )
        torch.testing.assert_close(fused[video], torch.tensor(expected, dtype=torch.float64))


@torch.no_grad()
def test_weights_lie_strictly_between_zero_and_one() -> None:
    motion, appearance = 3 * track(20, seed=1), 3 * track(20, seed=2)
    mask = torch.ones(2, 20, dtype=torch.bool)
    weights = fusion()(motion, appearance, mask) / torch.cat([motion, appearance], dim=1)
    assert weights.min() > 0
    assert weights.max() < 1


@torch.no_grad()
def test_steps_meet_only_in_the_mean() -> None:
    net = fusion()
    motion, appearance = track(6, seed=1), track(6, seed=2)
    mask = torch.ones(2, 6, dtype=torch.bool)
    before = net(motion, appearance, mask)
    push = torch.randn(2, CHANNELS, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    one, two = motion.clone(), motion.clone()
    one[:, :, 1] += push
    two[:, :, 1] += push
    two[:, :, 4] -= push  # the mean stays
    others = [0, 2, 3, 5]
    assert (net(one, appearance, mask) - before).abs()[:, :, others].max() > 1e-6
    torch.testing.assert_close(net(two, appearance, mask)[:, :, others], before[:, :, others])


@torch.no_grad()
def test_a_reference_step_changes_the_target_at_that_step_only() -> None:
    net = fusion()
    motion, appearance = track(6, seed=1), track(6, seed=2)
    mask = torch.ones(2, 6, dtype=torch.bool)
    other = appearance.clone()
    other[:, :, 2] += 1
    changed = (net(motion, other, mask) - net(motion, appearance, mask))[:, :CHANNELS].abs().amax(dim=(0, 1)) > 0
    assert changed.tolist() == [False, False, True, False, False, False]


@given(time=st.integers(1, 6), padding=st.integers(0, 4), kind=st.sampled_from(["local-attentive", "concat"]))
@settings(max_examples=20)
@torch.no_grad()
def test_padding_reaches_neither_the_mean_nor_the_output(time: int, padding: int, kind: str) -> None:
    net = fusion(kind)
    motion, appearance = track(time, seed=1), track(time, seed=2)
    alone = net(motion, appearance, torch.ones(2, time, dtype=torch.bool))
    mask = (torch.arange(time + padding) < time).expand(2, -1)
    padded = [torch.cat([x, 50 * track(padding, seed=3)], dim=2) for x in (motion, appearance)]
    out = net(*padded, mask)
    torch.testing.assert_close(out[:, :, :time], alone)
    assert not out[:, :, time:].any()


def test_concat_has_no_weights_and_puts_motion_first() -> None:
    net = fusion("concat")
    motion, appearance = track(4, seed=1), track(4, seed=2)
    mask = torch.ones(2, 4, dtype=torch.bool)
    assert list(net.parameters()) == []
    assert torch.equal(net(motion, appearance, mask), torch.cat([motion, appearance], dim=1))


@pytest.mark.parametrize("kind", ["local-attentive", "concat"])
def test_output_is_twice_as_wide_as_a_branch(kind: str) -> None:
    net = fusion(kind)
    assert net.out_channels == 2 * CHANNELS
    assert net(track(3, seed=1), track(3, seed=2), torch.ones(2, 3, dtype=torch.bool)).shape == (2, 2 * CHANNELS, 3)


def test_mean_of_nothing_is_zero() -> None:
    assert not masked_mean(track(3, seed=1), torch.zeros(2, 3, dtype=torch.bool)).any()


@given(time=st.integers(1, 40), padding=st.integers(0, 5), window=st.integers(1, 12))
@settings(max_examples=30)
def test_the_running_mean_is_over_a_window_around_each_step_moved_inside_the_track(
    time: int, padding: int, window: int
) -> None:
    x = torch.cat([track(time, seed=1), 50 * track(padding, seed=2)], dim=2)
    mean = running_mean(x, (torch.arange(time + padding) < time).expand(2, -1), window)
    for step in range(time):
        start = min(max(step - window // 2, 0), max(time - window, 0))
        expected = x[:, :, start : min(start + window, time)].mean(dim=2)
        torch.testing.assert_close(mean.expand(-1, -1, time + padding)[:, :, step], expected)


def test_a_track_as_long_as_the_window_has_one_mean_to_the_bit() -> None:
    x, mask = track(12, seed=1).float(), torch.arange(12).expand(2, -1) < 10
    assert torch.equal(running_mean(x, mask, 12)[:, :, 0], masked_mean(x, mask))


@torch.no_grad()
def test_an_hour_is_averaged_as_exactly_as_a_minute() -> None:
    minute = 100 + track(300, seed=1).float()
    hour = minute.repeat(1, 1, 60)
    mask = torch.ones(2, hour.shape[2], dtype=torch.bool)
    mean = running_mean(hour, mask, 100)
    torch.testing.assert_close(mean[:, :, 17000:17100], mean[:, :, 200:300], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_step_changes_the_fusion_within_the_window_alone() -> None:
    net = LocalAttentiveFusion(FusionSettings(), channels=CHANNELS, window_steps=10).double()
    motion, appearance, mask = track(60, seed=1), track(60, seed=2), torch.ones(2, 60, dtype=torch.bool)
    pushed = motion.clone()
    pushed[:, :, 30] += 1
    apart = (net(pushed, appearance, mask) - net(motion, appearance, mask)).abs().amax(dim=(0, 1))
    assert (apart > 1e-9).nonzero()[:, 0].tolist() == list(range(26, 36))
