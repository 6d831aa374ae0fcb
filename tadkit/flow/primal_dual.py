"""One primal-dual step of TV-L1 (Zach, Pock, Bischof 2007, equations 11 to 15; IPOL 2013, algorithm 1).

All fields are contiguous, so a neighbour is a shift of the flat memory: the forward difference past a last column or
row is set to zero, and with it the dual field there, which makes the shifted divergence right at every border.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor


class DataTerm(NamedTuple):
    """The linearised brightness difference over the squared gradient: residual + across * u + down * v."""

    residual: Float32[Tensor, "pairs height width"]
    across: Float32[Tensor, "pairs height width"]
    down: Float32[Tensor, "pairs height width"]
    gradient: Float32[Tensor, "2 pairs height width"]
    """Gradient of the warped second frame: the direction that the data term moves the flow in."""


class DualState(NamedTuple):
    """The dual fields of u and v, and memory that steps write into."""

    across: Float32[Tensor, "2 pairs height width"]
    down: Float32[Tensor, "2 pairs height width"]
    change_across: Float32[Tensor, "2 pairs height width"]
    change_down: Float32[Tensor, "2 pairs height width"]
    norm: Float32[Tensor, "2 pairs height width"]

    @classmethod
    def zeros_like(cls, flow: Float32[Tensor, "2 pairs height width"]) -> DualState:
        """Zero fields for a flow of this shape."""
        return cls(*(torch.zeros_like(flow) for _ in cls._fields))


def primal_dual_step(
    flow: Float32[Tensor, "2 pairs height width"], state: DualState, data: DataTerm, *, reach: float, tau: float
) -> None:
    """Update flow and dual fields in place; it reads and writes nothing but its arguments.

    Args:
        flow: Displacement times tau / theta, contiguous.
        state: Dual fields and scratch memory.
        data: Data term for the flow in the same scale.
        reach: lambda * theta * tau / theta: bound of the data step.
        tau: Time step of the dual update.
    """
    width = flow.shape[-1]
    dual_across, dual_down, change_across, change_down, norm = state
    # Thresholding (IPOL, equation 12): its three cases are one clamp of the difference over the squared gradient.
    step = torch.addcmul(data.residual, data.across, flow[0], out=norm[0])
    step.addcmul_(data.down, flow[1]).clamp_(-reach, reach)
    flow.addcmul_(step, data.gradient, value=-1)
    # u = v + theta div p (equation 14).
    flat, flat_across, flat_down = flow.view(-1), dual_across.view(-1), dual_down.view(-1)
    flat.add_(flat_across, alpha=tau)
    flat[1:].sub_(flat_across[:-1], alpha=tau)
    flat.add_(flat_down, alpha=tau)
    flat[width:].sub_(flat_down[:-width], alpha=tau)
    # p = (p + tau / theta grad u) / (1 + tau / theta |grad u|) (equation 15).
    torch.sub(flat[1:], flat[:-1], out=change_across.view(-1)[:-1])
    change_across[..., -1] = 0
    torch.sub(flat[width:], flat[:-width], out=change_down.view(-1)[:-width])
    change_down[..., -1, :] = 0
    torch.mul(change_across, change_across, out=norm)
    norm.addcmul_(change_down, change_down).sqrt_().add_(1)
    dual_across.add_(change_across).div_(norm)
    dual_down.add_(change_down).div_(norm)
