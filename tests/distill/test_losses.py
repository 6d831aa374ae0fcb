"""The distance of features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tadkit.distill.losses import FeatureLoss, feature_distance

KINDS: tuple[FeatureLoss, ...] = ("mse", "mse-normalised", "cosine", "smooth-l1")
MASK = torch.tensor([[True, True, True, False], [True, False, False, False]])


def features(seed: int) -> Tensor:
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_features_are_no_distance_apart(kind: FeatureLoss) -> None:
    assert float(feature_distance(features(0), features(0), MASK, kind=kind)) == pytest.approx(0, abs=1e-6)
    assert float(feature_distance(features(0), features(1), MASK, kind=kind)) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_count(kind: FeatureLoss) -> None:
    student, teacher = features(0), features(1)
    padded = torch.where(MASK[:, None], student, 99.0)
    expected = feature_distance(student, teacher, MASK, kind=kind)
    assert float(feature_distance(padded, teacher, MASK, kind=kind)) == float(expected)


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
    ("kind", "expected"), [("mse", (1 + 9) / 2), ("cosine", 1 - 6 / 40**0.5), ("smooth-l1", (0.5 + 2.5) / 2)]
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
