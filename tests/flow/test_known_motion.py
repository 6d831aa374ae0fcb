"""Every method without weights finds motion that is known exactly, and treats each pair of frames alike."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tadkit.config import FlowSettings, OpencvDisSettings, OpencvTvl1Settings, Tvl1Settings
from tadkit.flow import FlowMethod, build_flow
from tadkit.flow.tvl1 import Tvl1

Scene = Callable[..., tuple[np.ndarray, np.ndarray]]
Shift = tuple[float, float]
Travel = Callable[..., np.ndarray]


CPU = torch.device("cpu")


class Tolerance(NamedTuple):
    """Mean end-point error in px, away from the border, that is let pass; measured maxima stand beside."""

    translation: float
    """Up to 3 px along each axis, 64x64 px."""
    turn_and_zoom: float
    """Up to 0.06 rad, or 6 %: 2.7 px at the corners, 64x64 px."""
    odd_size: float
    """As translation, 53x97 px. DIS but medium has a single scale there, of 13x24 px."""
    far: float
    """4 to 8 px along each axis, 112x112 px, of textures three times as coarse; reference may be 10 % further off
    than OpenCV's."""


class Named(NamedTuple):
    """A method and what it is let off."""

    method: FlowMethod
    allowed: Tolerance


METHODS: dict[str, tuple[FlowSettings, Tolerance]] = {
    "tvl1-fast": (Tvl1Settings(preset="fast", compile="never"), Tolerance(0.12, 0.12, 0.08, 0.4)),
    "tvl1-faster": (Tvl1Settings(preset="faster", compile="never"), Tolerance(0.12, 0.12, 0.08, 0.4)),
    "tvl1-reference": (Tvl1Settings(preset="reference", compile="never"), Tolerance(0.12, 0.12, 0.08, 0.4)),
    "opencv-tvl1": (OpencvTvl1Settings(), Tolerance(0.12, 0.12, 0.08, 0.45)),  # 0.07, 0.06, 0.03, 0.41
    "opencv-dis-ultrafast": (  # 0.04, 0.14, 0.34, 0.41
        OpencvDisSettings(preset="ultrafast"),
        Tolerance(0.08, 0.2, 0.5, 0.6),
    ),
    "opencv-dis-fast": (  # 0.02, 0.08, 0.32, 0.27
        OpencvDisSettings(preset="fast"),
        Tolerance(0.05, 0.12, 0.5, 0.4),
    ),
    "opencv-dis-medium": (  # 0.06, 0.10, 0.08, 0.10
        OpencvDisSettings(preset="medium"),
        Tolerance(0.1, 0.15, 0.12, 0.2),
    ),
}
BORDER_PX = 10
"""Left out: what moves into the picture has no truth in the other frame."""
SHIFTS = st.tuples(st.floats(-3, 3), st.floats(-3, 3))
SEEDS = st.integers(0, 99)
examples = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] if name == "tvl1-reference" else []) for name in METHODS]
)
def named(request: pytest.FixtureRequest) -> Named:
    choice, allowed = METHODS[request.param]
    return Named(build_flow(choice, device=CPU), allowed)


def flow_of(method: FlowMethod, frames: np.ndarray) -> np.ndarray:
    return method(frames).numpy()


def inner_error(flow: np.ndarray, truth: np.ndarray) -> float:
    """Mean end-point error in px away from the border."""
    error = np.linalg.norm(flow - truth, axis=0)
    return float(error[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].mean())


def error_in(scene: tuple[np.ndarray, np.ndarray], method: FlowMethod) -> float:
    """The inner error of what a method finds in two frames whose flow is known."""
    frames, truth = scene
    return inner_error(flow_of(method, frames)[0], truth)


@examples
@given(shift_xy=SHIFTS, seed=SEEDS)
def test_translation_is_found(moving_texture: Scene, named: Named, shift_xy: Shift, seed: int) -> None:
    assert error_in(moving_texture(np.eye(2), shift_xy, seed), named.method) < named.allowed.translation


@examples
@given(angle=st.floats(-0.06, 0.06), seed=SEEDS)
def test_rotation_is_found(moving_texture: Scene, named: Named, angle: float, seed: int) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert error_in(moving_texture(turn, (0.0, 0.0), seed), named.method) < named.allowed.turn_and_zoom


@examples
@given(zoom=st.floats(0.94, 1.06), seed=SEEDS)
def test_zoom_is_found(moving_texture: Scene, named: Named, zoom: float, seed: int) -> None:
    assert error_in(moving_texture(np.eye(2) * zoom, (0.0, 0.0), seed), named.method) < named.allowed.turn_and_zoom


@settings(examples, max_examples=4)
@example(far_px=(8.0, 5.0), to_the_left=False, seed=20)
@given(far_px=st.tuples(st.floats(4, 8), st.floats(4, 8)), to_the_left=st.booleans(), seed=SEEDS)
def test_coarse_textures_may_go_further(
    moving_texture: Scene, named: Named, far_px: Shift, to_the_left: bool, seed: int
) -> None:
    shift_xy = (-far_px[0] if to_the_left else far_px[0], far_px[1])
    scene = moving_texture(np.eye(2), shift_xy, seed, size_hw=(112, 112), coarseness=3.0)
    allowed_px = named.allowed.far
    if isinstance(named.method, Tvl1) and named.method.settings.preset == "reference":
        allowed_px = max(allowed_px, 1.1 * error_in(scene, build_flow(OpencvTvl1Settings(), device=CPU)))
    assert error_in(scene, named.method) < allowed_px


@examples
@given(shift_xy=SHIFTS, seed=SEEDS)
def test_odd_sizes_are_no_trouble(moving_texture: Scene, named: Named, shift_xy: Shift, seed: int) -> None:
    frames, truth = moving_texture(np.eye(2), shift_xy, seed, size_hw=(53, 97))
    flow = flow_of(named.method, frames)
    assert flow.shape == (1, 2, 53, 97)
    assert inner_error(flow[0], truth) < named.allowed.odd_size


def test_equal_frames_do_not_move(moving_texture: Scene, named: Named) -> None:
    frames, _ = moving_texture(np.eye(2), (0.0, 0.0))
    assert np.abs(flow_of(named.method, frames)).max() < 0.01


@examples
@given(shift_xy=SHIFTS, seed=SEEDS)
def test_going_back_is_the_opposite(moving_texture: Scene, named: Named, shift_xy: Shift, seed: int) -> None:
    frames, _ = moving_texture(np.eye(2), shift_xy, seed)
    there, back = flow_of(named.method, np.concatenate([frames, frames[:1]]))
    assert inner_error(there, -back) < 2 * named.allowed.translation


@examples
@given(shift_xy=SHIFTS, seed=SEEDS)
def test_a_mirrored_picture_has_mirrored_flow(moving_texture: Scene, named: Named, shift_xy: Shift, seed: int) -> None:
    frames, _ = moving_texture(np.eye(2), shift_xy, seed)
    flow, mirrored = flow_of(named.method, frames)[0], flow_of(named.method, frames[:, :, ::-1])[0, :, :, ::-1]
    assert inner_error(np.stack([-mirrored[0], mirrored[1]]), flow) < named.allowed.translation


@examples
@given(shifts_xy=st.lists(SHIFTS, min_size=2, max_size=5), seed=SEEDS)
def test_flow_k_leads_from_frame_k_to_the_next(
    travelling_texture: Travel, named: Named, shifts_xy: list[Shift], seed: int
) -> None:
    flow = flow_of(named.method, travelling_texture(shifts_xy, seed))
    assert len(flow) == len(shifts_xy)
    for each, shift_xy in zip(flow, shifts_xy, strict=True):
        assert inner_error(each, np.reshape(shift_xy, (2, 1, 1))) < named.allowed.translation


def test_a_pair_has_the_same_flow_in_any_company(moving_texture: Scene, named: Named) -> None:
    """The pictures differ from pair to pair, so that one of the flows is found where there is none."""
    rng = np.random.default_rng(7)
    frames = np.concatenate([moving_texture(np.eye(2), rng.uniform(-2, 2, 2), seed)[0] for seed in (0, 1)])
    together = flow_of(named.method, frames)
    alone = np.concatenate([flow_of(named.method, frames[k : k + 2]) for k in range(3)])
    in_chunks = np.concatenate([flow_of(named.method, frames[:3]), flow_of(named.method, frames[2:])])
    assert np.abs(together - alone).max() <= 1e-4
    assert np.abs(together - in_chunks).max() <= 1e-4


def test_earlier_pictures_leave_no_trace(moving_texture: Scene, named: Named) -> None:
    """Not even small ones, for which OpenCV changes its own settings."""
    frames, _ = moving_texture(np.eye(2), (1.5, -0.5), size_hw=(48, 96))
    before = flow_of(named.method, frames)
    flow_of(named.method, frames[:, :20, :24])
    np.testing.assert_array_equal(flow_of(named.method, frames), before)


def test_frames_are_read_in_any_layout(moving_texture: Scene, named: Named) -> None:
    frames, _ = moving_texture(np.eye(2), (1.5, -0.5), size_hw=(40, 48))
    frozen = frames.copy()
    frozen.flags.writeable = False
    channels_first = np.ascontiguousarray(np.moveaxis(frames, -1, 1))
    layouts: list[np.ndarray | torch.Tensor] = [
        torch.from_numpy(frames),
        torch.from_numpy(channels_first).permute(0, 2, 3, 1),
        np.asfortranarray(frames),
        np.ascontiguousarray(frames[:, ::-1])[:, ::-1],
        np.repeat(frames, 2, axis=0)[::2],
        frozen,
    ]
    expected = named.method(frames)
    assert all(torch.equal(named.method(layout), expected) for layout in layouts)
