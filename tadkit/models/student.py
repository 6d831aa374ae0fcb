"""The RGB student: one backbone, split after it into a motion and an appearance branch.

Source: Lee et al., CVPR 2023, and the baselines of docs/method.md, which have one stream or two branches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
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

    With ``distill.shared_head = false`` the motion branch has a head of its own, ``motion_head``. A student that is
    compared with the features of several teachers side by side has an ``adapter``, which is used in training only.
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
        in_channels: int = 3,
    ) -> None:
        """Build the student for ``distill.method``.

        It reads RGB, or features of ``in_channels``, in windows of ``trained_steps`` feature steps, if known.
        """
        super().__init__()
        self.backbone = build_backbone(backbone, in_channels=in_channels, pretrained=pretrained)
        channels = self.backbone.channels
        self.motion = BranchMapping(inputs=channels, outputs=distill.dim) if distill.two_branches else None
        self.appearance = BranchMapping(inputs=channels, outputs=distill.dim)

        def new_head() -> Head:
            return build_head(head, in_channels=distill.dim, num_classes=num_classes, trained_steps=trained_steps)

        self.head = new_head()
        self.motion_head = new_head() if distill.own_heads else None
        self.adapter = _adapter(distill.dim, teachers=distill.adapted_to) if distill.adapted_to else None

    @property
    def halo_frames(self) -> int:
        """Frames on either side that a step of a branch depends on, a multiple of what windows are aligned to."""
        return halo_frames(self.backbone)

    def forward(
        self, frames: Shaped[Tensor, "batch frames ..."], mask: Bool[Tensor, "batch frames"]
    ) -> StudentFeatures:
        """Branch features of a clip, one step for every ``backbone.stride`` frames.

        Args:
            frames: uint8 (batch, frames, height, width, 3); or features (batch, steps, channels).
            mask: false at padding.
        """
        return self.branches(self.backbone(frames, mask), mask)

    def branches(self, x: Float[Tensor, "batch channels steps"], mask: Bool[Tensor, "batch frames"]) -> StudentFeatures:
        """Branch features from the backbone's features."""
        steps = step_mask(mask, self.backbone.stride)
        return StudentFeatures(
            motion=self.motion(x, steps) if self.motion is not None else None, appearance=self.appearance(x, steps)
        )

    def adapted(self, feature: Float[Tensor, "batch dim steps"]) -> Float[Tensor, "batch channels steps"]:
        """A branch's feature as wide as those of all teachers side by side; of one teacher, the feature itself."""
        return feature if self.adapter is None else self.adapter(feature)

    def branch_head(self, branch: Branch) -> Head:
        """Head of a branch: the shared one, unless the motion branch has its own."""
        return self.head if branch == "appearance" or self.motion_head is None else self.motion_head

    def branch_predictions(
        self, branch: Branch, feature: Float[Tensor, "batch dim steps"], mask: Bool[Tensor, "batch steps"]
    ) -> Predictions:
        """Predictions of a branch's head for the branch's feature."""
        predictions: Predictions = self.branch_head(branch)(feature, mask)
        return predictions


def _adapter(dim: int, *, teachers: int) -> nn.Conv1d:
    """A 1x1 convolution that repeats the feature for every teacher, until it is trained."""
    adapter = nn.Conv1d(dim, teachers * dim, 1)
    nn.init.zeros_(adapter.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        adapter.weight.copy_(torch.eye(dim).repeat(teachers, 1)[..., None])
    return adapter
