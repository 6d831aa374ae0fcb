"""Losses of a head of masks, from ground truth and from a teacher's predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tadkit.config import TagsSettings
from tadkit.models.heads.head import HeadLoss, PredictionDistillation
from tadkit.models.heads.losses import sigmoid_focal_loss
from tadkit.models.heads.tags import MaskPredictions
from tadkit.models.heads.targets import SAME_LENGTH_STEPS


class MaskTargets(NamedTuple):
    """What each step should say.

    Attributes:
        classes: (batch, time, classes), 1.0 for each class of the action that the step lies in.
        masks: (batch, time, time), share of each step that this action covers; 0 at steps outside all actions.
        positive: (batch, time), True where the step lies in an action.
    """

    classes: Float[Tensor, "batch time classes"]
    masks: Float[Tensor, "batch time time"]
    positive: Bool[Tensor, "batch time"]


def mask_targets(
    time: int, segments: Sequence[Float[Tensor, "actions 2"]], labels: Sequence[Int[Tensor, " actions"]], classes: int
) -> MaskTargets:
    """Targets of a batch; where actions overlap the shortest wins, with the classes of all that are as short.

    An action too short to hold a step's centre is answered for by the step nearest to its middle.

    Args:
        time: steps of a track.
        segments: for each track, starts and ends as fractional feature positions, possibly none.
        labels: for each track, the class of each segment.
        classes: how many there are.
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
    named = (chosen.float() @ nnf.one_hot(labels.long(), classes).float()).clamp(max=1)
    latest, earliest = torch.maximum(step - 0.5, start[:, None]), torch.minimum(step + 0.5, end[:, None])
    covered = (earliest - latest).clamp(min=0)
    return MaskTargets(named, covered[winner] * positive[:, None], positive)


def mask_loss(
    predictions: MaskPredictions,
    segments: Sequence[Float[Tensor, "actions 2"]],
    labels: Sequence[Int[Tensor, " actions"]],
    *,
    settings: TagsSettings,
    normaliser: Tensor | None = None,
) -> HeadLoss:
    """Loss of a batch against its ground truth (TAGS, section 3.3).

    Classification is the focal loss of all real steps; regression, of the masks of positive steps, is cross-entropy in
    which covered and uncovered steps weigh one half each, plus dice (Milletari et al., 3DV 2016).

    Args:
        predictions: of the batch.
        segments: for each track, starts and ends as fractional feature positions.
        labels: for each track, the class of each segment.
        settings: of the head.
        normaliser: what sums are divided by; without it the positives of this batch, at least 1.
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


def mask_distillation(student: MaskPredictions, teacher: MaskPredictions) -> PredictionDistillation:
    """Distance of a student's classes and masks to a teacher's, step by step; ours, for TAGS has no distillation.

    Classification is KL(teacher || student) of each class's own sigmoid, weighted by the larger of the two
    probabilities (without gradient). Regression is KL of the masks, a mean over the real steps that they mark, weighted
    by the teacher's foreground score, its largest class probability. Both are divided by the teacher's foreground mass,
    the sum of those scores, at least 1. The teacher gets no gradient.
    """
    real = student.mask & teacher.mask
    logits, told = student.logits[real].float(), teacher.logits[real].detach().float()
    foreground = told.sigmoid().amax(dim=-1)
    mass = foreground.sum().clamp(min=1.0)
    weight = torch.maximum(told.sigmoid(), logits.detach().sigmoid())
    classification = (weight * _divergence(logits, told)).sum() / mass
    reads = real[:, None].expand_as(student.masks)[real]
    apart = _divergence(student.masks[real].float(), teacher.masks[real].detach().float())
    apart = (apart * reads).sum(dim=-1) / reads.sum(dim=-1).clamp(min=1)
    return PredictionDistillation(classification, (foreground * apart).sum() / mass)


def _mask_costs(
    masks: Float[Tensor, "n time"], wanted: Float[Tensor, "n time"], reads: Bool[Tensor, "n time"]
) -> Float[Tensor, " n"]:
    """Balanced cross-entropy plus dice of each mask, over the steps that it reads."""
    entropy = nnf.binary_cross_entropy_with_logits(masks, wanted, reduction="none") * reads
    covered, spared = wanted * reads, (1 - wanted) * reads
    balanced = [0.5 * (entropy * share).sum(dim=1) / share.sum(dim=1).clamp(min=1e-6) for share in (covered, spared)]
    probability = masks.sigmoid() * reads
    overlap = 2 * (probability * covered).sum(dim=1) + 1
    dice = 1 - overlap / (probability.square().sum(dim=1) + covered.square().sum(dim=1) + 1)
    return balanced[0] + balanced[1] + dice


def _divergence(logits: Float[Tensor, "*shape"], told: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """KL divergence of each sigmoid of ``logits`` from that of ``told``."""
    probability = told.sigmoid()
    present = probability * (nnf.logsigmoid(told) - nnf.logsigmoid(logits))
    return present + (1 - probability) * (nnf.logsigmoid(-told) - nnf.logsigmoid(-logits))
