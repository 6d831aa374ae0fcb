"""Fusion of motion and appearance, and the joint head on top.

Source: Lee et al., *Decomposed Cross-modal Distillation for RGB-based Temporal Action Detection*, CVPR 2023, local
attentive fusion. A re-implementation from the published text; comments mark the choices that it leaves open.
"""

from __future__ import annotations

from typing import assert_never

import torch
import torch.nn.functional as nnf
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
        mean: Float[Tensor, "batch channels time_or_1"],
    ) -> Float[Tensor, "batch channels time"]:
        """``mean`` is the target's average around each step, or that of all steps."""
        query = self.query(mean.transpose(1, 2)).transpose(1, 2)
        weights = torch.sigmoid(query * self.key(reference))
        return weights * target


class LocalAttentiveFusion(nn.Module):
    """Both directions, each with its own parameters, concatenated along channels.

    Steps meet only in the mean over the ``window_steps`` around each step (:func:`running_mean`).
    """

    def __init__(self, settings: FusionSettings, *, channels: int, window_steps: int | None = None) -> None:
        """``channels`` is the width of either branch, the output has twice as many; no ``window_steps``: one mean."""
        super().__init__()
        self.window_steps = window_steps
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
            # The text leaves the pooling A open; ours is the mean over the real steps around each step.
            motion_mean, appearance_mean = (running_mean(x, mask, self.window_steps) for x in (motion, appearance))
            motion, appearance = (
                self.gates[0](motion, appearance, motion_mean),
                self.gates[1](appearance, motion, appearance_mean),
            )
        return torch.cat([motion, appearance], dim=1) * mask[:, None]


class JointHead(nn.Module):
    """Local attentive fusion and the joint head J on branch features."""

    def __init__(
        self,
        *,
        fusion: FusionSettings,
        head: HeadSettings,
        dim: int,
        num_classes: int,
        two_branches: bool,
        trained_steps: int | None = None,
    ) -> None:
        """With one branch there is no fusion, and J reads that branch.

        ``trained_steps`` are the steps of a training window, over which the fusion averages on longer tracks, too;
        None: over the whole track.
        """
        super().__init__()
        self.trained_steps = trained_steps
        self.fusion = LocalAttentiveFusion(fusion, channels=dim, window_steps=trained_steps) if two_branches else None
        self.head = build_head(
            head,
            in_channels=2 * dim if two_branches else dim,
            num_classes=num_classes,
            trained_steps=trained_steps,
        )

    @property
    def context_steps(self) -> int | None:
        """Steps on either side that what it finds at a step depends on, on a track of any length; None if on all."""
        pooled = 0 if self.fusion is None or self.fusion.gates is None else self.trained_steps
        read = self.head.context_steps
        return None if read is None or pooled is None else read + pooled

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


def running_mean(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"], window: int | None
) -> Float[Tensor, "batch channels time_or_1"]:
    """Mean over the real steps of the ``window`` steps around each step.

    Near the ends of the track the window is moved inside, so that every mean is over as many steps as in training. A
    track no longer than the window, such as a training window, has one mean, over all its steps.
    """
    time = x.shape[2]
    if window is None or time <= window:
        return masked_mean(x, mask)[:, :, None]
    # Sums over hours: float32 would lose what a window adds.
    precise = torch.float32 if x.device.type == "mps" else torch.float64
    weight, step = mask.to(precise), torch.arange(time, device=x.device)
    sums = nnf.pad(torch.where(mask[:, None], x, 0.0).to(precise).cumsum(dim=2), (1, 0))
    counts = nnf.pad(weight.cumsum(dim=1), (1, 0))
    last_start = (torch.where(mask, step + 1, 0).amax(dim=1) - window).clamp(min=0)
    start = torch.minimum((step - window // 2).clamp(min=0), last_start[:, None])
    stop = (start + window).clamp(max=time)
    count = (counts.gather(1, stop) - counts.gather(1, start)).clamp(min=1)
    first, last = (at[:, None].expand(-1, x.shape[1], -1) for at in (start, stop))
    return ((sums.gather(2, last) - sums.gather(2, first)) / count[:, None]).to(x.dtype)


def masked_mean(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch channels"]:
    """Mean over the real steps; zero if there are none."""
    weight = mask[:, None].to(x.dtype)
    return (x * weight).sum(dim=2) / weight.sum(dim=2).clamp(min=1)
