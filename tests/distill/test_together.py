"""One call of the shared head predicts for both branches what a call for each would, with every head."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from tadkit.config import (
    ActionFormerSettings,
    BmnSettings,
    DistillSettings,
    FusionSettings,
    HeadSettings,
    Method,
    TadtrSettings,
    TagsSettings,
    TemporalEncoderSettings,
    TemporalMaxerSettings,
    TriDetSettings,
)
from tadkit.distill import Batch, StudentObjective, TeacherTargets, Truth
from tadkit.models.fusion import JointHead
from tadkit.models.heads import build_head, windows_of
from tadkit.models.student import Student

DIM, STEPS, CLASSES = 8, 16, 3
HEADS: Mapping[str, HeadSettings] = {
    "actionformer": ActionFormerSettings(dim=8, levels=2, attention_heads=2, attention_window=3, dropout=0.0),
    "tridet": TriDetSettings(dim=16, levels=2, bins=4, mlp_dim=16),
    "temporal-maxer": TemporalMaxerSettings(dim=16, levels=2),
    "tadtr": TadtrSettings(
        dim=16,
        queries=4,
        encoder_layers=1,
        decoder_layers=2,
        attention_heads=2,
        mlp_dim=16,
        norm_groups=4,
        dropout=0.0,
        actionness=True,
        actionness_bins=4,
    ),
    "bmn": BmnSettings(dim=8, map_dim=8, roi_dim=8, durations=8, samples=4, graph_layers=1),
    "tags": TagsSettings(dim=16, layers=1, attention_heads=2, dropout=0.0, reach_steps=5),
}


def objective(head: HeadSettings, method: Method) -> StudentObjective:
    """A student of features and its joint head; the terms have different weights, so that none stands for another."""
    torch.manual_seed(0)
    distill = DistillSettings(method=method, dim=DIM, joint=True, joint_prediction_weight=0.5)
    student = Student(
        backbone=TemporalEncoderSettings(name="temporal-encoder", width=8, dropout=0.0),
        head=head,
        distill=distill,
        num_classes=CLASSES,
        pretrained=False,
        in_channels=5,
    )
    joint = JointHead(
        fusion=FusionSettings(), head=head, dim=DIM, num_classes=CLASSES, two_branches=distill.two_branches
    )
    return StudentObjective(student, distill=distill, joint=joint, colour_jitter=0.0)


def batch(head: HeadSettings) -> Batch:
    """Two labelled windows and after them an unlabelled one; the second and the third are padded."""
    torch.manual_seed(1)
    mask = torch.stack([torch.arange(STEPS) < real for real in (STEPS, 11, 13)])
    teacher, feature = build_head(head, in_channels=DIM, num_classes=CLASSES).eval(), torch.randn(3, DIM, STEPS)
    with torch.no_grad():
        targets = TeacherTargets(feature, teacher(feature, mask))
    segments = [torch.tensor([[1.0, 6.5], [8.0, 13.0]]), torch.tensor([[2.0, 7.0]])]
    truth = Truth(segments, [torch.tensor([0, 2]), torch.tensor([1])])
    return Batch({"frames": torch.randn(3, STEPS, 5)}, mask, truth, targets)


def losses_and_gradients(
    of: StudentObjective, taught: Batch, *, together: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Losses, gradients of their sum by parameter, and how often the student's heads were called."""
    calls: list[nn.Module] = []
    assert of.joint is not None
    handle = of.model.head.register_forward_hook(lambda module, *_: calls.append(module))
    before = of.model.head.windows_apart, of.joint.head.windows_apart
    if not together:
        of.model.head.windows_apart = of.joint.head.windows_apart = False
    torch.manual_seed(2)  # the loss of bmn draws proposals
    losses = of(taught)
    of.model.head.windows_apart, of.joint.head.windows_apart = before
    handle.remove()
    of.zero_grad()
    losses["total"].backward()
    gradients = {name: each.grad.clone() for name, each in of.named_parameters() if each.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()}, gradients, len(calls)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("method", ["decomposed", "rgb-matched", "direct"])
@pytest.mark.parametrize("name", HEADS)
def test_predicted_together_or_apart_losses_and_gradients_are_the_same(
    name: str, method: Method, training: bool
) -> None:
    head = HEADS[name]
    of, taught = objective(head, method).train(training), batch(head)
    one, gradients, calls = losses_and_gradients(of, taught, together=True)
    two, others, more = losses_and_gradients(of, taught, together=False)
    assert (calls, more) == (1, 2)
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    assert gradients.keys() == others.keys()
    torch.testing.assert_close(gradients, others, rtol=1e-4, atol=1e-5)


class _OfTheBatch(nn.Module):
    """A head's first layer that subtracts the mean of the batch."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, mask: Tensor) -> object:
        return self.head(x - x.mean(dim=0), mask)


def test_a_window_that_depends_on_the_others_is_what_the_test_above_would_notice() -> None:
    """With statistics of the batch, windows predicted together differ: such a head must not have windows_apart."""
    torch.manual_seed(0)
    head = _OfTheBatch(build_head(HEADS["tags"], in_channels=DIM, num_classes=CLASSES).eval())
    x, mask = torch.randn(3, DIM, STEPS), torch.ones(3, STEPS, dtype=torch.bool)
    apart, together = head(x[:2], mask[:2]), windows_of(head(x, mask), 0, 2)
    assert not torch.allclose(apart.logits, together.logits)


@pytest.mark.parametrize("name", HEADS)
def test_every_tensor_of_the_predictions_has_the_windows_first(name: str) -> None:
    torch.manual_seed(0)
    head = build_head(HEADS[name], in_channels=DIM, num_classes=CLASSES).eval()
    x, mask = torch.randn(3, DIM, STEPS), torch.arange(STEPS) < torch.tensor([[STEPS], [9], [14]])
    assert head.windows_apart
    whole = head(x, mask)
    assert type(windows_of(whole, 1, 3)) is type(whole)
    torch.testing.assert_close(windows_of(whole, 1, 3), head(x[1:], mask[1:]), rtol=1e-5, atol=1e-6)
