"""Histograms of flow say where something moves, which way and how fast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tadkit.flow.codec import encode, read_stacks
from tadkit.flow.histograms import CHANNELS, DIRECTIONS, flow_histograms, stacked
from tadkit.store import open_store, read_store


def moving(u: float, v: float, *, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
    motion = np.zeros((1, 2, 32, 48), dtype=np.float32)
    motion[0, 0, rows, columns], motion[0, 1, rows, columns] = u, v
    return motion


@pytest.mark.parametrize(
    ("u", "v", "direction"),
    [(3, 0, 0), (2, 2, 1), (0, 3, 2), (-2, 2, 3), (-3, 0, 4), (-2, -2, 5), (0, -3, 6), (2, -2, 7)],
)
def test_one_direction_has_the_log_of_the_speed_and_the_mean_keeps_the_sign(u: float, v: float, direction: int) -> None:
    found = flow_histograms(moving(u, v), 1).reshape(CHANNELS)
    expected = np.zeros(CHANNELS)
    expected[direction], expected[DIRECTIONS:] = np.log1p(np.hypot(u, v)), (0, u, v)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_cell_is_of_its_own_part_of_the_picture_and_what_is_still_says_so() -> None:
    cells = flow_histograms(moving(4, 0, rows=slice(16, 32), columns=slice(24)), 2).reshape(2, 2, CHANNELS)
    assert cells[1, 0, 0] == pytest.approx(np.log(5))
    assert cells[..., DIRECTIONS].tolist() == [[1, 1], [0, 1]], "still share"
    assert np.delete(cells.reshape(4, -1), 2, axis=0)[:, :DIRECTIONS].max() == 0


def test_between_two_directions_both_have_a_share_and_the_sum_does_not_jump() -> None:
    angles = np.linspace(0, 2 * np.pi, 57)
    found = np.concatenate([flow_histograms(moving(3 * np.cos(a), 3 * np.sin(a)), 1) for a in angles])
    np.testing.assert_allclose(found[:, :DIRECTIONS].sum(1), np.log(4), rtol=1e-5)
    assert np.abs(np.diff(found[:, :DIRECTIONS], axis=0)).max() < 0.25


def test_a_mirrored_flow_has_the_mirrored_histogram() -> None:
    motion = np.random.default_rng(0).normal(0, 2, (3, 2, 32, 48)).astype(np.float32)
    mirrored = motion[..., ::-1] * np.array([-1, 1])[:, None, None]
    cells, other = (flow_histograms(x, 2).reshape(3, 2, 2, CHANNELS) for x in (motion, mirrored))
    swapped = other[:, :, ::-1, [4, 3, 2, 1, 0, 7, 6, 5, 8, 9, 10]] * np.array([1] * 9 + [-1, 1])
    np.testing.assert_allclose(cells, swapped, atol=1e-5)


@pytest.mark.parametrize("stack", [1, 2, 3, 4])
def test_histograms_are_stacked_as_flow_is(tmp_path, stack: int) -> None:
    motion = np.random.default_rng(1).normal(0, 2, (5, 2, 16, 16)).astype(np.float32)
    with (
        open_store(tmp_path / "flow.h5", kind="flow", settings={}) as store,
        store.video("v", key="k", stamps_s=np.arange(6.0), attributes={}) as entry,
    ):
        entry.append("motion", encode(torch.from_numpy(motion), 20).values, bound=20)
    with read_store(tmp_path / "flow.h5", kind="flow") as store:
        single = read_stacks(store, "v", 0, 5).numpy()
        frames = read_stacks(store, "v", 0, 6, stack=stack).numpy().reshape(6, stack, 2, 16, 16)
    found = stacked(flow_histograms(single, 1), stack=stack).reshape(6, stack, CHANNELS)
    for place in range(stack):
        np.testing.assert_allclose(found[:, place], flow_histograms(frames[:, place], 1), atol=1e-6)


def test_a_video_of_one_frame_has_a_step_without_motion() -> None:
    assert stacked(np.zeros((0, 44), dtype=np.float32), stack=3).shape == (1, 132)
