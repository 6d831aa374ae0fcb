"""Colours say direction and speed as the Middlebury benchmark's do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tadkit.flow.colour import colour_wheel, flow_to_colour, gradient_to_grey, wheel_picture
from tadkit.runtime.devices import import_torchvision


def one(right: float, down: float, *, full_px: float = 1.0) -> tuple[int, int, int]:
    flow = np.array([right, down], dtype=np.float32).reshape(1, 2, 1, 1)
    red, green, blue = flow_to_colour(flow, full_px=full_px)[0, 0, 0].tolist()
    return red, green, blue


@pytest.mark.parametrize(
    ("right", "down", "hue"),
    [
        (1.0, 0.0, (255, 0, 0)),
        (1.0, -0.0, (255, 0, 0)),
        (0.0, 1.0, (255, 229, 0)),
        (-1.0, 0.0, (0, 209, 255)),
        (0.0, -1.0, (88, 0, 255)),
    ],
)
def test_right_is_red_down_yellow_left_cyan_up_violet(right, down, hue):
    assert np.abs(np.subtract(one(right, down), hue)).max() <= 1


def test_no_motion_is_white_and_faster_is_deeper():
    assert one(0.0, 0.0) == (255, 255, 255)
    assert [one(x, 0.0, full_px=4.0)[1] for x in (1.0, 2.0, 3.0, 4.0)] == [191, 127, 63, 0]


def test_motion_past_the_full_scale_is_darkened():
    assert one(2.0, 0.0) == (191, 0, 0)


def test_there_are_55_hues_from_red_all_the_way_round():
    wheel = colour_wheel()
    assert wheel.shape == (55, 3)
    assert (wheel.max(axis=1) == 1).all()
    assert (wheel.min(axis=1) == 0).all()


@example(174, 2.9129294353916673)
@given(st.integers(0, 2**31), st.floats(0.1, 50.0))
def test_colours_are_within_a_level_of_those_of_torchvision(seed, spread_px):
    flow = np.random.default_rng(seed).normal(0, spread_px, (1, 2, 12, 17)).astype(np.float32)
    full_px = float(np.hypot(flow[:, 0], flow[:, 1]).max()) * (1 + 1e-5)  # torchvision's own full scale
    theirs = import_torchvision("torchvision.utils").flow_to_image(torch.from_numpy(flow[0])).permute(1, 2, 0).numpy()
    apart = np.abs(theirs.astype(int) - flow_to_colour(flow, full_px=full_px)[0])
    assert np.minimum(apart, 256 - apart).max() <= 1  # theirs may wrap from -1 to 255 at the full scale


@pytest.mark.parametrize("full_px", [0.0, -1.0, float("nan")])
def test_a_full_scale_that_is_not_positive_is_refused(full_px):
    with pytest.raises(ValueError, match="must be positive"):
        one(1.0, 0.0, full_px=full_px)


def test_other_than_two_channels_are_refused():
    with pytest.raises(ValueError, match=r"is \(pairs, 2, height, width\)"):
        flow_to_colour(np.zeros((1, 3, 4, 4), np.float32), full_px=1.0)


def test_the_temporal_gradient_is_grey_with_half_its_difference_in_each_colour():
    gradient = np.array([0.0, 100.0, -255.0], dtype=np.float32).reshape(1, 3, 1, 1)
    assert gradient_to_grey(gradient)[0, 0, 0].tolist() == [128, 178, 0]


def test_the_wheel_shows_at_each_place_the_colour_of_motion_from_the_centre_to_there():
    wheel, inside = wheel_picture(101)
    for x, y in ((95, 53), (50, 95), (5, 50), (50, 5), (80, 25)):
        assert np.abs(np.subtract(wheel[y, x], one((x - 50) / 50.5, (y - 50) / 50.5))).max() <= 4
    assert (wheel[50, 50] > 240).all()
    assert (inside[0, 0], inside[50, 50]) == (0, 1)
