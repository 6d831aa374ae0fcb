"""Fusions of motion and appearance, and the joint head on top.

Source: Lee et al., *Decomposed Cross-modal Distillation for RGB-based Temporal Action Detection*, CVPR 2023, local
attentive fusion. A re-implementation from the published text; comments mark the choices that it leaves open. The other
kinds are what it is compared with; their definitions are ours.

Every fusion takes ``(motion, appearance, mask)``, and padding affects neither its means nor its output. What it finds
at a step depends on at most ``context_steps`` on either side: means and attention are over a window of the length that
the joint head was trained with, on tracks of any length (:func:`window_around`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, assert_never

import torch
import torch.nn.functional as nnf
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tadkit.config import FusionSettings, HeadSettings
from tadkit.models.heads import Candidates, Head, HeadLoss, PredictionDistillation, Predictions, build_head
from tadkit.models.heads.head import HeadOf


class Fusion(nn.Module, ABC):
    """Joins the branches' features into the track that the joint head reads.

    Attributes:
        out_channels: channels of that track.
        context_steps: steps on either side that a step of it depends on; None if on all.
    """

    out_channels: int
    context_steps: int | None = 0

    @abstractmethod
    def forward(
        self,
        motion: Float[Tensor, "batch channels time"],
        appearance: Float[Tensor, "batch channels time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch out_channels time"]:
        """Fuse; the output is zero at padding."""


class ConcatFusion(Fusion):
    """Motion and appearance concatenated along channels, without weights."""

    def __init__(self, *, channels: int) -> None:
        """``channels`` is the width of either branch, the output has twice as many."""
        super().__init__()
        self.out_channels = 2 * channels

    def forward(
        self,
        motion: Float[Tensor, "batch channels time"],
        appearance: Float[Tensor, "batch channels time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch twice_channels time"]:
        """Motion first."""
        return torch.cat([motion, appearance], dim=1) * mask[:, None]


class SumFusion(Fusion):
    """Motion plus appearance: the joint head is as narrow as one on a single branch."""

    def __init__(self, *, channels: int) -> None:
        """``channels`` is the width of either branch and of the output."""
        super().__init__()
        self.out_channels = channels

    def forward(
        self,
        motion: Float[Tensor, "batch channels time"],
        appearance: Float[Tensor, "batch channels time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch channels time"]:
        """Sum of each step."""
        return (motion + appearance) * mask[:, None]


class AttentiveGate(nn.Module):
    """One direction: keys weight the channels of the target, step by step."""

    def __init__(self, channels: int) -> None:
        """Queries and keys have the target's width, because their product weights its channels."""
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key = nn.Conv1d(channels, channels, 1)

    def forward(
        self,
        mean: Float[Tensor, "batch channels time_or_1"],
        keyed: Float[Tensor, "batch channels time_or_1"],
    ) -> Float[Tensor, "batch channels time_or_1"]:
        """Weights between 0 and 1, from the target's average around each step and from what the keys are made of."""
        query = self.query(mean.transpose(1, 2)).transpose(1, 2)
        return torch.sigmoid(query * self.key(keyed))


class LocalAttentiveFusion(Fusion):
    """Each branch multiplied by weights of its channels, then both concatenated, motion first.

        w_t   = sigmoid(W_q · mean of the target around t ⊙ W_k · reference_t)     no softmax; no two steps are mixed
        out_t = w_t ⊙ target_t, or (1 + w_t) ⊙ target_t with ``residual``

    Each direction has its own parameters. Steps meet only in the mean over the ``window_steps`` around each step
    (:func:`running_mean`).
    """

    own_keys = False
    """Keys are made of the target instead of the reference."""
    pooled_keys = False
    """Keys are made of means around each step instead of the steps."""

    def __init__(self, settings: FusionSettings, *, channels: int, window_steps: int | None = None) -> None:
        """``channels`` is the width of either branch, the output has twice as many; no ``window_steps``: one mean."""
        super().__init__()
        self.targets, self.residual = targets_of(settings), settings.residual
        self.context_steps = window_steps
        self.out_channels = 2 * channels
        self.gates = nn.ModuleList(AttentiveGate(channels) for _ in self.targets)

    def forward(
        self,
        motion: Float[Tensor, "batch channels time"],
        appearance: Float[Tensor, "batch channels time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch twice_channels time"]:
        """Gate the targets; with one direction the other branch passes unchanged."""
        branches = (motion, appearance)
        # The text leaves the pooling A open; ours is the mean over the real steps around each step.
        means = [running_mean(x, mask, self.context_steps) for x in branches]
        keyed, out = means if self.pooled_keys else branches, list(branches)
        for gate, target in zip(self.gates, self.targets, strict=True):
            weights = gate(means[target], keyed[target if self.own_keys else 1 - target])
            out[target] = (1 + weights if self.residual else weights) * branches[target]
        return torch.cat(out, dim=1) * mask[:, None]


class SelfGatingFusion(LocalAttentiveFusion):
    """Query and key of one branch: the branches meet only in the joint head."""

    own_keys = True


class GlobalGatingFusion(LocalAttentiveFusion):
    """Keys are pooled over time like queries: one weight of each channel for a whole training window."""

    pooled_keys = True


class CrossAttention(nn.Module):
    """One direction: every step of the target attends to the reference's steps in the window around it.

        out_t = target_t + W_o · Σ_s softmax_s(W_q target_t · W_k reference_s / √d) W_v reference_s      in each head

    As in Vaswani et al., NeurIPS 2017, without norms and without positions.
    """

    def __init__(self, channels: int, *, heads: int, window_steps: int | None) -> None:
        """``heads`` of ``channels // heads`` each; no ``window_steps``: over the whole track."""
        super().__init__()
        self.heads, self.window_steps = heads, window_steps
        self.query = nn.Conv1d(channels, channels, 1)
        self.key = nn.Conv1d(channels, channels, 1)
        self.value = nn.Conv1d(channels, channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(
        self,
        target: Float[Tensor, "batch channels time"],
        reference: Float[Tensor, "batch channels time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch channels time"]:
        """Memory and time grow linearly with the track, because queries are computed a window at a time."""
        target, reference = (torch.where(mask[:, None], x, 0.0) for x in (target, reference))
        query, key, value = (
            rearrange(part, "b (h d) t -> b h t d", h=self.heads)
            for part in (self.query(target), self.key(reference), self.value(reference))
        )
        time = target.shape[2]
        start, stop = window_around(mask, self.window_steps or time)
        parts = []
        for first in range(0, time, self.window_steps or time):
            rows = slice(first, first + (self.window_steps or time))
            low, high = int(start[:, rows].min()), int(stop[:, rows].max())
            step = torch.arange(low, high, device=mask.device)
            read = (step >= start[:, rows, None]) & (step < stop[:, rows, None]) & mask[:, None, low:high]
            read = read | ~read.any(dim=2, keepdim=True)  # a softmax over nothing is NaN; such rows are all padding
            parts.append(
                nnf.scaled_dot_product_attention(
                    query[:, :, rows], key[:, :, low:high], value[:, :, low:high], attn_mask=read[:, None]
                )
            )
        attended: Tensor = self.out(rearrange(torch.cat(parts, dim=2), "b h t d -> b (h d) t"))
        return target + attended


class CrossAttentionFusion(Fusion):
    """Each branch attends to the other's steps, then both are concatenated: it mixes steps, unlike the paper's."""

    def __init__(self, settings: FusionSettings, *, channels: int, window_steps: int | None = None) -> None:
        """``channels`` is the width of either branch, the output has twice as many; no ``window_steps``: all steps."""
        super().__init__()
        assert channels % settings.attention_heads == 0, (channels, settings.attention_heads)
        self.targets, self.context_steps, self.out_channels = targets_of(settings), window_steps, 2 * channels
        self.attentions = nn.ModuleList(
            CrossAttention(channels, heads=settings.attention_heads, window_steps=window_steps) for _ in self.targets
        )

    def forward(
        self,
        motion: Float[Tensor, "batch channels time"],
        appearance: Float[Tensor, "batch channels time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch twice_channels time"]:
        """Let the targets attend; the other branch passes unchanged."""
        branches = (motion, appearance)
        out = list(branches)
        for attention, target in zip(self.attentions, self.targets, strict=True):
            out[target] = attention(branches[target], branches[1 - target], mask)
        return torch.cat(out, dim=1) * mask[:, None]


def targets_of(settings: FusionSettings) -> tuple[int, ...]:
    """Branches that ``directions`` names: 0 motion, 1 appearance."""
    return {"both": (0, 1), "motion": (0,), "appearance": (1,)}[settings.directions]


def build_fusion(settings: FusionSettings, *, channels: int, window_steps: int | None = None) -> Fusion:
    """The fusion for ``settings``, with initial weights.

    Args:
        settings: kind and its options.
        channels: width of either branch.
        window_steps: steps over which it averages or attends, those of a training window; None: the whole track.
    """
    match settings.kind:
        case "local-attentive":
            return LocalAttentiveFusion(settings, channels=channels, window_steps=window_steps)
        case "self-gating":
            return SelfGatingFusion(settings, channels=channels, window_steps=window_steps)
        case "global-gating":
            return GlobalGatingFusion(settings, channels=channels, window_steps=window_steps)
        case "cross-attention":
            return CrossAttentionFusion(settings, channels=channels, window_steps=window_steps)
        case "concat" | "late":  # the late head takes the branches apart again
            return ConcatFusion(channels=channels)
        case "sum":
            return SumFusion(channels=channels)
        case kind:
            assert_never(kind)


class LatePredictions(NamedTuple):
    """Predictions of the head of each branch."""

    motion: Predictions
    appearance: Predictions


class LateHead(HeadOf[LatePredictions]):
    """Late fusion: a head for each branch, and the average of their predictions.

    As in two-stream nets (Simonyan and Zisserman, NeurIPS 2014) each head is trained on the ground truth by itself, and
    only its predictions are averaged (:meth:`tadkit.models.heads.head.HeadOf.average`).
    """

    def __init__(self, motion: Head, appearance: Head) -> None:
        """Two heads of the same settings, each for half of the channels, motion first."""
        super().__init__()
        self.settings, self.num_classes = motion.settings, motion.num_classes
        self.in_channels = motion.in_channels + appearance.in_channels
        self.branches = nn.ModuleList((motion, appearance))

    @property
    def first(self) -> Head:
        """The head of the motion branch, whose sizes are those of both."""
        head: Head = self.branches[0]  # type: ignore[assignment]
        return head

    @property
    def halo_steps(self) -> int | None:
        """Those of both heads."""
        return self.first.halo_steps

    @property
    def window_steps(self) -> int | None:
        """The longer of both: heads that were trained on windows of different lengths run in windows of their own."""
        second: Head = self.branches[1]  # type: ignore[assignment]
        own, other = self.first.window_steps, second.window_steps
        return None if own is None or other is None else max(own, other)

    def parts(self, features: Float[Tensor, "batch in_channels time"]) -> list[tuple[Head, Tensor]]:
        """Each head with its half of the channels."""
        halves = torch.split(features, self.first.in_channels, dim=1)
        return list(zip(self.branches, halves, strict=True))  # type: ignore[arg-type]

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> LatePredictions:
        """Predictions of both heads."""
        return LatePredictions(*(head(part, mask) for head, part in self.parts(features)))

    def loss(
        self,
        predictions: LatePredictions,
        segments: Sequence[Float[Tensor, "actions 2"]],
        labels: Sequence[Int[Tensor, " actions"]],
        *,
        normaliser: Tensor | None = None,
    ) -> HeadLoss:
        """Mean of the losses of both heads."""
        losses = [
            head.loss(own, segments, labels, normaliser=normaliser)  # type: ignore[operator]
            for head, own in zip(self.branches, predictions, strict=True)
        ]
        classification, regression, total = (torch.stack([loss[n] for loss in losses]).mean() for n in range(3))
        return HeadLoss(classification, regression, total, losses[0].positives)

    def candidates(self, predictions: LatePredictions, *, min_score: float, limit: int | None = None) -> Candidates:
        """Those of the average of both predictions."""
        return self.first.candidates(self.first.average(*predictions), min_score=min_score, limit=limit)

    def average(self, *predictions: LatePredictions) -> LatePredictions:
        """Average of each head's."""
        return LatePredictions(*(self.first.average(*own) for own in zip(*predictions, strict=True)))

    def distil(self, student: LatePredictions, teacher: LatePredictions) -> PredictionDistillation:
        """Mean of the distances of both heads."""
        distances = [
            head.distil(*own)  # type: ignore[operator]
            for head, *own in zip(self.branches, student, teacher, strict=True)
        ]
        return PredictionDistillation(*(torch.stack(terms).mean() for terms in zip(*distances, strict=True)))


class JointHead(nn.Module):
    """A fusion and the joint head J on branch features."""

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
        self.fusion = build_fusion(fusion, channels=dim, window_steps=trained_steps) if two_branches else None
        sizes: dict[str, Any] = {"num_classes": num_classes, "trained_steps": trained_steps}
        self.head: Head
        if self.fusion is not None and fusion.kind == "late":
            self.head = LateHead(*(build_head(head, in_channels=dim, **sizes) for _ in range(2)))
        else:
            self.head = build_head(head, in_channels=dim if self.fusion is None else self.fusion.out_channels, **sizes)

    @property
    def context_steps(self) -> int | None:
        """Steps on either side that what it finds at a step depends on, on a track of any length; None if on all."""
        pooled = 0 if self.fusion is None else self.fusion.context_steps
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

    def distil(self, predictions: Predictions, teacher: Predictions) -> PredictionDistillation:
        """Distance from the predictions of a teacher with the same kind of head; of a late head, of both its heads."""
        late = isinstance(self.head, LateHead)
        distance: PredictionDistillation = self.head.distil(
            predictions, LatePredictions(teacher, teacher) if late else teacher
        )
        return distance


def window_around(
    mask: Bool[Tensor, "batch time"], window: int
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
    """First step and, excluded, last of the ``window`` steps around each step.

    Near the ends of the track the window is moved inside, so that every step has as many around it as in training. In a
    track no longer than the window, such as a training window, it is the whole track.
    """
    step = torch.arange(mask.shape[1], device=mask.device)
    last_start = (torch.where(mask, step + 1, 0).amax(dim=1) - window).clamp(min=0)
    start = torch.minimum((step - window // 2).clamp(min=0), last_start[:, None])
    return start, (start + window).clamp(max=mask.shape[1])


def running_mean(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"], window: int | None
) -> Float[Tensor, "batch channels time_or_1"]:
    """Mean over the real steps of the ``window`` steps around each step (:func:`window_around`).

    A track no longer than the window, such as a training window, has one mean, over all its steps.
    """
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if window is None or (x.shape[2] <= window and not traced):  # a traced graph takes any length
        return masked_mean(x, mask)[:, :, None]
    # Sums over hours: float32 would lose what a window adds.
    precise = torch.float32 if x.device.type == "mps" else torch.float64
    sums = nnf.pad(torch.where(mask[:, None], x, 0.0).to(precise).cumsum(dim=2), (1, 0))
    counts = nnf.pad(mask.to(precise).cumsum(dim=1), (1, 0))
    start, stop = window_around(mask, window)
    count = (counts.gather(1, stop) - counts.gather(1, start)).clamp(min=1)
    first, last = (at[:, None].expand(-1, x.shape[1], -1) for at in (start, stop))
    return ((sums.gather(2, last) - sums.gather(2, first)) / count[:, None]).to(x.dtype)


def masked_mean(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch channels"]:
    """Mean over the real steps; zero if there are none."""
    weight = mask[:, None].to(x.dtype)
    return (x * weight).sum(dim=2) / weight.sum(dim=2).clamp(min=1)
