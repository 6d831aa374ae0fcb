"""Losses of an anchor-free head, from ground truth and from a teacher's predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from jaxtyping import Float, Int
from torch import Tensor

from tadkit.config import AnchorFreeSettings, TemporalMaxerSettings, TriDetSettings
from tadkit.models.heads.anchor_free import HeadPredictions, RunningPositives
from tadkit.models.heads.head import HeadLoss, PredictionDistillation
from tadkit.models.heads.targets import assign_targets, points_of, regression_ranges

_TINY = 1e-8


def sigmoid_focal_loss(
    logits: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"], *, alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, "*shape"]:
    """Focal loss of each entry (Lin et al., ICCV 2017); targets lie in [0, 1]."""
    probability = logits.sigmoid()
    cross_entropy = nnf.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    miss = probability * (1 - targets) + (1 - probability) * targets
    return (alpha * targets + (1 - alpha) * (1 - targets)) * cross_entropy * miss**gamma


def iou_1d(predicted: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """IoU of segments given as distances to start and end from one point; at least 1e-6, where its roots have slope."""
    intersection = torch.minimum(predicted, target).sum(dim=-1)
    union = predicted.sum(dim=-1) + target.sum(dim=-1) - intersection
    return (intersection / union.clamp(min=_TINY)).clamp(min=1e-6)


def diou_loss_1d(predicted: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """Distance-IoU loss (Zheng et al., AAAI 2020) of segments given as distances to start and end from one point.

    Distances are not negative. Segments of no length have no overlap: finite, never NaN, and so is the gradient.
    """
    intersection = torch.minimum(predicted, target).sum(dim=-1)
    union = predicted.sum(dim=-1) + target.sum(dim=-1) - intersection
    hull = torch.maximum(predicted, target).sum(dim=-1)
    centres_apart = 0.5 * ((predicted[:, 1] - predicted[:, 0]) - (target[:, 1] - target[:, 0]))
    return 1 - intersection / union.clamp(min=_TINY) + (centres_apart / hull.clamp(min=_TINY)) ** 2


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
        predictions: of the batch.
        segments: for each track, starts and ends as fractional feature positions.
        labels: for each track, the class of each segment.
        settings: of the head.
        strides: of the head's levels.
        normaliser: of the sums: a number, or the running mean that this batch joins; else the batch's positives.
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
    """Sum with the regression's weight; 0 makes both weigh the same, which is ActionFormer's automatic weight."""
    weight: Tensor | float = settings.regression_weight
    if weight == 0:
        weight = classification.detach() / regression.detach().clamp(min=0.01)
    return classification + weight * regression


def smoothed(classes: Float[Tensor, "*batch classes"], smoothing: float) -> Float[Tensor, "*batch classes"]:
    """Targets with a share of ``smoothing`` spread over all classes and background."""
    return classes * (1 - smoothing) + smoothing / (classes.shape[-1] + 1) if smoothing else classes


def _weighted_by_iou(entries: Tensor, classes: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """Focal losses of which those of the positives' own classes, in the order of ``weights``, are multiplied by them.

    The gradient goes through the weights too (TriDet, section 3.4, as its authors' code has it).
    """
    factor = torch.ones_like(entries)
    factor[(classes > 0) & positive[..., None]] = weights
    return entries * factor


def anchor_free_distillation(student: HeadPredictions, teacher: HeadPredictions) -> PredictionDistillation:
    """Distance of predictions (D_pred in docs/method.md, section 2; its exact form is open there, and this is ours).

    Classification is KL(teacher || student) of each class's own sigmoid, weighted by the larger of the two
    probabilities (without gradient), so that thousands of points that both call background do not drown the actions,
    while what only one of the two sees counts in full. Regression is smooth L1 between the offsets, in strides,
    weighted by the teacher's foreground score, its largest class probability. Both are sums over the points that are
    real to both, divided by the teacher's foreground mass, the sum of those scores, at least 1. The teacher gets no
    gradient. Where each class has its own ends, its offsets weigh as the teacher's probability of it.
    """
    real = torch.cat(student.masks, dim=1) & torch.cat(teacher.masks, dim=1)
    logits, offsets = (torch.cat(field, dim=1)[real].float() for field in student[:2])
    teacher_logits, teacher_offsets = (torch.cat(field, dim=1)[real].detach().float() for field in teacher[:2])
    probability = teacher_logits.sigmoid()
    foreground = probability.amax(dim=-1)
    mass = foreground.sum().clamp(min=1.0)
    divergence = probability * (nnf.logsigmoid(teacher_logits) - nnf.logsigmoid(logits))
    divergence = divergence + (1 - probability) * (nnf.logsigmoid(-teacher_logits) - nnf.logsigmoid(-logits))
    weight = torch.maximum(probability, logits.detach().sigmoid())
    apart = nnf.smooth_l1_loss(offsets, teacher_offsets, reduction="none")
    apart = apart.reshape(len(apart), -1, 2).sum(dim=-1)
    wanted = probability if apart.shape[-1] > 1 else foreground[..., None]
    return PredictionDistillation((weight * divergence).sum() / mass, (wanted * apart).sum() / mass)


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
    """Distances in strides to the ends of the action around each point that its prediction costs least for.

    The cost is that of SimOTA (Ge et al., 2021): focal loss against the action's class plus twice the distance-IoU
    loss. TemporalMaxer's training in OpenTAD chooses so where actions overlap; classes are assigned as ever.
    """
    points = points_of(lengths, strides, regression_ranges(settings), logits.device)
    chosen = []
    for given, label, said, reach in zip(segments, labels, logits, offsets, strict=True):
        if len(given) == 0:
            chosen.append(torch.zeros_like(reach))
            continue
        ends = given.to(logits)
        to_ends = torch.stack((points.position[:, None] - ends[:, 0], ends[:, 1] - points.position[:, None]), dim=-1)
        to_ends = to_ends / points.stride[:, None, None]  # (points, actions, 2)
        outside = (to_ends < 0).any(dim=-1)
        one_hot = nnf.one_hot(label.long(), said.shape[-1]).to(said)
        shape = (*outside.shape, said.shape[-1])
        cost = sigmoid_focal_loss(said[:, None].expand(shape), one_hot.expand(shape)).sum(dim=-1)
        apart = diou_loss_1d(reach[:, None].expand_as(to_ends).flatten(0, 1), to_ends.flatten(0, 1))
        winner = (cost + 2 * apart.view_as(cost)).masked_fill(outside, math.inf).argmin(dim=1)
        chosen.append(to_ends[torch.arange(len(winner), device=winner.device), winner])
    return torch.stack(chosen)
