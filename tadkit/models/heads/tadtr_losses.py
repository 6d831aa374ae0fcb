"""Losses of a query head: each action is matched to one query, each of a teacher's queries to one of the student's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from jaxtyping import Float, Int
from torch import Tensor

from tadkit.config import TadtrSettings
from tadkit.models.heads.head import HeadLoss, PredictionDistillation
from tadkit.models.heads.losses import sigmoid_focal_loss
from tadkit.models.heads.matching import assign, pairwise_iou, segment_iou
from tadkit.models.heads.tadtr import QueryPredictions

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
    normalised centre and width plus ``1 - IoU`` of the matched ones, each with its weight in the settings, and the
    distance of actionness to the overlap that it predicts. Only as many actions as there are queries can be matched.

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
    if predictions.actionness is not None:
        apart = (predictions.actionness.float() - overlaps(predictions.segments, segments)).abs()
        regression = regression + settings.actionness_weight * apart.mean()
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
    missed = (1 - segment_iou(matched, wanted)).sum()
    regression = settings.segment_weight * apart + settings.iou_weight * missed
    return sigmoid_focal_loss(logits, targets, alpha=_ALPHA, gamma=_GAMMA).sum(), regression


@torch.no_grad()
def overlaps(
    located: Float[Tensor, "batch queries 2"], segments: Sequence[Float[Tensor, "actions 2"]]
) -> Float[Tensor, "batch queries"]:
    """Overlap of each query's segment with the action of its own track that it overlaps with most; 0 without actions.

    As in OpenTAD; the authors' code looks for actions in all tracks of the batch.
    """
    located = located.float()
    none = located.new_zeros(1, 2)  # overlaps with nothing
    truths = (torch.cat((truth.to(located), none)) for truth in segments)
    return torch.stack([pairwise_iou(one, truth).amax(dim=1) for one, truth in zip(located, truths, strict=True)])


def query_distillation(
    student: QueryPredictions, teacher: QueryPredictions, *, settings: TadtrSettings
) -> PredictionDistillation:
    """Distance of a student's queries to a teacher's, after matching them; ours, for TadTR has no distillation.

    The teacher's queries, at most as many as the student has and surest first, are matched one to one by divergence of
    classes, distance and overlap, each weighted by the teacher's foreground score (its largest class probability), for
    what the teacher calls background need not be found. Classification is KL(teacher || student) of each class's own
    sigmoid, weighted by the larger of the two probabilities; a query of the student without a partner should say
    background. Regression is L1 plus ``1 - IoU`` plus, where both predict it, L1 of actionness, with the settings'
    weights, weighted by the foreground score. Both are divided by the teacher's foreground mass, at least 1. Earlier
    decoder layers are held to the teacher's own, the last to the last and so on backwards, and the terms are summed.
    The teacher gets no gradient.
    """
    lengths = student.mask.sum(dim=1).clamp(min=1)
    classification = regression = student.logits.new_zeros((), dtype=torch.float32)
    for ours, theirs in zip(_layers(student), _layers(teacher), strict=False):
        mass = theirs.logits.detach().float().sigmoid().amax(dim=-1).sum().clamp(min=1.0)
        for video, length in enumerate(lengths):
            of_class, of_place = _video_distillation(
                _of_video(ours, video, length), _of_video(theirs, video, length), settings
            )
            classification, regression = classification + of_class / mass, regression + of_place / mass
    return PredictionDistillation(classification, regression)


class _Layer(NamedTuple):
    """What one layer of the decoder says."""

    logits: Float[Tensor, "*batch queries classes"]
    located: Float[Tensor, "*batch queries 2"]
    actionness: Float[Tensor, "*batch queries"] | None = None


def _layers(predictions: QueryPredictions) -> list[_Layer]:
    """The decoder's layers, the last first; it alone tells of actionness."""
    last = _Layer(predictions.logits, predictions.segments, predictions.actionness)
    return [last, *(_Layer(*one) for one in reversed(predictions.earlier))]


def _of_video(layer: _Layer, video: int, length: Tensor) -> _Layer:
    """One video's part, places as fractions of its track."""
    logits, located, actionness = layer
    fit = None if actionness is None else actionness[video].float()
    return _Layer(logits[video].float(), located[video].float() / length, fit)


def _video_distillation(
    ours: _Layer, theirs: _Layer, settings: TadtrSettings
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sums of one layer's distances of classes and of places to the teacher's."""
    logits, located, fit = ours
    told, placed = theirs.logits.detach(), theirs.located.detach()
    foreground, order = told.sigmoid().amax(dim=-1).sort(descending=True, stable=True)
    foreground, order = foreground[: len(logits)], order[: len(logits)]
    told, placed = told[order], placed[order]
    with torch.no_grad():
        cost = settings.class_cost * _divergence(told[:, None], logits[None]).sum(dim=-1)
        cost = cost + _place_cost(placed, located, settings.segment_cost, settings.iou_cost)
        pairs = assign((foreground[:, None] * cost).cpu().numpy())
        from_them, of_us = (torch.from_numpy(side).to(logits.device) for side in pairs)
    wanted = torch.full_like(logits, -torch.inf)
    wanted[of_us] = told[from_them]
    weight = torch.maximum(wanted.sigmoid(), logits.detach().sigmoid())
    found, sought = located[of_us], placed[from_them]
    apart = settings.segment_weight * (_centre_width(found) - _centre_width(sought)).abs().sum(dim=-1)
    apart = apart + settings.iou_weight * (1 - segment_iou(found, sought))
    if fit is not None and theirs.actionness is not None:
        fits = theirs.actionness.detach()[order]
        apart = apart + settings.actionness_weight * (fit[of_us] - fits[from_them]).abs()
    return (weight * _divergence(wanted, logits)).sum(), (foreground[from_them] * apart).sum()


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
