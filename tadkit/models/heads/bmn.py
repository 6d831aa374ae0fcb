"""Boundary-matching head: scores every step as a start and as an end, and every (start, duration) as a proposal.

After BMN (Lin et al., Boundary-matching network, ICCV 2019). The paper's proposals have no class; the classifier is
ours, so that the head is a complete detector. Its logits are the mean over the steps inside a proposal plus a term from
the map, which sees their order; from the map alone, classes are learned much later than locations. Padding is never
read: columns of the map that start past the track stay zero, so that padding a window does not change its results.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from tadkit.config import BmnSettings
from tadkit.models.heads.head import (
    Candidates,
    HeadLoss,
    HeadOf,
    PredictionDistillation,
    mean_logit,
    ranked,
    sigmoid_divergence,
    sigmoid_focal_loss,
)
from tadkit.models.heads.layers import ChannelNorm, MaskedConv1d, zero_padding
from tadkit.segments import tensor_iou

EDGE_COVERED, GOOD_IOU, CLASS_IOU = 0.5, 0.9, 0.5
"""A step is a boundary above this coverage; a proposal is good above this IoU, and has a class from this IoU."""


HIGH_IOU, LOW_IOU = 0.7, 0.3
"""IoU bounds of the three groups (high, middle, low) that regression balances by subsampling the last two."""


_GROUP_CHANNELS = 4
"""Channels of a group in the bottlenecks of a graph layer."""


class BoundaryPredictions(NamedTuple):
    """Predictions for every step and every proposal, all before the sigmoid.

    Cell (d, t) of a map is the proposal from position ``t`` to ``t + d + 1``; see :func:`valid_proposals`.

    Attributes:
        start: (batch, time), whether an action starts at a step.
        end: (batch, time), whether an action ends at a step.
        confidence: (batch, 2, durations, time), IoU of a proposal with an action, trained by classification and by
            regression.
        classes: (batch, classes, durations, time), classes of each proposal; None without a classifier.
        mask: (batch, time), True at real steps, which come first.
    """

    start: Float[Tensor, "batch time"]
    end: Float[Tensor, "batch time"]
    confidence: Float[Tensor, "batch 2 durations time"]
    classes: Float[Tensor, "batch classes durations time"] | None
    mask: Bool[Tensor, "batch time"]


class BmnHead(HeadOf[BoundaryPredictions]):
    """Convolutions, optional graph layers, boundary scores of each step, boundary-matching map, confidence and classes.

    Args:
        settings: sizes.
        in_channels: channels of the feature track.
        num_classes: number of classes, each with its own sigmoid; ignored without a classifier (one class).
    """

    windows_apart = True

    settings: BmnSettings

    def __init__(self, settings: BmnSettings, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.in_channels, self.num_classes = in_channels, num_classes if settings.classifier else 1
        dim, map_dim, groups = settings.dim, settings.map_dim, settings.groups
        self.embedding = nn.ModuleList(
            MaskedConv1d(channels, dim, kernel=3, groups=math.gcd(groups, channels)) for channels in (in_channels, dim)
        )
        self.graph = nn.ModuleList(
            GraphLayer(dim, neighbours=settings.neighbours, groups=max(dim // 8, 1))
            for _ in range(settings.graph_layers)
        )
        self.start, self.end = _edge(dim, groups), _edge(dim, groups)
        self.reduced = MaskedConv1d(dim, map_dim, kernel=3)
        self.matching = BoundaryMatching(
            map_dim,
            settings.roi_dim,
            durations=settings.durations,
            samples=settings.samples,
            samples_per_bin=settings.samples_per_bin,
            context=settings.context,
        )
        self.narrowed = nn.Conv2d(settings.roi_dim, map_dim, 1)
        self.tower = nn.ModuleList(nn.Conv2d(map_dim, map_dim, 3, padding=1) for _ in range(settings.map_layers))
        self.confidence = nn.Conv2d(map_dim, 2, 1)
        self.naming = nn.ModuleList()
        if settings.classifier:
            self.naming.extend((nn.Conv2d(map_dim, map_dim, 3, padding=1), nn.Conv2d(map_dim, num_classes, 1)))
            self.step_norm, self.step_naming = ChannelNorm(dim), MaskedConv1d(dim, num_classes, kernel=3)
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d | nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        prior = settings.prior_probability
        for layer in self.naming[1:]:
            nn.init.constant_(layer.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> BoundaryPredictions:
        """Predict; memory grows with durations x time, so long tracks must be cut into windows.

        Args:
            features: the track; values at masked steps are never read.
            mask: True where a step is real; real steps come first.
        """
        assert features.shape[1] == self.in_channels, (tuple(features.shape), self.in_channels)
        x = zero_padding(features, mask)
        for conv in self.embedding:
            x = nnf.relu(conv(x, mask))
        for layer in self.graph:
            x = layer(x, mask)
        start, end = (last(nnf.relu(first(x, mask)), mask)[:, 0] for first, last in (self.start, self.end))
        valid, column = valid_proposals(mask, self.settings.durations), mask[:, None, None]
        sampled = nnf.relu(self.matching(nnf.relu(self.reduced(x, mask)), valid))
        proposals = nnf.relu(self.narrowed(sampled)) * column
        judged = proposals
        for conv in self.tower:
            judged = nnf.relu(conv(judged)) * column
        classes = None
        if self.settings.classifier:
            hidden, last = self.naming
            classes = last(nnf.relu(hidden(proposals)) * column)
            steps = self.step_naming(nnf.relu(self.step_norm(x, mask)), mask)
            classes = classes + means_inside(steps, self.settings.durations)
        return BoundaryPredictions(start, end, self.confidence(judged), classes, mask)

    def loss(
        self,
        predictions: BoundaryPredictions,
        segments: Sequence[Float[Tensor, "actions 2"]],
        labels: Sequence[Int[Tensor, " actions"]],
        *,
        normaliser: Tensor | None = None,
    ) -> HeadLoss:
        """:func:`boundary_loss` with the head's settings."""
        return boundary_loss(predictions, segments, labels, settings=self.settings, normaliser=normaliser)

    def candidates(self, predictions: BoundaryPredictions, *, min_score: float, limit: int | None = None) -> Candidates:
        """:func:`boundary_candidates` with the head's settings."""
        return boundary_candidates(predictions, settings=self.settings, min_score=min_score, limit=limit)

    def distil(self, student: BoundaryPredictions, teacher: BoundaryPredictions) -> PredictionDistillation:
        """:func:`boundary_distillation` with the head's settings."""
        return boundary_distillation(student, teacher)

    def average(self, *predictions: BoundaryPredictions) -> BoundaryPredictions:
        """Average probabilities of each step and each proposal."""
        classes = [each.classes for each in predictions if each.classes is not None]
        return BoundaryPredictions(
            mean_logit(*(each.start for each in predictions)),
            mean_logit(*(each.end for each in predictions)),
            mean_logit(*(each.confidence for each in predictions)),
            mean_logit(*classes) if classes else None,
            predictions[0].mask,
        )


def _edge(dim: int, groups: int) -> nn.ModuleList:
    """Two convolutions that give one score per step."""
    return nn.ModuleList((MaskedConv1d(dim, dim, kernel=3, groups=groups), MaskedConv1d(dim, 1, kernel=1)))


def valid_proposals(mask: Bool[Tensor, "batch time"], durations: int) -> Bool[Tensor, "batch durations time"]:
    """True where the proposal of ``duration + 1`` steps from a start ends within the real steps, which come first."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    duration = torch.arange(durations, device=mask.device)[:, None]
    return steps + duration < mask.sum(dim=1)[:, None, None]


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

    Classification is the mean balanced cross-entropy of starts, of ends and of good proposals, plus the focal loss of
    the proposals' classes over the normaliser. Regression is the weighted squared error of the IoU, over all proposals
    of high IoU and equal random samples of middle and low IoU (OpenTAD samples with replacement if there are too few;
    we do not).

    Args:
        predictions: predictions for the batch.
        segments: starts and ends of each track's actions, as fractional feature positions.
        labels: class of each segment, track by track; ignored without a classifier.
        settings: settings of the head.
        normaliser: divisor of the class losses; by default the proposals of this batch that have a class, at least 1.
        generator: source of the sampling, on the CPU; by default torch's global one.
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
        predicted_classes, wanted = (x.movedim(1, -1)[valid].float() for x in (predictions.classes, targets.classes))
        over = positives.clamp(min=1) if normaliser is None else normaliser
        of_classes = sigmoid_focal_loss(predicted_classes, wanted).sum() / over
        classification = classification + settings.classifier_weight * of_classes
    predicted = predictions.confidence[:, 1][valid].float().sigmoid()
    regression = settings.regression_weight * _balanced_square(predicted, overlap, generator)
    return HeadLoss(classification, regression, classification + regression, positives)


def _balanced(logits: Float[Tensor, " n"], positive: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean cross-entropy in which positives and negatives weigh one half each, if both are present."""
    loss = nnf.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
    count, positives = positive.numel(), positive.sum()
    weights = 0.5 * count / torch.where(positive, positives, count - positives).clamp(min=1)
    both = (positives > 0) & (positives < count)
    return (torch.where(both, weights, torch.ones_like(weights)) * loss).mean()


def _balanced_square(
    predicted: Float[Tensor, " n"], overlap: Float[Tensor, " n"], generator: torch.Generator | None
) -> Float[Tensor, ""]:
    """Mean squared error over all of high IoU and random samples of about that size of middle and low IoU."""
    high, low = overlap > HIGH_IOU, overlap <= LOW_IOU
    middle = ~high & ~low
    square = (predicted - overlap).square()
    wanted = high.sum()
    draw = torch.rand(overlap.shape, generator=generator).to(overlap.device)
    drawn = (middle & (draw * middle.sum() < wanted)) | (low & (draw * low.sum() < wanted))
    taken = torch.where(wanted > 0, high | drawn, torch.ones_like(high))
    return (square * taken).sum() / taken.sum().clamp(min=1)


class BoundaryTargets(NamedTuple):
    """Targets of steps and proposals.

    Attributes:
        start: (batch, time), largest share of a step that the region around any start covers.
        end: (batch, time), the same for ends.
        overlap: (batch, durations, time), IoU with the best-matching action.
        classes: (batch, classes, durations, time), 1.0 for each class that has an action with an IoU of 0.5 or more.
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
    """Targets of a batch; step ``t`` covers ``[t, t + 1)``, as in the paper.

    Args:
        time: steps of a track.
        durations: rows of the map.
        segments: starts and ends of each track's actions (possibly none), as fractional feature positions.
        labels: class of each segment, track by track.
        num_classes: number of classes.
        edge_steps: length of the region around a start or end that counts as the boundary.
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
        iou = tensor_iou(torch.stack((first, last), dim=-1).reshape(-1, 1, 2), truth[None])
        classes = (iou >= CLASS_IOU).float() @ nnf.one_hot(label.long(), num_classes).float()
        start, end = (_covered(steps, truth[:, side], edge_steps) for side in (0, 1))
        overlap = iou.amax(dim=1).reshape(durations, time)
        of_videos.append(BoundaryTargets(start, end, overlap, classes.clamp(max=1).T.reshape(-1, durations, time)))
    return BoundaryTargets(*(torch.stack(field) for field in zip(*of_videos, strict=True)))


def _covered(
    steps: Float[Tensor, " time"], edges: Float[Tensor, " actions"], edge_steps: float
) -> Float[Tensor, " time"]:
    """Largest share of each step that the region around any edge covers."""
    latest = torch.maximum(steps[:, None], edges - edge_steps / 2)
    earliest = torch.minimum(steps[:, None] + 1, edges + edge_steps / 2)
    return (earliest - latest).clamp(min=0).amax(dim=1)


def boundary_candidates(
    predictions: BoundaryPredictions, *, settings: BmnSettings, min_score: float, limit: int | None
) -> Candidates:
    """The best candidates of one video: proposals from likely starts to likely ends, one per class.

    A step is a likely start (or end) if it is a local maximum or exceeds half of the global maximum; the first step is
    always a start and the last an end (BMN, section 4.3).

    Args:
        predictions: predictions for one video (batch 1).
        settings: settings of the head.
        min_score: lower-scoring candidates are dropped.
        limit: maximum number of candidates; None: all.

    Raises:
        WeightsError: a prediction is not finite.
    """
    assert len(predictions.mask) == 1, "expected predictions for one video"
    length = int(predictions.mask.sum())
    start, end = (edge[0, :length].sigmoid() for edge in (predictions.start, predictions.end))
    starts, ends = _likely(start), _likely(end)
    starts[:1], ends[-1:] = True, True
    fits = valid_proposals(predictions.mask, settings.durations)[0, :, :length]
    duration, first = fits.nonzero(as_tuple=True)
    chosen = starts[first] & ends[first + duration]
    duration, first = duration[chosen], first[chosen]
    scores = predictions.confidence[0, :, duration, first].sigmoid().prod(dim=0)
    if settings.score == "iou*s*e":
        scores = start[first] * end[first + duration] * scores
    scores = scores[:, None]
    if predictions.classes is not None:
        scores = scores * predictions.classes[0, :, duration, first].sigmoid().T
    positions = torch.stack((first, first + duration + 1), dim=1).to(scores.dtype)
    return ranked(positions, scores, min_score=min_score, limit=limit)


def _likely(probability: Float[Tensor, " time"]) -> Bool[Tensor, " time"]:
    """Local maxima, and all steps above half of the global maximum."""
    if not len(probability):
        return probability > 0
    highest = nnf.max_pool1d(probability[None], kernel_size=3, stride=1, padding=1)[0]
    return (probability == highest) | (probability > 0.5 * probability.max())


def boundary_distillation(student: BoundaryPredictions, teacher: BoundaryPredictions) -> PredictionDistillation:
    """Distance from a student's maps to a teacher's, step by step and cell by cell (BMN defines none; this is ours).

    Classification is KL(teacher || student) of each sigmoid (starts, ends, first confidence, classes), regression the
    squared difference of the second confidence. Each is weighted by the larger of the two probabilities (without
    gradient) and divided by the sum of the teacher's, at least 1. The teacher gets no gradient.
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
    classification = torch.stack(
        [_weighted_divergence(theirs.detach().float(), ours.float()) for ours, theirs in pairs]
    ).sum()
    ours, theirs = (x.confidence[:, 1][valid].float().sigmoid() for x in (student, teacher))
    theirs = theirs.detach()
    weight = torch.maximum(ours.detach(), theirs)
    regression = (weight * (ours - theirs).square()).sum() / theirs.sum().clamp(min=1.0)
    return PredictionDistillation(classification, regression)


def _weighted_divergence(target: Float[Tensor, "*shape"], logits: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """KL divergence weighted by the larger of the two probabilities, over the sum of the teacher's probabilities."""
    probability = target.sigmoid()
    weight = torch.maximum(probability, logits.detach().sigmoid())
    return (weight * sigmoid_divergence(target, logits)).sum() / probability.sum().clamp(min=1.0)


class BoundaryMatching(nn.Module):
    """Samples ``samples`` features of every proposal and its surroundings and projects them to ``out_channels``.

    Args:
        in_channels: channels of the track.
        out_channels: channels of the map.
        durations: rows of the map; row ``d`` holds proposals of ``d + 1`` steps.
        samples: features sampled per proposal.
        samples_per_bin: points averaged into each of them.
        context: surroundings on either side, as a fraction of the proposal's length.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        durations: int,
        samples: int,
        samples_per_bin: int,
        context: float,
    ) -> None:
        super().__init__()
        self.durations, self.samples, self.samples_per_bin, self.context = durations, samples, samples_per_bin, context
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, samples))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.weight)

    def forward(
        self, x: Float[Tensor, "batch in_channels time"], valid: Bool[Tensor, "batch durations time"]
    ) -> Float[Tensor, "batch out_channels durations time"]:
        """Map of the proposals that start at each step; cells that are not ``valid`` hold only the bias.

        Args:
            x: the track, zero at masked steps.
            valid: True where a proposal ends inside the track.
        """
        batch, _, time = x.shape
        mixed = torch.einsum("ocn,bct->ntbo", self.weight, x).reshape(self.samples * time, -1)
        cells = (self.durations, time, self.samples, self.samples_per_bin, self.context, str(x.device))
        read = _SparseProduct.apply(*_matrices(*cells), mixed)  # type: ignore[no-untyped-call]
        out = read.reshape(self.durations, time, batch, -1).permute(2, 3, 0, 1)
        return out * valid[:, None] + self.bias[:, None, None]  # type: ignore[no-any-return]


class _SparseProduct(torch.autograd.Function):
    """``matrix @ dense`` with a gradient for ``dense`` only; torch's own would transpose the matrix at every call.

    Computed in float32 even under mixed precision, since torch has no sparse product in half precision.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:
        ctx.save_for_backward(transposed)
        return _product(matrix, dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        (transposed,) = ctx.saved_tensors
        return None, None, _product(transposed, gradients[0])


def _product(matrix: Float[Tensor, "rows inner"], dense: Float[Tensor, "inner cols"]) -> Float[Tensor, "rows cols"]:
    """Product with a sparse matrix, in the dtype of ``dense``."""
    with torch.autocast(dense.device.type, enabled=False):
        result: Tensor = (matrix @ dense.float().contiguous()).to(dense.dtype)
    return result


@lru_cache(maxsize=8)
def _matrices(
    durations: int, time: int, samples: int, samples_per_bin: int, context: float, device: str
) -> tuple[Float[Tensor, "cells places"], Float[Tensor, "places cells"]]:
    """Sampling weights from (sample, step) to cells (duration, start), and the transpose, both in CSR format.

    Points outside the track read zero; as in the authors' code, those between -1 and 0 read step 0.
    """
    duration, start = (x.ravel() for x in np.meshgrid(np.arange(durations), np.arange(time), indexing="ij"))
    cell = np.flatnonzero(start + duration < time)
    first, last = start[cell], start[cell] + duration[cell]
    around = (duration[cell] + 1) * context
    places = samples * samples_per_bin
    spacing = (last - first + 2 * around) / max(places - 1, 1)
    at = (first - around)[:, None] + spacing[:, None] * np.arange(places)
    below = np.trunc(at)
    share = at - below
    steps = np.stack((below, np.ceil(at))).astype(np.int64)
    weights = np.stack((1 - share, share)) / samples_per_bin
    row = np.broadcast_to(cell[:, None], steps.shape)
    column = np.repeat(np.arange(samples), samples_per_bin) * time + steps
    kept = (steps >= 0) & (steps < time) & (weights != 0)
    shape = (durations * time, samples * time)
    with torch.inference_mode(False), warnings.catch_warnings():  # cached matrices are also used in training
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        indices = torch.from_numpy(np.stack((row[kept], column[kept])))
        values = torch.from_numpy(weights[kept].astype(np.float32))
        matrix = torch.sparse_coo_tensor(indices, values, shape, check_invariants=False).coalesce().to(device)
        return matrix.to_sparse_csr(), matrix.t().coalesce().to_sparse_csr()


def means_inside(
    x: Float[Tensor, "batch channels time"], durations: int
) -> Float[Tensor, "batch channels durations time"]:
    """Mean over the steps inside every proposal, in float32 or better; steps past the end of the track count as zeros.

    Args:
        x: the track.
        durations: rows of the map; row ``d`` holds proposals of ``d + 1`` steps.
    """
    time, precision = x.shape[-1], torch.promote_types(x.dtype, torch.float32)
    sums = nnf.pad(x, (1, durations)).cumsum(dim=-1, dtype=precision)
    rows = [(sums[..., steps : steps + time] - sums[..., :time]) / steps for steps in range(1, durations + 1)]
    return torch.stack(rows, dim=2)


class GraphLayer(nn.Module):
    """Residual layer of two grouped bottlenecks: over time, and over edges to the most similar steps.

    Args:
        dim: channels.
        neighbours: number of most similar steps that a step aggregates, itself included.
        groups: groups of four channels in the bottlenecks.
    """

    def __init__(self, dim: int, *, neighbours: int, groups: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        width = _GROUP_CHANNELS * groups
        self.time = nn.ModuleList(
            (
                MaskedConv1d(dim, width, kernel=1),
                MaskedConv1d(width, width, kernel=3, groups=groups),
                MaskedConv1d(width, dim, kernel=1),
            )
        )
        self.edges = nn.Sequential(
            nn.Conv2d(2 * dim, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(width, dim, 1),
        )

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim time"]:
        """Apply the layer; ``x`` and the result are zero at masked steps."""
        first, grouped, last = self.time
        in_time: Tensor = last(nnf.relu(grouped(nnf.relu(first(x, mask)), mask)), mask)
        near = nearest_steps(x, mask, self.neighbours)
        other = x.transpose(1, 2)[torch.arange(len(x), device=x.device)[:, None, None], near].permute(0, 3, 1, 2)
        edges = torch.cat((other, x[..., None].expand_as(other)), dim=1)
        aggregated = self.edges(edges).amax(dim=-1)
        return zero_padding(nnf.relu(x + in_time + aggregated), mask)


def nearest_steps(
    x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"], count: int
) -> Int64[Tensor, "batch time count"]:
    """The ``count`` real steps with the nearest features to each step, itself included; filled up with itself."""
    with torch.no_grad():
        track = x.float().transpose(1, 2)
        distance = torch.cdist(track, track).masked_fill(~mask[:, None], torch.inf)
        found = distance.topk(min(count, x.shape[2]), largest=False)
        own = torch.arange(x.shape[2], device=x.device)[:, None]
        near = torch.where(found.values.isfinite(), found.indices, own)
        return torch.cat((near, own.expand(len(x), -1, count - near.shape[2])), dim=2)
