"""TriDet: a pyramid of scalable-granularity perception, with boundaries from relative probabilities around each step.

After Shi, Zhong, Cao, Ma, Li, Tao, "TriDet: Temporal Action Detection with Relative Boundary Modeling", CVPR 2023.
Deviations: with ``masked`` padding, the mean and the group norm of a layer cover real steps only, and the depthwise
weights are not initialised to zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import TriDetSettings
from tadkit.models.heads.anchor_free import AnchorFreeHead, Tower
from tadkit.models.heads.layers import (
    ChannelNorm,
    ResidualPath,
    StepConv1d,
    TimeGroupNorm,
    max_pooled,
    strided_mask,
    zero_padding,
)
from tadkit.models.heads.pyramid import ConvBlock, Level, Pyramid

_GROUPS = 16


class GranularityBlock(nn.Module):
    """SGP layer (section 3.2): instant-level and window-level branches, then an MLP; ``stride`` > 1 pools first.

    Args:
        settings: channels, granularities, pooling.
        window: steps of the short branch.
        stride: 1, or even.
        paths: whether the residual paths are scaled and dropped.
    """

    def __init__(self, settings: TriDetSettings, *, window: int, stride: int, paths: bool) -> None:
        super().__init__()
        dim, hidden = settings.dim, settings.mlp_dim or 4 * settings.dim
        self.stride, self.masked = stride, settings.padding == "masked"
        self.averages = stride > 1 and settings.pooling == "avg"
        self.pooled = StepConv1d(dim, dim, 1) if self.averages else None
        self.norm = ChannelNorm(dim, masked=self.masked)
        self.group_norm = TimeGroupNorm(_GROUPS, dim, masked=self.masked)
        longer = round((window + 1) * settings.granularity_ratio)
        longer += longer % 2 == 0
        self.gate, self.instant, self.short, self.long, self.overall = (
            _depthwise(dim, kernel, settings.branch_deviation) for kernel in (window, 1, window, longer, 1)
        )
        self.mlp_in, self.mlp_out = StepConv1d(dim, hidden, 1), StepConv1d(hidden, dim, 1)
        scaled, drop = (settings.layer_scale, settings.drop_path) if paths else (False, 0.0)
        self.branch_path, self.mlp_path = (ResidualPath(dim, scaled=scaled, drop_path=drop) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim strided_time"]:
        """Apply the layer; with ``masked`` padding the result is zero at masked steps."""
        x = self._pool(x, mask)
        mask = strided_mask(mask, self.stride)
        normed = self.norm(x, mask)
        count = mask.sum(dim=1).clamp(min=1).to(x)[:, None, None] if self.masked else x.shape[2]
        mean = normed.sum(dim=2, keepdim=True) / count
        instant = self.instant(normed) * nnf.relu(self.overall(mean))
        branches = instant + (self.short(normed) + self.long(normed)) * self.gate(normed) + normed
        x = zero_padding(x, mask) + self.branch_path(branches)
        if self.masked:
            x = zero_padding(x, mask)
        x = x + self.mlp_path(self.mlp_out(nnf.gelu(self.mlp_in(self.group_norm(x, mask)))))
        return zero_padding(x, mask) if self.masked else x

    def _pool(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` at the rate of the result."""
        if self.stride == 1:
            return x
        if self.pooled is None:
            return max_pooled(x, mask, masked=self.masked, stride=self.stride, kernel=self.stride + 1)
        average = nnf.avg_pool1d(x, self.stride, ceil_mode=True, count_include_pad=False)
        if self.masked:
            real = nnf.avg_pool1d(mask[:, None].to(x.dtype), self.stride, ceil_mode=True, count_include_pad=False)
            average = average / real.clamp(min=1 / self.stride)
        y: Tensor = self.pooled(average)
        return y


def _depthwise(dim: int, kernel: int, deviation: float) -> StepConv1d:
    conv = StepConv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
    nn.init.normal_(conv.weight, 0.0, deviation)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class GranularityPyramid(Pyramid):
    """Embedding, ``stem_layers`` SGP layers, then one downsampling layer per further level, then the neck."""

    def __init__(self, settings: TriDetSettings, *, in_channels: int) -> None:
        super().__init__(settings, in_channels=in_channels)
        self.input_noise = settings.input_noise
        self.stem = nn.ModuleList(self._block(settings, 1, stride=1) for _ in range(settings.stem_layers))
        self.branches = nn.ModuleList(
            self._block(settings, window, stride=settings.level_ratio) for window in settings.windows[1:]
        )
        self._add_neck(settings)

    @staticmethod
    def _block(settings: TriDetSettings, window: int, *, stride: int) -> nn.Module:
        if settings.blocks == "conv":
            return ConvBlock(settings.dim, stride=stride)
        return GranularityBlock(settings, window=window, stride=stride, paths=stride > 1)

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> list[Level]:
        """Features and mask of each predicted level, finest first."""
        if self.training and self.input_noise > 0:
            features = features + self.input_noise * torch.randn_like(features)
        return super().forward(features, mask)


class TriDetHead(AnchorFreeHead):
    """The anchor-free head on a pyramid of SGP layers, with the Trident boundary head (section 3.3).

    Two more towers predict a start and an end logit for each step and class. The distance from a step to the start is
    the expectation over the step itself and the ``bins`` steps before it, under the softmax of their start logits plus
    the offsets that the step's regressor predicts for them; likewise for the end. Every class has its own boundaries.
    The boundary towers pass no gradient to the pyramid.

    Args:
        settings: sizes and priors.
        in_channels: channels of the feature track.
        num_classes: number of classes, each with its own sigmoid.
    """

    def __init__(self, settings: TriDetSettings, *, in_channels: int, num_classes: int) -> None:
        pyramid = GranularityPyramid(settings, in_channels=in_channels)
        bins = settings.bins
        super().__init__(settings, pyramid=pyramid, num_classes=num_classes, regressed=2 * (bins + 1) if bins else 2)
        self.bins, self.windows = bins, settings.windows
        dim, kernel = pyramid.out_dim, settings.boundary_kernel
        self.starts = Tower(settings, dim, num_classes, kernel=kernel) if bins else None
        self.ends = Tower(settings, dim, num_classes, kernel=kernel) if bins else None

    def _offsets(self, levels: list[Level]) -> list[Float[Tensor, "batch _ ends"]]:
        """Distances to start and end, in strides, for each level; one pair per class if there are bins."""
        if self.starts is None or self.ends is None:
            return self._regressed(levels)
        return [
            boundary_offsets(self.starts(x.detach(), real), self.ends(x.detach(), real), relative)
            for (x, real), relative in zip(levels, self._regressed(levels), strict=True)
        ]

    def _padding_multiple(self) -> int:
        """As in the authors' code: each level must be a multiple of its window."""
        return max(stride * window for stride, window in zip(self.strides, self.windows, strict=False))


def boundary_offsets(
    starts: Float[Tensor, "batch time classes"],
    ends: Float[Tensor, "batch time classes"],
    relative: Float[Tensor, "batch time bins2"],
) -> Float[Tensor, "batch time ends"]:
    """Expected distances to start and end of each class, in steps (TriDet, equations 7 and 8).

    Args:
        starts: start logits of each step.
        ends: end logits of each step.
        relative: for each step, the terms added to the start logits of the ``bins`` steps before it and itself, then
            to the end logits of itself and the ``bins`` steps after it.

    Returns:
        (batch, time, 2 * classes): start and end of class 0, of class 1, ...
    """
    size = relative.shape[2] // 2
    distance = torch.arange(size, device=starts.device, dtype=starts.dtype)
    before = nnf.pad(starts, (0, 0, size - 1, 0)).unfold(1, size, 1)  # (batch, time, classes, size)
    after = nnf.pad(ends, (0, 0, 0, size - 1)).unfold(1, size, 1)
    to_start = (before + relative[:, :, None, :size]).softmax(dim=3) @ distance.flip(0)
    to_end = (after + relative[:, :, None, size:]).softmax(dim=3) @ distance
    return torch.stack((to_start, to_end), dim=3).flatten(2)
