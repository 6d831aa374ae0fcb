"""The three training objectives, each a module whose ``forward(batch)`` returns named losses.

Source: Lee et al., CVPR 2023 (re-implementation; docs/method.md). What a student is trained on depends on the method:
``distill/methods.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tadkit.config import Branch, DistillSettings
from tadkit.distill.batch import Batch
from tadkit.distill.methods import Comparison, Losses, detection_loss, method_losses
from tadkit.models.backbones import PrefixedBackbone, step_mask
from tadkit.models.branches import jitter_colour, jitter_flow
from tadkit.models.fusion import JointHead
from tadkit.models.heads import Head, Predictions, windows_of
from tadkit.models.student import Student, StudentFeatures
from tadkit.models.teacher import Teacher
from tadkit.runtime.world import world


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _drawn(batch: Batch, *each: int) -> Tensor:
    """Numbers in [0, 1) for this process's windows, (*each, windows), on the CPU; drawn for all windows of the step.

    Their generator is seeded by the global one, whose state a resumed run restores.
    """
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
    return torch.rand(*each, len(batch.mask), generator=generator)[..., batch.rows]


class WindowsObjective(nn.Module):
    """Trains a backbone on windows, which pass through it all at once, or a few after the others.

    Attributes:
        at_once: windows in a pass; 0: all. With fewer, activations are computed again for the gradient, so that those
            of one pass alone are in memory; losses and gradients are the same.
    """

    def __init__(self, *, at_once: int) -> None:
        """``at_once`` windows in a pass."""
        super().__init__()
        self.at_once = at_once

    def halve(self, batch: Batch) -> int:
        """Let half as many windows pass at once, and return how many; 0 where that was one already."""
        windows = len(batch.mask[batch.rows])
        half = min(self.at_once or windows, windows) // 2
        self.at_once = half or self.at_once
        return half

    def features(self, backbone: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, batch: Batch) -> Tensor:
        """What ``backbone`` makes of this process's windows, and what the other processes make of theirs."""
        mask, at_once = batch.mask[batch.rows], self.at_once
        with world().apart():
            if torch.is_grad_enabled() and 0 < at_once < len(mask):
                passes = zip(torch.split(inputs, at_once), torch.split(mask, at_once), strict=True)
                x = torch.cat([checkpoint(backbone, *part, use_reentrant=False) for part in passes])
            else:
                x = backbone(inputs, mask)
        return world().gathered(x, len(batch.mask))


class TeacherObjective(WindowsObjective):
    """Ordinary detection losses on the motion modality."""

    def __init__(self, model: Teacher, *, flow_jitter: float = 0.0, at_once: int = 0) -> None:
        """Train ``model``, on flow whose length is changed by up to ``flow_jitter`` of it."""
        super().__init__(at_once=at_once)
        self.model = model
        self.flow_jitter = flow_jitter

    def forward(self, batch: Batch) -> Losses:
        """Losses of windows of flow."""
        batch = batch.to(_device(self))
        flow = batch.inputs["flow"]
        if self.training and self.flow_jitter:
            flow = jitter_flow(flow, self.flow_jitter, _drawn(batch))
        feature = self.model.mapped(self.features(self.model.backbone, flow, batch), batch.mask)
        predictions = self.model.head(feature, step_mask(batch.mask, self.model.backbone.stride))
        return {"total": detection_loss(self.model.head, predictions, batch)}


class StudentObjective(WindowsObjective):
    """Decomposed distillation or one of its baselines; with ``joint`` also fusion and joint head."""

    def __init__(
        self,
        model: Student,
        *,
        distill: DistillSettings,
        joint: JointHead | None,
        colour_jitter: float,
        teacher_beside: bool = False,
        at_once: int = 0,
    ) -> None:
        """Train ``model``; ``joint`` adds the paper's one-stage term.

        With ``teacher_beside``, the joint head reads the teacher's feature, which gets no gradient, as motion.
        """
        super().__init__(at_once=at_once)
        self.model = model
        self.joint = joint
        self.distill = distill
        self.teacher_beside = teacher_beside
        self.colour_jitter = colour_jitter

    def forward(self, batch: Batch) -> Losses:
        """Losses of windows of RGB."""
        batch = batch.to(_device(self))
        features = self.model.branches(self._backbone_features(batch), batch.mask)
        mask = step_mask(batch.mask, self.model.backbone.stride)
        losses = method_losses(Comparison(self.model, features, mask, batch, distill=self.distill))
        if self.joint is not None:
            losses |= self._joint_losses(self.joint, features, mask, batch)
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses

    def _backbone_features(self, batch: Batch) -> Tensor:
        """Of frames, whose colours are changed here; or of the activations of frames."""
        backbone = self.model.backbone
        if "activations" in batch.inputs:
            assert isinstance(backbone, PrefixedBackbone), "only such a backbone has activations to keep"
            return self.features(backbone.suffix, batch.inputs["activations"], batch)
        frames = batch.inputs["frames"]
        if self.training:
            frames = jitter_colour(frames, batch.mask[batch.rows], self.colour_jitter, _drawn(batch, 3))
        return self.features(backbone, frames, batch)

    def _joint_losses(self, joint: JointHead, features: StudentFeatures, mask: Tensor, batch: Batch) -> Losses:
        """Losses of the joint head: on the ground truth, and if the settings say so on the teacher's predictions."""
        motion, appearance = features
        if self.teacher_beside:
            assert batch.teacher is not None, "the joint head reads the teacher's feature"
            motion = batch.teacher.feature.detach()
        if motion is not None and "motion" not in self.distill.joint_trains:
            motion = motion.detach()
        if "appearance" not in self.distill.joint_trains:
            appearance = appearance.detach()
        count, weight = len(batch.truth), self.distill.joint_prediction_weight
        imitates = weight > 0 and batch.teacher is not None
        of_all = joint(motion, appearance, mask) if imitates else None
        if of_all is not None and (count == len(mask) or joint.head.windows_apart):
            predictions = of_all if count == len(mask) else windows_of(of_all, 0, count)
        else:
            labelled = None if motion is None else motion[:count]  # windows of unlabelled videos follow those
            predictions = joint(labelled, appearance[:count], mask[:count])
        losses = {"joint": detection_loss(joint.head, predictions, batch)}
        if of_all is not None:
            imitation = joint.distil(of_all, self._joint_targets(features, mask, batch))
            losses["joint_prediction"] = weight * (imitation.classification + imitation.regression)
        return losses

    @torch.no_grad()
    def _joint_targets(self, features: StudentFeatures, mask: Tensor, batch: Batch) -> Predictions:
        """What the joint head imitates: the teacher's predictions; beside the teacher, the average of both nets'.

        The teacher sees no appearance. A joint head that reads the teacher's feature could imitate the teacher alone
        to the last digit, and with it that it does not see them.
        """
        assert batch.teacher is not None, "the joint head imitates the teacher"
        if not self.teacher_beside:
            return batch.teacher.predictions
        own = self.model.branch_predictions("appearance", features.appearance, mask)
        averaged: Predictions = self.model.head.average_teachers(batch.teacher.predictions, own)
        return averaged


class JointHeadObjective(nn.Module):
    """Fusion and joint head on cached branch features."""

    def __init__(self, model: JointHead) -> None:
        """Train ``model``."""
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Losses:
        """Losses of windows of features."""
        batch = batch.to(_device(self))
        predictions = self.model(batch.inputs.get("motion"), batch.inputs["appearance"], batch.mask)
        return {"total": detection_loss(self.model.head, predictions, batch)}


class BranchHeadsObjective(nn.Module):
    """The heads of a student's branches on cached branch features; both branches may share one."""

    def __init__(self, heads: Mapping[Branch, Head]) -> None:
        """Train ``heads``, each on the features of its branch."""
        super().__init__()
        self.heads = nn.ModuleDict({str(branch): head for branch, head in heads.items()})

    def forward(self, batch: Batch) -> Losses:
        """Losses of windows of features."""
        batch = batch.to(_device(self))
        losses: Losses = {}
        for branch, module in self.heads.items():
            head = cast(Head, module)
            losses[branch] = detection_loss(head, head(batch.inputs[branch], batch.mask), batch)
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses
