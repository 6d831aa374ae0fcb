"""Targets, losses, gradients and three steps of training with other projects' weights, dropout and drop-path off."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from tadkit.config import TrainSettings
from tadkit.interop.heads.actionformer import translated
from tadkit.models.heads import HeadLoss, assign_targets, diou_loss_1d, sigmoid_focal_loss
from tadkit.training.schedule import AveragedWeights, learning_rate, parameter_groups

BATCH = (37, 200, 256)
LEVELS = (256, 128, 64, 32)
LOSSES: dict[str, dict[str, Any]] = {
    "losses": {},
    "losses_label_smoothing_0.1": {"label_smoothing": 0.1},
    "losses_loss_weight_auto": {"regression_weight": 0.0},
    "losses_center_none": {"centre_radius": 0.0},
    "losses_iou_weight_power_1": {"iou_power": 1.0},
    "losses_with_one_empty_video": {"batch": (200, 37), "empty": (37,)},
    "losses_all_empty": {"batch": (200,), "empty": (200,)},
}


def loss_of(
    dense: Any, head: Any, *, batch: tuple[int, ...] = BATCH, empty: tuple[int, ...] = (), **update: float
) -> HeadLoss:
    features, mask = torch.zeros(len(batch), head.in_channels, 256), torch.zeros(len(batch), 256, dtype=torch.bool)
    for row, length in enumerate(batch):
        features[row, :, :length], mask[row, :length] = dense.features(length)[0], True
    truth = [dense.truth(BATCH.index(length), length) for length in batch]
    segments, labels = (
        [field[: 0 if length in empty else None] for field, length in zip(fields, batch, strict=True)]
        for fields in zip(*truth, strict=True)
    )
    head.anchor_free = head.anchor_free.model_copy(update=update)
    head.zero_grad()
    head.running.train()
    return head.loss(head(features, mask), segments, labels)


def test_targets_are_theirs(dense, compared):
    held, head = dense.arrays("train"), dense.head()
    truth = [dense.truth(row, length) for row, length in enumerate(BATCH)]
    segments, labels = zip(*truth, strict=True)
    for name, radius in (("radius", 1.5), ("none", 0.0)):
        settings = head.anchor_free.model_copy(update={"centre_radius": radius})
        ours = assign_targets(LEVELS, head.strides, segments, labels, settings, head.num_classes)
        for row, length in enumerate(BATCH):
            if f"target_cls_{name}_T{length}" in held:
                wanted, offsets = (held[f"target_{field}_{name}_T{length}"] for field in ("cls", "off"))
                assert ours.classes[row].tolist() == wanted.tolist()
                positive = wanted.any(axis=1)
                compared("target offsets", ours.offsets[row].numpy()[positive], offsets[positive])


def test_losses_are_theirs(dense, compared):
    for name, wanted in dense.recorded("train").items():
        if not name.startswith("losses"):
            continue
        head = dense.head()
        ours = loss_of(dense, head, **LOSSES[name])
        compared("losses", ours.classification.item(), wanted["cls_loss"], bar=1e-5)
        compared("losses", ours.regression.item(), wanted["reg_loss"], bar=1e-5)
        compared("losses", ours.total.item(), wanted.get("final_loss", wanted.get("cost")), bar=1e-5)
        after = wanted.get("loss_normalizer_after")
        if after is None and name == "losses":
            after = dense.recorded("train")["loss_normalizer_after"]
        if after is not None:
            compared("normaliser", head.running.mean.item(), after, bar=1e-6)


def own_names(dense: Any) -> dict[str, str]:
    """Our name of each of the project's parameters, except for the scales of levels, which are one tensor here.

    Each parameter is filled with its number, so that the tensor under our name identifies the project's.
    """
    order = list(dense.weights)
    numbered = {name: torch.full_like(x, n) if x.ndim else x for n, (name, x) in enumerate(dense.weights.items())}
    return {order[int(x.flatten()[0])]: name for name, x in translated(numbered).items() if name != "scales" and x.ndim}


def test_gradients_are_theirs(dense, compared):
    head, wanted = dense.head(), dense.gradients()
    loss_of(dense, head).total.backward()
    own = {name: parameter.grad for name, parameter in head.named_parameters()}
    recorded = {project: name for project, name in own_names(dense).items() if project in wanted}
    assert len(recorded) + head.anchor_free.levels == len(wanted)
    for project, name in recorded.items():
        ours = [float(x) for x in (own[name].norm(), own[name].double().sum(), own[name].abs().max())]
        compared("gradients", ours, wanted[project], scale=max(wanted[project][0], 1e-2))
    scales = [wanted[project][1] for project in sorted(wanted) if ".scale." in project and "head" in project]
    compared("gradients", own["scales"], scales)


def test_three_steps_of_training_are_theirs(dense, compared):
    if "three_steps" not in dense.recorded("train"):
        pytest.skip("the project's dump has no three steps of training")
    head, wanted = dense.head(), dense.recorded("train")["three_steps"]
    settings = TrainSettings(weight_decay=wanted["opt"]["weight_decay"])
    optimiser = torch.optim.AdamW(parameter_groups(head, settings))
    averaged = AveragedWeights(head, decay=wanted["ema_decay"])
    for step in wanted["steps"]:
        loss = loss_of(dense, head, batch=tuple(step["batch"]))
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(head.parameters(), wanted["clip_grad_l2norm"])
        for group in optimiser.param_groups:
            group["lr"] = step["lr"]
        optimiser.step()
        averaged.update(head, step=10**6)  # theirs has the full decay from the first step
        compared("three steps: losses", loss.total.item(), step["final_loss"], bar=1e-5)
        compared("three steps: gradient norm", norm.item(), step["grad_norm_before_clip"], bar=1e-5)
    own, mean = dict(head.named_parameters()), dict(averaged.items())
    for project, name in own_names(dense).items():
        if project in wanted["param_sum_norm"] and project not in wanted["unreliable_params"]:
            for kind, found in (("param_sum_norm", own[name].detach()), ("ema_sum_norm", mean[name])):
                total, size = wanted[kind][project]
                ours = [float(found.double().sum()), float(found.double().norm())]
                compared("three steps: weights", ours, [total, size], bar=1e-5, scale=size)


def test_losses_of_single_points_are_actionformers(needed, compared):
    held = {name: torch.from_numpy(x) for name, x in np.load(needed("actionformer/losses.npz")).items()}
    focal = sigmoid_focal_loss(held["logits"], held["targets"])
    smooth = held["targets"] * 0.9 + 0.1 / (held["targets"].shape[1] + 1)
    compared("focal", focal, held["focal"])
    compared("focal", focal.sum(), held["focal_sum"])
    compared("focal", focal.mean(), held["focal_mean"])
    compared("focal, smoothed", sigmoid_focal_loss(held["logits"], smooth), held["focal_smooth"])
    compared("distance-IoU", diou_loss_1d(held["pred_off"], held["target_off"]), held["diou"])


def test_learning_rates_are_actionformers(needed, compared):
    for project in json.loads(needed("actionformer/lr_schedules.json").read_text()).values():
        epochs = project["epochs"] + project["warmup_epochs"]
        settings = TrainSettings(
            schedule=f"actionformer-{project['schedule_type']}",
            warmup=project["warmup_epochs"] / epochs,
            milestones=[epoch / project["epochs"] for epoch in project.get("schedule_steps", ())],
        )
        total = epochs * project["iters_per_epoch"]
        rates = [learning_rate(n, peak=project["base_lr"], total_steps=total, settings=settings) for n in range(total)]
        compared(project["schedule_type"], rates, project["lr"], bar=1e-9, scale=project["base_lr"])
