"""Windows of videos without labels train the stream that is compared with the teacher, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from tadkit.config import Method
from tadkit.distill import Batch, StudentObjective, TeacherTargets, Truth
from tadkit.models.heads import HeadPredictions

NewObjective = Callable[..., StudentObjective]
METHODS: tuple[Method, ...] = get_args(Method)
TAUGHT = tuple(method for method in METHODS if method not in ("rgb", "rgb-matched"))
TRUTH = ("appearance", "joint")


def with_unlabelled(batch: Batch, count: int) -> Batch:
    """The batch, and after it ``count`` windows of other frames, with outputs of the teacher and no annotations."""
    generator = torch.Generator().manual_seed(17)
    inputs = {
        name: torch.cat([x, x.flip(1)[:1].repeat(count, *[1] * (x.dim() - 1))]) for name, x in batch.inputs.items()
    }
    mask = torch.cat([batch.mask, batch.mask[1:].repeat(count, 1)])
    assert batch.teacher is not None

    def more(x: Tensor) -> Tensor:
        return torch.cat([x, torch.rand(count, *x.shape[1:], generator=generator)])

    logits, offsets, masks = batch.teacher.predictions
    added = HeadPredictions(
        tuple(more(x) for x in logits),
        tuple(more(x) for x in offsets),
        tuple(torch.cat([x, x[1:].repeat(count, 1)]) for x in masks),
    )
    return Batch(inputs, mask, batch.truth, TeacherTargets(more(batch.teacher.feature), added))


def gradients(objective: StudentObjective, batch: Batch) -> dict[str, Tensor]:
    """Of the sum of all losses, for the feature of each branch and window."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            del module, inputs
            output.retain_grad()
            kept[name] = output

        return hook

    branches = {"motion": objective.model.motion, "appearance": objective.model.appearance}
    handles = [net.register_forward_hook(keep(name)) for name, net in branches.items() if net is not None]
    objective(batch)["total"].backward()
    for handle in handles:
        handle.remove()
    return {name: torch.zeros_like(x) if x.grad is None else x.grad for name, x in kept.items()}


def per_window(gradient: Tensor) -> Tensor:
    return gradient.abs().sum(dim=(1, 2))


@pytest.mark.parametrize("shared_head", [True, False])
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_an_unlabelled_window_trains_the_motion_branch_and_never_the_appearance_branch(
    new_objective: NewObjective, batch: Batch, joint: bool, shared_head: bool, count: int
) -> None:
    objective = new_objective(method="decomposed", joint=joint, shared_head=shared_head)
    found = gradients(objective, with_unlabelled(batch, count))
    assert bool((per_window(found["motion"]) > 0).all())
    assert bool((per_window(found["appearance"])[:2] > 0).all())
    assert torch.equal(per_window(found["appearance"])[2:], torch.zeros(count))


@pytest.mark.parametrize("method", TAUGHT)
def test_terms_that_read_the_ground_truth_are_what_they_are_without_unlabelled_windows(
    new_objective: NewObjective, batch: Batch, method: Method
) -> None:
    objective = new_objective(method=method, joint=True)
    alone, mixed = objective(batch), objective(with_unlabelled(batch, 3))
    read = [name for name in alone if name in TRUTH or (name == "motion" and method == "hallucination")]
    assert set(TRUTH) <= set(read)
    for name in read:
        torch.testing.assert_close(mixed[name], alone[name])
    taught = set(alone) - set(read) - {"total"}
    assert taught
    assert all(not torch.allclose(mixed[name], alone[name]) for name in taught)


@pytest.mark.parametrize("method", TAUGHT)
def test_no_gradient_of_a_loss_against_the_ground_truth_reaches_an_unlabelled_window(
    new_objective: NewObjective, batch: Batch, method: Method
) -> None:
    weights = {"feature_weight": 0.0, "prediction_weight": 0.0}
    silent = gradients(new_objective(method=method, joint=True, **weights), with_unlabelled(batch, 2))
    for gradient in silent.values():
        assert torch.equal(per_window(gradient)[2:], torch.zeros(2))
    compared = "motion" if len(silent) == 2 else "appearance"
    heard = gradients(new_objective(method=method, joint=True), with_unlabelled(batch, 2))
    assert bool((per_window(heard[compared])[2:] > 0).all())


def test_nothing_about_an_unlabelled_window_changes_what_the_ground_truth_trains(
    new_objective: NewObjective, batch: Batch
) -> None:
    one = with_unlabelled(batch, 2)
    frames = one.inputs["frames"].clone()
    frames[2:] = 255 - frames[2:]
    other = replace(one, inputs=one.inputs | {"frames": frames})
    taught = new_objective(method="decomposed", joint=True, shared_head=False)
    for name in TRUTH:
        found = []
        for each in (one, other):
            taught.zero_grad()
            taught(each)[name].backward()
            found.append({n: p.grad.clone() for n, p in taught.named_parameters() if p.grad is not None})
        torch.testing.assert_close(found[0], found[1])


def test_a_batch_says_how_many_of_its_windows_are_labelled(batch: Batch) -> None:
    assert len(batch.truth) == len(batch.mask) == 2
    assert len(with_unlabelled(batch, 3).truth) == 2
    assert len(Truth([], [])) == 0
