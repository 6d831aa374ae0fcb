"""What a start from dense inverse search (DIS) is good for: motion, brightness, and a bound on the energy.

DIS finds large motion and does not mind changes of brightness, but it is noisy. Its flow is used for three things: as
the initial flow, except where no motion fits as well; to estimate how the brightness changed; and as the result for a
pair if the refinement raised the energy that it minimises.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor

from tadkit.flow.tvl1.data import Flow, Pictures
from tadkit.flow.tvl1.pyramid import local_mean

NEAR_PX = 3.0
"""Sigma of the neighbourhood in which two flows are compared."""
LIGHT_PX = 16.0
"""Sigma of the neighbourhood in which the change of brightness is estimated."""
STILL_GREY = 1.0
"""No motion is the initial flow unless DIS lowers the brightness difference by more than this."""
LARGEST_GREY = 40.0
"""Larger brightness differences count as this: they say that a pixel is covered, not by how much."""
FLAT_GREY = 10.0
"""In neighbourhoods with less contrast than this (standard deviation) the gain stays near 1."""


class Light(NamedTuple):
    """Change of brightness from the first frame to the second: gain * grey level + offset."""

    gain: Pictures
    offset: Pictures


def light_of(first: Pictures, read: Pictures, seen: Pictures) -> Light:
    """Local least squares between the first frame and the warped second one, with less weight for large differences."""
    difference = read - first
    weight, offset = local_mean(torch.stack([seen, seen * difference]), LIGHT_PX)
    away = (difference - offset / (weight + 1e-3)).abs()
    (spread,) = local_mean((seen * away)[None], LIGHT_PX)
    trust = seen / (1 + (away / (3 * spread / (weight + 1e-3) + 1)) ** 2)
    sums = local_mean(
        torch.stack([trust, trust * first, trust * read, trust * first**2, trust * first * read]), LIGHT_PX
    )
    total = sums[0] + 1e-3
    mean, mean_read, square, product = sums[1:] / total
    gain = (product - mean * mean_read + FLAT_GREY**2) / (square - mean**2 + FLAT_GREY**2)
    return Light(gain, mean_read - gain * mean)


def without_noise(first: Pictures, second: Pictures, read: Pictures, seen: Pictures, flow: Flow) -> Flow:
    """The flow, or zero where no motion fits about as well as the flow that led to ``read``."""
    still = (second - first).abs().clamp(max=LARGEST_GREY)
    moving = (read - first).abs().clamp(max=LARGEST_GREY)
    # No evidence where the flow leaves the picture.
    (gained,) = local_mean(((still - moving - STILL_GREY) * seen)[None], NEAR_PX)
    return torch.where((gained < 0) & (seen > 0), 0.0, flow)


def energy(flow: Flow, first: Pictures, read: Pictures, seen: Pictures, lam: float) -> Pictures:
    """TV-L1 energy of each pixel: variation of the flow, and ``lam`` times the brightness difference."""
    across, down = torch.zeros_like(flow), torch.zeros_like(flow)
    across[..., :-1] = flow[..., 1:] - flow[..., :-1]
    down[..., :-1, :] = flow[..., 1:, :] - flow[..., :-1, :]
    variation: Float32[Tensor, "pairs height width"] = torch.sqrt(across**2 + down**2).sum(dim=0)
    return variation + lam * seen * (read - first).abs()


def lower_energy(flow: Flow, start: Flow, energies: Pictures, energies_before: Pictures) -> Flow:
    """The refined flow of each pair, or its start if the refinement raised the energy of the pair.

    Args:
        flow: the refined flow.
        start: the flow that it started from.
        energies: of each pixel of ``flow``.
        energies_before: of each pixel of ``start``.
    """
    # In float64, so that the order of the sum, which depends on threads, does not matter.
    now, before = (each.sum(dim=(-2, -1), dtype=torch.float64) for each in (energies, energies_before))
    return torch.where((now <= before)[:, None, None], flow, start)
