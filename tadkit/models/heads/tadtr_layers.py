"""Layers of TadTR, whose attention reads a few learned places of the track.

After Liu et al., End-to-end temporal action detection with transformer (IEEE TIP 2022, section III-B), and Deformable
DETR (Zhu et al., ICLR 2021, section 4). Everything reads real steps only: ``length`` real steps stand at the front of
a track, and places are fractions of that length.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn


class DeformableAttention(nn.Module):
    """Each query reads ``points`` places a head around its reference, and weighs what it finds there.

    Args:
        dim: channels, a multiple of ``heads``.
        heads: attention heads.
        points: places a head.
        dropout: on the result.
    """

    def __init__(self, dim: int, *, heads: int, points: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.offsets, self.weights = nn.Linear(dim, heads * points), nn.Linear(dim, heads * points)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.weights.bias)
        # Heads look to the right and left in turn, their points one to ``points`` steps away.
        direction = torch.cos(torch.arange(heads) * (4 * math.pi / heads))
        with torch.no_grad():
            self.offsets.bias.copy_((direction[:, None] * torch.arange(1, points + 1)).flatten())

    def forward(
        self,
        query: Float[Tensor, "batch queries dim"],
        reference: Float[Tensor, "batch queries _"],
        memory: Float[Tensor, "batch time dim"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch queries dim"]:
        """Read ``memory``.

        Args:
            query: what asks.
            reference: centre of what each asks for, or centre and width, as fractions of the real length; offsets count
                steps around a centre, and halves of the width over ``points`` where there is one.
            memory: what is read.
            mask: True where memory is real; real steps come first.
        """
        length = mask.sum(dim=1).clamp(min=1).to(query.dtype)[:, None, None, None]
        offsets = self.offsets(query).unflatten(2, (self.heads, self.points))
        centre = reference[..., :1, None]
        if reference.shape[-1] == 1:
            places = centre + offsets / length
        else:
            places = centre + offsets / self.points * reference[..., 1:, None] * 0.5
        weights = self.weights(query).unflatten(2, (self.heads, self.points)).softmax(dim=-1)
        value = self.value(memory).masked_fill(~mask[..., None], 0.0).unflatten(2, (self.heads, -1))
        read = sampled(value, places * length - 0.5)
        mixed = (read * weights.permute(0, 2, 1, 3)[:, :, None]).sum(dim=-1)
        result: Tensor = self.dropout(self.out(mixed.flatten(1, 2).transpose(1, 2)))
        return result


def sampled(
    value: Float[Tensor, "batch time heads part"], place: Float[Tensor, "batch queries heads points"]
) -> Float[Tensor, "batch heads part queries points"]:
    """``value`` at fractional steps, by linear interpolation; zero outside the track."""
    batch, time, heads, part = value.shape
    track = value.permute(0, 2, 3, 1).reshape(batch * heads, part, 1, time)
    x = ((2 * place + 1) / time - 1).permute(0, 2, 1, 3).flatten(0, 1)
    grid = torch.stack((x, torch.zeros_like(x)), dim=-1)
    read = nnf.grid_sample(track, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return read.reshape(batch, heads, part, *read.shape[2:])


class DeformableLayer(nn.Module):
    """Deformable attention to a track, then a two-layer perceptron; norms after each.

    Args:
        dim: channels.
        heads: attention heads.
        points: places that a head reads.
        mlp_dim: hidden channels of the perceptron.
        dropout: after each linear layer of the perceptron and on attention.
        queries: attend to each other first, as queries do in the decoder.
    """

    def __init__(self, dim: int, *, heads: int, points: int, mlp_dim: int, dropout: float, queries: bool) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True) if queries else None
        self.self_norm = nn.LayerNorm(dim) if queries else None
        self.attention = DeformableAttention(dim, heads=heads, points=points, dropout=dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.mlp = perceptron(dim, mlp_dim, dropout)
        self.mlp_norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Float[Tensor, "batch queries dim"],
        positions: Float[Tensor, "batch queries dim"],
        reference: Float[Tensor, "batch queries _"],
        memory: Float[Tensor, "batch time dim"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch queries dim"]:
        """One layer; in the encoder ``memory`` is ``x``, whose masked steps hold nothing of use."""
        if self.self_attention is not None and self.self_norm is not None:
            placed = x + positions
            x = self.self_norm(x + self.self_attention(placed, placed, x, need_weights=False)[0])
        x = self.attention_norm(x + self.attention(x + positions, reference, memory, mask))
        result: Tensor = self.mlp_norm(x + self.mlp(x))
        return result


def perceptron(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    """Linear, ReLU, linear, with dropout after each."""
    return nn.Sequential(
        nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
    )


def three_layers(in_dim: int, dim: int, out_dim: int) -> nn.Sequential:
    """Three linear layers with ReLU between them."""
    return nn.Sequential(nn.Linear(in_dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out_dim))


def sine_positions(mask: Bool[Tensor, "batch time"], dim: int, *, at: float = 0.5) -> Float[Tensor, "batch time dim"]:
    """Sines and cosines in turn of a place in each step as a share of the real length times 2 pi (DETR, section 3).

    Args:
        mask: True where a step is real; real steps come first.
        dim: channels.
        at: the place, 0 at the step's start and 1 at its end.
    """
    steps = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32) + at
    share = 2 * math.pi * steps / (mask.sum(dim=1, keepdim=True) + 1e-6)
    pair = torch.arange(dim, device=mask.device, dtype=torch.float32).div(2, rounding_mode="floor")
    angle = share[..., None] / 10000 ** (2 * pair / dim)
    even = torch.arange(dim, device=mask.device) % 2 == 0
    return torch.where(even, angle.sin(), angle.cos())
