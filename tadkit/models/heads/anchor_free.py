"""Anchor-free heads: each step of a temporal pyramid predicts classes and the distances to an action's start and end.

After ActionFormer (Zhang, Wu, Li, ECCV 2022, section 3.3). The heads differ in their pyramids and in how they locate
boundaries: :mod:`tadkit.models.heads.actionformer`, :mod:`~tadkit.models.heads.tridet`,
:mod:`~tadkit.models.heads.temporal_maxer`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tadkit.config import AnchorFreeSettings, HeadSettings, TemporalMaxerSettings, TriDetSettings
from tadkit.models.heads.head import (
    SAME_LENGTH_STEPS,
    Candidates,
    HeadLoss,
    HeadOf,
    PredictionDistillation,
    best_of,
    check_finite,
    mean_logit,
    sigmoid_divergence,
    sigmoid_focal_loss,
)
from tadkit.models.heads.layers import ChannelNorm, DenseConv1d, Unnormalised, zero_padding
from tadkit.models.heads.pyramid import Level, Pyramid

_MOMENTUM = 0.9


_TINY = 1e-8


class HeadPredictions(NamedTuple):
    """Predictions for each step, level by level, finest first.

    Attributes:
        logits: (batch, level_time, classes) per level, before the sigmoid; actions may overlap.
        offsets: (batch, level_time, ends) per level: nonnegative distances to start and end in strides of the level.
            ``ends`` is 2, or 2 * classes if each class has its own (start and end of class 0, ...).
        masks: (batch, level_time) per level, True at real steps; values at the others are meaningless.
    """

    logits: tuple[Float[Tensor, "batch _ classes"], ...]
    offsets: tuple[Float[Tensor, "batch _ ends"], ...]
    masks: tuple[Bool[Tensor, "batch _"], ...]


class AnchorFreeHead(HeadOf[HeadPredictions]):
    """Pyramid, then a classifier and a regressor shared by all levels; subclasses provide the pyramid.

    Args:
        settings: sizes and priors.
        pyramid: computes the levels, finest first.
        num_classes: number of classes, each with its own sigmoid.
        regressed: output channels of the regressor.
    """

    windows_apart = True

    def __init__(self, settings: HeadSettings, *, pyramid: Pyramid, num_classes: int, regressed: int = 2) -> None:
        super().__init__()
        assert isinstance(settings, AnchorFreeSettings)
        self.settings, self.anchor_free = settings, settings
        self.in_channels, self.num_classes = pyramid.in_channels, num_classes
        self.strides = settings.strides
        self.pyramid = pyramid
        self.classifier = Tower(settings, pyramid.out_dim, num_classes)
        self.regressor = Tower(settings, pyramid.out_dim, regressed)
        self.scales = nn.Parameter(torch.ones(settings.pyramid_levels))
        self.running = RunningPositives(settings.normaliser_start) if settings.normaliser == "running" else None
        prior = settings.prior_probability
        nn.init.constant_(self.classifier.out.conv.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
        # The paper starts at 0, where ReLU blocks the gradient of half of the steps; from 1 nearly all get one.
        nn.init.ones_(self.regressor.out.conv.bias)  # type: ignore[arg-type]

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> HeadPredictions:
        """Predict for any positive ``time``; a level of stride ``s`` has ``ceil(time / s)`` steps.

        Args:
            features: the track; values at masked steps are never read.
            mask: True where a step is real.

        Returns:
            Logits, offsets and masks of each level; with ``masked`` padding, real steps do not depend on it.
        """
        assert features.shape[1] == self.in_channels, (tuple(features.shape), self.in_channels)
        time = features.shape[-1]
        extra = self._padded_steps(time) - time
        if extra:
            features, mask = nnf.pad(zero_padding(features, mask), (0, extra)), nnf.pad(mask, (0, extra))
        levels = self.pyramid(features, mask)
        lengths = self._level_steps(time) if extra else [real.shape[1] for _, real in levels]
        return HeadPredictions(
            logits=tuple(x[:, :n] for n, x in zip(lengths, self.classifier.of_levels(levels), strict=True)),
            offsets=tuple(x[:, :n] for n, x in zip(lengths, self._offsets(levels), strict=True)),
            masks=tuple(real[:, :n] for n, (_, real) in zip(lengths, levels, strict=True)),
        )

    def _offsets(self, levels: list[Level]) -> list[Float[Tensor, "batch _ ends"]]:
        """Distances to start and end, in strides, for each level."""
        return self._regressed(levels)

    def _regressed(self, levels: list[Level]) -> list[Float[Tensor, "batch _ regressed"]]:
        """Outputs of the regressor for each level, scaled, then ReLU."""
        outputs = self.regressor.of_levels(levels)
        return [nnf.relu(x * scale) for x, scale in zip(outputs, self.scales.unbind(), strict=True)]

    def _padded_steps(self, time: int) -> int:
        """Length to which a track of ``time`` steps is zero-padded."""
        least = self.anchor_free.pad_to_steps
        if least == 0 or time <= least:
            return max(time, least)
        multiple = self._padding_multiple()
        return -(-time // multiple) * multiple

    def _padding_multiple(self) -> int:
        """Tracks longer than ``pad_to_steps`` are padded to a multiple of this."""
        return self.strides[-1]

    def _level_steps(self, time: int) -> list[int]:
        """With padding, the steps of each level that are not computed from padding alone."""
        return [-(-time // stride) for stride in self.strides]

    def loss(
        self,
        predictions: HeadPredictions,
        segments: Sequence[Float[Tensor, "actions 2"]],
        labels: Sequence[Int[Tensor, " actions"]],
        *,
        normaliser: Tensor | None = None,
    ) -> HeadLoss:
        """:func:`anchor_free_loss` with the head's settings."""
        return anchor_free_loss(
            predictions,
            segments,
            labels,
            settings=self.anchor_free,
            strides=self.strides,
            normaliser=self.running if normaliser is None else normaliser,
        )

    def candidates(self, predictions: HeadPredictions, *, min_score: float, limit: int | None = None) -> Candidates:
        """:func:`anchor_free_candidates` with the head's settings."""
        return anchor_free_candidates(predictions, strides=self.strides, min_score=min_score, limit=limit)

    def distil(self, student: HeadPredictions, teacher: HeadPredictions) -> PredictionDistillation:
        """:func:`anchor_free_distillation` with the head's settings."""
        return anchor_free_distillation(student, teacher)

    def average(self, *predictions: HeadPredictions) -> HeadPredictions:
        """Average probabilities and distances of each step."""
        logits, offsets, masks = zip(*predictions, strict=True)
        return HeadPredictions(
            logits=tuple(map(mean_logit, *logits)),
            offsets=tuple(sum(level) / len(level) for level in zip(*offsets, strict=True)),
            masks=masks[0],
        )

    def average_teachers(self, *teachers: HeadPredictions) -> HeadPredictions:
        """:func:`average_of_teachers`."""
        return average_of_teachers(teachers)


def average_of_teachers(teachers: Sequence[HeadPredictions]) -> HeadPredictions:
    """The average probabilities of each step, and its average distances, weighted by foreground score.

    The weight is that of :func:`anchor_free_distillation`: a teacher's largest class probability at the step, or with
    distances for each class the probability of that class. So a teacher that sees no action at a step, whose distances
    were never trained there, does not move the boundaries of one that does.
    """
    logits, offsets, masks = zip(*teachers, strict=True)
    return HeadPredictions(
        logits=tuple(map(mean_logit, *logits)),
        offsets=tuple(
            _weighted_mean(*level) for level in zip(zip(*logits, strict=True), zip(*offsets, strict=True), strict=True)
        ),
        masks=masks[0],
    )


def _weighted_mean(logits: Sequence[Tensor], offsets: Sequence[Tensor]) -> Tensor:
    """Mean of the distances of one level (batch, time, 2 or classes * 2), by the teachers' scores."""
    scores, apart = nnf.logsigmoid(torch.stack(tuple(logits))), torch.stack(tuple(offsets))
    apart = apart.reshape(*apart.shape[:-1], -1, 2)
    weights = (scores if apart.shape[-2] > 1 else scores.amax(dim=-1, keepdim=True)).softmax(dim=0)
    mean: Tensor = (weights[..., None] * apart).sum(dim=0).flatten(-2)
    return mean


def anchor_free_loss(
    predictions: HeadPredictions,
    segments: Sequence[Float[Tensor, "actions 2"]],
    labels: Sequence[Int[Tensor, " actions"]],
    *,
    settings: AnchorFreeSettings,
    strides: Sequence[int],
    normaliser: Tensor | RunningPositives | None = None,
) -> HeadLoss:
    """Loss of a batch against its ground truth: focal loss of the classes, distance-IoU loss of the segments.

    Args:
        predictions: predictions for the batch.
        segments: starts and ends of each track's actions, as fractional feature positions.
        labels: class of each segment, track by track.
        settings: settings of the head.
        strides: strides of the levels.
        normaliser: divisor of the sums: a number, or a running mean to update; by default the batch's positives.
    """
    logits, offsets, real = (torch.cat(field, dim=1) for field in predictions)
    logits, offsets = logits.float(), offsets.float()  # sums over thousands of points overflow half precision
    lengths = [level.shape[1] for level in predictions.logits]
    targets = assign_targets(lengths, strides, segments, labels, settings, logits.shape[-1])
    if isinstance(settings, TemporalMaxerSettings) and settings.regress_to == "cheapest":
        cheapest = cheapest_offsets(lengths, strides, segments, labels, settings, logits.detach(), offsets.detach())
        targets = targets._replace(offsets=cheapest)
    classes, target_offsets, positive = (x.to(logits.device) for x in targets)
    positive = positive & real
    positives = positive.sum()
    over = _divisor(normaliser, positives)
    point, label = classes[positive].nonzero().unbind(dim=1)
    own = offsets[positive].reshape(-1, offsets.shape[2] // 2, 2)  # (points, 1 or classes, 2)
    chosen = own[point, label] if own.shape[1] > 1 else own[:, 0]
    wanted = target_offsets[positive][point] if own.shape[1] > 1 else target_offsets[positive]
    entries = sigmoid_focal_loss(logits, smoothed(classes, settings.label_smoothing))
    if isinstance(settings, TriDetSettings) and settings.bins and settings.iou_power > 0:
        entries = _weighted_by_iou(entries, classes, positive, iou_1d(chosen, wanted) ** settings.iou_power)
    classification = entries[real].sum() / over
    regression = diou_loss_1d(chosen, wanted).sum() / over
    return HeadLoss(classification, regression, _total(classification, regression, settings), positives)


def _divisor(normaliser: Tensor | RunningPositives | None, positives: Tensor) -> Tensor:
    if isinstance(normaliser, RunningPositives):
        mean: Tensor = normaliser(positives)
        return mean
    return positives.clamp(min=1) if normaliser is None else normaliser


def _total(classification: Tensor, regression: Tensor, settings: AnchorFreeSettings) -> Tensor:
    """Weighted sum; a regression weight of 0 balances both terms, which is ActionFormer's automatic weight."""
    weight: Tensor | float = settings.regression_weight
    if weight == 0:
        weight = classification.detach() / regression.detach().clamp(min=0.01)
    return classification + weight * regression


def smoothed(classes: Float[Tensor, "*batch classes"], smoothing: float) -> Float[Tensor, "*batch classes"]:
    """Targets of which a share of ``smoothing`` is spread over all classes and background."""
    return classes * (1 - smoothing) + smoothing / (classes.shape[-1] + 1) if smoothing else classes


def _weighted_by_iou(entries: Tensor, classes: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """Focal losses, with those of the positives' target classes multiplied by ``weights``, in that order.

    The gradient flows through the weights too (TriDet, section 3.4, as in its authors' code).
    """
    factor = torch.ones_like(entries)
    factor[(classes > 0) & positive[..., None]] = weights
    return entries * factor


def iou_1d(predicted: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """IoU of segments given as distances to start and end from one point; at least 1e-6, to keep powers smooth."""
    return _iou_around(predicted, target).clamp(min=1e-6)


def _iou_around(predicted: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """IoU of segments around one point, from their distances to start and end alone."""
    intersection = torch.minimum(predicted, target).sum(dim=-1)
    union = predicted.sum(dim=-1) + target.sum(dim=-1) - intersection
    return intersection / union.clamp(min=_TINY)


def diou_loss_1d(predicted: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """Distance-IoU loss (Zheng et al., AAAI 2020) of segments given as distances to start and end from one point.

    Distances must not be negative. For segments of zero length the loss and its gradient are finite.
    """
    iou = _iou_around(predicted, target)  # first: the order of these terms decides how their gradients are rounded
    hull = torch.maximum(predicted, target).sum(dim=-1)
    centres_apart = 0.5 * ((predicted[:, 1] - predicted[:, 0]) - (target[:, 1] - target[:, 0]))
    return 1 - iou + (centres_apart / hull.clamp(min=_TINY)) ** 2


class Targets(NamedTuple):
    """Targets of each point; the points are the steps of all levels, one level after the other, finest first.

    Attributes:
        classes: (batch, points, classes), 1.0 for each class assigned to the point.
        offsets: (batch, points, 2), distances to start and end in strides of the point's level; 0 at negative points.
        positive: (batch, points), True if an action is assigned to the point.
    """

    classes: Float[Tensor, "batch points classes"]
    offsets: Float[Tensor, "batch points 2"]
    positive: Bool[Tensor, "batch points"]


def assign_targets(
    lengths: Sequence[int],
    strides: Sequence[int],
    segments: Sequence[Float[Tensor, "actions 2"]],
    labels: Sequence[Int[Tensor, " actions"]],
    settings: AnchorFreeSettings,
    num_classes: int,
) -> Targets:
    """Targets of a batch by centre sampling and regression ranges.

    A point is positive for an action if it lies strictly inside it, within ``centre_radius`` strides of its centre
    (anywhere inside if that is 0), and if its distance to the farther boundary is in its level's range (half open, so
    that exactly one level matches; the paper's closed range is a setting). Where actions overlap the shortest wins,
    with the classes of all that are as short to within 1e-3 steps.

    Args:
        lengths: steps of each level.
        strides: stride of each level in feature steps.
        segments: starts and ends of each track's actions (possibly none), as fractional feature positions.
        labels: class of each segment, track by track.
        settings: ranges and radius.
        num_classes: number of classes.

    Returns:
        Targets on the device of the segments, for masked points too, which the caller must ignore.
    """
    device = segments[0].device if segments else torch.device("cpu")
    points = points_of(lengths, strides, regression_ranges(settings), device)
    assigned = [
        _assign_one(points, ends.to(torch.float32), label, settings, num_classes)
        for ends, label in zip(segments, labels, strict=True)
    ]
    return Targets(*(torch.stack(field) for field in zip(*assigned, strict=True)))


def regression_ranges(settings: AnchorFreeSettings) -> tuple[tuple[float, float], ...]:
    """Half-open range of the distance to the farther boundary, in feature steps, for each level."""
    if settings.ranges_steps:
        return settings.ranges_steps
    bounds = [0.0, *(settings.first_range_steps * stride for stride in settings.strides[:-1]), math.inf]
    return tuple(itertools.pairwise(bounds))


class Points(NamedTuple):
    """Position in feature steps, stride, and half-open range of regressed distances, for each point."""

    position: Float[Tensor, " points"]
    stride: Float[Tensor, " points"]
    shortest: Float[Tensor, " points"]
    longest: Float[Tensor, " points"]


def points_of(
    lengths: Sequence[int], strides: Sequence[int], ranges: Sequence[tuple[float, float]], device: torch.device
) -> Points:
    """The points of all levels, one level after the other."""
    counts = torch.tensor(list(lengths))
    position = torch.cat([torch.arange(length) * stride for length, stride in zip(lengths, strides, strict=True)])
    rows = torch.tensor([(stride, *bounds) for stride, bounds in zip(strides, ranges, strict=True)])
    columns = (position, *rows.repeat_interleave(counts, dim=0).unbind(dim=1))
    return Points(*(column.to(device=device, dtype=torch.float32) for column in columns))


def _assign_one(
    points: Points, segments: Tensor, labels: Tensor, settings: AnchorFreeSettings, num_classes: int
) -> Targets:
    """Targets of one track, without the batch dimension."""
    count = len(points.position)
    if len(segments) == 0:
        blank = segments.new_zeros((count, num_classes + 2))
        return Targets(blank[:, 2:], blank[:, :2], blank.new_zeros(count, dtype=torch.bool))
    position, start, end = points.position[:, None], segments[:, 0], segments[:, 1]  # (points, 1), (actions,)
    to_ends = torch.stack((position - start, end - position), dim=-1)  # (points, actions, 2)
    inside = to_ends.amin(dim=-1) > 0
    reach = settings.centre_radius * points.stride[:, None] if settings.centre_radius > 0 else math.inf
    central = (position - (start + end) / 2).abs() < reach
    farther, longest = to_ends.amax(dim=-1), points.longest[:, None]
    in_range = (farther >= points.shortest[:, None]) & (farther < longest)
    if settings.closed_ranges:
        in_range |= farther == longest
    length = (end - start).expand(count, -1).masked_fill(~(inside & central & in_range), math.inf)
    shortest, winner = length.min(dim=1)
    positive = shortest.isfinite()
    chosen = (length <= shortest[:, None] + SAME_LENGTH_STEPS) & positive[:, None]
    one_hot = nnf.one_hot(labels.long(), num_classes).to(segments.dtype)
    offsets = to_ends[torch.arange(count, device=winner.device), winner] / points.stride[:, None]
    return Targets((chosen.to(segments.dtype) @ one_hot).clamp(max=1.0), offsets * positive[:, None], positive)


@torch.no_grad()
def cheapest_offsets(
    lengths: Sequence[int],
    strides: Sequence[int],
    segments: Sequence[Float[Tensor, "actions 2"]],
    labels: Sequence[Int[Tensor, " actions"]],
    settings: AnchorFreeSettings,
    logits: Float[Tensor, "batch points classes"],
    offsets: Float[Tensor, "batch points 2"],
) -> Float[Tensor, "batch points 2"]:
    """Distances in strides to the start and end of the action around each point with the lowest prediction cost.

    The cost is that of SimOTA (Ge et al., 2021): focal loss against the action's class plus twice the distance-IoU
    loss. OpenTAD's training of TemporalMaxer resolves overlapping actions this way; class targets are not affected.
    """
    points = points_of(lengths, strides, regression_ranges(settings), logits.device)
    chosen = []
    for given, label, scores, reach in zip(segments, labels, logits, offsets, strict=True):
        if len(given) == 0:
            chosen.append(torch.zeros_like(reach))
            continue
        ends = given.to(logits)
        to_ends = torch.stack((points.position[:, None] - ends[:, 0], ends[:, 1] - points.position[:, None]), dim=-1)
        to_ends = to_ends / points.stride[:, None, None]  # (points, actions, 2)
        outside = (to_ends < 0).any(dim=-1)
        one_hot = nnf.one_hot(label.long(), scores.shape[-1]).to(scores)
        shape = (*outside.shape, scores.shape[-1])
        cost = sigmoid_focal_loss(scores[:, None].expand(shape), one_hot.expand(shape)).sum(dim=-1)
        apart = diou_loss_1d(reach[:, None].expand_as(to_ends).flatten(0, 1), to_ends.flatten(0, 1))
        winner = (cost + 2 * apart.view_as(cost)).masked_fill(outside, math.inf).argmin(dim=1)
        chosen.append(to_ends[torch.arange(len(winner), device=winner.device), winner])
    return torch.stack(chosen)


def anchor_free_candidates(
    predictions: HeadPredictions, *, strides: Sequence[int], min_score: float, limit: int | None
) -> Candidates:
    """The best candidates of one video.

    Args:
        predictions: predictions for one video (batch 1).
        strides: strides of the levels; step ``j`` of a level is at position ``j * stride``.
        min_score: lower-scoring candidates are dropped.
        limit: maximum number of candidates; None: all.

    Raises:
        WeightsError: a prediction is not finite.
    """
    assert all(len(mask) == 1 for mask in predictions.masks), "expected predictions for one video"
    logits, offsets, real = (torch.cat(field, dim=1)[0].detach().cpu() for field in predictions)
    points = np.concatenate(
        [np.arange(mask.shape[1]) * stride for mask, stride in zip(predictions.masks, strides, strict=True)]
    )[real.numpy()]
    stride = np.repeat(np.asarray(strides), [mask.shape[1] for mask in predictions.masks])[real.numpy()]
    probabilities = logits[real].double().sigmoid().numpy()
    reach = offsets[real].double().numpy() * stride[:, None]  # (points, 2), or (points, 2 * classes)
    check_finite(probabilities, reach)
    point, label = best_of(probabilities, min_score=min_score, limit=limit)
    own = reach.reshape(len(reach), -1, 2)
    ends = own[point, label if own.shape[1] > 1 else 0]
    positions = np.stack((points[point] - ends[:, 0], points[point] + ends[:, 1]), axis=1)
    return Candidates(positions.astype(np.float64), probabilities[point, label], label)


def anchor_free_distillation(student: HeadPredictions, teacher: HeadPredictions) -> PredictionDistillation:
    """Distance of predictions (D_pred in docs/method.md, section 2, which leaves its form open; this is ours).

    Classification is KL(teacher || student) of each class's sigmoid, weighted by the larger of the two probabilities
    (without gradient), so that thousands of points that both classify as background do not outweigh the actions, while
    actions that only one of them predicts count in full. Regression is smooth L1 between the offsets, in strides,
    weighted by the teacher's foreground score, its largest class probability. Both are summed over the points that are
    real in both and divided by the teacher's foreground mass, the sum of those scores, at least 1. The teacher gets no
    gradient. If each class has its own offsets, they are weighted by the teacher's probability of that class.
    """
    real = torch.cat(student.masks, dim=1) & torch.cat(teacher.masks, dim=1)
    logits, offsets = (torch.cat(field, dim=1)[real].float() for field in student[:2])
    teacher_logits, teacher_offsets = (torch.cat(field, dim=1)[real].detach().float() for field in teacher[:2])
    probability = teacher_logits.sigmoid()
    foreground = probability.amax(dim=-1)
    mass = foreground.sum().clamp(min=1.0)
    divergence = sigmoid_divergence(teacher_logits, logits)
    weight = torch.maximum(probability, logits.detach().sigmoid())
    apart = nnf.smooth_l1_loss(offsets, teacher_offsets, reduction="none")
    apart = apart.reshape(len(apart), -1, 2).sum(dim=-1)
    wanted = probability if apart.shape[-1] > 1 else foreground[..., None]
    return PredictionDistillation((weight * divergence).sum() / mass, (wanted * apart).sum() / mass)


class Tower(nn.Module):
    """Convolutions over time with LayerNorm, unless turned off, and ReLU between them, shared by all levels."""

    def __init__(
        self, settings: AnchorFreeSettings, in_channels: int, out_channels: int, *, kernel: int | None = None
    ) -> None:
        super().__init__()
        dim, size = settings.head_dim or in_channels, kernel or settings.head_kernel
        widths = [in_channels] + [dim] * (settings.head_layers - 1)
        normed = settings.head_norm
        self.hidden = nn.ModuleList(DenseConv1d(width, dim, kernel=size, bias=not normed) for width in widths[:-1])
        self.norms = nn.ModuleList(
            ChannelNorm(dim, eps=settings.norm_eps, masked=settings.padding != "leaky") if normed else Unnormalised()
            for _ in self.hidden
        )
        self.out = DenseConv1d(widths[-1], out_channels, kernel=size)
        self.masks_out = settings.padding != "opentad"
        self.zero_between = not normed or settings.padding != "leaky"
        self.wing = size // 2

    def of_levels(self, levels: list[Level]) -> list[Float[Tensor, "batch _ out_channels"]]:
        """Outputs of each level. In training all levels are one track, which on a CPU takes a third of the time.

        In use the levels of a long video are too large for a copy to pay.
        """
        if not (self.training and self.zero_between):
            return [self(x, mask) for x, mask in levels]
        track, mask = _side_by_side(levels, gap=self.wing)
        sizes = [steps for x, _ in levels for steps in (x.shape[2], self.wing)]
        return list(self(track, mask).split(sizes, dim=1)[::2])

    def forward(
        self, x: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time out_channels"]:
        """Outputs with channels last; zero at masked steps unless padding is OpenTAD's."""
        for conv, norm in zip(self.hidden, self.norms, strict=True):
            x = nnf.relu(norm(conv(x, mask), mask))
        out: Tensor = self.out(x, mask) if self.masks_out else self.out.unmasked(x)
        return out.transpose(1, 2)


def _side_by_side(levels: list[Level], *, gap: int) -> Level:
    """Levels as one track, each followed by ``gap`` masked steps: its convolutions see zeros there, as at its ends."""
    first, real = levels[0]
    zeros, padding = first.new_zeros(len(first), gap, first.shape[1]), real.new_zeros(len(real), gap)
    steps = torch.cat([part for x, _ in levels for part in (x.transpose(1, 2), zeros)], dim=1)
    masks = torch.cat([part for _, mask in levels for part in (mask, padding)], dim=1)
    return steps.transpose(1, 2), masks


class RunningPositives(nn.Module):
    """Running mean of the positives per batch, by which losses are divided; updated in training mode only."""

    mean: Tensor

    def __init__(self, start: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(start)))

    @torch.no_grad()
    def forward(self, positives: Tensor) -> Float[Tensor, ""]:
        """The mean, updated with this batch."""
        if self.training:
            self.mean.mul_(_MOMENTUM).add_((1 - _MOMENTUM) * positives.clamp(min=1))
        return self.mean.clone()
