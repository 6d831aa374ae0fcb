"""Views: a group of eight, and flow that follows its picture."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch

from tadkit.config import SQUARE_VIEWS, Tvl1Settings, View
from tadkit.flow.tvl1 import Tvl1
from tadkit.views import inverse_view, view_flow, view_frames, view_motion

VIEWS: tuple[View, ...] = get_args(View)
SIZE_PX = 33


def displaced(points_xy: np.ndarray) -> np.ndarray:
    """A displacement without symmetry: where a thing at (x, y), measured from the centre, goes to."""
    x, y = points_xy[..., 0], points_xy[..., 1]
    return np.stack([1.5 + 0.02 * x - 0.05 * y, -0.7 + 0.04 * x + 0.01 * x * y], axis=-1)


def grid_xy(size_px: int = SIZE_PX) -> np.ndarray:
    steps = np.arange(size_px) - (size_px - 1) / 2
    return np.stack(np.meshgrid(steps, steps, indexing="xy"), axis=-1)


def matrix(view: View) -> np.ndarray:
    """The view as a linear map of (x, y) about the centre, found by watching where two marks go."""
    columns = []
    for mark in ((0, 1), (1, 0)):  # one pixel along x, then one along y, as (row, column)
        picture = np.zeros((3, 3))
        picture[1 + mark[0], 1 + mark[1]] = 1
        row, column = np.argwhere(view_frames(picture, view))[0] - 1
        columns.append((column, row))
    return np.array(columns).T


@pytest.mark.parametrize("view", VIEWS)
def test_flow_of_a_view_is_the_view_of_the_flow(view: View) -> None:
    flow = np.moveaxis(displaced(grid_xy()), -1, 0)
    turn = matrix(view)
    # Seen in the view, a thing at x was at inverse(turn) x, moved there, and its displacement turns with the picture.
    expected = displaced(grid_xy() @ np.linalg.inv(turn).T) @ turn.T
    np.testing.assert_allclose(view_flow(flow, view), np.moveaxis(expected, -1, 0), atol=1e-12)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("original", [[1, 2], [3, 4]]),
        ("mirror", [[2, 1], [4, 3]]),
        ("flip", [[3, 4], [1, 2]]),
        ("turn180", [[4, 3], [2, 1]]),
        ("turn90", [[2, 4], [1, 3]]),
        ("turn270", [[3, 1], [4, 2]]),
        ("transpose", [[1, 3], [2, 4]]),
        ("antitranspose", [[4, 2], [3, 1]]),
    ],
)
def test_names_mean_what_they_say(view: View, expected: list[list[int]]) -> None:
    np.testing.assert_array_equal(view_frames(np.array([[1, 2], [3, 4]]), view), expected)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("transform", [view_frames, view_flow])
def test_inverse_undoes(view: View, transform: Callable[[np.ndarray, View], np.ndarray]) -> None:
    motion = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
    np.testing.assert_array_equal(transform(transform(motion, view), inverse_view(view)), motion)


@pytest.mark.parametrize("first", VIEWS)
def test_two_views_make_a_view_of_both_picture_and_flow(first: View) -> None:
    flow = np.random.default_rng(1).normal(size=(2, 4, 4))
    reached = set()
    for then in VIEWS:
        picture = view_frames(view_frames(flow, first), then)
        (together,) = [view for view in VIEWS if np.array_equal(view_frames(flow, view), picture)]
        np.testing.assert_array_equal(view_flow(view_flow(flow, first), then), view_flow(flow, together))
        reached.add(together)
    assert reached == set(VIEWS)


@pytest.mark.parametrize("view", VIEWS)
def test_arrays_and_tensors_agree_and_are_contiguous(view: View) -> None:
    motion = np.random.default_rng(2).normal(size=(3, 2, 4, 5)).astype(np.float32)
    for transform in (view_frames, view_flow):
        array, tensor = transform(motion, view), transform(torch.from_numpy(motion), view)
        assert array.flags.c_contiguous
        assert tensor.is_contiguous()
        np.testing.assert_array_equal(array, tensor.numpy())


@pytest.mark.parametrize("view", VIEWS)
def test_only_views_called_square_change_the_shape(view: View) -> None:
    height, width = view_frames(np.zeros((4, 6)), view).shape
    assert ((height, width) == (6, 4)) is (view in SQUARE_VIEWS)


@pytest.mark.parametrize("view", VIEWS)
def test_temporal_gradient_is_a_picture(view: View) -> None:
    frames = np.random.default_rng(3).normal(size=(2, 3, 4, 4))
    seen = view_frames(frames, view)
    np.testing.assert_array_equal(view_motion(frames[1] - frames[0], view), seen[1] - seen[0])


@pytest.mark.parametrize("view", VIEWS)
def test_tvl1_sees_the_viewed_flow(view: View) -> None:
    size_px, shift_px = 48, (2, 1)
    rng = np.random.default_rng(4)
    texture = np.kron(rng.uniform(40, 215, size=(16, 16)), np.ones((4, 4)))
    grey = np.stack([texture[8 - dy : 8 - dy + size_px, 8 - dx : 8 - dx + size_px] for dx, dy in ((0, 0), shift_px)])
    tvl1 = Tvl1(Tvl1Settings(), device=torch.device("cpu"))

    def flow_of(pictures: np.ndarray) -> np.ndarray:
        frames = np.repeat(np.round(pictures).astype(np.uint8)[..., None], 3, axis=-1)
        return tvl1(frames)[0].numpy()

    seen, expected = flow_of(view_frames(grey, view)), view_flow(flow_of(grey), view)
    assert np.abs(seen - expected)[..., 8:-8, 8:-8].mean() < 0.05
    turned = matrix(view) @ np.array(shift_px)
    assert np.abs(seen[..., 8:-8, 8:-8].mean(axis=(1, 2)) - turned).max() < 0.2
