"""The detector, which ``tadkit detect`` runs, and how student, teacher and detector are built from checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor, nn

from tadkit.checkpoint import Checkpoint, load_weights
from tadkit.config import ModelSettings
from tadkit.config.loading import setting_name
from tadkit.errors import WeightsError
from tadkit.models.fusion import JointHead
from tadkit.models.heads import head_labels
from tadkit.models.student import Student
from tadkit.models.teacher import Teacher

_UNSTATED_WINDOW_S = 25.6
"""The windows of model files that state none, as the first ones: the default of ``train.head.window_s``."""


class DetectorNet(nn.Module):
    """The student with its two branches, their fusion and the joint head: everything from frames to predictions."""

    def __init__(self, settings: ModelSettings, *, labels: tuple[str, ...], student: Student, joint: JointHead) -> None:
        """Combine a trained student and joint head."""
        super().__init__()
        self.settings = settings
        self.labels = head_labels(joint.head.settings, labels)
        self.student = student
        self.joint = joint

    @torch.inference_mode()
    def fused(
        self, motion: Float[Tensor, "channels steps"] | None, appearance: Float[Tensor, "channels steps"]
    ) -> Float[Tensor, "1 fused steps"]:
        """The track that the joint head reads, from the branch features of one whole video."""
        mask = torch.ones(1, appearance.shape[1], dtype=torch.bool, device=appearance.device)
        return self.joint.fused(None if motion is None else motion[None], appearance[None], mask)

    @property
    def context_s(self) -> float | None:
        """Seconds of video on either side that a candidate of the joint head depends on; None: the whole video.

        Counted at the model's rate; a video of fewer frames a second has steps that are further apart.
        """
        steps, stride = self.joint.context_steps, self.student.backbone.stride
        if steps is None:
            return None
        return (self.student.halo_frames + (steps + 1) * stride) / self.settings.video.rate_hz


def new_student(
    settings: ModelSettings, *, num_classes: int, pretrained: bool | None = None, trained_steps: int | None = None
) -> Student:
    """A student with initial weights, for windows of ``trained_steps`` feature steps, or the default windows.

    ``pretrained`` overrides the settings.
    """
    return Student(
        backbone=settings.backbone,
        head=settings.head,
        distill=settings.distill,
        num_classes=num_classes,
        pretrained=settings.backbone.starts_trained if pretrained is None else pretrained,
        trained_steps=trained_steps or _unstated_steps(settings, stride=settings.backbone.stride),
    )


def new_joint_head(settings: ModelSettings, *, num_classes: int, trained_steps: int | None = None) -> JointHead:
    """A joint head with initial weights, for windows of ``trained_steps`` feature steps, or the default windows."""
    return JointHead(
        fusion=settings.fusion,
        head=settings.detector_head,
        dim=settings.distill.dim,
        num_classes=num_classes,
        two_branches=settings.distill.two_branches,
        trained_steps=trained_steps or _unstated_steps(settings, stride=settings.backbone.stride),
    )


def _unstated_steps(settings: ModelSettings, *, stride: int) -> int:
    return max(1, round(_UNSTATED_WINDOW_S * settings.video.rate_hz / stride))


def new_teacher(
    settings: ModelSettings, *, num_classes: int, pretrained: bool | None = None, trained_steps: int | None = None
) -> Teacher:
    """A teacher with initial weights, for windows of ``trained_steps`` feature steps, or the default windows."""
    return Teacher(
        backbone=settings.teacher_backbone,
        head=settings.head,
        dim=settings.distill.dim,
        motion_channels=3 if settings.flow.method == "temporal-gradient" else 2,
        num_classes=num_classes,
        pretrained=settings.teacher_backbone.starts_trained if pretrained is None else pretrained,
        trained_steps=trained_steps or _unstated_steps(settings, stride=settings.teacher_backbone.stride),
    )


def model_settings(checkpoint: Checkpoint) -> ModelSettings:
    """The settings in a checkpoint's header.

    Raises:
        WeightsError: this version of tadkit does not know them.
    """
    known = dict(checkpoint.settings)
    if isinstance(decode := known.get("decode"), Mapping):  # version 0.1.0 kept a path there, always null
        known["decode"] = {name: value for name, value in decode.items() if name != "video_scores"}
    try:
        return ModelSettings.model_validate(known)
    except ValidationError as error:
        wrong = ", ".join(sorted({setting_name(ModelSettings, known, e["loc"]) for e in error.errors()}))
        raise WeightsError(
            f"{checkpoint.path}: the header has settings that this tadkit does not know ({wrong}); "
            "use the version that wrote it"
        ) from error


def build_detector(checkpoint: Checkpoint) -> DetectorNet:
    """The detector of a checkpoint, in evaluation mode.

    Raises:
        WeightsError: header and weights do not fit together.
    """
    settings = model_settings(checkpoint)
    classes = len(checkpoint.labels)
    detector = DetectorNet(
        settings,
        labels=checkpoint.labels,
        student=new_student(settings, num_classes=classes, pretrained=False),
        joint=new_joint_head(settings, num_classes=classes, trained_steps=checkpoint.trained_steps),
    )
    load_weights(detector, checkpoint)
    return detector.eval()


def build_student(checkpoint: Checkpoint) -> tuple[ModelSettings, Student]:
    """The student of a checkpoint, in evaluation mode."""
    settings = model_settings(checkpoint)
    student = new_student(
        settings, num_classes=len(checkpoint.labels), pretrained=False, trained_steps=checkpoint.trained_steps
    )
    load_weights(student, checkpoint)
    return settings, student.eval()


def build_teacher(checkpoint: Checkpoint) -> tuple[ModelSettings, Teacher]:
    """The teacher of a checkpoint, in evaluation mode."""
    settings = model_settings(checkpoint)
    teacher = new_teacher(
        settings,
        num_classes=len(checkpoint.labels),
        pretrained=False,
        trained_steps=checkpoint.trained_steps,
    )
    load_weights(teacher, checkpoint)
    return settings, teacher.eval()
