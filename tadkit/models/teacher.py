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


class Teacher(nn.Module):
    """Backbone, mapping and head on the motion modality (docs/method.md, section 2)."""

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
    ) -> None:
        """``dim`` is the width of f_T; ``motion_channels`` is 2 for flow and 3 for temporal gradient."""
        super().__init__()
        self.backbone = build_backbone(backbone, in_channels=motion_channels, pretrained=pretrained)
        self.mapping = BranchMapping(inputs=self.backbone.channels, outputs=dim)
        self.head = build_head(head, in_channels=dim, num_classes=num_classes, trained_steps=trained_steps)

    @property
    def halo_frames(self) -> int:
        """Frames on either side that a step of f_T depends on, a multiple of what windows are aligned to."""
        return halo_frames(self.backbone)

    def features(
        self, motion: Float[Tensor, "batch frames channels height width"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch dim steps"]:
        """f_T of a clip of flow; flow k belongs to frame k."""
        x = self.backbone(motion, mask)
        mapped: Tensor = self.mapping(x, step_mask(mask, self.backbone.stride))
        return mapped

    def forward(
        self, motion: Float[Tensor, "batch frames channels height width"], mask: Bool[Tensor, "batch frames"]
    ) -> TeacherOutput:
        """Feature and predictions of a clip."""
        feature = self.features(motion, mask)
        return TeacherOutput(feature, self.head(feature, step_mask(mask, self.backbone.stride)))
