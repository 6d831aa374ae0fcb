"""Boundary-matching head: every start and duration is judged as a proposal, beside every step as a start and an end.

After BMN (Lin et al., Boundary-matching network, ICCV 2019). The paper proposes without naming; the classifier of the
proposals is ours, so that the head detects by itself: what the steps inside say on the mean, plus what the map says,
which knows their order; the map alone learns where long before it learns what. Padding is never read: columns of the
map that start past the track stay zero, so that a padded window gives what its real steps give alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import BmnSettings
from tadkit.models.heads.bmn_layers import BoundaryMatching, means_inside, valid_proposals
from tadkit.models.heads.graph import GraphLayer
from tadkit.models.heads.head import Candidates, Head
from tadkit.models.heads.layers import ChannelNorm, MaskedConv1d, zero_padding
from tadkit.models.heads.ranking import ranked


class BoundaryPredictions(NamedTuple):
    """What is said of every step and of every proposal; all before the sigmoid.

    Cell (d, t) of a map is the proposal from position ``t`` to ``t + d + 1``; see :func:`valid_proposals`.

    Attributes:
        start: (batch, time), that an action starts at a step.
        end: (batch, time), that one ends there.
        confidence: (batch, 2, durations, time): that a proposal overlaps an action, learnt as a class and as a number.
        classes: (batch, classes, durations, time), of each proposal; None without a classifier.
        mask: (batch, time), True at real steps, which come first.
    """

    start: Float[Tensor, "batch time"]
    end: Float[Tensor, "batch time"]
    confidence: Float[Tensor, "batch 2 durations time"]
    classes: Float[Tensor, "batch classes durations time"] | None
    mask: Bool[Tensor, "batch time"]


class BmnHead(Head):
    """Convolutions, graph layers if asked for, edges of each step, boundary-matching map, confidence and classes.

    Args:
        settings: sizes.
        in_channels: channels of the feature track.
        num_classes: classes; each has a sigmoid of its own. Without a classifier there is one, whatever is given.
    """

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
        """Predict; memory grows with durations x time, so long tracks are cut into windows.

        Args:
            features: the track; what stands at masked steps is never read.
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


def boundary_candidates(
    predictions: BoundaryPredictions, *, settings: BmnSettings, min_score: float, limit: int
) -> Candidates:
    """The best candidates of one video: proposals from likely starts to likely ends, once for each class.

    A step is a likely start, or end, if none beside it is likelier or if it reaches half of the likeliest; the first
    step is always a start and the last an end (BMN, section 4.3).

    Args:
        predictions: of one video (batch 1).
        settings: of the head.
        min_score: candidates below it are left out.
        limit: most candidates.

    Raises:
        WeightsError: a prediction is not a finite number.
    """
    assert len(predictions.mask) == 1, "candidates are of one video"
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


def _edge(dim: int, groups: int) -> nn.ModuleList:
    """Two convolutions to one number a step."""
    return nn.ModuleList((MaskedConv1d(dim, dim, kernel=3, groups=groups), MaskedConv1d(dim, 1, kernel=1)))


def _likely(probability: Float[Tensor, " time"]) -> Bool[Tensor, " time"]:
    """Local peaks, and all that reach half of the highest."""
    if not len(probability):
        return probability > 0
    highest = nnf.max_pool1d(probability[None], kernel_size=3, stride=1, padding=1)[0]
    return (probability == highest) | (probability > 0.5 * probability.max())
