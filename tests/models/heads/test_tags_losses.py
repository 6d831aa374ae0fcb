import torch

from tadkit.config import TagsSettings
from tadkit.models.heads.tags import MaskPredictions, mask_distillation, mask_loss, mask_targets

SETTINGS = TagsSettings()


def predictions(seed: int, *, real: int = 8) -> MaskPredictions:
    torch.manual_seed(seed)
    logits, masks = torch.randn(1, 8, 2, requires_grad=True), torch.randn(1, 8, 8, requires_grad=True)
    return MaskPredictions(logits, masks, torch.arange(8)[None] < real)


def test_each_step_marks_the_whole_of_the_shortest_action_around_it() -> None:
    segments, labels = [torch.tensor([[0.75, 6.0], [3.0, 5.0], [3.0, 5.0]])], [torch.tensor([0, 1, 2])]
    targets = mask_targets(8, segments, labels, 3)
    assert targets.positive[0].tolist() == [False, True, True, True, True, True, True, False]
    assert targets.classes[0, 2].tolist() == [1.0, 0.0, 0.0]
    assert targets.classes[0, 4].tolist() == [0.0, 1.0, 1.0]  # two names of one action
    assert targets.masks[0, 2].tolist() == [0.0, 0.75, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    assert targets.masks[0, 4].tolist() == [0.0, 0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    assert targets.masks[0, 0].sum() == 0


def test_an_action_between_two_steps_is_answered_for() -> None:
    targets = mask_targets(8, [torch.tensor([[3.6, 3.9]])], [torch.tensor([1])], 2)
    assert targets.positive[0].nonzero().flatten().tolist() == [4]


def test_sure_and_exact_predictions_cost_nothing() -> None:
    segments, labels = [torch.tensor([[1.5, 4.5]])], [torch.tensor([1])]
    targets = mask_targets(8, segments, labels, 2)
    exact = MaskPredictions(40 * targets.classes - 20, 40 * targets.masks - 20, torch.ones(1, 8, dtype=torch.bool))
    assert mask_loss(exact, segments, labels, settings=SETTINGS).total < 1e-6


def test_masked_steps_cost_nothing_whatever_they_say() -> None:
    segments, labels = [torch.tensor([[1.0, 4.0]])], [torch.tensor([0])]
    given = predictions(0, real=6)
    logits, masks = given.logits.detach().clone(), given.masks.detach().clone()
    logits[:, 6:], masks[:, 6:], masks[:, :, 6:] = 9.0, 9.0, 9.0
    one = mask_loss(given, segments, labels, settings=SETTINGS)
    other = mask_loss(MaskPredictions(logits, masks, given.mask), segments, labels, settings=SETTINGS)
    assert torch.equal(one.total, other.total)


def test_a_video_without_actions_costs_classification_alone() -> None:
    loss = mask_loss(predictions(0), [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.int64)], settings=SETTINGS)
    assert loss.positives == 0
    assert loss.regression == 0
    assert loss.classification > 0
    loss.total.backward()


def test_distillation_is_zero_where_both_agree_and_reaches_the_student_alone() -> None:
    student, teacher = predictions(0), predictions(1)
    same = mask_distillation(student, predictions(0))
    assert (same.classification, same.regression) == (0.0, 0.0)
    apart = mask_distillation(student, teacher)
    (apart.classification + apart.regression).backward()
    assert student.logits.grad.abs().sum() > 0
    assert student.masks.grad.abs().sum() > 0
    assert teacher.logits.grad is None
    assert teacher.masks.grad is None
