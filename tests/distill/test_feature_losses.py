"""Losses between features: known answers, and only real steps count."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tadkit.config import FeatureLoss
from tadkit.distill.feature_losses import boundary_distance, feature_distance, relation_distance, time_contrast

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
ALL = torch.ones(1, 3, dtype=torch.bool)
KINDS: tuple[FeatureLoss, ...] = get_args(FeatureLoss)
MASK = torch.tensor([[True, True, True, False], [True, False, False, False]])


def features(seed: int) -> Tensor:
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_features_are_no_distance_apart(kind: FeatureLoss) -> None:
    assert float(feature_distance(features(0), features(0), MASK, kind=kind)) == pytest.approx(0, abs=1e-6)
    assert float(feature_distance(features(0), features(1), MASK, kind=kind)) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_every_real_step_counts_the_same(kind: FeatureLoss) -> None:
    student, teacher = features(0), features(1)
    places = MASK.nonzero().tolist()
    each = [
        feature_distance(student[[b], :, t : t + 1], teacher[[b], :, t : t + 1], torch.ones(1, 1).bool(), kind=kind)
        for b, t in places
    ]
    torch.testing.assert_close(feature_distance(student, teacher, MASK, kind=kind), torch.stack(each).mean())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mse", (1 + 9) / 2),
        ("cosine", 1 - 6 / 40**0.5),
        ("smooth-l1", (0.5 + 2.5) / 2),
        ("sigmoid-l2", (0.88079708 - 0.73105858) ** 2 + (0.98201379 - 0.73105858) ** 2),
    ],
)
def test_known_answers(kind: FeatureLoss, expected: float) -> None:
    student = torch.tensor([1.0, 1.0]).reshape(1, 2, 1)
    teacher = torch.tensor([2.0, 4.0]).reshape(1, 2, 1)
    assert float(feature_distance(student, teacher, torch.ones(1, 1).bool(), kind=kind)) == pytest.approx(expected)


def test_normalised_distance_does_not_see_scale_and_offset_of_a_step() -> None:
    student, teacher = features(0), features(1)
    plain = feature_distance(student, teacher, MASK, kind="mse-normalised")
    scaled = feature_distance(student, 7 * teacher + 3, MASK, kind="mse-normalised")
    torch.testing.assert_close(plain, scaled, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_real_is_no_distance(kind: FeatureLoss) -> None:
    assert float(feature_distance(features(0), features(1), torch.zeros_like(MASK), kind=kind)) == 0


def contrast(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    return time_contrast(student, teacher, mask, temperature=0.5)


def distance_of(kind: FeatureLoss) -> Loss:
    return lambda student, teacher, mask: feature_distance(student, teacher, mask, kind=kind)


BETWEEN_STEPS: dict[str, Loss] = {"contrast": contrast, "relation": relation_distance, "boundary": boundary_distance}
EVERY: dict[str, Loss] = {**BETWEEN_STEPS, **{kind: distance_of(kind) for kind in KINDS}}


@pytest.mark.parametrize("name", EVERY)
@given(real=st.lists(st.integers(0, 6), min_size=2, max_size=2), seed=st.integers(0, 99))
@settings(max_examples=12)
def test_padding_neither_counts_nor_gets_a_gradient(name: str, real: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 2, 4, 6, generator=generator)
    mask = torch.arange(6) < torch.tensor(real)[:, None]
    dirty_student = torch.where(mask[:, None], student, torch.nan).requires_grad_()
    dirty = EVERY[name](dirty_student, torch.where(mask[:, None], teacher, torch.inf), mask)
    torch.testing.assert_close(dirty, EVERY[name](student, teacher, mask), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(dirty, dirty_student)
    assert torch.isfinite(gradient).all()
    assert not gradient[~mask[:, None].expand_as(gradient)].any()


@pytest.mark.parametrize("name", EVERY)
def test_constant_features_have_a_finite_gradient(name: str) -> None:
    for value in (0.0, 1.0):
        student = torch.full((1, 4, 3), value, requires_grad=True)
        for teacher in (torch.full((1, 4, 3), value), features(0)[:1, :4, :3]):
            (gradient,) = torch.autograd.grad(EVERY[name](student, teacher, ALL), student)
            assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", BETWEEN_STEPS)
def test_scale_does_not_show_between_steps(name: str) -> None:
    student, teacher = features(0), features(1)
    plain = BETWEEN_STEPS[name](student, teacher, MASK)
    torch.testing.assert_close(BETWEEN_STEPS[name](3 * student, 5 * teacher, MASK), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [relation_distance, boundary_distance])
def test_relations_and_boundaries_do_not_depend_on_what_a_channel_means(loss: Loss) -> None:
    teacher = features(1)
    turned = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2)))[0]
    assert float(loss(torch.einsum("dc,bct->bdt", turned, teacher), teacher, MASK)) == pytest.approx(0, abs=1e-6)
    assert float(loss(features(0), teacher, MASK)) > 0.01


def steps(*channels: list[float]) -> Tensor:
    return torch.tensor([channels]).transpose(1, 2)


E1, E2, E3 = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_contrast_of_distinct_steps(temperature: float) -> None:
    student, shifted = steps(E1, E2, E3), steps(E2, E3, E1)
    among = math.log(math.exp(1 / temperature) + 2)
    same = time_contrast(student, student, ALL, temperature=temperature)
    assert float(same) == pytest.approx(among - 1 / temperature, abs=1e-5)
    assert float(time_contrast(student, shifted, ALL, temperature=temperature)) == pytest.approx(among, rel=1e-5)


def test_contrast_of_equal_steps_is_a_blind_guess() -> None:
    assert float(contrast(steps(E1, E1, E1), steps(E1, E2, E3), ALL)) > 0.9
    assert float(contrast(steps(E1, E1, E1), steps(E2, E2, E2), ALL)) == pytest.approx(math.log(3))


def test_contrast_is_within_a_window() -> None:
    student, teacher = features(0), features(1)
    full = torch.ones(2, 4, dtype=torch.bool)
    apart = [contrast(student[[b]], teacher[[b]], full[[b]]) for b in range(2)]
    torch.testing.assert_close(contrast(student, teacher, full), torch.stack(apart).mean())


def test_relations_of_known_steps() -> None:
    # Similarities of steps 0-1, 0-2, 1-2: the student's are 1, 0, 0; the teacher's 0, 0, 1.
    found = relation_distance(steps(E1, E1, E2), steps(E1, E2, E2), ALL)
    assert float(found) == pytest.approx(2 / 3, abs=1e-6)
    two = torch.tensor([[True, True, False]])
    assert float(relation_distance(steps(E1, E1, E2), steps(E1, E2, E2), two)) == pytest.approx(1, abs=1e-6)


def test_boundaries_of_known_changes() -> None:
    student, teacher = steps([0.0], [1.0], [0.0]), steps([0.0], [3.0], [4.0])  # changes 1, 1 and 3, 1
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(boundary_distance(student, teacher, ALL)) == pytest.approx(expected, abs=1e-5)
    one_change = torch.tensor([[True, True, False]])
    assert float(boundary_distance(student, teacher, one_change)) == 0


@pytest.mark.parametrize("name", BETWEEN_STEPS)
@pytest.mark.parametrize("real", [0, 1])
def test_a_step_alone_has_nothing_to_be_compared_with(name: str, real: int) -> None:
    mask = torch.arange(4)[None] < torch.tensor([[real], [real]])
    assert float(BETWEEN_STEPS[name](features(0), features(1), mask)) == pytest.approx(0, abs=1e-6)
    assert float(BETWEEN_STEPS[name](features(0)[..., :1], features(1)[..., :1], mask[:, :1])) == pytest.approx(0)
