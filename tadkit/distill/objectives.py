"""The three training objectives, each a module whose ``forward(batch)`` returns named losses.

Source: Lee et al., CVPR 2023 (re-implementation; docs/method.md). The motion branch is trained on the teacher's
outputs only, the appearance branch on the ground truth only; both share one head.
"""

from __future__ import annotations

from typing import assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from tadkit.config import DistillSettings, FeatureLoss
from tadkit.distill.batch import Batch, TeacherTargets, Truth
from tadkit.models.backbones import step_mask
from tadkit.models.branches import jitter_colour, jitter_flow
from tadkit.models.fusion import JointHead
from tadkit.models.heads import Head, Predictions
from tadkit.models.student import Student, StudentFeatures
from tadkit.models.teacher import Teacher

Losses = dict[str, Tensor]


def _detection_loss(head: Head, predictions: Predictions, truth: Truth) -> Tensor:
    return head.loss(predictions, truth.segments, truth.labels).total


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
        return {"total": _detection_loss(self.model.head, predictions, batch.truth)}


class StudentObjective(nn.Module):
    """Decomposed distillation or one of its baselines; with ``joint`` also fusion and joint head."""

    def __init__(
        self,
        model: Student,
        *,
        distill: DistillSettings,
        joint: JointHead | None,
        colour_jitter: float,
    ) -> None:
        """Train ``model``; ``joint`` adds the paper's one-stage term."""
        super().__init__()
        self.model = model
        self.joint = joint
        self.distill = distill
        self.colour_jitter = colour_jitter

    def forward(self, batch: Batch) -> Losses:
        """Losses of windows of RGB."""
        batch = batch.to(_device(self))
        frames = batch.inputs["frames"]
        if self.training:
            frames = jitter_colour(frames, batch.mask, self.colour_jitter, _drawn_generator())
        features: StudentFeatures = self.model(frames, batch.mask)
        mask = step_mask(batch.mask, self.model.backbone.stride)
        losses = self._branch_losses(features, mask, batch)
        if self.joint is not None:
            losses["joint"] = self._joint_loss(features, mask, batch.truth)
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses

    def _branch_losses(self, features: StudentFeatures, mask: Tensor, batch: Batch) -> Losses:
        appearance = self.model.head(features.appearance, mask)
        losses = {"appearance": _detection_loss(self.model.head, appearance, batch.truth)}
        match self.distill.method:
            case "rgb":
                return losses
            case "rgb-matched":
                assert features.motion is not None
                motion = self.model.head(features.motion, mask)
                return losses | {"motion": _detection_loss(self.model.head, motion, batch.truth)}
            case "direct":
                return losses | self._distillation(features.appearance, appearance, mask, batch.teacher)
            case "decomposed":
                assert features.motion is not None
                motion = self.model.head(features.motion, mask)
                return losses | self._distillation(features.motion, motion, mask, batch.teacher)
            case method:
                assert_never(method)

    def _distillation(
        self, feature: Tensor, predictions: Predictions, mask: Tensor, teacher: TeacherTargets | None
    ) -> Losses:
        assert teacher is not None, "distillation needs the teacher's outputs"
        imitation = self.model.head.distil(predictions, teacher.predictions)
        distance = feature_distance(feature, teacher.feature, mask, kind=self.distill.feature_loss)
        return {
            "feature": self.distill.feature_weight * distance,
            "prediction": self.distill.prediction_weight * (imitation.classification + imitation.regression),
        }

    def _joint_loss(self, features: StudentFeatures, mask: Tensor, truth: Truth) -> Tensor:
        assert self.joint is not None
        motion, appearance = features
        if motion is not None and self.distill.stop_gradient in ("motion", "both"):
            motion = motion.detach()
        if self.distill.stop_gradient == "both":
            appearance = appearance.detach()
        return _detection_loss(self.joint.head, self.joint(motion, appearance, mask), truth)


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
        return {"total": _detection_loss(self.model.head, predictions, batch.truth)}


def feature_distance(
    student: Float[Tensor, "batch channels time"],
    teacher: Float[Tensor, "batch channels time"],
    mask: Bool[Tensor, "batch time"],
    *,
    kind: FeatureLoss,
) -> Float[Tensor, ""]:
    """D_feat: mean over the real steps of a distance between f_m and f_T.

    ``mse-normalised`` compares layer-normalised features, so that the loss does not depend on the teacher's scale.
    """
    match kind:
        case "mse":
            distance = (student - teacher).square().mean(dim=1)
        case "mse-normalised":
            channels = (student.shape[1],)
            a, b = (functional.layer_norm(x.transpose(1, 2), channels) for x in (student, teacher))
            distance = (a - b).square().mean(dim=2)
        case "cosine":
            distance = 1 - functional.cosine_similarity(student, teacher, dim=1)
        case "smooth-l1":
            distance = functional.smooth_l1_loss(student, teacher, reduction="none").mean(dim=1)
        case other:
            assert_never(other)
    return torch.where(mask, distance, 0.0).sum() / mask.sum().clamp(min=1)
