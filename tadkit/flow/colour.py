"""Flow as colour: hue is the direction, saturation the speed.

Source: the colour wheel of the Middlebury benchmark (Baker et al., "A database and evaluation methodology for optical
flow", IJCV 2011): 55 hues, spaced by how well the eye separates them. Right is red, down yellow, left cyan, up violet;
no motion is white. As in the benchmark, motion beyond the full scale is darkened, so that clipping is visible.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

WHEEL_STEPS = {"red-yellow": 15, "yellow-green": 6, "green-cyan": 4, "cyan-blue": 11, "blue-magenta": 13, "to-red": 6}
"""Hues from each pure colour to the next; together a full turn."""
PAST_FULL_SCALE = 0.75
"""Brightness of motion beyond the full scale."""
_LOOK_UPS = 64
"""Table entries for each step of the wheel: colours are within half a level of the exact hue."""


def colour_wheel() -> Float64[np.ndarray, "55 3"]:
    """Red, green and blue, 0..1, of the hues, starting with motion to the right and going clockwise on the screen."""
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], dtype=np.float64)
    arcs = []
    for start, stop, steps in zip(corners[:-1], corners[1:], WHEEL_STEPS.values(), strict=True):
        share = np.floor(255 * np.arange(steps)[:, None] / steps) / 255
        arcs.append(start + share * (stop - start))
    return np.concatenate(arcs)


def flow_to_colour(
    flow: Float32[np.ndarray, "pairs 2 height width"], *, full_px: float
) -> UInt8[np.ndarray, "pairs height width 3"]:
    """RGB pictures of flow.

    Args:
        flow: pixels to the right and down.
        full_px: length of motion shown in full colour, in pixels; longer motion is darkened.

    Raises:
        ValueError: ``full_px`` is not positive, or the flow does not have two channels.
    """
    if not full_px > 0:
        raise ValueError(f"the full scale of flow colours must be positive, got {full_px}")
    if flow.ndim != 4 or flow.shape[1] != 2:
        raise ValueError(f"flow to colour is (pairs, 2, height, width), got {flow.shape}")
    hues = _fine_wheel()
    right, down = flow[:, 0] / np.float32(full_px), flow[:, 1] / np.float32(full_px)
    angle = np.arctan2(-down, -right)
    angle[(down == 0) & (right > 0)] = -np.pi  # straight right is red, for -0.0 as for 0.0
    turn = (angle / np.float32(np.pi) + 1) * np.float32((len(hues) - 1) / 2)
    colour = hues.take((turn + np.float32(0.5)).astype(np.int32), axis=0)
    speed = np.hypot(right, down)
    colour *= np.where(speed <= 1, speed, np.float32(PAST_FULL_SCALE))[..., None]
    colour += np.maximum(255 * (1 - speed), 0)[..., None]
    levels: np.ndarray = colour.astype(np.uint8)
    return levels


@cache
def _fine_wheel() -> Float32[np.ndarray, "turn 3"]:
    """Lookup table of the hues of a full turn, 0..255.

    As in the benchmark's code, a turn has 54 steps: the last hue, next to red, meets red at motion straight right.
    """
    wheel = 255 * colour_wheel()
    steps = np.arange(len(wheel))
    places = np.linspace(0, len(wheel) - 1, (len(wheel) - 1) * _LOOK_UPS + 1)
    return np.stack([np.interp(places, steps, channel) for channel in wheel.T], axis=1).astype(np.float32)


def gradient_to_grey(
    gradient: Float32[np.ndarray, "pairs 3 height width"],
) -> UInt8[np.ndarray, "pairs height width 3"]:
    """RGB pictures of the temporal gradient: 128 + difference / 2 in each colour; no change is middle grey."""
    levels = np.rint(128 + gradient / 2).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(levels, 1, -1))


def wheel_picture(side_px: int) -> tuple[UInt8[np.ndarray, "side side 3"], Float32[np.ndarray, "side side"]]:
    """The wheel as a legend: each point has the colour of motion from the centre to that point; the rim is full scale.

    Returns:
        RGB, and the coverage of each pixel by the disc, 0..1, for a smooth rim.
    """
    fine = 4 * side_px
    offset = (np.arange(fine, dtype=np.float32) + 0.5 - fine / 2) / (fine / 2)
    down, right = np.meshgrid(offset, offset, indexing="ij")
    colour = flow_to_colour(np.stack([right, down])[None], full_px=1.0)[0]
    inside = (np.hypot(right, down) <= 1).astype(np.float32)
    colour[inside == 0] = 255
    small = (side_px, side_px)
    return (
        cv2.resize(colour, small, interpolation=cv2.INTER_AREA),
        cv2.resize(inside, small, interpolation=cv2.INTER_AREA),
    )
