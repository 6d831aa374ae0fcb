"""Learning rate, groups and averaged weights have known answers."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from tadkit.config import TrainSettings
from tadkit.training.schedule import AveragedWeights, learning_rate, parameter_groups, rate_factor


def test_rate_climbs_in_a_line_then_falls_as_a_cosine() -> None:
    factors = [rate_factor(step, total_steps=20, warmup=0.2) for step in range(20)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[12] == pytest.approx(0.5)
    assert factors[8] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert all(a > b for a, b in itertools.pairwise(factors[4:]))
    assert 0 < factors[-1] < 0.02
    assert rate_factor(20, total_steps=20, warmup=0.2) == pytest.approx(0)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.99])
@pytest.mark.parametrize("total", [1, 2, 7])
def test_rate_is_never_zero_nor_above_the_peak(total: int, warmup: float) -> None:
    factors = [rate_factor(step, total_steps=total, warmup=warmup) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)


@pytest.mark.parametrize("name", ["warmup_cosine", "cosine", "warmup_multistep"])
def test_schedules_of_actionformer_are_its_own_at_every_step(name: str) -> None:
    """Made by running happyharrycn/actionformer_release (commit 61ea7eb) step by step."""
    golden = json.loads((Path(__file__).parent / "golden" / "lr_schedules.json").read_text())[name]
    epochs = golden["epochs"] + golden["warmup_epochs"]
    settings = TrainSettings(
        schedule=f"actionformer-{golden['schedule_type']}",
        warmup=golden["warmup_epochs"] / epochs,
        milestones=[epoch / golden["epochs"] for epoch in golden.get("schedule_steps", ())],
    )
    total = epochs * golden["iters_per_epoch"]
    rates = [learning_rate(step, peak=1e-3, total_steps=total, settings=settings) for step in range(total)]
    assert rates == pytest.approx(golden["lr"], rel=1e-9, abs=1e-15)


def test_the_usual_schedule_scales_with_the_peak() -> None:
    settings = TrainSettings(warmup=0.2)
    rates = [learning_rate(step, peak=0.5, total_steps=20, settings=settings) for step in range(20)]
    assert rates == [0.5 * rate_factor(step, total_steps=20, warmup=0.2) for step in range(20)]


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.head = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_backbone_has_its_own_rate_and_vectors_do_not_decay() -> None:
    net = _Net()
    settings = TrainSettings(lr=0.1, backbone_lr=0.01, weight_decay=0.5)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in parameter_groups(net, settings)
        for parameter in group["params"]
    }
    expected = {
        net.backbone.weight: (0.01, 0.5),
        net.backbone.bias: (0.01, 0.0),
        net.head.weight: (0.1, 0.5),
        net.head.bias: (0.1, 0.0),
        net.norm.weight: (0.1, 0.0),
        net.norm.bias: (0.1, 0.0),
    }
    assert found == {id(parameter): chosen for parameter, chosen in expected.items()}


def test_averaged_weights_follow_the_formula_and_copy_counters() -> None:
    net = nn.BatchNorm1d(1)
    averaged = AveragedWeights(net, decay=0.5)
    value = 1.0
    for step, weight in enumerate((3.0, 5.0, -1.0, 4.0)):
        nn.init.constant_(net.weight, weight)
        net.num_batches_tracked.fill_(step + 1)
        averaged.update(net, step=step)
        decay = min(0.5, (1 + step) / (10 + step))
        value = decay * value + (1 - decay) * weight
        found = dict(averaged.items())
        assert float(found["weight"]) == pytest.approx(value)
        assert int(found["num_batches_tracked"]) == step + 1


def test_averaged_weights_are_copies() -> None:
    net = nn.Linear(1, 1)
    averaged = AveragedWeights(net, decay=0.9)
    before = {name: value.clone() for name, value in averaged.items()}
    with torch.no_grad():
        net.weight.add_(1)
    assert all(torch.equal(before[name], value) for name, value in averaged.items())
