from pathlib import Path

import numpy as np
import pytest
import torch

from tadkit.config import ActionFormerSettings
from tadkit.models.heads import (
    HeadPredictions,
    anchor_free_distillation,
    anchor_free_loss,
    diou_loss_1d,
    sigmoid_focal_loss,
)

GOLDEN = {
    name: torch.from_numpy(values) for name, values in np.load(Path(__file__).parent / "golden" / "losses.npz").items()
}
SETTINGS = ActionFormerSettings(levels=2, first_range_steps=4.0)


def predictions(seed: int, *, real: int = 16) -> HeadPredictions:
    torch.manual_seed(seed)
    lengths = (16, 8)
    return HeadPredictions(
        tuple(torch.randn(2, n, 3, requires_grad=True) for n in lengths),
        tuple(torch.rand(2, n, 2).requires_grad_() for n in lengths),
        tuple((torch.arange(n)[None] < -(-real * n // 16)).expand(2, -1) for n in lengths),
    )


def test_focal_loss_is_that_of_actionformer() -> None:
    torch.testing.assert_close(sigmoid_focal_loss(GOLDEN["logits"], GOLDEN["targets"]), GOLDEN["focal"])


def test_smoothed_focal_loss_is_that_of_actionformer() -> None:
    smoothed = GOLDEN["targets"] * 0.9 + 0.1 / (GOLDEN["targets"].shape[1] + 1)
    torch.testing.assert_close(sigmoid_focal_loss(GOLDEN["logits"], smoothed), GOLDEN["focal_smooth"])


def test_diou_loss_is_that_of_actionformer() -> None:
    torch.testing.assert_close(diou_loss_1d(GOLDEN["pred_off"], GOLDEN["target_off"]), GOLDEN["diou"])


@pytest.mark.parametrize("target", [(0.0, 0.0), (1.0, 2.0)])
def test_diou_of_a_segment_without_length_is_finite_and_so_is_its_gradient(target: tuple[float, float]) -> None:
    predicted = torch.zeros(1, 2, requires_grad=True)
    loss = diou_loss_1d(predicted, torch.tensor([target]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


def test_confident_and_exact_predictions_cost_nothing() -> None:
    segments, labels = [torch.tensor([[5.0, 9.0]])], [torch.tensor([2])]
    logits = [torch.full((1, n, 3), -20.0) for n in (16, 8)]
    offsets = [torch.zeros(1, n, 2) for n in (16, 8)]
    for step in (6, 7, 8):
        logits[0][0, step, 2] = 20.0
        offsets[0][0, step] = torch.tensor([step - 5.0, 9.0 - step])
    masks = tuple(torch.ones(1, n, dtype=torch.bool) for n in (16, 8))
    exact = HeadPredictions(tuple(logits), tuple(offsets), masks)
    loss = anchor_free_loss(exact, segments, labels, settings=SETTINGS, strides=(1, 2))
    assert loss.positives == 3
    assert loss.total < 1e-6


def test_masked_points_cost_nothing_whatever_is_predicted() -> None:
    segments, labels = [torch.tensor([[1.0, 4.0]])] * 2, [torch.tensor([0])] * 2
    given = predictions(0, real=8)
    wild = tuple(x.masked_fill(~mask[..., None], torch.nan) for x, mask in zip(given.logits, given.masks, strict=True))
    one = anchor_free_loss(given, segments, labels, settings=SETTINGS, strides=(1, 2))
    other = anchor_free_loss(given._replace(logits=wild), segments, labels, settings=SETTINGS, strides=(1, 2))
    assert torch.equal(one.total, other.total)
    assert torch.equal(anchor_free_distillation(given, given._replace(logits=wild)).classification, torch.tensor(0.0))


def test_a_batch_without_actions_costs_only_classification() -> None:
    nothing = [torch.zeros(0, 2)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2
    loss = anchor_free_loss(predictions(0), *nothing, settings=SETTINGS, strides=(1, 2))
    assert loss.positives == 0
    assert loss.regression == 0
    assert loss.classification > 0
    loss.total.backward()


def test_the_normaliser_divides() -> None:
    actions = [torch.tensor([[1.0, 4.0]])] * 2, [torch.tensor([0])] * 2
    own = anchor_free_loss(predictions(0), *actions, settings=SETTINGS, strides=(1, 2))
    halved = anchor_free_loss(
        predictions(0), *actions, settings=SETTINGS, strides=(1, 2), normaliser=2.0 * own.positives
    )
    torch.testing.assert_close(halved.total * 2, own.total)


def test_distillation_is_zero_at_the_teacher_and_positive_elsewhere() -> None:
    teacher = predictions(1)
    same, other = anchor_free_distillation(predictions(1), teacher), anchor_free_distillation(predictions(2), teacher)
    assert same == (0, 0)
    assert other.classification > 0
    assert other.regression > 0


def test_distillation_brings_the_student_to_the_teacher_and_leaves_the_teacher_alone() -> None:
    teacher, student = predictions(1), predictions(2)
    optimiser = torch.optim.Adam([*student.logits, *student.offsets], lr=0.05)
    for _ in range(600):
        optimiser.zero_grad()
        sum(anchor_free_distillation(student, teacher)).backward()
        optimiser.step()
    for ours, theirs in zip(student.logits, teacher.logits, strict=True):
        torch.testing.assert_close(ours.sigmoid(), theirs.sigmoid(), atol=0.02, rtol=0)
        assert theirs.grad is None
    for ours, theirs in zip(student.offsets, teacher.offsets, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0)


def test_background_does_not_outweigh_the_actions() -> None:
    shape, masks = (1, 2000, 3), (torch.ones(1, 2000, dtype=torch.bool),)
    teacher_logits = torch.full(shape, -5.0)
    teacher_logits[0, :5, 0] = 2.0
    offsets = (torch.ones(1, 2000, 2),)
    teacher = HeadPredictions((teacher_logits,), offsets, masks)
    background_off = teacher_logits.where(teacher_logits > 0, -4.6)
    actions_missed = teacher_logits.where(teacher_logits < 0, -4.6)
    of_background = anchor_free_distillation(HeadPredictions((background_off,), offsets, masks), teacher)
    of_actions = anchor_free_distillation(HeadPredictions((actions_missed,), offsets, masks), teacher)
    assert of_actions.classification > 20 * of_background.classification
