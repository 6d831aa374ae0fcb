"""The fusions are the formulas of docs/method.md."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from tadkit.config import FusionSettings, ModelSettings
from tadkit.models.fusion import Fusion, build_fusion, masked_mean, running_mean

CHANNELS = 6


KINDS = ["local-attentive", "self-gating", "global-gating", "cross-attention", "concat", "sum", "late"]
GATES = KINDS[:3]


def fusion(kind: str = "local-attentive", *, window_steps: int | None = None, **options: object) -> Fusion:
    torch.manual_seed(0)
    heads = {"attention_heads": 2} if kind == "cross-attention" else {}
    settings = FusionSettings.model_validate({"kind": kind, **heads, **options})
    return build_fusion(settings, channels=CHANNELS, window_steps=window_steps).double()


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


@given(
    time=st.integers(1, 6), padding=st.integers(0, 4), kind=st.sampled_from(KINDS), window=st.sampled_from([None, 3])
)
@settings(max_examples=60)
@torch.no_grad()
def test_padding_reaches_neither_the_mean_nor_the_output(
    time: int, padding: int, kind: str, window: int | None
) -> None:
    net = fusion(kind, window_steps=window)
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


@pytest.mark.parametrize("kind", KINDS)
def test_output_is_as_wide_as_stated_and_both_branches_learn(kind: str) -> None:
    net, mask = fusion(kind), torch.ones(2, 3, dtype=torch.bool)
    motion, appearance = (track(3, seed=seed).requires_grad_() for seed in (1, 2))
    fused = net(motion, appearance, mask)
    assert net.out_channels == (CHANNELS if kind == "sum" else 2 * CHANNELS)
    assert fused.shape == (2, net.out_channels, 3)
    fused.square().sum().backward()
    for learnt in (motion, appearance, *net.parameters()):
        assert learnt.grad is not None
        assert torch.isfinite(learnt.grad).all()
    assert all(x.grad is not None and x.grad.abs().min() > 0 for x in (motion, appearance))


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


REACH = {"concat": 0, "sum": 0, "late": 0}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [3, 30, 57])
@torch.no_grad()
def test_a_step_changes_the_fusion_within_the_stated_reach_alone(kind: str, at: int) -> None:
    net = fusion(kind, window_steps=10)
    assert net.context_steps == REACH.get(kind, 10)
    motion, appearance, mask = track(60, seed=1), track(60, seed=2), torch.ones(2, 60, dtype=torch.bool)
    for pushed in ((motion + push_at(at), appearance), (motion, appearance + push_at(at))):
        apart = (net(*pushed, mask) - net(motion, appearance, mask)).abs().amax(dim=(0, 1))
        changed = (apart > 1e-9).nonzero()[:, 0].tolist()
        # The window of step t is t - 5 .. t + 4, moved inside the track at its ends.
        starts = [min(max(step - 5, 0), 50) for step in range(60)]
        around = [step for step, start in enumerate(starts) if start <= at < start + 10]
        assert changed == ([at] if kind in REACH else around)
        assert max(abs(step - at) for step in changed) <= (net.context_steps or 0)


def push_at(step: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(step), 60).double()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_without_a_window_length_the_reach_is_the_whole_track(kind: str) -> None:
    assert fusion(kind).context_steps == (0 if kind in REACH else None)


@given(order=st.permutations(range(5)), kind=st.sampled_from(GATES))
@settings(max_examples=15)
@torch.no_grad()
def test_gates_mix_no_steps(order: list[int], kind: str) -> None:
    """Step 2 stays where it is, the others change places, and so do their outputs: the mean is all they share."""
    others = [step for step in order if step != 2]
    moved = [*others[:2], 2, *others[2:]]
    net, mask = fusion(kind), torch.ones(2, 5, dtype=torch.bool)
    motion, appearance = track(5, seed=1), track(5, seed=2)
    before = net(motion, appearance, mask)
    torch.testing.assert_close(net(motion[:, :, moved], appearance[:, :, moved], mask), before[:, :, moved])


def worked(kind: str, **options: object) -> list[list[float]]:
    """Two steps of one channel: motion 2, 4, appearance 3, -1; queries are the mean, keys what they are made of."""
    net = build_fusion(FusionSettings.model_validate({"kind": kind, **options}), channels=1)
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, 1.0 if parameter.dim() > 1 else 0.0)
    motion, appearance = torch.tensor([[[2.0, 4.0]]]), torch.tensor([[[3.0, -1.0]]])
    fused: Tensor = net(motion, appearance, torch.ones(1, 2, dtype=torch.bool))[0]
    return fused.tolist()


def gate(score: float) -> float:
    return 1 / (1 + math.exp(-score))


@torch.no_grad()
def test_each_kind_on_worked_numbers() -> None:
    """The mean of motion is 3, that of appearance 1."""
    local = [[2 * gate(3 * 3), 4 * gate(3 * -1)], [3 * gate(1 * 2), -1 * gate(1 * 4)]]
    assert_close(worked("local-attentive"), local)
    own = [[2 * gate(3 * 2), 4 * gate(3 * 4)], [3 * gate(1 * 3), -1 * gate(1 * -1)]]
    assert_close(worked("self-gating"), own)
    pooled = gate(3 * 1)
    assert_close(worked("global-gating"), [[2 * pooled, 4 * pooled], [3 * pooled, -pooled]])
    more = [[2 + local[0][0], 4 + local[0][1]], [3 + local[1][0], -1 + local[1][1]]]
    assert_close(worked("local-attentive", residual=True), more)
    assert_close(worked("local-attentive", directions="motion"), [local[0], [3.0, -1.0]])
    assert_close(worked("local-attentive", directions="appearance"), [[2.0, 4.0], local[1]])
    assert_close(
        worked("self-gating", directions="appearance", residual=True), [[2.0, 4.0], [3 + own[1][0], -1 + own[1][1]]]
    )
    assert_close(worked("concat"), [[2.0, 4.0], [3.0, -1.0]])
    assert_close(worked("late"), [[2.0, 4.0], [3.0, -1.0]])
    assert_close(worked("sum"), [[5.0, 3.0]])


@torch.no_grad()
def test_cross_attention_on_worked_numbers() -> None:
    """A step q attends to two keys by the sigmoid of q times their difference: motion to 3, -1; appearance to 2, 4."""
    motion = [q + gate(q * 4) * 3 - (1 - gate(q * 4)) for q in (2, 4)]
    appearance = [q + gate(q * 2) * 4 + (1 - gate(q * 2)) * 2 for q in (3, -1)]
    assert_close(worked("cross-attention", attention_heads=1), [motion, appearance])
    assert_close(worked("cross-attention", attention_heads=1, directions="motion"), [motion, [3.0, -1.0]])


def assert_close(ours: list[list[float]], expected: list[list[float]]) -> None:
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(expected))


@torch.no_grad()
def test_attention_on_a_long_track_is_that_of_each_window_by_itself() -> None:
    net, whole = fusion("cross-attention", window_steps=8), fusion("cross-attention")
    motion, appearance = track(37, seed=1), track(37, seed=2)
    fused = net(motion, appearance, torch.ones(2, 37, dtype=torch.bool))
    for step in range(37):
        start = min(max(step - 4, 0), 29)
        window = [x[:, :, start : start + 8] for x in (motion, appearance)]
        alone = whole(*window, torch.ones(2, 8, dtype=torch.bool))
        torch.testing.assert_close(fused[:, :, step], alone[:, :, step - start])


def test_a_track_of_padding_alone_gives_no_nan() -> None:
    for kind in KINDS:
        net, mask = fusion(kind, window_steps=4), torch.zeros(2, 9, dtype=torch.bool)
        motion = track(9, seed=1).requires_grad_()
        fused = net(motion, track(9, seed=2), mask)
        fused.sum().backward()
        assert not fused.any()
        assert motion.grad is not None
        assert not motion.grad.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sum", "directions": "motion"}, "directions must be both with kind sum"),
        ({"kind": "cross-attention", "residual": True}, "residual needs a kind that gates"),
        ({"attention_heads": 2}, "attention_heads needs kind cross-attention, not local-attentive"),
    ],
)
def test_options_without_effect_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FusionSettings.model_validate(options)


def test_attention_heads_must_divide_the_width_of_the_branches() -> None:
    fusion_settings = FusionSettings(kind="cross-attention", attention_heads=3)
    with pytest.raises(ValidationError, match=r"distill\.dim 128 must be a multiple of fusion\.attention_heads 3"):
        ModelSettings(fusion=fusion_settings)
