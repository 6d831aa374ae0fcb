"""Late fusion: a head for each branch, trained by itself; only the predictions are averaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tadkit.config import (
    ActionFormerSettings,
    BmnSettings,
    FusionSettings,
    HeadSettings,
    TadtrSettings,
    TagsSettings,
    TemporalMaxerSettings,
    TriDetSettings,
)
from tadkit.models.fusion import JointHead, LateHead, LatePredictions
from tadkit.models.heads.anchor_free import HeadPredictions
from tadkit.models.heads.head import mean_logit

CHANNELS, STEPS = 4, 16
PYRAMID: dict[str, Any] = {"dim": 16, "levels": 2, "prior_probability": 0.5}
WHOLE: dict[str, Any] = {"window_steps": STEPS, "prior_probability": 0.5}
HEADS: dict[str, HeadSettings] = {
    "actionformer": ActionFormerSettings(**PYRAMID, attention_heads=2, attention_window=5),
    "tridet": TriDetSettings(**PYRAMID, bins=4),
    "temporal-maxer": TemporalMaxerSettings(**PYRAMID),
    "tadtr": TadtrSettings(
        **WHOLE, dim=16, queries=8, mlp_dim=16, encoder_layers=1, decoder_layers=1, norm_groups=2, attention_heads=2
    ),
    "tadtr, actionness": TadtrSettings(
        **WHOLE,
        dim=16,
        queries=8,
        mlp_dim=16,
        encoder_layers=1,
        decoder_layers=1,
        norm_groups=2,
        attention_heads=2,
        actionness=True,
    ),
    "bmn": BmnSettings(**WHOLE, dim=8, map_dim=4, roi_dim=4, durations=12, samples=4, graph_layers=1, score="iou"),
    "bmn, classless": BmnSettings(
        window_steps=STEPS, dim=8, map_dim=4, roi_dim=4, durations=12, samples=4, classifier=False
    ),
    "tags": TagsSettings(**WHOLE, dim=16, layers=1, reach_steps=8, attention_heads=2),
}


def joint_head(kind: str) -> JointHead:
    torch.manual_seed(3)
    fusion = FusionSettings(kind="late")
    joint = JointHead(
        fusion=fusion, head=HEADS[kind], dim=CHANNELS, num_classes=2, two_branches=True, trained_steps=STEPS
    )
    with torch.no_grad():
        for parameter in joint.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return joint.eval()


def branch(*, seed: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, CHANNELS, STEPS, generator=torch.Generator().manual_seed(seed))


def late_of(joint: JointHead) -> LateHead:
    assert isinstance(joint.head, LateHead)
    return joint.head


@pytest.mark.parametrize("kind", HEADS)
@torch.no_grad()
def test_each_branch_is_read_by_its_own_head(kind: str) -> None:
    joint, mask = joint_head(kind), torch.ones(1, STEPS, dtype=torch.bool)
    motion, appearance = branch(seed=1), branch(seed=2)
    predicted = joint(motion, appearance, mask)
    own, other = (head(x, mask) for head, x in zip(late_of(joint).branches, (motion, appearance), strict=True))
    assert_same(predicted.motion, own)
    assert_same(predicted.appearance, other)
    assert_same(joint(motion, 2 * appearance, mask).motion, own)


def assert_same(ours: Any, theirs: Any) -> None:
    if ours is None:
        assert theirs is None
    elif isinstance(ours, Tensor):
        torch.testing.assert_close(ours, theirs)
    else:
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize("kind", HEADS)
@torch.no_grad()
def test_the_average_of_two_equal_predictions_finds_what_one_finds(kind: str) -> None:
    joint, mask = joint_head(kind), torch.ones(1, STEPS, dtype=torch.bool)
    head, one = late_of(joint).first, late_of(joint).first(branch(seed=1), mask)
    alone, both = (head.candidates(p, min_score=0.01) for p in (one, head.average(one, one)))
    assert len(alone.scores) > 4
    times = 2 if kind.startswith("tadtr") else 1  # queries have no partners: those of both are kept
    assert len(both.scores) == times * len(alone.scores)
    np.testing.assert_allclose(both.scores, np.repeat(alone.scores, times), rtol=1e-5)
    if times == 1:
        np.testing.assert_allclose(both.positions, alone.positions, rtol=1e-5, atol=1e-6)


def test_probabilities_and_distances_are_averaged() -> None:
    joint = joint_head("actionformer")
    real = torch.ones(1, 1, dtype=torch.bool)

    def predictions(probability: float, start: float, end: float) -> HeadPredictions:
        logits = torch.tensor([[[probability, 0.5]]]).logit()
        offsets = torch.tensor([[[start, end]]])
        return HeadPredictions((logits, logits), (offsets, offsets), (real, ~real))  # the coarser level is padding

    late = LatePredictions(predictions(0.9, 0.2, 1.0), predictions(0.3, 0.4, 3.0))
    found = late_of(joint).candidates(late, min_score=0.55)
    np.testing.assert_allclose(found.scores, [0.6], rtol=1e-6)
    np.testing.assert_allclose(found.positions[0, 1] - found.positions[0, 0], 0.3 + 2.0, rtol=1e-6)


def test_the_mean_logit_is_exact_where_sigmoids_saturate() -> None:
    a, b = torch.tensor([0.0, -200.0, 200.0, -200.0, 3.0]), torch.tensor([0.0, -200.0, 200.0, 200.0, 3.0])
    torch.testing.assert_close(mean_logit(a, b), torch.tensor([0.0, -200.0, 200.0, 0.0, 3.0]))
    exact = (torch.tensor(1.0).sigmoid() + torch.tensor(-2.0).sigmoid()) / 2
    torch.testing.assert_close(mean_logit(torch.tensor(1.0), torch.tensor(-2.0)).sigmoid(), exact)


@pytest.mark.parametrize("kind", HEADS)
def test_the_loss_is_the_mean_of_those_of_both_heads_and_both_learn(kind: str) -> None:
    joint, mask = joint_head(kind), torch.ones(2, STEPS, dtype=torch.bool)
    head, segments, labels = late_of(joint), [torch.tensor([[2.0, 7.0]])] * 2, [torch.tensor([0])] * 2
    predicted = joint(branch(seed=1, batch=2), branch(seed=2, batch=2), mask)
    torch.manual_seed(0)
    own = [part.loss(p, segments, labels).total for part, p in zip(head.branches, predicted, strict=True)]
    torch.manual_seed(0)
    total = head.loss(predicted, segments, labels).total
    torch.testing.assert_close(total, (own[0] + own[1]) / 2)
    total.backward()
    assert all(any(p.grad is not None and p.grad.any() for p in part.parameters()) for part in head.branches)
    distance = head.distil(predicted, predicted)
    torch.testing.assert_close(distance.classification + distance.regression, torch.tensor(0.0))
