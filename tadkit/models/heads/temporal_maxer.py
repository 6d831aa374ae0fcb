"""TemporalMaxer: max-pooling in place of attention (Tang, Kim, Sohn, "TemporalMaxer", arXiv 2303.09055, 2023)."""

from __future__ import annotations

import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import TemporalMaxerSettings
from tadkit.models.heads.anchor_free import AnchorFreeHead
from tadkit.models.heads.layers import TimeGroupNorm, max_pooled, strided_mask, zero_padding
from tadkit.models.heads.pyramid import Level, Pyramid


class MaxPyramid(Pyramid):
    """Embedding, then one max-pool per further level, then the neck."""

    def __init__(self, settings: TemporalMaxerSettings, *, in_channels: int) -> None:
        super().__init__(settings, in_channels=in_channels)
        self.levels, self.pools_masks = settings.levels, settings.padding == "opentad"
        self._add_neck(settings)
        self.grouped_norms = None
        if settings.neck_groups:
            self.out_norms = None
            self.grouped_norms = nn.ModuleList(
                TimeGroupNorm(settings.neck_groups, settings.dim, affine=False, masked=self.masked)
                for _ in range(settings.pyramid_levels)
            )

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> list[Level]:
        """Features and mask of each level, finest first.

        A step is real if the step that it is centred on is; in OpenTAD, if any of the three that it is pooled from is.
        """
        x = self.embed(features, mask)
        levels = [(x, mask)]
        for _ in range(self.levels - 1):
            if self.pools_masks:
                coarse = nnf.max_pool1d(mask[:, None].to(x.dtype), 3, stride=self.ratio, padding=1)[:, 0] > 0
            else:
                coarse = strided_mask(mask, self.ratio)
            x = zero_padding(max_pooled(x, mask, masked=self.masked, stride=self.ratio), coarse)
            mask = coarse
            levels.append((x, mask))
        levels = self.through_neck(levels)
        if self.grouped_norms is None:
            return levels
        return [(norm(x, mask), mask) for norm, (x, mask) in zip(self.grouped_norms, levels, strict=True)]


class TemporalMaxerHead(AnchorFreeHead):
    """The anchor-free head on a pyramid of max-pools.

    Args:
        settings: sizes and priors.
        in_channels: channels of the feature track.
        num_classes: number of classes, each with its own sigmoid.
    """

    def __init__(self, settings: TemporalMaxerSettings, *, in_channels: int, num_classes: int) -> None:
        pyramid = MaxPyramid(settings, in_channels=in_channels)
        super().__init__(settings, pyramid=pyramid, num_classes=num_classes)
        self.pools_masks = pyramid.pools_masks
        whole = bool(settings.pad_to_steps or settings.neck_groups or settings.absolute_positions)
        reach = settings.embedding_layers * (settings.embedding_kernel // 2) + self.strides[-1] - 1
        reach += pyramid.neck_reach_steps(settings)
        reach += settings.head_layers * (settings.head_kernel // 2) * self.strides[-1]
        self.reach_steps = None if whole else reach

    @property
    def halo_steps(self) -> int | None:
        """Steps on either side that a prediction depends on (exact upper bound); None if it is the whole window."""
        return self.reach_steps

    def _level_steps(self, time: int) -> list[int]:
        """With padding, the steps of each level that some real step is pooled into."""
        if not self.pools_masks:
            return super()._level_steps(time)
        steps = [time]
        for _ in range(self.anchor_free.levels - 1):
            steps.append(steps[-1] // self.anchor_free.level_ratio + 1)
        return steps[self.anchor_free.start_level :]
