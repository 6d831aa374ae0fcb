"""Fusion and joint head: what reads the student's branches."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import FusionSettings, HeadSettings
from tadkit.models.fusion import LocalAttentiveFusion
from tadkit.models.heads import Predictions, build_head


class JointHead(nn.Module):
    """Local attentive fusion and the joint head J on branch features."""

    def __init__(
        self, *, fusion: FusionSettings, head: HeadSettings, dim: int, num_classes: int, two_branches: bool
    ) -> None:
        """With one branch there is nothing to fuse and J reads that branch."""
        super().__init__()
        self.fusion = LocalAttentiveFusion(fusion, channels=dim) if two_branches else None
        self.head = build_head(head, in_channels=2 * dim if two_branches else dim, num_classes=num_classes)

    def fused(
        self,
        motion: Float[Tensor, "batch channels time"] | None,
        appearance: Float[Tensor, "batch channels time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Tensor:
        """Input of the joint head (batch, channels, time)."""
        if self.fusion is None or motion is None:
            return appearance
        fused: Tensor = self.fusion(motion, appearance, mask)
        return fused

    def forward(
        self,
        motion: Float[Tensor, "batch channels time"] | None,
        appearance: Float[Tensor, "batch channels time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Predictions:
        """Predictions of the joint head."""
        predictions: Predictions = self.head(self.fused(motion, appearance, mask), mask)
        return predictions
