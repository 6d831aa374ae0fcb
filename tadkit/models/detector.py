"""The detector, which ``tadkit detect`` runs, and how student, teacher and detector are built from checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor, nn

from tadkit.checkpoint import Checkpoint, load_weights
from tadkit.config import FusionSettings, ModelSettings
from tadkit.config.places import setting_name
from tadkit.errors import WeightsError
from tadkit.models.backbones import align_frames_of
from tadkit.models.fusion import JointHead, LateHead
from tadkit.models.heads import head_labels
from tadkit.models.student import Student
from tadkit.models.teacher import MotionStream, Teacher
from tadkit.video.sampling import windows

_UNSTATED_WINDOW_S = 25.6
"""The windows of model files that state none, as the first ones: the default of ``train.head.window_s``."""
_FUSED_STEPS = 4096
"""Feature steps that are fused at a time."""


class DetectorNet(nn.Module):
    """The student with its two branches, their fusion and the joint head: everything from frames to predictions.

    A two-stream detector has the teacher's motion stream, too, and the student's one branch is appearance.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        labels: tuple[str, ...],
        student: Student,
        joint: JointHead,
        teacher: MotionStream | None = None,
    ) -> None:
        """Combine a trained student and joint head, and the stream that reads flow, if the settings have one."""
        super().__init__()
        assert (teacher is not None) == settings.reads_flow, settings.streams
        self.settings = settings
        self.labels = head_labels(joint.head.settings, labels)
        self.student = student
        self.joint = joint
        self.teacher = teacher

    @torch.inference_mode()
    def fused(
        self, motion: Float[Tensor, "channels steps"] | None, appearance: Float[Tensor, "channels steps"]
    ) -> Float[Tensor, "1 fused steps"]:
        """The track that the joint head reads, from the branch features of one whole video.

        Long tracks are fused in pieces with the steps around them that a fusion reads, which gives the same and takes
        little memory.
        """
        steps, fusion = appearance.shape[1], self.joint.fusion
        if motion is None or fusion is None or fusion.context_steps is None or steps <= _FUSED_STEPS:
            return self._fused(motion, appearance)
        fused = appearance.new_empty(1, fusion.out_channels, steps)
        for piece in windows(steps, core=_FUSED_STEPS, halo=fusion.context_steps):
            part = self._fused(motion[:, piece.start : piece.stop], appearance[:, piece.start : piece.stop])
            fused[..., piece.core_start : piece.core_stop] = part[..., piece.core_steps(1)]
        return fused

    def _fused(self, motion: Tensor | None, appearance: Tensor) -> Tensor:
        mask = torch.ones(1, appearance.shape[1], dtype=torch.bool, device=appearance.device)
        return self.joint.fused(None if motion is None else motion[None], appearance[None], mask)

    @property
    def context_s(self) -> float | None:
        """Seconds of video on either side that a candidate of the joint head depends on; None: the whole video.

        Counted at the model's rate; a video of fewer frames a second has steps that are further apart. The last flow
        that a step depends on leads to one frame more.
        """
        steps, stride = self.joint.context_steps, self.student.backbone.stride
        if steps is None:
            return None
        halo = max(self.student.halo_frames, 0 if self.teacher is None else self.teacher.halo_frames + 1)
        return (halo + (steps + 1) * stride) / self.settings.video.rate_hz


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
        in_channels=_rgb_channels(settings),
    )


def new_joint_head(
    settings: ModelSettings, *, num_classes: int, trained_steps: int | None = None, teacher_steps: int | None = None
) -> JointHead:
    """A joint head with initial weights.

    Args:
        settings: of the model; those of ``two-stream-late`` give a head for each stream.
        num_classes: number of classes.
        trained_steps: feature steps of a training window; None: those of the default windows.
        teacher_steps: likewise of the teacher, whose head ``two-stream-late`` has.
    """
    late = settings.streams == "two-stream-late"
    joint = JointHead(
        fusion=FusionSettings(kind="late") if late else settings.fusion,
        head=settings.detector_head,
        dim=settings.distill.dim,
        num_classes=num_classes,
        two_branches=settings.two_tracks,
        trained_steps=trained_steps or _unstated_steps(settings, stride=settings.backbone.stride),
    )
    if late:
        assert isinstance(joint.head, LateHead)
        joint.head.first.trained_steps = teacher_steps or joint.trained_steps
    return joint


def _unstated_steps(settings: ModelSettings, *, stride: int) -> int:
    return max(1, round(_UNSTATED_WINDOW_S * settings.video.rate_hz / stride))


def new_teacher(
    settings: ModelSettings, *, num_classes: int, pretrained: bool | None = None, trained_steps: int | None = None
) -> Teacher:
    """A teacher with initial weights, for windows of ``trained_steps`` feature steps, or the default windows."""
    return Teacher(
        **_stream_sizes(settings, pretrained),
        head=settings.head,
        num_classes=num_classes,
        trained_steps=trained_steps or _unstated_steps(settings, stride=settings.teacher_backbone.stride),
    )


def student_align_frames(settings: ModelSettings) -> int:
    """Frames at multiples of which windows of the student start."""
    return align_frames_of(settings.backbone, in_channels=_rgb_channels(settings))


def teacher_align_frames(settings: ModelSettings) -> int:
    """Frames at multiples of which windows of the teacher start."""
    channels = _stack(settings) * _motion_channels(settings)
    return align_frames_of(settings.teacher_backbone, in_channels=channels)


def refuse_features(settings: ModelSettings, *, path: Path | None) -> None:
    """Refuse a model that reads features, where videos are read.

    Raises:
        WeightsError: it does.
    """
    if settings.frozen is not None:
        raise WeightsError(
            f"{path}: reads frozen features, not videos; compute them with "
            f"tadkit extract-features VIDEOS --model {path} --out features.h5, "
            f"and use tadkit detect-features features.h5 --head {path}"
        )
    if settings.features is not None:
        raise WeightsError(
            f"{path}: reads features, not videos; import them with tadkit import features, and use "
            f"tadkit detect-features FEATURES --head {path}"
        )


def _stack(settings: ModelSettings) -> int:
    """Flows that the teacher reads at each frame; a step of features holds all of its flows already."""
    return 1 if settings.features is not None else settings.flow.stack


def _stream_sizes(settings: ModelSettings, pretrained: bool | None) -> dict[str, Any]:
    return {
        "backbone": settings.teacher_backbone,
        "dim": settings.distill.dim,
        "motion_channels": _motion_channels(settings),
        "pretrained": settings.teacher_backbone.starts_trained if pretrained is None else pretrained,
        "stack": _stack(settings),
    }


def _rgb_channels(settings: ModelSettings) -> int:
    return 3 if settings.features is None else settings.features.rgb_channels


def _motion_channels(settings: ModelSettings) -> int:
    if settings.features is not None:
        return settings.features.flow_channels
    return 3 if settings.flow.method == "temporal-gradient" else 2


def new_motion_stream(settings: ModelSettings) -> MotionStream | None:
    """The stream of a two-stream detector that reads flow, with initial weights; None for the others."""
    return MotionStream(**_stream_sizes(settings, pretrained=False)) if settings.reads_flow else None


def motion_stream_of(teacher: Teacher, settings: ModelSettings) -> MotionStream | None:
    """The stream of a two-stream detector, with the weights of a trained teacher; None for the others."""
    stream = new_motion_stream(settings)
    if stream is not None:
        names, weights = stream.state_dict().keys(), teacher.state_dict()
        stream.load_state_dict({name: weights[name] for name in names})
    return stream


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
        wrong = ", ".join(sorted({setting_name(ModelSettings, e["loc"]) for e in error.errors()}))
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
        joint=new_joint_head(
            settings,
            num_classes=classes,
            trained_steps=checkpoint.trained_steps,
            teacher_steps=checkpoint.teacher_steps,
        ),
        teacher=new_motion_stream(settings),
    )
    load_weights(detector, checkpoint)
    return detector.eval()


def load_streams(student: Student, checkpoint: Checkpoint) -> None:
    """Give a student the backbone and the branches of a checkpoint's student or detector; its heads stay as they are.

    Raises:
        WeightsError: they do not fit.
    """
    prefix = "" if checkpoint.kind == "student" else "student."
    heads = ("head.", "motion_head.", "adapter.")
    known = {name.removeprefix(prefix): one for name, one in checkpoint.tensors.items() if name.startswith(prefix)}
    streams = {name: one for name, one in known.items() if not name.startswith(heads)}
    own = {name: one for name, one in student.state_dict().items() if name.startswith(heads)}
    load_weights(student, replace(checkpoint, tensors=streams | own))


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
