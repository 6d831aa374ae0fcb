"""Anchor-free heads: every step of a temporal pyramid names its classes and its distances to the action's two ends.

After ActionFormer (Zhang, Wu, Li, ECCV 2022, section 3.3). The heads differ in their pyramids and in how they find the
ends: :mod:`tadkit.models.heads.actionformer`, :mod:`~tadkit.models.heads.tridet`,
:mod:`~tadkit.models.heads.temporal_maxer`.
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

from tadkit.config import AnchorFreeSettings, HeadSettings
from tadkit.models.heads.convolution import DenseConv1d
from tadkit.models.heads.head import Candidates, Head
from tadkit.models.heads.layers import ChannelNorm, zero_padding
from tadkit.models.heads.necks import Level
from tadkit.models.heads.pyramid import EmbeddedPyramid
from tadkit.models.heads.ranking import best_of, check_finite

_MOMENTUM = 0.9


class HeadPredictions(NamedTuple):
    """What a head says of each step, level by level, finest first.

    Attributes:
        logits: one (batch, level_time, classes) a level, before the sigmoid; actions may overlap.
        offsets: one (batch, level_time, ends) a level: distances to start and end in strides of the level, not
            negative. ``ends`` is 2, or 2 * classes where each class has its own (start and end of class 0, ...).
        masks: one (batch, level_time) a level, True where the step is real; the rest means nothing.
    """

    logits: tuple[Float[Tensor, "batch _ classes"], ...]
    offsets: tuple[Float[Tensor, "batch _ ends"], ...]
    masks: tuple[Bool[Tensor, "batch _"], ...]


class Tower(nn.Module):
    """Convolutions over time, LayerNorm and ReLU between them, that all levels share."""

    def __init__(
        self, settings: AnchorFreeSettings, in_channels: int, out_channels: int, *, kernel: int | None = None
    ) -> None:
        super().__init__()
        dim, size = settings.head_dim or in_channels, kernel or settings.head_kernel
        widths = [in_channels] + [dim] * (settings.head_layers - 1)
        self.hidden = nn.ModuleList(DenseConv1d(width, dim, kernel=size, bias=False) for width in widths[:-1])
        self.norms = nn.ModuleList(
            ChannelNorm(dim, eps=settings.norm_eps, masked=settings.padding != "leaky") for _ in self.hidden
        )
        self.out = DenseConv1d(widths[-1], out_channels, kernel=size)
        self.masks_out = settings.padding != "opentad"

    def forward(
        self, x: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time out_channels"]:
        """Outputs with channels last; zero at masked steps but for OpenTAD's padding."""
        for conv, norm in zip(self.hidden, self.norms, strict=True):
            x = nnf.relu(norm(conv(x, mask), mask))
        out: Tensor = self.out(x, mask) if self.masks_out else self.out.unmasked(x)
        return out.transpose(1, 2)


class RunningPositives(nn.Module):
    """Running mean of the positives a batch, which losses are divided by; it moves in training alone."""

    mean: Tensor

    def __init__(self, start: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(start)))

    @torch.no_grad()
    def forward(self, positives: Tensor) -> Float[Tensor, ""]:
        """The mean, after this batch has joined it."""
        if self.training:
            self.mean.mul_(_MOMENTUM).add_((1 - _MOMENTUM) * positives.clamp(min=1))
        return self.mean.clone()


class AnchorFreeHead(Head):
    """Pyramid, then a classifier and a regressor that all levels share; subclasses bring the pyramid.

    Args:
        settings: sizes and priors.
        pyramid: gives the levels, finest first.
        num_classes: classes; each has a sigmoid of its own.
        regressed: channels of the regressor.
    """

    def __init__(
        self, settings: HeadSettings, *, pyramid: EmbeddedPyramid, num_classes: int, regressed: int = 2
    ) -> None:
        super().__init__()
        assert isinstance(settings, AnchorFreeSettings)
        self.settings, self.anchor_free = settings, settings
        self.in_channels, self.num_classes = pyramid.in_channels, num_classes
        self.strides: tuple[int, ...] = tuple(2**level for level in range(settings.levels))
        self.pyramid = pyramid
        self.classifier = Tower(settings, pyramid.out_dim, num_classes)
        self.regressor = Tower(settings, pyramid.out_dim, regressed)
        self.scales = nn.Parameter(torch.ones(settings.levels))
        self.running = RunningPositives(settings.normaliser_start) if settings.normaliser == "running" else None
        prior = settings.prior_probability
        nn.init.constant_(self.classifier.out.conv.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
        # The paper starts at 0, where ReLU leaves half of the steps without a gradient; from 1 nearly all can learn.
        nn.init.ones_(self.regressor.out.conv.bias)  # type: ignore[arg-type]

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> HeadPredictions:
        """Predict; ``time`` is any positive number and level ``l`` has ``ceil(time / 2**l)`` steps.

        Args:
            features: the track; what stands at masked steps is never read.
            mask: True where a step is real.

        Returns:
            Logits, offsets and masks of each level; with ``masked`` padding nothing at real steps depends on it.
        """
        assert features.shape[1] == self.in_channels, (tuple(features.shape), self.in_channels)
        time = features.shape[-1]
        extra = self._padded_steps(time) - time
        if extra:
            features, mask = nnf.pad(zero_padding(features, mask), (0, extra)), nnf.pad(mask, (0, extra))
        levels = self.pyramid(features, mask)
        lengths = self._level_steps(time) if extra else [real.shape[1] for _, real in levels]
        return HeadPredictions(
            logits=tuple(self.classifier(x, real)[:, :n] for n, (x, real) in zip(lengths, levels, strict=True)),
            offsets=tuple(x[:, :n] for n, x in zip(lengths, self._offsets(levels), strict=True)),
            masks=tuple(real[:, :n] for n, (_, real) in zip(lengths, levels, strict=True)),
        )

    def _offsets(self, levels: list[Level]) -> list[Float[Tensor, "batch _ ends"]]:
        """Distances to the ends, in strides, of each level."""
        return self._regressed(levels)

    def _regressed(self, levels: list[Level]) -> list[Float[Tensor, "batch _ regressed"]]:
        """What the regressor says of each level, scaled, then ReLU."""
        return [nnf.relu(self.regressor(x, real) * scale) for (x, real), scale in zip(levels, self.scales, strict=True)]

    def _padded_steps(self, time: int) -> int:
        """Steps that a track of ``time`` is zero-padded to."""
        least = self.anchor_free.pad_to_steps
        if least == 0 or time <= least:
            return max(time, least)
        multiple = self._padding_multiple()
        return -(-time // multiple) * multiple

    def _padding_multiple(self) -> int:
        """Tracks over ``pad_to_steps`` are padded to a multiple of this."""
        return self.strides[-1]

    def _level_steps(self, time: int) -> list[int]:
        """Steps of each level that are not made of padding alone, where there is padding."""
        return [-(-time // stride) for stride in self.strides]


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
    reach = offsets[real].double().numpy() * stride[:, None]  # (points, 2), or (points, 2 * classes)
    check_finite(probabilities, reach)
    point, label = best_of(probabilities, min_score=min_score, limit=limit)
    own = reach.reshape(len(reach), -1, 2)
    ends = own[point, label if own.shape[1] > 1 else 0]
    positions = np.stack((points[point] - ends[:, 0], points[point] + ends[:, 1]), axis=1)
    return Candidates(positions.astype(np.float64), probabilities[point, label], label)
