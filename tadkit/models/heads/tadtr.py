"""Query head: a fixed set of learned queries, each of which predicts at most one action and its segment.

After TadTR (Liu et al., End-to-end temporal action detection with transformer, IEEE TIP 2022), in OpenTAD's
configuration or that of the authors' code (``variant``). Training matches queries to actions one to one, so detections
do not repeat each other and need no suppression. Two deviations: padding is not read by default (both codes read it:
``padding = "counted"``), and actionness is predicted only if ``actionness`` is set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from tadkit.config import TadtrSettings
from tadkit.models.heads.head import (
    Candidates,
    HeadLoss,
    HeadOf,
    PredictionDistillation,
    ranked,
    sigmoid_divergence,
    sigmoid_focal_loss,
)
from tadkit.models.heads.layers import TimeGroupNorm, sinusoids, zero_padding
from tadkit.segments import tensor_iou

_ALPHA, _GAMMA, _TINY = 0.25, 2.0, 1e-8


class QueryPredictions(NamedTuple):
    """Predictions of the queries.

    Attributes:
        logits: (batch, queries, classes), before the sigmoid.
        segments: (batch, queries, 2), start and end as fractional feature positions, start <= end; they may extend
            past the track.
        mask: (batch, time), True at the steps that were read; their number is the unit of normalised segments.
        earlier: logits and segments of the decoder's earlier layers, trained on the same ground truth.
        actionness: (batch, queries), predicted IoU of each segment with an action, in [0, 1]; None if the head does
            not predict it.
    """

    logits: Float[Tensor, "batch queries classes"]
    segments: Float[Tensor, "batch queries 2"]
    mask: Bool[Tensor, "batch time"]
    earlier: tuple[tuple[Float[Tensor, "batch queries classes"], Float[Tensor, "batch queries 2"]], ...] = ()
    actionness: Float[Tensor, "batch queries"] | None = None


class TadtrHead(HeadOf[QueryPredictions]):
    """Embedding, deformable encoder, and a decoder whose layers refine the segments of the queries.

    Args:
        settings: sizes and costs.
        in_channels: channels of the feature track.
        num_classes: number of classes, each with its own sigmoid.
    """

    windows_apart = True

    settings: TadtrSettings

    def __init__(self, settings: TadtrSettings, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.in_channels, self.num_classes = in_channels, num_classes
        dim = settings.dim
        self.embedding = nn.Conv1d(in_channels, dim, 1, bias=settings.variant == "authors")
        self.embedding_norm = TimeGroupNorm(settings.norm_groups, dim)
        self.place = nn.Parameter(torch.randn(dim))
        self.encoder = nn.ModuleList(_deformable_layer(settings, queries=False) for _ in range(settings.encoder_layers))
        self.decoder = nn.ModuleList(_deformable_layer(settings, queries=True) for _ in range(settings.decoder_layers))
        self.queries = nn.Parameter(torch.randn(settings.queries, 2 * dim))
        self.reference = nn.Linear(dim, 1)
        self.classifiers = nn.ModuleList(nn.Linear(dim, num_classes) for _ in self.decoder)
        self.regressors = nn.ModuleList(three_layers(dim, dim, 2) for _ in self.decoder)
        bins, context = settings.actionness_bins, settings.actionness_context
        self.actionness = Actionness(dim, bins=bins, context=context) if settings.actionness else None
        self._initialise()

    def _initialise(self) -> None:
        """References spread out by the query positions, initial widths of 0.12 of the track, classes at their prior."""
        nn.init.xavier_normal_(self.reference.weight)
        nn.init.zeros_(self.reference.bias)
        if self.embedding.bias is not None:
            nn.init.zeros_(self.embedding.bias)
        prior = self.settings.prior_probability
        for classifier, regressor in zip(self.classifiers, self.regressors, strict=True):
            nn.init.constant_(classifier.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
            nn.init.zeros_(regressor[-1].weight)  # type: ignore[index]
            nn.init.zeros_(regressor[-1].bias)  # type: ignore[index]
        nn.init.constant_(self.regressors[0][-1].bias[1:], -2.0)  # type: ignore[index]

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> QueryPredictions:
        """Predict.

        Args:
            features: the track; values at masked steps are never read.
            mask: True where a step is real; real steps come first.
        """
        assert features.shape[1] == self.in_channels, (tuple(features.shape), self.in_channels)
        missing = max(self.settings.pad_to_steps - mask.shape[1], 0)
        features, mask = nnf.pad(features, (0, missing)), nnf.pad(mask, (0, missing))
        read = mask if self.settings.padding == "masked" else torch.ones_like(mask)
        memory = self._encoded(self._embedded(features, mask, read), read)
        places, content = (part.expand(len(mask), -1, -1) for part in self.queries.chunk(2, dim=1))
        reference = self.reference(places).sigmoid()
        length = read.sum(dim=1).float()[:, None, None]
        layers = []
        for layer, classifier, regressor in zip(self.decoder, self.classifiers, self.regressors, strict=True):
            content = layer(content, places, reference, memory, read)
            refined = _refined(regressor(content).float(), reference.float())  # half precision cannot resolve steps
            layers.append((classifier(content), _segments(refined, length)))
            reference = refined.detach()  # gradients stay within one refinement
        logits, segments = layers[-1]
        actionness = None if self.actionness is None else self.actionness(memory, segments, length)
        return QueryPredictions(logits, segments, read, tuple(layers[:-1]), actionness)

    def _embedded(
        self,
        features: Float[Tensor, "batch in_channels time"],
        mask: Bool[Tensor, "batch time"],
        read: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch time dim"]:
        """The track in the head's channels; where padding is read, the authors' variant keeps its bias there."""
        x = self.embedding_norm(self.embedding(zero_padding(features, mask)), read)
        return zero_padding(x, read if self.settings.variant == "authors" else mask).transpose(1, 2)

    def _encoded(
        self, x: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time dim"]:
        """The track after the encoder; values at masked steps are meaningless."""
        at = 1.0 if self.settings.variant == "authors" else 0.5
        positions = sine_positions(mask, x.shape[-1], at=at).to(x.dtype) + self.place
        steps = torch.arange(mask.shape[1], device=mask.device) + 0.5
        reference = (steps / mask.sum(dim=1, keepdim=True).clamp(min=1))[..., None].to(x.dtype)
        for layer in self.encoder:
            x = layer(x, positions, reference, x, mask)
        return x

    def loss(
        self,
        predictions: QueryPredictions,
        segments: Sequence[Float[Tensor, "actions 2"]],
        labels: Sequence[Int[Tensor, " actions"]],
        *,
        normaliser: Tensor | None = None,
    ) -> HeadLoss:
        """:func:`query_loss` with the head's settings."""
        return query_loss(predictions, segments, labels, settings=self.settings, normaliser=normaliser)

    def candidates(self, predictions: QueryPredictions, *, min_score: float, limit: int | None = None) -> Candidates:
        """:func:`query_candidates` with the head's settings."""
        return query_candidates(predictions, min_score=min_score, limit=limit)

    def distil(self, student: QueryPredictions, teacher: QueryPredictions) -> PredictionDistillation:
        """:func:`query_distillation` with the head's settings."""
        return query_distillation(student, teacher, settings=self.settings)

    def average(self, *predictions: QueryPredictions) -> QueryPredictions:
        """The queries of all, since none belongs to one of another; suppression merges those that agree."""
        actionness = [each.actionness for each in predictions if each.actionness is not None]
        return QueryPredictions(
            torch.cat([each.logits for each in predictions], dim=1),
            torch.cat([each.segments for each in predictions], dim=1),
            predictions[0].mask,
            actionness=torch.cat(actionness, dim=1) if actionness else None,
        )


def _deformable_layer(settings: TadtrSettings, *, queries: bool) -> DeformableLayer:
    """A layer of the encoder, or with ``queries`` of the decoder."""
    return DeformableLayer(
        settings.dim,
        heads=settings.attention_heads,
        points=settings.points,
        mlp_dim=settings.mlp_dim,
        dropout=settings.dropout,
        queries=queries,
    )


def _refined(change: Float[Tensor, "*batch 2"], reference: Float[Tensor, "*batch _"]) -> Float[Tensor, "*batch 2"]:
    """Centre and width as fractions: the change is added before the sigmoid; ``reference`` may have no width."""
    before = reference.clamp(min=1e-5) / (1 - reference).clamp(min=1e-5)
    before = torch.cat((before.log(), torch.zeros_like(change[..., reference.shape[-1] :])), dim=-1)
    return (change + before).sigmoid()


def _segments(box: Float[Tensor, "*batch 2"], length: Float[Tensor, "batch 1 1"]) -> Float[Tensor, "*batch 2"]:
    """Start and end as positions, from centre and width as fractions of ``length``."""
    centre, half = box[..., :1] * length, box[..., 1:] * length / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def query_loss(
    predictions: QueryPredictions,
    segments: Sequence[Float[Tensor, "actions 2"]],
    labels: Sequence[Int[Tensor, " actions"]],
    *,
    settings: TadtrSettings,
    normaliser: Tensor | None = None,
) -> HeadLoss:
    """Loss of a batch against its ground truth (TadTR, section III-C, as in OpenTAD), summed over the decoder's layers.

    Each layer is matched separately. Classification is the focal loss of all queries. Regression sums, with the weights
    in the settings, the L1 distance of normalised centre and width of the matched queries, their ``1 - IoU``, and the
    L1 distance of actionness to the actual IoU. At most as many actions as there are queries can be matched.

    Args:
        predictions: predictions for the batch.
        segments: starts and ends of each track's actions, as fractional feature positions.
        labels: class of each segment, track by track.
        settings: settings of the head.
        normaliser: divisor of the sums; by default the actions of this batch, at least 1.
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
    """Sums of one layer's classification and weighted regression losses; segments are fractions of the track."""
    with torch.no_grad():
        cost = settings.class_cost * _focal_cost(logits)[:, labels]
        cost = cost + _place_cost(located, truth, settings.segment_cost, settings.iou_cost)
        query, action = (torch.from_numpy(side).to(logits.device) for side in assign(cost.cpu().numpy()))
    targets = torch.zeros_like(logits)
    targets[query, labels[action]] = 1.0
    matched, wanted = located[query], truth[action]
    apart = (_centre_width(matched) - _centre_width(wanted)).abs().sum()
    missed = (1 - tensor_iou(matched, wanted)).sum()
    regression = settings.segment_weight * apart + settings.iou_weight * missed
    return sigmoid_focal_loss(logits, targets, alpha=_ALPHA, gamma=_GAMMA).sum(), regression


def _focal_cost(logits: Float[Tensor, "queries classes"]) -> Float[Tensor, "queries classes"]:
    """Increase of a query's focal loss if it is matched to each class (Deformable DETR, appendix A.4)."""
    probability = logits.sigmoid()
    positive = _ALPHA * (1 - probability) ** _GAMMA * -(probability + _TINY).log()
    negative = (1 - _ALPHA) * probability**_GAMMA * -(1 - probability + _TINY).log()
    return positive - negative


def _place_cost(
    one: Float[Tensor, "m 2"], other: Float[Tensor, "n 2"], segment_cost: float, iou_cost: float
) -> Float[Tensor, "m n"]:
    """Weighted L1 distance of centre and width minus the weighted IoU, of each pair."""
    apart = (_centre_width(one)[:, None] - _centre_width(other)[None]).abs().sum(dim=-1)
    return segment_cost * apart - iou_cost * tensor_iou(one[:, None], other[None])


def _centre_width(segments: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
    start, end = segments.unbind(dim=-1)
    return torch.stack(((start + end) / 2, end - start), dim=-1)


def assign(cost: Float[np.ndarray, "rows cols"]) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """One-to-one pairs of rows and columns with the least total cost, as many as the shorter side has entries.

    Args:
        cost: any numbers; entries that are not finite count as more expensive than all others.

    Returns:
        Row indices in ascending order and the column of each.
    """
    from scipy.optimize import linear_sum_assignment  # training alone needs it, and importing it takes time

    finite = np.isfinite(cost)
    highest = 2 * (1 + float(np.abs(cost[finite]).max(initial=0.0))) * (1 + min(cost.shape))
    rows, columns = linear_sum_assignment(np.where(finite, cost, highest).astype(np.float64))
    return rows.astype(np.int64), columns.astype(np.int64)


@torch.no_grad()
def overlaps(
    located: Float[Tensor, "batch queries 2"], segments: Sequence[Float[Tensor, "actions 2"]]
) -> Float[Tensor, "batch queries"]:
    """IoU of each query's segment with the best-matching action of its own track; 0 if there are no actions.

    As in OpenTAD; the authors' code compares with the actions of all tracks in the batch.
    """
    located = located.float()
    none = located.new_zeros(1, 2)  # overlaps nothing
    truths = (torch.cat((truth.to(located), none)) for truth in segments)
    return torch.stack(
        [tensor_iou(one[:, None], truth[None]).amax(dim=1) for one, truth in zip(located, truths, strict=True)]
    )


def query_candidates(predictions: QueryPredictions, *, min_score: float, limit: int | None = None) -> Candidates:
    """The best candidates of one video: one per query and class, scored by probability (times actionness if predicted).

    Args:
        predictions: predictions for one video (batch 1).
        min_score: lower-scoring candidates are dropped.
        limit: maximum number of candidates; None: all.

    Raises:
        WeightsError: a prediction is not finite.
    """
    assert len(predictions.logits) == 1, "expected predictions for one video"
    scores = predictions.logits[0].sigmoid()
    if predictions.actionness is not None:
        scores = scores * predictions.actionness[0][:, None]
    return ranked(predictions.segments[0], scores, min_score=min_score, limit=limit)


def query_distillation(
    student: QueryPredictions, teacher: QueryPredictions, *, settings: TadtrSettings
) -> PredictionDistillation:
    """Distance from a student's queries to a teacher's, after matching them (TadTR defines none; this is ours).

    The teacher's queries, at most as many as the student has and highest-scoring first, are matched one to one by class
    divergence, distance and overlap, each weighted by the teacher's foreground score (its largest class probability),
    since its background queries need no match. Classification is KL(teacher || student) of each class's sigmoid,
    weighted by the larger of the two probabilities; the target of unmatched student queries is background. Regression
    is L1 plus ``1 - IoU`` plus, if both predict it, L1 of actionness, with the settings' weights, weighted by the
    foreground score. Both are divided by the teacher's foreground mass, at least 1. Earlier decoder layers are compared
    likewise, counted from the last, and the terms are summed. The teacher gets no gradient.
    """
    lengths = student.mask.sum(dim=1).clamp(min=1)
    classification = regression = student.logits.new_zeros((), dtype=torch.float32)
    for ours, theirs in zip(_layer_outputs(student), _layer_outputs(teacher), strict=False):
        mass = theirs.logits.detach().float().sigmoid().amax(dim=-1).sum().clamp(min=1.0)
        for video, length in enumerate(lengths):
            of_class, of_place = _video_distillation(
                _of_video(ours, video, length), _of_video(theirs, video, length), settings
            )
            classification, regression = classification + of_class / mass, regression + of_place / mass
    return PredictionDistillation(classification, regression)


class _LayerOutput(NamedTuple):
    """Predictions of one decoder layer."""

    logits: Float[Tensor, "*batch queries classes"]
    located: Float[Tensor, "*batch queries 2"]
    actionness: Float[Tensor, "*batch queries"] | None = None


def _layer_outputs(predictions: QueryPredictions) -> list[_LayerOutput]:
    """Outputs of the decoder's layers, the last first; only the last has actionness."""
    last = _LayerOutput(predictions.logits, predictions.segments, predictions.actionness)
    return [last, *(_LayerOutput(*one) for one in reversed(predictions.earlier))]


def _of_video(layer: _LayerOutput, video: int, length: Tensor) -> _LayerOutput:
    """The predictions for one video, with segments as fractions of its track."""
    logits, located, actionness = layer
    fit = None if actionness is None else actionness[video].float()
    return _LayerOutput(logits[video].float(), located[video].float() / length, fit)


def _video_distillation(
    ours: _LayerOutput, theirs: _LayerOutput, settings: TadtrSettings
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sums of one layer's class and segment distances to the teacher's."""
    logits, located, fit = ours
    target, placed = theirs.logits.detach(), theirs.located.detach()
    foreground, order = target.sigmoid().amax(dim=-1).sort(descending=True, stable=True)
    foreground, order = foreground[: len(logits)], order[: len(logits)]
    target, placed = target[order], placed[order]
    with torch.no_grad():
        cost = settings.class_cost * sigmoid_divergence(target[:, None], logits[None]).sum(dim=-1)
        cost = cost + _place_cost(placed, located, settings.segment_cost, settings.iou_cost)
        pairs = assign((foreground[:, None] * cost).cpu().numpy())
        theirs_at, ours_at = (torch.from_numpy(side).to(logits.device) for side in pairs)
    wanted = torch.full_like(logits, -torch.inf)
    wanted[ours_at] = target[theirs_at]
    weight = torch.maximum(wanted.sigmoid(), logits.detach().sigmoid())
    found, sought = located[ours_at], placed[theirs_at]
    apart = settings.segment_weight * (_centre_width(found) - _centre_width(sought)).abs().sum(dim=-1)
    apart = apart + settings.iou_weight * (1 - tensor_iou(found, sought))
    if fit is not None and theirs.actionness is not None:
        fits = theirs.actionness.detach()[order]
        apart = apart + settings.actionness_weight * (fit[ours_at] - fits[theirs_at]).abs()
    return (weight * sigmoid_divergence(wanted, logits)).sum(), (foreground[theirs_at] * apart).sum()


class DeformableLayer(nn.Module):
    """Deformable attention to a track, then a two-layer perceptron, each followed by a norm.

    Args:
        dim: channels.
        heads: attention heads.
        points: sampled positions per head.
        mlp_dim: hidden channels of the perceptron.
        dropout: after each linear layer of the perceptron, and on attention.
        queries: precede it with self-attention, as in the decoder.
    """

    def __init__(self, dim: int, *, heads: int, points: int, mlp_dim: int, dropout: float, queries: bool) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True) if queries else None
        self.self_norm = nn.LayerNorm(dim) if queries else None
        self.attention = DeformableAttention(dim, heads=heads, points=points, dropout=dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.mlp = perceptron(dim, mlp_dim, dropout)
        self.mlp_norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Float[Tensor, "batch queries dim"],
        positions: Float[Tensor, "batch queries dim"],
        reference: Float[Tensor, "batch queries _"],
        memory: Float[Tensor, "batch time dim"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch queries dim"]:
        """Apply the layer; in the encoder ``memory`` is ``x``. Values at masked steps are meaningless."""
        if self.self_attention is not None and self.self_norm is not None:
            placed = x + positions
            x = self.self_norm(x + self.self_attention(placed, placed, x, need_weights=False)[0])
        x = self.attention_norm(x + self.attention(x + positions, reference, memory, mask))
        result: Tensor = self.mlp_norm(x + self.mlp(x))
        return result


class DeformableAttention(nn.Module):
    """Each query samples ``points`` positions per head around its reference and averages them with learned weights.

    Args:
        dim: channels, a multiple of ``heads``.
        heads: attention heads.
        points: sampled positions per head.
        dropout: on the result.
    """

    def __init__(self, dim: int, *, heads: int, points: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.offsets, self.weights = nn.Linear(dim, heads * points), nn.Linear(dim, heads * points)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.weights.bias)
        # Heads start out alternating between right and left, with points 1 to ``points`` steps away.
        direction = torch.cos(torch.arange(heads) * (4 * math.pi / heads))
        with torch.no_grad():
            self.offsets.bias.copy_((direction[:, None] * torch.arange(1, points + 1)).flatten())

    def forward(
        self,
        query: Float[Tensor, "batch queries dim"],
        reference: Float[Tensor, "batch queries _"],
        memory: Float[Tensor, "batch time dim"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch queries dim"]:
        """Attend to ``memory``.

        Args:
            query: the queries.
            reference: centre, or centre and width, of each query's segment as fractions of the real length. Offsets are
                in steps around a bare centre, and in units of half the width over ``points`` if there is a width.
            memory: the track to sample from.
            mask: True where memory is real; real steps come first.
        """
        length = mask.sum(dim=1).clamp(min=1).to(query.dtype)[:, None, None, None]
        offsets = self.offsets(query).unflatten(2, (self.heads, self.points))
        centre = reference[..., :1, None]
        if reference.shape[-1] == 1:
            places = centre + offsets / length
        else:
            places = centre + offsets / self.points * reference[..., 1:, None] * 0.5
        weights = self.weights(query).unflatten(2, (self.heads, self.points)).softmax(dim=-1)
        value = self.value(memory).masked_fill(~mask[..., None], 0.0).unflatten(2, (self.heads, -1))
        read = sampled(value, places * length - 0.5)
        mixed = (read * weights.permute(0, 2, 1, 3)[:, :, None]).sum(dim=-1)
        result: Tensor = self.dropout(self.out(mixed.flatten(1, 2).transpose(1, 2)))
        return result


def sampled(
    value: Float[Tensor, "batch time heads part"], place: Float[Tensor, "batch queries heads points"]
) -> Float[Tensor, "batch heads part queries points"]:
    """``value`` at fractional steps by linear interpolation; zero outside the track."""
    batch, time, heads, part = value.shape
    track = value.permute(0, 2, 3, 1).reshape(batch * heads, part, 1, time)
    x = ((2 * place + 1) / time - 1).permute(0, 2, 1, 3).flatten(0, 1)
    grid = torch.stack((x, torch.zeros_like(x)), dim=-1)
    read = nnf.grid_sample(track, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return read.reshape(batch, heads, part, *read.shape[2:])


def perceptron(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    """Linear, ReLU, linear, with dropout after each."""
    return nn.Sequential(
        nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
    )


def three_layers(in_dim: int, dim: int, out_dim: int) -> nn.Sequential:
    """Three linear layers with ReLU between them."""
    return nn.Sequential(nn.Linear(in_dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out_dim))


def sine_positions(mask: Bool[Tensor, "batch time"], dim: int, *, at: float = 0.5) -> Float[Tensor, "batch time dim"]:
    """Sinusoidal encoding of each step's position as a fraction of the real length, times 2 pi (DETR, section 3).

    Args:
        mask: True where a step is real; real steps come first.
        dim: channels.
        at: point within a step that stands for it: 0 its start, 1 its end.
    """
    steps = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32) + at
    share = 2 * math.pi * steps / (mask.sum(dim=1, keepdim=True) + 1e-6)
    return sinusoids(share, dim)


class Actionness(nn.Module):
    """Predicts the IoU of a segment with an action from features of the segment and its surroundings.

    Args:
        dim: channels of the memory.
        bins: parts into which the span is divided.
        context: surroundings on either side, as a fraction of the segment's length.
    """

    def __init__(self, dim: int, *, bins: int, context: float) -> None:
        super().__init__()
        self.bins, self.context = bins, context
        self.mlp = three_layers(bins * dim, dim, 1)

    def forward(
        self,
        memory: Float[Tensor, "batch time dim"],
        segments: Float[Tensor, "batch queries 2"],
        length: Float[Tensor, "batch 1 1"],
    ) -> Float[Tensor, "batch queries"]:
        """Predicted IoU, in [0, 1].

        Args:
            memory: the track after the encoder; gradients flow into it.
            segments: starts and ends as fractional positions; they get no gradient.
            length: number of steps of each track that are read.
        """
        start, end = segments.detach().unbind(dim=-1)
        around = (end - start) * self.context
        spans = torch.stack((start - around, end + around), dim=-1)
        read = segment_features(memory, torch.minimum(spans.clamp(min=0), length), length, bins=self.bins)
        overlap: Tensor = self.mlp(read.flatten(2)).sigmoid()
        return overlap.squeeze(-1)


def segment_features(
    memory: Float[Tensor, "batch time dim"],
    spans: Float[Tensor, "batch queries 2"],
    length: Float[Tensor, "batch 1 1"],
    *,
    bins: int,
) -> Float[Tensor, "batch queries dim bins"]:
    """Mean features of ``bins`` equal parts of each span, by linear interpolation (one-dimensional RoIAlign).

    After He et al., Mask R-CNN (ICCV 2017, section 3), as in TadTR and OpenTAD: a span covers at least one step, and
    each part is sampled at as many evenly spaced points as it has steps, rounded up; points before the first step or
    past the last read that step. OpenTAD first rounds features and spans to half precision; we do not.

    Args:
        memory: steps past ``length`` are never read.
        spans: starts and ends as fractional positions, from 0 to ``length``.
        length: real steps of each track, which come first.
        bins: number of parts.
    """
    start, end = spans.unbind(dim=-1)
    part = (end - start).clamp(min=1)[..., None, None] / bins
    number = part.ceil()
    nth = torch.arange(-(-memory.shape[1] // bins), device=memory.device)
    place = start[..., None, None] + part * (torch.arange(bins, device=memory.device)[:, None] + (nth + 0.5) / number)
    # Only a span widened to one step can extend past the track; TadTR and OpenTAD read zeros there.
    weight = ((nth < number) & (place <= length[..., None])) / number
    inside = torch.minimum(place.clamp(min=0), (length[..., None] - 1).clamp(min=0))
    # In float32, because half precision cannot resolve positions.
    read = sampled(memory.float()[:, :, None], inside.flatten(2)[:, :, None])[:, 0]
    mean = (read.reshape(*read.shape[:3], bins, -1) * weight[:, None]).sum(dim=-1)
    return mean.transpose(1, 2).to(memory.dtype)
