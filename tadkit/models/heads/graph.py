"""G-TAD's graph layer: a step hears its neighbours in time and the steps that look most like it, wherever they are.

After Xu et al., G-TAD: Sub-graph localization for temporal action detection (CVPR 2020), section 3.2. Masked steps are
nobody's neighbour.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from tadkit.models.heads.layers import MaskedConv1d, zero_padding

_WIDTH = 4
"""Channels of a group, in the bottlenecks of both paths."""


class GraphLayer(nn.Module):
    """Residual layer of two grouped bottlenecks: over time, and over edges to the most similar steps.

    Args:
        dim: channels.
        neighbours: similar steps that a step hears, itself the first of them.
        groups: groups of four channels in the bottlenecks.
    """

    def __init__(self, dim: int, *, neighbours: int, groups: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        width = _WIDTH * groups
        self.time = nn.ModuleList(
            (
                MaskedConv1d(dim, width, kernel=1),
                MaskedConv1d(width, width, kernel=3, groups=groups),
                MaskedConv1d(width, dim, kernel=1),
            )
        )
        self.edges = nn.Sequential(
            nn.Conv2d(2 * dim, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(width, dim, 1),
        )

    def forward(
        self, x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim time"]:
        """One layer; ``x`` is zero at masked steps and so is the result."""
        first, grouped, last = self.time
        in_time: Tensor = last(nnf.relu(grouped(nnf.relu(first(x, mask)), mask)), mask)
        near = nearest_steps(x, mask, self.neighbours)
        other = x.transpose(1, 2)[torch.arange(len(x), device=x.device)[:, None, None], near].permute(0, 3, 1, 2)
        edges = torch.cat((other, x[..., None].expand_as(other)), dim=1)
        heard = self.edges(edges).amax(dim=-1)
        return zero_padding(nnf.relu(x + in_time + heard), mask)


def nearest_steps(
    x: Float[Tensor, "batch dim time"], mask: Bool[Tensor, "batch time"], count: int
) -> Int64[Tensor, "batch time count"]:
    """The real steps whose features are nearest to each step's, itself among them; itself again where there are few."""
    with torch.no_grad():
        track = x.float().transpose(1, 2)
        distance = torch.cdist(track, track).masked_fill(~mask[:, None], torch.inf)
        found = distance.topk(min(count, x.shape[2]), largest=False)
        own = torch.arange(x.shape[2], device=x.device)[:, None]
        near = torch.where(found.values.isfinite(), found.indices, own)
        return torch.cat((near, own.expand(len(x), -1, count - near.shape[2])), dim=2)
