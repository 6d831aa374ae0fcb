"""What each part is trained on: the asymmetric objectives and their baselines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tadkit.config import FusionSettings
from tadkit.distill import Batch, JointHeadObjective, StudentObjective, TeacherObjective, TeacherTargets, Truth
from tadkit.models.fusion import JointHead
from tadkit.models.teacher import Teacher

Reached = Callable[[Tensor, nn.Module], set[str]]
NewObjective = Callable[..., StudentObjective]
BOTH = {"motion", "appearance"}


@pytest.mark.parametrize("stop", ["none", "motion", "both"])
def test_stop_gradient_keeps_the_joint_loss_from_branches(
    new_objective: NewObjective, batch: Batch, reached: Reached, stop: str
) -> None:
    objective = new_objective(method="decomposed", joint=True, stop_gradient=stop)
    losses = objective(batch)
    expected = {"none": {"backbone", *BOTH}, "motion": {"backbone", "appearance"}, "both": set()}[stop]
    assert reached(losses["joint"], objective.model) == expected
    assert reached(losses["joint"], objective.joint) == {"fusion", "head"}
    # The branches' own terms are the same with and without it.
    own = {name: losses[name] for name in ("appearance", "feature", "prediction")}
    torch.testing.assert_close(own, {name: new_objective(method="decomposed")(batch)[name] for name in own})


@pytest.mark.parametrize("method", ["rgb", "direct"])
def test_joint_head_of_one_stream_reads_that_stream(
    new_objective: NewObjective, batch: Batch, reached: Reached, method: str
) -> None:
    objective = new_objective(method=method, joint=True)
    losses = objective(batch)
    assert reached(losses["joint"], objective.joint) == {"head"}
    assert "appearance" in reached(losses["joint"], objective.model)


def test_a_joint_head_beside_the_teacher_reads_its_feature_and_trains_the_rgb_stream_alone(
    new_objective: NewObjective, batch: Batch, reached: Reached
) -> None:
    objective = new_objective(method="rgb", joint=True, teacher_beside=True)
    assert batch.teacher is not None
    feature = batch.teacher.feature.clone().requires_grad_()
    losses = objective(replace(batch, teacher=replace(batch.teacher, feature=feature)))
    assert set(losses) == {"appearance", "joint", "total"}
    assert reached(losses["joint"], objective.model) == {"backbone", "appearance"}
    assert reached(losses["joint"], objective.joint) == {"fusion", "head"}
    assert torch.autograd.grad(losses["joint"], feature, allow_unused=True, retain_graph=True) == (None,)
    other = objective(replace(batch, teacher=replace(batch.teacher, feature=-batch.teacher.feature)))
    assert other["joint"].item() != losses["joint"].item()
    assert other["appearance"].item() == losses["appearance"].item()


@pytest.mark.parametrize("beside", [False, True])
def test_a_joint_head_beside_the_teacher_imitates_the_rgb_head_too(
    new_objective: NewObjective, batch: Batch, beside: bool
) -> None:
    method = "rgb" if beside else "decomposed"
    objective = new_objective(method=method, joint=True, joint_prediction_weight=1.0, teacher_beside=beside).eval()
    before = objective(batch)["joint_prediction"].item()
    with torch.no_grad():
        for parameter in objective.model.head.parameters():
            parameter.mul_(-2)
    assert (objective(batch)["joint_prediction"].item() != before) == beside


@pytest.mark.parametrize("beside", [False, True])
def test_predictions_of_the_teacher_can_supervise_the_joint_head(
    new_objective: NewObjective, batch: Batch, reached: Reached, beside: bool
) -> None:
    method = "rgb" if beside else "decomposed"
    plain, half, whole = (
        new_objective(method=method, joint=True, joint_prediction_weight=weight, teacher_beside=beside)
        for weight in (0.0, 0.5, 1.0)
    )
    losses, more = half(batch), whole(batch)
    assert losses["joint_prediction"].item() > 0
    torch.testing.assert_close(more["joint_prediction"], 2 * losses["joint_prediction"])
    assert reached(losses["joint_prediction"], half.joint) == {"fusion", "head"}
    assert reached(losses["joint_prediction"], half.model) == {"backbone", "appearance"} | (set() if beside else BOTH)
    without = plain(batch)
    assert set(losses) - set(without) == {"joint_prediction"}
    unchanged = without.keys() - {"total"}
    torch.testing.assert_close({name: losses[name] for name in unchanged}, {name: without[name] for name in unchanged})


def test_a_teacher_that_agrees_with_the_joint_head_gives_it_no_loss(new_objective: NewObjective, batch: Batch) -> None:
    objective = new_objective(method="decomposed", joint=True, joint_prediction_weight=1.0)
    assert objective.joint is not None
    assert batch.teacher is not None
    mask = torch.stack([torch.arange(8) < 8, torch.arange(8) < 6])
    with torch.no_grad():
        agreeing = objective.joint(*objective.model(batch.inputs["frames"], batch.mask), mask)
    losses = objective(replace(batch, teacher=replace(batch.teacher, predictions=agreeing)))
    assert losses["joint_prediction"].item() == pytest.approx(0, abs=1e-6)


def test_late_heads_are_compared_with_the_teacher_one_by_one(new_objective: NewObjective, batch: Batch) -> None:
    settings = new_objective().model.head.settings
    torch.manual_seed(0)
    joint = JointHead(fusion=FusionSettings(kind="late"), head=settings, dim=8, num_classes=3, two_branches=True)
    mask = torch.stack([torch.arange(8) < 8, torch.arange(8) < 6])
    assert batch.teacher is not None
    found = joint(batch.inputs["motion"], batch.inputs["appearance"], mask)
    both = [head.distil(own, batch.teacher.predictions) for head, own in zip(joint.head.branches, found, strict=True)]
    distance = joint.distil(found, batch.teacher.predictions)
    torch.testing.assert_close(distance.classification, (both[0].classification + both[1].classification) / 2)
    torch.testing.assert_close(distance.regression, (both[0].regression + both[1].regression) / 2)


def test_weights_scale_their_terms(new_objective: NewObjective, batch: Batch) -> None:
    plain = new_objective(feature_weight=1, prediction_weight=1)(batch)
    scaled = new_objective(feature_weight=3, prediction_weight=0.5)(batch)
    torch.testing.assert_close(scaled["feature"], 3 * plain["feature"])
    torch.testing.assert_close(scaled["prediction"], 0.5 * plain["prediction"])
    torch.testing.assert_close(scaled["appearance"], plain["appearance"])


@pytest.mark.parametrize("method", ["decomposed", "direct"])
def test_a_teacher_that_agrees_with_the_student_gives_no_loss(
    new_objective: NewObjective, batch: Batch, method: str
) -> None:
    objective = new_objective(method=method)
    with torch.no_grad():
        motion, appearance = objective.model(batch.inputs["frames"], batch.mask)
        trained = appearance if motion is None else motion
        mask = torch.stack([torch.arange(8) < 8, torch.arange(8) < 6])
        agreeing = TeacherTargets(trained, objective.model.head(trained, mask))
    losses = objective(replace(batch, teacher=agreeing))
    assert losses["feature"].item() == pytest.approx(0, abs=1e-6)
    assert losses["prediction"].item() == pytest.approx(0, abs=1e-6)


def test_colour_jitter_is_drawn_from_the_global_seed(new_objective: NewObjective, batch: Batch) -> None:
    objective = new_objective(method="rgb", colour_jitter=0.5).train()
    totals = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        totals.append(objective(batch)["total"].item())
    assert totals[0] == totals[1] != totals[2]


def test_losses_of_activations_are_those_of_their_frames(new_objective: NewObjective, batch: Batch) -> None:
    objective = new_objective(method="decomposed", joint=True)
    net = objective.model.backbone
    net.prefix_blocks = 1
    frames = batch.inputs["frames"]
    activations = net.prefix(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
    torch.testing.assert_close(objective(replace(batch, inputs={"activations": activations})), objective(batch))


def test_colours_are_jittered_in_training_only(new_objective: NewObjective, batch: Batch) -> None:
    jittered, plain = (new_objective(method="rgb", colour_jitter=amount) for amount in (0.5, 0.0))
    assert jittered(batch)["total"].item() == plain(batch)["total"].item()


def test_teacher_learns_from_the_truth_alone(
    new_teacher: Callable[..., Teacher], batch: Batch, reached: Reached
) -> None:
    teacher = new_teacher()
    objective = TeacherObjective(teacher)
    loss = objective(replace(batch, teacher=None))["total"]
    assert reached(loss, teacher) == {"backbone", "mapping", "head"}


def test_flow_is_jittered_in_training_alone(new_teacher: Callable[..., Teacher], batch: Batch) -> None:
    """The scale is the one number by which a linear teacher would see its input multiplied, one for each window."""
    seen: list[Tensor] = []
    teacher = new_teacher()
    teacher.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for training, jitter in ((False, 0.0), (False, 0.5), (True, 0.0), (True, 0.5)):
        TeacherObjective(teacher, flow_jitter=jitter).train(training)(batch)
    plain, judged, unjittered, jittered = seen
    assert torch.equal(judged, plain)
    assert torch.equal(unjittered, plain)
    scales = (jittered / plain).flatten(1).mean(dim=1)
    torch.testing.assert_close(jittered, plain * scales[:, None, None, None, None])
    assert ((scales - 1).abs() <= 0.5).all()
    assert (scales - 1).abs().min() > 1e-3
    assert scales[0] != scales[1]


@pytest.mark.parametrize("two_branches", [True, False])
def test_joint_head_on_cached_features(
    new_objective: NewObjective, batch: Batch, reached: Reached, two_branches: bool
) -> None:
    torch.manual_seed(0)
    settings = new_objective().model.head.settings
    head = JointHead(fusion=FusionSettings(), head=settings, dim=8, num_classes=3, two_branches=two_branches)
    names = ("motion", "appearance") if two_branches else ("appearance",)
    mask = torch.stack([torch.arange(8) < 8, torch.arange(8) < 6])
    features = Batch({name: batch.inputs[name] for name in names}, mask, batch.truth)
    loss = JointHeadObjective(head)(features)["total"]
    assert reached(loss, head) == ({"fusion", "head"} if two_branches else {"head"})


def test_windows_without_actions_have_a_finite_loss(new_objective: NewObjective, batch: Batch) -> None:
    empty = Truth([torch.zeros(0, 2)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2)
    losses = new_objective(method="decomposed", joint=True)(replace(batch, truth=empty))
    assert math.isfinite(losses["total"].item())


def test_a_batch_moves_whole(batch: Batch) -> None:
    moved = batch.to(torch.device("meta"))
    assert moved.teacher is not None
    tensors = [*moved.inputs.values(), moved.mask, *moved.truth.segments, *moved.truth.labels, moved.teacher.feature]
    tensors += [tensor for field in moved.teacher.predictions for tensor in field]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
