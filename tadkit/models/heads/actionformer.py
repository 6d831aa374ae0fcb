"""ActionFormer: a pyramid of local self-attention (Zhang, Wu, Li, ECCV 2022, section 3).

With ``masked`` padding, attention covers exactly ``window // 2`` real neighbours on either side, wherever a chunk
starts, and the max-pooled skip path ignores padding. Deviation: by default no stochastic depth and no learnable scale.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import ActionFormerSettings
from tadkit.models.heads.anchor_free import AnchorFreeHead
from tadkit.models.heads.layers import (
    ChannelNorm,
    MaskedConv1d,
    ResidualPath,
    max_pooled,
    strided_mask,
    zero_padding,
)
from tadkit.models.heads.pyramid import ConvBlock, Pyramid

_BLOCK_STEPS = 32


class ActionFormerHead(AnchorFreeHead):
    """The anchor-free head on ActionFormer's pyramid.

    Args:
        settings: sizes and priors.
        in_channels: channels of the feature track.
        num_classes: number of classes, each with its own sigmoid.
    """

    def __init__(self, settings: ActionFormerSettings, *, in_channels: int, num_classes: int) -> None:
        pyramid = ActionFormerPyramid(settings, in_channels=in_channels)
        super().__init__(settings, pyramid=pyramid, num_classes=num_classes)
        self.windows = settings.windows
        self.reach_steps = None if settings.pad_to_steps else pyramid.reach_steps

    @property
    def halo_steps(self) -> int | None:
        """Steps on either side that a prediction depends on (exact upper bound); None if it is the whole window."""
        if self.reach_steps is None:
            return None
        wing = self.anchor_free.head_kernel // 2
        return self.reach_steps + self.anchor_free.head_layers * wing * self.strides[-1]

    def _padding_multiple(self) -> int:
        """In the authors' blocked attention, blocks of ``2 * (window // 2)`` steps must divide each level.

        Their code, and OpenTAD's, pairs the predicted levels with the windows from the finest level on.
        """
        pairs = zip(self.strides, self.windows, strict=False)
        return max(stride * max(2 * (window // 2), 1) for stride, window in pairs)


class ActionFormerPyramid(Pyramid):
    """Embedding, ``stem_layers`` layers, then one downsampling layer per further level, then the neck."""

    def __init__(self, settings: ActionFormerSettings, *, in_channels: int) -> None:
        super().__init__(settings, in_channels=in_channels)
        self.settings = settings
        windows = settings.windows
        self.stem = nn.ModuleList(self._block(windows[0], stride=1) for _ in range(settings.stem_layers))
        self.branches = nn.ModuleList(self._block(window, stride=settings.level_ratio) for window in windows[1:])
        self._add_neck(settings)

    def _block(self, window: int, *, stride: int) -> nn.Module:
        if self.settings.blocks == "conv":
            return ConvBlock(self.settings.dim, stride=stride)
        return TransformerBlock(self.settings, window=window, stride=stride)

    @property
    def reach_steps(self) -> int | None:
        """Input steps on either side that a level depends on (exact upper bound); None if it depends on all."""
        settings = self.settings
        transformer = settings.blocks == "transformer"
        if settings.absolute_positions or (transformer and 0 in settings.windows):
            return None
        # A ConvBlock adds the wing of its second convolution where a transformer block adds that of its attention.
        wings = [window // 2 if transformer else 1 for window in settings.windows]
        reach: int = len(self.embedding) * (settings.embedding_kernel // 2) + len(self.stem) * (1 + wings[0])
        ratio = settings.level_ratio
        first = ratio // 2 if transformer else 1
        reach += sum((first + wing * ratio) * ratio**level for level, wing in enumerate(wings[1:]))
        return reach + self.neck_reach_steps(settings)


class TransformerBlock(nn.Module):
    """Pre-norm transformer layer; with ``stride`` > 1 it lowers the rate, with max-pooling on the skip path."""

    def __init__(self, settings: ActionFormerSettings, *, window: int, stride: int) -> None:
        super().__init__()
        dim, self.stride, self.masked = settings.dim, stride, settings.padding == "masked"
        self.attention_norm = ChannelNorm(dim, masked=self.masked)
        self.attention = ConvAttention(
            dim,
            heads=settings.attention_heads,
            window=window,
            stride=stride,
            dropout=settings.dropout,
            relative=settings.relative_positions,
            masked=self.masked,
        )
        self.mlp_norm = ChannelNorm(dim, masked=self.masked)
        self.mlp_in = MaskedConv1d(dim, 4 * dim, kernel=1)
        self.mlp_out = MaskedConv1d(4 * dim, dim, kernel=1)
        self.dropout = nn.Dropout(settings.dropout)
        self.attention_path, self.mlp_path = (
            ResidualPath(dim, scaled=settings.layer_scale, drop_path=settings.drop_path) for _ in range(2)
        )

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim strided_time"]:
        """Apply the layer; the result is zero at masked steps, and with ``masked`` padding ``x`` must be too."""
        out_mask = strided_mask(mask, self.stride)
        attended = self.attention_path(self.attention(self.attention_norm(x, mask), mask))
        skipped = x
        if self.stride > 1:
            skipped = max_pooled(x, mask, masked=self.masked, stride=self.stride, kernel=self.stride + 1)
        x = attended + (skipped if self.masked else zero_padding(skipped, out_mask))
        hidden = self.dropout(nnf.gelu(self.mlp_in(self.mlp_norm(x, out_mask), out_mask)))
        return x + self.mlp_path(self.dropout(self.mlp_out(hidden, out_mask)))  # type: ignore[no-any-return]


class ConvAttention(nn.Module):
    """Self-attention of each step to its ``window // 2`` real neighbours on either side, and itself.

    With ``stride`` > 1, queries, keys and values have a lower rate. With a window of 0, all real steps attend to each
    other.

    Args:
        dim: channels in and out.
        heads: attention heads.
        window: odd, or 0.
        stride: 1, or even.
        dropout: on the result.
        relative: learn a bias for each distance in the window.
        masked: whether the norms keep their bias out of padded steps.
    """

    def __init__(
        self, dim: int, *, heads: int, window: int, stride: int, dropout: float, relative: bool, masked: bool
    ) -> None:
        super().__init__()
        self.heads, self.window, self.stride = heads, window, stride
        self.query = DepthwiseProjection(dim, stride=stride, masked=masked)
        self.key = DepthwiseProjection(dim, stride=stride, masked=masked)
        self.value = DepthwiseProjection(dim, stride=stride, masked=masked)
        self.out = MaskedConv1d(dim, dim, kernel=1)
        self.dropout = nn.Dropout(dropout)
        # A vector like other biases, so that weight decay skips it.
        self.distances = nn.Parameter(torch.empty(heads * window)) if relative and window else None
        if self.distances is not None:
            nn.init.trunc_normal_(self.distances, std=(2.0 / dim) ** 0.5)

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim strided_time"]:
        """Attend; the result is zero at masked steps."""
        out_mask = strided_mask(mask, self.stride)
        query, key, value = (
            project(x, mask).unflatten(1, (self.heads, -1)) for project in (self.query, self.key, self.value)
        )
        if self.window:
            distances = None if self.distances is None else self.distances.reshape(self.heads, self.window)
            mixed = sliding_attention(query, key, value, out_mask, window=self.window, distances=distances)
        else:
            mixed = global_attention(query, key, value, out_mask)
        return self.dropout(self.out(mixed.flatten(1, 2), out_mask))  # type: ignore[no-any-return]


class DepthwiseProjection(nn.Module):
    """Depthwise convolution (which replaces a positional embedding), norm, 1x1 convolution."""

    def __init__(self, dim: int, *, stride: int, masked: bool) -> None:
        super().__init__()
        kernel = stride + 1 if stride > 1 else 3
        self.conv = MaskedConv1d(dim, dim, kernel=kernel, stride=stride, groups=dim, bias=False)
        self.norm = ChannelNorm(dim, masked=masked)
        self.linear = MaskedConv1d(dim, dim, kernel=1)

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim strided_time"]:
        """Project; the result is zero at masked steps."""
        out_mask = strided_mask(mask, self.conv.stride)
        return self.linear(self.norm(self.conv(x, mask), out_mask), out_mask)  # type: ignore[no-any-return]


def global_attention(
    query: Float[Tensor, "batch heads part time"],
    key: Float[Tensor, "batch heads part time"],
    value: Float[Tensor, "batch heads part time"],
    mask: Bool[Tensor, "batch time"],
) -> Float[Tensor, "batch heads part time"]:
    """Scaled dot-product attention of each step to all real steps; values at masked steps must be zero."""
    lowest = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
    query, key, value = (x.transpose(2, 3) for x in (query, key, value))
    mixed = nnf.scaled_dot_product_attention(query, key, value, attn_mask=lowest[:, None, None])
    return mixed.transpose(1, 2).contiguous().permute(0, 2, 3, 1)


def sliding_attention(
    query: Float[Tensor, "batch heads part time"],
    key: Float[Tensor, "batch heads part time"],
    value: Float[Tensor, "batch heads part time"],
    mask: Bool[Tensor, "batch time"],
    *,
    window: int,
    distances: Float[Tensor, "heads window"] | None = None,
) -> Float[Tensor, "batch heads part time"]:
    """Scaled dot-product attention of each step to the real steps at most ``window // 2`` away.

    Time is split into blocks for the matrix products. Each block also reads a wing on either side, and a band mask
    limits every step to its own window, so that the split affects rounding only. Memory is linear in time. Values at
    masked steps must be zero. ``distances`` are added to the logits, starting with the farthest earlier step.
    """
    wing, time = window // 2, mask.shape[-1]
    block = max(_BLOCK_STEPS, wing)
    count = (time + block - 1) // block
    pad = count * block - time
    query = _blocks(query * query.shape[2] ** -0.5, block, pad)  # (batch, heads, blocks, block, part)
    key, value = (_with_wings(_blocks(x, block, pad), wing) for x in (key, value))  # (..., block + 2 * wing, part)
    real = _with_wings(_blocks(mask[:, None, None], block, pad), wing)[..., 0]
    step, other = torch.arange(block, device=mask.device), torch.arange(block + 2 * wing, device=mask.device)
    shift = other - step[:, None]  # 0 is the farthest earlier step
    near = (shift >= 0) & (shift < window)
    logits = query @ key.transpose(-1, -2)
    if distances is not None:
        logits = logits + distances[:, shift.clamp(0, window - 1)][:, None]
    logits = logits.masked_fill(~(near & real[..., None, :]), torch.finfo(logits.dtype).min)
    mixed = (logits.softmax(dim=-1) @ value).permute(0, 2, 3, 1, 4).flatten(1, 2)  # (batch, time, heads, part)
    return mixed[:, :time].contiguous().permute(0, 2, 3, 1)


def _blocks(x: Tensor, block: int, pad: int) -> Tensor:
    """(batch, heads, part, time) to (batch, heads, blocks, block, part), with ``pad`` zeros at the end."""
    steps = nnf.pad(x.permute(0, 3, 1, 2), (0, 0, 0, 0, 0, pad))
    return steps.reshape(len(x), -1, block, *steps.shape[2:]).permute(0, 3, 1, 2, 4)


def _with_wings(blocks: Tensor, wing: int) -> Tensor:
    """Each block with the last ``wing`` steps of the previous one and the first of the next one, or zeros."""
    ends = nnf.pad(blocks, (0, 0, 0, 0, 1, 1))
    return torch.cat((ends[:, :, :-2, blocks.shape[3] - wing :], blocks, ends[:, :, 2:, :wing]), dim=3)
