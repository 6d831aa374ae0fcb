"""Losses of an anchor-free head, from ground truth and from a teacher's predictions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from jaxtyping import Float, Int
from torch import Tensor

from tadkit.config import ActionFormerSettings
from tadkit.heads.anchor_free import HeadPredictions
from tadkit.heads.head import HeadLoss, PredictionDistillation
from tadkit.heads.targets import assign_targets

_TINY = 1e-8


def sigmoid_focal_loss(
    logits: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"], *, alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, "*shape"]:
    """Focal loss of each entry (Lin et al., ICCV 2017); targets lie in [0, 1]."""
    probability = logits.sigmoid()
    cross_entropy = nnf.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    miss = probability * (1 - targets) + (1 - probability) * targets
    return (alpha * targets + (1 - alpha) * (1 - targets)) * cross_entropy * miss**gamma


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
    settings: ActionFormerSettings,
    strides: Sequence[int],
    normaliser: Tensor | None = None,
) -> HeadLoss:
    """Loss of a batch against its ground truth.

    Args:
        predictions: of the batch.
        segments: for each track, starts and ends as fractional feature positions.
        labels: for each track, the class of each segment.
        settings: of the head.
        strides: of the head's levels.
        normaliser: what sums are divided by; without it the positives of this batch, at least 1. (ActionFormer keeps a
            running mean of the positives; a caller may do so from :attr:`HeadLoss.positives`.)
    """
    lengths = [level.shape[1] for level in predictions.logits]
    logits, offsets, real = (torch.cat(field, dim=1) for field in predictions)
    logits, offsets = logits.float(), offsets.float()  # sums over thousands of points overflow half precision
    targets = assign_targets(lengths, strides, segments, labels, settings, logits.shape[-1])
    classes, target_offsets, positive = (x.to(logits.device) for x in targets)
    positive = positive & real
    positives = positive.sum()
    over = positives.clamp(min=1) if normaliser is None else normaliser
    classification = sigmoid_focal_loss(logits[real], classes[real]).sum() / over
    regression = diou_loss_1d(offsets[positive], target_offsets[positive]).sum() / over
    return HeadLoss(classification, regression, classification + regression, positives)


def anchor_free_distillation(student: HeadPredictions, teacher: HeadPredictions) -> PredictionDistillation:
    """Distance of predictions (D_pred in docs/method.md, section 2; its exact form is open there, and this is ours).

    Classification is KL(teacher || student) of each class's own sigmoid, weighted by the larger of the two
    probabilities (without gradient), so that thousands of points that both call background do not drown the actions,
    while what only one of the two sees counts in full. Regression is smooth L1 between the offsets, in strides,
    weighted by the teacher's foreground score, its largest class probability. Both are sums over the points that are
    real to both, divided by the teacher's foreground mass, the sum of those scores, at least 1. The teacher gets no
    gradient.
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
    apart = nnf.smooth_l1_loss(offsets, teacher_offsets, reduction="none").sum(dim=-1)
    return PredictionDistillation((weight * divergence).sum() / mass, (foreground * apart).sum() / mass)
