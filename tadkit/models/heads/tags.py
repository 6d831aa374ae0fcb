"""Proposal-free head: every step predicts its classes and a mask over the whole action that it lies in.

After TAGS (Nag et al., Proposal-free temporal action detection with global segmentation mask learning, ECCV 2022).
Deviations: each class has its own sigmoid, since actions may overlap; masks depend on the distance and content of other
steps, not on their position in a window of fixed length, so that windows may have any length; and the boundary
refinement with masks of predicted classes (section 3.4) is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tadkit.config import TagsSettings
from tadkit.models.heads.head import (
    SAME_LENGTH_STEPS,
    Candidates,
    HeadLoss,
    HeadOf,
    PredictionDistillation,
    mean_logit,
    ranked,
    sigmoid_divergence,
    sigmoid_focal_loss,
)
from tadkit.models.heads.layers import ChannelNorm, MaskedConv1d, sinusoids, zero_padding


class MaskPredictions(NamedTuple):
    """Classes and a mask predicted for each step, both before the sigmoid.

    Attributes:
        logits: (batch, time, classes), whether a step lies in an action of a class.
        masks: (batch, time, time), for each step (second axis), which steps (last axis) its action covers.
        mask: (batch, time), True at real steps; values at the others are meaningless.
    """

    logits: Float[Tensor, "batch time classes"]
    masks: Float[Tensor, "batch time time"]
    mask: Bool[Tensor, "batch time"]


class TagsHead(HeadOf[MaskPredictions]):
    """Two convolutions, global attention, then a classifier and a mask predictor for each step.

    Args:
        settings: sizes.
        in_channels: channels of the feature track.
        num_classes: number of classes, each with its own sigmoid.
    """

    windows_apart = True

    settings: TagsSettings

    def __init__(self, settings: TagsSettings, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.in_channels, self.num_classes = in_channels, num_classes
        dim = settings.dim
        self.embedding = nn.ModuleList(
            MaskedConv1d(channels, dim, kernel=3, bias=False) for channels in (in_channels, dim)
        )
        self.embedding_norms = nn.ModuleList(ChannelNorm(dim) for _ in self.embedding)
        self.layers = nn.ModuleList(
            GlobalLayer(dim, heads=settings.attention_heads, dropout=settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, num_classes))
        self.by_distance = nn.Linear(dim, 2 * settings.reach_steps + 1)
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        prior = settings.prior_probability
        nn.init.constant_(self.classifier[-1].bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
        # Initially a mask covers a step's neighbourhood and fades with distance.
        distance = torch.arange(-settings.reach_steps, settings.reach_steps + 1).abs()
        with torch.no_grad():
            self.by_distance.bias.copy_(2 - 6 * distance / settings.reach_steps)

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> MaskPredictions:
        """Predict; memory grows with the square of ``time``, so long tracks must be cut into windows.

        Args:
            features: the track; values at masked steps are never read.
            mask: True where a step is real.
        """
        assert features.shape[1] == self.in_channels, (tuple(features.shape), self.in_channels)
        x = zero_padding(features, mask)
        for conv, norm in zip(self.embedding, self.embedding_norms, strict=True):
            x = nnf.relu(norm(conv(x, mask), mask))
        x = x.transpose(1, 2)
        x = x + sinusoids(torch.arange(x.shape[1], device=x.device, dtype=torch.float32), x.shape[2]).to(x.dtype)
        for layer in self.layers:
            x = layer(x, mask)
        x = self.norm(x)
        step, reach = torch.arange(x.shape[1], device=x.device), self.settings.reach_steps
        apart = (step - step[:, None]).clamp(-reach, reach) + reach
        masks = self.by_distance(x).gather(2, apart.expand(len(x), -1, -1))
        masks = masks + self.query(x) @ self.key(x).transpose(1, 2) / math.sqrt(x.shape[-1])
        return MaskPredictions(self.classifier(x), masks, mask)

    def loss(
        self,
        predictions: MaskPredictions,
        segments: Sequence[Float[Tensor, "actions 2"]],
        labels: Sequence[Int[Tensor, " actions"]],
        *,
        normaliser: Tensor | None = None,
    ) -> HeadLoss:
        """:func:`mask_loss` with the head's settings."""
        return mask_loss(predictions, segments, labels, settings=self.settings, normaliser=normaliser)

    def candidates(self, predictions: MaskPredictions, *, min_score: float, limit: int | None = None) -> Candidates:
        """:func:`mask_candidates` with the head's settings."""
        return mask_candidates(predictions, settings=self.settings, min_score=min_score, limit=limit)

    def distil(self, student: MaskPredictions, teacher: MaskPredictions) -> PredictionDistillation:
        """:func:`mask_distillation` with the head's settings."""
        return mask_distillation(student, teacher)

    def average(self, *predictions: MaskPredictions) -> MaskPredictions:
        """Average probabilities of each step's classes and of its mask."""
        logits, masks, mask = zip(*predictions, strict=True)
        return MaskPredictions(mean_logit(*logits), mean_logit(*masks), mask[0])

    def average_teachers(self, *teachers: MaskPredictions) -> MaskPredictions:
        """Average probabilities of each step's classes, and of its mask, weighted by foreground score."""
        logits, masks, mask = zip(*teachers, strict=True)
        scores = [nnf.logsigmoid(each).amax(dim=-1)[..., None] for each in logits]
        return MaskPredictions(mean_logit(*logits), mean_logit(*masks, log_weights=scores), mask[0])


def mask_loss(
    predictions: MaskPredictions,
    segments: Sequence[Float[Tensor, "actions 2"]],
    labels: Sequence[Int[Tensor, " actions"]],
    *,
    settings: TagsSettings,
    normaliser: Tensor | None = None,
) -> HeadLoss:
    """Loss of a batch against its ground truth (TAGS, section 3.3).

    Classification is the focal loss of all real steps. Regression, over the masks of positive steps, is cross-entropy
    in which covered and uncovered steps weigh one half each, plus the dice loss (Milletari et al., 3DV 2016).

    Args:
        predictions: predictions for the batch.
        segments: starts and ends of each track's actions, as fractional feature positions.
        labels: class of each segment, track by track.
        settings: settings of the head.
        normaliser: divisor of the sums; by default the positives of this batch, at least 1.
    """
    logits, masks, real = predictions.logits.float(), predictions.masks.float(), predictions.mask
    targets = mask_targets(real.shape[1], segments, labels, logits.shape[-1])
    classes, wanted, positive = (x.to(logits.device) for x in targets)
    positive = positive & real
    positives = positive.sum()
    over = positives.clamp(min=1) if normaliser is None else normaliser
    classification = sigmoid_focal_loss(logits[real], classes[real]).sum() / over
    reads = real[:, None].expand_as(masks)[positive]
    regression = settings.mask_weight * _mask_costs(masks[positive], wanted[positive], reads).sum() / over
    return HeadLoss(classification, regression, classification + regression, positives)


def _mask_costs(
    masks: Float[Tensor, "n time"], wanted: Float[Tensor, "n time"], reads: Bool[Tensor, "n time"]
) -> Float[Tensor, " n"]:
    """Balanced cross-entropy plus dice loss of each mask, over the steps where ``reads`` is True."""
    entropy = nnf.binary_cross_entropy_with_logits(masks, wanted, reduction="none") * reads
    covered, uncovered = wanted * reads, (1 - wanted) * reads
    balanced = [0.5 * (entropy * share).sum(dim=1) / share.sum(dim=1).clamp(min=1e-6) for share in (covered, uncovered)]
    probability = masks.sigmoid() * reads
    overlap = 2 * (probability * covered).sum(dim=1) + 1
    dice = 1 - overlap / (probability.square().sum(dim=1) + covered.square().sum(dim=1) + 1)
    return balanced[0] + balanced[1] + dice


class MaskTargets(NamedTuple):
    """Targets of each step.

    Attributes:
        classes: (batch, time, classes), 1.0 for each class of the action that a step lies in.
        masks: (batch, time, time), share of every step that this action covers; 0 for steps outside all actions.
        positive: (batch, time), True if a step lies in an action.
    """

    classes: Float[Tensor, "batch time classes"]
    masks: Float[Tensor, "batch time time"]
    positive: Bool[Tensor, "batch time"]


def mask_targets(
    time: int, segments: Sequence[Float[Tensor, "actions 2"]], labels: Sequence[Int[Tensor, " actions"]], classes: int
) -> MaskTargets:
    """Targets of a batch; where actions overlap the shortest wins, with the classes of all equally short ones.

    An action too short to contain a step's centre is assigned to the step nearest to its middle.

    Args:
        time: steps of a track.
        segments: starts and ends of each track's actions (possibly none), as fractional feature positions.
        labels: class of each segment, track by track.
        classes: number of classes.
    """
    of_videos = [
        _video_targets(time, truth.float(), label, classes) for truth, label in zip(segments, labels, strict=True)
    ]
    return MaskTargets(*(torch.stack(field) for field in zip(*of_videos, strict=True)))


def _video_targets(time: int, truth: Tensor, labels: Tensor, classes: int) -> MaskTargets:
    """Targets of one track, without the batch dimension."""
    if len(truth) == 0:
        blank = truth.new_zeros(time, classes + time)
        return MaskTargets(blank[:, :classes], blank[:, classes:], blank.new_zeros(time, dtype=torch.bool))
    step = torch.arange(time, device=truth.device)
    start, end = truth[:, 0], truth[:, 1]
    nearest = ((start + end) / 2).round().clamp(0, time - 1)
    inside = ((step[:, None] >= start) & (step[:, None] <= end)) | (step[:, None] == nearest)
    length = (end - start).expand(time, -1).masked_fill(~inside, math.inf)
    shortest, winner = length.min(dim=1)
    positive = shortest.isfinite()
    chosen = (length <= shortest[:, None] + SAME_LENGTH_STEPS) & positive[:, None]
    of_step = (chosen.float() @ nnf.one_hot(labels.long(), classes).float()).clamp(max=1)
    latest, earliest = torch.maximum(step - 0.5, start[:, None]), torch.minimum(step + 0.5, end[:, None])
    covered = (earliest - latest).clamp(min=0)
    return MaskTargets(of_step, covered[winner] * positive[:, None], positive)


def mask_candidates(
    predictions: MaskPredictions, *, settings: TagsSettings, min_score: float, limit: int | None
) -> Candidates:
    """The best candidates of one video: for each step and threshold, the segment around it where its mask exceeds it.

    Starts and ends lie where the mask crosses the threshold between two steps; the score is the class probability at
    the step times the mean of the mask over the segment. Neighbouring steps give near-duplicates, which suppression
    removes.

    Args:
        predictions: predictions for one video (batch 1).
        settings: settings of the head.
        min_score: lower-scoring candidates are dropped.
        limit: maximum number of candidates; None: all.

    Raises:
        WeightsError: a prediction is not finite.
    """
    assert len(predictions.mask) == 1, "expected predictions for one video"
    real = predictions.mask[0]
    probability = predictions.logits[0][real].double().sigmoid()
    covered = predictions.masks[0][real][:, real].double().sigmoid()
    segments = [_segments_above(covered, threshold) for threshold in settings.thresholds]
    positions, quality = (torch.cat(field) for field in zip(*segments, strict=True))
    scores = quality[:, None] * probability.repeat(len(segments), 1)
    return ranked(positions, scores, min_score=min_score, limit=limit)


def _segments_above(
    covered: Float[Tensor, "steps steps"], threshold: float
) -> tuple[Float[Tensor, "steps 2"], Float[Tensor, " steps"]]:
    """For each row, the segment around its own step above ``threshold``, and its mean; 0 if the step is below."""
    steps = len(covered)
    step = torch.arange(steps, device=covered.device)
    below = ~(covered >= threshold)
    if not steps:
        return covered.new_zeros(0, 2), covered.new_zeros(0)
    last = torch.where(below & (step <= step[:, None]), step, -1).amax(dim=1)
    first = torch.where(below & (step >= step[:, None]), step, steps).amin(dim=1)
    inside = (step > last[:, None]) & (step < first[:, None])
    mean = (covered * inside).sum(dim=1) / inside.sum(dim=1).clamp(min=1)
    padded = nnf.pad(covered, (1, 1))  # nothing outside the track is covered; step s is at index s + 1
    ends = [
        outer + (inner - outer) * _crossing(padded, outer + 1, inner + 1, threshold)
        for outer, inner in ((last, last + 1), (first, first - 1))
    ]
    own = ~below.diagonal()
    found = torch.stack(ends, dim=1).clamp(-0.5, steps - 0.5)
    return torch.where(own[:, None], found, step[:, None].to(found)), torch.where(own, mean, 0.0)


def _crossing(
    covered: Float[Tensor, "steps _"], outer: Tensor, inner: Tensor, threshold: float
) -> Float[Tensor, " steps"]:
    """Where each row crosses the threshold between two steps, as a fraction of the way from ``outer`` to ``inner``."""
    low, high = (covered.gather(1, at[:, None].clamp(0, covered.shape[1] - 1))[:, 0] for at in (outer, inner))
    return ((threshold - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)


def mask_distillation(student: MaskPredictions, teacher: MaskPredictions) -> PredictionDistillation:
    """Distance from a student's classes and masks to a teacher's, step by step (TAGS defines none; this is ours).

    Classification is KL(teacher || student) of each class's sigmoid, weighted by the larger of the two probabilities
    (without gradient). Regression is the KL of the masks, averaged over real steps and weighted by the teacher's
    foreground score, its largest class probability. Both are divided by the teacher's foreground mass, the sum of those
    scores, at least 1. The teacher gets no gradient.
    """
    real = student.mask & teacher.mask
    logits, target = student.logits[real].float(), teacher.logits[real].detach().float()
    foreground = target.sigmoid().amax(dim=-1)
    mass = foreground.sum().clamp(min=1.0)
    weight = torch.maximum(target.sigmoid(), logits.detach().sigmoid())
    classification = (weight * sigmoid_divergence(target, logits)).sum() / mass
    reads = real[:, None].expand_as(student.masks)[real]
    apart = sigmoid_divergence(teacher.masks[real].detach().float(), student.masks[real].float())
    apart = (apart * reads).sum(dim=-1) / reads.sum(dim=-1).clamp(min=1)
    return PredictionDistillation(classification, (foreground * apart).sum() / mass)


class GlobalLayer(nn.Module):
    """Pre-norm transformer layer with attention over all real steps."""

    def __init__(self, dim: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim), nn.Dropout(dropout)
        )

    def forward(
        self, x: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time dim"]:
        """Apply the layer; values at masked steps are meaningless."""
        normal = self.attention_norm(x)
        unread = ~mask & mask.any(dim=1, keepdim=True)  # without real steps attend to all, to avoid NaN
        x = x + self.attention(normal, normal, normal, key_padding_mask=unread, need_weights=False)[0]
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]
