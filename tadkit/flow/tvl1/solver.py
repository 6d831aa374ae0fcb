"""Coarse to fine: warp, make the data term linear, filter, solve; and keep what lowered the energy."""

from __future__ import annotations

import math
from typing import NamedTuple, assert_never

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional

from tadkit.config import OpencvDisSettings, Tvl1Settings
from tadkit.flow.frames import check_frames, grey_levels
from tadkit.flow.fusing import Fused
from tadkit.flow.median import median_filter, network_of
from tadkit.flow.tvl1 import data as terms
from tadkit.flow.tvl1 import start as starts
from tadkit.flow.tvl1.data import Flow, Pictures
from tadkit.flow.tvl1.pyramid import pyramid, resized, resized_flow
from tadkit.flow.tvl1.steps import DataTerm, Inside, SolverState, Step, chambolle_pock_steps, zach_steps

STEPS_A_CALL = 8
"""Most steps compiled into one function: more take longer to compile for little speed."""
CPU_CHUNK_PX = {True: 400_000, False: 50_000}
"""Most pixels solved at once on a CPU, whatever batch_pairs is, by whether steps are fused. Fused: measured 112 pairs/s
of 112x112 px, 86 with the smaller number. Not fused: the fields of more pixels do not fit into the cache."""

Duals = Float32[Tensor, "4 pairs height width"]


class _Level(NamedTuple):
    """The frames of each pair at one size."""

    first: Pictures
    second: Pictures
    grid: Flow


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
        common = math.gcd(settings.inner_steps, settings.coarse_inner_steps)
        self._steps_a_call = max(n for n in range(1, STEPS_A_CALL + 1) if common % n == 0)
        self._steps = Fused(_steps(settings, self._steps_a_call), compiled=fuse)
        self._median = Fused(network_of(settings.median_px), compiled=fuse)
        self._linearised = Fused(terms.linearised, compiled=fuse)
        self._linearised_about_mean = Fused(terms.linearised_about_mean, compiled=fuse)

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
            flow[start:end] = self._solve(colour[start : end + 1], grey[start : end + 1]).transpose(0, 1)
        return flow

    def _chunk_pairs(self, frame_px: int) -> int:
        """Pairs solved at once; affects the speed, not the flow."""
        if self.device.type != "cpu":
            return self.settings.batch_pairs
        return min(self.settings.batch_pairs, max(1, CPU_CHUNK_PX[self._steps.is_fused] // frame_px))

    @torch.inference_mode()
    def _solve(
        self, colour: UInt8[Tensor, "frames height width 3"], grey: Float32[Tensor, "frames height width"]
    ) -> Flow:
        """Flow of each frame to the next."""
        settings = self.settings
        smaller = pyramid(
            grey, scales=settings.scales, scale_step=settings.scale_step, smoothing_px=settings.smoothing_px
        )
        levels = [_Level(level[:-1], level[1:], terms.grid_of(level[:-1])) for level in smaller]
        if settings.start == "zero":
            return self._refined(levels, grey.new_zeros((2, len(grey) - 1, *grey.shape[1:])))
        from tadkit.flow.opencv import OpencvDis

        dis = OpencvDis(OpencvDisSettings(), device=self.device)(colour).transpose(0, 1)
        return self._refined(levels, dis) if settings.start == "dis" else self._refined_from(dis, levels)

    def _refined_from(self, dis: Flow, levels: list[_Level]) -> Flow:
        """Flow whose energy is not above that of ``dis``, see :mod:`tadkit.flow.tvl1.start`."""
        finest = levels[0]
        read = self._read(finest, dis)
        seen = terms.seen_of(dis, finest.grid)
        light = starts.light_of(finest.first, read, seen)
        levels = [_lit(level, light) for level in levels]
        first, second, grid = levels[0]
        flow = self._refined(levels, starts.without_noise(first, second, read, seen, dis))
        lam = self.settings.lam
        now = starts.energy(flow, first, self._read(levels[0], flow), terms.seen_of(flow, grid), lam)
        return starts.lower_energy(flow, dis, now, starts.energy(dis, first, read, seen, lam))

    def _refined(self, levels: list[_Level], flow: Flow) -> Flow:
        """Flow from the coarsest level to the finest."""
        duals: Duals | None = None
        for level in reversed(levels):
            flow = resized_flow(flow, *level.first.shape[-2:])
            carried = None if self.settings.solver == "zach" else duals
            flow, duals = self._solve_level(level, flow, _resized_duals(carried, flow), finest=level is levels[0])
        return flow

    def _solve_level(self, level: _Level, flow: Flow, duals: Duals, *, finest: bool) -> tuple[Flow, Duals]:
        """Flow and dual fields at one level, from those of the next coarser one."""
        settings, width = self.settings, flow.shape[-1]
        warps, steps = (
            (settings.warps, settings.inner_steps) if finest else (settings.coarse_warps, settings.coarse_inner_steps)
        )
        inside = _inside(flow)
        slopes = terms.central_slopes(level.second) if settings.gradient == "second" else None
        for _ in range(warps):
            data = self._data_of(level, slopes, flow)
            for _ in range(settings.medians):
                flow = self._filtered(flow)
                state = _state(flow, duals)
                for _ in range(steps // self._steps_a_call):
                    state = self._steps(state, data, inside, width)
                flow, duals = _fields(state, flow)
        return (self._filtered(flow) if settings.last_median else flow), duals

    def _data_of(self, level: _Level, slopes: terms.Slopes | None, flow: Flow) -> DataTerm:
        """The data term around ``flow``, in flat memory; ``slopes`` are the second frame's, None for the mean's."""
        first, second, grid = level
        if slopes is None:
            read = self._read(level, flow)
            padded = functional.pad(((first + read) / 2)[:, None], (2, 2, 2, 2), mode="replicate")[:, 0]
            data = self._linearised_about_mean(first, read, padded, flow, grid)
        else:
            channels = torch.stack([second, *slopes], dim=1)
            read, across, down = terms.warped(channels, grid, flow, sampling=self.settings.sampling)
            data = self._linearised(first, read, terms.Slopes(across, down), flow, grid)
        return DataTerm._make(field.reshape(-1) for field in data)

    def _read(self, level: _Level, flow: Flow) -> Pictures:
        """The second frame at the end points of the flow."""
        return terms.warped(level.second[:, None], level.grid, flow, sampling=self.settings.sampling)[0]

    def _filtered(self, flow: Flow) -> Flow:
        return median_filter(flow, self.settings.median_px, self._median)


def _steps(settings: Tvl1Settings, count: int) -> Step:
    match settings.solver:
        case "zach":
            return zach_steps(count=count, tau=settings.tau, lam=settings.lam, theta=settings.theta)
        case "chambolle-pock":
            return chambolle_pock_steps(count=count, tau=settings.tau, lam=settings.lam)
        case solver:
            assert_never(solver)


def _lit(level: _Level, light: starts.Light) -> _Level:
    """The level with the first frame's brightness changed to the second's."""
    gain, offset = resized(torch.stack(light), *level.first.shape[-2:])
    return level._replace(first=gain * level.first + offset)


def _resized_duals(duals: Duals | None, flow: Flow) -> Duals:
    """Dual fields at the size of ``flow``, zeros if None; zero in the last column and row."""
    if duals is None:
        return flow.new_zeros((4, *flow.shape[1:]))
    other = resized(duals, *flow.shape[-2:])
    other[0::2, :, :, -1] = 0
    other[1::2, :, -1, :] = 0
    return other


def _inside(flow: Flow) -> Inside:
    across, down = torch.ones_like(flow[0]), torch.ones_like(flow[0])
    across[..., -1], down[..., -1, :] = 0, 0
    return Inside(across.view(-1), down.view(-1))


def _state(flow: Flow, duals: Duals) -> SolverState:
    """The solver's state in flat memory with a margin of one row."""
    width = flow.shape[-1]
    u, v = functional.pad(flow.reshape(2, -1), (0, width)).unbind()
    return SolverState(u, v, u, v, *functional.pad(duals.reshape(4, -1), (width, 0)).unbind())


def _fields(state: SolverState, like: Flow) -> tuple[Flow, Duals]:
    """Flow and dual fields as pictures."""
    width = like.shape[-1]
    flow = torch.stack([state.u[:-width], state.v[:-width]]).view_as(like)
    duals = [field[width:] for field in (state.u_across, state.u_down, state.v_across, state.v_down)]
    return flow, torch.stack(duals).view(4, *like.shape[1:])
