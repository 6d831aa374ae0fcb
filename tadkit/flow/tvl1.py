"""TV-L1 optical flow in torch: many frame pairs at once, on any device.

Sources: Zach, Pock, Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM 2007; Sanchez,
Meinhardt-Llopis, Facciolo, "TV-L1 optical flow estimation", IPOL 2013; Chambolle, Pock, JMIV 40, 2011, section 6.3.3.

Deviations: every pair is solved with the same fixed number of steps, so that its flow does not depend on its batch; the
median filters are OpenCV's; and the preset ``fast`` starts from the flow of dense inverse search (Kroeger et al., ECCV
2016) instead of zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, assert_never

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional

from tadkit.config import OpencvDisSettings, Tvl1Settings
from tadkit.flow.frames import check_frames, grey_levels
from tadkit.flow.fusing import Fused
from tadkit.flow.median import median_filter, network_of

SMALLEST_LEVEL_PX = 16
STEPS_A_CALL = 4
"""Most steps compiled into one function: more take longer to compile for little speed."""
CPU_CHUNK_PX = {True: 400_000, False: 50_000}
"""Most pixels solved at once on a CPU, whatever batch_pairs is, by whether steps are fused. Fused: measured 112 pairs/s
of 112x112 px, 86 with the smaller number. Not fused: the fields of more pixels do not fit into the cache."""

Duals = Float32[Tensor, "4 pairs height width"]


class Tvl1:
    """TV-L1 flow of adjacent frames.

    The dual fields are kept from warp to warp. Chambolle and Pock's are also kept from level to level; Zach's restart
    at zero, as in IPOL and OpenCV.
    """

    channels = 2

    def __init__(self, settings: Tvl1Settings, *, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        fuse = settings.compile == "auto"
        self._steps_a_call = max(n for n in range(1, STEPS_A_CALL + 1) if settings.inner_steps % n == 0)
        self._steps = Fused(_steps(settings, self._steps_a_call), compiled=fuse)
        self._median = Fused(network_of(settings.median_px), compiled=fuse)
        self._linearised = Fused(linearised, compiled=fuse)

    def __call__(
        self, frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"]
    ) -> Float32[Tensor, "pairs 2 height width"]:
        """Flow k, in pixels, from frame k to frame k + 1: channel 0 to the right, channel 1 down."""
        colour = check_frames(frames)
        grey = grey_levels(colour.to(self.device))
        pairs = len(grey) - 1
        size = self._chunk_pairs(grey.shape[-2] * grey.shape[-1])
        flow = grey.new_empty((pairs, 2, *grey.shape[1:]))
        for start in range(0, pairs, size):
            end = min(start + size, pairs)
            flow[start:end] = self._solve(grey[start : end + 1], self._start(colour[start : end + 1]))
        return flow

    def _chunk_pairs(self, frame_px: int) -> int:
        """Pairs solved at once; affects the speed, not the flow."""
        if self.device.type != "cpu":
            return self.settings.batch_pairs
        return min(self.settings.batch_pairs, max(1, CPU_CHUNK_PX[self._steps.is_fused] // frame_px))

    def _start(self, colour: UInt8[Tensor, "frames height width 3"]) -> Float32[Tensor, "2 pairs height width"]:
        match self.settings.start:
            case "zero":
                return torch.zeros((2, len(colour) - 1, *colour.shape[1:3]), device=self.device)
            case "dis":
                from tadkit.flow.opencv import OpencvDis

                return OpencvDis(OpencvDisSettings(), device=self.device)(colour).transpose(0, 1)
            case start:
                assert_never(start)

    @torch.inference_mode()
    def _solve(
        self, grey: Float32[Tensor, "frames height width"], flow: Float32[Tensor, "2 pairs height width"]
    ) -> Float32[Tensor, "pairs 2 height width"]:
        """Flow of each frame to the next, from the coarsest level to the finest."""
        levels = pyramid(grey[:, None], self.settings)
        duals: Duals | None = None
        for level in reversed(levels):
            height, width = level.shape[-2:]
            flow = _resize_flow(flow, height, width)
            carried = None if self.settings.solver == "zach" else duals
            flow, duals = self._solve_level(level, flow, _resize_duals(carried, flow))
        return flow.transpose(0, 1)

    def _solve_level(
        self,
        level: Float32[Tensor, "frames 1 height width"],
        flow: Float32[Tensor, "2 pairs height width"],
        duals: Duals,
    ) -> tuple[Float32[Tensor, "2 pairs height width"], Duals]:
        """Flow and dual fields at one level, from those of the next coarser one."""
        settings, width = self.settings, level.shape[-1]
        first, target, inside = level[:-1].flatten(), target_of(level[1:]), _inside(flow)
        last = flow.new_tensor([width - 1, level.shape[-2] - 1])
        for _ in range(settings.warps):
            read = warped(target, flow, sampling=settings.sampling)
            data = self._linearised(first, read.flatten(1), flow.flatten(1), target.grid.flatten(1), last)
            for _ in range(settings.medians):
                flow = self._filtered(flow)
                state = _state(flow, duals)
                for _ in range(settings.inner_steps // self._steps_a_call):
                    state = self._steps(state, data, inside, width)
                flow, duals = _fields(state, flow)
        return (self._filtered(flow) if settings.last_median else flow), duals

    def _filtered(self, flow: Float32[Tensor, "2 pairs height width"]) -> Float32[Tensor, "2 pairs height width"]:
        return median_filter(flow, self.settings.median_px, self._median)


def _steps(settings: Tvl1Settings, count: int) -> Step:
    match settings.solver:
        case "zach":
            return zach_steps(count=count, tau=settings.tau, lam=settings.lam, theta=settings.theta)
        case "chambolle-pock":
            return chambolle_pock_steps(count=count, tau=settings.tau, lam=settings.lam)
        case solver:
            assert_never(solver)


def pyramid(
    images: Float32[Tensor, "frames 1 height width"], settings: Tvl1Settings
) -> list[Float32[Tensor, "frames 1 _ _"]]:
    """Successively smaller copies, full size first; levels under 16 px are left out."""
    levels = [_smooth(images, settings.smoothing_px)]
    height, width = images.shape[-2:]
    for level in range(1, settings.scales):
        shrink = settings.scale_step**level
        size = (round(height * shrink), round(width * shrink))
        if min(size) < SMALLEST_LEVEL_PX:
            break
        # OpenCV subsamples without a filter; so does the preset that reproduces it.
        levels.append(
            functional.interpolate(levels[-1], size=size, mode="bilinear", antialias=settings.smoothing_px > 0)
        )
    return levels


def _smooth(
    images: Float32[Tensor, "frames 1 height width"], sigma_px: float
) -> Float32[Tensor, "frames 1 height width"]:
    """Gaussian blur with replicated borders."""
    if sigma_px == 0:
        return images
    radius = math.ceil(3 * sigma_px)
    positions = torch.arange(-radius, radius + 1, dtype=torch.float32, device=images.device)
    kernel = torch.exp(-0.5 * (positions / sigma_px) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(images, (radius, radius, radius, radius), mode="replicate")
    height, width = images.shape[-2:]
    # Sums of shifts: torch's convolution of one channel takes ten times as long on a CPU.
    rows = sum(weight * padded[..., shift : shift + height, :] for shift, weight in enumerate(kernel.tolist()))
    assert isinstance(rows, Tensor)
    blurred = sum(weight * rows[..., shift : shift + width] for shift, weight in enumerate(kernel.tolist()))
    assert isinstance(blurred, Tensor)
    return blurred


def _resized(
    fields: Float32[Tensor, "kinds pairs _ _"], height: int, width: int
) -> Float32[Tensor, "kinds pairs {height} {width}"]:
    # One channel each: torch rounds differently with more, and a pair's flow would depend on its batch.
    single = fields.reshape(-1, 1, *fields.shape[-2:])
    resized = functional.interpolate(single, size=(height, width), mode="bilinear", align_corners=False)
    return resized.view(*fields.shape[:2], height, width)


def _resize_flow(
    flow: Float32[Tensor, "2 pairs _ _"], height: int, width: int
) -> Float32[Tensor, "2 pairs {height} {width}"]:
    """Flow at another size, displacements scaled with the picture."""
    old_height, old_width = flow.shape[-2:]
    if (old_height, old_width) == (height, width):
        return flow
    resized = _resized(flow, height, width)
    resized[0] *= width / old_width
    resized[1] *= height / old_height
    return resized


def _resize_duals(duals: Duals | None, flow: Float32[Tensor, "2 pairs height width"]) -> Duals:
    """Dual fields at the size of ``flow``, zeros if None; zero in the last column and row."""
    if duals is None:
        return flow.new_zeros((4, *flow.shape[1:]))
    resized = _resized(duals, *flow.shape[-2:])
    resized[0::2, :, :, -1] = 0
    resized[1::2, :, -1, :] = 0
    return resized


def _inside(flow: Float32[Tensor, "2 pairs height width"]) -> Inside:
    across, down = torch.ones_like(flow[0]), torch.ones_like(flow[0])
    across[..., -1], down[..., -1, :] = 0, 0
    return Inside(across.view(-1), down.view(-1))


def _state(flow: Float32[Tensor, "2 pairs height width"], duals: Duals) -> SolverState:
    """The solver's state in flat memory with a margin of one row."""
    width = flow.shape[-1]
    u, v = functional.pad(flow.reshape(2, -1), (0, width)).unbind()
    return SolverState(u, v, u, v, *functional.pad(duals.reshape(4, -1), (width, 0)).unbind())


def _fields(
    state: SolverState, like: Float32[Tensor, "2 pairs height width"]
) -> tuple[Float32[Tensor, "2 pairs height width"], Duals]:
    """Flow and dual fields as pictures."""
    width = like.shape[-1]
    flow = torch.stack([state.u[:-width], state.v[:-width]]).view_as(like)
    duals = [field[width:] for field in (state.u_across, state.u_down, state.v_across, state.v_down)]
    return flow, torch.stack(duals).view(4, *like.shape[1:])


LEAST_GRADIENT_SQUARED = 1e-6


class Target(NamedTuple):
    """The second frame of each pair with its gradient, and the position of each pixel."""

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
    """The second frame and its gradient at the end points of the flow, with replicated borders."""
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
    # Outside the picture there is no data: a zero gradient leaves the flow to its neighbours (as in IPOL).
    seen = ((x >= 0) & (x <= last[0]) & (y >= 0) & (y <= last[1])).to(torch.float32)
    across, down = read[1] * seen, read[2] * seen
    residual = read[0] - first - across * flow[0] - down * flow[1]
    over_squared = 1 / (across * across + down * down).clamp(min=LEAST_GRADIENT_SQUARED)
    return DataTerm(residual, across, down, over_squared)


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
