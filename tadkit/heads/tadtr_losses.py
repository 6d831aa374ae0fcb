"""Losses of a query head: each action is matched to one query, each of a teacher's queries to one of the student's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from jaxtyping import Float, Int
from torch import Tensor

from tadkit.config import TadtrSettings
from tadkit.heads.head import HeadLoss, PredictionDistillation
from tadkit.heads.losses import sigmoid_focal_loss
from tadkit.heads.matching import assign, pairwise_iou
from tadkit.heads.tadtr import QueryPredictions

_ALPHA, _GAMMA, _TINY = 0.25, 2.0, 1e-8


def query_loss(
    predictions: QueryPredictions,
    segments: Sequence[Float[Tensor, "actions 2"]],
    labels: Sequence[Int[Tensor, " actions"]],
    *,
    settings: TadtrSettings,
    normaliser: Tensor | None = None,
) -> HeadLoss:
    """Loss of a batch against its ground truth (TadTR, section III-C, as in OpenTAD), summed over the decoder's layers.

    Each layer is matched by itself. Classification is the focal loss of all queries, regression the L1 distance of
    normalised centre and width plus ``1 - IoU`` of the matched ones, each with its weight in the settings. Only as many
    actions as there are queries can be matched.

    Args:
        predictions: of the batch.
        segments: for each track, starts and ends as fractional feature positions.
        labels: for each track, the class of each segment.
        settings: of the head.
        normaliser: what sums are divided by; without it the actions of this batch, at least 1.
    """
    actions = sum(len(of_video) for of_video in segments)
    positives = torch.tensor(actions, device=predictions.logits.device)
    over = positives.clamp(min=1) if normaliser is None else normaliser
    lengths = predictions.mask.sum(dim=1).clamp(min=1)
    classification = regression = predictions.logits.new_zeros((), dtype=torch.float32)
    for logits, located in (*predictions.earlier, (predictions.logits, predictions.segments)):
        for video, (truth, label) in enumerate(zip(segments, labels, strict=True)):
            parts = logits[video].float(), located[video].float() / lengths[video]
            of_class, of_place = _video_loss(*parts, truth.to(parts[1]) / lengths[video], label, settings)
            classification, regression = classification + of_class, regression + of_place
    classification, regression = settings.class_weight * classification / over, regression / over
    return HeadLoss(classification, regression, classification + regression, positives)


def _video_loss(
    logits: Float[Tensor, "queries classes"],
    located: Float[Tensor, "queries 2"],
    truth: Float[Tensor, "actions 2"],
    labels: Int[Tensor, " actions"],
    settings: TadtrSettings,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sums of one layer's classification and weighted regression losses; places are fractions of the track."""
    with torch.no_grad():
        cost = settings.class_cost * _focal_cost(logits)[:, labels]
        cost = cost + _place_cost(located, truth, settings.segment_cost, settings.iou_cost)
        query, action = (torch.from_numpy(side).to(logits.device) for side in assign(cost.cpu().numpy()))
    targets = torch.zeros_like(logits)
    targets[query, labels[action]] = 1.0
    matched, wanted = located[query], truth[action]
    apart = (_centre_width(matched) - _centre_width(wanted)).abs().sum()
    missed = (1 - _iou(matched, wanted)).sum()
    regression = settings.segment_weight * apart + settings.iou_weight * missed
    return sigmoid_focal_loss(logits, targets, alpha=_ALPHA, gamma=_GAMMA).sum(), regression


def query_distillation(
    student: QueryPredictions, teacher: QueryPredictions, *, settings: TadtrSettings
) -> PredictionDistillation:
    """Distance of a student's queries to a teacher's, after matching them; ours, for TadTR has no distillation.

    The teacher's queries, at most as many as the student has and surest first, are matched one to one by divergence of
    classes, distance and overlap, each weighted by the teacher's foreground score (its largest class probability), for
    what the teacher calls background need not be found. Classification is KL(teacher || student) of each class's own
    sigmoid, weighted by the larger of the two probabilities; a query of the student without a partner should say
    background. Regression is L1 plus ``1 - IoU`` with the settings' weights, weighted by the foreground score. Both are
    divided by the teacher's foreground mass, at least 1. Earlier decoder layers are held to the teacher's own, the last
    to the last and so on backwards, and the terms are summed. The teacher gets no gradient.
    """
    lengths = student.mask.sum(dim=1).clamp(min=1)
    classification = regression = student.logits.new_zeros((), dtype=torch.float32)
    layers = [(*one.earlier, (one.logits, one.segments)) for one in (student, teacher)]
    for (logits, located), (told, placed) in zip(reversed(layers[0]), reversed(layers[1]), strict=False):
        told, placed = told.detach().float(), placed.detach().float()
        mass = told.sigmoid().amax(dim=-1).sum().clamp(min=1.0)
        for video, length in enumerate(lengths):
            ours, theirs = (
                (logits[video].float(), located[video].float() / length),
                (told[video], placed[video] / length),
            )
            of_class, of_place = _video_distillation(*ours, *theirs, settings)
            classification, regression = classification + of_class / mass, regression + of_place / mass
    return PredictionDistillation(classification, regression)


def _video_distillation(
    logits: Float[Tensor, "queries classes"],
    located: Float[Tensor, "queries 2"],
    told: Float[Tensor, "told_queries classes"],
    placed: Float[Tensor, "told_queries 2"],
    settings: TadtrSettings,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sums of one layer's distances of classes and of places, as fractions of the track, to the teacher's."""
    foreground, order = told.sigmoid().amax(dim=-1).sort(descending=True, stable=True)
    foreground, order = foreground[: len(logits)], order[: len(logits)]
    told, placed = told[order], placed[order]
    with torch.no_grad():
        cost = settings.class_cost * _divergence(told[:, None], logits[None]).sum(dim=-1)
        cost = cost + _place_cost(placed, located, settings.segment_cost, settings.iou_cost)
        pairs = assign((foreground[:, None] * cost).cpu().numpy())
        theirs, ours = (torch.from_numpy(side).to(logits.device) for side in pairs)
    wanted = torch.full_like(logits, -torch.inf)
    wanted[ours] = told[theirs]
    weight = torch.maximum(wanted.sigmoid(), logits.detach().sigmoid())
    apart = settings.segment_weight * (_centre_width(located[ours]) - _centre_width(placed[theirs])).abs().sum(dim=-1)
    apart = apart + settings.iou_weight * (1 - _iou(located[ours], placed[theirs]))
    return (weight * _divergence(wanted, logits)).sum(), (foreground[theirs] * apart).sum()


def _focal_cost(logits: Float[Tensor, "queries classes"]) -> Float[Tensor, "queries classes"]:
    """How much dearer a query gets by being told each class (Deformable DETR, appendix A.4)."""
    probability = logits.sigmoid()
    named = _ALPHA * (1 - probability) ** _GAMMA * -(probability + _TINY).log()
    silent = (1 - _ALPHA) * probability**_GAMMA * -(1 - probability + _TINY).log()
    return named - silent


def _place_cost(
    one: Float[Tensor, "m 2"], other: Float[Tensor, "n 2"], segment_cost: float, iou_cost: float
) -> Float[Tensor, "m n"]:
    """Weighted L1 distance of centre and width, less the weighted overlap, of each pair."""
    apart = (_centre_width(one)[:, None] - _centre_width(other)[None]).abs().sum(dim=-1)
    return segment_cost * apart - iou_cost * pairwise_iou(one, other)


def _divergence(told: Float[Tensor, "*shape"], logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """KL divergence of ``logits`` from ``told``, of each sigmoid by itself; ``told`` may be minus infinity."""
    probability = told.sigmoid()
    present = torch.where(probability > 0, probability * (nnf.logsigmoid(told) - nnf.logsigmoid(logits)), 0.0)
    return present + (1 - probability) * (nnf.logsigmoid(-told) - nnf.logsigmoid(-logits))


def _centre_width(segments: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
    start, end = segments.unbind(dim=-1)
    return torch.stack(((start + end) / 2, end - start), dim=-1)


def _iou(one: Float[Tensor, "n 2"], other: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """Intersection over union, pair by pair; 0 where the union has no length."""
    intersection = (torch.minimum(one[:, 1], other[:, 1]) - torch.maximum(one[:, 0], other[:, 0])).clamp(min=0)
    union = (one[:, 1] - one[:, 0]) + (other[:, 1] - other[:, 0]) - intersection
    return intersection / union.clamp(min=1e-6)
