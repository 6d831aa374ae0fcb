"""Losses of a boundary-matching head, from ground truth and from a teacher's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tadkit.config import BmnSettings
from tadkit.models.heads.bmn import BoundaryPredictions
from tadkit.models.heads.bmn_layers import valid_proposals
from tadkit.models.heads.head import HeadLoss, PredictionDistillation
from tadkit.models.heads.losses import sigmoid_focal_loss
from tadkit.models.heads.matching import pairwise_iou

EDGE_COVERED, GOOD_IOU, NAMED_IOU = 0.5, 0.9, 0.5
"""A step is a boundary if more than this of it is covered; a proposal is good, or named, from these overlaps."""
HIGH_IOU, LOW_IOU = 0.7, 0.3
"""Proposals of high, middle and low overlap weigh alike in the regression, by drawing from the last two."""


class BoundaryTargets(NamedTuple):
    """What steps and proposals should say.

    Attributes:
        start: (batch, time), share of a step that stretches around starts cover, the best of them.
        end: (batch, time), the same of ends.
        overlap: (batch, durations, time), intersection over union with the best action.
        classes: (batch, classes, durations, time), 1.0 for each class with an action that overlaps by 0.5 or more.
    """

    start: Float[Tensor, "batch time"]
    end: Float[Tensor, "batch time"]
    overlap: Float[Tensor, "batch durations time"]
    classes: Float[Tensor, "batch classes durations time"]


def boundary_targets(
    time: int,
    durations: int,
    segments: Sequence[Float[Tensor, "actions 2"]],
    labels: Sequence[Int[Tensor, " actions"]],
    num_classes: int,
    *,
    edge_steps: float,
) -> BoundaryTargets:
    """Targets of a batch; step ``t`` stands for the stretch from ``t`` to ``t + 1``, as in the paper.

    Args:
        time: steps of a track.
        durations: rows of the map.
        segments: for each track, starts and ends as fractional feature positions, possibly none.
        labels: for each track, the class of each segment.
        num_classes: classes.
        edge_steps: length of the stretch around a boundary that counts as the boundary.
    """
    of_videos = []
    for truth, label in zip(segments, labels, strict=True):
        truth = truth.float()
        steps = torch.arange(time, device=truth.device, dtype=torch.float32)
        first = steps.expand(durations, time)
        last = first + torch.arange(1, durations + 1, device=truth.device)[:, None]
        if len(truth) == 0:
            blank = first.new_zeros(num_classes, durations, time)
            of_videos.append(BoundaryTargets(0 * steps, 0 * steps, 0 * first, blank))
            continue
        iou = pairwise_iou(torch.stack((first, last), dim=-1).reshape(-1, 2), truth)
        named = (iou >= NAMED_IOU).float() @ nnf.one_hot(label.long(), num_classes).float()
        start, end = (_covered(steps, truth[:, side], edge_steps) for side in (0, 1))
        overlap = iou.amax(dim=1).reshape(durations, time)
        of_videos.append(BoundaryTargets(start, end, overlap, named.clamp(max=1).T.reshape(-1, durations, time)))
    return BoundaryTargets(*(torch.stack(field) for field in zip(*of_videos, strict=True)))


def boundary_loss(
    predictions: BoundaryPredictions,
    segments: Sequence[Float[Tensor, "actions 2"]],
    labels: Sequence[Int[Tensor, " actions"]],
    *,
    settings: BmnSettings,
    normaliser: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> HeadLoss:
    """Loss of a batch against its ground truth (BMN, section 4.2).

    Classification is the balanced cross-entropy of starts, ends and good proposals, a mean each, plus the focal loss of
    the proposals' classes over the normaliser; regression the weighted squared error of the overlap, over all proposals
    of high overlap and as many drawn of middle and of low (of too few OpenTAD takes some twice, we take each once).

    Args:
        predictions: of the batch.
        segments: for each track, starts and ends as fractional feature positions.
        labels: for each track, the class of each segment; without a classifier all are one.
        settings: of the head.
        normaliser: what the classes' sum is divided by; without it the named proposals of this batch, at least 1.
        generator: of the draw, on the CPU; without it torch's own.
    """
    durations, time = predictions.confidence.shape[2:]
    num_classes = 1 if predictions.classes is None else predictions.classes.shape[1]
    labels = [torch.zeros_like(label) for label in labels] if predictions.classes is None else labels
    targets = boundary_targets(time, durations, segments, labels, num_classes, edge_steps=settings.edge_steps)
    targets = BoundaryTargets(*(x.to(predictions.start.device) for x in targets))
    real, valid = predictions.mask, valid_proposals(predictions.mask, durations)
    starts = _balanced(predictions.start[real].float(), targets.start[real] > EDGE_COVERED)
    ends = _balanced(predictions.end[real].float(), targets.end[real] > EDGE_COVERED)
    overlap = targets.overlap[valid]
    classification = starts + ends + _balanced(predictions.confidence[:, 0][valid].float(), overlap > GOOD_IOU)
    positives = (targets.classes.amax(dim=1)[valid] > 0).sum()
    if predictions.classes is not None:
        said, wanted = (x.movedim(1, -1)[valid].float() for x in (predictions.classes, targets.classes))
        naming = sigmoid_focal_loss(said, wanted).sum() / (positives.clamp(min=1) if normaliser is None else normaliser)
        classification = classification + settings.classifier_weight * naming
    predicted = predictions.confidence[:, 1][valid].float().sigmoid()
    regression = settings.regression_weight * _balanced_square(predicted, overlap, generator)
    return HeadLoss(classification, regression, classification + regression, positives)


def boundary_distillation(student: BoundaryPredictions, teacher: BoundaryPredictions) -> PredictionDistillation:
    """Distance of a student's maps to a teacher's, step by step and cell by cell; ours, for BMN has no distillation.

    Classification is KL(teacher || student) of each sigmoid (starts, ends, first confidence, classes), regression the
    squared distance of the second confidence, each weighted by the larger of the two probabilities (without gradient)
    and divided by the teacher's sum of them, at least 1. The teacher gets no gradient.
    """
    real = student.mask & teacher.mask
    valid = valid_proposals(real, student.confidence.shape[2])
    pairs = [
        (student.start[real], teacher.start[real]),
        (student.end[real], teacher.end[real]),
        (student.confidence[:, 0][valid], teacher.confidence[:, 0][valid]),
    ]
    if student.classes is not None and teacher.classes is not None:
        pairs.append((student.classes.movedim(1, -1)[valid], teacher.classes.movedim(1, -1)[valid]))
    classification = torch.stack([_divergence(ours.float(), theirs.detach().float()) for ours, theirs in pairs]).sum()
    ours, theirs = (x.confidence[:, 1][valid].float().sigmoid() for x in (student, teacher))
    theirs = theirs.detach()
    weight = torch.maximum(ours.detach(), theirs)
    regression = (weight * (ours - theirs).square()).sum() / theirs.sum().clamp(min=1.0)
    return PredictionDistillation(classification, regression)


def _covered(
    steps: Float[Tensor, " time"], edges: Float[Tensor, " actions"], edge_steps: float
) -> Float[Tensor, " time"]:
    """Share of each step that the stretch around an edge covers, for the edge that covers most."""
    latest = torch.maximum(steps[:, None], edges - edge_steps / 2)
    earliest = torch.minimum(steps[:, None] + 1, edges + edge_steps / 2)
    return (earliest - latest).clamp(min=0).amax(dim=1)


def _balanced(logits: Float[Tensor, " n"], positive: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean cross-entropy in which positives and negatives weigh one half each, if there are both."""
    loss = nnf.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
    count, positives = positive.numel(), positive.sum()
    weights = 0.5 * count / torch.where(positive, positives, count - positives).clamp(min=1)
    both = (positives > 0) & (positives < count)
    return (torch.where(both, weights, torch.ones_like(weights)) * loss).mean()


def _balanced_square(
    predicted: Float[Tensor, " n"], overlap: Float[Tensor, " n"], generator: torch.Generator | None
) -> Float[Tensor, ""]:
    """Mean squared error over all of high overlap and about as many of middle and of low."""
    high, low = overlap > HIGH_IOU, overlap <= LOW_IOU
    middle = ~high & ~low
    square = (predicted - overlap).square()
    wanted = high.sum()
    draw = torch.rand(overlap.shape, generator=generator).to(overlap.device)
    drawn = (middle & (draw * middle.sum() < wanted)) | (low & (draw * low.sum() < wanted))
    taken = torch.where(wanted > 0, high | drawn, torch.ones_like(high))
    return (square * taken).sum() / taken.sum().clamp(min=1)


def _divergence(logits: Float[Tensor, "*shape"], told: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Weighted KL divergence of sigmoids over the teacher's mass."""
    probability = told.sigmoid()
    divergence = probability * (nnf.logsigmoid(told) - nnf.logsigmoid(logits))
    divergence = divergence + (1 - probability) * (nnf.logsigmoid(-told) - nnf.logsigmoid(-logits))
    weight = torch.maximum(probability, logits.detach().sigmoid())
    return (weight * divergence).sum() / probability.sum().clamp(min=1.0)
