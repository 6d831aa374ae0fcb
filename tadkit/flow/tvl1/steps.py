"""Steps of the two solvers on flat memory: torch.compile makes a few sweeps of them, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor

Flat = Float32[Tensor, " pixels"]
WithMargin = Float32[Tensor, " pixels+width"]


class DataTerm(NamedTuple):
    """The linearised brightness difference: residual + across * u + down * v, in grey levels."""

    residual: Flat
    across: Flat
    """Gradient of the warped second frame, to the right; zero where it was sampled outside the picture."""
    down: Flat
    over_squared: Flat
    """1 / the squared gradient."""


class Inside(NamedTuple):
    """1.0, or 0.0 where there is no neighbour to the right (``across``) or below (``down``)."""

    across: Flat
    down: Flat


class SolverState(NamedTuple):
    """Flow and dual fields; the margin is at the end of flow fields and at the start of dual fields."""

    u: WithMargin
    v: WithMargin
    u_ahead: WithMargin
    """Chambolle and Pock's extrapolation of u (Zach's scheme: u itself)."""
    v_ahead: WithMargin
    u_across: WithMargin
    u_down: WithMargin
    v_across: WithMargin
    v_down: WithMargin


Step = Callable[[SolverState, DataTerm, Inside, int], SolverState]


def zach_steps(*, count: int, tau: float, lam: float, theta: float) -> Step:
    """A function that runs ``count`` steps of Zach's alternation; its last argument is the width in pixels."""

    def steps(state: SolverState, data: DataTerm, inside: Inside, width: int) -> SolverState:
        after, pixels = data.residual.new_zeros(width), len(data.residual)
        for _ in range(count):
            u, v = _towards_data(state.u[:pixels], state.v[:pixels], data, lam * theta)
            u = torch.cat([u + theta * _divergence(state.u_across, state.u_down, width), after])
            v = torch.cat([v + theta * _divergence(state.v_across, state.v_down, width), after])
            of_u = _zach_dual(u, state.u_across, state.u_down, inside, width, tau / theta)
            of_v = _zach_dual(v, state.v_across, state.v_down, inside, width, tau / theta)
            state = SolverState(u, v, u, v, *of_u, *of_v)
        return state

    return steps


def chambolle_pock_steps(*, count: int, tau: float, lam: float) -> Step:
    """A function that runs ``count`` primal-dual steps; primal step ``tau``, dual step 1 / (8 tau)."""
    sigma = 1 / (8 * tau)

    def steps(state: SolverState, data: DataTerm, inside: Inside, width: int) -> SolverState:
        after, pixels = data.residual.new_zeros(width), len(data.residual)
        for _ in range(count):
            of_u = _projected_dual(state.u_ahead, state.u_across, state.u_down, inside, width, sigma)
            of_v = _projected_dual(state.v_ahead, state.v_across, state.v_down, inside, width, sigma)
            u, v = state.u[:pixels], state.v[:pixels]
            new_u, new_v = u + tau * _divergence(*of_u, width), v + tau * _divergence(*of_v, width)
            new_u, new_v = _towards_data(new_u, new_v, data, tau * lam)
            flow = [torch.cat([field, after]) for field in (new_u, new_v, 2 * new_u - u, 2 * new_v - v)]
            state = SolverState._make([*flow, *of_u, *of_v])
        return state

    return steps


def _divergence(across: WithMargin, down: WithMargin, width: int) -> Flat:
    """Backward differences; the margin precedes the first pixels."""
    return across[width:] - across[width - 1 : -1] + down[width:] - down[:-width]


def _towards_data(u: Flat, v: Flat, data: DataTerm, reach: float) -> tuple[Flat, Flat]:
    """Move along the gradient until the residual vanishes, by at most ``reach`` times the gradient."""
    residual = data.residual + data.across * u + data.down * v
    move = (residual * data.over_squared).clamp(-reach, reach)
    return u - move * data.across, v - move * data.down


def _zach_dual(
    flow: WithMargin, across: WithMargin, down: WithMargin, inside: Inside, width: int, weight: float
) -> tuple[WithMargin, WithMargin]:
    """Return (p + weight grad u) / (1 + weight |grad u|) (DAGM 2007, equation 15)."""
    to_right, to_below = _forward_differences(flow, inside, width)
    to_right, to_below = weight * to_right, weight * to_below
    shrink = 1 / (1 + torch.sqrt(to_right * to_right + to_below * to_below))
    return _after_margin((across[width:] + to_right) * shrink, (down[width:] + to_below) * shrink, width)


def _projected_dual(
    flow: WithMargin, across: WithMargin, down: WithMargin, inside: Inside, width: int, sigma: float
) -> tuple[WithMargin, WithMargin]:
    """Project p + sigma grad u onto the unit disc (JMIV 2011, section 6.2.1)."""
    to_right, to_below = _forward_differences(flow, inside, width)
    right, below = across[width:] + sigma * to_right, down[width:] + sigma * to_below
    shrink = 1 / torch.sqrt(right * right + below * below).clamp(min=1)
    return _after_margin(right * shrink, below * shrink, width)


def _forward_differences(flow: WithMargin, inside: Inside, width: int) -> tuple[Flat, Flat]:
    pixels = len(flow) - width
    here = flow[:pixels]
    return (flow[1 : pixels + 1] - here) * inside.across, (flow[width:] - here) * inside.down


def _after_margin(across: Flat, down: Flat, width: int) -> tuple[WithMargin, WithMargin]:
    before = across.new_zeros(width)
    return torch.cat([before, across]), torch.cat([before, down])
