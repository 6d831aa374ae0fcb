import pytest
import torch

from tadkit.config import BmnSettings
from tadkit.models.heads.bmn import BoundaryPredictions, boundary_distillation, boundary_loss, boundary_targets

SETTINGS = BmnSettings(durations=6)
TRUTH = [torch.tensor([[2.0, 6.0], [7.0, 8.0]])], [torch.tensor([1, 0])]


def predictions(seed: int, *, real: int = 9) -> BoundaryPredictions:
    torch.manual_seed(seed)
    shapes = (1, 9), (1, 9), (1, 2, 6, 9), (1, 2, 6, 9)
    return BoundaryPredictions(*(torch.randn(s, requires_grad=True) for s in shapes), torch.arange(9)[None] < real)


def test_targets_of_proposals_and_boundaries() -> None:
    targets = boundary_targets(9, 6, *TRUTH, 2, edge_steps=2.0)
    assert (targets.start[0] > 0.5).nonzero().flatten().tolist() == [1, 2, 6, 7]
    assert (targets.end[0] > 0.5).nonzero().flatten().tolist() == [5, 6, 7, 8]
    assert targets.overlap[0, 3, 2] == 1.0
    assert targets.overlap[0, 0, 7] == 1.0
    assert targets.overlap[0, 2, 2] == pytest.approx(0.75)
    assert targets.classes[0, 1, 3, 2] == 1.0
    assert targets.classes[0, 0, 3, 2] == 0.0
    assert targets.classes[0, 0].nonzero().tolist() == [[0, 7], [1, 6], [1, 7]]


def test_masked_steps_cost_nothing_whatever_is_predicted() -> None:
    given = predictions(0, real=7)
    wild = [x.detach().clone() for x in given[:4]]
    for x in wild:
        x[..., 7:] = torch.nan
    losses = [
        boundary_loss(p, *TRUTH, settings=SETTINGS, generator=torch.Generator().manual_seed(0))
        for p in (given, BoundaryPredictions(*wild, given.mask))
    ]
    assert torch.equal(losses[0].total, losses[1].total)


def test_sampling_uses_the_generator() -> None:
    one, same, other = (
        boundary_loss(predictions(0), *TRUTH, settings=SETTINGS, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert one.regression == same.regression
    assert one.classification == other.classification


def test_without_a_classifier_all_labels_are_one() -> None:
    given = predictions(0)._replace(classes=None)
    segments, labels = TRUTH
    settings = SETTINGS.model_copy(update={"classifier": False})
    of_two, of_one = (
        boundary_loss(given, segments, chosen, settings=settings, generator=torch.Generator().manual_seed(0))
        for chosen in (labels, [torch.zeros_like(label) for label in labels])
    )
    assert torch.equal(of_two.total, of_one.total)
    assert of_two.positives == of_one.positives > 0


def test_a_video_without_actions_has_a_finite_loss_and_gradient() -> None:
    given = predictions(0)
    nothing = [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.int64)]
    loss = boundary_loss(given, *nothing, settings=SETTINGS)
    loss.total.backward()
    assert loss.positives == 0
    assert all(x.grad.isfinite().all() for x in given[:4])


def test_distillation_is_zero_where_both_agree_and_reaches_the_student_alone() -> None:
    student, teacher = predictions(0), predictions(1)
    same = boundary_distillation(student, predictions(0))
    assert (same.classification, same.regression) == (0.0, 0.0)
    apart = boundary_distillation(student, teacher)
    (apart.classification + apart.regression).backward()
    assert apart.classification > 0
    assert apart.regression > 0
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in student[:4])
    assert all(x.grad is None for x in teacher[:4])
