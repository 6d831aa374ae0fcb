"""Every method without weights finds motion that is known exactly, and treats each pair of frames alike."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tadkit.config import FlowSettings, OpencvDisSettings, OpencvTvl1Settings, Tvl1Settings
from tadkit.flow import FlowMethod, build_flow

Scene = Callable[..., tuple[np.ndarray, np.ndarray]]
Travel = Callable[..., np.ndarray]


class Tolerance(NamedTuple):
    """Mean end-point error in px, away from the border, that is let pass; measured maxima stand beside."""

    translation: float
    """Up to 3 px along each axis, 64x64 px."""
    turn_and_zoom: float
    """Up to 0.06 rad, or 6 %: 2.7 px at the corners, 64x64 px."""
    odd_size: float
    """As translation, 53x97 px. DIS but medium has a single scale there, of 13x24 px."""
    far: float
    """4 to 8 px along each axis, 112x112 px, of textures three times as coarse."""


METHODS: dict[str, tuple[FlowSettings, Tolerance]] = {
    "tvl1-fast": (Tvl1Settings(preset="fast", compile="never"), Tolerance(0.12, 0.12, 0.08, 0.4)),
    "tvl1-reference": (Tvl1Settings(preset="reference", compile="never"), Tolerance(0.12, 0.12, 0.08, 0.4)),
    "opencv-tvl1": (OpencvTvl1Settings(), Tolerance(0.12, 0.12, 0.08, 0.4)),  # 0.07, 0.06, 0.03, 0.23
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


@pytest.fixture(params=METHODS)
def named(request: pytest.FixtureRequest) -> tuple[FlowMethod, Tolerance]:
    choice, tolerance = METHODS[request.param]
    return build_flow(choice, device=torch.device("cpu")), tolerance


def flow_of(method: FlowMethod, frames: np.ndarray) -> np.ndarray:
    return method(frames).numpy()


def inner_error(flow: np.ndarray, truth: np.ndarray) -> float:
    """Mean end-point error in px away from the border."""
    error = np.linalg.norm(flow - truth, axis=0)
    return float(error[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].mean())


@examples
@given(shift_xy=SHIFTS, seed=SEEDS)
def test_translation_is_found(
    moving_texture: Scene, named: tuple[FlowMethod, Tolerance], shift_xy: tuple[float, float], seed: int
) -> None:
    method, tolerance = named
    frames, truth = moving_texture(np.eye(2), shift_xy, seed)
    assert inner_error(flow_of(method, frames)[0], truth) < tolerance.translation


@examples
@given(angle=st.floats(-0.06, 0.06), seed=SEEDS)
def test_rotation_is_found(moving_texture: Scene, named: tuple[FlowMethod, Tolerance], angle: float, seed: int) -> None:
    method, tolerance = named
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    frames, truth = moving_texture(turn, (0.0, 0.0), seed)
    assert inner_error(flow_of(method, frames)[0], truth) < tolerance.turn_and_zoom


@examples
@given(zoom=st.floats(0.94, 1.06), seed=SEEDS)
def test_zoom_is_found(moving_texture: Scene, named: tuple[FlowMethod, Tolerance], zoom: float, seed: int) -> None:
    method, tolerance = named
    frames, truth = moving_texture(np.eye(2) * zoom, (0.0, 0.0), seed)
    assert inner_error(flow_of(method, frames)[0], truth) < tolerance.turn_and_zoom


@settings(examples, max_examples=4)
@given(far_px=st.tuples(st.floats(4, 8), st.floats(4, 8)), to_the_left=st.booleans(), seed=SEEDS)
def test_coarse_textures_may_go_further(
    moving_texture: Scene,
    named: tuple[FlowMethod, Tolerance],
    far_px: tuple[float, float],
    to_the_left: bool,
    seed: int,
) -> None:
    method, tolerance = named
    shift_xy = (-far_px[0] if to_the_left else far_px[0], far_px[1])
    frames, truth = moving_texture(np.eye(2), shift_xy, seed, size_hw=(112, 112), coarseness=3.0)
    assert inner_error(flow_of(method, frames)[0], truth) < tolerance.far


@examples
@given(shift_xy=SHIFTS, seed=SEEDS)
def test_odd_sizes_are_no_trouble(
    moving_texture: Scene, named: tuple[FlowMethod, Tolerance], shift_xy: tuple[float, float], seed: int
) -> None:
    method, tolerance = named
    frames, truth = moving_texture(np.eye(2), shift_xy, seed, size_hw=(53, 97))
    flow = flow_of(method, frames)
    assert flow.shape == (1, 2, 53, 97)
    assert inner_error(flow[0], truth) < tolerance.odd_size


def test_equal_frames_do_not_move(moving_texture: Scene, named: tuple[FlowMethod, Tolerance]) -> None:
    frames, _ = moving_texture(np.eye(2), (0.0, 0.0))
    assert np.abs(flow_of(named[0], frames)).max() < 0.01


@examples
@given(shift_xy=SHIFTS, seed=SEEDS)
def test_going_back_is_the_opposite(
    moving_texture: Scene, named: tuple[FlowMethod, Tolerance], shift_xy: tuple[float, float], seed: int
) -> None:
    method, tolerance = named
    frames, _ = moving_texture(np.eye(2), shift_xy, seed)
    there, back = flow_of(method, np.concatenate([frames, frames[:1]]))
    assert inner_error(there, -back) < 2 * tolerance.translation


@examples
@given(shift_xy=SHIFTS, seed=SEEDS)
def test_a_mirrored_picture_has_mirrored_flow(
    moving_texture: Scene, named: tuple[FlowMethod, Tolerance], shift_xy: tuple[float, float], seed: int
) -> None:
    method, tolerance = named
    frames, _ = moving_texture(np.eye(2), shift_xy, seed)
    flow, mirrored = flow_of(method, frames)[0], flow_of(method, frames[:, :, ::-1])[0, :, :, ::-1]
    assert inner_error(np.stack([-mirrored[0], mirrored[1]]), flow) < tolerance.translation


@examples
@given(shifts_xy=st.lists(SHIFTS, min_size=2, max_size=5), seed=SEEDS)
def test_flow_k_leads_from_frame_k_to_the_next(
    travelling_texture: Travel,
    named: tuple[FlowMethod, Tolerance],
    shifts_xy: list[tuple[float, float]],
    seed: int,
) -> None:
    method, tolerance = named
    flow = flow_of(method, travelling_texture(shifts_xy, seed))
    assert len(flow) == len(shifts_xy)
    for each, shift_xy in zip(flow, shifts_xy, strict=True):
        assert inner_error(each, np.reshape(shift_xy, (2, 1, 1))) < tolerance.translation


def test_a_pair_has_the_same_flow_in_any_company(moving_texture: Scene, named: tuple[FlowMethod, Tolerance]) -> None:
    """The pictures differ from pair to pair, so that one of the flows is found where there is none."""
    method, _ = named
    rng = np.random.default_rng(7)
    frames = np.concatenate([moving_texture(np.eye(2), rng.uniform(-2, 2, 2), seed)[0] for seed in (0, 1)])
    together = flow_of(method, frames)
    alone = np.concatenate([flow_of(method, frames[k : k + 2]) for k in range(3)])
    in_chunks = np.concatenate([flow_of(method, frames[:3]), flow_of(method, frames[2:])])
    assert np.abs(together - alone).max() <= 1e-4
    assert np.abs(together - in_chunks).max() <= 1e-4


def test_earlier_pictures_leave_no_trace(moving_texture: Scene, named: tuple[FlowMethod, Tolerance]) -> None:
    """Not even small ones, for which OpenCV changes its own settings."""
    method, _ = named
    frames, _ = moving_texture(np.eye(2), (1.5, -0.5), size_hw=(48, 96))
    before = flow_of(method, frames)
    flow_of(method, frames[:, :20, :24])
    np.testing.assert_array_equal(flow_of(method, frames), before)


def test_frames_are_read_in_any_layout(moving_texture: Scene, named: tuple[FlowMethod, Tolerance]) -> None:
    method, _ = named
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
    expected = method(frames)
    assert all(torch.equal(method(layout), expected) for layout in layouts)
