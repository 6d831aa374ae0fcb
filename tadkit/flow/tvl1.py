"""TV-L1 optical flow in torch: many frame pairs at once, on any device.

Sources: Zach, Pock, Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM 2007; Sanchez,
Meinhardt-Llopis, Facciolo, "TV-L1 optical flow estimation", IPOL 2013 (called IPOL below).

We leave them in that every pair is solved by the same fixed number of steps, so that its flow does not depend on the
batch that it is in; and in the median filter before each warp, which is OpenCV's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional

from tadkit.config import Tvl1Settings
from tadkit.flow.frames import check_frames, grey_levels
from tadkit.flow.median import median_filter
from tadkit.flow.primal_dual import DataTerm, DualState, primal_dual_step

SMALLEST_LEVEL_PX = 16
PRESMOOTHING_SIGMA_PX = 0.8
LEAST_GRADIENT_SQUARED = 1e-6
CPU_CHUNK_PX = 50_000
"""Pixels solved at once on a CPU at most, whatever batch_pairs is: the fields of more do not fit into its cache."""


class Tvl1:
    """TV-L1 flow of adjacent frames.

    The dual fields start from zero at each level and are kept from warp to warp, as in IPOL.
    """

    channels = 2

    def __init__(self, settings: Tvl1Settings, *, device: torch.device) -> None:
        self.settings = settings
        self.device = device

    def __call__(
        self, frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"]
    ) -> Float32[Tensor, "pairs 2 height width"]:
        """Flow k, in pixels, from frame k to frame k + 1: channel 0 to the right, channel 1 down."""
        grey = grey_levels(check_frames(frames).to(self.device))
        pairs = len(grey) - 1
        size = self._chunk_pairs(grey.shape[-2] * grey.shape[-1])
        flow = grey.new_empty((pairs, 2, *grey.shape[1:]))
        for start in range(0, pairs, size):
            end = min(start + size, pairs)
            flow[start:end] = self._solve(grey[start : end + 1])
        return flow

    def _chunk_pairs(self, frame_px: int) -> int:
        """Pairs solved at once; it changes the speed, not the flow."""
        if self.device.type != "cpu":
            return self.settings.batch_pairs
        return min(self.settings.batch_pairs, max(1, CPU_CHUNK_PX // frame_px))

    @torch.inference_mode()
    def _solve(self, grey: Float32[Tensor, "frames height width"]) -> Float32[Tensor, "pairs 2 height width"]:
        """Flow of each frame to the next, from the coarsest level to the finest."""
        levels = pyramid(grey[:, None], self.settings)
        flow = grey.new_zeros((2, len(grey) - 1, *levels[-1].shape[-2:]))
        for level in reversed(levels):
            flow = _resize_flow(flow, level.shape[-2], level.shape[-1])
            flow = _solve_level(level[:-1], level[1:], flow, self.settings)
        return flow.transpose(0, 1)


def pyramid(
    images: Float32[Tensor, "frames 1 height width"], settings: Tvl1Settings
) -> list[Float32[Tensor, "frames 1 _ _"]]:
    """Smaller and smaller copies, the full size first; levels under 16 px are left out."""
    levels = [_smooth(images, PRESMOOTHING_SIGMA_PX)]
    height, width = images.shape[-2:]
    for level in range(1, settings.scales):
        shrink = settings.scale_step**level
        size = (round(height * shrink), round(width * shrink))
        if min(size) < SMALLEST_LEVEL_PX:
            break
        levels.append(functional.interpolate(levels[-1], size=size, mode="bilinear", antialias=True))
    return levels


def _smooth(
    images: Float32[Tensor, "frames 1 height width"], sigma_px: float
) -> Float32[Tensor, "frames 1 height width"]:
    """Gaussian blur with replicated borders."""
    radius = math.ceil(3 * sigma_px)
    positions = torch.arange(-radius, radius + 1, dtype=torch.float32, device=images.device)
    kernel = torch.exp(-0.5 * (positions / sigma_px) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(images, (radius, radius, radius, radius), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def _resize_flow(
    flow: Float32[Tensor, "2 pairs _ _"], height: int, width: int
) -> Float32[Tensor, "2 pairs {height} {width}"]:
    """Flow at another size, its displacements scaled with the picture."""
    old_height, old_width = flow.shape[-2:]
    if (old_height, old_width) == (height, width):
        return flow
    resized = functional.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
    resized[0] *= width / old_width
    resized[1] *= height / old_height
    return resized


def _solve_level(
    first: Float32[Tensor, "pairs 1 height width"],
    second: Float32[Tensor, "pairs 1 height width"],
    flow: Float32[Tensor, "2 pairs height width"],
    settings: Tvl1Settings,
) -> Float32[Tensor, "2 pairs height width"]:
    """Flow at one level, from the flow of the level above."""
    # Displacements are kept times tau / theta inside the steps, so that no step multiplies by a constant.
    scale = settings.tau / settings.theta
    target = torch.cat([second, *_central_gradient(second)], dim=1)
    state = DualState.zeros_like(flow)
    grid = _pixel_grid(flow)
    for _ in range(settings.warps):
        flow = median_filter(flow, settings.median_px)
        data = _linearise(first[:, 0], _warp(target, flow, grid), flow, scale)
        flow = flow * scale
        for _ in range(settings.inner_steps):
            primal_dual_step(flow, state, data, reach=scale * settings.lam * settings.theta, tau=settings.tau)
        flow /= scale
    return flow


def _central_gradient(
    images: Float32[Tensor, "pairs 1 height width"],
) -> tuple[Float32[Tensor, "pairs 1 height width"], Float32[Tensor, "pairs 1 height width"]]:
    """Grey levels a pixel to the right and down, one-sided (halved, as in IPOL) at the borders."""
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return across, down


def _pixel_grid(flow: Float32[Tensor, "2 pairs height width"]) -> Float32[Tensor, "2 1 height width"]:
    """Column and row of each pixel."""
    height, width = flow.shape[-2:]
    rows = torch.arange(height, dtype=torch.float32, device=flow.device)
    columns = torch.arange(width, dtype=torch.float32, device=flow.device)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[:, None]


class _Warped(NamedTuple):
    """The second frame, its gradient, and 1 where they were read inside the picture (else 0)."""

    grey: Float32[Tensor, "pairs height width"]
    across: Float32[Tensor, "pairs height width"]
    down: Float32[Tensor, "pairs height width"]
    inside: Float32[Tensor, "pairs height width"]


def _warp(
    target: Float32[Tensor, "pairs 3 height width"],
    flow: Float32[Tensor, "2 pairs height width"],
    grid: Float32[Tensor, "2 1 height width"],
) -> _Warped:
    """Read the second frame and its gradient where the flow points to."""
    height, width = flow.shape[-2:]
    x, y = (grid + flow).unbind()
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    places = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], dim=-1)
    read = functional.grid_sample(target, places, mode="bilinear", padding_mode="border", align_corners=True)
    return _Warped(read[:, 0], read[:, 1], read[:, 2], inside.to(torch.float32))


def _linearise(
    first: Float32[Tensor, "pairs height width"],
    warped: _Warped,
    flow: Float32[Tensor, "2 pairs height width"],
    scale: float,
) -> DataTerm:
    """The brightness difference as a linear function of the flow, over the squared gradient."""
    squared = (warped.across**2 + warped.down**2).clamp_min_(LEAST_GRADIENT_SQUARED)
    across, down = warped.across / squared, warped.down / squared
    residual = (warped.grey - first) / squared - across * flow[0] - down * flow[1]
    # Outside of the picture nothing was seen: a zero gradient there leaves the flow to its neighbours (as IPOL does).
    gradient = torch.stack([warped.across * warped.inside, warped.down * warped.inside])
    return DataTerm(residual.mul_(scale), across, down, gradient)
