"""The motion teacher: a detector on optical flow or temporal gradient."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import BackboneSettings, HeadSettings
from tadkit.models.backbones import build_backbone, step_mask
from tadkit.models.branches import BranchMapping, halo_frames
from tadkit.models.heads import Predictions, build_head


class TeacherOutput(NamedTuple):
    """What the student is trained on: f_T (batch, channels, steps) and y_T."""

    feature: Tensor
    predictions: Predictions


class MotionStream(nn.Module):
    """Backbone and mapping on the motion modality: a teacher without its head, which a two-stream detector reads."""

    def __init__(
        self, *, backbone: BackboneSettings, dim: int, motion_channels: int, pretrained: bool, stack: int = 1
    ) -> None:
        """Build the stream.

        Args:
            backbone: sizes of the backbone.
            dim: width of f_T.
            motion_channels: 2 for flow, 3 for temporal gradient; of features as many as their flow stream has.
            pretrained: start from ImageNet weights; the stem's filters are averaged over colours.
            stack: flows that it reads at each frame (:func:`tadkit.flow.codec.read_stacks`).
        """
        super().__init__()
        self.stack = stack
        self.backbone = build_backbone(
            backbone, in_channels=stack * motion_channels, pretrained=pretrained, stack=stack
        )
        self.mapping = BranchMapping(inputs=self.backbone.channels, outputs=dim)

    @property
    def halo_frames(self) -> int:
        """Frames on either side that a step of f_T depends on, a multiple of what windows are aligned to."""
        return halo_frames(self.backbone, stack=self.stack)

    def features(
        self, motion: Float[Tensor, "batch frames ..."], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch dim steps"]:
        """f_T of a clip of flow, or of stacks of flow; flow k belongs to frame k.

        Args:
            motion: (batch, frames, channels, height, width); or features (batch, steps, channels).
            mask: false at padding.
        """
        return self.mapped(self.backbone(motion, mask), mask)

    def mapped(
        self, x: Float[Tensor, "batch channels steps"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch dim steps"]:
        """f_T from the backbone's features."""
        mapped: Tensor = self.mapping(x, step_mask(mask, self.backbone.stride))
        return mapped


class Teacher(MotionStream):
    """The motion stream and a head (docs/method.md, section 2)."""

    def __init__(
        self,
        *,
        backbone: BackboneSettings,
        head: HeadSettings,
        dim: int,
        motion_channels: int,
        num_classes: int,
        pretrained: bool,
        trained_steps: int | None = None,
        stack: int = 1,
    ) -> None:
        """Build the teacher: the arguments of :class:`MotionStream`, and those of the head.

        Args:
            backbone: sizes of the backbone.
            head: kind and sizes of the head.
            dim: width of f_T.
            motion_channels: channels of one flow, or of a step of features.
            num_classes: number of classes.
            pretrained: start from ImageNet weights.
            trained_steps: feature steps of a training window.
            stack: flows at each frame.
        """
        super().__init__(
            backbone=backbone, dim=dim, motion_channels=motion_channels, pretrained=pretrained, stack=stack
        )
        self.head = build_head(head, in_channels=dim, num_classes=num_classes, trained_steps=trained_steps)

    def forward(self, motion: Float[Tensor, "batch frames ..."], mask: Bool[Tensor, "batch frames"]) -> TeacherOutput:
        """Feature and predictions of a clip."""
        feature = self.features(motion, mask)
        return TeacherOutput(feature, self.head(feature, step_mask(mask, self.backbone.stride)))
