"""What the temporal pyramids of the anchor-free heads share: embedding, levels and neck.

Step ``j`` of level ``l`` is at position ``j * r**l`` of the input, where ``r`` is ``level_ratio``, and a track of ``T``
steps has ``ceil(T / r**l)`` steps at that level. With ``masked`` padding nothing leaks: every operation is followed by
its mask. The padding of the authors' code and of OpenTAD is a setting (:class:`tadkit.config.AnchorFreeSettings`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import AnchorFreeSettings
from tadkit.errors import SettingsError
from tadkit.models.heads.layers import (
    ChannelNorm,
    DenseConv1d,
    MaskedConv1d,
    Unnormalised,
    sinusoids,
    strided_mask,
    zero_padding,
)

Level = tuple[Float[Tensor, "batch dim level_time"], Bool[Tensor, "batch level_time"]]
"""Features and mask of one level."""


class Pyramid(nn.Module):
    """Streams and embedding, layers at full rate, one downsampling layer per further level, neck.

    Subclasses define the layers as ``stem`` and ``branches``; each is called with features and mask.

    Raises:
        SettingsError: the streams, or ``dim`` of a head without embedding, do not match ``in_channels``.
    """

    stem: nn.ModuleList
    branches: nn.ModuleList

    def __init__(self, settings: AnchorFreeSettings, *, in_channels: int) -> None:
        super().__init__()
        dim, kernel = settings.dim, settings.embedding_kernel
        self.in_channels = in_channels
        self.masked = settings.padding == "masked"
        self.positions_steps = settings.positions_steps if settings.absolute_positions else None
        self.stream_channels = [channels for channels, _ in settings.streams]
        _check_width(settings, in_channels)
        self.streams = nn.ModuleList(MaskedConv1d(channels, width, kernel=1) for channels, width in settings.streams)
        first = dim if settings.streams else in_channels
        self.embedding = nn.ModuleList(
            DenseConv1d(dim if n else first, dim, kernel=kernel, bias=not settings.embedding_norm)
            for n in range(settings.embedding_layers)
        )
        self.embedding_norms = nn.ModuleList(
            ChannelNorm(dim, eps=settings.norm_eps, masked=settings.padding != "leaky")
            if settings.embedding_norm
            else Unnormalised()
            for _ in self.embedding
        )

    def _add_neck(self, settings: AnchorFreeSettings) -> None:
        """Create the neck; subclasses call it last, so that random weights are drawn in the order of use."""
        dim, levels = settings.dim, settings.pyramid_levels
        self.out_dim = settings.neck_dim or dim if settings.neck == "fpn" else dim
        self.start_level, self.ratio = settings.start_level, settings.level_ratio
        self.fpn, self.out_norms = None, None
        if settings.neck == "fpn":
            self.fpn = FeaturePyramidNeck(settings, dim, self.out_dim)
        elif settings.neck_norm:
            self.out_norms = nn.ModuleList(
                ChannelNorm(dim, eps=settings.norm_eps, masked=self.masked) for _ in range(levels)
            )

    def embed(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim time"]:
        """Input of the first layer."""
        x = zero_padding(features, mask)
        if self.streams:
            parts = torch.split(x, self.stream_channels, dim=1)
            x = torch.cat([project(part, mask) for project, part in zip(self.streams, parts, strict=True)], dim=1)
        for conv, norm in zip(self.embedding, self.embedding_norms, strict=True):
            x = nnf.relu(norm(conv(x, mask), mask))
        return x if self.positions_steps is None else x + zero_padding(self._positions(x), mask)

    def _positions(self, x: Float[Tensor, "batch dim time"]) -> Float[Tensor, "batch dim time"]:
        """Sinusoids divided by ``sqrt(dim)``, interpolated for tracks longer than ``positions_steps``."""
        limit, time = self.positions_steps, x.shape[2]
        assert limit is not None
        if time > limit and self.training:
            raise SettingsError(
                f"head.positions_steps is {limit}, shorter than a training window of {time} steps; raise it"
            )
        steps = torch.arange(limit, dtype=torch.float64)
        table: Tensor = sinusoids(steps, x.shape[1]).T.to(x) / x.shape[1] ** 0.5
        if time > limit:
            table = nnf.interpolate(table[None], time, mode="linear", align_corners=False)[0]
        return table[:, :time].expand_as(x)

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> list[Level]:
        """Features and mask of each predicted level, finest first; level ``l`` has ``ceil(time / r**l)`` steps."""
        x = self.embed(features, mask)
        for block in self.stem:
            x = block(x, mask)
        levels = [(x, mask)]
        for block in self.branches:
            x, mask = block(x, mask), strided_mask(mask, self.ratio)
            levels.append((x, mask))
        return self.through_neck(levels)

    def through_neck(self, levels: list[Level]) -> list[Level]:
        """Inputs of classifier and regressor, from all levels of the pyramid."""
        levels = levels[self.start_level :]
        if self.fpn is not None:
            merged: list[Level] = self.fpn(levels)
            return merged
        if self.out_norms is None:
            return levels
        return [(norm(x, mask), mask) for norm, (x, mask) in zip(self.out_norms, levels, strict=True)]

    def neck_reach_steps(self, settings: AnchorFreeSettings) -> int:
        """Input steps on one side that the neck adds to the receptive field of the coarsest level."""
        return 0 if self.fpn is None else 2 * settings.strides[-1] - 1


def _check_width(settings: AnchorFreeSettings, in_channels: int) -> None:
    if settings.streams and (width := sum(channels for channels, _ in settings.streams)) != in_channels:
        raise SettingsError(f"head.streams take {width} channels in total, but the features have {in_channels}")
    if not settings.embedding_layers and not settings.streams and settings.dim != in_channels:
        raise SettingsError(
            f"head.dim is {settings.dim}, but without embedding layers it must equal the {in_channels} channels of the "
            "features; set it so, or raise head.embedding_layers"
        )


class FeaturePyramidNeck(nn.Module):
    """One-dimensional feature pyramid network: adds coarse levels to fine ones and normalises (Lin et al., CVPR 2017).

    Lateral 1x1 convolutions, nearest-neighbour upsampling, depthwise convolutions of 3 steps, layer norm.
    """

    def __init__(self, settings: AnchorFreeSettings, dim: int, out_dim: int) -> None:
        super().__init__()
        self.masked, self.ratio = settings.padding == "masked", settings.level_ratio
        levels, bias = range(settings.pyramid_levels), not settings.neck_norm
        self.laterals = nn.ModuleList(MaskedConv1d(dim, out_dim, kernel=1, bias=bias) for _ in levels)
        self.convs = nn.ModuleList(MaskedConv1d(out_dim, out_dim, kernel=3, groups=out_dim, bias=bias) for _ in levels)
        self.norms = nn.ModuleList(
            ChannelNorm(out_dim, eps=settings.norm_eps, masked=self.masked) if settings.neck_norm else Unnormalised()
            for _ in levels
        )

    def forward(self, levels: list[Level]) -> list[Level]:
        """The levels, finest first, with ``out_dim`` channels."""
        merged: list[Level] = []
        above: Tensor | None = None
        for lateral, (x, mask) in zip(reversed(self.laterals), reversed(levels), strict=True):
            y: Tensor = lateral(x, mask)
            if above is not None:
                y = y + torch.repeat_interleave(above, self.ratio, dim=2)[..., : y.shape[2]]
                # The last coarse step may extend past the end of the finer level.
                y = zero_padding(y, mask) if self.masked else y
            above = y
            merged.append((y, mask))
        return [
            (norm(conv(y, mask), mask), mask)
            for conv, norm, (y, mask) in zip(self.convs, self.norms, reversed(merged), strict=True)
        ]


class ConvBlock(nn.Module):
    """Two convolutions of 3 steps with a skip path, as in ResNet; ``stride`` > 1 lowers the rate."""

    def __init__(self, dim: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.widen = MaskedConv1d(dim, 2 * dim, kernel=3, stride=stride)
        self.narrow = DenseConv1d(2 * dim, dim, kernel=3)
        self.skip = MaskedConv1d(dim, dim, kernel=1, stride=stride) if stride > 1 else None

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim strided_time"]:
        """Apply the layer; ``x`` and the result are zero at masked steps."""
        hidden = nnf.relu(self.widen(x, mask))
        out = self.narrow(hidden, strided_mask(mask, self.stride))
        return nnf.relu(out + (x if self.skip is None else self.skip(x, mask)))
