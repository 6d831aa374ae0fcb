"""The RGB student: one backbone, split after it into a motion and an appearance branch.

Source: Lee et al., CVPR 2023, and the baselines of docs/method.md, which have one stream or two branches.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from tadkit.config import BackboneSettings, Branch, DistillSettings, HeadSettings
from tadkit.models.backbones import build_backbone, step_mask
from tadkit.models.branches import BranchMapping, halo_frames
from tadkit.models.heads import Head, Predictions, build_head


class StudentFeatures(NamedTuple):
    """Branch features, each (batch, channels, steps); ``motion`` is None if the method has one branch."""

    motion: Tensor | None
    appearance: Tensor

    def of(self, branch: Branch) -> Tensor:
        """Feature of a branch that the method has."""
        feature = self.motion if branch == "motion" else self.appearance
        assert feature is not None, "this method has one branch"
        return feature


class Student(nn.Module):
    """Backbone, the mappings phi_m and phi_a, and the one head H that both branches share (docs/method.md).

    With ``distill.shared_head = false`` the motion branch has a head of its own, ``motion_head``.
    """

    def __init__(
        self,
        *,
        backbone: BackboneSettings,
        head: HeadSettings,
        distill: DistillSettings,
        num_classes: int,
        pretrained: bool,
        trained_steps: int | None = None,
    ) -> None:
        """Build the student for ``distill.method``, for windows of ``trained_steps`` feature steps, if known."""
        super().__init__()
        self.backbone = build_backbone(backbone, in_channels=3, pretrained=pretrained)
        channels = self.backbone.channels
        self.motion = BranchMapping(inputs=channels, outputs=distill.dim) if distill.two_branches else None
        self.appearance = BranchMapping(inputs=channels, outputs=distill.dim)

        def new_head() -> Head:
            return build_head(head, in_channels=distill.dim, num_classes=num_classes, trained_steps=trained_steps)

        self.head = new_head()
        self.motion_head = new_head() if distill.own_heads else None

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

    def branch_head(self, branch: Branch) -> Head:
        """Head of a branch: the shared one, unless the motion branch has its own."""
        return self.head if branch == "appearance" or self.motion_head is None else self.motion_head

    def branch_predictions(
        self, branch: Branch, feature: Float[Tensor, "batch dim steps"], mask: Bool[Tensor, "batch steps"]
    ) -> Predictions:
        """Predictions of a branch's head for the branch's feature."""
        predictions: Predictions = self.branch_head(branch)(feature, mask)
        return predictions
