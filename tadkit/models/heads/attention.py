"""Self-attention over time: to the neighbours of each step, or to all steps (ActionFormer, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.models.heads.layers import ChannelNorm, MaskedConv1d, strided_mask

_BLOCK_STEPS = 32


class DepthwiseProjection(nn.Module):
    """Depthwise convolution, which tells each step its surroundings in place of a positional embedding, norm, 1x1."""

    def __init__(self, dim: int, *, stride: int, masked: bool) -> None:
        super().__init__()
        self.conv = MaskedConv1d(dim, dim, kernel=3, stride=stride, groups=dim, bias=False)
        self.norm = ChannelNorm(dim, masked=masked)
        self.linear = MaskedConv1d(dim, dim, kernel=1)

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim strided_time"]:
        """Project; the result is zero at masked steps."""
        out_mask = strided_mask(mask, self.conv.stride)
        return self.linear(self.norm(self.conv(x, mask), out_mask), out_mask)  # type: ignore[no-any-return]


class ConvAttention(nn.Module):
    """Self-attention of each step to its ``window // 2`` real neighbours on either side, and itself.

    With ``stride`` 2, queries, keys and values come at half the rate. A window of 0 attends to all real steps.

    Args:
        dim: channels in and out.
        heads: that the channels are split into.
        window: odd, or 0.
        stride: 1 or 2.
        dropout: of the result.
        relative: learn a weight for each distance in the window.
        masked: the norms leave no bias at padded steps.
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
        # A vector, as biases are, so that weight decay leaves it alone.
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

    Time is cut into blocks for the matrix products; each block sees a wing on either side, and a band keeps every step
    to its own window, so that the result depends on the cut by rounding alone. Memory is linear in time. Values at
    masked steps must be zero. ``distances`` are added to the logits, the farthest earlier step's first.
    """
    wing, time = window // 2, query.shape[-1]
    block = max(_BLOCK_STEPS, wing)
    count = -(-time // block)
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
    """Each block with the last ``wing`` steps of the one before it and the first of the one after it, or zeros."""
    ends = nnf.pad(blocks, (0, 0, 0, 0, 1, 1))
    return torch.cat((ends[:, :, :-2, blocks.shape[3] - wing :], blocks, ends[:, :, 2:, :wing]), dim=3)
