"""A student of several teachers: which losses its adapter is trained by, and that its teachers are not trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from tadkit.config import DistillSettings, Method
from tadkit.distill import Batch, StudentObjective, TeacherTargets
from tadkit.models.ensemble import EnsembleHead
from tadkit.models.teacher import Teacher

Reached = Callable[[Tensor, nn.Module], set[str]]
NewObjective = Callable[..., StudentObjective]
TAUGHT = tuple(method for method in get_args(Method) if DistillSettings(method=method).taught)
ADDED = {"time_contrast_weight": 0.5, "relation_weight": 2.0, "boundary_weight": 3.0}
PREDICTION_ONLY = "logits"
TWO = ("teacher", "gradient")


def joined(*teachers: Teacher, batch: Batch) -> TeacherTargets:
    """Outputs of teachers for the batch, still part of their graph."""
    outputs = [teacher(batch.inputs["flow"], batch.mask) for teacher in teachers]
    feature = torch.cat([output.feature for output in outputs], dim=1)
    steps = batch.mask[:, ::2]
    return TeacherTargets(feature, EnsembleHead([teacher.head for teacher in teachers])(feature, steps))


@pytest.mark.parametrize("method", TAUGHT)
def test_no_teacher_is_trained_but_the_adapter_is(
    new_objective: NewObjective, new_teacher: Callable[..., Teacher], batch: Batch, reached: Reached, method: Method
) -> None:
    teachers = [new_teacher(), new_teacher()]
    losses = new_objective(method=method, teachers=TWO, joint=True, **ADDED).train()
    found = losses(replace(batch, teacher=joined(*teachers, batch=batch)))
    for teacher in teachers:
        assert reached(found["total"], teacher) == set()
    features = {"feature", "time_contrast", "relation", "boundary"} & found.keys()
    assert {name for name in found if "adapter" in reached(found[name], losses.model)} == features | {"total"}
    assert ("feature" in found) == (method != PREDICTION_ONLY)


@pytest.mark.parametrize("method", TAUGHT)
def test_a_student_of_one_teacher_twice_starts_with_the_losses_of_one(
    new_objective: NewObjective, new_teacher: Callable[..., Teacher], batch: Batch, method: Method
) -> None:
    teacher = new_teacher()
    once, twice = (replace(batch, teacher=joined(*[teacher] * copies, batch=batch)) for copies in (1, 2))
    expected = new_objective(method=method, **ADDED)(once)
    found = new_objective(method=method, teachers=TWO, **ADDED)(twice)
    if method == "hallucination":  # a sum over channels, of which there are twice as many
        expected["total"] = expected["total"] + expected["feature"]
        expected["feature"] = 2 * expected["feature"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_only_a_student_whose_features_are_compared_with_several_has_an_adapter(new_objective: NewObjective) -> None:
    def adapter(**chosen: object) -> nn.Conv1d | None:
        return new_objective(**chosen).model.adapter

    assert adapter() is None
    assert adapter(teachers=("gradient",)) is None
    assert adapter(method="rgb", teachers=TWO) is None
    assert adapter(method=PREDICTION_ONLY, teachers=TWO) is None
    assert adapter(feature_weight=0, teachers=TWO) is None
    for chosen in ({}, {"feature_weight": 0, "relation_weight": 1}, {"method": "rgb", "relation_weight": 1}):
        widened = adapter(teachers=(*TWO, "third"), **chosen)
        assert widened is not None
        assert widened.out_channels == 3 * widened.in_channels


def test_an_adapter_changes_no_other_initial_weight(new_objective: NewObjective) -> None:
    plain, several = (new_objective(teachers=names).model.state_dict() for names in ((), TWO))
    assert set(several) - set(plain) == {"adapter.weight", "adapter.bias"}
    assert all(torch.equal(value, several[name]) for name, value in plain.items())
