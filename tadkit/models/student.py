"""The RGB student: one backbone, split after it into a motion and an appearance branch."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from tadkit.config import BackboneSettings, DistillSettings, HeadSettings
from tadkit.models.backbones import build_backbone, step_mask
from tadkit.models.branches import BranchMapping, halo_frames
from tadkit.models.heads import build_head


class StudentFeatures(NamedTuple):
    """Branch features, each (batch, channels, steps); ``motion`` is None if the method has one branch."""

    motion: Tensor | None
    appearance: Tensor


class Student(nn.Module):
    """Backbone, the mappings phi_m and phi_a, and the one head H that both branches share (docs/method.md)."""

    def __init__(
        self,
        *,
        backbone: BackboneSettings,
        head: HeadSettings,
        distill: DistillSettings,
        num_classes: int,
        pretrained: bool,
    ) -> None:
        """Build the student for ``distill.method``."""
        super().__init__()
        self.backbone = build_backbone(backbone, in_channels=3, pretrained=pretrained)
        channels = self.backbone.channels
        self.motion = BranchMapping(inputs=channels, outputs=distill.dim) if distill.two_branches else None
        self.appearance = BranchMapping(inputs=channels, outputs=distill.dim)
        self.head = build_head(head, in_channels=distill.dim, num_classes=num_classes)

    @property
    def halo_frames(self) -> int:
        """Frames on either side that a step of a branch depends on, a multiple of what windows are aligned to."""
        return halo_frames(self.backbone)

    def forward(
        self, frames: UInt8[Tensor, "batch frames height width 3"], mask: Bool[Tensor, "batch frames"]
    ) -> StudentFeatures:
        """Branch features of a clip, one step for every ``backbone.stride`` frames."""
        return self.branches(self.backbone(frames, mask), mask)

    def branches(self, x: Float[Tensor, "batch channels steps"], mask: Bool[Tensor, "batch frames"]) -> StudentFeatures:
        """Branch features from the backbone's features."""
        steps = step_mask(mask, self.backbone.stride)
        return StudentFeatures(
            motion=self.motion(x, steps) if self.motion is not None else None, appearance=self.appearance(x, steps)
        )
