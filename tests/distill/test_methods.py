"""What each method trains on what: gradients reach the parts that its description names, and no others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from tadkit.config import DistillSettings, FeatureLoss, Method
from tadkit.config.loading import parse_recipe, recipe_toml
from tadkit.distill import Batch, StudentObjective, TeacherTargets
from tadkit.models.heads import HeadPredictions
from tadkit.models.teacher import Teacher

Reached = Callable[[Tensor, nn.Module], set[str]]
NewObjective = Callable[..., StudentObjective]
METHODS: tuple[Method, ...] = get_args(Method)
ADDED = {"time_contrast_weight": 0.5, "relation_weight": 2.0, "boundary_weight": 3.0}
APPEARANCE, MOTION = {"backbone", "appearance"}, {"backbone", "motion"}
TRAINED: dict[str, dict[str, set[str]]] = {
    "decomposed": {"appearance": {*APPEARANCE, "head"}, "feature": MOTION, "prediction": {*MOTION, "head"}},
    "direct": {"appearance": {*APPEARANCE, "head"}, "feature": APPEARANCE, "prediction": {*APPEARANCE, "head"}},
    "rgb": {"appearance": {*APPEARANCE, "head"}},
    "rgb-matched": {"appearance": {*APPEARANCE, "head"}, "motion": {*MOTION, "head"}},
    "mars": {"appearance": {*APPEARANCE, "head"}, "feature": APPEARANCE},
    "mers": {"appearance": {"head"}, "feature": APPEARANCE},
    "hallucination": {"appearance": {*APPEARANCE, "head"}, "motion": {*MOTION, "head"}, "feature": MOTION},
    "logits": {"appearance": {*APPEARANCE, "head"}, "prediction": {*APPEARANCE, "head"}},
}
"""Parts of the student that each loss of each method trains."""
TWO: tuple[Method, ...] = ("decomposed", "rgb-matched", "hallucination")
"""Methods with two branches."""


@pytest.mark.parametrize("method", METHODS)
def test_each_loss_trains_what_the_method_says(
    new_objective: NewObjective, batch: Batch, reached: Reached, method: Method
) -> None:
    objective = new_objective(method=method, joint=True)
    taught = batch if objective.distill.taught else replace(batch, teacher=None)
    losses = objective(taught)
    total, joint = losses.pop("total"), losses.pop("joint")
    assert {name: reached(loss, objective.model) for name, loss in losses.items()} == TRAINED[method]
    streams = {*APPEARANCE, *MOTION} if method in TWO else APPEARANCE
    assert reached(joint, objective.model) == (set() if method == "mers" else streams)
    assert reached(joint, objective.joint) == ({"fusion", "head"} if method in TWO else {"head"})
    assert math.isfinite(total.item())
    torch.testing.assert_close(total, sum(losses.values()) + joint)
    alone = new_objective(method=method)(taught)
    torch.testing.assert_close({name: alone[name] for name in losses}, losses, rtol=0, atol=0)


@pytest.mark.parametrize("method", TWO)
def test_with_own_heads_each_branch_trains_its_own(
    new_objective: NewObjective, batch: Batch, reached: Reached, method: Method
) -> None:
    objective = new_objective(method=method, shared_head=False)
    losses = objective(batch)
    for name, trained in TRAINED[method].items():
        own = {"head": "motion_head"} if name != "appearance" else {}
        assert reached(losses[name], objective.model) == {own.get(part, part) for part in trained}


@pytest.mark.parametrize("method", METHODS)
def test_added_terms_train_the_compared_stream_and_leave_the_others_alone(
    new_objective: NewObjective, batch: Batch, reached: Reached, method: Method
) -> None:
    objective = new_objective(method=method, **ADDED)
    assert objective.distill.taught
    losses, plain = objective(batch), new_objective(method=method)(batch)
    stream = MOTION if method in TWO else APPEARANCE
    for name in ("time_contrast", "relation", "boundary"):
        loss = losses.pop(name)
        assert loss.item() > 0.001
        assert reached(loss, objective.model) == stream
    del losses["total"], plain["total"]
    torch.testing.assert_close(losses, plain, rtol=0, atol=0)


@pytest.mark.parametrize("weight", [*ADDED, "feature_weight", "prediction_weight"])
def test_a_weight_scales_its_term_and_zero_leaves_it_out(
    new_objective: NewObjective, batch: Batch, weight: str
) -> None:
    name = weight.removesuffix("_weight")
    one, three, none = (new_objective(**{**ADDED, weight: amount})(batch) for amount in (1, 3, 0))
    torch.testing.assert_close(three.pop(name), 3 * one.pop(name))
    for losses in (one, three, none):
        del losses["total"]
    torch.testing.assert_close(none, one, rtol=0, atol=0)
    torch.testing.assert_close(three, one, rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_teacher_is_never_trained(
    new_objective: NewObjective, new_teacher: Callable[..., Teacher], batch: Batch, method: Method
) -> None:
    """Even if its outputs still belong to its graph, and the optimiser knows its parameters."""
    objective, teacher = new_objective(method=method, joint=True, **ADDED).train(), new_teacher()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = [value.clone() for value in objective.parameters()]
    optimiser = torch.optim.AdamW([*objective.parameters(), *teacher.parameters()], lr=0.01)
    for _ in range(2):
        output = teacher(batch.inputs["flow"], batch.mask)
        assert output.feature.requires_grad
        optimiser.zero_grad()
        losses = objective(replace(batch, teacher=TeacherTargets(output.feature, output.predictions)))
        torch.autograd.backward(losses["total"])
        assert all(parameter.grad is None for parameter in teacher.parameters())
        optimiser.step()
    after = teacher.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not all(torch.equal(a, b) for a, b in zip(student, objective.parameters(), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_padding_of_a_window_does_not_change_the_losses(
    new_objective: NewObjective, batch: Batch, method: Method
) -> None:
    objective = new_objective(method=method, joint=True, **ADDED)
    expected = objective(batch)
    frames = batch.inputs["frames"].clone()
    frames[1, 11:] = 255
    assert batch.teacher is not None
    feature = batch.teacher.feature.clone()
    feature[1, :, 6:] = 50
    logits, offsets, masks = batch.teacher.predictions
    noisy = HeadPredictions(
        tuple(torch.where(m[..., None], x, 9.0) for x, m in zip(logits, masks, strict=True)),
        tuple(torch.where(m[..., None], x, 9.0) for x, m in zip(offsets, masks, strict=True)),
        masks,
    )
    other = objective(replace(batch, inputs={"frames": frames}, teacher=TeacherTargets(feature, noisy)))
    torch.testing.assert_close(other, expected)


@pytest.mark.parametrize(
    ("method", "same"),
    [
        ("mars", {"method": "direct", "feature_loss": "mse", "feature_weight": 50, "prediction_weight": 0}),
        ("logits", {"method": "direct", "feature_weight": 0}),
        ("rgb", {"method": "direct", "feature_weight": 0, "prediction_weight": 0}),
    ],
)
def test_some_methods_are_direct_distillation_with_other_weights(
    new_objective: NewObjective, batch: Batch, method: Method, same: dict[str, object]
) -> None:
    torch.testing.assert_close(new_objective(method=method)(batch), new_objective(**same)(batch), rtol=0, atol=0)


PUBLISHED: dict[str, tuple[FeatureLoss, float, float]] = {
    "decomposed": ("mse-normalised", 1, 1),
    "direct": ("mse-normalised", 1, 1),
    "mars": ("mse", 50, 0),
    "mers": ("mse", 1, 0),
    "hallucination": ("sigmoid-l2", 1, 0),
    "logits": ("mse-normalised", 0, 1),
}


@pytest.mark.parametrize("method", PUBLISHED)
def test_a_method_has_its_published_terms_unless_the_settings_say_otherwise(method: Method) -> None:
    assert DistillSettings(method=method).terms == PUBLISHED[method]
    _, feature, prediction = PUBLISHED[method]
    given = DistillSettings(method=method, feature_loss="cosine", feature_weight=7, prediction_weight=5).terms
    assert given == ("cosine", 7 if feature else 0, 5 if prediction else 0)


@pytest.mark.parametrize("method", METHODS)
def test_stated_settings_mean_the_same_and_can_be_read_back(method: Method) -> None:
    settings = DistillSettings(method=method)
    stated = settings.stated
    assert None not in stated.model_dump().values()
    assert stated.stated == stated
    assert DistillSettings.model_validate(stated.model_dump(mode="json")) == stated
    assert (stated.terms, stated.taught) == (settings.terms, settings.taught)


@pytest.mark.parametrize("given", ["", "[distill]\nfeature_weight = 2\nprediction_weight = 3\n"])
def test_model_files_state_the_terms_of_their_row(given: str) -> None:
    text = f'name = "n"\nlabels = ["a"]\n{given}[[sources]]\nkind = "synth"\n'
    recipe = parse_recipe(text, name="recipe")
    for read in (recipe, parse_recipe(recipe_toml(recipe), name="run.toml")):
        for method, (kind, feature, prediction) in PUBLISHED.items():
            stated = read.of_row(method).model_settings.model_dump(mode="json")["distill"]
            weights = (2 if feature else 0, 3 if prediction else 0) if given else (feature, prediction)
            assert (stated["feature_loss"], stated["feature_weight"], stated["prediction_weight"]) == (kind, *weights)


def test_settings_of_0_1_0_mean_what_they_meant() -> None:
    old = {
        "method": "decomposed",
        "dim": 128,
        "feature_loss": "mse-normalised",
        "feature_weight": 1.0,
        "prediction_weight": 1.0,
        "joint": False,
        "stop_gradient": "none",
    }
    assert DistillSettings.model_validate(old) == DistillSettings().stated


def test_students_with_own_heads_differ_in_the_head_of_the_motion_branch_alone(new_objective: NewObjective) -> None:
    shared, own = (new_objective(shared_head=shared).model for shared in (True, False))
    feature, mask = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0)), torch.ones(1, 4).bool()
    assert shared.branch_head("motion") is shared.branch_head("appearance")
    assert own.branch_head("motion") is not own.branch_head("appearance")
    count, own_count = (sum(p.numel() for p in model.parameters()) for model in (shared, own))
    assert own_count - count == sum(p.numel() for p in shared.head.parameters())
    for model, same in ((shared, True), (own, False)):
        motion, appearance = (model.branch_predictions(branch, feature, mask) for branch in ("motion", "appearance"))
        assert torch.equal(motion.logits[0], appearance.logits[0]) == same
    one_stream = new_objective(method="direct", shared_head=False).model
    assert one_stream.motion_head is None
