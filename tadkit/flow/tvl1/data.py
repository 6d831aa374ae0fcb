"""The data term: the second frame at the end points of the flow, and the brightness difference made linear in it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

from tadkit.flow.tvl1.steps import DataTerm

LEAST_GRADIENT_SQUARED = 1e-6

Pictures = Float32[Tensor, "pairs height width"]
Flow = Float32[Tensor, "2 pairs height width"]


class Slopes(NamedTuple):
    """Gradient of pictures, in grey levels a pixel."""

    across: Pictures
    """To the right."""
    down: Pictures


def grid_of(pictures: Pictures) -> Flow:
    """Column and row of each pixel."""
    pairs, height, width = pictures.shape
    rows = torch.arange(height, dtype=torch.float32, device=pictures.device)
    columns = torch.arange(width, dtype=torch.float32, device=pictures.device)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[:, None].repeat(1, pairs, 1, 1)


def central_slopes(pictures: Pictures) -> Slopes:
    """Central differences, one-sided and halved at the borders (as in IPOL 2013 and OpenCV)."""
    padded = functional.pad(pictures[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    return Slopes(across, (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2)


def warped(
    channels: Float32[Tensor, "pairs kinds height width"],
    grid: Flow,
    flow: Flow,
    *,
    sampling: Literal["bilinear", "bicubic"],
) -> Float32[Tensor, "kinds pairs height width"]:
    """Channels of the second frame at the end points of the flow, with replicated borders."""
    height, width = flow.shape[-2:]
    x, y = (grid + flow).unbind()
    places = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], dim=-1)
    read = functional.grid_sample(channels, places, mode=sampling, padding_mode="border", align_corners=True)
    return read.transpose(0, 1)


def seen_of(flow: Flow, grid: Flow) -> Pictures:
    """1.0 where the end point of the flow is inside the picture, else 0.0."""
    x, y = grid[0] + flow[0], grid[1] + flow[1]
    return ((x >= 0) & (x <= flow.shape[-1] - 1) & (y >= 0) & (y <= flow.shape[-2] - 1)).to(torch.float32)


def linearised(first: Pictures, read: Pictures, slopes: Slopes, flow: Flow, grid: Flow) -> DataTerm:
    """The brightness difference as a linear function of the flow; ``read`` is the warped second frame."""
    # Outside the picture there is no data: a zero gradient leaves the flow to its neighbours (as in IPOL).
    seen = seen_of(flow, grid)
    across, down = slopes.across * seen, slopes.down * seen
    residual = read - first - across * flow[0] - down * flow[1]
    over_squared = 1 / (across * across + down * down).clamp(min=LEAST_GRADIENT_SQUARED)
    return DataTerm(residual, across, down, over_squared)


def linearised_about_mean(
    first: Pictures,
    read: Pictures,
    padded: Float32[Tensor, "pairs height+4 width+4"],
    flow: Flow,
    grid: Flow,
) -> DataTerm:
    """The same with the five-point differences of ``padded``: the mean of both pictures with two pixels around it."""
    inner = padded[:, 2:-2]
    across = (8 * (inner[..., 3:-1] - inner[..., 1:-3]) - (inner[..., 4:] - inner[..., :-4])) / 12
    inner = padded[..., 2:-2]
    down = (8 * (inner[:, 3:-1] - inner[:, 1:-3]) - (inner[:, 4:] - inner[:, :-4])) / 12
    return linearised(first, read, Slopes(across, down), flow, grid)
