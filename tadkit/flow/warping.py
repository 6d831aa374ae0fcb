"""Reading the second frame where the flow points to, and the data term that follows from it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

from tadkit.flow.primal_dual import DataTerm, Flat

LEAST_GRADIENT_SQUARED = 1e-6


class Target(NamedTuple):
    """The second frame of each pair with its gradient, and the place of each pixel."""

    levels: Float32[Tensor, "pairs 3 height width"]
    """Grey, its central difference to the right, and down."""
    grid: Float32[Tensor, "2 pairs height width"]
    """Column and row."""


def target_of(second: Float32[Tensor, "pairs 1 height width"]) -> Target:
    """Central differences, one-sided and halved at the borders (as in IPOL 2013 and OpenCV)."""
    padded = functional.pad(second, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    pairs, _, height, width = second.shape
    rows = torch.arange(height, dtype=torch.float32, device=second.device)
    columns = torch.arange(width, dtype=torch.float32, device=second.device)
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))
    return Target(torch.cat([second, across, down], dim=1), grid[:, None].repeat(1, pairs, 1, 1))


def warped(
    target: Target, flow: Float32[Tensor, "2 pairs height width"], *, sampling: Literal["bilinear", "bicubic"]
) -> Float32[Tensor, "3 pairs height width"]:
    """The second frame and its gradient at the ends of the flow; beyond the border they are its nearest."""
    height, width = flow.shape[-2:]
    x, y = (target.grid + flow).unbind()
    places = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], dim=-1)
    read = functional.grid_sample(target.levels, places, mode=sampling, padding_mode="border", align_corners=True)
    return read.transpose(0, 1)


def linearised(
    first: Flat,
    read: Float32[Tensor, "3 pixels"],
    flow: Float32[Tensor, "2 pixels"],
    grid: Float32[Tensor, "2 pixels"],
    last: Float32[Tensor, " 2"],
) -> DataTerm:
    """The brightness difference as a linear function of the flow; ``last`` is the last column and the last row."""
    x, y = grid[0] + flow[0], grid[1] + flow[1]
    # Outside of the picture nothing was seen: a zero gradient there leaves the flow to its neighbours (as IPOL does).
    seen = ((x >= 0) & (x <= last[0]) & (y >= 0) & (y <= last[1])).to(torch.float32)
    across, down = read[1] * seen, read[2] * seen
    residual = read[0] - first - across * flow[0] - down * flow[1]
    over_squared = 1 / (across * across + down * down).clamp(min=LEAST_GRADIENT_SQUARED)
    return DataTerm(residual, across, down, over_squared)
