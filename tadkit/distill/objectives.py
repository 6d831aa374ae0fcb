"""The three training objectives, each a module whose ``forward(batch)`` returns named losses.

Source: Lee et al., CVPR 2023 (re-implementation; docs/method.md). What a student is trained on depends on the method:
``distill/methods.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from tadkit.config import Branch, DistillSettings
from tadkit.distill.batch import Batch
from tadkit.distill.methods import Comparison, Losses, detection_loss, method_losses
from tadkit.models.backbones import PrefixedBackbone, step_mask
from tadkit.models.branches import jitter_colour, jitter_flow
from tadkit.models.fusion import JointHead
from tadkit.models.heads import Head, Predictions, windows_of
from tadkit.models.student import Student, StudentFeatures
from tadkit.models.teacher import Teacher


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _drawn_generator() -> torch.Generator:
    """A generator on the CPU, seeded by the global one, whose state a resumed run restores."""
    return torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))


class TeacherObjective(nn.Module):
    """Ordinary detection losses on the motion modality."""

    def __init__(self, model: Teacher, *, flow_jitter: float = 0.0) -> None:
        """Train ``model``, on flow whose length is changed by up to ``flow_jitter`` of it."""
        super().__init__()
        self.model = model
        self.flow_jitter = flow_jitter

    def forward(self, batch: Batch) -> Losses:
        """Losses of windows of flow."""
        batch = batch.to(_device(self))
        flow = batch.inputs["flow"]
        if self.training and self.flow_jitter:
            flow = jitter_flow(flow, self.flow_jitter, _drawn_generator())
        predictions = self.model(flow, batch.mask).predictions
        return {"total": detection_loss(self.model.head, predictions, batch)}


class StudentObjective(nn.Module):
    """Decomposed distillation or one of its baselines; with ``joint`` also fusion and joint head."""

    def __init__(
        self,
        model: Student,
        *,
        distill: DistillSettings,
        joint: JointHead | None,
        colour_jitter: float,
        teacher_beside: bool = False,
    ) -> None:
        """Train ``model``; ``joint`` adds the paper's one-stage term.

        With ``teacher_beside``, the joint head reads the teacher's feature, which gets no gradient, as motion.
        """
        super().__init__()
        self.model = model
        self.joint = joint
        self.distill = distill
        self.teacher_beside = teacher_beside
        self.colour_jitter = colour_jitter

    def forward(self, batch: Batch) -> Losses:
        """Losses of windows of RGB."""
        batch = batch.to(_device(self))
        features = self._features(batch)
        mask = step_mask(batch.mask, self.model.backbone.stride)
        losses = method_losses(Comparison(self.model, features, mask, batch, distill=self.distill))
        if self.joint is not None:
            losses |= self._joint_losses(self.joint, features, mask, batch)
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses

    def _features(self, batch: Batch) -> StudentFeatures:
        """Branch features of frames, whose colours are changed here; or of the activations of frames."""
        if "activations" in batch.inputs:
            assert isinstance(self.model.backbone, PrefixedBackbone), "only such a backbone has activations to keep"
            x = self.model.backbone.suffix(batch.inputs["activations"], batch.mask)
            return self.model.branches(x, batch.mask)
        frames = batch.inputs["frames"]
        if self.training:
            frames = jitter_colour(frames, batch.mask, self.colour_jitter, _drawn_generator())
        features: StudentFeatures = self.model(frames, batch.mask)
        return features

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
