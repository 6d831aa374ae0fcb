"""Anchor-free head: every step of a temporal pyramid names its classes and its distances to the action's two ends.

After ActionFormer (Zhang, Wu, Li, ECCV 2022, section 3.3). Where we leave the paper is said in
:mod:`tadkit.heads.pyramid` and beside the lines that do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import ActionFormerSettings
from tadkit.errors import WeightsError
from tadkit.heads.head import Candidates, Head
from tadkit.heads.pyramid import ChannelNorm, MaskedConv1d, Pyramid


class HeadPredictions(NamedTuple):
    """What a head says of each step, level by level, finest first.

    Attributes:
        logits: one (batch, level_time, classes) a level, before the sigmoid; actions may overlap.
        offsets: one (batch, level_time, 2) a level: distance to start and end in strides of the level, not negative.
        masks: one (batch, level_time) a level, True where the step is real; the rest means nothing.
    """

    logits: tuple[Float[Tensor, "batch _ classes"], ...]
    offsets: tuple[Float[Tensor, "batch _ 2"], ...]
    masks: tuple[Bool[Tensor, "batch _"], ...]


class Tower(nn.Module):
    """``layers`` masked convolutions of kernel 3 over time, LayerNorm and ReLU between them."""

    def __init__(self, dim: int, out_channels: int, *, layers: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(MaskedConv1d(dim, dim, kernel=3, bias=False) for _ in range(layers - 1))
        self.norms = nn.ModuleList(ChannelNorm(dim) for _ in self.hidden)
        self.out = MaskedConv1d(dim, out_channels, kernel=3)

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time out_channels"]:
        """Outputs with channels last; zero at masked steps."""
        for conv, norm in zip(self.hidden, self.norms, strict=True):
            x = nnf.relu(norm(conv(x, mask), mask))
        out: Tensor = self.out(x, mask)
        return out.transpose(1, 2)


class AnchorFreeHead(Head):
    """Pyramid, then a classifier and a regressor that all levels share.

    Args:
        settings: sizes and priors.
        in_channels: channels of the feature track.
        num_classes: classes; each has a sigmoid of its own.
    """

    settings: ActionFormerSettings

    def __init__(self, settings: ActionFormerSettings, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.in_channels, self.num_classes = in_channels, num_classes
        self.strides: tuple[int, ...] = tuple(2**level for level in range(settings.levels))
        self.pyramid = Pyramid(settings, in_channels=in_channels)
        self.classifier = Tower(settings.dim, num_classes, layers=settings.head_layers)
        self.regressor = Tower(settings.dim, 2, layers=settings.head_layers)
        self.scales = nn.Parameter(torch.ones(settings.levels))
        prior = settings.prior_probability
        nn.init.constant_(self.classifier.out.conv.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
        # The paper starts at 0, where ReLU leaves half of the steps without a gradient; from 1 nearly all can learn.
        nn.init.ones_(self.regressor.out.conv.bias)  # type: ignore[arg-type]

    @property
    def halo_steps(self) -> int:
        """Input steps on one side that a prediction of any level depends on (exact upper bound)."""
        return self.pyramid.reach_steps + self.settings.head_layers * self.strides[-1]

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> HeadPredictions:
        """Predict; ``time`` is any positive number and level ``l`` has ``ceil(time / 2**l)`` steps.

        Args:
            features: the track; what stands at masked steps is never read.
            mask: True where a step is real.

        Returns:
            Logits, offsets (scaled, then ReLU) and masks of each level; nothing at real steps depends on the padding.
        """
        assert features.shape[1] == self.in_channels, (tuple(features.shape), self.in_channels)
        levels = self.pyramid(features, mask)
        return HeadPredictions(
            logits=tuple(self.classifier(x, real) for x, real in levels),
            offsets=tuple(
                nnf.relu(self.regressor(x, real) * scale) for (x, real), scale in zip(levels, self.scales, strict=True)
            ),
            masks=tuple(real for _, real in levels),
        )


def anchor_free_candidates(
    predictions: HeadPredictions, *, strides: Sequence[int], min_score: float, limit: int
) -> Candidates:
    """The best candidates of one video.

    Args:
        predictions: of one video (batch 1).
        strides: of the head's levels; step ``j`` of a level sits at position ``j * stride``.
        min_score: candidates below it are left out.
        limit: most candidates.

    Raises:
        WeightsError: a prediction is not a finite number.
    """
    assert all(len(mask) == 1 for mask in predictions.masks), "candidates are of one video"
    logits, offsets, real = (torch.cat(field, dim=1)[0].detach().cpu() for field in predictions)
    points = np.concatenate(
        [np.arange(mask.shape[1]) * stride for mask, stride in zip(predictions.masks, strides, strict=True)]
    )[real.numpy()]
    stride = np.repeat(np.asarray(strides), [mask.shape[1] for mask in predictions.masks])[real.numpy()]
    probabilities = logits[real].double().sigmoid().numpy()
    reach = offsets[real].double().numpy() * stride[:, None]
    if not (np.isfinite(probabilities).all() and np.isfinite(reach).all()):
        raise WeightsError(
            "the head predicts values that are not finite numbers: its weights or the features hold NaN or infinity; "
            "use an earlier checkpoint, or train again with a lower learning rate or without mixed precision"
        )
    scores = probabilities.ravel()
    best = np.argsort(-scores, kind="stable")[:limit]
    best = best[scores[best] >= min_score]
    point, label = np.divmod(best, max(probabilities.shape[1], 1))
    positions = np.stack((points[point] - reach[point, 0], points[point] + reach[point, 1]), axis=1)
    return Candidates(positions.astype(np.float64), scores[best], label.astype(np.int64))
