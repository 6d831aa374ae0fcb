"""Windows that pass through the backbone one after the other give the losses and gradients of one pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tadkit.distill import Batch, StudentObjective, TeacherObjective, WindowsObjective
from tadkit.models.teacher import Teacher


def gradients(objective: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    objective.zero_grad(set_to_none=True)
    torch.manual_seed(2)
    total = objective(batch)["total"]
    total.backward()
    return total.detach(), {name: x.grad.clone() for name, x in objective.named_parameters() if x.grad is not None}


def check_passes(objective: WindowsObjective, batch: Batch) -> None:
    """In one pass, and in two."""
    whole, of_whole = gradients(objective, batch)
    objective.at_once = 1
    parts, of_parts = gradients(objective, batch)
    torch.testing.assert_close(parts, whole)
    assert of_parts.keys() == of_whole.keys()
    for name, gradient in of_whole.items():
        torch.testing.assert_close(of_parts[name], gradient, rtol=1e-4, atol=1e-6)
    assert any("backbone" in name and gradient.abs().max() > 0 for name, gradient in of_whole.items())


@pytest.mark.parametrize("method", ["decomposed", "direct"])
def test_a_student(new_objective: Callable[..., StudentObjective], batch: Batch, method: str) -> None:
    check_passes(new_objective(method=method, joint=True), batch)


def test_a_teacher(new_teacher: Callable[..., Teacher], batch: Batch) -> None:
    check_passes(TeacherObjective(new_teacher()).eval(), batch)


def test_windows_are_halved_down_to_one(new_teacher: Callable[..., Teacher], batch: Batch) -> None:
    objective = TeacherObjective(new_teacher())
    assert (objective.halve(batch), objective.at_once) == (1, 1)
    assert (objective.halve(batch), objective.at_once) == (0, 1)
