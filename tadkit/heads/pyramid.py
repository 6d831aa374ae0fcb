"""Masked temporal pyramid of local self-attention, after ActionFormer (Zhang, Wu, Li, ECCV 2022, section 3).

Padding never leaks: every operation is followed by its mask. A step of level ``l`` with index ``j`` sits at position
``j * 2**l`` of the input, and a mask of any length ``T`` has ``ceil(T / 2**l)`` steps there. Where we leave the paper:
no stochastic depth with a learnable scale, attention that reaches exactly ``window // 2`` real neighbours wherever a
chunk starts, and a max-pooled skip path that takes no padded step for a zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import ActionFormerSettings


class MaskedConv1d(nn.Module):
    """Convolution over time of odd ``kernel`` whose output is zero at masked steps."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        assert kernel % 2 == 1, kernel
        self.stride = stride
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
        if bias:
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(
        self, x: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch out_channels strided_time"]:
        """Convolve ``x``, which is zero at masked steps; step ``j`` of the result is centred on ``j * stride``."""
        return zero_padding(self.conv(x), strided_mask(mask, self.stride))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each step, followed by the mask, for its bias would leak into padding."""

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch channels time"]:
        """Normalise each step of ``x``; masked steps come out as zero."""
        return zero_padding(super().forward(x.transpose(1, 2)).transpose(1, 2), mask)


class DepthwiseProjection(nn.Module):
    """Depthwise convolution, which tells each step its surroundings in place of a positional embedding, norm, 1x1."""

    def __init__(self, dim: int, *, stride: int) -> None:
        super().__init__()
        self.conv = MaskedConv1d(dim, dim, kernel=3, stride=stride, groups=dim, bias=False)
        self.norm = ChannelNorm(dim)
        self.linear = MaskedConv1d(dim, dim, kernel=1)

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim strided_time"]:
        """Project; ``x`` is zero at masked steps and so is the result."""
        out_mask = strided_mask(mask, self.conv.stride)
        return self.linear(self.norm(self.conv(x, mask), out_mask), out_mask)  # type: ignore[no-any-return]


class LocalAttention(nn.Module):
    """Self-attention in which each step attends to its ``window // 2`` real neighbours on either side, and itself.

    With ``stride`` 2, queries, keys and values come at half the rate. Memory is linear in time: O(time * window).
    """

    def __init__(self, dim: int, *, heads: int, window: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.window, self.stride = heads, window, stride
        self.query = DepthwiseProjection(dim, stride=stride)
        self.key = DepthwiseProjection(dim, stride=stride)
        self.value = DepthwiseProjection(dim, stride=stride)
        self.out = MaskedConv1d(dim, dim, kernel=1)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim strided_time"]:
        """Attend; ``x`` is zero at masked steps and so is the result."""
        out_mask = strided_mask(mask, self.stride)
        query, key, value = (
            project(x, mask).unflatten(1, (self.heads, -1)) for project in (self.query, self.key, self.value)
        )
        mixed = sliding_attention(query, key, value, out_mask, window=self.window)
        return self.dropout(self.out(mixed.flatten(1, 2), out_mask))  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """Pre-norm transformer layer; with ``stride`` 2 it halves the rate, and its skip path is a max-pool."""

    def __init__(self, dim: int, *, heads: int, window: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.stride = stride
        self.attention_norm = ChannelNorm(dim)
        self.attention = LocalAttention(dim, heads=heads, window=window, stride=stride, dropout=dropout)
        self.mlp_norm = ChannelNorm(dim)
        self.mlp_in = MaskedConv1d(dim, 4 * dim, kernel=1)
        self.mlp_out = MaskedConv1d(4 * dim, dim, kernel=1)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim strided_time"]:
        """One layer; ``x`` is zero at masked steps and so is the result."""
        out_mask = strided_mask(mask, self.stride)
        attended = self.attention(self.attention_norm(x, mask), mask)
        x = attended + (max_pooled(x, mask) if self.stride == 2 else x)
        hidden = self.dropout(nnf.gelu(self.mlp_in(self.mlp_norm(x, out_mask), out_mask)))
        return x + self.dropout(self.mlp_out(hidden, out_mask))  # type: ignore[no-any-return]


class Pyramid(nn.Module):
    """Two embedding convolutions, ``stem_layers`` transformer layers, then one halving layer for each further level."""

    def __init__(self, settings: ActionFormerSettings, *, in_channels: int) -> None:
        super().__init__()
        dim = settings.dim
        self.settings = settings
        self.embedding = nn.ModuleList(
            MaskedConv1d(channels, dim, kernel=3, bias=False) for channels in (in_channels, dim)
        )
        self.embedding_norms = nn.ModuleList(ChannelNorm(dim) for _ in self.embedding)
        self.stem = nn.ModuleList(self._block(stride=1) for _ in range(settings.stem_layers))
        self.branches = nn.ModuleList(self._block(stride=2) for _ in range(settings.levels - 1))
        self.out_norms = nn.ModuleList(ChannelNorm(dim) for _ in range(settings.levels))

    def _block(self, *, stride: int) -> TransformerBlock:
        chosen = self.settings
        return TransformerBlock(
            chosen.dim,
            heads=chosen.attention_heads,
            window=chosen.attention_window,
            stride=stride,
            dropout=chosen.dropout,
        )

    @property
    def reach_steps(self) -> int:
        """Input steps on one side that the coarsest level depends on (exact upper bound)."""
        wing = self.settings.attention_window // 2
        reach = len(self.embedding) + len(self.stem) * (1 + wing)
        return reach + sum((1 << level) + wing * (2 << level) for level in range(len(self.branches)))

    def forward(
        self, features: Float[Tensor, "batch in_channels time"], mask: Bool[Tensor, "batch time"]
    ) -> list[tuple[Float[Tensor, "batch dim level_time"], Bool[Tensor, "batch level_time"]]]:
        """Features and mask of each level, finest first; level ``l`` has ``ceil(time / 2**l)`` steps."""
        x = zero_padding(features, mask)
        for conv, norm in zip(self.embedding, self.embedding_norms, strict=True):
            x = nnf.relu(norm(conv(x, mask), mask))
        for block in self.stem:
            x = block(x, mask)
        levels = [(x, mask)]
        for block in self.branches:
            x, mask = block(x, mask), strided_mask(mask, 2)
            levels.append((x, mask))
        return [(norm(x, mask), mask) for norm, (x, mask) in zip(self.out_norms, levels, strict=True)]


def zero_padding(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch channels time"]:
    """``x`` with zeros at masked steps, whatever stood there (NaN too)."""
    return x.masked_fill(~mask[:, None], 0.0)


def strided_mask(mask: Bool[Tensor, "batch time"], stride: int) -> Bool[Tensor, "batch strided_time"]:
    """Mask of the steps ``0, stride, 2 * stride, ...``."""
    return mask[:, ::stride]


def max_pooled(
    x: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch channels half_time"]:
    """Largest of the real ones among three steps, at every second step; zero at masked steps."""
    lowest = torch.finfo(x.dtype).min
    pooled = nnf.max_pool1d(x.masked_fill(~mask[:, None], lowest), kernel_size=3, stride=2, padding=1)
    return zero_padding(pooled, strided_mask(mask, 2))


def sliding_attention(
    query: Float[Tensor, "batch heads part time"],
    key: Float[Tensor, "batch heads part time"],
    value: Float[Tensor, "batch heads part time"],
    mask: Bool[Tensor, "batch time"],
    *,
    window: int,
) -> Float[Tensor, "batch heads part time"]:
    """Scaled dot-product attention of each step to the real steps at most ``window // 2`` away.

    One term for each of the ``window`` distances: no division of time into blocks that a result could depend on.
    Values at masked steps must be zero.
    """
    wing, time = window // 2, query.shape[-1]
    query = query * query.shape[2] ** -0.5
    keys, values = nnf.pad(key, (wing, wing)), nnf.pad(value, (wing, wing))
    real = nnf.pad(mask, (wing, wing)).unfold(1, time, 1)  # (batch, window, time)
    logits = torch.stack([(query * keys[..., shift : shift + time]).sum(2) for shift in range(window)], dim=2)
    logits = logits.masked_fill(~real[:, None], torch.finfo(logits.dtype).min)
    weights = logits.softmax(dim=2)
    mixed = weights[:, :, 0, None] * values[..., :time]
    for shift in range(1, window):
        mixed = mixed + weights[:, :, shift, None] * values[..., shift : shift + time]
    return mixed
