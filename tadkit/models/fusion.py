"""Fusion of motion and appearance, and the joint head on top.

Source: Lee et al., *Decomposed Cross-modal Distillation for RGB-based Temporal Action Detection*, CVPR 2023, local
attentive fusion. A re-implementation from the published text; comments mark the choices that it leaves open.
"""

from __future__ import annotations

from typing import assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import FusionSettings, HeadSettings
from tadkit.models.heads import Predictions, build_head


class AttentiveGate(nn.Module):
    """One direction: keys of the reference weight the channels of the target, step by step."""

    def __init__(self, channels: int) -> None:
        """Queries and keys have the target's width, because their product weights its channels."""
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key = nn.Conv1d(channels, channels, 1)

    def forward(
        self,
        target: Float[Tensor, "batch channels time"],
        reference: Float[Tensor, "batch channels time"],
        mean: Float[Tensor, "batch channels"],
    ) -> Float[Tensor, "batch channels time"]:
        """``mean`` is the target's average over the real steps of the whole video."""
        weights = torch.sigmoid(self.query(mean)[:, :, None] * self.key(reference))
        return weights * target


class LocalAttentiveFusion(nn.Module):
    """Both directions, each with its own parameters, concatenated along channels; steps are not mixed."""

    def __init__(self, settings: FusionSettings, *, channels: int) -> None:
        """``channels`` is the width of either branch; the output has twice as many."""
        super().__init__()
        self.out_channels = 2 * channels
        self.gates: nn.ModuleList | None
        match settings.kind:
            case "local-attentive":
                self.gates = nn.ModuleList([AttentiveGate(channels), AttentiveGate(channels)])
            case "concat":
                self.gates = None
            case kind:
                assert_never(kind)

    def forward(
        self,
        motion: Float[Tensor, "batch channels time"],
        appearance: Float[Tensor, "batch channels time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch twice_channels time"]:
        """Fuse; padding affects neither the means nor the output."""
        if self.gates is not None:
            # The text leaves the pooling A open; ours is the mean over the real steps.
            motion_mean, appearance_mean = masked_mean(motion, mask), masked_mean(appearance, mask)
            motion, appearance = (
                self.gates[0](motion, appearance, motion_mean),
                self.gates[1](appearance, motion, appearance_mean),
            )
        return torch.cat([motion, appearance], dim=1) * mask[:, None]


class JointHead(nn.Module):
    """Local attentive fusion and the joint head J on branch features."""

    def __init__(
        self, *, fusion: FusionSettings, head: HeadSettings, dim: int, num_classes: int, two_branches: bool
    ) -> None:
        """With one branch there is no fusion, and J reads that branch."""
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


def masked_mean(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch channels"]:
    """Mean over the real steps; zero if there are none."""
    weight = mask[:, None].to(x.dtype)
    return (x * weight).sum(dim=2) / weight.sum(dim=2).clamp(min=1)
