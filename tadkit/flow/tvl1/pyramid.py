"""Pictures and flow at smaller sizes, and local means."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

SMALLEST_LEVEL_PX = 16


def pyramid(
    images: Float32[Tensor, "frames height width"], *, scales: int, scale_step: float, smoothing_px: float
) -> list[Float32[Tensor, "frames _ _"]]:
    """Successively smaller copies, full size first; levels under 16 px are left out."""
    levels = [smooth(images[:, None], smoothing_px)]
    height, width = images.shape[-2:]
    for level in range(1, scales):
        shrink = scale_step**level
        size = (round(height * shrink), round(width * shrink))
        if min(size) < SMALLEST_LEVEL_PX:
            break
        # OpenCV subsamples without a filter; so does the preset that reproduces it.
        levels.append(functional.interpolate(levels[-1], size=size, mode="bilinear", antialias=smoothing_px > 0))
    return [level[:, 0] for level in levels]


def smooth(
    images: Float32[Tensor, "frames 1 height width"], sigma_px: float
) -> Float32[Tensor, "frames 1 height width"]:
    """Gaussian blur with replicated borders."""
    if sigma_px == 0:
        return images
    radius = math.ceil(3 * sigma_px)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float32) / sigma_px) ** 2)
    weights = (kernel / kernel.sum()).tolist()
    padded = functional.pad(images, (radius, radius, radius, radius), mode="replicate")
    height, width = images.shape[-2:]
    # Sums of shifts: torch's convolution of one channel takes ten times as long on a CPU.
    rows = sum(weight * padded[..., shift : shift + height, :] for shift, weight in enumerate(weights))
    assert isinstance(rows, Tensor)
    blurred = sum(weight * rows[..., shift : shift + width] for shift, weight in enumerate(weights))
    assert isinstance(blurred, Tensor)
    return blurred


def resized(
    fields: Float32[Tensor, "kinds pairs _ _"], height: int, width: int
) -> Float32[Tensor, "kinds pairs {height} {width}"]:
    """Fields at another size, values unchanged."""
    # One channel each: torch rounds differently with more, and a pair's flow would depend on its batch.
    single = fields.reshape(-1, 1, *fields.shape[-2:])
    other = functional.interpolate(single, size=(height, width), mode="bilinear", align_corners=False)
    return other.view(*fields.shape[:2], height, width)


def resized_flow(
    flow: Float32[Tensor, "2 pairs _ _"], height: int, width: int
) -> Float32[Tensor, "2 pairs {height} {width}"]:
    """Flow at another size, displacements scaled with the picture."""
    old_height, old_width = flow.shape[-2:]
    if (old_height, old_width) == (height, width):
        return flow
    other = resized(flow, height, width)
    other[0] *= width / old_width
    other[1] *= height / old_height
    return other


def local_mean(
    fields: Float32[Tensor, "kinds pairs height width"], sigma_px: float
) -> Float32[Tensor, "kinds pairs height width"]:
    """Mean around each pixel with about Gaussian weights, computed on smaller pictures."""
    height, width = fields.shape[-2:]
    shrink = max(1, round(sigma_px / 2))
    single = fields.reshape(-1, 1, height, width)
    small = functional.interpolate(single, size=(max(1, height // shrink), max(1, width // shrink)), mode="area")
    return resized(smooth(small, sigma_px / shrink).view(*fields.shape[:2], *small.shape[-2:]), height, width)
