"""The detector: the student's branches, their fusion and the joint head. It is what ``tadkit detect`` runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import ValidationError
from torch import Tensor, nn

from tadkit.checkpoint import Checkpoint, load_weights
from tadkit.config import ModelSettings
from tadkit.errors import WeightsError
from tadkit.models.decode.chunks import predict_in_chunks
from tadkit.models.decode.windows import track_candidates
from tadkit.models.fusion import JointHead
from tadkit.models.heads import Candidates, Predictions, head_labels, is_nameless
from tadkit.models.student import TWO_BRANCHES, Student
from tadkit.models.teacher import Teacher


class Detector(nn.Module):
    """Everything between frames and predictions; one file to hand over."""

    def __init__(self, settings: ModelSettings, *, labels: tuple[str, ...], student: Student, joint: JointHead) -> None:
        """Put a trained student and joint head together."""
        super().__init__()
        self.settings = settings
        self.labels = head_labels(joint.head.settings, labels)
        self.student = student
        self.joint = joint

    @property
    def nameless(self) -> bool:
        """Whether it has no classifier, so that all that it finds is of one class."""
        return is_nameless(self.joint.head.settings)

    @torch.inference_mode()
    def predict(
        self,
        motion: Float[Tensor, "channels steps"] | None,
        appearance: Float[Tensor, "channels steps"],
        *,
        core_steps: int,
    ) -> Predictions:
        """Predictions of one video from its features; that they are made ``core_steps`` at a time does not show."""
        return predict_in_chunks(self.joint.head, *self._fused(motion, appearance), core_steps=core_steps)

    @torch.inference_mode()
    def candidates(
        self,
        motion: Float[Tensor, "channels steps"] | None,
        appearance: Float[Tensor, "channels steps"],
        *,
        core_steps: int,
        min_score: float,
        limit: int,
    ) -> Candidates:
        """The best candidates of one video from its features; heads that see a whole window go window by window."""
        fused, mask = self._fused(motion, appearance)
        return track_candidates(self.joint.head, fused, mask, core_steps=core_steps, min_score=min_score, limit=limit)

    def _fused(
        self, motion: Float[Tensor, "channels steps"] | None, appearance: Float[Tensor, "channels steps"]
    ) -> tuple[Float[Tensor, "1 fused steps"], Bool[Tensor, "1 steps"]]:
        mask = torch.ones(1, appearance.shape[1], dtype=torch.bool, device=appearance.device)
        return self.joint.fused(None if motion is None else motion[None], appearance[None], mask), mask


def new_student(settings: ModelSettings, *, num_classes: int, pretrained: bool | None = None) -> Student:
    """A student with fresh weights; ``pretrained`` is what the settings say unless given."""
    return Student(
        backbone=settings.backbone,
        head=settings.head,
        distill=settings.distill,
        num_classes=num_classes,
        pretrained=settings.backbone.pretrained if pretrained is None else pretrained,
    )


def new_joint_head(settings: ModelSettings, *, num_classes: int) -> JointHead:
    """A joint head with fresh weights."""
    return JointHead(
        fusion=settings.fusion,
        head=settings.detector_head,
        dim=settings.distill.dim,
        num_classes=num_classes,
        two_branches=settings.distill.method in TWO_BRANCHES,
    )


def new_teacher(settings: ModelSettings, *, num_classes: int, pretrained: bool | None = None) -> Teacher:
    """A teacher with fresh weights."""
    return Teacher(
        backbone=settings.teacher_backbone,
        head=settings.head,
        dim=settings.distill.dim,
        motion_channels=3 if settings.flow.method == "temporal-gradient" else 2,
        num_classes=num_classes,
        pretrained=settings.teacher_backbone.pretrained if pretrained is None else pretrained,
    )


def model_settings(checkpoint: Checkpoint, *, where: str) -> ModelSettings:
    """The settings in a checkpoint's header.

    Raises:
        WeightsError: this version of tadkit does not know them.
    """
    known: Mapping[str, Any] = checkpoint.settings
    try:
        return ModelSettings.model_validate(known)
    except ValidationError as error:
        wrong = ", ".join(sorted({_setting(e["loc"], known) for e in error.errors()}))
        raise WeightsError(
            f"{where}: this tadkit does not know settings in the header ({wrong}); use the version that wrote it"
        ) from error


def _setting(location: tuple[int | str, ...], known: Mapping[str, Any]) -> str:
    """Dotted name of a setting, without the tag of a union that pydantic puts after the section's name."""
    section = known.get(str(location[0]))
    tags = {section.get("kind", "actionformer"), section.get("method")} if isinstance(section, Mapping) else set()
    return ".".join(str(part) for n, part in enumerate(location) if n != 1 or part not in tags)


def build_detector(checkpoint: Checkpoint, *, where: str) -> Detector:
    """The detector of a checkpoint, in evaluation mode.

    Raises:
        WeightsError: header and weights do not fit together.
    """
    settings = model_settings(checkpoint, where=where)
    classes = len(checkpoint.labels)
    detector = Detector(
        settings,
        labels=checkpoint.labels,
        student=new_student(settings, num_classes=classes, pretrained=False),
        joint=new_joint_head(settings, num_classes=classes),
    )
    load_weights(detector, checkpoint.tensors, where=where)
    return detector.eval()


def build_student(checkpoint: Checkpoint, *, where: str) -> tuple[ModelSettings, Student]:
    """The student of a checkpoint, in evaluation mode."""
    settings = model_settings(checkpoint, where=where)
    student = new_student(settings, num_classes=len(checkpoint.labels), pretrained=False)
    load_weights(student, checkpoint.tensors, where=where)
    return settings, student.eval()


def build_teacher(checkpoint: Checkpoint, *, where: str) -> tuple[ModelSettings, Teacher]:
    """The teacher of a checkpoint, in evaluation mode."""
    settings = model_settings(checkpoint, where=where)
    teacher = new_teacher(settings, num_classes=len(checkpoint.labels), pretrained=False)
    load_weights(teacher, checkpoint.tensors, where=where)
    return settings, teacher.eval()
